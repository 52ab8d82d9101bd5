"""The Django app: its migrations are ours, and jobs are a model that nobody writes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, _state

from pgjobs_celery import jobs
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations import versions
from pgjobs_celery.db.migrations.files import load_migrations
from pgjobs_celery.errors import PgJobsError

from ..conftest import Connection
from ..support.rows import new_job, states
from .conftest import database_settings

db = pytest.importorskip("django.db")
management = pytest.importorskip("django.core.management")

FILES = [str(file) for file in load_migrations()]
VERSIONS = [file.version for file in load_migrations()]


@pytest.fixture
def empty_default(url: str, make_database: Callable[[], str]) -> Any:
    """``default`` is a database with nothing in it; gives a way to say where it stands."""
    given = dict(db.connection.settings_dict)
    empty = make_database()
    db.connection.close()
    db.connection.settings_dict.update(database_settings(empty))

    def version() -> tuple[int, list[str]]:
        recorder = db.migrations.recorder.MigrationRecorder(db.connection)
        names = sorted(name for app, name in recorder.applied_migrations() if app == "pgjobs")
        with migrations.session(parse_url(empty)) as connection:
            return versions.status(connection, "pgjobs").version, names

    yield version
    db.connection.close()
    db.connection.settings_dict.update(given)


def migrate(*arguments: str) -> str:
    """``manage.py migrate pgjobs ...``; what it printed."""
    output = io.StringIO()
    management.call_command("migrate", "pgjobs", *arguments, stdout=output, no_color=True)
    return output.getvalue()


# Migrations


def test_each_file_has_a_migration_of_its_name(django_url: str):
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None)
    names = sorted(name for app, name in loader.disk_migrations if app == "pgjobs")
    assert names == FILES
    for before, name in zip([None, *FILES], FILES, strict=False):
        migration = loader.disk_migrations["pgjobs", name]
        assert str(migration.operations[0].file) == name
        assert migration.dependencies == ([("pgjobs", before)] if before else [])
        assert migration.atomic is False


def test_the_model_needs_no_further_migration(django_url: str):
    management.call_command("makemigrations", "pgjobs", check=True, dry_run=True, verbosity=0)


def test_migrations_go_up_and_down_one_by_one(empty_default: Any):
    for number, name in enumerate(FILES, 1):
        assert f"Applying pgjobs.{name}... OK" in migrate(name[:4])
        assert empty_default() == (VERSIONS[number - 1], FILES[:number])
    assert f"Unapplying pgjobs.{FILES[-1]}... OK" in migrate(FILES[-2])
    assert empty_default() == (VERSIONS[-2], FILES[:-1])
    migrate("zero")
    assert empty_default() == (0, [])


def test_both_ways_to_migrate_may_be_mixed(empty_default: Any):
    with migrations.session("django://default") as connection:
        migrations.migrate(connection, "pgjobs", 2)
    migrate("0001")
    assert empty_default() == (2, FILES[:1])
    migrate()
    assert empty_default() == (VERSIONS[-1], FILES)
    with migrations.session("django://default") as connection:
        assert migrations.migrate(connection, "pgjobs") == []
        migrations.migrate(connection, "pgjobs", 0)
    migrate("zero")
    assert empty_default() == (0, [])


def test_sqlmigrate_shows_the_file(django_url: str):
    output = io.StringIO()
    management.call_command("sqlmigrate", "pgjobs", "0001", stdout=output)
    assert "CREATE SCHEMA" in output.getvalue()
    assert 'CREATE TABLE "pgjobs".jobs (' in output.getvalue()
    management.call_command("sqlmigrate", "pgjobs", "0003", backwards=True, stdout=output)
    assert 'DROP TABLE "pgjobs".groups;' in output.getvalue()


def test_other_databases_stay_as_they_are(empty_default: Any, monkeypatch: pytest.MonkeyPatch):
    """No PostgreSQL, another alias, and one that a router refuses."""

    class Router:
        def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
            return False if app_label == "pgjobs" else None

    name = db.connection.settings_dict["NAME"]
    monkeypatch.setitem(db.connections["strict"].settings_dict, "NAME", name)
    migrate("--database", "lite")
    migrate("--database", "strict")
    monkeypatch.setattr(db.router, "routers", [Router()])
    migrate()
    assert empty_default()[0] == 0


# The model


def test_every_column_is_a_field(connection: Connection):
    from pgjobs_celery.django.models import Job

    columns = connection.execute("SELECT * FROM pgjobs.jobs").description
    assert {field.column for field in Job._meta.get_fields()} == {column.name for column in columns}


def test_a_job_can_be_found_by_whatever_it_has(app: Celery):
    from pgjobs_celery.django.models import Job

    first = app.tasks["once"].delay(user_id=7)
    app.tasks["once"].delay(user_id=8)
    app.tasks["add"].apply_async((1, [2]), countdown=60, serializer="pickle")
    job = Job.objects.get(kwargs__user_id=7)
    assert str(job) == f"once[{first.id}]"
    assert (job.args, job.kwargs, job.tags, job.meta) == ([], {"user_id": 7}, ["mail"], {})
    assert Job.objects.filter(tags__contains="mail", state="available").count() == 2
    assert Job.objects.filter(tags__contains=["mail", "x"]).count() == 0
    assert Job.objects.latest().args is None
    assert Job.objects.filter(args__0=1).count() == 0
    job.refresh_from_db()
    assert job.kwargs == {"user_id": 7}


def test_jobs_are_read_where_they_were_published(app: Celery):
    """In a transaction nobody else sees them."""
    from pgjobs_celery.django.models import Job

    with db.transaction.atomic():
        app.tasks["add"].delay(1, 2)
        assert Job.objects.get().args == [1, 2]
        db.transaction.set_rollback(True)
    assert not Job.objects.exists()


def test_nothing_is_written_by_the_orm(app: Celery, connection: Connection):
    from pgjobs_celery.django.models import Job

    result = app.tasks["add"].delay(1, 1)
    job, found = Job.objects.get(), Job.objects.all()
    for write in (
        job.save,
        job.delete,
        lambda: Job.objects.create(task_id="x"),
        lambda: Job.objects.get_or_create(task_id="x"),
        lambda: Job.objects.bulk_create([job]),
        lambda: Job.objects.update(state="cancelled"),
        lambda: found.update(state="cancelled"),
        lambda: found.bulk_update([job], ["state"]),
        found.delete,
    ):
        with pytest.raises(PgJobsError, match=r"use pgjobs_celery.jobs\(app\)"):
            write()
    assert states(connection) == {result.id: "available"}


def test_permissions_are_those_that_mean_something(url: str):
    from django.contrib.auth.models import Permission

    permissions = Permission.objects.filter(content_type__app_label="pgjobs")
    assert {permission.codename for permission in permissions} == {
        "view_job", "change_job", "delete_job", "view_action", "view_queue", "change_queue",
        "view_rule", "change_rule", "view_pause", "change_pause",
    }  # fmt: skip


# Which database


@pytest.mark.parametrize(
    ("conf", "alias", "schema"),
    [
        ({"broker_url": "pgjobs+django://strict"}, "strict", "pgjobs"),
        (
            {"broker_url": "redis://", "result_backend": "pgjobs+django://manual"},
            "manual",
            "pgjobs",
        ),
        ({"broker_url": "pgjobs://app@db/app"}, "default", "pgjobs"),
        ({"broker_transport_options": {"schema": "work"}}, "default", "work"),
        ({"result_backend_transport_options": {"schema": "work"}}, "default", "work"),
    ],
)
def test_the_celery_app_says_where_the_jobs_are(
    url: str, conf: dict[str, Any], alias: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    from pgjobs_celery.django import models, place

    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    monkeypatch.setattr(place, "find_app", lambda: app)
    assert (place.jobs_alias(), place.jobs_schema()) == (alias, schema)
    assert models.Job.objects.all().db == alias
    database = place.jobs_database()
    assert (database.alias, database.schema) == (alias, schema)


def test_another_schema_is_migrated_and_read(empty_default: Any, monkeypatch: pytest.MonkeyPatch):
    from django.apps import apps

    from pgjobs_celery.django import models, operations, place

    def get_ready() -> None:
        apps.get_app_config("pgjobs").ready()
        for field in models.Job._meta.get_fields():  # no query was made before, usually
            vars(field).pop("cached_col", None)

    app = Celery("shop", set_as_current=False)
    app.conf.broker_transport_options = {"schema": "work"}
    with monkeypatch.context() as patch:
        patch.setattr(place, "find_app", lambda: app)
        get_ready()
        migrate()
        jobs(place.jobs_database()).database.jobs.insert_job(new_job("one"))
        assert models.Job.objects.get().args == []
        assert models.Job.objects.rows().get().task_id == "one"
    get_ready()
    assert empty_default()[0] == 0
    assert operations.jobs_schema() == "pgjobs"


def test_without_a_celery_app_none_is_made(url: str):
    from pgjobs_celery.django import place

    assert (place.jobs_alias(), place.jobs_schema()) == ("default", "pgjobs")
    assert _state.default_app is None


# Going down without Django, and fixtures


def migrate_all(*arguments: str) -> str:
    """``manage.py migrate``; what it printed."""
    output = io.StringIO()
    management.call_command("migrate", *arguments, stdout=output, no_color=True)
    return output.getvalue()


@pytest.mark.parametrize("command", [migrate_all, migrate])
def test_what_was_taken_back_without_django_is_applied_again(
    django_url: str, empty_default: Any, command: Callable[..., str]
):
    migrate_all()
    assert empty_default() == (VERSIONS[-1], FILES)
    for down in (2, 0):
        with migrations.session("django://default") as session:
            migrations.migrate(session, "pgjobs", down)
        assert empty_default() == (down, FILES)
        report = command()
        assert empty_default() == (VERSIONS[-1], FILES)
        assert f"up   {FILES[-1]}" in report
        assert "behind Django's records" not in command()


def test_what_django_has_taken_back_stays_so(django_url: str, empty_default: Any):
    migrate_all()
    migrate("0002")
    assert empty_default()[0] == 2
    management.call_command("migrate", "auth", verbosity=0)
    assert empty_default() == (2, FILES[:2])
    migrate("zero")
    management.call_command("migrate", "auth", verbosity=0)
    assert empty_default() == (0, [])


def test_a_migration_that_is_faked_changes_nothing(django_url: str, empty_default: Any):
    management.call_command("migrate", "pgjobs", fake=True, verbosity=0)
    assert empty_default() == (0, FILES)


def test_a_fixture_with_jobs_is_refused_and_nothing_of_it_is_loaded(
    url: str, connection: Connection, make_app: Callable[..., Celery], tmp_path: Any
):
    make_app().send_task("work", (1,))
    path = tmp_path / "jobs.json"
    management.call_command("dumpdata", "pgjobs", output=str(path), verbosity=0)
    connection.execute("DELETE FROM pgjobs.jobs")
    with pytest.raises(Exception, match=r"jobs cannot be loaded from a fixture.*--exclude pgjobs"):
        management.call_command("loaddata", str(path), verbosity=0)
    assert states(connection) == {}
    output = io.StringIO()
    management.call_command("dumpdata", exclude=["pgjobs", "auth", "contenttypes"], stdout=output)
    assert "pgjobs" not in output.getvalue()
