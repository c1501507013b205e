"""Specs as people write them: the name of a preset, or a file of JSON or YAML.

    read("rates.yaml").document          # what it says
    read("quickstart").preset            # "quickstart"

YAML is read as version 1.2 has it, which editors check files by: `1e-3` is a number, `no` and `2026-01-02` are texts.
A name that is there twice is refused, and so is what JSON cannot say, for that is what specs are kept as.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from modescape.errors import InvalidInput
from modescape.names import meant
from modescape.registry import presets

YAML_SUFFIXES = (".yaml", ".yml")
SCHEMA = "$schema"  # the field by which an editor knows what a JSON file is; it says nothing of an experiment


@dataclass(frozen=True)
class Written:
    """name: what an experiment of it is called, where nobody says otherwise; preset: its name, if it is one."""

    document: Any
    name: str
    preset: str | None = None


def read(source: str | Path) -> Written:
    """What a preset, a file, or `-` for standard input says. Raises InvalidInput."""
    if isinstance(source, str) and source in presets:
        return Written(presets[source].call(), source, source)
    path = Path(source)
    try:
        text = sys.stdin.read() if source == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{source} is neither a preset nor a file that can be read ({error.strerror})"
            + meant(f"{source}", presets),
            field="spec", allowed="a file of JSON or YAML, -, or one of " + ", ".join(presets),
        ) from None  # fmt: skip
    except UnicodeDecodeError:
        raise InvalidInput(f"{source} is not text", field="spec", allowed="a file of JSON or YAML") from None
    name = "experiment" if source == "-" else path.stem
    if path.suffix.lower() in YAML_SUFFIXES or (source == "-" and not text.lstrip().startswith("{")):
        return Written(_without_schema(from_yaml(text, f"{source}")), name)
    return Written(_without_schema(from_json(text, "spec", f"{source} ")), name)


DEEPEST = 64  # lists and objects inside each other; a spec has 6


def is_too_deep(document: object) -> bool:
    """Whether lists and objects are inside each other more than `DEEPEST` times: what goes through a document inner by
    inner must come to its end."""
    level: list[object] = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def from_json(text: str, field: str, name: str = "", *, allowed: str = "a JSON object") -> Any:
    """What a JSON text says. name: what messages call it, with a space. Raises InvalidInput naming `field`: also for
    half characters, for what is nested too deeply, and for NaN, which JSON does not have."""
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{name}is not JSON: {error}", field=field, allowed=allowed) from None
    if is_too_deep(found):
        raise InvalidInput(
            f"{name}is nested too deeply", field=field, allowed=f"at most {DEEPEST} lists and objects inside each other"
        )
    return found


def from_yaml(text: str, name: str = "it") -> Any:
    """What a YAML text says, as decoded JSON would. name: what messages call it. Raises InvalidInput."""
    try:
        document = yaml.load(text, _Loader)
        json.dumps(document, allow_nan=False)
        if is_too_deep(document):
            raise ValueError(f"more than {DEEPEST} lists and mappings inside each other")
    except yaml.YAMLError as error:
        raise InvalidInput(f"{name} is not YAML: {error}", field="spec", allowed="a YAML mapping") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{name} says what JSON cannot ({error})", field="spec", allowed="texts, numbers, true, false, null, lists "
            "and mappings",
        ) from None  # fmt: skip
    return document


def _without_schema(document: Any) -> Any:
    return {k: v for k, v in document.items() if k != SCHEMA} if isinstance(document, dict) else document


class _Loader(yaml.SafeLoader):
    """Plain scalars by the core schema of YAML 1.2.2 (section 10.3.2), and no name twice in a mapping."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the base's are those of YAML 1.1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.MarkedYAMLError(problem="a name that is no text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def construct_number(self, node: Any) -> int | float:
        text = self.construct_scalar(node)
        if node.tag.endswith(":int"):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)
