"""Real servers and stores for the tests. A server that is not installed is a failure with the command, not a skip."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# As in our workers, and before numpy and torch are loaded: threads of several test processes on few cores spin
# against each other and cost up to eight times the processor time.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import postgres
from ports import free_port

from modescape.database import upgrade
from modescape.registry import Registry
from modescape.store import Store

ssl.create_default_context = functools.cache(ssl.create_default_context)  # every client would read all certificates

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Wait = Callable[..., None]


def pytest_itemcollected(item: pytest.Item) -> None:
    """What runs only when it is asked for is slow too: `-m "not slow"` alone leaves it out."""
    if any(item.get_closest_marker(name) for name in ("check", "fuzz", "soak")):
        item.add_marker("slow")


@pytest.fixture(autouse=True)
def _links_followed_as_before() -> Iterator[None]:
    """Commands that a test runs in its own process keep links inside from then on, as they should in theirs."""
    yield
    if (files := sys.modules.get("modescape.science.data.files")) is not None:
        files.keep_to(None)
    if (bounds := sys.modules.get("modescape.science.data.bounds")) is not None:
        bounds.keep_within()


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait for a server, a browser or a lease."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def wait_until() -> Wait:
    """Wait for a condition, at most so long; fail saying what was waited for."""

    def wait(condition: Callable[[], object], seconds: float = 20.0, what: str = "the condition") -> None:
        started = time.monotonic()
        while not condition():
            waited = time.monotonic() - started
            if waited > seconds:
                pytest.fail(f"{what} did not come true within {seconds:.0f} s")
            time.sleep(min(0.5, 0.02 + waited / 20))  # what is waited for needs the processor more than the question

    return wait


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of our own; the URL with {database} to fill in."""
    with postgres.running("fsync=off", "synchronous_commit=off", "full_page_writes=off") as url:
        postgres.command(url, "CREATE DATABASE template_modescape")
        upgrade(url.format(database="template_modescape"))
        yield url


def _postgres(postgres_server: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    yield from _postgres_database(postgres_server)


@pytest.fixture(scope="module")
def postgres_url_of_module(postgres_server: str) -> Iterator[str]:
    """One for all tests of a file that only read."""
    yield from _postgres_database(postgres_server)


def _postgres_database(postgres_server: str) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex}"
    postgres.command(postgres_server, f"CREATE DATABASE {name} TEMPLATE template_modescape")
    yield postgres_server.format(database=name)
    postgres.command(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


postgres_url = pytest.fixture(_postgres)
module_postgres_url = pytest.fixture(_postgres, scope="module")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    shutil.copy(_sqlite_template, tmp_path / "modescape.db")
    return f"sqlite:///{tmp_path / 'modescape.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The same test on both databases."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    yield store
    store.close()


class RedisServer:
    """A Redis without any persistence: what is killed has forgotten everything."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                         "--dir", str(folder)]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("redis-server did not start")
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("Redis is not installed: sudo apt-get install redis-server")
    server = RedisServer(program, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


redis_server = pytest.fixture(_redis)
module_redis_server = pytest.fixture(_redis, scope="module")


@pytest.fixture
def few_redraws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redraws enough for a word that is far from its margin, in a tenth of the time."""
    monkeypatch.setattr("modescape.science.isotonic.REDRAWS", 600)


@pytest.fixture(autouse=True)
def nothing_stays_declared() -> Iterator[None]:
    """What a test declares is gone after it: the pages, the catalogue and the next tests would know of it."""

    def of_others() -> set[tuple[str, str]]:
        return {(known.noun, e.name) for known in Registry.all for e in known.here.values() if e.brought is not None}

    before = of_others()
    yield
    assert of_others() == before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Some tests log names that are no text; what carries reports between processes takes text only."""
    report = yield
    report.sections = [(head, body.encode(errors="backslashreplace").decode()) for head, body in report.sections]
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium is not installed: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()
