"""The shared record in this process: for driving the loop without Redis, in tests and experiments.

It is in the package, next to the port that it must implement, so that the type checker verifies that; nothing that runs
in production imports it. It gives the guarantees of `api.py`, with these simplifications: no bounds and no expiry,
nothing is counted, no wait of a run is computed, tests say what was lost, and only those limits of `stuck` apply that
are for all tasks.
"""
