"""Frost on the window: photographs of it, or textures made up here."""

from __future__ import annotations

import hashlib
import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from modescape.corruptions.corruption import LUMA, VERSION, WEATHER, Batch, Floats, Pixels, corruption
from modescape.errors import InvalidInput
from modescape.registry import Table
from modescape.science.data.files import is_left_behind


@corruption("frost", title="Frost", family=WEATHER, place=90,
             cifar=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
             imagenet=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)))  # fmt: skip
def _frost(batch: Batch, image_weight: float, frost_weight: float) -> Floats:
    """Ice crystals on the window: a piece of one of five textures is laid over the image."""
    n, channels, height, width = batch.pixels.shape
    textures = _textures(batch.frost_textures)
    chosen = batch.draws.integers(0, len(textures))
    place = batch.draws.uniform(0, 1, 2)
    ice = np.empty((n, channels, height, width), np.float32)
    for i in range(n):
        sheet = _sheet(*textures[chosen[i]], height, width, batch.table)
        top = int(place[i, 0] * (sheet.shape[0] - height))
        left = int(place[i, 1] * (sheet.shape[1] - width))
        piece = sheet[top : top + height, left : left + width]
        ice[i] = piece.transpose(2, 0, 1) if batch.in_colour else piece @ LUMA
    ice *= np.float32(frost_weight / 255)
    return batch.x * np.float32(image_weight) + ice


@lru_cache(maxsize=16)
def _sheet(texture: Path | int, changed: int, height: int, width: int, table: Table) -> Pixels:
    """The texture as pieces are cut from it: CIFAR's constants take every fifth pixel, which is what shrinking to a
    fifth with bilinear interpolation comes to; enlarged if the images are larger. changed: the time of a photograph,
    so that another one of its name is read."""
    whole = procedural_frost(texture) if isinstance(texture, int) else _photograph(texture)
    sheet = whole[2::5, 2::5] if table == "cifar" else whole
    factor = max((height + 1) / sheet.shape[0], (width + 1) / sheet.shape[1])
    if factor > 1:
        size = (math.ceil(sheet.shape[1] * factor), math.ceil(sheet.shape[0] * factor))
        sheet = np.asarray(Image.fromarray(sheet).resize(size, Image.Resampling.BILINEAR))
    return sheet


Texture = tuple[Path | int, int]  # a photograph and its time in ns, or a number of our own and 0
_TEXTURES = 5  # the authors have six photographs, but their random index reaches five
_FROST_ALLOWED = "a folder of PNG or JPEG photographs of frost, or nothing for textures made up here"


def _textures(folder: Path | None) -> tuple[Texture, ...]:
    """The textures of frost: the first five pictures of a folder by name with their times, or the numbers of our own.

    Raises InvalidInput (field path) when the folder holds no pictures.
    """
    if folder is None:
        return tuple((number, 0) for number in range(len(_FROSTS)))
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in files if path.is_file() and not is_left_behind(path.name)]
    pictures = tuple(path for path in files if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not pictures:
        raise InvalidInput(f"there are no pictures in {str(folder)!r}", field="path", allowed=_FROST_ALLOWED)
    return tuple((picture, picture.stat().st_mtime_ns) for picture in pictures[:_TEXTURES])


def frost_fingerprint(folder: Path) -> str:
    """SHA-256 of the photographs that `corrupt` takes from a folder, their names and bytes.

    Raises InvalidInput (field path) when there are none, or one cannot be read.
    """
    return _fingerprint(_textures(folder))


@lru_cache(maxsize=4)
def _fingerprint(textures: tuple[Texture, ...]) -> str:
    digest = hashlib.sha256()
    for file, _ in textures:
        assert isinstance(file, Path)
        _photograph(file)
        digest.update(os.fsencode(file.name) + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _photograph(file: Path) -> Pixels:
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow raises what it pleases on damaged files
        raise InvalidInput(f"{file.name} cannot be read: {error}", field="path", allowed=_FROST_ALLOWED) from error


# Mean light, its standard deviation, and the tint of the authors' first five photographs, so that as much light is
# added; their pictures are not ours to give.
_FROSTS = (
    (0.51, 0.07, (0.30, 0.59, 0.65)),
    (0.80, 0.09, (0.79, 0.80, 0.84)),
    (0.80, 0.09, (0.79, 0.80, 0.84)),
    (0.59, 0.11, (0.54, 0.60, 0.65)),
    (0.48, 0.17, (0.44, 0.48, 0.53)),
)


@lru_cache(maxsize=len(_FROSTS))
def procedural_frost(number: int) -> Pixels:
    """A texture of 600x900 pixels made from its number: needles of ice in many directions on clouds of rime.

    Each layer is smooth noise far longer than wide, turned; where it passes through zero there is a sharp ridge, and
    crystals are the highest ridge of any direction.
    """
    mean, std, tint = _FROSTS[number]
    height, width = 600, 900
    rng = np.random.Generator(np.random.Philox(key=[VERSION, number]))

    def noise(rows: int, columns: int, angle: float = 0) -> Floats:
        """Smooth noise of about unit size, its cells `rows` by `columns` pixels, turned by `angle` degrees."""
        tall, wide = (1100, 1100) if angle else (height, width)  # turned, its diagonal must cover the sheet
        cells = rng.standard_normal((tall // rows + 2, wide // columns + 2)).astype(np.float32)
        layer = Image.fromarray(cells).resize((wide, tall), Image.Resampling.BICUBIC)
        if angle:
            layer = layer.rotate(angle, Image.Resampling.BILINEAR)
        top, left = (tall - height) // 2, (wide - width) // 2
        return np.asarray(layer, np.float32)[top : top + height, left : left + width]

    clouds = sum((noise(cell, cell) * (cell / 160) ** 0.8 for cell in (160, 60, 24, 9)), np.float32(0))
    crystals = np.zeros((height, width), np.float32)
    for angle in rng.uniform(1, 180, 7):
        where = np.clip(noise(70, 70) + 0.4, 0, 1)  # each direction grows in patches
        crystals = np.maximum(crystals, where * np.maximum(1 - np.abs(noise(7, 80, angle)) * 2, 0))
    light = clouds / clouds.std() * 0.5 + crystals / crystals.std() + noise(2, 2) * 0.3
    light = (light - light.mean()) / light.std()
    colour = np.array(tint, np.float32)
    rgb = (mean + std * light)[:, :, None] * (colour / (colour @ LUMA))
    levels: Pixels = np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
    return levels
