"""A home as a source: its store and files, asked in this process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import orjson
from pydantic import ValidationError

from modescape import asking, bulk, pydantic_errors
from modescape.client.nearest import raise_unknown
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
from modescape.client.source import Hold, Listed, Pairs
from modescape.client.tables import Table
from modescape.columns import EXPERIMENTS, MEASUREMENTS, SOLUTIONS, STAGES, Fields
from modescape.errors import InvalidInput
from modescape.finding import Finding
from modescape.laboratory import Laboratory, export
from modescape.listing import MAX_LIMIT, ListQuery, Page
from modescape.records import BulkDeed, BulkDone, Json
from modescape.registry import Figure, figures, presets
from modescape.spec import stored
from modescape.store.groups import Group
from modescape.tables import Report, SavedView

if TYPE_CHECKING:
    from modescape.comparing import Comparison
    from modescape.drawing.forms import Asked

_POLL_SECONDS = 0.3
_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z  # as the server writes it


class Here:
    """One laboratory."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self._store = laboratory.store

    @property
    def title(self) -> str:
        return str(self._laboratory.settings.home)

    def experiments(self, asked: Pairs) -> Table:
        return _listed(EXPERIMENTS, asked, self._store.experiments.page)

    def groups(self, asked: Pairs, by: str, numbers: Sequence[str]) -> tuple[str, list[Group]]:
        words = asking.read(EXPERIMENTS, asked)
        return words.words, self._store.experiments.groups(words.query, by, numbers)

    def views(self) -> list[ViewEntry]:
        return [_view(row) for row in self._store.views.all()]

    def keep_view(self, name: str, query: str) -> ViewEntry:
        return _view(self._store.views.add(name, query))

    def remove_view(self, slug: str) -> None:
        self._store.views.remove(slug)

    def act(self, deed: BulkDeed, slugs: Sequence[str], line: str | None, *, dry: bool) -> BulkDone:
        found = list(slugs) if line is None else bulk.matching(self._store, [("q", line)])
        return bulk.would(self._laboratory, found) if dry else bulk.act(self._laboratory, deed, found)

    def sweeps(self) -> Table:
        columns = ("slug", "name", "created_at", "fields", "cells", "ended")
        rows = tuple(
            {"slug": one.row.slug, "name": one.row.name, "created_at": one.row.created_at,
             "fields": list(one.row.document["over"]), "cells": len(one.cells),
             "ended": sum(row.status.has_ended for row in one.experiments)}
            for one in self._store.sweeps.all()
        )  # fmt: skip
        return Table(columns, rows, "Sweeps, newest first", len(rows))

    def detail(self, slug: str) -> Detail:
        row = self._store.experiments.get(slug)
        found, look, stages = Finding.of(row), self._laboratory.look(row), self._store.stages.without_results(row.id)
        line = _plain(EXPERIMENTS.document(row))
        told = {
            **line, "notes": row.notes, "spec": row.spec, "verdict": found.sentence_at(look) if row.finding else None,
            "findings": found.document(look), "odd": (row.provenance or {}).get("odd", []),
            "unanswered": [asdict(one) for one in found.unanswered(stored(row.spec), stages)],
            "stages": [STAGES.document(stage) for stage in stages], "waits": self._laboratory.waits(stages),
        }  # fmt: skip
        return Detail.from_json(_plain(told), line)

    def rows(self, slug: str, listed: Listed, asked: Pairs) -> Table:
        row, results = self._store.experiments.get(slug), self._store.results
        fields: Fields[Any] = SOLUTIONS if listed == "solutions" else MEASUREMENTS
        find: Callable[..., Page[Any]] = results.solutions if listed == "solutions" else results.measurements

        def page(asked: ListQuery) -> Page[Any]:
            return find(row.id, asked.conditions, sort=asked.sort, cursor=asked.cursor, limit=asked.limit)

        return _listed(fields, asked, page)

    def matrices(self, slug: str) -> list[MatrixEntry]:
        kept = self._store.results.matrices(self._store.experiments.get(slug).id)
        return [MatrixEntry(one.name, one.split, tuple(one.rows), tuple(one.columns)) for one in kept]

    def matrix(self, slug: str, entry: MatrixEntry, names: tuple[str, ...]) -> Matrix:
        found = self._laboratory.results(slug).matrix(entry.name, entry.split)
        if found is None:
            raise_unknown("matrix", entry.name, [one.name for one in self.matrices(slug)])
        return Matrix(found.name, found.split, np.array(found.values), tuple(found.rows), tuple(found.columns), names)

    def figures(self, slug: str) -> list[FigureEntry]:
        from modescape.drawing.figure import of_experiment
        from modescape.drawing.progress import progress, state
        from modescape.drawing.reading import FigureNotReady

        results = self._laboratory.results(slug)
        stages = self._store.stages.without_results(results.experiment.id)

        def how_far(figure: Figure) -> str:
            try:
                found = figure.call(results, figure.options())
            except FigureNotReady as waiting:
                found = waiting
            return state(progress(figure, stages, results), found)

        entries = []
        for one in figures.values():
            said = of_experiment(one, results.voice)
            entries.append(FigureEntry(one.name, said.title, said.question, how_far(one)))
        return entries

    def figure(self, slug: str, name: str, asked: Asked, options: Mapping[str, Any]) -> bytes:
        from modescape.drawing import forms

        results, entry = self._laboratory.results(slug), figures[name]
        try:
            data = entry.call(results, entry.options.model_validate(options))
        except ValidationError as error:
            raise pydantic_errors.invalid(error, entry.options) from None
        row = results.experiment
        home = forms.Home(entry, data, row.name, row.slug, options, str(self._laboratory.settings.home))
        return forms.made(home, asked)

    def export(self, slug: str, target: Path) -> int:
        return export(self._laboratory, slug, target)

    def launch(self, draft: Draft) -> Launched:
        from modescape import celery_queue
        from modescape.sweeps import launching
        from modescape.sweeps.asked import is_sweep

        settings = self._laboratory.settings
        document = _asked(draft)
        if is_sweep(document):
            prepared = launching.prepare(self._laboratory, document, fresh=draft.fresh)
            sweep = launching.create(
                self._laboratory, prepared, name=draft.name or "sweep", notes=draft.notes, tags=draft.tags,
                fresh=draft.fresh, priority=draft.priority,
            )  # fmt: skip
            for one in self._store.sweeps.get(sweep.id).experiments:
                celery_queue.dispatch(settings, self._store, one.id)
            return Launched("sweep", sweep.slug)
        name = draft.name or (presets[draft.preset].title if draft.preset else "experiment")
        row = self._laboratory.create(
            document, name=name, preset=draft.preset, fresh=draft.fresh, priority=draft.priority, notes=draft.notes,
            tags=draft.tags, project=draft.project,
            parent=self._store.experiments.get(draft.parent).slug if draft.parent else None,
        )  # fmt: skip
        celery_queue.dispatch(settings, self._store, row.id)
        return Launched("experiment", row.slug)

    def estimate(self, draft: Draft) -> Estimate:
        from modescape.sweeps import launching
        from modescape.sweeps.asked import is_sweep

        document = _asked(draft)
        if is_sweep(document):
            sweep = launching.prepare(self._laboratory, document, as_published=True, fresh=draft.fresh)
            warnings = dict.fromkeys(text for one in sweep.cells for text in one.prepared.plan.warnings)
            told: Json = {**asdict(sweep.price), "warnings": warnings}
            missing, refused = sweep.missing, launching.too_much(self._laboratory, sweep)
        else:
            one = self._laboratory.prepare(document, as_published=True, fresh=draft.fresh)
            told, missing = {name: getattr(one.plan, name) for name in _OF_PLAN}, one.missing
            refused = self._laboratory.too_much(one)
        beside = {"missing": [asdict(each) for each in missing], "refused": [asdict(each) for each in refused]}
        return Estimate.from_json({**told, **beside, "free_bytes": self._laboratory.artifacts.free})

    def events(self, slug: str | None) -> Iterator[Event | None]:
        row = None if slug is None else self._store.experiments.get(slug).id
        last = self._store.events.last_id()
        yield None
        while True:
            for one in self._store.events.after(last, experiment_id=row):
                last = one.id
                yield Event(one.id, str(one.kind), one.payload)
            yield None
            time.sleep(_POLL_SECONDS)

    def hold(self, slug: str, how: Hold) -> None:
        from modescape import celery_queue

        row = getattr(self._store.experiments, how)(slug)
        if how in ("resume", "retry"):
            celery_queue.dispatch(self._laboratory.settings, self._store, row.id)

    def prioritise(self, slug: str, priority: int) -> None:
        self._store.experiments.patch(slug, priority=priority)

    def cells(self, sweep: str) -> tuple[SweepCell, ...]:
        return tuple(
            SweepCell(one.number + 1, dict(one.varied), None, None) if (row := one.experiment) is None else
            SweepCell(one.number + 1, dict(one.varied), row.slug, row.status, row.stages_done, row.stages_total)
            for one in self._store.sweeps.get(sweep).cells
        )  # fmt: skip

    def hold_sweep(self, sweep: str, how: Hold) -> None:
        from modescape import celery_queue
        from modescape.sweeps import launching

        launching.act(self._laboratory, sweep, launching.Verb(how))
        for one in self._store.sweeps.get(sweep).experiments if how in ("resume", "retry") else ():
            celery_queue.dispatch(self._laboratory.settings, self._store, one.id)

    def compare(self, slugs: Sequence[str], reference: str | None) -> Comparison:
        from modescape.comparing import Comparison, compare

        found = compare(*map(self._laboratory.results, slugs), reference=reference)
        return Comparison.from_json(_plain(found.document()))

    def bring(self, path: Path, name: str, answers: Mapping[str, str | None]) -> str:
        from modescape.imported.arrays import printable
        from modescape.imported.ensemble import OutputKind, Recipe
        from modescape.imported.reading import read
        from modescape.importing import Answers, bring_in
        from modescape.laboratory import Started

        kind = OutputKind(one) if (one := _one_of("kind", answers, OutputKind)) else None
        recipe = Recipe(one) if (one := _one_of("recipe", answers, Recipe)) else None
        permutation = cast(Literal["apply", "keep"] | None, _one_of("permutation", answers, ("apply", "keep")))
        mixed = cast(Literal["keep"] | None, _one_of("mixed", answers, ("keep",)))
        ensemble = read(
            path, name=name, kind=kind, recipe=recipe, outputs=answers.get("outputs"), labels=answers.get("labels")
        )
        row = bring_in(
            self._laboratory, ensemble, name=name,
            answers=Answers(kind=kind, permutation=permutation, recipe=recipe, mixed=mixed),
            provenance={"path": printable(str(path.absolute()))},
        )  # fmt: skip
        Started(self._laboratory, None).finish(row, progress=False)
        return row.slug

    def reports(self) -> list[ReportEntry]:
        return [_report(row) for row in self._store.reports.all()]

    def report(self, slug: str) -> ReportEntry:
        row = self._store.reports.get(slug)
        return replace(_report(row), blocks=tuple(row.blocks))

    def write_report(self, name: str, blocks: Sequence[Json] | None, experiment: str | None) -> ReportEntry:
        from modescape.reports import writing

        return self.report(writing.create(self._laboratory, name, blocks, experiment).slug)

    def change_report(self, slug: str, name: str | None, blocks: Sequence[Json] | None, revision: int) -> ReportEntry:
        from modescape.reports import writing

        writing.change(self._laboratory, slug, name=name, documents=blocks, revision=revision)
        return self.report(slug)

    def report_revisions(self, slug: str) -> list[RevisionEntry]:
        rows = self._store.reports.revisions(slug)
        return [RevisionEntry(row.revision, row.name, row.by, row.at) for row in rows]

    def restore_report(self, slug: str, revision: int) -> ReportEntry:
        return self.report(self._store.reports.restore(slug, revision).slug)

    def take_report(self, slug: str, form: str) -> bytes:
        from modescape.reports import writing

        with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
            writing.take(self._laboratory, slug, form, str(self._laboratory.settings.home), Path(folder) / "made")
            return (Path(folder) / "made").read_bytes()


_OF_PLAN = ("seconds", "low", "high", "bytes", "workers", "basis", "here", "stages", "warnings")


def _asked(draft: Draft) -> Json:
    """The document of a draft, or that of its preset."""
    if draft.document is None and draft.preset is not None:
        return dict(presets[draft.preset].call())
    return draft.document or {}


def _view(row: SavedView) -> ViewEntry:
    return ViewEntry(row.slug, row.name, row.query, row.created_by, row.created_at)


def _report(row: Report) -> ReportEntry:
    return ReportEntry(row.slug, row.name, row.revision, row.created_by, row.changed_at)


def _one_of(name: str, answers: Mapping[str, str | None], allowed: Iterable[str]) -> str | None:
    """An answer, where it is given. Raises InvalidInput."""
    said = answers.get(name)
    if said is not None and said not in (known := [str(one) for one in allowed]):
        raise InvalidInput(f"is {said!r}", field=name, allowed=", ".join(known))
    return said


def _plain(document: Json) -> Json:
    """The document as a server would have sent it: no NaN, times as texts."""
    found: Json = orjson.loads(orjson.dumps(document, option=_JSON))
    return found


def _listed(fields: Fields[Any], pairs: Pairs, find: Callable[[ListQuery], Page[Any]]) -> Table:
    """What the list of the API answers to these parameters, without a `limit` to the end."""
    asked = asking.read(fields, pairs)
    named = [part.strip() for key, value in pairs if key == "fields" for part in value.split(",")]
    computed = tuple(dict.fromkeys(name for name in named if fields.beside(name) is not None))
    limited = any(key == "limit" for key, _ in pairs)
    query = replace(asked.query, show=computed, limit=asked.query.limit if limited else MAX_LIMIT)
    documents: list[Json] = []
    while True:
        page = find(query)
        for number, row in enumerate(page.items):
            shown = page.shown[number] if computed else ()
            documents.append(_plain(fields.document(row) | dict(zip(computed, shown, strict=True))))
        if limited or page.next is None:
            return Table.of(fields, documents, title=asked.words, total=page.total, more=computed)
        query = replace(query, cursor=page.next)
