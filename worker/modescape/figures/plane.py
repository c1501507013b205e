"""What does diversity cost? The diversity-accuracy plane with its theory (paper Fig 6, S6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.claims.telling import AtEqualAccuracy, equal_accuracy
from modescape.draft import sample_sets
from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.groups import (
    REFERENCE,
    after_runs,
    group_title,
    left_out,
    refuse_failed,
)
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.numbers import finite, lines, share_points, thin
from modescape.drawing.options import MethodOptions
from modescape.drawing.panels import Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, rate, thousands
from modescape.records import Group, Json, SampleSet, StageKind
from modescape.registry import method_title
from modescape.registry import methods as all_methods
from modescape.results import MatrixData, Results
from modescape.science import theory
from modescape.spec_parts import MethodSpec
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.claims.record import ClaimRecord


THEORY = "theory"
Distance = Literal["disagreement", "kl", "symmetric-kl", "js", "total-variation", "hellinger", "l2"]
_DISTANCES = {
    "disagreement": "disagreement",
    "kl": "KL divergence (nats)",
    "symmetric-kl": "symmetric KL divergence (nats)",
    "js": "Jensen–Shannon divergence (nats)",
    "total-variation": "total variation",
    "hellinger": "Hellinger distance",
    "l2": "L2 distance",
}


class PlaneOptions(MethodOptions):
    """What the plane shows."""

    ref: int | None = Field(None, ge=0, le=999, description="Reference run; empty means the first that has finished.")
    distance: Distance = Field("disagreement", description="How far a function is from the reference.")
    normalise: bool = Field(True, description="Divide by the error rate of the function.")
    limits: bool = Field(True, description="Draw both limits: independent predictions, and one function perturbed.")
    bounds: bool = Field(False, description="Draw what no pair of functions can leave, whatever its errors.")
    family: bool = Field(True, description="Draw the one-parameter family fitted to the samples.")
    e: float | None = Field(None, gt=0, le=10, description="Exponent e at which the family is drawn; empty: fitted.")
    around: Literal["reference", "own"] = Field(
        "reference",
        description="reference: samples around the reference run; own: all runs, each with its optimum.",
    )


@dataclass(frozen=True)
class Curve:
    """accuracy, height [T]: a line of the theory in the plotted plane."""

    name: str
    accuracy: Floats
    height: Floats


@dataclass(frozen=True, kw_only=True)
class Plane(FigureData):
    """One point a function.

    groups [S]: "independent", a method's name, or "baseline" for the reference itself. accuracy, distance and height
    (what is plotted: distance, over the error rate when normalised; NaN at accuracy 1) [S] float64. strength [S] as
    the method counts it and relative [S], over the optimum's norm; NaN where there is none. reference: run number;
    reference_accuracy: a*, the mean over runs when each has its own. fit: e and its interval, or None; claim: (d1), if
    it is judged, and on these images: those of the split judged.
    """

    options: PlaneOptions
    numbers: Ints
    runs: Ints
    groups: tuple[str, ...]
    indices: Ints
    strength: Floats
    relative: Floats
    accuracy: Floats
    distance: Floats
    height: Floats
    reference: int
    reference_accuracy: float
    classes: int
    fit: theory.Fit | None
    curves: tuple[Curve, ...]
    claim: ClaimRecord | None
    judged: str
    images: int

    columns = ("solution", "run", "method", "index", "strength", "relative", "accuracy", "distance", "diversity")

    def rows(self) -> list[tuple[Cell, ...]]:
        return lines(
            self.numbers, self.runs, self.groups, self.indices, self.strength, self.relative, self.accuracy,
            self.distance, self.height,
        )  # fmt: skip

    def where(self, group: str) -> Ints:
        return np.flatnonzero([name == group for name in self.groups])


@figure(
    "plane",
    order=46,
    title="Diversity-accuracy plane",
    question="What does diversity cost?",
    summary="Accuracy of every function against its distance from a reference run's optimum, over its error rate.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 6 and appendix D",
    paper="Fig 6",
    needs=("predict", "sample"),
    card=440,
    full=True,
)
def plane(results: Results, options: PlaneOptions) -> Plane:
    methods = options.methods_of(results)
    if options.split not in results.spec.evaluation.splits:
        raise FigureNotReady(f"no predictions on {options.split} images in this spec")
    optima = {points[-1].run: points[-1] for points in trajectories(results).values()}
    reference = min(optima, default=min(results.healthy, default=0)) if options.ref is None else options.ref
    if reference >= results.spec.ensemble.runs:
        raise FigureNotReady(f"there is no run {reference}; this experiment has {results.spec.ensemble.runs}")
    alone = "one run and no subspace methods: nothing to compare"
    if not methods and results.spec.ensemble.runs < 2:
        raise FigureNotReady(f"{alone} in this spec")
    refuse_failed(results, reference)
    if reference not in optima:
        raise FigureNotReady(f"run {reference} has made no predictions yet", waits_for=("train", "predict"))
    if not methods and len(optima) < 2:
        if len(optima) < len(results.healthy):
            raise FigureNotReady("one run has nothing to be compared with yet", waits_for=("train", "predict"))
        raise FigureNotReady(f"{alone}. {left_out(results)}", closed=True)
    near = _spread_samples(results, methods, None if options.around == "own" else reference)
    samples = [sample for sample in near if sample.run in optima]  # chains outlive the run they stand beside
    others = [optimum for run, optimum in optima.items() if run != reference or options.around == "own"]
    if options.method and Group.INDEPENDENT not in options.method:
        others = []
    bases = [optima[reference]] if options.around == "reference" else list(optima.values())
    shown: list[Solution] = [*others, *samples, *bases]
    groups = (*(Group.INDEPENDENT,) * len(others), *(_group(s) for s in samples), *(REFERENCE,) * len(bases))
    far = _Distances(results, options, list(optima.values()), shown)
    if options.around == "own":
        independent = [float(np.mean([far(o, s) for s in optima.values() if s is not o] or [np.nan])) for o in others]
        around = [far(optima[sample.run], sample) for sample in samples]
    else:
        independent = [far(optima[reference], other) for other in others]
        around = [far(optima[reference], sample) for sample in samples]
    distance = np.array([*independent, *around, *(0.0,) * len(bases)], dtype=np.float64)
    scores = results.scores("accuracy", options.split)
    accuracy = np.array([scores[solution.number] for solution in shown], dtype=np.float64)
    height = distance
    if options.normalise:
        height = np.divide(distance, 1 - accuracy, out=np.full_like(distance, np.nan), where=accuracy < 1)
        height[len(shown) - len(bases) :] = 0  # the base itself: no distance, whatever its error rate
    base_accuracy = float(accuracy[len(shown) - len(bases) :].mean())
    classes = len(results.class_names)
    mine = slice(len(others), len(others) + len(samples))
    fit = _fit(options, accuracy[mine], distance[mine], base_accuracy, classes)
    return Plane(
        options=options,
        numbers=np.array([solution.number for solution in shown]),
        runs=np.array([solution.run for solution in shown]),
        groups=groups,
        indices=np.array([solution.index for solution in shown]),
        strength=_floats([solution.strength for solution in shown]),
        relative=_floats([solution.relative for solution in shown]),
        accuracy=accuracy,
        distance=distance,
        height=height,
        reference=reference,
        reference_accuracy=base_accuracy,
        classes=classes,
        fit=fit,
        curves=_theory(options, base_accuracy, classes, fit),
        partial=_partial(results, methods, len(optima), len(samples), reference, options),
        missing="" if samples or not methods else "No samples around this run yet.",
        thinned=_thinned(groups, options.most_points),
        claim=results.claim("d1") if options.split == results.spec.evaluation.splits[0] else None,
        judged=results.spec.evaluation.splits[0],
        images=len(results.true_labels(options.split)),
        legend=_legend(options, groups, reference),
    )


def _group(sample: Solution) -> str:
    assert sample.method is not None
    return sample.method


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _spread_samples(results: Results, methods: Sequence[str], run: int | None) -> list[Solution]:
    """The wide samples, what methods give that decide themselves how many solutions a run has, and what was brought."""
    return [
        solution
        for name in methods
        for solution in results.solutions(run=run, method=name)
        if solution.sample_set == SampleSet.SPREAD or _wide(results, name) == SampleSet.TYPICAL
    ]


class _Distances:
    """Distance from an optimum to another solution; disagreement is also known before the compare stage."""

    def __init__(
        self, results: Results, options: PlaneOptions, optima: Sequence[Solution], shown: Sequence[Solution]
    ) -> None:
        matrix: MatrixData | None = results.matrix(options.distance, options.split)
        self._labels: dict[int, Ints] = {}
        self._values: Floats | None = None
        if matrix is not None:
            self._row = {number: i for i, number in enumerate(matrix.rows)}
            self._column = {number: i for i, number in enumerate(matrix.columns)}
            wanted = {solution.number for solution in (*optima, *shown)}
            if {o.number for o in optima} <= self._row.keys() and wanted <= self._column.keys():
                self._values = np.asarray(matrix.values, dtype=np.float64)
        if self._values is None:
            if options.distance != "disagreement":
                title = _DISTANCES[options.distance]
                raise FigureNotReady(f"the {title} is computed when all solutions are there", waits_for=("compare",))
            everyone = list({solution.number: solution for solution in (*optima, *shown)}.values())
            labels = results.labels_of(everyone, options.split)
            self._labels = {solution.number: row for solution, row in zip(everyone, labels, strict=True)}

    def __call__(self, optimum: Solution, other: Solution) -> float:
        if self._values is not None:
            return float(self._values[self._row[optimum.number], self._column[other.number]])
        return float((self._labels[optimum.number] != self._labels[other.number]).mean())


def _fit(options: PlaneOptions, accuracy: Floats, distance: Floats, base: float, classes: int) -> theory.Fit | None:
    if not options.family or options.distance != "disagreement" or options.e is not None:
        return None
    return theory.fit_exponent(accuracy, distance, base=base, classes=classes)


def _theory(options: PlaneOptions, base: float, classes: int, fit: theory.Fit | None) -> tuple[Curve, ...]:
    """Lines of the theory in the plotted plane, from chance to a* (science i.3); they speak of disagreement only."""
    if options.distance != "disagreement" or not 1 / classes < base < 1:
        return ()
    a = np.linspace(1 / classes, base, 161)

    def line(name: str, accuracy: Floats, d: Floats) -> Curve:
        return Curve(name, accuracy, d / (1 - accuracy) if options.normalise else d)

    lines = []
    if options.limits:
        lines.append(line("upper limit", a, theory.independent(a, base=base, classes=classes)))
        lines.append(line("lower limit", a, theory.perturbed(a, base=base, classes=classes)))
    if options.bounds:
        hard = theory.hard_bounds(a, base=base, classes=classes)
        lines += [line("highest possible", a, hard.highest), line("lowest possible", a, hard.lowest)]
    e = options.e if options.e is not None else fit.exponent if fit is not None else None
    if options.family and e is not None:
        drawn = theory.family_curve(e=e, base=base, classes=classes)
        lines.append(line("family", drawn.accuracy, drawn.disagreement))
    return tuple(lines)


def _partial(
    results: Results, methods: Sequence[str], runs: int, samples: int, reference: int, options: PlaneOptions
) -> str:
    if runs < len(results.healthy):
        return after_runs(runs, results)
    around = results.healthy if options.around == "own" else [reference]
    wide = {name: _wide(results, name) for name in methods}
    planned = sum(
        _planned(results, chosen)
        for chosen in results.spec.methods
        for run in around
        if chosen.method in methods
        and not results.skipped(StageKind.SAMPLE, f"{run}/{chosen.method}/{wide[chosen.method]}")
    )
    return f"after {samples} of {planned} samples" if samples < planned else ""


def _wide(results: Results, method: str) -> SampleSet:
    """The set of samples that the plane shows: wide ones, else those there are."""
    if results.spec.imported is not None:
        chosen = next((one for one in results.spec.methods if one.method == method), None)
        return SampleSet(sample_sets(results.spec, chosen)[0][0]) if chosen is not None else SampleSet.TYPICAL
    if method in all_methods and not all_methods[method].sampled:
        return SampleSet.TYPICAL
    return SampleSet.SPREAD


def _planned(results: Results, chosen: MethodSpec) -> int:
    """Points a run that a method gives the plane."""
    if results.spec.imported is not None:
        return sample_sets(results.spec, chosen)[0][1]
    if chosen.method not in all_methods or all_methods[chosen.method].sampled:
        return chosen.spread
    entry = all_methods[chosen.method]
    return entry.count(entry.options.model_validate(chosen.options))


def _thinned(groups: tuple[str, ...], most: int) -> str:
    counts = {group: groups.count(group) for group in dict.fromkeys(groups)}
    shown, total = sum(share_points(counts, most).values()), sum(counts.values())
    return f"{thousands(shown)} of {thousands(total)} points drawn, evenly." if shown < total else ""


def _legend(options: PlaneOptions, groups: tuple[str, ...], reference: int) -> tuple[Legend, ...]:
    own_each = options.around == "own"
    return (
        *(Legend.of(name, group_title(name), groups.count(name)) for name in _in_order(groups)),
        Legend(REFERENCE, "reference runs" if own_each else f"reference run {reference}", REFERENCE),
        *((Legend(THEORY, "limits", THEORY),) if options.distance == "disagreement" and options.limits else ()),
    )


def _in_order(groups: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(groups) if name != REFERENCE]


@plane.tell
def tell(data: Plane) -> Words:
    read = {one.method: one for one in equal_accuracy(data.claim)}
    runs = data.claim.parts.get("independent runs") if data.claim else None
    shown = [(group_title(name), data.groups.count(name)) for name in _in_order(data.groups)]
    summary = _summary(runs, list(read.values()), shown, data.judged)
    return Words(_caption(data), summary, _notes(data, read, runs))


def _whose(data: Plane) -> str:
    return "every run" if data.options.around == "own" else f"run {data.reference}"


def _notes(data: Plane, read: Mapping[str, AtEqualAccuracy], runs: float | None) -> Notes:
    options, fit, claim = data.options, data.fit, data.claim
    lines = []
    for name in _in_order(data.groups):
        value, interval = (
            ("–" if runs is None else percent(runs), "") if name == Group.INDEPENDENT else _read_off(read.get(name))
        )
        shown = str(data.groups.count(name))
        lines.append(Note.of(name, group_title(name), (shown, value, interval)))
    label = "references" if options.around == "own" else f"reference, {_whose(data)}"
    lines.append(Note(f"{label}: accuracy {percent(data.reference_accuracy)} %", ("1", "0.0", ""), REFERENCE))
    text = [
        "Changes: labels changed where samples cost one point of accuracy, over all runs, with 95 % interval (d1). "
        "A dash: it cannot be read there."
        if claim is not None
        else f"What samples change at equal accuracy is read on {data.judged} images."
        if options.split != data.judged
        else "What samples change at equal accuracy is read when all are compared."
    ]
    if options.e is not None:
        text.append(f"Family drawn at e = {rate(options.e, 2)}, not fitted.")
    elif fit is not None and fit.exponent is not None:
        value = f"e {fit.sign} {rate(fit.exponent, 2)}"
        lines.append(Note("family", (f"{fit.used}", value, _e_interval(fit)), THEORY))
        text.append(
            f"Family e lies at the {fit.border} end of the range that was searched: no member of the family fits, so "
            "there is no interval."
            if fit.border
            else "Family e with 95 % bootstrap over samples; those within two points of chance left out."
        )
    elif fit is not None:
        text.append(f"No family fitted: {fit.reason}.")
    return Notes(("", "shown", "changes, %", ""), tuple(lines), tuple(text))


def _e_interval(fit: theory.Fit) -> str:
    """ "(.20 to .30)"; an end at the border of what was searched is open; "" where there is none."""
    if fit.border or (fit.low is None and fit.high is None):
        return ""
    low, high = ("…" if end is None else rate(end, 2) for end in (fit.low, fit.high))
    return f"({low} to {high})"


def _caption(data: Plane) -> str:
    options, groups, fit, n = data.options, data.groups, data.fit, data.images
    runs = groups.count(Group.INDEPENDENT)
    samples = len(groups) - runs - groups.count(REFERENCE)
    distance = "disagreement with" if options.distance == "disagreement" else f"{_DISTANCES[options.distance]} from"
    over = ", over its own error rate" if options.normalise else ""
    target = "the optimum of its own run" if options.around == "own" else f"the optimum of {_whose(data)}"
    parts = [
        f"Each point is one function, placed by its {options.split} accuracy and by its {distance} {target}{over}."
    ]
    if options.around == "own" and runs:
        parts.append("A star is a run's mean over all other runs.")
    d, digits = 0.15, 3
    counted = [f"{k} {word}{'' if k == 1 else 's'}" for k, word in ((runs, "independent run"), (samples, "sample"))]
    parts.append(f"n = {' and '.join(counted)}; {thousands(n)} {options.split} images")
    if options.distance == "disagreement":
        error = rate(float(np.sqrt(d * (1 - d) / n)), digits)
        parts[-1] += f", so one standard error of a single disagreement of {rate(d, 2)} is {error}"
    parts[-1] += "."
    if options.distance == "disagreement" and options.limits:
        words = f"{data.classes} classes"
        parts.append(f"Grey, dashed: theory for independent and for perturbed predictions, {words}.")
    if options.distance == "disagreement" and options.bounds:
        parts.append("Dash-dotted: what no pair of functions can leave.")
    e = options.e if options.e is not None else fit.exponent if fit is not None else None
    if options.family and e is not None:
        how = "at" if options.e is not None else "fitted to the samples,"
        interval = f" {_e_interval(fit)}".rstrip() if fit is not None and options.e is None else ""
        parts.append(f"Dotted: the family {how} e {fit.sign if fit else '='} {rate(e, 2)}{interval}.")
    return " ".join(parts)


def _read_off(read: AtEqualAccuracy | None) -> tuple[str, str]:
    """What a method changes at equal accuracy in percent, and its interval."""
    if read is None:
        return "–", ""
    ends = "" if read.low is None or read.high is None else f"({percent(read.low)} to {percent(read.high)})"
    return percent(read.disagreement), ends


def _summary(
    runs: float | None, read: Sequence[AtEqualAccuracy], shown: Sequence[tuple[str, int]], split: str
) -> str:  # fmt: skip
    if runs is None or not read:
        return f"Shown: {', '.join(f'{title}, {count}' for title, count in shown)}."
    best = max(read, key=lambda one: one.disagreement)
    value, ends = _read_off(best)
    ends = ends.replace("(", "(95 % interval ").replace(")", " %)")
    return (
        f"Independent runs disagree on {percent(runs)} % of {split} labels; where they cost one point of accuracy, the "
        f"samples of {method_title(best.method)}, the farthest of the subspace methods, change {value} % "
        f"{ends}".rstrip()
        + "."
    )


@plane.lay
def lay(data: Plane) -> Layer:
    """Its points; lines of the theory go through each experiment's own reference, and are left to its own picture."""
    axes = Axes("plane", "accuracy, %", _y_title(data), y_from_zero=True)
    series = [
        Series(panel="plane", group=group, title=group_title(group), is_points=True, x=100 * data.accuracy[where],
               y=data.height[where], hover="accuracy %{x:.1f} %<br>diversity %{y:.3f}")
        for group in dict.fromkeys(data.groups) if group != REFERENCE and len(where := data.where(group))
    ]  # fmt: skip
    return Layer((axes,), tuple(series), f"{len(data.numbers)} functions, {data.images} images",
                 "One point a function, against the reference run of its own experiment.")  # fmt: skip


@plane.draw
def draw(data: Plane, theme: Theme) -> go.Figure:
    kind: style.Kind = "page" if data.is_large else "scatter"
    picture = Picture("plane", data, theme, kind=kind, drag="select")
    across, up = _window(data)
    panel = picture.panel(x={"range": across}, y={"range": up})
    counts = {group: data.groups.count(group) for group in dict.fromkeys(data.groups)}
    shares = share_points(counts, data.options.most_points)
    steps, ends = _strengths(data)
    picture.add(*(_theory_trace(curve, theme) for curve in data.curves))
    last = (Group.INDEPENDENT, REFERENCE)  # drawn on top of the samples
    for group in sorted(counts, key=lambda name: last.index(name) + 1 if name in last else 0):
        picture.add(_cloud(data, group, theme, shares[group], steps))
    picture.steps("Samples within", [f"{rate(end, 2)} of the optimum’s norm" for end in ends])
    picture.titles(panel, "accuracy, %", _y_title(data))
    picture.write(*_labels(data, theme, across, up, data.is_large))
    return picture.figure()


def _window(data: Plane) -> tuple[list[float], list[float]]:
    """Room for every point, and for the limits over the accuracies that are there."""
    seen = 100 * data.accuracy
    low, high = float(seen.min()), float(seen.max())
    air = max(0.06 * (high - low), 1.0)
    right = 0.15 * (high - low) if data.options.size == "page" else 1.2 * air  # room for the family's name
    across = [max(0.0, low - air), min(108.0, high + max(air, right))]
    tops = [finite(data.height)]
    for curve in data.curves:
        inside = (100 * curve.accuracy >= across[0]) & (100 * curve.accuracy <= across[1])
        tops.append(curve.height[inside & np.isfinite(curve.height)])
    top = float(np.concatenate(tops).max(initial=0.1))
    return across, [-0.04 * top, 1.06 * top]


def _y_title(data: Plane) -> str:
    target = "its run’s optimum" if data.options.around == "own" else "the reference"
    if data.options.distance == "disagreement":
        words = f"disagreement with {target}"
    else:
        words = f"{_DISTANCES[data.options.distance]} from {target}"
    return f"{words} ÷ error rate" if data.options.normalise else words


def _theory_trace(curve: Curve, theme: Theme) -> Trace:
    look = style.look(THEORY)
    dash = {"family": "dot", "highest possible": "dashdot", "lowest possible": "dashdot"}.get(curve.name, "dash")
    return scatter(
        "lines", 100 * curve.accuracy, curve.height, silent=True, name=curve.name, legendgroup=THEORY,
        line={"color": look.colour(theme), "width": 1.5, "dash": dash},
    )  # fmt: skip


_STRENGTHS = 24  # steps, with equally many samples in each


def _strengths(data: Plane) -> tuple[Ints, Floats]:
    """By how far from its optimum a sample lies in weights, over the optimum's norm, which is one measure for all
    methods: the step of each point [S], 0 of what is no sample; and the distance at which each step ends."""
    is_sample = np.array([group not in (Group.INDEPENDENT, REFERENCE) for group in data.groups], dtype=bool)
    far = np.where(is_sample, data.relative, np.nan)
    seen = finite(far)
    if len(np.unique(seen)) < 3:
        return np.zeros(len(far), np.int64), np.empty(0)
    ends = np.unique(np.quantile(seen, np.linspace(0, 1, min(_STRENGTHS, len(seen)) + 1)[1:]))
    # what has no weights has no distance, and is there from the first step on
    return np.where(np.isfinite(far), np.searchsorted(ends, far - 1e-12), 0), ends


def _cloud(data: Plane, group: str, theme: Theme, limit: int, steps: Ints) -> Trace:
    at = data.where(group)
    at = at[thin(len(at), limit)]
    marker = style.marker(style.look(group), theme)
    if data.options.color == "run" and group != REFERENCE:
        marker["color"] = [style.run_ink(int(run), theme) for run in data.runs[at]]
    return scatter(
        "markers", 100 * data.accuracy[at], data.height[at], hover=[_hover(data, int(i)) for i in at],
        customdata=data.numbers[at].astype(np.int32), name="reference" if group == REFERENCE else group_title(group),
        legendgroup=group, meta={"method": group, "at": steps[at].tolist()}, marker=marker, cliponaxis=False,
    )  # fmt: skip


def _hover(data: Plane, i: int) -> str:
    group, run = data.groups[i], int(data.runs[i])
    if group in (Group.INDEPENDENT, REFERENCE):
        head = f"<b>run {run}</b><br>{'reference' if group == REFERENCE else 'independent run'}"
    else:
        head = f"<b>{method_title(group)}, sample {int(data.indices[i]) + 1}</b><br>run {run}"
        head += _strength(data, i)
    lines = [head, f"accuracy  {percent(float(data.accuracy[i]))} %"]
    if data.options.normalise:
        lines.append(f"diversity  {rate(float(data.height[i]), 2)}")
    if data.options.distance == "disagreement":
        lines.append(f"disagreement  {percent(float(data.distance[i]))} %")
    else:
        lines.append(f"{_DISTANCES[data.options.distance]}  {rate(float(data.distance[i]))}")
    return "<br>".join(lines)


def _strength(data: Plane, i: int) -> str:
    group = data.groups[i]
    kind = all_methods[group].strength if group in all_methods else None
    if kind == "step" and np.isfinite(data.relative[i]):
        return f" · step {rate(float(data.relative[i]), 2)} of its norm"
    if kind is not None and np.isfinite(data.strength[i]):
        return f" · {kind} {rate(float(data.strength[i]), 2)}"
    return ""


def _labels(data: Plane, theme: Theme, across: list[float], up: list[float], large: bool) -> list[Json]:
    """Names of the lines where nothing lies: above the upper limit, under the lower one; and of the reference.

    Where accuracies are so alike that the lower limit runs along the floor, it has no room under it: its name stands
    over its left end, and the reference's on the other side of its mark.
    """
    labels: list[Json] = []

    def write(text: str, **place: Any) -> None:
        labels.append(style.label(text, theme, **place))

    lowest = [curve.height[100 * curve.accuracy >= across[0]] for curve in data.curves if curve.name == "lower limit"]
    along_floor = bool(lowest) and float(np.nanmax(lowest[0], initial=0.0)) < 0.25 * (up[1] - up[0])
    width = across[1] - across[0]
    texts = {
        "upper limit": "upper limit: independent predictions" if large else "independent predictions",
        "lower limit": "lower limit: one function, perturbed" if large else "one function, perturbed",
    }
    for curve in data.curves:
        x = 100 * curve.accuracy
        if curve.name in texts:
            upper = curve.name == "upper limit"
            wanted = across[0] + (0.62 if upper else 0.46) * width
            if not upper:  # not where it meets the reference, whose name stands there
                wanted = min(wanted, 0.4 * max(float(x[0]), across[0]) + 0.6 * float(x[-1]))
            at = int(np.abs(x - wanted).argmin())
            place: Json = {"xanchor": "right", "yanchor": "bottom" if upper else "top"}
            place |= {"yshift": 4 if upper else -4}
            if not upper and along_floor:
                at = int(np.flatnonzero(x >= across[0])[0])
                place = {"xanchor": "left", "xshift": 8, "yanchor": "bottom"}
            if data.options.bounds:
                place["bgcolor"] = style.token("card", theme)
            write(texts[curve.name], x=float(x[at]), y=float(curve.height[at]), **place)
        if large and curve.name == "family" and np.isfinite(curve.height).any():
            e = data.options.e if data.options.e is not None else data.fit.exponent if data.fit else None
            at = int(np.abs(curve.height - 0.28 * np.nanmax(curve.height)).argmin())
            sign = data.fit.sign if data.fit is not None else "="
            named = f"family<br><i>e</i> {sign} {rate(e, 2)}" if e is not None else "family"
            height = float(curve.height[at])
            write(named, x=float(x[at]), y=height, xanchor="left", xshift=16, yanchor="middle")
    if data.options.around == "reference":
        side, shift = ("left", 12) if along_floor else ("right", -12)
        named, at_x = f"reference, run {data.reference}", 100 * data.reference_accuracy
        write(named, x=at_x, y=0, xanchor=side, xshift=shift, yanchor="middle")
    stars = data.where(Group.INDEPENDENT)
    stars = stars[np.isfinite(data.height[stars])]
    if large and len(stars):
        middle, top = float(100 * data.accuracy[stars].mean()), float(data.height[stars].max())
        ground = style.token("card", theme)
        write("independent runs", strong=True, x=middle, y=top, yanchor="bottom", yshift=10, bgcolor=ground)
    return labels
