"""A sweep in a notebook or a terminal: run here and now, and at hand.

import modescape as ms
found = ms.sweep({"base": "quickstart", "over": {"training.learning_rate": [0.001, 0.003]}, "runs": 5})
found                                                   # claims by cell, and the sentences over all cells
found.figure("gain", x="training.learning_rate").show()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modescape import documents, extras
from modescape.drawing.style import Theme
from modescape.laboratory import Laboratory, Started, opened, started
from modescape.sweeps import launching, telling
from modescape.sweeps.asked import label
from modescape.sweeps.numbers import Numbers, draw
from modescape.sweeps.telling import ClaimTold

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.store.sweeps import KeptSweep


class Swept:
    """A sweep that is kept somewhere: what its cells say now."""

    def __init__(self, laboratory: Laboratory, reference: str, here: Started | None = None) -> None:
        self.laboratory = laboratory
        self._reference = reference
        self._here = here  # a temporary folder is removed with this object

    @property
    def kept(self) -> KeptSweep:
        return self.laboratory.store.sweeps.get(self._reference)

    @property
    def slug(self) -> str:
        return self.kept.row.slug

    @property
    def experiments(self) -> list[str]:
        """Slugs, in the order of the cells."""
        return [row.slug for row in self.kept.experiments]

    def claims(self) -> list[ClaimTold]:
        """What the cells say of each claim."""
        return telling.told(self.kept, self.laboratory.store.experiments.looks)

    def numbers(self) -> Numbers:
        """Every number of every cell."""
        return Numbers(self.laboratory, self.kept)

    def figure(
        self, y: str = "accuracy", *, x: str = "", by: str = "", difference: bool = False, theme: Theme = "light"
    ) -> go.Figure:
        """One number against a varied field (empty: the first). Raises InvalidInput."""
        found = self.numbers()
        return draw(found, theme, y=y, x=x or found.fields[0], by=by, from_first=difference)

    def csv(self) -> str:
        """Claims by cell."""
        return telling.csv(self.kept, self.claims())

    def latex(self) -> str:
        """The same as a table for a paper."""
        return telling.latex(self.kept, self.claims())

    def __repr__(self) -> str:
        kept = self.kept
        lines = [f"{kept.row.name}: {len(kept.cells)} cells"]
        lines += [f"  {cell.number + 1}  {label(cell.varied)}  {_state(cell.experiment)}" for cell in kept.cells]
        for claim in self.claims():
            words = "  ".join(f"{one.glyph}{'*' if one.stands else ''}" for one in claim.cells)
            lines += [f"({claim.letter}) {claim.title}: {words}", f"    {claim.in_every} {claim.in_some}".rstrip()]
        return "\n".join(lines)


def _state(row: Any) -> str:
    return "deleted" if row is None else f"{row.slug} ({row.status})"


def sweep(
    document: object, *, folder: Path | str | None = None, name: str = "sweep", fresh: bool = False,
    progress: bool = True,
) -> Swept:  # fmt: skip
    """Run an experiment for every combination of values, here and now. document: what is asked, or a file of it.

    folder: where to keep database and artifacts, None for a temporary folder.
    Raises InvalidInput, DataMissing with the field and the value, ExtraMissing, before anything starts.
    """
    if isinstance(document, str | Path):
        document = documents.read(document).document
    return run_here(started(folder, None), document, name=name, fresh=fresh, progress=progress)


def run_here(here: Started, document: object, *, name: str, fresh: bool, progress: bool) -> Swept:
    extras.require("worker", "training networks", "torch")
    prepared = launching.prepare(here.laboratory, document, fresh=fresh)
    row = launching.create(here.laboratory, prepared, name=name, fresh=fresh)
    for experiment in here.laboratory.store.sweeps.get(row.id).experiments:
        here.finish(experiment, progress=progress)
    return Swept(here.laboratory, row.id, here)


def open_sweep(reference: str, folder: Path | str | None = None) -> Swept:
    """One that is kept in `folder` (None: in that of the settings). Raises NotFound, ConfigurationError."""
    laboratory = opened(folder)
    return Swept(laboratory, laboratory.store.sweeps.get(reference).row.id)
