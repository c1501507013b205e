"""Ensembles made elsewhere whose members come one by one, until they are sealed.

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-29
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "gathering",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("declared", document, nullable=False),
        sa.Column("key", sa.String(), nullable=True, unique=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.String(36), sa.ForeignKey("experiment.id", ondelete="CASCADE"), nullable=True),
        sa.Column("looks", document, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
    )
    op.create_index("ix_gathering_experiment", "gathering", ["experiment_id"])
    op.create_table(
        "gathered",
        sa.Column("gathering_id", sa.String(36), sa.ForeignKey("gathering.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("members", document, nullable=False),
        sa.Column("piece", document, nullable=False),
        sa.Column("files", document, nullable=False),
        sa.Column("at", moment, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("gathered")
    op.drop_index("ix_gathering_experiment", "gathering")
    op.drop_table("gathering")
