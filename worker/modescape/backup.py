"""A copy of everything that either database can take in: every table as lines of JSON, every artifact by its digest.

    taken = backup(laboratory, Path("/backups/lab"))       # while the service runs
    restore(Path("/backups/lab"), settings)                # into an empty database, of either kind

A folder holds any number of copies that share their artifacts, which are copied once:

    artifacts/3f/3f2a….npy
    2026-11-30T14-05-00Z/manifest.json          format, revision, rows and digest of every table
    2026-11-30T14-05-00Z/tables/event.jsonl.gz

The tables are read in one transaction that sees one moment (SQLite's WAL; PostgreSQL's REPEATABLE READ), whatever
others write meanwhile; where files were purged while they were copied, the tables are read once more. What a training
needs to go on from its middle is not copied: that stage begins again.

Before anything is made or changed, all of a copy is read, for it may come from elsewhere: its names lead to no other
files, its lines end, and its digests are digests. Nobody is signed in after a restore, and no token holds, unless it is
asked for: what was revoked since the copy was taken would hold again.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    null,
    select,
    text,
    type_coerce,
)
from sqlalchemy.exc import DataError, IntegrityError

from modescape.artifacts import Artifacts
from modescape.artifacts.folder import Content
from modescape.database import check_schema, downgrade, open_database, schema_state, upgrade
from modescape.errors import ArtifactMissing, Conflict, DataCorrupt, InvalidInput, NotFound
from modescape.laboratory import Laboratory
from modescape.outage import first_line
from modescape.records import Json
from modescape.settings import Settings
from modescape.tables import Base, Word

FORMAT = 1
ROUNDS = 5  # times the tables are read anew because files were purged meanwhile
_MOMENT = "%Y-%m-%dT%H-%M-%SZ"
_ROWS = 1000  # at a time
_NOT_OURS = ("alembic_version", "sqlite_sequence")  # and tables of the index for the search, which fill themselves
_FILE = re.compile(r"[0-9a-f]{64}\.(npy|safetensors)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TABLE = re.compile(r"[a-z][a-z_]{0,62}")
_REVISION = re.compile(r"[0-9]{4}")
_LONGEST_LINE = 256 << 20  # bytes of one row: points and pictures are some megabytes
# Who had signed out would be in again; archives lie on the machine that made them.
_NOT_BACK = ("sign_in", "sign_in_failure", "sign_in_code", "known_browser", "parcel")
_SECRETS = ("api_token", "shared_link")  # what was revoked since would hold again
_ODD_ROWS = (IntegrityError, DataError, LookupError, TypeError, ValueError, AttributeError)
_ODD = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as JSON has no numbers for


@dataclass(frozen=True)
class Kept:
    """A table: how many rows, the digest of its file, and the last number that was given where numbers are never given
    twice."""

    rows: int
    sha256: str
    last: int | None = None


@dataclass(frozen=True)
class Manifest:
    format: int
    version: str
    revision: str
    database: str
    at: str
    tables: dict[str, Kept]
    artifacts: int
    bytes: int
    missing: list[str] = field(default_factory=list)  # digests of files that were not there, or not as their name says

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises NotFound, DataCorrupt."""
        try:
            document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFound(f"there is no backup in {folder}") from None
        except ValueError as error:
            raise DataCorrupt(f"{folder / 'manifest.json'} cannot be read: {error}") from None
        told = document.get("format") if isinstance(document, dict) else None
        if told != FORMAT:
            raise DataCorrupt(f"{folder} has the format {told}, which this version does not know")
        try:
            found = cls(**{**document, "tables": {name: Kept(**kept) for name, kept in document["tables"].items()}})
            fine = _REVISION.fullmatch(found.revision) and all(map(_TABLE.fullmatch, found.tables))
        except (TypeError, KeyError, AttributeError):
            fine = None
        if not fine:
            raise DataCorrupt(f"{folder / 'manifest.json'} says what no backup of ours does")
        return found


@dataclass(frozen=True)
class Taken:
    """A backup that was made: where, what is in it, and how many files were new."""

    folder: Path
    manifest: Manifest
    copied: int


# -- taking one -------------------------------------------------------------------------------------------------------


def backup(laboratory: Laboratory, target: Path, *, artifacts: bool = True, keep: int | None = None) -> Taken:
    """Write a copy into a folder of `target` that is named by the moment. artifacts: also the files that rows name;
    keep: how many copies stay, this one counted, with the files they name; None keeps all.

    Raises ConfigurationError for a database of another version, OSError where nothing can be written.
    """
    if keep is not None and keep < 1:
        raise InvalidInput(f"is {keep}", field="keep", allowed="1 or more")
    check_schema(laboratory.settings.database)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target / f".{uuid.uuid4().hex}"
    partial.mkdir(mode=0o700)
    try:
        manifest, copied = _taken(laboratory, target, partial, artifacts=artifacts)
        (partial / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
        folder = _publish(partial, target, manifest.at)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if keep is not None:
        prune(target, keep)
    return Taken(folder, manifest, copied)


def _taken(laboratory: Laboratory, target: Path, partial: Path, *, artifacts: bool) -> tuple[Manifest, int]:
    url, copied = laboratory.settings.database, 0
    engine = open_database(url)
    try:
        for last in (False,) * (ROUNDS - 1) + (True,):
            at, tables = _tables(engine, partial / "tables")
            files = list(_named(partial / "tables"))
            new, missing = _copied(laboratory.artifacts, files, target / "artifacts") if artifacts else (0, [])
            copied += new
            if last or not (set(missing) & _gone(laboratory, missing)):
                break
        size = sum(size for _, size in files)
        manifest = Manifest(
            FORMAT, version("modescape"), schema_state(url).wanted, engine.dialect.name, at.strftime(_MOMENT), tables,
            len(files) if artifacts else 0, size if artifacts else 0, missing,
        )  # fmt: skip
        return manifest, copied
    finally:
        engine.dispose()


def _gone(laboratory: Laboratory, digests: list[str]) -> set[str]:
    """Those that no row names any more: they were purged since the tables were read."""
    return set(digests) - set(laboratory.store.outputs.digests())


def _tables(engine: Engine, folder: Path) -> tuple[datetime, dict[str, Kept]]:
    """Every table as it was at one moment, and when that was."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    moment = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**moment) as connection, connection.begin():
        described = _described(connection)
        at = datetime.now(UTC)
        return at, {str(one.name): _dumped(connection, one, folder) for one in described.sorted_tables}


def _described(connection: Connection) -> MetaData:
    """The tables that are ours, as the database has them: whatever its revision."""
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name not in _NOT_OURS and not name.startswith("experiment_text"))
    return found


def _dumped(connection: Connection, table: Table, folder: Path) -> Kept:
    path, rows = folder / f"{table.name}.jsonl.gz", 0
    columns = list(table.columns)
    names, how = [str(column.name) for column in columns], [_writing(column.type) for column in columns]
    key = list(table.primary_key.columns) or columns
    found = connection.execution_options(stream_results=True).execute(select(*columns).order_by(*key))
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        for some in found.partitions(_ROWS):
            lines = (
                orjson.dumps({name: write(value) for name, write, value in zip(names, how, row, strict=True)}) + b"\n"
                for row in some
            )
            packed.write(b"".join(lines))
            rows += len(some)
        packed.close()
        file.flush()
        os.fsync(file.fileno())
    return Kept(rows, _sha256(path), _last_number(connection, table))


def _last_number(connection: Connection, table: Table) -> int | None:
    """The last number the database gave to a row of a table that numbers its rows."""
    if table.name not in ("event", "deed"):
        return None
    if connection.dialect.name == "sqlite":
        told = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return told.scalar() or 0
    sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": table.name})
    called, last = connection.execute(text(f"SELECT is_called, last_value FROM {sequence}")).one()
    return int(last) if called else 0


def _writing(kind: Any) -> Callable[[Any], Any]:
    """How a column's values are written as JSON."""
    if isinstance(kind, DateTime):
        return lambda at: None if at is None else _utc(at).isoformat().replace("+00:00", "Z")
    if isinstance(kind, LargeBinary):
        return lambda block: None if block is None else base64.b64encode(block).decode()
    if isinstance(kind, Float):
        return lambda x: x if x is None or math.isfinite(x) else _ODD[repr(float(x))]
    return lambda value: value


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _named(tables: Path) -> Iterator[tuple[str, int]]:
    """Digest and size of every file that rows of a copy name."""
    return ((row["digest"], row["bytes"]) for row in _lines(tables / "artifact.jsonl.gz"))


def _copied(artifacts: Artifacts, files: Iterable[tuple[str, int]], pool: Path) -> tuple[int, list[str]]:
    """Copy what is not there yet; how many, and the digests of those that are missing or not what their name says."""
    copied, missing = 0, []
    for digest, size in files:
        if any(path.stat().st_size == size for path in (pool / digest[:2]).glob(f"{digest}.*")):
            continue
        try:
            _copy(artifacts.content(digest), pool / digest[:2], digest)
            copied += 1
        except (ArtifactMissing, FileNotFoundError, DataCorrupt):
            missing.append(digest)
    return copied, missing


def _copy(source: Content, folder: Path, digest: str) -> None:
    """Raises DataCorrupt where the bytes are not those of the digest; then nothing appears under the name."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary, found = folder / f".{uuid.uuid4().hex}", hashlib.sha256()
    try:
        with temporary.open("xb") as written:
            for block in source.blocks:
                found.update(block)
                written.write(block)
            written.flush()
            os.fsync(written.fileno())
        if found.hexdigest() != digest:
            raise DataCorrupt(f"{source.name} is not what its name says")
        temporary.replace(folder / source.name)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(partial: Path, target: Path, at: str) -> Path:
    """Give the whole copy its name, and keep it there through a power cut; a second one of a second gets a number."""
    for number in itertools.count(1):
        folder = target / (at if number == 1 else f"{at}-{number}")
        if not folder.exists():
            break
    partial.rename(folder)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return folder


def copies(target: Path) -> list[Path]:
    """The folders of the copies in `target`, the newest first."""
    return sorted((path.parent for path in target.glob("[0-9]*/manifest.json")), reverse=True)


def prune(target: Path, keep: int) -> int:
    """Delete all but the newest copies, and the files that none of those names; bytes freed."""
    freed = 0
    for folder in copies(target)[keep:]:
        shutil.rmtree(folder)
    named = {digest for folder in copies(target) for digest, _ in _named(folder / "tables")}
    for folder in (target / "artifacts").glob("[0-9a-f][0-9a-f]"):
        for path in [] if folder.is_symlink() else folder.iterdir():  # what others put there is not ours to delete
            if _FILE.fullmatch(path.name) and path.stem not in named and path.is_file() and not path.is_symlink():
                freed += path.stat().st_size
                path.unlink()
    return freed


# -- taking one back --------------------------------------------------------------------------------------------------


def restore(target: Path, settings: Settings, *, at: str | None = None, keep_tokens: bool = False) -> Manifest:
    """Put a copy into the empty database and the artifacts that settings name. at: which one, by its folder's name;
    None is the newest. keep_tokens: tokens of programs hold again, also those that were revoked since it was taken.

    An older version's copy is migrated. Raises NotFound, DataCorrupt, Conflict for a database that is not empty, or of
    another revision, and ConfigurationError; nothing is left behind then.
    """
    there = copies(target)
    folder = target / at if at else next(iter(there), None)
    if folder is None or folder not in there:
        known = ", ".join(path.name for path in there) or "none"
        raise NotFound(f"there is no backup{f' {at}' if at else ''} in {target}; there are: {known}")
    manifest = Manifest.read(folder)
    for name, kept in manifest.tables.items():
        path = folder / "tables" / f"{name}.jsonl.gz"
        if not path.is_file() or _sha256(path) != kept.sha256:
            raise DataCorrupt(f"{path} is not what the backup says; nothing was restored")
        if (rows := _read_through(path, is_of_files=name == "artifact")) != kept.rows:
            raise DataCorrupt(f"{path} has {rows} rows instead of {kept.rows}; nothing was restored")
    left_out = _NOT_BACK if keep_tokens else (*_NOT_BACK, *_SECRETS)
    made = next((path for path in _own_paths(settings) if not path.exists()), None)
    if settings.database.get_backend_name() == "sqlite":
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_empty(settings):
        where = settings.database.set(username=None, password=None, query={}).render_as_string()
        raise Conflict(f"the database {where} is not empty; restore into an empty one, as of another MODESCAPE_HOME")
    with _all_or_nothing(settings, made) as brought:
        upgrade(settings.database, manifest.revision)
        if (found := schema_state(settings.database).found) != manifest.revision:
            raise Conflict(
                f"the database has tables of revision {found}, and the backup is of {manifest.revision}; restore into "
                "one that has none, which are migrated afterwards"
            )
        engine = open_database(settings.database).execution_options(sqlite_begin="IMMEDIATE")
        try:
            with engine.begin() as connection:
                for table in _described(connection).sorted_tables:
                    if (filled := manifest.tables.get(table.name)) is not None and table.name not in left_out:
                        _filled(connection, table, folder / "tables" / f"{table.name}.jsonl.gz", filled)
                # before anybody sees rows that name them
                _bring_files(target / "artifacts", folder / "tables", Artifacts(settings.artifact_place), brought)
        finally:
            engine.dispose()
        upgrade(settings.database)
        _check_words(settings)
    return manifest


def _is_empty(settings: Settings) -> bool:
    engine = open_database(settings.database)
    try:
        with engine.connect() as connection:
            tables = _described(connection).sorted_tables
            return not any(connection.scalar(select(func.count()).select_from(one)) for one in tables)
    finally:
        engine.dispose()


def _own_paths(settings: Settings) -> list[Path]:
    """The home, and the file of the database where it is one."""
    file = settings.database.database if settings.database.get_backend_name() == "sqlite" else None
    return [settings.home, *([Path(file)] if file else [])]


@contextmanager
def _all_or_nothing(settings: Settings, made: Path | None) -> Iterator[list[str]]:
    """What is done in the block is undone where it fails; to the list it adds the digests of the files it brings. made:
    a folder or a file of the database that was not there before."""
    had = schema_state(settings.database).found
    brought: list[str] = []
    try:
        yield brought
    except BaseException as error:
        _empty(settings)
        artifacts = Artifacts(settings.artifact_place)
        for digest in brought:
            artifacts.delete(digest)
        if had is None:
            downgrade(settings.database, "base")
        if made is not None and made.is_dir():
            shutil.rmtree(made)
        elif made is not None:
            for end in ("", "-wal", "-shm"):
                made.with_name(f"{made.name}{end}").unlink(missing_ok=True)
        if isinstance(error, _ODD_ROWS):  # of a migration, which met what no version of ours writes
            raise DataCorrupt(f"the backup holds what cannot be migrated: {first_line(error)}") from error
        raise


def _empty(settings: Settings) -> None:
    engine = open_database(settings.database).execution_options(sqlite_begin="IMMEDIATE")
    try:
        with engine.begin() as connection:
            for table in reversed(_described(connection).sorted_tables):
                connection.execute(table.delete())
    finally:
        engine.dispose()


def _bring_files(pool: Path, tables: Path, artifacts: Artifacts, brought: list[str]) -> None:
    """Those that are not there yet. One that the backup lacks is left for `verify` to tell."""
    for digest, _ in _named(tables):
        if artifacts.exists(digest):
            continue
        for path in (pool / digest[:2]).glob(f"{digest}.*"):
            artifacts.adopt(path)
            brought.append(digest)


def _filled(connection: Connection, table: Table, path: Path, kept: Kept) -> None:
    """Raises DataCorrupt for rows that are none of the table's."""
    here = {str(column.name): column for column in table.columns}
    reading = {name: _reading(column, connection.dialect.name) for name, column in here.items()}
    for some in _in_batches(_lines(path)):
        for row in some:
            if odd := next(iter(row.keys() ^ here.keys()), None):
                raise DataCorrupt(f"{path} has a row with{'out' * (odd in here)} {odd[:80]!r}; nothing was restored")
            if wrong := [name for name, value in row.items() if not _fits(here[name], value)]:
                raise DataCorrupt(f"{path} has {row[wrong[0]]!r:.80} as {wrong[0]}; nothing was restored")
        values = [{name: reading[name](value) for name, value in row.items()} for row in some]
        try:
            connection.execute(table.insert(), values)
        except (IntegrityError, DataError) as error:
            raise DataCorrupt(f"{path} has rows that contradict each other: {first_line(error)}") from None
    if kept.last is not None:
        _go_on_from(connection, table.name, kept.last)


def _go_on_from(connection: Connection, table: str, last: int) -> None:
    """The next number is the one after `last`, also where rows up to it are gone."""
    named = {"name": table, "last": last}
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
        connection.execute(text("INSERT INTO sqlite_sequence(name, seq) VALUES (:name, :last)"), named)
    else:
        sequence = "pg_get_serial_sequence(:name, 'id')"
        connection.execute(text(f"SELECT setval({sequence}, greatest(:last, 1), :last > 0)"), named)


def _reading(column: Column[Any], dialect: str) -> Callable[[Any], Any]:
    """How a column's values are read back."""
    kind = column.type
    if isinstance(kind, JSON) and column.nullable:  # else None would be JSON's
        return lambda told: null() if told is None else told
    if isinstance(kind, DateTime):
        return lambda told: None if told is None else _moment(told, aware=dialect != "sqlite")
    if isinstance(kind, LargeBinary):
        return lambda told: None if told is None else base64.b64decode(told)
    if isinstance(kind, Float):
        return lambda told: float(told) if isinstance(told, str) else told
    return lambda value: value


def _fits(column: Column[Any], told: Any) -> bool:
    """Whether it is a value that the column's are written as."""
    kind = column.type
    if isinstance(kind, JSON):
        return True
    if told is None:
        return bool(column.nullable)
    if isinstance(kind, Boolean):
        return isinstance(told, bool)
    if isinstance(kind, Integer):
        return isinstance(told, int) and not isinstance(told, bool) and -(2**63) <= told < 2**63
    if isinstance(kind, Float):
        return told in _ODD.values() if isinstance(told, str) else type(told) in (int, float)
    if not isinstance(told, str):
        return False
    try:
        if isinstance(kind, DateTime):
            return datetime.fromisoformat(told).tzinfo is not None
        if isinstance(kind, LargeBinary):
            base64.b64decode(told, validate=True)
    except ValueError:
        return False
    return True


def _check_words(settings: Settings) -> None:
    """Raises DataCorrupt where a column holds a word that it does not know."""
    engine = open_database(settings.database)
    try:
        with engine.connect() as connection:
            for column in (one for table in Base.metadata.sorted_tables for one in table.columns):
                if isinstance(column.type, Word):
                    there = connection.scalars(select(type_coerce(column, String)).distinct())
                    if odd := {word for word in there if word is not None} - set(column.type.read):
                        raise DataCorrupt(
                            f"the backup has {sorted(odd)[0][:80]!r} as {column.table.name}.{column.name}, which is "
                            f"one of {', '.join(column.type.read)}; nothing was restored"
                        )
    finally:
        engine.dispose()


def _moment(told: str, *, aware: bool) -> datetime:
    at = datetime.fromisoformat(told)
    return at if aware else at.astimezone(UTC).replace(tzinfo=None)


def _read_through(path: Path, *, is_of_files: bool) -> int:
    """How many rows a table's file has. is_of_files: each names a file by its digest. Raises DataCorrupt."""
    rows = 0
    for row in _lines(path):
        digest = row.get("digest") if is_of_files else None
        if is_of_files and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise DataCorrupt(f"{path} names a file by {str(digest)[:80]!r}, which is no digest; nothing was restored")
        rows += 1
    return rows


def _lines(path: Path) -> Iterator[Json]:
    """The rows of a table's file. Raises DataCorrupt for what is none."""
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise DataCorrupt(f"{path} has a line of more than {_LONGEST_LINE:,} bytes")
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise DataCorrupt(f"{path} has a line that is no row")
                yield row
    except (orjson.JSONDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataCorrupt(f"{path} cannot be read: {error}") from None


def _in_batches(rows: Iterator[Json]) -> Iterator[list[Json]]:
    while some := list(itertools.islice(rows, _ROWS)):
        yield some


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
