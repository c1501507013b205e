"""Straight lines between all pairs of runs: their barriers, before and after the second is aligned with the first.

Alignment permutes hidden units, so weights come nearer and the function stays: that is checked here for every pair.
Batch-norm statistics are estimated anew at every point of every line, which is what REPAIR comes to for networks that
have them; only networks without get a repaired line of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.errors import StageError
from modescape.prices import Work
from modescape.records import Role
from modescape.registry import architectures
from modescape.science.barriers import BATCH_NORM_IMAGES
from modescape.science.seeds import stream_seed
from modescape.spec import ExperimentSpec
from modescape.spec_parts import keyed
from modescape.stages.stage import Context, Json, Task, planner, stage
from modescape.study import needed

if TYPE_CHECKING:
    import torch
    from torch import nn

SPLITS = ("train", "test")
SAME = 1e-5  # of the largest logit: by how much permuting may change one, which is rounding
SAME_TRACED = 1e-4  # of networks of any depth, whose symmetry has been checked in float64
CHECKED = 4  # images that a traced symmetry is checked on
REPAIR_IMAGES = 2000


def variants(spec: ExperimentSpec) -> list[str]:
    """The lines that are drawn: plain, aligned, and aligned with restored activity, for networks without batch norm
    whose layers are known to feed plain non-linearities: those that say how they are wired."""
    study = needed(spec.connectivity)
    if not study.align:
        return ["straight"]
    return ["straight", "aligned", *(["repaired"] if study.repair and _can_be_repaired(spec) else [])]


def _can_be_repaired(spec: ExperimentSpec) -> bool:
    return architectures[spec.network.architecture].wiring is not None and not _has_batch_norm(spec)


def _has_batch_norm(spec: ExperimentSpec) -> bool:
    return architectures[spec.network.architecture].has_batch_norm(spec.network.options)


@planner("connectivity", after="tunnel")
def plan(draft: Draft) -> None:
    study = draft.spec.connectivity
    if study is None:
        return
    images = min(study.images, draft.n.train) + min(study.images, draft.n.test)
    images += min(BATCH_NORM_IMAGES, draft.n.train) if _has_batch_norm(draft.spec) else 0
    lines = variants(draft.spec)
    each = len(lines) * study.points * images
    each += study.points * 4 * min(REPAIR_IMAGES, draft.n.train) if "repaired" in lines else 0
    for a, b in combinations(draft.runs, 2):
        needs = [(kind, f"{run}") for kind in ("train", "predict") for run in (a, b)]
        draft.add("connectivity", f"{a}-{b}", {"runs": [a, b]}, Work(predicted=each), needs=needs)
        draft.predictions += each
        draft.bytes += 16 * len(lines) * study.points * len(SPLITS)
    keys = draft.keys("connectivity")
    draft.add("connectivity-compare", "all", {}, Work(other=0.1), wants=[*draft.keys("predict"), *keys])


def _parts(task: Task) -> Json:
    part = keyed(task.spec, "data", "network", "connectivity")
    return {"data": part["data"], "network": part["network"], "study": part["connectivity"]}


@stage("connectivity", version=3, parts=_parts)
def connectivity(context: Context) -> None:
    """One pair: profiles of its lines [variant, split, (loss, error), point]; how near the weights are before and
    after; by how much permuting changed the function."""
    from modescape.science import alignment, weights
    from modescape.science.barriers import fractions, profile

    study = needed(context.spec.connectivity)
    network = context.network()
    kept = [context.need("train", f"{run}")["checkpoints"][-1]["weights"] for run in context.params["runs"]]
    a, b = (dict(context.artifacts.tensors(digest)) for digest in kept)
    thetas = {"straight": weights.from_tensors(network, b)}
    first = weights.from_tensors(network, a)
    about: Json = {"cosine": {"straight": _cosine(first, thetas["straight"])}}
    if study.align:
        weights.load_tensors(network, b)
        symmetry = alignment.symmetry_of(architectures[context.spec.network.architecture], network, _seen(context))
        names = [name for name, _ in network.named_parameters()]
        order = alignment.match(
            symmetry, {n: a[n] for n in names}, {n: b[n] for n in names},
            seed=stream_seed(study.seed, "alignment", 0),
        )  # fmt: skip
        moved = symmetry.permuted(b, order)
        about |= _same_function(context, network, b, moved)
        thetas["aligned"] = thetas["repaired"] = weights.from_tensors(network, moved)
        about["cosine"]["aligned"] = _cosine(first, thetas["aligned"])
        about["moved"] = float(np.mean(np.concatenate([o != np.arange(len(o)) for o in order.values()])))
        about["order"] = {group: [int(unit) for unit in units] for group, units in order.items()}
    t = fractions(study.points)
    images = {split: context.split(split).take(study.images) for split in SPLITS}
    lines = variants(context.spec)
    values = np.empty((len(lines), len(SPLITS), 2, len(t)))
    batch_norm = weights.has_batch_norm(network)
    for i, line in enumerate(lines):
        points = _line(context, network, first, thetas[line], t, repaired=line == "repaired")
        found = profile(
            network, points, images, context.splits.transform,
            statistics=context.splits.train if batch_norm else None, device=context.device,
            check=context.control.check, told=partial(_tell, context, i, len(lines)),
        )  # fmt: skip
        for j, split in enumerate(SPLITS):
            values[i, j] = [found[split].loss, found[split].error]
    context.output.extra = {
        **about,
        "lines": lines,
        "profile": context.keep(values, "profile"),
        "images": {split: len(images[split]) for split in SPLITS},
        "batch_norm_images": min(BATCH_NORM_IMAGES, len(context.splits.train)) if batch_norm else 0,
        "repair_images": min(REPAIR_IMAGES, len(context.splits.train)) if "repaired" in lines else 0,
    }


def _seen(context: Context) -> torch.Tensor:
    """A few test images as the network sees them, float32 [N, C, H, W]."""
    import torch

    return context.splits.transform(context.split("test").batch(torch.arange(CHECKED)).cpu())


def _tell(context: Context, line: int, lines: int, done: int) -> None:
    points = needed(context.spec.connectivity).points
    context.control.progress(line * points + done, lines * points)


def _line(
    context: Context, network: nn.Module, start: NDArray[np.float32], end: NDArray[np.float32], t: NDArray[np.float64],
    *, repaired: bool,
) -> Iterator[NDArray[np.float32]]:  # fmt: skip
    """Points of the straight line; repaired: with every hidden unit's activity that of the ends."""
    from modescape.science import alignment, weights
    from modescape.science.barriers import straight

    if not repaired:
        yield from straight(start, end, t)
        return
    images, transform = context.splits.train.take(REPAIR_IMAGES), context.splits.transform
    ends = []
    for theta in (start, end):
        weights.assign(network, theta)
        ends.append(alignment.activity(network, images, transform, device=context.device))
    for share, theta in zip(t, straight(start, end, t), strict=True):
        context.control.check()
        weights.assign(network, theta)
        if 0 < share < 1:
            alignment.repair(network, ends[0], ends[1], float(share), images, transform, device=context.device)
        yield weights.flatten(network)


def _same_function(context: Context, network: nn.Module, before: Json, after: Json) -> Json:
    """How far logits and labels differ between the two; raises StageError when it is more than rounding."""
    from modescape.science import weights

    found = []
    for tensors in (before, after):
        weights.load_tensors(network, tensors)
        found.append(context.logits(network, "test", limit=needed(context.spec.connectivity).images))
    largest = float(np.abs(found[0]).max())
    change = float(np.abs(found[1] - found[0]).max()) / largest
    limit = SAME if architectures[context.spec.network.architecture].wiring is not None else SAME_TRACED
    if change > limit:
        raise StageError(f"permuting hidden units changed logits by {change:.2g} of the largest, more than {limit:g}")
    return {"change": change, "changed_labels": float((found[0].argmax(-1) != found[1].argmax(-1)).mean())}


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    x, y = one.astype(np.float64), other.astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


@stage("connectivity-compare", version=2, gathers=True)
def connectivity_compare(context: Context) -> None:
    """Matrices over healthy runs: barriers in loss and error of every line, and cosines before and after alignment;
    NaN for a pair whose stage failed."""
    from modescape.science.barriers import barrier, fractions

    study = needed(context.spec.connectivity)
    optima = context.results().solutions(role=Role.OPTIMUM)
    t, lines, runs = fractions(study.points), variants(context.spec), len(optima)
    if runs < 2:
        context.output.extra = {"skipped": "fewer than two runs are healthy, and one has no pair"}
        return
    apart = np.where(np.eye(runs, dtype=bool), 0.0, np.nan)
    barriers = {(m, s, line): apart.copy() for m in ("loss", "error") for s in SPLITS for line in lines}
    cosines = {line: np.where(np.eye(runs, dtype=bool), 1.0, np.nan) for line in lines if line != "repaired"}
    for a, b in combinations(range(runs), 2):
        pair = f"{optima[a].run}-{optima[b].run}"
        about = context.wanted("connectivity", pair)
        if about is None:
            continue
        profiles = context.artifacts.array(about["profile"])
        for i, line in enumerate(lines):
            for j, split in enumerate(SPLITS):
                for k, metric in enumerate(("loss", "error")):
                    value = barrier(np.asarray(profiles[i, j, k]), t)
                    barriers[metric, split, line][[a, b], [b, a]] = value
                    context.add_group(
                        f"connectivity/{pair}", f"barrier/{metric}", value, about["images"][split], split, line=line
                    )
        for line, matrix in cosines.items():
            matrix[[a, b], [b, a]] = about["cosine"][line]
    for (metric, split, line), values in barriers.items():
        context.add_matrix(f"barrier-{metric}-{line}", split, values, optima, optima, points=study.points)
    for line, values in cosines.items():
        context.add_matrix(f"cosine-{line}", "", values, optima, optima, weights="all")
