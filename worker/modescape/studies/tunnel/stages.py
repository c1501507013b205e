"""A low-loss path between two runs: what lies along it, along the straight line, and on the triangles it spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.imported.tensor_names import Keys
from modescape.prices import Work
from modescape.science import low_loss_paths
from modescape.science.predictions import accuracy, average, nll, scores
from modescape.science.seeds import stream_seed
from modescape.spec_parts import keyed
from modescape.stages.filling import fill
from modescape.stages.given import GIVEN
from modescape.stages.given_weights import place_file
from modescape.stages.inputs import waited_for
from modescape.stages.stage import Context, Json, Runs, Task, planner, stage
from modescape.studies.tunnel.study import TunnelSpec

if TYPE_CHECKING:
    from modescape.science.barriers import Profile
    from modescape.science.data import Split
    from modescape.science.low_loss_paths import Curve, Knot, Polyline, Theta
    from modescape.science.predictions import Logits

Floats = NDArray[np.float64]
Trained = tuple[NDArray[np.float32], Json]  # points of a path, and what was trained for how long

POINTS = 61  # along the path, and along the straight line, ends included
ANGLES, RADII, REACH = 16, 32, 1.2  # of a wedge; the longest radius over the longest point's
BENDS = 11  # points of a trained curve that triangles are stitched to
SPLITS = ("train", "test")
LINES = ("path", "straight")
QUANTITIES = ("loss", "accuracy", "agreement_a", "agreement_b")


@planner("tunnel", after="landscape")
def plan(draft: Draft) -> None:
    for i, study in enumerate(draft.spec.tunnels):
        wants = [
            (kind, f"{run}")
            for run in waited_for(draft, study.runs, named=study.named)
            for kind in ("train", "predict")
        ]
        images = min(study.images, draft.n.train) + min(study.images, draft.n.test)
        predictions = len(LINES) * POINTS * images
        per_knot = 200 * study.batch_size  # a knot is usually done after a hundred steps or two
        trained = study.epochs * draft.n.train if study.method != "perpendicular" else study.knots * per_knot
        predictions += study.averaged * draft.n.test
        work = Work(trained=0 if study.bend else trained, predicted=predictions)
        given = {GIVEN: {"bend": study.bend}} if study.bend else {}
        draft.add("tunnel", f"{i}", {"tunnel": i, **given}, work, wants=wants)
        draft.predictions += predictions
        draft.bytes += 4 * draft.parameters * (study.knots + 2)
        if study.triangles:
            wedges = (study.knots + 1) if study.method == "perpendicular" else BENDS - 1
            points = wedges * ANGLES * RADII * min(study.triangle_images, draft.n.test)
            needs = [("tunnel", f"{i}")]
            draft.add("triangles", f"{i}", {"tunnel": i}, Work(predicted=points), needs=needs, wants=wants)
            draft.predictions += points


def _parts(task: Task) -> Json:
    part = keyed(task.spec, "data", "network", "tunnels")
    study = part["tunnels"][task.params["tunnel"]]
    if task.kind == "tunnel":
        del study["triangles"], study["triangle_images"]
    weights = task.spec.weights
    keys = {"keys": weights.keys} if weights is not None and "bend" in study else {}
    return {"data": part["data"], "network": part["network"], "study": study, **keys}


def _through(task: Task) -> Runs:
    study = task.spec.tunnels[task.params["tunnel"]]
    return Runs(study.runs, study.named)


def _study(context: Context) -> TunnelSpec:
    return context.spec.tunnels[context.params["tunnel"]]


class _Between:
    """Two runs' optima with the network they are put into."""

    def __init__(self, context: Context) -> None:
        from modescape.science import weights

        self.context, self.study = context, _study(context)
        self.network = context.network()
        self.runs = list(context.through)
        kept = [context.need("train", f"{run}")["checkpoints"][-1]["weights"] for run in self.runs]
        self.a, self.b = (weights.from_tensors(self.network, context.artifacts.tensors(digest)) for digest in kept)
        self.statistics = context.splits.train if weights.has_batch_norm(self.network) else None

    def profile(self, thetas: Sequence[Theta], images: Mapping[str, Split]) -> dict[str, Profile]:
        """What weight vectors predict, by split."""
        from modescape.science.barriers import profile

        return profile(
            self.network, thetas, images, self.context.splits.transform, statistics=self.statistics,
            device=self.context.device, check=self.context.control.check,
        )  # fmt: skip

    def loss(self, thetas: Sequence[Theta]) -> Floats:
        """Training loss of weight vectors on the first images, nats, [n]."""
        return self.profile(thetas, {"train": self.context.splits.train.take(self.study.images)})["train"].loss

    def logits(self, thetas: Iterable[Theta], images: Mapping[str, Split]) -> Iterator[dict[str, Logits]]:
        """Of weight vectors, by split, with batch-norm statistics estimated anew."""
        from modescape.science.barriers import logits_along

        return logits_along(
            self.network, thetas, images, self.context.splits.transform, statistics=self.statistics,
            device=self.context.device, check=self.context.control.check,
        )  # fmt: skip

    def scorer(self, images: Mapping[str, Split]) -> Callable[[Iterable[Theta]], Iterator[Floats]]:
        """What gives any weights their scores [split, quantity]; what the two ends predict is worked out once."""
        ends = {split: seen.labels for split, seen in self.profile((self.a, self.b), images).items()}
        truth = {split: seen.numpy_labels() for split, seen in images.items()}

        def scores(thetas: Iterable[Theta]) -> Iterator[Floats]:
            for found in self.logits(thetas, images):
                yield np.array([
                    [nll(logits, truth[split]), accuracy(logits, truth[split]),
                     *(accuracy(logits, labels) for labels in ends[split])]
                    for split, logits in found.items()
                ])  # fmt: skip

        return scores


# version 2: before, a tunnel that was interrupted while it inserted knots could end with others
@stage("tunnel", version=3, parts=_parts, through=_through, uses=("train",))
def tunnel(context: Context) -> None:
    """Find the path (resumed after its last knot, or its bend's last epoch), then evaluate it and the straight line."""
    from modescape.science.barriers import barrier, fractions, straight

    between = _Between(context)
    found = context.lease.stage.partial if "path" in context.lease.stage.partial else _found(context, between)
    path = _path(between.study, np.array(context.artifacts.array(found["path"])))
    images = {split: context.split(split).take(between.study.images) for split in SPLITS}
    about = {"trained": found["trained"], "images": {split: len(images[split]) for split in SPLITS}}
    about |= _stand_ins(between)
    t, scores = fractions(POINTS), between.scorer(images)
    values = np.full((len(LINES), len(SPLITS), len(QUANTITIES), POINTS), np.nan)

    def point(k: int, line: int) -> Theta:
        at = t[k : k + 1]
        return next(path.at(at) if line == 0 else straight(between.a, between.b, at))

    view = np.moveaxis(values, -1, 0)  # both lines point by point, so that they can be compared as they grow
    fill(
        context,
        values,
        view,
        lambda places: scores(point(*place) for place in places),
        name="profile",
        kind="profile",
        about={**found, **about},
        before=_steps(found["trained"]),
    )
    for line, name in enumerate(LINES):
        for i, split in enumerate(SPLITS):
            loss, accuracy = values[line, i, :2]
            for metric, rise in (("barrier/loss", barrier(loss, t)), ("barrier/error", barrier(1.0 - accuracy, t))):
                context.add_group(
                    f"tunnel/{context.params['tunnel']}", metric, rise, len(images[split]), split, line=name,
                    runs=between.runs,
                )  # fmt: skip
    if between.study.averaged:
        _average(context, between, path)
    corners = path.knots if isinstance(path, low_loss_paths.Polyline) else np.stack(list(path.at(fractions(BENDS))))
    context.output.extra = {
        "profile": context.keep(values, "profile"), "corners": context.keep(corners, "path"), **about,
    }  # fmt: skip


def _average(context: Context, between: _Between, path: Polyline | Curve) -> None:
    """Scores of the mean probability of points along the path, ends included, on all test images."""
    count, labels = between.study.averaged, context.splits.test.numpy_labels()
    logits = between.logits(path.at(np.linspace(0.0, 1.0, count)), {"test": context.splits.test})
    for metric, value in scores(average(found["test"] for found in logits), labels).items():
        subject = f"tunnel/{context.params['tunnel']}/averaged"
        context.add_group(subject, metric, value, len(labels), "test", points=count, runs=between.runs)


def _stand_ins(between: _Between) -> Json:
    """The runs it goes between, where they are not those that were asked for."""
    return {} if between.runs == list(between.study.runs) else {"runs": between.runs}


def _path(study: TunnelSpec, points: NDArray[np.float32]) -> Polyline | Curve:
    """The path through its knots [K + 2, P], or with its start, bend and end [3, P]."""
    if study.method == "perpendicular":
        return low_loss_paths.Polyline(points)
    start, bend, end = points
    return low_loss_paths.Curve(start, bend, end, study.method)


def _steps(trained: Json) -> int:
    """What a finished training counts as in the progress of its stage: its knots, or the steps of its bend."""
    return len(trained["knots"]) or int(trained["steps"])


def _found(context: Context, between: _Between) -> Json:
    """The points that make the path, and what was trained for how long."""
    study = between.study
    settings = low_loss_paths.Settings(
        epochs=study.epochs, learning_rate=study.learning_rate, batch_size=study.batch_size,
        seed=stream_seed(study.seed, "tunnel", 0),
    )  # fmt: skip
    slope = low_loss_paths.Slope(
        between.network, context.splits.train, context.splits.transform, context.device, context.control.check
    )
    if study.bend is not None:
        points, trained = _given_bend(context, between)
    else:
        points, trained = (_knots if study.method == "perpendicular" else _bend)(context, between, slope, settings)
    info = context.artifacts.put_array(points, "path")
    found: Json = {"path": info.digest, "trained": trained}
    context.control.save_partial(found, artifacts=[info], step=_steps(trained))
    return found


def _given_bend(context: Context, between: _Between) -> Trained:
    """The curve through a bend that was trained elsewhere. Raises InvalidInput where it is not of this network."""
    from modescape.science import weights

    given = context.spec.weights
    keys = Keys(given.keys) if given is not None else Keys.BY_NAME
    place_file(between.network, context.artifacts.path(context.params[GIVEN]["bend"]), keys)
    points = np.stack([between.a, weights.flatten(between.network), between.b])
    return points, {"steps": 0, "loss": None, "knots": []}


def _bend(
    context: Context, between: _Between, slope: low_loss_paths.Slope, settings: low_loss_paths.Settings
) -> Trained:
    partial, total = context.lease.stage.partial, slope.steps(settings)
    resume = context.artifacts.tensors(partial["state"]) if partial.get("state") else None

    def save(steps: int, state: dict[str, NDArray[Any]]) -> None:
        info = context.artifacts.put_tensors(state, "resume", {})
        context.control.save_partial({"state": info.digest}, artifacts=[info], step=steps)
        context.control.progress(steps, total + len(LINES) * POINTS)

    kind = between.study.method
    assert kind != "perpendicular"
    curve, steps, reached = low_loss_paths.bend(
        slope, between.a, between.b, kind, settings, resume=resume, save=save
    )  # fmt: skip
    return np.stack([curve.start, curve.bend, curve.end]), {"steps": steps, "loss": reached, "knots": []}


def _knots(
    context: Context, between: _Between, slope: low_loss_paths.Slope, settings: low_loss_paths.Settings
) -> Trained:
    study, artifacts = between.study, context.artifacts
    rows: list[Json] = list(context.lease.stage.partial.get("knots", []))
    done = [
        low_loss_paths.Knot(row["t"], np.array(artifacts.array(row["weights"])), row["steps"], row["loss"])
        for row in rows
    ]

    def save(knots: Sequence[Knot]) -> None:
        knot, step = knots[-1], len(knots)
        info = artifacts.put_array(knot.theta, "path")
        rows[step - 1 :] = [{"t": knot.t, "weights": info.digest, "steps": knot.steps, "loss": knot.loss}]
        context.control.save_partial({"knots": rows}, artifacts=[info], step=step)
        context.control.progress(step, max(study.knots, step) + len(LINES) * POINTS)

    path, knots = low_loss_paths.perpendicular(
        slope, between.a, between.b, settings, knots=study.knots, loss=between.loss, done=done, save=save
    )
    told = [{"t": knot.t, "steps": knot.steps, "loss": knot.loss} for knot in knots]
    return path.knots, {"steps": sum(knot.steps for knot in knots), "loss": None, "knots": told}


@stage("triangles", parts=_parts, through=_through, uses=("train", "tunnel"))
def triangles(context: Context) -> None:
    """Loss, accuracy, and agreement with both ends on every wedge."""
    between = _Between(context)
    test = context.splits.test.take(between.study.triangle_images)
    corners = context.artifacts.array(context.need("tunnel", context.lease.stage.key)["corners"])
    wedges = low_loss_paths.Wedges.of(list(corners))
    radii = np.linspace(0.0, REACH * float(wedges.radii.max()), RADII)
    about = {
        "radii": radii.tolist(),
        "lengths": wedges.radii.tolist(),
        "spans": wedges.spans.tolist(),
        "offsets": wedges.offsets.tolist(),
        "images": len(test),
        **_stand_ins(between),
    }
    angles = [wedges.angles(w, ANGLES) for w in range(len(wedges.spans))]
    values = np.full((len(angles), len(QUANTITIES), ANGLES, RADII), np.nan)
    scores = between.scorer({"test": test})

    def point(w: int, i: int, j: int) -> Theta:
        return wedges.point(w, angles[w][i], radii[j])

    view = np.moveaxis(values, 1, -1)[..., None, :]  # [wedge, angle, radius, split, quantity]
    fill(context, values, view, lambda places: scores(point(*place) for place in places), name="surface", about=about)
    context.output.extra = {"surface": context.keep(values, "surface"), **about}
