"""Links end with what they lead to, and all of them some day.

Revision ID: 0026
Revises: 0025
Create Date: 2026-12-01
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0026"
down_revision: str | None = "0025"

_LONGEST = timedelta(days=366)  # of those that had no end, from now on
_NO_CONDITIONS = ("sort", "limit", "cursor", "fields", "format", "columns", "group", "open", "view")
_OF_PLOT = re.compile(r"(from|to|is|none)\..+|part|width|scale|theme|x|y|axes|colour|log")
_KINDS = {"experiments": "experiment", "reports": "report", "sweeps": "sweep"}


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    with op.batch_alter_table("shared_link") as batch:
        batch.add_column(sa.Column("things", document, nullable=False, server_default="[]"))
    _fill(op.get_bind())
    with op.batch_alter_table("shared_link") as batch:
        batch.alter_column("things", server_default=None)
        batch.alter_column("expires_at", existing_type=sa.DateTime(timezone=True), nullable=False)


def _fill(connection: sa.Connection) -> None:
    """What each leads to, as it is now. One of what is gone, or came later under that name, has ended; so has the list
    of everything that somebody has shared who is no admin."""
    moment = sa.DateTime(timezone=True)
    links = sa.table(
        "shared_link", sa.column("id"), sa.column("target"), sa.column("created_by"), sa.column("created_at", moment),
        sa.column("expires_at", moment), sa.column("things", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")),
    )  # fmt: skip
    now = datetime.now(UTC)
    for row in connection.execute(sa.select(links)).all():
        made, ends = _aware(row.created_at), row.expires_at and _aware(row.expires_at)
        things = _things(connection, row.target, made)
        if things is None or (not things and not _may_be_shared(connection, row.target, row.created_by)):
            things, ends = [], min(now, ends or now)
        values = {"things": things, "expires_at": ends or now + _LONGEST}
        connection.execute(sa.update(links).where(links.c.id == row.id).values(values))


def _aware(at: Any) -> datetime:
    found: datetime = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _things(connection: sa.Connection, target: str, made: datetime) -> list[str] | None:
    """Ids; [] of a list, None where any of them is not what was shared."""
    parts = urlsplit(target)
    if parts.path == "/":
        return []
    names: Iterable[str] = dict.fromkeys(value for key, value in parse_qsl(parts.query) if key == "e")
    if parts.path == "/plots" and not names:
        return []
    if parts.path in ("/compare", "/plots"):
        found = [_id(connection, "experiment", name, made) for name in names]
    else:
        _, kind, name = parts.path.split("/")
        found = [_id(connection, _KINDS[kind], name, made)]
    kept = [one for one in found if one is not None]
    return kept if kept and len(kept) == len(found) else None


def _id(connection: sa.Connection, table: str, name: str, made: datetime) -> str | None:
    things = sa.table(table, sa.column("id"), sa.column("slug"), sa.column("created_at", sa.DateTime(timezone=True)))
    of_it = sa.select(things).where(sa.or_(things.c.slug == name, things.c.id == name))
    row = connection.execute(of_it).first()
    return None if row is None or _aware(row.created_at) > made else str(row.id)


def _may_be_shared(connection: sa.Connection, target: str, maker: str) -> bool:
    parts = urlsplit(target)
    keys = [key for key, _ in parse_qsl(parts.query) if key not in _NO_CONDITIONS]
    if any(parts.path != "/plots" or not _OF_PLOT.fullmatch(key) for key in keys):
        return True
    users = sa.table("user_account", sa.column("key"), sa.column("role"))
    key = unicodedata.normalize("NFKC", maker).casefold()
    role = connection.execute(sa.select(users.c.role).where(users.c.key == key)).scalar_one_or_none()
    return role is None or str(role).lower() == "admin"


def downgrade() -> None:
    with op.batch_alter_table("shared_link") as batch:
        batch.alter_column("expires_at", existing_type=sa.DateTime(timezone=True), nullable=True)
        batch.drop_column("things")
