"""Writing, changing and taking home reports of a laboratory; who may is asked by the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modescape.errors import InvalidInput, Problem
from modescape.laboratory import Laboratory
from modescape.records import Json
from modescape.reports import blocks, taken
from modescape.reports.telling import Teller, first_draft
from modescape.store import Store
from modescape.tables import Report


def create(
    laboratory: Laboratory, name: str, documents: Sequence[Json] | None = None, experiment: str | None = None
) -> Report:
    """With these blocks, or those that a report of an experiment begins with. Raises InvalidInput, NotFound,
    Forbidden."""
    if experiment is not None and documents is None:
        kept = first_draft(laboratory.results(experiment))
    else:
        kept = _checked(laboratory.store, documents or (), ())
    return laboratory.store.reports.create(name, kept)


def change(
    laboratory: Laboratory,
    reference: str,
    *,
    name: str | None = None,
    documents: Sequence[Json] | None = None,
    revision: int | None = None,
) -> Report:
    """What is None stays. Raises NotFound, InvalidInput, Forbidden, Conflict."""
    row = laboratory.store.reports.get(reference)
    kept = None if documents is None else _checked(laboratory.store, documents, row.blocks)
    return laboratory.store.reports.change(row.id, name=name, blocks=kept, revision=revision)


def take(laboratory: Laboratory, reference: str, form: str, link: str, to: Path) -> None:
    """Write it in a form of `taken`. link: where its numbers are. Raises NotFound, InvalidInput, ConfigurationError."""
    store = laboratory.store
    row = store.reports.get(reference)
    told = Teller(store, laboratory.artifacts).told(row)
    images = {one.digest: store.reports.image(row.id, one.digest) for one in store.reports.images(row.id)}
    taken.write(taken.Taking(told, images, link), form, to)


def _checked(store: Store, documents: Sequence[Json], before: Sequence[Json]) -> list[Json]:
    """Blocks as they are kept. Experiments that were not in the report before must be here."""
    found, known = blocks.read(documents), set(blocks.experiments(blocks.read(before)))
    blocks.check_size(found)
    new = [one for one in blocks.experiments(found) if one not in known]
    absent = set(new) - set(store.experiments.named(new))
    wrong = [
        Problem(
            f"there is no experiment {reference[:80]!r}; the list shows what there is", f"blocks.{place}.experiment",
            "slug or id of an experiment",
        )
        for place, block in enumerate(found)
        for reference in blocks.experiments([block])
        if reference in absent
    ]  # fmt: skip
    if wrong:
        raise InvalidInput("; ".join(map(str, wrong)), problems=wrong)
    return blocks.documents(found)
