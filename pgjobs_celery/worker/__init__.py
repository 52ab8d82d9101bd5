"""Celery's worker: requests, its pool, bootsteps."""
