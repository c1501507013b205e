"""Each run says its seeds and its arithmetic; each experiment how many runs were promised, and who had them before.

Seeds follow from the spec and are filled in for runs that have none. The arithmetic of a finished training is what its
worker said of itself, where that worker has not been started again since; its precision was always kept.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-28
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from modescape.errors import InvalidInput
from modescape.spec import parse

revision: str = "0005"
down_revision: str | None = "0004"

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
EXPERIMENT = sa.table(
    "experiment", sa.column("id"), sa.column("slug"), sa.column("name"), sa.column("digest"), sa.column("runs"),
    sa.column("created_at"), sa.column("spec", DOCUMENT), sa.column("recipe"), sa.column("planned_runs"),
    sa.column("earlier", DOCUMENT),
)  # fmt: skip
RUN = sa.table(
    "run", sa.column("experiment_id"), sa.column("number"), sa.column("seeds", DOCUMENT),
    sa.column("arithmetic", DOCUMENT),
)  # fmt: skip
STAGE = sa.table(
    "stage", sa.column("id"), sa.column("experiment_id"), sa.column("kind"), sa.column("state"), sa.column("worker"),
    sa.column("claimed_at"), sa.column("params", DOCUMENT), sa.column("result", DOCUMENT),
)  # fmt: skip
WORKER = sa.table("worker", sa.column("name"), sa.column("numerics"), sa.column("started_at"))


def upgrade() -> None:
    op.add_column("run", sa.Column("arithmetic", DOCUMENT, nullable=False, server_default="{}"))
    op.add_column("experiment", sa.Column("recipe", sa.String(64), nullable=False, server_default=""))
    op.add_column("experiment", sa.Column("planned_runs", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("experiment", sa.Column("earlier", DOCUMENT, nullable=False, server_default="[]"))
    op.create_index("ix_experiment_recipe", "experiment", ["recipe"])
    connection = op.get_bind()
    _tell_looks(connection)
    _tell_arithmetic(connection)


def downgrade() -> None:
    op.drop_index("ix_experiment_recipe", "experiment")
    for column in ("earlier", "planned_runs", "recipe"):
        op.drop_column("experiment", column)
    op.drop_column("run", "arithmetic")


def _tell_looks(connection: sa.Connection) -> None:
    before: dict[str, list[dict[str, Any]]] = {}
    rows = connection.execute(
        sa.select(
            EXPERIMENT.c.id, EXPERIMENT.c.slug, EXPERIMENT.c.name, EXPERIMENT.c.digest, EXPERIMENT.c.runs,
            EXPERIMENT.c.spec,
        ).order_by(EXPERIMENT.c.created_at, EXPERIMENT.c.id)
    ).all()  # fmt: skip
    for row in rows:
        recipe = _recipe(row.spec)
        earlier = before.setdefault(recipe, [])
        connection.execute(
            sa.update(EXPERIMENT)
            .where(EXPERIMENT.c.id == row.id)
            .values(recipe=recipe, planned_runs=(earlier[0] if earlier else row._mapping)["runs"], earlier=earlier)
        )
        before[recipe] = [*earlier, {name: row._mapping[name] for name in ("id", "slug", "name", "digest", "runs")}]
        ensemble, of_it = row.spec["ensemble"], RUN.c.experiment_id == row.id
        for run in connection.execute(sa.select(RUN.c.number, RUN.c.seeds).where(of_it)).all():
            if not run.seeds:
                seeds = _seeds(ensemble["seed"], run.number, ensemble["vary"])
                connection.execute(sa.update(RUN).where(of_it, RUN.c.number == run.number).values(seeds=seeds))


def _tell_arithmetic(connection: sa.Connection) -> None:
    workers = {row.name: row for row in connection.execute(sa.select(*WORKER.c)).all()}
    finished = sa.select(*STAGE.c).where(STAGE.c.kind == "train", STAGE.c.state == "succeeded")
    for stage in connection.execute(finished).all():
        number, runs = stage.params["run"], stage.result.get("runs") or {}
        used = runs.get(str(number), {}).get("arithmetic") or _used(stage, workers.get(stage.worker))
        left = {**runs, str(number): {"arithmetic": used}}
        connection.execute(sa.update(STAGE).where(STAGE.c.id == stage.id).values(result={**stage.result, "runs": left}))
        connection.execute(
            sa.update(RUN)
            .where(RUN.c.experiment_id == stage.experiment_id, RUN.c.number == number)
            .values(arithmetic=used)
        )


def _used(stage: sa.Row[Any], worker: sa.Row[Any] | None) -> dict[str, str]:
    precision = (stage.result.get("extra") or {}).get("precision")
    used = {"precision": precision} if precision else {}
    if worker is not None and stage.claimed_at is not None and str(worker.started_at) <= str(stage.claimed_at):
        # device/hardware/torch version/precision/threads; the hardware's name may hold a slash
        device, *hardware, torch, _, _ = worker.numerics.split("/")
        used |= {"device": device, "hardware": "/".join(hardware), "torch": torch.removeprefix("torch ")}
    return used


def _recipe(spec: dict[str, Any]) -> str:
    """What the code says, because it is the code that will look for it; of a spec that it does not know any more (a
    plug-in that is gone), what the code said at this revision."""
    try:
        return parse(spec).recipe()
    except InvalidInput:
        pass
    parts = {name: spec[name] for name in ("data", "network", "training")} | {"seed": spec["ensemble"]["seed"]}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _seeds(root: int, run: int, vary: str) -> dict[str, int]:
    """As `science.seeds.streams` was at this revision."""
    weights = run if vary in ("both", "weights") else 0
    batches = run if vary in ("both", "batches") else 0
    numbers = {"weights": weights, "batches": batches, "noise": batches, "augmentation": batches, "sampling": run}
    found = {}
    for stream, number in numbers.items():
        text = "|".join(("modescape/1", str(root), stream, str(number)))
        found[stream] = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") >> 3
    return found
