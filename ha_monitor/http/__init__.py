"""An HTTP server that limits its clients, whatever it serves: slots, deadlines, passwords, TLS."""
