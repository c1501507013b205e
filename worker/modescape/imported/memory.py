"""Arrays in memory, of NumPy, torch, JAX or whatever gives an array: an ensemble without a file.

    ensemble = from_arrays(logits, labels, ood={"digits": o}, shift={("fog", 3): s},
                           samples={"swag": Samples(drawn, strength=steps)})

No framework is imported: an array is what has `__array__` or `__dlpack__`; bfloat16 becomes float32, exactly.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from modescape.errors import InvalidInput
from modescape.imported import parts
from modescape.imported.arrays import Array, held, mapped, refuse, stacked
from modescape.imported.containers import check_file, check_name, check_pickle
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Ensemble,
    ExampleSet,
    Member,
    MethodSamples,
    OutputKind,
    Recipe,
    SetRole,
    Tensors,
    Trajectory,
    by_role,
    place_of,
)

ArrayLike: TypeAlias = Any  # of NumPy, torch, JAX; a list of those, one a member; the path of an .npy file
WithLabels: TypeAlias = Any  # an array of outputs, or (outputs, labels)
Outputs: TypeAlias = Any  # an array of outputs on the test set, or one for each set, by "test" and "validation"
ShiftKey: TypeAlias = tuple[str, int] | str  # ("fog", 3) or "fog/3"


@dataclass(frozen=True, eq=False)
class Samples:
    """Functions that a method drew around each member, as you have them.

    outputs: on the test set, [M, S, N, K] ([M, S, N] of labels); strength: [M, S], how far each is from its member;
    centre: [M, N, K], what they were drawn around, where that is not the member; validation, ood, shift: the same
    samples' outputs on those sets, by the same names; better: bool [M], of where a method trained on to ("swag-last"),
    whether it predicts held-out images better than the member; is_rate: whether strengths are rates, such as dropout's;
    None: as of our method of that name.
    """

    outputs: ArrayLike
    strength: ArrayLike | None = None
    centre: ArrayLike | None = None
    validation: ArrayLike | None = None
    ood: Mapping[str, ArrayLike] = field(default_factory=dict)
    shift: Mapping[ShiftKey, ArrayLike] = field(default_factory=dict)
    better: ArrayLike | None = None
    is_rate: bool | None = None


def from_arrays(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    samples: Mapping[str, Samples | ArrayLike] | None = None,
    ood: Mapping[str, ArrayLike] | None = None,
    shift: Mapping[ShiftKey, WithLabels] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    trajectory: tuple[ArrayLike, Outputs] | Outputs | None = None,
    weights: Sequence[Any] | None = None,
    kind: OutputKind | str = OutputKind.LOGITS,
    recipe: Recipe | str = Recipe.UNKNOWN,
    name: str = "ensemble",
    members: Sequence[Member | str | int] | None = None,
    classes: Sequence[str] = (),
    ids: ArrayLike | None = None,
    images: ArrayLike | None = None,
) -> Ensemble:
    """The ensemble of these arrays.

    logits: [M, N, K], of what `kind` says ([M, N] of labels), [N, K] of a single member, or a list of one array a
    member; labels: [N]; trajectory: [M, T, N, K], or that by set, {"test": ..., "validation": ...}, or
    (epochs [T], either), epochs counted from 0 where not given, or [T + 1] with the members' own behind them; shift:
    outputs, or (outputs, labels) of a set with images of its own; weights: one a member, a path of .safetensors or a
    mapping of tensors; images: uint8 [N, C, H, W]. Raises InvalidInput naming the argument.
    """
    what = _enum(OutputKind, kind, "kind")
    test = parts.outputs(_members(array_of("logits", logits), what), what)
    examples = test.shape[1]
    sets = {TEST: parts.set_of(
        TEST, test, labels=parts.true_labels(array_of("labels", labels)), examples=examples,
        ids=None if ids is None else parts.ids(array_of("ids", ids)),
        images=None if images is None else parts.images(array_of("images", images)),
    )}  # fmt: skip
    if validation is not None:
        sets[VALIDATION] = _set(VALIDATION, "validation", validation, what, examples)
    for place, (called, given) in _placed("ood", ood, ood_place).items():
        sets[place] = _set(place, called, given, what, examples)
    for place, (called, given) in _placed("shift", shift, shift_place).items():
        sets[place] = _set(place, called, given, what, examples)
    who = _who(members, test.shape[0])
    return Ensemble(
        name=name,
        kind=what,
        members=who,
        sets={place: sets[place] for place in by_role(sets)},
        recipe=_enum(Recipe, recipe, "recipe"),
        classes=tuple(map(str, _listed("classes", classes, "a list of names"))),
        samples=_all_samples(samples, what, sets),
        trajectory=None if trajectory is None else _trajectory(trajectory, what),
        weights={} if weights is None else _weights(weights, who),
    )


def _enum(of: Any, value: Any, field: str) -> Any:
    try:
        return of(value)
    except ValueError as error:
        raise InvalidInput(f"{field} is {value!r}", field=field, allowed=", ".join(of)) from error


def _kind_of(given: Any) -> str:
    """What it is, in a word: numpy.ndarray, list, None."""
    return "None" if given is None else f"of the type {type(given).__name__}"


def _mapped(name: str, given: Any, such_as: str) -> Mapping[Any, Any]:
    """Raises InvalidInput for what is no mapping."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{name} is {_kind_of(given)}", field=name, allowed=f"a dictionary, such as {such_as}")
    return given


def _listed(name: str, given: Any, wanted: str) -> list[Any]:
    """Raises InvalidInput for what is no list; the letters of a text are none."""
    try:
        if isinstance(given, str | bytes | Mapping):
            raise TypeError
        return list(given)
    except TypeError:
        raise InvalidInput(f"{name} is {_kind_of(given)}", field=name, allowed=wanted) from None


def _placed(name: str, given: Any, place: Callable[[Any], str], inside: str = "") -> dict[str, tuple[str, Any]]:
    """place -> (what messages call it, what lies there). Raises InvalidInput where two keys are one place."""
    such_as = "{'svhn': outputs}" if name.endswith("ood") else "{('fog', 3): outputs}"
    found: dict[str, tuple[str, Any]] = {}
    for key, one in _mapped(f"{inside}{name}", given, such_as).items():
        called = f"{inside}{name}[{key!r}]"
        if (at := place(key)) in found:
            raise refuse(called, f"{found[at][0]} is the same set", "each set once")
        found[at] = called, one
    return found


# --- arrays -----------------------------------------------------------------------------------------------------------


def array_of(name: str, given: ArrayLike) -> Array:
    """Raises InvalidInput for what no array can be made of."""
    if isinstance(given, Array):
        return given
    if isinstance(given, str | Path):
        check_pickle(str(given))
        return mapped(check_file(Path(given), "an .npy file"), str(given))
    if isinstance(given, list | tuple) and given and not np.isscalar(given[0]) and not isinstance(given[0], list):
        return stacked(name, [array_of(f"{name}[{number}]", one) for number, one in enumerate(given)])
    return held(name, _numpy(name, given))


def _numpy(name: str, given: ArrayLike) -> Any:
    """A NumPy array of it, in memory of this machine; bfloat16 and the like as float32."""
    try:
        if hasattr(given, "detach"):  # torch
            given = given.detach().cpu()
            given = given.float() if str(given.dtype) == "torch.bfloat16" else given
        values = (
            np.asarray(given)
            if hasattr(given, "__array__") or not hasattr(given, "__dlpack__")
            else np.from_dlpack(given)
        )
        if values.dtype.hasobject:
            raise refuse(name, _no_numbers(given), "an array of numbers, or a list of one array a member")
        if np.ma.is_masked(given):
            raise refuse(name, "some of its numbers are masked", "an array without a mask: leave those examples out")
        if values.dtype.kind == "V" and "float" in values.dtype.name:  # bfloat16, float8 of ml_dtypes
            return values.astype(np.float32)
    except InvalidInput:
        raise
    except Exception as error:  # every framework raises its own
        raise refuse(name, f"no array can be made of {type(given).__name__} ({error})", "arrays of numbers") from error
    return values


def _no_numbers(given: ArrayLike) -> str:
    if isinstance(given, np.ndarray) or hasattr(given, "__array__"):
        return "it holds Python objects and no numbers"
    return f"it is {_kind_of(given)}"


def _members(outputs: Array, kind: OutputKind) -> Array:
    """A single member's [N, K] as [1, N, K]."""
    alone = kind is not OutputKind.LABELS and len(outputs.shape) == 2
    return stacked(outputs.name, [outputs]) if alone else outputs


def _set(place: str, name: str, given: WithLabels, kind: OutputKind, examples: int) -> ExampleSet:
    pair = isinstance(given, tuple | list if place == VALIDATION else tuple)
    if (pair and len(given) != 2) or (place == VALIDATION and not pair):
        said = f"it is {len(given)} things" if pair else f"it is {_kind_of(given)}"
        raise refuse(name, said, "a pair: (outputs, labels)")
    outputs, labels = given if pair else (given, None)
    checked = parts.outputs(_members(array_of(name, outputs), kind), kind)
    truth = None if labels is None else parts.true_labels(array_of(f"the labels of {name}", labels))
    return parts.set_of(place, checked, labels=truth, examples=examples)


def ood_place(name: str) -> str:
    return place_of(SetRole.OOD, _named(name, f"ood[{name!r}]"))


def shift_place(key: ShiftKey) -> str:
    """Raises InvalidInput for keys without an intensity from 1 to 5."""
    kind, step = "", ""
    if isinstance(key, str):
        kind, _, step = key.rpartition("/")
    elif isinstance(key, tuple) and len(key) == 2:
        kind, step = key[0], str(key[1])
    if step not in ("1", "2", "3", "4", "5") or not kind:
        raise InvalidInput(
            f"shift[{key!r}] has no intensity from 1 to 5",
            field="shift",
            allowed="(type, intensity), such as ('fog', 3); one that has no steps, such as CIFAR-10.1, is (name, 1)",
        )
    return place_of(SetRole.SHIFT, _named(kind, f"shift[{key!r}]"), int(step))


def _named(name: str, of: str) -> str:
    """Names become names of files."""
    if not isinstance(name, str):
        raise refuse(of, f"its name is {_kind_of(name)}", "a text")
    check_name(name, of)
    if "/" in name:
        raise refuse(of, "its name holds a /", "a name without")
    return name


def _all_samples(given: Any, kind: OutputKind, sets: Mapping[str, ExampleSet]) -> dict[str, MethodSamples]:
    by_method = _mapped("samples", given, "{'swag': ms.Samples(outputs)}")
    found = {method: _samples(method, one, kind, sets) for method, one in by_method.items()}
    return dict(sorted(found.items()))


def _samples(
    method: str, given: Samples | ArrayLike, kind: OutputKind, sets: Mapping[str, ExampleSet]
) -> MethodSamples:
    one = given if isinstance(given, Samples) else Samples(given)
    name = f"samples[{method!r}]"
    _named(method, name)
    asked = {TEST: (name, one.outputs)}
    if one.validation is not None:
        asked[VALIDATION] = (f"{name}.validation", one.validation)
    asked |= _placed("ood", one.ood, ood_place, f"{name}.")
    asked |= _placed("shift", one.shift, shift_place, f"{name}.")
    return MethodSamples(
        method,
        {
            place: parts.outputs(array_of(called, _outputs_of(called, value, sets.get(place))), kind, lead=2)
            for place, (called, value) in sorted(asked.items())
        },
        None if one.strength is None else parts.strength(array_of(f"{name}.strength", one.strength)),
        {} if one.centre is None else {TEST: parts.outputs(array_of(f"{name}.centre", one.centre), kind)},
        None if one.better is None else parts.better(array_of(f"{name}.better", one.better)),
        one.is_rate,
    )


def _outputs_of(name: str, given: Any, of: ExampleSet | None) -> Any:
    """What samples said, of a pair with the labels of the set, too, which must be the set's own."""
    if not (isinstance(given, tuple) and len(given) == 2) or np.ndim(given[1]) != 1:
        return given
    truth = parts.true_labels(array_of(f"the labels of {name}", given[1]))
    if of is None or of.labels is None or not np.array_equal(truth, of.labels):
        raise refuse(name, "its labels are not those of the set", "outputs alone, or with the same labels")
    return given[0]


def _trajectory(given: Any, kind: OutputKind) -> Trajectory:
    epochs, outputs = given if isinstance(given, tuple) and len(given) == 2 else (None, given)
    by_place = dict(outputs) if isinstance(outputs, Mapping) else {TEST: outputs}
    if TEST not in by_place or set(by_place) - {TEST, VALIDATION}:
        raise refuse("trajectory", f"it has outputs of {', '.join(map(repr, by_place)) or 'nothing'}",
                     "outputs on 'test', and on 'validation' or not")  # fmt: skip
    found = {place: parts.outputs(array_of(f"trajectory[{place!r}]" if len(by_place) > 1 else "trajectory", one),
                                  kind, lead=2) for place, one in by_place.items()}  # fmt: skip
    counted = np.arange(found[TEST].shape[1]) if epochs is None else epochs
    return Trajectory.of(parts.epochs(array_of("the epochs of trajectory", counted)), found)


def _who(given: Sequence[Member | str | int] | None, count: int) -> tuple[Member, ...]:
    names = range(count) if given is None else _listed("members", given, "a list of names, one a member")
    found = tuple(one if isinstance(one, Member) else Member(str(one)) for one in names)
    if len(found) != count:
        raise InvalidInput(
            f"members names {len(found)}, logits have {count}", field="members", allowed=f"{count} of them"
        )
    parts.check_members(found, "members")
    return found


# --- weights ----------------------------------------------------------------------------------------------------------


def _weights(asked: Sequence[Any], members: Sequence[Member]) -> dict[str, Tensors]:
    given = _listed("weights", asked, "a list, one a member: paths of .safetensors, or dictionaries of tensors")
    if len(given) != len(members):
        raise InvalidInput(
            f"weights are {len(given)}, members {len(members)}", field="weights", allowed="one a member, in their order"
        )
    return {member.id: tensors_of(member.id, one) for member, one in zip(members, given, strict=True)}


def tensors_of(member: str, given: Any) -> Tensors:
    name = f"weights of member {member!r}"
    if isinstance(given, str | Path):
        check_pickle(str(given))
        path = check_file(Path(given), "a .safetensors file")
        return Tensors.of(path, str(path))
    if not isinstance(given, Mapping):
        raise refuse(name, f"they are {type(given).__name__}", "a path of .safetensors, or tensors by name")
    from safetensors.numpy import save

    tensors = {str(key): np.ascontiguousarray(_numpy(f"{name}, {key}", value)) for key, value in given.items()}
    try:
        content = save(tensors)
    except Exception as error:
        raise refuse(name, f"they cannot be kept ({error})", "tensors of numbers by name") from error
    return Tensors(name, len(content), lambda: io.BytesIO(content))
