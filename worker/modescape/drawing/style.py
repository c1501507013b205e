"""Which colour, symbol and line does this have? Every colour is here, but those of methods: each has its own.

Colour means method, shape means role, dashes mean "one run" (science e.3). Looks are found by key, so figures iterate
over the methods present and never name one:

    look("dropout").colour("dark")     # '#128D64'
    css()                              # the same palette as CSS variables for the page

The palette was optimised in OKLCH for the smallest CIEDE2000 distance over normal and colour-deficient vision
(Machado 2009) at a contrast of at least 3:1 on card and page; tests/test_style.py measures it again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modescape.records import Json
from modescape.registry import Look as Look
from modescape.registry import methods

Theme = Literal["light", "dark", "print"]
THEMES: tuple[Theme, ...] = ("light", "dark", "print")


# What is no method. These, and the methods' own, keep 12 apart (CIEDE2000) in every vision.
_ROLES = (
    Look("star", "solid", "#B91249", "#DE4028", 12, key="independent"),
    Look("circle-open", "solid", "#0A40B6", "#5079E2", key="trajectory"),
    Look("star-diamond", "solid", "#16191F", "#F2F4F7", 15, key="baseline"),
    Look("line-ew", "dash", "#6B7280", "#98A2B3", key="theory"),
)
# Looks called spare were optimised later, to be as far from all of those as five more can be: at least 10. Long dashes
# and symbols of their own repeat the colour. All but this one are taken by methods.
_FREE = Look("bowtie", "longdash", "#2C0038", "#C3EA93", 8, key="spare-3")


def looks() -> dict[str, Look]:
    """Every look by its key: of what is no method, of the methods in their order, and what is spare."""
    of_methods = [method.look for method in methods.values() if method.look is not None]
    return {entry.key: entry for entry in (*_ROLES, *of_methods, _FREE)}


def look(name: str) -> Look:
    """The look of a method or of what is none, by name or key; without one of its own it shares the spares, told apart
    by its label. Of an experiment among several (`experiment-0` to `experiment-7`) a line in its ink."""
    own = methods[name].look if name in methods else looks().get(name) or _of_experiment(name)
    if own is not None:
        return own
    spare = sorted((entry for entry in looks().values() if entry.key.startswith("spare-")), key=lambda one: one.key)
    return spare[sum(name.encode()) % len(spare)]


RUN_INKS: Mapping[Theme, tuple[str, ...]] = {
    "light": ("#858BA5", "#532D10", "#2C6A5B", "#36315A", "#998C5A"),
    "dark": ("#D6DCF9", "#9B6F52", "#6CADA0", "#7874A2", "#ECDFAA"),
    "print": ("#858BA5", "#532D10", "#2C6A5B", "#36315A", "#998C5A"),
}
_RUN_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon")


def run_ink(run: int, theme: Theme) -> str:
    """Muted colour of a run; the sixth and later ones repeat, so runs are always labelled as well."""
    return RUN_INKS[theme][run % 5]


# Where several experiments lie over each other, colour means experiment: eight hues of the palette, farthest first.
_EXPERIMENTS = ("trajectory", "independent", "random", "averaging", "low-rank", "dropout", "diagonal", "sgmcmc")


MOST_EXPERIMENTS = len(_EXPERIMENTS)
_EXPERIMENT = "experiment-"  # the key of such a look, before its place


def experiment_ink(place: int, theme: Theme) -> str:
    """Of the experiment at that place, below eight."""
    return looks()[_EXPERIMENTS[place]].colour(theme)


def experiment_look(place: int) -> str:
    """Its key."""
    return f"{_EXPERIMENT}{place}"


def is_of_experiment(key: str) -> bool:
    return key.startswith(_EXPERIMENT)


def _of_experiment(key: str) -> Look | None:
    place = key.removeprefix(_EXPERIMENT)
    if not (is_of_experiment(key) and place.isdecimal() and int(place) < MOST_EXPERIMENTS):
        return None
    return Look("line-ew", "solid", experiment_ink(int(place), "light"), experiment_ink(int(place), "dark"), key=key)


NEUTRAL = ("baseline", "theory")  # looks in ink and in grey: what everything else is compared with


def in_one_ink(value: Any, ink: str, theme: Theme) -> Any:
    """A picture, or a part of it, with every colour of a look as one, see-through ones as much; inks of runs stay."""
    return _inked(value, {one.colour(theme).lower() for one in looks().values() if one.key not in NEUTRAL}, ink)


def _inked(value: Any, own: set[str], ink: str) -> Any:
    if isinstance(value, dict):
        return {key: _inked(part, own, ink) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_inked(part, own, ink) for part in value]
    if not isinstance(value, str):
        return value
    if value.lower() in own:
        return ink
    clear = re.fullmatch(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", value)
    if clear and "#{:02x}{:02x}{:02x}".format(*map(int, clear.groups()[:3])) in own:
        return softened(ink, float(clear[4]))
    return value


def run_symbol(run: int) -> str:
    return _RUN_SYMBOLS[run % 5]


_LIGHT = {
    "page": "#F6F7F9",
    "card": "#FFFFFF",
    "text": "#16191F",
    "muted": "#555D6B",
    "hairline": "#D5DAE1",
    "control": "#7F8895",
    "link": "#1B4FB5",
    "succeeded": "#1F6B45",
    "failed": "#B3261E",
    "cancelled": "#6B5A10",
    "queued": "#5B6472",
    "soft": "#ECEFF3",
    "selected": "#F1F5FD",
    "error-ground": "#FBEFEE",
    "grid": "#E9ECF0",
}
_DARK = {
    "page": "#111419",
    "card": "#1A1E25",
    "text": "#F2F4F7",
    "muted": "#A9B2C0",
    "hairline": "#333A45",
    "control": "#757F8E",
    "link": "#86B4FF",
    "succeeded": "#6FCB95",
    "failed": "#FF8A80",
    "cancelled": "#D9BE5A",
    "queued": "#A9B2C0",
    "soft": "#252B34",
    "selected": "#182032",
    "error-ground": "#2C1D20",
    "grid": "#2A303A",
}
_PRINT = {**_LIGHT, "page": "#FFFFFF"}
TOKENS: Mapping[Theme, Mapping[str, str]] = {"light": _LIGHT, "dark": _DARK, "print": _PRINT}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
# Matrices: lightness rises evenly in every vision; bright always means alike, so disagreement is reversed.
SEQUENTIAL = "Cividis"
TRANSPARENT = "rgba(0,0,0,0)"
# Opacity of single runs behind their median (18 % would vanish on dark).
RUN_OPACITY: Mapping[Theme, float] = {"light": 0.36, "dark": 0.6, "print": 0.36}


def token(name: str, theme: Theme) -> str:
    return TOKENS[theme][name]


def faint(name: str, theme: Theme, opacity: float) -> str:
    """A token as a see-through colour, for grounds under marks."""
    return softened(TOKENS[theme][name], opacity)


def css() -> str:
    """The palette as CSS variables.

    `--page`, `--card`, `--text`, `--muted` … are the tokens, `--look-<key>` the methods, `--run-0` to `--run-4`
    the runs. Without `data-theme` the page follows the system. `data-theme` may stand on any element: a bar
    that is always dark carries `data-theme="dark"`.
    """
    light = f"color-scheme: light; {_variables('light')}"
    dark = f"color-scheme: dark; {_variables('dark')}"
    return (
        f':root, [data-theme="light"] {{ {light} }}\n'
        f'[data-theme="dark"] {{ {dark} }}\n'
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme]) {{ {dark} }} }}\n"
        f"@media print {{ :root, [data-theme] {{ color-scheme: light; {_variables('print')} }} }}\n"
    )


def _variables(theme: Theme) -> str:
    pairs = dict(TOKENS[theme])
    pairs |= {f"look-{entry.key}": entry.colour(theme) for entry in looks().values()}
    pairs |= {f"run-{i}": ink for i, ink in enumerate(RUN_INKS[theme])}
    pairs |= {f"look-experiment-{i}": experiment_ink(i, theme) for i in range(len(_EXPERIMENTS))}
    return " ".join(f"--{name}: {value};" for name, value in pairs.items())


# ---- the Plotly template: plain dictionaries, so that this file loads without Plotly ----

Kind = Literal["curves", "curves-values", "scatter", "page", "maps", "multiples", "embedding"]
MARGINS: Mapping[Kind, Mapping[str, int]] = {
    "curves": {"l": 40, "r": 108, "t": 32, "b": 40},
    "curves-values": {"l": 40, "r": 136, "t": 32, "b": 40},
    "scatter": {"l": 40, "r": 16, "t": 32, "b": 36},
    "page": {"l": 48, "r": 24, "t": 40, "b": 44},
    "maps": {"l": 28, "r": 4, "t": 44, "b": 28},
    "multiples": {"l": 28, "r": 8, "t": 28, "b": 28},
    "embedding": {"l": 8, "r": 8, "t": 12, "b": 8},
}


def layout(theme: Theme, *, kind: Kind, height: int, revision: str, drag: str = "zoom") -> Json:
    """Everything but axes and data. height in px; equal `revision`s keep zoom and selection over new data."""
    ink = token("text", theme)
    return {
        "autosize": True,
        "height": height,
        "margin": {**MARGINS[kind], "pad": 0, "autoexpand": False},
        "paper_bgcolor": TRANSPARENT,
        "plot_bgcolor": TRANSPARENT,
        "font": {"family": FONT, "size": 12, "color": token("muted", theme)},
        "showlegend": False,
        "hovermode": "closest",
        "hoverdistance": 12,
        "hoverlabel": {
            "bgcolor": token("card", theme),
            "bordercolor": token("control", theme),
            "font": {"family": FONT, "size": 12, "color": ink},
            "align": "left",
        },
        "dragmode": drag,
        "newselection": {"line": {"color": ink, "width": 1, "dash": "dot"}},
        "activeselection": {"fillcolor": TRANSPARENT, "opacity": 1},
        "modebar": {
            "bgcolor": TRANSPARENT,
            "color": token("muted", theme),
            "activecolor": token("link", theme),
            "orientation": "h",
        },
        "uirevision": revision,
        "selectionrevision": revision,
    }


# "rates as .312": Plotly's own tick labels, which follow the zoom, lose the zero before the point
_DIGITS = [f"{i:0{width}d}" for width in (1, 2) for i in range(1, 10**width)]
_POINT = {f"{sign}0.{digits}": f"{sign}.{digits}" for sign in ("", "−") for digits in _DIGITS}


def _pointed(bounds: Sequence[float] | None) -> dict[str, str]:
    """Aliases of all numbers of two digits, and of those of three in a range so narrow that its ticks need them."""
    if bounds is None or not 0 < bounds[1] - bounds[0] <= 0.12:
        return _POINT
    thousandths = range(math.ceil(1000 * bounds[0]), math.floor(1000 * bounds[1]) + 1)
    texts = (f"{abs(i):03d}" for i in thousandths if 0 < i < 1000 and i % 10)
    return _POINT | {f"0.{text}": f".{text}" for text in texts}


def x_axis(theme: Theme, **changes: Any) -> Json:
    """No grid; line in the control colour; short ticks outside."""
    line = token("control", theme)
    base = {
        "showgrid": False,
        "zeroline": False,
        "showline": True,
        "linecolor": line,
        "linewidth": 1,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": line,
        "nticks": 6,
        "labelalias": _pointed(changes.get("range")),
        "automargin": False,
    }
    return base | changes


def y_axis(theme: Theme, **changes: Any) -> Json:
    """Hairline grid; no line, no ticks, at most five values."""
    base = {
        "showgrid": True,
        "gridcolor": token("grid", theme),
        "gridwidth": 1,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "nticks": 5,
        "labelalias": _pointed(changes.get("range")),
        "automargin": False,
    }
    return base | changes


def no_axis(**changes: Any) -> Json:
    return {"visible": False, "showgrid": False, "zeroline": False, "automargin": False} | changes


def marker(entry: Look, theme: Theme, *, colour: str = "", size: int = 0) -> Json:
    """Opaque mark with a card-coloured outline (opacity .7 would drop four light hues below 3:1)."""
    ink = colour or entry.colour(theme)
    edge = ink if entry.hollow else token("card", theme)
    return {
        "symbol": entry.symbol,
        "size": size or entry.size,
        "color": ink,
        "opacity": 1,
        "line": {"color": edge, "width": 1},
    }


def label(text: str, theme: Theme, *, strong: bool = False, **place: Any) -> Json:
    """A direct label: an annotation without arrow, in ink when `strong`, else muted."""
    return {
        "text": text,
        "showarrow": False,
        "font": {"size": 12, "color": token("text" if strong else "muted", theme)},
        "align": "left",
        "borderpad": 1,
        **place,
    }


END_GAP = 15  # px between the names of curves
MOST_LABELS = 8  # curves that are named where they end; more are named when they are pointed at


@dataclass(frozen=True)
class End:
    """Where a curve ends, in the axes' coordinates (exponents on a logarithmic one), and what is written there."""

    text: str
    x: float
    y: float
    colour: str
    strong: bool = True


def end_labels(
    ends: Sequence[End], theme: Theme, *, x: str, y: str, bounds: Sequence[float], room: float, reach: int = 20
) -> list[Json]:
    """Labels `reach` px right of the ends, at least END_GAP px a line apart, each with a leader in its curve's colour.

    bounds: the range of y over `room` px. The pages part them again when that changes (figure.js, by their name).
    """
    wanted = [(bounds[1] - end.y) / (bounds[1] - bounds[0]) * room for end in ends]
    placed = apart(wanted, END_GAP * max((end.text.count("<br>") + 1 for end in ends), default=1))
    over = max(0.0, max(placed, default=0.0) - room)  # the lowest must not leave the plot
    return [
        label(
            end.text, theme, strong=end.strong, name="end", x=end.x, y=end.y, xref=x, yref=y, showarrow=True,
            arrowhead=0, arrowwidth=1.5, arrowcolor=end.colour, ax=reach, ay=at - over - own, standoff=5,
            xanchor="left", yanchor="middle",
        )
        for end, at, own in zip(ends, placed, wanted, strict=True)
    ]  # fmt: skip


def end_labels_apart(
    ends: Sequence[tuple[End, bool]], theme: Theme, *, x: str, y: str, bounds: Sequence[float], room: float,
    reach: int, wide: float,
) -> list[Json]:  # fmt: skip
    """The same of curves that end anywhere: those closer than `wide` in x are kept apart. Each with whether it has come
    to its end; what still moves lies over other curves, on a ground of its own."""
    groups: list[list[tuple[End, bool]]] = []
    for one in sorted(ends, key=lambda one: one[0].x):
        if not groups or one[0].x - groups[-1][-1][0].x > wide:
            groups.append([])
        groups[-1].append(one)
    labels = []
    for group in groups:
        placed = end_labels([end for end, _ in group], theme, x=x, y=y, bounds=bounds, room=room, reach=reach)
        is_still = all(finished for _, finished in group)  # else the pages, which part ends only, must leave it alone
        for made, (_, finished) in zip(placed, group, strict=True):
            ground = {} if finished else {"bgcolor": token("card", theme)}
            labels.append({**made, "name": "end" if is_still else "moving", **ground})
    return labels


def apart(positions: Sequence[float], gap: float) -> list[float]:
    """The positions, moved as little as needed to be `gap` apart: runs of meeting labels share their mean place."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _first(groups[-1], positions, gap) < _past(groups[-2], positions, gap):
            last = groups.pop()
            groups[-1] += last
    placed = [0.0] * len(positions)
    for group in groups:
        for k, i in enumerate(group):
            placed[i] = _first(group, positions, gap) + k * gap
    return placed


def _first(group: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return sum(positions[i] for i in group) / len(group) - gap * (len(group) - 1) / 2


def _past(group: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return _first(group, positions, gap) + gap * len(group)


def run_mark(ink: str, theme: Theme) -> Json:
    """The filled dot at the end of a run that still moves."""
    return {"symbol": "circle", "size": 7, "color": ink, "line": {"color": token("card", theme), "width": 1}}


def corner(x: str, y: str, side: str, edge: str) -> Json:
    """Outside a panel, above or below it, at its left or right end."""
    return {
        "xref": f"{x} domain",
        "yref": f"{y} domain",
        "x": 0 if side == "left" else 1,
        "y": 1 if edge == "top" else 0,
        "xanchor": side,
        "yanchor": "bottom" if edge == "top" else "top",
    }


def y_title(text: str, theme: Theme, x: str, y: str, left: int) -> Json:
    """Quantity and unit, horizontal, at the top left. left: the margin in px, so that it starts at the card's edge."""
    return label(text, theme, **corner(x, y, "left", "top"), xshift=-left, yshift=8)


def x_title(text: str, theme: Theme, x: str, y: str) -> Json:
    """Quantity and unit at the lower right, under the tick labels."""
    return label(text, theme, **corner(x, y, "right", "bottom"), yshift=-18)


LETTER = 7.0  # px, a letter of 12 px text


def colour_bar(theme: Theme, *, x: float, length: float, ticks: list[float], texts: list[str]) -> Json:
    """Horizontal, above the right end of a map. x, length: fractions of the plot's width.

    The last text is centred at the bar's end, so the bar stops half of it before x, where a picture may end.
    """
    return {
        "orientation": "h",
        "thickness": 8,
        "len": length,
        "x": x,
        "xanchor": "right",
        "xpad": max(0, round(LETTER * len(texts[-1]) / 2) - 4) if texts else 0,
        "y": 1,
        "yanchor": "bottom",
        "ypad": 5,
        "outlinewidth": 0,
        "tickvals": ticks,
        "ticktext": texts,
        "ticks": "",
        "ticklabeloverflow": "allow",
        "tickfont": {"size": 12, "color": token("muted", theme)},
    }


def ground(theme: Theme, x: str, y: str, size: int) -> Json:
    """What shows through where a map of size x size has no values yet."""
    return {
        "type": "rect",
        "layer": "below",
        "line": {"width": 0},
        "fillcolor": faint("muted", theme, 0.1),
        "xref": x,
        "yref": y,
        "x0": -0.5,
        "x1": size - 0.5,
        "y0": -0.5,
        "y1": size - 0.5,
    }


def block_lines(theme: Theme, x: str, y: str, size: int, block: int) -> list[Json]:
    """Card-coloured lines between the blocks of a map."""
    line = {"type": "line", "xref": x, "yref": y, "line": {"color": token("card", theme), "width": 1.5}}
    cuts = [at - 0.5 for at in range(block, size, block)]
    return [
        {**line, **place}
        for cut in cuts
        for place in (
            {"x0": cut, "x1": cut, "y0": -0.5, "y1": size - 0.5},
            {"x0": -0.5, "x1": size - 0.5, "y0": cut, "y1": cut},
        )
    ]


def softened(colour: str, opacity: float) -> str:
    """A hex colour as a see-through line behind its own marks."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
