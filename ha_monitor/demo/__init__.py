"""The whole thing at work: broker, worker, producer and several monitors, one of which is killed half-way."""
