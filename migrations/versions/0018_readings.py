"""What workers read of themselves and have done, and since when a stage is ready.

Revision ID: 0018
Revises: 0017
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0018"
down_revision: str | None = "0017"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    for name in ("readings", "tally"):
        op.add_column("worker", sa.Column(name, document, nullable=False, server_default="{}"))
    op.add_column("stage", sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("stage", "ready_at")
    for name in ("tally", "readings"):
        op.drop_column("worker", name)
