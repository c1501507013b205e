"""How long stages of each kind take, by what there is to do, and what workers measure when they start.

Old stages have no work written down: they price nothing, and stay as they are.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-28
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("stage", sa.Column("work", DOCUMENT, nullable=True))
    op.add_column("worker", sa.Column("calibration", DOCUMENT, nullable=True))
    op.create_table(
        "throughput",
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("shape", sa.String(length=200), nullable=False),
        sa.Column("numerics", sa.String(length=200), nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("stages", "trained", "predicted", "other", "seconds")
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "shape", "numerics"),
    )


def downgrade() -> None:
    op.drop_table("throughput")
    op.drop_column("worker", "calibration")
    op.drop_column("stage", "work")
