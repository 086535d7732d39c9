"""The bed the tests stand on: private services, workers, recorded events."""
