"""The app, as Django's registry has it."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_save

from .place import jobs_schema


class PgJobsConfig(AppConfig):  # type: ignore[misc]
    """Jobs on PostgreSQL."""

    name = "pgjobs_celery.django"
    label = "pgjobs"
    verbose_name = "Celery jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Point the models to the tables in the schema that the Celery app names.

        Not sooner: while models are loaded, its configuration may not be read yet.
        """
        from .keeping import bring_back, refuse_fixtures

        post_migrate.connect(bring_back, sender=self, dispatch_uid="pgjobs-bring-back")
        for name, table in (("Job", "jobs"), ("Action", "audit")):
            model = self.get_model(name)
            pre_save.connect(refuse_fixtures, sender=model, dispatch_uid=f"pgjobs-fixtures-{table}")
            # Django takes a name that is quoted as it is.
            model._meta.db_table = f'"{jobs_schema()}"."{table}"'
