"""Where the events come from: RabbitMQ (or what speaks AMQP 0-9-1), or Redis."""
