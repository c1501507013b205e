"""What kind of numbers are these, and what of them does the laboratory keep?

    looks_like(block)                   # OutputKind.PROBS: nothing below 0, and every row sums to 1
    logits_of(OutputKind.PROBS, block)  # float32 log-probabilities, zeros at the smallest a float32 can be

numpy only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.imported.ensemble import OutputKind

Values = NDArray[Any]
Floats = NDArray[np.float64]

# Softmax in bfloat16 rounds each probability by up to 2^-9 of itself, so a row's sum by up to 2^-9; twice that is let
# pass. Float16's smallest step of 2^-24 adds up over classes.
_SUM = 2**-8
_STEP = 2**-24
# Two decimals round each probability by up to .005, so a row's sum by up to that times K. Of what is from 0 to 1 and is
# off by no more, or by .02 whatever its decimals, in every row, it is asked whether it was rounded.
_ROUNDED, _NEARLY = 0.005, 0.02
_OF_A_STEP = 0.03  # that a number of two decimals may be off, in hundredths: float16 rounds to 2^-12
# The smallest positive number of each: what is 0 in it may have been anything up to half of this.
SMALLEST = {2: 2.0**-24, 4: 2.0**-149, 8: 2.0**-1074}


def smallest(dtype: np.dtype[Any]) -> float:
    """The probability that stands for 0 in numbers of that dtype."""
    return SMALLEST[dtype.itemsize]


def are_probabilities(rows: Values) -> bool:
    """Whether rows [n, K] are all at least 0 and sum to 1 to rounding, see `_SUM`."""
    if rows.size == 0 or not np.isfinite(rows).all() or float(rows.min()) < 0:
        return False
    sums = rows.sum(axis=-1, dtype=np.float64)
    return bool(np.abs(sums - 1).max() <= _SUM + rows.shape[-1] * _STEP)


def are_rounded_probabilities(rows: Values) -> bool:
    """Whether rows [n, K] are from 0 to 1 and sum to 1 as far as probabilities of two decimals do, see `_ROUNDED`."""
    if rows.size == 0 or not np.isfinite(rows).all() or float(rows.min()) < 0 or float(rows.max()) > 1 + _SUM:
        return False
    off = float(np.abs(rows.sum(axis=-1, dtype=np.float64) - 1).max())
    if off <= _NEARLY:
        return True
    steps = rows * np.float64(100)
    return off <= _ROUNDED * rows.shape[-1] + _SUM and bool(np.abs(steps - np.rint(steps)).max() <= _OF_A_STEP)


def are_log_probabilities(rows: Values) -> bool:
    """Whether exp of rows [n, K] sums to 1. A logarithm is rounded in proportion to its size, whose mean over a row's
    probabilities is its entropy, log K at most: so much more may a sum be off."""
    if rows.size == 0 or np.isnan(rows).any() or float(rows.max()) > _SUM:
        return False
    sums = np.exp(rows.astype(np.float64)).sum(axis=-1)
    return bool(np.abs(sums - 1).max() <= _SUM * max(1.0, math.log(rows.shape[-1])) + rows.shape[-1] * _STEP)


def looks_like(rows: Values) -> OutputKind:
    """What rows [n, K] can only be: logits are whatever is nothing else. Integers are labels."""
    if rows.dtype.kind != "f":
        return OutputKind.LABELS
    if are_probabilities(rows):
        return OutputKind.PROBS
    return OutputKind.LOG_PROBS if are_log_probabilities(rows) else OutputKind.LOGITS


def of_one_number(found: Values) -> str:
    """What floats are of which there is one an example, and what makes of them what is read here. found: some."""
    if np.isfinite(found).all() and (found == np.rint(found)).all():
        return "predicted labels are whole numbers: outputs.astype(int)"
    is_share = bool(((found >= 0) & (found <= 1)).all())
    made = "of probabilities p np.stack([1 - p, p], -1)" if is_share else "of logits z np.stack([0 * z, z], -1)"
    return f"one number an example, of a sigmoid, needs a column for each class: {made}"


def predicted(kind: OutputKind, outputs: Values) -> NDArray[np.int64]:
    """Labels [...] of outputs [..., K]; of labels, themselves. Ties go to the lowest class."""
    if kind is OutputKind.LABELS:
        return outputs.astype(np.int64)
    labels: NDArray[np.int64] = outputs.argmax(axis=-1)
    return labels


def logits_of(kind: OutputKind, outputs: Values) -> Values:
    """What the laboratory keeps of outputs [..., K]; predicted labels [...] stay labels.

    Logits stay as they are, dtype too, but for infinities of float16, which become its largest number (65,504): the
    network's own number was finite and did not fit. Probabilities and their logarithms become float32
    log-probabilities, normalised, in which a probability of 0 is the smallest positive number of the dtype it came in
    (float16 6.0e-8, float32 1.4e-45, float64 4.9e-324): it was rounded from something no larger, and its logarithm
    stays finite. Ties and order of classes stay.
    """
    if kind is OutputKind.LABELS:
        return outputs
    if kind is OutputKind.LOGITS:
        return clipped(outputs)
    return _log_probabilities(kind, outputs)


def clipped(logits: Values) -> Values:
    """Infinities of float16 as its largest number; anything else as it is."""
    if logits.dtype != np.float16:
        return logits
    infinite = np.isinf(logits)
    if not infinite.any():
        return logits
    return np.where(infinite, np.copysign(np.finfo(np.float16).max, logits), logits)


def _log_probabilities(kind: OutputKind, outputs: Values) -> NDArray[np.float32]:
    values = outputs.astype(np.float64)
    if kind is OutputKind.PROBS:
        logs = np.log(np.maximum(values, smallest(outputs.dtype)))
    else:
        lowest = math.log(SMALLEST[max(outputs.dtype.itemsize, 4)])  # they were taken of float32 at least
        logs = np.where(np.isneginf(values), lowest, values)
    top = logs.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # rows of infinities, whose members count as failed
        logs -= top + np.log(np.exp(logs - top).sum(axis=-1, keepdims=True))
    return logs.astype(np.float32)
