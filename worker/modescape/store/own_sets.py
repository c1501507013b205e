"""Data sets that users registered under names of their own, and how experiments on them are shown."""

from __future__ import annotations

import unicodedata

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from modescape import own_sets
from modescape.acting import UserRole, actor
from modescape.errors import Conflict, NotFound
from modescape.records import Json
from modescape.spec_parts import DataSpec
from modescape.store.transaction import Change, Subject
from modescape.tables import Catalogue, Experiment
from modescape.versions import STORED


class OwnSets(Subject):
    """By the name that the user gave (see `modescape.own_sets`)."""

    def all(self) -> dict[str, Json]:
        with self.database.reading() as session:
            return registered(session)

    def check_name(self, name: str, where: str, *, replace: bool = False) -> None:
        """Raises InvalidInput (`name`), and Conflict when another place has the name, unless it is to be replaced."""
        known = self.all().get(own_sets.checked_name(name), {"where": where})["where"]
        if known != where and not replace:
            raise _taken(name, known)

    def register(self, name: str, details: Json, *, replace: bool = False) -> None:
        """Remember a user's own set under a name, and show the experiments on that place under it that whoever asks
        may change.

        Raises InvalidInput (`name`), and Conflict when another place has the name, unless it is to be replaced.
        """
        name = own_sets.checked_name(name)
        with self.database.writing() as change:
            known = change.session.get(Catalogue, ("data", name))
            before = details["where"] if known is None else known.details["where"]
            if before != details["where"] and not replace:
                raise _taken(name, before)
            if known is not None and {**known.details, **details} == known.details:
                return
            _theirs(change, "register", name, known)
            details = {**details, "created_by": (known.details if known else {}).get("created_by", actor().name)}
            change.session.merge(Catalogue(kind="data", name=name, details=details, at=change.now))
            for where in {before, details["where"]}:
                _show_as(change, where)

    def unregister(self, name: str) -> None:
        """Forget the name; files and experiments stay. Raises NotFound."""
        with self.database.writing() as change:
            known = change.session.get(Catalogue, ("data", unicodedata.normalize("NFC", name)))
            if known is None:
                raise NotFound(f"no data set is registered as {name[:80]!r}")
            _theirs(change, "unregister", known.name, known)
            change.session.delete(known)
            _show_as(change, known.details["where"])


def _theirs(change: Change, verb: str, name: str, known: Catalogue | None) -> None:
    """Whoever asks does this to a set, which nobody else has registered. Raises Forbidden."""
    made_by = actor().name if known is None else known.details.get("created_by", "")
    actor().check_owner(made_by, f"the data set {name!r}")
    change.deed(verb, "data set", name, name)


def _show_as(change: Change, where: str) -> None:
    """One's own experiments on that place get the name it has now; others' keep what they were launched on."""
    change.session.flush()
    place = Experiment.spec["data"]["path"].as_string()
    sets = registered(change.session)
    theirs = true() if actor().may(UserRole.ADMIN) else Experiment.created_by == actor().name
    for experiment in change.session.scalars(select(Experiment).where(place == where, theirs)):
        experiment.dataset = own_sets.shown_as(DataSpec.model_validate(experiment.spec["data"], context=STORED), sets)


def registered(session: Session) -> dict[str, Json]:
    rows = session.scalars(select(Catalogue).where(Catalogue.kind == "data").order_by(Catalogue.at))
    return {row.name: row.details for row in rows}


def _taken(name: str, where: str) -> Conflict:
    return Conflict(f"{name!r} is registered for {where}; choose another name, replace it, or unregister it first")
