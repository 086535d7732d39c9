"""The state of all instances, for people and for scripts."""
