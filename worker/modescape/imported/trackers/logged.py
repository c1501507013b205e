"""What every reader of another tool's logs makes, and how an ensemble is made of it.

A run that logged nothing is left out, and named. Predictions are files of the runs' own that go by the names of the
folder format (test.logits.npy, test.labels.npy, ood/svhn.logits.npy), or by the names that the user gives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.imported import parts
from modescape.imported.arrays import mapped, refuse, stacked
from modescape.imported.containers import is_inside
from modescape.imported.digest import FILE_OF
from modescape.imported.ensemble import TEST, Choice, Curve, Ensemble, ExampleSet, Labels, Member, OutputKind, Unclear
from modescape.imported.two_arrays import kind_of, natural

MOST_POINTS = 20_000_000  # of all curves together: 480 MB
_SEEDS = ("seed", "random_seed", "random_state", "manual_seed")
_KINDS = {what: kind for kind, what in FILE_OF.items()}
_SET = r"(?:.*/)?(?P<place>test|validation|ood/[^/]+|shift/[^/]+/[1-5])"
_OUTPUTS = re.compile(rf"{_SET}\.(?P<what>{'|'.join(_KINDS)})\.npy")
_LABELS = re.compile(rf"{_SET}\.labels\.npy")
_LONGEST = 200  # letters of a run's name


@dataclass(frozen=True)
class Asked:
    """What the user said of logs, None where nothing.

    kind: of predictions, None: as they look; experiment: which, where there are several with runs; outputs, labels:
    which files among the runs' own hold predictions and true labels, where their names do not say it (labels: also a
    file beside the runs, or elsewhere); within: the folder beyond which no place that logs name is looked at.
    """

    kind: OutputKind | None = None
    experiment: str | None = None
    outputs: str | None = None
    labels: str | None = None
    within: Path | None = None

    def truth(self, logs: Path, names: Collection[str] = ()) -> Path | None:
        """The file of true labels that was named and is no run's own. logs: where all runs lie, beside whom a file that
        was sent along lies, too; names: of the runs' own files."""
        if self.labels is None:
            return None
        beside, elsewhere = (logs if logs.is_dir() else logs.parent) / self.labels, Path(self.labels)
        places = (beside,) if self.labels in names else (beside, elsewhere)
        return next((one for one in places if is_inside(one, self.within) and one.is_file()), None)


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """One run. id: what the tool calls it; name: what people call it; files: where it kept files, if it kept any."""

    id: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    files: Path | None = None


@dataclass(frozen=True)
class Logs:
    """All runs. name: of the whole, as the tool has it; left_out: what of it is not read; remarks: about the rest."""

    name: str
    runs: tuple[LoggedRun, ...]
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def curve(points: Iterable[tuple[float, float, float]]) -> Curve:
    """[P, 3] of (step, value, Unix time; NaN where nobody noted it), steps increasing.

    Of two points at one step the one that was written later stays. Where a tool was told no steps, so that all are 0,
    points are numbered in the order in which they were written.
    """
    found = np.array(list(points), np.float64).reshape(-1, 3)
    if len(found) > 1 and not found[:, 0].any():
        found[:, 0] = np.arange(len(found))
    order = np.argsort(found[:, 0], kind="stable")
    found = found[order]
    last: NDArray[np.bool_] = np.append(found[1:, 0] != found[:-1, 0], True)[: len(found)]
    kept: Curve = found[last]
    return kept


def shown(path: Path, names: int = 2) -> str:
    """A file of somebody's logs as messages call it: by its last names, and not by where on this machine they lie."""
    return "/".join(path.parts[-names:])


def value_of(text: str) -> Any:
    """A parameter that a tool kept as text: the number, truth or nothing that it says, else the text."""
    plain = {"true": True, "false": False, "none": None, "null": None}
    if text.strip().lower() in plain:
        return plain[text.strip().lower()]
    for read in (int, float):
        try:
            return read(text) if "_" not in text else text
        except ValueError:
            continue
    return text


def one_experiment(name: str, found: Mapping[str, str], asked: str | None) -> str:
    """Which of several experiments (id -> name) is meant. Raises Unclear, InvalidInput."""
    if asked is not None:
        chosen = [one for one, title in found.items() if asked in (one, title)]
        if len(chosen) != 1:
            raise InvalidInput(
                f"{name} has {'several experiments' if chosen else 'no experiment'} called {asked!r}",
                field="experiment", allowed=", ".join(sorted({*found, *found.values()})),
            )  # fmt: skip
        return chosen[0]
    if len(found) > 1:
        raise Unclear(
            f"{name} holds {len(found)} experiments with runs: which?",
            [Choice(one, title) for one, title in found.items()],
            field="experiment",
        )
    return next(iter(found))


def assembled(path: Path, logs: Logs, asked: Asked) -> Ensemble:
    """An ensemble whose members are the runs that logged something; where some kept predictions, those that did.

    Raises InvalidInput where none logged anything.
    """
    own = dict(zip(logs.runs, _files(logs.runs), strict=True))
    runs = [run for run in logs.runs if run.curves or run.config or own[run]]
    if not runs:
        raise refuse(path.name, "none of its runs logged anything", "runs with metrics, parameters or predictions")
    if sum(len(one) for run in runs for one in run.curves.values()) > MOST_POINTS:
        raise refuse(path.name, f"its curves have more than {MOST_POINTS:,} points", "fewer runs at a time")
    _check_there(asked.outputs, "outputs", {name for run in runs for name in own[run]})
    left_out = [f"run {run.name}, which logged nothing" for run in logs.runs if run not in runs]
    if predicted := [run for run in runs if TEST in _outputs_of(own[run], asked)]:
        left_out += [f"run {run.name}, which kept no predictions" for run in runs if run not in predicted]
        runs = predicted
    ids = _ids(runs)
    sets, unread = _sets({one: own[run] for one, run in zip(ids, runs, strict=True)}, asked, path)
    return Ensemble(
        name=logs.name or path.stem,
        kind=asked.kind or (kind_of(sets[TEST].outputs) if sets else OutputKind.LOGITS),
        members=tuple(Member(one, _seed(run.config), run.config) for one, run in zip(ids, runs, strict=True)),
        sets=sets,
        curves={one: dict(run.curves) for one, run in zip(ids, runs, strict=True) if run.curves},
        unread=(*logs.left_out, *left_out, *unread),
        remarks=logs.remarks,
    )


def _ids(runs: Sequence[LoggedRun]) -> list[str]:
    """Names, where no two share one; else with the tool's own id."""
    names = Counter(run.name for run in runs)
    found = [run.name if run.name and names[run.name] == 1 else f"{run.name} {run.id}".strip() for run in runs]
    return [re.sub(r"[\\/:\x00-\x1f\x7f]+", "-", one)[:_LONGEST] for one in found]


def _seed(config: Mapping[str, Any]) -> int | None:
    found = [value for key, value in config.items() if re.split(r"[./]", key.lower())[-1] in _SEEDS]
    return found[0] if len(found) == 1 and type(found[0]) is int else None


# --- predictions among the runs' files --------------------------------------------------------------------------------


def _files(runs: Sequence[LoggedRun]) -> list[dict[str, Path]]:
    """The arrays among each run's files, by their paths below; those of a run whose folder lies in another's are its
    own alone, and what a link leads to is nobody's."""
    folders = {run.files for run in runs}
    return [{} if run.files is None else _below(run.files, folders) for run in runs]


def _below(folder: Path, folders: Collection[Path | None]) -> dict[str, Path]:
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*.npy"), key=lambda path: natural(str(path)))
        if not path.is_symlink()
    }
    return {
        name: path
        for name, path in found.items()
        if not any(folder / above in folders for above in Path(name).parents[:-1])
    }


def _sets(kept: Mapping[str, Mapping[str, Path]], asked: Asked, logs: Path) -> tuple[dict[str, ExampleSet], list[str]]:
    """What every member predicted, by place, and which arrays were not read. kept: member -> name -> file."""
    names = {name for files in kept.values() for name in files}
    outputs = _outputs_of(set.intersection(*(set(files) for files in kept.values())), asked)
    elsewhere = asked.truth(logs, names)
    if elsewhere is None:
        _check_there(asked.labels, "labels", names)
    truths = _labels_of(names, asked)
    if TEST not in outputs:
        return {}, sorted(names)
    stacks = {place: stacked(name, [mapped(files[name]) for files in kept.values()]) for place, name in outputs.items()}
    kind = asked.kind or kind_of(stacks[TEST])
    labels = {place: _truth(name, kept) for place, name in truths.items() if place in outputs}
    if elsewhere is not None:
        labels[TEST] = parts.true_labels(mapped(elsewhere))
    if TEST not in labels:
        raise refuse(
            outputs[TEST], "the runs predicted test images, and no true labels are among their files",
            "test.labels.npy among the files of one run, or labels=...",
        )  # fmt: skip
    examples = stacks[TEST].shape[1]
    return {
        place: parts.set_of(place, parts.outputs(found, kind), labels=labels.get(place), examples=examples)
        for place, found in sorted(stacks.items())
    }, sorted(names - {*outputs.values(), *truths.values()})


def _outputs_of(names: Collection[str], asked: Asked) -> dict[str, str]:
    """place -> the file of it: as the user said, or as its name says."""
    found = {match["place"]: name for name in sorted(names) if (match := _OUTPUTS.fullmatch(name))}
    return found | ({TEST: asked.outputs} if asked.outputs is not None and asked.outputs in names else {})


def holds_outputs(name: str, asked: Asked) -> bool:
    """Whether a file of a run's own is what it said of the test set."""
    return TEST in _outputs_of([name], asked)


def holds_labels(name: str, asked: Asked) -> bool:
    """Whether a file of a run's own is the true labels of the test set."""
    return name == asked.labels or ((match := _LABELS.fullmatch(name)) is not None and match["place"] == TEST)


def _check_there(name: str | None, of: str, names: Collection[str]) -> None:
    """Raises InvalidInput where the user named a file for `of` that no run has."""
    if name is not None and name not in names:
        raise InvalidInput(f"no run has a file {name!r}", field=of, allowed=", ".join(sorted(names)) or "none")


def _labels_of(names: Collection[str], asked: Asked) -> dict[str, str]:
    found = {match["place"]: name for name in sorted(names) if (match := _LABELS.fullmatch(name))}
    return found | ({TEST: asked.labels} if asked.labels is not None and asked.labels in names else {})


def _truth(name: str, kept: Mapping[str, Mapping[str, Path]]) -> Labels:
    """The labels that the runs kept. Raises InvalidInput where two kept others."""
    found: Labels | None = None
    for member, files in kept.items():
        if name not in files:
            continue
        own = parts.true_labels(mapped(files[name]))
        if found is not None and not np.array_equal(found, own):
            raise refuse(f"{member}/{name}", "its true labels are not those of the other runs", "the same examples")
        found = own
    assert found is not None
    return found
