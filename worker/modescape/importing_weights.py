"""Weights made elsewhere become an experiment: their files are kept, its spec names them, and its stages evaluate them.

    lab = ms.import_weights("ckpt/*.safetensors", architecture="resnet20v1", data="cifar10", inputs="unit")

`bring_in_weights` is what the command line, notebooks and the server call: named files and choices become an
experiment. It loads no torch: a worker puts the weights into the network, and says in words where they do not fit
(`stages.given_weights`). `look` does that here and now, and keeps nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Unpack

from modescape import extras
from modescape.errors import InvalidInput, Problem
from modescape.imported.arrays import printable
from modescape.imported.containers import Folder, check_file
from modescape.imported.door import Level, not_read
from modescape.imported.ensemble import Recipe, Tensors
from modescape.imported.globs import both_of, every_file, members_among, members_of, named
from modescape.imported.inputs import inputs
from modescape.imported.tensor_names import Fit, Keys
from modescape.imported.tensors import header_of
from modescape.imported.torch_files import SUFFIXES, Converted, Converter, is_of_torch
from modescape.imported.two_arrays import called, natural
from modescape.laboratory import Lab, Laboratory, started
from modescape.records import About, Json
from modescape.settings import Settings
from modescape.spec import parse
from modescape.tables import Experiment

_EPOCH = re.compile(r"\d+(?:\.\d+)?")
_FILE = f"a file of weights: .safetensors, {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class NamedFile:
    """A file of weights, and what people call it. at: its path, as whoever brings it would open it; "": by its name."""

    name: str
    path: Path
    at: str = ""

    @classmethod
    def of(cls, path: str | Path) -> NamedFile:
        """One that somebody named. Raises InvalidInput where it is none."""
        return cls(Path(path).name, check_file(Path(path), _FILE), str(path))


@dataclass(frozen=True)
class GivenWeights:
    """What one member has. snapshots: its weights on the way there, by epoch; accuracy: as its author printed it."""

    name: str
    file: NamedFile
    snapshots: Mapping[float, NamedFile] = field(default_factory=dict)
    accuracy: str | None = None


@dataclass(frozen=True)
class Choices:
    """What only the user knows of weights, and what is to be done with them.

    data: `data` of a spec; options: the network's; held_out: as `WeightsSpec` has it; curve: the bend of a Bezier curve
    between the first two members; more: further parts of the spec (methods, planes, tunnels, ...).
    """

    architecture: str
    data: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    keys: Keys = Keys.BY_NAME
    recipe: Recipe = Recipe.UNKNOWN
    held_out: bool = False
    curve: NamedFile | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def bring_in_weights(
    laboratory: Laboratory,
    members: Sequence[GivenWeights],
    choices: Choices,
    *,
    name: str,
    unread: Sequence[str] = (),
    **about: Unpack[About],
) -> Experiment:
    """Keep the files and store the experiment, ready for workers. unread: what lay beside them.

    Raises InvalidInput where a file is none of weights, and as `Laboratory.create` does.
    """
    with Converter() as convert:
        kept = _Kept(laboratory, convert)
        document = spec_of(members, choices, kept.digest)
        about["provenance"] = _provenance(name, members, kept, unread) | (about.get("provenance") or {})
    return laboratory.create(document, name=name, **about)


def spec_of(members: Sequence[GivenWeights], choices: Choices, digest: Callable[[NamedFile], str]) -> Json:
    """The spec that names the members' files by their digests. Raises InvalidInput where their snapshots differ."""
    if not members:
        raise InvalidInput("no file was given", field="weights", allowed="a file of weights for each member")
    epochs = sorted(members[0].snapshots)
    for member in members:
        if sorted(member.snapshots) != epochs:
            raise InvalidInput(
                f"{member.name} has snapshots of epochs {sorted(member.snapshots)}, {members[0].name} of {epochs}",
                field="snapshots", allowed="the same epochs of every member",
            )  # fmt: skip
    weights: Json = {
        "keys": choices.keys,
        "recipe": choices.recipe,
        "held_out": choices.held_out,
        "epochs": epochs,
        "members": [
            {
                "weights": digest(member.file),
                "snapshots": [digest(member.snapshots[epoch]) for epoch in epochs],
                "accuracy": member.accuracy,
            }
            for member in members
        ],
    }
    network = {"architecture": choices.architecture, "options": dict(choices.options)}
    more = dict(choices.more)
    refuse_said_twice(choices, runs=len(members))
    if choices.curve is not None:
        more["tunnels"] = [*more.get("tunnels", ()), _tunnel(digest(choices.curve))]
    return {
        **more,
        "source": "weights",
        "weights": weights | more.get("weights", {}),
        "data": {**more.get("data", {}), **choices.data},
        "network": network,
        "ensemble": {**more.get("ensemble", {}), "runs": len(members)},
    }


_SAID_BY = {"data": "nothing else: data and inputs say it", "network": "nothing else: architecture and options say it",
            "ensemble": "nothing else: there are as many runs as files"}  # fmt: skip


def refuse_said_twice(choices: Choices, *, runs: int | None = None) -> None:
    """Raises InvalidInput for what further parts of the spec say otherwise than what was said beside them, naming each
    field: nothing is left out without a word. runs: how many files there are, where that is known."""
    more = choices.more
    network = {"architecture": choices.architecture, "options": dict(choices.options)}
    said: dict[str, Mapping[str, Any]] = {
        "data": choices.data, "network": network, "ensemble": {} if runs is None else {"runs": runs},
    }  # fmt: skip
    problems = [
        Problem(f"is no object, but {part!r}"[:80], f"more.{place}", "an object, as in a spec")
        for place in (*said, "weights") if not isinstance(part := more.get(place, {}), Mapping)
    ]  # fmt: skip
    if more.get("source", "weights") != "weights":
        problems.append(Problem(f"is {more['source']!r}"[:80], "more.source", "weights, or nothing"))
    for place, known in said.items() if not problems else ():
        problems += [
            Problem(f"is {given!r}"[:80] + ", and was said otherwise", f"more.{place}.{name}", _SAID_BY[place])
            for name, given in more.get(place, {}).items()
            if given != known.get(name) and (name in known or place == "network")
        ]
    if problems:
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)


def _tunnel(bend: str) -> Json:
    return {"runs": [0, 1], "method": "bezier", "bend": bend, "averaged": 30, "triangles": False, "images": 10_000}


class _Kept:
    """Files of weights in the store of artifacts. told: what was converted, by the file's name."""

    def __init__(self, laboratory: Laboratory, convert: Converter) -> None:
        self._convert = convert
        self.told: dict[str, Converted] = {}
        self._artifacts = laboratory.artifacts
        self._known: dict[Path, str] = {}

    def digest(self, file: NamedFile) -> str:
        if file.path not in self._known:
            with _safetensors(file, self._convert, self.told) as path, path.open("rb") as content:
                self._known[file.path] = self._put(file.name, path, content)
        return self._known[file.path]

    def _put(self, name: str, path: Path, content: IO[bytes]) -> str:
        elements = sum(one.elements for one in header_of(Tensors.of(path, name)).entries)
        return self._artifacts.put_tensor_file(content, "weights", elements).digest


@contextmanager
def _safetensors(file: NamedFile, convert: Converter, told: dict[str, Converted]) -> Iterator[Path]:
    """The file, or what it becomes where torch has written it."""
    check_file(file.path, _FILE)
    if not is_of_torch(file.path):
        header_of(Tensors.of(file.path, file.name), file.at)
        yield file.path
        return
    with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
        target = Path(folder) / "weights.safetensors"
        told[file.name] = convert(file.path, target, name=file.name, at=file.at)
        yield target


def _provenance(name: str, members: Sequence[GivenWeights], kept: _Kept, unread: Sequence[str]) -> Json:
    """Whose weights these are, what was converted, and what was not read."""
    odd = [
        {"level": Level.TOLD, "what": "converted", "sentence": f"{file}: converted from torch" + (
            f", of what lies under {told.inside!r}" if told.inside else "")}
        for file, told in kept.told.items()
    ]  # fmt: skip
    if unread:
        told = not_read(unread)
        odd.append({"level": told.level, "what": told.what, "sentence": told.sentence})
    return {
        "name": name,
        "members": [
            {"id": printable(member.name), "seed": None,
             "config": {"file": printable(member.file.name), "sha256": kept.digest(member.file)}}
            for member in members
        ],
        "odd": odd,
    }  # fmt: skip


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A file, and which of its tensors went where."""

    name: str
    fit: Fit

    def sentence(self) -> str:
        found = f"{self.name}: {len(self.fit.pairs)} tensors in their places, {self.fit.keys}"
        left = f"; left out: {', '.join(self.fit.left_out[:3])} ..." if self.fit.left_out else ""
        return found + left

    def document(self) -> Json:
        """For programs. table: [the network's name, the file's] of every tensor."""
        return {"name": self.name, "keys": self.fit.keys, "left_out": list(self.fit.left_out),
                "untouched": list(self.fit.untouched), "table": self.fit.table()}  # fmt: skip

    def lines(self) -> list[str]:
        return [f"{wanted} <- {found}" for wanted, found in self.fit.pairs]


def look(settings: Settings, members: Sequence[GivenWeights], choices: Choices) -> list[Placed]:
    """Put every file into the network, here and now, and keep nothing. Raises InvalidInput with what is missing, left
    over or misshapen, DataMissing."""
    extras.require("worker", "putting weights into a network", "torch")
    from modescape.architectures.building import build
    from modescape.datasets.here import describe
    from modescape.science.data import Shape
    from modescape.stages.given_weights import place_file

    spec = parse(spec_of(members, choices, lambda file: "0" * 64))
    info = describe(spec.data, settings.data_folders)
    network = build(spec.network, Shape(info.channels, info.height, info.width, len(info.classes)), seed=0)
    found = []
    with Converter() as convert:
        for file in files_of(members, choices):
            with _safetensors(file, convert, {}) as path:
                try:
                    found.append(Placed(file.name, place_file(network, path, choices.keys)))
                except InvalidInput as error:
                    raise InvalidInput(f"{file.name}: {error}", problems=error.problems) from None
    return found


def files_of(members: Sequence[GivenWeights], choices: Choices) -> Iterator[NamedFile]:
    """Every file once."""
    seen = set()
    for file in (
        *(one.file for one in members), *(s for one in members for s in one.snapshots.values()),
        *([choices.curve] if choices.curve is not None else []),
    ):  # fmt: skip
        if file.path not in seen:
            seen.add(file.path)
            yield file


# --- from paths -------------------------------------------------------------------------------------------------------


def members_from(
    files: str | Path | Sequence[str | Path],
    *,
    member: str | None = None,
    snapshots: str | Path | None = None,
    expect_accuracy: str | Sequence[str] | None = None,
) -> list[GivenWeights]:
    r"""A member for each file, in natural order.

    files: a pattern, a folder, or several of those and of files, in order; member: a regular expression whose group is
    a member's name in a path; snapshots: a folder with a folder for each member, of that name or by its number, whose
    files have the epoch as the last number of their names; expect_accuracy: of the one member, or one for each. Raises
    InvalidInput, Unclear.
    """
    found = _found(files, member)
    stated = [expect_accuracy] if isinstance(expect_accuracy, str) else list(expect_accuracy or ())
    if stated and len(stated) != len(found):
        raise InvalidInput(
            f"{len(stated)} accuracies for {len(found)} members", field="expect_accuracy",
            allowed=f"one for each of the {len(found)} files, in their order",
        )  # fmt: skip
    return [
        GivenWeights(name, file, _snapshots(snapshots, name, number), stated[number] if stated else None)
        for number, (name, file) in enumerate(found.items())
    ]


def files_to_send(members: Sequence[GivenWeights], curve: NamedFile | None) -> dict[str, Path]:
    """The files of members and a curve by names under which a server finds the same (`members_below`)."""
    found = {}
    names = [member.name.replace("/", "-") for member in members]
    if len(set(names)) < len(names):
        names = [f"{number}" for number in range(len(names))]
    is_in_order = all(natural(one) < natural(other) for one, other in pairwise(names))  # in which a server finds them
    for number, (name, member) in enumerate(zip(names, members, strict=True)):
        found[f"members/{'' if is_in_order else f'{number:04d}/'}{name}{member.file.path.suffix}"] = member.file.path
        for epoch, file in member.snapshots.items():
            found[f"snapshots/{name}/{epoch:g}{file.path.suffix}"] = file.path
    if curve is not None:
        found[f"curve/bend{curve.path.suffix}"] = curve.path
    return found


def members_below(folder: Path, *, expect_accuracy: Sequence[str] = ()) -> tuple[list[GivenWeights], NamedFile | None]:
    """The members, and the bend of a curve, in a folder of files that were sent: `snapshots/<member>/<epoch>.*` are on
    a member's way, `curve/*` is the bend, all others are a member each, in natural order. Raises InvalidInput."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    bends = [name for name in found if name.startswith("curve/")]
    files = sorted((name for name in found if not name.startswith(("snapshots/", "curve/"))), key=natural)
    if len(bends) > 1:
        raise InvalidInput(f"{len(bends)} files are in curve/", field="files", allowed="one, or none")
    if not files:
        raise InvalidInput("no file of a member is among them", field="files", allowed="a file of weights a member")
    snapshots = folder / "snapshots" if (folder / "snapshots").is_dir() else None
    members = members_from([found[name] for name in files], snapshots=snapshots, expect_accuracy=list(expect_accuracy))
    named = [
        replace(
            one, file=NamedFile(name, one.file.path),
            snapshots={epoch: replace(file, at="") for epoch, file in one.snapshots.items()},
        )
        for one, name in zip(members, files, strict=True)
    ]  # fmt: skip
    return named, NamedFile(bends[0], found[bends[0]]) if bends else None


def unread(files: str | Path | Sequence[str | Path]) -> list[str]:
    """What lies in folders of weights and is no file of a member, as `members_from` reads them. Raises InvalidInput."""
    folders = [Path(one) for one in _listed(files) if Path(one).is_dir()]
    return [name for folder in folders for name in _lying(folder) if not _is_of_weights(name)]


def _listed(files: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(files)] if isinstance(files, str | Path) else [str(one) for one in files]


def _found(files: str | Path | Sequence[str | Path], member: str | None) -> dict[str, NamedFile]:
    """member's name -> its file. Raises InvalidInput, Unclear."""
    given = _listed(files)
    if len(given) == 1 and Path(given[0]).is_dir():
        return _in_folder(Path(given[0]), member)
    if len(given) == 1:
        paths = members_of(given[0], member)
    else:
        every = every_file([path for one in given for path in _each(one)])
        paths = named(every) if member is None else members_among(every, member)
    return {name: NamedFile(path.name, path, str(path)) for name, path in paths.items()}


def _each(given: str) -> list[str]:
    """The files of a folder, of anything else itself."""
    return [str(Path(given) / name) for name in _weights_in(Path(given))] if Path(given).is_dir() else [given]


def _in_folder(folder: Path, member: str | None) -> dict[str, NamedFile]:
    """A member for each file of weights below a folder, in natural order."""
    found = _weights_in(folder)
    if member is not None:
        paths = members_among([str(folder / one) for one in found], member)
        return {name: NamedFile(path.relative_to(folder).as_posix(), path, str(path)) for name, path in paths.items()}
    names = called([one.rpartition(".")[0] for one in found])
    of: dict[str, NamedFile] = {}
    for name, one in zip(names, found, strict=True):
        if name in of:  # m.pt and m.safetensors
            raise both_of(name, of[name].name, one)
        of[name] = NamedFile(one, folder / one, str(folder / one))
    return of


def _weights_in(folder: Path) -> list[str]:
    """Raises InvalidInput where there are none, or some beside folders that hold others: who knows what those are."""
    every = _lying(folder)
    found = sorted(filter(_is_of_weights, every), key=natural)
    if not found:
        held = ", ".join(every[:5]) or "nothing"
        raise InvalidInput(
            f"{folder} holds {held}", field="weights", allowed="files of weights: .safetensors, .pt, .pth, .ckpt, .bin"
        )
    deep = {one.count("/"): one for one in reversed(found)}
    if len(deep) > 1:
        raise InvalidInput(
            f"{folder} holds {' and '.join(deep[depth] for depth in sorted(deep)[:2])}: which files are a member each?",
            field="weights", allowed="files that lie alike, or a pattern such as 'runs/*.pt' or 'runs/*/last.pt'",
        )  # fmt: skip
    return found


def _lying(folder: Path) -> list[str]:
    """The files of a folder, by the rules of folders of predictions. Raises InvalidInput."""
    return list(Folder(folder.name, folder, (".safetensors", *SUFFIXES)).files)


def _is_of_weights(name: str) -> bool:
    return name.endswith(".safetensors") or is_of_torch(Path(name))


def _snapshots(folder: str | Path | None, name: str, number: int) -> dict[float, NamedFile]:
    if folder is None:
        return {}
    place = next((p for p in (Path(folder) / name, Path(folder) / f"{number}") if p.is_dir()), None)
    if place is None:
        raise InvalidInput(
            f"{folder} has no folder {name} or {number}", field="snapshots", allowed="a folder for each member"
        )
    found: dict[float, NamedFile] = {}
    for path in sorted(place.iterdir()):
        if _is_of_weights(path.name):
            epochs = _EPOCH.findall(path.stem)
            if not epochs or float(epochs[-1]) in found:
                raise InvalidInput(
                    f"{path} does not say an epoch of its own",
                    field="snapshots",
                    allowed="names such as 12.safetensors",
                )
            found[float(epochs[-1])] = NamedFile(f"{place.name}/{path.name}", check_file(path, _FILE), str(path))
    return found


def data_of(data: str | Mapping[str, Any], scale: str | None = None) -> Json:
    """`data` of a spec: a set's name, or its document; scale: as `imported.inputs` reads it."""
    document = {"dataset": data} if isinstance(data, str) else dict(data)
    return document | (inputs(scale) if scale else {})


def import_weights(
    files: str | Path | Sequence[str | Path],
    *,
    architecture: str,
    data: str | Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    inputs: str | None = None,
    keys: Keys | str = Keys.BY_NAME,
    expect_accuracy: str | Sequence[str] | None = None,
    snapshots: str | Path | None = None,
    curve: str | Path | None = None,
    recipe: Recipe | str = Recipe.UNKNOWN,
    held_out: bool = False,
    member: str | None = None,
    spec: Mapping[str, Any] | None = None,
    name: str = "weights",
    folder: Path | str | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> Lab:
    """Evaluate and judge networks that were trained elsewhere, without any service.

    files, member, snapshots, expect_accuracy: as `members_from` has them; architecture, options: the network; data: a
    data set here; inputs: how its pixels were scaled, "unit" (x/255) or "imagenet" for example (None: as the data say);
    held_out: whether its validation images, the last of the training files, were kept out of these trainings;
    curve: the control point of a Bezier curve between the first two; spec: what else is to be done with them, as parts
    of a spec (methods, planes, tunnels, ...). Raises InvalidInput before anything is stored where names or shapes do
    not fit, DataMissing.

    lab = ms.import_weights("ckpt/*.pt", architecture="resnet20v1", data="cifar10", inputs="imagenet", recipe="same")
    """
    members = members_from(files, member=member, snapshots=snapshots, expect_accuracy=expect_accuracy)
    choices = Choices(
        architecture, data_of(data, inputs), options or {}, Keys(keys), Recipe(recipe), held_out,
        NamedFile.of(curve) if curve is not None else None, spec or {},
    )  # fmt: skip
    here = started(folder, settings)
    look(here.laboratory.settings, members, choices)
    row = bring_in_weights(here.laboratory, members, choices, name=name, unread=unread(files))
    return here.finish(row, progress=progress)
