"""How long stages of each kind take, by what there is to do, and what workers measure when they start.

Old stages have no work written down: they price nothing, and stay as they are. Names may be longer, and are stored in
Unicode's normal form C, in which they are compared.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-28
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    _normalise()
    op.add_column("stage", sa.Column("work", DOCUMENT, nullable=True))
    op.add_column("worker", sa.Column("calibration", DOCUMENT, nullable=True))
    op.create_table(
        "throughput",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "shape", "numerics")),
        *(
            sa.Column(name, sa.Double(), nullable=False)
            for name in ("stages", "trained", "predicted", "other", "seconds")
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "shape", "numerics"),
    )


def _normalise() -> None:
    rows = op.get_bind().execute(sa.text("SELECT id, name FROM experiment")).all()
    for id_, name in rows:
        normal = unicodedata.normalize("NFC", name)
        if normal != name:
            op.get_bind().execute(sa.text("UPDATE experiment SET name = :n WHERE id = :i"), {"n": normal, "i": id_})


def downgrade() -> None:
    op.drop_table("throughput")
    op.drop_column("worker", "calibration")
    op.drop_column("stage", "work")
