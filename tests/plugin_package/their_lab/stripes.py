"""A data set that is made up: stripes that lie or stand, in noise."""

import numpy as np

from modescape.datasets.dataset import dataset
from modescape.science.data.raw import RawData

TRAIN, TEST = 240, 500


@dataset(
    "their-stripes", title="Their stripes", source="their lab", channels=1, height=8, width=8,
    classes=("lying", "standing"), train_total=TRAIN, test_total=TEST, validation_default=40,
)  # fmt: skip
def stripes(location, spec):
    """Noisy 8x8 pictures of stripes that lie or stand."""
    draw = np.random.default_rng(7)
    labels = draw.integers(0, 2, TRAIN + TEST)
    lying = np.where(np.arange(8) % 2, 200.0, 40.0)[:, None] * np.ones((1, 8))
    images = np.where(labels[:, None, None], lying.T, lying) + draw.normal(0, 60, (TRAIN + TEST, 8, 8))
    images = images.clip(0, 255).astype(np.uint8)[:, None]
    return RawData(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:], ("lying", "standing"))
