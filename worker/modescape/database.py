"""The database itself: opening one, and bringing its tables to the version of this code and back.

    upgrade(settings.database)         # creates what is missing; safe to call from several processes at once
    engine = open_database(settings.database)

SQLite runs in WAL mode with a 30 s busy timeout (`?timeout=` in the URL: another one); a transaction that may write
must begin IMMEDIATE (the option `sqlite_begin`), because the timeout does not apply to a read lock that is being
upgraded.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from modescape import outage
from modescape.errors import ConfigurationError, NoRoom
from modescape.outage import DATABASE, first_line, why_full

T = TypeVar("T")

_MIGRATION_LOCK = 0x6D6F6465  # any fixed number: PostgreSQL's advisory lock of whoever migrates


@dataclass(frozen=True)
class SchemaState:
    """Which revision a database is at (None: empty) and which one this code wants."""

    found: str | None
    wanted: str

    @property
    def current(self) -> bool:
        return self.found == self.wanted


def open_database(url: str | URL) -> Engine:
    """An engine with our conventions. Raises ConfigurationError for a URL that cannot work here."""
    parsed = parse_url(url)
    engine = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _open_postgres(parsed)
    event.listen(engine, "connect", _connected)
    event.listen(engine, "handle_error", _only_reads)
    return engine


def _connected(connection: Any, _: object) -> None:
    told = getattr(getattr(connection, "info", None), "parameter_status", lambda name: None)
    if "on" not in [told(name) for name in ("default_transaction_read_only", "in_hot_standby")]:
        DATABASE.back()


def _only_reads(context: ExceptionContext) -> None:
    """A PostgreSQL that takes no writes is on its way to or from a fail-over: another connection may reach the one that
    takes them. The driver calls it an internal error; it is one of those that pass."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
        raise OperationalError(
            context.statement, None, context.original_exception, hide_parameters=True, connection_invalidated=True
        )


READ_ONLY = "25006"  # PostgreSQL's state for a write where only reading is possible
AGAIN_SECONDS = 1.0  # between two tries of what waits for it
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)  # the database does not answer, or is busy for too long


def no_room(error: BaseException | None) -> NoRoom | None:
    """What it is where a disk is full, or the database may not be written; None for any other error."""
    if not isinstance(error, OperationalError):
        return outage.no_room(error)
    full = getattr(error.orig, "sqlstate", None) == "53100"  # DiskFull
    if isinstance(error.orig, sqlite3.Error):
        full = any(words in str(error.orig) for words in ("disk is full", "readonly database"))
    return NoRoom(f"the database takes nothing more ({first_line(error)})") if full else None


def is_away(error: BaseException | None) -> bool:
    """Whether an error means that the database cannot be reached now, rather than that a statement was wrong."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return any(words in str(error.orig) for words in ("unable to open", "disk I/O error", "readonly database"))
    # No state: the connection broke or was never made; 08 connection, 53 resources, 57P it is stopping or starting.
    state = getattr(error.orig, "sqlstate", None)
    passing = state is None or state[:2] in ("08", "53") or state[:3] == "57P" or state == READ_ONLY
    return error.connection_invalidated or passing


def is_unfit(error: BaseException | None) -> bool:
    """Whether a value cannot be stored or compared, such as a number that no column can hold."""
    return isinstance(error, DataError)


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite was being written by others for as long as we wait."""
    return isinstance(error, OperationalError) and "locked" in str(error.orig).lower()


def patiently(do: Callable[[], T], *, until: threading.Event) -> T:
    """Do it as soon as the database lets it be done: what is written late is written all the same. It must bear being
    done twice, for an answer may be what was lost. Raises what is in the way once `until` is set, or a disk is full."""
    while True:
        try:
            return do()
        except UNAVAILABLE as error:
            if until.is_set() or no_room(error) is not None or not (is_away(error) or is_busy(error)):
                raise
            DATABASE.away(error)
        until.wait(AGAIN_SECONDS)


def why_not_written(engine: Engine) -> str | None:
    """What keeps a database from being written now, in words; None when nothing does. Nothing is written for it."""
    if engine.dialect.name == "sqlite":
        return _why_not_written_sqlite(Path(str(engine.url.database)))
    told = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"
    try:
        with engine.connect() as connection:
            return "takes no writes" if connection.execute(text(told)).scalar_one() else None
    except UNAVAILABLE as error:
        DATABASE.away(error)
        return "does not answer"


def _why_not_written_sqlite(file: Path) -> str | None:
    """By a transaction that may write and is taken back. Somebody else's is waited for by whoever writes."""
    if (full := why_full(file.parent)) is not None:
        return full
    try:
        found = sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=0.1, isolation_level=None)
        with contextlib.closing(found) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return None
        DATABASE.away(error)
        return "takes no writes" if "readonly" in str(error) else "does not answer"
    return None


def migrations_folder() -> Path:
    """Where Alembic's scripts are: beside this package when installed, in the repository otherwise."""
    here = Path(__file__).resolve().parent
    for folder in (here / "migrations", here.parents[1] / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationError(f"the migrations are missing beside {here}; install modescape again")


def schema_state(url: str | URL) -> SchemaState:
    """The database's revision and this code's. Raises ConfigurationError when the database does not answer."""
    from alembic.runtime.migration import MigrationContext

    with _reached(url, _answering) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return SchemaState(found, _head())


def check_schema(url: str | URL) -> None:
    """Raises ConfigurationError, with the command that helps, unless the tables are exactly this code's."""
    if _is_current(url):
        return
    state = schema_state(url)
    if not state.current:
        _refuse_newer(state)
        raise ConfigurationError(f"the database is at revision {state.found or 'none'}; run `modescape migrate`")


def damage(url: str | URL) -> list[str]:
    """What is wrong with the database itself, a line each, without writing: of SQLite its pages and indexes, of
    PostgreSQL its indexes where the extension amcheck is; of both the rows that refer to none. Raises
    ConfigurationError when it does not answer."""
    with _reached(url, _answering) as connection:
        try:
            return list(_of_sqlite(connection) if connection.dialect.name == "sqlite" else _of_postgres(connection))
        except DBAPIError as error:  # too damaged to be asked
            return [first_line(error)]


def _of_sqlite(connection: Connection) -> Iterator[str]:
    found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    yield from () if found == ["ok"] else map(str, found)
    lost = Counter((row[0], row[2]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check"))
    yield from (
        f"{count} rows of {table} refer to rows of {of} that are not there" for (table, of), count in lost.items()
    )


def _of_postgres(connection: Connection) -> Iterator[str]:
    if connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'")).scalar():
        indexes = text(
            "SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = "
            "c.relam WHERE a.amname = 'btree' AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
        )
        for oid, name in connection.execute(indexes).all():
            try:
                with connection.begin_nested():
                    connection.execute(text("SELECT bt_index_check(CAST(:oid AS oid))"), {"oid": oid})
            except DBAPIError as error:
                yield f"index {name}: {first_line(error)}"
    for name, table, columns, of, keys in _references(connection):
        given = " AND ".join(f'child."{column}" IS NOT NULL' for column in columns)
        same = " AND ".join(f'child."{column}" = parent."{key}"' for column, key in zip(columns, keys, strict=True))
        parent = f'SELECT 1 FROM "{of}" parent WHERE {same}'
        lost = text(f'SELECT count(*) FROM "{table}" child WHERE {given} AND NOT EXISTS ({parent})')
        if count := connection.execute(lost).scalar():
            yield f"{count} rows of {table} refer to rows of {of} that are not there ({name})"


def _references(connection: Connection) -> Iterator[tuple[str, str, list[str], str, list[str]]]:
    looked = inspect(connection)
    for table in looked.get_table_names():
        for one in looked.get_foreign_keys(table):
            yield str(one["name"]), table, one["constrained_columns"], one["referred_table"], one["referred_columns"]


def upgrade(url: str | URL, revision: str = "head") -> None:
    """Bring the tables to `revision`. Raises ConfigurationError when they belong to a newer version of the code."""
    if revision == "head" and _is_current(url):
        return
    _migrate(url, "upgrade", revision)


def downgrade(url: str | URL, revision: str) -> None:
    """Take the tables back to `revision`; "base" drops them all, with everything in them."""
    _migrate(url, "downgrade", revision)


def _is_current(url: str | URL) -> bool:
    """Whether there is nothing to migrate, found without Alembic: importing it is a tenth of a server's start,
    and a third of a command's."""
    with _reached(url, _answering) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    scripts = [path.read_text(encoding="utf-8") for path in (migrations_folder() / "versions").glob("*.py")]
    stated = re.compile(r'^(revision|down_revision)\b[^=]*= *"([^"]+)"', re.MULTILINE)
    names: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for script in scripts:
        for name, value in stated.findall(script):
            names[name].add(value)
    return set(found) == names["revision"] - names["down_revision"]


def _migrate(url: str | URL, direction: str, revision: str) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.util import CommandError

    with _reached(url, _alone) as connection:
        state = SchemaState(MigrationContext.configure(connection).get_current_revision(), _head())
        if direction == "upgrade":
            _refuse_newer(state)
        config = _config()
        config.attributes["connection"] = connection
        try:
            getattr(command, direction)(config, revision)
        except CommandError as error:
            raise ConfigurationError(f"cannot {direction} to {revision!r}: {error}") from None


def _refuse_newer(state: SchemaState) -> None:
    if state.found is None or state.found == state.wanted:
        return
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if state.found not in known:
        raise ConfigurationError(
            f"the database is at revision {state.found}, which this version does not know: a newer one has used it. "
            "Upgrade with `pip install --upgrade modescape`, or go back with the newer version's "
            f"`modescape migrate --to {state.wanted}`"
        )


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def _head() -> str:
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "there is at least one migration"
    return head


@contextmanager
def _reached(url: str | URL, how: Callable[[Engine], AbstractContextManager[Connection]]) -> Iterator[Connection]:
    """A connection of an engine of its own, which is gone afterwards."""
    engine = open_database(url)
    try:
        with how(engine) as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _answering(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except DatabaseError as error:
        where = engine.url.set(username=None, password=None, query={}).render_as_string()
        raise ConfigurationError(
            f"the database {where} does not answer ({first_line(error)}); check MODESCAPE_DATABASE_URL"
        ) from None
    with connection:
        yield connection


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction while no other process migrates: a file lock beside SQLite, an advisory lock on PostgreSQL."""
    if engine.dialect.name != "sqlite":
        with _answering(engine) as connection, connection.begin():
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            yield connection
        return
    with open(f"{engine.url.database}.lock", "w", opener=_privately) as lock:  # which has no opener
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer = engine.execution_options(sqlite_begin="IMMEDIATE")
        with _answering(writer) as connection, connection.begin():
            yield connection


def _privately(path: str, flags: int) -> int:
    """Open a file that, where it is new, is its account's alone whatever the umask; SQLite gives its log the same."""
    return os.open(path, flags, 0o600)


def file_url(path: Path) -> URL:
    """SQLite in a file, whatever characters its name has."""
    return URL.create("sqlite", database=str(path))


def parse_url(url: str | URL) -> URL:
    """A URL as one of the two databases'. Raises ConfigurationError, which quotes none of it: a password that was not
    escaped may have ended up as any of its parts."""
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
        if isinstance(url, str) and parsed.get_backend_name() != "sqlite" and url.count("@") > 1:
            raise ValueError("an @ that belongs to a password, read as the end of one")
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigurationError(
            "the database URL is not one we can open; it must be sqlite:///file or postgresql://user@host/name. "
            "A password with special characters goes into MODESCAPE_DATABASE_PASSWORD"
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"a database driver is missing ({error}); `pip install modescape[postgres]`") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"the database must be sqlite:///file or postgresql://…, got {parsed.get_backend_name()}"
        )
    return parsed


# Seconds; libpq waits two minutes and more for a machine that is gone.
_PATIENCE = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
             "tcp_user_timeout": 15_000}  # fmt: skip


def _open_postgres(url: URL) -> Engine:
    return create_engine(
        url, pool_size=20, max_overflow=20, pool_pre_ping=True, hide_parameters=True,
        connect_args={name: value for name, value in _PATIENCE.items() if name not in url.query},
        json_serializer=_dump, json_deserializer=orjson.loads,
    )  # fmt: skip


# Of each of a server's ten connections. The system keeps the file in memory anyway: lists of 33,000 experiments are
# answered as fast with 2 MB of pages as with 64, which were half of what 200 clients had a server take.
_PAGES = 2048  # KiB
_STATEMENTS = 16
_WAIT_SECONDS = 30  # for who is writing


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("SQLite needs a file (sqlite:///folder/modescape.db): workers are other processes")
    folder = Path(url.database).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigurationError(f"the folder {folder} of the database is not there or cannot be written")
    _made(url.database)
    engine = create_engine(
        url, pool_size=20, max_overflow=20, hide_parameters=True, json_serializer=_dump, json_deserializer=orjson.loads,
        connect_args={"check_same_thread": False, "cached_statements": _STATEMENTS}
        | ({} if "timeout" in url.query else {"timeout": _WAIT_SECONDS}),
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN, not the driver
        _use_wal(connection)
        for pragma in (
            "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY", f"cache_size=-{_PAGES}",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql("BEGIN " + options.get("sqlite_begin", "DEFERRED"))

    return engine


_MAKING = threading.Lock()


def _made(file: str) -> None:
    """A file that was there before is never opened here: whoever closes one ends every lock its process has on it,
    those of SQLite too (POSIX), and then two write at a time."""
    with _MAKING, suppress(OSError):  # SQLite says better what is in the way
        os.close(_privately(file, os.O_CREAT | os.O_EXCL | os.O_RDWR))


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite itself does not wait here while another process opens the same file for the first, or closes it as the
    last."""
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # an escaped NUL, not an escaped backslash before "u0000"


def _dump(value: object) -> str:
    """JSON without NUL, which PostgreSQL cannot hold: an error's message may quote a damaged file."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
    return _NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text
