"""An experiment's verdict as its page shows it: each claim with its interval drawn, what is behind it, and its figure.

    asked = answered(row.finding, figures)          # claims with a word
    left = undecided(spec, row, kinds)              # claims this experiment cannot decide, and what would

A claim without data gets no word; it says which study would decide it, with a link to a clone that has that study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modescape import finding
from modescape.draft import FAIR_IMAGES
from modescape.drawing.words import thousands
from modescape.registry import methods
from modescape.science.verdict import QUESTIONS, Question
from modescape.spec import ExperimentSpec
from modescape_api import forms
from modescape_api.display import KindProgress

Json = dict[str, Any]

# The picture: the margin is drawn at the same place in every row, what lies beyond it to the right.
WIDTH, MARGIN_AT, ROOM = 288, 116, 12

# Where a claim is in the paper, and the figures that show it, the first that this experiment has.
SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "a": ("Fig 2 and 3", ("similarity-runs",)),
    "b": ("Fig 2 and 3", ("similarity-runs",)),
    "c": ("Fig 4", ("tsne-samples",)),
    "d1": ("Fig 6", ("plane",)),
    "d2": ("beside Fig 6", ("plane",)),
    "e1": ("Fig 8", ("ensembles", "plane")),
    "e2": ("Fig 8", ("ensembles", "plane")),
    "f1": ("Fig 9", ("shift", "ood", "plane")),
    "f2": ("Fig 9", ("shift",)),
    "g": ("Fig S4", ("seeds",)),
    "h": ("Fig S5", ("cycles", "plane")),
}
_SAMPLES = ("subspace samples around every run", "methods", ("compare",))
# What decides a claim: in words, as a value of /launch?with=, and the stages that judge it.
DECIDED_BY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a": ("two or more runs", "runs", ("compare",)),
    "b": ("three or more recent checkpoints of every run", "checkpoints", ("compare",)),
    "c": _SAMPLES, "d1": _SAMPLES, "d2": _SAMPLES, "e1": _SAMPLES, "e2": _SAMPLES, "f1": _SAMPLES,
    "f2": ("the study of shift, and subspace samples around every run", "shift", ("shift-compare",)),
    "g": ("the study of seeds", "seeds", ("seeds",)),
    "h": ("the method cyclical SG-MCMC", "sgmcmc", ("chain",)),
}  # fmt: skip
# What an effect is counted in, where it is no ratio ("times").
UNITS = {
    "a": "cosine", "e1": "of the ensemble’s gain", "e2": "of the ensemble’s gain", "f2": "nats",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval in pixels of the picture; x is the estimate."""

    low: float
    x: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """One method's part in a claim, or one of the numbers behind it, as text."""

    title: str
    text: str
    word: str = ""
    glyph: str = ""
    because: str = ""
    numbers: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim with a word. `stands`: whether the word survives Holm's correction, in words; `at_look`: the word at
    the level left for this look at the same trainings, in words, "" at the first; effect, interval and picture: of the
    method that `decides`, at the `level` (such as "95 %") at which it does."""

    letter: str
    title: str
    estimand: str
    paper: str
    word: str
    glyph: str
    effect: str
    interval: str
    level: str
    decides: str
    margin: str
    units: str
    images: str
    because: str
    qualifier: str
    note: str
    stands: str
    at_look: str
    rests: str
    picture: Interval | None
    parts: tuple[Part, ...]
    methods: tuple[Part, ...]
    figure: str
    place: int


@dataclass(frozen=True, kw_only=True)
class Open:
    """A claim without a word: what would decide it, and `add`, which a clone needs; "" while its stages are to come."""

    letter: str
    title: str
    needs: str
    add: str


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What averaging one method's samples gains in a run and what it costs, as text."""

    title: str
    strength: str
    gain: str
    against: str
    training: str
    passes: str


def gains(found: Json) -> list[Gain]:
    """An ensemble first, then the methods; [] before all is compared, and for experiments judged before costs were."""
    return [_gain(row) for row in found.get("gains", [])]


def rule(spec: ExperimentSpec, kinds: Sequence[KindProgress]) -> str:
    """At which strength samples are averaged, without the full stop."""
    if any(kind.kind == "strength" for kind in kinds):
        return (
            "Each method’s samples are drawn afresh at the one strength, for all runs alike, at which their average "
            "predicts the validation images best"
        )
    why = f": {FAIR_IMAGES} validation images are needed" if spec.evaluation.averaged == "fair" else ""
    return f"What is averaged are the narrow samples, at strengths that were not chosen for it{why}"


def _gain(row: Json) -> Gain:
    if row["method"] is None:
        title, strength, against = f"Ensemble of {row['members']}", "–", "single runs"
    else:
        title = methods[row["method"]].title if row["method"] in methods else row["method"]
        title += f" (around {row['runs']} of {row['of']} runs)" if "runs" in row else ""
        strength, against = _strength(row), _against(row)
    return Gain(
        title=title,
        strength=strength,
        gain=_signed(row["brier"]),
        against=against,
        training=f"{row['training']:.3g}",
        passes=f"{row['passes']}",
    )


def _strength(row: Json) -> str:
    """The strength that was chosen, or which samples are averaged without a choice."""
    if row["strength"] is None:
        entry = methods.get(row["method"])
        return "–" if row["samples"] == 1 else "narrow samples" if entry and entry.sampled else "all its samples"
    if row["strength"] == 0:
        return "0: averaging samples gains nothing"
    end = f" ({row['end']} of its grid)" if row["end"] else ""
    return f"{row['strength']:.3g}{end}"


def _against(row: Json) -> str:
    if row["over_last"] is None:
        return "single runs"
    return (
        f"the better of run and last iterate ({_signed(row['over_finals'])} over the runs, "
        f"{_signed(row['over_last'])} over the last iterates)"
    )


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")


def answered(found: Json, figures: Sequence[str], look: finding.Look = finding.FIRST) -> list[Row]:
    """Claims that were asked. figures: names of this experiment's, in the order of the page."""
    return [_row(claim, figures) for claim in finding.claims(found, look)]


def headline(rows: Sequence[Row]) -> str:
    """How many hold, in a sentence; "" without claims."""
    if not rows:
        return ""
    words = [row.word for row in rows]
    holds, fails, open_ = (words.count(word) for word in ("holds", "does not hold", "cannot tell"))
    text = f"{holds} of {len(rows)} claims {'holds' if holds == 1 else 'hold'} here"
    if fails:
        text += f", {fails} {'does' if fails == 1 else 'do'} not"
    if open_:
        text += f", {open_} cannot be told"
    return f"{text}."


def undecided(
    spec: ExperimentSpec, found: Json, kinds: Sequence[KindProgress], *, is_alive: bool, learned: bool = True
) -> list[Open]:
    """Claims without a word: those whose stages are to come or have failed, and those this spec cannot decide.

    learned: False where every run has failed, which nothing that is added to a clone would mend.
    """
    known = {claim["id"] for claim in finding.claims(found)}
    waiting = {kind.kind for kind in kinds if kind.done < kind.total}
    rows = []
    for letter, question in QUESTIONS.items():
        if letter in known:
            continue
        words, add, judges = DECIDED_BY[letter]
        is_asked = _has(spec, add)
        comes = is_asked and bool(waiting & set(judges))
        needs = f"needs {words}"
        if not learned and set(judges) & {"compare", "shift-compare"}:
            needs, is_asked = "no run learned", True
        elif comes:
            stage = " or ".join(judges)
            needs = f"comes with the stage {stage}" if is_alive else f"the stage {stage} has not succeeded; retry it"
        elif is_asked:
            needs = "what decides it was asked for and gave no answer: it has failed, or an older version judged less"
        rows.append(Open(letter=letter, title=question.title, needs=needs, add="" if is_asked else add))
    return rows


def _has(spec: ExperimentSpec, add: str) -> bool:
    """Whether the spec already asks for what /launch?with=`add` would add."""
    return forms.with_more(spec.model_dump(mode="json"), add) == spec.model_dump(mode="json")


def _row(claim: Json, figures: Sequence[str]) -> Row:
    question = QUESTIONS[claim["id"]]
    paper, shown = SHOWN[claim["id"]]
    figure = next((name for name in shown if name in figures), "")
    stands = ""
    if claim["word"] != "cannot tell" and claim["tested"] > 1:
        stands = f"{'also' if claim['survives'] else 'not'} with all {claim['tested']} tests at once"
    rests = ""
    if claim["rests_on"]:
        units = ", ".join(str(number) for number in claim["rests_on"])
        several, without = ("s", "one of them") if len(claim["rests_on"]) > 1 else ("", "it")
        rests = f"Rests on {claim['unit']}{several} {units}: without {without} the word would be another."
    return Row(
        letter=claim["id"],
        title=claim["title"],
        estimand=claim["estimand"],
        paper=paper,
        word=claim["word"],
        glyph=claim["glyph"],
        effect="–" if claim["estimate"] is None else _say(claim["id"], claim["estimate"]),
        interval=claim["interval"],
        level=f"{100 * claim['confidence']:.3g} %",
        decides=claim["decides"],
        margin=_margin(claim["id"], claim["margin"]),
        units=f"{claim['n']} {claim['unit']}{'' if claim['n'] == 1 else 's'}",
        images=f"{thousands(claim['N'])} images" if claim["N"] else "",
        because=claim["because"],
        qualifier=claim["qualifier"],
        note=claim["note"],
        stands=stands,
        at_look=_at_look(claim["at_look"]),
        rests=rests,
        picture=_picture(question, claim),
        parts=_numbers(claim["parts"]),
        methods=tuple(_method(question, method) for method in claim["methods"]),
        figure=figure,
        place=figures.index(figure) + 1 if figure else 0,
    )


def _at_look(known: Json) -> str:
    if known["look"] == 1:
        return ""
    interval = f" ({known['interval']})" if known["interval"] else ""
    return f"at {100 * known['level']:.2g} %: {known['word']}{interval}"


def looked(look: finding.Look) -> str:
    """What was seen of the same trainings before, in a sentence; "" at the first look."""
    if look.number == 1:
        return ""
    spent = f"at most {look.number} × 5 % = {100 * look.spent:g} % (Bonferroni)"
    grown = f", {look.runs} here" if look.runs != look.planned else ""
    return (
        f"This is look {look.number} at these trainings; level spent so far: {spent}. "
        f"{look.planned} {'run was' if look.planned == 1 else 'runs were'} promised at the first launch{grown}. "
        f"Beside each word is the one it would have at 5 %/{look.number}."
    )


def looking_ahead(look: finding.Look) -> str:
    """What launching this would be, before it; "" where nobody has looked at its trainings."""
    if look.number == 1:
        return ""
    before = ", ".join(f"{one['name']} ({one['runs']} runs)" for one in look.earlier[-3:])
    return (
        f"Some of these trainings are here already: {before}. Of {look.planned} runs promised first, this would be "
        f"look {look.number}, and each word is shown at 5 %/{look.number}, too. Another seed makes a new experiment."
    )


def _say(letter: str, value: float) -> str:
    text = QUESTIONS[letter].say(value)
    return f"{text} {UNITS[letter]}" if letter in UNITS else text


def _margin(letter: str, margin: float) -> str:
    question = QUESTIONS[letter]
    text = {"above": "above", "below": "below", "within": "within ±"}[question.side]
    text = f"{text}{'' if text.endswith('±') else ' '}{_say(letter, margin)}"
    edited = not math.isclose(margin, question.margin, abs_tol=1e-12)
    return f"{text} (edited; by default {question.say(question.margin)})" if edited else text


def _picture(question: Question, claim: Json) -> Interval | None:
    """Distances beyond the margin, scaled so that all of the interval and the margin fit. None without an interval."""
    low, x, high, margin = claim["low"], claim["estimate"], claim["high"], claim["margin"]
    if None in (low, x, high):
        return None
    if question.side == "above":
        far = (low - margin, x - margin, high - margin)
    elif question.side == "below":
        far = (margin - high, margin - x, margin - low)
    else:  # within: from the end that is farthest from zero
        nearest = 0.0 if low < 0 < high else min(abs(low), abs(high))
        far = (margin - max(abs(low), abs(high)), margin - abs(x), margin - nearest)
    left, right = MARGIN_AT - ROOM, WIDTH - MARGIN_AT - ROOM
    scale = min(right / max(far[2], 1e-12), left / max(-far[0], 1e-12))
    places = [round(MARGIN_AT + distance * scale, 1) for distance in far]
    return Interval(low=places[0], x=places[1], high=places[2])


def _numbers(parts: Mapping[str, float]) -> tuple[Part, ...]:
    return tuple(Part(title=name, text=_short(value)) for name, value in parts.items())


def _short(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e6:
        return thousands(int(value))
    return f"{value:.3g}".replace("-", "−")


def _method(question: Question, found: Json) -> Part:
    known = found["estimate"]
    text = "–"
    if known is not None and known["value"] is not None:
        text = question.say(known["value"])
        if known["low"] is not None and known["high"] is not None:
            text += f" ({question.say(known['low'], bare=True)} to {question.say(known['high'], bare=True)})"
    return Part(
        title=found["title"],
        text=text,
        word=found["word"],
        glyph=finding.GLYPHS[found["word"]],
        because=found["because"] + (f"; from {found['n']} runs" if found.get("n") else ""),
        numbers="; ".join(f"{part.title} {part.text}" for part in _numbers(found["parts"])),
    )
