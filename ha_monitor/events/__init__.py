"""Celery's events: from the bytes of a message to facts that can be merged."""
