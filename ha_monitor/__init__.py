"""A highly available monitor of Celery events."""
