"""What a spool holds becomes an experiment in a home on this machine, as the members of a server's import do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modescape.apart import Asked
from modescape.artifacts import Artifacts
from modescape.errors import Conflict, InvalidInput
from modescape.imported.ensemble import OutputKind, Recipe
from modescape.importing import Answers, kept_piece, put_together, store_piece
from modescape.laboratory import Lab, started
from modescape.logger.spool import Spool, SpooledMember
from modescape.pieces import Piece
from modescape.reading_process import one_member
from modescape.settings import Settings


def bring(spool: Spool, settings: Settings, *, progress: bool) -> Lab:
    """The experiment of the members that are whole, judged. Raises InvalidInput where they do not fit each other, or
    are none; Conflict where two of one id differ."""
    about, home = spool.about, started(None, settings)
    pieces: dict[str, Piece] = {}
    for member in spool.members:
        if not member.is_done:
            continue
        piece = _piece(home.laboratory.artifacts, spool, member)
        before = pieces.setdefault(member.id, piece)
        if before.members[0].outputs != piece.members[0].outputs:
            raise Conflict(f"member {member.id[:80]!r} was logged twice, and its outputs differ")
    if not pieces:
        raise InvalidInput("no member was logged to its end", field="members", allowed="one or more")
    piece = put_together(home.laboratory.artifacts, list(pieces.values()), planned=about.planned or 0, is_whole=True)
    row = store_piece(
        home.laboratory, piece, name=about.name, notes=about.notes, tags=about.tags,
        provenance={"planned": about.planned or len(pieces), "by": about.by},
    )  # fmt: skip
    return home.finish(row, progress=progress)


def _piece(artifacts: Artifacts, spool: Spool, member: SpooledMember) -> Piece:
    about = spool.about
    asked = Asked(about.kind, about.recipe, about.permutation, name=about.name, classes=about.classes)
    truth = {place: str(path) for place, path in spool.truth.items()}
    root: Path = member.folder / "files"
    ensemble = one_member(root, asked, id=member.id, seed=member.seed, config=member.config, labels=truth)
    ensemble = replace(ensemble, curves={member.id: member.curves()})
    answers = Answers(OutputKind(about.kind), about.permutation, Recipe(about.recipe), mixed="keep")  # told as it came
    return kept_piece(artifacts, ensemble, answers)
