"""An ensemble made elsewhere becomes an experiment: its arrays are kept as files, its spec says what they are.

    experiment = bring_in(laboratory, read(Path("wide-resnets")), name="WRN-16-4")

From then on it is an experiment like any other: the same stages compare, judge and draw it (`stages.given`).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from modescape import names
from modescape.artifacts import Artifacts
from modescape.errors import InvalidInput, Problem
from modescape.imported.answers import answered, examined
from modescape.imported.arrays import Array, stacked
from modescape.imported.digest import Content, content_digest, contents, digest_of, set_digest
from modescape.imported.door import Level, Odd, Oddity, of_temperatures, of_weights
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Ensemble,
    ExampleSet,
    Member,
    OutputKind,
    Recipe,
    SetRole,
    Tensors,
    Unclear,
    sets_of,
)
from modescape.imported.manifest import NAME as MANIFEST
from modescape.imported.memory import ArrayLike, Outputs, Samples, ShiftKey, WithLabels, array_of, from_arrays
from modescape.imported.saying import KINDS
from modescape.imported.tensors import header_of
from modescape.imported.two_arrays import kind_of
from modescape.names import key_of, keys_of
from modescape.pieces import KEPT, MOST_EMBEDDED, Piece, PieceMember, Strange, compared, together
from modescape.records import About, ArtifactInfo, Json, SampleSet
from modescape.registry import methods as known_methods

if TYPE_CHECKING:  # the process that reads what strangers sent loads no database
    from modescape.laboratory import Lab, Laboratory
    from modescape.settings import Settings
    from modescape.tables import Experiment


@dataclass(frozen=True)
class Answers:
    """What only the user knows, as the door asks it (`imported.door`): what the outputs are, whether classes are put in
    the labels' order ("apply" or "keep"), how the members came about, that what looks like another kind among logits is
    logits ("keep")."""

    kind: OutputKind | None = None
    permutation: Literal["apply", "keep"] | None = None
    recipe: Recipe | None = None
    mixed: Literal["keep"] | None = None


def bring_in(
    laboratory: Laboratory, ensemble: Ensemble, *, name: str, answers: Answers = Answers(), **about: Unpack[About]
) -> Experiment:
    """Keep an ensemble and store its experiment, ready to be judged.

    Raises InvalidInput where its arrays do not fit each other, or the disk, and Unclear where they can be read in two
    ways.
    """
    size = sum(len(one.encode()) if isinstance(one, str) else one.nbytes for one in contents(ensemble).values())
    laboratory.afford([Problem(said) for said in laboratory.limits.exceeded(size, 0.0)], about.get("idempotency"))
    return store_piece(laboratory, kept_piece(laboratory.artifacts, ensemble, answers), name=name, **about)


def store_piece(laboratory: Laboratory, piece: Piece, *, name: str, **about: Unpack[About]) -> Experiment:
    """The experiment of an ensemble whose arrays are kept already."""
    prepared = laboratory.preparing()(piece.spec, given=piece.given)
    laboratory.afford(laboratory.too_much(prepared), about.get("idempotency"))
    about["provenance"] = piece.provenance | (about.get("provenance") or {})
    return laboratory.store.experiments.create(
        name=name, spec=prepared.spec, stages=prepared.plan.stages, given=piece.files, bytes=prepared.plan.new_bytes,
        **about,
    )  # fmt: skip


def kept_piece(
    artifacts: Artifacts, ensemble: Ensemble, answers: Answers = Answers(), *, is_one_of_more: bool = False
) -> Piece:
    """Look at an ensemble and keep its arrays. is_one_of_more: as `examine` has it.

    Raises InvalidInput where its arrays do not fit each other, and Unclear where they can be read in two ways.
    """
    ensemble = answered(ensemble, kind=answers.kind, recipe=answers.recipe)
    ensemble, findings = examined(ensemble, answers.permutation, is_one_of_more=is_one_of_more)
    if findings.refused:
        problems = [Problem(one.sentence, one.place or one.what) for one in findings.refused]
        raise InvalidInput("; ".join(problem.message for problem in problems), problems=problems)
    for one in findings.asked:
        if one.what is not Odd.RECIPE and getattr(answers, one.what) not in [choice.value for choice in one.choices]:
            raise Unclear(one.sentence, one.choices, field=one.what)
    digests = {path: content_digest(one) for path, one in contents(ensemble, with_name=False).items()}
    kept = _Kept(artifacts, ensemble)
    return Piece(
        name=ensemble.name,
        spec=spec_of(ensemble, findings.left_out, digest=digest_of(digests)),
        members=tuple(
            PieceMember(one.id, one.seed, dict(one.config), kept.given[number])
            for number, one in enumerate(ensemble.members)
        ),
        where={"digests": digests, KEPT: kept.listed()},
        files=tuple(kept.files.values()),
        odd=tuple(_strange(one, answers) for one in findings.oddities),
    )


def put_together(artifacts: Artifacts, pieces: Sequence[Piece], *, planned: int, is_whole: bool) -> Piece:
    """All pieces as one (`pieces.together`), of whose temperatures is said what the door says of all at once; of what
    is whole, with what of its weights is not compared."""
    piece = together(pieces, planned=planned, is_whole=is_whole)
    if fitted := dict(pair for one in piece.odd for pair in one.values):
        others = (one for one in piece.odd if not one.values)
        piece = replace(piece, odd=(*others, _strange(of_temperatures(fitted), Answers())))
    if not is_whole or len(pieces) < 2:
        return piece
    weights = {one.id: digest for one in piece.members if (digest := one.given.get("weights")) is not None}
    told = of_weights({who: header_of(Tensors.of(artifacts.path(digest))) for who, digest in weights.items()})
    odd = (one for one in piece.odd if one.what != Odd.WEIGHTS)  # said of the members of one piece
    return replace(piece, odd=(*odd, *(_strange(one, Answers()) for one in told)))


def _strange(one: Oddity, answers: Answers) -> Strange:
    """As it is kept: a question with its answer is no question any more."""
    if one.level is not Level.ASKED or one.what is Odd.RECIPE:
        values = tuple(zip(one.members, one.values, strict=True)) if one.values else ()
        return Strange(one.level, one.what, one.sentence, values)
    return Strange(Level.TOLD, one.what, f"{one.sentence} The answer was: {getattr(answers, one.what)}")


def analyse(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    samples: Mapping[str, Samples | ArrayLike] | None = None,
    ood: Mapping[str, ArrayLike] | None = None,
    shift: Mapping[ShiftKey, WithLabels] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    trajectory: tuple[ArrayLike, Outputs] | Outputs | None = None,
    weights: Sequence[Any] | None = None,
    kind: OutputKind | str | None = None,
    recipe: Recipe | str = Recipe.UNKNOWN,
    permutation: Literal["apply", "keep"] | None = None,
    mixed: Literal["keep"] | None = None,
    name: str = "ensemble",
    members: Sequence[Member | str | int] | None = None,
    classes: Sequence[str] = (),
    images: ArrayLike | None = None,
    folder: Path | str | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> Lab:
    """Judge an ensemble that is here as arrays, without any service: the arguments are `from_arrays`'s, and where to
    keep it those of `run`.

    logits: [members, examples, classes] (predicted labels [members, examples]), labels: [examples]; kind None: what the
    numbers can only be: predicted labels, probabilities, their logarithms, or else logits; permutation: what becomes of
    classes in another order than the labels', and mixed: of members or sets that look like probabilities among logits,
    where they are asked about. Raises InvalidInput naming the argument, and
    Unclear, which says the arguments that answer. What is odd is told on stderr with the progress, and stands in
    `lab.odd`.

    lab = ms.analyse(logits, labels, recipe="same")     # [M, N, K] and [N]
    print(lab.sentence())
    """
    from modescape.laboratory import started

    name = names.checked(name, field="name")
    if permutation not in (None, "apply", "keep"):
        raise InvalidInput(f"permutation is {permutation!r}", field="permutation", allowed="apply, keep")
    if mixed not in (None, "keep"):
        raise InvalidInput(f"mixed is {mixed!r}", field="mixed", allowed="keep")
    outputs = array_of("logits", logits)
    like = kind_of(outputs if len(outputs.shape) != 2 or outputs.dtype.kind != "f" else stacked("logits", [outputs]))
    ensemble = from_arrays(
        outputs, labels, samples=samples, ood=ood, shift=shift, validation=validation, trajectory=trajectory,
        weights=weights, kind=like if kind is None else kind, recipe=recipe, name=name, members=members,
        classes=classes, images=images,
    )  # fmt: skip
    if kind is None:
        taken = f"The numbers were taken for {KINDS[ensemble.kind]}, for nobody said what they are (kind)"
        ensemble = replace(ensemble, remarks=(*ensemble.remarks, taken))
    here = started(folder, settings)
    answers = Answers(None if kind is None else ensemble.kind, permutation, mixed=mixed)
    experiment = bring_in(here.laboratory, ensemble, name=name, answers=answers)
    lab = here.finish(experiment, progress=progress)
    for line in lab.odd if progress else ():
        print(line, file=sys.stderr)
    return lab


@dataclass(frozen=True)
class _Method:
    """Samples of one method. sets: set -> their name in the ensemble; places: the same as stages name places."""

    key: str
    title: str
    sets: Mapping[SampleSet, str]
    places: Mapping[SampleSet, str]

    @property
    def averaged(self) -> str | None:
        """The name of the set that is averaged and compared."""
        return self.sets.get(SampleSet.FAIR, self.sets.get(SampleSet.TYPICAL))


def _methods(ensemble: Ensemble) -> list[_Method]:
    found, places = sets_of(ensemble.samples), keys_of(ensemble.samples)
    keys = keys_of(found)
    return [_Method(keys[one], one, sets, {which: places[name] for which, name in sets.items()})
            for one, sets in found.items()]  # fmt: skip


def _set_keys(ensemble: Ensemble) -> dict[str, str]:
    """Of OOD sets and of kinds of shift, by name."""
    shifted = [one.shift.type for one in ensemble.sets.values() if one.shift is not None]
    return keys_of([*shifted, *(one.name for one in ensemble.sets.values() if one.role is SetRole.OOD)])


def spec_of(ensemble: Ensemble, copies: Sequence[str] = (), *, digest: str = "") -> Json:
    """What its arrays let an experiment promise. copies: ids of members that equal an earlier one to the bit; digest:
    its set digest, where it is known already."""
    count = ensemble.test.count if ensemble.has_outputs else 0
    validation, along = ensemble.sets.get(VALIDATION), ensemble.trajectory
    has_labels = validation is not None and validation.labels is not None
    labelled = [VALIDATION] if has_labels and not ensemble.lacking(VALIDATION) else []  # a split of every function
    imported: Json = {
        "digest": digest or set_digest(ensemble),
        "kind": ensemble.kind,
        "recipe": ensemble.recipe,
        "classes": class_names(ensemble),
        "images": count,
        "validation": validation.count if validation is not None and labelled else 0,
        "epochs": [float(epoch) for epoch in along.epochs] if along is not None else [],
        "last_epoch": along.last if along is not None else None,
        "cells": _cells(ensemble, own_images=False),
        "own_images": _cells(ensemble, own_images=True),
        "titles": _titles(ensemble),
        "copies": [i for i, member in enumerate(ensemble.members) if member.id in copies],
    }
    return {
        "source": "imported",
        "imported": imported,
        "data": {"dataset": key_of((ensemble.test.data.partition("/")[0] if count else "") or "imported")},
        "network": {"architecture": "imported"},
        "ensemble": {"runs": len(ensemble.members)},
        "evaluation": {"splits": [TEST, *labelled], "embed_runs": min(MOST_EMBEDDED, len(ensemble.members))},
        "methods": [_method(ensemble, one) for one in _methods(ensemble)],
        "shift": _shift(ensemble),
        "ood": [_other_images(ensemble, one) for one in ensemble.sets.values() if one.role is SetRole.OOD],
    }


def _method(ensemble: Ensemble, one: _Method) -> Json:
    given = {which: ensemble.samples[name] for which, name in one.sets.items()}
    counts = {which: samples.outputs[TEST].shape[1] for which, samples in given.items()}
    wide = given.get(SampleSet.SPREAD, given.get(SampleSet.TYPICAL, given.get(SampleSet.FAIR)))
    assert wide is not None  # as `sets_of` has it
    options = {
        "title": one.title,
        "strength": wide.strength is not None,
        "centre": TEST in wide.centre,
        "sets": {} if one.places == {SampleSet.TYPICAL: one.key} else dict(one.places),
        "fair": counts.get(SampleSet.FAIR, 0),
        "rate": _are_rates(one.title) if wide.is_rate is None else wide.is_rate,
    }
    return {"method": one.key, "spread": counts.get(SampleSet.SPREAD, 0), "typical": counts.get(SampleSet.TYPICAL, 0),
            "options": options}  # fmt: skip


def _are_rates(method: str) -> bool:
    """Whether strengths of samples that go by our method's name are rates, for all that was said."""
    return method in known_methods and known_methods[method].strength == "rate"


def _other_images(ensemble: Ensemble, examples: ExampleSet) -> Json:
    return {"dataset": _set_keys(ensemble)[examples.name], "images": examples.count,
            "members": _compared(ensemble, SetRole.OOD), "trajectory": False}  # fmt: skip


def _shift(ensemble: Ensemble) -> Json | None:
    changed = _cells(ensemble, own_images=False)
    cells = [*changed, *_cells(ensemble, own_images=True)]
    if not cells:
        return None
    counts = [one.count for one in ensemble.sets.values() if one.shift is not None and not one.has_own_images]
    return {"corruptions": list(dict.fromkeys(name for name, _ in changed)),
            "images": min(counts, default=ensemble.test.count),
            "intensities": sorted({intensity for _, intensity in cells}), "members": _compared(ensemble, SetRole.SHIFT),
            "trajectory": False}  # fmt: skip


def _cells(ensemble: Ensemble, *, own_images: bool) -> list[tuple[str, int]]:
    """Types and intensities of the test set changed, image by image; or of labelled sets with images of their own."""
    shifted = [one for one in ensemble.sets.values() if one.shift is not None and one.has_own_images is own_images]
    given = (one.shift for one in shifted if ensemble.truth(one) is not None)
    keys = _set_keys(ensemble)
    cells = {(keys[one.type], one.intensity) for one in given if one is not None}
    types = list(dict.fromkeys(keys[one.shift.type] for one in shifted if one.shift is not None))
    return sorted(cells, key=lambda cell: (types.index(cell[0]), cell[1]))


def _titles(ensemble: Ensemble) -> dict[str, str]:
    """Names of sets and types as they were given, by the keys that specs have for them."""
    return {key: name for name, key in _set_keys(ensemble).items() if key != name}


def _compared(ensemble: Ensemble, role: SetRole) -> int:
    """Functions of a group that are compared on such sets: as many as every method has samples on each of them."""
    averaged = [ensemble.samples[name] for one in _methods(ensemble) if (name := one.averaged) is not None]
    counts = [
        min(array.shape[1] for place, array in one.outputs.items() if place == TEST or place.startswith(f"{role}/"))
        for one in averaged
    ]
    return compared(len(ensemble.members), counts)


def class_names(ensemble: Ensemble) -> list[str]:
    return list(ensemble.classes) or [f"{k}" for k in range(ensemble.class_count)]


class _Kept:
    """The arrays of an ensemble as files. given: member -> place -> digest, as `stages.given` names places; paths: the
    same by the names of the format, a digest, or one a member, so that it goes out as it came in (`exporting`)."""

    def __init__(self, artifacts: Artifacts, ensemble: Ensemble) -> None:
        self.files: dict[str, ArtifactInfo] = {}
        self.given: dict[int, dict[str, str]] = {i: {} for i in range(len(ensemble.members))}
        self.paths: dict[str, str | list[str]] = {}
        self._artifacts, self._is_labels = artifacts, ensemble.kind is OutputKind.LABELS
        self._found = contents(ensemble)
        self._path_of = {id(one): path for path, one in self._found.items()}
        methods, sets = keys_of(ensemble.samples), _set_keys(ensemble)
        at = {place: _key_of_set(examples, sets) for place, examples in ensemble.sets.items()}
        for place, examples in ensemble.sets.items():
            self._outputs(at[place], examples.outputs)
            for what, values in _about(examples):
                self._for_all(f"{at[place]}/{what}", values)
            if examples.images is not None:
                self._for_all(f"images/{at[place]}", examples.images.read())
        for name, samples in ensemble.samples.items():
            below = f"samples/{methods[name]}"
            for place, outputs in samples.outputs.items():
                self._outputs(f"{below}/{at[place]}", outputs)
            for place, centre in samples.centre.items():
                self._outputs(f"{below}/centre/{at[place]}", centre)
            if samples.strength is not None:
                self._by_member(f"{below}/strength", iter(samples.strength))
            if samples.better is not None:
                self._by_member(f"{below}/better", iter(samples.better.astype(np.uint8)))
        if ensemble.trajectory is not None:
            for place, outputs in ensemble.trajectory.outputs.items():
                self._outputs(f"trajectory/{place}", outputs)

        for i, member in enumerate(ensemble.members):
            for curve, points in ensemble.curves.get(member.id, {}).items():
                self.given[i][f"curves/{curve}"] = self._put(points)
            if (tensors := ensemble.weights.get(member.id)) is not None:
                self.given[i]["weights"] = self.paths[self._path_of[id(tensors)]] = self._put_weights(tensors)
        for path, one in self._found.items():
            if path not in self.paths and path != MANIFEST:
                self.paths[path] = self._put_other(one)

    def listed(self) -> str:
        """The digest of a file that says which files the ensemble was, and what its manifest said."""
        said = json.dumps({MANIFEST: self._found[MANIFEST], "files": self.paths}, sort_keys=True)
        return self._put(np.frombuffer(said.encode(), np.uint8))

    def _put_other(self, one: Content) -> str:
        assert not isinstance(one, str)
        return self._put(one.read()) if isinstance(one, Array) else self._put_weights(one)

    def _outputs(self, place: str, outputs: Array) -> None:
        lead = outputs.shape[1:-1] if self._is_labels else outputs.shape[1:-2]
        blocks = outputs.blocks(1 + len(lead))  # of one function each
        for places in self.given.values():
            own = islice(blocks, math.prod(lead))
            info = self._artifacts.put_blocks(own, outputs.shape[1:], outputs.dtype, "given")
            self.files[info.digest] = info
            places[place] = info.digest
        self.paths[self._path_of[id(outputs)]] = [places[place] for places in self.given.values()]

    def _put_weights(self, tensors: Tensors) -> str:
        elements = sum(math.prod(one.shape) for one in header_of(tensors).entries)
        with tensors.open() as file:
            info = self._artifacts.put_tensor_file(file, "weights", elements)
        self.files[info.digest] = info
        return info.digest

    def _by_member(self, place: str, rows: Iterator[NDArray[Any]]) -> None:
        for i, values in enumerate(rows):
            self.given[i][place] = self._put(values)

    def _for_all(self, place: str, values: NDArray[Any]) -> None:
        digest = self._put(values)
        for places in self.given.values():
            places[place] = digest

    def _put(self, values: NDArray[Any]) -> str:
        info = self._artifacts.put_array(values, "given")
        self.files[info.digest] = info
        return info.digest


def _key_of_set(examples: ExampleSet, keys: Mapping[str, str]) -> str:
    if examples.role is SetRole.OOD:
        return f"ood/{keys[examples.name]}"
    if examples.shift is not None:
        return f"shift/{keys[examples.shift.type]}/{examples.shift.intensity}"
    return examples.place


def _about(examples: ExampleSet) -> Iterator[tuple[str, NDArray[Any]]]:
    if examples.labels is not None:
        yield "labels", examples.labels
    if examples.ids is not None:
        names = json.dumps([str(one) for one in examples.ids.tolist()]).encode()
        yield "names", np.frombuffer(names, np.uint8)
