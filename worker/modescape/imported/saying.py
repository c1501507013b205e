"""What was understood of an ensemble, and what is odd, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modescape.imported.door import Findings, Level
from modescape.imported.ensemble import Ensemble, OutputKind, SetRole, Unclear

_LEVELS = {
    Level.REFUSED: "Refused",
    Level.FAILED: "Counts as failed",
    Level.ASKED: "Asked",
    Level.LEFT_OUT: "Left out of claims",
    Level.TOLD: "Good to know",
}
KINDS = {
    OutputKind.LOGITS: "logits",
    OutputKind.PROBS: "probabilities",
    OutputKind.LOG_PROBS: "logarithms of probabilities",
    OutputKind.LABELS: "predicted labels alone",
}
ROLES = {
    SetRole.TEST: "test images",
    SetRole.VALIDATION: "validation images",
    SetRole.OOD: "images of another kind",
    SetRole.SHIFT: "shifted images",
}


def understood(ensemble: Ensemble, findings: Findings) -> Iterator[str]:
    """Line by line: what there is, then what is odd, the gravest first, with the answers that questions take."""
    called = f"{ensemble.name}: {members(len(ensemble.members))}"
    if ensemble.has_outputs:
        what = f"{KINDS[ensemble.kind]}, {ensemble.class_count} classes; recipe: {ensemble.recipe}"
    else:
        what = "of which only curves and parameters are known: without predictions no claim can be told"
    yield f"{called}, {what}"
    for place, one in ensemble.sets.items():
        labels = "with labels" if ensemble.truth(one) is not None else "without labels"
        yield f"  {place}: {one.count:,} {ROLES[one.role]}, {labels}"
    for method, samples in ensemble.samples.items():
        count, strengths = samples.outputs["test"].shape[1], ", with strengths" if samples.strength is not None else ""
        yield f"  samples/{method}: {count} around each member{strengths}; on {', '.join(samples.outputs)}"
    if ensemble.trajectory is not None:
        yield f"  trajectory: {len(ensemble.trajectory.epochs)} checkpoints of each member"
    if ensemble.weights:
        yield f"  weights: of {members(len(ensemble.weights))}"
    if ensemble.curves:
        names = sorted({name for curves in ensemble.curves.values() for name in curves})
        yield f"  curves: of {members(len(ensemble.curves))}; {', '.join(names[:8])}{' and more' if names[8:] else ''}"
    for odd in findings.oddities:
        yield with_answers(odd.level, odd.sentence, odd.what, [(choice.value, choice.words) for choice in odd.choices])


def question(unclear: Unclear) -> str:
    """What is asked before anything else can be understood, in a line as `understood` has it."""
    choices = [(choice.value, choice.words) for choice in unclear.choices]
    return with_answers(Level.ASKED, unclear.question, unclear.problems[0].field, choices)


def with_answers(level: str, sentence: str, what: str, choices: Iterable[tuple[str, str]]) -> str:
    """choices: answers that are given under the word `what`, and what each means."""
    answers = "; ".join(f"{what}={value}: {words}" for value, words in choices)
    return said(level, sentence) + (f" ({answers})" if answers else "")


def said(level: str, sentence: str) -> str:
    """level: one of `Level`; what an earlier version of this kept of conversions, "said", is good to know, too."""
    return f"{_LEVELS[Level.TOLD if level == 'said' else Level(level)]}: {sentence}"


def members(count: int) -> str:
    return "1 member" if count == 1 else f"{count} members"
