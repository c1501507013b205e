"""What a figure gives to a picture of several experiments: axes, and curves and points on them, without colour."""

from __future__ import annotations

from dataclasses import dataclass

from modescape.drawing.reading import Floats


@dataclass(frozen=True)
class Axes:
    """One panel. x, y: their quantities with units; from zero: what is seen from zero on; window: the part of y that is
    worth looking at, None for all of it."""

    name: str
    x: str
    y: str
    x_from_zero: bool = False
    y_from_zero: bool = False
    window: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """x, y [T] on the axes `panel`, in their units. group: independent runs, or a method, whose symbol it has; dash: of
    what is beside the main curve; marked: a symbol stands at every value; hover: a template for a point."""

    panel: str
    group: str
    x: Floats
    y: Floats
    title: str = ""
    dash: str = ""
    marked: bool = False
    is_points: bool = False
    hover: str = "%{x:.3~g}, %{y:.4~g}"


@dataclass(frozen=True)
class Layer:
    """One experiment's part. n: what it is a mean of, or how many points, in words; words: what of the figure's caption
    is true of every experiment."""

    axes: tuple[Axes, ...]
    series: tuple[Series, ...]
    n: str = ""
    words: str = ""
