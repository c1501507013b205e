"""What was logged along the way? One logged number of every member of an ensemble made elsewhere, by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import finite, lines, spread, stacked, thin
from modescape.drawing.options import FigureOptions, refuse_unknown
from modescape.drawing.panels import Picture, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import thousands
from modescape.records import Group
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST = 1000  # points of one curve: more than a picture has pixels across
_LETTERS = 13  # of a name where its curve ends
_FIRST = ("validation/accuracy", "val_accuracy", "val_acc", "accuracy", "validation/loss", "val_loss", "loss")


class LoggedOptions(FigureOptions):
    """Which curve is shown, and how."""

    curve: str = Field("", max_length=500, description="Which of the logged numbers; empty means the first.")
    scale: Literal["linear", "log"] = Field("linear", description="Of the vertical axis.")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"curve": {name: name for name in _names(results)}}


def _names(results: Results) -> list[str]:
    """What accuracies and losses are usually called comes first."""
    known = {one.name for one in results.store.curves.of(results.experiment.id)}
    known |= {name for one in results.store.logged.of_experiment(results.experiment.id) for name in one.curves}
    usual = [name for name in _FIRST if name in known]
    return [*usual, *sorted(known - set(usual))]


@dataclass(frozen=True)
class Logged:
    """One member's curve: steps, values [P]; count: points it has, of which these are some; is_in_training: whether
    more are to come."""

    run: int
    member: str
    steps: Ints
    values: Floats
    count: int
    is_in_training: bool = False

    @property
    def last(self) -> float:
        return float(self.values[-1])


@dataclass(frozen=True, kw_only=True)
class LoggedCurves(FigureData):
    """The curves of one name, of all members that have it. members: of the whole ensemble."""

    options: LoggedOptions
    name: str
    curves: tuple[Logged, ...]
    members: int

    columns = ("run", "member", "curve", "step", "value")

    def rows(self) -> list[tuple[Cell, ...]]:
        return stacked(lines(one.run, one.member, self.name, one.steps, one.values) for one in self.curves)


@figure(
    "logged-curves",
    order=99,
    title="Logged curves",
    question="What was logged along the way?",
    summary="One number that was logged while the members of an imported ensemble were trained, by step.",
    source="as it was logged elsewhere",
    needs=("curves",),
    full=True,
)
def logged_curves(results: Results, options: LoggedOptions) -> LoggedCurves:
    if results.spec.imported is None:
        came = results.spec.weights is not None
        here = "it was trained here, and its curves are drawn above"
        raise FigureNotReady("its networks came as weights alone" if came else here, waits_for=("curves",))
    names = _names(results)
    if not names:
        raise FigureNotReady("no curve has been read yet", waits_for=("curves",))
    if options.curve:
        refuse_unknown("curve", [options.curve], names, "curve")
    name = options.curve or names[0]
    known = (results.experiment.provenance or {}).get("members", [])
    curves = []
    for run in range(results.spec.ensemble.runs):
        steps, values = results.points(run, name)
        if len(steps):
            some = thin(len(steps), _MOST)
            member = known[run]["id"] if run < len(known) else f"{run}"
            curves.append(Logged(run, member, steps[some], values[some], len(steps)))
    curves += _in_training(results, name)
    if not curves:
        raise FigureNotReady("no curve has been read yet", waits_for=("curves",))
    return LoggedCurves(
        options=options,
        name=name,
        curves=tuple(curves),
        members=max(results.spec.ensemble.runs, len(curves)),
        legend=(Legend(Group.TRAJECTORY, "member", Group.TRAJECTORY, len(curves)),),
        partial=_still(len([one for one in curves if one.is_in_training])),
    )


def _in_training(results: Results, name: str) -> Iterator[Logged]:
    for number, row in results.in_training():
        if name in row.curves:
            steps, values, _ = results.store.logged.curves(row.gathering_id, row.member, name)[name]
            some = thin(len(steps), _MOST)
            yield Logged(number, row.member, steps[some], values[some], len(steps), is_in_training=True)


def _still(count: int) -> str:
    return f"{count} {'member is' if count == 1 else 'members are'} still being trained" if count else ""


@logged_curves.tell
def tell(data: LoggedCurves) -> Words:
    last = np.array([one.last for one in data.curves])
    last = last[np.isfinite(last)]
    longest = max(one.count for one in data.curves)
    points = "one point" if longest == 1 else f"up to {thousands(longest)} points"
    caption = f"{data.name}, as it was logged; {points} each. n = {len(data.curves)} members"
    caption += "." if len(data.curves) == data.members else f" of {data.members}."
    if not len(last):
        return Words(caption, f"No {data.name} that was logged last is a finite number.")
    if len(last) == 1:
        return Words(caption, f"The last {data.name} is {last[0]:.4g}.")
    mean, around = f"{last.mean():.4g}", f"{spread(last):.2g}"
    notes = Notes(
        ("Last", "mean", "± σ"), (Note(f"{data.name}, as logged", (mean, around)),), (f"n = {len(last)} members.",)
    )
    return Words(caption, f"The last {data.name} of {len(last)} members is {mean} ± {around} (σ).", notes)


@logged_curves.draw
def draw(data: LoggedCurves, theme: Theme) -> go.Figure:
    picture = Picture("logged-curves", data, theme, kind="page" if data.is_large else "curves", revision=data.name)
    panel = picture.panel(y={"type": data.options.scale, "range": _window(data)})
    few = len(data.curves) <= style.MOST_LABELS
    for one in data.curves:
        ink = style.run_ink(one.run, theme) if few else style.look(Group.TRAJECTORY).colour(theme)
        picture.add(
            scatter(
                "lines+markers" if one.count < 20 else "lines", one.steps, one.values, axes=(panel.x, panel.y),
                name=one.member, legendgroup=Group.TRAJECTORY, line={"color": ink, "width": 1.5},
                marker={"color": ink, "size": 5}, meta={"run": one.run},
                hovertemplate=f"<b>{one.member}</b><br>step %{{x}}<br>{data.name} %{{y:.4~g}}<extra></extra>",
            )
        )  # fmt: skip
    picture.titles(panel, "step", f"{data.name}, as logged")
    if few:
        picture.ends(panel, [
            style.End(_short(one.member), float(one.steps[-1]), at, style.run_ink(one.run, theme))
            for one in data.curves if np.isfinite(at := float(_seen(data, one.values[-1:])[0]))
        ], reach=14)  # fmt: skip
    return picture.figure()


def _seen(data: LoggedCurves, values: Floats) -> Floats:
    """As the axis counts them: exponents on a logarithmic one, NaN where it has no place."""
    if data.options.scale == "linear":
        return np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(np.asarray(values, np.float64))
    return np.where(np.isfinite(found), found, np.nan)


def _window(data: LoggedCurves) -> list[float]:
    seen = finite(np.concatenate([_seen(data, one.values) for one in data.curves]))
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    air = max(0.06 * (high - low), 1e-6 * max(abs(high), 1.0))
    return [low - air, high + air]


def _short(member: str) -> str:
    """As much of a name as there is room for."""
    return escape(member if len(member) <= _LETTERS else f"{member[: _LETTERS - 1]}…")
