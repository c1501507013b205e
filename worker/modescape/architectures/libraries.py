"""Networks of libraries, by the names these give them: what `timm` and `torchvision` have in common.

Names are read from the libraries' sources, so that a process that loads no torch knows them too. Nothing is downloaded:
weights are drawn anew from the run's seed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from modescape.errors import InvalidInput
from modescape.registry import Options

if TYPE_CHECKING:
    from torch import nn

_REGISTERED = re.compile(r"^@register_model\s*(?:\([^)]*\))?\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_ELSEWHERE = ("checkpoint_path", "cache_dir", "weights", "weights_backbone", "progress", "state_dict", "file", "url")
_LISTED = 5  # names that are suggested in place of one that is not known

Argument = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*=\S+$", max_length=120)]


@cache
def names_of(library: str) -> frozenset[str]:
    """The models that an installed library registers; none where it is not installed."""
    found = find_spec(library)
    if found is None or not found.submodule_search_locations:
        return frozenset()
    models = Path(found.submodule_search_locations[0]) / "models"
    return frozenset(name for file in models.glob("*.py") for name in _REGISTERED.findall(file.read_text("utf-8")))


class LibraryOptions(Options):
    """Which model, and how it is made to fit the images."""

    model: str
    image_size: int | None = Field(
        None, ge=8, le=1024, description="Side to which images are scaled before the network; empty: as they are."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="Share of features dropped in training by each of its dropout layers; a model that has none gets "
        "one before its last layer. Empty: the model's own.",
    )
    arguments: tuple[Argument, ...] = Field(
        (),
        max_length=24,
        description="Further arguments of the model, such as patch_size=4, depth=6; a list is written 2+2+6+2.",
    )

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_texts(cls, given: Any) -> Any:
        """An object of names and values is taken too."""
        if not isinstance(given, Mapping):
            return given
        return tuple(f"{name}={_written(value)}" for name, value in given.items())

    @field_validator("arguments")
    @classmethod
    def _from_nowhere(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """Weights come from the run's seed and from nowhere else: no file, no download."""
        for one in given:
            name = one.partition("=")[0]
            if name in _ELSEWHERE or "pretrained" in name:
                raise InvalidInput(
                    f"{name} would take weights, or settings, from elsewhere", allowed="arguments of the model's own "
                    "layers; runs that begin with a file say `training.initial_weights`",
                )  # fmt: skip
        return given

    @property
    def more(self) -> dict[str, Any]:
        """The arguments by name, with their values."""
        pairs = (one.partition("=") for one in self.arguments)
        return {name: _value(text) for name, _, text in pairs}


def known(library: str, name: str) -> str:
    """The name, if the library has such a model. Raises InvalidInput with those it resembles."""
    names = names_of(library)
    if names and name not in names:
        near = difflib.get_close_matches(name, sorted(names), _LISTED, 0.5)
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise InvalidInput(f"{library} has no model {name[:80]!r}{meant}", allowed=f"one of its {len(names)} models")
    return name


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(_written, value))
    return value if isinstance(value, str) else json.dumps(value)


def _value(text: str) -> Any:
    if "+" in text and not text.startswith("+"):
        return tuple(_value(part) for part in text.split("+"))
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


# -- a built model is made to fit -------------------------------------------------------------------------------------


def fitted(module: nn.Module, classes: int, options: LibraryOptions, *, scaled: bool) -> nn.Module:
    """The model with dropout layers of ours, which subspaces can switch, and images scaled before it if asked for."""
    from torch import nn

    from modescape.science.networks import Dropout, Scaled

    layers = list(_own_dropout(module))
    if options.dropout is not None and not layers:
        head = [one for one in module.modules() if isinstance(one, nn.Linear) and one.out_features == classes]
        if not head:
            raise InvalidInput("has no last linear layer before which features could be dropped", field="dropout")
        layers = [Dropout(0.0)]
        head[-1].add_module("dropout", layers[0])
        head[-1].register_forward_pre_hook(_dropped)
    for layer in layers:
        layer.rate = layer.rate if options.dropout is None else options.dropout
    if scaled and options.image_size is not None:
        module.register_forward_pre_hook(Scaled(options.image_size))
    return module


_INSIDE_ATTENTION = ("attn_drop", "attention_dropout")  # read as numbers by attention, never called


def _own_dropout(module: nn.Module) -> Any:
    """Put our layer in the place of every plain dropout layer of torch's."""
    from torch import nn

    from modescape.science.networks import Dropout

    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Dropout and name not in _INSIDE_ATTENTION:
                own = Dropout(layer.p)
                setattr(parent, name, own)
                yield own


def _dropped(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    dropout: Any = layer.dropout
    return (dropout(given[0]), *given[1:])


def refused(library: str, options: LibraryOptions, error: Exception) -> InvalidInput:
    """What a library's own complaint means for a spec."""
    why = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return InvalidInput(
        f"{library} cannot build {options.model} so: {why}", field="network.options",
        allowed="other arguments, another image_size, or another model",
    )  # fmt: skip
