"""Made-up spots, for tests and first steps."""

from __future__ import annotations

import numpy as np

from modescape.datasets.dataset import DataLocation, dataset
from modescape.science.data.raw import OwnTest, RawData
from modescape.spec_parts import DataSpec


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest:
    return OwnTest(blobs(location, spec).test_labels)


@dataset(
    "blobs", title="Blobs", source="made up here, for tests: one Gaussian blob per class at its own place",
    channels=1, height=8, width=8, classes=("a", "b", "c", "d"),
    train_total=400, test_total=200, validation_default=100,
    place=90, how_to_get="it is made up on the spot, nothing to fetch", own_test=_own_test,
)  # fmt: skip
def blobs(location: DataLocation, spec: DataSpec) -> RawData:
    """600 noisy spots, 8x8 pixels, 4 classes by the place of the spot; for tests and first steps, needs no files."""
    rng = np.random.Generator(np.random.Philox(20))
    labels = rng.permutation(np.arange(600) % 4)
    centre = np.array([(2, 2), (2, 5), (5, 2), (5, 5)])[labels] + rng.normal(0, 0.8, (600, 2))
    rows, columns = np.mgrid[:8, :8]
    distance = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    light = 180 * np.exp(-distance / 3) + rng.normal(30, 40, (600, 8, 8))
    images = np.rint(light.clip(0, 255)).astype(np.uint8)[:, None]
    return RawData(images[:400], labels[:400], images[400:], labels[400:], ("a", "b", "c", "d"))
