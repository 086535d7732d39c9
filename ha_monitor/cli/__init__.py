"""The command line.

A command's module is imported only if that command is run, or all commands are listed; its `run` imports what only the
work needs. Together, Celery, kombu, redis-py and prometheus_client take half a second of a core to import.
"""
