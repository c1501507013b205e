"""Cuts through the loss landscape, as far as they are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modescape.records import Json, StageState
from modescape.results import Results
from modescape.tables import Stage


@dataclass(frozen=True)
class PlaneData:
    """One cut through the landscape, as far as it is computed.

    name: "0", "1", ... of the spec's, or that of one asked for later; params: of its stages; x [X], y [Y]: nodes;
    anchors: (x, y) of the solutions it goes through; views: split and images of each set of scores; scores
    [Y, X, S, 2 + A]: loss, accuracy, agreement with each anchor, NaN where not computed yet; points: solutions with
    their place and distance, and own [points, S, 2 + A]; rays [A, R, S, 2 + A] from the origin; done and cells count
    nodes of the grid.
    """

    name: str
    params: Json
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    unit: float
    anchors: list[list[float]]
    views: list[Json]
    scores: NDArray[np.float64]
    points: list[Json]
    own: NDArray[np.float64]
    rays: NDArray[np.float64]
    done: int
    cells: int


def planned_cuts(results: Results) -> dict[str, Json]:
    """Name -> parameters of every cut through the landscape that is planned, computed or not; its runs are the
    healthy ones it goes through."""
    found: dict[str, Json] = {}
    for stage in results.stages_of("plane"):
        about = stage.result.get("extra") or stage.partial
        runs = {"runs": about["runs"]} if "runs" in about else {}
        name = stage.params["name"]
        found[name] = {**found.get(name, stage.params), **runs}
    return found


def computed(results: Results) -> list[PlaneData]:
    """Cuts through the landscape of which anything is computed, their blocks put together."""
    named: dict[str, list[Stage]] = {}
    for stage in results.stages_of("plane"):
        named.setdefault(stage.params["name"], []).append(stage)
    found = [_plane(results, name, stages) for name, stages in named.items()]
    return [plane for plane in found if plane is not None]


def _plane(results: Results, name: str, stages: list[Stage]) -> PlaneData | None:
    kept = [(stage, stage.result.get("extra") or stage.partial) for stage in stages]
    blocks = [(stage, about) for stage, about in kept if about.get("scores")]
    if not blocks:
        return None
    stage, about = blocks[0]
    x, y = np.array(about["x"]), np.array(about["y"])
    shape = (len(about["views"]), 2 + len(about["anchors"]))
    scores = np.full((len(y), len(x), *shape), np.nan)
    own, rays = np.empty((0, *shape)), np.empty((0, 0, *shape))
    points: list[Json] = []
    done = 0
    for one, kind in blocks:
        values = np.asarray(results.array(kind["scores"]), dtype=np.float64)
        if "rows" in kind:
            scores[kind["rows"]] = values.reshape(len(kind["rows"]), len(x), *shape)
            done += kind["done"]
        elif one.state == StageState.SUCCEEDED:
            points, own = kind["points"], values[: len(kind["points"])]
            rest = values[len(points) :]
            rays = rest.reshape(len(about["anchors"]), -1, *shape) if len(rest) else rays
    params = {**stage.params, **({"runs": about["runs"]} if "runs" in about else {})}
    return PlaneData(
        name, params, x, y, about["unit"], about["anchors"], about["views"], scores, points, own, rays,
        done, len(x) * len(y),
    )  # fmt: skip
