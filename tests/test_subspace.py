"""Samples judged by the law they should follow, and by being the same again when made again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.methods import sampling
from modescape.methods.low_rank import LowRankOptions
from modescape.methods.method import Draw, Neighbourhood, method
from modescape.methods.random import RandomOptions
from modescape.methods.sampling import Reach
from modescape.registry import Method, methods
from modescape.testing.methods import LAYOUT, PARAMETERS, SNAPSHOTS, neighbourhood

REACH = Reach(near=0.2, half=0.5)
SAMPLED = [name for name, entry in methods.items() if entry.sampled]
OWN = {"swag": {"epochs": SNAPSHOTS, "columns": 5}}  # what a method needs to be told of these few snapshots
HALF = {"step": 0.4, "rate": 0.2, "scale": 12.0}  # where a made-up network's accuracy is halfway to chance


AROUND = neighbourhood()


def draws(name: str, strength: float, count: int = 1, **options: Any) -> list[Draw]:
    entry = methods[name]
    chosen = entry.options(**options)
    return [entry.call(AROUND, chosen, strength, np.random.default_rng(i)) for i in range(count)]


def falling(half: float) -> Callable[[Draw], float]:
    """A network whose accuracy falls from 0.9 toward 0.1 with strength, by a tenth of the gap at `half` / 9."""
    return lambda draw: 0.1 + 0.8 / (1 + draw.strength / half)


# --- the methods ------------------------------------------------------------------------------------------------------


def test_random_steps_have_the_asked_length_and_no_common_direction() -> None:
    found = draws("random", 0.25, 6)
    steps = [draw.theta.astype(np.float64) - AROUND.theta for draw in found]
    for draw, step in zip(found, steps, strict=True):
        assert np.linalg.norm(step) == pytest.approx(0.25 * AROUND.norm, rel=1e-5)
        assert draw.relative == pytest.approx(0.25, rel=1e-5)
        assert draw.theta.dtype == np.float32
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(steps) for b in steps[:i]]
    assert np.abs(cosines).max() < 5 / math.sqrt(PARAMETERS)


def test_filter_normalised_steps_copy_the_filters_norms() -> None:
    (draw,) = draws("random", 0.5, filter_normalised=True)
    step = draw.theta.astype(np.float64) - AROUND.theta
    start = 0
    for _, shape in LAYOUT:
        part = slice(start, start + math.prod(shape))
        start = part.stop
        if len(shape) == 1:
            assert (step[part] == 0).all()
            continue
        filters, own = (v[part].reshape(shape[0], -1) for v in (step, AROUND.theta.astype(np.float64)))
        assert np.linalg.norm(filters, axis=1) == pytest.approx(0.5 * np.linalg.norm(own, axis=1), rel=1e-5)
    bare = Neighbourhood(AROUND.theta, None)
    with pytest.raises(InvalidInput, match="layout"):
        methods["random"].call(bare, RandomOptions(filter_normalised=True), 0.5, np.random.default_rng(0))


def test_dropout_zeroes_its_rate_and_scales_the_rest() -> None:
    dropped = []
    for draw in draws("dropout", 0.1, 20):
        kept = draw.theta != 0
        dropped.append(1 - kept.mean())
        assert draw.theta[kept] == pytest.approx(AROUND.theta[kept] / 0.9, rel=1e-6)
    # 20 x 4,000 Bernoulli(0.1): standard error 0.00106
    assert np.mean(dropped) == pytest.approx(0.1, abs=0.005)


def test_activation_dropout_moves_no_weight_and_names_its_mask() -> None:
    one, two = draws("activation-dropout", 0.3, 2)
    assert (one.theta == AROUND.theta).all()
    assert one.relative == 0
    assert one.mask is not None
    assert two.mask is not None
    assert (one.mask.rate, one.mask.per_example) == (0.3, False)
    assert one.mask.seed != two.mask.seed
    (fresh,) = draws("activation-dropout", 0.3, masks="example")
    assert fresh.mask is not None
    assert fresh.mask.per_example


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_diagonal_gaussian_has_the_snapshots_mean_and_deviation(ddof: int) -> None:
    assert AROUND.snapshots is not None
    exact = AROUND.snapshots.astype(np.float64)
    noise = np.stack([draw.theta for draw in draws("diagonal", 2.0, 400, ddof=ddof)]) - exact.mean(axis=0)
    noise /= 2 * exact.std(axis=0, ddof=ddof)
    # 1.6 million standard normal numbers: errors of mean and variance about 0.001; float32 adds less than that
    assert noise.mean() == pytest.approx(0, abs=0.005)
    assert noise.var() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(noise[:, :50].T) - np.eye(50)).max() < 0.3  # independent across weights


def test_deviations_survive_weights_much_larger_than_they_are() -> None:
    snapshots = (np.array([[1000.0], [1000.001], [1000.002]]) * np.ones((3, 5))).astype(np.float32)
    around = Neighbourhood(snapshots[-1], snapshots)
    expected = snapshots.astype(np.float64).var(axis=0) * 3
    assert around.squares == pytest.approx(expected, rel=1e-12)
    assert (around.squares > 0).all()


def test_low_rank_reproduces_the_covariance_of_the_snapshots_at_full_rank() -> None:
    """Tested without sampling error: the map from z to theta is linear, so feeding unit vectors reads its matrix."""
    small = neighbourhood(parameters=12)
    assert small.snapshots is not None
    options = LowRankOptions(rank=SNAPSHOTS - 1)
    columns = [_low_rank_column(small, options, j) for j in range(SNAPSHOTS - 1)]
    matrix = np.stack(columns, axis=1)
    expected = np.cov(small.snapshots.astype(np.float64), rowvar=False)
    assert matrix @ matrix.T == pytest.approx(expected, abs=1e-6)


def test_low_rank_keeps_the_leading_directions() -> None:
    assert AROUND.snapshots is not None
    options = LowRankOptions(rank=2)
    columns = np.stack([_low_rank_column(AROUND, options, j) for j in range(2)], axis=1)
    centred = AROUND.snapshots.astype(np.float64) - AROUND.mean
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.linalg.norm(columns, axis=0) == pytest.approx(values[:2] / math.sqrt(SNAPSHOTS - 1), rel=1e-4)
    for column, row in zip(columns.T, rows, strict=False):
        assert abs(column @ row) / np.linalg.norm(column) == pytest.approx(1, abs=1e-4)


def test_unit_scaling_ignores_how_far_the_snapshots_moved() -> None:
    options = LowRankOptions(rank=3, scaling="unit")
    for j in range(3):
        assert np.linalg.norm(_low_rank_column(AROUND, options, j)) == pytest.approx(1, rel=1e-3)


def _low_rank_column(around: Neighbourhood, options: LowRankOptions, j: int) -> NDArray[np.float64]:
    class Unit:
        def standard_normal(self, size: int) -> NDArray[np.float64]:
            return np.eye(size)[j]

    found = methods["low-rank"].call(around, options, 1.0, Unit())
    return np.asarray(found.theta.astype(np.float64) - around.mean)


def test_low_rank_refuses_more_directions_than_snapshots_can_have() -> None:
    with pytest.raises(InvalidInput, match=r"rank 8 needs at least 9 snapshots"):
        draws("low-rank", 1.0, rank=SNAPSHOTS)


def test_snapshots_that_do_not_move_give_their_mean() -> None:
    still = Neighbourhood(AROUND.theta, np.stack([AROUND.theta] * 5), LAYOUT)
    for name in ("low-rank", "diagonal"):
        entry = methods[name]
        options = entry.options(**({"rank": 4} if name == "low-rank" else {}))
        assert (entry.call(still, options, 5.0, np.random.default_rng(0)).theta == AROUND.theta).all()


def test_averaging_is_the_mean_of_the_snapshots() -> None:
    assert AROUND.snapshots is not None
    (found,) = sampling.sample(methods["averaging"], AROUND, methods["averaging"].options(), sample_set="typical",
                               count=5, seed=1)  # fmt: skip
    assert found.draw.theta == pytest.approx(AROUND.snapshots.astype(np.float64).mean(axis=0), abs=1e-6)
    assert found.draw.theta.dtype == np.float32
    none = sampling.sample(methods["averaging"], AROUND, methods["averaging"].options(), sample_set="spread",
                           count=5, seed=1)  # fmt: skip
    assert list(none) == []


def test_methods_that_need_snapshots_say_so() -> None:
    for name, entry in methods.items():
        assert entry.needs_snapshots == (name in ("diagonal", "low-rank", "averaging", "ema"))
    with pytest.raises(InvalidInput, match="snapshots"):
        _ = Neighbourhood(AROUND.theta).mean


# --- how strong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLED)
def test_calibration_finds_where_accuracy_falls(name: str) -> None:
    entry = methods[name]
    half = HALF[str(entry.strength)]
    options = entry.options(**OWN.get(name, {}))
    found = sampling.calibrate(entry, AROUND, options, accuracy=falling(half), chance=0.1, seed=1)
    # 0.8 / (1 + s/half) = 0.8 - cost, solved for s; interpolation between doublings is within a few percent
    assert found.near == pytest.approx(half * 0.02 / 0.78, rel=0.05)
    assert found.half == pytest.approx(half, rel=0.05)


def test_calibration_ends_when_accuracy_never_falls_or_always_has() -> None:
    entry = methods["dropout"]
    flat = sampling.calibrate(entry, AROUND, entry.options(), accuracy=lambda draw: 0.9, chance=0.1, seed=0)
    assert flat.near == flat.half == 0.9
    gone = sampling.calibrate(
        entry, AROUND, entry.options(), accuracy=lambda draw: 0.1 if draw.strength else 0.9, chance=0.1, seed=0
    )
    assert 0 < gone.near <= gone.half <= 0.01


@pytest.mark.parametrize("name", SAMPLED)
def test_most_graded_samples_cost_little_and_the_rest_reach_far(name: str) -> None:
    entry = methods[name]
    options = entry.options(**OWN.get(name, {}))
    reach = Reach(near=0.02, half=0.3)
    strengths = [
        found.draw.strength
        for found in sampling.sample(entry, AROUND, options, sample_set="spread", count=40, seed=3, reach=reach)
    ]
    near = [s for s in strengths if s <= 0.02]
    assert 22 <= len(near) <= 26  # six tenths of 40, evenly: as many on either side of the middle
    assert abs(sum(s <= 0.01 for s in near) - len(near) / 2) <= 2
    assert 0.4 < max(strengths) <= 0.6
    assert min(strengths) < 0.004


def test_uniform_strengths_are_those_of_the_paper() -> None:
    entry = methods["random"]
    options = entry.options(strengths="uniform", unit="absolute", spread_max=70, typical_max=10, floor="none")
    assert not any(sampling.needs_reach(entry, options, which) for which in ("spread", "typical"))
    ranges: list[tuple[Any, float]] = [("spread", 70.0), ("typical", 10.0)]
    for which, longest in ranges:
        found = list(sampling.sample(entry, AROUND, options, sample_set=which, count=300, seed=0))
        lengths = np.array([np.linalg.norm(s.draw.theta.astype(np.float64) - AROUND.theta) for s in found])
        assert lengths.max() <= longest
        assert np.mean(lengths) == pytest.approx(longest / 2, rel=0.1)
        assert np.var(lengths) == pytest.approx(longest**2 / 12, rel=0.2)


def test_typical_gaussian_samples_have_one_scale_and_others_stay_near() -> None:
    gaussian = methods["diagonal"]
    options = gaussian.options(floor="none")
    assert not sampling.needs_reach(gaussian, options, "typical")
    found = sampling.sample(gaussian, AROUND, options, sample_set="typical", count=5, seed=0)
    assert [s.draw.strength for s in found] == [1.0] * 5
    random = methods["random"]
    unfloored = random.options(floor="none")
    some = sampling.sample(random, AROUND, unfloored, sample_set="typical", count=50, seed=0, reach=REACH)
    assert 0.18 < max(s.draw.strength for s in some) <= REACH.near


def test_strengths_measured_on_the_network_are_asked_for() -> None:
    entry = methods["random"]
    with pytest.raises(InvalidInput, match="calibrate first"):
        next(sampling.sample(entry, AROUND, entry.options(), sample_set="spread", count=1, seed=0))


# --- sampling ---------------------------------------------------------------------------------------------------------


def _take(
    entry: Method, which: Any, count: int, seed: int = 5, start: int = 0, **options: Any
) -> list[sampling.Sampled]:
    chosen = entry.options(**options)
    return list(
        sampling.sample(entry, AROUND, chosen, sample_set=which, count=count, seed=seed, reach=REACH,
                        accuracy=falling(60 if entry.strength == "scale" else 0.3), reference=0.9, start=start)
    )  # fmt: skip


def test_samples_differ_by_run_set_and_index_and_a_longer_set_contains_the_shorter() -> None:
    entry = methods["random"]
    few, many = _take(entry, "spread", 4), _take(entry, "spread", 8)
    assert [s.draw.theta.tobytes() for s in few] == [s.draw.theta.tobytes() for s in many[:4]]
    every = [*many, *_take(entry, "spread", 4, seed=6), *_take(entry, "typical", 4)]
    assert len({s.draw.theta.tobytes() for s in every}) == len(every)
    resumed = _take(entry, "spread", 8, start=5)
    assert [s.draw.theta.tobytes() for s in resumed] == [s.draw.theta.tobytes() for s in many[5:]]


def test_the_floor_rejects_and_a_sample_without_luck_is_left_out() -> None:
    entry = methods["random"]
    found = _take(entry, "typical", 60, floor="drop", floor_value=0.2, tries=2)
    assert all(s.validation_accuracy is not None and s.validation_accuracy >= 0.7 for s in found)
    assert {s.attempt for s in found} == {0, 1}
    assert 0 < len(found) < 60
    assert [s.index for s in found] == sorted({s.index for s in found})
    assert _take(entry, "typical", 10, floor="absolute", floor_value=0.95) == []
    kept = _take(entry, "typical", 10, floor="none")
    assert len(kept) == 10
    assert all(s.validation_accuracy is None for s in kept)
    assert len(_take(entry, "spread", 10, floor="absolute", floor_value=0.95)) == 10  # no floor in the spread set


def test_a_floor_needs_something_to_measure_it_on() -> None:
    entry = methods["random"]
    with pytest.raises(InvalidInput, match="validation images"):
        next(sampling.sample(entry, AROUND, entry.options(), sample_set="typical", count=1, seed=0, reach=REACH))


def test_a_new_method_needs_one_function() -> None:
    with pytest.raises(ValueError, match="sampled methods"):
        method("nothing", title="t", summary="s", source="x", centre="optimum", strength="step")
