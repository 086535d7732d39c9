"""The command line.

A command's module is imported at each start; what only its work needs, its `run` imports. Together, Celery, kombu,
redis-py and prometheus_client take half a second of a core to import.
"""

from ha_monitor.cli.main import main

__all__ = ["main"]
