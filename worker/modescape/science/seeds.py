"""Every random stream of an experiment from one root seed, so that one stream can be held while another varies.

run_seeds(0, run=3, vary="batches").weights == run_seeds(0, run=0, vary="batches").weights
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import numpy as np

_VERSION = "modescape/1"  # raised if the derivation ever changes: old experiments keep their numbers


def _hash53(*parts: object) -> int:
    text = "|".join(str(part) for part in (_VERSION, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") >> 3


def stream_seed(root: int, stream: str, run: int) -> int:
    """First 53 bits of sha256("modescape/1|root|stream|run"): JSON and JavaScript keep such integers whole."""
    return _hash53(root, stream, run)


@dataclass(frozen=True)
class RunSeeds:
    """Seeds of one training: initial weights, order of examples, dropout masks, augmentation."""

    weights: int
    batches: int
    noise: int
    augmentation: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


Vary = Literal["both", "weights", "batches", "head"]  # head: with given weights, both of what is drawn still


def run_seeds(root: int, run: int, vary: Vary = "both") -> RunSeeds:
    """Seeds of run `run`. What does not vary takes run 0's seed.

    Dropout masks and augmentation go with the order of examples: the paper's "random training batches" (science g.1).
    """
    weights = run if vary in ("both", "weights", "head") else 0
    batches = run if vary in ("both", "batches", "head") else 0
    return _two_seeds(root, "", weights, batches)


STREAMS = (*(field.name for field in fields(RunSeeds)), "sampling")  # as tables show them


def streams(root: int, run: int, vary: Vary = "both") -> dict[str, int]:
    """Every seed of run `run`: those of its training, and that of the samples around its optimum."""
    return {**run_seeds(root, run, vary).as_dict(), "sampling": stream_seed(root, "sampling", run)}


@dataclass(frozen=True)
class Arm:
    """One training of a repetition of the seed study. combination: what differs between it and the base."""

    key: str
    combination: str
    other_weights: bool
    other_batches: bool


# The base first; then itself again, and what differs in initial weights, in the order of examples, and in both.
ARMS = (
    Arm("A", "base", False, False),
    Arm("same", "same", False, False),
    Arm("B", "weights", True, False),
    Arm("C", "batches", False, True),
    Arm("D", "both", True, True),
)


def arm_seeds(root: int, repetition: int, arm: Arm) -> RunSeeds:
    """Seeds of one training of the seed study (science g.2): every repetition has its own, whatever the learning rate.

    As in runs, dropout masks and augmentation go with the order of examples.
    """
    return _two_seeds(root, "seeds/", 2 * repetition + arm.other_weights, 2 * repetition + arm.other_batches)


def branch_seeds(root: int, repetition: int, side: int) -> RunSeeds:
    """Seeds of one branch of the instability study: an order of examples of its own, the same at every epoch it may
    branch off at; the weights are those of run 0, which is where it comes from."""
    own = _two_seeds(root, "instability/", 0, 2 * repetition + side)
    return replace(own, weights=stream_seed(root, "weights", 0))


def _two_seeds(root: int, place: str, weights: int, batches: int) -> RunSeeds:
    return RunSeeds(
        weights=stream_seed(root, f"{place}weights", weights),
        batches=stream_seed(root, f"{place}batches", batches),
        noise=stream_seed(root, f"{place}noise", batches),
        augmentation=stream_seed(root, f"{place}augmentation", batches),
    )


def chain_seeds(root: int, run: int, method: str) -> RunSeeds:
    """Seeds of the training that a method does for itself beside run `run`: none of them is a run's."""
    return _two_seeds(root, f"chain/{method}/", run, run)


def sample_rng(seed: int, method: str, sample_set: str, index: int, attempt: int) -> np.random.Generator:
    """The generator of one try at one sample: Philox keyed by what names it, equal on every device and machine."""
    key = np.array([_hash53(seed, method, sample_set), index * 2**20 + attempt], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
