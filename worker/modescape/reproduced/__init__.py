"""What the paper's figures came out as on its own data, kept with the product: one JSON file a figure, made by
`make reproduce` and changed by nothing else.

    kept = reproduced()                    # by the paper's figure, "Fig 6": ...
    kept["Fig 6"].numbers["accuracy-small-cnn"].value

Whoever has not trained anything yet sees these beside the printed numbers, called what they are; own experiments take
their place. A file whose digest is not that of what it says is not shown.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from modescape.errors import DataCorrupt
from modescape.records import Json

FOLDER = Path(__file__).parent
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptNumber:
    """A printed number as it came out. of: what it is the mean of; sd: over those; differs: what is not as in the
    paper's setting."""

    value: float
    of: str
    sd: float | None
    differs: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One figure redone. shortened: in words what was cut, "" where nothing was; numerics: the arithmetic of its
    trainings; numbers: by the keys of `paper_numbers`; figures: their captions, sentences and tables."""

    key: str
    figure: str
    preset: str
    shortened: str
    date: str
    numerics: str
    machine: str
    runs: int
    numbers: Mapping[str, KeptNumber]
    figures: Mapping[str, Any]
    claims: tuple[Json, ...]
    digest: str

    @classmethod
    def from_json(cls, found: Json) -> Kept:
        """Raises DataCorrupt where somebody changed it by hand."""
        said = {name: value for name, value in found.items() if name != "sha256"}
        if digest_of(said) != found.get("sha256"):
            raise DataCorrupt(f"the numbers kept of {found.get('figure')} are not those that were computed")
        numbers = {key: KeptNumber(**one) for key, one in found["numbers"].items()}
        names = ("key", "figure", "preset", "shortened", "date", "numerics", "machine", "runs", "figures")
        return cls(
            **{name: found[name] for name in names}, numbers=numbers, claims=tuple(found["claims"]),
            digest=found["sha256"],
        )  # fmt: skip


def digest_of(said: Json) -> str:
    """SHA-256 of what a file says, without the digest itself."""
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def written(said: Json, folder: Path = FOLDER) -> Path:
    """Keep what a figure came out as."""
    path = folder / f"{said['key']}.json"
    path.write_text(json.dumps({**said, "sha256": digest_of(said)}, indent=1, ensure_ascii=False) + "\n")
    return path


@lru_cache(maxsize=4)
def reproduced(folder: Path = FOLDER) -> Mapping[str, Kept]:
    """By key, in the order of their names; what was changed by hand is left out, with a line in the log."""
    return dict(_read(folder))


def _read(folder: Path) -> Iterator[tuple[str, Kept]]:
    for path in sorted(folder.glob("*.json")):
        try:
            kept = Kept.from_json(json.loads(path.read_text()))
        except DataCorrupt as error:
            log.warning("%s is left out: %s", path.name, error)
            continue
        yield kept.key, kept
