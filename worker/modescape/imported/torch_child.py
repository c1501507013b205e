"""The process that reads checkpoints of torch: `python -m modescape.imported.torch_child`, for `torch_files` alone.

It loads torch and forks for every line [source, target, bytes]. The fork limits itself before it opens the file, reads
it with `weights_only`, writes .safetensors and says in JSON what it did; that comes back as a text on one line, empty
where the fork came to its end before.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from modescape.imported.torch_files import ORDER

if TYPE_CHECKING:
    from torch import Tensor

# Where training loops keep weights, the likelier first; "" is the file itself. Any other place is taken where it is the
# only one.
PLACES = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "state", "ema",
    "model_ema", "state_dict_ema", "",
)  # fmt: skip
_MEMORY = 3 << 30  # bytes for torch itself
_PROCESSOR = 300  # seconds
_DEEPEST = 3  # keys above a state dict


def main() -> None:
    import safetensors.torch  # noqa: F401  with torch: every fork finds them here

    for line in sys.stdin:
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            _answer(writing, *json.loads(line))
        os.close(writing)
        with open(reading, encoding="utf-8") as answer:  # noqa: PTH123
            said = answer.read()
        _, status = os.waitpid(process, 0)
        print(json.dumps("" if status else said), flush=True)


def _answer(writing: int, source: str, target: str, size: int) -> NoReturn:
    """Say what became of a file, and end."""
    status = 1
    try:
        _limit(size)
        os.write(writing, json.dumps(_read(source, target)).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _read(source: str, target: str) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises what its pickles, archives and storages do
        return _refused(error)
    places = dict(_places(loaded, ()))
    place = next((one for one in PLACES if one in places), None)
    if place is None and len(places) != 1:
        keys = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else type(loaded).__name__
        if places:
            return {"refused": "several", "places": list(places)[:8]}
        return {"refused": "damaged", "why": f"no state dict is in it ({keys})"}
    place = next(iter(places)) if place is None else place
    inside = places[place]
    found = dict(_tensors(inside))
    if wrong := next((name for name, tensor in found.items() if tensor.is_complex() or tensor.is_meta), None):
        what = "complex numbers" if found[wrong].is_complex() else "no numbers (it was saved from the meta device)"
        return {"refused": "damaged", "why": f"its tensor {wrong!r} holds {what}"}
    tensors = {name: _plain(tensor) for name, tensor in found.items()}
    save_file(tensors, target, metadata={ORDER: json.dumps(list(tensors))})
    return {"inside": place, "left_out": [str(name) for name in inside if str(name) not in tensors][:20]}


def _limit(size: int) -> None:
    for what, most in (
        (resource.RLIMIT_DATA, _MEMORY + 4 * size),
        (resource.RLIMIT_CPU, _PROCESSOR),
        (resource.RLIMIT_FSIZE, 3 * size + (1 << 20)),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _refused(error: Exception) -> dict[str, Any]:
    import pickle

    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "nsupported" in text:
        why = next((line.strip() for line in text.splitlines() if "nsupported" in line), text)
        return {"refused": "pickle", "why": why.removeprefix("WeightsUnpickler error: ")[:200]}
    return {
        "refused": "damaged",
        "why": f"torch cannot read it ({text.splitlines()[0][:200] if text else 'no reason'})",
    }


def _places(loaded: object, at: tuple[str, ...]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """What holds tensors by name, and where it lies: "" is the file itself, "ema/module" below its key `ema`. The state
    of an optimiser goes by numbers, and is none."""
    if isinstance(loaded, Mapping) and len(at) <= _DEEPEST:
        if any(_tensors(loaded)):
            yield "/".join(at), loaded
        for key, inside in loaded.items():
            if isinstance(key, str):
                yield from _places(inside, (*at, key))


def _tensors(inside: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    import torch

    for name, value in inside.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_sparse:
            yield name, value


def _plain(tensor: Tensor) -> Tensor:
    """A copy of its own, for files share no storage; float32 of what NumPy does not have."""
    import torch

    odd = tensor.is_quantized or tensor.dtype is torch.bfloat16
    plain = (tensor.dequantize() if tensor.is_quantized else tensor.float()) if odd else tensor
    return plain.detach().clone(memory_format=torch.contiguous_format)


if __name__ == "__main__":
    main()
