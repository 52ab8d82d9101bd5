"""Jobs and their audit as models, to be read.

``Job.objects.filter(kwargs__user_id=7, state="available")``
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models
from django.db.models.fields.json import KeyTransform

from ..errors import PgJobsError
from ..job.states import State
from .fields import TextArrayField
from .place import jobs_alias, jobs_schema


def refuse(*_: Any, **__: Any) -> NoReturn:
    """Refuse to write: workers hold these rows, and our own statements keep their invariants."""
    raise PgJobsError(
        "jobs are not written by the ORM: publish a task, or use pgjobs_celery.jobs(app), whose "
        "filter(id=...).cancel(), retry(), delete() and others keep workers and waiters informed"
    )


class JobQuerySet(models.QuerySet):  # type: ignore[misc]
    """Jobs, read-only."""

    create = get_or_create = update_or_create = update = delete = refuse
    bulk_create = bulk_update = refuse


class JobManager(models.Manager.from_queryset(JobQuerySet)):  # type: ignore[misc]
    """Jobs in their database, with their arguments."""

    def get_queryset(self) -> Any:
        """With ``args`` and ``kwargs``: None where they are not plain JSON."""
        body = models.Func(
            "body", function=f'"{jobs_schema()}".body_json', output_field=models.JSONField()
        )
        return self.rows().annotate(args=KeyTransform("0", body), kwargs=KeyTransform("1", body))

    def rows(self) -> Any:
        """The rows without their arguments: this reads no bodies."""
        return JobQuerySet(self.model, using=self._db or jobs_alias(), hints=self._hints)


class ActionManager(models.Manager.from_queryset(JobQuerySet)):  # type: ignore[misc]
    """Rows of the audit, in the database of the jobs."""

    def get_queryset(self) -> Any:
        """All of them, read-only."""
        return JobQuerySet(self.model, using=self._db or jobs_alias(), hints=self._hints)


class NoRows(models.Manager):  # type: ignore[misc]
    """For models that stand for permissions and pages of the admin: none is read by the ORM."""

    def get_queryset(self) -> Any:
        """None: ``queues(app)`` and ``flows(app)`` read them."""
        return JobQuerySet(self.model, using=self._db or jobs_alias(), hints=self._hints).none()


class Job(models.Model):  # type: ignore[misc]
    """A job in any state. docs/reference/schema.md explains the columns."""

    #: As the task was called; None where that is not plain JSON.
    args: Any
    kwargs: Any

    id = models.BigIntegerField(primary_key=True)
    task_id = models.TextField(unique=True)
    task = models.TextField()
    queue = models.TextField()
    state = models.TextField(choices=[(state.value, state.value) for state in State])
    attempt = models.IntegerField()
    max_attempts = models.IntegerField()
    priority = models.SmallIntegerField()
    tags = TextArrayField()
    meta = models.JSONField()
    errors = models.JSONField()
    fingerprint = models.TextField(null=True)
    failed_at = models.DateTimeField(null=True)
    inserted_at = models.DateTimeField()
    scheduled_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    attempted_at = models.DateTimeField(null=True)
    attempted_by = models.TextField(null=True)
    finished_at = models.DateTimeField(null=True)
    root_id = models.TextField(null=True)
    parent_id = models.TextField(null=True)
    group_id = models.TextField(null=True)
    group_index = models.IntegerField(null=True)
    message = models.TextField(null=True)
    body = models.BinaryField(null=True)
    result = models.BinaryField(null=True)
    result_type = models.TextField(null=True)
    traceback = models.TextField(null=True)
    children = models.TextField(null=True)
    reported_state = models.TextField(null=True)
    seq = models.BigIntegerField()
    redelivered = models.BooleanField()
    claimed_by = models.UUIDField(null=True)
    acks_late = models.BooleanField()
    unique_key = models.BinaryField(null=True)
    given_key = models.BinaryField(null=True)
    superseded_by = models.TextField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.TextField(null=True)
    cancel_signal = models.TextField(null=True)
    lane = models.TextField(null=True)
    cost = models.IntegerField(null=True)

    objects = JobManager()

    class Meta:
        managed = False
        db_table = '"pgjobs"."jobs"'  # with another schema: see apps.py
        base_manager_name = "objects"
        ordering = ("-id",)
        get_latest_by = "id"
        # Nobody adds one here.
        default_permissions = ("view", "change", "delete")

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]"

    save = save_base = delete = asave = adelete = refuse


class Action(models.Model):  # type: ignore[misc]
    """A row of the audit: who did what to jobs, queues and entries. Read-only."""

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    action = models.TextField()
    actor = models.TextField()
    via = models.TextField()
    client = models.TextField()
    role = models.TextField()
    address = models.GenericIPAddressField(null=True)
    queue = models.TextField(null=True)
    app = models.TextField(null=True)
    schedule = models.TextField(null=True)
    jobs = models.IntegerField()
    task_ids = TextArrayField()
    filters = models.TextField(null=True)
    details = models.JSONField()
    action_id = models.UUIDField()
    batch = models.IntegerField()

    objects = ActionManager()

    class Meta:
        managed = False
        db_table = '"pgjobs"."audit"'  # with another schema: see apps.py
        base_manager_name = "objects"
        ordering = ("-at", "-id")
        verbose_name_plural = "audit"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"

    save = save_base = delete = asave = adelete = refuse


class Page(models.Model):  # type: ignore[misc]
    """Something with a name that is a page of the admin, and no row."""

    name = models.TextField(primary_key=True)

    objects = NoRows()

    class Meta:
        abstract = True
        managed = False
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return str(self.name)

    save = save_base = delete = asave = adelete = refuse


class Queue(Page):
    """A queue with its rules, as a page of the admin."""

    class Meta(Page.Meta):
        pass


class Rule(Page):
    """A rate, or a limit of how many run at once, as a page of the admin."""

    class Meta(Page.Meta):
        verbose_name = "rate or limit"
        verbose_name_plural = "rates and limits"


class Pause(Page):
    """A pause, named ``task:<name>``, ``tag:<name>`` or ``key:<queue>:<key>``, as such a page."""

    class Meta(Page.Meta):
        verbose_name_plural = "pauses of tasks, tags and keys"
