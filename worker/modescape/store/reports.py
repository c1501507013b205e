"""Reports, what they said before, the images in them, and who may change them: who wrote one, and admins."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session, defer

from modescape import names
from modescape.acting import UserRole, actor
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.records import Json
from modescape.store.creating import free_slug
from modescape.store.links import end_links_to
from modescape.store.transaction import QUOTA_LOCK, Change, Subject
from modescape.tables import Report, ReportImage, ReportRevision

MOST = 500  # reports of one user
MOST_IMAGES = 40  # of a report
MOST_BYTES = 20_000_000  # of all of them
MOST_BYTES_OF_ONE = 1_000_000_000  # of the images in all reports of one user
MOST_REVISIONS = 20  # of a report, the present one among them
_KEPT = timedelta(hours=1)  # an image that nothing names


class Reports(Subject):
    """By slug or id. Blocks are checked by `reports.blocks` before they come here."""

    def all(self) -> list[Report]:
        """Those changed last come first; without their blocks."""
        order = (Report.changed_at.desc(), Report.id)
        return self.found(select(Report).options(defer(Report.blocks)).order_by(*order))

    def get(self, reference: str) -> Report:
        """Raises NotFound."""
        with self.database.reading() as session:
            return _find(session, reference)

    def create(self, name: str, blocks: Sequence[Json]) -> Report:
        """Raises InvalidInput, Forbidden."""
        actor().check(UserRole.RESEARCHER, "writing a report")
        name = names.checked(name, field="name")
        with self.database.writing() as change:
            change.lock(QUOTA_LOCK)  # of two at once the second meets the first
            of_one = select(func.count()).select_from(Report).where(Report.created_by == actor().name)
            if (change.session.scalar(of_one) or 0) >= MOST:
                raise InvalidInput(
                    f"you have written {MOST} reports already", field="name", allowed="another once one is removed"
                )
            row = Report(
                id=str(uuid.uuid4()), slug=free_slug(change.session, Report.slug, name), name=name, blocks=list(blocks),
                revision=1, created_by=actor().name, created_at=change.now, changed_at=change.now,
            )  # fmt: skip
            change.session.add(row)
            change.session.flush()  # before the revision that names it
            _keep(change, row)
            change.deed("write", "report", row.id, name)
            return row

    def change(
        self,
        reference: str,
        *,
        name: str | None = None,
        blocks: Sequence[Json] | None = None,
        revision: int | None = None,
    ) -> Report:
        """revision: of which the change was made; None changes whatever is there. Raises NotFound, InvalidInput,
        Forbidden, and Conflict where somebody has changed it meanwhile."""
        name = None if name is None else names.checked(name, field="name")
        with self.database.writing() as change:
            row = _theirs(change, reference)
            if revision is not None and revision != row.revision:
                raise Conflict(
                    f"{row.name} was changed meanwhile: it is at revision {row.revision}, and this changes revision "
                    f"{revision}; open it again"
                )
            _write(change, row, row.name if name is None else name, row.blocks if blocks is None else blocks)
            change.deed("change", "report", row.id, row.name)
            return row

    def remove(self, reference: str) -> None:
        """With its images. Raises NotFound, Forbidden."""
        with self.database.writing() as change:
            row = _theirs(change, reference)
            change.session.execute(delete(Report).where(Report.id == row.id))
            end_links_to(change, row.id)
            change.deed("remove", "report", row.id, row.name)

    # --- what it said before ---

    def revisions(self, reference: str) -> list[ReportRevision]:
        """The newest first, the present one among them: to who may change the report. Raises NotFound, Forbidden."""
        with self.database.reading() as session:
            row = _owned(session, reference)
            of_it = select(ReportRevision).where(ReportRevision.report_id == row.id)
            return list(session.scalars(of_it.order_by(ReportRevision.revision.desc())))

    def revision(self, reference: str, number: int) -> ReportRevision:
        """Raises NotFound, Forbidden."""
        with self.database.reading() as session:
            return _revision(session, _owned(session, reference), number)

    def restore(self, reference: str, number: int) -> Report:
        """What it said then is its next revision; nothing that was written since is lost. What its blocks name may be
        gone meanwhile: that is said where they stand. Raises NotFound, Forbidden."""
        with self.database.writing() as change:
            row = _theirs(change, reference)
            old = _revision(change.session, row, number)
            _write(change, row, old.name, old.blocks)
            change.deed("change", "report", row.id, row.name, restored=number)
            return row

    # --- images ---

    def images(self, report_id: str) -> list[ReportImage]:
        """Without their bytes, in the order in which they came."""
        of_it = select(ReportImage).options(defer(ReportImage.content)).where(ReportImage.report_id == report_id)
        return self.found(of_it.order_by(ReportImage.at, ReportImage.digest))

    def image(self, reference: str, digest: str) -> ReportImage:
        """Raises NotFound."""
        with self.database.reading() as session:
            row = _find(session, reference)
            found = session.get(ReportImage, (row.id, digest))
            if found is None:
                raise NotFound(f"{row.name} has no image {digest[:16]!r}")
            return found

    def add_image(self, reference: str, name: str, content: bytes, media: str, size: tuple[int, int]) -> ReportImage:
        """Of bytes that were written anew here; the same again is the one that is there. Raises NotFound, Forbidden,
        InvalidInput where a report would have too many or too large ones."""
        name = names.checked(name or "image", field="name")
        digest = hashlib.sha256(content).hexdigest()
        with self.database.writing() as change:
            row = _theirs(change, reference)
            if (there := change.session.get(ReportImage, (row.id, digest))) is not None:
                return there
            count, total = change.session.execute(
                select(func.count(), func.coalesce(func.sum(func.length(ReportImage.content)), 0))
                .where(ReportImage.report_id == row.id)
            ).one()  # fmt: skip
            if count >= MOST_IMAGES or total + len(content) > MOST_BYTES:
                allowed = f"{MOST_IMAGES} images of {MOST_BYTES // 1_000_000} MB together in a report"
                raise InvalidInput(f"this report has {count} images already", field="image", allowed=allowed)
            change.lock(QUOTA_LOCK)
            of_one = select(func.coalesce(func.sum(func.length(ReportImage.content)), 0)).join(
                Report, Report.id == ReportImage.report_id
            ).where(Report.created_by == row.created_by)  # fmt: skip
            if (change.session.scalar(of_one) or 0) + len(content) > MOST_BYTES_OF_ONE:
                allowed = f"{MOST_BYTES_OF_ONE // 1_000_000} MB of images in all reports of one user"
                raise InvalidInput("there is no room for this image", field="image", allowed=allowed)
            image = ReportImage(
                report_id=row.id, digest=digest, name=name, media=media, width=size[0], height=size[1],
                content=content, at=change.now,
            )  # fmt: skip
            change.session.add(image)
            return image


def _find(session: Session, reference: str) -> Report:
    row = session.scalar(select(Report).where(or_(Report.slug == reference, Report.id == reference)))
    if row is None:
        raise NotFound(f"there is no report {reference[:80]!r}")
    return row


def _theirs(change: Change, reference: str) -> Report:
    """One that whoever asks wrote, locked until the end. Raises NotFound, Forbidden."""
    found = _owned(change.session, reference)
    return change.session.get_one(Report, found.id, with_for_update=True, populate_existing=True)


def _owned(session: Session, reference: str) -> Report:
    """One that whoever asks wrote. Raises NotFound, Forbidden."""
    row = _find(session, reference)
    actor().check_owner(row.created_by, f"the report {row.slug}")
    return row


def _revision(session: Session, row: Report, number: int) -> ReportRevision:
    """Raises NotFound."""
    found = session.get(ReportRevision, (row.id, number)) if 0 < number < 2**31 else None
    if found is None:
        raise NotFound(f"revision {number} of {row.name} is not kept: the last {MOST_REVISIONS} are")
    return found


def _write(change: Change, row: Report, name: str, blocks: Sequence[Json]) -> None:
    row.name, row.blocks = name, list(blocks)
    row.revision += 1
    row.changed_at = change.now
    _keep(change, row)
    _drop_unused(change, row)


def _keep(change: Change, row: Report) -> None:
    """The present revision, and as many before it as are kept."""
    kept = ReportRevision(
        report_id=row.id, revision=row.revision, name=row.name, blocks=row.blocks, by=actor().name, at=row.changed_at
    )
    change.session.add(kept)
    too_old = ReportRevision.revision <= row.revision - MOST_REVISIONS
    change.session.execute(delete(ReportRevision).where(ReportRevision.report_id == row.id, too_old))


def _drop_unused(change: Change, row: Report) -> None:
    """Images that no note of a kept revision names, an hour after they came: one that was just sent is about to be
    named."""
    kept = change.session.scalars(select(ReportRevision.blocks).where(ReportRevision.report_id == row.id)).all()
    text = "\n".join(str(block.get("markdown", "")) for blocks in kept for block in blocks)
    of_it = select(ReportImage).options(defer(ReportImage.content)).where(
        ReportImage.report_id == row.id, ReportImage.at < change.now - _KEPT
    )  # fmt: skip
    for image in change.session.scalars(of_it).all():
        if image.digest not in text:
            change.session.delete(image)
