"""The app, as Django's registry has it."""

from __future__ import annotations

from django.apps import AppConfig

from .place import jobs_schema


class PgJobsConfig(AppConfig):  # type: ignore[misc]
    """Jobs on PostgreSQL."""

    name = "pgjobs_celery.django"
    label = "pgjobs"
    verbose_name = "Celery jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the model be the table in the schema that the Celery app names.

        Not sooner: while models are loaded, its configuration may not be read yet.
        """
        # Django takes a name that is quoted as it is.
        self.get_model("Job")._meta.db_table = f'"{jobs_schema()}"."jobs"'
