"""What the experiment says: the numbers of lists, of the verdict sentence, and the claims that its data can decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modescape import initial
from modescape.claims import judging
from modescape.claims.claim import MIN_SAMPLES, margins
from modescape.claims.equal_accuracy import at_equal_accuracy
from modescape.claims.evidence import (
    MEMBERS,
    Cost,
    Evidence,
    Function,
    LastIterates,
    Members,
    MethodEvidence,
    Units,
    divergence,
    mean_divergence,
)
from modescape.claims.record import ClaimRecord, number
from modescape.draft import sample_sets
from modescape.errors import StageError
from modescape.finding import (
    Along,
    Failed,
    FailedChains,
    Family,
    Gain,
    Independent,
    ReadOff,
    SoFar,
    Together,
    reduction,
)
from modescape.methods.trained import relative_training
from modescape.records import ListColumns, Role, SampleSet, StageState
from modescape.registry import methods
from modescape.results import Results
from modescape.science import similarity, theory
from modescape.science.blocks import give_back
from modescape.science.confidence import OverRuns
from modescape.science.predictions import scores, scores_together, softmax
from modescape.spec import ExperimentSpec
from modescape.stages.chain import chain_evidence
from modescape.stages.stage import Context, Json
from modescape.tables import Solution


def judge(context: Context, results: Results) -> None:
    """The numbers of the list and of the verdict sentence, on the first evaluation split."""
    split = context.spec.evaluation.splits[0]
    optima = results.solutions(role=Role.OPTIMUM)
    labels = results.labels_of(optima, split)
    pairs = np.triu_indices(len(optima), 1)
    finding: Json = {
        "split": split,
        "images": int(labels.shape[1]),
        "runs": len(optima),
        "failed": _failed(results).to_json(),
    }
    accuracies = [float(optimum.accuracy or 0.0) for optimum in optima]
    single = float(np.mean(accuracies))
    if context.spec.imported is not None and context.spec.imported.planned:
        finding["so_far"] = SoFar(members=context.spec.ensemble.runs, planned=context.spec.imported.planned).to_json()
    columns = ListColumns(accuracy=single, finding=finding)
    if len(optima) > 1:
        between = similarity.disagreement(labels)[pairs]
        cosines = _cosines(context, results, optima)
        apart = Independent(
            disagreement=float(between.mean()),
            disagreement_sd=float(between.std(ddof=1)) if len(between) > 1 else None,
            pairs=len(between),
        )
        if cosines is not None:
            cosine = cosines.reduced[pairs]
            apart = replace(
                apart,
                cosine=float(cosine.mean()),
                cosine_plain=float(cosines.plain[pairs].mean()),
                cosine_about=cosines.about,
                cosine_largest=float(np.abs(cosine).max()),
            )
        finding["independent"] = apart.to_json()
        together = scores_together([results.logits(one, split) for one in optima], results.true_labels(split))
        finding["ensemble"] = Together(accuracy=together["accuracy"], single=single, members=len(optima)).to_json()
        columns.ensemble_accuracy, columns.disagreement = together["accuracy"], float(between.mean())
    context.output.experiment = columns
    missing = lost(results, [optimum.run for optimum in optima])
    evidence = _evidence(context, results, labels, split, missing)
    if evidence.units and len(evidence.windows):
        within = [
            similarity.disagreement(window)[np.triu_indices(len(window), 1)].mean() for window in evidence.windows
        ]
        finding["trajectory"] = Along(disagreement=float(np.mean(within)), runs=len(within)).to_json()
    if context.lease.stage.key == "all":
        finding["methods"] = [
            _at_equal_accuracy(m, part).to_json() for part in evidence.parts if part.units for m in part.methods
        ]
        finding["family"] = _family(results).to_json()
        if context.spec.has_probabilities:
            evidence = _with_probabilities(context, results, evidence, split)
            finding["gains"] = [gain.to_json() for gain in _gains(context, results, evidence, split, missing)]
        chains = chain_evidence(results)
        if chains is not None:
            add_claims(context, judged(context, chains))
    records = judged(context, evidence)
    add_claims(context, (without(_of_one_start(context.spec, r), missing, evidence.numbers) for r in records))


_ABOUT_RUNS = ("a", "b")


def _of_one_start(spec: ExperimentSpec, record: ClaimRecord) -> ClaimRecord:
    """Where runs share their start, claims about what independent runs are like say so."""
    shared = initial.shared_start(spec)
    if not shared or record.id not in _ABOUT_RUNS:
        return record
    return replace(record, because="; ".join(filter(None, (record.because, shared))))


def judged(context: Context, evidence: Units) -> tuple[ClaimRecord, ...]:
    """The claims that are judged on evidence of this kind, without words where none may be given of these runs."""
    spec = context.spec
    return judging.judge(
        evidence, margins=margins(spec), closed=closed_to(spec), waits=waited_for(spec), check=context.control.check
    )


def waited_for(spec: ExperimentSpec) -> str:
    """Why no word is given yet of an ensemble that waits for members: a look at a part of what was promised, repeated
    as members come, would make the level of its words another; "" of one that is whole."""
    if spec.imported is None or not spec.imported.planned:
        return ""
    return f"so far, {spec.ensemble.runs} of {spec.imported.planned} members: words come when the ensemble is sealed"


def closed_to(spec: ExperimentSpec) -> str:
    """Why no claim about runs of a recipe can be told of these; "" where they are such runs (science p.3)."""
    if spec.recipe_of_runs == "same":
        return ""
    if spec.recipe_of_runs == "different":
        return (
            "the members differ in more than their seeds, so they say nothing of other runs of one recipe; the "
            "interval is over images only"
        )
    return (
        "nobody has said whether the members share a recipe and differ in their seeds only: if they do, import them "
        "with recipe: same; the interval is over images only"
    )


def _failed(results: Results) -> Failed:
    chains = {
        method: FailedChains(of=results.chains(method), runs=_by_run(failed))
        for method, failed in sorted(results.failed_chains.items())
    }
    return Failed(of=results.spec.ensemble.runs, runs=_by_run(results.failed), chains=chains)


def _by_run(why: Mapping[int, str]) -> dict[str, str]:
    return {f"{run}": words for run, words in sorted(why.items())}


def add_claims(context: Context, records: Iterable[ClaimRecord]) -> None:
    """Adds claims to what this stage has found; the store joins them with those of other stages."""
    found = {record.id: record.to_json() for record in records}
    context.output.experiment.finding.setdefault("claims", {}).update(found)


@dataclass(frozen=True)
class _Cosines:
    """Between optima [R, R]: of all weights as they are, and without what cannot differ; about: what that was."""

    plain: NDArray[np.float64]
    reduced: NDArray[np.float64]
    about: str


def _cosines(context: Context, results: Results, optima: list[Solution]) -> _Cosines | None:
    """From the matrices this stage has just made, or those an earlier one made; None of runs without weights."""
    if not all(optimum.weights for optimum in optima):
        return None
    made = {matrix.name: matrix for matrix in context.output.matrices}
    found, details = [], {}
    for name in ("cosine", "cosine-reduced"):
        if name in made:
            rows, values = made[name].rows, np.asarray(context.artifacts.array(made[name].artifact))
            details = made[name].details
        else:
            stored = results.matrix(name, "")
            if stored is None:
                raise StageError(f"the matrix {name} is missing; retry compare/trajectories")
            rows, values, details = stored.rows, stored.values, stored.details
        places = [rows.index(optimum.number) for optimum in optima]
        found.append(np.asarray(values[np.ix_(places, places)], dtype=np.float64))
    about = reduction(details["head"], details["left_out"], of_files=context.spec.imported is not None)
    return _Cosines(found[0], found[1], about)


def recent(checkpoints: list[Solution]) -> list[Solution]:
    """The last 40 % of a run's checkpoints, at least three, never the initial weights; [] when there are too few
    (science c.4)."""
    trained = [checkpoint for checkpoint in checkpoints if checkpoint.index > 0]
    count = max(3, round(0.4 * len(trained)))
    return trained[-count:] if len(trained) >= 3 else []


def _evidence(context: Context, results: Results, finals: NDArray[np.int64], split: str, missing: Lost) -> Evidence:
    """The labels the verdict is read from: the healthy runs' optima, their late checkpoints, and each method's samples
    around those runs where it has not failed."""
    optima = results.solutions(role=Role.OPTIMUM)
    runs = tuple(optimum.run for optimum in optima)
    windows = [recent([s for s in results.solutions(run=run) if s.role != Role.SAMPLE]) for run in runs]
    cosines = _cosines(context, results, optima) if len(optima) > 1 else None
    whole = Evidence(
        classes=len(results.class_names),
        truth=results.true_labels(split),
        finals=finals,
        cosine=None if cosines is None else cosines.reduced,
        plain_cosine=None if cosines is None else cosines.plain,
        reduction="" if cosines is None else cosines.about,
        windows=[results.labels_of(window, split) for window in windows] if all(windows) else (),
        rates=_rates(context, results, windows[0]) if all(windows) else None,
        numbers=runs,
        failed=context.spec.ensemble.runs - len(runs),
        decided=True,
    )
    if context.lease.stage.key != "all":
        return whole
    # one average a run is no sample of anything
    sampled = [chosen.method for chosen in context.spec.methods if context.spec.method(chosen.method).sampled]
    had = {name: tuple(run for run in runs if run not in missing.get(name, {})) for name in sampled}

    def around(some: tuple[int, ...]) -> Evidence:
        own = tuple(_method_evidence(context, results, name, some, split) for name in sampled if had[name] == some)
        if some == runs:
            return replace(whole, methods=own)
        places = [runs.index(run) for run in some]
        return Evidence(whole.classes, whole.truth, finals[places], methods=own, numbers=some, decided=True)

    fewer = [some for some in dict.fromkeys(had.values()) if some and some != runs]
    return replace(around(runs), partial=tuple(map(around, fewer)))


Lost = dict[str, dict[int, str]]  # method -> run -> which stage failed, or "chain" where its chain there did


def lost(results: Results, runs: Sequence[int], kind: str = "sample") -> Lost:
    """Of these runs those around which a method has left nothing to use; kind: `sample`, or `shift` of its samples."""
    found: Lost = {}
    for stage in results.stages_of(kind):
        if stage.params["run"] not in runs:
            continue
        name = stage.params["method" if kind == "sample" else "group"]
        left = stage.result.get("extra", {}) if stage.state == StageState.SUCCEEDED else {}
        if stage.state == StageState.FAILED:
            found.setdefault(name, {}).setdefault(stage.params["run"], f"{kind}/{stage.key}")
        elif left.get("failed") or left.get("skipped"):
            found.setdefault(name, {}).setdefault(stage.params["run"], "chain")
    return found


def without(record: ClaimRecord, missing: Lost, runs: Sequence[int]) -> ClaimRecord:
    """A claim over methods says which are not among them, and which are judged on some of the runs only."""
    asked = {one.method for one in record.methods}
    if not asked:
        return record
    absent, fewer = [], []
    for name, of_runs in missing.items():
        if name not in methods or not methods[name].sampled:
            continue
        if name in asked:
            fewer.append(
                f"{methods[name].title} on {len(runs) - len(of_runs)} of {len(runs)} healthy runs ({_why(of_runs)})"
            )
        else:
            absent.append(f"{methods[name].title} ({_why(of_runs)})")
    said = [record.because, *([f"not among the methods: {', '.join(absent)}"] if absent else []), *fewer]
    return replace(record, because="; ".join(said))


def _why(of_runs: Mapping[int, str]) -> str:
    """What failed, in words: the chains together, and the first of the stages."""
    chains = [run for run, why in sorted(of_runs.items()) if why == "chain"]
    stages = [why for _, why in sorted(of_runs.items()) if why != "chain"]
    told = []
    if chains:
        several = "s" if len(chains) > 1 else ""
        told.append(f"its chain{several} beside run{several} {', '.join(map(str, chains))} failed")
    if stages:
        told.append(f"{stages[0]} failed" + (f", {len(stages) - 1} more like it" if len(stages) > 1 else ""))
    return "; ".join(told)


def _rates(context: Context, results: Results, window: list[Solution]) -> tuple[float, float] | None:
    """Learning rates that led to the first and to the last checkpoint of a window; None where our loop set none."""
    steps = results.steps_per_epoch
    if steps is None or context.spec.training.by_epochs:
        return None
    from modescape.training import learning_rate

    first, last = (
        learning_rate(context.spec.training, max(0, round((s.epoch or 0.0) * steps) - 1), round(steps))
        for s in (window[0], window[-1])
    )
    return first, last


def _with_probabilities(context: Context, results: Results, evidence: Evidence, split: str) -> Evidence:
    """The same evidence with what the gains of averaging and the divergences need, of the runs that have not failed."""
    # The same number of samples for every method; one that has too few says so itself and stops no other.
    counts = [m.fewest for part in evidence.parts for m in part.methods if m.fewest >= MIN_SAMPLES]
    count = min(counts, default=0)
    whole, *partial = [_of_part(context, results, part, split, count) for part in evidence.parts]
    return replace(whole, partial=tuple(partial))


def _of_part(context: Context, results: Results, part: Evidence, split: str, count: int) -> Evidence:
    """The same of all runs, or of those that some methods have; count: samples of each run that are averaged."""
    check, truth, examples = context.control.check, part.truth, part.examples
    optima = {solution.run: solution for solution in results.solutions(role=Role.OPTIMUM)}
    finals = [_function(results, [optima[run]], split) for run in part.numbers]
    found = []
    for method in part.methods:
        if method.fewest < MIN_SAMPLES:
            found.append(method)
            continue
        samples = [results.averaged(method.name, r) for r in part.numbers]
        averages = [_function(results, own[:count], split) for own in samples]
        singles = [[_function(results, [sample], split) for sample in own] for own in samples]
        found.append(
            replace(
                method,
                averaged=count,
                members=Members.of(averages, truth, check=check),
                last=_last_briers(results, method, part, split, check),
                cost=Cost(relative_training(results.spec, method.name), max(len(own) for own in samples)),
                js=OverRuns.of(np.stack([mean_divergence(own, examples, check=check) for own in singles])),
            )
        )
    return replace(
        part,
        methods=tuple(found),
        members=Members.of(finals, truth, check=check) if finals else None,
        js=divergence(finals, examples, check=check) if finals else None,
    )


def _last(context: Context, results: Results, name: str, runs: Sequence[int], split: str) -> LastIterates | None:
    """Of a method that trains on from every one of these runs; None for others, and for those of before it was kept."""
    found = [s for r in runs for s in results.solutions(run=r, method=name, sample_set=SampleSet.LAST)]
    looked = [context.wanted("last", f"{r}/{name}") for r in runs]
    if not found or len(found) < len(runs) or None in looked:
        return None
    better = np.array([one is not None and one["better"] for one in looked])
    return LastIterates(results.labels_of(found, split), better)


def _last_briers(
    results: Results, method: MethodEvidence, evidence: Evidence, split: str, check: Callable[[], None]
) -> LastIterates | None:
    """The last iterates with their Brier scores, example by example."""
    if method.last is None:
        return None
    found = [results.solutions(run=r, method=method.name, sample_set=SampleSet.LAST) for r in evidence.numbers]
    functions = [_function(results, one, split) for one in found]
    return replace(method.last, brier=Members.of(functions, evidence.truth, check=check).brier)


def _gains(context: Context, results: Results, evidence: Evidence, split: str, missing: Lost) -> list[Gain]:
    """What averaging gains and what it costs: an ensemble first, then every method around the runs where it has not
    failed, also those no claim asks about."""
    finals, runs = evidence.members, evidence.numbers
    if finals is None or len(runs) < 2:
        return []
    found = [Gain(
        method=None, members=MEMBERS, brier=finals.ensemble_gain(np.arange(len(runs))), training=float(MEMBERS),
        passes=MEMBERS,
    )]  # fmt: skip
    known = {method.name: method for part in evidence.parts for method in part.methods}
    briers = {s.run: scores(results.logits(s, split), evidence.truth)["brier"]
              for s in results.solutions(role=Role.OPTIMUM)}  # fmt: skip
    for chosen in context.spec.methods:
        name, method = chosen.method, known.get(chosen.method)
        had = [run for run in runs if run not in missing.get(name, {})]
        single = [briers[run] for run in had]
        samples = [results.averaged(name, run) for run in had]
        used = method.averaged if method and method.averaged else min((len(own) for own in samples), default=0)
        if not used:
            continue
        groups = ([results.logits(one, split) for one in own[:used]] for own in samples)
        averaged = float(np.mean([scores_together(group, evidence.truth)["brier"] for group in groups]))
        last, better = _last_of(context, results, evidence, name, had, split)
        before = np.where(better, last, single) if last else single
        best = _chosen(context, results, name) or {}
        found.append(
            Gain(
                method=name,
                brier=float(np.mean(before)) - averaged,
                over_finals=float(np.mean(single)) - averaged,
                over_last=float(np.mean(last)) - averaged if last else None,
                last_is_reference=sum(better),
                training=number(relative_training(results.spec, name)),
                passes=max(len(own) for own in samples),
                samples=used,
                runs=len(had) if len(had) < len(runs) else None,
                of=len(runs) if len(had) < len(runs) else None,
                strength=best.get("strength"),
                grid=best.get("grid"),
                end=best.get("end"),
            )
        )
    return found


def _last_of(
    context: Context, results: Results, evidence: Evidence, name: str, runs: Sequence[int], split: str
) -> tuple[list[float], list[bool]]:
    """Brier scores of where a method's own trainings ended, by run, and whether each is the reference; nothing for
    methods that train nothing."""
    found, better = [], []
    for run in runs:
        looked, solution = context.wanted("last", f"{run}/{name}"), results.last_iterate(name, run)
        if looked is None or solution is None:
            return [], []
        found.append(scores(results.logits(solution, split), evidence.truth)["brier"])
        better.append(bool(looked["better"]))
    return found, better


def _function(results: Results, solutions: list[Solution], split: str) -> Function:
    """Probabilities of a solution, or of the average of several, on a slice of the examples."""
    logits = [results.logits(solution, split) for solution in solutions]

    def probabilities(part: slice) -> NDArray[np.float64]:
        mean = np.asarray(np.mean([softmax(block[part]) for block in logits], axis=0))
        give_back(logits)
        return mean

    return probabilities


def _method_evidence(context: Context, results: Results, name: str, runs: Sequence[int], split: str) -> MethodEvidence:
    entry = context.spec.method(name)
    sets = {s: [results.solutions(run=r, method=name, sample_set=s) for r in runs] for s in SampleSet}
    # Typical samples were selected by their accuracy; they stand in only where no others were asked for.
    wide = sets[SampleSet.SPREAD] if any(sets[SampleSet.SPREAD]) else sets[SampleSet.TYPICAL]
    centre = None
    if entry.centre == "mean":
        chosen = next(m for m in results.spec.methods if m.method == name)
        drawn_set = sample_sets(results.spec, chosen)[0][0]  # spread, if there is one
        kept = [context.need("sample", f"{r}/{name}/{drawn_set}") for r in runs]
        centre = np.stack([context.artifacts.array(extra["centre"][split]).argmax(-1) for extra in kept])
    images = len(results.true_labels(split))
    best = _chosen(context, results, name)
    drawn = min(len(results.averaged(name, r)) for r in runs) if best else None
    if best and best["strength"] == 0 and drawn:
        drawn = best["samples"]  # all of them one function, which is kept once

    def labels(solutions: list[Solution]) -> NDArray[np.int64]:
        return results.labels_of(solutions, split) if solutions else np.empty((0, images), np.int64)

    return MethodEvidence(
        name=name,
        title=entry.title,
        near=[labels(typical) for typical in sets[SampleSet.TYPICAL]],
        wide=[labels(all_of_run) for all_of_run in wide],
        strengths=None
        if entry.strength is None
        else [[float(s.strength or 0.0) for s in all_of_run] for all_of_run in wide],
        centre=centre,
        are_rates=entry.strength == "rate",
        drawn=drawn,
        strength=best["strength"] if best else None,
        last=_last(context, results, name, runs, split),
    )


def _chosen(context: Context, results: Results, name: str) -> Json | None:
    """What chose the strength of a method's averaged samples; of imported ones the strength alone; None without any."""
    if results.averaged_set(name) != SampleSet.FAIR:
        return None
    if context.spec.imported is None:
        return context.wanted("strength", name)
    strengths = {one.strength for one in results.solutions(method=name, sample_set=SampleSet.FAIR)}
    if len(strengths) != 1 or None in strengths:
        return None
    fair = {one.method: context.spec.carried(one.method).fair for one in context.spec.methods}
    drawn = fair[name]
    if drawn == 1:  # of strength 0 one stands for as many as every other method has, or would have had
        asked = (one.typical for one in context.spec.methods if fair[one.method])
        drawn = max(fair.values()) if max(fair.values()) > 1 else min(asked)
    return {"strength": strengths.pop(), "samples": drawn}


def _family(results: Results) -> Family:
    """Fitted to wide samples of the first healthy run."""
    first = results.solutions(role=Role.OPTIMUM)[0]
    around = results.solutions(run=first.run, role=Role.SAMPLE, sample_set=SampleSet.SPREAD)
    wide = [s for s in around if results.spec.method(s.method or "").sampled]
    base = first.accuracy or 0.0
    fit = theory.fit_exponent(
        [s.accuracy or 0.0 for s in wide],
        [s.disagreement or 0.0 for s in wide],
        base=base,
        classes=len(results.class_names),
    )
    return Family(exponent=fit.exponent, low=fit.low, high=fit.high, samples=fit.used, border=fit.border, run=first.run)


def _at_equal_accuracy(method: MethodEvidence, evidence: Evidence) -> ReadOff:
    """Whether or not claims (d) could be told."""
    read = at_equal_accuracy(evidence, method)
    return ReadOff(
        method=method.name, disagreement=number(read.distance), among=number(read.among),
        strength=number(read.strength), below=read.below, support=read.support,
    )  # fmt: skip
