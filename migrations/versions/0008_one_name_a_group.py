"""The runs' final functions are the group "independent" in every measurement; "optimum" is the role of one of them.

Outputs of stages stay as they were kept (`stage.result`, params and keys): they are read under the new name.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-28
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MEASUREMENT = sa.table("measurement", sa.column("id"), sa.column("subject"), sa.column("details", DOCUMENT))
OLD, NEW = "optimum", "independent"
PLACES = {"ensemble": 1, "reliability": 1, "ood": 2}  # of the group in subjects that had the old name


def upgrade() -> None:
    _rename(OLD, NEW)


def downgrade() -> None:
    _rename(NEW, OLD)


def _rename(was: str, now: str) -> None:
    connection, subject = op.get_bind(), MEASUREMENT.c.subject
    for old in connection.scalars(sa.select(subject).where(subject.contains(was)).distinct()).all():
        new = _renamed(old, was, now)
        if new == old:
            continue
        if old.startswith("ood/"):
            rows = connection.execute(sa.select(MEASUREMENT.c.id, MEASUREMENT.c.details).where(subject == old)).all()
            for id_, details in rows:
                _write(connection, MEASUREMENT.c.id == id_, details={**details, "group": now})
        _write(connection, subject == old, subject=new)


def _renamed(subject: str, was: str, now: str) -> str:
    parts = subject.split("/")
    place = PLACES.get(parts[0], len(parts))
    return "/".join(now if i == place and part == was else part for i, part in enumerate(parts))


def _write(connection: sa.Connection, where: sa.ColumnElement[bool], **values: Any) -> None:
    connection.execute(sa.update(MEASUREMENT).where(where).values(values))
