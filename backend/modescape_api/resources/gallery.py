"""One test image under every type of corruption and every intensity, as experiments see it: byte for byte.

/gallery?dataset=fashion-mnist&image=7                                   the page
/api/gallery/fashion-mnist/7.png?corruption=fog&intensity=3              one picture
/api/gallery/fashion-mnist/7.png?corruption=fog                          intensities 0 to 5 in a row
"""

from __future__ import annotations

import hashlib
import io
import math
import threading
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from numpy.typing import NDArray
from PIL import Image

from modescape.corruptions.corruption import VERSION, applicable, corrupt, table_for
from modescape.errors import InvalidInput
from modescape.records import Json
from modescape.registry import Table, corruptions
from modescape.spec_parts import DataSpec
from modescape_api.http import problems, replies
from modescape_api.http.site import Here, Site
from modescape_api.resources import data

router = APIRouter(tags=["data"])

Pixels = NDArray[np.uint8]

_reading = threading.Lock()  # a set is read by one process at a time
_SHOWN = 112  # screen pixels a picture is wide, about


@dataclass(frozen=True)
class Shown:
    """Test images of a data set, the first hundred. seed: what names them in the random numbers of experiments; files:
    the file or row that each was, of a user's own set."""

    name: str
    title: str
    seed: str
    images: Pixels
    files: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def names(self) -> tuple[str, ...]:
        return applicable(*self.size)

    @property
    def table(self) -> Table:
        return table_for(*self.size[1:])

    def corrupted(self, image: int, name: str, intensity: int) -> Pixels:
        """uint8 [C, H, W]."""
        pixels = self.images[image : image + 1]
        if intensity > 0:
            indices = np.array([image])
            pixels = corrupt(pixels, name, intensity, indices=indices, dataset=self.seed)
        return pixels.reshape(self.size)


def choices(here: Site) -> list[Json]:
    """The data sets on this machine, public and registered, by name and title."""
    return [{"name": row["name"], "title": row["title"]} for row in data.known(here) if row["present"]]


def shown(here: Site, name: str) -> Shown:
    """The images of a data set. Raises InvalidInput (`dataset`), DataMissing, DataCorrupt."""
    from modescape.datasets.here import describe, own_names, seed_name
    from modescape.datasets.preview import preview

    row = next((row for row in data.known(here) if row["name"] == name), None)
    if row is None:
        allowed = ", ".join(choice["name"] for choice in choices(here))
        raise InvalidInput(f"there is no data set {name[:80]!r}", field="dataset", allowed=allowed)
    place = {"path": row["where"], "white": row.get("white_said")} if row["own"] else {}
    spec = DataSpec.model_validate({"dataset": row["dataset"], **place})
    folders = here.settings.data_folders
    info = describe(spec, folders)
    said = f"{info.fingerprint or spec.dataset}|{spec.path}" + (f"|{spec.white}" if spec.white else "")
    kept = hashlib.sha256(said.encode()).hexdigest()[:24]
    seed = seed_name(spec.model_copy(update={"fingerprint": info.fingerprint}))
    with _reading:
        images = preview(spec, folders, here.settings.home / "gallery" / f"{kept}.npy")
    files = own_names(spec, "test", len(images))
    return Shown(name, row["title"], seed, images, tuple(files))


def default_dataset(here: Site) -> str:
    """The first set whose pictures say something; digits of 8x8 pixels show little."""
    names = [choice["name"] for choice in choices(here)]
    return next((name for name in ("cifar10", "fashion-mnist") if name in names), names[0])


def checked(found: Shown, image: int) -> int:
    if not 0 <= image < len(found.images):
        raise InvalidInput(
            f"there is no image {image}", field="image", allowed=f"0 to {len(found.images) - 1}, the first test images"
        )
    return image


# -- pictures ---------------------------------------------------------------------------------------------------------


def scale(height: int, width: int) -> float:
    """Screen pixels for each of the image's: whole for small images, so that every pixel is a square."""
    factor = _SHOWN / max(height, width)
    return max(1, round(factor)) if factor >= 1 else factor


def gap(height: int, width: int) -> int:
    """The image's pixels between two pictures in a row."""
    return max(1, math.ceil(6 / scale(height, width)))


def png(pixels: Pixels) -> bytes:
    """uint8 [C, H, W] as a PNG; two channels are grey and how opaque, four are colour and how opaque."""
    channels = len(pixels)
    values = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def strip(found: Shown, image: int, name: str) -> Pixels:
    """Intensities 0 to 5 side by side, the gaps between them transparent: uint8 [C + 1, H, W]."""
    channels, height, width = found.size
    step = width + gap(height, width)
    row = np.zeros((channels + 1, height, 5 * step + width), np.uint8)
    for intensity in range(6):
        start = intensity * step
        row[:channels, :, start : start + width] = found.corrupted(image, name, intensity)
        row[channels, :, start : start + width] = 255
    return row


@router.get(
    "/api/gallery/{dataset}/{image}.png",
    summary="A test image, corrupted, as a PNG file",
    description="With `corruption` and `intensity` that picture; with `corruption` alone intensities 0 to 5 in a row, "
    "the gaps between them transparent; without both the clean image. The bytes are those an experiment on generated "
    "corruptions evaluates: random numbers depend on the data set, type, intensity and number of the image alone.",
    responses={
        200: {
            "description": "A PNG file of the image's own size",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems.documented("invalid-input", "data-missing", "data-corrupt"),
    },
)
def picture(
    request: Request,
    here: Here,
    dataset: Annotated[str, Path(max_length=64, description="A data set on this machine, by its name.")],
    image: Annotated[int, Path(ge=0, le=2**31 - 1, description="Its number among the first 100 test images.")],
    corruption: Annotated[str | None, Query(max_length=64, description="Type, such as fog.")] = None,
    intensity: Annotated[int | None, Query(ge=0, le=5, description="1 to 5; 0 is the clean image.")] = None,
) -> Response:
    found = shown(here, dataset)
    number = checked(found, image)
    if corruption is not None and corruption not in found.names:
        known = corruption in corruptions
        channels, height, width = found.size
        raise InvalidInput(
            f"{corruption!r} does not apply to images of {channels} channel{'s' * (channels > 1)}, {height}x{width}"
            if known
            else f"there is no corruption {corruption!r}",
            field="corruption",
            allowed=", ".join(found.names),
        )
    if corruption is None and intensity:
        raise InvalidInput(
            "an intensity needs a type of corruption", field="corruption", allowed=", ".join(found.names)
        )
    etag = replies.tag(VERSION, found.seed, found.images[number].tobytes(), corruption, intensity)
    headers = {"etag": etag, "cache-control": replies.REVALIDATE}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    if corruption is None:
        pixels = found.images[number]
    elif intensity is None:
        pixels = strip(found, number, corruption)
    else:
        pixels = found.corrupted(number, corruption, intensity)
    return Response(png(pixels), media_type="image/png", headers=headers)
