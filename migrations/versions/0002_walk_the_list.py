"""The indexes of lists and facets hold the rows that lists show.

Behind an IS NULL column PostgreSQL walks no index in order: it read and sorted every experiment for the first page.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-27
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"

FACETS = ["status", "dataset", "input_scale", "architecture", "methods", "tags"]
SHOWN = sa.text("archived_at IS NULL")


def upgrade() -> None:
    # SQLite needs archived_at in the index itself to do without the rows.
    _replace({"ix_experiment_list": ["created_at", "id"], "ix_experiment_facets": [*FACETS, "archived_at"]}, SHOWN)


def downgrade() -> None:
    _replace(
        {"ix_experiment_list": ["archived_at", "created_at", "id"], "ix_experiment_facets": ["archived_at", *FACETS]}
    )


def _replace(indexes: dict[str, list[str]], where: sa.TextClause | None = None) -> None:
    for name, columns in indexes.items():
        op.drop_index(name, "experiment")
        op.create_index(name, "experiment", columns, sqlite_where=where, postgresql_where=where)
