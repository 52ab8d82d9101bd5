"""Celery's result backend over rows: results, chords, waiting."""
