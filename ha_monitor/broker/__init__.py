"""The brokers that events come from: RabbitMQ (or another AMQP 0-9-1 broker), or Redis."""
