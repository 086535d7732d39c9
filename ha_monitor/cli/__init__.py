"""The command line.

A command's module is imported if the command is meant, or all are to be listed; what only its work needs, its `run`
imports. Together, Celery, kombu, redis-py and prometheus_client take half a second of a core to import.
"""
