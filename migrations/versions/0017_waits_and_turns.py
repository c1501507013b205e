"""What a ready stage waits for, the priority of experiments, and when their owners had their last turn.

Revision ID: 0017
Revises: 0016
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"

LISTED = [
    "created_at", "id", "status", "dataset", "input_scale", "architecture", "methods", "tags", "runs", "preset", "name",
    "seconds", "accuracy", "ensemble_accuracy", "disagreement", "started_at", "finished_at", "archived_at",
]  # fmt: skip
READY = ["state", "queue", "experiment_id", "ordinal", "id", "kind", "memo", "waits_until", "room"]


def upgrade() -> None:
    op.add_column("experiment", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("experiment", sa.Column("turn", sa.String(36), nullable=False, server_default=""))
    of_a_sweep = "SELECT min(sweep_id) FROM sweep_cell WHERE sweep_cell.experiment_id = experiment.id"
    op.execute(f"UPDATE experiment SET turn = coalesce(({of_a_sweep}), id)")
    op.add_column("stage", sa.Column("waits", sa.Text()))
    op.add_column("stage", sa.Column("waits_until", sa.DateTime(timezone=True)))
    op.add_column("stage", sa.Column("room", sa.BigInteger()))
    op.create_table(
        "turn",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    ready = sa.text("state = 'ready'")
    op.create_index("ix_stage_ready", "stage", READY, sqlite_where=ready, postgresql_where=ready)
    if op.get_bind().dialect.name == "sqlite":
        _lists_by([*LISTED, "priority"])
    else:
        op.create_index("ix_experiment_turn", "experiment", ["id", "priority", "created_by", "turn", "created_at"])


def _lists_by(columns: list[str]) -> None:
    op.drop_index("ix_experiment_columns", "experiment")
    op.create_index("ix_experiment_columns", "experiment", columns, sqlite_where=sa.text("archived_at IS NULL"))


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _lists_by(LISTED)
    else:
        op.drop_index("ix_experiment_turn", "experiment")
    op.drop_index("ix_stage_ready", "stage")
    op.drop_table("turn")
    for name in ("waits", "waits_until", "room"):
        op.drop_column("stage", name)
    for name in ("priority", "turn"):
        op.drop_column("experiment", name)
