"""Sweeps: experiments that differ in a few fields of their specs, kept together.

Experiments stay as they are; which of them are cells of a sweep stands in a table of its own.

Revision ID: 0011
Revises: 0009
Create Date: 2026-11-29
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.create_table(
        "sweep",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("slug", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", document, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("request_key", sa.String(), nullable=True, unique=True),
        sa.Column("request", sa.String(64), nullable=True),
    )
    op.create_index("ix_sweep_list", "sweep", ["created_at", "id"])
    op.create_table(
        "sweep_cell",
        sa.Column("sweep_id", sa.String(36), sa.ForeignKey("sweep.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("experiment_id", sa.String(36), sa.ForeignKey("experiment.id", ondelete="SET NULL"), nullable=True),
        sa.Column("varied", document, nullable=False),
    )
    op.create_index("ix_sweep_cell_experiment_id", "sweep_cell", ["experiment_id"])


def downgrade() -> None:
    op.drop_table("sweep_cell")
    op.drop_table("sweep")
