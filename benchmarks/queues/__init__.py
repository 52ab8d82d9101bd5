"""PostgreSQL queues that are not Celery, each a program: ``python -m benchmarks.queues NAME``."""
