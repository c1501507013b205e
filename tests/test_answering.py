"""The answer of the first screen, over every pair of words that its claims can have.

What each pair must say is written by hand below, from what the claims compare (science o.4): (b) runs against one
run's recent checkpoints, (d1) runs against samples at equal accuracy. Neither implies the other, so all pairs can
occur.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
from scipy.stats import t as student

from modescape.claims.repeated_looks import Look
from modescape.finding import Finding
from modescape.science.confidence import Word

HOLDS, FAILS, OPEN, ABSENT = "holds", "does not hold", "cannot tell", None

DIFFERENT = "uns are different functions (b)"
LITTLE = "uns disagree less than 1.25 times as much as one run's recent checkpoints (b)"
UNTOLD = "hether runs disagree more than one run's recent checkpoints cannot be told yet (b)"
NEARER = "t equal accuracy no samples come as far (d1)"
AS_FAR = "t equal accuracy runs are less than 1.1 times as far apart as samples of SWAG from their solution (d1)"
UNREAD = "hether samples come as far cannot be told yet (d1)"
PLAIN = "Independent runs disagree on 16.1 % of test labels (standard deviation 2.1, n = 10 pairs)."

SAID = {
    (HOLDS, HOLDS): f"R{DIFFERENT}; a{NEARER}.",
    (HOLDS, FAILS): f"R{DIFFERENT}; a{AS_FAR}.",
    (HOLDS, OPEN): f"R{DIFFERENT}; w{UNREAD}.",
    (HOLDS, ABSENT): f"R{DIFFERENT}.",
    (FAILS, HOLDS): f"R{LITTLE}; a{NEARER}.",
    (FAILS, FAILS): f"R{LITTLE}; a{AS_FAR}.",
    (FAILS, OPEN): f"R{LITTLE}; w{UNREAD}.",
    (FAILS, ABSENT): f"R{LITTLE}.",
    (OPEN, HOLDS): f"W{UNTOLD}; a{NEARER}.",
    (OPEN, FAILS): f"W{UNTOLD}; a{AS_FAR}.",
    (OPEN, OPEN): f"W{UNTOLD}; w{UNREAD}.",
    (OPEN, ABSENT): f"W{UNTOLD}.",
    (ABSENT, HOLDS): f"A{NEARER}.",
    (ABSENT, FAILS): f"A{AS_FAR}.",
    (ABSENT, OPEN): f"W{UNREAD}.",
    (ABSENT, ABSENT): PLAIN,
}

# ln of the effect, and its standard error, which gives that word with five runs; "weak": barely
EFFECTS = {
    ("b", HOLDS): (0.99, 0.05), ("b", FAILS): (-0.8, 0.05), ("b", OPEN): (0.49, 0.26),
    ("d1", HOLDS): (1.28, 0.06), ("d1", FAILS): (-0.8, 0.05), ("d1", OPEN): (0.69, 0.36),
}  # fmt: skip
MARGINS = {"b": math.log(1.25), "d1": math.log(1.1)}


def _claim(letter: str, word: str, *, weak: bool = False, **more: Any) -> dict[str, Any]:
    (value, error), margin = EFFECTS[letter, word], MARGINS[letter]
    error = abs(value - margin) / 3.0 if weak and word != OPEN else error  # t = 3 of 2.776, at later looks too little
    half = float(student.ppf(0.975, 4)) * error
    p_holds, p_fails = (float(student.sf(gap / error, 4)) for gap in (value - margin, margin - value))
    about = {"value": value, "low": value - half, "high": value + half}
    claim = {
        "id": letter, "title": letter, "estimand": "", "word": word, "because": "", "margin": margin, "n": 5, "N": 1200,
        "estimate": value, "low": value - half, "high": value + half, "p": min(p_holds, p_fails), **more,
    }  # fmt: skip
    if letter == "d1":
        estimate = {**about, "margin": margin, "error": error, "p_holds": p_holds, "p_fails": p_fails,
                    "undefined": 0.0, "above": True}  # fmt: skip
        claim["methods"] = [
            {"method": "swag", "title": "SWAG", "word": word, "because": "", "estimate": _kept(estimate)}
        ]
    return claim


def _kept(estimate: dict[str, Any]) -> dict[str, Any]:
    from modescape.science.confidence import Estimate

    return {name: estimate[name] for name in Estimate.__dataclass_fields__ if name in estimate}


def _found(b: str | None, d1: str | None, **more: Any) -> dict[str, Any]:
    claims = [_claim(letter, word, **more) for letter, word in (("b", b), ("d1", d1)) if word is not None]
    return {
        "independent": {"disagreement": 0.161, "disagreement_sd": 0.021, "pairs": 10},
        "claims": {claim["id"]: claim for claim in claims}, "runs": 5,
    }  # fmt: skip


@pytest.mark.parametrize(("words", "said"), SAID.items(), ids=str)
def test_each_pair_of_words_says_what_the_table_says(words: tuple[str | None, str | None], said: str) -> None:
    found = Finding.from_json(_found(*words))
    assert found.headline == said
    assert found.sentence.startswith(said), "command line, notebook and API begin with the same words"
    assert "16.1 %" in found.headline + found.measured
    assert found.sentence.count("16.1 %") == 1


def test_what_holds_for_all_that_can_be_judged_is_not_called_untold() -> None:
    """Its effect is that of those which can be, and lies beyond the margin."""
    found = _found(HOLDS, OPEN)
    found["claims"]["d1"]["qualifier"] = "holds for the others"
    part = "samples of the methods that can be judged do not come as far; of the others it cannot be told yet (d1)"
    assert Finding.from_json(found).headline == f"R{DIFFERENT}; {part}."


def test_no_clause_contradicts_a_word_or_a_number() -> None:
    """Of every pair, at both first and later looks, and with words that do not stand: each clause says its claim's word
    and no other; and nothing is called different, or untold, but by the letter of the claim that says so."""
    for b, d1 in itertools.product((HOLDS, FAILS, OPEN, ABSENT), repeat=2):
        for look, weak in itertools.product((Look(1, 3, 5), Look(2, 3, 5), Look(9, 3, 5)), (False, True)):
            found = Finding.from_json(_found(b, d1, weak=weak))
            told = {one.record.id: one for one in found.told(look)}
            clauses = re.split(r"; |(?<=\))\.", found.headline_at(look))
            for letter, one in told.items():
                (clause,) = (part for part in clauses if f"({letter}" in part)
                assert ("cannot be told" in clause) == (one.word_at_look is Word.CANNOT_TELL)
                assert ("less than" in clause) == (one.word_at_look is Word.DOES_NOT_HOLD)
                shown = "holds" if re.search("are different|no samples", clause) else ""
                assert bool(shown) == (one.word_at_look is Word.HOLDS)
                assert ("fragile" in clause) == (one.is_fragile and one.word_at_look is not Word.CANNOT_TELL)
                behind = re.search(rf"([\d.]+) times [^(]*\({letter}: ([\d.]+) to ([\d.]+) times, at ([\d.]+) %\)",
                                   found.measured_at(look))  # fmt: skip
                assert behind is not None
                effect, low, high, level = map(float, behind.groups())
                assert low <= effect <= high
                margin = math.exp(one.record.margin)
                if one.word_at_look is Word.HOLDS:
                    assert low > margin
                elif one.word_at_look is Word.DOES_NOT_HOLD:
                    assert high < margin
                assert level >= 95
            assert "functions cannot be told" not in found.sentence_at(look), "which would deny every other claim"
            is_different = "b" in told and told["b"].word_at_look is Word.HOLDS
            assert ("different functions" in found.sentence_at(look)) == is_different


def test_each_half_has_the_interval_of_its_own_level() -> None:
    """(d1) over four methods that could each give "does not hold" needs 1 - 0.05/4 of each."""
    known = _found(HOLDS, OPEN)
    (swag,) = known["claims"]["d1"]["methods"]
    known["claims"]["d1"]["methods"] = [{**swag, "method": f"m{i}", "title": f"M{i}"} for i in range(4)]
    said = Finding.from_json(known).measured
    assert re.search(r"\(b: [\d.]+ to [\d.]+ times, at 95 %\)", said)
    assert re.search(r"\(d1: [\d.]+ to [\d.]+ times, at 98.8 %\)", said)


def test_a_word_that_does_not_stand_is_called_fragile_everywhere() -> None:
    for more in ({"weak": True}, {"rests_on": [2]}):
        found = Finding.from_json(_found(HOLDS, OPEN, **more))
        assert found.headline.startswith("Runs are different functions (b, fragile);")
        b = found.told()[0]
        assert b.is_fragile
        assert "✓ holds, fragile" in repr(b)
        from modescape.client.records import Claim

        assert "✓ holds, fragile" in str(Claim.from_json(b.to_json()))
    assert not Finding.from_json(_found(HOLDS, OPEN)).told()[0].is_fragile


def test_what_waits_for_members_has_no_word_in_its_answer() -> None:
    waiting = _found(HOLDS, HOLDS) | {"so_far": {"members": 3, "planned": 5}}
    assert Finding.from_json(waiting).headline == PLAIN
    assert "(b" not in Finding.from_json(waiting).sentence
