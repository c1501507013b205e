"""Files in a bucket that any number of servers and workers share, with copies of what was used last on this machine.

A file is whole and named in the bucket before whoever made it goes on, so that what a row names can be read anywhere.
What comes down is taken for what its name says once its bytes are found to be.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from modescape.artifacts.cache import Cache
from modescape.artifacts.folder import DAMAGED, PROBE, TMP, Content, Folder, Wanted, Writing, names_of
from modescape.artifacts.objects import PART, Address, Entry, Objects
from modescape.errors import ArtifactMissing, DataCorrupt, StorageAway

_UPLOAD_SECONDS = 86_400.0  # that a large file may be on its way
PROBE_SECONDS = 5.0  # for which it is known whether something can be written
SLOW_SECONDS = 2.0  # after which a probe says that the bucket is away before it has ended


class Bucket:
    """What `Artifacts` keeps files in. Raises ExtraMissing where s3fs is not installed."""

    def __init__(self, address: Address) -> None:
        self._objects = Objects(address)
        self._cache = Cache(address.cache, address.cache_bytes)
        self._where = address.where
        self._probing = threading.Lock()
        self._probed: tuple[float, str | None] | None = None
        self._asked: float | None = None  # when the probe that is going on began

    @property
    def where(self) -> str:
        return self._where

    def prepare(self) -> None:
        return

    @contextmanager
    def writing(self, expected: int | None) -> Iterator[Writing]:
        with self._cache.writing(expected) as written:
            yield written

    @contextmanager
    def landing(self) -> Iterator[Path]:
        own = self._cache.folder.absolute() / TMP / f"landing-{uuid.uuid4().hex}"
        try:
            yield own
            for file in Folder(own).files():
                with self.writing(file.stat().st_size) as written:
                    with file.open("rb") as read:
                        while block := read.read(PART):
                            written.write(block)
                    if written.hash.hexdigest() != file.stem:
                        raise DataCorrupt(f"{file} is not what its name says")
                    self.keep(written, f"{file.parent.name}/{file.name}")
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def keep(self, written: Writing, name: str) -> None:
        digest = written.hash.hexdigest()
        there = self._objects.head(name)
        if there is None or there.bytes != written.bytes or not self._objects.touch(there, digest):
            self._send(written, name)
        self._cache.keep(written, name)

    def replace(self, written: Writing, name: str) -> None:
        self._send(written, name)

    def _send(self, written: Writing, name: str) -> None:
        with written.room():
            written.file.flush()
        self._objects.put(name, Path(written.file.name), written.bytes, written.hash.hexdigest())

    def path(self, digest: str) -> Path | None:
        """Raises ArtifactMissing for one whose bytes are not what its name says."""
        return self._cache.find(digest) or self._fetched(digest)

    def _fetched(self, digest: str) -> Path | None:
        for name in names_of(digest):
            for last in (False, True):
                try:
                    with self._copied(name) as written:
                        if written.hash.hexdigest() == digest:
                            return self._cache.keep(written, name)
                except FileNotFoundError:
                    break
                if last:  # twice: it is not the way here that changed them
                    raise ArtifactMissing(
                        f"the object {name} in {self._where} is damaged: its bytes are not those it was named by; "
                        "`modescape verify` sets it aside and has it made again"
                    )
        return None

    @contextmanager
    def _copied(self, name: str) -> Iterator[Writing]:
        """Raises FileNotFoundError."""
        first = self._objects.read(name)
        there = self._objects.head(name) if len(first) == PART else None
        with self.writing(there.bytes if there else len(first)) as written:
            for block in self._objects.blocks(name, first):
                written.write(block)
            yield written

    def exists(self, digest: str) -> bool:
        return self._entry(digest) is not None

    def _entry(self, digest: str) -> Entry | None:
        names = names_of(digest)
        return next(
            filter(None, (look(name) for look in (self._objects.head, self._objects.find) for name in names)), None
        )

    def content(self, digest: str) -> Content | None:
        for name in names_of(digest):
            try:
                first = self._objects.read(name)
            except FileNotFoundError:
                continue
            return Content(name.rpartition("/")[2], self._objects.blocks(name, first))
        return None

    def again(self, digest: str) -> bool:
        self._cache.drop(digest)
        return True

    def set_aside(self, digest: str) -> str | None:
        self._cache.drop(digest)
        found = self._entry(digest)
        if found is None:
            return None
        aside = f"{DAMAGED}/{found.name.rpartition('/')[2]}"
        self._objects.move(found, aside)
        return f"{self._where}/{aside}"

    def delete(self, digest: str, keep_since: datetime | None) -> int:
        found = self._entry(digest)
        if found is None or (keep_since is not None and _until(found) > keep_since):
            return 0
        self._objects.delete(found.name)
        self._cache.drop(digest)
        return found.bytes

    def sweep(self, wanted: Wanted, oldest: float) -> int:
        freed = 0
        for one in self._objects.list():
            if wanted(one.name) or _until(one).timestamp() > oldest:
                continue
            now = self._objects.head(one.name)  # somebody may have put it again since it was listed
            if now is not None and _until(now).timestamp() <= oldest:
                self._objects.delete(now.name)
                freed += now.bytes
        self._objects.drop_uploads(oldest - _UPLOAD_SECONDS)
        return freed

    @contextmanager
    def reading(self, name: str) -> Iterator[Path | None]:
        there = self._objects.find(name)
        if there is None:
            yield None
            return
        with self.writing(there.bytes) as written:
            try:
                for block in self._objects.blocks(name):
                    written.write(block)
            except FileNotFoundError:
                yield None
                return
            with written.room():
                written.file.flush()
            yield Path(written.file.name) if written.hash.hexdigest() == there.sha256 else None

    def drop(self, beginning: str, keep: str | None) -> None:
        for one in list(self._objects.list(beginning)):
            if one.name != keep:
                self._objects.delete(one.name)

    def reach(self) -> None:
        with self._probing:
            why = self._probe()
        if why is not None:
            raise StorageAway(why)

    def check_room(self) -> None:
        with self.writing(PROBE) as written:
            written.write(bytes(PROBE))
        self.reach()

    def lack(self) -> str | None:
        """As it was last found: one at a time asks, and nobody waits for that one."""
        if self._known() is None and self._probing.acquire(blocking=False):
            try:
                return self._probe()
            finally:
                self._probing.release()
        probed, asked = self._probed, self._asked
        if probed is not None and probed[1] is not None:
            return probed[1]
        if asked is not None and (since := time.monotonic() - asked) > SLOW_SECONDS:
            return f"the bucket {self._where} does not answer (asked {since:.1f} seconds ago)"
        return None

    def _known(self) -> tuple[float, str | None] | None:
        """The last answer, where it is new enough."""
        probed = self._probed
        return probed if probed is not None and time.monotonic() - probed[0] <= PROBE_SECONDS else None

    def _probe(self) -> str | None:
        """By whoever has the lock."""
        if (known := self._known()) is not None:
            return known[1]
        self._asked = time.monotonic()
        try:
            why = self._why_away()
            self._probed = time.monotonic(), why
        finally:
            self._asked = None
        return why

    def why_not_written(self) -> str | None:
        return self.lack() or self._cache.why_not_written()

    @property
    def free(self) -> None:
        return None

    def _why_away(self) -> str | None:
        try:
            self._objects.probe()
        except StorageAway as error:
            return str(error)
        return None


def _until(entry: Entry) -> datetime:
    """When it was written, at the latest: servers tell whole seconds, of it and of what time it is."""
    return entry.modified + timedelta(seconds=1)
