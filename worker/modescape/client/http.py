"""A running server as a source: its REST interface, asked with httpx."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

import httpx
import numpy as np
import orjson

from modescape import asking
from modescape.client.records import (
    Detail,
    Draft,
    Estimate,
    Event,
    FigureEntry,
    Launched,
    Matrix,
    MatrixEntry,
    ReportEntry,
    RevisionEntry,
    SweepCell,
    ViewEntry,
)
from modescape.client.source import Form, Hold, Listed, Pairs
from modescape.client.tables import Table
from modescape.columns import EXPERIMENTS, MEASUREMENTS, SOLUTIONS, Fields
from modescape.errors import Conflict, InvalidInput
from modescape.records import BulkDeed, BulkDone, Json
from modescape.sending import Server, ServerDoor, ServerRefused, file_of_labels, files_below, refusal, with_labels
from modescape.store.groups import Group, Spread
from modescape.sweeps.asked import is_sweep

if TYPE_CHECKING:
    from modescape.comparing import Comparison
    from modescape.drawing.forms import Asked

_FORMS: tuple[Form, ...] = ("json", "html", "csv")
_PATIENCE = 20.0  # seconds that a server may be away before an answer is given up
_QUIET = 60.0  # seconds without a byte, after which a stream is opened again; a server sends one every 15


class There:
    """One server. Raises ServerRefused where it is none, or asks for another token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url, self._token = url, token
        self._server = Server(url, token, patience=_PATIENCE)
        if "items" not in self._server.json("GET", "/api/experiments?limit=1"):
            raise ServerRefused(f"{url} is no server of Modescape")

    @property
    def title(self) -> str:
        return self._server.url

    def experiments(self, asked: Pairs) -> Table:
        return self._listed(EXPERIMENTS, "/api/experiments", asked)

    def groups(self, asked: Pairs, by: str, numbers: Sequence[str]) -> tuple[str, list[Group]]:
        asking.read(EXPERIMENTS, asked)  # refuses here what the server would refuse, and says it as a sentence
        query = urlencode([*asked, ("by", by), ("numbers", ",".join(numbers))])
        told = self._server.json("GET", f"/api/groups?{query}")
        found = [
            Group(one["value"], one["n"], {name: Spread(**spread) for name, spread in one["numbers"].items()})
            for one in told["items"]
        ]
        return told["words"], found

    def views(self) -> list[ViewEntry]:
        return [ViewEntry.from_json(one) for one in self._server.json("GET", "/api/views")["items"]]

    def keep_view(self, name: str, query: str) -> ViewEntry:
        return ViewEntry.from_json(self._server.json("POST", "/api/views", {"name": name, "query": query}))

    def remove_view(self, slug: str) -> None:
        self._server.json("DELETE", _of(slug, "views"))

    def act(self, deed: BulkDeed, slugs: Sequence[str], line: str | None, *, dry: bool) -> BulkDone:
        which: Json = {"experiments": list(slugs)} if line is None else {"q": line}
        return BulkDone.from_json(self._server.json("POST", "/api/bulk", {**which, **asdict(deed), "dry": dry}))

    def sweeps(self) -> Table:
        columns = ("slug", "name", "created_at", "fields", "cells", "ended")
        found = self._server.json("GET", "/api/sweeps")["items"]
        rows = tuple({**one, "created_at": datetime.fromisoformat(one["created_at"])} for one in found)
        return Table(columns, rows, "Sweeps, newest first", len(rows))

    def detail(self, slug: str) -> Detail:
        told = self._server.json("GET", _of(slug))
        return Detail.from_json(told, {key: told[key] for key in EXPERIMENTS.keys})

    def rows(self, slug: str, listed: Listed, asked: Pairs) -> Table:
        fields: Fields[Any] = SOLUTIONS if listed == "solutions" else MEASUREMENTS
        return self._listed(fields, f"{_of(slug)}/{listed}", asked)

    def matrices(self, slug: str) -> list[MatrixEntry]:
        return [MatrixEntry.from_json(one) for one in self._server.json("GET", f"{_of(slug)}/matrices")["items"]]

    def matrix(self, slug: str, entry: MatrixEntry, names: tuple[str, ...]) -> Matrix:
        content = self._content(f"{_of(slug)}/matrices/{quote(entry.name)}.npy?{urlencode({'split': entry.split})}")
        values = np.asarray(np.load(io.BytesIO(content), allow_pickle=False), np.float64)
        return Matrix(entry.name, entry.split, values, entry.rows, entry.columns, names)

    def figures(self, slug: str) -> list[FigureEntry]:
        found = self._server.json("GET", f"{_of(slug)}/figures")["items"]
        return [FigureEntry(one["name"], one["title"], one["question"], one["state"]) for one in found]

    def figure(self, slug: str, name: str, asked: Asked, options: Mapping[str, Any]) -> bytes:
        from modescape.drawing.reading import FigureNotReady

        said = {key: _text(value) for key, value in options.items() if value is not None}
        size = {"width": asked.width, "height": asked.height or 0, "scale": asked.scale}
        query = urlencode({**said, "theme": asked.theme, "arrays": "list", **size})
        answer = self._server.ask("GET", f"{_of(slug)}/figures/{quote(name)}.{asked.form}?{query}")
        if answer.status_code == 409 and "waits_for" in (why := answer.json()):
            raise FigureNotReady(why["detail"], waits_for=why["waits_for"], closed=why["state"] == "failed")
        if answer.is_error:
            raise refusal(answer)
        if asked.form != "json":
            return answer.content
        picture = orjson.loads(answer.content)
        del picture["words"]
        return orjson.dumps(picture)

    def export(self, slug: str, target: Path) -> int:
        """Into a folder: spec, solutions, runs, images, every figure that is ready in three forms, the ensemble, and
        the sums of all. The arrays are those of the ensemble; a home has them under their digests, too."""
        if target.suffix.lower() == ".zip":
            self._ensemble(slug, target)
            with zipfile.ZipFile(target) as kept:
                return len(kept.namelist())
        with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
            self._ensemble(slug, archive := Path(folder) / "ensemble.zip")
            if target.suffix.lower() == ".npz":
                from modescape.imported.digest import contents
                from modescape.imported.reading import read
                from modescape.imported.writing import write

                ensemble = read(archive)
                write(ensemble, target)
                return len(contents(ensemble))
            if target.exists() and any(target.iterdir()):
                raise Conflict(f"{target} is not empty; name a new folder")
            target.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(archive) as kept:
                kept.extractall(target)
                names = kept.namelist()
        from modescape.drawing import forms

        detail = self.detail(slug)
        files = {
            "spec.json": orjson.dumps(detail.spec, option=orjson.OPT_INDENT_2),
            "solutions.json": orjson.dumps(self.rows(slug, "solutions", []).rows, option=orjson.OPT_UTC_Z),
            "runs.json": orjson.dumps(self._server.json("GET", f"{_of(slug)}/runs")["items"]),
            "README.md": f"# {detail.name}\n\n{detail.sentence}\n\nFrom {self.title}, {_of(slug)}\n".encode(),
        }
        for split in detail.spec.get("evaluation", {}).get("splits", ()):
            files[f"images-{split}.csv"] = self._content(f"{_of(slug)}/images?{urlencode({'split': split})}")
        for one in self.figures(slug):
            if one.state in ("ready", "partial"):
                files |= {
                    f"figures/{one.name}.{form}": self.figure(slug, one.name, forms.Asked(form), {}) for form in _FORMS
                }
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
        written = sorted({*names, *files})
        (target / "SHA256SUMS").write_text("".join(f"{_sum_of(target / name)}  {name}\n" for name in written))
        return len(written) + 1

    def launch(self, draft: Draft) -> Launched:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        kind: Literal["sweep", "experiment"] = "sweep" if is_sweep(draft.document) else "experiment"
        return Launched(kind, self._server.json("POST", f"/api/{kind}s", _body(draft), key)["slug"])

    def estimate(self, draft: Draft) -> Estimate:
        path = "/api/sweeps/estimate" if is_sweep(draft.document) else "/api/estimate"
        return Estimate.from_json(self._server.json("POST", path, _body(draft)))

    def events(self, slug: str | None) -> Iterator[Event | None]:
        path = "/api/events" if slug is None else f"{_of(slug)}/events"
        last, ends = "", time.monotonic() + _PATIENCE
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                with self._server.stream(path, headers=headers, timeout=_QUIET) as answer:
                    for one in _events(answer.iter_lines()):
                        ends = time.monotonic() + _PATIENCE
                        if one is not None:
                            last = str(one.id)
                        yield one
            except httpx.TransportError as error:
                if time.monotonic() > ends:
                    raise ServerRefused(f"{self._url} does not answer ({error})") from None
            time.sleep(0.5)  # the server restarts, or a proxy has closed the line: from where it broke off

    def hold(self, slug: str, how: Hold) -> None:
        self._server.json("POST", f"{_of(slug)}/{how}")

    def prioritise(self, slug: str, priority: int) -> None:
        self._server.json("PATCH", _of(slug), {"priority": priority})

    def cells(self, sweep: str) -> tuple[SweepCell, ...]:
        return tuple(map(SweepCell.from_json, self._server.json("GET", _of(sweep, "sweeps"))["cells"]))

    def hold_sweep(self, sweep: str, how: Hold) -> None:
        self._server.json("POST", f"{_of(sweep, 'sweeps')}/{how}")

    def compare(self, slugs: Sequence[str], reference: str | None) -> Comparison:
        from modescape.comparing import Comparison

        query = urlencode([*(("e", slug) for slug in slugs), *([("from", reference)] if reference else [])])
        return Comparison.from_json(self._server.json("GET", f"/api/compare?{query}"))

    def bring(self, path: Path, name: str, answers: Mapping[str, str | None]) -> str:
        door, files, said = ServerDoor(self._url, self._token), files_below(path), dict(answers)
        if (labels := said.get("labels")) and (truth := file_of_labels(labels)):
            files, said["labels"] = with_labels(files, truth)
        return str(door.bring_in(name, door.send(files), **said)["experiment"])

    # ---- requests ----

    def _listed(self, fields: Fields[Any], address: str, asked: Pairs) -> Table:
        words = asking.read(fields, asked)  # refuses here what the server would refuse, and says it as a sentence
        named = [part.strip() for key, value in asked if key == "fields" for part in value.split(",")]
        computed = tuple(dict.fromkeys(name for name in named if fields.beside(name) is not None))
        answer = self._server.ask("GET", f"{address}?{urlencode([*asked, ('format', 'ndjson')])}")
        if answer.is_error:
            raise refusal(answer)
        documents = [orjson.loads(line) for line in answer.iter_lines() if line]
        total = int(answer.headers["x-total-count"])
        return Table.of(fields, documents, title=words.words, total=total, more=computed)

    def _content(self, path: str) -> bytes:
        answer = self._server.ask("GET", path)
        if answer.is_error:
            raise refusal(answer)
        return answer.content

    def reports(self) -> list[ReportEntry]:
        return [ReportEntry.from_json(one) for one in self._server.json("GET", "/api/reports")["items"]]

    def report(self, slug: str) -> ReportEntry:
        return ReportEntry.from_json(self._server.json("GET", _of(slug, "reports")))

    def write_report(self, name: str, blocks: Sequence[Json] | None, experiment: str | None) -> ReportEntry:
        asked = {"name": name, "blocks": blocks, "experiment": experiment}
        return ReportEntry.from_json(self._server.json("POST", "/api/reports", asked))

    def change_report(self, slug: str, name: str | None, blocks: Sequence[Json] | None, revision: int) -> ReportEntry:
        asked = {"name": name, "blocks": blocks, "revision": revision}
        return ReportEntry.from_json(self._server.json("PATCH", _of(slug, "reports"), asked))

    def report_revisions(self, slug: str) -> list[RevisionEntry]:
        found = self._server.json("GET", f"{_of(slug, 'reports')}/revisions")["items"]
        return [RevisionEntry.from_json(one) for one in found]

    def restore_report(self, slug: str, revision: int) -> ReportEntry:
        address = f"{_of(slug, 'reports')}/revisions/{revision}/restore"
        return ReportEntry.from_json(self._server.json("POST", address))

    def take_report(self, slug: str, form: str) -> bytes:
        return self._content(f"{_of(slug, 'reports')}/export?{urlencode({'form': form})}")

    def _ensemble(self, slug: str, target: Path) -> None:
        if target.exists():
            raise Conflict(f"{target} is there already; name a new file")
        part = target.with_name(f".{target.name}.part")
        try:
            with self._server.stream(f"{_of(slug)}/ensemble.zip") as answer, part.open("wb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)
            part.replace(target)
        except httpx.TransportError as error:
            raise ServerRefused(f"{self._url} broke off ({error})") from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


def _of(slug: str, kind: Literal["experiments", "sweeps", "reports", "views"] = "experiments") -> str:
    if not slug or "/" in slug:
        raise InvalidInput(f"is {slug!r}", field=kind.removesuffix("s"), allowed="a slug or an id")
    return f"/api/{kind}/{quote(slug)}"


def _body(draft: Draft) -> Json:
    """What the API is asked for: the fields of a sweep stand beside its name, those of a spec under theirs."""
    about: Json = {"name": draft.name, "fresh": draft.fresh}
    later = ("priority", "notes", "tags", *(() if is_sweep(draft.document) else ("project", "parent")))
    about |= {
        name: value for name in later if (value := getattr(draft, name))
    }  # servers of before do not know them all
    if is_sweep(draft.document):
        return {**(draft.document or {}), **about}
    return {**about, "spec": draft.document, "preset": draft.preset}


def _text(value: object) -> str:
    """A figure's option as a query string has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _events(lines: Iterator[str]) -> Iterator[Event | None]:
    """A stream of server-sent events: None for a comment, which keeps the line alive, and for `reset`."""
    said: Json = {}
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(":")
            said[name] = value.removeprefix(" ")
        elif said:
            if said.get("event") == "reset" or "data" not in said:
                yield None
            else:
                told = orjson.loads(said["data"])
                yield Event(told["id"], told["kind"], told["payload"])
            said = {}


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
