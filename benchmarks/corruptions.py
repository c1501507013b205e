"""How long do corruptions take, and are they as strong as those everybody else uses?

    python benchmarks/corruptions.py                      # seconds for 10,000 Fashion-MNIST images, all types
    python benchmarks/corruptions.py --images 2000 --rounds 3

Seconds are processor time of one core, the mean over intensities 1 to 5 (of `rounds` repetitions the fastest), so that
a busy machine disturbs them less. The promise is 18 types x 5 intensities x 10,000 images in 3 minutes on two cores,
which is 360 core-seconds.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install imagecorruptions-imaug scikit-learn
    PYTHONPATH=worker /tmp/reference/bin/python benchmarks/corruptions.py --reference tests/corruption_changes.json

measures the mean absolute change of 224x224 photographs by the package imagecorruptions-imaug (its constants are
ImageNet's), writes it down for `tests/test_corruptions.py`, and prints ours beside it (science j.5). The package needs
OpenCV and numba, which nothing else here does, hence a place of its own. It differs from the authors' programs in two
rows. Its elastic transform is another one (no affine map, other displacements), so that row is measured on the authors'
algorithm, done here with OpenCV and scikit-image. Its frost takes six photographs where the authors' random index
reaches five: it is held to five. Ours takes the same photographs in that comparison, and again its own textures.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.corruptions.corruption import INTENSITIES, VERSION, applicable, corrupt
from modescape.registry import corruptions

# A few random numbers decide the whole image, so these are drawn four times as often.
COARSE = ("motion_blur", "frost", "fog", "elastic_transform", "spatter")
FASHION = (Path("/usr/share/datasets/fashion-mnist"), Path.home() / ".local/share/modescape/data/fashion-mnist")
Pixels = NDArray[np.uint8]


def photographs() -> Pixels:
    """Eight pieces of scikit-learn's two photographs, uint8 [8, 3, 224, 224]."""
    from sklearn.datasets import load_sample_image

    pieces = []
    for name in ("china.jpg", "flower.jpg"):
        picture = Image.fromarray(load_sample_image(name)).resize((450, 300), Image.Resampling.BICUBIC)
        corners = ((0, 0), (226, 0), (0, 76), (226, 76))
        pieces += [np.asarray(picture.crop((x, y, x + 224, y + 224))) for x, y in corners]
    return np.ascontiguousarray(np.stack(pieces).transpose(0, 3, 1, 2))


def change(before: Pixels, after: Pixels) -> NDArray[np.float64]:
    """Mean absolute change of every image, in levels of 255: [n]."""
    difference: NDArray[np.float64] = np.abs(after.astype(np.float64) - before).mean(axis=(1, 2, 3))
    return difference


# -- speed ------------------------------------------------------------------------------------------------------------


def timing(images: int, rounds: int) -> None:
    from modescape.datasets.fashion_mnist import read_idx

    folder = next((folder for folder in FASHION if (folder / "t10k-images-idx3-ubyte.gz").exists()), None)
    if folder is None:
        sys.exit("Fashion-MNIST is not here: modescape data fetch fashion-mnist")
    pixels = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:images, None]
    print(f"{len(pixels)} images of 28x28, version {VERSION}; {platform.machine()}, numpy {np.__version__}")
    print(f"{'type':20}core-seconds an intensity")
    total = 0.0
    for name in applicable(1, 28, 28):
        seconds = min(_once(name, pixels) for _ in range(rounds))
        total += seconds
        print(f"{name:20}{seconds / 5:8.2f}")
    whole = total * 10_000 / len(pixels)
    print(f"{'all, 5 intensities':20}{total:8.1f}   for 10,000 images {whole:.0f} (promised: 360)")


def _once(name: str, pixels: Pixels) -> float:
    start = time.process_time()
    for intensity in INTENSITIES:
        corrupt(pixels, name, intensity, indices=np.arange(len(pixels)), dataset="fashion-mnist")
    return time.process_time() - start


# -- strength ---------------------------------------------------------------------------------------------------------


def reference(file: Path, repeats: int) -> None:
    import imagecorruptions

    photos = photographs()
    frost = Path(imagecorruptions.__file__).parent / "frost"
    np.random.seed(0)  # the package draws from numpy's global state
    found: dict[str, list[float]] = {}
    worst = 0.0
    for name, kind in corruptions.items():
        rounds = (4 * repeats if name in COARSE else repeats) if kind.is_random else 1
        found[name] = []
        for intensity in INTENSITIES:
            theirs = [
                change(photos, np.stack([_theirs(photo, name, intensity) for photo in photos])) for _ in range(rounds)
            ]
            found[name].append(round(float(np.mean(theirs)), 3))
            for textures in (frost, None) if name == "frost" else (None,):
                ours = [
                    change(photos, corrupt(photos, name, intensity, indices=np.arange(8) + 8 * repeat,
                                           dataset="photographs", frost_textures=textures))
                    for repeat in range(rounds)
                ]  # fmt: skip
                their, our = float(np.mean(theirs)), float(np.mean(ours))
                error = float(np.std(np.mean(ours, axis=1) - np.mean(theirs, axis=1)) / rounds**0.5)
                worst = max(worst, abs(our / their - 1))
                values = f"{their:9.2f}{our:9.2f}{100 * (our / their - 1):+8.1f} % ± {100 * error / their:.1f}"
                print(f"{name:20}{intensity}{values}{'' if textures is None else '  with its photographs'}", flush=True)
    print(f"largest difference {100 * worst:.1f} %")
    about = {
        "about": "Mean absolute change (levels of 255) of 224x224 photographs by type and intensity 1 to 5.",
        "package": f"imagecorruptions-imaug {version('imagecorruptions-imaug')}",
        "made by": "benchmarks/corruptions.py --reference",
        "repeats": repeats,
        "deviations": {
            "elastic_transform": "not the package's, which is another one, but the authors' by OpenCV and scikit-image",
            "frost": "the package's first five photographs, which is how far the authors' random index reaches",
        },
    }
    file.write_text(json.dumps({**about, "changes": found}, indent=1) + "\n")


def _theirs(photo: Pixels, name: str, intensity: int) -> Pixels:
    import imagecorruptions

    picture = np.ascontiguousarray(photo.transpose(1, 2, 0))
    if name == "elastic_transform":
        after = _authors_elastic(picture, *corruptions[name].constants["imagenet"][intensity - 1])
    elif name == "frost":
        after = _with_five(lambda: imagecorruptions.corruptions.frost(Image.fromarray(picture), intensity))
    else:
        more: dict[str, Any] = (
            {"seed": int(np.random.randint(2**31))} if name in ("glass_blur", "impulse_noise") else {}
        )
        after = imagecorruptions.corruptions.__dict__[name](Image.fromarray(picture), intensity, **more)
    return np.asarray(after).astype(np.uint8).transpose(2, 0, 1)


def _with_five(call: Callable[[], Pixels]) -> Pixels:
    """Its frost, drawing from five photographs instead of six."""
    draw = np.random.randint
    np.random.randint = lambda *given, **named: draw(5) if given == (6,) else draw(*given, **named)  # type: ignore[assignment]
    try:
        return call()
    finally:
        np.random.randint = draw


def _authors_elastic(picture: Pixels, alpha: float, sigma: float, jitter: float) -> Pixels:
    """The random affine map and the smooth displacements of the ImageNet-C program, by the libraries it uses."""
    import cv2
    from scipy.ndimage import map_coordinates
    from skimage.filters import gaussian

    side = len(picture)
    middle, reach = side // 2, side // 3
    corners = [[middle + reach, middle + reach], [middle + reach, middle - reach], [middle - reach, middle - reach]]
    points = np.array(corners, np.float32)
    moved = (points + np.random.uniform(-jitter, jitter, points.shape)).astype(np.float32)
    unit = picture.astype(np.float32) / 255
    matrix = cv2.getAffineTransform(points, moved)
    warped = cv2.warpAffine(unit, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    across, down = (
        alpha * gaussian(np.random.uniform(-1, 1, (side, side)), sigma, mode="reflect", truncate=3) for _ in range(2)
    )
    rows, columns = np.mgrid[:side, :side]
    places = [rows + down, columns + across]
    channels = [map_coordinates(warped[..., c], places, order=1, mode="reflect") for c in range(3)]
    return np.asarray(np.clip(np.stack(channels, axis=-1), 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--reference", type=Path, help="compare with imagecorruptions-imaug and write its numbers here")
    parser.add_argument("--repeats", type=int, default=8, help="random draws of each photograph in that comparison")
    chosen = parser.parse_args()
    if chosen.reference:
        reference(chosen.reference, chosen.repeats)
    else:
        timing(chosen.images, chosen.rounds)
