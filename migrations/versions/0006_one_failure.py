"""What a failure costs: stages that can do without another's result, stages that do not decide an experiment's end, and
why a run has failed though its stages have succeeded.

Experiments that are there keep their graphs: every arrow of theirs is one that must succeed.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-28
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    op.add_column("stage", sa.Column("optional", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("stage_need", sa.Column("optional", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("run", sa.Column("failed", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "failed")
    op.drop_column("stage_need", "optional")
    op.drop_column("stage", "optional")
