"""Claims e to h against plain numpy written from the specification, and how the page tells them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import sqlalchemy
from numpy.typing import NDArray
from scipy.stats import t as student
from serving import SPEC, Served, finished, served

from modescape.claims import CLAIMS, equal_accuracy
from modescape.claims.claim import Side
from modescape.claims.combining import every_method, some_method
from modescape.claims.evidence import (
    Cost,
    Evidence,
    LastIterates,
    Members,
    MethodEvidence,
    ShiftEvidence,
    divergence,
    mean_divergence,
)
from modescape.claims.judging import judge
from modescape.claims.record import ClaimRecord, MethodRecord
from modescape.claims.repeated_looks import FIRST, Look
from modescape.finding import Finding
from modescape.science.confidence import Estimate, OverRuns, Word
from modescape.tables import Experiment
from modescape.testing.evidence import (
    CLASSES,
    EXAMPLES,
    RUNS,
    flipped,
    functions_of,
    made_chains,
    made_seeds,
    made_shift,
    softmax,
)

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
pytestmark = pytest.mark.usefixtures("few_redraws")

SAMPLES = 3

# --- a problem made to order ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """truth [N], probabilities of finals [n, N, K] and of the samples of each method [n, S, N, K]."""

    truth: Labels
    finals: Floats
    samples: dict[str, Floats]


def _problem(
    runs: int = RUNS, examples: int = EXAMPLES, *, near: float = 0.3, wide: float = 0.3, seed: int = 0
) -> Problem:
    """Runs share the examples' difficulty and differ by noise of their own; samples add `near` or `wide` noise."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=examples)
    shared = 2.0 * np.eye(CLASSES)[truth] + 0.8 * rng.normal(size=(examples, CLASSES))
    logits = shared + rng.normal(size=(runs, examples, CLASSES))

    def around(noise: float) -> Floats:
        return softmax(logits[:, None] + noise * rng.normal(size=(runs, SAMPLES, examples, CLASSES)))

    return Problem(truth, softmax(logits), {"near": around(near), "wide": around(wide)})


def _evidence(problem: Problem, *, with_js: bool = True) -> Evidence:
    examples = len(problem.truth)
    methods = tuple(
        MethodEvidence(
            name,
            name.title(),
            near=list(samples.argmax(axis=-1)),
            averaged=SAMPLES,
            members=Members.of(functions_of(samples.mean(axis=1)), problem.truth),
            js=OverRuns.of(np.stack([mean_divergence(functions_of(own), examples) for own in samples]))
            if with_js
            else None,
        )
        for name, samples in problem.samples.items()
    )
    return Evidence(
        classes=CLASSES,
        truth=problem.truth,
        finals=problem.finals.argmax(axis=-1),
        methods=methods,
        members=Members.of(functions_of(problem.finals), problem.truth),
        js=divergence(functions_of(problem.finals), examples) if with_js else None,
    )


@pytest.fixture(scope="module")
def problem() -> Problem:
    return _problem()


@pytest.fixture(scope="module")
def claims(problem: Problem) -> dict[str, ClaimRecord]:
    return {claim.id: claim for claim in judge(_evidence(problem))}


def _method(claim: ClaimRecord, name: str) -> MethodRecord:
    return next(found for found in claim.methods if found.method == name)


# --- plain twins ------------------------------------------------------------------------------------------------------


def _brier(p: Floats, truth: Labels, w: Floats) -> float:
    return float(np.square(p - np.eye(p.shape[-1])[truth]).sum(axis=-1) @ w)


def _entropy(p: Floats) -> Floats:
    return np.asarray(-(p * np.log(p)).sum(axis=-1))


def _js(p: Floats, q: Floats) -> Floats:
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def _ensemble_gain(p: Floats, truth: Labels, w: Floats, size: int = 4) -> float:
    """Mean single Brier score minus the mean over all subsets of that size, by making every subset."""
    single = np.mean([_brier(one, truth, w) for one in p])
    subsets = itertools.combinations(range(len(p)), size)
    return float(single - np.mean([_brier(p[list(chosen)].mean(axis=0), truth, w) for chosen in subsets]))


def _with_interval(statistic: Any, influence: Floats, runs: int, *, margin: float) -> tuple[float, float, float, float]:
    """Value, interval and p above the margin, of statistic(runs), by o.2 word for word; influence [N] by hand."""
    everyone = list(range(runs))
    value = statistic(everyone)
    left_out = np.array([statistic([j for j in everyone if j != i]) for i in everyone])
    of_runs = (runs - 1) / runs * np.square(left_out - left_out.mean()).sum()
    error = math.sqrt(of_runs + np.var(influence) / len(influence))
    half = student.ppf(0.975, runs - 1) * error
    return value, value - half, value + half, float(student.sf((value - margin) / error, runs - 1))


# --- e and f1 ---------------------------------------------------------------------------------------------------------


def test_the_gain_of_an_ensemble_is_exactly_the_mean_over_all_its_subsets(problem: Problem) -> None:
    """Also for ensembles of 2 and of all 5, where the identity changes its factor only."""
    members = Members.of(functions_of(problem.finals), problem.truth)
    everyone, even = np.arange(RUNS), np.full(EXAMPLES, 1 / EXAMPLES)
    found = members.ensemble_gain(everyone)
    assert found == pytest.approx(_ensemble_gain(problem.finals, problem.truth, even), abs=1e-12)
    for size in (2, 5):
        expected = _ensemble_gain(problem.finals, problem.truth, even, size)
        assert found / (1 - 1 / 4) * (1 - 1 / size) == pytest.approx(expected, abs=1e-12)
    few = members.ensemble_gain(np.array([0, 2, 3, 4]))
    assert few == pytest.approx(_ensemble_gain(problem.finals[[0, 2, 3, 4]], problem.truth, even), abs=1e-12)
    assert members.without(1).ensemble_gain(np.arange(4)) == pytest.approx(few, abs=1e-12)
    accurate = [(one.argmax(axis=-1) == problem.truth).mean() for one in problem.finals]
    together = [
        (problem.finals[list(chosen)].mean(axis=0).argmax(axis=-1) == problem.truth).mean()
        for chosen in itertools.combinations(range(RUNS), 4)
    ]
    assert members.accuracy == pytest.approx(np.mean(accurate))
    assert members.together == pytest.approx(np.mean(together))


def test_reading_block_by_block_changes_nothing(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Members.of(functions_of(problem.finals), problem.truth)
    apart = divergence(functions_of(problem.finals), EXAMPLES)
    monkeypatch.setattr("modescape.claims.evidence._VALUES", 7 * RUNS * CLASSES)
    blocks = Members.of(functions_of(problem.finals), problem.truth)
    assert blocks.brier.values == pytest.approx(whole.brier.values, abs=1e-12)
    assert blocks.gaps.table == pytest.approx(whole.gaps.table, abs=1e-12)
    assert blocks.gaps.examples == pytest.approx(whole.gaps.examples, abs=1e-6)
    assert (blocks.accuracy, blocks.together) == (whole.accuracy, whole.together)
    assert divergence(functions_of(problem.finals), EXAMPLES).table == pytest.approx(apart.table, abs=1e-12)


@pytest.mark.parametrize("name", ["near", "wide"])
def test_gains_and_divergences_equal_a_plain_recomputation(
    problem: Problem, claims: dict[str, ClaimRecord], name: str
) -> None:
    finals, truth, samples = problem.finals, problem.truth, problem.samples[name]
    averages = samples.mean(axis=1)

    right, pairs = np.eye(CLASSES)[truth], list(itertools.combinations(range(RUNS), 2))
    gains = np.square(finals - right).sum(axis=-1) - np.square(averages - right).sum(axis=-1)  # [n, N]
    gaps = {
        k: {(i, j): np.square(p[i] - p[j]).sum(axis=-1) for i, j in pairs} for k, p in enumerate((finals, averages))
    }
    between = {(i, j): _js(finals[i], finals[j]) for i, j in pairs}
    inside = [np.mean([_js(a, b) for a, b in itertools.combinations(own, 2)], axis=0) for own in samples]

    def gained(runs: list[int]) -> float:
        return float(np.mean([gains[i].mean() for i in runs]))

    def pair_gain(which: int, runs: list[int]) -> float:
        return float(3 / 8 * np.mean([gaps[which][pair].mean() for pair in itertools.combinations(runs, 2)]))

    def rho(runs: list[int]) -> float:
        return gained(runs) / pair_gain(0, runs)

    def kappa(runs: list[int]) -> float:
        return (gained(runs) + pair_gain(1, runs)) / pair_gain(0, runs) - 1

    def ratio(runs: list[int]) -> float:
        across = np.mean([between[pair].mean() for pair in itertools.combinations(runs, 2)])
        return math.log(across / np.mean([inside[i].mean() for i in runs]))

    everyone = list(range(RUNS))
    g, e, b = gains.mean(axis=0), *(3 / 8 * np.mean(list(gaps[k].values()), axis=0) for k in (0, 1))
    x, y = np.mean(list(between.values()), axis=0), np.mean(inside, axis=0)
    influences = {
        "e1": (g - rho(everyone) * e) / e.mean(),
        "e2": (g + b - (kappa(everyone) + 1) * e) / e.mean(),
        "f1": x / x.mean() - y / y.mean(),
    }
    for letter, statistic, margin in (("e1", rho, 0.9), ("e2", kappa, 0.05), ("f1", ratio, math.log(1.25))):
        found = _method(claims[letter], name).estimate
        assert found is not None
        value, low, high, p_above = _with_interval(statistic, influences[letter], RUNS, margin=margin)
        assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-6)
        assert (found.p_fails if letter == "e1" else found.p_holds) == pytest.approx(p_above, abs=1e-6)


def test_tame_samples_gain_less_than_an_ensemble_and_diverge_less(claims: dict[str, ClaimRecord]) -> None:
    assert {letter: claims[letter].word for letter in ("c", "e1", "f1")} == dict.fromkeys(("c", "e1", "f1"), "holds")
    assert claims["e1"].high is not None
    assert claims["e1"].high < 0.9
    assert "below 0.9" in claims["e1"].because
    gains = claims["e1"].parts
    assert gains["accuracy gain of an ensemble of 4"] > gains["accuracy gain of averaging a run's samples"]


def test_a_method_that_finds_what_other_runs_find_refutes_the_claims() -> None:
    """Samples as far from their final as other runs are, and their average as good as an ensemble."""
    tame = _problem(near=0.2)
    evidence = _evidence(tame)
    members, js = evidence.members, evidence.js
    assert members is not None
    assert js is not None
    gain = 1.1 * 3 / 8 * members.gaps.examples
    between = _js(tame.finals[0], tame.finals[1])
    strong = replace(
        evidence.methods[1],
        members=Members(OverRuns.of(members.brier.rows - gain), members.gaps, 0.0, 0.0),
        js=OverRuns.of(np.repeat(between[None], RUNS, axis=0)),
    )
    found = {c.id: c for c in judge(replace(evidence, methods=(evidence.methods[0], strong)))}
    assert found["e1"].word == "does not hold"
    assert "Wide" in found["e1"].because
    assert found["e1"].p == pytest.approx(2 * _p_fails(found["e1"], "wide"))
    assert found["f1"].word == "does not hold"
    assert found["e2"].word == "holds"
    assert found["e2"].because.startswith("Wide:")
    assert found["e2"].estimate == pytest.approx(1.1)


def _p_fails(claim: ClaimRecord, name: str) -> float:
    found = _method(claim, name).estimate
    assert found is not None
    return found.p_fails


def test_adding_up_needs_one_method_only_and_fails_only_for_all() -> None:
    evidence = _evidence(_problem(near=0.05, wide=0.05))  # so near that averaging adds nothing
    found = {c.id: c for c in judge(evidence)}["e2"]
    assert found.word == "does not hold"
    assert "for every method" in found.because
    few = replace(evidence.methods[1], near=[samples[:2] for samples in evidence.methods[1].near])
    one_closed = replace(evidence, methods=(evidence.methods[0], few))
    found = {c.id: c for c in judge(one_closed)}["e2"]
    assert found.word == "cannot tell"
    assert "a run has 2 typical samples, at least 3 are needed" in found.because


def test_every_cannot_tell_names_its_gate_and_what_opens_it() -> None:
    few_images = {c.id: c for c in judge(_evidence(_problem(examples=700)))}
    for letter in ("e1", "e2", "f1"):
        assert few_images[letter].because == "700 test images, at least 1000 are needed: raise data.test_images"
    for claim in judge(_evidence(_problem(runs=2))):
        assert claim.word == "cannot tell"
        assert claim.because.startswith("2 runs: at least 3 are needed")
        assert claim.because.endswith("raise ensemble.runs")
    narrow = judge(_evidence(_problem(runs=3)), margins={"f1": math.log(9)})
    crossing = next(c for c in narrow if c.id == "f1")
    assert crossing.margin == math.log(9)
    assert crossing.word != "holds"


# --- methods that failed around some runs ---------------------------------------------------------------------------


def _cut(problem: Problem, runs: list[int], names: Sequence[str]) -> Problem:
    """The same problem, had only these runs and methods ever been made."""
    return Problem(problem.truth, problem.finals[runs], {name: problem.samples[name][runs] for name in names})


def _with_strengths(evidence: Evidence) -> Evidence:
    """Three wide samples are too few to read anything; these are of strengths on both sides of a point."""
    rng = np.random.default_rng(1)
    strengths = [(np.arange(12) + 0.5) / 12 for _ in evidence.numbers]
    found = []
    for method in evidence.methods:
        wide = [
            np.stack([flipped(rng, final, 0.08 * s) for s in own])
            for final, own in zip(evidence.finals, strengths, strict=True)
        ]
        found.append(replace(method, wide=wide, strengths=strengths))
    return replace(evidence, methods=tuple(found))


KEPT = [0, 1, 3, 4]


@pytest.fixture(scope="module")
def unlucky(problem: Problem) -> tuple[Evidence, Evidence, Evidence]:
    """All runs with one method; four of them with another, whose chain failed beside run 2; and both together."""
    whole = _with_strengths(_evidence(_cut(problem, list(range(RUNS)), ["near"])))
    own = replace(_with_strengths(_evidence(_cut(problem, KEPT, ["wide"]))), numbers=tuple(KEPT))
    return whole, own, replace(whole, partial=(own,))


def test_a_method_is_judged_on_the_runs_where_it_has_not_failed(unlucky: tuple[Evidence, Evidence, Evidence]) -> None:
    """Each method's part is what it is alone on its own runs, number by number."""
    whole, own, together = ({claim.id: claim for claim in judge(evidence, rests=False)} for evidence in unlucky)
    assert set(together) == set(own) == {"c", "d1", "d2", "e1", "e2", "f1"}
    for letter, claim in together.items():
        first, second = claim.methods
        assert first == whole[letter].methods[0]
        assert (first.n, second.n) == (None, 4)
        assert replace(second, n=None) == own[letter].methods[0]
        decided = second if claim.estimate == getattr(second.estimate, "value", None) else first
        assert claim.n == (decided.n or RUNS), letter


def test_a_claim_that_rests_on_a_method_of_fewer_runs_has_its_degrees_of_freedom(problem: Problem) -> None:
    """So that interval and level at a later look are those of its own t distribution."""
    own = replace(_evidence(_cut(problem, KEPT, ["near", "wide"])), numbers=tuple(KEPT))
    whole = replace(_evidence(_cut(problem, list(range(RUNS)), [])), partial=(own,))
    for claim in judge(whole):
        (alone,) = (one for one in judge(own) if one.id == claim.id)
        assert (claim.n, claim.estimate, claim.low, claim.p) == (4, alone.estimate, alone.low, alone.p)
        assert claim.word == alone.word


def test_leaving_out_a_run_leaves_it_out_of_every_method(unlucky: tuple[Evidence, Evidence, Evidence]) -> None:
    _, own, together = unlucky
    fewer = together.without(3)
    assert fewer.numbers == (0, 1, 2, 4)
    assert [part.numbers for part in fewer.partial] == [(0, 1, 4)]
    assert (fewer.partial[0].finals == own.finals[[0, 1, 3]]).all()
    assert together.without(2).partial == (own,)  # which it never had


def test_fewer_than_three_healthy_chains_close_the_method_and_no_other(problem: Problem) -> None:
    own = replace(_evidence(_cut(problem, [1, 4], ["wide"])), numbers=(1, 4))
    whole = replace(_evidence(_cut(problem, list(range(RUNS)), ["near"])), partial=(own,))
    for claim in judge(whole):
        near, wide = claim.methods
        assert near.word != "cannot tell"
        assert wide.gate.startswith("2 runs: at least 3 are needed")
        assert claim.n == RUNS
        assert wide.gate in claim.because or claim.id == "e2"


def test_under_shift_a_method_is_judged_on_the_runs_where_it_has_not_failed() -> None:
    whole, pairs = made_shift(), np.ix_(KEPT, KEPT)
    other = made_shift(within=0.03)
    own = ShiftEvidence(
        CLASSES, whole.truth, whole.finals[KEPT], whole.clean_between[pairs], whole.shifted_between[pairs],
        {"swag": other.clean_within["random"][KEPT]}, {"swag": other.shifted_within["random"][KEPT]}, {"swag": "SWAG"},
        numbers=tuple(KEPT),
    )  # fmt: skip
    (together,), (alone,), (before,) = map(judge, (replace(whole, partial=(own,)), own, whole))
    assert together.methods[0] == before.methods[0]
    assert replace(together.methods[1], n=None) == alone.methods[0]
    assert together.methods[1].n == 4


# --- f2, g and h ------------------------------------------------------------------------------------------------------


def test_shift_widens_the_lead_by_a_linear_contrast() -> None:
    evidence = made_shift()
    (claim,) = judge(evidence)

    def contrast(runs: list[int]) -> float:
        return float(np.mean(whole(runs)))

    def whole(runs: list[int]) -> Floats:
        """[N]"""

        def lead(between: Floats, within: Floats) -> Floats:
            pairs = [between[i, j] for i, j in itertools.combinations(runs, 2)]
            return np.asarray(np.mean(pairs, axis=0) - np.mean([within[i] for i in runs], axis=0))

        shifted = lead(evidence.shifted_between, evidence.shifted_within["random"])
        return np.asarray(shifted - 1.1 * lead(evidence.clean_between, evidence.clean_within["random"]))

    value, low, high, p = _with_interval(contrast, whole(list(range(RUNS))), RUNS, margin=0.0)
    assert (claim.id, claim.word) == ("f2", "holds")
    assert (claim.estimate, claim.low, claim.high, claim.p) == pytest.approx((value, low, high, p), abs=1e-6)
    (flat,) = judge(made_shift(lead=1.0))
    assert flat.word == "does not hold"
    (asked,) = judge(made_shift(within=0.2))  # samples diverge more than runs: (f1) fails first
    assert asked.word == "cannot tell"
    assert "only where (f1) holds" in asked.because
    assert judge(replace(evidence, clean_within={}, shifted_within={}, titles={})) == ()


def test_initial_weights_against_batches_by_repetition() -> None:
    evidence = made_seeds()
    (claim,) = judge(evidence)
    arms = evidence.arms

    by_init, by_batches = (arms["A"] != arms["B"]), (arms["A"] != arms["C"])

    def ratio(kept: list[int]) -> float:
        return math.log(by_init[kept].sum() / by_batches[kept].sum())

    influence = by_init.mean(axis=0) / by_init.mean() - by_batches.mean(axis=0) / by_batches.mean()
    value, low, high, _ = _with_interval(ratio, influence, 4, margin=math.log(1.1))
    assert (claim.estimate, claim.low, claim.high) == pytest.approx((value, low, high), abs=1e-6)
    assert (claim.id, claim.word, claim.n, claim.unit) == ("g", "holds", 4, "repetition")
    assert "learning rate 0.001" in claim.estimand
    assert claim.parts["both others"] == pytest.approx((arms["A"] != arms["D"]).mean())
    (equal,) = judge(made_seeds(init=0.1, batches=0.3))
    assert equal.word == "does not hold"
    (few,) = judge(made_seeds(2))
    assert few.because.startswith("2 repetitions: at least 3")
    assert few.because.endswith("raise seeds.repetitions")


def test_a_failed_repetition_is_left_out_and_counted() -> None:
    evidence = made_seeds(5)
    broken = {name: labels.copy() for name, labels in evidence.arms.items()}
    broken["B"][3] = 0  # one class for everything: as good as chance
    (claim,) = judge(replace(evidence, arms=broken))
    assert claim.n == 4
    assert "1 of 5 repetitions failed" in claim.because


def test_typical_samples_that_stand_in_for_wide_ones_are_not_asked_to_be_stronger() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(CLASSES, size=EXAMPLES)
    finals = np.stack([flipped(rng, truth, 0.2) for _ in range(4)])
    weak = [np.stack([flipped(rng, final, 0.002) for _ in range(4)]) for final in finals]
    method = MethodEvidence("swag", "SWAG", near=weak, wide=weak, strengths=[[0.25, 0.5, 0.75, 1.0]] * 4)
    for near, advice in ((weak, "ask for wide samples (spread)"), ((), "draw stronger ones (spread_max)")):
        evidence = Evidence(CLASSES, truth, finals=finals, methods=(replace(method, near=near),))
        claim = next(claim for claim in judge(evidence) if claim.id == "d1")
        assert claim.because.endswith(advice)


def test_cycles_of_a_chain_against_other_chains() -> None:
    evidence = made_chains()
    (claim,) = judge(evidence)
    labels, finals = evidence.labels, evidence.finals
    assert finals is not None
    pairs = list(itertools.combinations(range(3), 2))

    def own(kept: list[int]) -> Floats:
        return np.asarray(np.mean([labels[k, c] != labels[k, d] for k in kept for c, d in pairs], axis=0))

    def others(kept: list[int]) -> Floats:
        return np.asarray(np.mean([
            labels[k, a] != labels[m, b]
            for k, m in itertools.combinations(kept, 2) for c, d in pairs for a, b in ((c, d), (d, c))
        ], axis=0))  # fmt: skip

    def ratio(kept: list[int]) -> float:
        return math.log(others(kept).mean() / own(kept).mean())

    def relative(x: Floats, y: Floats) -> Floats:
        return np.asarray(x / x.mean() - y / y.mean())

    everyone, runs = [0, 1, 2, 3], [0, 1, 2]
    influence = relative(others(everyone), own(everyone))
    value, low, high, _ = _with_interval(ratio, influence, 4, margin=math.log(1.1))
    assert (claim.estimate, claim.low, claim.high) == pytest.approx((value, low, high), abs=1e-6)
    assert (claim.id, claim.word, claim.n, claim.unit) == ("h", "holds", 4, "chain")

    # Against separately trained runs: both kinds of unit vary, and n is the smaller number of them.
    def apart(runs: list[int]) -> Floats:
        return np.asarray(np.mean([finals[i] != finals[j] for i, j in itertools.combinations(runs, 2)], axis=0))

    def jackknife(values: list[float]) -> float:
        return (len(values) - 1) / len(values) * float(np.square(np.array(values) - np.mean(values)).sum())

    variance = (
        jackknife([math.log(own([j for j in everyone if j != i]).mean()) for i in everyone])
        + jackknife([math.log(apart([j for j in runs if j != i]).mean()) for i in runs])
        + np.var(relative(apart(runs), own(everyone))) / EXAMPLES
    )
    centre = math.log(apart(runs).mean() / own(everyone).mean())
    half = student.ppf(0.975, 2) * math.sqrt(variance)
    assert claim.parts["ratio to those runs"] == pytest.approx(math.exp(centre))
    assert claim.parts["its lower end"] == pytest.approx(math.exp(centre - half), rel=1e-6)
    assert claim.parts["its upper end"] == pytest.approx(math.exp(centre + half), rel=1e-6)


def test_chains_have_gates_too() -> None:
    (two,) = judge(made_chains(2))
    assert two.because.startswith("2 chains: at least 3")
    (one_cycle,) = judge(made_chains(4, 1))
    assert "at least 2 are needed" in one_cycle.because
    (alone,) = judge(replace(made_chains(), finals=None))
    assert "ratio to those runs" not in alone.parts
    far_evidence = made_chains(own=0.6)  # cycles as far apart as chains
    (far,) = judge(far_evidence)
    assert far.word != "holds"
    (none,) = judge(replace(far_evidence, labels=np.empty((0, 3, EXAMPLES), np.int64), numbers=()))
    assert "0 chains: at least 3" in none.because


def test_separate_runs_that_say_otherwise_are_named_beside_the_word() -> None:
    evidence = made_chains()
    (alike,) = judge(evidence)
    assert (alike.word, alike.qualifier) == (Word.HOLDS, "")  # the runs say the same
    # runs that hardly differ: chains are apart, but a new cycle gives as much as a new network
    finals = np.repeat(evidence.truth[None], 4, axis=0)
    finals[np.arange(4)[:, None], np.arange(4)[:, None] + np.arange(0, EXAMPLES, 40)] += 1
    (other,) = judge(replace(evidence, finals=finals % CLASSES))
    assert other.word == "holds"
    assert other.qualifier.startswith("but separately trained runs differ 0.")


@pytest.mark.slow
def test_intervals_of_gains_repetitions_and_chains_cover_the_truth() -> None:
    """95 % intervals over fresh problems; the bar is two standard errors (0.028 each of 60) below 0.95."""

    def estimates(kind: str, seed: int, units: int, examples: int | None = None) -> list[ClaimRecord]:
        if kind == "e1":
            drawn = _problem(units, examples or EXAMPLES, seed=seed)
            found = judge(_evidence(replace(drawn, samples={"near": drawn.samples["near"]}), with_js=False))
            return [claim for claim in found if claim.id == "e1"]
        if kind == "g":
            return list(judge(made_seeds(units, seed=seed)))
        return list(judge(made_chains(units, seed=seed)))

    # What the quantities tend to: e1 from a large problem; g and h by hand, from the chance that two labels differ.
    q, r = 0.05, 0.2  # of a chain: changed in a cycle, changed in its centre
    same = (1 - q) ** 2 + q * q / (CLASSES - 1)
    one = (1 - r) * (1 - q) + r * q / (CLASSES - 1)  # a cycle's label is right
    other = one**2 + (1 - one) ** 2 / (CLASSES - 1)
    (large,) = estimates("e1", 999, 20, 8000)
    assert large.methods[0].estimate is not None
    truths = {"g": math.log(0.3 / 0.1), "h": math.log((1 - other) / (1 - same)), "e1": large.methods[0].estimate.value}
    for kind, expected in truths.items():
        covered = []
        for seed in range(60):
            (claim,) = estimates(kind, seed, 4)
            interval = claim.methods[0].estimate if kind == "e1" else claim
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            covered.append(interval.low <= expected <= interval.high)
        assert np.mean(covered) >= 0.89, kind


# --- chosen strengths, and methods that train on ----------------------------------------------------------------------


def _at_zero(evidence: Evidence, problem: Problem) -> Evidence:
    """The same, the first method's best strength being 0: what it averages is the run's own function."""
    first, *others = evidence.methods
    alone = Members.of(functions_of(problem.finals), problem.truth)
    return replace(evidence, methods=(replace(first, drawn=SAMPLES, strength=0.0, members=alone, js=None), *others))


def test_where_the_best_strength_is_0_averaging_gains_nothing_and_there_is_no_divergence(problem: Problem) -> None:
    found = {claim.id: claim for claim in judge(_at_zero(_evidence(problem), problem))}
    gain = _method(found["e1"], "near")
    assert gain.word == "holds"
    assert gain.because == "averaging its samples gains nothing: strength 0 predicts best"
    assert gain.estimate is not None
    assert (gain.estimate.value, gain.estimate.low, gain.estimate.high) == (0, 0, 0)
    both = _method(found["e2"], "near")
    assert both.word == "does not hold"
    divergence = _method(found["f1"], "near")
    assert divergence.word == "cannot tell"
    assert "strength 0" in divergence.gate
    assert _method(found["f1"], "wide").gate == ""


def test_methods_of_strength_0_are_closed_under_shift_too(problem: Problem) -> None:
    rng = np.random.default_rng(5)
    n, images = problem.finals.shape[:2]
    between, within = 0.2 + 0 * rng.random((n, n, images)), 0.01 + 0.001 * rng.random((n, images))
    evidence = ShiftEvidence(
        CLASSES, problem.truth, problem.finals.argmax(axis=-1), between, 2 * between,
        {"wide": within}, {"wide": within}, {"near": "Near", "wide": "Wide"}, alike=["near"],
    )  # fmt: skip
    (claim,) = judge(evidence)
    assert "strength 0" in _method(claim, "near").gate
    assert _method(claim, "wide").gate == ""
    assert claim.qualifier == "holds for the others"


def test_a_method_that_trains_on_is_measured_against_the_better_of_final_and_last_iterate(problem: Problem) -> None:
    """By hand: gains against whichever is better in each run; losses of accuracy in (d) too, distances to the final."""
    rng = np.random.default_rng(6)
    truth = problem.truth
    moved = 0.5 * np.eye(CLASSES)[truth] + 0.1 * rng.normal(size=problem.finals.shape)
    last = softmax(np.log(problem.finals) + moved)
    better = np.arange(len(last)) % 2 == 0
    before = _evidence(problem)
    iterates = LastIterates(last.argmax(axis=-1), better, Members.of(functions_of(last), truth).brier)
    first, *others = before.methods
    strong = list(problem.samples["near"].argmax(axis=-1))
    s = [np.linspace(0.1, 1, SAMPLES)] * len(last)
    trained = replace(first, last=iterates, wide=strong, strengths=s, cost=Cost(1.5, SAMPLES))
    evidence = replace(before, methods=(trained, *others))
    found = {claim.id: claim for claim in judge(evidence)}
    parts = _method(found["e1"], "near").parts
    w = np.full(len(truth), 1 / len(truth))
    reference = np.where(better[:, None, None], last, problem.finals)
    averaged = np.mean([_brier(own.mean(axis=0), truth, w) for own in problem.samples["near"]])
    gain = np.mean([_brier(one, truth, w) for one in reference]) - averaged
    assert parts["Brier gain of averaging a run's samples"] == pytest.approx(gain, abs=1e-12)
    over = {name: np.mean([_brier(one, truth, w) for one in p]) - averaged
            for name, p in (("the runs", problem.finals), ("the method's last iterates", last))}  # fmt: skip
    for name, value in over.items():
        assert parts[f"Brier gain over {name}"] == pytest.approx(value, abs=1e-12)
    assert over["the method's last iterates"] < gain < over["the runs"]
    assert (parts["training, in runs"], parts["forward passes"]) == (1.5, SAMPLES)
    read = [equal_accuracy._samples(evidence, method).sums() for method in (trained, replace(trained, last=None))]
    far = [sums.point(cost=1.0).distance for sums in read]  # everything is within reach: distances are to the finals
    assert far[0] == pytest.approx(far[1])
    small = read[0].point(cost=0.0)
    assert small.support == "no common support"  # the finals, at strength 0, are below their references


def test_a_run_left_out_takes_its_last_iterate_along(problem: Problem) -> None:
    labels = problem.finals.argmax(axis=-1)
    iterates = LastIterates(labels, np.arange(len(labels)) == 1)
    method = replace(_evidence(problem).methods[0], last=iterates).without(1)
    assert method.last is not None
    assert not method.last.better.any()
    assert len(method.last.labels) == len(labels) - 1


# --- as they are told -------------------------------------------------------------------------------------------------


def _found(claims: Sequence[ClaimRecord]) -> dict[str, Any]:
    """The finding as the database holds it."""
    independent = {"disagreement": 0.2, "disagreement_sd": 0.01, "cosine": 0.01, "pairs": 10}
    document = {"split": "test", "independent": independent, "claims": {claim.id: asdict(claim) for claim in claims}}
    plain: dict[str, Any] = orjson.loads(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
    return plain


def _finding(claims: Sequence[ClaimRecord]) -> Finding:
    return Finding.from_json(_found(claims))


def _told(found: dict[str, Any], look: Look = FIRST) -> list[dict[str, Any]]:
    """The claims as the API gives them."""
    return [one.to_json() for one in Finding.from_json(found).told(look)]


def test_claims_are_told_in_order_with_the_correction_for_all_of_them() -> None:
    base = ClaimRecord(
        "g", "G", "", Word.HOLDS, "", math.log(1.1), 4, 1000, unit="repetition", p=0.02, estimate=math.log(2)
    )
    known = _found([
        base,
        replace(base, id="a", margin=0.1, p=0.001, estimate=0.01, low=-0.02, high=0.04),
        replace(base, id="b", word="cannot tell", p=None, estimate=None),
    ])  # fmt: skip
    told = _told(known)
    assert [claim["id"] for claim in told] == ["a", "b", "g"]
    # two answered: levels 0.0125 and 0.025
    assert [claim["survives"] for claim in told] == [True, False, True]
    assert [(c["glyph"], c["effect"], c["interval"]) for c in told] == [
        ("✓", "0.01", "−0.02 to 0.04"), ("?", "–", ""), ("✓", "2 times", "")
    ]  # fmt: skip
    assert Finding.from_json(known).document()["claims"] == told
    listed = {**known, "claims": list(known["claims"].values())}  # as one stage once wrote them
    assert _told(listed) == told
    assert _told({}) == []
    older = _found([replace(base, id="d", unit="run")])
    assert [claim["id"] for claim in _told(older)] == ["d1"]
    both = _found([replace(base, id="d", unit="run"), replace(base, id="d1", unit="run", estimate=0.5)])
    assert [(claim["id"], claim["estimate"]) for claim in _told(both)] == [("d1", 0.5)]
    assert Finding.from_json({"split": "test"}).document() == {"split": "test"}


def _tested(word: Any, p: tuple[float, float], letter: str = "c", gate: str = "") -> ClaimRecord:
    """A claim over one method with these p-values (of holding, of failing)."""
    found = Estimate(0.5, 0.1, 0.9, 0.2, 0.2, *p)
    method = MethodRecord("random", "Random", word, "", found, gate)
    return ClaimRecord(
        letter, letter, "", word, "", 0.2, 4, 1000, p=min(p), estimate=0.5, low=0.1, high=0.9, methods=(method,)
    )


def test_holm_counts_every_claim_that_was_tested_whether_it_got_a_word_or_not() -> None:
    """p = 0.010 stands among two tests (level 0.0125) and not among three (0.025 / 3)."""
    word = _tested("holds", (0.010, 0.99))
    open_ = _tested("cannot tell", (0.2, 0.8), "d1")
    short = _tested("cannot tell", (0.0001, 0.9999), "d2", gate="even the strongest sample")
    gate = MethodRecord("random", "Random", Word.CANNOT_TELL, "", None, "a run has 2 samples")
    closed = replace(_tested("cannot tell", (0.5, 0.5), "f1"), p=None, methods=(gate,))
    told = {c["id"]: c for c in _told(_found([word, open_]))}
    assert (told["c"]["survives"], told["c"]["tested"]) == (True, 2)
    told = {c["id"]: c for c in _told(_found([word, open_, short, closed]))}
    assert (told["c"]["survives"], told["c"]["tested"]) == (False, 3)
    assert told["d2"]["p"] == pytest.approx(0.9999), "where the range is too short only `does not hold` could be told"
    assert told["f1"]["p"] is None


def test_older_findings_are_corrected_anew_from_the_intervals_they_kept() -> None:
    """They kept no p of claims without a word, and counted only the others."""
    word = _tested("holds", (0.010, 0.99))
    half = 0.3
    plain = ClaimRecord("b", "b", "", Word.CANNOT_TELL, "", 0.2, 4, 1000, estimate=0.3, low=0.3 - half, high=0.3 + half)
    within = replace(plain, id="a", margin=0.1, estimate=0.02, low=0.02 - half, high=0.02 + half)
    told = {c["id"]: c for c in _told(_found([word, plain, within]))}
    error = half / float(student.ppf(0.975, 3))
    assert told["b"]["p"] == pytest.approx(student.sf(0.1 / error, 3))
    holds = max(student.sf(0.08 / error, 3), student.sf(0.12 / error, 3))  # inside both margins
    fails = min(student.sf(-0.08 / error, 3), student.sf(-0.12 / error, 3))  # beyond either
    assert told["a"]["p"] == pytest.approx(min(holds, fails))
    assert told["c"]["tested"] == 3
    assert not told["c"]["survives"]
    assert "by the rule before, which counted answers only, it stood" in told["c"]["note"]
    assert told["b"]["note"] == ""
    # two of three methods were counted: with the third, whose range was too short, 0.012 x 3 is no longer below 0.025
    failing = _tested("does not hold", (0.988, 0.012)).methods[0]
    other = replace(failing, word="cannot tell", estimate=Estimate(0.5, 0.1, 0.9, 0.2, 0.2, 0.5, 0.5))
    claim = replace(_tested("does not hold", (1, 0.024)), methods=(failing, other, replace(other, gate="too short")))
    (one,) = _told(_found([claim]))
    assert (one["word"], one["glyph"], one["p"]) == ("cannot tell", "?", pytest.approx(0.036))
    assert "it did not hold" in one["note"]


def test_the_p_of_a_test_is_the_same_as_judged_and_as_told(claims: dict[str, ClaimRecord]) -> None:
    told = {c["id"]: c["p"] for c in _told(_found(list(claims.values())))}
    assert told == pytest.approx({letter: claim.p for letter, claim in claims.items()})
    assert None not in told.values()


def _read_off() -> dict[str, Any]:
    """A finding with (d1) over three methods, one of which could not be read."""

    def part(name: str, value: float, gate: str = "") -> MethodRecord:
        ends = {"its lower end": value - 0.01, "its upper end": value + 0.01}
        return MethodRecord(name, name, Word.HOLDS, "", None, gate, {"samples at equal accuracy": value, **ends})

    found = (part("random", 0.04), part("diagonal", 0.061), part("dropout", 0.2, "even the strongest sample"))
    return _found(
        [ClaimRecord("d1", "D", "", Word.HOLDS, "", 0.1, 4, 1000, methods=found, parts={"independent runs": 0.2})]
    )


def test_equal_accuracy_is_one_number_of_the_farthest_method_with_open_gates() -> None:
    known = _read_off()
    best = Finding.from_json(known).best_method
    assert best is not None
    assert (best.method, best.disagreement) == ("diagonal", 0.061)
    said = "the samples of diagonal Gaussian, the farthest of the subspace methods, change 6.1 % (95 % interval 5.1 to"
    assert f"Where they cost one point of accuracy, {said} 7.1 %)." in Finding.from_json(known).sentence
    assert Finding.from_json(known).line == "runs disagree on 20.0 %, at equal accuracy diagonal Gaussian changes 6.1 %"
    older = known | {"claims": {"d": known["claims"]["d1"] | {"id": "d"}}}
    for one in older["claims"]["d"]["methods"]:
        one["parts"].pop("its lower end")
    assert "change 6.1 %." in Finding.from_json(older).sentence


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert Finding.from_json({}).headline == ""


def test_negative_numbers_have_a_true_minus() -> None:
    known = _found([])
    known["independent"]["cosine"] = -0.004
    assert "the cosine of their weights is −0.004." in Finding.from_json(known).sentence


def test_margins_of_a_spec_are_those_of_the_verdict_unless_edited() -> None:
    from modescape.claims.claim import margins
    from modescape.spec import parse
    from modescape_api.pages.claims import answered

    assert margins(parse({})) == {letter: claim.default_margin for letter, claim in CLAIMS.items()}
    edited = margins(parse({"margins": {"f1": 100, "e2": 0.5}}))
    found = judge(_evidence(_problem()), margins=edited)
    rows = {row.told.record.id: row for row in answered(_finding(found), ())}
    assert rows["f1"].told.record.word == "does not hold"
    assert rows["f1"].margin == "above 100 times (edited; by default 1.25 times)"
    assert rows["e2"].margin == "above 0.5 of the ensemble’s gain (edited; by default 0.05)"
    assert rows["e1"].margin == "below 0.9 of the ensemble’s gain"
    assert rows["e1"].effect.endswith(" of the ensemble’s gain")
    for letter in ("e1", "e2"):
        assert rows[letter].told.bar.decides in {method.title for method in _claim(found, letter).methods}


def _claim(found: Sequence[ClaimRecord], letter: str) -> ClaimRecord:
    return next(claim for claim in found if claim.id == letter)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["holds"], "1 of 1 claim holds here."),
        (["does not hold"], "0 of 1 claims holds here, 1 does not."),
        (["holds", "cannot tell"], "1 of 2 claims holds here, 1 cannot be told."),
        (["does not hold"] * 2, "0 of 2 claims hold here, 2 do not."),
        (["holds", "holds", "does not hold"], "2 of 3 claims hold here, 1 does not."),
    ],
)
def test_how_many_claims_hold_is_said_in_one_and_in_many(words: list[str], said: str) -> None:
    from modescape_api.pages.claims import answered, headline

    row = answered(Finding.from_json(_found(judge(_evidence(_problem())))), ())[0]
    rows = [replace(row, told=replace(row.told, record=replace(row.told.record, word=Word(word)))) for word in words]
    assert headline(rows) == said


@pytest.mark.parametrize("letter", ["c", "e1", "e2", "f1"])
def test_page_api_and_comparison_give_the_same_numbers_of_a_claim(letter: str) -> None:
    """Those of the method that decides, at the level its word needs; worked out here for three methods."""
    from modescape.science.confidence import t_quantile
    from modescape_api.pages.claims import answered

    judged = _found(judge(_evidence(_problem())))
    (told,) = (claim for claim in Finding.from_json(judged).document()["claims"] if claim["id"] == letter)
    (row,) = (row for row in answered(Finding.from_json(judged), ()) if row.told.record.id == letter)
    assert len(told["methods"]) > 1
    (own,) = (m["estimate"] for m in told["methods"] if m["title"] == told["decides"])
    k = len([m for m in told["methods"] if not m["gate"]])
    is_plain = told["word"] == ("does not hold" if letter == "e2" else "holds")
    confidence = 0.95 if is_plain else 1 - 0.05 / k
    half = (own["high"] - own["value"]) / t_quantile(0.975, told["n"] - 1)
    half *= t_quantile((1 + confidence) / 2, told["n"] - 1)
    assert told["confidence"] == pytest.approx(confidence)
    assert [told[end] for end in ("low", "estimate", "high")] == pytest.approx(
        [own["value"] - half, own["value"], own["value"] + half], rel=1e-6
    )
    assert row.effect.startswith(told["effect"])
    assert (row.told.interval, row.told.bar.decides) == (told["interval"], told["decides"])
    assert told["at_look"]["interval"] == told["interval"], "at the first look nothing is spent"
    later = next(c for c in _told(judged, replace(FIRST, number=2)) if c["id"] == letter)
    if later["at_look"]["word"] == told["word"]:
        assert later["at_look"]["low"] < told["low"] < told["high"] < later["at_look"]["high"]


@pytest.mark.parametrize("letter", ["e1", "e2", "f1"])
def test_bar_and_word_of_a_claim_over_methods_agree(letter: str) -> None:
    """Of a few hundred random ones: beyond the margin where it holds, short of it where it does not, else across it."""
    from modescape.science.confidence import Estimate, t_quantile, t_tail
    from modescape_api.pages.claims import MARGIN_AT, answered

    claim, random = CLAIMS[letter], np.random.default_rng(7)
    above = claim.side is Side.ABOVE
    seen: dict[str, int] = {}
    for _ in range(300):
        n, methods = int(random.integers(3, 11)), int(random.integers(1, 6))
        findings = []
        for i in range(methods):
            value, error = (
                claim.default_margin + random.normal() * 2 + random.choice([-3, 0, 3]),
                float(random.uniform(0.1, 1)),
            )
            half, t = t_quantile(0.975, n - 1) * error, (value - claim.default_margin) / error
            holds, fails = (t_tail(t, n - 1), t_tail(-t, n - 1)) if above else (t_tail(-t, n - 1), t_tail(t, n - 1))
            known = Estimate(value, value - half, value + half, error, claim.default_margin, holds, fails, above=above)
            findings.append(MethodRecord(f"m{i}", f"M{i}", known.word, "", known))
        base = ClaimRecord(letter, claim.title, "", Word.CANNOT_TELL, "", claim.default_margin, n, 2000)
        join = some_method if letter == "e2" else every_method
        (row,) = answered(_finding([join(claim, base, findings)]), ())
        assert row.picture is not None
        assert row.told.bar.decides
        low, high = row.picture.low - MARGIN_AT, row.picture.high - MARGIN_AT
        expected = "holds" if low > 0 else "does not hold" if high < 0 else "cannot tell"
        assert abs(low) < 0.1 or abs(high) < 0.1 or row.told.record.word == expected, row
        seen[row.told.record.word] = seen.get(row.told.record.word, 0) + 1
    assert min(seen.values()) > 20, seen
    assert len(seen) == 3


def _row_of(letter: str, low: float, value: float, high: float) -> ClaimRecord:
    margin = CLAIMS[letter].default_margin
    word = "holds" if low > margin else "does not hold" if high < margin else "cannot tell"
    return ClaimRecord(letter, letter, "", Word(word), "", margin, 5, 2000, estimate=value, low=low, high=high, p=0.001)


def test_bars_of_ratios_have_one_scale_with_ticks_and_others_their_own() -> None:
    """Of one page: bars of ln-length 0.56 and 3.2 may not look alike, and a tick of 2 times is where 2 times is."""
    from modescape_api.pages.claims import FEWEST, MARGIN_AT, ROOM, WIDTH, answered

    ends = {"b": (1.98, 2.62, 3.47), "d1": (0.707, 2.0, 5.65), "d2": (0.0391, 1.04, 27.7)}
    records = [_row_of(letter, *map(math.log, known)) for letter, known in ends.items()]
    rows = {row.told.record.id: row for row in answered(_finding([*records, _row_of("a", -0.02, 0.01, 0.04)]), ())}
    for letter, (low, _, high) in ends.items():
        picture = rows[letter].picture
        assert picture is not None
        assert {t.text for t in picture.ticks} >= {"0.5", "1", "2", "4"}
        assert [t.text for t in picture.ticks if t.is_null] == ["1"]
        one, two = (next(t.x for t in picture.ticks if t.text == text) for text in ("1", "2"))
        assert two - one == pytest.approx(FEWEST * math.log(2), abs=0.2), "the same for all"
        for end, cut, place in ((low, picture.cut_low, picture.low), (high, picture.cut_high, picture.high)):
            expected = one + FEWEST * math.log(end)
            assert cut == (not ROOM - 1 <= expected <= WIDTH - ROOM + 1)
            assert place == pytest.approx(min(max(expected, ROOM), WIDTH - ROOM), abs=0.2)
    assert rows["d2"].picture is not None
    assert rows["d2"].picture.cut_low
    cosines = rows["a"].picture
    assert cosines is not None
    at = {t.text: t.x for t in cosines.ticks}
    assert at["±0.1"] == pytest.approx(MARGIN_AT), "the margin of (a) is one of its ticks"
    assert [t.text for t in cosines.ticks if t.is_null] == ["0"]
    assert at["±0.1"] < at["±0.05"] < at["0"], "nearer to zero is further beyond the margin"
    assert at["±0.05"] - MARGIN_AT == pytest.approx((at["0"] - MARGIN_AT) / 2, abs=0.2)


def test_numbers_behind_a_claim_have_the_form_of_the_sentence(claims: dict[str, ClaimRecord]) -> None:
    assert CLAIMS["b"].part("across runs", 0.08508333) == "8.5 %"
    assert CLAIMS["d1"].part("samples at equal accuracy", 0.0425833) == "4.3 %"
    assert CLAIMS["d2"].part("two samples of a run at equal accuracy", 0.0817) == "8.2 %"
    assert CLAIMS["h"].part("its upper end", 4.85) == "4.85", "which is a ratio there"
    assert CLAIMS["e1"].part("accuracy gain of both", -0.0013) == "−0.1 points"
    assert CLAIMS["c"].part("fewest usable samples in a run", 10.0) == "10"
    parts = {name for one in (claims["c"], *claims["c"].methods) for name in one.parts}
    assert len(parts & set(CLAIMS["c"].shares)) >= 2, "declared by the names that judging gives"


def test_an_ensemble_of_four_says_of_how_many_runs() -> None:
    from modescape.finding import Gain
    from modescape_api.pages.claims import GainRow

    gain = Gain(method=None, members=4, brier=0.03, training=4.0, passes=4)
    assert GainRow(gain, 5).title == "Ensemble of 4 (mean over every 4 of the 5 runs)"
    assert GainRow(gain, 4).title == "Ensemble of 4"
    assert GainRow(gain, 3).title == "Ensemble of 4 (from the pairs of 3 runs)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def page(site: Served) -> Iterator[httpx.Client]:
    with site.client(headers={"Accept": "text/html"}) as client:
        yield client


@pytest.fixture(scope="module")
def judged(site: Served, claims: dict[str, ClaimRecord]) -> Experiment:
    """An experiment with claims c to f1 and h, one of which rests on a run."""
    row = finished(site.laboratory, name="judged")
    (cycles,) = judge(made_chains())
    rests = replace(claims["c"], rests_on=(3,))
    _write(site, row, finding=orjson.dumps(_found([rests, *(claims[k] for k in ("e1", "e2", "f1")), cycles])).decode())
    return site.laboratory.store.experiments.get(row.id)


def _write(site: Served, row: Experiment, **columns: Any) -> None:
    engine = sqlalchemy.create_engine(site.laboratory.store.url)
    settings = ", ".join(f"{name} = :{name}" for name in columns)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(f"UPDATE experiment SET {settings} WHERE id = :id"), {"id": row.id, **columns}
        )
    engine.dispose()


@pytest.mark.slow
def test_the_page_of_an_experiment_tells_every_claim(page: httpx.Client, judged: Experiment) -> None:
    text = page.get(f"/experiments/{judged.slug}").text
    claims = text[text.index('id="claims"') : text.index('id="figures"')]
    for letter in ("c", "e1", "e2", "f1", "h"):
        assert f'id="claim-{letter}"' in claims
    assert "Rests on run 3" in claims
    assert "Not covered: another training set" in claims
    assert 'href="#tsne-samples"' in claims
    assert "Brier gain of averaging a run&#39;s samples" in claims
    assert 'href="#claims"' in text[: text.index('id="claims"')]
    # without a word: each with what would decide it, and a clone that has it
    for letter, add in (("f2", "shift"), ("g", "seeds")):
        assert f"({letter}) " in claims
        assert f"/launch?from={judged.slug}&amp;with={add}" in claims
    assert 'id="claim-g"' not in claims


@pytest.mark.slow
def test_sentence_strip_list_plane_and_claim_say_the_same_of_equal_accuracy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    known = _read_off()
    known["claims"]["d1"]["methods"] = [known["claims"]["d1"]["methods"][1] | {"method": "random"}]
    with served(tmp_path_factory.mktemp("one")) as site, site.client() as client:
        row = finished(site.laboratory, name="one number")
        _write(site, row, finding=orjson.dumps(known | {"trajectory": {"disagreement": 0.03, "runs": 2}}).decode())
        text = client.get(f"/experiments/{row.slug}", headers={"Accept": "text/html"}).text
        listed = client.get("/api/experiments").json()["items"][0]["finding"]
        plane = client.get(f"/api/experiments/{row.slug}/figures/plane").json()
    first = text[text.index('id="live-verdict"') : text.index('id="claims"')].replace("\N{NO-BREAK SPACE}", " ")
    assert "the samples of random subspace, the farthest of the subspace methods, change 6.1 % (95 %" in first
    assert "recent checkpoints of one run 3.0" in first
    assert re.search(r"aria-label=.[^>]*andom subspace 6.1", first)
    assert listed == "runs disagree on 20.0 %, at equal accuracy random subspace changes 6.1 %"
    assert "6.1" in str(plane)
    assert "change 6.1 %" in str(plane)


def test_the_api_gives_the_claims_of_an_experiment(site: Served, judged: Experiment) -> None:
    with site.client() as client:
        found = client.get(f"/api/experiments/{judged.slug}").json()["findings"]["claims"]
    assert [claim["id"] for claim in found] == ["c", "e1", "e2", "f1", "h"]
    assert {"word", "glyph", "effect", "interval", "because", "methods", "survives", "rests_on"} <= set(found[0])


def test_a_clone_gets_what_decides_a_claim(page: httpx.Client, judged: Experiment) -> None:
    def on(add: str) -> set[str]:
        answer = page.get("/launch", params={"from": judged.slug, "with": add})
        assert answer.status_code == 200
        return set(re.findall(r'<input type="checkbox"[^>]* name="([^"]+)\.on"[^>]* checked', answer.text))

    plain = on("")
    assert plain == {f"methods.{chosen['method']}" for chosen in judged.spec["methods"]}
    assert on("nothing known") == plain
    assert [on(add) - plain for add in ("shift", "seeds", "sgmcmc")] == [{"shift"}, {"seeds"}, {"methods.sgmcmc"}]


def test_figures_an_experiment_cannot_have_say_why_and_how_to_get_them(site: Served, page: httpx.Client) -> None:
    """Of the barest experiment, so that every figure which can be missing is."""
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 1}, "methods": []}, name="bare")
    figures = site.client().get(f"/api/experiments/{row.slug}/figures").json()["items"]
    absent = [figure["name"] for figure in figures if any(need["total"] == 0 for need in figure["needs"])]
    assert {figure["state"] for figure in figures if figure["name"] in absent} == {"not-planned"}
    text = page.get(f"/experiments/{row.slug}").text
    missing = text[text.index('id="missing"') : text.index('id="spec"')]
    assert re.findall(r'<li id="([^"]+)">', missing) == [name for name in absent if name != "logged-curves"]
    assert "stages" not in missing  # why is said in a reader's words
    for add, anchor in set(re.findall(r'/launch\?from=bare(?:&amp;with=([a-z]+))?#(f-[^"]+)"', missing)):
        form = page.get("/launch", params={"from": row.slug, "with": add}).text
        (control,) = re.findall(rf'<input [^>]*id="{re.escape(anchor)}"[^>]*>', form)
        assert (" checked" in control) == bool(add), anchor


def test_what_a_clone_gets_is_a_valid_spec() -> None:
    from modescape.spec import parse
    from modescape_api.pages.forms import with_more

    one = {**SPEC, "ensemble": {"runs": 1}, "methods": [], "training": {"epochs": 2, "checkpoint_every": 2}}
    for add in (
        *(claim.decided_by.add for claim in CLAIMS.values()),
        "planes",
        "tunnels",
        "connectivity",
        "instability",
    ):
        more = parse(with_more(one, add))
        assert more != parse(one)
        assert parse(with_more(with_more(one, add), add)) == more
    assert with_more(one, "") == one
    added = parse(with_more(one, "shift"))
    assert added.shift is not None
    assert added.ensemble.runs == 3
    assert all(method.typical >= 3 for method in added.methods)


# --- the paper's numbers ----------------------------------------------------------------------------------------------


def test_empty_rows_of_the_paper_say_which_preset_fills_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("empty")) as site, site.client() as client:
        rows = client.get("/api/paper").json()["items"]
        text = client.get("/paper", headers={"Accept": "text/html"}).text
    printed = [row["value"] for row in rows]
    assert printed == [0.64, 0.71, 0.90, 0.384, 0.155, 0.153, 0.087, 0.034, 0.22]
    assert all(row["nearest"] == [] for row in rows)
    assert {row["preset"]: row["short"] for row in rows} == {
        "fig-6": "fig-6-short", "fig-6-medium": "", "fig-6-resnet20": "", "svhn-row": "svhn-row-short", "s6": "s6-short"
    }  # fmt: skip
    for row in rows:
        assert f"/launch?preset={row['preset']}" in text
    assert text.count("No experiment here has this number yet") == len(rows)


def test_numbers_of_the_paper_stand_beside_the_nearest_experiments(site: Served, page: httpx.Client) -> None:
    from modescape.records import PlannedStage
    from modescape.registry import presets
    from modescape.spec import parse

    store = site.laboratory.store
    near = store.experiments.create(
        name="medium again", spec=parse(presets["fig-6-medium"].call()), stages=[PlannedStage("train", "0")]
    )
    far = finished(site.laboratory, name="far away")
    lost = store.experiments.create(
        name="medium lost", spec=parse(presets["fig-6-medium"].call()), stages=[PlannedStage("train", "0")]
    )
    spec = presets["fig-6-medium"].call()
    spec["data"] = {name: value for name, value in spec["data"].items() if name != "validation_images"}
    other = store.experiments.create(name="medium open", spec=parse(spec), stages=[PlannedStage("train", "0")])
    _write(site, near, accuracy=0.698)
    _write(site, other, accuracy=0.69)
    _write(site, lost, accuracy=0.708, status="failed")
    _write(site, far, finding=orjson.dumps({"family": {"exponent": 0.31, "samples": 20}}).decode())
    engine = sqlalchemy.create_engine(store.url)
    stage = store.stages.of(far.id)[0].id
    with engine.begin() as connection:
        for group, value in (("independent", 0.41), ("random", 0.2), ("random/more", 9.0)):
            connection.execute(
                sqlalchemy.text(
                    "INSERT INTO measurement (id, experiment_id, stage_id, subject, metric, value, n, details) VALUES "
                    "(:id, :experiment, :stage, :subject, 'js_mean', :value, 2, :details)"
                ),
                {"id": f"{group}-js", "experiment": far.id, "stage": stage, "subject": f"ood/0/{group}", "value": value,
                 "details": orjson.dumps({"dataset": "digits", "members": 3}).decode()},
            )  # fmt: skip
    engine.dispose()
    rows = {row["key"]: row for row in page.get("/api/paper").json()["items"]}
    nearest = rows["accuracy-medium-cnn"]["nearest"]
    assert (nearest[0]["slug"], nearest[0]["value"], nearest[0]["differences"]) == (near.slug, 0.698, [])
    assert (nearest[1]["slug"], nearest[1]["differences"]) == (
        other.slug, ["validation images the set’s default instead of 500"]
    )  # fmt: skip
    assert not nearest[2]["same_data"]
    small = [one["slug"] for one in rows["accuracy-small-cnn"]["nearest"]]
    assert far.slug in small[: small.index(near.slug) if near.slug in small else None]  # network before data
    (independent,) = rows["js-independent"]["nearest"]
    assert (independent["slug"], independent["value"]) == (far.slug, 0.41)
    assert {"between 3 functions instead of 5", "data Digits instead of CIFAR-10", "runs 2 instead of 5"} <= set(
        independent["differences"]
    )
    assert rows["js-random"]["nearest"][0]["value"] == 0.2
    assert rows["js-diagonal"]["nearest"] == []
    assert rows["exponent"]["nearest"][0]["value"] == 0.31
    assert lost.slug not in str(rows)
    text = page.get("/paper").text
    assert "69.8 %" in text
    assert "−1.2 points" in text
    # only the same network on the same data has a distance; what else is near is named below the preset to run
    assert text.count(" points</small>") == 2 + sum(row["kept"] is not None for row in rows.values())
    for row in text.split("<tbody>")[1:]:
        if "No experiment here has this number yet" in row:
            assert "/launch?preset=" in row
    assert "Nearest, though not the same quantity" in text
    assert f"/experiments/{far.slug}" in text


def test_a_claim_that_was_asked_for_and_has_failed_offers_no_clone_with_it() -> None:
    from modescape.spec import parse
    from modescape_api.pages.claims import undecided

    asked = parse({"methods": [{"method": "sgmcmc"}]})
    (failed,) = (one for one in undecided(asked, Finding.from_json({}), [], is_alive=False) if one.letter == "h")
    assert (failed.add, "asked for" in failed.needs) == ("", True)
    (never,) = (one for one in undecided(parse({}), Finding.from_json({}), [], is_alive=False) if one.letter == "h")
    assert (never.add, never.needs) == ("sgmcmc", "needs the method cyclical SG-MCMC")
