"""Where it is told that experiments have ended, and what has still to be told.

Revision ID: 0016
Revises: 0015
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0016"
down_revision: str | None = "0015"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "recipient",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("endings", document, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("recipient_id", sa.String(36), sa.ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
        sa.Column("payload", document, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("next_at", moment, nullable=True),
        sa.Column("claimed_until", moment, nullable=True),
        sa.Column("told_at", moment, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
    )
    op.create_index("ix_notice_recipient_id", "notice", ["recipient_id"])
    op.create_index("ix_notice_next_at", "notice", ["next_at"])


def downgrade() -> None:
    op.drop_table("notice")
    op.drop_table("recipient")
