"""What an experiment says about its question, in numbers and in one or two sentences; without torch.

The numbers are made by the compare stages (pipeline.py) and kept in `experiment.finding`; the words are made here, for
list, page, command line and notebook alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modescape.registry import methods
from modescape.science.inference import LEVEL, holm, t_quantile
from modescape.science.verdict import QUESTIONS, Question

if TYPE_CHECKING:
    from modescape.spec import ExperimentSpec
    from modescape.tables import Experiment

Json = dict[str, Any]

GLYPHS = {"holds": "✓", "does not hold": "✗", "cannot tell": "?"}


@dataclass(frozen=True)
class Look:
    """Which look at the same trainings an experiment is.

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


def headline(finding: Json) -> str:
    """The answer in a few words, as claim (b) is judged; empty while nothing is known."""
    independent = finding.get("independent")
    if not independent:
        return ""
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
    """Two or three sentences with numbers, spread and n; empty while nothing is known."""
    independent = finding.get("independent")
    if not independent:
        return ""
    spread = f"± {100 * independent['disagreement_sd']:.1f}, " if independent.get("disagreement_sd") is not None else ""
    text = (
        f"Independent runs disagree on {percent(independent['disagreement'])} of test labels "
        f"({spread}n = {independent['pairs']} {'pair' if independent['pairs'] == 1 else 'pairs'})"
    )
    if independent.get("cosine") is not None:
        cosine = f"{independent['cosine']:.3f}".replace("-", "−")
        text += f"; the cosine of their weights is {cosine}"
    text += "."
    best = best_method(finding)
    if best:
        text += (
            f" At the same accuracy (within one point) the most diverse subspace method, {_title(best)}, "
            f"changes {percent(best['disagreement'])}."
        )
    ensemble = finding.get("ensemble")
    if ensemble:
        gain = 100 * (ensemble["accuracy"] - ensemble["single"])
        text += f" Averaging {ensemble['members']} runs {'gains' if gain >= 0 else 'loses'} {abs(gain):.1f} points."
    return text


def line(finding: Json) -> str:
    """The newest finding in one short line, for lists."""
    independent = finding.get("independent")
    if not independent:
        return ""
    best = best_method(finding)
    if best and independent["disagreement"] > 0:
        share = best["disagreement"] / independent["disagreement"]
        return f"most diverse subspace, {_title(best)}, gives {100 * share:.0f} % of the independent disagreement"
    return f"independent runs disagree on {percent(independent['disagreement'])}"


def _title(method: Json) -> str:
    title = methods[method["method"]].title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]  # SWAG stays SWAG


def claims(finding: Json, look: Look = FIRST) -> list[Json]:
    """The claims that were asked, in the paper's order, each with glyph, effect in words and figure; [] while nothing
    is compared. at_look: word and interval at the level that is left for this look at these trainings.

    survives: still given once Holm's correction for the number of answered claims is made. The stages that judge may
    run at any time, so only here are all words known.
    """
    known = finding.get("claims", {})
    if isinstance(known, list):  # from a version in which one stage judged them all
        known = {claim["id"]: claim for claim in known}
    standing = holm(
        {letter: c["p"] for letter, c in known.items() if c["word"] != "cannot tell" and c["p"] is not None}
    )
    return [_shown(known[letter], letter in standing, look) for letter in QUESTIONS if letter in known]


def document(finding: Json, look: Look = FIRST) -> Json:
    """All that was found, as the API gives it: the claims as a list, with what survives Holm's correction."""
    return {**finding, "claims": claims(finding, look)} if "claims" in finding else finding


def _shown(claim: Json, survives: bool, look: Look) -> Json:
    question = QUESTIONS[claim["id"]]
    return {
        "unit": "run",
        **claim,
        "survives": survives,
        "at_look": _at_look(claim, look),
        "glyph": GLYPHS[claim["word"]],
        "effect": _say(question, claim["estimate"]),
        "interval": _interval(question, claim["low"], claim["high"]),
    }


def _at_look(claim: Json, look: Look) -> Json:
    """The word this claim would have, and its interval, at 5 %/k for look k; from what is stored of it.

    A smaller level takes words away and gives none. p is of the word given, corrected for several methods where the
    word is, so that the word stands at a level whenever p does.
    """
    level = look.level / 2
    stands = claim["word"] == "cannot tell" or (claim["p"] is not None and claim["p"] <= level)
    word = claim["word"] if stands else "cannot tell"
    known = (claim["estimate"], claim["low"], claim["high"])
    low = high = None
    if None not in known and claim["n"] > 1:
        value, degrees = claim["estimate"], claim["n"] - 1
        wider = t_quantile(1 - level, degrees) / t_quantile(1 - LEVEL, degrees)
        low, high = (value + (end - value) * wider for end in known[1:])
    return {
        "look": look.number,
        "level": look.level,
        "word": word,
        "glyph": GLYPHS[word],
        "low": low,
        "high": high,
        "interval": _interval(QUESTIONS[claim["id"]], low, high),
    }


def _say(question: Question, value: float | None) -> str:
    return "–" if value is None else question.say(value)


def _interval(question: Question, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{question.say(low, bare=True)} to {question.say(high)}"


def best_method(finding: Json) -> Json | None:
    """The subspace method with the largest disagreement at equal accuracy, or None where none could be read there."""
    known = [m for m in finding.get("methods", []) if m.get("disagreement") is not None]
    return max(known, key=lambda m: float(m["disagreement"]), default=None)
