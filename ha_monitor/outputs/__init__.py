"""What leaves the monitor: lines, and calls of the user's handlers."""
