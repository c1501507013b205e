"""How alike are the solutions? Cosine of weights, disagreement and divergences of predictions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from modescape.claims.evidence import ChainEvidence, Evidence
from modescape.draft import Draft
from modescape.errors import NothingLearned
from modescape.finding import no_run_learned
from modescape.imported.ensemble import Tensors
from modescape.imported.tensors import TensorEntry, floats, header_of, matched
from modescape.prices import Work
from modescape.records import Group, Json, Role, SampleSet
from modescape.results import Results
from modescape.science import similarity
from modescape.science.isotonic import REDRAWS
from modescape.stages.judge import judge
from modescape.stages.stage import Context, Task, planner, stage, whole
from modescape.tables import Solution


@planner("trajectories", after="predict")
def plan_trajectories(draft: Draft) -> None:
    """Comparisons of checkpoints, which need no samples and so come first."""
    solutions = len(draft.runs) * len(draft.epochs)
    seconds = solutions**2 * draft.images * draft.classes / 2e10
    draft.add("compare", "trajectories", {}, Work(other=seconds), wants=draft.keys("predict"), optional=False)


@planner("compare", after="last")
def plan_all(draft: Draft) -> None:
    """Comparisons of all solutions with each other."""
    if draft.spec.methods:
        total, pairs = draft.next_number, len(draft.runs) * 2e-8 + draft.next_number / 2e10
        needs, wants = (
            [("compare", "trajectories")],
            [*draft.keys("predict", "sample"), *draft.keys("strength", "last")],
        )
        # The verdict: every pair of a run's samples, and each method read at equal accuracy under all redraws.
        js = sum(chosen.typical**2 / 2 for chosen in draft.spec.methods) * len(draft.runs)
        rows = sum(2 * chosen.spread + chosen.spread**2 / 2 for chosen in draft.spec.methods) * len(draft.runs)
        redrawn = rows * draft.images * REDRAWS / 1.5e10 + 1.2 * len(draft.spec.methods) * (1 + len(draft.runs) / 10)
        judged = js * draft.images * draft.classes * 3e-8 + redrawn
        work = Work(other=total * draft.images * draft.classes * pairs + judged)
        draft.add("compare", "all", {}, work, needs=needs, wants=wants, optional=False)


def _parts(task: Task) -> Json:
    """With how weights of files are matched."""
    return whole(task) | ({} if task.spec.imported is None else {"matched": "by name, else by order"})


@stage("compare", version=8, parts=_parts, judges=(Evidence, ChainEvidence), gathers=True)
def compare(context: Context) -> None:
    if context.lease.stage.key == "trajectories":
        _compare_trajectories(context)
    else:
        _compare_all(context)


def _compare_trajectories(context: Context) -> None:
    """Cosine of weights and disagreement of labels between the checkpoints and optima of healthy runs; divergence of
    independent runs. Raises NothingLearned when no run is healthy."""
    results = context.results()
    solutions = [solution for solution in results.solutions() if solution.role != Role.SAMPLE]
    if not solutions:
        raise NothingLearned(f"no run learned: {no_run_learned(results.failed)}")
    if context.spec.imported is None:
        _cosines(context, solutions)
    else:
        _cosines_of_files(context, [solution for solution in solutions if solution.weights])
    optima = [solution for solution in solutions if solution.role == Role.OPTIMUM]
    for split in context.spec.evaluation.splits:
        context.control.check()
        context.add_matrix(
            "disagreement",
            split,
            similarity.disagreement(results.labels_of(solutions, split)),
            solutions,
            solutions,
        )
        if context.spec.has_probabilities:
            _between_runs(context, results, optima, split)
    judge(context, results)


def _cosines(context: Context, solutions: list[Solution]) -> None:
    """Gram matrices of the weights, tensor by tensor, so that memory holds one tensor of every solution at a time: of
    all of them, and without what two networks share for free (the class mean of the head, which cannot change a
    prediction, and the scales and offsets of norms, which start alike)."""
    from modescape.science import weights

    files = [safe_open(context.artifacts.path(str(solution.weights)), framework="np") for solution in solutions]
    network, classes = context.network(), len(context.splits.classes)
    alike = weights.norm_parameters(network)
    head = weights.head_parameters(network, context.splits.shape[:3], classes)
    gram = np.zeros((2, len(files), len(files)))
    pieces = [name for name, _ in network.named_parameters()]
    for i, name in enumerate(pieces):
        context.control.check()
        context.control.progress(i, len(pieces))
        block = np.stack([file.get_tensor(name).reshape(-1).astype(np.float64) for file in files])  # type: ignore[no-untyped-call]
        product = block @ block.T
        gram[0] += product
        if name in head:
            block = weights.without_class_mean(block, classes)
            product = block @ block.T
        if name not in alike:
            gram[1] += product
    context.add_matrix("cosine", "", similarity.cosines(gram[0]), solutions, solutions, weights="all")
    context.add_matrix(
        "cosine-reduced", "", similarity.cosines(gram[1]), solutions, solutions,
        weights="reduced", head=list(head), left_out=list(alike),
    )  # fmt: skip


def _cosines_of_files(context: Context, solutions: list[Solution]) -> None:
    """The same of weights that came without their network (science p.4), on the tensors that are matched in every file;
    reduced are those of two or more dimensions."""
    if len(solutions) < 2:
        return
    paths = [context.artifacts.path(str(solution.weights)) for solution in solutions]
    shared = matched([header_of(Tensors.of(path)) for path in paths])
    gram, left_out = np.zeros((2, len(paths), len(paths))), []
    for i, entries in enumerate(shared):
        context.control.check()
        context.control.progress(i, len(shared))
        block = np.stack([_floats(path, entry) for path, entry in zip(paths, entries, strict=True)])
        product = block @ block.T
        gram[0] += product
        if len(entries[0].shape) > 1:
            gram[1] += product
        else:
            left_out.append(entries[0].name)
    context.add_matrix("cosine", "", similarity.cosines(gram[0]), solutions, solutions, weights="all")
    context.add_matrix(
        "cosine-reduced", "", similarity.cosines(gram[1]), solutions, solutions,
        weights="reduced", head=[], left_out=left_out,
    )  # fmt: skip


def _floats(path: Path, entry: TensorEntry) -> NDArray[np.float64]:
    with path.open("rb") as file:
        return floats(file, entry)


def _between_runs(context: Context, results: Results, optima: list[Solution], split: str) -> None:
    """The runs' Jensen-Shannon divergence; what they are worth together is the stage `ensemble`'s."""
    if len(optima) > 1:
        divergence = similarity.js_mean_of([results.logits(solution, split) for solution in optima])
        for metric, value in (("js_mean", divergence), ("js_sum", divergence * len(optima))):
            context.add_group(Group.INDEPENDENT, metric, value, len(optima), split, members=len(optima))


def _compare_all(context: Context) -> None:
    """Disagreement between all solutions, and every other distance between the optima and all solutions."""
    results = context.results()
    solutions = results.solutions()
    optima = results.solutions(role=Role.OPTIMUM)
    for passed, split in enumerate(context.spec.evaluation.splits):
        labels = results.labels_of(solutions, split)
        context.add_matrix("disagreement", split, similarity.disagreement(labels), solutions, solutions)
        if not context.spec.has_probabilities:
            continue
        logits = {solution.number: results.logits(solution, split) for solution in solutions}
        found = similarity.divergences(
            [logits[optimum.number] for optimum in optima],
            list(logits.values()),
            check=context.control.check,
            progress=partial(_told, context, passed),
        )
        for name, values in found.items():
            context.add_matrix(name, split, values, optima, solutions)
        _method_divergences(context, results, split)
    judge(context, results)


def _told(context: Context, passed: int, done: int, of: int) -> None:
    """Tells how many examples of how many splits have been gone through."""
    context.control.progress(passed * of + done, len(context.spec.evaluation.splits) * of)


def _method_divergences(context: Context, results: Results, split: str) -> None:
    """Jensen-Shannon divergence within each method's typical set, run by run, then the mean over runs."""
    for chosen in context.spec.methods:
        per_run = []
        for run in range(context.spec.ensemble.runs):
            samples = results.solutions(run=run, method=chosen.method, sample_set=SampleSet.TYPICAL)
            if len(samples) > 1:
                js = similarity.js_mean_of([results.logits(s, split) for s in samples])
                per_run.append((js, len(samples)))
        if per_run:
            value = float(np.mean([js for js, _ in per_run]))
            members = [count for _, count in per_run]
            context.add_group(f"{chosen.method}/typical", "js_mean", value, len(per_run), split, members=members)
