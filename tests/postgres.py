"""A PostgreSQL of our own, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def running(*options: str, copy_of: str | None = None) -> Iterator[str]:
    """A PostgreSQL of our own on a Unix socket, gone at the end; the URL with {database} to fill in. copy_of: that of
    another, of which it is a hot standby.

    It refuses to run as root, so root starts it as the user `postgres` that the package makes.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.fail("PostgreSQL is not installed: sudo apt-get install postgresql")
    bin_folder = programs[-1].parent
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="modescape-postgres-"))
    shutil.chown(folder, user)
    as_user: dict[str, Any] = (
        {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    if copy_of is None:
        make = ["initdb", "-D", "data", "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync"]
    else:
        make = ["pg_basebackup", "-d", copy_of.format(database="postgres"), "-D", "data", "-c", "fast",
                "--write-recovery-conf", "--no-sync"]  # fmt: skip
    subprocess.run([bin_folder / make[0], *make[1:]], check=True, capture_output=True, cwd=folder, **as_user)
    here = ("listen_addresses=", f"unix_socket_directories={folder}", "max_connections=200")
    flags = [part for option in (*here, *options) for part in ("-c", option)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([bin_folder / "postgres", "-D", folder / "data", *flags], stdout=log, stderr=log,
                                  cwd=folder, **as_user)  # fmt: skip
    url = f"postgresql://tests@/{{database}}?host={folder}"
    try:
        _answers(url.format(database="postgres"), server, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing in it is worth keeping
        server.wait(30)
        shutil.rmtree(folder)


def crash(url: str) -> None:
    """End one of ours as a machine that is gone does: nothing is finished and nobody is told."""
    folder = Path(str(conninfo_to_dict(url.format(database="postgres"))["host"]))
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def _answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)


def command(url: str, command: str) -> None:
    with psycopg.connect(url.format(database="postgres"), autocommit=True) as connection:
        connection.execute(command.encode())
