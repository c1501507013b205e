"""What a notebook holds: the experiments of a home or of a server, with everything one does with them.

    import modescape as ms
    lab = ms.open("~/.modescape")                     # or ms.connect("https://lab.example", token="...")
    lab.experiments(dataset="digits", accuracy__gte=0.9, sort="-disagreement")
    one = lab.experiment("quickstart")
    one.claims, one.solutions.to_pandas(), one.matrix("cosine")
    one.figure("plane").show()
    for progress in lab.launch("quickstart").watch():
        print(progress)

Numbers, words and figures are the same from both.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from modescape import stored_values
from modescape.claims.telling import star
from modescape.client.nearest import Suggesting, raise_unknown, unknown
from modescape.client.records import (
    Claim,
    Detail,
    Draft,
    Estimate,
    FigureEntry,
    Launched,
    Matrix,
    MatrixEntry,
    Progress,
    ReportEntry,
    RevisionEntry,
    Stage,
    SweepCell,
    SweepProgress,
    ViewEntry,
)
from modescape.client.source import Form, Hold, Pairs, Source
from modescape.client.tables import Row, Table
from modescape.columns import EXPERIMENTS, MEASUREMENTS, Fields
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.records import PRIORITIES, BulkAction, BulkDeed, BulkDone, EventKind, Json, Role, Status
from modescape.store.groups import GROUP_NUMBERS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.comparing import Comparison
    from modescape.drawing.style import Theme
    from modescape.settings import Settings
    from modescape.spec import ExperimentSpec

_OFTEN = (EventKind.PROGRESS, EventKind.POINTS)  # events that change nothing `Progress` says
T = TypeVar("T")
_THEMES = ("light", "dark", "print")


class Workspace(Suggesting):
    """The experiments of a home or of a server."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def experiments(
        self, text: str = "", *, sort: str | None = None, limit: int | None = None, columns: Sequence[str] = (),
        view: str | None = None, **filters: Any,
    ) -> Table:  # fmt: skip
        """The list, as page and REST interface filter and sort it: `dataset="digits"`, `runs__gte=10`,
        `method=["dropout", "swag"]`, `archived=True`, and by any field of the spec or result with its path as in
        `**{"spec.training.learning_rate__lt": 0.01}`.

        text: the line of the search box, such as `accuracy>0.9 tag:paper or claim:b=holds`; sort: a column, `-` before
        it for largest first; limit: None gives all; columns: those wanted, or one, also `spec.<path>` and
        `result.<path>`; view: a kept one to begin with, by slug. Raises InvalidInput, and NotFound for an unknown
        column or view.
        """
        columns = (columns,) if columns and isinstance(columns, str) else tuple(columns)  # letters are no columns
        for name in columns:
            if name not in EXPERIMENTS.keys and EXPERIMENTS.beside(name) is None:
                computed = stored_values.known() if "." in name else ()
                raise_unknown("column", name, (*EXPERIMENTS.keys, *computed))
        fields = list(dict.fromkeys([*EXPERIMENTS.keys, *columns])) if columns else []
        asked = self._asked(text, view)
        asked += [("sort", sort)] if sort else []
        asked += [("limit", str(limit))] if limit is not None else []
        asked += [("fields", ",".join(fields))] if fields else []
        found = self._source.experiments([*asked, *_query(filters, EXPERIMENTS)])
        return found.select(*columns) if columns else found

    def experiment(self, slug: str) -> Experiment:
        """One of them, by slug or id. Raises NotFound with the nearest slugs."""
        return Experiment(self, self._source, self._known(slug, lambda: self._source.detail(slug)).slug)

    def groups(
        self,
        by: str,
        text: str = "",
        *,
        numbers: Sequence[str] = GROUP_NUMBERS,
        view: str | None = None,
        **filters: Any,
    ) -> Table:
        """How many experiments have each value of a field, with mean and standard deviation (over n - 1) of numbers:
        `groups("dataset", method="swag")`. One with several values (methods, tags) counts in the group of each. text,
        view, filters: as of `experiments`. Raises InvalidInput, NotFound for an unknown view."""
        words, found = self._source.groups([*self._asked(text, view), *_query(filters, EXPERIMENTS)], by, numbers)
        columns = [by, "n", *(column for name in numbers for column in (name, f"{name} sd"))]
        rows = [
            {by: one.value, "n": one.n} | {name: one.numbers[name].mean for name in numbers}
            | {f"{name} sd": one.numbers[name].sd for name in numbers}
            for one in found
        ]  # fmt: skip
        return Table(tuple(columns), tuple(rows), words, len(rows))

    def _asked(self, text: str, view: str | None) -> list[tuple[str, str]]:
        """Of a view, with the line of the search box instead of its own where there is one. Raises NotFound."""
        asked: list[tuple[str, str]] = []
        if view is not None:
            kept = {one.slug: one for one in self._source.views()}
            if view not in kept:
                raise_unknown("view", view, kept)
            asked = [(key, value) for key, value in parse_qsl(kept[view].query) if not (text and key == "q")]
        return [*asked, ("q", text)] if text else asked

    def views(self) -> tuple[ViewEntry, ...]:
        """Ways to look at the list that have a name, by their names."""
        return tuple(self._source.views())

    def keep_view(self, name: str, query: str) -> ViewEntry:
        """query: what stands behind the question mark of the list's address. Raises InvalidInput, Forbidden."""
        return self._source.keep_view(name, query)

    def remove_view(self, slug: str) -> None:
        """The experiments stay. Raises NotFound, Forbidden."""
        self._source.remove_view(slug)

    def change(
        self, *slugs: str, search: str | None = None, tag: Sequence[str] = (), untag: Sequence[str] = (),
        project: str | None = None,
    ) -> BulkDone:  # fmt: skip
        """Tags and project of the experiments that are named, or that a line of the search box finds. tag, untag: to
        add and to take away; project: "" takes them out of theirs. What cannot be done to one is told in `failed`.
        Raises InvalidInput where nothing, or more than a thousand, are meant."""
        return self._act(BulkDeed(BulkAction.CHANGE, _several(tag), _several(untag), project), slugs, search)

    def archive(self, *slugs: str, search: str | None = None) -> BulkDone:
        """As `change`: out of the lists, with everything kept."""
        return self._act(BulkDeed(BulkAction.ARCHIVE), slugs, search)

    def restore(self, *slugs: str, search: str | None = None) -> BulkDone:
        """As `change`: back from the archive; a line finds archived ones by `archived:true`."""
        return self._act(BulkDeed(BulkAction.RESTORE), slugs, search)

    def purge(self, *slugs: str, search: str | None = None, dry: bool = False) -> BulkDone:
        """As `change`: archived ones, for good. dry: only which, and the bytes that it would free."""
        return self._act(BulkDeed(BulkAction.PURGE), slugs, search, dry=dry)

    def _act(self, deed: BulkDeed, slugs: Sequence[str], search: str | None, *, dry: bool = False) -> BulkDone:
        if (search is None) == (not slugs):
            raise InvalidInput("which?", field="experiments", allowed="either slugs and ids, or search")
        deed.check()
        return self._source.act(deed, slugs, search, dry=dry)

    def sweeps(self) -> Table:
        """All sweeps, newest first."""
        return self._source.sweeps()

    def sweep(self, slug: str) -> Sweep:
        """One of them, by slug or id. Raises NotFound with the nearest slugs."""
        try:
            self._source.cells(slug)
        except NotFound:
            raise NotFound(unknown("sweep", slug, self._source.sweeps().column("slug"))) from None
        return Sweep(self, self._source, slug)

    def reports(self) -> tuple[ReportEntry, ...]:
        """All reports, those changed last first."""
        return tuple(self._source.reports())

    def report(self, slug: str) -> Report:
        """One of them, by slug or id. Raises NotFound with the nearest slugs."""
        try:
            found = self._source.report(slug)
        except NotFound:
            raise NotFound(unknown("report", slug, [one.slug for one in self._source.reports()])) from None
        return Report(self._source, found)

    def write_report(self, name: str, blocks: Sequence[Json] | None = None, *, experiment: str | None = None) -> Report:
        """A new report. blocks: as the API takes them; experiment: without blocks, it begins with what there is of that
        one. Raises InvalidInput naming the block and field, NotFound."""
        return Report(self._source, self._source.write_report(name, blocks, experiment))

    def launch(
        self, spec: ExperimentSpec | Json | Path | str, *, name: str | None = None, preset: str | None = None,
        fresh: bool = False, priority: str = "normal", notes: str = "", tags: Sequence[str] = (), project: str = "",
        parent: str | None = None,
    ) -> Experiment | Sweep:  # fmt: skip
        """Launch a spec, a file of one (JSON or YAML), a preset by name, or a sweep (a document with `over`) for the
        workers.

        preset: the one a spec began as; fresh: nothing is taken over from earlier experiments; priority: low, normal or
        high; parent: the experiment it is a clone of, which a sweep has not, nor a project. Raises InvalidInput,
        DataMissing, NotFound.
        """
        launched = self.launched(
            spec, name=name, preset=preset, fresh=fresh, priority=priority, notes=notes, tags=tags, project=project,
            parent=parent,
        )  # fmt: skip
        if launched.kind == "sweep":
            return Sweep(self, self._source, launched.slug)
        return Experiment(self, self._source, launched.slug)

    def launched(
        self, spec: ExperimentSpec | Json | Path | str, *, name: str | None, preset: str | None, fresh: bool,
        priority: str = "normal", notes: str = "", tags: Sequence[str] = (), project: str = "",
        parent: str | None = None,
    ) -> Launched:  # fmt: skip
        """As `launch`, saying what was made and where."""
        draft = _draft(spec, name, preset, fresh)
        return self._source.launch(
            replace(draft, priority=_priority(priority), notes=notes, tags=tuple(tags), project=project, parent=parent)
        )

    def estimate(self, spec: ExperimentSpec | Json | Path | str, *, fresh: bool = False) -> Estimate:
        """What launching this would do and cost: every check is made, and nothing is stored. Raises as `launch`, but
        data sets that are not here are told in `missing`."""
        return self._source.estimate(_draft(spec, None, None, fresh))

    def watch(self, slug: str) -> Iterator[Progress | SweepProgress]:
        """How far an experiment or a sweep is, now and whenever that changes, until it has ended. Of both of one name,
        the experiment; `sweep(...).watch()` is the other. Raises NotFound."""
        if self._is_sweep(slug):
            return self._watch_sweep(slug)
        return self._watch(self.experiment(slug).slug)

    def _is_sweep(self, slug: str) -> bool:
        """Whether no experiment is called so, and a sweep is."""
        try:
            self._source.detail(slug)
        except NotFound:
            try:
                return bool(self._source.cells(slug))
            except NotFound:
                return False
        return False

    def _watch(self, slug: str) -> Iterator[Progress]:
        seen = None
        for now in self._looks(slug, lambda: self._source.detail(slug).progress):
            if now != seen:
                yield now
            seen = now
            if now.status.has_ended:
                return

    def _watch_sweep(self, slug: str) -> Iterator[SweepProgress]:
        seen = None
        for now in self._looks(None, lambda: SweepProgress.of_cells(slug, self._source.cells(slug))):
            if now != seen:
                yield now
            seen = now
            if now.has_ended:
                return

    def _looks(self, slug: str | None, look: Callable[[], T]) -> Iterator[T]:
        """What is seen now, and after each event that may have changed it."""
        for event in self._source.events(slug):
            if event is None or event.kind not in _OFTEN:
                yield look()

    def cancel(self, slug: str) -> None:
        """Stop an experiment, or all cells of a sweep that have not ended; `retry` takes it up again. Raises NotFound,
        and Conflict once an experiment has ended."""
        self._hold(slug, "cancel")

    def pause(self, slug: str) -> None:
        """Stop an experiment or a sweep for now: what runs is saved. Raises as `cancel`."""
        self._hold(slug, "pause")

    def resume(self, slug: str) -> None:
        """Go on after a pause. Raises as `cancel`."""
        self._hold(slug, "resume")

    def retry(self, slug: str) -> None:
        """Have what failed or was cancelled of an experiment or a sweep done again, from what is saved. Raises
        NotFound, Conflict where there is nothing to retry, and InvalidInput for more than one user may have."""
        self._hold(slug, "retry")

    def _hold(self, slug: str, how: Hold) -> None:
        if self._is_sweep(slug):
            self._source.hold_sweep(slug, how)
        else:
            self._known(slug, lambda: self._source.hold(slug, how))

    def prioritise(self, slug: str, priority: str) -> None:
        """Have an experiment's stages claimed before those of lower priorities: low, normal or high. Raises NotFound,
        InvalidInput."""
        self._known(slug, lambda: self._source.prioritise(slug, _priority(priority)))

    def compare(self, *slugs: str, reference: str | None = None) -> Comparison:
        """Several experiments side by side. reference: that from which differences are; None is the first. Raises
        InvalidInput for fewer than two or more than 24, NotFound."""
        if len(slugs) == 1:
            raise InvalidInput("one alone has nothing to be compared with", field="experiments", allowed="two to 24")
        return self._known(", ".join(slugs), lambda: self._source.compare(slugs, reference), *slugs)

    def import_(
        self, path: Path | str, *, name: str | None = None, labels: str | None = None, outputs: str | None = None,
        kind: str | None = None, recipe: str | None = None, permutation: str | None = None,
        mixed: str | None = None,
    ) -> Experiment:  # fmt: skip
        """Bring in an ensemble made elsewhere: a folder, an archive, an .npz or a table. A home judges it here and now,
        a server has its workers do it (`watch`).

        labels, outputs: names of arrays in an .npz, or a file of labels; kind: logits, probs, log-probs or labels;
        recipe: same, different or unknown; permutation: apply or keep; mixed: keep. Raises InvalidInput.
        """
        path = Path(path).expanduser()
        answers = {"labels": labels, "outputs": outputs, "kind": kind, "recipe": recipe, "permutation": permutation,
                   "mixed": mixed}  # fmt: skip
        return self.experiment(self._source.bring(path, name or path.stem, answers))

    def _known(self, slug: str, ask: Callable[[], T], *slugs: str) -> T:
        """What is asked of an experiment. Raises NotFound with the nearest slugs."""
        try:
            return ask()
        except NotFound:
            there = self._source.experiments([("fields", "slug,name")]).column("slug")
            for one in slugs or (slug,):
                if one not in there:
                    try:
                        self._source.detail(one)  # an id, or one that is archived
                    except NotFound:
                        raise NotFound(unknown("experiment", one, there)) from None
            raise

    def __getitem__(self, slug: str) -> Experiment:
        return self.experiment(slug)

    def _ipython_key_completions_(self) -> list[str]:
        return [str(slug) for slug in self._source.experiments([("limit", "1000")]).column("slug")]

    def __repr__(self) -> str:
        newest = self._source.experiments([("limit", "10")])
        shown = newest.select("slug", "status", "runs", "accuracy", "disagreement").text()
        return f"Workspace at {self._source.title}: {newest.total} experiments\n{shown if newest.rows else ''}".rstrip()

    def _repr_html_(self) -> str:
        newest = self._source.experiments([("limit", "10")])
        table = newest.select("slug", "name", "status", "runs", "accuracy", "disagreement", "finding")._repr_html_()
        return f"<p>Workspace at {html.escape(self._source.title)}</p>{table}"


class Experiment(Suggesting):
    """One experiment as it stands whenever it is asked."""

    def __init__(self, workspace: Workspace, source: Source, slug: str) -> None:
        self._workspace, self._source = workspace, source
        self.slug = slug

    @property
    def detail(self) -> Detail:
        """Everything about it but its results."""
        return self._source.detail(self.slug)

    @property
    def name(self) -> str:
        return self.detail.name

    @property
    def status(self) -> Status:
        return self.detail.status

    @property
    def created(self) -> datetime:
        return self.detail.created

    @property
    def spec(self) -> ExperimentSpec:
        """What was promised."""
        from modescape.spec import stored

        return stored(self.detail.spec)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.detail.stages

    @property
    def row(self) -> Row:
        """Its line in the list."""
        return self.detail.row

    @property
    def sentence(self) -> str:
        """What it says of its question, "" while nothing is known."""
        return self.detail.sentence

    @property
    def odd(self) -> tuple[str, ...]:
        """What was noticed of an ensemble that was made elsewhere when it came in; () of what was trained here."""
        return self.detail.odd

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of the paper as it answers them, each with words and interval; () while nothing is compared."""
        return self.detail.claims

    @property
    def solutions(self) -> Table:
        """Every checkpoint, optimum and sample."""
        return self._source.rows(self.slug, "solutions", [])

    def measurements(self, **filters: Any) -> Table:
        """Numbers of solutions and of groups: `metric="accuracy"`, `split="test"`, ... Raises InvalidInput."""
        return self._source.rows(self.slug, "measurements", _query(filters, MEASUREMENTS))

    @property
    def matrices(self) -> tuple[MatrixEntry, ...]:
        """Similarity matrices and embeddings that are there."""
        return tuple(self._source.matrices(self.slug))

    def matrix(self, kind: str, split: str | None = None) -> Matrix:
        """cosine, disagreement, ...: numbers with what their rows are. split: which images; None: those of weight
        space, else the first there are. Raises NotFound with the nearest names."""
        there = self._source.matrices(self.slug)
        named = [one for one in there if one.name == kind]
        if not named:
            raise_unknown("matrix", kind, [one.name for one in there])
        order = ["", *self.detail.spec["evaluation"]["splits"]]
        found = [one for one in named if split in (None, one.split)]
        if not found:
            raise_unknown(f"split of {kind}", str(split), [one.split for one in named])
        entry = min(found, key=lambda one: order.index(one.split) if one.split in order else len(order))
        voice = self.detail.voice
        words = {row["number"]: voice(_said(row)) for row in self.solutions}
        return self._source.matrix(self.slug, entry, tuple(words.get(n, str(n)) for n in entry.rows))

    @property
    def figures(self) -> tuple[FigureEntry, ...]:
        """Every figure, and how far it is."""
        return tuple(self._source.figures(self.slug))

    def figure(self, name: str, *, theme: Theme = "light", **options: Any) -> go.Figure:
        """A figure as Plotly's; options as on its page. Raises NotFound with the nearest names, InvalidInput, and
        FigureNotReady with what it waits for."""
        from modescape.drawing.figure import decode

        return decode(self.picture(name, theme=theme, **options))

    def picture(
        self, name: str, form: Form = "json", *, theme: Theme = "light", width: int = 960, height: int | None = None,
        scale: float = 2.0, **options: Any,
    ) -> bytes:  # fmt: skip
        """A figure as Plotly JSON, its table as CSV, a page of its own (html), or in another form of `drawing.forms`.
        width: px of a picture; height: px of its plot, None as on the page; scale: device pixels for each, of PNG.
        Raises as `figure`, and ConfigurationError for a form that takes what is missing."""
        from modescape.drawing.forms import Asked, named
        from modescape.registry import figures

        if theme not in _THEMES:
            raise InvalidInput(f"is {theme!r}", field="theme", allowed=", ".join(_THEMES))
        if name not in figures and name not in (there := [one.name for one in self._source.figures(self.slug)]):
            raise_unknown("figure", name, there)
        asked = Asked(named(form).name, theme, width, height, scale)
        return self._source.figure(self.slug, name, asked, options)

    def export(self, path: Path | str) -> int:
        """Into a new folder, or its ensemble into a new .zip or .npz; how many files. Raises Conflict, NotFound."""
        return self._source.export(self.slug, Path(path).expanduser())

    def watch(self) -> Iterator[Progress]:
        """How far it is, now and whenever that changes, until it has ended."""
        return self._workspace._watch(self.slug)

    def wait(self) -> Experiment:
        """This, once it has ended."""
        for _ in self.watch():
            pass
        return self

    def cancel(self) -> None:
        """Stop it; `retry` takes it up again. Raises Conflict once it has ended."""
        self._source.hold(self.slug, "cancel")

    def pause(self) -> None:
        """Stop it for now. Raises Conflict once it has ended."""
        self._source.hold(self.slug, "pause")

    def resume(self) -> None:
        """Go on after a pause. Raises Conflict once it has ended."""
        self._source.hold(self.slug, "resume")

    def retry(self) -> None:
        """Have what failed or was cancelled done again, from what is saved. Raises Conflict where there is nothing."""
        self._source.hold(self.slug, "retry")

    def __repr__(self) -> str:
        told = self.detail
        lines = [
            f"{told.name} ({told.slug}): {told.progress.status}, {told.progress.done} of {told.progress.of} stages"
        ]
        lines += [*filter(None, (told.sentence, told.error)), *told.odd, *map(str, told.claims)]
        lines += filter(None, [star(told.claims)])
        return "\n".join([*lines, *(map(str, told.unanswered) if told.status.has_ended else ())])

    def _repr_html_(self) -> str:
        told = self.detail
        said = "".join(f"<p>{html.escape(one)}</p>" for one in (told.sentence, told.error, *told.odd) if one)
        lines = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(claim)) + "</tr>"
            for claim in told.claims
        )
        table = f"<table><tbody>{lines}</tbody></table>" if lines else ""
        table += f"<p>{html.escape(starred)}</p>" if (starred := star(told.claims)) else ""
        return f"<p><b>{html.escape(told.name)}</b>: {html.escape(str(told.progress))}</p>{said}{table}"


class Sweep(Suggesting):
    """A sweep that was launched; its cells are experiments."""

    def __init__(self, workspace: Workspace, source: Source, slug: str) -> None:
        self._workspace, self._source = workspace, source
        self.slug = slug

    @property
    def cells(self) -> tuple[SweepCell, ...]:
        """Each combination of values, and how far its experiment is."""
        return self._source.cells(self.slug)

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """Those of its cells, but for the purged ones."""
        slugs = [one.experiment for one in self.cells if one.experiment is not None]
        return tuple(Experiment(self._workspace, self._source, slug) for slug in slugs)

    def watch(self) -> Iterator[SweepProgress]:
        """How far it is, now and whenever that changes, until all cells have ended."""
        return self._workspace._watch_sweep(self.slug)

    def wait(self) -> Sweep:
        """This, once all cells have ended."""
        for _ in self.watch():
            pass
        return self

    def cancel(self) -> None:
        """Stop all cells that have not ended."""
        self._source.hold_sweep(self.slug, "cancel")

    @property
    def row(self) -> Row:
        """Its line in the list of sweeps. Raises NotFound once it is archived."""
        rows = {str(one["slug"]): one for one in self._workspace.sweeps()}
        if self.slug not in rows:
            raise_unknown("sweep", self.slug, rows)
        return rows[self.slug]

    def __repr__(self) -> str:
        row = self.row
        far = f"{row['ended']} of {row['cells']} cells ended"
        return f"{row['name']} ({self.slug}): {far}, over {', '.join(row['fields'])}"


def _draft(spec: ExperimentSpec | Json | Path | str, name: str | None, preset: str | None, fresh: bool) -> Draft:
    """What is asked for. A text is a file where it ends as one or is there, else a preset, which a server may know that
    this process does not."""
    if isinstance(spec, Path) or (isinstance(spec, str) and _names_a_file(spec)):
        from modescape import documents

        written = documents.read(Path(spec).expanduser())
        return Draft(written.document, preset, name or written.name, fresh)
    if isinstance(spec, str):
        return Draft(None, spec, name, fresh)
    return Draft(spec if isinstance(spec, dict) else spec.model_dump(mode="json"), preset, name, fresh)


def _several(texts: Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _priority(word: str) -> int:
    if word not in PRIORITIES:
        raise InvalidInput(f"is {word!r}", field="priority", allowed=", ".join(PRIORITIES))
    return PRIORITIES[word]


def _names_a_file(text: str) -> bool:
    return Path(text).suffix.lower() in (".json", ".yaml", ".yml") or Path(text).expanduser().is_file()


def _cells(claim: Claim) -> tuple[str, ...]:
    stands = " *" if claim.survives else ""
    later = f"; look {claim.look}, {claim.at_look}" if claim.at_look else ""
    return (
        f"({claim.letter})",
        claim.title,
        f"{claim.glyph} {claim.word}{stands}{later}" if claim.word is not None else f"no word yet{later}",
        claim.effect,
        claim.interval,
    )


def _said(row: Row) -> str:
    """What a solution is, in words."""
    if row["role"] == Role.OPTIMUM:
        return f"run {row['run']}"
    if row["role"] == Role.CHECKPOINT:
        return f"run {row['run']}, epoch {row['epoch']:g}" if row["epoch"] is not None else f"run {row['run']}"
    return f"run {row['run']}, {row['method']} {row['index']} ({row['set']})"


def _query(filters: dict[str, Any], fields: Fields[Any]) -> Pairs:
    """Filters as a query string has them. Raises InvalidInput with the nearest names."""
    for name in filters:
        field = name.partition("__")[0]
        if fields.find(field) is None:
            raise InvalidInput(unknown("field to filter by", field, fields.asked), field=name)
    return [(name, _text(value)) for name, value in filters.items() if value is not None]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return ",".join(map(_text, value)) if isinstance(value, list | tuple | set) else str(value)


# ---- opened ----


class Report:
    """Notes between figures, claims and numbers, which say what is so when they are read."""

    def __init__(self, source: Source, entry: ReportEntry) -> None:
        self._source, self.entry = source, entry

    @property
    def slug(self) -> str:
        return self.entry.slug

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def blocks(self) -> list[Json]:
        """As they are kept, to be changed and given to `change`."""
        return [dict(block) for block in self.entry.blocks]

    def __repr__(self) -> str:
        return f"{self.name} ({self.slug}): {len(self.entry.blocks)} blocks, revision {self.entry.revision}"

    def change(self, *, name: str | None = None, blocks: Sequence[Json] | None = None) -> None:
        """What is None stays. Raises InvalidInput, Forbidden, and Conflict where somebody changed it meanwhile."""
        self.entry = self._source.change_report(self.slug, name, blocks, self.entry.revision)

    def revisions(self) -> tuple[RevisionEntry, ...]:
        """What it said before and says now, the newest first; 20 are kept. Raises Forbidden."""
        return tuple(self._source.report_revisions(self.slug))

    def restore(self, revision: int) -> None:
        """What it said then is its next revision. Raises NotFound, Forbidden."""
        self.entry = self._source.restore_report(self.slug, revision)

    def export(self, path: Path | str) -> Path:
        """Into a new file: .html, .ipynb, .md.zip (Markdown and SVG) or .tex.zip (LaTeX and PDF figures). Raises
        InvalidInput, Conflict where it is there already, and ConfigurationError for a form that takes what is
        missing."""
        from modescape.reports.taken import FORMS

        target = Path(path).expanduser()
        form = next((one.name for one in FORMS.values() if target.name.endswith(f".{one.suffix}")), None)
        if form is None:
            allowed = ", ".join(f".{one.suffix}" for one in FORMS.values())
            raise InvalidInput(f"ends in {target.suffix!r}", field="path", allowed=allowed)
        if target.exists():
            raise Conflict(f"{target} is there already; name a new file")
        target.write_bytes(self._source.take_report(self.slug, form))
        return target


def open(home: Path | str | None = None) -> Workspace:
    """The experiments that are kept in a home (None: that of the settings). Raises ConfigurationError where there is
    none, or one of another version."""
    from modescape.client.here import Here
    from modescape.laboratory import opened

    return Workspace(Here(opened(None if home is None else Path(home).expanduser())))


def of_settings(settings: Settings, *, new: bool = False) -> Workspace:
    """The experiments of a home that settings name. new: one that is not there yet is made. Raises
    ConfigurationError."""
    from modescape.client.here import Here
    from modescape.database import check_schema
    from modescape.laboratory import Laboratory, started

    if new:
        return Workspace(Here(started(None, settings).laboratory))
    check_schema(settings.database)
    return Workspace(Here(Laboratory(settings)))


def connect(url: str, token: str | None = None) -> Workspace:
    """The experiments of a running server. token: None takes MODESCAPE_TOKEN, or the key of this home for the server
    that it runs. Raises ServerRefused where nothing answers within twenty seconds, or nobody is let in by that."""
    from modescape.client.http import There
    from modescape.settings import read_settings

    return Workspace(There(url, token or read_settings().token_for(url)))
