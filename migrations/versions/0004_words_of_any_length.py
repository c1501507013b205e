"""Words have no width: PostgreSQL refused a stage kind of 20 characters where SQLite, which reads no widths, took it.

Limits belong where people type: `store` checks names and tags, the API its headers. Ids and digests keep theirs.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-28
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision: str = "0004"
down_revision: str | None = "0003"

# The widths of before, for the way back.
WIDTHS: dict[str, dict[str, int]] = {
    "experiment": {
        "slug": 80, "name": 120, "preset": 64, "created_by": 80, "status": 12, "dataset": 64, "input_scale": 16,
        "architecture": 64,
    },
    "stage": {"kind": 16, "key": 80, "queue": 16, "state": 12, "wish": 8, "lease_owner": 120, "worker": 120},
    "solution": {"role": 12, "method": 64, "sample_set": 10},
    "measurement": {"subject": 120, "metric": 40, "split": 40, "corruption": 40},
    "series": {"name": 64},
    "matrix": {"name": 64, "split": 16},
    "artifact": {"kind": 16, "dtype": 16},
    "event": {"kind": 32},
    "worker": {"name": 120, "device": 80, "numerics": 200, "queue": 16},
    "catalogue": {"kind": 16, "name": 64},
    "idempotency": {"key": 200},
    "fact": {"name": 64},
}  # fmt: skip


def upgrade() -> None:
    # One ALTER TABLE a table: PostgreSQL then rewrites neither rows nor indexes.
    for table, widths in _to_change():
        op.execute(f"ALTER TABLE {table} " + ", ".join(f'ALTER COLUMN "{name}" TYPE VARCHAR' for name in widths))


def downgrade() -> None:
    for table, widths in _to_change():
        for name, width in widths.items():
            longest = op.get_bind().execute(sa.text(f'SELECT max(length("{name}")) FROM {table}')).scalar()
            if longest is not None and longest > width:
                raise CommandError(f"{table}.{name} holds {longest} characters, the older tables {width}")
        changes = ", ".join(f'ALTER COLUMN "{name}" TYPE VARCHAR({width})' for name, width in widths.items())
        op.execute(f"ALTER TABLE {table} {changes}")


def _to_change() -> list[tuple[str, dict[str, int]]]:
    """Nothing on SQLite: it never looked at widths, and changing a column there means copying its table."""
    return [] if op.get_bind().dialect.name == "sqlite" else list(WIDTHS.items())
