"""What a spool holds goes to its server: points as they come, members once they are whole, the seal at the end.

    Delivery(spool, door).run()          # all that is there now; raises ServerAway, and goes on when run again
    Courier(spool, door).start()         # again and again, in the background, until the spool has ended

Everything that is sent may be sent again: the import by its key, points by the bounds of their batch, files by their
digests, a member by its id. So a process may end anywhere, and the next one goes on.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import orjson

from modescape.errors import Conflict, InvalidInput, ModescapeError
from modescape.logger.spool import POINTS, Spool, SpooledMember, Waiting, spools
from modescape.records import Json
from modescape.sending import ServerAway, ServerDoor, ServerRefused, pauses

log = logging.getLogger("modescape.logger")

MOST_VALUES = 12_000  # of a batch: with their steps and times well below the 1 MB that a server takes
_EVERY = 0.5  # seconds between two looks at what is new


class Delivery:
    """Of one spool that this process holds. tell: says what is going on, a line at a time."""

    def __init__(self, spool: Spool, door: ServerDoor, tell: Callable[[str], None] = lambda line: None) -> None:
        self.spool, self._door, self._tell = spool, door, tell
        self.page: str | None = None  # of the experiment, once there is one
        self.here: frozenset[str] = frozenset()  # ids of members that the server has
        self.sealed = False
        self._is_over: set[str] = set()  # folders of members that have nothing more to send
        self._taken: list[str] = []  # what was refused of members that somebody else has added

    def ask(self) -> None:
        """Which members are here, before anything is logged. Of a server that is away: those that the spools on this
        machine know of. Raises ServerRefused, Conflict and InvalidInput for what it refuses."""
        try:
            self._opened()
        except ServerAway as away:
            alike = [one for one in spools(self.spool.folder.parent) if one.about.key == self.spool.about.key]
            self.here = frozenset(member.id for one in alike for member in one.members if member.is_done)
            known = f"has whole: {', '.join(sorted(self.here))}" if self.here else "has none of this ensemble"
            self._tell(f"{away}; which members it has is not known, and what is kept on this machine {known}")

    def run(self, *, is_last: bool = False) -> None:
        """Send all that is there now. is_last: nobody logs any more. Raises ServerAway, ServerRefused, Conflict and
        InvalidInput for what it refuses."""
        if self.spool.about.planned is None and not is_last:
            return  # how many there will be is known when they are there
        members = [one for one in self.spool.members if one.folder.name not in self._is_over]
        if not members and not is_last:
            return
        is_empty = not any(one.is_done or (one.folder / POINTS).exists() for one in self.spool.members)
        if is_last and is_empty and self.spool.opened is None:
            return  # nothing was logged, and nothing asked
        id_ = self._opened()
        for member in members:
            self._points(id_, member)
            if member.is_done and not member.is_added:
                self._add(id_, member)
            if member.is_added:
                self._is_over.add(member.folder.name)
        if is_last:
            self._finish(id_)
        if is_last and self._taken:
            raise Conflict(
                f"{'; '.join(self._taken)}. All else is there. What another process added first cannot be sent: log it "
                f"under another id, or forget it with `modescape spool forget {self.spool.id}`"
            )

    def _opened(self) -> str:
        about = self.spool.about
        if (id_ := self.spool.opened) is not None and self.page is not None:
            return id_
        if id_ is None:
            files = self._door.send({f"{place}.labels.npy": path for place, path in self.spool.truth.items()})
            truth = {one["name"].removesuffix(".labels.npy"): one["sha256"] for one in files}
            planned = about.planned or len({one.id for one in self.spool.members if one.is_done})
            try:
                found = self._door.open(
                    about.name, max(1, planned), truth, key=about.key, kind=about.kind, recipe=about.recipe,
                    classes=list(about.classes), notes=about.notes, tags=list(about.tags), by=about.by,
                )  # fmt: skip
            except Conflict as error:
                raise Conflict(
                    "an ensemble of this id was begun with another name, labels, kind, recipe, classes or number "
                    f"(planned={max(1, planned)} here): say what was said then, after a reopening the number it has "
                    "now, or use another id"
                ) from error
            self.spool.open_as(found["id"])
        else:
            found = self._door.one(id_)
        self._know(found)
        return str(found["id"])

    def _know(self, found: Json) -> None:
        self.here, self.sealed = frozenset(one["id"] for one in found["members"]), found["state"] == "sealed"
        if found["experiment"] is not None and self.page is None:
            self.page = self._door.page(found["experiment"])
            self._tell(f"{self.spool.about.name} is at {self.page}")

    def _points(self, id_: str, member: SpooledMember) -> None:
        """All that are there. Those of a member that the server has are not wanted: its curves stay as they came."""
        while (points := member.waiting(MOST_VALUES)) is not None:
            if member.id in self.here:
                member.skip()
                return
            training = self._training(member)
            body = batch_of(f"{training}-{points.begin}", points, training)
            member.sending(points)
            try:
                self._door.points(id_, member.id, body)
            except Conflict:
                self._know(self._door.one(id_))
                if member.id not in self.here:
                    raise
                continue  # somebody else has added it meanwhile
            member.sent(points)
            if self.page is None:
                self._know(self._door.one(id_))

    def _add(self, id_: str, member: SpooledMember) -> None:
        files = self._door.send(member.files)
        try:
            found = self._answered(id_, member, files)
        except InvalidInput:
            raise
        except (ServerRefused, Conflict) as refused:
            found = self._door.one(id_)
            is_here = member.id in (one["id"] for one in found["members"])
            if found["state"] == "open" and not is_here:
                raise ServerAway(str(refused)) from None  # it is busy with those of others
            if not is_here:
                raise
            self._taken.append(str(refused))  # the others go on, and are sealed; what cannot go stays here
            self._is_over.add(member.folder.name)
            self._know(found)
            return
        member.added()
        self._know(found)

    def _answered(self, id_: str, member: SpooledMember, files: Sequence[Json]) -> Json:
        """What a member looks like was told when it was logged: it is what its loop said."""
        about = {
            "seed": member.seed, "config": member.config, "permutation": self.spool.about.permutation,
            "by": self.spool.about.by or None, "training": self._training(member),
        }  # fmt: skip
        try:
            return self._door.add(id_, member.id, files, **about)
        except InvalidInput as asked:
            if [problem.field for problem in asked.problems] != ["mixed"]:
                raise
            return self._door.add(id_, member.id, files, **about, mixed="keep")

    def _training(self, member: SpooledMember) -> str:
        """What the server knows this training of a member by."""
        return f"{self.spool.id}-{member.folder.name}"

    def _finish(self, id_: str) -> None:
        about, found = self.spool.about, self._door.one(id_)
        here, planned = found["here"], found["planned"]
        if self.spool.has_ended and found["state"] == "open" and here >= planned:
            self._door.seal(id_)
            self.sealed = True
        elif found["state"] == "open":
            self._tell(
                f"{about.name}: {here} of {planned} members are there; it is sealed when all are, or on its page"
            )
        self._know(self._door.one(id_))


def batch_of(name: str, points: Waiting, training: str) -> bytes:
    """The body that the server takes: what was logged together in columns."""
    together: dict[tuple[str, ...], tuple[list[int], list[float], list[list[float | None]]]] = {}
    for step, at, values in points.lines:
        steps, times, rows = together.setdefault(tuple(values), ([], [], []))
        steps.append(step)
        times.append(at)
        rows.append(list(values.values()))
    logged = [
        {"steps": steps, "times": times, "values": dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))}
        for names, (steps, times, rows) in together.items()
    ]
    return orjson.dumps({"batch": name, "training": training, "logged": logged})


class Courier:
    """Sends in the background while somebody logs. A server that is away is asked again, ever more seldom; what it
    refuses ends it, and is raised by `finish`."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self._stop = threading.Event()
        self._refused: ModescapeError | None = None
        self._thread = threading.Thread(target=self._run, name="modescape-logger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, patience: float) -> bool:
        """Send the rest; whether all of it is there. patience: seconds that a server may be away until it stays in the
        spool. Raises what the server refuses."""
        self._stop.set()
        self._thread.join()
        waits = pauses(patience)
        while self._refused is None:
            try:
                self.delivery.run(is_last=True)
                return True
            except ServerAway as away:
                wait = next(waits, None)
                if wait is None:
                    log.warning("%s", away)
                    return False
                time.sleep(wait)
        raise self._refused

    def _run(self) -> None:
        waits, pause, is_away, odd = pauses(math.inf), _EVERY, False, ""
        while not self._stop.wait(pause):
            try:
                self.delivery.run()
                waits, pause, is_away = pauses(math.inf), _EVERY, False
            except ServerAway as away:
                pause = next(waits)
                if not is_away:
                    is_away = True
                    log.warning("%s; until it does, what is logged is kept in %s", away, self.delivery.spool.folder)
            except ModescapeError as refused:
                log.error("%s; what is logged is kept in %s", refused, self.delivery.spool.folder)
                self._refused = refused
                return
            except Exception as error:  # a loop that trains must not end of it, nor what comes later go unsent
                pause = next(waits)
                if repr(error) != odd:
                    odd = repr(error)
                    log.exception("what is logged could not be sent; it is kept in %s", self.delivery.spool.folder)
