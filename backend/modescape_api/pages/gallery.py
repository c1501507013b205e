"""One test image under every type of corruption and every intensity, with the constants of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from modescape.corruptions.corruption import INTENSITIES, VERSION
from modescape.registry import Corruption, Family, corruptions
from modescape_api.http.site import Here
from modescape_api.pages.rendering import render
from modescape_api.resources.gallery import checked, choices, default_dataset, gap, scale, shown

router = APIRouter()


@dataclass(frozen=True)
class Row:
    """One type: its constants are those of the table in use, as text for each intensity."""

    type: Corruption
    constants: tuple[str, ...]


@router.get("/gallery")
def page(
    request: Request,
    here: Here,
    dataset: Annotated[str | None, Query(max_length=64)] = None,
    image: Annotated[int, Query()] = 0,
) -> Response:
    found = shown(here, dataset or default_dataset(here))
    number = checked(found, image)
    _, height, width = found.size
    rows = [
        Row(corruptions[name], tuple(_said(corruptions[name].constants[found.table][i - 1]) for i in INTENSITIES))
        for name in found.names
    ]
    families: dict[Family, list[Row]] = {}
    for row in rows:
        families.setdefault(row.type.family, []).append(row)
    return render(
        request,
        here,
        "gallery.html",
        shown=found,
        image=number,
        last=len(found.images) - 1,
        choices=choices(here),
        families=[{"title": family.title, "rows": rows} for family, rows in families.items()],
        absent=[kind for name, kind in corruptions.items() if name not in found.names],
        version=VERSION,
        cell=scale(height, width) * width,
        tall=scale(height, width) * height,
        gap=scale(height, width) * gap(height, width),
        smooth=scale(height, width) < 1,
        unusual=min(height, width) != {"cifar": 32, "imagenet": 224}[found.table],
    )


def _said(constants: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in constants)
