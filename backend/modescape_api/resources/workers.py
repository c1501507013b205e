"""Who computes, and whether all is well: workers with what they do, /healthz, /readyz."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request, Response

from modescape.errors import NotFound
from modescape.records import Json
from modescape.tables import Worker, utcnow
from modescape_api.http import problems, replies
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import answer, answers

router = APIRouter(tags=["service"])

COLUMNS = (
    "name",
    "state",
    "device",
    "numerics",
    "queue",
    "speed",
    "doing",
    "readings",
    "tally",
    "pid",
    "started_at",
    "seen_at",
    "stopped_at",
)


def as_worker(here: Site, row: Worker) -> Json:
    """state: working, idle, silent (not heard of for two leases) or stopped; doing: the stage in words, or null."""
    found = replies.picked(row, *(name for name in COLUMNS if name not in ("state", "doing")))
    return {**found, "state": state(here, row), "doing": _doing(here, row)}


def state(here: Site, row: Worker) -> str:
    silent = utcnow() - row.seen_at > timedelta(seconds=2 * here.settings.lease_seconds)
    return "stopped" if row.stopped_at else "silent" if silent else "working" if row.stage_id else "idle"


def _doing(here: Site, row: Worker) -> Json | None:
    if row.stage_id is None or row.stopped_at is not None:
        return None
    try:
        stage = here.store.stages.get(row.stage_id)
        experiment = here.store.experiments.get(stage.experiment_id)
    except NotFound:  # purged in this moment
        return None
    return {
        "experiment": experiment.slug,
        "stage": stage.id,
        **replies.picked(stage, "kind", "key", "step", "steps", "progress"),
    }


@router.get(
    "/api/workers",
    summary="Workers and what they do",
    responses=answers("All that ever were here", "workers"),
)
def workers(request: Request, here: Here) -> Response:
    rows = [as_worker(here, row) for row in here.store.workers.all()]
    return replies.whole(request, rows, "Workers", columns=COLUMNS, name="workers")


@router.get(
    "/healthz",
    summary="Whether the process answers",
    responses=answers("It does", "healthz"),
)
async def healthz() -> Response:
    return replies.json({"status": "ok"}, headers={"cache-control": "no-store"})


@router.get(
    "/readyz",
    summary="Whether the database and the artifacts' folder or bucket can be read and written",
    responses={
        200: answer("They can", "readyz"),
        503: {"description": "One cannot, and which; Retry-After says when to ask again"},
    },
)
def readyz(here: Here) -> Response:
    checks = {
        "database": here.store.why_not_written() or "ok",
        "artifacts": here.artifacts.why_not_written() or "ok",
    }
    ready = all(value == "ok" for value in checks.values())
    headers = {"cache-control": "no-store", **({} if ready else problems.RETRY)}
    return replies.json(
        {"status": "ok" if ready else "not ready", **checks}, status=200 if ready else 503, headers=headers
    )
