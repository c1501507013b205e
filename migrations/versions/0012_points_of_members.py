"""Points of curves of members that are still being trained elsewhere, in the batches in which they came.

Revision ID: 0012
Revises: 0011
Create Date: 2026-11-29
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | None = "0011"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.create_table(
        "logged_member",
        sa.Column("gathering_id", sa.String(36), sa.ForeignKey("gathering.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("member", sa.String(), primary_key=True),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("batches", sa.Integer(), nullable=False),
        sa.Column("curves", document, nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "logged_batch",
        sa.Column("gathering_id", sa.String(36), primary_key=True),
        sa.Column("member", sa.String(), primary_key=True),
        sa.Column("batch", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("curves", document, nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gathering_id", "member"], ["logged_member.gathering_id", "logged_member.member"], ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("logged_batch")
    op.drop_table("logged_member")
