"""Joint maps of functions: t-SNE, PCA and metric scaling of predictions."""

from __future__ import annotations

import numpy as np

from modescape.draft import Draft
from modescape.prices import Work
from modescape.records import Role, SampleSet
from modescape.science import similarity
from modescape.stages.stage import Context, Json, planner, stage


@planner("embed-trajectories", after="trajectories")
def plan_trajectories(draft: Draft) -> None:
    draft.add("embed", "trajectories", {}, Work(other=2.0), wants=draft.keys("predict"))


@planner("embed-samples", after="compare")
def plan_samples(draft: Draft) -> None:
    if draft.spec.methods:
        draft.add("embed", "samples", {}, Work(other=4.0), wants=[*draft.keys("predict"), *draft.keys("sample")])


@stage("embed", version=5, gathers=True)
def embed(context: Context) -> None:
    """One joint map of functions: trajectories of the first healthy runs, and with them their typical samples."""
    results, evaluation = context.results(), context.spec.evaluation
    split = evaluation.splits[0]
    what = context.lease.stage.key
    runs = [optimum.run for optimum in results.solutions(role=Role.OPTIMUM)][: evaluation.embed_runs]
    if not runs:
        context.output.extra = {"skipped": "no run is healthy"}
        return
    shown = [
        solution
        for solution in results.solutions()
        if solution.run in runs
        and (solution.role != Role.SAMPLE or (what == "samples" and solution.sample_set == SampleSet.TYPICAL))
    ]
    images = min(evaluation.embed_images, len(results.true_labels(split)))
    logits = []
    for i, solution in enumerate(shown):
        context.control.check()
        context.control.progress(i, len(shown))
        logits.append(np.asarray(results.logits(solution, split)[:images]))
    maps = similarity.embed(similarity.gram(logits), seed=evaluation.embed_seed, perplexity=evaluation.perplexity)
    details: Json = {"images": images, "functions": len(shown), "seed": maps.seed}
    layouts = {"tsne": maps.tsne, "pca": maps.pca, "mds": maps.mds}
    said: dict[str, Json] = {
        "tsne": {"perplexity": maps.perplexity},
        "pca": {"share": maps.share},
        "mds": {"stress": maps.stress},
    }
    for layout, points in layouts.items():
        if points is not None:
            context.add_matrix(f"{layout}-{what}", split, points, shown, ["x", "y"], **details, **said[layout])
