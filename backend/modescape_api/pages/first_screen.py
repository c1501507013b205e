"""What one screen says of an experiment: what was asked, what is known, how sure, what failed, what comes next; and the
one picture that shows it.

    first = first_screen(here, row, spec, found, stages, causes, rows)
    first.asked                                # 'Are 5 runs different functions, and do samples of ... come as far?'
    first.plane                                # the diversity-accuracy plane in percent of its box; None before

The picture is drawn here, as SVG, so that it is seen with the page and without any script; the same numbers as the
plane's own figure, which is the large one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from cachetools import LRUCache, cached

from modescape import power
from modescape.claims import CLAIMS
from modescape.claims.claim import MIN_UNITS
from modescape.claims.telling import equal_accuracy
from modescape.drawing.figure import FigureData
from modescape.drawing.groups import REFERENCE
from modescape.drawing.numbers import spread, thin
from modescape.drawing.progress import progress
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import look
from modescape.drawing.ticks import even
from modescape.drawing.words import listed, percent, thousands
from modescape.figures.plane import Plane as PlaneData
from modescape.finding import Finding
from modescape.records import Group, Role, StageKind, StageState, Status
from modescape.registry import Look, figures, method_title, methods, studies
from modescape.results import Results
from modescape.science.confidence import Word
from modescape.spec import ExperimentSpec
from modescape.tables import Experiment, Stage
from modescape_api.http.site import Site
from modescape_api.pages import claims
from modescape_api.pages.display import counted, not_loaded
from modescape_api.pages.failures import Cause, Lost
from modescape_api.resources import catalogue
from modescape_api.resources import figures as figures_api

MARKS = 60  # of one group: more would only cover each other in so small a picture


@dataclass(frozen=True, kw_only=True)
class Step:
    """What can be done next. url: "" of what the page's own buttons do."""

    words: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Labels on which two functions of a group differ, in percent of the picture. n: of what the mean is."""

    label: str
    look: Look
    xs: list[float]
    ends: list[float] | None
    mean: str
    n: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    rows: list[Row]
    ticks: list[Tick]
    summary: str
    has_samples: bool


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Functions of one group, (x, y) of each in percent of the picture."""

    look: Look
    marks: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The plane in percent of its box, from the upper left. paths: of the theory, as SVG has them; caption: n, and what
    is left out of the picture."""

    clouds: list[Cloud]
    paths: list[tuple[str, str]]
    xs: list[Tick]
    ys: list[Tick]
    summary: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class FirstScreen:
    """known: sentences of what there is where nothing was compared; sure, failed: "" where nothing is to be said."""

    asked: str
    known: list[str] = field(default_factory=list)
    stands: str
    sure: str
    failed: str
    following: list[Step]
    plane: Plane | None
    strip: Strip | None

    @property
    def summary(self) -> str:
        """Of the picture, for who does not see it."""
        plane, strip = self.plane.summary if self.plane else "", f"{self.strip.summary}." if self.strip else ""
        return f"{plane} {strip}".strip()


def first_screen(
    here: Site,
    row: Experiment,
    spec: ExperimentSpec,
    found: Finding,
    stages: list[Stage],
    causes: Sequence[Cause],
    lost: Sequence[Lost],
    rows: Sequence[claims.Row],
    undecided: Sequence[claims.Open],
) -> FirstScreen:
    own = catalogue.own_spread(here, row) if row.finding else power.NOTHING
    results = here.laboratory.results(row.id)
    moves = row.status in (Status.QUEUED, Status.RUNNING)  # then curves come first
    return FirstScreen(
        asked=found.voice(question(spec)),
        known=[] if found.independent else list(known(here, row, results, stages)),
        stands=found.voice(_stands(row, stages)),
        sure=found.voice(_sure(rows)),
        failed=_failed(causes, lost),
        following=list(_following(row, spec, rows, undecided, causes, own)),
        plane=None if moves else plane_of(results, stages),
        strip=strip_of(results, spec, found) if row.finding and not moves else None,
    )


# -- in words ---------------------------------------------------------------------------------------------------------


def question(spec: ExperimentSpec) -> str:
    """What this experiment was made to find out, in one sentence."""
    runs, sets = spec.ensemble.runs, len(spec.methods)
    if runs == 1:
        asked = "What does one run alone say"
        return f"{asked}, and how far do samples around it go?" if sets else f"{asked}?"
    asked = f"Are {runs} runs different functions"
    if sets:
        title = _title(spec.methods[0].method)
        asked += f", and do samples of {title if sets == 1 else f'{sets} subspace methods'} come as far"
    more = [_asks(name) for name in studies if getattr(spec, name, None)]
    return " ".join([f"{asked}?", *filter(None, more)])


def _asks(study: str) -> str:
    """The question of a study: that of its first figure."""
    own = (one.question for one in figures.values() if set(one.needs) & set(studies[study].stages))
    return next(own, "")


def _title(method: str) -> str:
    title = method_title(method) if method in methods else not_loaded(method)
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def known(here: Site, row: Experiment, results: Results, stages: Sequence[Stage]) -> Iterator[str]:
    """What there is to say before anything was judged: how good the runs are that are there, and how far apart."""
    trained = [s for s in stages if s.kind == StageKind.TRAIN]
    done = [s for s in trained if s.state == StageState.SUCCEEDED]
    optima = here.store.results.solutions(row.id, role=Role.OPTIMUM, limit=1000).items
    scores = np.array([s.accuracy for s in optima if s.accuracy is not None], np.float64)
    if trained and len(done) < len(trained):
        yield results.voice(f"{len(done)} of {counted(len(trained), 'run')} {_are(len(done))} trained.")
    if len(scores) > 1:
        yield (
            f"{results.voice(counted(len(scores), 'run').capitalize())} predicted: accuracy {percent(scores.mean())} % "
            f"of {results.spec.evaluation.splits[0]} images (standard deviation {percent(spread(scores))}, "
            f"n = {len(scores)})."
        )
    elif len(scores) and row.runs != 1:
        yield results.voice(f"The one that has predicted is right on {percent(scores[0])} % of images.")
    if len(optima) > 1 and (summary := told(results, "similarity-runs", stages)):
        yield summary


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _stands(row: Experiment, stages: Sequence[Stage]) -> str:
    """How far it came, where it did not come to its end."""
    done, of = sum(s.state == StageState.SUCCEEDED for s in stages), len(stages)
    if row.status not in (Status.CANCELLED, Status.PAUSED, Status.FAILED) or done == of:
        return ""
    left = [s.kind for s in stages if s.state != StageState.SUCCEEDED]
    lacks = listed([f"{left.count(kind)} × {kind}" for kind in dict.fromkeys(left)])
    return f"{done} of {of} stages are done; not done: {lacks}."


def _sure(rows: Sequence[claims.Row]) -> str:
    """How sure the words are: at which level, with how many tests, from how much."""
    if not rows or rows[0].told.waits or all(row.told.bar.low is None for row in rows):
        return ""
    worded = [row for row in rows if row.told.word_at_look is not Word.CANNOT_TELL]
    images = max((row.told.record.N or 0 for row in rows), default=0)
    n, unit = max((row.told.record.n, row.told.record.unit) for row in rows)
    text = f"Intervals from {counted(n, unit)}" + (f" and {thousands(images)} images" if images else "")
    tested = rows[0].told.tested
    if tested > 1 and worded and rows[0].told.at_look.look == 1:
        stand, words = sum(row.told.survives for row in worded), "words stand" if len(worded) > 1 else "word stands"
        text += f"; {stand} of {len(worded)} {words} with all {tested} tests at once"
    resting = [row.told.record.id for row in worded if row.rests]
    if resting:
        text += f"; ({'), ('.join(resting)}) {'rest' if len(resting) > 1 else 'rests'} on single {unit}s"
    return f"{text}."


def _failed(causes: Sequence[Cause], lost: Sequence[Lost]) -> str:
    return "; ".join([*(cause.title for cause in causes), *(one.title for one in lost)])


def _following(
    row: Experiment,
    spec: ExperimentSpec,
    rows: Sequence[claims.Row],
    undecided: Sequence[claims.Open],
    causes: Sequence[Cause],
    own: power.Own,
) -> Iterator[Step]:
    """At most three, what helps most first."""
    clone = f"/launch?from={row.slug}"
    may_clone = row.provenance is None
    if row.status == Status.PAUSED:
        yield Step(words="Resume it: what is done is kept.")
    elif row.status == Status.CANCELLED:
        yield Step(words="Take it up again: it goes on from what is saved.")
    elif row.status == Status.FAILED and any(cause.retry for cause in causes):
        yield Step(words="Retry what failed: the rest is kept.", url="#failed")
    if slower := next((cause.slower for cause in causes if cause.slower), ""):
        yield Step(words="Clone it with a lower learning rate.", url=f"{clone}&with={slower}")
    if row.status != Status.SUCCEEDED:
        return
    open_ = [one.told.record.id for one in rows if one.told.record.word is Word.CANNOT_TELL]
    if may_clone and open_ and spec.weights is None:
        runs = max(MIN_UNITS, 2 * spec.ensemble.runs)
        here = f"{spec.ensemble.runs} {'are' if spec.ensemble.runs > 1 else 'is'} here"
        narrows = [
            f"({letter}) to about {power.half_width(CLAIMS[letter], own.spreads[letter].half_width(runs))}"
            if letter in own.spreads else f"({letter})" for letter in open_
        ]  # fmt: skip
        more = f"Launch {runs} runs, of which {here}: narrows {', '.join(narrows)}."
        yield Step(words=more, url=f"{clone}&with=runs:{runs}")
    if addable := next((one for one in undecided if one.add not in ("", "runs")), None):
        yield Step(words=f"Clone it for ({addable.letter}), which {addable.needs}.", url=f"{clone}&with={addable.add}")
    if row.runs > 1 and (spec.imported is None or spec.imported.images):
        yield Step(words="See on which images they differ.", url=f"/experiments/{row.slug}/examples")


# -- the picture ------------------------------------------------------------------------------------------------------


def _unchanged(results: Results, name: str, stages: Sequence[Stage]) -> tuple[str, str]:
    return results.experiment.id, progress(figures[name], stages, results).version


def _collected(results: Results, name: str) -> FigureData | None:
    """The numbers of a figure with nothing chosen; None where there are none."""
    found = figures_api.asked(results, figures[name], figures_api.options(figures[name], {}).of(results))
    return None if isinstance(found, FigureNotReady) else found


@cached(LRUCache(256), key=_unchanged, lock=Lock())
def told(results: Results, name: str, stages: Sequence[Stage]) -> str:
    """What a figure says in a sentence, asked once while nothing changes; "" where there is nothing to show."""
    data = _collected(results, name)
    return "" if data is None else figures[name].tell(data).summary


# What is kept is the small picture and not its numbers, of which there may be a million.
@cached(LRUCache(64), key=lambda results, stages: _unchanged(results, "plane", stages), lock=Lock())
def plane_of(results: Results, stages: Sequence[Stage]) -> Plane | None:
    """None before there are two functions to compare; asked once while nothing changes."""
    data = _collected(results, "plane")
    if data is None:
        return None
    assert isinstance(data, PlaneData)
    seen = np.isfinite(data.height)  # which a function without errors is not
    if seen.sum() < 2:
        return None
    base = data.reference_accuracy
    # What costs more accuracy than the reference has errors is far from every question here, and squeezes the rest.
    low = max(float(data.accuracy[seen].min()), base - max(0.1, 1.2 * (1 - base)))
    inside = seen & (data.accuracy >= low)
    far = float(data.accuracy[inside].max())
    air = max(0.06 * (far - low), 0.005)
    left, right = low - air, min(far + air, 1.01)
    tops = [data.height[inside], *(one.height[one.accuracy >= low] for one in data.curves)]
    top = 1.08 * max(0.1, *(float(np.nanmax(part)) for part in tops if len(part) and np.isfinite(part).any()))
    bottom = -0.06 * top

    def across(values: Floats) -> Floats:
        return np.round(100 * (values - left) / (right - left), 1)

    def down(values: Floats) -> Floats:
        return np.round(100 * (top - values) / (top - bottom), 1)

    clouds = []
    last = (Group.INDEPENDENT, REFERENCE)  # drawn on top of the samples
    for group in sorted(dict.fromkeys(data.groups), key=lambda name: last.index(name) + 1 if name in last else 0):
        mine = np.array([i for i in data.where(group) if inside[i]], dtype=np.int64)
        mine = mine[thin(len(mine), MARKS)]
        points = zip(across(data.accuracy[mine]).tolist(), down(data.height[mine]).tolist(), strict=True)
        clouds.append(Cloud(look=look(group), marks=list(points)))
    paths = [
        (one.name, _path(across(one.accuracy[on]), down(one.height[on])))
        for one in data.curves
        if (on := (one.accuracy >= left) & np.isfinite(one.height)).sum() > 1
    ]
    return Plane(
        clouds=clouds,
        paths=paths,
        xs=[Tick(x=float(across(np.array(v))), text=f"{100 * v:g}") for v in even(left, right, 5)],
        ys=[Tick(x=float(down(np.array(v))), text=f"{v:g}".replace("0.", ".", 1)) for v in even(0.0, top, 4)],
        summary=figures["plane"].tell(data).summary,
        caption=results.voice(_caption(data, int((seen & ~inside).sum()), low)),
    )


def _path(xs: Floats, ys: Floats) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in zip(xs, ys, strict=True))


def _caption(data: PlaneData, left_out: int, low: float) -> str:
    runs, images = data.groups.count(Group.INDEPENDENT), thousands(data.images)
    samples = len(data.groups) - runs - data.groups.count(REFERENCE)
    counts = [counted(runs, "run") * bool(runs), counted(samples, "sample") * bool(samples)]
    text = (
        f"n = {listed(list(filter(None, counts)))} beside run {data.reference} ({percent(data.reference_accuracy)} %)"
    )
    text += f", {images} {data.options.split} images."
    if left_out:
        text += f" {left_out} under {percent(low)} % are in the large one."
    return f"{text} {data.partial[:1].upper()}{data.partial[1:]}{'.' * bool(data.partial)}".rstrip()


def strip_of(results: Results, spec: ExperimentSpec, found: Finding) -> Strip | None:
    """Labels on which two functions differ: recent checkpoints of a run, every method at equal accuracy as claim (d1)
    reads it, with its interval, and every pair of independent runs."""
    optima = {solution.run: solution for solution in results.solutions(role=Role.OPTIMUM)}
    matrix = results.matrix("disagreement", spec.evaluation.splits[0])
    if len(optima) < 2 or matrix is None:
        return None
    places = [matrix.rows.index(o.number) for o in optima.values() if o.number in matrix.rows]
    between = matrix.values[np.ix_(places, places)][np.triu_indices(len(places), 1)]
    claim = found.claim("d1")
    units = {one.method: one.n for one in claim.methods} if claim else {}
    known: list[tuple[str, str, list[float], tuple[float, float] | None, str]] = []
    if (along := found.along) is not None:
        label = "recent checkpoints of one run"
        known.append((Group.TRAJECTORY, label, [along.disagreement], None, counted(along.runs, "run")))
    for one in sorted(equal_accuracy(claim), key=lambda m: m.disagreement):
        ends = None if one.low is None or one.high is None else (one.low, one.high)
        n = counted(units.get(one.method) or (claim.n if claim else 0), "run")
        known.append((one.method, method_title(one.method), [one.disagreement], ends, n))
    pairs = [float(v) for v in between]
    known.append((Group.INDEPENDENT, Group.INDEPENDENT.words, pairs, None, counted(len(pairs), "pair")))
    top = max(max([*values, *(ends or ())]) for _, _, values, ends, _ in known) or 1.0
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if top / s <= 5)
    high = step * (int(top / step - 1e-9) + 1)
    rows = [
        Row(
            label=found.voice(label),
            look=look(name),
            xs=[round(100 * v / high, 2) for v in sorted(values)[:: max(1, len(values) // 40)]],
            ends=ends and [round(100 * end / high, 2) for end in ends],
            mean=percent(sum(values) / len(values)),
            n=found.voice(n),
        )
        for name, label, values, ends, n in known
    ]
    ticks = [Tick(x=round(100 * i * step / high, 2), text=f"{100 * i * step:g}") for i in range(round(high / step) + 1)]
    has_samples = len(known) > 1 + (along is not None)
    of_samples = ", subspace samples at equal accuracy" if has_samples else ""
    summary = found.voice(f"Mean percent of labels on which two functions differ{of_samples}: ") + ", ".join(
        f"{row.label} {row.mean}" for row in rows
    )
    return Strip(rows=rows, ticks=ticks, summary=summary, has_samples=has_samples)
