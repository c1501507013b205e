"""An experiment as one .zip: its spec and numbers, and of figures, arrays and weights what is asked for.

    sizes(laboratory, "quickstart")                           # bytes of each part, before anything is made
    pack(laboratory, "quickstart", [Part.FIGURES], Path("quickstart.zip"), print)

Files go into the archive as they lie, one after another, and no copy of them is made on the way.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from modescape.drawing import forms, pictures
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput, NoRoom, NotFound
from modescape.exporting import ensemble_of
from modescape.imported.writing import stream
from modescape.laboratory import Laboratory, artifacts_of, files_of
from modescape.registry import figures
from modescape.results import Results

_OFTEN = 0.7  # seconds between two words of how far it is
_BLOCK = 1 << 20
_OLD = (1980, 1, 1, 0, 0, 0)  # the first moment a zip knows: equal contents are equal bytes
_ROOM = 1.05  # for what the archive says of its files
_LEFT = 0.05  # of the disk, for those who work
Told = Callable[[int, int], None]  # bytes that are packed, of how many


class Part(StrEnum):
    """Of an archive; spec, solutions, runs and what each image is are in every one."""

    FIGURES = "figures"
    MATRICES = "matrices"
    PREDICTIONS = "predictions"
    WEIGHTS = "weights"
    ENSEMBLE = "ensemble"

    @property
    def words(self) -> str:
        return {
            Part.FIGURES: "every figure, as CSV, JSON, and SVG and PDF where those can be made",
            Part.MATRICES: "every matrix of two functions each, and every map",
            Part.PREDICTIONS: "predictions, and all arrays that are neither matrices nor weights",
            Part.WEIGHTS: "weights",
            Part.ENSEMBLE: "the ensemble in the format that import reads",
        }[self]


USUAL = (Part.FIGURES, Part.MATRICES, Part.PREDICTIONS, Part.WEIGHTS)
_OF_KIND = {"weights": Part.WEIGHTS, "matrix": Part.MATRICES}  # of an artifact; all others are predictions


def sizes(laboratory: Laboratory, reference: str) -> dict[Part, int]:
    """Bytes of each part; of figures, which are not made yet, about."""
    row = laboratory.store.experiments.get(reference)
    kinds = laboratory.store.parcels.sizes(row.id)
    drawn = 250_000 if pictures.missing() == "" else 60_000
    found = {Part.FIGURES: drawn * len(figures), Part.MATRICES: 0, Part.PREDICTIONS: 0, Part.WEIGHTS: 0}
    for kind, size in kinds.items():
        found[_OF_KIND.get(kind, Part.PREDICTIONS)] += size
    return {**found, Part.ENSEMBLE: sum(kinds.values())}


def checked(parts: Sequence[str]) -> list[Part]:
    """Raises InvalidInput."""
    unknown = [one for one in parts if one not in list(Part)]
    if unknown:
        raise InvalidInput(f"there is no part {unknown[0][:40]!r}", field="parts", allowed=", ".join(Part))
    return [one for one in Part if one in parts]


def pack(laboratory: Laboratory, reference: str, parts: Sequence[Part], to: Path, told: Told) -> int:
    """Write the archive; how many files are in it. What is not kept any more is left out, which its README says. told:
    is called now and then. Raises NotFound, and NoRoom where the disk would have less than 5 % left."""
    results = laboratory.results(reference)
    total = sum(size for part, size in sizes(laboratory, results.experiment.id).items() if part in parts)
    disk = shutil.disk_usage(to.parent)
    if disk.free - total * _ROOM < _LEFT * disk.total:
        raise NoRoom(
            f"the archive takes {total / 1e9:.1f} GB, and {disk.free / 1e9:.1f} GB are free in {to.parent}, where 5 % "
            "of the disk are left alone"
        )
    packing = _Packing(laboratory, results, parts, told, total)
    try:
        with zipfile.ZipFile(to, "w") as archive:
            packing.fill(archive)
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    return len(packing.sums) + 1


@dataclass
class _Packing:
    """sums: SHA-256 of every file that is packed, by its name."""

    laboratory: Laboratory
    results: Results
    parts: Sequence[Part]
    told: Told
    total: int
    sums: dict[str, str] = field(default_factory=dict)
    done: int = 0
    said_at: float = 0.0

    def fill(self, archive: zipfile.ZipFile) -> None:
        drawn, absent = self._figures() if Part.FIGURES in self.parts else ({}, [])
        kept, lost = artifacts_of(self.laboratory, self.results)
        for name, content in {**files_of(self.laboratory, self.results, absent, lost), **drawn}.items():
            self._put(archive, name, iter([content]), zipfile.ZIP_DEFLATED)
        for digest, kind in kept.items():
            if _OF_KIND.get(kind, Part.PREDICTIONS) in self.parts:
                path = self.laboratory.artifacts.path(digest)
                self._put(archive, f"artifacts/{path.name}", _blocks(path), zipfile.ZIP_STORED)
        if Part.ENSEMBLE in self.parts:
            with suppress(NotFound, *[InvalidInput] * bool(lost)):  # no predictions yet, or it lacks what is lost
                self._put(archive, "ensemble.zip", stream(ensemble_of(self.results)), zipfile.ZIP_STORED)
        lines = "".join(f"{digest}  {name}\n" for name, digest in self.sums.items())
        archive.writestr(zipfile.ZipInfo("SHA256SUMS", _OLD), lines)

    def _put(self, archive: zipfile.ZipFile, name: str, blocks: Iterator[bytes], how: int) -> None:
        about, digest = zipfile.ZipInfo(name, _OLD), hashlib.sha256()
        about.compress_type = how
        with archive.open(about, "w", force_zip64=True) as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
                self.done += len(block)
                if time.monotonic() - self.said_at > _OFTEN:
                    self.said_at = time.monotonic()
                    self.told(self.done, max(self.total, self.done))
        self.sums[name] = digest.hexdigest()

    def _figures(self) -> tuple[dict[str, bytes], list[str]]:
        """Every figure that can be drawn, and why others cannot."""
        row, found, absent = self.results.experiment, {}, []
        homes: list[forms.Home] = []
        for name, figure in figures.items():
            options = figure.options()
            assert isinstance(options, FigureOptions)
            try:
                data = figure.call(self.results, options.of(self.results))
            except FigureNotReady as waiting:
                absent.append(f"{name}: {waiting}")
                continue
            home = forms.Home(figure, data, row.name, row.slug)
            homes.append(home)
            for form in ("csv", "json"):
                found[f"figures/{name}.{form}"] = forms.made(home, forms.Asked(form))
        if pictures.missing() == "":
            wanted = [(home, form) for home in homes for form in ("svg", "pdf")]
            made = pictures.drawn_as([forms.picture(home, forms.Asked(form)) for home, form in wanted])
            for (home, form), content in zip(wanted, made, strict=True):
                found[f"figures/{home.figure.name}.{form}"] = content
        return found, absent


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
