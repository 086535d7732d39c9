"""A recorded stream of real events, and the script that records it."""
