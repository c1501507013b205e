"""The laboratory put together: settings, store and artifacts; creating, running, exporting, verifying, purging.

    import modescape as ms
    lab = ms.run("quickstart")                      # in a temporary folder; folder="somewhere" keeps it
    print(lab.sentence())
    lab.figure("plane").show()

No service is involved: the stages run here, one after another, through the same code the workers use. What only some of
it needs (plans, exports, examples) is loaded where it is used, for commands that list or show wait for none of it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from modescape import extras, plugins
from modescape.acting import actor
from modescape.artifacts import Artifacts
from modescape.claims.repeated_looks import Look
from modescape.claims.telling import Told, star
from modescape.database import check_schema, damage, upgrade
from modescape.errors import (
    ArtifactMissing,
    Conflict,
    DataCorrupt,
    DataMissing,
    InvalidInput,
    ModescapeError,
    NotFound,
    Problem,
)
from modescape.finding import Finding, Unanswered
from modescape.names import as_cell
from modescape.prices import Calibration, middle
from modescape.records import About, ArtifactInfo, Json, PlannedStage, StageState
from modescape.registry import figures, presets
from modescape.results import Results
from modescape.settings import Settings
from modescape.spec import ExperimentSpec, stored
from modescape.spec_parts import DataSpec, WeightsSpec
from modescape.store import Store
from modescape.store.experiments import Remade
from modescape.store.quotas import asked_of
from modescape.store.transaction import Quota
from modescape.tables import Experiment, Stage, Worker

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.example_list import ExampleSet
    from modescape.plan import Limits, Machines, Prepared


class Laboratory:
    """One store with its artifacts. The database must exist already (`upgrade`, `modescape migrate`)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def of(cls, settings: Settings, store: Store, artifacts: Artifacts) -> Laboratory:
        """One of a process that has these already."""
        made = cls(settings)
        made.store, made.artifacts = store, artifacts
        return made

    @cached_property
    def store(self) -> Store:
        gigabytes, days = self.settings.user_gigabytes, self.settings.user_machine_days
        limited = bool(gigabytes or days)
        quota = Quota(gigabytes * 1e9 if gigabytes else None, days * 86_400 if days else None) if limited else None
        return Store(self.settings.database, quota)

    @cached_property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.settings.artifact_place)

    def look(self, row: Experiment) -> Look:
        """Which look at its trainings an experiment is."""
        return self.store.experiments.look(row)

    def results(self, reference: str) -> Results:
        return Results(self.store, self.artifacts, reference)

    def waits(self, stages: Sequence[Stage]) -> str | None:
        """What keeps stages of an experiment from being done until it passes by itself, in a sentence: what their
        workers said, what queues the workers take, or what is seen of the disk here."""
        ready = [stage for stage in stages if stage.state == StageState.READY]
        said = next((stage.waits for stage in ready if stage.waits), None)
        if said is not None or not ready:
            return said
        living = self.store.workers.living()
        served = {queue for worker in living for queue in worker.queue.split(",")}
        if living and (left := sorted({str(stage.queue) for stage in ready} - served)):
            return f"no worker takes stages of the queue {' or '.join(left)} now"
        if any(stage.state == StageState.RUNNING for stage in stages):
            return None
        return self.artifacts.lack()

    def prepare(self, document: Any, *, as_published: bool = False, fresh: bool = False) -> Prepared:
        """Every check, and the plan with prices from what has finished here. Nothing is stored.

        as_published: as for `plan.prepare`. fresh: nothing is taken over from earlier experiments. Raises InvalidInput,
        DataMissing, DataCorrupt.
        """
        from modescape import own_sets

        if isinstance(document, dict):
            document = own_sets.named(document, self.store.own_sets.all())
        return self.preparing(fresh=fresh)(document, as_published=as_published)

    def preparing(self, *, fresh: bool = False) -> partial[Prepared]:
        """`plan.prepare` with the folders and workers of this laboratory, looked up once: for many specs at one moment.

        fresh: nothing is taken over from earlier experiments.
        """
        from modescape import kept_picture_checks
        from modescape.plan import prepare

        machines = self.machines()
        return partial(
            prepare,
            folders=self.settings.data_folders,
            machines=machines,
            gpu=None if machines.numerics.startswith("cuda/") else self._gpu(),
            done=None if fresh else self.store.stages.here_already,
            looked=partial(kept_picture_checks.known, self.store),
        )

    def priced(self, spec: ExperimentSpec, stages: Sequence[PlannedStage]) -> list[PlannedStage]:
        """The same stages with their seconds; [] where nothing here supports a price, or the data are gone."""
        from modescape.datasets.here import describe
        from modescape.plan import prices_of

        machines = self.machines()
        if spec.imported is not None:  # nothing that was measured of trainings says how long reading takes
            return []
        try:
            info = describe(spec.data, self.settings.data_folders)
        except (DataMissing, DataCorrupt):
            return []
        prices = prices_of(spec, info, machines)
        known = [replace(one, shape=prices.shape) for one in stages] if machines.is_known else []
        return [replace(one, estimate=prices.cost(one.kind, one.work).seconds) for one in known]

    def work_out_examples(self, reference: str) -> list[Stage]:
        """Add what makes numbers and pictures of single examples to an experiment that was planned without; what is
        there, or was added before, stays. Raises NotFound, and Conflict for an archived one."""
        from modescape.stages import examples  # stages are what a web process learns last
        from modescape.studies.ood import stages as ood
        from modescape.studies.shift import stages as shift

        row = self.store.experiments.get(reference)
        if row.archived_at is not None:
            raise Conflict(f"{row.slug} is archived; restore it first")
        spec = stored(row.spec)
        planned = [*examples.asked(spec, self.store.stages.without_results(row.id)), *ood.later_pictures(spec),
                   *shift.later_pictures(spec)]  # fmt: skip
        return [self.store.stages.add(row.id, one) for one in self.priced(spec, planned) or planned]

    def machines(self) -> Machines:
        """The workers that live, of the arithmetic most of them have; one of those that lived, where none does."""
        from modescape.plan import Machines

        known = self.store.workers.all()
        living = [worker for worker in known if worker.stopped_at is None]
        if not known:
            return Machines()
        numerics = Counter(worker.numerics for worker in living or known).most_common(1)[0][0]
        alike = [worker for worker in living or known if worker.numerics == numerics]
        return self._of(numerics, alike if living else alike[-1:])

    def _gpu(self) -> Machines | None:
        """One worker with a GPU, where something was measured on any."""
        known = [worker for worker in self.store.workers.all() if worker.numerics.startswith("cuda/")]
        found = [self._of(worker.numerics, [worker]) for worker in sorted(known, key=lambda one: one.seen_at)]
        return next((machines for machines in reversed(found) if machines.is_known), None)

    def _of(self, numerics: str, workers: Sequence[Worker]) -> Machines:
        from modescape.plan import Machines

        measured = [found for worker in workers if (found := Calibration.read(worker.calibration))]
        return Machines(len(workers), numerics, tuple(self.store.workers.finished_work(numerics)), middle(measured))

    @property
    def limits(self) -> Limits:
        """What one launch of whoever asks may cost here at this moment."""
        whole, own = self._limits_of_all(), self._quota()
        return whole if own is None else whole.and_(own)

    def _quota(self) -> Limits | None:
        """What is left of what one user may have; of an admin nothing is asked."""
        from modescape.plan import Limits

        quota = asked_of(self.store.quota)
        if quota is None:
            return None
        used = self.store.experiments.used_by(actor().name)
        return Limits(
            None if quota.bytes is None else max(0.0, quota.bytes - used.bytes),
            None if quota.seconds is None else max(0.0, quota.seconds - used.seconds),
            used.of_bytes(quota),
            used.of_seconds(quota),
        )

    def _limits_of_all(self) -> Limits:
        from modescape.outage import megabytes
        from modescape.plan import Limits

        gigabytes, days, free = self.settings.max_gigabytes, self.settings.max_machine_days, self.artifacts.free
        allowed = f"a launch may take {days:g} days (MODESCAPE_MAX_MACHINE_DAYS)"
        seconds = days * 86_400 or None
        if gigabytes is not None:
            said = f"a launch may keep {megabytes(gigabytes * 1e9)} (MODESCAPE_MAX_GIGABYTES)"
            return Limits(gigabytes * 1e9 or None, seconds, said, allowed)
        if free is None:
            return Limits(None, seconds, "", allowed)
        said = f"{megabytes(free)} are free on the disk of {self.artifacts.where}, of which 5 % are left alone"
        return Limits(0.95 * free, seconds, said, allowed)

    def too_much(self, prepared: Prepared) -> list[Problem]:
        """Why this launch costs more than is allowed, with the fields to change; [] where it does not."""
        from modescape.plan import too_much

        limits, plan = self.limits, prepared.plan
        is_too_much = limits.exceeded(plan.new_bytes, plan.machine_seconds)
        return too_much(prepared, self.machines(), limits) if is_too_much else []

    def create(self, document: Any, *, name: str, **about: Unpack[About]) -> Experiment:
        """Store an experiment and its stages in one transaction, ready to be claimed. Raises as `prepare` does, and
        InvalidInput where it costs more than one launch may."""
        preset = about.get("preset")
        if preset is not None:
            presets[preset]  # refuses one that is not there
        prepared = self.prepare(document, fresh=about.get("fresh", False))
        self.afford(self.too_much(prepared), about.get("idempotency"))
        stages = prepared.plan.stages
        if prepared.spec.weights is not None:
            about["provenance"] = about.get("provenance") or _made_elsewhere(name, prepared.spec.weights)
        return self.store.experiments.create(
            name=name, spec=prepared.spec, stages=stages, given=self._given(stages), bytes=prepared.plan.new_bytes,
            **about,
        )  # fmt: skip

    def afford(self, problems: Sequence[Problem], idempotency: tuple[str, str] | None = None) -> None:
        """Raises InvalidInput where there are any, unless the request has been answered before."""
        if problems and self.store.experiments.of_request(idempotency) is None:
            raise InvalidInput("; ".join(map(str, problems)), problems=problems)

    def delete(self, files: Mapping[str, datetime], *, began: datetime, slow: timedelta = timedelta(0)) -> int:
        """Files that no row names any more, and since when they were named; bytes freed. began: when their rows went,
        by the store's clock, which is slow by `slow`. What was put since then, or while a stage runs, is left for
        `sweep`: it may be wanted by what has not named it yet."""
        running, freed = self.store.stages.oldest_running(), 0
        for digest, named in files.items():
            if not self.store.outputs.is_named(digest):  # somebody may have made it again since
                since = began if running is None else min(began, max(running, named))
                freed += self.artifacts.delete(digest, keep_since=since + slow)
        return freed

    def _given(self, stages: Sequence[PlannedStage]) -> list[ArtifactInfo]:
        """The files of weights that stages read and none of them makes. Raises InvalidInput for one that is not here,
        or is no file of weights."""
        named = {digest: place for one in stages for place, digest in one.params.get("given", {}).items()}
        return [self._weights(place, digest) for digest, place in named.items()]

    def _weights(self, place: str, digest: str) -> ArtifactInfo:
        from modescape.imported.ensemble import Tensors
        from modescape.imported.tensors import header_of

        try:
            path = self.artifacts.path(digest)
        except ArtifactMissing:
            raise InvalidInput(
                f"there is no file {digest} here", field="weights", allowed="digests of files that were brought before"
            ) from None
        tensors = Tensors.of(path, f"{place} ({digest[:12]})")
        elements = sum(one.elements for one in header_of(tensors).entries)
        return ArtifactInfo(digest, "weights", "mixed", (elements,), tensors.nbytes)


def _made_elsewhere(name: str, weights: WeightsSpec) -> Json:
    """Where weights come from of which nothing is known but their files."""
    members = [{"id": f"{i}", "seed": None, "config": {"sha256": one.weights}} for i, one in enumerate(weights.members)]
    return {"name": name, "members": members, "odd": []}


def opened(folder: Path | str | None = None) -> Laboratory:
    """The laboratory that keeps its experiments in `folder` (None: in that of the settings).

    Raises ConfigurationError where there is none, or one of another version.
    """
    settings = Settings() if folder is None else Settings(home=Path(folder))
    plugins.load(settings.plugin_modules)
    check_schema(settings.database)
    return Laboratory(settings)


class Lab(Results):
    """A finished experiment in a notebook: `Results` with the figures at hand."""

    def __init__(
        self, laboratory: Laboratory, reference: str, folder: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        super().__init__(laboratory.store, laboratory.artifacts, reference)
        self.laboratory = laboratory
        self._folder = folder  # removed with this object

    def __repr__(self) -> str:
        """In a notebook: what there is, what was found, what is odd, and the claims, in lines."""
        about = f"{self.experiment.name} ({self.experiment.slug}): {self.experiment.status}"
        claims = self.claims()
        said = [*map(repr, claims), *filter(None, [star(claims)]), *map(str, self.unanswered())]
        return "\n".join([about, *filter(None, [self.sentence()]), *self.odd, *said])

    def sentence(self) -> str:
        look = self.laboratory.look(self.experiment)
        return Finding.of(self.experiment).sentence_at(look) or self.experiment.error or self._alone()

    def _alone(self) -> str:
        """Of one run of which nothing is known yet; "" of several."""
        return "" if self.spec.ensemble.runs > 1 else self.voice("One run alone is compared with nothing.")

    @property
    def odd(self) -> list[str]:
        """What was noticed of an ensemble that was made elsewhere when it came in: what counts as failed, what is left
        out and why, what is good to know."""
        from modescape.imported.saying import said

        return [said(one["level"], one["sentence"]) for one in (self.experiment.provenance or {}).get("odd", ())]

    def claims(self) -> list[Told]:
        """The claims of the paper as this experiment answers them, each with record.word, effect, interval, ..."""
        return Finding.of(self.experiment).told(self.laboratory.look(self.experiment))

    def unanswered(self) -> list[Unanswered]:
        """The claims it does not answer, each with what it would need."""
        return Finding.of(self.experiment).unanswered(self.spec, self.planned)

    def figure(self, name: str, *, theme: Literal["light", "dark", "print"] = "light", **options: Any) -> go.Figure:
        """Figure `name` as a Plotly figure; options as on the figure's page. Raises InvalidInput, FigureNotReady."""
        from modescape.drawing.figure import picture

        return picture(name, self, theme, **options)

    def examples(self, of: str | None = None) -> ExampleSet:
        """Single examples of a set (test, ood/0, shift/fog/3; None: the first there is), to be sorted and filtered.

        Raises InvalidInput, ExamplesNotReady.
        """
        from modescape.example_list import ExampleSet

        return ExampleSet.of(self, of)


def run(
    document: ExperimentSpec | dict[str, Any] | str | Path,
    *,
    folder: Path | str | None = None,
    settings: Settings | None = None,
    name: str | None = None,
    preset: str | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> Lab:
    """Run a spec here and now: by itself, or the name of a preset or of a file of JSON or YAML.

    folder: where to keep database and artifacts; None takes `settings`, and without those a temporary folder.
    progress: a bar in a terminal, elsewhere a line for each stage, both on stderr.
    Raises InvalidInput, DataMissing, ExtraMissing; a stage that fails is recorded in `lab.stages`, the others run.
    """
    from modescape import documents

    extras.require("worker", "training networks", "torch")
    here = started(folder, settings)
    if isinstance(document, str | Path):
        written = documents.read(document)
        document, name, preset = written.document, name or written.name, preset or written.preset
    experiment = here.laboratory.create(document, name=name or preset or "experiment", preset=preset, fresh=fresh)
    return here.finish(experiment, progress=progress)


@dataclass(frozen=True)
class Started:
    """A laboratory to run one experiment in, without any service; temporary: its folder, where nobody named one."""

    laboratory: Laboratory
    temporary: tempfile.TemporaryDirectory[str] | None

    def finish(self, experiment: Experiment, *, progress: bool) -> Lab:
        """Run all stages of an experiment here and now."""
        from modescape.executor import Executor

        laboratory = self.laboratory
        executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings)
        executor.run_experiment(experiment.id, progress=progress)
        return Lab(laboratory, experiment.id, self.temporary)


def started(folder: Path | str | None, settings: Settings | None) -> Started:
    """folder: where to keep database and artifacts; None takes `settings`, and without those a temporary folder."""
    temporary = None
    if settings is None:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="modescape-")
            folder = temporary.name
        settings = Settings(home=Path(folder))
    plugins.load(settings.plugin_modules)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database)
    return Started(Laboratory(settings), temporary)


def export(laboratory: Laboratory, reference: str, target: Path) -> int:
    """Write one experiment into a new folder, or where the name ends in .zip or .npz its ensemble into that file; the
    number of files.

    A folder has spec, figures (HTML, JSON, CSV), data and checksums, and beside them the ensemble in the format that
    import reads (`imported`), once there are predictions. Raises NotFound, Conflict when something is there already.
    """
    from modescape.exporting import ensemble_of
    from modescape.imported.digest import contents
    from modescape.imported.writing import put_into, write

    results = laboratory.results(reference)
    if target.suffix.lower() in (".zip", ".npz"):
        ensemble = ensemble_of(results)
        write(ensemble, target)
        return len(contents(ensemble))
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty; name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    drawn, skipped = _figures(results)
    artifacts, lost = artifacts_of(laboratory, results)
    files = {**files_of(laboratory, results, skipped, lost), **drawn}
    for name, content in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    names = [*files, *_copied(laboratory.artifacts, artifacts, target)]
    with contextlib.suppress(NotFound, *[InvalidInput] * bool(lost)):  # no predictions yet, or it lacks what is lost
        names += put_into(ensemble_of(results), target)
    sums = (f"{_digest(target / name)}  {name}\n" for name in names)
    (target / "SHA256SUMS").write_text("".join(sums))
    return len(names) + 1


def artifacts_of(laboratory: Laboratory, results: Results) -> tuple[dict[str, str], list[str]]:
    """The files that its stages made, by their digest and of which kind each is, and the digests of those that are not
    kept any more."""
    named = {one["digest"]: one["kind"] for stage in results.stages for one in stage.result.get("artifacts", [])}
    there = {digest: kind for digest, kind in named.items() if laboratory.artifacts.exists(digest)}
    return there, [digest for digest in named if digest not in there]


def files_of(laboratory: Laboratory, results: Results, skipped: Sequence[str], lost: Sequence[str]) -> dict[str, bytes]:
    """What every export has: spec, solutions, runs, what each image is, and a README. skipped: figures without data,
    and why; lost: digests of files that are not kept any more."""
    files: dict[str, bytes] = {"spec.json": json.dumps(results.experiment.spec, indent=2).encode()}
    for split in results.spec.evaluation.splits:
        files |= _images(results, split)
    solutions = [_row(solution) for solution in laboratory.store.results.all_solutions(results.experiment.id)]
    files["solutions.json"] = json.dumps(solutions, indent=1).encode()
    files["runs.json"] = json.dumps([_row(run) for run in results.runs], indent=1).encode()
    files["README.md"] = _readme(results, skipped, lost).encode()
    return files


def _figures(results: Results) -> tuple[dict[str, bytes], list[str]]:
    """Every figure that can be drawn, in three forms, and why others cannot."""
    from modescape.drawing.figure import csv as figure_csv
    from modescape.drawing.figure import encode
    from modescape.drawing.frame import Frame, html
    from modescape.drawing.reading import FigureNotReady

    files: dict[str, bytes] = {}
    skipped = []
    for name, figure in figures.items():
        try:
            data = figure.call(results, figure.options())
        except FigureNotReady as waiting:
            skipped.append(f"{name}: {waiting}")
            continue
        drawn = figure.draw(data, "light")
        files[f"figures/{name}.json"] = encode(drawn)
        files[f"figures/{name}.html"] = html(drawn, Frame.of(figure, data, results.experiment.name)).encode()
        files[f"figures/{name}.csv"] = figure_csv(data).encode()
    return files, skipped


def _copied(artifacts: Artifacts, digests: Iterable[str], folder: Path) -> list[str]:
    """The names of files, once they are copied."""
    (folder / "artifacts").mkdir()
    names = []
    for digest in digests:
        path = artifacts.path(digest)
        names.append(f"artifacts/{path.name}")
        shutil.copyfile(path, folder / names[-1])
    return names


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _images(results: Results, split: str) -> dict[str, bytes]:
    """A table of the images of a split, if it was predicted yet."""
    try:
        columns, rows = image_table(results, split)
    except (NotFound, KeyError):
        return {}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(map(as_cell, row) for row in rows)
    return {f"images-{split}.csv": text.getvalue().encode()}


def image_table(results: Results, split: str) -> tuple[tuple[str, ...], list[tuple[int, int, str, str]]]:
    """Columns, and for each image of a split its number (the row of every array of predictions), label, class, and of a
    user's own image the file, or the array and row.

    Raises NotFound before the first predict stage has finished, KeyError for a split that was not kept.
    """
    labels, classes = [int(k) for k in results.true_labels(split)], results.class_names
    names = results.image_names(split) or _names_now(results.spec.data, split)
    if len(names) != len(labels):
        names = [""] * len(labels)
    return ("image", "label", "class", "name"), [(i, k, classes[k], names[i]) for i, k in enumerate(labels)]


def _names_now(spec: DataSpec, split: str) -> list[str]:
    """Of a user's own set predicted before names were kept, if its files still are what they were."""
    from modescape.datasets.here import own_names, since_created

    try:
        return own_names(spec, split) if spec.path and since_created(spec, ()) is None else []
    except ModescapeError:
        return []


def _row(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.key) for column in row.__table__.columns}


def _readme(results: Results, skipped: Sequence[str], lost: Sequence[str]) -> str:
    experiment = results.experiment
    sentence = Finding.of(experiment).sentence_at(results.store.experiments.look(experiment))
    absent, gone = ("".join(f"- {line}\n" for line in lines) for lines in (skipped, lost))
    return (
        f"# {experiment.name}\n\n{sentence}\n\n"
        f"Spec digest {experiment.digest}, created {experiment.created_at:%Y-%m-%d %H:%M} UTC.\n\n"
        "Run it again: `modescape run spec.json`. `solutions.json` says which row of which array in `artifacts/`\n"
        "holds the predictions (float32 logits) of each solution, and which its weights. `runs.json` says the\n"
        "seeds of each run and the arithmetic of its training. `images-*.csv` says which image each row is of: its\n"
        "class and, of your own data, its file or row. `SHA256SUMS` checks all. `ensemble.json` and the arrays beside\n"
        "it are the same outputs in the format that `modescape import` reads.\n"
        + (f"\nFigures without data:\n{absent}" if skipped else "")
        + (f"\nFiles that were not kept any more; what needs them is not in here:\n{gone}" if lost else "")
    )


@dataclass(frozen=True)
class Verification:
    """What `verify` found: what is wrong with the database itself, artifacts read, those missing or changed on disk,
    what is done again because of them, rows repaired, files swept. aside: where the changed ones are now."""

    database: tuple[str, ...]
    artifacts: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    again: Remade
    repaired: int
    swept_bytes: int
    aside: str

    @property
    def sound(self) -> bool:
        return not (self.missing or self.damaged or self.database)

    def text(self) -> str:
        lines = [f"{self.artifacts} artifacts read"]
        lines += [f"database {line}" for line in self.database]
        lines += [f"missing  {digest}" for digest in self.missing]
        lines += [f"damaged  {digest}" for digest in self.damaged]
        if self.database:
            return "\n".join([*lines, "nothing was changed: the database is damaged; go back to a copy of it"])
        lines += [f"what is damaged was set aside in {self.aside}"] if self.damaged else []
        if self.again.stages:
            lines.append(f"done again: {self.again.stages} stages of {', '.join(self.again.experiments)}")
        lines += [f"brought  {digest} was made elsewhere: bring it in again" for digest in self.again.given]
        lines.append(
            f"{self.repaired} list columns recomputed, {self.swept_bytes / 1e6:.1f} MB of unnamed files deleted"
        )
        return "\n".join(lines)


def verify(laboratory: Laboratory, *, sweep: bool = False) -> Verification:
    """Check the database and re-hash every artifact a row names; set aside what is damaged, have it and what is missing
    made again, recompute the list columns, and on request delete what no row names. Of a database that is damaged
    itself only that is told. Raises ConfigurationError for one of another version, which is not even read, and
    StorageAway for a bucket that cannot be used, of which nothing is missing."""
    check_schema(laboratory.settings.database)
    artifacts, store = laboratory.artifacts, laboratory.store
    artifacts.reach()
    wrong = damage(laboratory.settings.database)
    digests = [] if wrong else store.outputs.digests()  # rows that may not be what they were
    missing = {digest for digest in digests if not artifacts.exists(digest)}
    damaged = [digest for digest in digests if digest not in missing and not artifacts.verify(digest)]
    again, repaired, swept = Remade(0, (), ()), 0, 0
    if not wrong:
        for digest in damaged:
            artifacts.set_aside(digest)
        if unsound := [*sorted(missing), *damaged]:
            again = store.experiments.make_again(unsound)
        repaired = store.experiments.recompute_list_columns()
        if sweep:  # by what rows name now: reading all that they named may have taken hours
            swept = artifacts.sweep(set(store.outputs.digests()), stages=store.stages.unfinished())
    return Verification(
        tuple(wrong), len(digests), tuple(sorted(missing)), tuple(damaged), again, repaired, swept,
        artifacts.aside,
    )  # fmt: skip


def purge(laboratory: Laboratory, reference: str) -> int:
    """Delete an archived experiment and the files only it names; bytes freed. Raises NotFound, Conflict, and
    ConfigurationError for a database of another version."""
    check_schema(laboratory.settings.database)
    begun = datetime.now(UTC)
    purged = laboratory.store.experiments.purge(reference)
    slow = begun - purged.at  # what the store's clock is slow by, and that nothing was waited for is on the safe side
    for stage_id in purged.stages:
        laboratory.artifacts.drop_scratch(stage_id)
    return laboratory.delete(purged.files, began=purged.at, slow=slow)
