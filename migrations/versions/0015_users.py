"""People and programs: users, their tokens and sign-ins, and what everybody did.

Sweeps and imports say who made them, as experiments did before; of older ones nobody knows.

Revision ID: 0015
Revises: 0014
Create Date: 2026-11-30
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | None = "0014"


def upgrade() -> None:
    document = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.DateTime(timezone=True)
    of_user = "user_account.id"
    for table in ("sweep", "gathering"):
        op.add_column(table, sa.Column("created_by", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "user_account",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False, unique=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey(of_user, ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=True),
        sa.Column("used_at", moment, nullable=True),
    )
    op.create_index("ix_api_token_user_id", "api_token", ["user_id"])
    op.create_table(
        "sign_in",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey(of_user, ondelete="CASCADE"), nullable=True),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(36), sa.ForeignKey("api_token.id", ondelete="CASCADE"), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("seen_at", moment, nullable=False),
    )
    for name in ("user_id", "token_id"):
        op.create_index(f"ix_sign_in_{name}", "sign_in", [name])
    op.create_table(
        "sign_in_failure",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_index("ix_sign_in_failure_at", "sign_in_failure", ["at"])
    op.create_table(
        "deed",
        sa.Column("id", counter, primary_key=True, autoincrement=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("thing", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("details", document, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deed_thing", "deed", ["thing"])


def downgrade() -> None:
    for table in ("deed", "sign_in_failure", "sign_in", "api_token", "user_account"):
        op.drop_table(table)
    for table in ("gathering", "sweep"):
        op.drop_column(table, "created_by")
