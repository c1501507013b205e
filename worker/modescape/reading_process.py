"""The process that reads what strangers sent: a question in JSON on a line of its own, an answer on the same. What it
says of an ensemble that is looked at (`looked`) the command line says of one that lies here.

It is started by `apart` and by nobody else. Each question is answered by a fork (`forks`), which limits itself before
it opens a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize  # noqa: F401  asked for by the door where labels are permuted: a fork finds it here

from modescape.apart import Answerable, Asked, Look, SeenMember, SeenOddity, SeenSet
from modescape.artifacts import Artifacts
from modescape.errors import InvalidInput, Problem
from modescape.forks import answer_in_forks, limit
from modescape.imported import parts
from modescape.imported.answers import answered, examined
from modescape.imported.arrays import Array, mapped, refuse, stacked
from modescape.imported.containers import is_of_a_desktop
from modescape.imported.digest import FILE_OF
from modescape.imported.door import Findings, Level, Oddity
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Ensemble,
    Labels,
    Member,
    OutputKind,
    Recipe,
    Tensors,
    Unclear,
)
from modescape.imported.kinds import predicted
from modescape.imported.memory import Samples, ShiftKey, WithLabels, from_arrays
from modescape.imported.reading import read
from modescape.imported.tensors import header_of
from modescape.imported.torch_files import SUFFIXES, is_of_torch
from modescape.imported.two_arrays import kind_of
from modescape.importing import Answers, kept_piece
from modescape.records import Json

_SETS = (TEST, VALIDATION)
_KINDS = {what: kind for kind, what in FILE_OF.items()}


def main() -> None:
    answer_in_forks(_limited)


def _limited(question: Json) -> Json:
    limit(space=question["memory"], seconds=question["seconds"])
    try:
        return _answer(question)
    except InvalidInput as error:
        return {"refused": [_problem(one) for one in error.problems]}
    except MemoryError:
        return {"refused": [{"message": "reading it takes more memory than is allowed", "field": "files",
                             "allowed": "MODESCAPE_IMPORT_MEMORY, or arrays stored without compression"}]}  # fmt: skip


def _problem(one: Problem) -> Json:
    return {"message": one.message, "field": one.field, "allowed": one.allowed}


def _answer(question: Json) -> Json:
    root, artifacts = Path(question["root"]), Artifacts(question["artifacts"])
    asked = Asked(**{**question["asked"], "classes": tuple(question["asked"]["classes"])})
    if question["action"] == "labels":
        return {"labels": [_labels(artifacts, path) for path in sorted(root.iterdir())]}
    if question["action"] == "weights":
        return {"tensors": {name: _tensors(name, path) for name, path in _named(root).items()}}
    if question["action"] == "look":
        return {"look": _plain(looked(lambda: read_sent(root, asked), asked))}
    member = question["member"] or {}
    is_one_of_more = member.pop("is_kind_of_all", False)
    ensemble = one_member(root, asked, **member) if member else read_sent(root, asked)
    recipe = Recipe(asked.recipe) if asked.recipe else None
    answers = Answers(_kind(asked), _permutation(asked), recipe, _mixed(asked))
    piece = kept_piece(artifacts, ensemble, answers, is_one_of_more=is_one_of_more)
    return {"piece": piece.to_json()}


def _plain(look: Look) -> Json:
    from dataclasses import asdict

    return asdict(look)


def _kind(asked: Asked) -> OutputKind | None:
    return OutputKind(asked.kind) if asked.kind else None


def _permutation(asked: Asked) -> Any:
    return asked.permutation or None


def _mixed(asked: Asked) -> Any:
    return asked.mixed or None


# --- true labels ------------------------------------------------------------------------------------------------------


def _labels(artifacts: Artifacts, path: Path) -> Json:
    truth = parts.true_labels(mapped(path, path.name))
    info = artifacts.put_array(truth, "given")
    place = path.name.removesuffix(".labels.npy")
    file = {
        "digest": info.digest,
        "kind": info.kind,
        "dtype": info.dtype,
        "shape": list(info.shape),
        "bytes": info.bytes,
    }
    return {"place": place, "count": len(truth), "file": file}


# --- weights ----------------------------------------------------------------------------------------------------------


def _tensors(name: str, path: Path) -> int:
    """How many a file of weights holds, 0 of one that torch has written: another process reads that."""
    if is_of_torch(path):
        return 0
    if path.suffix != ".safetensors":
        raise refuse(name, "it is no file of weights by its name", f".safetensors, or one of {', '.join(SUFFIXES)}")
    return len(header_of(Tensors(name, path.stat().st_size, lambda: path.open("rb"), path)).entries)


def _named(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


# --- reading ----------------------------------------------------------------------------------------------------------


def read_sent(root: Path, asked: Asked) -> Ensemble:
    """The ensemble in a folder of files that were sent. Raises InvalidInput, Unclear."""
    files = [path for path in root.rglob("*") if path.is_file()]
    found = read(
        files[0] if len(files) == 1 else root, name=asked.name, kind=_kind(asked),
        recipe=Recipe(asked.recipe) if asked.recipe else None, outputs=asked.outputs, labels=asked.labels,
        classes=asked.classes, within=root,
    )  # fmt: skip
    names = (path.relative_to(root).as_posix() for path in files)
    hidden = [name for name in names if len(files) > 1 and f"/{name}".count("/.") and not is_of_a_desktop(name)]
    return replace(found, unread=(*found.unread, *sorted(hidden)))


def one_member(
    root: Path, asked: Asked, *, id: str, seed: int | None, config: Mapping[str, Any], labels: Mapping[str, str]
) -> Ensemble:
    """A member that comes alone: a file of its outputs on the test set, or files by the names of the format, with or
    without the axis of members. Raises InvalidInput."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    arrays = {name: mapped(root / name, name) for name in names if name.endswith(".npy")}
    if len(names) == 1 and arrays and not names[0].startswith("test."):
        names, arrays = ["test.logits.npy"], {"test.logits.npy": next(iter(arrays.values()))}
    elif not arrays:
        alone = _alone(read_sent(root, asked), id, seed, config)
        for place in labels.keys() & alone.sets:
            _check_declared(place, alone.sets[place].labels, labels)
        return alone
    truth = {place: mapped(Path(path), f"the declared labels of {place}") for place, path in labels.items()}
    found = _Member.of(arrays, _kind(asked))
    weights = [name for name in names if name.endswith(".safetensors")]
    unread = [name for name in names if name not in found.read and name not in weights]
    if unread or len(weights) > 1:
        raise refuse(", ".join(unread or weights), "it has no place in a member", "test.logits.npy and the like")
    for place in _SETS:
        if f"{place}.labels.npy" in arrays:
            truth[place] = arrays[f"{place}.labels.npy"]
            _check_declared(place, parts.true_labels(truth[place]), labels)
    if TEST not in truth:
        raise refuse("test.labels.npy", "nobody has given the true labels", "labels, when the import was opened")
    if VALIDATION in found.sets and VALIDATION not in truth:
        raise refuse("validation.labels.npy", "nobody has given them", "labels of validation, when it was opened")
    return from_arrays(
        found.sets[TEST],
        truth[TEST],
        samples=found.samples,
        ood=found.ood,
        shift=found.shift,
        validation=(found.sets[VALIDATION], truth[VALIDATION]) if VALIDATION in found.sets else None,
        trajectory=found.trajectory,
        weights=[root / weights[0]] if weights else None,
        kind=found.kind,
        recipe=asked.recipe or Recipe.UNKNOWN,
        name=asked.name or "ensemble",
        members=[Member(id, seed, dict(config))],
        classes=asked.classes,
    )


def _check_declared(place: str, own: Labels | None, declared: Mapping[str, str]) -> None:
    """Raises InvalidInput where a member brings labels of a set that are not those declared of all members."""
    if own is None or place not in declared:
        return
    if not np.array_equal(own, parts.true_labels(mapped(Path(declared[place])))):
        said = "its labels are not those that were given when the import was opened"
        raise refuse(f"{place}.labels.npy", said, "the same labels, or a member without")


def _alone(ensemble: Ensemble, id: str, seed: int | None, config: Mapping[str, Any]) -> Ensemble:
    from dataclasses import replace

    if len(ensemble.members) != 1:
        raise refuse("files", f"they hold {len(ensemble.members)} members", "one: each is added by itself")
    if ensemble.weights:
        weights = {id: next(iter(ensemble.weights.values()))}
        ensemble = replace(ensemble, weights=weights)
    return replace(ensemble, members=(Member(id, seed, dict(config)),))


class _Member:
    """Arrays by the names of the format, of one member, with the axis of members put before where it is missing."""

    def __init__(self, kind: OutputKind) -> None:
        self.kind = kind
        self.sets: dict[str, Array] = {}
        self.ood: dict[str, Array] = {}
        self.shift: dict[ShiftKey, WithLabels] = {}
        self.samples: dict[str, Samples] = {}
        self.trajectory: tuple[Array, Array] | None = None
        self.read: set[str] = set()

    @classmethod
    def of(cls, arrays: Mapping[str, Array], said: OutputKind | None) -> _Member:
        named = {name.removesuffix(".npy").rpartition(".")[2] for name in arrays} & set(_KINDS)
        by_name = next((_KINDS[what] for what in sorted(named) if what != "logits"), None)
        test = next((one for name, one in arrays.items() if name.startswith("test.") and not _is_beside(name)), None)
        if test is None:
            raise refuse("files", "no outputs on the test set are among them", "test.logits.npy [examples, classes]")
        known = said or by_name or kind_of(test if len(test.shape) == 3 else stacked(test.name, [test]))
        found = cls(known)
        for name, array in arrays.items():
            found._take(name, array, arrays)
        return found

    def _take(self, name: str, array: Array, arrays: Mapping[str, Array]) -> None:
        place, _, what = name.removesuffix(".npy").rpartition(".")
        if what == "labels" and place in _SETS:
            self.read.add(name)
        if what not in _KINDS:
            return
        if place in _SETS:
            self.sets[place] = self._lifted(array, 1)
        elif place.startswith("ood/") and place.count("/") == 1:
            self.ood[place.partition("/")[2]] = self._lifted(array, 1)
        elif place.startswith("shift/") and place.count("/") == 2:
            own = arrays.get(f"{place}.labels.npy")
            lifted = self._lifted(array, 1)
            self.shift[place.partition("/")[2]] = lifted if own is None else (lifted, own)
            self.read |= {f"{place}.labels.npy"} & set(arrays)
        elif place == "trajectory.test" and "trajectory.epochs.npy" in arrays:
            self.trajectory = (parts.epochs(arrays["trajectory.epochs.npy"]), self._lifted(array, 2))  # type: ignore[assignment]
            self.read.add("trajectory.epochs.npy")
        elif place.startswith("samples/") and place.endswith("/test") and place.count("/") == 2:
            self._take_samples(place.split("/")[1], arrays, what)
        else:
            return
        self.read.add(name)

    def _take_samples(self, method: str, arrays: Mapping[str, Array], what: str) -> None:
        """Of one method, on every set."""
        below = f"samples/{method}/"
        places = {
            name.removeprefix(below).removesuffix(f".{what}.npy"): name
            for name in arrays
            if name.startswith(below) and name.endswith(f".{what}.npy")
        }
        here = {place: arrays[name] for place, name in places.items() if place != "centre/test"}
        lifted = {place: self._lifted(array, 2) for place, array in here.items() if _is_of_set(place)}
        strength, centre = arrays.get(f"{below}strength.npy"), arrays.get(places.get("centre/test", ""))
        self.samples[method] = Samples(
            lifted[TEST],
            strength=strength and _row(strength),
            centre=centre and self._lifted(centre, 1),
            validation=lifted.get(VALIDATION),
            ood={place.removeprefix("ood/"): one for place, one in lifted.items() if place.startswith("ood/")},
            shift={place.removeprefix("shift/"): one for place, one in lifted.items() if place.startswith("shift/")},
        )
        self.read |= {f"{below}strength.npy"} & set(arrays)
        self.read |= {name for place, name in places.items() if place in lifted or place == "centre/test"}

    def _lifted(self, array: Array, lead: int) -> Array:
        """lead: axes before the examples."""
        whole = lead + (1 if self.kind is OutputKind.LABELS else 2)
        if len(array.shape) not in (whole - 1, whole):
            raise parts.misshapen(array, self.kind, "samples or checkpoints, " if lead == 2 else "")
        return stacked(array.name, [array]) if len(array.shape) == whole - 1 else array


def _is_of_set(place: str) -> bool:
    kind, _, rest = place.partition("/")
    return place in _SETS or (kind, rest.count("/")) in (("ood", 0), ("shift", 1))


def _is_beside(name: str) -> bool:
    return name.endswith((".labels.npy", ".ids.npy"))


def _row(strength: Array) -> Any:
    values = np.asarray(strength.read())
    return values[None] if values.ndim == 1 else values


# --- what is said of it -----------------------------------------------------------------------------------------------


def looked(read: Callable[[], Ensemble], asked: Asked) -> Look:
    """What `read` finds, by these answers. Raises InvalidInput for what cannot be read, however it is answered."""
    try:
        ensemble = read()
    except Unclear as unclear:
        choices = tuple(Answerable(one.value, one.words) for one in unclear.choices)
        return Look(
            asked.name or "", odd=(SeenOddity("asked", unclear.problems[0].field, unclear.question, choices=choices),)
        )
    ensemble = answered(ensemble, kind=_kind(asked), recipe=Recipe(asked.recipe) if asked.recipe else None)
    ensemble, findings = examined(ensemble, asked.permutation)
    answers = {"kind": asked.kind, "permutation": asked.permutation, "recipe": asked.recipe, "mixed": asked.mixed}
    open_ = [one for one in findings.asked if one.what != "recipe" and not answers.get(one.what)]
    along = ensemble.trajectory
    return Look(
        name=ensemble.name,
        kind=ensemble.kind,
        recipe=ensemble.recipe,
        classes=ensemble.class_count,
        sets=tuple(
            SeenSet(place, one.role, one.outputs.shape, str(one.outputs.dtype), ensemble.truth(one) is not None)
            for place, one in ensemble.sets.items()
        ),
        members=_members(ensemble, findings),
        samples={name: one.outputs[TEST].shape[1] for name, one in ensemble.samples.items() if TEST in one.outputs},
        checkpoints=0 if along is None else len(along.epochs),
        weights=len(ensemble.weights),
        odd=tuple(_seen(one) for one in findings.oddities),
        may=not findings.refused and not open_,
    )


def _seen(one: Oddity) -> SeenOddity:
    choices = tuple(Answerable(choice.value, choice.words) for choice in one.choices)
    return SeenOddity(one.level, one.what, one.sentence, one.members, one.place, choices)


def _members(ensemble: Ensemble, findings: Findings) -> tuple[SeenMember, ...]:
    truth = ensemble.test.labels if ensemble.has_outputs else None  # logs of trackers may have curves alone
    fits = truth is not None and len(truth) == ensemble.test.count and not findings.on(Level.REFUSED)
    if not fits:
        return tuple(SeenMember(one.id, None, one.seed) for one in ensemble.members)
    found = []
    for member, block in zip(ensemble.members, ensemble.test.outputs.rows(), strict=True):
        right = float(np.mean(predicted(ensemble.kind, block) == truth))
        found.append(SeenMember(member.id, right if math.isfinite(right) else None, member.seed))
    return tuple(found)


if __name__ == "__main__":
    main()
