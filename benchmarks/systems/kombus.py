"""Celery on the other PostgreSQL transports: kombu's own ``sqla`` and ``pgmq``."""

from importlib.util import find_spec

from benchmarks.errors import Unavailable
from benchmarks.systems.postgres import Postgres, libpq_url


class Sqla(Postgres):
    """kombu's SQLAlchemy transport and Celery's database result backend."""

    name = "sqla"
    description = "kombu's sqla:// on PostgreSQL by psycopg, db+postgresql:// results, defaults"
    database = "pgjobs_bench_sqla"

    def prepare(self, is_new: bool) -> None:
        if find_spec("sqlalchemy") is None:
            raise Unavailable("SQLAlchemy is not installed: pip install -e '.[bench]'")
        url = libpq_url("postgresql+psycopg", self.conninfo)
        self.broker, self.backend = f"sqla+{url}", f"db+{url}"

    def empty(self) -> None:
        for table in self._tables():
            self._database.execute(f'TRUNCATE "{table}" CASCADE')

    def unsettled(self, queue: str) -> int:
        if "kombu_message" not in self._tables():
            return 0
        return self._count(
            f"""
            SELECT count(*) FROM kombu_message AS m JOIN kombu_queue AS q ON q.id = m.queue_id
            WHERE m.visible AND q.name = '{queue}'
            """
        )

    def stored_results(self, reply_to: str) -> int:
        return self._count("SELECT count(*) FROM celery_taskmeta")

    def _tables(self) -> set[str]:
        rows = self._database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {str(name) for (name,) in rows}


class Pgmq(Postgres):
    """kombu's pgmq transport; pgmq has no results, so Celery's database backend keeps them."""

    name = "pgmq"
    description = (
        "kombu's pgmq:// (pgmq from its SQL, without the extension), db+postgresql:// results"
    )
    database = "pgjobs_bench_pgmq"

    def prepare(self, is_new: bool) -> None:
        if find_spec("kombu.transport.pgmq") is None:
            raise Unavailable("this kombu has no pgmq transport: it came with 5.7")
        if find_spec("pgmq") is None:
            raise Unavailable("pgmq is not installed: pip install -e '.[bench]'")
        from pgmq.install import get_embedded_install_sql

        if not self._count("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgmq'"):
            self._database.execute(get_embedded_install_sql().encode())
        self.broker = "pgmq://"
        self.transport_options = {"init_extension": False, "conn_string": self.conninfo}
        self.backend = f"db+{libpq_url('postgresql+psycopg', self.conninfo)}"

    def empty(self) -> None:
        self._database.execute("SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues()")
        self._database.execute("DROP TABLE IF EXISTS celery_taskmeta, celery_tasksetmeta")

    def unsettled(self, queue: str) -> int:
        names = self._database.execute(
            "SELECT queue_name FROM pgmq.list_queues() WHERE queue_name LIKE %s",
            [f"%{queue.replace('-', '_')}%"],
        ).fetchall()
        return sum(self._count(f'SELECT count(*) FROM pgmq."q_{name}"') for (name,) in names)

    def stored_results(self, reply_to: str) -> int:
        known = self._count("SELECT count(*) FROM pg_tables WHERE tablename = 'celery_taskmeta'")
        return self._count("SELECT count(*) FROM celery_taskmeta") if known else 0
