"""Cuts through the loss landscape: scores on a grid, in blocks of rows that workers share, and at the exact solutions.

A cut is several stages, `plane name/block`: blocks 0, 1, ... each hold every n-th row of the grid, so that the picture
fills evenly and no block must know how far the grid reaches, which depends on the trained weights; `points` holds the
solutions themselves, the checkpoints of their runs and the samples of the first one with their own stored weights (what
is drawn of them on the plane is a projection), and the rays from the origin. All of them go on at the cell where a
killed attempt last saved. Cuts through chosen solutions of a finished experiment are planned by `asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import chain, groupby, repeat

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.errors import InvalidInput, StageError
from modescape.prices import Work
from modescape.records import PlannedStage, Role, SampleSet, StageKind
from modescape.registry import architectures
from modescape.science import data as datasets
from modescape.science import landscape
from modescape.science.barriers import BATCH_NORM_IMAGES
from modescape.science.predictions import Placed
from modescape.spec import ExperimentSpec
from modescape.spec_parts import keyed
from modescape.stages.around import Around
from modescape.stages.filling import fill
from modescape.stages.inputs import waited_for
from modescape.stages.stage import Context, Json, Runs, Task, planner, stage
from modescape.studies.landscape.study import PlaneSpec
from modescape.tables import Solution

Scores = Callable[[Sequence[int]], Iterator[landscape.Floats]]

POINTS = "points"
ROWS_A_BLOCK = 9  # 33 rows are four blocks, 65 eight: two workers end within a few rows of each other
CELL_SECONDS = 0.003  # placing weights and counting, whatever the network
MAX_CHECKPOINTS = 64  # of each run, evenly; lines with more marks than that are a smear
MAX_SAMPLES = 50  # of each method


@planner("landscape", after="instability")
def plan(draft: Draft) -> None:
    spec = draft.spec
    evaluated = {"test": draft.n.test, "validation": draft.n.validation}
    for i, chosen in enumerate(spec.planes):
        images = min(chosen.train_images, draft.n.train) + min(chosen.test_images, evaluated[chosen.split])
        cell = _cell(images, spec)
        runs = waited_for(draft, chosen.runs, named=chosen.named)
        trained = [(kind, f"{run}") for run in runs for kind in ("train", "predict")]
        drawn = [s for s in draft.stages if s.kind == StageKind.SAMPLE and s.params["sample_set"] == SampleSet.TYPICAL]
        near = [s for s in drawn if s.params["run"] in runs and chosen.kind != "line"]
        around = [s for s in near if s.params["run"] == chosen.runs[0]]
        shown = sum(min(MAX_SAMPLES, s.params["count"]) for s in around)
        shown += len(chosen.runs) * min(MAX_CHECKPOINTS, len(draft.epochs)) if chosen.kind != "line" else 0
        for block in _blocks(f"{i}", chosen, {"runs": list(chosen.runs), **({"named": True} if chosen.named else {})}):
            own = block.params["block"] == POINTS
            cells = block.cells + shown * own
            wants = trained + [(s.kind, s.key) for s in near if own]
            draft.add("plane", block.key, block.params, cell * cells, wants=wants)
            draft.predictions += cells * images
            draft.bytes += 8 * cells * 2 * (2 + landscape.POINTS[chosen.kind])


@dataclass(frozen=True)
class Asked:
    """A cut through chosen solutions of an experiment that is there: its name, its stages, and the figure it is in."""

    name: str
    figure: str
    stages: tuple[PlannedStage, ...]


def asked(
    spec: ExperimentSpec,
    cut: PlaneSpec,
    solutions: Sequence[Solution],
    makers: Mapping[int, tuple[str, str]],
) -> Asked:
    """Stages of a cut through any solutions; cut.runs is not used.

    makers: solution number -> (kind, key) of the stage that made it.
    Raises InvalidInput when they are too few, too many, twice the same, or not weights.
    """
    wanted = landscape.POINTS[cut.kind]
    numbers = [solution.number for solution in solutions]
    if len(numbers) != wanted or len(set(numbers)) != wanted:
        raise InvalidInput(
            f"{len(set(numbers))} different ones given", field="solutions",
            allowed=f"{wanted} different number{'s' * (wanted > 1)} for a{'n' * (cut.kind == 'affine')} {cut.kind} cut",
        )  # fmt: skip
    for solution in solutions:
        if not _has_weights(solution):
            raise InvalidInput(
                f"{solution.number} is run {solution.run}'s optimum under a dropout mask, not a point of weight space",
                field="solutions", allowed="checkpoints, optima, and samples of weights",
            )  # fmt: skip
    name = "-".join((cut.kind, *(f"{number}" for number in numbers), f"{cut.resolution}"))
    name += f"-{cut.seed}" if cut.kind == "random" else ""
    name += "-validation" if cut.split == "validation" else ""
    runs = sorted({solution.run for solution in solutions})
    needs = [(kind, f"{run}") for run in runs for kind in ("train", "predict")]
    needs = list(dict.fromkeys([*needs, *(makers[number] for number in numbers)]))
    cell = _cell(cut.train_images + cut.test_images, spec)
    planned = [
        PlannedStage("plane", block.key, tuple(needs), block.params, work=cell * block.cells)
        for block in _blocks(name, cut, {"solutions": numbers})
    ]
    return Asked(name, "cuts" if cut.kind == "line" else "landscape", tuple(planned))


def _has_weights(solution: Solution) -> bool:
    """A sample that did not move is its optimum under a dropout mask: a function, but no point of weight space."""
    return solution.role != Role.SAMPLE or solution.relative != 0.0


@dataclass(frozen=True)
class _Block:
    """One stage of a cut, and how many weight vectors it evaluates as far as that is known."""

    key: str
    params: Json
    cells: int


def _blocks(name: str, cut: PlaneSpec, through: Json) -> list[_Block]:
    """The stages of one cut with their cells; rows beyond the solutions' own range cannot be counted yet."""
    chosen = keyed(cut, "kind", "resolution", "split", "train_images", "test_images", "seed")
    n = cut.resolution
    rows = 1 if cut.kind == "line" else n
    blocks = -(-rows // ROWS_A_BLOCK)
    params = {"name": name, **chosen, **through, "blocks": blocks}
    found = [
        _Block(f"{name}/{block}", {**params, "block": block}, n * len(range(block, rows, blocks)))
        for block in range(blocks)
    ]
    rays = n * landscape.POINTS[cut.kind] if cut.kind == "radial" else 0
    return [*found, _Block(f"{name}/{POINTS}", {**params, "block": POINTS}, rays + landscape.POINTS[cut.kind])]


def _cell(images: int, spec: ExperimentSpec) -> Work:
    normed = architectures[spec.network.architecture].has_batch_norm(spec.network.options)
    extra = BATCH_NORM_IMAGES if normed else 0
    return Work(predicted=images + extra, other=CELL_SECONDS)


def _parts(task: Task) -> Json:
    """A grid is decided by the runs' stages it needs; points and chosen solutions are named by number, so that only
    equal layouts give equal bytes."""
    spec = keyed(task.spec)
    if task.params["block"] == POINTS or "solutions" in task.params:
        return {"spec": spec, "params": task.params}
    params = {key: value for key, value in task.params.items() if key != "name"}
    return {"data": spec["data"], "network": spec["network"], "params": params}


def _through(task: Task) -> Runs:
    """The runs of a cut that the spec asks for; none for one through solutions chosen later."""
    return Runs(tuple(task.params.get("runs", ())), task.params.get("named", False))


@stage("plane", parts=_parts, through=_through, uses=("train", "predict", "sample"))
def plane(context: Context) -> None:
    """The rows of one block of a cut, or the solutions on and around it."""
    cut = _Cut(context)
    if context.params["block"] == POINTS:
        _points(context, cut)
    else:
        _grid(context, cut)


class _Cut:
    """The plane of a stage: its geometry, the images it is evaluated on, and what the anchors say of them."""

    def __init__(self, context: Context) -> None:
        from modescape.science import weights

        self.context, self.weights = context, weights
        self.network = context.network()
        self.results = context.results()
        self.around = cache(lambda run: Around(context, run))
        params = context.params
        layout = [(piece.name, piece.shape) for piece in weights.names_and_shapes(self.network)]
        self.anchors = self._anchors()
        self.thetas = [self.theta(anchor) for anchor in self.anchors]
        self.plane = landscape.through(params["kind"], self.thetas, layout=layout, seed=params["seed"])
        self.axes = self.plane.axes(params["resolution"])
        limits = {"train": params["train_images"], params["split"]: params["test_images"]}
        self.images: dict[str, datasets.Split] = {name: context.split(name).take(n) for name, n in limits.items()}
        said = list(self.logits(self.anchors))
        self.views = [
            landscape.View(images, images.numpy_labels(), np.stack([one[name].argmax(-1) for one in said]))
            for name, images in self.images.items()
        ]

    def _anchors(self) -> list[Solution]:
        results, params = self.results, self.context.params
        if "runs" in params:
            return [results.solutions(run=run, role=Role.OPTIMUM)[0] for run in self.context.through]
        known = {solution.number: solution for solution in results.solutions()}
        return [known[number] for number in params["solutions"]]

    def theta(self, solution: Solution) -> NDArray[np.float32]:
        """Weights [P] of a solution: stored ones, or made again."""
        if solution.weights is not None:
            tensors = self.context.artifacts.tensors(solution.weights)
            theta: NDArray[np.float32] = self.weights.from_tensors(self.network, tensors)
            return theta
        draw = self.around(solution.run).remade(solution)
        if draw.mask is not None:
            raise StageError(f"solution {solution.number} is the optimum's weights under a dropout mask")
        return draw.theta

    def logits(self, solutions: Iterable[Solution]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """[N, K] by split of each solution as it is; those kept are used again."""

        def lacks(solution: Solution) -> list[str]:
            return [split for split in self.images if split not in solution.predictions]

        for splits, alike in groupby(solutions, lacks):
            images = {split: self.images[split] for split in splits}
            groups = self.context.logits_of(map(self._placed, alike), images)
            for solution, found in chain.from_iterable(groups) if splits else zip(alike, repeat({}), strict=False):
                kept = (split for split in self.images if split not in found)
                yield found | {split: self.results.logits(solution, split)[: len(self.images[split])] for split in kept}

    def _placed(self, solution: Solution) -> Placed[Solution]:
        """With its own weights and batch-norm statistics."""
        if solution.weights is None:
            return next(self.around(solution.run).placed([solution]))
        self.weights.load_tensors(self.network, self.context.artifacts.tensors(solution.weights))
        return Placed(solution, self.network)

    @cached_property
    def gauge(self) -> landscape.Gauge:
        splits = self.context.splits
        moved = splits.train.take(BATCH_NORM_IMAGES) if self.weights.has_batch_norm(self.network) else None
        return landscape.Gauge(
            self.network,
            splits.transform,
            statistics=moved,
            device=self.context.device,
            check=self.context.control.check,
        )

    def at(self, thetas: Iterable[NDArray[np.float32]]) -> Iterator[landscape.Floats]:
        """Scores [S, 2 + A] of any weights."""
        return self.gauge.each(thetas, self.views)

    def own(self, solutions: Iterable[Solution]) -> Iterator[landscape.Floats]:
        """Scores [S, 2 + A] of solutions as they are."""
        for found in self.logits(solutions):
            scored = zip(self.images, self.views, strict=True)
            yield np.stack([landscape.score(found[name], view.truth, view.anchors) for name, view in scored])

    @property
    def about(self) -> Json:
        """What a picture needs to know besides the scores; runs: those it goes through, where others were asked for."""
        runs = list(self.context.through)
        return {
            "x": self.axes.x.tolist(),
            "y": self.axes.y.tolist(),
            "unit": self.plane.unit,
            "anchors": self.plane.anchors.tolist(),
            "views": [{"split": name, "images": len(images)} for name, images in self.images.items()],
            **({"runs": runs} if runs and runs != self.context.params["runs"] else {}),
        }


def _grid(context: Context, cut: _Cut) -> None:
    params, axes = context.params, cut.axes
    rows = list(range(params["block"], len(axes.y), params["blocks"]))
    about = {**cut.about, "rows": rows}

    def cells(numbers: Iterable[int]) -> Iterator[landscape.Floats]:
        places = (divmod(i, len(axes.x)) for i in numbers)
        return cut.at(cut.plane.at(axes.x[column], axes.y[rows[row]]) for row, column in places)

    context.output.extra = _filled(context, cut, len(rows) * len(axes.x), cells, about)


def _points(context: Context, cut: _Cut) -> None:
    shown, rays = _shown(context, cut), []
    if cut.plane.kind == "radial":
        rays = [(theta, radius) for theta in cut.thetas for radius in landscape.radii(context.params["resolution"])]
    points = [
        {
            "number": solution.number,
            "run": solution.run,
            "role": solution.role,
            "method": solution.method,
            "index": solution.index,
            "epoch": solution.epoch,
            **asdict(cut.plane.place(cut.theta(solution))),
        }
        for solution in shown
    ]

    def each(numbers: Sequence[int]) -> Iterator[landscape.Floats]:
        yield from cut.own(shown[i] for i in numbers if i < len(shown))
        left = (rays[i - len(shown)] for i in numbers if i >= len(shown))
        yield from cut.at((radius * theta.astype(np.float64)).astype(np.float32) for theta, radius in left)

    context.output.extra = _filled(context, cut, len(shown) + len(rays), each, {**cut.about, "points": points})


def _shown(context: Context, cut: _Cut) -> list[Solution]:
    """The anchors; checkpoints of their runs, and typical samples of the first one's, which lie off the plane."""
    found = list(cut.anchors)
    if cut.plane.kind == "line":
        return found
    results = cut.results
    for run in dict.fromkeys(anchor.run for anchor in cut.anchors):
        path = [s for s in results.solutions(run=run) if s.role in (Role.CHECKPOINT, Role.OPTIMUM)]
        places = np.linspace(0, len(path) - 1, min(len(path), MAX_CHECKPOINTS))
        found += [path[i] for i in sorted({round(i) for i in places})]
    first = cut.anchors[0].run
    drawn = [need.params for need in context.needs if need.kind == StageKind.SAMPLE and need.params["run"] == first]
    for method in dict.fromkeys(params["method"] for params in drawn):
        samples = results.solutions(run=first, method=method, sample_set=SampleSet.TYPICAL)
        found += [sample for sample in samples[:MAX_SAMPLES] if _has_weights(sample)]
    return list({solution.number: solution for solution in found}.values())


def _filled(context: Context, cut: _Cut, count: int, scores: Scores, about: Json) -> Json:
    """`about` with the scores of 0 .. count - 1, float64 [count, S, 2 + A]."""
    values = np.full((count, len(cut.views), 2 + len(cut.anchors)), np.nan)
    fill(
        context, values, values, lambda places: scores([i for (i,) in places]), name="scores", kind="landscape",
        about=about,
    )  # fmt: skip
    return {**about, "scores": context.keep(values, "landscape"), "done": count}
