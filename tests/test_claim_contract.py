"""What every declared claim promises, whoever declared it: fields, a place in spec and science, and three words."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

import modescape.claims
from modescape import power
from modescape.claims import CLAIMS, Claim
from modescape.claims.claim import Asked, Margin, Reads, margins
from modescape.claims.evidence import Units
from modescape.claims.judging import judge
from modescape.claims.record import ClaimRecord
from modescape.finding import Finding
from modescape.science.confidence import Word
from modescape.spec import MarginsSpec, parse
from modescape.testing.evidence import alike, made_chains, made_runs, made_seeds, made_shift
from modescape_api.pages import forms

Floats = NDArray[np.float64]
pytestmark = pytest.mark.usefixtures("few_redraws")
ROOT = Path(__file__).parent.parent
every_claim = pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))


# ---- what ours say of themselves ----


@every_claim
def test_a_clone_can_have_what_decides_a_claim(claim: Claim[Any]) -> None:
    bare = parse({"ensemble": {"runs": 1}, "training": {"epochs": 2, "checkpoint_every": 2}}).model_dump(mode="json")
    assert forms.with_more(bare, claim.decided_by.add) != bare, "a clone that has what decides it is another spec"


@every_claim
def test_a_claim_has_its_margin_in_the_spec(claim: Claim[Any]) -> None:
    field = MarginsSpec.model_fields[claim.margin.field]
    assert (field.default, field.description) == (claim.margin.default, claim.margin.says)
    edited = parse({"margins": {claim.margin.field: 0.5}})
    assert (claim.margin_in(parse({})), claim.margin_in(edited)) == (claim.margin.default, 0.5)
    assert claim.in_unit(0.5) == pytest.approx(np.log(0.5) if claim.ratio else 0.5)


def test_the_spec_has_no_margin_that_no_claim_asks_for() -> None:
    assert set(MarginsSpec.model_fields) == {claim.margin.field for claim in CLAIMS.values()}
    by_field = {claim.margin.field: claim.margin for claim in CLAIMS.values()}
    assert all(claim.margin is by_field[claim.margin.field] for claim in CLAIMS.values()), "a shared margin is one"


@every_claim
def test_science_defines_a_claim_where_it_says(claim: Claim[Any]) -> None:
    (page,) = (ROOT / "docs" / "science").glob(f"{claim.section[0]}-*.md")
    (text,) = re.findall(
        rf"^## {re.escape(claim.section)} .*?(?=^## )", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert re.search(rf"^- \*\*\({claim.letter}\) ", text, re.MULTILINE)


@every_claim
def test_what_a_plan_leaves_open_of_a_claim_was_simulated(claim: Claim[Any]) -> None:
    named = f"{claim.letter}/graded" if claim.reads is Reads.WIDE else claim.letter
    assert power._rows()[named]


def test_each_claim_is_one_file_and_none_is_listed() -> None:
    own = {name for name in (one.name for one in pkgutil.iter_modules(modescape.claims.__path__)) if len(name) <= 2}
    assert own == set(CLAIMS)
    assert list(CLAIMS) == sorted(CLAIMS)
    for letter, claim in CLAIMS.items():
        assert claim.judge.__module__ == f"modescape.claims.{letter}"


def test_a_letter_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"claim \(a\) is declared twice"):
        CLAIMS["a"](CLAIMS["a"].judge)


# ---- what it says of evidence made to order ----


# Letter -> evidence on which it holds by far, and on which it fails by far.
MADE: dict[str, tuple[Callable[[], Units], Callable[[], Units]]] = {
    **dict.fromkeys(("a", "b", "c", "d1", "d2", "f1"), (made_runs, alike)),
    "e1": (made_runs, lambda: made_runs(own=0.1)),  # all that averaging takes off is in every sample anew
    "e2": (lambda: made_runs(noise=1.5), lambda: made_runs(noise=0.0, around=0.2)),  # nothing is
    "f2": (lambda: made_shift(3.0), lambda: made_shift(0.9)),
    "g": (made_seeds, lambda: made_seeds(init=0.1, batches=0.3)),
    "h": (made_chains, lambda: made_chains(own=0.6)),
}


def _judged(claim: Claim[Any], evidence: Units, margin: float | None = None) -> ClaimRecord:
    asked = margins(parse({}))
    kept = evidence.without_failed()
    kept = claim.prepare(kept, lambda: None) if claim.prepare else kept
    record = claim.judge(Asked(claim, asked[claim.letter] if margin is None else margin, asked), kept)
    assert record is not None
    return record


@every_claim
def test_a_claim_holds_or_not_by_far_and_says_why(claim: Claim[Any]) -> None:
    for make, word in zip(MADE[claim.letter], (Word.HOLDS, Word.DOES_NOT_HOLD), strict=True):
        record = _judged(claim, make())
        assert record.word is word, record
        assert record.because
        assert record.parts
        assert record.margin == claim.default_margin
        assert record.low is not None
        assert record.estimate is not None
        assert record.high is not None
        assert record.low < record.estimate < record.high


@every_claim
def test_a_claim_cannot_be_told_where_its_margin_is_inside_the_interval(claim: Claim[Any]) -> None:
    first = _judged(claim, MADE[claim.letter][0]())
    assert first.estimate is not None
    record = _judged(claim, MADE[claim.letter][0](), first.estimate)
    assert record.word is Word.CANNOT_TELL
    assert "crosses" in record.because


def test_a_claim_declared_elsewhere_is_judged_at_its_own_margin_and_told() -> None:
    own = replace(CLAIMS["g"], letter="z", title="Ours", margin=Margin(field="z", default=2.5, says="Ours."))
    try:
        own(CLAIMS["g"].judge)
        records = judge(made_seeds(), margins=margins(parse({})), rests=False)
        assert [(record.id, record.word) for record in records] == [("g", Word.HOLDS), ("z", Word.CANNOT_TELL)]
        assert list(CLAIMS)[-1] == "z"
        stored = {record.id: orjson.loads(orjson.dumps(record.to_json())) for record in records}
        found = Finding.from_json({"claims": stored})
        assert [told.record.id for told in found.told()] == ["g", "z"]
    finally:
        CLAIMS.pop("z", None)
    assert [told.record.id for told in found.told()] == ["g"], "where it is not loaded it is left out"
