"""Weights that runs begin with instead of random ones: a safetensors file, or weights that this home keeps.

    spec = looked_at(spec)                                   # when an experiment is created: what the file holds
    put(network, read(training, artifacts), fresh_head=True)      # a worker, for every run

Tensors go by the network's own names, exactly. The head, its last layer, is fresh where runs are to differ in it, and
where the file's has other classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modescape.artifacts import Artifacts
from modescape.errors import ArtifactMissing, InvalidInput
from modescape.names import some
from modescape.own_files import read_apart
from modescape.spec import ExperimentSpec
from modescape.spec_parts import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

_FIELD = "training.initial_weights"
_DIGEST = re.compile("[0-9a-f]{64}")
_ALLOWED = "a .safetensors file on this machine, or the digest of weights that this home keeps"


def is_digest(given: str) -> bool:
    return _DIGEST.fullmatch(given) is not None


def looked_at(spec: ExperimentSpec) -> ExperimentSpec:
    """The spec with the digest of its initial weights. Raises InvalidInput where there is no such file."""
    given = spec.training.initial_weights
    if given is None:
        return spec
    digest = given if is_digest(given) else _digest_of_file(given)
    return spec.model_copy(update={"training": spec.training.model_copy(update={"initial_digest": digest})})


@read_apart(lambda given: [given], field=_FIELD)
def _digest_of_file(given: str) -> str:
    """Raises InvalidInput where there is no such file, or it is another kind of file."""
    return _digest_of(_file(given))


def _file(given: str) -> Path:
    """The file, which begins as one of safetensors does."""
    from safetensors import SafetensorError, safe_open

    path = Path(given).expanduser()
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_there = False
    if not is_there:
        raise InvalidInput(f"there is no file {given[:200]!r}", field=_FIELD, allowed=_ALLOWED)
    try:
        with safe_open(path, framework="numpy"):
            return path
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidInput(f"{given[:200]!r} cannot be read: {error}", field=_FIELD, allowed=_ALLOWED) from None


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(training: TrainingSpec, artifacts: Artifacts) -> dict[str, Tensor]:
    """The tensors by name. Raises InvalidInput where they are gone, or others than when the experiment was created."""
    from safetensors.torch import load_file

    given = training.initial_weights
    assert given is not None
    if is_digest(given):
        try:
            return load_file(artifacts.path(given))
        except ArtifactMissing as missing:
            raise InvalidInput(str(missing), field=_FIELD, allowed=_ALLOWED) from None
    path = _file(given)
    if training.initial_digest not in (None, _digest_of(path)):
        raise InvalidInput(
            f"{given[:200]!r} holds other bytes than when the experiment was created", field=_FIELD,
            allowed="the same file, or a new experiment",
        )  # fmt: skip
    return load_file(path)


def head_of(network: nn.Module) -> frozenset[str]:
    """Names of the tensors of the head: of the last module that has tensors of its own."""
    layers = [(name, [*own.named_parameters(recurse=False)]) for name, own in network.named_modules()]
    name, tensors = [(name, own) for name, own in layers if own][-1]
    return frozenset(f"{name}.{own}" if name else own for own, _ in tensors)


def put(network: nn.Module, given: Mapping[str, Tensor], *, fresh_head: bool) -> tuple[str, ...]:
    """Let the network begin with these tensors; names of those that stay as they were drawn: none, or its head.

    Raises InvalidInput naming tensors that are missing, too many or of another shape.
    """
    import torch

    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    head = head_of(network)
    fits = all(name in given and given[name].shape == own[name].shape for name in head)
    fresh = head if fresh_head or not fits else frozenset[str]()
    missing = [name for name in own if name not in given and name not in fresh]
    strange = [name for name in given if name not in own]
    other = [
        f"{name} of shape {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and name not in fresh and given[name].shape != own[name].shape
    ]
    said = [("without", missing), ("with further", strange), ("with", other)]
    if problems := [f"{how} {some(names)}" for how, names in said if names]:
        raise InvalidInput(
            f"the file is another network's: {'; '.join(problems)}", field=_FIELD,
            allowed="tensors by the network's own names, all of them but its head's",
        )  # fmt: skip
    with torch.no_grad():
        for name in own.keys() - fresh:
            own[name].copy_(given[name])
    return tuple(sorted(fresh))


def shared_start(spec: ExperimentSpec) -> str:
    """What runs that began with the same weights say of each other, as half a sentence; "" of runs that did not."""
    if spec.training.initial_weights is None:
        return ""
    what = "a head and an order of examples of its own" if spec.ensemble.vary == "head" else "its own order of examples"
    return (
        f"all runs began with the same weights, each with {what}: they are fine-tunings of one start, not independent "
        "optima"
    )
