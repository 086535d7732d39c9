"""The pages of the monitor, and the interface for programs: over HTTP, and only by reading the store.

`routes.py` lists the pages, `endpoints.py` lists what programs can ask. Both take their answers from a `View` of the
store, and their questions from bounded `Parameters`. `application.py` answers a request, `server.py` runs the process.
"""
