"""A low-loss path between two runs: what lies along it, along the straight line, and on the triangles it spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.science import tunnel as paths_between
from modescape.science.seeds import stream_seed
from modescape.spec import ExperimentSpec
from modescape.stages.stage import Context, Json, stage
from modescape.store import Lease
from modescape.studies import TunnelSpec

if TYPE_CHECKING:
    from modescape.science.tunnel import Knot, Theta

POINTS = 61  # along the path, and along the straight line, ends included
ANGLES, RADII, REACH = 16, 32, 1.2  # of a wedge; the longest radius over the longest point's
BENDS = 11  # points of a trained curve that triangles are stitched to
SPLITS = ("train", "test")
LINES = ("path", "straight")
QUANTITIES = ("loss", "accuracy", "agreement_a", "agreement_b")


def plan(draft: Draft) -> None:
    for i, study in enumerate(draft.spec.tunnels):
        needs = [("train", f"{run}") for run in study.runs]
        images = min(study.images, draft.n.train) + min(study.images, draft.n.test)
        predictions = len(LINES) * POINTS * images
        per_knot = 200 * study.batch_size  # a knot is usually done after a hundred steps or two
        trained = study.epochs * draft.n.train if study.method != "perpendicular" else study.knots * per_knot
        seconds = predictions / draft.predict_rate + trained / draft.train_rate
        draft.add("tunnel", f"{i}", {"tunnel": i}, seconds, needs=needs)
        draft.predictions += predictions
        draft.bytes += 4 * draft.parameters * (study.knots + 2)
        if study.triangles:
            wedges = (study.knots + 1) if study.method == "perpendicular" else BENDS - 1
            points = wedges * ANGLES * RADII * min(study.triangle_images, draft.n.test)
            draft.add(
                "triangles", f"{i}", {"tunnel": i}, points / draft.predict_rate, needs=[*needs, ("tunnel", f"{i}")]
            )
            draft.predictions += points


def _parts(lease: Lease) -> Json:
    part = ExperimentSpec.model_validate(lease.spec).model_dump(mode="json", include={"data", "network", "tunnels"})
    study = part["tunnels"][lease.params["tunnel"]]
    if lease.kind == "tunnel":
        del study["triangles"], study["triangle_images"]
    return {"data": part["data"], "network": part["network"], "study": study}


def _study(context: Context) -> TunnelSpec:
    return context.spec.tunnels[context.params["tunnel"]]


class _Between:
    """Two runs' optima with the network they are put into, and the images everything is evaluated on."""

    def __init__(self, context: Context) -> None:
        from modescape.science import weights

        self.context, self.study = context, _study(context)
        self.network = context.network()
        kept = [context.need("train", f"{run}")["checkpoints"][-1]["weights"] for run in self.study.runs]
        self.a, self.b = (weights.from_tensors(self.network, context.artifacts.tensors(digest)) for digest in kept)
        self.statistics = context.splits.train if weights.has_batch_norm(self.network) else None

    def labels(self, split: str, images: int) -> list[NDArray[np.int64]]:
        """What the two ends predict, [n] each."""
        from modescape.science.paths import profile

        chosen = {split: self.context.split(split).take(images)}
        found = profile(
            self.network, (self.a, self.b), chosen, self.context.splits.transform,
            statistics=self.statistics, device=self.context.device, check=self.context.control.check,
        )  # fmt: skip
        return list(found[split].labels)

    def loss(self, thetas: Sequence[Theta]) -> NDArray[np.float64]:
        """Training loss of weight vectors on the first images, nats, [n]."""
        from modescape.science.paths import profile

        train = self.context.splits.train.take(self.study.images)
        found = profile(
            self.network, thetas, {"train": train}, self.context.splits.transform,
            statistics=self.statistics, device=self.context.device, check=self.context.control.check,
        )  # fmt: skip
        return found["train"].loss


@stage("tunnel", parts=_parts)
def tunnel(context: Context) -> None:
    """Find the path (resumed after its last knot, or its bend's last epoch), then evaluate it and the straight line."""
    from modescape.science.paths import barrier, fractions, profile, straight

    study, between = _study(context), _Between(context)
    path, trained = _find(context, between)
    t = fractions(POINTS)
    images = {split: context.split(split).take(study.images) for split in SPLITS}
    values = np.empty((len(LINES), len(SPLITS), len(QUANTITIES), POINTS))
    for line, points in enumerate((path.at(t), straight(between.a, between.b, t))):
        found = profile(
            between.network, points, images, context.splits.transform, statistics=between.statistics,
            device=context.device, check=context.control.check, told=_teller(context, line * POINTS, 2 * POINTS),
        )  # fmt: skip
        for i, split in enumerate(SPLITS):
            seen = found[split]
            values[line, i] = [
                seen.loss, seen.accuracy, seen.agreement(seen.labels[0]), seen.agreement(seen.labels[-1])
            ]  # fmt: skip
            barriers = {"barrier/loss": barrier(seen.loss, t), "barrier/error": barrier(seen.error, t)}
            for metric, value in barriers.items():
                context.add_group(
                    f"tunnel/{context.params['tunnel']}", metric, value, len(images[split]), split,
                    line=LINES[line], runs=list(study.runs),
                )  # fmt: skip
    corners = path.knots if isinstance(path, paths_between.Polyline) else np.stack(list(path.at(fractions(BENDS))))
    context.output.extra = {
        "profile": context.keep(values, "profile"),
        "corners": context.keep(corners, "path"),
        "trained": trained,
        "images": {split: len(images[split]) for split in SPLITS},
    }


def _teller(context: Context, before: int, of: int) -> Callable[[int], None]:
    return lambda done: context.control.progress(before + done, of, {})


def _find(context: Context, between: _Between) -> tuple[paths_between.Polyline | paths_between.Curve, Json]:
    """The path, and what was trained for how long."""
    study = between.study
    settings = paths_between.Settings(
        epochs=study.epochs, learning_rate=study.learning_rate, batch_size=study.batch_size,
        seed=stream_seed(study.seed, "tunnel", 0),
    )  # fmt: skip
    slope = paths_between.Slope(
        between.network, context.splits.train, context.splits.transform, context.device, context.control.check
    )
    if study.method == "perpendicular":
        return _knots(context, between, slope, settings)
    partial = context.lease.partial
    resume = context.artifacts.tensors(partial["state"]) if partial.get("state") else None

    def save(steps: int, state: dict[str, NDArray[Any]]) -> None:
        info = context.artifacts.put_tensors(state, "resume", {})
        context.control.save_partial({"state": info.digest}, artifacts=[info], step=steps)
        context.control.progress(steps, slope.steps(settings), {})

    curve, steps, reached = paths_between.bend(
        slope, between.a, between.b, study.method, settings, resume=resume, save=save
    )  # fmt: skip
    return curve, {"steps": steps, "loss": reached, "knots": []}


def _knots(
    context: Context, between: _Between, slope: paths_between.Slope, settings: paths_between.Settings
) -> tuple[paths_between.Polyline, Json]:
    study, artifacts = between.study, context.artifacts
    rows: list[Json] = list(context.lease.partial.get("knots", []))
    done = [
        paths_between.Knot(row["t"], np.array(artifacts.array(row["weights"])), row["steps"], row["loss"])
        for row in rows
    ]

    def save(knots: Sequence[Knot]) -> None:
        knot = knots[-1]
        info = artifacts.put_array(knot.theta, "path")
        rows.append({"t": knot.t, "weights": info.digest, "steps": knot.steps, "loss": knot.loss})
        context.control.save_partial({"knots": rows}, artifacts=[info], step=len(rows))
        context.control.progress(len(rows), max(study.knots, len(rows)), {})

    path, _ = paths_between.perpendicular(
        slope, between.a, between.b, settings, knots=study.knots, loss=between.loss, done=done, save=save
    )
    told = [{name: row[name] for name in ("t", "steps", "loss")} for row in rows]
    return path, {"steps": sum(row["steps"] for row in rows), "loss": None, "knots": told}


@stage("triangles", parts=_parts)
def triangles(context: Context) -> None:
    """Accuracy, loss, and agreement with both ends on every wedge; resumed after the last finished one."""
    from modescape.science.paths import profile

    study, between = _study(context), _Between(context)
    test = context.splits.test.take(study.triangle_images)
    ends = between.labels("test", len(test))
    corners = context.artifacts.array(context.need("tunnel", context.lease.key)["corners"])
    wedges = paths_between.Wedges.of(list(corners))
    radii = np.linspace(0.0, REACH * float(wedges.radii.max()), RADII)
    count = len(wedges.spans)
    kept: list[str] = list(context.lease.partial.get("wedges", []))
    for w in range(len(kept), count):
        points = (wedges.point(w, angle, radius) for angle in wedges.angles(w, ANGLES) for radius in radii)
        found = profile(
            between.network, points, {"test": test}, context.splits.transform, statistics=between.statistics,
            device=context.device, check=context.control.check,
            told=_teller(context, w * ANGLES * RADII, count * ANGLES * RADII),
        )["test"]  # fmt: skip
        quantities = (found.loss, found.accuracy, found.agreement(ends[0]), found.agreement(ends[1]))
        kept.append(context.keep(np.stack(quantities).reshape(len(quantities), ANGLES, RADII), "surface"))
        context.control.save_partial({"wedges": kept}, artifacts=context.output.artifacts)
    values = np.stack([context.artifacts.array(digest) for digest in kept])
    context.output.extra = {
        "surface": context.keep(values, "surface"),
        "radii": radii.tolist(),
        "lengths": wedges.radii.tolist(),
        "spans": wedges.spans.tolist(),
        "offsets": wedges.offsets.tolist(),
        "images": len(test),
    }
