"""Is a new cycle of one SG-MCMC chain as good as a new network? (paper Fig S5)

Functions of different cycles of one chain against functions of different chains, equally far trained, and against
separately trained runs (science h.3); beside them the learning rate that made the cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import finite, lines, share_points, spread, thin
from modescape.drawing.options import SplitOptions, shown_panels
from modescape.drawing.panels import Picture, Trace, parted, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, rate, thousands
from modescape.methods.sgmcmc import CyclicalOptions
from modescape.records import Group
from modescape.registry import methods
from modescape.results import Results
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.claims.record import ClaimRecord


CYCLES, CHAINS, RUNS = "cycles", "chains", "runs"
_TITLES = {CYCLES: "cycles of one chain", CHAINS: "different chains", RUNS: "separate runs"}
_GOLDEN = (5**0.5 - 1) / 2


class CycleOptions(SplitOptions):
    """How far apart two functions are."""

    quantity: Literal["diversity", "disagreement"] = Field(
        "diversity", description="diversity: disagreement over the error rate; disagreement: share of labels."
    )
    panel: Literal["both", "diversity", "schedule"] = shown_panels("both", "Both panels")


@dataclass(frozen=True)
class _End:
    """The function at the end of a cycle, or of a separate run (cycle -1)."""

    run: int
    cycle: int
    number: int
    labels: Ints
    accuracy: float


def _numbered(cycles: Ints) -> list[int | None]:
    """None for a separate run, which has no cycles."""
    return [int(cycle) if cycle >= 0 else None for cycle in cycles]


@dataclass(frozen=True, kw_only=True)
class Cycles(FigureData):
    """One row a pair of functions.

    kinds [P]: what the two are of. runs, cycles, numbers [P, 2]: run (which is also the chain's number), cycle (-1 for
    separate runs) and solution of both; accuracy [P, 2]; disagreement [P] and diversity [P], its mean over both error
    rates (NaN where one is zero). schedule: the chain's settings.
    ends, separate: the functions compared; chains: that are done, of runs_in_all; healthy: runs; claim: (h), if judged.
    """

    options: CycleOptions
    method: str
    schedule: CyclicalOptions
    kinds: tuple[str, ...]
    runs: Ints
    cycles: Ints
    numbers: Ints
    accuracy: Floats
    disagreement: Floats
    diversity: Floats
    ends: tuple[_End, ...]
    separate: tuple[_End, ...]
    images: int
    chains: int
    failed_chains: int
    runs_in_all: int
    healthy: int
    claim: ClaimRecord | None

    columns = (
        "between", "run", "cycle", "solution", "other_run", "other_cycle", "other_solution", "accuracy",
        "other_accuracy", "disagreement", "diversity",
    )  # fmt: skip

    def rows(self) -> list[tuple[Cell, ...]]:
        sides = (
            column for i in (0, 1) for column in (self.runs[:, i], _numbered(self.cycles[:, i]), self.numbers[:, i])
        )
        return lines(self.kinds, *sides, *self.accuracy.T, self.disagreement, self.diversity)

    @property
    def distance(self) -> Floats:
        return self.diversity if self.options.quantity == "diversity" else self.disagreement

    def where(self, kind: str) -> Ints:
        return np.flatnonzero([name == kind for name in self.kinds])


@figure(
    "cycles",
    order=82,
    title="Cycles of SG-MCMC",
    question="Is a new cycle as good as a new network?",
    summary="Diversity between the cycles of one SG-MCMC chain, between chains, and between separately trained runs.",
    source="Fort, Hu, Lakshminarayanan 2019, supplementary section on cyclical SG-MCMC; Zhang et al. 2020",
    paper="Fig S5",
    needs=("chain", "sample", "compare"),
    card=300,
    page=480,
)
def cycles(results: Results, options: CycleOptions) -> Cycles:
    known = [m for m in results.spec.methods if m.method in methods]
    chosen = [m for m in known if issubclass(methods[m.method].options, CyclicalOptions)]
    if not chosen:
        raise FigureNotReady("no SG-MCMC chains in this spec; the preset s5-short has some")
    if options.split not in results.spec.evaluation.splits:
        raise FigureNotReady(f"no predictions on {options.split} images in this spec")
    entry = methods[chosen[0].method]
    schedule = entry.options.model_validate(chosen[0].options)
    assert isinstance(schedule, CyclicalOptions)
    ends = _ends(results, options.split, entry.name, schedule)
    lost = results.failed_chains.get(entry.name, {})
    planned = results.spec.ensemble.runs - len(lost)
    if not planned:
        raise FigureNotReady(f"every chain has failed: {next(iter(lost.values()))}", closed=True)
    optima = [points[-1] for points in trajectories(results).values()]
    separate = _described(results, options.split, [(optimum, -1) for optimum in optima])
    pairs = [(CYCLES, a, b) for chain in ends.values() for i, a in enumerate(chain) for b in chain[i + 1 :]]
    everyone = [end for chain in ends.values() for end in chain]
    pairs += [(CHAINS, a, b) for a in everyone for b in everyone if a.run < b.run and a.cycle != b.cycle]
    if pairs:
        pairs += [(RUNS, a, b) for i, a in enumerate(separate) for b in separate[i + 1 :]]
    else:
        if len(ends) < planned:
            raise FigureNotReady("no chain has been through all its cycles yet", waits_for=("chain", "sample"))
        raise FigureNotReady("chains of one cycle have no cycles to compare; ask for two or more")
    kinds = tuple(kind for kind, _, _ in pairs)
    accuracy = np.array([(a.accuracy, b.accuracy) for _, a, b in pairs])
    disagreement = np.array([float((a.labels != b.labels).mean()) for _, a, b in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):
        diversity = np.where(accuracy.max(1) < 1, (disagreement[:, None] / (1 - accuracy)).mean(1), np.nan)
    done, counts = len(ends), Counter(kinds)
    shown = sum(share_points(counts).values())
    return Cycles(
        options=options,
        method=entry.name,
        schedule=schedule,
        kinds=kinds,
        runs=np.array([(a.run, b.run) for _, a, b in pairs]),
        cycles=np.array([(a.cycle, b.cycle) for _, a, b in pairs]),
        numbers=np.array([(a.number, b.number) for _, a, b in pairs]),
        accuracy=accuracy,
        disagreement=disagreement,
        diversity=diversity,
        ends=tuple(everyone),
        separate=tuple(separate),
        images=len(results.true_labels(options.split)),
        chains=done,
        failed_chains=len(lost),
        runs_in_all=results.spec.ensemble.runs,
        healthy=len(results.healthy),
        claim=results.claim("h"),
        legend=tuple(Legend(kind, _TITLES[kind], _look(kind, entry.name).key, count) for kind, count in counts.items()),
        partial=f"after {done} of {planned} chains" if done < planned else "",
        thinned=f"{thousands(shown)} of {thousands(len(pairs))} pairs drawn, evenly." if shown < len(pairs) else "",
    )


def _ends(results: Results, split: str, method: str, schedule: CyclicalOptions) -> dict[int, list[_End]]:
    """The last sample of every cycle, of each chain that has all its samples."""
    ends = {}
    for run in range(results.spec.ensemble.runs):
        samples = {sample.index: sample for sample in results.solutions(run=run, method=method)}
        if len(samples) == schedule.samples:
            last = [(samples[index], cycle) for cycle, index in enumerate(schedule.last_of_cycles)]
            ends[run] = _described(results, split, last)
    return ends


def _described(results: Results, split: str, found: Sequence[tuple[Solution, int]]) -> list[_End]:
    if not found:
        return []
    labels, truth = results.labels_of([solution for solution, _ in found], split), results.true_labels(split)
    return [
        _End(solution.run, cycle, solution.number, row, float((row == truth).mean()))
        for (solution, cycle), row in zip(found, labels, strict=True)
    ]


def _look(kind: str, method: str) -> style.Look:
    return style.look({CHAINS: "baseline", RUNS: Group.INDEPENDENT}[kind]) if kind != CYCLES else style.look(method)


@cycles.tell
def tell(data: Cycles) -> Words:
    by_kind = {kind: data.distance[data.where(kind)] for kind in dict.fromkeys(data.kinds)}
    return Words(_caption(data), _summary(by_kind, data.options, data.chains), _notes(data, by_kind))


def _caption(data: Cycles) -> str:
    options, schedule, chains, runs = data.options, data.schedule, data.chains, len(data.separate)
    quantity = "their diversity (disagreement over the error rate, mean of both)" if (
        options.quantity == "diversity"
    ) else "the share of labels on which they disagree"  # fmt: skip
    parts = [
        f"Each mark is a pair of functions and {quantity}; bars are mean ± 1 σ over pairs, which share functions.",
        f"{chains} chain{'s' * (chains != 1)} of {schedule.cycles} cycles of {schedule.epochs_per_cycle} epochs, "
        f"of each cycle the last sample; pairs of chains compare different cycles only, as pairs inside a chain must.",
        f"{schedule.variant.upper()}, temperature {schedule.temperature:.3g}, noise in the last "
        f"{schedule.noise_epochs} epochs of a cycle.",
        f"{thousands(data.images)} {options.split} images.",
    ]
    if runs > 1:
        parts.insert(2, f"Beside them {runs} separate runs, trained as the rest of the experiment is.")
    if lost := data.failed_chains:
        parts.append(f"{lost} of {data.runs_in_all} chains failed and count{'s' * (lost == 1)} nowhere.")
    return " ".join(parts)


def _against_runs(data: Cycles) -> str:
    """The interval that stands beside claim (h): what a new network gives over a new cycle, if it has been judged."""
    claim = data.claim
    parts = claim.parts if claim else {}
    if claim is None or "ratio to those runs" not in parts:
        return ""
    low, high = (rate(parts[f"its {end} end"], 2) if f"its {end} end" in parts else "–" for end in ("lower", "upper"))
    return (
        f"Disagreement, separate runs / cycles: {rate(parts['ratio to those runs'], 2)} ({low} to {high}); "
        f"n = {claim.n} chains and {data.healthy} runs, {thousands(claim.N)} images."
    )


def _summary(by_kind: Mapping[str, Floats], options: CycleOptions, chains: int) -> str:
    parts = []
    for kind, values in by_kind.items():
        known = finite(values)
        if len(known):
            mean = _said(options, float(known.mean()))
            around = f" ± {_said(options, spread(known))}" if len(known) > 1 else ""
            around += " %" * (options.quantity == "disagreement")
            parts.append(f"{_TITLES[kind]} {mean}{around} (n = {len(known)} pairs)")
    if not parts:
        return f"After {chains} chains no pair has a {options.quantity}: the functions make no error."
    quantity = options.quantity[:1].upper() + options.quantity[1:]
    return f"{quantity} between functions: {'; '.join(parts)}."


def _notes(data: Cycles, by_kind: Mapping[str, Floats]) -> Notes:
    lines = []
    for kind, values in by_kind.items():
        known = finite(values)
        mean = _said(data.options, float(known.mean())) if len(known) else "–"
        deviation = _said(data.options, spread(known))
        look = _look(kind, data.method).key
        lines.append(Note(_TITLES[kind], (str(len(values)), mean, deviation), look, strong=kind == CYCLES))
    text = []
    for cycle in sorted({end.cycle for end in data.ends}):
        accuracies = np.array([end.accuracy for end in data.ends if end.cycle == cycle])
        text.append(
            f"Cycle {cycle + 1} ends at {percent(float(accuracies.mean()))} % accuracy (n = {len(accuracies)})."
        )
    if data.separate:
        accuracies = np.array([end.accuracy for end in data.separate])
        text.append(f"Separate runs: {percent(float(accuracies.mean()))} % (n = {len(accuracies)}).")
    text += filter(None, [_against_runs(data)])
    head = "diversity" if data.options.quantity == "diversity" else "disagr., %"
    return Notes(("between", "pairs", head, "± σ"), tuple(lines), tuple(text))


def _said(options: CycleOptions, value: float) -> str:
    """Diversity is a ratio, disagreement a share of labels in percent."""
    return rate(value, 2) if options.quantity == "diversity" else percent(value)


@cycles.draw
def draw(data: Cycles, theme: Theme) -> go.Figure:
    kind: style.Kind = "page" if data.is_large else "scatter"
    picture = Picture("cycles", data, theme, kind=kind, panels=("diversity", "schedule"))
    panels = ("diversity", "schedule") if data.options.panel == "both" else (data.options.panel,)
    for name, across in parted(panels, ([0.0, 0.56], [0.66, 1.0])):
        (_strips if name == "diversity" else _schedule)(data, picture, across)
    return picture.figure()


def _strips(data: Cycles, picture: Picture, across: Sequence[float]) -> None:
    """One strip a kind, the first on top: its pairs, and under its name their mean and deviation."""
    theme = picture.theme
    kinds = [kind for kind in _TITLES if kind in data.kinds]
    scale = 1.0 if data.options.quantity == "diversity" else 100.0
    top = 1.08 * scale * float(finite(data.distance).max(initial=0.1))
    panel = picture.panel(across, x={"range": [0, top], "labelalias": style.y_axis(theme)["labelalias"]})
    x, y = panel.x, panel.y
    picture.layout[f"yaxis{panel.number}"] = style.no_axis(anchor=x, range=[-0.5, len(kinds) - 0.4])
    shares = share_points({kind: len(data.where(kind)) for kind in kinds})
    for row, kind in enumerate(reversed(kinds)):
        at = data.where(kind)
        at = at[np.isfinite(data.distance[at])]
        if not len(at):
            continue
        values, look = scale * data.distance[at], _look(kind, data.method)
        shown = thin(len(at), shares[kind])
        jitter = (np.arange(len(at)) * _GOLDEN % 1 - 0.5) * 0.32 if len(at) > 1 else np.zeros(1)
        picture.add(scatter(
            "markers", values[shown], row + jitter[shown], axes=(x, y),
            hover=[_hover(data, int(i)) for i in at[shown]], customdata=data.numbers[at[shown], 1].astype(np.int32),
            name=_TITLES[kind], legendgroup=kind, marker=style.marker(look, theme, size=7 if kind != RUNS else 10),
            cliponaxis=False,
        ))  # fmt: skip
        mean, deviation = float(values.mean()), spread(values)
        picture.add(_bar(mean, deviation, row - 0.3, look, kind, theme, x, y))
        around = f" ± {_said(data.options, deviation / scale)}" if len(values) > 1 else ""
        words = f"<b>{_TITLES[kind]}</b>  {_said(data.options, mean / scale)}{around}{' %' * (scale > 1)}"
        picture.write(
            style.label(words, theme, strong=True, x=0, y=row + 0.24, xref=f"{x} domain", yref=y, xanchor="left",
                        yanchor="bottom")
        )  # fmt: skip
    title = "diversity: disagreement ÷ error rate" if data.options.quantity == "diversity" else "disagreement, %"
    picture.titles(panel, title)


def _bar(
    mean: float, deviation: float, height: float, look: style.Look, kind: str, theme: Theme, x: str, y: str
) -> Trace:
    """Mean as a tick, one deviation to each side as a line."""
    ink, reach = look.colour(theme), [deviation if np.isfinite(deviation) else 0.0]
    return scatter(
        "markers", [mean], [height], axes=(x, y), silent=True, name=_TITLES[kind], legendgroup=kind, cliponaxis=False,
        error_x={"type": "data", "array": reach, "color": ink, "thickness": 2, "width": 0},
        marker={"symbol": "line-ns", "size": 12, "line": {"color": ink, "width": 3}},
    )  # fmt: skip


def _schedule(data: Cycles, picture: Picture, across: Sequence[float]) -> None:
    """The learning rate of a chain; thick where noise is added, marked where a sample is kept."""
    theme, schedule = picture.theme, data.schedule
    fine = max(1, 240 // schedule.epochs_per_cycle)  # points an epoch: the curve needs no more, whatever the steps
    rates_shown = [-0.06 * schedule.learning_rate, 1.06 * schedule.learning_rate]
    panel = picture.panel(across, x={"range": [0, schedule.epochs], "nticks": 4}, y={"range": rates_shown, "nticks": 4})
    x, y = panel.x, panel.y
    # a break between cycles: the rate jumps there
    steps = np.arange(schedule.epochs * fine)
    rates = np.array([schedule.rate(int(step), fine) for step in steps])
    cycle = schedule.epochs_per_cycle * fine
    breaks = np.arange(cycle, len(steps), cycle)
    noisy = np.array([schedule.is_noisy(int(step), fine) for step in steps]) & (schedule.temperature > 0)
    look = style.look(data.method)
    ink, muted = look.colour(theme), style.token("muted", theme)
    put = partial(scatter, axes=(x, y), legendgroup="schedule", meta={"method": data.method})
    line = partial(put, "lines", np.insert(steps / fine, breaks, np.nan), silent=True, connectgaps=False)
    kept = np.array(sorted(schedule.kept(1)))
    picture.add(
        line(np.insert(rates, breaks, np.nan), name="learning rate", line={"color": muted, "width": 1.5}),
        line(
            np.insert(np.where(noisy, rates, np.nan), breaks, np.nan), name="noise", line={"color": ink, "width": 4}
        ),
        put(
            "markers", kept, [schedule.rate(int(epoch) * fine - 1, fine) for epoch in kept], name="samples",
            hover=[f"<b>sample {i + 1}</b><br>after epoch {int(epoch)}" for i, epoch in enumerate(kept)],
            customdata=np.full(len(kept), -1, np.int32), marker=style.marker(look, theme), cliponaxis=False,
        ),
    )  # fmt: skip
    picture.titles(panel, "epoch", "learning rate")
    place = style.corner(x, y, "right", "top")
    picture.write(
        style.label("thick: noise   × sample", theme, **place, yshift=24)
    )  # over the title, which takes the width


def _hover(data: Cycles, i: int) -> str:
    kind = data.kinds[i]
    sides = [
        f"run {run}" if kind == RUNS else f"chain {run}, cycle {cycle + 1}"
        for run, cycle in zip(data.runs[i], data.cycles[i], strict=True)
    ]
    accuracies = [percent(float(value)) for value in data.accuracy[i]]
    return (
        f"<b>{sides[0]} and {sides[1]}</b><br>disagreement  {percent(float(data.disagreement[i]))} %"
        f"<br>diversity  {rate(float(data.diversity[i]), 2)}<br>accuracies  {accuracies[0]} and {accuracies[1]} %"
    )
