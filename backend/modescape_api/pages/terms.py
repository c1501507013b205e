"""What the words on a page mean: each with its formula, what a number of it is compared with, and the chapter.

    explained("Runs disagree on 8.5 % of test labels.")     # the same, with a button at the word that is explained
    of_figure("plane")                                      # the terms of a figure

The definitions are those of docs/science, in one line; a test holds each to the chapter that it names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True, kw_only=True)
class Term:
    """words: a pattern of how texts call it; against: what a number of it is compared with; chapter: "a.2"."""

    name: str
    words: str
    says: str
    formula: str
    against: str
    chapter: str

    @property
    def url(self) -> str:
        return f"/science/{self.chapter[0]}#{self.chapter}"

    @property
    def key(self) -> str:
        return re.sub(r"\W+", "-", self.name.lower())


TERMS: tuple[Term, ...] = (
    Term(
        name="Disagreement", words=r"disagree(?:ment)?s?", chapter="a.2",
        says="Share of images on which two functions predict different labels.",
        formula="d(f, g) = 1/N · Σₙ [f(xₙ) ≠ g(xₙ)]",
        against="0: the same labels everywhere. Two checkpoints of one run, and two independent runs.",
    ),
    Term(
        name="Diversity", words=r"diversity|diverse", chapter="a.3",
        says="Disagreement with the reference, over the error rate of the function itself.",
        formula="d(f, f*) / (1 − accuracy(f))",
        against="0: the reference itself. The two dashed limits: independent predictions above, one function "
        "perturbed below.",
    ),
    Term(
        name="Cosine of weights", words=r"cosines?(?: of (?:their|the) weights)?", chapter="a.1",
        says="Angle between two networks' weights, all trainable tensors as one vector, without what they share for "
        "free: the class mean of the head, which changes no prediction, and scales and offsets of norms.",
        formula="cos(θ₁, θ₂) = θ₁·θ₂ / (|θ₁| |θ₂|)",
        against="0: orthogonal, as independent runs are. 1: the same direction, as late checkpoints of one run.",
    ),
    Term(
        name="Equal accuracy", words=r"(?:at |cost )(?:equal accuracy|one point of accuracy)", chapter="o.5",
        says="The strength of a method at which its samples lose one point of accuracy on average.",
        formula="D_q = d̂(s*), s* the largest s with l̂(s) ≤ 0.01 (isotonic fits over all runs)",
        against="The disagreement of independent runs.",
    ),
    Term(
        name="Gain of averaging", words=r"gains?|loses", chapter="a.8",
        says="Accuracy (or Brier score) of the mean of the members' probabilities, against the mean of single ones.",
        formula="acc(1/M · Σₘ pₘ) − 1/M · Σₘ acc(pₘ)",
        against="0: averaging brings nothing. In percentage points of accuracy where nothing else is said.",
    ),
    Term(
        name="Accuracy", words=r"accurac(?:y|ies)", chapter="a.4",
        says="Share of images whose predicted label is the true one.",
        formula="1/N · Σₙ [f(xₙ) = yₙ]",
        against="Chance, 1/K of K classes, and 1.",
    ),
    Term(
        name="Loss", words=r"loss(?:es)?|NLL", chapter="a.4",
        says="Negative log-likelihood of the true class, in nats.",
        formula="−1/N · Σₙ log p(yₙ | xₙ)",
        against="log K nats: a guess among K classes. 0: sure and right.",
    ),
    Term(
        name="Brier score", words=r"Brier scores?", chapter="a.5",
        says="Squared distance of the probabilities from the truth, summed over classes.",
        formula="1/N · Σₙ Σₖ (pₙₖ − [yₙ = k])²",
        against="0: sure and right. 1 − 1/K: a guess among K classes. 2: sure and wrong.",
    ),
    Term(
        name="Calibration error", words=r"calibration(?: error)?|ECE", chapter="a.6",
        says="How far confidence and accuracy lie apart, over bins of confidence.",
        formula="ECE = Σ_b n_b/N · |accuracy_b − confidence_b|",
        against="0: right as often as it is sure.",
    ),
    Term(
        name="Entropy", words=r"entrop(?:y|ies)|mutual information", chapter="a.7",
        says="How unsure a prediction is, in nats; an ensemble by its members, and by what they differ in.",
        formula="H(p) = −Σₖ pₖ log pₖ",
        against="0: sure. log K nats: a guess among K classes.",
    ),
    Term(
        name="Jensen-Shannon divergence", words=r"Jensen[-–]Shannon divergence|divergences?", chapter="a.9",
        says="How far the members' probabilities lie from their mean, in nats.",
        formula="JS = H(p̄) − 1/M · Σₘ H(pₘ)",
        against="0: the same probabilities. log M nats at most. Compared at equal M only.",
    ),
    Term(
        name="AUROC", words=r"AUROC", chapter="a.11",
        says="How often an image of another kind has the larger score.",
        formula="P(s_out > s_in) + ½ P(s_out = s_in)",
        against="0.5: chance. 1: all are told apart.",
    ),
    Term(
        name="t-SNE", words=r"t-SNE", chapter="a.12",
        says="A map in which functions with near outputs are neighbours; distances between islands mean nothing.",
        formula="least KL divergence between neighbourhoods of outputs and of points",
        against="PCA and metric scaling of the same outputs, which keep distances.",
    ),
    Term(
        name="Limits", words=r"limits|independent predictions", chapter="i.3",
        says="What functions would differ by whose errors are independent of the reference's, and by which merely "
        "labels of the reference are flipped at random.",
        formula="a* = accuracy of the reference, C classes; y = d / (1 − a)",
        against="The points: beyond the upper line more diverse than independence gives.",
    ),
    Term(
        name="Family", words=r"family", chapter="i.4",
        says="Right labels flip with probability p, wrong ones with pᵉ; e is fitted to the samples.",
        formula="d(p) = a* p + (1 − a*) pᵉ",
        against="e = 1: labels flip alike, the lower limit. Smaller: wrong labels flip first.",
    ),
    Term(
        name="Barrier", words=r"barriers?", chapter="l.1",
        says="How far the loss rises on the straight line between two networks, above the line between their losses.",
        formula="max_t [L((1−t)A + tB) − ((1−t) L(A) + t L(B))]",
        against="0: they lie in one valley.",
    ),
    Term(
        name="95 % interval", words=r"95 % intervals?|[Ii]ntervals?", chapter="o.2",
        says="Where the effect may lie for fresh runs and fresh images; the run is the unit.",
        formula="T ± t(0.975, n−1) · √(V_runs + V_examples)",
        against="The margin: a claim holds where the whole interval lies beyond it.",
    ),
    Term(
        name="All tests at once", words=r"with all \d+ tests at once", chapter="o.6",
        says="Holm's correction over every claim that an interval could have decided.",
        formula="p₍ᵢ₎ ≤ 0.05 / (m − i + 1), smallest p first",
        against="The word of each claim taken alone.",
    ),
    Term(
        name="Fragile", words=r"fragile", chapter="o.6",
        says="A word that does not stand with all tests at once, or that would be another without one of the runs.",
        formula="p > 0.05 / (m − i + 1), or another word without run i",
        against="A word that stands with all tests, and without any one run.",
    ),
)  # fmt: skip

_BY_NAME = {term.name: term for term in TERMS}
_ANY = re.compile("|".join(f"(?P<t{i}>\\b(?:{term.words})(?!\\w))" for i, term in enumerate(TERMS)), re.IGNORECASE)

_OF_FIGURES: dict[str, tuple[str, ...]] = {
    "trajectories": ("Loss", "Accuracy", "Gain of averaging"),
    "similarity-trajectory": ("Cosine of weights", "Disagreement"),
    "similarity-runs": ("Cosine of weights", "Disagreement"),
    "tsne-trajectories": ("t-SNE",),
    "tsne-samples": ("t-SNE",),
    "plane": ("Disagreement", "Diversity", "Equal accuracy", "Limits", "Family"),
    "strengths": ("Loss", "Brier score", "Equal accuracy"),
    "ensembles": ("Accuracy", "Brier score", "Gain of averaging"),
    "reliability": ("Accuracy", "Calibration error"),
}
_OF_STAGES: dict[str, tuple[str, ...]] = {
    "shift": ("Accuracy", "Brier score", "Jensen-Shannon divergence"),
    "ood": ("Entropy", "Jensen-Shannon divergence", "AUROC"),
    "connectivity": ("Barrier", "Loss"),
    "instability": ("Barrier", "Disagreement"),
    "seeds": ("Disagreement",),
    "plane": ("Loss", "Accuracy"),
    "tunnel": ("Loss", "Accuracy"),
    "triangles": ("Disagreement", "Loss"),
    "chain": ("Diversity", "Disagreement"),
}


def of_figure(name: str, needs: Sequence[str] = ()) -> list[Term]:
    """The terms that a figure speaks of, [] of one that is not ours."""
    names = _OF_FIGURES.get(name) or next((_OF_STAGES[kind] for kind in needs if kind in _OF_STAGES), ())
    return [_BY_NAME[one] for one in names]


def explained(text: str) -> Markup:
    """A text whose terms open their definitions (_definitions.html), each where it comes first."""
    seen: set[str] = set()
    parts, at = [], 0
    for found in _ANY.finditer(text):
        term = TERMS[int((found.lastgroup or "t0")[1:])]
        if term.name in seen:
            continue
        seen.add(term.name)
        word = Markup(
            '<button type="button" class="term" popovertarget="def-{key}" popovertargetaction="show">{word}</button>'
        )
        parts += [escape(text[at : found.start()]), word.format(key=term.key, word=found.group())]
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])
