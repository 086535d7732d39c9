"""Notifies people and their tools of incidents: what is due, what a message says, and the channels."""
