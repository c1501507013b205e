"""An index of three letters each for the search in names and notes: FTS5 in SQLite, pg_trgm in PostgreSQL.

PostgreSQL's takes new rows at once (no `fastupdate`): a list of rows to be added later is read by every search, ten
times as long as the index. SQLite's is kept by triggers, which a table that is made anew would lose; rows of an index
are numbered, and SQLite keeps the numbers of `experiment` only until its next VACUUM, so they stand in a table. Where
the database has neither (an SQLite before 3.34, a PostgreSQL whose user may not add the extension) everything is found
as before, by reading.

Revision ID: 0014
Revises: 0013
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

revision: str = "0014"
down_revision: str | None = "0013"

TEXTS = ("name", "slug", "notes")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _on_sqlite()
    else:
        _on_postgres()


def _on_sqlite() -> None:
    if sqlite3.sqlite_version_info < (3, 34):
        return
    texts, new = ", ".join(TEXTS), ", ".join(f"new.{name}" for name in TEXTS)
    its_row = "(SELECT row FROM experiment_text_row WHERE id = old.id)"
    numbered = "INSERT INTO experiment_text_row(id) VALUES (new.id)"
    added = f"INSERT INTO experiment_text(rowid, {texts}) SELECT row, {new} FROM experiment_text_row WHERE id = new.id"
    changed = ", ".join(f"{name} = new.{name}" for name in TEXTS)
    for statement in (
        "CREATE TABLE experiment_text_row(row INTEGER PRIMARY KEY, id VARCHAR(36) NOT NULL UNIQUE)",
        f"CREATE VIRTUAL TABLE experiment_text USING fts5({texts}, tokenize='trigram')",
        "INSERT INTO experiment_text_row(id) SELECT id FROM experiment",
        f"INSERT INTO experiment_text(rowid, {texts}) SELECT row, {texts} FROM experiment JOIN experiment_text_row "
        "USING (id)",
        f"CREATE TRIGGER experiment_text_added AFTER INSERT ON experiment BEGIN {numbered}; {added}; END",
        f"CREATE TRIGGER experiment_text_changed AFTER UPDATE OF {texts} ON experiment "
        f"BEGIN UPDATE experiment_text SET {changed} WHERE rowid = {its_row}; END",
        f"CREATE TRIGGER experiment_text_gone AFTER DELETE ON experiment "
        f"BEGIN DELETE FROM experiment_text WHERE rowid = {its_row}; "
        "DELETE FROM experiment_text_row WHERE id = old.id; END",
    ):
        op.execute(statement)


def _on_postgres() -> None:
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DBAPIError:  # not there, or not this user's to add
        return
    op.create_index(
        "ix_experiment_text", "experiment", list(TEXTS), postgresql_using="gin",
        postgresql_ops=dict.fromkeys(TEXTS, "gin_trgm_ops"), postgresql_with={"fastupdate": False},
    )  # fmt: skip


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("added", "changed", "gone"):
            op.execute(f"DROP TRIGGER IF EXISTS experiment_text_{name}")
        op.execute("DROP TABLE IF EXISTS experiment_text")
        op.execute("DROP TABLE IF EXISTS experiment_text_row")
    else:
        op.execute(sa.text("DROP INDEX IF EXISTS ix_experiment_text"))
