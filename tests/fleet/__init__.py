"""The Ansible role, proven on real hosts: three Debian hosts with systemd, and RabbitMQ and Redis on a fourth."""
