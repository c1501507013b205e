"""Where an experiment came from that was made elsewhere: files, members, what was odd at the door.

Experiments that were trained here have nothing to tell.

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-28
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("experiment", sa.Column("provenance", document, nullable=True))


def downgrade() -> None:
    op.drop_column("experiment", "provenance")
