"""A simulation of the whole fleet, driven by one seed: `python -m tests.simulation --help`.

The loop and the leader are the real ones; store, broker, workers, clocks and time are simulated. So a minute of faults
takes milliseconds, and a seed that fails does so each time.
"""
