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
# Probabilities of d decimals are multiples of 10^-d, each off by up to half of that: what is from 0 to 1, or in percent
# from 0 to 100, and sums to no more than that from 1 or 100 in every row, is asked about. So is what is off by no more
# than .02, whatever its decimals.
_DECIMALS = {1: range(1, 7), 100: range(5)}  # of what a whole is; of none only percentages are more than labels
_NEARLY = 0.02
_OF_ITSELF = 2**-11  # that a rounded number may be off by being kept in float16
# A probability of 0; as logits those of masked classes are.
_NOTHING = {OutputKind.PROBS: 0.0, OutputKind.LOG_PROBS: -math.inf, OutputKind.LOGITS: -math.inf}
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


def whole_of_rounded(rows: Values) -> int | None:
    """What rows [n, K] sum to, 1, or 100 of percentages, as far as probabilities do that were rounded; None: they are
    none. See `_DECIMALS`."""
    if rows.size == 0 or not np.isfinite(rows).all() or float(rows.min()) < 0:
        return None
    whole = 1 if float(rows.max()) <= 1 + _SUM else 100
    if float(rows.max()) > whole * (1 + _SUM):
        return None
    sums = rows.sum(axis=-1, dtype=np.float64)
    if float(np.abs(sums - whole).max()) <= _NEARLY * whole:
        return whole
    values = rows.astype(np.float64)
    for decimals in _DECIMALS[whole]:
        # What is 0 may have been up to half a step, and what is not may have been less by as much.
        half, slack = 0.5 * 10.0**-decimals, _SUM * whole
        low, high = sums - half * np.count_nonzero(rows, axis=-1), sums + half * rows.shape[-1]
        sums_fit = (low <= whole + slack).all() and (high >= whole - slack).all()
        steps = values * 10.0**decimals
        if sums_fit and (np.abs(steps - np.rint(steps)) <= _OF_ITSELF * steps).all():
            return whole
    return None


def are_log_probabilities(rows: Values) -> bool:
    """Whether exp of rows [n, K] sums to 1. A logarithm is rounded in proportion to its size, whose mean over a row's
    probabilities is its entropy, log K at most: so much more may a sum be off."""
    if rows.size == 0 or np.isnan(rows).any() or float(rows.max()) > _SUM:
        return False
    sums = np.exp(rows.astype(np.float64)).sum(axis=-1)
    return bool(np.abs(sums - 1).max() <= _SUM * max(1.0, math.log(rows.shape[-1])) + rows.shape[-1] * _STEP)


def of_nothing(rows: Values, kind: OutputKind) -> NDArray[np.bool_]:
    """Which of rows [..., K] are no distribution, for their probabilities are all 0: [...]."""
    if kind not in _NOTHING:
        return np.zeros(rows.shape[:-1], bool)
    found: NDArray[np.bool_] = rows[..., 0] == _NOTHING[kind]
    return np.all(rows == _NOTHING[kind], axis=-1) if found.any() else found


def telling(rows: Values) -> Values:
    """Rows [n, K] but for those of nothing but 0 or minus infinity, which are no probabilities and may be logits."""
    nothing = of_nothing(rows, OutputKind.PROBS) | of_nothing(rows, OutputKind.LOG_PROBS)
    return rows[~nothing] if nothing.any() else rows


def looks_like(rows: Values) -> OutputKind:
    """What rows [n, K] can only be: logits are whatever is nothing else. Integers are labels. Rows that say nothing of
    probabilities (`of_nothing`) are none of those that tell."""
    if rows.dtype.kind != "f":
        return OutputKind.LABELS
    rows = telling(rows)
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
    network's own number was finite and did not fit. In wider floats minus infinity is a masked class, and becomes the
    logit of the smallest probability of that dtype, or the row's lowest where that is lower still. Probabilities and
    their logarithms become float32 log-probabilities, normalised, in which a probability of 0 is the smallest positive
    number of the dtype it came in (float16 6.0e-8, float32 1.4e-45, float64 4.9e-324): it was rounded from something no
    larger, and its logarithm stays finite. A row of nothing else is no distribution and becomes NaN. Ties and order of
    classes stay.
    """
    if kind is OutputKind.LABELS:
        return outputs
    if kind is OutputKind.LOGITS:
        return _unmasked(clipped(outputs))
    return _log_probabilities(kind, outputs)


def clipped(logits: Values) -> Values:
    """Infinities of float16 as its largest number, but for rows of nothing but minus infinity; anything else as it
    is."""
    if logits.dtype != np.float16:
        return logits
    infinite = np.isinf(logits) & ~of_nothing(logits, OutputKind.LOGITS)[..., None]
    if not infinite.any():
        return logits
    return np.where(infinite, np.copysign(np.finfo(np.float16).max, logits), logits)


def _unmasked(logits: Values) -> Values:
    """Logits [..., K] whose masked classes are finite; rows of nothing else become NaN."""
    masked = np.isneginf(logits)
    if not masked.any():
        return logits
    rows = masked.any(axis=-1)
    some, hidden = logits[rows].astype(np.float64), masked[rows]
    top = some.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # rows that are no numbers
        whole = top + np.log(np.exp(some - top).sum(axis=-1, keepdims=True))
    lowest = np.where(hidden, np.inf, some).min(axis=-1, keepdims=True)
    made = np.where(hidden, np.minimum(whole + math.log(smallest(logits.dtype)), lowest), some)
    made[hidden.all(axis=-1)] = np.nan
    found = logits.copy()
    found[rows] = made
    return found


def _log_probabilities(kind: OutputKind, outputs: Values) -> NDArray[np.float32]:
    values = outputs.astype(np.float64)
    if kind is OutputKind.PROBS:
        logs = np.log(np.maximum(values, smallest(outputs.dtype)))
    else:
        lowest = math.log(SMALLEST[max(outputs.dtype.itemsize, 4)])  # they were taken of float32 at least
        logs = np.where(np.isneginf(values), lowest, values)
    logs[of_nothing(values, kind)] = np.nan
    top = logs.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # rows that are no numbers, whose members count as failed
        logs -= top + np.log(np.exp(logs - top).sum(axis=-1, keepdims=True))
    return logs.astype(np.float32)
