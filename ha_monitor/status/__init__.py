"""What all instances together are doing, for people and for scripts."""
