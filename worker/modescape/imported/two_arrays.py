"""Arrays by name, of which one is the members' outputs and one the true labels: which is which, where that is obvious.

    from_named({"preds": preds, "y": y}, None, None, None)
    from_files({"run_0": first, "run_1": second, "y": y}, None, None)       # or a file a member

It is obvious when exactly one pair of arrays fits together, [M, N, K] or [N, K] of floats and [N] of whole numbers, or
[M, N] of predicted labels; or when one such pair goes by the usual names. What kind of numbers they are is read off
them. Anything else is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from modescape.imported import parts
from modescape.imported.arrays import Array, Refused, printable, refuse, stacked
from modescape.imported.containers import Archive, values
from modescape.imported.ensemble import TEST, Choice, Ensemble, Member, OutputKind, Unclear
from modescape.imported.kinds import looks_like, of_one_number
from modescape.names import some

OUTPUT_NAMES = ("logits", "predictions", "preds", "pred", "outputs", "probs", "probabilities", "test.logits", "y_pred")
LABEL_NAMES = ("labels", "label", "y", "y_true", "y_test", "targets", "target", "truth", "test.labels", "test_labels")
_LOOKED_AT = 1 << 18  # values that tell the kind


@dataclass(frozen=True)
class _Pair:
    outputs: str
    labels: str

    @property
    def is_usual(self) -> bool:
        return self.outputs.lower() in OUTPUT_NAMES and self.labels.lower() in LABEL_NAMES


def from_named(
    arrays: Mapping[str, Array], kind: OutputKind | None, outputs: str | None, labels: str | None
) -> Ensemble:
    """outputs, labels: the names of the arrays, where the user said. Raises Unclear, InvalidInput."""
    check_there(outputs, "outputs", arrays)
    check_there(labels, "labels", arrays)
    pairs = _pairs(arrays, outputs, labels)
    usual = [pair for pair in pairs if pair.is_usual]
    if not pairs:
        raise _no_pair(arrays)
    if len(pairs) > 1 and len(usual) != 1:
        raise _unclear(pairs)
    pair = pairs[0] if len(pairs) == 1 else usual[0]
    unread = [name for name in arrays if name not in (pair.outputs, pair.labels)]
    remarks = () if labels is not None else (of_labels(arrays[pair.labels].name),)
    found = _ensemble(arrays[pair.outputs], arrays[pair.labels], kind)
    return replace(found, unread=tuple(unread), remarks=remarks)


def of_labels(name: str) -> str:
    """What is said of true labels that nobody named. name: of the file or array."""
    return f"The true labels are those of {printable(name)}"


def check_there(name: str | None, of: str, arrays: Iterable[str]) -> None:
    """Raises InvalidInput where the user named an array for `of` that is not there."""
    if name is not None and name not in (there := list(arrays)):
        raise refuse(name, f"no array of that name is there for {of}", ", ".join(there))


def from_files(
    arrays: Mapping[str, Array], kind: OutputKind | None, outputs: str | None, labels: str | None, *, numbered: bool
) -> Ensemble | None:
    """One array a member and one of the true labels, by the names of their files; None where they are something else.
    outputs: of several sets, which is the test set, where the user said; labels: the name of the true ones; numbered:
    whether names must be alike but for their numbers. Raises Unclear, InvalidInput."""
    if any(pair.is_usual for pair in _pairs(arrays, None, labels)):
        return None
    flat = [name for name, one in arrays.items() if are_labels(one)]
    usual = [name for name in flat if is_usual_of_labels(name)]
    truth = [labels] if labels is not None else usual if len(usual) == 1 else flat
    said = {name: one for name, one in arrays.items() if name not in flat and name not in truth}
    if not said:  # whole numbers all of them, one of which is the truth
        said = {name: arrays[name] for name in flat if name not in truth[:1]}
    sets = _sets(said)
    if not truth or truth[0] not in arrays or len(said) < 2 or not (alike := _alike(sets, arrays)):
        return None
    is_numbered = "files" not in sets and all(re.search(r"\d", name) for name in said)
    if (numbered and not is_numbered) or (outputs is not None and outputs not in alike):
        return None
    if len(truth) > 1:
        choices = [Choice(name, f"the true labels are {name}") for name in flat]
        raise Unclear("Which file holds the true labels?", choices, field="labels")
    test = outputs or _test_set(alike, arrays, arrays[truth[0]])
    names = sorted(sets[test].values(), key=natural)
    found = _ensemble(stacked("files", [arrays[name] for name in names]), arrays[truth[0]], kind)
    unread = tuple(name for name in arrays if name not in said and name != truth[0])
    told = () if labels is not None else (of_labels(arrays[truth[0]].name),)
    remarks = (*told, *_of_no_member(sets, test), *(_unread_set(sets, one, test) for one in sets if one != test))
    return replace(found, members=tuple(map(Member, called(names))), unread=unread, remarks=remarks)


_Files = Mapping[tuple[str, ...], str]  # of one set, by whose each is: its folder, and the numbers in its name


def _sets(arrays: Mapping[str, Array]) -> dict[str, _Files]:
    """Files by what they are of, where members have several: run_0/test and run_0/svhn, run_1/test, ..., or run_0_test
    and run_0_svhn; by that name with its numbers as #. Some may be missing. Of anything else all are of one set."""
    found: dict[str, list[str]] = {}
    for name in arrays:
        found.setdefault(re.sub(r"\d+", "#", PurePosixPath(name).name), []).append(name)
    sets: dict[str, _Files] = {one: _by_whose(names) for one, names in found.items()}
    counts = {len(some) for some in sets.values()}
    if len(sets) > 1 and (counts == {1} or (len(counts) > 1 and not _are_several(sets, arrays))):
        return {"files": {(name,): name for name in arrays}}
    return sets


def _by_whose(names: Sequence[str]) -> dict[tuple[str, ...], str]:
    folders = [str(PurePosixPath(name).parent) for name in names]
    if len(set(folders)) == len(names):  # a folder a member
        return {(folder,): name for folder, name in zip(folders, names, strict=True)}
    numbers = (re.findall(r"\d+", PurePosixPath(name).name) for name in names)
    return {(folder, *own): name for folder, own, name in zip(folders, numbers, names, strict=True)}


def _are_several(sets: Mapping[str, _Files], arrays: Mapping[str, Array]) -> bool:
    """Whether names of which some are there more often than others are of several sets, and members lack some; and not
    all of one, as resnet_1, resnet_2 and vgg_1 are: a member's folder holds several, or some are above the members'
    folders, or each name has a shape."""
    every = [whose for some in sets.values() for whose in some]
    folders = {folder for folder, *_ in every}
    if len(folders) > 1 and ("." in folders or len(set(every)) < len(every)):
        return True
    shapes = [{arrays[name].shape for name in some.values()} for some in sets.values()]
    return all(len(some) == 1 for some in shapes) and len(set.union(*shapes)) > 1 and 1 not in map(len, sets.values())


def _alike(sets: Mapping[str, _Files], arrays: Mapping[str, Array]) -> dict[str, _Files]:
    """The sets that can be outputs of members; none where another is no side file of theirs."""
    found = {one: some for one, some in sets.items() if _are_alike([arrays[name] for name in some.values()])}
    members = {whose for some in found.values() for whose in some}
    return found if all(one in found or members & {*some} for one, some in sets.items()) else {}


def _path(whose: Sequence[str], of: str) -> str:
    """Where the file of a set would lie. of: the name of the set, its numbers as #."""
    folder, *numbers = whose
    for number in numbers:
        of = of.replace("#", number, 1)
    return str(PurePosixPath(folder) / of.replace("#", "*"))


def _missing(sets: Mapping[str, _Files], of: str, members: Iterable[tuple[str, ...]]) -> str:
    """Which files of a set are not there, of members that have others; "" of none."""
    lacking = sorted((_path(one, of) for one in members if one not in sets[of]), key=natural)
    if not lacking or not any(one in sets[of] for one in members):
        return ""
    return f"{some(lacking)} {'is' if len(lacking) == 1 else 'are'} missing"


def _of_no_member(sets: Mapping[str, _Files], test: str) -> Iterator[str]:
    """What is said where somebody has files, and none of outputs on the test set."""
    beside = [some for one, some in sets.items() if one != test and {*some} & {*sets[test]}]
    others = {whose: name for some in beside for whose, name in some.items()}
    if missing := _missing(sets, test, others):
        left_out = sorted((name for whose, name in others.items() if whose not in sets[test]), key=natural)
        yield f"{missing}, so {some(left_out)} {'is' if len(left_out) == 1 else 'are'} of no member"


def _unread_set(sets: Mapping[str, _Files], one: str, test: str) -> str:
    """How a set is read of which members have a file, and who has none."""
    names = list(sets[one].values())
    lacking = [whose for whose in sets[test] if whose not in sets[one]]
    missing = _missing(sets, one, sets[test])
    why = f": {missing}, and a set is read where every member has outputs" if missing else ""
    if len(names) == 1:
        return f"{names[0]} was not read{why}"
    given = f"--ood NAME='{_pattern(names)}.npy'"
    if not missing:
        return (
            f"{names[0]} and its like were not read. Put together, all members in one array, they are "
            f"ood/NAME.logits.npy beside test.logits.npy; for the command line, in that folder, they are {given}"
        )
    others = _pattern_without([*sets[test].values()], [sets[test][whose] for whose in lacking])
    such_as = f": for the command line, in that folder, '{others}.npy' with {given}" if others else ""
    way = "Add it, or leave its member out" if len(lacking) == 1 else "Add them, or leave their members out"
    return f"{names[0]} and its like were not read{why}. {way}{such_as}"


def _pattern(names: Sequence[str]) -> str:
    """A pattern of paths, with * for every number that differs; for folders that differ in more, too."""
    pieces = [re.split(r"(\d+)", name) for name in names]
    if len({tuple(some[::2]) for some in pieces}) == 1:
        return "".join(some[0] if len(set(some)) == 1 else "*" for some in zip(*pieces, strict=True))
    return f"*/{_pattern([PurePosixPath(name).name for name in names])}" if "/" in names[0] else "*"


def _pattern_without(names: Sequence[str], lacking: Sequence[str]) -> str:
    """A pattern of all names but some; "" where they differ in more than one digit, for which there is no short one."""
    pattern = _pattern(names)
    before, _, after = pattern.partition("*")
    some, without = ([name[len(before) : len(name) - len(after)] for name in them] for them in (names, lacking))
    if pattern.count("*") != 1 or not all(re.fullmatch(r"\d", one) for one in some):
        return ""
    return f"{before}[!{''.join(without)}]{after}"


def _test_set(sets: Mapping[str, _Files], arrays: Mapping[str, Array], truth: Array) -> str:
    """Which of several sets the true labels are of: the one with as many examples. Raises Unclear."""
    several = {one: some for one, some in sets.items() if len(some) > 1} or sets
    fit = [
        one for one, some in several.items()
        if len(several) == 1 or arrays[next(iter(some.values()))].shape[0] == truth.shape[0]
    ]  # fmt: skip
    if len(fit) == 1:
        return fit[0]
    choices = [Choice(one, f"the test set is {one}") for one in fit or sets]
    raise Unclear("Members have several files: which is of the test set?", choices, field="outputs")


def is_usual_of_labels(name: str) -> bool:
    """Whether an array of that name is most likely the true labels."""
    return PurePosixPath(name).name.lower() in LABEL_NAMES


def are_labels(array: Array) -> bool:
    """Whether they can be class numbers of examples: whole numbers, of any type."""
    if not array.shape or array.shape[1:] not in ((), (1,)) or array.dtype.kind not in "iufb":
        return False
    return array.dtype.kind != "f" or bool((found := values(array)).size and (found == np.rint(found)).all())


def of_member(lies: Archive) -> tuple[Array, Array | None]:
    """The outputs of one member in an .npz, and the labels where they lie beside them. Raises InvalidInput."""
    arrays = {name.removesuffix(".npy"): lies.array(name) for name in lies.names}
    labels = [name for name in arrays if name.lower() in LABEL_NAMES] if len(arrays) == 2 else []
    outputs = [name for name in arrays if name not in labels]
    if len(outputs) != 1 or len(labels) > 1:
        held = ", ".join(lies.names[:5]) or "nothing"
        raise refuse(lies.name, f"it holds {held}", "one array of outputs a file, and the labels beside it, or not")
    return arrays[outputs[0]], arrays[labels[0]] if labels else None


def _are_alike(arrays: Sequence[Array]) -> bool:
    """Whether they can be the outputs of a member each."""
    kinds, axes = {one.dtype.kind for one in arrays}, {len(one.shape) for one in arrays}
    return (kinds == {"f"} and axes == {2}) or (kinds <= {"i", "u"} and axes == {1})


def natural(path: str) -> list[tuple[int, int, str]]:
    """A sort key by which run_2 comes before run_10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]


def called(names: Sequence[str]) -> list[str]:
    """What of each path tells the members apart: the file's name, or that of the folder, or all of it."""
    stems = [PurePosixPath(name).name for name in names]
    folders = [PurePosixPath(name).parent.name for name in names]
    return next((some for some in (stems, folders) if all(some) and len(set(some)) == len(names)), list(names))


def _pairs(arrays: Mapping[str, Array], outputs: str | None, labels: str | None) -> list[_Pair]:
    return [
        _Pair(one, other)
        for one in ([outputs] if outputs else arrays)
        for other in ([labels] if labels else arrays)
        if one != other and _fit(arrays[one], arrays[other])
    ]


def _fit(outputs: Array, labels: Array) -> bool:
    if not are_labels(labels):
        return False
    examples = labels.shape[0]
    if outputs.dtype.kind == "f":
        return len(outputs.shape) in (2, 3) and outputs.shape[-2] == examples
    return outputs.dtype.kind in "iu" and len(outputs.shape) == 2 and outputs.shape[1] == examples


def _no_pair(arrays: Mapping[str, Array]) -> Exception:
    if all(_are_outputs(one) for one in arrays.values()):
        return _no_labels(arrays)
    held = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in list(arrays.items())[:8])
    lengths = {one.shape[0] for one in arrays.values() if are_labels(one)}
    for name, one in arrays.items():
        if one.dtype.kind == "f" and len(one.shape) == 2 and one.shape[1] in lengths:
            held += f"; {name}: {of_one_number(np.asarray(next(one.rows())))}"
        elif one.dtype.kind in "iu" and len(one.shape) == 3 and one.shape[1] in lengths:
            held += (
                f"; {name} holds whole numbers: logits are outputs.astype('float32'), and of rows of a column a class "
            )
            held += "(one-hot) outputs.argmax(-1) are predicted labels"
        if len(one.shape) != 1 or one.dtype.kind != "f" or are_labels(one):
            continue
        if (empty := np.flatnonzero(~np.isfinite(values(one)))).size:
            held += f"; {name} has no number at {empty[0]}, and every example needs a label"
        else:
            held += f"; {name} holds fractions: targets that are no class numbers (a regression) are not read yet"
    return refuse(
        "arrays",
        f"no two of them are outputs and true labels of the same examples: {held}",
        "floats [members, examples, classes] or whole numbers [members, examples], and whole numbers [examples]",
    )


def _are_outputs(array: Array) -> bool:
    """Whether they can be outputs, and nothing else."""
    axes = len(array.shape)
    return axes == 2 if array.dtype.kind in "iu" else array.dtype.kind == "f" and axes in (2, 3) and array.shape[-1] > 1


def _no_labels(arrays: Mapping[str, Array]) -> Exception:
    """What there is are outputs, all of it."""
    shown = some([f"{name} {one.dtype} {list(one.shape)}" for name, one in arrays.items()], 8)
    counts = {one.shape[-2] if one.dtype.kind == "f" else one.shape[1] for one in arrays.values()}
    examples = f" [{counts.pop()}]" if len(counts) == 1 else ""
    return Refused(
        f"the true labels are missing: {shown} {'was' if len(arrays) == 1 else 'were'} taken for outputs",
        field="labels",
        allowed=f"whole numbers{examples}, one for each example, as a file or an array beside them, such as y.npy",
    )


def _unclear(pairs: list[_Pair]) -> Unclear:
    """Asks for the outputs first, and for the labels where only those are open."""
    of_outputs = dict.fromkeys(pair.outputs for pair in pairs)
    if len(of_outputs) > 1:
        choices = [Choice(name, f"the outputs are {name}") for name in of_outputs]
        return Unclear("Several arrays could be the members' outputs: which one?", choices, field="outputs")
    choices = [Choice(pair.labels, f"the true labels are {pair.labels}") for pair in pairs]
    return Unclear("Several arrays could be the true labels: which one?", choices, field="labels")


def _ensemble(outputs: Array, labels: Array, kind: OutputKind | None) -> Ensemble:
    if outputs.dtype.kind == "f" and len(outputs.shape) == 2:
        outputs = stacked(outputs.name, [outputs])  # one member
    chosen = kind or kind_of(outputs)
    checked = parts.outputs(outputs, chosen)
    truth = parts.true_labels(labels)
    members = tuple(Member(str(number)) for number in range(checked.shape[0]))
    test = parts.set_of(TEST, checked, labels=truth, examples=len(truth))
    return Ensemble("", chosen, members, {TEST: test})


def kind_of(outputs: Array) -> OutputKind:
    """What outputs [M, N, K] can only be, by the first rows of the first member."""
    if outputs.dtype.kind != "f" or 0 in outputs.shape:
        return OutputKind.LABELS if outputs.dtype.kind in "iub" else OutputKind.LOGITS
    if len(outputs.shape) < 2:  # whose shape is refused
        return OutputKind.LOGITS
    first = next(outputs.rows())
    return looks_like(np.asarray(first[: max(1, _LOOKED_AT // first.shape[-1])]))
