"""Health and metrics of an instance, over HTTP."""
