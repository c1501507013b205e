"""How large networks are whose declaration does not say it: counted of the network itself, on torch's meta device,
where tensors have shapes and no values.

    count("timm", (3, 32, 32, 10), options)        # Count(parameters=5_526_346, multiply_adds=..., ...)

A process that loads torch counts. A server does not: it knows what workers have counted (`know`), and what it was asked
and did not know is `wanted`, for a worker to count (see `kept_counts`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from modescape.errors import InvalidInput
from modescape.registry import Architecture, architectures

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int, int]  # channels, height, width, classes
Json = dict[str, Any]

USUAL: Shape = (3, 64, 64, 10)  # where only the kinds of layers are asked for, which no image decides


@dataclass(frozen=True)
class Count:
    """parameters; multiply_adds of one image's forward pass; whether there is batch norm, and a layer of dropout;
    refused: why no such network can be built for such images, "" where it can."""

    parameters: int
    multiply_adds: int
    batch_norm: bool
    dropout: bool
    refused: str = ""


@dataclass(frozen=True)
class Question:
    """Which network, for which images: what a worker is asked to count."""

    architecture: str
    shape: Shape
    options: Json

    @property
    def key(self) -> str:
        """Names the answer: other code of the network, or other libraries, may have another one."""
        entry = architectures[self.architecture]
        code = entry.brought.digest if entry.brought is not None else [_version("timm"), _version("torchvision")]
        text = json.dumps([self.architecture, code, self.shape, self.options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_known: dict[str, Count] = {}
_wanted: dict[str, Question] = {}


def parameters(name: str, *about: Any) -> int:
    """Of the network `(channels, height, width, classes, options)`; 0 where that is not known here."""
    found = count(name, about[:4], about[4])
    return found.parameters if found is not None else 0


def multiply_adds(name: str, *about: Any) -> int:
    found = count(name, about[:4], about[4])
    return found.multiply_adds if found is not None else 0


def batch_norm(name: str, options: Any) -> bool:
    """False where it is not known here."""
    found = count(name, USUAL, options)
    return found is not None and found.batch_norm


def count(name: str, shape: Shape, options: Any) -> Count | None:
    """None where this process neither can count nor knows; it is then `wanted`."""
    question = Question(name, shape, options.model_dump(mode="json"))
    key = question.key
    if key not in _known:
        try:
            import torch  # noqa: F401  # refused in a server
        except ImportError:
            _wanted[key] = question
            return None
        if not architectures[name].loaded:
            return None
        _known[key] = counted(architectures[name], shape, options)
    return _known[key]


def wanted() -> dict[str, Question]:
    """What was asked and is not known, by key."""
    return {key: question for key, question in _wanted.items() if key not in _known}


def know(counts: Mapping[str, Count]) -> None:
    """Take over what workers have counted."""
    _known.update(counts)
    for key in counts:
        _wanted.pop(key, None)


def how_many_known() -> int:
    """Answers of workers that were taken over: what was reckoned from fewer of them may be another now."""
    return len(_known)


def counted(entry: Architecture, shape: Shape, options: Any) -> Count:
    """Build the network without values and let one image through it; no random number of anybody's changes."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from modescape.science import weights
    from modescape.science.networks import dropout_layers

    found = Count(0, 0, False, False, "it cannot be built")
    with torch.random.fork_rng(devices=[]):
        for device in ("meta", "cpu"):  # in memory where its code looks at values
            try:
                with torch.device(device):
                    module: nn.Module = entry.call(*shape, options)
                many = sum(one.numel() for one in module.parameters())
                found = Count(many, 0, weights.has_batch_norm(module), bool(dropout_layers(module)), "it cannot be run")
                image = torch.zeros(1, *shape[:3], device=device)
                with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                    logits = module.eval()(image)
                break
            except InvalidInput as error:
                return replace(found, refused=error.message)
            except Exception as error:  # its own code, or a library's
                found = replace(found, refused=_why(error))
                if not _is_of_the_device(error):
                    return found
        else:
            return found
    if tuple(logits.shape) != (1, shape[3]):
        return replace(found, refused=f"it gives {tuple(logits.shape)} for one image, not (1, {shape[3]})")
    return replace(found, multiply_adds=counter.get_total_flops() // 2, refused="")


def _is_of_the_device(error: Exception) -> bool:
    """Whether it complains of tensors without values, and not of the images."""
    return isinstance(error, NotImplementedError) or any(word in str(error) for word in ("meta", "device"))


def _why(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def as_json(count: Count) -> Json:
    return asdict(count)
