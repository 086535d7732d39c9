"""The whole system at work: broker, worker, producer and several monitors, one of which is killed half-way."""
