"""The shared record in this process: for driving the loop without Redis, in tests and experiments.

It is in the package, next to the port that it has to keep up with, so that the type checker holds it to that; nothing
that runs in production imports it. It has the guarantees of `api.py`, and these simplifications: no bounds and no
expiry, nothing is counted, no wait for a run is worked out, what was lost is said by the test, and of the limits of
`stuck` those for all tasks hold.
"""
