"""The shared record in Redis: what all instances know together."""
