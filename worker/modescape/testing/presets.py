"""What every preset keeps to: a spec as plain JSON that can be planned, and a picture for its card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from modescape.plan import prepare
from modescape.registry import Preset, presets
from modescape.testing.contract import SHARED, Checked, Contract, concerns, equal, expect, module_of

_SHAPES = ("g", "path", "circle", "ellipse", "rect", "line", "polyline", "polygon")
_COLOUR = re.compile(r"none|currentColor|var\(--[a-z0-9-]+\)")


@dataclass(frozen=True)
class Trial:
    entry: Preset

    @property
    def module(self) -> str:
        return module_of(self.entry.call)


PRESET: Contract[Trial] = Contract("preset", *SHARED)


@PRESET.rule
def _document(trial: Trial) -> None:
    """It gives a spec as plain JSON, another object at each call."""
    first = trial.entry.call()
    expect(isinstance(first, dict), f"It gives a {type(first).__name__}, expected is a dict.")
    equal("document, read from JSON,", json.loads(json.dumps(first, allow_nan=False)), first)
    second = trial.entry.call()  # kept alive, so that no identity is given twice
    shared = _objects(first) & _objects(second)
    expect(not shared, "Two calls share an object, so that changing one spec changes the next.")


@PRESET.rule
def _planned(trial: Trial) -> None:
    """Its spec is one that can be launched where its data are: every name is known, every value allowed, and stages
    follow from it."""
    prepared = prepare(trial.entry.call(), (), as_published=True)
    expect(prepared.plan.stages, "No stages follow from its spec.")


@PRESET.rule
def _twin(trial: Trial) -> None:
    """The short version of a preset names one that exists, and says in a sentence each what it does otherwise."""
    entry = trial.entry
    concerns(entry.twin_of)
    expect(entry.twin_of in presets, f"There is no preset {entry.twin_of!r} of which it could be the short version.")
    expect(entry.substitutions, f"It does not say what it does otherwise than {entry.twin_of!r}.")


@PRESET.rule
def _thumbnail(trial: Trial) -> None:
    """Its thumbnail is SVG of plain shapes, coloured by the page's own tokens."""
    try:
        drawn = ElementTree.fromstring(f"<svg>{trial.entry.thumbnail}</svg>")
    except ElementTree.ParseError as error:
        expect(False, f"Its thumbnail is not SVG: {error}.")
        return
    expect(len(drawn), "Its thumbnail is empty.")
    for shape in list(drawn.iter())[1:]:
        expect(shape.tag in _SHAPES, f"Its thumbnail has a <{shape.tag}>; expected is one of {', '.join(_SHAPES)}.")
        _plain(shape.tag, shape.attrib)


def _plain(tag: str, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        allowed = not re.match(r"style|href|on|.*\}", name)
        expect(allowed, f"<{tag}> of its thumbnail has {name!r}, which pages do not let through.")
        if name in ("fill", "stroke"):
            expect(_COLOUR.fullmatch(value), f"{name} {value!r} of its thumbnail is none of the page's tokens.")


def _objects(value: Any) -> set[int]:
    """Identities of everything in it that can be changed."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {id(value)} if isinstance(value, dict | list) else set()
    return own.union(*(_objects(one) for one in inner))


@PRESET.lists
def check_preset(entry: Preset | str) -> Checked:
    """Is this a preset as `modescape.presets.base` asks? Planned with its data as published, without torch.

    Raises ContractBroken with the first rule that does not hold.
    """
    entry = presets[entry] if isinstance(entry, str) else entry
    return PRESET.check(entry.name, Trial(entry))
