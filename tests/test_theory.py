"""The theory of the diversity-accuracy plane against values worked out by hand and against simulated labels."""

from __future__ import annotations

import numpy as np
import pytest

from modescape.science import theory


# Upper: a*(1-a) + a(1-a*) + (1-a)(1-a*)(C-2)/(C-1). Lower: (C-1)(a*-a)/(C a*-1). Worked out by hand, e.g. the second
# row: .7*.5 + .5*.3 + .5*.3*8/9 = .35 + .15 + .13333 and 9*.2/6.
@pytest.mark.parametrize(
    ("base", "classes", "accuracy", "upper", "lower"),
    [
        (0.70, 10, 0.70, 0.5, 0.0),
        (0.70, 10, 0.50, 0.633333, 0.3),
        (0.71, 10, 0.71, 0.486556, 0.0),
        (0.71, 10, 0.50, 0.628889, 0.309836),
        (0.90, 10, 0.90, 0.188889, 0.0),
        (0.60, 100, 0.50, 0.697980, 0.167797),
    ],
)
def test_limit_curves_have_the_values_worked_out_by_hand(
    base: float, classes: int, accuracy: float, upper: float, lower: float
) -> None:
    assert theory.independent(accuracy, base=base, classes=classes) == pytest.approx(upper, abs=1e-6)
    assert theory.perturbed(accuracy, base=base, classes=classes) == pytest.approx(lower, abs=1e-6)


@pytest.mark.parametrize(
    ("e", "accuracy", "disagreement", "height"),
    [
        (0.22, 0.515577, 0.440191, 0.908690),
        (0.5, 0.508257, 0.374317, 0.761205),
        (1.0, 0.5, 0.3, 0.6),
        (2.0, 0.493, 0.237, 0.467456),
    ],
)
def test_the_family_has_the_tabulated_values(e: float, accuracy: float, disagreement: float, height: float) -> None:
    found = theory.family(0.3, e=e, base=0.7, classes=10)
    assert found.accuracy == pytest.approx(accuracy, abs=1e-6)
    assert found.disagreement == pytest.approx(disagreement, abs=1e-6)
    assert found.disagreement / (1 - found.accuracy) == pytest.approx(height, abs=1e-6)


def test_equal_flip_probabilities_reduce_to_the_lower_limit() -> None:
    p = np.linspace(0, 0.9, 20)
    curve = theory.flipped(p, p, base=0.7, classes=10)
    assert curve.disagreement == pytest.approx(p)  # the equation the paper prints under the other name
    assert theory.perturbed(curve.accuracy, base=0.7, classes=10) == pytest.approx(p)


@pytest.mark.parametrize(("base", "classes"), [(0.7, 10), (0.9, 10), (0.6, 100), (0.8, 2)])
def test_the_limits_meet_at_chance_and_stay_inside_the_hard_bounds(base: float, classes: int) -> None:
    chance = 1 / classes
    upper = theory.independent(chance, base=base, classes=classes)
    lower = theory.perturbed(chance, base=base, classes=classes)
    assert upper / (1 - chance) == pytest.approx(1) == pytest.approx(lower / (1 - chance))
    accuracies = np.linspace(chance, base, 50)
    bounds = theory.hard_bounds(accuracies, base=base, classes=classes)
    for curve in (theory.independent, theory.perturbed):
        d = curve(accuracies, base=base, classes=classes)
        assert (d >= bounds.lowest - 1e-12).all()
        assert (d <= bounds.highest + 1e-12).all()


def test_the_lower_limit_does_not_exist_above_the_base_or_below_chance() -> None:
    assert np.isnan(theory.perturbed([0.05, 0.75], base=0.7, classes=10)).all()


def test_simulated_labels_land_on_the_curves() -> None:
    rng, classes, count = np.random.default_rng(0), 10, 400_000
    truth = rng.integers(classes, size=count)
    wrong = (truth + rng.integers(1, classes, size=count)) % classes
    base = np.where(rng.random(count) < 0.7, truth, wrong)
    other_wrong = (truth + rng.integers(1, classes, size=count)) % classes
    other = np.where(rng.random(count) < 0.5, truth, other_wrong)
    # standard error of a share of 400,000 is at most 0.0008
    assert (base != other).mean() == pytest.approx(theory.independent(0.5, base=0.7, classes=classes), abs=0.004)
    flipped = np.where(rng.random(count) < 0.3, (base + rng.integers(1, classes, size=count)) % classes, base)
    a, d = (flipped == truth).mean(), (base != flipped).mean()
    assert d == pytest.approx(theory.perturbed(a, base=0.7, classes=classes), abs=0.004)


def test_the_drawn_curve_runs_from_the_base_over_its_maximum_to_chance() -> None:
    curve = theory.family_curve(e=0.22, base=0.7, classes=10, points=2000)
    assert (curve.accuracy[0], curve.disagreement[0]) == (0.7, 0)
    assert curve.accuracy[-1] == pytest.approx(0.1, abs=0.005)
    top = curve.accuracy.argmax()
    # the maximum is at p_c = [(1-a*) e / ((C-1) a*)]^(1/(1-e)) = (0.066/6.3)^(1/0.78) = 0.002896
    assert curve.accuracy[top] == pytest.approx(0.707187, abs=1e-5)
    assert curve.disagreement[top] == pytest.approx(0.084958, abs=2e-3)
    assert (np.diff(curve.disagreement) >= 0).all()


@pytest.mark.parametrize("e", [0.05, 0.22, 1.0, 3.0])
def test_the_fit_finds_the_exponent_that_made_the_samples(e: float) -> None:
    curve = theory.family(np.logspace(-3, -0.3, 30), e=e, base=0.71, classes=10)
    noise = np.random.default_rng(1).normal(0, 1e-4, 30)
    fit = theory.fit_exponent(curve.accuracy + noise, curve.disagreement, base=0.71, classes=10)
    assert fit.exponent == pytest.approx(e, rel=0.01)
    assert fit.low is not None
    assert fit.high is not None
    assert fit.low <= fit.exponent <= fit.high
    assert fit.residual == pytest.approx(1e-4, rel=0.5)


@pytest.mark.slow
def test_the_fit_agrees_with_a_plain_scan() -> None:
    rng = np.random.default_rng(2)
    a, d = rng.uniform(0.3, 0.68, 12), rng.uniform(0.1, 0.5, 12)

    def squares(e: float) -> float:
        total = 0.0
        for accuracy, disagreement in zip(a, d, strict=True):
            low, high = -2000.0, 0.0
            for _ in range(200):
                p = (low + high) / 2
                if 0.7 * np.exp(p) + 0.3 * np.exp(e * p) > disagreement:
                    high = p
                else:
                    low = p
            total += (accuracy - 0.7 * (1 - np.exp(p)) - 0.3 * np.exp(e * p) / 9) ** 2
        return total

    scan = np.exp(np.linspace(-4, 2, 601))
    expected = scan[int(np.argmin([squares(e) for e in scan]))]
    assert theory.fit_exponent(a, d, base=0.7, classes=10).exponent == pytest.approx(expected, rel=0.011)


@pytest.mark.parametrize(("e", "border", "sign"), [(0.002, "lowest", "≤"), (60.0, "highest", "≥")])
def test_a_fit_at_the_border_of_its_range_says_so_and_has_no_interval(e: float, border: str, sign: str) -> None:
    """The range is e^-4 to e^2; nearby samples would give a bootstrap that is tight and wrong."""
    curve = theory.family(np.logspace(-3, -0.3, 30), e=e, base=0.71, classes=10)
    fit = theory.fit_exponent(curve.accuracy, curve.disagreement, base=0.71, classes=10)
    assert (fit.border, fit.low, fit.high, fit.sign) == (border, None, None, sign)
    assert fit.exponent == pytest.approx(np.exp(-4 if border == "lowest" else 2), rel=1e-3)


def test_an_interval_that_reaches_the_border_is_open_there() -> None:
    rng = np.random.default_rng(3)
    curve = theory.family(np.logspace(-3, -0.3, 12), e=0.03, base=0.71, classes=10)
    fit = theory.fit_exponent(curve.accuracy + rng.normal(0, 0.02, 12), curve.disagreement, base=0.71, classes=10)
    assert fit.border == ""
    assert fit.low is None
    assert fit.high is not None


def test_nothing_to_fit_is_said_not_guessed() -> None:
    nothing = theory.fit_exponent([0.7, 0.7], [0.0, 0.0], base=0.7, classes=10)
    assert nothing.exponent is None
    assert nothing.used == 0
    assert "fewer than 3" in nothing.reason
    assert theory.fit_exponent([0.5] * 9, [0.2] * 9, base=0.1, classes=10).exponent is None


def test_the_fitted_exponent_and_its_interval_do_not_depend_on_the_order_of_samples() -> None:
    draw = np.random.default_rng(4)
    d = draw.uniform(0.05, 0.6, 40)
    a = 0.7 - 0.5 * d + draw.normal(0, 0.02, 40)
    whole = theory.fit_exponent(a, d, base=0.7, classes=10)
    assert whole.low is not None
    for _ in range(3):
        order = draw.permutation(40)
        assert theory.fit_exponent(a[order], d[order], base=0.7, classes=10) == whole
