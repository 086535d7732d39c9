"""What the program must be allowed to do on RabbitMQ and Redis, and what their refusals mean."""
