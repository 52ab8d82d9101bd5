"""A Django app: ``manage.py migrate`` makes the tables, jobs are a model, and have an admin page.

    INSTALLED_APPS = [..., "pgjobs_celery.django"]

Not needed for ``pgjobs+django://`` URLs, nor for publishing within Django's transactions.
"""
