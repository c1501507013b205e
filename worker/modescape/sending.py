"""Sends an ensemble to a running server, by the doors that its page uses.

    door = ServerDoor("https://lab.example/modescape", token, tell=print)
    files = door.send({"preds.npz": Path("preds.npz")})
    door.look(files, recipe="same")               # what it understood, as a document
    door.bring_in("WRN-16-4", files, recipe="same")

Files go in parts, from where the server's end; while it is away it is asked again for as long as patience lasts.
"""

from __future__ import annotations

import filecmp
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from modescape.errors import (
    ArtifactMissing,
    Conflict,
    DataCorrupt,
    DataMissing,
    InvalidInput,
    ModescapeError,
    NotFound,
    Problem,
)  # fmt: skip
from modescape.imported import saying
from modescape.imported.arrays import printable
from modescape.imported.containers import Folder, check_file
from modescape.imported.ensemble import OutputKind, SetRole
from modescape.records import Json

PART = 8 << 20  # bytes of a request
_LEAST = 1 << 19
PATIENCE = 600.0  # seconds that a server may be away
_TRIES = 5  # of requests whose files go meanwhile
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_LABELS = "labels.npy"  # as true labels are sent whose own name another file has
_READING = 900.0  # seconds that an answer may take, for a server that reads much


class ServerRefused(ModescapeError):
    """The server refuses, or is away for too long."""


class ServerAway(ServerRefused):
    """The server is away for too long; what was asked may be asked again later."""


def pauses(patience: float) -> Iterator[float]:
    """Seconds to wait before a server is asked again, ever more; the last one ends when patience does."""
    ends = time.monotonic() + patience
    for wait in chain(_WAITS, repeat(_WAITS[-1])):
        left = ends - time.monotonic()
        if left <= 0:
            return
        yield min(wait, left)


class Server:
    """Requests to one server, again while it is away or busy for as long as patience lasts; what it refuses is raised
    as it would have been here. tell: says what is going on, a line at a time."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tell: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"is {url!r}", field="--server", allowed="http:// or https:// and a host")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(30, read=_READING))
        self.url, self.tell, self._patience = url.rstrip("/"), tell, patience

    def json(
        self, method: str, path: str, body: Json | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Json:
        """The answer as a document. body: one, or its bytes."""
        said = dict(headers or {})
        if isinstance(body, bytes):
            answer = self.ask(method, path, content=body, headers={**said, "Content-Type": "application/json"})
        else:
            answer = self.ask(method, path, json=body, headers=said)
        if answer.is_error:
            raise refusal(answer)
        try:
            found: Json = answer.json()
        except ValueError:
            raise ServerRefused(f"{self.url} gives what is no answer of Modescape") from None
        return found

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """One request, whatever the answer is below 500. Raises ServerRefused once patience is at its end."""
        waits, why = pauses(self._patience), ""
        while True:
            try:
                answer = self._client.request(method, self.url + path, **how)
                is_busy = answer.status_code == 409 and "retry-after" in answer.headers
                if answer.status_code < 500 and not is_busy:
                    return answer
                why = "it is busy" if is_busy else f"it says {answer.status_code}"
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            wait = next(waits, None)
            if wait is None:
                raise ServerAway(f"{self.url} does not answer ({why})")
            self.tell(f"{self.url} does not answer ({why}); trying again in {wait:.2g} s")
            time.sleep(wait)

    @contextmanager
    def stream(self, path: str, **how: Any) -> Iterator[httpx.Response]:
        """An answer whose body is read as it comes. Raises httpx.TransportError where the line breaks."""
        with self._client.stream("GET", self.url + path, **how) as answer:
            if answer.is_error:
                answer.read()
                raise refusal(answer)
            yield answer

    def close(self) -> None:
        self._client.close()


class ServerDoor:
    """The doors of one server by which ensembles come in."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tell: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE,
    ) -> None:
        self._server = Server(url, token, tell=tell, patience=patience)
        self._sent: dict[str, tuple[str, Path]] = {}  # digest -> name and place of what was sent

    def send(self, files: Mapping[str, Path]) -> list[Json]:
        """Send what the server does not have of these files; each as name and sha256, as requests name them."""
        return [{"name": name, "sha256": self._send(name, path)} for name, path in files.items()]

    def look(self, files: Sequence[Json], **answers: Any) -> Json:
        """What the server understands. Raises InvalidInput for what it refuses."""
        return self._of_files("POST", "/api/imports/look", {"files": files, **_said(answers)})

    def bring_in(self, name: str, files: Sequence[Json], **answers: Any) -> Json:
        """Import them; the import as a document. Asked again, it is the same one."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self._of_files("POST", "/api/imports", {"name": name, "files": files, **_said(answers)}, key)

    # --- member by member ---

    def open(self, name: str, planned: int, truth: Mapping[str, str], *, key: str, **answers: Any) -> Json:
        """An import that waits for its members, as a document; opened again with the same key, it is the same one.
        truth: place -> digest of the file of the true labels there."""
        asked = {"name": name, "planned": planned, "truth": dict(truth), **_said(answers)}
        return self._of_files("POST", "/api/imports", asked, {"Idempotency-Key": key})

    def one(self, id_: str) -> Json:
        """An import as a document."""
        return self._server.json("GET", f"/api/imports/{quote(id_)}")

    def points(self, id_: str, member: str, batch: bytes) -> Json:
        """Send a batch of a member's points, in the JSON that the server takes."""
        return self._server.json("POST", f"/api/imports/{quote(id_)}/members/{quote(member, safe='')}/points", batch)

    def add(self, id_: str, member: str, files: Sequence[Json], **about: Any) -> Json:
        """Add a member of these files; the import as a document."""
        asked = {"files": list(files), **_said(about)}
        return self._of_files("PUT", f"/api/imports/{quote(id_)}/members/{quote(member, safe='')}", asked)

    def seal(self, id_: str) -> Json:
        return self._server.json("POST", f"/api/imports/{quote(id_)}/seal", {})

    def bring_in_weights(self, name: str, files: Sequence[Json], **asked: Any) -> Json:
        """Import networks by their weights; the experiment as a document. Asked again, it is the same one."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self._of_files("POST", "/api/imports/weights", {"name": name, "files": files, **_said(asked)}, key)

    def page(self, slug: str) -> str:
        return f"{self._server.url}/experiments/{slug}"

    def _of_files(self, method: str, path: str, asked: Json, headers: Mapping[str, str] | None = None) -> Json:
        """The answer to a request that names files. A server lets files go once something is made of them, also those
        that another process has sent and this one has found there: they are sent again, and it is asked again."""
        for _ in range(_TRIES):
            try:
                return self._server.json(method, path, asked, headers)
            except NotFound:
                gone = [digest for digest in self._sent if not self._state(digest)["complete"]]
                if not gone:
                    raise
                for digest in gone:
                    self._send(*self._sent[digest])
        return self._server.json(method, path, asked, headers)

    def _state(self, digest: str) -> Json:
        return self._server.json("GET", f"/api/uploads/{quote(digest)}")

    def _send(self, name: str, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._sent[digest] = name, path
            total = path.stat().st_size
            address, size = f"/api/uploads/{quote(digest)}", PART
            while not (state := self._state(digest))["complete"]:
                here = state["received"]
                if total >= _WORTH_TELLING:
                    self._server.tell(f"{name}: {here / 1e6:,.1f} of {total / 1e6:,.1f} MB")
                file.seek(here)
                part = file.read(size)
                said = {"Content-Type": "application/octet-stream"}
                if total:
                    said["Content-Range"] = f"bytes {here}-{here + len(part) - 1}/{total}"
                answer = self._server.ask("PUT", address, content=part, headers=said)
                if answer.status_code == 409:  # somebody else sends it, or the end is elsewhere: ask where
                    time.sleep(_WAITS[0])
                elif answer.status_code == 413 and size > _LEAST and not _is_problem(answer):
                    size = max(_LEAST, size // 8)  # a proxy on the way takes less at a time
                elif answer.is_error:
                    raise refusal(answer)
        return digest


def _is_problem(answer: httpx.Response) -> bool:
    """Whether it is Modescape that refuses, and not something before it."""
    return bool(answer.headers.get("content-type", "").startswith("application/problem+json"))


def _said(answers: Mapping[str, Any]) -> Json:
    return {name: value for name, value in answers.items() if value is not None}


_WORTH_TELLING = 1_000_000  # bytes of a file whose sending is told
_KINDS: Mapping[str, type[ModescapeError]] = {
    "not-found": NotFound, "conflict": Conflict, "gone": ArtifactMissing,
}  # fmt: skip


def refusal(answer: httpx.Response) -> ModescapeError:
    """What the server says, as it would have been said here."""
    try:
        document = answer.json()
        problems = [Problem(one["message"], one["field"], one["allowed"]) for one in document.get("errors") or ()]
        said, kind = str(document["detail"]), str(document["type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServerRefused(f"the server answers {answer.status_code}, which is no answer of Modescape")
    if kind == "data-missing":
        return DataMissing(said, problems=problems)
    if kind == "data-corrupt":
        return DataCorrupt(said, problems=problems)
    if answer.status_code == 422 and problems:
        return InvalidInput(said, problems=problems)
    return _KINDS.get(kind, ServerRefused)(said)


def files_below(path: Path) -> dict[str, Path]:
    """The files of a folder, or one file, by the names they are sent under, by the rules of what is read here: no link
    leads out of the folder. Raises InvalidInput."""
    if not path.exists():
        raise InvalidInput(f"there is nothing at {path}", field="path", allowed="a folder, or a file")
    if not path.is_dir():
        return {path.name: check_file(path, "a folder, or a file")}
    return dict(Folder(path.name, path).files)


def file_of_labels(labels: str) -> Path | None:
    """The file of the true labels, None where it is the name of an array. Raises InvalidInput (a pipe)."""
    path = Path(labels)
    return check_file(path, "a file of the true labels") if path.exists() and not path.is_dir() else None


def with_labels(files: Mapping[str, Path], labels: Path) -> tuple[dict[str, Path], str]:
    """Those files and a file of true labels, and what that goes by among them: its own name, where that is free and
    says nothing of where it belongs. Raises InvalidInput where others go by the usual name."""
    here = next((at for at, file in files.items() if file.resolve() == labels.resolve()), None)
    if here is not None:
        return dict(files), here
    own = labels.name if labels.suffix == ".npy" and "." not in labels.stem else _LABELS
    at = _LABELS if own in files or _LABELS in files else own
    if not filecmp.cmp(files.get(at, labels), labels, shallow=False):
        said = f"what is sent has labels of its own, {at}, and those of {printable(labels.name)} are others"
        raise InvalidInput(said, field="labels", allowed="leave labels out")
    return {**files, at: labels}, at


def understood(look: Json) -> Iterator[str]:
    """What the server understood and finds odd, in lines."""
    if look["sets"]:
        kind = saying.KINDS[OutputKind(look["kind"])]
        yield f"{look['name']}: {saying.members(len(look['members']))}, {kind}, {look['classes']} classes; recipe: " + (
            f"{look['recipe']}"
        )
    for one in look["sets"]:
        labels = f"{'with' if one['labelled'] else 'without'} labels"
        yield f"  {one['place']}: {one['shape'][1]:,} {saying.ROLES[SetRole(one['role'])]}, {labels}"
    for method, count in look["samples"].items():
        yield f"  samples/{method}: {count} around each member"
    if look["checkpoints"]:
        yield f"  trajectory: {look['checkpoints']} checkpoints of each member"
    if look["weights"]:
        yield f"  weights: of {saying.members(look['weights'])}"
    for odd in look["odd"]:
        choices = [(choice["value"], choice["words"]) for choice in odd["choices"]]
        yield saying.with_answers(odd["level"], odd["sentence"], odd["what"], choices)
