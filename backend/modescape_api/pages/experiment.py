"""One experiment: how far it is, what it found, a card for each figure, its files; and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape import __version__, parcels
from modescape.acting import UserRole, actor
from modescape.claims.repeated_looks import looked
from modescape.drawing.figure import Legend, of_experiment
from modescape.drawing.options import FigureOptions
from modescape.drawing.words import duration, thousands
from modescape.errors import NotFound
from modescape.finding import Finding
from modescape.initial import shared_start
from modescape.pieces import missing_members
from modescape.plan import departures, differences
from modescape.records import PRIORITIES, Absent, Group, Role, StageKind, StageState, Status, Wish
from modescape.registry import Figure, architectures, datasets, figures, method_title, methods, presets, studies
from modescape.results import Results
from modescape.science.seeds import STREAMS
from modescape.spec import ExperimentSpec, place_of, stored, words
from modescape.spec_parts import WeightsSpec
from modescape.tables import Experiment, Stage
from modescape.voice import Voice, voice_of
from modescape_api.http import bodies, identity
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.pages import claims, failures, forms, timelines, tour
from modescape_api.pages.display import (
    KindProgress,
    Training,
    by_kind,
    counted,
    dotted,
    not_loaded,
    said_not_known,
    seconds_left,
    share_done,
    size,
    stages_in_words,
    training,
)
from modescape_api.pages.first_screen import first_screen
from modescape_api.pages.importing import Growing, growing
from modescape_api.pages.rendering import Next, alive_workers, back, render
from modescape_api.resources import experiments
from modescape_api.resources import figures as figures_api
from modescape_api.resources import parcels as parcels_api
from modescape_api.resources.experiments import Changes

router = APIRouter()

LOG_ROWS = 200
_LIVE = ("trajectories", "similarity-runs")


@dataclass(frozen=True)
class View:
    """What the query string asks of every figure of a page; unknown values are ignored with a notice. color: "" leaves
    each figure as the paper has it: maps of functions by run, the plane by method; folded, opened: sections."""

    split: str
    color: str
    notice: str
    folded: frozenset[str]
    opened: frozenset[str]

    def is_open(self, section: str, closed: bool) -> bool:
        """closed: what it is unless the address says otherwise."""
        return section in self.opened if closed else section not in self.folded

    @classmethod
    def of(cls, request: Request, splits: Sequence[str]) -> View:
        split, color = request.query_params.get("split", splits[0]), request.query_params.get("color", "")
        ignored = []
        if split not in splits:
            ignored.append(f"split {split[:40]!r}")
        if color not in ("", "method", "run"):
            ignored.append(f"color {color[:40]!r}")
        return cls(
            split if split in splits else splits[0],
            color if color in ("method", "run") else "",
            f"Ignored in the address: {', '.join(ignored)}" if ignored else "",
            *(frozenset(request.query_params.get(key, "").split(",")) for key in ("fold", "open")),
        )


@router.get("/experiments/{experiment}")
def experiment_page(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    stages = here.store.stages.without_results(row.id)
    spec = stored(row.spec)
    left, waits = seconds_left(stages, alive_workers(here)), here.laboratory.waits(stages)
    view = View.of(request, spec.evaluation.splits)
    preset = presets[row.preset] if row.preset is not None and row.preset in presets else None
    kinds, failed, found = by_kind(stages), failures.causes(stages), Finding.of(row)
    bytes_ = here.store.experiments.bytes_of(row.id)
    cards = _cards(here, row, spec, stages, kinds)
    if not row.status.has_ended:  # what moves comes first
        cards.sort(key=lambda card: (*_LIVE, card.entry.name).index(card.entry.name))
    shown = [card.entry.name if card.planned else "" for card in cards]
    rows = claims.answered(found, shown, look := here.laboratory.look(row))
    gone = list(failures.lost(Results(here.store, here.artifacts, row.id)))
    undecided = claims.undecided(
        spec, found, kinds, is_alive=not row.status.has_ended, learned=not any(c.is_hopeless for c in failed)
    )
    return render(
        request,
        here,
        "experiment.html",
        section="/",
        e=row,
        facts=dotted(_took(row), size(bytes_) if bytes_ else ""),
        subject=_subject(row, spec, grows := growing(here, row)),
        is_alive=not row.status.has_ended,
        last_event=here.store.events.last_id(),
        owned=actor().owns(row.created_by),
        actions=[one for one in actions_of(row) if one[0] != "retry" or _may_help(failed)],
        bytes=bytes_,
        cite=f"Modescape {__version__}, {row.slug}, spec {row.digest[:16]}, {row.created_at:%Y-%m-%d}",
        left=duration(left) if left is not None and row.status == Status.RUNNING and waits is None else None,
        stopping=_stopping(stages),
        waits=waits,
        priorities=tuple(PRIORITIES.items()),
        stages=kinds,
        share=round(share_done(kinds), 3),
        stages_words=stages_in_words(kinds),
        nothing=found.voice(_nothing(row, grows, failed)),
        plane_url="#plane" if "plane" in shown else f"/experiments/{row.slug}/figures/plane",
        trainings=trainings_of(here, row, stages),
        incidents=[
            f"{s.kind} {s.key} lost its worker and goes on from where it was saved"
            for s in stages
            if s.losses and s.state == StageState.RUNNING
        ],
        failures=failed,
        lost=gone,
        claims=rows,
        headline=_headline(row, found.headline_at(look)),
        look=look,
        looked=found.voice(looked(look)),
        missing_members=_missing_members(row),
        gains=claims.gains(spec, found),
        voice=found.voice,
        has_networks=spec.imported is None,
        curves_alone=spec.imported is not None and not spec.imported.images and not (grows and grows.awaits_first),
        has_images=spec.imported is None or bool(spec.imported.images),
        gains_rule=claims.rule(spec, kinds),
        strengths_shown="strengths" in shown,
        so_far=found.so_far,
        claims_headline=claims.headline(rows) if found.so_far is None else found.so_far.words.capitalize(),
        claims_open=undecided,
        sentence=found.measured_at(look),
        statistics=_statistics(here, row, spec),
        shared_start=shared_start(spec),
        first=first_screen(here, row, spec, found, stages, failed, gone, rows, undecided),
        cards=_rows_filled([card for card in cards if card.planned]),
        missing=[card for card in cards if not card.planned and card.lacks.words],
        legend=legend_of(spec, found.voice),
        splits=spec.evaluation.splits,
        view=view,
        tour=tour.stand(row, request.query_params.get("tour"), shown, [row.told for row in rows])
        if not _is_visit(request)
        else None,
        notice=dotted(view.notice, said_not_known(row)) or None,
        differences=differences(spec, preset.name) if preset else [],
        departures=departures(spec),
        protocol=spec.training.protocol,
        origin=row.provenance,
        tensor_names=_tensor_names(here, row, spec),
        growing=grows,
        sweeps=here.store.sweeps.holding(row.id),
        set_digest=spec.imported.digest if spec.imported is not None else "",
        substitutions=preset.substitutions if preset else (),
        deviations=preset.deviations if preset else (),
        spec_json=forms.as_json(row.spec),
        runs=(runs := here.store.results.runs(row.id)),
        seed_streams=[stream for stream in STREAMS if any(stream in run.seeds for run in runs)],
        tables=[
            (f"{found.voice(name.capitalize())}, CSV", f"/api/experiments/{row.slug}/{name}?format=csv")
            for name in ("solutions", "measurements", "runs", "stages")
        ],
        files=Filed.of(request, list(_files(here, row, spec))),
        sizes=parcels.sizes(here.laboratory, row.id),
        usual=parcels.USUAL,
        archives=[parcels_api.as_parcel(row.slug, one) for one in here.store.parcels.of(row.id)],
        may_pack=not _is_visit(request),
        timeline=timelines.of(stages),
        log=timelines.logged(stages, request.query_params, LOG_ROWS),
    )


def _is_visit(request: Request) -> bool:
    """Whether a link is all that lets somebody read this."""
    who = identity.asking(request)
    return who is not None and who.link is not None


def _stopping(stages: Sequence[Stage]) -> str:
    """What stages that still run were asked for, which they do at their next step."""
    asked = {stage.wish for stage in stages if stage.state == StageState.RUNNING and stage.wish is not None}
    return "Being cancelled" if Wish.CANCEL in asked else "Being paused" if asked else ""


def _took(row: Experiment) -> str:
    """How long it took by the clock, and how much machine time that was."""
    if row.started_at is None or row.finished_at is None:
        return ""
    wall = duration((row.finished_at - row.started_at).total_seconds())
    return f"{wall} from start to end, {duration(row.seconds)} of machine time" if row.seconds else wall


def _nothing(row: Experiment, grows: Growing | None, failed: Sequence[failures.Cause]) -> str:
    """The headline where nothing was compared."""
    if any(cause.is_hopeless for cause in failed):
        return "No run learned, so nothing is compared."
    elsewhere = voice_of(row.provenance, row.spec).elsewhere
    if row.status.has_ended:
        how = {Status.CANCELLED: "Cancelled", Status.FAILED: "It failed"}.get(row.status, "It ended")
        return f"{how} before all runs were compared." if row.runs > 1 else "One run alone is compared with nothing."
    if grows is not None and grows.awaits_first:
        return "The first claims come when two members are here."
    if row.runs < 2:
        return "One run alone is compared with nothing."
    all_ = "members are read" if elsewhere else "runs are trained and predicted"
    return f"The first claims come when all {all_}."


def _headline(row: Experiment, words: str) -> str:
    return f"So far {words[:1].lower()}{words[1:]}" if words and not row.status.has_ended else words


def _missing_members(row: Experiment) -> str:
    """Of an ensemble that was sealed before all members came: what that means for its claims."""
    origin = row.provenance or {}
    planned, here = int(origin.get("planned", 0)), len(origin.get("members", ()))
    if here >= planned or (row.spec.get("imported") or {}).get("planned"):
        return ""
    return missing_members(here, planned)


TOO_FAR = 0.02  # accuracy that re-estimated statistics may cost or bring before the page says so


def _statistics(here: Site, row: Experiment, spec: ExperimentSpec) -> str:
    """What estimating batch-norm statistics anew does to the optima, where it does much; "" else."""
    network = architectures.get(spec.network.architecture)
    if network is None or not network.has_batch_norm(spec.network.options):
        return ""
    found = here.store.results.measurements(row.id, metric="accuracy-reestimated").items
    optima = {s.number: s.accuracy for s in here.store.results.solutions(row.id, role=Role.OPTIMUM).items}
    known = [(optima.get(m.solution or 0), m.value) for m in found]
    both = np.array([(old, new) for old, new in known if old is not None and new is not None], np.float64)
    moved = np.abs(np.diff(both, axis=1)) if len(both) else np.zeros(1)
    if moved.max() <= TOO_FAR:
        return ""
    old, new = 100 * both.mean(axis=0)
    return (
        f"Estimating their batch-norm statistics anew takes the runs from {old:.1f} to {new:.1f} % accuracy "
        f"(n = {len(both)}; by {100 * moved.max():.1f} points at most). Subspace samples have statistics estimated "
        "anew, the runs those of their training: part of what sets samples apart from their run, and of what they "
        "lose or gain, is this and not their weights. A longer training, or a larger share of each batch in the "
        "running statistics, brings both together."
    )


def _may_help(failed: Sequence[failures.Cause]) -> bool:
    """Whether trying again may end otherwise; of what was cancelled nothing has failed."""
    return not failed or any(cause.retry for cause in failed)


def _subject(row: Experiment, spec: ExperimentSpec, grows: Growing | None) -> str:
    if spec.imported is not None and grows is not None and grows.awaits_first:
        return dotted(
            f"{counted(len(grows.training), 'member')} being trained, of {grows.planned} planned",
            "curves so far",
            _RECIPES.get(spec.imported.recipe, "nobody has said whether of one recipe"),
        )
    if spec.imported is not None:
        return dotted(
            f"imported {counted(spec.ensemble.runs, 'member')}",
            f"{thousands(spec.imported.images)} test images, {len(spec.imported.classes)} classes"
            if spec.imported.images
            else "curves and parameters alone, no predictions",
            counted(len(spec.methods), "set") + " of samples" if spec.methods else "",
            _RECIPES.get(spec.imported.recipe, "nobody has said whether of one recipe"),
        )
    known = spec.data.path is not None or spec.data.dataset in datasets
    data = datasets.title(row.dataset) if known else not_loaded(row.dataset)
    return dotted(
        f"{data}, {words('input_scale', spec.data.input_scale)}",
        architecture_title(spec.network.architecture),
        f"{counted(spec.ensemble.runs, 'run')} × {counted(spec.training.epochs, 'epoch')}"
        if spec.weights is None
        else _given(spec.weights),
        counted(len(spec.methods), "subspace method") if spec.methods else "",
        f"seed {spec.ensemble.seed}",
    )


_RECIPES = {"same": "one recipe, different seeds", "different": "recipes that differ"}


def _given(weights: WeightsSpec) -> str:
    return dotted(
        f"weights of {counted(len(weights.members), 'member')}, made elsewhere",
        _RECIPES.get(weights.recipe, "nobody has said whether of one recipe"),
    )


@dataclass(frozen=True)
class TensorNames:
    """Which tensor of a file went where, of all runs of which it is the same: the network's name and the file's."""

    runs: list[int]
    how: str
    pairs: list[tuple[str, str]]
    left_out: list[str]


def _tensor_names(here: Site, row: Experiment, spec: ExperimentSpec) -> list[TensorNames]:
    """Of every run whose weights were given and are in their places."""
    found: list[TensorNames] = []
    for stage in here.store.stages.of(row.id) if spec.weights is not None else ():
        told = stage.result.get("extra", {}).get("keys") if stage.kind == StageKind.TRAIN else None
        if told is None:
            continue
        pairs = [(place, name) for place, name in told["pairs"]]
        alike = next((one for one in found if (one.pairs, one.left_out) == (pairs, told["left_out"])), None)
        if alike is None:
            found.append(TensorNames([], told["how"], pairs, told["left_out"]))
        (alike or found[-1]).runs.append(stage.params["run"])
    return found


_RETRAINS = ("chain", "arm", "branch")  # stages that train by a recipe
_GIVEN = {  # what a figure needs of an ensemble that was made elsewhere, by the stage that would have made it
    "train": "It needs checkpoints along a training that all members have alike, and there are none.",
    "sample": "It needs samples around the members, which did not come with them.",
    "strength": "Strengths are not chosen here: samples are averaged as they came.",
    "shift": "It needs what the members say of shifted images, which did not come with them.",
    "ood": "It needs what the members say of other images, which did not come with them.",
}


def _lacking(spec: ExperimentSpec, figure: Figure, absent: Sequence[str]) -> str:
    """What a figure lacks of an ensemble that was made elsewhere; "" of what is not about it."""
    if spec.imported is not None and not spec.imported.images:
        return ""  # one sentence says it of all of them
    if set(_RETRAINS) & set(figure.needs):
        return "It trains networks, and the recipe of these is not known here."
    if spec.imported is None or absent[0] in ("curves", "ensemble"):
        return ""
    needed = next((kind for kind in absent if kind != "train"), "train")  # what moves in weight space needs both
    return _GIVEN.get(needed, "It needs the networks themselves: bring their weights with the page Import.")


def _cards(
    here: Site, row: Experiment, spec: ExperimentSpec, stages: list[Stage], kinds: Sequence[KindProgress]
) -> list[Card]:
    """A card for each figure. Of an ensemble that was made elsewhere, what was not brought is said and not drawn."""
    voice = voice_of(row.provenance, row.spec)
    cards = [card_of(number, of_experiment(one, voice), kinds) for number, one in enumerate(figures.values(), 1)]
    if not voice.elsewhere:
        return cards
    results, found = here.laboratory.results(row.id), []
    for card in cards:
        absent = [need for need in card.entry.needs if need not in {kind.kind for kind in kinds}]
        if absent == ["train"] and spec.imported is not None and spec.imported.epochs:
            card, absent = replace(card, planned=True), []  # they are drawn of the checkpoints that came
        if absent:
            words = _lacking(spec, card.entry, absent) or (card.lacks.words if spec.imported is None else "")
            card = replace(card, lacks=replace(card.lacks, words=words))
        elif row.status.has_ended and (why := figures_api.refused_by_default(results, card.entry, stages)):
            card = replace(card, planned=False, lacks=Absent(f"{why[:1].upper()}{why[1:]}.", ""))
        found.append(card)
    return found


def _absent(kind: str) -> Absent | None:
    """What is said of, and done about, an experiment that has no stages of a kind."""
    from modescape.stages import KINDS  # stages are what a web process learns last

    study = next((study for study in studies.values() if kind in study.stages), None)
    if study is None:
        return KINDS[kind].absent if kind in KINDS else None
    place = place_of(study.name)
    return Absent(study.absent, study.name * study.is_ready, f"{place}.0" if study.is_many else place)


@dataclass(frozen=True)
class Card:
    """A figure on the page of an experiment.

    planned: whether its stages are; lacks: which are not, and what adds them; waits: for which stage that has done
    nothing yet, or why it never will (never); full: as wide as the page.
    """

    entry: Figure
    number: int
    planned: bool
    lacks: Absent
    waits: str
    never: bool
    stages: list[KindProgress]
    options: list[str]
    full: bool


def card_of(number: int, figure: Figure, kinds: Sequence[KindProgress]) -> Card:
    planned = {kind.kind for kind in kinds}
    absent = [need for need in figure.needs if need not in planned]
    unknown = Absent(f"It has no {' and no '.join(absent)} stages.", "")
    mine = [kind for kind in kinds if kind.kind in figure.needs]
    waiting = [kind for kind in mine if kind.done < kind.total]
    if all(kind.ended for kind in waiting):  # none waits for another any more: what has begun may not be what lacks
        waiting.sort(key=lambda kind: kind.done > 0)
    return Card(
        figure,
        number,
        planned=not absent,
        lacks=next(filter(None, map(_absent, absent)), unknown),
        waits=waiting[0].lacks if waiting and waiting[0].done == 0 else "",
        never=bool(waiting) and waiting[0].done == 0 and waiting[0].ended,
        stages=mine,
        options=options_of(figure),
        full=figure.full,
    )


def _rows_filled(cards: Sequence[Card]) -> list[Card]:
    """Half a row each, two of them side by side; one that would stand there alone takes the whole row."""
    filled: list[Card] = []
    is_half = False  # whether the last one waits for another beside it
    for card in cards:
        if is_half and card.full:
            filled[-1] = replace(filled[-1], full=True)
        is_half = not is_half and not card.full
        filled.append(card)
    return [*filled[:-1], replace(filled[-1], full=True)] if is_half else filled


def options_of(figure: Figure) -> list[str]:
    """Options a browser sends when it asks for the picture: `method` only where it makes another one."""
    redraws = issubclass(figure.options, FigureOptions) and figure.options.redraws
    return [name for name in figure.options.model_fields if name != "method" or redraws]


def _title(spec: ExperimentSpec, method: str) -> str:
    known = spec.imported is not None or method in methods
    return method_title(method) if known else not_loaded(method)


def legend_of(spec: ExperimentSpec, voice: Voice) -> list[Legend]:
    named: list[tuple[str, str]] = [(group, group.words.capitalize()) for group in Group]
    named += [(chosen.method, _title(spec, chosen.method)) for chosen in spec.methods]
    if spec.methods:
        named += [("baseline", "Reference run"), ("theory", "Limits")]
    return [Legend(group, voice(title), group) for group, title in named]


@dataclass(frozen=True)
class Link:
    """A file: in a word, its address, and its bytes, where they are known."""

    label: str
    url: str
    bytes: int | None = None


@dataclass(frozen=True)
class Files:
    """What belongs together among the files of an experiment. kind: matrix, weights and predictions, checkpoints,
    images."""

    kind: str
    what: str
    shape: str
    links: list[Link]

    @property
    def bytes(self) -> int | None:
        """Of all that is known."""
        known = [link.bytes for link in self.links if link.bytes is not None]
        return sum(known) if known else None

    def fits(self, text: str, kind: str) -> bool:
        return (not kind or kind == self.kind) and text.casefold() in f"{self.kind} {self.what}".casefold()


@dataclass(frozen=True)
class Filed:
    """The files that are asked for, of how many. kinds: of all of them; text, kind: what was asked."""

    shown: list[Files]
    total: int
    kinds: list[str]
    text: str
    kind: str

    @classmethod
    def of(cls, request: Request, every: list[Files]) -> Filed:
        kinds = list(dict.fromkeys(one.kind for one in every))
        text, kind = request.query_params.get("file", "")[:100], request.query_params.get("kind", "")
        kind = kind if kind in kinds else ""
        return cls([one for one in every if one.fits(text, kind)], len(every), kinds, text, kind)


def _files(here: Site, row: Experiment, spec: ExperimentSpec) -> Iterator[Files]:
    base, voice = f"/api/experiments/{row.slug}", voice_of(row.provenance, row.spec)
    known = here.store.parcels.files(row.id)

    def size(digest: str | None, *, each: bool = False) -> int | None:
        """each: of one function of an array of several."""
        found, shape = known.get(digest or "", (None, []))
        return found if found is None or not each or not shape else found // max(1, shape[0])

    for matrix in here.store.results.matrices(row.id):
        shape = f"{len(matrix.rows)} × {len(matrix.columns)}"
        query = f"?split={matrix.split}" if matrix.split else ""
        links = [Link("npy", f"{base}/matrices/{matrix.name}.npy{query}", size(matrix.artifact))]
        links.append(Link("csv", f"{base}/matrices/{matrix.name}.csv{query}"))
        yield Files("matrix", f"matrix {matrix.name}{', ' + matrix.split if matrix.split else ''}", shape, links)
    for optimum in here.store.results.solutions(row.id, role=Role.OPTIMUM, limit=1000).items:
        made_here = spec.imported is None
        solution = f"{base}/solutions/{optimum.number}"
        links = [Link("weights", f"{solution}/weights", size(optimum.weights))] if optimum.weights or made_here else []
        for split in spec.evaluation.splits:
            digest = optimum.predictions.get(split, {}).get("artifact")
            links.append(
                Link(f"predictions, {split}", f"{solution}/predictions?split={split}", size(digest, each=True))
            )
        links += [Link("checkpoints", f"{base}/runs/{optimum.run}/checkpoints")] if made_here else []
        what = voice(f"run {optimum.run}, its optimum (solution {optimum.number})")
        yield Files("run", what, "safetensors, npy" if optimum.weights or made_here else "npy", links)
    failed = [run.number for run in here.store.results.runs(row.id) if run.failed]
    for stage in here.store.stages.of(row.id) if failed else ():
        kept = stage.result.get("extra", {}).get("checkpoints", [])
        if stage.kind == StageKind.TRAIN and stage.params["run"] in failed and kept:
            what = voice(f"run {stage.params['run']}, which failed: its checkpoints")
            links = [
                Link(f"epoch {one['epoch']}", f"/api/artifacts/{one['weights']}", size(one["weights"])) for one in kept
            ]
            yield Files("failed run", what, "safetensors", links)
    for stage in here.store.stages.of(row.id) if spec.shift is not None else ():
        left = stage.result.get("extra", {})
        if stage.kind in ("corrupt", "shift") and left and "skipped" not in left:
            files = {info["digest"]: "×".join(map(str, info["shape"])) for info in stage.result["artifacts"]}
            named = [(name, value) for name, value in left.items() if isinstance(value, str) and value in files]
            what = (
                f"test images, {stage.key}"
                if stage.kind == "corrupt"
                else voice(f"under shift, run {stage.key.removesuffix('/optimum') if voice.elsewhere else stage.key}")
            )
            links = [Link(name, f"/api/artifacts/{digest}", size(digest)) for name, digest in named]
            links.append(Link("about", f"{base}/stages/{stage.id}"))
            yield Files("shift", what, ", ".join(files[digest] for _, digest in named), links)


def architecture_title(name: str) -> str:
    """ "" of networks that never came here, only what they say."""
    if name == "imported":
        return ""
    return architectures.title(name) if name in architectures else not_loaded(name)


def trainings_of(here: Site, row: Experiment, stages: Sequence[Stage]) -> list[Training]:
    running = [stage for stage in stages if stage.kind == StageKind.TRAIN and stage.state == StageState.RUNNING][:4]
    found = []
    for stage in running:
        _, losses, _ = here.store.curves.points(row.id, int(stage.params.get("run", 0)), "train/loss")
        found.append(training(stage, [float(v) for v in losses[-600:]]))
    return found


def actions_of(row: Experiment) -> list[tuple[str, str]]:
    """What whoever asks may do to an experiment as it is now, as (verb, label); nothing to an archived one."""
    if not actor().owns(row.created_by) or row.archived_at is not None:
        return []
    return {
        Status.QUEUED: [("pause", "Pause"), ("cancel", "Cancel")],
        Status.RUNNING: [("pause", "Pause"), ("cancel", "Cancel")],
        Status.PAUSED: [("resume", "Resume"), ("cancel", "Cancel")],
        Status.FAILED: [("retry", "Retry")],
        Status.CANCELLED: [("retry", "Take up again")],
    }.get(row.status, [])


@router.post("/experiments/{experiment}/pack")
@needs(UserRole.VIEWER)
def pack(here: Here, experiment: str, parts: Annotated[list[str], Form()] = []) -> Response:  # noqa: B006
    row = here.store.experiments.get(experiment)
    parcels_api.start(here, row.id, tuple(parts))
    return RedirectResponse(f"/experiments/{row.slug}#files", status_code=303)


_DO: dict[str, Callable[[Site, str], Response]] = {
    do.__name__: do
    for do in (experiments.cancel, experiments.pause, experiments.resume, experiments.archive, experiments.restore,
               experiments.purge)
}  # fmt: skip


@router.post("/experiments/{experiment}/edit")
def edit(
    request: Request,
    here: Here,
    experiment: str,
    name: Annotated[str, Form()] = "",
    tags: Annotated[str, Form()] = "",
    notes: Annotated[str, Form()] = "",
    project: Annotated[str | None, Form()] = None,
    priority: Annotated[int | None, Form()] = None,
) -> Response:
    wanted = forms.parts(tags)
    asked = {"name": name, "tags": wanted, "notes": notes.replace("\r\n", "\n"), "priority": priority}
    asked |= {"project": project} if project is not None else {}
    experiments.change(here, experiment, bodies.validate(Changes, asked))
    return RedirectResponse(f"/experiments/{here.store.experiments.get(experiment).slug}", status_code=303)


@router.post("/experiments/{experiment}/{action}")
def act(
    request: Request,
    here: Here,
    experiment: str,
    action: str,
    stage: Annotated[str, Form(max_length=36)] = "",
    next: Next = "",
) -> Response:
    if action == "retry":
        experiments.retry(here, experiment, stage or None)
    elif action in _DO:
        _DO[action](here, experiment)
    else:
        raise NotFound(f"there is nothing at {request.url.path[:200]}")
    return back(next or ("/" if action in ("purge", "archive") else f"/experiments/{experiment}"))
