"""What is wrong now: rules that see it in the facts, and the life of an incident. Nothing here waits or writes."""
