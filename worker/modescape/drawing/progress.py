"""How far a figure is: waiting, partial, ready, failed or not planned, in one place for every list and answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from modescape.drawing.figure import FigureData, figure_version
from modescape.drawing.reading import FigureNotReady
from modescape.records import Json, StageState
from modescape.registry import Figure
from modescape.results import Results
from modescape.tables import Stage

_DRAWN_ON_THE_WAY = ("train", "plane", "tunnel", "triangles")  # kinds whose figures show what they saved so far


@dataclass(frozen=True)
class Progress:
    """What the stages a figure needs say, without reading any result.

    needs: each kind with how many are done, failed and planned; version: changes with the figure's numbers; alive:
    kinds of which some stage has not ended; planned: all kinds there are; broke: something of it failed or was
    cancelled.
    """

    needs: tuple[Json, ...]
    version: str
    alive: frozenset[str]
    planned: frozenset[str]
    broke: bool


def progress(figure: Figure, stages: Sequence[Stage], results: Results) -> Progress:
    needs = []
    for kind in figure.needs:
        mine = [stage for stage in stages if stage.kind == kind]
        done = sum(stage.state == StageState.SUCCEEDED for stage in mine)
        failed = sum(stage.state in (StageState.FAILED, StageState.CANCELLED) for stage in mine)
        needs.append({"kind": kind, "done": done, "total": len(mine), "failed": failed})
    shown = [
        (
            stage.id,
            str(stage.state),
            stage.attempt,
            stage.finished_at,
            stage.step if stage.kind in _DRAWN_ON_THE_WAY else 0,
        )
        for stage in stages
        if stage.kind in figure.needs
    ]
    logged = results.store.logged.version(results.experiment.id) if "curves" in figure.needs else 0
    told = [figure_version(), figure.name, str(shown), *[logged] * bool(logged)]
    return Progress(
        tuple(needs),
        hashlib.sha256(orjson.dumps(told)).hexdigest()[:32],
        frozenset(stage.kind for stage in stages if not stage.state.has_ended),
        frozenset(stage.kind for stage in stages),
        bool(results.failed or results.failed_chains)
        or any(stage.state in (StageState.FAILED, StageState.CANCELLED) for stage in stages),
    )


def state(about: Progress, found: FigureData | FigureNotReady) -> str:
    """How far a figure is, by what it gives when it is asked: ready, partial, waiting, failed or not-planned.

    Every list and every answer says this word, so none calls ready what then is refused. `failed` is said only where
    something has failed: what an experiment cannot show because it was never brought or asked for is not planned.
    """
    if not isinstance(found, FigureNotReady):
        return "partial" if about.alive.intersection(need["kind"] for need in about.needs) else "ready"
    if not found.closed and about.alive.intersection(found.waits_for):
        return "waiting"
    if not found.closed and not about.planned.intersection(found.waits_for):
        return "not-planned"
    return "failed" if about.broke else "not-planned"  # what it waits for has ended
