"""The rights that the program needs on RabbitMQ and Redis, and explanations of their refusals."""
