r"""One file a member: patterns of paths, and what of a path is the member's name.

    read_glob("run_*/test.npy", labels="y.npy", member=r"run_(\d+)", ood={"svhn": "run_*/svhn.npy"},
              shift={("fog", 3): "run_*/fog3.npy"}, validation=("run_*/val.npy", "y_val.npy"))

Without `member`, a member's name is what the pattern's wildcards stand for. Members are sorted as people count: run_2
before run_10.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from modescape.errors import InvalidInput
from modescape.imported import parts
from modescape.imported.arrays import Array, mapped, printable, refuse, stacked
from modescape.imported.containers import Archive, check_file, check_letters, check_pickle, is_inside
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Choice,
    Ensemble,
    ExampleSet,
    Labels,
    Member,
    OutputKind,
    Recipe,
    SetRole,
    Unclear,
    by_role,
    place_of,
)
from modescape.imported.two_arrays import called, kind_of, natural, of_labels, of_member

Pattern = str
WithLabels = str | tuple[str, str]  # a pattern, or one and the file of the set's own labels
_MOST = 10_000


def read_glob(
    pattern: Pattern | Sequence[Pattern],
    *,
    labels: Path | str | None = None,
    member: str | None = None,
    validation: tuple[Pattern, str] | None = None,
    ood: Mapping[str, Pattern] | None = None,
    shift: Mapping[tuple[str, int], WithLabels] | None = None,
    kind: OutputKind | None = None,
    recipe: Recipe | None = None,
    name: str | None = None,
) -> Ensemble:
    """The ensemble whose members' outputs [N, K] (labels [N]) lie in one .npy file each, or .npz of one array.

    pattern: or the files themselves, or several patterns; labels: None where the members' .npz have them beside their
    outputs; member: a regular expression whose group (the whole, where it
    has none) is the member's name in a path. kind None: as the numbers of the first member
    look. Raises InvalidInput, which names a file that is missing or odd.
    """
    of_member = _Naming(member)
    files = of_member.files(pattern)
    at = _with_labels(files.values()) if labels is None else Path(labels)
    truth = parts.true_labels(_array(at, of_labels=True))
    arrays = [_outputs(path, truth, str(at)) for path in files.values()]
    is_one_file = len(arrays) == 1 and len(arrays[0].shape) == 3  # of all members
    first = arrays[0] if is_one_file else stacked("files", arrays)
    members = [str(number) for number in range(first.shape[0])] if is_one_file else list(files)
    chosen = kind or kind_of(first)
    test = parts.outputs(first, chosen)
    whole = _Whole(of_member, members, chosen, test.shape[1], truth, is_one_file=is_one_file)
    sets = {TEST: parts.set_of(TEST, test, labels=truth, examples=test.shape[1])}
    if validation is not None:
        sets[VALIDATION] = whole.read(VALIDATION, validation)
    for one, where in (ood or {}).items():
        place = place_of(SetRole.OOD, one)
        sets[place] = whole.read(place, where)
    for (one, intensity), given in (shift or {}).items():
        place = place_of(SetRole.SHIFT, one, intensity)
        sets[place] = whole.read(place, given)
    return Ensemble(
        name or _common(pattern), chosen, tuple(Member(one) for one in members),
        {place: sets[place] for place in by_role(sets)},
        recipe=recipe or Recipe.UNKNOWN, remarks=() if labels is not None else (of_labels(str(at)),),
    )  # fmt: skip


def _with_labels(files: Iterable[Path]) -> Path:
    """The first file of a member that has the true labels beside its outputs. Raises InvalidInput where none has."""
    found = next((path for path in files if _arrays(path)[1] is not None), None)
    if found is None:
        allowed = "a file of the true labels; or members' .npz of outputs and labels"
        raise InvalidInput("is needed beside one file a member", field="labels", allowed=allowed)
    return found


def members_of(pattern: Pattern, member: str | None = None) -> dict[str, Path]:
    """member's name -> its file, in natural order; member: as `read_glob` has it. Raises InvalidInput, Unclear."""
    return _Naming(member).files(pattern)


def every_file(given: Sequence[Pattern]) -> list[str]:
    """The files that several name, each by itself or by a pattern. Raises InvalidInput for one that is named twice."""
    found: dict[str, str] = {}
    for one in given:
        for path in _found(one):
            if (place := os.path.abspath(path)) in found:  # noqa: PTH100 (links are files of their own)
                raise refuse(path, "it is given twice", "each file once")
            found[place] = path
    return list(found.values())


def _found(pattern: Pattern) -> list[str]:
    """The files of a pattern, in natural order; of what is none, itself. Raises InvalidInput where there is none."""
    if Path(pattern).exists() or not glob.has_magic(pattern):  # whatever its name looks like
        paths = [pattern]
    else:
        pattern = pattern.replace("[^", "[!")  # as shells read it
        paths = sorted(glob.glob(pattern, recursive=True), key=natural)  # noqa: PTH207 (may be absolute)
    if not paths:
        raise refuse(pattern, "no file is there by that pattern", "a pattern such as run_*/test.npy, quoted")
    if len(paths) > _MOST:
        raise refuse(pattern, f"{len(paths):,} files are there by that pattern", f"at most {_MOST:,}")
    for path in paths:
        check_file(Path(path), "files, or a pattern in quotes")
    return paths


def leading_out(given: Sequence[Pattern]) -> dict[str, Path]:
    """Of the files that somebody named, by themselves or by a pattern, those that links lead out of the folder in which
    they were looked for, and where to. Such links are followed: whoever names a file means what it leads to."""
    found: dict[str, Path] = {}
    for one in given:
        folder = Path(os.path.dirname(re.split(r"[*?\[]", one, maxsplit=1)[0]) or ".")  # noqa: PTH120 (run_* has none)
        found |= {path: Path(path).resolve() for path in _found(one) if not is_inside(Path(path), folder)}
    return found


def members_among(paths: Sequence[str], member: str) -> dict[str, Path]:
    """The same of files that are known. Raises InvalidInput, Unclear."""
    return _Naming(member).among(paths, "")


class _Naming:
    """What of a path is the member's name."""

    def __init__(self, member: str | None) -> None:
        try:
            self.member = re.compile(member) if member else None
        except re.error as error:
            raise refuse(str(member), f"it is no regular expression ({error})", r"such as run_(\d+)") from error

    def files(self, pattern: Pattern | Sequence[Pattern]) -> dict[str, Path]:
        """member's name -> its file, in natural order. Raises InvalidInput: none, two of one name."""
        if isinstance(pattern, str):
            return self.among(_found(pattern), pattern.replace("[^", "[!"))
        paths = sorted(every_file(pattern), key=natural)
        if self.member is not None:
            return self.among(paths, "")
        return named(paths)

    def among(self, paths: Sequence[str], pattern: Pattern) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in paths:
            name = self.name(path, pattern)
            if name in found:
                raise both_of(name, str(found[name]), path)
            check_letters(name, path)
            found[name] = Path(path)
        return found

    def name(self, path: str, pattern: Pattern) -> str:
        if self.member is None:
            return _wild(path, pattern) or Path(path).stem
        found = self.member.search(path)
        if found is None:
            raise refuse(path, f"nothing in it fits member={self.member.pattern!r}", "one that fits all")
        return "-".join(part for part in found.groups() if part) or found.group()


def named(paths: Sequence[str]) -> dict[str, Path]:
    """member's name -> its file, of files that somebody named one by one, as a shell does that was given a pattern."""
    names = called([Path(path).with_suffix("").as_posix() for path in paths])
    if len(set(names)) < len(names):
        names = called(paths)  # m.npy and m.npz
    for name, path in zip(names, paths, strict=True):
        check_letters(name, path)
    return dict(zip(names, map(Path, paths), strict=True))


def both_of(member: str, one: str, other: str) -> Unclear:
    """The question where two files would be one member's."""
    return Unclear(
        f"{printable(one)} and {printable(other)} are both of member {printable(member)!r}: what of a path names the "
        "member?",
        [Choice(r"run_(\d+)", "a regular expression whose group is the name")],
        field="member",
    )


_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])")


def _wild(path: str, pattern: Pattern) -> str:
    """What the wildcards of a pattern stand for in a path; "" where they stand for nothing, or there are none."""
    groups = {"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    pieces = _WILD.split(pattern)
    expression = "".join(groups.get(one) or (_one_of(one) if i % 2 else re.escape(one)) for i, one in enumerate(pieces))
    found = re.fullmatch(expression, path, re.DOTALL)
    return "-".join(part.replace("/", "-") for part in found.groups() if part) if found is not None else ""


def _one_of(piece: str) -> str:
    """A set of characters as an expression; [!a] is all but a."""
    inside = piece[1:-1].replace("\\", "\\\\")
    return f"([^{inside[1:]}])" if inside.startswith("!") else f"([{inside}])"


def _common(pattern: Pattern | Sequence[Pattern]) -> str:
    """A name for the ensemble: the folder above the first wildcard, or that all files are in."""
    if not isinstance(pattern, str):
        every = [re.split(r"[*?\[]", one, maxsplit=1)[0] for one in pattern]
        return printable(Path(os.path.commonpath([Path(one).absolute().parent for one in every])).name) or "ensemble"
    before = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return printable(Path(before).name.rstrip("_-.") or Path(before).parent.name) or "ensemble"


class _Whole:
    """Reads the other sets of the same members."""

    def __init__(
        self, naming: _Naming, members: list[str], kind: OutputKind, examples: int, truth: Labels, *, is_one_file: bool
    ) -> None:
        self.naming, self.members, self.kind, self.examples = naming, members, kind, examples
        self.truth, self.is_one_file = truth, is_one_file

    def read(self, place: str, given: WithLabels) -> ExampleSet:
        pattern, labels = (given, None) if isinstance(given, str) else given
        truth = _labels(labels)
        changed = (self.truth, "the test set") if place.startswith("shift/") else (None, "")
        outputs = parts.outputs(
            self._outputs(pattern, *(changed if truth is None else (truth, str(labels)))), self.kind
        )
        return parts.set_of(place, outputs, labels=truth, examples=self.examples)

    def _outputs(self, pattern: Pattern, truth: Labels | None, labels: str) -> Array:
        files = self.naming.files(pattern)
        if self.is_one_file:
            return _outputs(next(iter(files.values())), truth, labels)
        for member in self.members:
            if member not in files:
                allowed = f"one for each of {len(self.members)}, or outputs on the test set without that member"
                raise refuse(pattern, f"member {member!r} has no file there", allowed)
        for member in files:
            if member not in self.members:
                raise refuse(
                    str(files[member]), f"member {member!r} has no outputs on the test set", "the same members"
                )
        return stacked(pattern, [_outputs(files[member], truth, labels) for member in self.members])


def _labels(path: str | None) -> Labels | None:
    return None if path is None else parts.true_labels(_array(Path(path), of_labels=True))


def _outputs(path: Path, truth: Labels | None, labels: str) -> Array:
    """A member's outputs. truth: what their labels are, of which the first will do; labels: where those are. Raises
    InvalidInput where others lie beside the outputs."""
    outputs, own = _arrays(path)
    if own is not None and truth is not None:
        given = parts.true_labels(own)
        if len(given) <= len(truth) and not np.array_equal(given, truth[: len(given)]):
            said = f"it has labels of its own, and those of {printable(labels)} are others"
            raise refuse(str(path), said, "the same labels, or files without")
    return outputs


def _array(path: Path, *, of_labels: bool = False) -> Array:
    """The one array of an .npy or .npz file; of an .npz of outputs and labels those that are wanted."""
    outputs, labels = _arrays(path)
    return labels if of_labels and labels is not None else outputs


def _arrays(path: Path) -> tuple[Array, Array | None]:
    """The one array of an .npy or .npz file, or the outputs and labels of an .npz."""
    check_pickle(str(path))
    check_file(path, "an .npy file")
    return of_member(Archive(str(path), path)) if path.suffix.lower() == ".npz" else (mapped(path, str(path)), None)
