"""Where real data are, that are not the project's own: beside it in `shared/data`, or where MODESCAPE_SHARED says."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("MODESCAPE_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def real(name: str) -> Path:
    """A folder or file of it; where there is none, the test says loudly that it did not run."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"REAL DATA ABSENT, NOT CHECKED: {path} is not there; set MODESCAPE_SHARED to the folder of data/")
    return path


@cache
def mnist_test() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [10000, 784] and int64 [10000]."""
    images = gzip.decompress((real("mnist") / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((real("mnist") / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784), np.frombuffer(
        labels, np.uint8, offset=8
    ).astype(int)


@cache
def mnist_logits() -> np.ndarray:
    """[10, 10000, 10] float32: what ten published networks 784-200-200-200-10 say of the MNIST test images."""
    images, _ = mnist_test()
    return np.stack([_mlp(real("real/mnist-mlp200-ensemble") / f"member-{i}.safetensors", images) for i in range(10)])


def _mlp(path: Path, images: np.ndarray) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        w = {key: file.get_tensor(key).astype(np.float64) for key in file.keys()}  # noqa: SIM118 (no mapping)
        assert (file.metadata() or {})["input"] == "pixels/255, flattened"
    x = images / 255
    for linear, norm in ((0, 1), (3, 4), (6, 7)):
        x = x @ w[f"net.{linear}.weight"].T + w[f"net.{linear}.bias"]
        x = (x - w[f"net.{norm}.running_mean"]) / np.sqrt(w[f"net.{norm}.running_var"] + 1e-5)
        x = np.maximum(x * w[f"net.{norm}.weight"] + w[f"net.{norm}.bias"], 0)
    return (x @ w["net.9.weight"].T + w["net.9.bias"]).astype(np.float32)
