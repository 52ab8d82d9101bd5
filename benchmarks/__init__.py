"""Celery on PostgreSQL rows, measured side by side with Celery on Redis and on RabbitMQ."""
