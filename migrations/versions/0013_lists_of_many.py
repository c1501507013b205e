"""An index of every column that lists are filtered and sorted by, so that many rows are read from it alone.

A row holds its whole spec, some kilobytes; one of 100,000 experiments by their accuracy read all of them.

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"

COLUMNS = [
    "created_at", "id", "status", "dataset", "input_scale", "architecture", "methods", "tags", "runs", "preset", "name",
    "seconds", "accuracy", "ensemble_accuracy", "disagreement", "started_at", "finished_at", "archived_at",
]  # fmt: skip


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":  # PostgreSQL keeps a long value apart from its row, and short indexes
        shown = sa.text("archived_at IS NULL")
        op.create_index("ix_experiment_columns", "experiment", COLUMNS, sqlite_where=shown)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("ix_experiment_columns", "experiment")
