"""Write the list of what the migrations make: ``python -m tests.db.objects``."""

from __future__ import annotations

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations.files import load_migrations
from pgjobs_celery.db.migrations.objects import FILE, to_json
from pgjobs_celery.db.rows.doctor import Looks
from pgjobs_celery.embedded import EmbeddedServer

if __name__ == "__main__":
    with EmbeddedServer(settings={"fsync": "off"}) as server:
        conninfo = parse_url(server.url)
        with migrations.session(conninfo) as connection:
            migrations.migrate(connection, "pgjobs")
        with Looks(Database(conninfo, Options())) as looks:
            found = looks.describe_schema()
        FILE.write_text(to_json(load_migrations()[-1].version, found))
