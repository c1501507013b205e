"""What is odd about an ensemble is found where it is, and not found where it is not: constructed ones and real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from real_data import mnist_logits, mnist_test, real

from modescape.imported.answers import answered, examined, renamed
from modescape.imported.door import Findings, Level, Odd, better_permutation, examine
from modescape.imported.ensemble import Ensemble, Member, OutputKind, Recipe
from modescape.imported.kinds import logits_of, looks_like
from modescape.imported.memory import Samples, from_arrays
from modescape.imported.reading import read

M, N, K = 5, 600, 6


def truth(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, K, N)


def logits(labels: np.ndarray, *, members: int = M, seed: int = 1, margin: float = 3.0) -> np.ndarray:
    """[M, N, K] float32 of members that are right most of the time and know how sure they may be: a draw from the class
    they favour is what the label is (labels first, then evidence z_y ~ N(margin, 1), others N(0, 1): its exact
    posterior has logits margin * z)."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(members, len(labels), K))
    z[:, np.arange(len(labels)), labels] += margin
    return (margin * z).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    odds = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def ensemble(outputs: np.ndarray | None = None, labels: np.ndarray | None = None, **more: object) -> Ensemble:
    y = truth() if labels is None else labels
    return from_arrays(logits(y) if outputs is None else outputs, y, **{"recipe": "same", **more})  # type: ignore[arg-type]


def whats(findings: Findings, level: Level | None = None) -> set[Odd]:
    return {one.what for one in findings.oddities if level in (None, one.level)}


# --- nothing is odd ---


@pytest.mark.parametrize("kind", list(OutputKind))
def test_a_good_ensemble_of_every_kind_has_nothing_odd(kind: OutputKind) -> None:
    given = logits(truth())
    outputs = {
        "logits": given,
        "probs": softmax(given),
        "log-probs": np.log(softmax(given)),
        "labels": given.argmax(-1),
    }
    assert not examine(ensemble(outputs[kind.value], kind=kind)).oddities


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["logits", "probs", "log-probs"])
def test_rounding_makes_nothing_odd(kind: str, dtype: str) -> None:
    given = logits(truth(), margin=2.0)
    exact = {"logits": given, "probs": softmax(given), "log-probs": np.log(softmax(given))}[kind]
    found = examine(ensemble(exact.astype(dtype), kind=kind))
    assert not whats(found) - {Odd.ZEROS}, found


def test_probabilities_of_a_bfloat16_softmax_sum_to_1() -> None:
    """Each rounded to 8 bits, 1,000 classes: a thousand roundings of up to 2^-9 of each."""
    odds = np.random.default_rng(0).dirichlet(np.full(1000, 0.1), 200).astype(np.float32)
    rounded = ((odds.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    assert looks_like(rounded) is OutputKind.PROBS
    assert looks_like(rounded * 1.02) is OutputKind.LOGITS


# --- refused ---


def test_arrays_that_do_not_fit_each_other_are_refused_each_in_a_sentence() -> None:
    y, given = truth(), logits(truth())
    odd = {
        "labels of another number": ensemble(given, y[:-1]),
        "a label too high": ensemble(given, np.where(np.arange(N) == 3, K, y)),
        "a label below 0": ensemble(given, np.where(np.arange(N) == 3, -1, y)),
        "another K in an OOD set": ensemble(given, ood={"a": given[..., :-1]}),
        "another M in an OOD set": ensemble(given, ood={"a": given[:-1]}),
        "validation labels of another number": ensemble(given, validation=(given, y[:-1])),
        "samples of another N": ensemble(given, samples={"swag": np.stack([given] * 2, 1)[:, :, :-1]}),
        "strengths of another S": ensemble(
            given, samples={"swag": Samples(np.stack([given] * 2, 1), strength=np.ones((M, 3)))}
        ),
        "samples on a set without members": ensemble(
            given, samples={"swag": Samples(np.stack([given] * 2, 1), ood={"a": np.stack([given] * 2, 1)})}
        ),
        "checkpoints of another number": ensemble(given, trajectory=(np.arange(5), np.stack([given] * 3, 1))),
        "names of other classes": ensemble(given, classes=("a", "b")),
        "ids of another number": ensemble(given, ids=np.arange(N - 1)),
        "ids that repeat": ensemble(given, ids=np.zeros(N, int)),
        "few OOD images": ensemble(given, ood={"a": given[:, :9]}),
        "a member's name with a control character": ensemble(given, members=["a\0", *range(1, M)]),
        "a member without a name": ensemble(given, members=["", *range(1, M)]),
        "a member's name without end": ensemble(given, members=["x" * 5000, *range(1, M)]),
        "half a character in a class's name": ensemble(given, classes=["\ud800", *map(str, range(1, K))]),
        "a set's name that reads otherwise than it is written": ensemble(given, ood={"a\u202eb": given}),
        "predicted labels too high": ensemble(np.full((M, N), K + 3), y, kind="labels"),
    }
    for case, one in odd.items():
        found = examine(one)
        assert found.refused, case
        assert whats(found) == {oddity.what for oddity in found.refused}, f"{case}: what does not fit is not looked at"


def test_labels_that_count_from_1_are_refused_with_what_to_do() -> None:
    (one,) = examine(ensemble(logits(truth()), truth() + 1)).refused
    assert "subtract 1" in one.sentence


def test_a_shifted_set_with_other_ids_than_the_test_set_is_refused(tmp_path: object) -> None:
    import pathlib

    from modescape.imported.writing import write

    folder = pathlib.Path(str(tmp_path)) / "e"
    write(ensemble(ids=np.arange(N), shift={("fog", 3): logits(truth(), seed=9)}), folder)
    np.save(folder / "shift" / "fog" / "3.ids.npy", np.arange(N))
    assert not examine(read(folder)).refused
    np.save(folder / "shift" / "fog" / "3.ids.npy", np.arange(N)[::-1])
    assert whats(examine(read(folder))) == {Odd.IDS}


# --- failed and counted ---


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["test", "ood"])
def test_one_number_that_is_none_fails_its_member_on_whatever_set(value: float, place: str) -> None:
    given, other = logits(truth()), logits(truth(), seed=8)
    (given if place == "test" else other)[2, 17, 3] = value
    found = examine(ensemble(given, ood={"a": other}))
    assert set(found.failed) == {"2"}
    assert not found.refused


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_logits_of_masked_classes_may_be_minus_infinity(dtype: str) -> None:
    """A quarter of the classes masked, one row all but one, one example of its own class: as if those classes had the
    smallest probability there is, and the others what they are without them."""
    y, given = truth(), logits(truth(), margin=2.0).astype(dtype)
    masked = np.random.default_rng(3).random((N, K)) < 0.25
    masked[np.arange(N), y] = False
    masked[0], masked[1] = np.arange(K) != y[0], np.arange(K) == y[1]
    given[:, masked] = -np.inf
    found = examine(ensemble(given, y))
    assert whats(found) <= {Odd.CLIPPED, Odd.ZEROS, Odd.TEMPERATURE}
    said = [one.sentence for one in found.told]
    kept = logits_of(OutputKind.LOGITS, given)
    assert kept.dtype == given.dtype
    assert np.isfinite(kept.astype("f4")).all()
    if dtype == "f2":  # where they may have been numbers that did not fit
        assert any(f"{M * masked.sum():,} logits on test did not fit float16" in one for one in said)
        return
    assert any(
        f"{M * masked.sum():,} logits on test are minus infinity, as of masked classes, {M} of" in o for o in said
    )
    assert np.array_equal(kept[:, ~masked], given[:, ~masked])
    odds = softmax(kept)
    assert odds[:, ~masked] == pytest.approx(softmax(given.astype("f8"))[:, ~masked], rel=1e-6)
    logs = kept.astype("f8") - np.log(np.exp(kept.astype("f8")).sum(-1, keepdims=True))
    smallest = {"f4": 2.0**-149, "f8": 2.0**-1074}[dtype]
    assert logs[:, masked] == pytest.approx(math.log(smallest), rel=1e-5)
    shifted = logits_of(OutputKind.LOGITS, given + np.asarray(64, dtype))
    assert shifted - kept == pytest.approx(np.full(kept.shape, 64), rel=1e-4), "up to a constant a row"
    blank = given.copy()
    blank[2, 17] = -np.inf
    assert np.isnan(logits_of(OutputKind.LOGITS, blank)[2, 17]).all()


def test_of_masked_logits_the_order_of_classes_stays() -> None:
    kept = logits_of(OutputKind.LOGITS, np.array([[0, -500, -np.inf], [0, -1, -np.inf]], "f4"))
    assert kept[0].tolist() == [0, -500, -500]
    assert kept[1, 2] == pytest.approx(math.log(2.0**-149) + math.log1p(math.exp(-1)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("row", [[-np.inf] * K, [np.nan] * K, [np.nan, *[-np.inf] * (K - 1)]])
def test_a_row_of_logits_that_says_nothing_fails_its_member(row: list[float], dtype: str) -> None:
    given = logits(truth()).astype(dtype)
    given[2, 17] = row
    found = examine(ensemble(given))
    assert set(found.failed) == {"2"}
    assert "rows of nothing but -inf" in found.failed["2"]


@pytest.mark.parametrize(("kind", "nothing"), [("probs", 0.0), ("log-probs", -np.inf)])
@pytest.mark.parametrize("place", ["test", "validation", "ood", "shift"])
def test_a_row_whose_probabilities_are_all_0_fails_its_member_on_whatever_set(
    kind: str, nothing: float, place: str
) -> None:
    def made(seed: int, of: str) -> np.ndarray:
        odds = softmax(logits(truth(), seed=seed)).astype(np.float32)
        odds[1, 17, odds[1, 17].argmin()] = 0  # of one class alone: told, and no failure
        found = odds if kind == "probs" else np.log(odds, where=odds > 0, out=np.full_like(odds, -np.inf))
        if of == place:
            found[2, 17] = nothing
        return found

    sets = {"validation": (made(2, "validation"), truth()), "ood": {"a": made(3, "ood")},
            "shift": {("fog", 3): made(4, "shift")}}  # fmt: skip
    found = examine(ensemble(made(1, "test"), kind=kind, **sets))
    assert set(found.failed) == {"2"}
    assert "whose probabilities sum to 0" in found.failed["2"]
    assert not found.refused
    assert not found.asked


def test_a_member_at_chance_has_failed_and_the_others_have_not() -> None:
    given = logits(truth())
    given[1] = np.random.default_rng(5).normal(size=(N, K))
    given[3] = [5, 0, 0, 0, 0, 0]  # one label for all
    found = examine(ensemble(given))
    assert set(found.failed) == {"1", "3"}
    assert "chance" in found.failed["1"]
    assert Odd.ORDER not in whats(found)


def test_samples_that_are_no_numbers_are_told_and_fail_no_member() -> None:
    drawn = np.stack([logits(truth(), seed=s) for s in range(3)], 1)
    drawn[4, 1, 0, 0] = np.nan
    found = examine(ensemble(samples={"swag": drawn}))
    assert not found.failed
    assert [one.members for one in found.told] == [("4",)]


# --- asked ---


def test_probabilities_called_logits_are_asked_about_and_the_answer_closes_the_question() -> None:
    one = ensemble(softmax(logits(truth())).astype("f2"))
    (asked,) = examine(one).asked
    assert asked.what is Odd.KIND
    assert [choice.value for choice in asked.choices] == ["probs", "logits"]
    assert not examine(answered(one, kind=OutputKind(asked.choices[0].value))).asked


def _rounded(classes: int, decimals: int, percent: int = 1) -> np.ndarray:
    """Probabilities of three members, of a sureness that differs between examples, in the labels' favour."""
    random, y = np.random.default_rng(classes), np.arange(400) % classes
    z = random.normal(size=(3, 400, classes)) * 1.5
    z[:, np.arange(400), y] += random.uniform(0, 12, 400)
    return np.asarray((softmax(z) * percent).round(decimals))


@pytest.mark.parametrize(
    ("classes", "decimals", "percent", "is_grave"),
    [(3, 1, 1, False), (3, 2, 1, False), (10, 2, 1, False), (10, 3, 1, False), (100, 3, 1, False), (1000, 5, 1, False),
     (100, 1, 1, True), (1000, 2, 1, True), (1000, 0, 100, True)],
)  # fmt: skip
def test_what_rounding_took_of_the_probability_is_told_where_it_is_much(
    classes: int, decimals: int, percent: int, is_grave: bool
) -> None:
    odds = _rounded(classes, decimals, percent)
    odds[odds.sum(-1) == 0] = np.eye(classes)[0] * percent * 0.1  # a row of nothing would fail
    found = examine(ensemble(odds, np.arange(400) % classes, kind="probs"))
    said = [one.sentence for one in found.told if one.what is Odd.KIND]
    if not is_grave:
        assert said in (
            [],
            ["Some rows sum to 1 only as far as rounded probabilities do; they were divided by their sums"],
        )
        return
    sums = odds.sum(-1).ravel()
    (one,) = said
    assert f"Rounding took {1 - sums.mean() / percent:.0%} of the probability on test" in one
    assert f"sum to {np.median(sums):.3g} in the median and not to {percent})" in one
    assert "Losses, Brier scores and calibration are of what is left and cannot be read as the networks'" in one


def test_nobody_is_said_to_have_called_outputs_what_they_were_taken_for() -> None:
    """Rounded probabilities, of which nobody has said what they are."""
    (asked,) = examine(ensemble(softmax(logits(truth())).round(1), kind="logits")).asked
    assert asked.sentence.startswith("The outputs were taken for logits, but their rows are from 0 to 1")
    assert not any("called" in text for text in (asked.sentence, *(choice.words for choice in asked.choices)))


def test_logits_called_probabilities_are_asked_about() -> None:
    for kind in ("probs", "log-probs"):
        (asked,) = examine(ensemble(kind=kind)).asked
        assert [choice.value for choice in asked.choices] == ["logits"]


def test_the_set_whose_rows_are_of_another_kind_than_all_were_taken_for_is_named() -> None:
    y, alike = truth(), np.log(softmax(logits(truth())))
    whole = {"ood": {"svhn": logits(y, seed=5), "fine": np.log(softmax(logits(y, seed=6)))}, "kind": "log-probs"}
    (asked,) = examine(ensemble(alike, **whole)).asked
    assert asked.sentence.startswith("The outputs on ood/svhn were, as all are, taken for log-probs, but their rows ")
    assert (asked.place, [choice.value for choice in asked.choices]) == ("ood/svhn", ["logits"])
    raw = np.concatenate([alike[:-1], logits(y)[-1:]])
    (asked,) = examine(ensemble(raw, kind="log-probs")).asked
    assert asked.sentence.startswith(f"Member {len(raw) - 1}: outputs on test were, as all are, taken for log-probs")


def test_one_row_that_sums_to_something_else_makes_them_no_probabilities() -> None:
    odds = softmax(logits(truth()))
    odds[2, -1] *= 1.1
    (one,) = examine(ensemble(odds, kind="probs")).refused
    assert (one.what, one.members, one.place) == (Odd.KIND, ("2",), "test")
    odds[:, -1] = odds[2, -1]
    assert whats(examine(ensemble(odds, kind="probs")), Level.ASKED) == {Odd.KIND}


def everywhere(make: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Every place that outputs can have, of logits that `make` changes."""
    y = truth()
    drawn = make(np.stack([logits(y, seed=s) for s in (2, 3)], 1))
    return {
        "samples": {"swag": Samples(drawn, centre=make(logits(y, seed=4)))},
        "ood": {"d": make(logits(y, seed=5))},
        "shift": {("fog", 3): make(logits(y, seed=6)), ("new", 1): (make(logits(y, seed=7)), y)},
        "validation": (make(logits(y, seed=8)), y),
        "trajectory": make(np.stack([logits(y, seed=s) for s in (9, 10)], 1)),
    }  # fmt: skip


PLACES = {
    "samples": ["test"], "ood": ["ood/d"], "shift": ["shift/fog/3", "shift/new/1"], "validation": ["validation"],
    "trajectory": ["test"],
}  # fmt: skip


@pytest.mark.parametrize("of", PLACES)
@pytest.mark.parametrize("kind", ["probs", "log-probs"])
def test_what_cannot_be_of_the_kind_of_the_test_set_is_refused_on_every_set(kind: str, of: str) -> None:
    make = {"probs": softmax, "log-probs": lambda z: np.log(softmax(z))}[kind]
    whole = everywhere(make)
    assert not examine(ensemble(make(logits(truth())), kind=kind, **whole)).refused
    wrong = everywhere(np.asarray if kind == "probs" else softmax)[of]
    found = examine(ensemble(make(logits(truth())), kind=kind, **{**whole, of: wrong}))
    assert {one.what for one in found.refused} == {Odd.KIND}
    assert sorted({one.place for one in found.refused}) == PLACES[of]


@pytest.mark.parametrize("of", PLACES)
def test_probabilities_among_logits_are_asked_about_on_every_set(of: str) -> None:
    whole = everywhere(np.asarray)
    assert not examine(ensemble(**whole)).asked
    (asked,) = examine(ensemble(**{**whole, of: everywhere(softmax)[of]})).asked
    assert asked.what is Odd.MIXED
    assert asked.place == PLACES[of][0]
    assert [choice.value for choice in asked.choices] == ["keep"]  # no kind would be right of all
    assert all(place in asked.sentence for place in PLACES[of])
    assert not examine(ensemble(**{**whole, of: everywhere(lambda z: np.log(softmax(z)))[of]})).asked


def test_one_member_of_another_kind_is_named() -> None:
    mixed = logits(truth())
    mixed[3] = softmax(mixed[3])
    (asked,) = examine(ensemble(mixed)).asked
    assert (asked.what, asked.members, asked.place) == (Odd.MIXED, ("3",), "test")
    assert asked.sentence.startswith("Member 3: outputs on test were taken for logits")
    mixed = softmax(logits(truth()))
    mixed[3] = logits(truth())[3]
    (refused,) = examine(ensemble(mixed, kind="probs")).refused
    assert (refused.what, refused.members) == (Odd.KIND, ("3",))
    assert refused.sentence.startswith("Member 3: outputs on test")


@pytest.mark.parametrize("decimals", [2, 15])
def test_a_member_that_comes_alone_is_asked_about_by_what_was_said_of_all(decimals: int) -> None:
    one, odds = logits(truth(), members=1), softmax(logits(truth(), members=1)).round(decimals)
    made = {"logits": one, "probs": odds, "log-probs": np.log(softmax(one))}
    for declared, given in ((a, b) for a in made for b in made):
        alone = ensemble(made[given], kind=declared, members=["seven"])
        found = examine(alone, is_one_of_more=True)
        odd = [one for one in found.oddities if one.what in (Odd.KIND, Odd.MIXED) and one.level is not Level.TOLD]
        fits = declared == given or (declared, given) == ("logits", "log-probs")
        assert len(odd) == (0 if fits else 1), (declared, given)
        for one_odd in odd:
            assert one_odd.level is (Level.ASKED if declared == "logits" else Level.REFUSED)
            assert one_odd.sentence.startswith("Member seven: outputs on test ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "whole", "decimals"),
    [
        (2, 1, 2),
        (6, 1, 2),
        (100, 1, 2),
        (1000, 1, 3),
        (1000, 1, 4),
        (10, 1, 1),
        (6, 100, 0),
        (10, 100, 1),
        (10, 100, 9),
    ],
)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_rounded_probabilities_are_asked_about_and_taken_as_what_they_are(
    classes: int, whole: int, decimals: int, dtype: str
) -> None:
    random, rows = np.random.default_rng(1), min(N, 50_000 // classes)
    labels = random.integers(0, classes, rows)
    z = random.normal(size=(3, rows, classes))
    z[:, np.arange(rows), labels] += 3
    rounded = (whole * softmax(2 * z)).round(decimals).astype(dtype)
    is_exact = classes == 2  # which are rounded to sum to 1
    assert looks_like(rounded[0]) is (OutputKind.PROBS if is_exact else OutputKind.LOGITS)
    (asked,) = examine(ensemble(rounded, labels)).asked
    assert [choice.value for choice in asked.choices] == ["probs", "logits"]
    found = examine(ensemble(rounded, labels, kind="probs"))
    assert not found.asked
    assert (Odd.KIND in whats(found, Level.TOLD)) is not is_exact
    kept = softmax(logits_of(OutputKind.PROBS, rounded))
    assert kept == pytest.approx(rounded / rounded.sum(-1, keepdims=True, dtype=float), abs=2e-3)
    steps = rounded * (1 + random.uniform(0.1, 0.4, rounded.shape)).astype(dtype)  # neither of those decimals nor sums
    assert not examine(ensemble(steps, labels)).asked
    scaled = softmax(2 * z) * 1.2  # as logits that happen to be small and positive
    assert not examine(ensemble(scaled, labels)).asked


@pytest.mark.parametrize("order", [[1, 2, 3, 4, 5, 0], [1, 0, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_classes_in_another_order_are_found_shown_and_put_right(order: list[int]) -> None:
    """Predicted class k is the true class order[k]: column k of the outputs holds what the label order[k] means."""
    given = logits(truth())[..., order]
    one = ensemble(given, samples={"swag": np.stack([given, given], 1)}, trajectory=np.stack([given], 1))
    (asked,) = examine(one).asked
    assert asked.permutation == tuple(order)
    assert len(asked.members) == M
    assert not examine(one).failed, "at chance for a reason that is asked about"
    right = renamed(one, asked.permutation, asked.members)
    assert np.array_equal(right.test.outputs.read(), logits(truth()))
    assert np.array_equal(right.samples["swag"].outputs["test"].read()[:, 1], logits(truth()))
    assert right.trajectory is not None
    assert np.array_equal(next(right.trajectory.outputs["test"].blocks(2)), logits(truth())[0])
    assert not examine(right).asked


@pytest.mark.parametrize("answer", [None, "apply", "keep"])
def test_what_another_order_of_classes_explains_is_told_only_where_it_is_none(answer: str | None) -> None:
    """Members that are right nearly always, named otherwise: of wrong names no temperature is near 1."""
    given = logits(truth())[..., [1, 2, 3, 4, 5, 0]]
    given[0] = logits(truth())[0] * np.float32(4.0)  # of which the hint is true, whatever the answer
    seen, found = examined(ensemble(given), answer)
    assert Odd.PERMUTED in whats(found, Level.ASKED)
    (told,) = [one for one in found.told if one.what is Odd.TEMPERATURE]
    assert told.members == (tuple("01234") if answer == "keep" else ("0",))
    assert not found.failed
    right = (seen.test.outputs.read().argmax(-1) == truth()).mean(-1)
    assert (right[1:] > 0.9).all() == (answer == "apply")


def test_one_member_with_its_classes_in_another_order_is_asked_about_alone() -> None:
    given = logits(truth())
    given[2] = given[2][:, ::-1]
    (asked,) = examine(ensemble(given)).asked
    assert asked.members == ("2",)
    right = renamed(ensemble(given), asked.permutation, asked.members)
    assert np.array_equal(right.test.outputs.read(), logits(truth()))


def test_predicted_labels_in_another_order_are_found_and_put_right() -> None:
    shifted = (truth() + 1) % K
    one = ensemble(np.stack([shifted] * 2), kind="labels")
    (asked,) = examine(one).asked
    assert np.array_equal(renamed(one, asked.permutation).test.outputs.read()[0], truth())


@pytest.mark.parametrize("seed", range(8))
def test_weak_members_and_confusions_of_classes_are_not_taken_for_another_order(seed: int) -> None:
    """Guessing, weak evidence, two classes that are mostly taken for one, and few examples."""
    random = np.random.default_rng(seed)
    y = truth(seed)
    for labels in (
        random.integers(0, K, N),
        logits(y, members=1, seed=seed, margin=0.3)[0].argmax(-1),
        np.where((y == 1) & (random.random(N) < 0.9), 2, y),
        np.where(np.isin(y, (1, 2)) & (random.random(N) < 0.5), 3 - y, y),
    ):
        assert better_permutation(labels, y, K) is None
    assert better_permutation(random.integers(0, K, 12), y[:12], K) is None


def test_the_recipe_is_asked_unless_it_was_said() -> None:
    assert whats(examine(ensemble(recipe="unknown")), Level.ASKED) == {Odd.RECIPE}
    assert not examine(ensemble(recipe="different")).asked
    assert not examine(answered(ensemble(recipe="unknown"), recipe=Recipe.SAME)).asked


# --- left out, told ---


def test_copies_equal_to_the_bit_are_left_out_and_near_copies_are_not() -> None:
    given = logits(truth())
    given[3], given[4] = given[0], given[1]
    given[4, 0, 0] = np.nextafter(given[4, 0, 0], np.float32(9))
    found = examine(ensemble(given))
    assert found.left_out == ("3",)


def test_members_that_differ_on_one_set_only_are_no_copies() -> None:
    given, other = logits(truth()), logits(truth(), seed=8)
    given[3] = given[0]
    assert not examine(ensemble(given, ood={"a": other})).left_out


def test_another_order_of_examples_is_told() -> None:
    y = truth()
    found = examine(ensemble(logits(y), np.random.default_rng(3).permutation(y)))
    assert Odd.ORDER in whats(found, Level.TOLD)
    assert set(found.failed) == set("01234")
    guessing = examine(ensemble(np.random.default_rng(0).normal(size=(M, N, K)), y))
    assert Odd.ORDER not in whats(guessing), "members that guess do not agree with each other"


@pytest.mark.parametrize(("scale", "is_odd"), [(1.0, False), (1.5, False), (0.7, False), (4.0, True), (0.2, True)])
def test_a_temperature_far_from_1_is_told(scale: float, is_odd: bool) -> None:
    """Logits that are exact posteriors fit best at 1; times a scale they fit best at that scale."""
    found = examine(ensemble(logits(truth(), margin=1.5) * np.float32(scale)))
    assert (Odd.TEMPERATURE in whats(found, Level.TOLD)) is is_odd


def test_a_member_without_a_mistake_has_no_temperature() -> None:
    assert not examine(ensemble(np.stack([np.eye(K)[truth()] * 0.01 * i for i in range(1, 4)]).astype("f4"))).told


def test_infinities_of_float16_are_counted_told_and_kept_finite() -> None:
    with np.errstate(over="ignore"):
        given = (logits(truth()) * 4000).astype("f2")
    count = int(np.isinf(given).sum())
    assert count
    found = examine(ensemble(given))
    (one,) = [one for one in found.told if one.what is Odd.CLIPPED]
    assert f"{count:,} logits" in one.sentence
    assert not found.failed
    kept = logits_of(OutputKind.LOGITS, given)
    assert kept.dtype == np.float16
    assert np.abs(kept[np.isinf(given)]).max() == 65504
    assert np.array_equal(np.sign(kept), np.sign(given))


def test_probabilities_of_0_are_told_with_those_of_the_true_class() -> None:
    odds = softmax(logits(truth())).astype("f4")
    y = truth()
    odds[0, 0] = np.eye(K)[(y[0] + 1) % K]
    (one,) = examine(ensemble(odds, kind="probs")).told
    assert one.what is Odd.ZEROS
    assert f"{K - 1} probabilities" in one.sentence
    assert "1 of them of the true" in one.sentence


def test_labels_of_a_shifted_set_that_repeat_the_test_sets_are_told() -> None:
    found = examine(ensemble(shift={("fog", 3): (logits(truth(), seed=9), truth())}))
    assert whats(found) == {Odd.SHIFT_LABELS}


def test_two_of_one_seed_are_told() -> None:
    found = examine(ensemble(members=[Member(str(i), seed=i // 2) for i in range(M)]))
    assert whats(found) == {Odd.RECIPE}
    assert not found.asked


# --- what is kept of them ---


@pytest.mark.parametrize(("dtype", "smallest"), [("f2", 2.0**-24), ("f4", 2.0**-149), ("f8", 2.0**-1074)])
def test_a_probability_of_0_is_the_smallest_number_of_its_dtype(dtype: str, smallest: float) -> None:
    kept = logits_of(OutputKind.PROBS, np.array([[0, 0.25, 0.75]], dtype))
    assert kept.dtype == np.float32
    assert kept[0] == pytest.approx([math.log(smallest), math.log(0.25), math.log(0.75)], rel=1e-6)


def test_log_probabilities_are_normalised_and_minus_infinity_is_finite() -> None:
    kept = logits_of(OutputKind.LOG_PROBS, np.array([[-np.inf, math.log(0.5), math.log(0.5)]], np.float32))
    assert kept[0] == pytest.approx([math.log(2.0**-149), math.log(0.5), math.log(0.5)], rel=1e-6)
    assert not examine(ensemble(np.log(softmax(logits(truth()))).astype("f2"), kind="log-probs")).failed


def test_what_is_kept_of_probabilities_says_the_same_as_the_logits_they_are_of() -> None:
    given = logits(truth(), margin=1.0)
    kept = logits_of(OutputKind.PROBS, softmax(given))
    assert softmax(kept) == pytest.approx(softmax(given), abs=1e-6)
    assert np.array_equal(kept.argmax(-1), given.argmax(-1))


# --- real ensembles ---


@pytest.mark.slow
def test_ten_published_networks_on_mnist_have_nothing_odd_but_their_recipe() -> None:
    """And their predictions are those their author judged: errors of the first M averaged, in per cent."""
    _, y = mnist_test()
    odds = softmax(mnist_logits())
    printed = {1: 2.07, 2: 1.51, 3: 1.43, 5: 1.34, 7: 1.27, 10: 1.29}
    assert {m: round(100 * float((odds[:m].mean(0).argmax(-1) != y).mean()), 2) for m in printed} == printed
    assert whats(examine(from_arrays(mnist_logits(), y))) == {Odd.RECIPE}


@pytest.mark.slow
def test_oddities_made_of_the_published_networks_are_found() -> None:
    given, (_, y) = mnist_logits(), mnist_test()
    order = np.random.default_rng(0).permutation(10)
    swapped = [0, 1, 2, 3, 9, 5, 6, 7, 8, 4]  # 4 and 9, which look alike
    for fits in (tuple(order.tolist()), tuple(swapped)):
        (asked,) = examine(from_arrays(given[..., list(fits)], y, recipe="same")).asked
        assert asked.permutation == fits
    assert whats(examine(from_arrays(softmax(given).astype("f2"), y)), Level.ASKED) == {Odd.RECIPE, Odd.KIND}
    shuffled = examine(from_arrays(given, np.random.default_rng(0).permutation(y), recipe="same"))
    assert Odd.ORDER in whats(shuffled)
    assert len(shuffled.failed) == 10
    copied = given.copy()
    copied[7], copied[8] = copied[0], np.nan
    found = examine(from_arrays(copied, y, recipe="same"))
    assert found.left_out == ("7",)
    assert set(found.failed) == {"8"}


@pytest.mark.slow
def test_thirty_published_models_by_their_labels_alone_have_nothing_odd_but_their_recipe() -> None:
    path = real("real/cifar10.1-testbed") / "cifar10.1-testbed-label-predictions.npz"
    with np.load(path, allow_pickle=False) as file:
        one = from_arrays(
            file["original_labels_predicted"], file["original_labels_true"], kind="labels",
            members=file["models"].tolist(),
            shift={("cifar10.1-v6", 1): (file["v6_labels_predicted"], file["v6_labels_true"])},
        )  # fmt: skip
    assert whats(examine(one)) == {Odd.RECIPE}
    assert one.sets["shift/cifar10.1-v6/1"].has_own_images
    accuracies = (one.test.outputs.read() == one.test.labels).mean(1)
    assert accuracies.max() == pytest.approx(0.9711)
    assert not examine(answered(one, recipe=Recipe.DIFFERENT)).oddities
