"""What an experiment says about its question, in numbers and in one or two sentences; without torch.

The numbers are made by the compare stages (pipeline.py) and kept in `experiment.finding`; the words are made here, for
list, page, command line and notebook alike.
"""

from __future__ import annotations

from typing import Any

from modescape.registry import methods

Json = dict[str, Any]


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def headline(finding: Json) -> str:
    """The answer in a few words; empty while nothing is known."""
    independent = finding.get("independent")
    if not independent:
        return ""
    within = finding.get("trajectory", {}).get("disagreement")
    if within is None:
        return f"Independent runs disagree on {percent(independent['disagreement'])} of the labels."
    if independent["disagreement"] > 1.25 * within:
        return "These networks are different functions."
    return "These networks are no more different than one network at two times."


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
        text += f"; the cosine of their weights is {independent['cosine']:.3f}"
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
    return title[:1].lower() + title[1:]


def claims(finding: Json) -> list[Json]:
    """The answered claims with a glyph and their interval as text; [] while nothing is compared."""
    glyphs = {"holds": "✓", "does not hold": "✗", "cannot tell": "?"}
    return [
        {**claim, "glyph": glyphs[claim["word"]], "interval": _interval(claim)} for claim in finding.get("claims", [])
    ]


def _interval(claim: Json) -> str:
    if claim["estimate"] is None or claim["low"] is None or claim["high"] is None:
        return "–"
    return f"{claim['estimate']:.2f} ({claim['low']:.2f} to {claim['high']:.2f})".replace("-", "−")


def best_method(finding: Json) -> Json | None:
    """The subspace method with the largest disagreement at equal accuracy, or None where none could be read there."""
    known = [m for m in finding.get("methods", []) if m.get("disagreement") is not None]
    return max(known, key=lambda m: float(m["disagreement"]), default=None)
