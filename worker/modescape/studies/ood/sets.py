"""Images of another kind (the paper's SVHN row): what was measured on them, by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from modescape.drawing import groups
from modescape.drawing.figure import FigureData
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.words import rate
from modescape.registry import datasets
from modescape.results import Results
from modescape.spec_parts import SYNTHETIC
from modescape.studies.ood.images import title as set_title
from modescape.tables import Measurement

_SET: Any = Field(0, ge=0, le=7, description="Which of the experiment's sets of other images; 0 is the first.")


class SetOptions(FigureOptions):
    """Which images."""

    ood: int = _SET

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"ood": {str(i): set_title(study) for i, study in enumerate(results.spec.ood)}}


@dataclass(frozen=True, kw_only=True)
class SetData(FigureData):
    """about: the set of images; runs: that were shown them."""

    about: Mapping[str, Any]
    runs: int

    @property
    def title(self) -> str:
        return str(self.about["title"])


def measured_on(results: Results, index: int) -> list[Measurement]:
    """Measurements of one set of images, those of the spec's groups only, in their order. Raises FigureNotReady."""
    planned = results.spec.ood
    if not planned:
        raise FigureNotReady("no images of another kind in this spec; name a set under Out of distribution")
    if index >= len(planned):
        raise FigureNotReady(f"this spec has no set {index} of other images; it has {len(planned)}")
    prefix = f"ood/{index}/"
    found = [m for m in results.measurements() if m.subject.startswith(prefix)]
    if not found:
        raise FigureNotReady("the comparison comes after every run’s predictions", waits_for=("ood", "ood-compare"))
    order = {name: i for i, name in enumerate(groups.all_groups(results))}
    return sorted(found, key=lambda m: (order.get(m.details["group"], len(order)), m.subject, m.metric))


group_title = partial(groups.group_title, trajectory="latest checkpoints")


def inside(title: str) -> str:
    """A set's title inside a sentence: "SVHN", "uniform noise"; what one's own images are called stays as it is."""
    known = title in {*SYNTHETIC.values(), *(entry.title for entry in datasets.values())}
    is_name = not known or title[1:2].isupper() or "-" in title
    return title if is_name else title[:1].lower() + title[1:]


def runs_shown(measured: Sequence[Measurement]) -> int:
    """Runs that were shown the images."""
    return max((int(m.details["runs"]) for m in measured if "runs" in m.details), default=0)


def deviation(value: float) -> str:
    return f" ± {rate(value)}" if np.isfinite(value) else ""
