"""An HTTP server with bounds on its clients, for whatever is served: slots, deadlines, passwords, TLS."""
