"""Which look at the same trainings an experiment is, and what level that leaves for its words (science o.11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modescape.records import Json
from modescape.science.confidence import LEVEL

if TYPE_CHECKING:
    from modescape.claims.evidence import Promised
    from modescape.tables import Experiment


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
    def ahead(cls, spec: Promised, sharing: Sequence[Experiment]) -> Look:
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


def looked(look: Look) -> str:
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


def looking_ahead(look: Look) -> str:
    """What launching this would be, before it; "" where nobody has looked at its trainings."""
    if look.number == 1:
        return ""
    before = ", ".join(f"{one['name']} ({one['runs']} runs)" for one in look.earlier[-3:])
    return (
        f"Some of these trainings are here already: {before}. Of {look.planned} runs promised first, this would be "
        f"look {look.number}, and each word is shown at 5 %/{look.number}, too. Another seed makes a new experiment."
    )
