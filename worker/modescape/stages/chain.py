"""The trainings that methods do for themselves: on from a run's optimum, or of a network of their own.

    chain[r/m] -> sample[r/m/s]: what the chain kept is what the samples are drawn from, or are.

Resumable as the runs' trainings are. Each kept set of weights is a file of its own, batch-norm statistics with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modescape.claims.evidence import ChainEvidence
from modescape.draft import Draft
from modescape.errors import StageError
from modescape.methods.sgmcmc import CyclicalOptions
from modescape.methods.trained import FreshOptions, TrainedOptions
from modescape.prices import Work
from modescape.records import Absent, Role
from modescape.registry import Method, Options, methods
from modescape.results import Results
from modescape.science.seeds import chain_seeds, stream_seed
from modescape.spec import ExperimentSpec
from modescape.spec_parts import WeightsSpec, keyed, steps_per_epoch
from modescape.stages.around import options_of
from modescape.stages.stage import Context, Json, Task, planner, stage, the_data, the_method, the_network, the_recipe
from modescape.stages.train import run_training

if TYPE_CHECKING:
    from modescape.training import Recipe


@planner("chain", after="embed-trajectories")
def plan(draft: Draft) -> None:
    for chosen in draft.spec.methods:
        entry = draft.spec.method(chosen.method)
        if entry.trained is None:
            continue
        options = options_of(draft.spec, entry)
        training = _trained(options).training(draft.spec.training)
        kept = _trained(options).samples
        images = 0 if draft.spec.weights is not None else steps_per_epoch(training, draft.n.train) * training.batch_size
        work = Work(trained=training.epochs * images)
        for r in draft.runs:
            needs = [("train", f"{r}")] if entry.trained == "continued" else []
            draft.add("chain", f"{r}/{entry.name}", {"run": r, "method": entry.name}, work, needs=needs)
        draft.bytes += 4 * draft.parameters * (kept + 1) * len(draft.runs)  # and the weights at the end
        draft.warnings += [f"{entry.title}: {words}" for words in _trained(options).warnings(draft.spec)]


def _trained(options: Options) -> TrainedOptions:
    assert isinstance(options, TrainedOptions)  # what `Method.trained` promises
    return options


def _parts(task: Task) -> Json:
    spec = task.spec
    if spec.weights is not None:
        return {"given": list(spec.weights.epochs)}
    part = keyed(spec)
    entry, run = methods[task.params["method"]], task.params["run"]
    options = options_of(spec, entry)
    return {
        "data": part["data"],
        "network": part["network"],
        "training": keyed(_trained(options).training(spec.training)),
        "options": keyed(options) if isinstance(options, FreshOptions) else None,
        "seeds": chain_seeds(spec.ensemble.seed, run, entry.name).as_dict(),
        "noise": _noise_seed(spec, run, entry),
    }


def _noise_seed(spec: ExperimentSpec, run: int, entry: Method) -> int:
    return stream_seed(spec.ensemble.seed, f"chain/{entry.name}/langevin", run)


@stage(
    "chain",
    parts=_parts,
    brought=(the_data, the_network, the_method, the_recipe),
    absent=Absent("Cyclical SG-MCMC was not chosen.", add="sgmcmc", place="methods.sgmcmc"),
)
def chain(context: Context) -> None:
    """One chain of one method beside one run; the weights it kept, in order."""
    from modescape.science import weights

    spec, run = context.spec, context.params["run"]
    if spec.weights is not None:
        context.output.extra = {"kept": _given(context, spec.weights)}
        return
    entry = methods[context.params["method"]]
    options = options_of(spec, entry)
    training = _trained(options).training(spec.training)
    seeds = chain_seeds(spec.ensemble.seed, run, entry.name)
    recipe: Recipe | None = None
    planned = _trained(options).samples
    if isinstance(options, FreshOptions):
        network = context.start(seeds.weights)
        recipe = options.recipe(training, images=len(context.splits.train), seed=_noise_seed(spec, run, entry))
    else:
        network = context.network()
        optimum = context.need("train", f"{run}")["checkpoints"][-1]["weights"]
        weights.load_tensors(network, context.artifacts.tensors(optimum))
    recorder = run_training(context, network, training, seeds, run=None, recipe=recipe)
    if not recorder.failed and len(recorder.snapshots) != planned:
        raise StageError(f"the chain kept {len(recorder.snapshots)} sets of weights, {planned} were planned")
    recorder.close()
    per_epoch = steps_per_epoch(training, len(context.splits.train))
    context.output.extra = {
        "kept": [{**kept, "epoch": kept["step"] / per_epoch} for kept in recorder.snapshots],
        "images_per_second": recorder.last.images_per_second,
        **({"failed": recorder.failed} if recorder.failed else {}),
    }


def _given(context: Context, weights: WeightsSpec) -> list[Json]:
    """Of weights made elsewhere the late snapshots that came with them, in place of what training on would collect."""
    snapshots = context.need("train", f"{context.params['run']}")["snapshots"]
    return [{**one, "epoch": weights.epochs[i]} for i, one in zip(weights.gaussian(), snapshots, strict=True)]


def chain_evidence(results: Results) -> ChainEvidence | None:
    """The last sample of each cycle of every chain on the first evaluation split, for claim (h); None without chains.

    Only chains with all their samples count, and failed ones are counted; the runs' optima stand beside them.
    """
    for chosen in results.spec.methods:
        entry = results.spec.method(chosen.method)
        options = options_of(results.spec, entry)
        if not isinstance(options, CyclicalOptions):
            continue
        split = results.spec.evaluation.splits[0]
        chains = {}
        for run in range(results.spec.ensemble.runs):
            samples = {sample.index: sample for sample in results.solutions(run=run, method=entry.name)}
            if len(samples) == options.samples:
                chains[run] = results.labels_of([samples[index] for index in options.last_of_cycles], split)
        if chains:
            optima = results.solutions(role=Role.OPTIMUM)
            return ChainEvidence(
                classes=len(results.class_names),
                truth=results.true_labels(split),
                labels=np.stack(list(chains.values())),
                finals=results.labels_of(optima, split) if optima else None,
                numbers=tuple(chains),
                failed=len(results.failed_chains.get(entry.name, {})),
                decided=True,
            )
    return None
