"""What storing and scaling does to images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.corruptions.corruption import DIGITAL, Batch, Floats, Pixels, corruption
from modescape.corruptions.filters import sampled, smoothed


@corruption("contrast", title="Contrast", family=DIGITAL, place=120, small=True, is_random=False,
             cifar=(0.75, 0.5, 0.4, 0.3, 0.15), imagenet=(0.4, 0.3, 0.2, 0.1, 0.05))  # fmt: skip
def _contrast(batch: Batch, factor: float) -> Floats:
    """Paler: values move towards the mean of their channel over the image."""
    n, channels, height, width = batch.pixels.shape
    total = batch.pixels.reshape(n, channels, -1).sum(axis=2, dtype=np.int64)[:, :, None, None]
    mean = (total / (255.0 * height * width)).astype(np.float32)
    return cast(Floats, (batch.x - mean) * np.float32(factor) + mean)


@corruption("elastic_transform", title="Elastic transform", family=DIGITAL, place=130,
             cifar=((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
             imagenet=((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88),
                       (29.28, 2.44, 4.88)))  # fmt: skip
def _elastic_transform(batch: Batch, alpha: float, sigma: float, jitter: float) -> Floats:
    """Stretched: a random affine map, then smooth random displacements.

    Coordinates are exact where the authors' library rounds those of the affine map to 1/32 of a pixel.
    """
    height, width = batch.size
    alpha, sigma, jitter = (length * batch.scale for length in (alpha, sigma, jitter))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warped = sampled(batch.x, *_affine(batch.draws.uniform(-jitter, jitter, 3, 2), rows, columns), "mirror")
    if alpha == 0:
        return warped
    noise = batch.draws.uniform(-1, 1, 2, height, width)
    shift = smoothed(noise, sigma, "reflect", truncate=3.0) * np.float32(alpha)
    return sampled(warped, rows + shift[:, 1], columns + shift[:, 0], "reflect")


def _affine(jitter: Floats, rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Where the affine map that moves three points by jitter [n, 3, (x, y)] reads each pixel: rows, columns [n, H, W].

    The points are (+s, +s), (+s, -s) and (-s, -s) from the middle, s a third of the shorter side. A pixel is
    p + a u + b v in the moved triangle (p the second point, u and v its edges) and reads the same (a, b) of the first.
    """
    height, width = rows.shape
    s = min(height, width) // 3
    middle = np.array([width // 2, height // 2], np.float64)
    points = middle + s * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + jitter
    p, u, v = moved[:, 1], moved[:, 0] - moved[:, 1], moved[:, 1] - moved[:, 2]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    def linear(of_x: NDArray[np.float64], of_y: NDArray[np.float64]) -> Floats:
        constant = -(of_x * p[:, 0] + of_y * p[:, 1])
        terms = (coefficient.astype(np.float32)[:, None, None] for coefficient in (of_x, of_y, constant))
        across, down, first = terms
        return across * columns + down * rows + first

    a = linear(v[:, 1] / area, -v[:, 0] / area)
    b = linear(-u[:, 1] / area, u[:, 0] / area)
    side = np.float32(2 * s)
    return a * side + np.float32(points[1, 1]), b * side + np.float32(points[1, 0])


def _pictures(pixels: Pixels) -> Iterator[Image.Image]:
    """Every image as Pillow sees it: in colour, or grey, one for each channel."""
    if pixels.shape[1] == 3:
        yield from (Image.fromarray(image) for image in np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    else:
        yield from (Image.fromarray(image) for image in pixels.reshape(-1, *pixels.shape[2:]))


def _from_pictures(pictures: Iterator[Image.Image], like: Pixels) -> Pixels:
    n, channels, height, width = like.shape
    stacked = np.stack([np.asarray(picture) for picture in pictures])
    if channels == 3:
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    return stacked.reshape(n, channels, height, width)


@corruption("pixelate", title="Pixelate", family=DIGITAL, place=140, small=True, is_random=False,
             cifar=(0.95, 0.9, 0.85, 0.75, 0.65), imagenet=(0.6, 0.5, 0.4, 0.3, 0.25))  # fmt: skip
def _pixelate(batch: Batch, share: float) -> Pixels:
    """Made smaller and larger again, so that pixels are coarser."""
    height, width = batch.size
    small = (max(1, int(width * share)), max(1, int(height * share)))
    box = Image.Resampling.BOX
    coarse = (picture.resize(small, box).resize((width, height), box) for picture in _pictures(batch.pixels))
    return _from_pictures(coarse, batch.pixels)


@corruption("jpeg_compression", title="JPEG compression", family=DIGITAL, place=150, is_random=False,
             cifar=(80, 65, 58, 50, 40), imagenet=(25, 18, 15, 10, 7))  # fmt: skip
def _jpeg_compression(batch: Batch, quality: float) -> Pixels:
    """Stored as JPEG of low quality, colours at half the resolution."""
    return _from_pictures((_as_jpeg(picture, int(quality)) for picture in _pictures(batch.pixels)), batch.pixels)


def _as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)
