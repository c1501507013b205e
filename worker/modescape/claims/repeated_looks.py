"""Which look at the same trainings an experiment is, and what level that leaves for its words (science o.11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modescape.records import Json
from modescape.science.confidence import LEVEL

if TYPE_CHECKING:
    from modescape.claims.evidence import Promised
    from modescape.tables import Experiment


@dataclass(frozen=True)
class Look:
    """Which look at the same trainings an experiment is (science o.11).

    number: 1 for the first; planned: runs promised at the first launch, or of an ensemble that comes in pieces when it
    was opened last; runs: of this one; earlier: what was looked at before (id, slug, name, digest, runs, and whether it
    is gone), oldest first, each question once; first: members of such an ensemble that were promised at first, None of
    others; has_begun: False of one that waits for members, for the look comes with its seal.
    """

    number: int
    planned: int
    runs: int
    earlier: tuple[Json, ...] = ()
    first: int | None = None
    has_begun: bool = True

    @classmethod
    def of(cls, row: Experiment, judged: Mapping[str, bool]) -> Look:
        """judged: of the earlier experiments that there still are, whether any claim has been judged.

        One that ended without a verdict was no look; one deleted since may have been. The same spec again shows the
        same words, which is no other look either.
        """
        earlier = [{**one, "gone": one["id"] not in judged} for one in row.earlier if judged.get(one["id"], True)]
        found = cls._among(earlier, row.digest, planned=row.planned_runs, runs=row.runs)
        promised = (row.provenance or {}).get("planned")
        if promised is None:
            return found
        waits = (row.spec["imported"] or {}).get("planned")
        return replace(found, planned=promised, first=row.planned_runs, has_begun=not waits)

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
        return min(1.0, 2 * LEVEL * self.had)

    @property
    def had(self) -> int:
        """Looks so far, with this one once it has begun."""
        return self.number if self.has_begun else self.number - 1


FIRST = Look(1, 0, 0)


def looked(look: Look) -> str:
    """What was seen of the same trainings before, in a sentence; "" at the first look."""
    if look.number == 1:
        return ""
    spent = f"at most {look.had} × 5 % = {100 * look.spent:g} % (Bonferroni)"
    if look.has_begun:
        which, beside = f"This is look {look.number} at these trainings", "word is the one it would have"
    else:
        which, beside = f"Sealed, this will be look {look.number} at these trainings", "interval is the one"
    return f"{which}; level spent so far: {spent}. {_promised(look)}. Beside each {beside} at 5 %/{look.number}."


def _promised(look: Look) -> str:
    """What was promised when; of an ensemble that came in pieces, who is missing is said apart."""
    first = look.planned if look.first is None else look.first
    said = f"{first} {'run was' if first == 1 else 'runs were'} promised at the first launch"
    if look.first is None:
        return said + (f", {look.runs} here" if look.runs != look.planned else "")
    return said + (f", {look.planned} when more were awaited" if look.planned != first else "")


def looking_ahead(look: Look) -> str:
    """What launching this would be, before it; "" where nobody has looked at its trainings."""
    if look.number == 1:
        return ""
    before = ", ".join(f"{one['name']} ({one['runs']} runs)" for one in look.earlier[-3:])
    return (
        f"Some of these trainings are here already: {before}. Of {look.planned} runs promised first, this would be "
        f"look {look.number}: beside each word at 5 % will stand the one at 5 %/{look.number}, which is left when "
        "results are looked at so often. Another seed makes a new experiment."
    )
