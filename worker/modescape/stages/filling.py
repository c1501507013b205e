"""Arrays that are filled place by place: saved on the way, and drawn as far as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.records import EventKind
from modescape.stages.stage import Context, Json

Floats = NDArray[np.float64]
Place = tuple[int, ...]

SAVE_EVERY_SECONDS = 10.0


def fill(
    context: Context, values: Floats, view: Floats, scores: Callable[[Sequence[Place]], Iterable[Any]], *, name: str,
    about: Json, kind: str = "", before: int = 0,
) -> None:  # fmt: skip
    """Fill `values` with the scores [split, quantity] of every place, from where an earlier attempt stopped.

    view: the same numbers as [*place, split, quantity]; scores: of places, in their order; name: of the array among
    what is left; kind: of its file, if another; about: what a picture needs to know besides; before: steps that the
    stage has done already. What is saved on the way is drawn as it is: NaN where nothing is computed yet.
    """
    partial, done = context.lease.stage.partial, 0
    if partial.get(name):
        done, values[...] = int(partial["done"]), context.artifacts.array(partial[name])
    places = list(np.ndindex(view.shape[:-2]))
    left, saved = places[done:], time.monotonic()
    for place, found in zip(left, scores(left), strict=True):
        view[place] = found
        done += 1
        step = before + done
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            info = context.artifacts.put_array(values, kind or name)
            context.control.save_partial({**about, name: info.digest, "done": done}, artifacts=[info], step=step)
            context.control.note(EventKind.POINTS, {"step": step})  # open pages draw what is there
            saved = time.monotonic()
        context.control.progress(step, before + len(places))
