"""Where a workspace's answers come from: a home (`here`) or a server (`http`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from modescape.client.records import (
    Detail,
    Draft,
    Estimate,
    Event,
    FigureEntry,
    Launched,
    Matrix,
    MatrixEntry,
    ReportEntry,
    RevisionEntry,
    SweepCell,
    ViewEntry,
)
from modescape.client.tables import Table
from modescape.records import BulkDeed, BulkDone, Json
from modescape.store.groups import Group

if TYPE_CHECKING:
    from modescape.comparing import Comparison
    from modescape.drawing.forms import Asked

Pairs = Sequence[tuple[str, str]]  # of a query string
Listed = Literal["solutions", "measurements"]
Hold = Literal["cancel", "pause", "resume", "retry"]
Form = Literal["json", "csv", "html", "svg", "png", "pdf", "parquet", "tex", "py"]


class Source(Protocol):
    """What a home and a server both answer. Everything raises NotFound for an experiment that is not there, and
    InvalidInput naming the field for what is not allowed."""

    @property
    def title(self) -> str:
        """Where it is, for people."""

    def experiments(self, asked: Pairs) -> Table:
        """The rows that a query string of the list asks for, all of them without a `limit`."""

    def groups(self, asked: Pairs, by: str, numbers: Sequence[str]) -> tuple[str, list[Group]]:
        """Those that a query string finds, by the values of a field; and that as a sentence."""

    def views(self) -> list[ViewEntry]:
        """By their names."""

    def keep_view(self, name: str, query: str) -> ViewEntry: ...

    def remove_view(self, slug: str) -> None: ...

    def act(self, deed: BulkDeed, slugs: Sequence[str], line: str | None, *, dry: bool) -> BulkDone:
        """Do it to those that are named, or that a line of the search box finds; dry: say which, and what it frees."""

    def sweeps(self) -> Table:
        """Newest first."""

    def detail(self, slug: str) -> Detail: ...

    def rows(self, slug: str, listed: Listed, asked: Pairs) -> Table:
        """Solutions or measurements of an experiment."""

    def matrices(self, slug: str) -> list[MatrixEntry]: ...

    def matrix(self, slug: str, entry: MatrixEntry, names: tuple[str, ...]) -> Matrix: ...

    def figures(self, slug: str) -> list[FigureEntry]: ...

    def figure(self, slug: str, name: str, asked: Asked, options: Mapping[str, Any]) -> bytes:
        """In one of the forms of `drawing.forms`. Raises FigureNotReady."""

    def export(self, slug: str, target: Path) -> int:
        """Write into a new folder, or an ensemble into a .zip or .npz; how many files."""

    def launch(self, draft: Draft) -> Launched: ...

    def estimate(self, draft: Draft) -> Estimate:
        """Every check of a launch and its price; nothing is stored."""

    def events(self, slug: str | None) -> Iterator[Event | None]:
        """What happens to an experiment (None: to any) from now on, without end; None at once, and whenever it is time
        to look."""

    def hold(self, slug: str, how: Hold) -> None:
        """Raises Conflict where that is not possible as it stands."""

    def prioritise(self, slug: str, priority: int) -> None: ...

    def cells(self, sweep: str) -> tuple[SweepCell, ...]:
        """Of a sweep, by slug or id, archived ones too. Raises NotFound."""

    def hold_sweep(self, sweep: str, how: Hold) -> None:
        """All cells of which it is possible."""

    def compare(self, slugs: Sequence[str], reference: str | None) -> Comparison: ...

    def bring(self, path: Path, name: str, answers: Mapping[str, str | None]) -> str:
        """Import the ensemble that lies at a path; the slug of its experiment."""

    def reports(self) -> list[ReportEntry]:
        """Those changed last first."""

    def report(self, slug: str) -> ReportEntry:
        """With its blocks. Raises NotFound."""

    def write_report(self, name: str, blocks: Sequence[Json] | None, experiment: str | None) -> ReportEntry:
        """A new one; of an experiment, where no blocks are given, what there is of it."""

    def change_report(self, slug: str, name: str | None, blocks: Sequence[Json] | None, revision: int) -> ReportEntry:
        """Raises Conflict where another revision is there, Forbidden."""

    def report_revisions(self, slug: str) -> list[RevisionEntry]:
        """The newest first. Raises NotFound, Forbidden."""

    def restore_report(self, slug: str, revision: int) -> ReportEntry:
        """Raises NotFound, Forbidden."""

    def take_report(self, slug: str, form: str) -> bytes:
        """In a form of `reports.taken`."""
