"""Experiments have a project and a parent; texts are kept a second time, as they are compared, and searched so.

"As they are compared": NFKC, case folded, without accents of Latin, Greek and Cyrillic letters. The indexes of three
letters each are made anew over that column, and the indexes of lists hold the columns that lists compare by.

Revision ID: 0020
Revises: 0019
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlite3
import unicodedata
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

revision: str = "0020"
down_revision: str | None = "0019"

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXTS = ("name", "slug", "notes")  # that were searched before
SEARCHED = ("name", "slug", "tags", "project", "notes")
FOLDED = ("name", "dataset", "project", "created_by")
FACETS = ["status", "dataset", "input_scale", "architecture", "methods", "tags"]
NEW_FACETS = [*FACETS[:-1], "preset", "tags", "created_by", "project"]
SHOWN = sa.text("archived_at IS NULL")
HEAD = ["created_at", "id", "status"]
TAIL = [
    "seconds", "accuracy", "ensemble_accuracy", "disagreement", "started_at", "finished_at", "archived_at", "priority",
]  # fmt: skip
COLUMNS = [
    *HEAD, "dataset", "input_scale", "architecture", "methods", "tags", "runs", "preset", "name", *TAIL,
]  # fmt: skip
NEW_COLUMNS = [
    *HEAD, "dataset_folded", "input_scale", "architecture", "methods", "tags_folded", "project_folded",
    "created_by_folded", "runs", "preset", "parent", "slug", "name_folded", *TAIL,
]  # fmt: skip


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    plain = sa.String() if on_sqlite else sa.String(collation="C")
    op.add_column("experiment", sa.Column("project", sa.String(), nullable=False, server_default=""))
    op.add_column("experiment", sa.Column("parent", sa.String(), nullable=True))
    text = sa.Text() if on_sqlite else sa.Text(collation="C")
    op.add_column("experiment", sa.Column("folded", text, nullable=False, server_default=""))
    for name in FOLDED:
        op.add_column("experiment", sa.Column(f"{name}_folded", plain, nullable=False, server_default=""))
    op.add_column("experiment", sa.Column("tags_folded", DOCUMENT, nullable=False, server_default="[]"))
    _drop_text_index()
    _fill()
    _make_text_index(("folded",))
    _make_indexes(NEW_FACETS, NEW_COLUMNS)


def downgrade() -> None:
    _drop_text_index()
    _make_indexes(FACETS, COLUMNS)
    for name in ("tags_folded", *(f"{name}_folded" for name in FOLDED), "folded", "parent", "project"):
        op.drop_column("experiment", name)
    _make_text_index(TEXTS)


def _fill() -> None:
    connection = op.get_bind()
    rows = sa.table(
        "experiment", *(sa.column(name) for name in ("id", "folded", *(f"{name}_folded" for name in FOLDED))),
        *(sa.column(name) for name in ("name", "slug", "dataset", "project", "created_by", "notes")),
        sa.column("tags", DOCUMENT), sa.column("tags_folded", DOCUMENT),
    )  # fmt: skip
    ids = list(connection.scalars(sa.select(rows.c.id)))
    for start in range(0, len(ids), 500):
        some = sa.select(*(rows.c[name] for name in ("id", "dataset", "created_by", *SEARCHED)))
        found = connection.execute(some.where(rows.c.id.in_(ids[start : start + 500]))).mappings().all()
        values = [{"key": row["id"], **_of_row(row)} for row in found]
        statement = sa.update(rows).where(rows.c.id == sa.bindparam("key"))
        connection.execute(statement.values({name: sa.bindparam(name) for name in values[0] if name != "key"}), values)


def _of_row(row: Any) -> dict[str, Any]:
    tags = list(row["tags"] or [])
    parts = {**{name: row[name] or "" for name in SEARCHED}, "tags": " | ".join(tags)}
    return {
        "folded": "\n".join(_fold(parts[name]) for name in SEARCHED),
        **{f"{name}_folded": _fold(row[name] or "") for name in FOLDED},
        "tags_folded": [_fold(tag) for tag in tags],
    }


def _fold(text: str) -> str:
    """`modescape.names.folded` as it was then."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        kept, drops = [], False
        for letter in text:
            is_mark = unicodedata.category(letter) == "Mn"
            if not is_mark:
                drops = unicodedata.name(letter, "").startswith(("LATIN ", "GREEK ", "CYRILLIC "))
            if not (is_mark and drops):
                kept.append(letter)
        text = unicodedata.normalize("NFKC", "".join(kept))
    return " ".join(text.casefold().split())


def _make_indexes(facets: list[str], columns: list[str]) -> None:
    op.drop_index("ix_experiment_facets", "experiment")
    op.create_index("ix_experiment_facets", "experiment", [*facets, "archived_at"], sqlite_where=SHOWN,
                    postgresql_where=SHOWN)  # fmt: skip
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("ix_experiment_columns", "experiment")
        op.create_index("ix_experiment_columns", "experiment", columns, sqlite_where=SHOWN)


def _drop_text_index() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("added", "changed", "gone"):
            op.execute(f"DROP TRIGGER IF EXISTS experiment_text_{name}")
        op.execute("DROP TABLE IF EXISTS experiment_text")
        op.execute("DROP TABLE IF EXISTS experiment_text_row")
    else:
        op.execute(sa.text("DROP INDEX IF EXISTS ix_experiment_text"))


def _make_text_index(texts: tuple[str, ...]) -> None:
    """As migration 0014 does, with its reasons."""
    if op.get_bind().dialect.name != "sqlite":
        try:
            with op.get_bind().begin_nested():
                op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except DBAPIError:  # not there, or not this user's to add
            return
        op.create_index(
            "ix_experiment_text", "experiment", list(texts), postgresql_using="gin",
            postgresql_ops=dict.fromkeys(texts, "gin_trgm_ops"), postgresql_with={"fastupdate": False},
        )  # fmt: skip
        return
    if sqlite3.sqlite_version_info < (3, 34):
        return
    named, new = ", ".join(texts), ", ".join(f"new.{name}" for name in texts)
    its_row = "(SELECT row FROM experiment_text_row WHERE id = old.id)"
    numbered = "INSERT INTO experiment_text_row(id) VALUES (new.id)"
    added = f"INSERT INTO experiment_text(rowid, {named}) SELECT row, {new} FROM experiment_text_row WHERE id = new.id"
    changed = ", ".join(f"{name} = new.{name}" for name in texts)
    how = "trigram" if texts == TEXTS else "trigram case_sensitive 1"  # what is folded has one case
    for statement in (
        "CREATE TABLE experiment_text_row(row INTEGER PRIMARY KEY, id VARCHAR(36) NOT NULL UNIQUE)",
        f"CREATE VIRTUAL TABLE experiment_text USING fts5({named}, tokenize='{how}')",
        "INSERT INTO experiment_text_row(id) SELECT id FROM experiment",
        f"INSERT INTO experiment_text(rowid, {named}) SELECT row, {named} FROM experiment JOIN experiment_text_row "
        "USING (id)",
        f"CREATE TRIGGER experiment_text_added AFTER INSERT ON experiment BEGIN {numbered}; {added}; END",
        f"CREATE TRIGGER experiment_text_changed AFTER UPDATE OF {named} ON experiment "
        f"BEGIN UPDATE experiment_text SET {changed} WHERE rowid = {its_row}; END",
        f"CREATE TRIGGER experiment_text_gone AFTER DELETE ON experiment "
        f"BEGIN DELETE FROM experiment_text WHERE rowid = {its_row}; "
        "DELETE FROM experiment_text_row WHERE id = old.id; END",
    ):
        op.execute(statement)
