"""What is wrong now: rules detect it from the facts, and incidents have a lifecycle. Nothing here waits or writes."""
