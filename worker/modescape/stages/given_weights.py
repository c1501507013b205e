"""Weights that were made elsewhere, in place of a training: put into the spec's network, checked, and kept as
a training keeps its checkpoints, so that every stage after it is the one it always was.

A stage reads the files in its params, under GIVEN: "weights", and "snapshots/<i>" for the i-th of the spec's epochs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.architectures.torchvision_models import resembling
from modescape.datasets.loading import inputs_of
from modescape.draft import Draft
from modescape.errors import InvalidInput, Problem, StageError
from modescape.imported.inputs import NORMALISATIONS
from modescape.imported.stated import is_met, share
from modescape.imported.tensor_names import Fit, Keys, Slot, fit, without_prefixes
from modescape.imported.torch_files import ORDER
from modescape.prices import Work
from modescape.records import TrainedRun
from modescape.science.data.tensors import Inputs, Splits, transform_of
from modescape.science.health import finite
from modescape.spec import ExperimentSpec
from modescape.spec_parts import WeightsSpec, keyed
from modescape.stages.given import GIVEN
from modescape.stages.stage import Context, Json, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights"
PROBED = 1000  # test images on which other input scales are tried first
NEAR = 0.03  # how far from a stated accuracy a scale may be on those to be tried on all

Arrays = Mapping[str, NDArray[Any]]


def weights_of(spec: ExperimentSpec) -> WeightsSpec:
    """In what belongs to weights that were given."""
    assert spec.weights is not None
    return spec.weights


def files_of(weights: WeightsSpec, run: int) -> dict[str, str]:
    """Place -> digest of the files of a member."""
    member = weights.members[run]
    return {WEIGHTS: member.weights} | {f"snapshots/{i}": digest for i, digest in enumerate(member.snapshots)}


def plan(draft: Draft) -> None:
    weights = weights_of(draft.spec)
    for r in draft.runs if len(weights.members) == draft.spec.ensemble.runs else ():  # else `check` refuses it
        checked = draft.n.test if weights.members[r].accuracy else 0
        work = Work(predicted=checked, other=0.1 * (1 + len(weights.epochs)))
        draft.add("train", f"{r}", {"run": r, GIVEN: files_of(weights, r)}, work)


def parts(task: Task) -> Json:
    part, run, weights = keyed(task.spec), task.params["run"], weights_of(task.spec)
    return {
        "data": part["data"], "network": part["network"], "keys": weights.keys, "epochs": list(weights.epochs),
        "window": weights.window, "given": keyed(weights.members[run]), "is_copy": weights.is_copy(run),
    }  # fmt: skip


def take(context: Context) -> None:
    """What a training would leave of a run: its checkpoints and snapshots, and which tensor went where."""
    spec, run = context.spec, context.params["run"]
    weights = weights_of(spec)
    network, keys, places = context.network(), Keys(weights.keys), context.params[GIVEN]
    kept: dict[str, str] = {}
    told: Fit | None = None
    for done, (place, digest) in enumerate(sorted(places.items(), key=lambda one: one[0] == WEIGHTS)):  # it stays
        told = place_file(network, context.artifacts.path(digest), keys)
        kept[place] = _keep(context, network)
        context.control.progress(done + 1, len(places))
        context.control.check()
    assert told is not None
    member = weights.members[run]
    if member.accuracy is not None:
        check_accuracy(context, network, member.accuracy)
    failed = _failed(network, weights, run)
    context.output.runs = {run: TrainedRun({}, failed or None)}
    context.output.extra = {
        "checkpoints": [
            *({"epoch": epoch, "step": 0, "weights": kept[f"snapshots/{i}"]} for i, epoch in enumerate(weights.epochs)),
            {"epoch": None, "step": 0, "weights": kept[WEIGHTS]},
        ],
        "snapshots": [{"step": 0, "weights": kept[f"snapshots/{i}"]} for i in weights.gaussian()],
        "architecture": spec.network.architecture,
        "keys": {
            "how": told.keys, "pairs": told.table(), "left_out": list(told.left_out), "untouched": list(told.untouched)
        },
    }  # fmt: skip
    if failed:
        context.output.extra["failed"] = failed


def _keep(context: Context, network: nn.Module) -> str:
    from modescape.science import weights

    info = context.artifacts.put_tensors(weights.tensors(network), "weights")
    context.output.artifacts.append(info)
    return info.digest


def _failed(network: nn.Module, weights: WeightsSpec, run: int) -> str:
    """Why a member counts nowhere; "" where it does."""
    from modescape.science.weights import flatten

    if weights.is_copy(run):
        return "its file is an earlier member's, and one function given twice is one function"
    return "" if finite(flatten(network)) else "its weights are not all finite numbers"


# --- into the network -------------------------------------------------------------------------------------------------


def place_file(network: nn.Module, path: Path, keys: Keys) -> Fit:
    """Put a file's tensors into the network. Raises InvalidInput with what is missing, left over or misshapen."""
    tensors, order = read_tensors(path)
    state = network.state_dict()
    wanted = [Slot(name, tuple(value.shape)) for name, value in state.items()]
    given = [Slot(name, tuple(tensors[name].shape)) for name in order]
    try:
        found = fit(keys, wanted, given)
    except InvalidInput as error:
        other = _of_another(wanted, given)
        if other is None:
            raise
        raise InvalidInput(f"{other.message}; {error.message}", problems=[other, *error.problems]) from error
    for place, name in found.pairs:
        if state[place].is_floating_point() and not tensors[name].is_floating_point():
            raise InvalidInput(
                f"{name} holds {str(tensors[name].dtype).removeprefix('torch.')}, as quantised weights do, whose scale "
                "is not known here", field="weights", allowed="floating point: float32, bfloat16, float16, ...",
            )  # fmt: skip
    placed = {place: tensors[name].reshape(state[place].shape).to(state[place].dtype) for place, name in found.pairs}
    network.load_state_dict({**state, **placed})
    return found


def _of_another(wanted: Sequence[Slot], given: Sequence[Slot]) -> Problem | None:
    """What is to be said where a file that does not fit is of a network that is known by another name."""
    is_it = without_prefixes(wanted).keys() == without_prefixes(given).keys()
    if is_it or not (model := resembling(given)):
        return None
    said = f"--architecture torchvision --options '{json.dumps({'model': model})}'"
    message = f"the file's tensors are named as those of {model} of torchvision, which is {said}"
    return Problem(message, "architecture", f"torchvision with the option model: {model}")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Sequence[str]]:
    """The tensors of a .safetensors file, and their names in the order of the network that they came from, as far as
    the file says. Raises InvalidInput where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            order = _order((file.metadata() or {}).get(ORDER, "[]"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} cannot be read ({error})", field="weights", allowed=".safetensors") from error
    return tensors, order if sorted(order) == sorted(tensors) else list(tensors)


def _order(text: str) -> list[str]:
    """The names that a file states; others may mean anything by that word."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


# --- the stated accuracy ----------------------------------------------------------------------------------------------


def check_accuracy(context: Context, network: nn.Module, stated: str) -> None:
    """Raises StageError where the network's accuracy on the test images is another than was stated, with what may be
    the reason."""
    right = _right(context, network, context.splits, None)
    images = len(context.splits.test)
    if is_met(stated, right, images):
        return
    better = _suspects(context, network, stated)
    found = f"its accuracy on {images:,} test images is {right / images:.4f}, and {stated} was stated"
    if better:
        raise StageError(f"{found}. Its pixels were scaled otherwise: with the inputs {' or '.join(better)} it is met")
    raise StageError(
        f"{found}. No input scale that is known here meets it (the next suspects: another order of the tensors with "
        "keys: by-order, another order of the classes, other test images, options of the network)"
    )


def _suspects(context: Context, network: nn.Module, stated: str) -> list[str]:
    """Input scales with which the stated accuracy is met. Those far from it on a part of the images are left."""
    target, met = share(stated), []
    for name, inputs in others(context.spec, context.splits.shape.channels):
        context.control.check()
        splits = replace(context.splits, transform=transform_of(inputs, context.splits.train))
        seen = min(PROBED, len(splits.test))
        near = abs(_right(context, network, splits, seen) / seen - target) <= NEAR
        if near and is_met(stated, _right(context, network, splits, None), len(splits.test)):
            met.append(name)
    return met


def others(spec: ExperimentSpec, channels: int) -> Iterator[tuple[str, Inputs]]:
    """Every input scale that is known but the spec's own, by the name `inputs` has for it."""
    own = inputs_of(spec.data)
    orders = ("rgb", "bgr") if channels > 1 else ("rgb",)
    for order in orders:
        behind = "" if order == "rgb" else "+bgr"
        for kind in ("unit", "raw255", "standardised", "pixel-mean", "symmetric"):
            if (inputs := Inputs(kind, order=order)) != own:  # type: ignore[arg-type]
                yield f"{kind}{behind}", inputs
        for name, (mean, deviation) in NORMALISATIONS.items():
            inputs = Inputs("mean-std", mean, deviation, order)  # type: ignore[arg-type]
            if len(mean) in (1, channels) and inputs != own:
                yield f"{name}{behind}", inputs


def _right(context: Context, network: nn.Module, splits: Splits, limit: int | None) -> int:
    from modescape.science.predictions import predict

    test = splits.test if limit is None else splits.test.take(limit)
    logits = predict(network, test, splits.transform, device=context.device, check=context.control.check)
    return int(np.sum(logits.argmax(-1) == test.numpy_labels()))
