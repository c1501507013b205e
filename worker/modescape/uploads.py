"""Files that were sent here, by their digests, before anything is made of them: whole ones, and those still coming.

    uploads = Uploads(folder, quota=20 << 30)
    uploads.state(digest)                     # Upload(received=4096, complete=False)
    with uploads.receiving(digest, offset=4096, total=9000) as file: ...
    uploads.path(digest)                      # once it is whole, and its bytes are what its name says

What is there is what the disk says, so a process that is killed forgets nothing: the next one goes on where the bytes
end. Room for all bytes that a file announces is kept for it from its first ones on, so that many at once cannot pass by
the quota. Nothing is read here but to hash it. A file is of any kind; whoever uses it reads it in a process of its own
(`apart`). It is of whoever sends it, in a folder of their own: others neither see, use nor forget it, but for admins.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modescape.acting import UserRole, actor
from modescape.errors import Conflict, DataCorrupt, InvalidInput, ModescapeError, NotFound, Problem

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SENDER = re.compile(r"[0-9a-f]{32}")
_NAME = "sender"  # of the file that says whose folder it is
PARTIAL_SECONDS = 24 * 3600.0  # after which a file nobody went on sending is swept
UNUSED_SECONDS = 7 * 24 * 3600.0  # after which a whole file that nothing was made of is swept
SHARE = 0.5  # of the quota for one user, so that nobody alone takes the room of all; admins aside
USED_SECONDS = 3600.0  # after which one that something was made of is; sooner where others need the room


class QuotaReached(ModescapeError):
    """What is sent does not fit into what may be kept."""


@dataclass(frozen=True)
class Upload:
    """How much of a file is here. received: bytes; complete: whether it is whole and has the digest it goes by."""

    digest: str
    received: int
    complete: bool


@dataclass(frozen=True)
class Kept:
    """A file that takes room. sender: by name, None of one who has sent nothing since names are kept; bytes: that are
    here; awaited: that it has announced beyond them; age: seconds since any of it came."""

    sender: str | None
    digest: str
    bytes: int
    awaited: int
    complete: bool
    age: float


class Receiving:
    """The end of a partial file, which this alone writes to."""

    def __init__(self, descriptor: int, left: int) -> None:
        self._descriptor, self._left = descriptor, left

    def write(self, block: bytes) -> None:
        """Raises InvalidInput for more than was announced; what came before stays."""
        if len(block) > self._left:
            raise InvalidInput("has more bytes than it announces", field="Content-Range", allowed="first-last/total")
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._left -= len(block)


class Uploads:
    """Files by digest, a folder for each who asks (`acting`), for many processes. quota: bytes of all files together,
    whole and partial, those that are announced with them."""

    def __init__(self, folder: Path, quota: int) -> None:
        self.folder, self.quota = folder, quota

    def state(self, digest: str) -> Upload:
        """Of any digest: of one never seen nothing is here. Raises InvalidInput for what is none."""
        whole, part = self._whole(digest), self._part(digest)
        if whole.exists():
            return Upload(digest, whole.stat().st_size, complete=True)
        return Upload(digest, part.stat().st_size if part.exists() else 0, complete=False)

    def path(self, digest: str) -> Path:
        """A whole file; it was wanted now, and is kept for another week. Raises NotFound, InvalidInput."""
        whole = self._whole(digest)
        try:
            os.utime(whole)
        except FileNotFoundError:
            here = self.state(digest).received
            so_far = f"only {here:,} bytes of it are here" if here else "it was not sent"
            raise NotFound(f"the file {digest[:12]}… is not here: {so_far}; PUT it to /api/uploads/{digest}") from None
        return whole

    @contextmanager
    def receiving(self, digest: str, *, offset: int, total: int) -> Iterator[Receiving]:
        """The place for a file's next bytes. What was written stays, however this ends.

        Raises Conflict where the bytes that are here end elsewhere or somebody else sends the same file now,
        QuotaReached where it does not fit.
        """
        part = self._part(digest)
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("the same file is being sent by somebody else now; ask again in a moment") from None
            here = os.fstat(descriptor).st_size
            if here != offset:
                raise Conflict(f"{here:,} bytes of this file are here, and these begin at {offset:,}; go on at {here}")
            self._keep_room(part, here, total)
            yield Receiving(descriptor, total - here)
        finally:
            os.fsync(descriptor)
            os.close(descriptor)

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Of what comes another way and is written elsewhere first, such as a form with a file: it counts as announced
        until the block ends. Raises QuotaReached."""
        part = self._part(secrets.token_hex(32))
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.touch(mode=0o600)
        try:
            self._keep_room(part, 0, size)
            yield
        finally:
            _drop(part)

    def finish(self, digest: str, total: int) -> Upload:
        """Take a file for whole where all its bytes are here; until then its state.

        Raises DataCorrupt where they are not what its name says, which forgets them.
        """
        part = self._part(digest)
        state = self.state(digest)
        if state.complete or state.received < total:
            return state
        try:
            found = _digest_of(part)
        except FileNotFoundError:  # somebody else has sent its end in the same moment
            return self.state(digest)
        if found != digest:
            _drop(part)
            said = f"the bytes that came have the digest {found}, not {digest}: they were forgotten; send them again"
            raise DataCorrupt(said, problems=[Problem(said, "sha256", found)])
        try:
            os.utime(part.replace(part.with_suffix("")))
        except FileNotFoundError:
            return self.state(digest)
        _announced(part).unlink(missing_ok=True)
        _flush(part.parent)
        return self.state(digest)

    def forget(self, digest: str) -> None:
        """Forget a file, whole or not, of an admin's also others' of that digest; one that is not here is fine. Raises
        InvalidInput."""
        for place in self._wholes(digest, of_parts=True):
            _drop(place)

    def others(self, digest: str) -> list[str]:
        """Names of those whose files of that digest whoever asks would forget beside their own. Raises InvalidInput."""
        own = self._part(digest).parent
        folders = {place.parent for place in self._wholes(digest, of_parts=True)} - {own}
        return sorted(filter(None, map(_sender_of, folders)))

    def forget_all(self, sender: str) -> None:
        """Forget all that somebody has sent."""
        folder = self._folder_of(sender)
        for path in folder.iterdir() if folder.is_dir() else ():
            if _DIGEST.fullmatch(path.name.removesuffix(".part")):
                _drop(path)

    def all(self) -> list[Kept]:
        """Everybody's files, those of which nothing came for longest first."""
        found, now = [], time.time()
        for path, state in self._files():
            digest, complete = path.name.removesuffix(".part"), path.suffix != ".part"
            awaited = _taken(path, state.st_size) - state.st_size
            found.append(Kept(_sender_of(path.parent), digest, state.st_size, awaited, complete, now - state.st_mtime))
        return sorted(found, key=lambda one: -one.age)

    def let_go(self, digest: str) -> None:
        """Something was made of a file, which has a copy: it stays a while, for whoever asks for the same again."""
        now = time.time()
        with suppress(FileNotFoundError):
            os.utime(self._whole(digest), (now, now - UNUSED_SECONDS + USED_SECONDS))

    def sweep(self, now: float | None = None, *, used_too: bool = False) -> int:
        """Forget what was abandoned, and with `used_too` what was let go; bytes freed."""
        now, freed = time.time() if now is None else now, 0
        unused = UNUSED_SECONDS - (USED_SECONDS if used_too else 0.0)
        for path, state in self._files():
            kept = PARTIAL_SECONDS if path.suffix == ".part" else unused
            if now - state.st_mtime > kept:
                _drop(path)
                freed += state.st_size
        return freed

    def _keep_room(self, part: Path, here: int, total: int) -> None:
        """For the rest of a file: whoever asks next, in any process, finds it taken. Raises QuotaReached."""
        with self._alone():
            self.sweep()
            if self._lacking(part, here, total):
                self.sweep(used_too=True)
            if lacking := self._lacking(part, here, total):
                raise QuotaReached(
                    f"{_size(total - here)} more do not fit: {lacking} are here or announced. Those of an import are "
                    "let go when it is made; DELETE /api/uploads/<sha256> forgets others, and MODESCAPE_UPLOAD_QUOTA "
                    "says how much may be kept"
                )
            _announced(part).write_text(f"{total}")
            (part.parent / _NAME).write_text(actor().name, encoding="utf-8")

    def _lacking(self, part: Path, here: int, total: int) -> str:
        """Whose room does not do, and how much of it is taken; "" where it does."""
        taken = {path: _taken(path, state.st_size) for path, state in self._files() if path != part}
        own = sum(bytes for path, bytes in taken.items() if path.parent == part.parent)
        if not actor().may(UserRole.ADMIN) and own + total > (share := int(SHARE * self.quota)):
            return f"files that one user has sent may take {_size(share)}, and {_size(own + here)} of {actor().name}'s"
        if (used := sum(taken.values())) + total > self.quota:
            return f"files sent here may take {_size(self.quota)} together, and {_size(used + here)}"
        return ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Among all processes and threads."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (path for folder in self._folders() for path in folder.iterdir()):
            if _DIGEST.fullmatch(path.name.removesuffix(".part")):
                try:
                    yield path, path.stat()
                except FileNotFoundError:  # another process was faster
                    continue

    def _folders(self) -> list[Path]:
        """Of all who have sent anything; the outer one is of before there were users, and of nobody."""
        if not self.folder.is_dir():
            return []
        return [self.folder, *(path for path in self.folder.iterdir() if _SENDER.fullmatch(path.name))]

    def _part(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):  # also keeps names from outside inside the folder
            raise InvalidInput(f"{digest[:80]!r} is no SHA-256", field="sha256", allowed="64 hexadecimal digits")
        return self._folder_of(actor().name) / f"{digest}.part"

    def _folder_of(self, sender: str) -> Path:
        return self.folder / hashlib.sha256(sender.encode()).hexdigest()[:32]

    def _wholes(self, digest: str, *, of_parts: bool = False) -> list[Path]:
        """Where it is, or will be, whole: of whoever asks, of an admin also of others who have sent it. of_parts: where
        a part of it is, too."""
        part = self._part(digest)
        names = [digest, part.name] if of_parts else [digest]
        own = [part.with_name(name) for name in names]
        others = self._folders() if actor().may(UserRole.ADMIN) else []
        there = (folder / name for folder in others for name in names)
        return [*own, *(path for path in there if path not in own and path.exists())]

    def _whole(self, digest: str) -> Path:
        places = self._wholes(digest)
        return next((place for place in places if place.exists()), places[0])


def _announced(part: Path) -> Path:
    """Where it is written how many bytes a file has in all, of which a part is here."""
    return part.with_suffix(".total")


def _taken(path: Path, size: int) -> int:
    """Bytes that a file takes room for."""
    if path.suffix != ".part":
        return size
    try:
        return max(size, int(_announced(path).read_text()))
    except (FileNotFoundError, ValueError):  # nothing was announced, or the process was killed while it was written
        return size


def _drop(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.suffix == ".part":
        _announced(path).unlink(missing_ok=True)


def _sender_of(folder: Path) -> str | None:
    try:
        return (folder / _NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
