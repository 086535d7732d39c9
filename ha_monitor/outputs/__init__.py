"""The outputs: lines, and calls of the user's handlers."""
