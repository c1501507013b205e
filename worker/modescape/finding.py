"""What an experiment says about its question, in numbers and in one or two sentences; without torch.

The numbers are made by stages (`stages.judge`, ...) and kept in `experiment.finding`; the words are made here, for
list, page, command line and notebook alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modescape.registry import methods
from modescape.science.inference import LEVEL, MAX_UNDEFINED, holm, p_beyond, t_quantile
from modescape.science.verdict import QUESTIONS, Question

if TYPE_CHECKING:
    from modescape.spec import ExperimentSpec
    from modescape.tables import Experiment

Json = dict[str, Any]

GLYPHS = {"holds": "✓", "does not hold": "✗", "cannot tell": "?"}
ONE_METHOD_IS_ENOUGH = ("e2",)  # other claims over methods need every one


@dataclass(frozen=True)
class Look:
    """Which look at the same trainings an experiment is (science o.11).

    number: 1 for the first; planned: runs promised at the first launch; runs: of this one; earlier: what was looked at
    before (id, slug, name, digest, runs, and whether it is gone), oldest first, each question once.
    """

    number: int
    planned: int
    runs: int
    earlier: tuple[Json, ...] = ()

    @classmethod
    def of(cls, row: Experiment, judged: Mapping[str, bool]) -> Look:
        """judged: of the earlier experiments that there still are, whether any claim has been judged.

        One that ended without a verdict was no look; one deleted since may have been. The same spec again shows the
        same words, which is no other look either.
        """
        earlier = [{**one, "gone": one["id"] not in judged} for one in row.earlier if judged.get(one["id"], True)]
        return cls._among(earlier, row.digest, planned=row.planned_runs, runs=row.runs)

    @classmethod
    def ahead(cls, spec: ExperimentSpec, sharing: Sequence[Experiment]) -> Look:
        """Which look an experiment would be. sharing: those that have its trainings; what still runs will be judged."""
        counted = [row for row in sharing if row.finding.get("claims") or row.finished_at is None]
        earlier = [
            {"id": r.id, "slug": r.slug, "name": r.name, "digest": r.digest, "runs": r.runs, "gone": False}
            for r in counted
        ]
        planned = sharing[0].planned_runs if sharing else spec.ensemble.runs
        return cls._among(earlier, spec.digest(), planned=planned, runs=spec.ensemble.runs)

    @classmethod
    def _among(cls, earlier: Sequence[Json], own: str, *, planned: int, runs: int) -> Look:
        others = {one["digest"]: one for one in earlier if one["digest"] != own}
        return cls(1 + len(others), planned, runs, tuple(others.values()))

    @property
    def level(self) -> float:
        """Of each word, two-sided, had every look its share of 5 % (Bonferroni)."""
        return 2 * LEVEL / self.number

    @property
    def spent(self) -> float:
        """Probability of a wrong word of one claim at any look so far: at most this."""
        return min(1.0, 2 * LEVEL * self.number)


FIRST = Look(1, 0, 0)


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def no_run_learned(failed: Mapping[int, str]) -> str:
    """Why there is nothing to compare: run -> why it has failed."""
    reasons = [f"run {run}: {why}" for run, why in sorted(failed.items())]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"every run failed ({'; '.join(reasons[:3])}{more})"


def failures(finding: Json) -> str:
    """How many runs and chains have failed, such as "1 of 6 runs failed"; empty when none has."""
    known = finding.get("failed") or {}
    counts = [(len(known.get("runs", {})), known.get("of"), "runs")]
    counts += [
        (len(chains["runs"]), chains["of"], f"{_title({'method': name})} chains")
        for name, chains in known.get("chains", {}).items()
    ]
    return ", ".join(f"{count} of {of} {what} failed" for count, of, what in counts if count)


def headline(finding: Json) -> str:
    """The answer in a few words, as claim (b) is judged; empty while nothing is known."""
    independent = finding.get("independent")
    if not independent:
        return "One run is left, which nothing can be compared with." if failures(finding) else ""
    word = next((claim["word"] for claim in claims(finding) if claim["id"] == "b"), "cannot tell")
    if word == "holds":
        return "These networks are different functions."
    if word == "does not hold":
        return "These networks are no more different than one network at two times."
    return (
        f"Independent runs disagree on {percent(independent['disagreement'])}; "
        "whether that is more than along one training cannot be told yet."
    )


def sentence(finding: Json) -> str:
    """A few sentences with numbers, spread and n, and what has failed; empty while nothing is known."""
    independent, lost = finding.get("independent"), failures(finding)
    if not independent:
        return f"{lost}." if lost else ""
    spread = f"± {100 * independent['disagreement_sd']:.1f}, " if independent.get("disagreement_sd") is not None else ""
    text = (
        f"Independent runs disagree on {percent(independent['disagreement'])} of test labels "
        f"({spread}n = {independent['pairs']} {'pair' if independent['pairs'] == 1 else 'pairs'})"
    )
    if independent.get("cosine") is not None:
        cosine = f"{independent['cosine']:.3f}".replace("-", "−")
        text += f"; the cosine of their weights is {cosine}"
        plain = f"{independent.get('cosine_plain', independent['cosine']):.3f}".replace("-", "−")
        text += f" ({plain} with what they share for free)" if plain != cosine else ""
    text += "."
    best = best_method(finding)
    if best:
        text += (
            f" Where they cost one point of accuracy, the samples of {_title(best)}, the farthest of the subspace "
            f"methods, change {percent(best['disagreement'])}{_ends(best)}."
        )
    ensemble = finding.get("ensemble")
    if ensemble:
        gain = 100 * (ensemble["accuracy"] - ensemble["single"])
        text += f" Averaging {ensemble['members']} runs {'gains' if gain >= 0 else 'loses'} {abs(gain):.1f} points."
    return f"{text} {lost}; what failed counts nowhere." if lost else text


def line(finding: Json) -> str:
    """The newest finding in one short line, for lists."""
    return "; ".join(filter(None, (_found(finding), failures(finding))))


def _found(finding: Json) -> str:
    independent = finding.get("independent")
    if not independent:
        return ""
    text, best = f"runs disagree on {percent(independent['disagreement'])}", best_method(finding)
    if best:
        return f"{text}, at equal accuracy {_title(best)} changes {percent(best['disagreement'])}"
    return f"independent {text}"


def _ends(read: Json) -> str:
    if read["low"] is None or read["high"] is None:  # from a version without them
        return ""
    return f" (95 % interval {100 * read['low']:.1f} to {percent(read['high'])})"


def reduction(head: Sequence[str], left_out: Sequence[str]) -> str:
    """What was taken out of the weights before their cosine; head, left_out: names of tensors."""
    mean = (
        f"without the class mean of {' and '.join(head)}"
        if head
        else "with the class mean of a head, as none was found"
    )
    return mean + (f", without {len(left_out)} scales and offsets of norms" if left_out else "")


def _title(method: Json) -> str:
    name = method["method"]
    if name not in methods:  # a worker's plug-in, which the web process does not know
        return str(name)
    title = methods[name].title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]  # SWAG stays SWAG


def claims(finding: Json, look: Look = FIRST) -> list[Json]:
    """The claims that were asked, in the paper's order, each with glyph, effect in words and figure; [] while nothing
    is compared. estimate, low, high, effect, interval: of a claim over methods those of the one that `decides`, at the
    `confidence` its word needs. at_look: word and interval at the level that is left for this look at these trainings.

    p: of its test, None of a claim that was not tested (no interval could have given a word); survives: the word is
    still given once Holm's correction for all tested claims is made; tested: how many those are; note: what an older
    rule said of it, where that was something else. The stages that judge may run at any time, so only here are all
    known, and only here corrected: of older findings from the intervals they kept.
    """
    known = known_claims(finding)
    p_values = {letter: p for letter, claim in known.items() if (p := _p(claim)) is not None}
    standing = holm(p_values)
    answered = {letter: claim["p"] for letter, claim in known.items() if claim["word"] != "cannot tell"}
    is_old = any(claim["p"] is None and letter in p_values for letter, claim in known.items())
    before = holm({letter: p for letter, p in answered.items() if p is not None}) if is_old else standing
    shown = []
    for letter in QUESTIONS:
        if letter not in known:
            continue
        claim, p = known[letter], p_values.get(letter)
        note = ""
        if claim["word"] == "does not hold" and p is not None and p > LEVEL:
            # methods whose range was too short were tested, too, and were not counted
            claim = claim | {"word": "cannot tell", "qualifier": ""}
            note = "by the rule before, which counted fewer methods, it did not hold"
        elif letter in answered and (letter in before) != (letter in standing):
            stood = "stood" if letter in before else "did not stand"
            note = f"by the rule before, which counted answers only, it {stood} with all of them at once"
        shown.append(_shown(claim | {"p": p}, letter in standing, look) | {"tested": len(p_values), "note": note})
    return shown


def _p(claim: Json) -> float | None:
    """The smaller of the p-values of both words, over methods as `verdict` joins them; None of what was not tested."""
    question = QUESTIONS[claim["id"]]
    if question.joins == "one":
        p: float | None = claim["p"]
        return p if p is not None else _p_of_interval(question, claim)
    found = [(m["estimate"], m["gate"]) for m in claim["methods"] if _is_tested(m["estimate"])]
    if not found:
        return None
    holds = [float(estimate["p_holds"]) for estimate, gate in found if not gate]
    fails = [float(estimate["p_fails"]) for estimate, _ in found]
    if question.joins == "some":
        p_holds, p_fails = min(1.0, len(fails) * min(holds, default=1.0)), max(fails)
        return p_holds if len(holds) < len(claim["methods"]) else min(p_holds, p_fails)
    p_fails = min(1.0, len(fails) * min(fails))
    return p_fails if len(holds) < len(claim["methods"]) else min(p_fails, max(holds))


def _is_tested(estimate: Json | None) -> bool:
    return (
        estimate is not None
        and estimate["low"] is not None
        and estimate["high"] is not None
        and estimate["undefined"] <= MAX_UNDEFINED
    )


def _p_of_interval(question: Question, claim: Json) -> float | None:
    """Of a claim that kept its interval but, having got no word, no p."""
    low, high, value, degrees = claim["low"], claim["high"], claim["estimate"], claim["n"] - 1
    if low is None or high is None or value is None or degrees < 1:
        return None
    error = (high - low) / 2 / t_quantile(1 - LEVEL, degrees)
    above, below = (p_beyond(gap, error, degrees) for gap in (value - claim["margin"], claim["margin"] - value))
    if question.side == "within":
        inside = p_beyond(value + claim["margin"], error, degrees)  # of "above the lower margin"
        return min(max(below, inside), min(above, 1 - inside))
    return min(above, below)


def known_claims(finding: Json) -> dict[str, Json]:
    """Letter -> claim as it was judged. Of an older version: a list, in which (d) is what (d1) is now."""
    kept = finding.get("claims", {})
    known = {claim["id"]: claim for claim in kept} if isinstance(kept, list) else dict(kept)
    if "d" in known:
        known.setdefault("d1", known["d"] | {"id": "d1"})
        del known["d"]
    return known


def document(finding: Json, look: Look = FIRST) -> Json:
    """All that was found, as the API gives it: the claims as a list, with what survives Holm's correction."""
    return {**finding, "claims": claims(finding, look)} if "claims" in finding else finding


def _shown(claim: Json, survives: bool, look: Look) -> Json:
    question, read = QUESTIONS[claim["id"]], _read(claim)
    return {
        "unit": "run",
        **claim,
        "estimate": read.value,
        "low": read.low,
        "high": read.high,
        "confidence": read.confidence,
        "decides": read.decides,
        "survives": survives,
        "at_look": _at_look(claim, look),
        "glyph": GLYPHS[claim["word"]],
        "effect": _say(question, read.value),
        "interval": _interval(question, read.low, read.high),
    }


def _at_look(claim: Json, look: Look) -> Json:
    """The word this claim would have, and its interval, at 5 %/k for look k; from what is stored of it.

    A smaller level takes words away and gives none. p is of the word given, corrected for several methods where the
    word is, so that the word stands at a level whenever p does.
    """
    level = look.level / 2
    stands = claim["word"] == "cannot tell" or (claim["p"] is not None and claim["p"] <= level)
    word = claim["word"] if stands else "cannot tell"
    read = _read(claim | {"word": word}, level)
    return {
        "look": look.number,
        "level": look.level,
        "word": word,
        "glyph": GLYPHS[word],
        "low": read.low,
        "high": read.high,
        "interval": _interval(QUESTIONS[claim["id"]], read.low, read.high),
    }


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The interval that gives the word. confidence: its level, .95 where no further methods are allowed for; decides:
    the method it is of, "" of a claim that is not over methods."""

    low: float | None
    value: float | None
    high: float | None
    confidence: float
    decides: str = ""


def _read(claim: Json, level: float = LEVEL) -> _Reading:
    """Of a claim over methods, the method on which its word rests, with the interval of the level at which it does.

    "For every method" is decided by the method farthest from holding, at 95 % where it holds; that it fails, or might,
    is judged with all k methods allowed for, at 1 - 0.05 / k. "For one method" is the same with both words exchanged.
    level: on either side of an interval.
    """
    opened = [one for one in claim["methods"] if not one["gate"] and _is_whole(one["estimate"])]
    if not opened:
        return _widened(claim["estimate"], claim["low"], claim["high"], claim["n"], level, "")
    enough = claim["id"] in ONE_METHOD_IS_ENOUGH
    sure = "does not hold" if enough else "holds"  # the word that every method must have
    undecided = [one for one in opened if one["word"] != sure]
    if claim["word"] == sure:
        chosen, k = max(opened, key=lambda one: one["estimate"]["p_fails" if enough else "p_holds"]), 1
    else:
        chosen = min(undecided or opened, key=lambda one: one["estimate"]["p_holds" if enough else "p_fails"])
        k = len(opened)
    known = chosen["estimate"]
    decides = chosen["title"] if claim["word"] == sure or undecided else ""  # else a method that cannot be told
    n = chosen.get("n") or claim["n"]
    return _widened(known["value"], known["low"], known["high"], n, level / k, decides)


def _widened(
    value: float | None, low: float | None, high: float | None, n: int, level: float, decides: str
) -> _Reading:
    """The 95 % interval at another level."""
    confidence = 1 - 2 * level
    if value is None or low is None or high is None or n < 2:
        return _Reading(low=low, value=value, high=high, confidence=confidence, decides=decides)
    wider = t_quantile(1 - level, n - 1) / t_quantile(1 - LEVEL, n - 1) if level != LEVEL else 1.0
    return _Reading(
        low=value + wider * (low - value), value=value, high=value + wider * (high - value),
        confidence=confidence, decides=decides,
    )  # fmt: skip


def _is_whole(estimate: Json | None) -> bool:
    return estimate is not None and None not in (estimate["value"], estimate["low"], estimate["high"])


def _say(question: Question, value: float | None) -> str:
    return "–" if value is None else question.say(value)


def _interval(question: Question, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{question.say(low, bare=True)} to {question.say(high)}"


def equal_accuracy(claim: Mapping[str, Any] | None) -> list[Json]:
    """What every subspace method with open gates reaches at equal accuracy, from claim (d1): method, disagreement of
    its samples with their solution, and its 95 % interval (None where an older version kept none)."""
    return [
        {
            "method": one["method"],
            "disagreement": one["parts"]["samples at equal accuracy"],
            "low": one["parts"].get("its lower end"),
            "high": one["parts"].get("its upper end"),
        }
        for one in (claim or {}).get("methods", [])
        if not one["gate"] and "samples at equal accuracy" in one["parts"]
    ]


def best_method(finding: Json) -> Json | None:
    """The method whose samples lie farthest from their solution at equal accuracy, among those with open gates: the one
    number that sentence, list, pictures and claim (d1) give. None where nothing could be read."""
    known = equal_accuracy(known_claims(finding).get("d1"))
    return max(known, key=lambda m: float(m["disagreement"]), default=None)
