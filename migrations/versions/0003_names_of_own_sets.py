"""Experiments on a user's own data are listed under its name, no longer all as "folder" or "npz".

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-28
"""

from __future__ import annotations

import json
from pathlib import PurePath

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"

KINDS = ("folder", "npz")
LONGEST = 64
PUBLIC = ("digits", "fashion-mnist", "cifar10", "cifar100", "svhn", "imagenet", "blobs", "digits-0-4", "digits-5-9")


def upgrade() -> None:
    for id_, data, registered in _own():
        place = PurePath(data["path"])
        name = registered.get(data["path"]) or (place.stem if data["dataset"] == "npz" else place.name)
        name = f"{name[: LONGEST - 9]} ({data['dataset']})" if name in PUBLIC or not name else name[:LONGEST]
        _set(id_, name)


def downgrade() -> None:
    for id_, data, _ in _own():
        _set(id_, data["dataset"])


def _own() -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """Experiments on own data: id, the spec's data, and the names of registered places."""
    rows = op.get_bind().execute(sa.text("SELECT name, details FROM catalogue WHERE kind = 'data'")).all()
    registered = {_json(details)["where"]: name for name, details in rows}
    rows = op.get_bind().execute(sa.text("SELECT id, spec FROM experiment")).all()
    specs = [(id_, _json(spec)["data"]) for id_, spec in rows]
    return [(id_, data, registered) for id_, data in specs if data.get("dataset") in KINDS and data.get("path")]


def _set(id_: str, name: str) -> None:
    op.get_bind().execute(sa.text("UPDATE experiment SET dataset = :name WHERE id = :id"), {"name": name, "id": id_})


def _json(value: object) -> dict[str, dict[str, str]]:
    return json.loads(value) if isinstance(value, str | bytes) else value  # type: ignore[return-value]
