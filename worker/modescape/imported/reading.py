"""Reads an ensemble made elsewhere, from a path: a folder or archive of our format, two arrays, a table, an old export.

    ensemble = read(Path("wide-resnets.npz"))
    ensemble = read(Path("two-arrays.npz"), outputs="preds", labels="y")    # where it was unclear which is which

Only headers, labels and ids are read at once; outputs stay where they lie. Many files, one a member, are
`globs.read_glob`; arrays in memory are `memory.from_arrays`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from modescape.errors import InvalidInput
from modescape.imported import long_form, old_exports, parts
from modescape.imported.arrays import Array, Refused, mapped, printable, readable, refuse
from modescape.imported.containers import (
    Archive,
    Container,
    Folder,
    check_file,
    check_pickle,
    check_said,
    is_inside,
    manifest_text,
    opened,
)
from modescape.imported.digest import FILE_OF, called
from modescape.imported.ensemble import (
    TEST,
    Choice,
    Curve,
    Ensemble,
    ExampleSet,
    Labels,
    MethodSamples,
    OutputKind,
    Recipe,
    Tensors,
    Trajectory,
    Unclear,
)
from modescape.imported.manifest import NAME, Manifest, members_of, parsed
from modescape.imported.trackers import read_logs
from modescape.imported.trackers.logged import Asked
from modescape.imported.two_arrays import (
    are_labels,
    check_there,
    from_files,
    from_named,
    is_usual_of_labels,
    of_labels,
    of_member,
)
from modescape.names import normal

_WHAT = {what: kind for kind, what in FILE_OF.items()}
_OUTPUTS = "|".join(_WHAT)
_PLACE = r"test|validation|ood/[^/]+|shift/[^/]+/[^/.]+"
_SET = re.compile(rf"(?P<place>{_PLACE})\.(?P<what>{_OUTPUTS}|labels|ids)\.npy")
_IMAGES = re.compile(rf"images/(?P<place>{_PLACE})\.npy")
_TRAJECTORY = re.compile(rf"trajectory\.(?:(?P<place>{_PLACE})\.(?P<what>{_OUTPUTS})|epochs)\.npy")
_SAMPLES = re.compile(
    rf"samples/(?P<method>[^/]+)/(?:strength\.npy|better\.npy|(?P<centre>centre[/.])?(?:(?P<place>{_PLACE})\.)?(?P<what>{_OUTPUTS})\.npy)"
)
_WEIGHTS = re.compile(r"weights/(?P<member>.+)\.safetensors")
_CURVES = re.compile(r"curves/(?P<rest>.+/.+)\.npy")
_REST = re.compile(r"(?:snapshots|chains|arms|matrices)/.+\.(?:npy|safetensors)")
_BESIDE = re.compile(  # what `export` writes for people and for whoever reads its first layout
    r"(?:figures|artifacts)/.+|(?:spec|solutions|runs)\.json|images-[^/]+\.csv|README\.md|SHA256SUMS"
)
TABLES = (".csv", ".parquet", ".arrow", ".feather")
_LABELS = "a file of the true labels"
_ALLOWED = "a folder, .npz or .zip of the format, an .npz of two arrays, .csv, .parquet, .arrow"


def read(
    path: Path | str,
    *,
    name: str | None = None,
    kind: OutputKind | None = None,
    recipe: Recipe | None = None,
    outputs: str | None = None,
    labels: str | None = None,
    classes: Sequence[str] = (),
    experiment: str | None = None,
    within: Path | None = None,
) -> Ensemble:
    """The ensemble at a path. name, kind, recipe: instead of what the files say; classes: names, where the files have
    none; outputs, labels: which arrays are what, where that is unclear (labels: also a file of them elsewhere);
    experiment: which, of several in another tool's logs; within: of files that a stranger sent, the folder beyond which
    no name they give is followed.

    Raises InvalidInput naming the file, what is wrong and what is allowed; Unclear (one of those) with a question.
    """
    if not str(path):
        raise refuse("''", "it names no file", _ALLOWED)
    path = Path(path)
    if not path.is_dir():
        check_pickle(path.name, _at(path, within))
    for of, said in (("outputs", outputs), ("labels", labels), ("experiment", experiment)):
        check_said(said, of)
    with readable(printable(str(path) if within is None else path.name)):
        ensemble = _read(path, kind, outputs, labels, experiment, within)
    chosen = name or printable(ensemble.name or path.stem)
    named = _classes(ensemble.classes, tuple(classes))
    return replace(ensemble, name=chosen, recipe=recipe or ensemble.recipe, classes=named)


def _classes(own: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes; numbers in their order are none. Raises InvalidInput where the files have others."""
    if not given or own == tuple(map(str, range(len(own)))):
        return given or own
    if (here := list(map(normal, own))) != (there := list(map(normal, given))):
        differ = next((k for k, (one, other) in enumerate(zip(here, there, strict=False)) if one != other), None)
        said = f"{len(given)} are given, the files name {len(own)}" if differ is None else (
            f"class {differ} is {given[differ][:60]!r}, and the files call it {own[differ][:60]!r}"
        )  # fmt: skip
        raise Refused(said, field="classes", allowed="leave classes out: the files name them")
    return own


def _at(path: Path, within: Path | None) -> str:
    """A path as lines that convert a file call it: a stranger knows of it the name alone."""
    return str(path) if within is None else path.name


def _inside(lies: Container, name: str) -> str:
    """The same of a file in a container; what an archive holds has to be unpacked first."""
    return lies.at(name) if isinstance(lies, Folder) else name


def says_itself(path: Path) -> bool:
    """Whether a place is a folder, or an archive in the format: what of it is which set is said by names in it, and is
    nothing to be said beside it."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        return True
    return path.suffix.lower() == ".npz" and path.is_file() and _is_of_format(opened(path).names)


def _is_of_format(names: Sequence[str]) -> bool:
    sets = (found["what"] for name in names if (found := _SET.fullmatch(name)))
    return NAME in names or f"{NAME}.npy" in names or any(what not in ("labels", "ids") for what in sets)


def _read(
    path: Path,
    kind: OutputKind | None,
    outputs: str | None,
    labels: str | None,
    experiment: str | None,
    within: Path | None,
) -> Ensemble:
    if path.exists() and not path.is_dir():
        check_file(path, _ALLOWED)
    asked = Asked(kind, experiment, outputs, labels, within)
    if (logs := read_logs(path, asked)) is not None:
        return logs
    if experiment is not None:
        allowed = "an experiment of MLflow; leave experiment out"
        raise refuse(path.name, f"no runs of a tracker lie there, of the experiment {experiment!r}", allowed)
    return _placed(path, kind, outputs, labels, within)


def _placed(
    path: Path, kind: OutputKind | None, outputs: str | None, labels: str | None, within: Path | None
) -> Ensemble:
    """What lies there, where it is no other tool's logs."""
    if path.suffix.lower() in TABLES and path.is_file():
        _check_outputs(path.name, outputs)
        table = long_form.read_table(path, kind=kind)
        return _with_labels(table, None, path.name, "in its column label", labels, within)
    if path.suffix.lower() == ".npy" and path.is_file():
        return _single(path, kind, outputs, labels, within)
    return _contained(opened(path, is_given=within is None), kind, outputs, labels, within)


def _single(
    path: Path, kind: OutputKind | None, outputs: str | None, labels: str | None, within: Path | None
) -> Ensemble:
    if labels is None or not is_inside(Path(labels), within):
        raise Refused(
            f"{printable(path.name)}: it is one array, and true labels are another", field="labels",
            allowed="the file of the labels: labels=...",
        )  # fmt: skip
    truth = check_file(Path(labels), _LABELS)
    arrays = {path.stem: mapped(path, at=_at(path, within)), "labels": mapped(truth, at=_at(truth, within))}
    return from_named(arrays, kind, path.stem if outputs is None else outputs.removesuffix(".npy"), "labels")


def _contained(
    lies: Container, kind: OutputKind | None, outputs: str | None, labels: str | None, within: Path | None
) -> Ensemble:
    names = lies.names
    if _is_of_format(names):
        test = next((f"{TEST}.{what}.npy" for what in _WHAT if f"{TEST}.{what}.npy" in names), "")
        _check_outputs(lies.name, outputs, test)
        ensemble = read_format(lies, kind=kind)
        ensemble = _with_labels_beside(ensemble, lies) if labels is None else ensemble
        return _with_labels(ensemble, lies, lies.name, f"{TEST}.labels.npy", labels, within)
    if old_exports.SOLUTIONS in names:
        _check_outputs(lies.name, outputs)
        own = f"by {old_exports.SOLUTIONS}"
        return _with_labels(old_exports.read_export(lies), lies, lies.name, own, labels, within)
    if isinstance(lies, Folder) and (both := _file_and_labels(lies, labels)):
        file, truth = both
        placed = _placed(file, kind, outputs, str(truth), within)
        told = () if labels is not None else (of_labels(truth.name),)
        return replace(placed, remarks=(*told, *placed.remarks))
    arrays, others = _arrays(lies), [name for name in names if not name.endswith((".npy", ".npz"))]
    found = {name.removesuffix(".npy"): array for name, array in arrays.items()}
    held = set(found)
    named = _named(lies, found, labels, within)
    outputs = bare if outputs is not None and (bare := outputs.removesuffix(".npy")) in found else outputs
    try:
        of_arrays = _of_arrays(lies, found, others, kind, outputs, named)
    except Unclear:
        raise
    except InvalidInput:
        _check_others(lies)  # what they are may be the reason
        raise
    if of_arrays is None:
        _check_others(lies)
        there = ", ".join(names[:5]) or "nothing"
        raise refuse(lies.name, f"it holds {there}: no predictions are among it", _ALLOWED)
    if named is not None and named not in held:  # a file elsewhere
        before = _own_labels(lies, kind, outputs, within)
        if before is not None and len(before) == of_arrays.test.count:
            _check_same(before, of_arrays.test.labels, lies.name, "", str(labels))
    return _without_used(of_arrays, found)


def _of_arrays(
    lies: Container, found: dict[str, Array], others: Sequence[str], kind: OutputKind | None, outputs: str | None,
    labels: str | None,
) -> Ensemble | None:  # fmt: skip
    """An array a member, or one of all; None where none can be outputs."""
    if found:
        check_there(labels, "labels", found)
    files = from_files(
        found, kind, outputs, labels, numbered=isinstance(lies, Archive) and lies.name.lower().endswith(".npz")
    )
    if files is not None:
        for name in others:
            if name.rpartition(".")[0] not in found:  # a further member, it seems, and none that was converted
                check_pickle(name, _inside(lies, name))
        return replace(files, unread=(*files.unread, *others))
    flat = {name: array for name, array in found.items() if "/" not in name or name == labels} or found
    if not flat:
        return None
    pair = from_named(flat, kind, outputs, labels)
    below = (name for name in found if name not in flat)
    return replace(pair, unread=(*pair.unread, *below, *others))


def _own_labels(lies: Container, kind: OutputKind | None, outputs: str | None, within: Path | None) -> Labels | None:
    """The true labels that would be read if nobody had named others."""
    try:
        return _contained(lies, kind, outputs, None, within).test.labels
    except InvalidInput:
        return None


def _check_same(own: Labels | None, truth: Labels | None, where: str, own_at: str, labels: str) -> None:
    """Raises InvalidInput where labels were named of what has others itself. own_at: where its own are."""
    if own is None or np.array_equal(own, truth):  # type: ignore[arg-type]
        return
    at = f", {own_at}" if own_at else ""
    said = f"it has labels of its own{at}, and those of {printable(Path(labels).name)} are others"
    raise refuse(where, said, "leave labels out, or that file" if own_at.endswith(".npy") else "leave labels out")


def _without_used(found: Ensemble, arrays: Mapping[str, Array]) -> Ensemble:
    """Without those among what was not read that say again what the true labels are. arrays: by name without .npy."""
    truth = found.test.labels
    same = {
        name for name in found.unread
        if (one := arrays.get(name.removesuffix(".npy"))) is not None and truth is not None
        and one.shape[:1] == truth.shape and are_labels(one) and np.array_equal(parts.true_labels(one), truth)
    }  # fmt: skip
    return replace(found, unread=tuple(name for name in found.unread if name not in same))


def _with_labels_beside(found: Ensemble, lies: Container) -> Ensemble:
    """What has no labels by the format's names, with those that lie beside it under another, where one file alone can
    be meant. Raises Unclear where several can."""
    if TEST not in found.sets or found.test.labels is not None:
        return found
    beside = {name.removesuffix(".npy"): lies.array(name) for name in found.unread if name.endswith(".npy")}
    fit = [name for name, array in beside.items() if _can_be_truth(name, array, found)]
    usual = [name for name in fit if is_usual_of_labels(name)]
    if not fit:
        return found
    if len(fit) > 1 and len(usual) != 1:
        choices = [Choice(name, f"the true labels are {name}") for name in fit]
        raise Unclear(f"There is no {TEST}.labels.npy: which file holds the true labels?", choices, field="labels")
    (name,) = usual if len(usual) == 1 else fit
    said = f"The true labels are those of {name}.npy, for there is no {TEST}.labels.npy"
    sets = {**found.sets, TEST: replace(found.test, labels=parts.true_labels(beside[name]))}
    return _without_used(replace(found, sets=sets, remarks=(*found.remarks, said)), beside)


def _can_be_truth(name: str, array: Array, of: Ensemble) -> bool:
    """Whether an array can be the true labels: a class number an example. Predicted labels do not say how many classes
    there are, and look alike: of those the name has to say it."""
    if not are_labels(array) or array.shape[0] != of.test.count:
        return False
    classes, numbers = of.class_count, array.read()
    return bool(numbers.min() >= 0) and (bool(numbers.max() < classes) if classes else is_usual_of_labels(name))


def _check_others(lies: Container) -> None:
    """Raises InvalidInput for files that are not read and were most likely meant, with what makes them readable."""
    for name in lies.names:
        check_pickle(name, _inside(lies, name))
    if isinstance(lies, Archive) and (packed := next((one for one in lies.names if one.endswith(".npz")), None)):
        raise refuse(lies.name, f"it holds {packed}, an archive inside an archive", "the folder itself, unpacked")


def _check_outputs(where: str, outputs: str | None, test: str = "") -> None:
    """Raises InvalidInput where outputs were named of what says by itself which those are; test: their file."""
    if outputs is not None and (not test or outputs.removesuffix(".npy") != test.removesuffix(".npy")):
        said = f"it says by itself which outputs are of the test set, and {outputs!r} was named"
        raise refuse(where, said, f"{test or 'what it says'}: leave outputs out")


def _with_labels(
    found: Ensemble, lies: Container | None, where: str, own: str, labels: str | None, within: Path | None
) -> Ensemble:
    """What says by itself what it holds, with the true labels that somebody named, if it has none. lies, where: it, and
    what it is called; own: where its own labels are. Raises InvalidInput where it has others."""
    if labels is None:
        return found
    there = () if lies is None else (name for name in lies.names if name.endswith(".npy"))
    arrays = {name.removesuffix(".npy"): lies.array(name) for name in there if lies is not None}
    name = _named(lies, arrays, labels, within)
    check_there(name, "labels", arrays)
    truth = parts.true_labels(arrays[str(name)])
    if TEST not in found.sets:
        raise refuse(where, "it has no outputs on the test set, of which labels would be", "leave labels out")
    before = found.test.labels
    _check_same(before, truth, where, own, labels)
    order = "The labels were taken in the order in which the table's first member has its rows"
    remarks = (order,) if before is None and lies is None else ()
    sets = {**found.sets, TEST: replace(found.test, labels=truth)}
    return _without_used(replace(found, sets=sets, remarks=(*found.remarks, *remarks)), arrays)


def _file_and_labels(lies: Folder, labels: str | None) -> tuple[Path, Path] | None:
    """Where a folder holds nothing but an archive or a table of outputs and an array of labels beside it, as they are
    sent."""
    packed = [name for name in lies.names if name.lower().endswith((".zip", ".npz", *TABLES))]
    beside = [name for name in lies.names if name.endswith(".npy")]
    if len(packed) != 1 or len(beside) != 1 or len(lies.names) != 2:
        return None
    archive, truth = lies.files[packed[0]], lies.files[beside[0]]
    is_it = labels in (None, beside[0]) or Path(str(labels)).resolve() == truth.resolve()
    return (archive, truth) if is_it else None


def _arrays(lies: Container) -> dict[str, Array]:
    """The arrays of a container by file; of a folder also what an .npz of one member holds."""
    found = {name: lies.array(name) for name in lies.names if name.endswith(".npy")}
    if not isinstance(lies, Folder):
        return found
    truth: dict[str, Array] = {}
    for name in lies.names:
        if name.endswith(".npz"):
            if (beside := name.removesuffix(".npz") + ".npy") in found:
                raise refuse(name, f"{beside} is there for the same outputs", "one of them")
            found[name.removesuffix(".npz") + ".npy"], labels = of_member(
                Archive(name, lies.files[name], _inside(lies, name))
            )
            truth |= {} if labels is None else {name: labels}
    if truth:
        first, *rest = truth.items()
        for name, labels in rest:
            if not np.array_equal(labels.read(), first[1].read()):
                raise refuse(name, f"its labels are not those of {first[0]}", "the same examples in the same order")
        own = replace(first[1], name=first[0])  # as all have them
        if not np.array_equal(found.setdefault("labels.npy", own).read(), first[1].read()):
            raise refuse(first[0], "its labels are not those of labels.npy", "the same labels, or one of them")
    return found


def _named(lies: Container | None, found: dict[str, Array], labels: str | None, within: Path | None) -> str | None:
    """Which array the true labels are: one of those, by its name or its path, or a file elsewhere, which joins them."""
    if labels is None:
        return None
    bare = labels.removesuffix(".npy")
    if bare in found:
        return bare
    path = Path(labels)
    if not is_inside(path, within) or not path.exists():
        return labels
    check_file(path, _LABELS)
    if isinstance(lies, Folder) and path.resolve().is_relative_to(lies.root.resolve()):
        return path.resolve().relative_to(lies.root.resolve()).as_posix().removesuffix(".npy")
    found[bare] = mapped(path, at=_at(path, within))
    return bare


def read_format(lies: Container, *, kind: OutputKind | None = None) -> Ensemble:
    """What lies in a container in the format's own names. Raises InvalidInput."""
    return _Format.of(lies, parsed(manifest_text(lies)), kind).ensemble()


# --- the format -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A place of outputs: the file, and what it is said to hold."""

    file: str
    kind: OutputKind


@dataclass
class _Format:
    """The files of a folder or an archive, sorted by what they are; each name belongs to one thing."""

    lies: Container
    manifest: Manifest
    kind: OutputKind
    sets: dict[str, _Place] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    trajectory: dict[str, _Place] = field(default_factory=dict)
    samples: dict[str, dict[str, _Place]] = field(default_factory=dict)
    centres: dict[str, dict[str, _Place]] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    curves: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, lies: Container, manifest: Manifest, kind: OutputKind | None) -> _Format:
        found = cls(lies, manifest, kind or manifest.kind or OutputKind.LOGITS)
        for name in lies.names:
            if not found._takes(name) and not _BESIDE.fullmatch(name):
                found.unread.append(name)
        if TEST not in found.sets and not (found.curves and manifest.members):
            for name in lies.names:
                check_pickle(name, _inside(lies, name))
            raise refuse(lies.name, "it has no test.logits.npy", "the members' outputs on the test set, [M, N, K]")
        if kind is None and manifest.kind is None and TEST in found.sets:
            found.kind = found.sets[TEST].kind
        return found

    def _takes(self, name: str) -> bool:
        if name in (NAME, f"{NAME}.npy"):
            return True
        return self._takes_set(name) or self._takes_samples(name) or self._takes_other(name)

    def _takes_set(self, name: str) -> bool:
        if found := _SET.fullmatch(name):
            place, what = found["place"], found["what"]
            if what in ("labels", "ids"):
                (self.labels if what == "labels" else self.ids)[place] = name
            else:
                self._put(self.sets, place, name, what)
        elif found := _IMAGES.fullmatch(name):
            self.images[found["place"]] = name
        return found is not None

    def _takes_samples(self, name: str) -> bool:
        found = _SAMPLES.fullmatch(name)
        if found is None:
            return False
        kept = self.centres if found["centre"] else self.samples
        into = kept.setdefault(found["method"], {})
        if found["what"]:
            self._put(into, found["place"] or TEST, name, found["what"])
        return True

    def _takes_other(self, name: str) -> bool:
        if found := _TRAJECTORY.fullmatch(name):
            if found["place"]:
                self._put(self.trajectory, found["place"], name, found["what"])
        elif found := _WEIGHTS.fullmatch(name):
            self.weights[found["member"]] = name
        elif found := _CURVES.fullmatch(name):
            self.curves[found["rest"]] = name
        elif _REST.fullmatch(name):
            self.rest.append(name)
        else:
            return False
        return True

    def _put(self, into: dict[str, _Place], place: str, name: str, what: str) -> None:
        if place in into:
            raise refuse(name, f"{into[place].file} is there for the same outputs", "one of them")
        into[place] = _Place(name, _WHAT[what])

    # ---- what they hold ----

    def ensemble(self) -> Ensemble:
        test = self._outputs(self.sets[TEST]).shape if TEST in self.sets else (len(self.manifest.members), 0)
        members = members_of(self.manifest, test[0])
        self._check_promised()
        return Ensemble(
            name=self.manifest.name,
            kind=self.kind,
            members=members,
            sets={place: self._set(place, test[1]) for place in self.manifest.ordered(self.sets)},
            recipe=self.manifest.recipe,
            classes=tuple(map(str, self.manifest.classes)),
            samples={method: self._samples(method) for method in sorted(self.samples)},
            trajectory=self._trajectory(),
            weights=self._weights([member.id for member in members]),
            curves=self._curves([member.id for member in members]),
            rest={name: self._other(name) for name in self.rest},
            left_out=tuple(self.manifest.left_out),
            unread=tuple(self.unread),
        )

    def _check_promised(self) -> None:
        known = {one for place in self.sets for one in (place, place.split("/", 1)[-1])}
        for name in self.manifest.sets:
            if name not in known:
                raise refuse(NAME, f"it lists the set {name!r}, of which there are no outputs", "sets that are there")
        for place in {**self.labels, **self.ids, **self.images}:
            if place not in self.sets:
                named = self.labels.get(place) or self.ids.get(place) or self.images[place]
                raise refuse(named, f"there are no outputs of {place}", f"{place}.{FILE_OF[self.kind]}.npy beside it")

    def _outputs(self, place: _Place, *, lead: int = 1) -> Array:
        """Names may say what `kind` says, or logits, as in the format's first form."""
        if place.kind not in (self.kind, OutputKind.LOGITS):
            raise refuse(place.file, f"its name says {place.kind.value}, the ensemble {self.kind.value}", "one kind")
        return parts.outputs(self.lies.array(place.file), self.kind, lead=lead)

    def _set(self, place: str, examples: int) -> ExampleSet:
        said = self.manifest.of(place)
        return parts.set_of(
            self._checked(place),
            self._outputs(self.sets[place]),
            labels=self._labels(place),
            ids=parts.ids(self.lies.array(self.ids[place])) if place in self.ids else None,
            images=parts.images(self.lies.array(self.images[place])) if place in self.images else None,
            data=said.data,
            examples=examples,
            own_images=said.own_images,
        )

    def _checked(self, place: str) -> str:
        if place.startswith("shift/") and place.rsplit("/", 1)[1] not in ("1", "2", "3", "4", "5"):
            raise refuse(self.sets[place].file, "its intensity is not 1 to 5", "shift/<type>/<1 to 5>.logits.npy")
        return place

    def _labels(self, place: str) -> Labels | None:
        return parts.true_labels(self.lies.array(self.labels[place])) if place in self.labels else None

    def _samples(self, method: str) -> MethodSamples:
        strength, better = f"samples/{method}/strength.npy", f"samples/{method}/better.npy"
        if not self.samples[method]:
            raise refuse(
                strength, "there are no outputs of these samples", f"samples/{method}/test.logits.npy beside it"
            )
        return MethodSamples(
            method,
            {place: self._outputs(one, lead=2) for place, one in sorted(self.samples[method].items())},
            parts.strength(self.lies.array(strength)) if strength in self.lies.names else None,
            {place: self._outputs(one) for place, one in sorted(self.centres.get(method, {}).items())},
            parts.better(self.lies.array(better)) if better in self.lies.names else None,
            True if method in self.manifest.rates else None,
        )

    def _trajectory(self) -> Trajectory | None:
        if not self.trajectory:
            return None
        named = "trajectory.epochs.npy"
        if named not in self.lies.names:
            raise refuse(
                next(iter(self.trajectory.values())).file, "its epochs are not there", f"{named} [checkpoints]"
            )
        found = {place: self._outputs(one, lead=2) for place, one in sorted(self.trajectory.items())}
        return Trajectory.of(parts.epochs(self.lies.array(named)), found)

    def _weights(self, ids: Sequence[str]) -> Mapping[str, Tensors]:
        """By member's id."""
        found: dict[str, Tensors] = {}
        files = _files_of(ids)
        for one, name in self.weights.items():
            if (member := _member(one, files)) is not None:
                if member in found:
                    raise refuse(name, f"{found[member].name} is of the same member", "one of them")
                found[member] = self.lies.tensors(name)
            elif "/" in one:  # no place of the format
                self.unread.append(name)
            else:
                raise refuse(name, f"no member is called {one!r}", f"weights/<member>.safetensors: {', '.join(ids)}")
        return {one: found[one] for one in ids if one in found}

    def _curves(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, Curve]]:
        """By member's id and name, in which slashes are folders; in ids they were, too, before they were written as
        `called` has it."""
        found: dict[str, dict[str, Curve]] = {}
        files = _files_of(ids)
        for rest, file in sorted(self.curves.items()):
            parts_of = rest.split("/")
            tried = ("/".join(parts_of[:n]) for n in range(1, len(parts_of)))
            folder = next((one for one in tried if _member(one, files) is not None), None)
            if folder is None:
                raise refuse(file, f"no member is called {parts_of[0]!r}", f"one of {', '.join(ids)}")
            curves = found.setdefault(str(_member(folder, files)), {})
            curves[rest.removeprefix(f"{folder}/")] = parts.curve(self.lies.array(file))
        return {one: found[one] for one in ids if one in found}

    def _other(self, name: str) -> Array | Tensors:
        return self.lies.array(name) if name.endswith(".npy") else self.lies.tensors(name)


def _files_of(ids: Sequence[str]) -> dict[str, str]:
    """What each member may be called among files -> its id; the way it is written comes first, for `a%2Fb` may be an
    id, too."""
    return {one: one for one in ids} | {called(one): one for one in ids}


def _member(name: str, files: Mapping[str, str]) -> str | None:
    """The id of the member that a file is called after, whoever wrote it; None: of none."""
    return files.get(name) or files.get(unquote(name))
