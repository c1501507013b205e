"""What services write: lines that programs read, what they are about, and a line a request."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_port
from serving import SPEC, finished, served, work

from modescape import logs
from modescape.errors import ConfigurationError
from modescape.laboratory import started
from modescape.store.links import Links


@contextmanager
def lines(level: int = logging.INFO) -> Iterator[list[dict[str, Any]]]:
    """What is written inside, as programs read it; whole once the block has ended."""
    told, handler = io.StringIO(), logging.StreamHandler()
    handler.setStream(told)
    handler.setFormatter(logs._Json())
    root, found = logging.getLogger(), []
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        found += map(json.loads, told.getvalue().splitlines())


def test_a_line_is_one_object_whatever_is_said() -> None:
    log = logging.getLogger("modescape.test")
    with lines() as found:
        with logs.about(experiment="a"), logs.about(stage="train/0"):
            log.info("two\nlines “%s”", "\ud800\x00")
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("failed", extra={logs.FIELDS: {"path": Path("/a"), "odd": {1: float("nan")}}})
    first, second = found
    assert (first["level"], first["logger"], first["experiment"], first["stage"]) == (
        "info", "modescape.test", "a", "train/0"
    )  # fmt: skip
    assert first["message"].startswith("two\nlines “")
    assert "ValueError: broken" in second["traceback"]
    assert (second["path"], "experiment" in second) == ("/a", False)
    assert first["at"].endswith("Z")


@pytest.mark.parametrize(("level", "form", "field"), [("LOUD", "text", "LOG_LEVEL"), ("INFO", "xml", "LOG_FORMAT")])
def test_what_is_no_level_or_format_is_refused(level: str, form: str, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        logs.set_up(level, form)


def test_lines_of_a_stage_say_of_which(tmp_path: Path) -> None:
    laboratory = started(tmp_path, None).laboratory
    row = laboratory.create(SPEC, name="told")
    with lines() as found:
        work(laboratory, row.id)
    ended = [line for line in found if line["logger"] == "modescape.executor"]
    stages = {line["stage"] for line in ended}
    assert {"train/0", "train/1", "compare/all"} <= stages
    assert {line["experiment"] for line in ended} == {"told"}
    assert len({line["worker"] for line in ended}) == 1


def test_a_request_is_one_line_without_its_query_and_its_answer_has_its_id(tmp_path: Path) -> None:
    with served(tmp_path, request_log=True) as site, site.client() as client, lines() as found:
        answers = [
            client.get("/api/experiments?q=secret", headers={"X-Request-Id": "from-the-proxy"}),
            client.get("/api/experiments/none"),
            client.get("/healthz"),
            client.get("/signin?code=secret"),
            client.get("/a\nb".replace("\n", "%0a"), headers={"X-Request-Id": "two words"}),
        ]
        time.sleep(0.1)
    told = [line for line in found if line["logger"] == "modescape.requests"]
    assert [(line["method"], line["path"], line["status"]) for line in told] == [
        ("GET", "/api/experiments", 200), ("GET", "/api/experiments/none", 404), ("GET", "/signin", 403),
        ("GET", "/a\nb", 404),
    ]  # fmt: skip
    assert [line["request"] for line in told] == [
        answer.headers["x-request-id"] for answer in answers if "healthz" not in str(answer.url)
    ]
    assert told[0]["request"] == "from-the-proxy"
    assert answers[-1].headers["x-request-id"] != "two words"
    assert all(line["ms"] > 0 and line["address"] == "127.0.0.1" for line in told)
    assert told[0]["bytes"] > 0
    assert [line for line in found if "secret" in str(line) and line["logger"] != "httpx"] == []  # the client's own
    assert len(told[0]["message"].splitlines()) == len(told[3]["message"].splitlines()) == 1


def test_no_line_has_the_secret_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is followed, wrong, asked for as something else, or fails."""
    with lines() as found, served(tmp_path, request_log=True, open_links=True) as site, site.visitor() as visitor:
        finished(site.laboratory, name="one")
        answer = visitor.post("/api/links", json={"to": "/experiments/one", "name": "l"}).json()
        secret = answer["url"].rpartition("/")[2]
        assert visitor.get(f"/s/{secret}").status_code == 303
        assert visitor.post(f"/s/{secret}", headers={"origin": site.url}).status_code == 405
        assert visitor.get(f"/s/{secret}/more").status_code == 404

        def fail(*_: Any) -> None:
            raise LookupError("what nobody thought of")

        monkeypatch.setattr(Links, "by_secret", fail)
        assert visitor.get(f"/s/{secret}").status_code == 500
    of_it = [line["path"] for line in found if line["logger"] == "modescape.requests" and "/s/" in line["path"]]
    assert of_it == ["/s/…", "/s/…", "/s/…/more", "/s/…"]
    assert any("GET /s/… failed" in line["message"] for line in found)
    ours = [line for line in found if not line["logger"].startswith("http")]  # the test asks by a client that logs
    assert secret not in json.dumps(ours)


@pytest.mark.slow
def test_without_the_setting_requests_are_not_told(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client, lines() as found:
        assert client.get("/api/experiments").headers["x-request-id"]
    assert not [line for line in found if line["logger"] == "modescape.requests"]


@pytest.mark.slow
def test_a_service_writes_nothing_but_lines_for_programs(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(port),
                   "MODESCAPE_LOG_FORMAT": "json", "MODESCAPE_REQUEST_LOG": "1"}  # fmt: skip
    command = [sys.executable, "-P", "-m", "modescape.cli", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/api/me").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        written = server.communicate(timeout=30)[1]
    told = [json.loads(line) for line in written.splitlines()]
    assert "/api/me" in {line.get("path") for line in told}
    assert {line["logger"].partition(".")[0] for line in told} <= {"modescape", "uvicorn", "alembic"}
