"""What every picture keeps to, so that a page of them reads as one: a colour means one thing, lines are named, runs
stand in one order, nothing hides anything, every number has a unit. Each rule yields what is wrong, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from modescape.drawing.figure import FigureData, Notes
from modescape.drawing.style import MOST_LABELS, NEUTRAL, RUN_INKS, look, looks
from modescape.records import Group, Json
from modescape.registry import methods

MULTIPLES = 4  # panels; of more the legend and the caption name the lines, for no name fits into each
# A quantity's unit, or its name where it is a plain number by its definition.
UNIT = re.compile(
    r"%|\bnats\b|points\b|epochs?\b|steps?\b|×|\b(n|pairs|shown|runs?)\b|cosine|Brier|ECE|calibration|AUROC|AUPR|FPR95|"
    r"divers|÷|\brate\b|scale|norm|distance|strength|as logged|intensity",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")


def colours_mean_one_thing(drawn: Json, data: FigureData) -> Iterator[str]:
    """Drawn in the light theme: a colour of the palette is what its legend entry, or else its group, is drawn in; an
    ink of runs is that run's."""
    own = {entry.colour("light").lower(): key for key, entry in looks().items() if key not in NEUTRAL}
    named = {entry.group: entry.look for entry in data.legend}
    runs = _runs(data)
    inks = [ink.lower() for ink in RUN_INKS["light"]]
    for trace in drawn["data"]:
        group = (trace.get("meta") or {}).get("method") or trace.get("legendgroup", "")
        wanted = named.get(group) or (look(group).key if group in (*Group, *methods, *looks()) else "")
        for colour, place in _colours(trace):
            if colour in own and own[colour] != wanted:
                yield f"{trace.get('name', 'a trace')!r} of group {group!r} has the colour of {own[colour]!r}"
            if colour in inks and inks[_run(trace, place, runs) % len(inks)] != colour:
                yield f"{trace.get('name', 'a trace')!r} has an ink of runs and is not that run"


def _runs(data: FigureData) -> dict[Any, int]:
    table = data.table()
    if not {"solution", "run"} <= set(table.columns):
        return {}
    solution, run = (table.columns.index(name) for name in ("solution", "run"))
    return {row[solution]: found for row in table.rows if isinstance(found := row[run], int)}


def _run(trace: Json, place: int, runs: Mapping[Any, int]) -> int:
    """-1 where nothing says which run it is, which is the ink of none."""
    meta = trace.get("meta") or {}
    if "run" in meta:
        return int(meta["run"])
    if "run_of" in meta:  # of each point
        return int(meta["run_of"][place])
    solutions = _list(trace.get("customdata", ()))
    return runs.get(solutions[place], -1) if place < len(solutions) else -1


def _colours(trace: Json) -> Iterator[tuple[str, int]]:
    """Each with the place of the point that has it."""
    if trace["type"] in ("heatmap", "contour", "surface"):
        return
    for part in ("marker", "line", "error_x", "error_y"):
        found = (trace.get(part) or {}).get("color")
        for place, colour in enumerate(found if isinstance(found, list | tuple) else [found]):
            if isinstance(colour, str):
                yield _hex(colour), place
    if isinstance(trace.get("fillcolor"), str):
        yield _hex(trace["fillcolor"]), 0


def _hex(colour: str) -> str:
    """The colour that a see-through one is made of."""
    found = re.fullmatch(r"rgba\((\d+),(\d+),(\d+),[\d.]+\)", colour)
    return "#" + "".join(f"{int(part):02x}" for part in found.groups()) if found else colour.lower()


def lines_are_named(drawn: Json) -> Iterator[str]:
    """In each panel, while it has no more lines than names fit: as many names as lines. Runs in one colour need one."""
    panels: dict[tuple[str, str], list[Json]] = {}
    for trace in drawn["data"]:
        is_line = trace["type"] == "scatter" and "lines" in trace.get("mode", "") and len(trace["x"]) > 0
        if is_line and trace.get("hoverinfo") != "skip":
            panels.setdefault((trace.get("xaxis", "x"), trace.get("yaxis", "y")), []).append(trace)
    if len(panels) > MULTIPLES:
        return
    for (x, y), traces in panels.items():
        inks = {trace["line"]["color"] for trace in traces if _is_run(trace)}
        lines = {"run" if _is_run(trace) and len(inks) == 1 else trace.get("name", "") for trace in traces}
        written = [
            label for label in drawn["layout"].get("annotations", ())
            if label.get("yref") == y or (label.get("xref") == x and label.get("yref") == f"{y} domain")
        ]  # fmt: skip
        if len(written) < len(lines) <= MOST_LABELS:
            yield f"the panel {x}, {y} has {len(lines)} lines and {len(written)} names"


def _is_run(trace: Json) -> bool:
    return "run" in (trace.get("meta") or {})


def runs_begin_above(drawn: Json) -> Iterator[str]:
    """Maps whose rows are runs, checkpoints or solutions have the first above and at the left."""
    layout = drawn["layout"]
    for trace in drawn["data"]:
        if trace["type"] != "heatmap":
            continue
        x, y = (layout[f"{axis[0]}axis{trace.get(axis, axis)[1:].removeprefix('axis')}"] for axis in ("xaxis", "yaxis"))
        if y.get("tickmode") == "array" and not (y["range"][0] > y["range"][1] and x["range"][0] < x["range"][1]):
            yield f"the first row of {trace.get('name', 'a map')!r} is not above"


def nothing_hides(drawn: Json) -> Iterator[str]:
    """Bars and boxes stand beside each other; what lies under a filled area is seen through it."""
    layout = drawn["layout"]
    for kind, mode in (("bar", "barmode"), ("histogram", "barmode"), ("box", "boxmode")):
        if sum(trace["type"] == kind for trace in drawn["data"]) > 1 and layout.get(mode) not in ("group", "stack"):
            yield f"its {kind} traces lie over each other: `layout.{mode}` is {layout.get(mode, 'not set')!r}"
    for trace in drawn["data"]:
        clear = re.fullmatch(r"rgba\(.+,([\d.]+)\)", trace.get("fillcolor", "rgba(,0)"))
        if "fill" in trace and (clear is None or float(clear[1]) > 0.5):
            yield f"the area of {trace.get('name', 'a trace')!r} hides what is under it"


def maps_keep_their_shape(drawn: Json) -> Iterator[str]:
    """One unit is as long upwards as sideways, the picture is no higher than its maps, and each scale of colours has a
    bar that lies inside the plot."""
    layout, shown, needed = drawn["layout"], set(), set()
    for trace in drawn["data"]:
        if trace["type"] != "heatmap":
            continue
        y = layout[f"yaxis{trace.get('yaxis', 'y')[1:]}"]
        if not (y.get("scaleanchor") or y.get("matches")):
            yield f"the cells of {trace.get('name', 'a map')!r} become oblong"
        scale = (trace["zmin"], trace["zmax"], trace.get("reversescale", False))
        needed.add(scale)
        if trace.get("showscale", True):
            shown.add(scale)
            bar = trace["colorbar"]
            part = bar["len"] if bar.get("lenmode", "fraction") == "fraction" else 0.0
            if bar["x"] > 1 or bar["x"] - part < 0:
                yield f"the colour bar of {trace.get('name', 'a map')!r} leaves the plot"
    if needed and not layout["meta"].get("tall"):
        yield "it does not say how high its maps are (`Picture.maps(tall=...)`), so they would have empty room below"
    if needed - shown:
        yield f"{len(needed - shown)} scales of colours have no bar"


def axes_have_units(drawn: Json) -> Iterator[str]:
    """An axis with numbers is told by what is written at its panel, or at another one of the same row or column."""
    layout = drawn["layout"]
    titles = [label["text"] for label in layout.get("annotations", ()) if "domain" in f"{label.get('yref')}"]
    for which in ("xaxis", "yaxis"):
        axes = [axis for key, axis in layout.items() if re.fullmatch(rf"{which}\d*", key)]
        if any(_counts(axis) for axis in axes) and not any(UNIT.search(re.sub("<.*?>", "", text)) for text in titles):
            yield f"nothing says what its {which[0]} axis counts: {titles}"


def _counts(axis: Json) -> bool:
    """Whether it has ticks in numbers."""
    return axis.get("visible", True) and axis.get("showticklabels", True) and axis.get("tickmode") != "array"


def numbers_have_units(notes: Notes) -> Iterator[str]:
    """Of the small table: by the head of the column, the first head, the line's label, or in the cell. A spread, or an
    interval without a head, has the unit of the column before."""
    heads = list(notes.head)
    for i in range(2, len(heads)):
        if heads[i] in ("", "± σ"):
            heads[i] = heads[i - 1]
    for line in notes.lines:
        for head, value in zip(heads[1:], line.values, strict=True):
            if _NUMBER.search(value) and not any(UNIT.search(text) for text in (head, heads[0], line.label, value)):
                yield f"{value!r} of {line.label!r} under {head!r} has no unit"


def _list(values: Any) -> Sequence[Any]:
    return [entry.item() if isinstance(entry, np.generic) else entry for entry in np.asarray(values).ravel()]
