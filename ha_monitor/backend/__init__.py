"""Celery's result backend: what became of tasks, as their workers left it there."""
