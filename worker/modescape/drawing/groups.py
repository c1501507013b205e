"""Groups of functions: their names, looks and order, and whether what failed leaves anything of them to show."""

from __future__ import annotations

from collections.abc import Sequence

import modescape.registry as registry
from modescape.drawing.reading import FigureNotReady
from modescape.records import Group
from modescape.results import Results

GROUNDS = ("baseline", "theory")  # legends may name them, so a filter may too; they are no group of functions


def left_out(results: Results, shown: Sequence[str] = ()) -> str:
    """Sentences for captions, "1 of 6 runs failed and counts nowhere."; also of the chains of methods that are shown;
    "" while all are healthy."""
    counts = [(len(results.failed), results.spec.ensemble.runs, "runs")]
    counts += [
        (len(chains), results.chains(name), f"{registry.method_title(name)} chains")
        for name, chains in results.failed_chains.items()
        if name in shown
    ]
    return " ".join(
        f"{count} of {of} {what} failed and count{'s' * (count == 1)} nowhere." for count, of, what in counts if count
    )


def refuse_failed(results: Results, run: int) -> None:
    """A run that was named and has failed closes the figure. Raises FigureNotReady."""
    if run in results.failed:
        raise FigureNotReady(f"run {run} failed, so there is nothing to show: {results.failed[run]}", closed=True)


def refuse_skipped(results: Results, kind: str, key: str) -> None:
    """So does a stage that made nothing because of what failed before it. Raises FigureNotReady."""
    why = results.skipped(kind, key)
    if why:
        raise FigureNotReady(f"there is nothing to show: {why}", closed=True)


def after_runs(done: int, results: Results) -> str:
    """ "after 4 of 10 runs", or "" when all are there that have not failed."""
    planned = len(results.healthy)
    return f"after {done} of {planned} runs" if done < planned else ""


REFERENCE = "baseline"


def group_title(
    group: str, *, independent: str = Group.INDEPENDENT.words, trajectory: str = Group.TRAJECTORY.words
) -> str:
    """Of a method, or of the runs or their checkpoints, as a figure calls them."""
    own: dict[str, str] = {Group.INDEPENDENT: independent, Group.TRAJECTORY: trajectory}
    return own.get(group) or registry.method_title(group)


def all_groups(results: Results) -> list[str]:
    """Every group that this experiment may have, in the order of figures."""
    return Group.with_methods(chosen.method for chosen in results.spec.methods)
