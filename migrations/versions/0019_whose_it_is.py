"""Keys of requests are of who sent them, names of removed users are nobody's again, and browsers that have signed in
are known; tokens know by which token they were made, and experiments what their plan will keep.

Revision ID: 0019
Revises: 0018
Create Date: 2026-11-30
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"

KEYS = (("gathering", "key"), ("sweep", "request_key"))


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("experiment", sa.Column("planned_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("api_token", sa.Column("parent_id", sa.String(36), nullable=True))
    op.create_index("ix_api_token_parent_id", "api_token", ["parent_id"])
    op.create_table(
        "former_user",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("at", moment, nullable=False),
    )
    op.create_table(
        "known_browser",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("used_at", moment, nullable=False),
    )
    op.create_index("ix_known_browser_user_id", "known_browser", ["user_id"])
    op.create_table(
        "sign_in_code",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", moment, nullable=False),
    )
    made_by = "(SELECT created_by FROM experiment WHERE experiment.id = idempotency.experiment_id)"
    op.execute(f"UPDATE idempotency SET key = coalesce({made_by}, '') || ':' || key")
    for table, column in KEYS:
        op.execute(f"UPDATE {table} SET {column} = created_by || ':' || {column} WHERE {column} IS NOT NULL")
    _remember_the_removed()


def _remember_the_removed() -> None:
    connection = op.get_bind()
    removed = connection.execute(
        sa.text("SELECT name, max(at) FROM deed WHERE kind = 'user' AND verb = 'remove' GROUP BY name")
    )
    there = {key for (key,) in connection.execute(sa.text("SELECT key FROM user_account"))}
    gone = {unicodedata.normalize("NFKC", name).casefold(): at for name, at in removed}
    insert = sa.text("INSERT INTO former_user (key, at) VALUES (:key, :at)")
    for key, at in gone.items():
        if key not in there:  # somebody has the name again
            connection.execute(insert, {"key": key, "at": at})


def downgrade() -> None:
    for table, column in (*KEYS, ("idempotency", "key")):
        rest = f"substr({column}, {_colon(column)} + 1)"
        others = f"SELECT {rest} FROM {table} WHERE {column} IS NOT NULL GROUP BY {rest} HAVING count(*) > 1"
        empty = f"UPDATE {table} SET {column} = NULL" if table != "idempotency" else f"DELETE FROM {table}"
        op.execute(f"{empty} WHERE {rest} IN ({others})")  # of two that were told apart none can be repeated any more
        op.execute(f"UPDATE {table} SET {column} = {rest} WHERE {column} IS NOT NULL")
    for table in ("sign_in_code", "known_browser", "former_user"):
        op.drop_table(table)
    op.drop_index("ix_api_token_parent_id", "api_token")
    op.drop_column("api_token", "parent_id")
    op.drop_column("experiment", "planned_bytes")


def _colon(column: str) -> str:
    return f"instr({column}, ':')" if op.get_bind().dialect.name == "sqlite" else f"strpos({column}, ':')"
