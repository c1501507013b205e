"""What an experiment says about its question, in numbers and in one or two sentences; without torch.

The numbers are made by the compare stages (pipeline.py) and kept in `experiment.finding`; the words are made here, for
list, page, command line and notebook alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modescape.registry import methods
from modescape.science.inference import holm
from modescape.science.verdict import QUESTIONS, Question

Json = dict[str, Any]

GLYPHS = {"holds": "✓", "does not hold": "✗", "cannot tell": "?"}


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
    return f"{text} {lost}; what failed counts nowhere." if lost else text


def line(finding: Json) -> str:
    """The newest finding in one short line, for lists."""
    return "; ".join(filter(None, (_found(finding), failures(finding))))


def _found(finding: Json) -> str:
    independent = finding.get("independent")
    if not independent:
        return ""
    best = best_method(finding)
    if best and independent["disagreement"] > 0:
        share = best["disagreement"] / independent["disagreement"]
        return f"most diverse subspace, {_title(best)}, gives {100 * share:.0f} % of the independent disagreement"
    return f"independent runs disagree on {percent(independent['disagreement'])}"


def _title(method: Json) -> str:
    name = method["method"]
    if name not in methods:  # a worker's plug-in, which the web process does not know
        return str(name)
    title = methods[name].title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]  # SWAG stays SWAG


def claims(finding: Json) -> list[Json]:
    """The claims that were asked, in the paper's order, each with glyph, effect in words and figure; [] while nothing
    is compared.

    survives: still given once Holm's correction for the number of answered claims is made. The stages that judge may
    run at any time, so only here are all words known.
    """
    known = finding.get("claims", {})
    if isinstance(known, list):  # from a version in which one stage judged them all
        known = {claim["id"]: claim for claim in known}
    standing = holm(
        {letter: c["p"] for letter, c in known.items() if c["word"] != "cannot tell" and c["p"] is not None}
    )
    return [_shown(known[letter], letter in standing) for letter in QUESTIONS if letter in known]


def document(finding: Json) -> Json:
    """All that was found, as the API gives it: the claims as a list, with what survives Holm's correction."""
    return {**finding, "claims": claims(finding)} if "claims" in finding else finding


def _shown(claim: Json, survives: bool) -> Json:
    question = QUESTIONS[claim["id"]]
    return {
        "unit": "run",
        **claim,
        "survives": survives,
        "glyph": GLYPHS[claim["word"]],
        "effect": _say(question, claim["estimate"]),
        "interval": _interval(question, claim["low"], claim["high"]),
    }


def _say(question: Question, value: float | None) -> str:
    return "–" if value is None else question.say(value)


def _interval(question: Question, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{question.say(low, bare=True)} to {question.say(high)}"


def best_method(finding: Json) -> Json | None:
    """The subspace method with the largest disagreement at equal accuracy, or None where none could be read there."""
    known = [m for m in finding.get("methods", []) if m.get("disagreement") is not None]
    return max(known, key=lambda m: float(m["disagreement"]), default=None)
