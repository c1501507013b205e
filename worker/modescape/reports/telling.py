"""What a report says now: its blocks in order, figures and tables numbered, every reference looked up.

told = Teller(store, artifacts).told(report)
told.parts[1].number, told.parts[1].caption      # 1, "Each point is one function ..."
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any

from modescape.artifacts import Artifacts
from modescape.claims.repeated_looks import Look
from modescape.claims.telling import Told as ToldClaim
from modescape.columns import EXPERIMENTS, Field, Kind
from modescape.drawing.figure import FigureData, Words, of_experiment
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.words import duration, listed, percent, rate, thousands
from modescape.errors import InvalidInput, NotFound
from modescape.finding import Finding
from modescape.records import Json
from modescape.registry import Entry, Figure, architectures, datasets, figures, method_title, methods
from modescape.reports import blocks, notes
from modescape.reports.blocks import AnyBlock, ClaimsOf, FigureOf, Methods, NumbersOf, References, Text
from modescape.reports.notes import Note, Said
from modescape.results import Results
from modescape.spec_parts import MethodSpec
from modescape.store import Store
from modescape.tables import Experiment, Report

_PERCENT = ("accuracy", "ensemble_accuracy", "result.accuracy", "result.ensemble_accuracy")
_RATES = ("disagreement", "result.disagreement", "result.along", "result.cosine", "result.cosine_largest")
_CLAIM = re.compile(r"claim\s+\(?([a-z]\d?)\)?", re.IGNORECASE)
_FIGURE = re.compile(r"figure\s+([a-z0-9-]+)", re.IGNORECASE)
Cells = tuple[tuple[str, ...], ...]
Read = Callable[[Sequence[str]], list[Note]]  # notes as they are typed


@dataclass(frozen=True)
class Part:
    """A block as it is told. number: of a figure or a table, 0 of others; title: the question of a figure; caption: the
    whole of it; wrong: why there is nothing to show, "" where there is."""

    block: AnyBlock
    number: int = 0
    title: str = ""
    caption: str = ""
    wrong: str = ""
    experiment: Experiment | None = None
    figure: Figure | None = None
    data: FigureData | None = field(default=None, repr=False)
    claims: tuple[ToldClaim, ...] = ()
    note: Note | None = field(default=None, repr=False)
    heads: tuple[str, ...] = ()
    rows: Cells = ()
    slugs: tuple[str, ...] = ()  # of the rows
    paragraphs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.block.kind

    @property
    def anchor(self) -> str:
        return f"b-{self.block.id}"


@dataclass(frozen=True)
class Told:
    """A report as it is now. say: what a reference in its notes says."""

    report: Report
    parts: tuple[Part, ...]
    say: notes.Say

    @property
    def experiments(self) -> list[Experiment]:
        """Those that its parts and notes name and that are here, each once."""
        return list({row.id: row for part in self.parts if (row := part.experiment) is not None}.values())


class Teller:
    """draws: whether the numbers of figures are collected, which a page leaves to its script; read: what reads notes.
    Whatever a report asks of an experiment is asked once, and of all of them together, however often it stands
    there."""

    def __init__(self, store: Store, artifacts: Artifacts, *, draws: bool = True, read: Read = notes.read_all) -> None:
        self._store, self._artifacts, self._draws, self._read = store, artifacts, draws, read
        self._known: dict[str, Results | None] = {}
        self._computed: dict[str, dict[str, float | str | None]] = {}
        self._looks: dict[str, Look] = {}
        self._claimed: dict[str, list[ToldClaim]] = {}
        self._until: datetime | None = None  # when the report was last changed

    def told(self, report: Report) -> Told:
        found, self._until = blocks.read(report.blocks), report.changed_at
        written = [block for block in found if isinstance(block, Text)]
        read = dict(zip((one.id for one in written), self._read([one.markdown for one in written]), strict=True))
        referred = [one for note in read.values() for one in note.references]
        names = list(dict.fromkeys((*blocks.experiments(found), *(one for one, _, _ in referred))))
        self._look_up(names, [*blocks.columns(found), *(what for _, what, _ in referred)])
        numbers = _numbered(found)
        parts = tuple(replace(self._part(one, numbers[one.id]), note=read.get(one.id)) for one in found)
        told = Told(report, parts, self._sayer(parts))
        return replace(told, parts=self._with_written(parts, names, found))

    def results(self, reference: str) -> Results | None:
        """Of an experiment; None of one that is not here any more: what has its name now came after the report was last
        changed."""
        if reference not in self._known:
            self._look_up([reference], ())
        return self._known[reference]

    def _look_up(self, names: Sequence[str], columns: Iterable[str]) -> None:
        """What the names of experiments stand for, and what is computed of them."""
        rows = self._store.experiments.named(names)
        of_rows = {row.id: Results(self._store, self._artifacts, row) for row in rows.values() if self._was_meant(row)}
        self._known |= {name: of_rows.get(rows[name].id) if name in rows else None for name in names}
        self._compute(list(of_rows), [name for name in columns if not _is_kept(name)])

    def _compute(self, ids: Sequence[str], columns: Sequence[str]) -> None:
        for id_, values in self._store.experiments.computed(ids, columns).items():
            self._computed.setdefault(id_, {}).update(values)

    def _was_meant(self, row: Experiment) -> bool:
        return self._until is None or row.created_at <= self._until

    def _look(self, row: Experiment) -> Look:
        """At which look at its trainings it is."""
        if row.id not in self._looks:
            here = {one.experiment.id: one.experiment for one in self._known.values() if one is not None}
            self._looks = self._store.experiments.looks(list(here.values()))
        return self._looks[row.id]

    def _claims_of(self, row: Experiment) -> list[ToldClaim]:
        if row.id not in self._claimed:
            self._claimed[row.id] = Finding.of(row).told(self._look(row))
        return self._claimed[row.id]

    # -- parts --

    def _part(self, block: AnyBlock, number: int) -> Part:
        if isinstance(block, FigureOf):
            return self._figure(block, number)
        if isinstance(block, ClaimsOf):
            return self._claims(block)
        if isinstance(block, NumbersOf):
            return self._numbers(block, number)
        return Part(block)

    def _figure(self, block: FigureOf, number: int) -> Part:
        results = self.results(block.experiment)
        if results is None:
            return Part(block, number, wrong=_gone(block.experiment))
        figure = of_experiment(figures[block.figure], results.voice)
        part = Part(
            block, number, figure.question, block.caption, experiment=results.experiment, figure=figure,
            slugs=(results.experiment.slug,),
        )  # fmt: skip
        if not self._draws:
            return part
        try:
            options = figure.options.model_validate(block.options)
            assert isinstance(options, FigureOptions)
            data: FigureData = figure.call(results, options.of(results))
        except FigureNotReady as waiting:
            return replace(part, wrong=f"{waiting.reason[:1].upper()}{waiting.reason[1:]}.")
        except (NotFound, InvalidInput) as error:
            return replace(part, wrong=str(error))
        words: Words = figure.tell(data)
        said = (block.caption, words.caption, data.partial, data.missing, data.thinned)
        return replace(part, data=data, caption=" ".join(filter(None, said)))

    def _claims(self, block: ClaimsOf) -> Part:
        results = self.results(block.experiment)
        if results is None:
            return Part(block, wrong=_gone(block.experiment))
        row = results.experiment
        shown = tuple(one for one in self._claims_of(row) if not block.claims or one.record.id in block.claims)
        part = Part(block, title=f"What {row.name} answers", experiment=row, claims=shown, slugs=(row.slug,))
        return part if shown else replace(part, wrong=f"{row.name} answers none of these claims yet.")

    def _numbers(self, block: NumbersOf, number: int) -> Part:
        columns = [(name, _field(name)) for name in block.columns]
        rows, slugs = [], []
        for reference in block.experiments:
            results = self.results(reference)
            if results is None:
                rows.append((f"{reference} (not here any more)", *["–"] * len(columns)))
                slugs.append("")
                continue
            row = results.experiment
            rows.append((row.name, *(self._cell(row, name, field) for name, field in columns)))
            slugs.append(row.slug)
        heads = ("experiment", *(_head(name, field) for name, field in columns))
        return Part(block, number, caption=block.caption, heads=heads, rows=tuple(rows), slugs=tuple(slugs))

    def _cell(self, row: Experiment, name: str, field: Field | None) -> str:
        value = self._value(row, name, field)
        return _said(name, field, value)

    def _value(self, row: Experiment, name: str, field: Field | None) -> Any:
        if field is None:
            return None
        if _is_kept(name):
            return field.value(row)
        if name not in self._computed[row.id]:
            self._compute([row.id], [name])
        return self._computed[row.id].get(name)

    def _with_written(self, parts: Sequence[Part], names: Sequence[str], found: Sequence[AnyBlock]) -> tuple[Part, ...]:
        """With what the parts say that write themselves, of the experiments of blocks and of the notes between them."""
        kinds, every = {part.kind for part in parts}, [one for name in names if (one := self.results(name)) is not None]
        named = list({one.experiment.id: one for one in every}.values())
        written: dict[str, tuple[str, tuple[str, ...]]] = {}
        if "methods" in kinds:
            written["methods"] = "Methods", tuple(map(methods_of, named))
        if "references" in kinds:
            written["references"] = "References", tuple(sources_of(named, found))
        return tuple(
            replace(part, title=said[0], paragraphs=said[1]) if (said := written.get(part.kind)) else part
            for part in parts
        )

    # -- references in notes --

    def _sayer(self, parts: Sequence[Part]) -> notes.Say:
        shown = {
            (self._id(part.block.experiment), part.block.figure): part
            for part in reversed(parts)
            if isinstance(part.block, FigureOf)
        }

        def say(experiment: str, what: str) -> Said:
            results = self.results(experiment)
            if results is None:
                typed = f"{experiment}: {what}" if what else experiment
                return Said(f"[[{typed}]]", _gone(experiment), is_known=False)
            return self._say(results, what, shown)

        return say

    def _id(self, reference: str) -> str:
        found = self.results(reference)
        return reference if found is None else found.experiment.id

    def _say(self, results: Results, what: str, shown: Mapping[tuple[str, str], Part]) -> Said:
        row = results.experiment
        url, n = f"/experiments/{row.slug}", f"n = {row.runs} {results.voice('runs')}"
        if not what:
            return Said(row.name, f"{row.status}, {n}", url)
        if what == "sentence":
            return Said(Finding.of(row).sentence_at(self._look(row)) or "nothing is known yet", f"of {row.name}, {n}")
        if (asked := _FIGURE.fullmatch(what)) is not None:
            part = shown.get((row.id, asked[1]))
            if part is not None:
                return Said(f"Figure {part.number}", part.title, f"#{part.anchor}")
            if asked[1] in figures:
                return Said(figures[asked[1]].title, f"of {row.name}", f"{url}/figures/{asked[1]}")
        if (asked := _CLAIM.fullmatch(what)) is not None:
            told = {one.record.id: one for one in self._claims_of(row)}
            if (one := told.get(asked[1].lower())) is not None:
                within = f" ({one.level} interval {one.interval})" if one.interval else ""
                title = f"{one.claim.title}; of {row.name}, n = {one.record.n}"
                return Said(f"{answer(one)}, {one.counted}{within}", title, f"{url}#claims")
            return Said(f"[[{what}]]", f"{row.name} does not answer it", is_known=False)
        field = _field(what)
        if field is None:
            known = ", ".join((*(name for name in EXPERIMENTS.keys if name != "finding"), "sentence", "claim d1"))
            return Said(f"[[{what}]]", f"there is no {what[:40]!r} of an experiment; there are {known}", is_known=False)
        value = self._cell(row, what, field)
        return Said(value, f"{_head(what, field)} of {row.name}, {n}", url)


def _numbered(found: Sequence[AnyBlock]) -> dict[str, int]:
    """Figures and tables, each from 1 on."""
    counts: Counter[str] = Counter()
    numbers = {}
    for block in found:
        counts[block.kind] += 1
        numbers[block.id] = counts[block.kind] if block.kind in ("figure", "numbers") else 0
    return numbers


def _is_kept(name: str) -> bool:
    """Whether rows hold it, else it is computed of their documents."""
    return name in EXPERIMENTS.keys or name in EXPERIMENTS.asked


def _gone(reference: str) -> str:
    return f"There is no experiment {reference[:80]!r} here."


def _field(name: str) -> Field | None:
    by_key = dict(zip(EXPERIMENTS.keys, EXPERIMENTS.all, strict=True))
    return by_key.get(name) or EXPERIMENTS.find(name)


def _head(name: str, field: Field | None) -> str:
    """Without a unit, which its values have."""
    return "cost" if name == "seconds" else (field.words if field else "") or name.replace("_", " ")


CLAIM_HEADS = ("claim", "", "answer", "effect", "interval", "n")


def claim_cells(one: ToldClaim) -> tuple[str, str, str, str, str, str]:
    """A claim as a row below `CLAIM_HEADS`: effects say what they are counted in, intervals their level."""
    within = f"{one.interval} ({one.level})" if one.interval else "–"
    return f"({one.record.id})", one.claim.title, answer(one), one.counted, within, f"{one.record.n}"


def answer(one: ToldClaim) -> str:
    """Of what waits for members there is no word."""
    return "no word yet" if one.waits else str(one.record.word)


def _said(name: str, field: Field | None, value: Any) -> str:
    """A value as people read it: accuracy in percent, what is gained of it in points, rates as .312, seconds as a
    duration."""
    if value is None:
        return "–"
    if name in _PERCENT:
        return f"{percent(value)}\u202f%"
    if name == "result.gain":
        return f"{percent(value)} points"
    if name in _RATES:
        return rate(value)
    if name == "seconds":
        return duration(value)
    if field is not None and field.kind == Kind.TIME:
        return f"{value:%Y-%m-%d %H:%M} UTC"
    if isinstance(value, (list, tuple)):
        return listed([str(one) for one in value]) if value else "–"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return thousands(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


# -- the parts that write themselves ----------------------------------------------------------------------------------


def methods_of(results: Results) -> str:
    """How an experiment was made, in sentences: data, network, training, seeds, samples, arithmetic and software."""
    row, spec = results.experiment, results.spec
    said = [f"{row.name} ({row.slug}, spec {row.digest[:12]}, {row.created_at:%Y-%m-%d})."]
    if spec.imported is not None:
        said += [
            f"{spec.ensemble.runs} members made elsewhere, {thousands(spec.imported.images)} test images, "
            f"{len(spec.imported.classes)} classes; digest of all arrays {spec.imported.digest[:12]}."
        ]
    else:
        said += [_data(spec.data), _network(results), _seeds(results)]
    if spec.methods:
        drawn = [f"{_title(results, one.method)} ({_samples(results, one)})" for one in spec.methods]
        said.append(f"Samples around each run: {listed(drawn)}.")
    return " ".join(filter(None, [*said, _arithmetic(results)]))


def _samples(results: Results, asked: MethodSpec) -> str:
    """20 wide, 20 narrow; how many, of what came with members or is made of the training."""
    entry = methods.get(asked.method)
    if results.spec.imported is not None:
        return thousands(asked.spread + asked.typical)
    if entry is None or entry.sampled:
        return f"{asked.spread} wide, {asked.typical} narrow"
    return thousands(entry.count(entry.options.model_validate(asked.options)))


def _data(data: Any) -> str:
    title = datasets.title(data.dataset) if data.path is None and data.dataset in datasets else data.dataset
    counts = ((data.train_images, "training"), (data.validation_images, "validation"), (data.test_images, "test"))
    told = [f"{thousands(count)} {what}" for count, what in counts if count is not None]
    images = f", {listed(told)} images" if told else ""
    return f"Data: {title}{images}, inputs {data.input_scale}."


def _network(results: Results) -> str:
    spec = results.spec
    name, training = spec.network.architecture, spec.training
    title = architectures.title(name) if name in architectures else name
    if spec.weights is not None:
        return f"Network: {title}; weights of {spec.ensemble.runs} members, made elsewhere."
    return (
        f"Network: {title}. Training: {spec.ensemble.runs} runs of {training.epochs} epochs, batches of "
        f"{training.batch_size}, {training.optimiser}, learning rate {training.learning_rate:g} "
        f"(schedule {training.schedule}), weight decay {training.weight_decay:g}, augmentation "
        f"{training.augmentation}, loss {training.loss}."
    )


def _seeds(results: Results) -> str:
    vary = {"both": "initial weights and batch order differ", "initialisation": "initial weights alone differ",
            "order": "batch order alone differs"}  # fmt: skip
    ensemble = results.spec.ensemble
    kept = [f"{one.number}: {one.seeds['weights']}" for one in results.runs if "weights" in one.seeds]
    seeds = f"; seeds of the initial weights by run {', '.join(kept)}" if 0 < len(kept) <= 20 else ""
    return f"Base seed {ensemble.seed}, {vary.get(str(ensemble.vary), str(ensemble.vary))}{seeds}."


def _arithmetic(results: Results) -> str:
    """What the runs were trained with, alike ones together; and what computed the rest."""
    kinds = list(dict.fromkeys(filter(None, (_trained_in(one.arithmetic) for one in results.runs))))
    trained = f"Trained in {'; '.join(kinds)}. " if kinds else ""
    return f"{trained}Predictions in float32. Computed with Modescape {version('modescape')}."


def _trained_in(arithmetic: Json) -> str:
    """bfloat16, cpu, AVX512, torch 2.9"""
    said = [str(arithmetic.get(name, "")) for name in ("precision", "device", "hardware")]
    return ", ".join(filter(None, [*said, f"torch {arithmetic['torch']}" if "torch" in arithmetic else ""]))


def _title(results: Results, method: str) -> str:
    return method_title(method) if results.spec.imported is not None or method in methods else method


_OURS = "S. Fort, H. Hu and B. Lakshminarayanan: Deep Ensembles: A Loss Landscape Perspective. arXiv:1912.02757, 2019."


def sources_of(named: Sequence[Results], found: Sequence[AnyBlock]) -> Iterator[str]:
    """The paper, what figures, data, networks and methods are after, and this program; each once."""
    told: dict[str, None] = {_OURS: None}
    for block in found:
        if isinstance(block, FigureOf):
            told[f"{figures[block.figure].title}: {figures[block.figure].source}."] = None
    for results in named:
        spec = results.spec
        entries: list[Entry] = []
        if spec.data.path is None and spec.data.dataset in datasets:
            entries.append(datasets[spec.data.dataset])
        if spec.network.architecture in architectures:
            entries.append(architectures[spec.network.architecture])
        entries += [methods[one.method] for one in spec.methods if one.method in methods]
        told |= dict.fromkeys(f"{entry.title}: {entry.source}.".replace("`", "") for entry in entries if entry.source)
    told[f"Modescape {version('modescape')}."] = None
    yield from told


def first_draft(results: Results) -> list[Json]:
    """The blocks of a new report of one experiment: its sentence, its claims, the figures that are ready, how it was
    made."""
    slug, ready = results.experiment.slug, []
    for wanted in ("trajectories", "similarity-runs", "plane", "ensembles"):
        try:
            figures[wanted].call(results, figures[wanted].options())
        except (FigureNotReady, NotFound, InvalidInput):
            continue
        ready.append(wanted)
    text = f"[[{slug}: sentence]]\n\nWritten about [[{slug}]]: what was asked, what was found, and how sure it is."
    found: list[AnyBlock] = [Text(markdown=text), ClaimsOf(experiment=slug)]
    found += [FigureOf(experiment=slug, figure=one) for one in ready]
    found += [NumbersOf(experiments=(slug,)), Methods(), References()]
    return blocks.documents(found)
