"""Homes of any name, passwords of any characters: they work, and nothing ever prints a password or a part of one."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import yaml
from conftest import RedisServer
from ports import free_port
from pydantic import SecretStr
from sqlalchemy import make_url
from test_celery_queue import chains, expected, house

from modescape import outage
from modescape.celery_queue import dispatch
from modescape.database import upgrade
from modescape.errors import ConfigurationError
from modescape.settings import Settings, read_settings, shown
from modescape.spec import parse
from modescape.store import Store

ROOT = Path(__file__).parent.parent
PASSWORD = "Zx9@qW3/kT7:vB5#mN1?cR8%41&=+ hJ6'\"$üé{gF2}\\|^`~"
URLS = [  # a password that was put into a URL as it is
    "postgresql://modescape:{password}@127.0.0.1:1/modescape",
    "postgresql://modescape:Zx9@qW3kT7vB5@127.0.0.1:1/modescape",
    "postgresql://modescape:Zx9qW3/kT7vB5@127.0.0.1:1/modescape",
    "postgresql://modescape:Zx9qW3kT7?vB5@mN1@127.0.0.1:1/modescape",
    "postgresql://Zx9qW3kT7:vB5mN1cR8:hJ6gF2@127.0.0.1:Zx9qW3/modescape",
    "Zx9qW3kT7vB5mN1",
    "postgresql:/modescape:Zx9qW3kT7@vB5mN1/modescape",
]


def leaks(text: str, secret: str = PASSWORD) -> list[str]:
    """Every part of four characters that the text shows."""
    return [secret[i : i + 4] for i in range(len(secret) - 3) if secret[i : i + 4] in text]


def modescape(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modescape.cli", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def forked(loaded: str, *cases: tuple[str, dict[str, str]]) -> list[tuple[int, str]]:
    """Exit status and words of commands, each in a process and an environment of its own.

    They are branched off one that has loaded what all of them would, which takes seconds.
    """
    script = (
        f"import {loaded}"
        + """
import json, os, sys, tempfile
from modescape.cli import main
answers = []
for command, environment in json.load(sys.stdin):
    with tempfile.TemporaryFile("w+") as said:
        if (child := os.fork()) == 0:
            os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
            os.environ.update(environment)
            status = main([command])
            sys.stdout.flush()
            os._exit(status)  # without tidying up, which would touch, and so copy, all that was loaded
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        answers.append([status, said.read()])
print(json.dumps(answers))
"""
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(cases), capture_output=True, text=True, timeout=90, check=True
    )
    return [(status, said) for status, said in json.loads(ran.stdout)]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    outage.DATABASE.back()
    outage.BROKER.back()


# -- homes ------------------------------------------------------------------------------------------------------------

NAMES = ["a b", "a%20b", "feature%2Flogin#1 what? 100%25", "x@y:z ü 'quoted' \"twice\" a&b=c;d 50%"]


def test_the_database_is_in_the_home_whatever_its_name(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        settings = Settings(home=tmp_path / name)
        upgrade(settings.database)
        store = Store(settings.database)
        store.experiments.create(name=name, spec=parse({}), stages=chains(1, 1))
        dispatch(settings, store)
        store.close()
    for name in NAMES:
        store = Store(Settings(home=tmp_path / name).database)
        assert [row.name for row in store.experiments.page()] == [name]
        store.close()
        assert len(list((tmp_path / name / "queue").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


@pytest.mark.slow
def test_workers_and_commands_find_a_home_of_an_odd_name(tmp_path: Path, wait_until) -> None:
    home = tmp_path / "100%2F of #1? ü"
    home.mkdir()
    upgrade(Settings(home=home).database)
    made = house(home, None, None)
    try:
        made.start("a")
        experiment = made.launch(chains(2, steps=3))
        wait_until(lambda: made.has_ended(experiment), 60, "the end")
        assert made.values(experiment) == expected(2, 3)
        assert modescape("verify", MODESCAPE_HOME=str(home)).returncode == 0
    finally:
        made.close()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


# -- passwords --------------------------------------------------------------------------------------------------------


def compose(service: str, **shell: str) -> dict[str, str]:
    """The environment docker-compose.yml gives a service, its ${…} filled in from the shell as Compose does."""

    def filled(found: re.Match[str]) -> str:
        name, default = found[1], found[2] or ""
        return shell[name] if name in shell else default.removeprefix(":-")

    given = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][service]
    return {
        name: re.sub(r"\$\{(\w+)(:[-?][^}]*)?\}", filled, str(value)) for name, value in given["environment"].items()
    }


@pytest.fixture
def guarded(postgres_server: str, postgres_url: str) -> Iterator[str]:
    """A database whose user `modescape` has PASSWORD; its URL without one."""
    folder = Path(str(make_url(postgres_server.format(database="x")).query["host"]))
    rules = folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE modescape SUPERUSER LOGIN")
        connection.execute(psycopg.sql.SQL("ALTER ROLE modescape PASSWORD {}").format(PASSWORD))
        rules.write_text("local all modescape scram-sha-256\n" + before)
        connection.execute("SELECT pg_reload_conf()")
        yield postgres_url.replace("tests@", "modescape@")
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE modescape")


@pytest.mark.slow
def test_any_password_works_in_compose_and_is_shown_nowhere(guarded: str, tmp_path: Path) -> None:
    environment = compose("api", POSTGRES_PASSWORD=PASSWORD, MODESCAPE_TOKEN=PASSWORD)
    assert environment["MODESCAPE_DATABASE_PASSWORD"] == PASSWORD
    assert environment["MODESCAPE_DATABASE_URL"] == "postgresql+psycopg://modescape@db/modescape"
    environment |= {"MODESCAPE_DATABASE_URL": guarded.replace("postgresql:", "postgresql+psycopg:"),
                    "MODESCAPE_HOME": str(tmp_path)}  # fmt: skip
    other = {**environment, "MODESCAPE_DATABASE_PASSWORD": PASSWORD[::-1]}
    migrated, settings, wrong = forked(
        "modescape.database", ("migrate", environment), ("settings", environment), ("migrate", other)
    )
    assert migrated[0] == 0, migrated
    assert "postgresql+psycopg" in settings[1]
    assert (wrong[0], "authentication failed" in wrong[1]) == (1, True)
    for _, said in (migrated, settings, wrong):
        assert not leaks(said)
        assert not leaks(said, PASSWORD[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("password", [PASSWORD, """a "b" \\ 'c' $d #e"""])
def test_redis_in_compose_wants_its_password_whatever_it_is(password: str, tmp_path: Path, wait_until) -> None:
    told = compose("redis", REDIS_PASSWORD=password)
    assert told == {"REDIS_PASSWORD": password}
    assert compose("worker-cpu", REDIS_PASSWORD=password)["MODESCAPE_BROKER_PASSWORD"] == password
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    command = [part.replace("$$", "$") for part in services["redis"]["command"]]
    port = free_port()
    command[-1] = command[-1].replace('save ""', f'save ""\nport {port}')
    process = subprocess.Popen(command, env={**os.environ, **told}, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        settings = Settings(broker_url=f"redis://127.0.0.1:{port}/0", broker_password=password)

        def answers(url: str) -> bool:
            try:
                return bool(redis.Redis.from_url(url).ping())
            except redis.AuthenticationError:
                return False
            except redis.ConnectionError:
                return False

        wait_until(lambda: answers(settings.broker), 20, "an answer to whom it knows")
        assert not answers(f"redis://127.0.0.1:{port}/0")
        assert not answers(f"redis://:x@127.0.0.1:{port}/0")
    finally:
        process.kill()
        said = process.communicate()[0]
    assert not leaks(said, password)


@pytest.mark.slow
def test_a_url_that_is_not_understood_is_never_quoted(tmp_path: Path) -> None:
    """What was meant as a password may have become a host, a port or a name."""
    secrets = "Zx9@qW3kT7vB5mN1cR8hJ6gF2", "Zx9qW3kT7vB5mN1", "Zx9qW3", "kT7vB5", "vB5mN1cR8", "Zx9qW3kT7"
    cases = [
        (command, {"MODESCAPE_DATABASE_URL": url.format(password=PASSWORD), "MODESCAPE_HOME": str(tmp_path)})
        for command in ("settings", "migrate", "serve", "worker")
        for url in URLS
    ]
    ended = forked("modescape.celery_queue, modescape_api.app", *cases)
    for (command, environment), (status, said) in zip(cases, ended, strict=True):
        case = f"{command} {environment['MODESCAPE_DATABASE_URL']}: {said}"
        assert not [part for secret in (PASSWORD, *secrets) for part in leaks(said, secret)], case
        assert "Traceback" not in said, case
        if command != "settings":
            assert status == 1, case
            assert "MODESCAPE_DATABASE_PASSWORD" in said or "does not answer" in said, case


@pytest.mark.parametrize("broker", ["redis://:{password}@127.0.0.1:1/0", "redis://:Zx9/qW3@127.0.0.1:1/0",
                                    "redis://127.0.0.1:Zx9qW3/0", "Zx9qW3kT7"])  # fmt: skip
def test_a_broker_that_is_not_understood_is_never_quoted(broker: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker_url=broker.format(password=PASSWORD))
    with pytest.raises(ConfigurationError, match="MODESCAPE_BROKER_PASSWORD") as caught:
        _ = settings.broker
    said = f"{caught.value} {settings!r} {shown(settings, 'broker_url')}"
    assert not leaks(said)
    assert not leaks(said, "Zx9qW3kT7")


@pytest.mark.slow
def test_a_redis_with_any_password_rings_and_its_password_is_shown_nowhere(
    tmp_path: Path, sqlite_url: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, wait_until
) -> None:
    caplog.set_level(logging.DEBUG)
    redis_server.kill()
    redis_server._command += ["--requirepass", PASSWORD]
    redis_server.start()
    url = redis_server.url
    made = house(tmp_path, sqlite_url, url)
    made.close()
    wrong, right = (
        Settings(home=tmp_path, broker_url=url, broker_password=word) for word in (PASSWORD[::-1], PASSWORD)
    )
    store = Store(sqlite_url)
    for settings, rung in ((wrong, 0), (right, 1)):
        experiment = store.experiments.create(name="Chains", spec=parse({}), stages=chains(1, 1))
        assert dispatch(settings, store, experiment.id) == rung
    store.close()
    assert "the broker does not answer" in caplog.text
    environment = {"MODESCAPE_BROKER_URL": url, "MODESCAPE_BROKER_PASSWORD": PASSWORD, "MODESCAPE_HOME": str(tmp_path)}
    listed = modescape("settings", **environment)
    assert url in listed.stdout
    inside = modescape("settings", MODESCAPE_BROKER_URL=right.broker, MODESCAPE_HOME=str(tmp_path))
    assert url in inside.stdout
    for said in (caplog.text, listed.stdout, inside.stdout, repr(right), str(right.model_dump())):
        assert not leaks(said)
        assert not leaks(said, PASSWORD[::-1])


def test_a_wrong_setting_is_quoted_and_a_secret_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODESCAPE_PORT", "a lot")
    with pytest.raises(ConfigurationError, match=r"MODESCAPE_PORT.*'a lot'"):
        read_settings()


def test_values_of_statements_stay_out_of_errors(store: Store) -> None:
    """The database keeps a secret of its own, with which forms are signed."""
    with pytest.raises(Exception, match=r"INSERT|NOT NULL|null value") as caught, store._database.writing() as change:
        change.session.connection().exec_driver_sql("INSERT INTO fact (name, value, at) VALUES ('x', NULL, NULL)")
    assert "parameters: {" not in str(caught.value)
    assert store._database.engine.hide_parameters


def test_of_a_url_the_place_is_shown_and_nobodys_name() -> None:
    for url, place in (
        ("postgresql://zqx:zqy@host:5/name?password=zqz", "postgresql+psycopg://host:5/name"),
        ("postgresql://zqx@host/name", "postgresql+psycopg://host/name"),
        ("sqlite:////tmp/a b.db", "sqlite:////tmp/a b.db"),
    ):
        assert shown(Settings(database_url=SecretStr(url)), "database_url") == place
    assert shown(Settings(broker_url=SecretStr("redis://zqx@host:6379/0")), "broker_url") == "redis://host:6379/0"
