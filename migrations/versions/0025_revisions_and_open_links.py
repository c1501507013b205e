"""What a report said before: its last revisions, of which the present one of those that are there is the first; and of
each link whether it may be read without signing in, as every link could be where the operator allowed it.

Revision ID: 0025
Revises: 0024
Create Date: 2026-12-01
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0025"
down_revision: str | None = "0024"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.create_table(
        "report_revision",
        sa.Column("report_id", sa.String(36), sa.ForeignKey("report.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("blocks", document, nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(
        'INSERT INTO report_revision (report_id, revision, name, blocks, "by", at) '
        "SELECT id, revision, name, blocks, created_by, changed_at FROM report"
    )
    without = sa.Column("without_sign_in", sa.Boolean(), nullable=False, server_default=sa.true())
    op.add_column("shared_link", without)


def downgrade() -> None:
    with op.batch_alter_table("shared_link") as table:
        table.drop_column("without_sign_in")
    op.drop_table("report_revision")
