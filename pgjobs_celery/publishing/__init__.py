"""The way in: one job, ``bulk()``, ``using()``, ``enqueue_many()``, ``adelay()``."""
