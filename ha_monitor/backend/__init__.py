"""Celery's result backend: the stored results of tasks."""
