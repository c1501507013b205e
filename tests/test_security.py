"""Who may come in: tokens, hosts, origins, forms, sizes and headers, tried from outside over a real socket."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Served, finished, free_port, served

from modescape.errors import ConfigurationError
from modescape.settings import Settings
from modescape_api import security
from modescape_api.app import create_app

TOKEN = "a-secret-of-many-characters"
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def closed_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("closed"), token=TOKEN, allowed_hosts="lab.example.org") as running:
        yield running


def form_value(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found, page[:500]
    return found.group(1)


# -- the token --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "lab.example.org"])
def test_beyond_loopback_nothing_starts_without_a_token(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError, match="MODESCAPE_TOKEN"):
        create_app(Settings(home=tmp_path, host=host))
    create_app(Settings(home=tmp_path, host=host, token=TOKEN))


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="16 characters"):
        create_app(Settings(home=tmp_path, token="short"))


@pytest.mark.parametrize(
    "path", ["/api/experiments", "/api/artifacts/" + "0" * 64, "/api/events", "/api/openapi.json", "/nowhere"]
)
def test_programs_show_the_token(closed_site: Served, path: str) -> None:
    with closed_site.client() as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Cookie": "modescape_session=x.y"},
        ):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401, headers
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        allowed = client.head("/api/catalogue", headers={"Authorization": f"Bearer {TOKEN}"})
        assert allowed.status_code == 200
    with closed_site.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        assert client.get("/api/experiments").status_code == 200


def test_health_and_static_files_need_no_token(closed_site: Served) -> None:
    with closed_site.client() as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.get("/static/style.css").status_code == 200


def test_people_sign_in_and_out(closed_site: Served) -> None:
    with closed_site.client(headers=HTML) as client:
        sent = client.get("/workers?x=1")
        assert sent.status_code == 303
        assert sent.headers["location"] == "/signin?next=%2Fworkers%3Fx%3D1"
        page = client.get(sent.headers["location"])
        csrf = form_value(page.text)
        wrong = client.post("/signin", data={"token": "no", "csrf": csrf})
        assert wrong.status_code == 403
        assert "modescape_session" not in client.cookies
        entered = client.post("/signin", data={"token": TOKEN, "csrf": csrf, "next": "/workers?x=1"})
        assert entered.status_code == 303
        assert entered.headers["location"] == "/workers?x=1"
        cookie = entered.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
        assert TOKEN not in cookie
        inside = client.get("/workers")
        assert inside.status_code == 200
        assert client.get("/api/experiments", headers={"Accept": "application/json"}).status_code == 200
        left = client.post("/signout", data={"csrf": form_value(inside.text)})
        assert left.status_code == 303
        assert client.get("/workers").status_code == 303


@pytest.mark.parametrize(
    "next", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb", ""]
)
def test_signing_in_never_leads_elsewhere(next: str) -> None:
    assert security.own_path(next) == "/"


def test_a_session_is_signed_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = security.new_session(TOKEN)
    assert security.session_holds(cookie, TOKEN)
    assert not security.session_holds(cookie, TOKEN + "x")
    assert not security.session_holds(cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), TOKEN)
    made, _, rest = cookie.partition(".")
    assert not security.session_holds(f"{int(made) + 5}.{rest}", TOKEN)
    for broken in ("", ".", "a.b.c", "1", "9" * 400 + ".a.b", "١.a.b"):
        assert not security.session_holds(broken, TOKEN)
    later = time.time() + security.SESSION_SECONDS + 5
    monkeypatch.setattr(security.time, "time", lambda: later)
    assert not security.session_holds(cookie, TOKEN)


# -- hosts and origins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("127.0.0.1:{port}", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("evil.example:{port}", 400),
        ("user@localhost", 400),
        ("[", 400),
    ],
)
def test_the_host_must_be_ours(open_site: Served, host: str, status: int) -> None:
    with open_site.client() as client:
        answer = client.get("/healthz", headers={"Host": host.format(port=open_site.settings.port)})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["type"].endswith("wrong-host")
        assert answer.json()["errors"][0]["field"] == "Host"


def test_a_configured_host_is_answered(closed_site: Served) -> None:
    with closed_site.client() as client:
        assert client.get("/healthz", headers={"Host": "lab.example.org"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "other.example.org"}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_another_site_changes_nothing(open_site: Served, headers: dict[str, str], status: int) -> None:
    headers = {name: value.format(port=open_site.settings.port) for name, value in headers.items()}
    with open_site.client() as client:
        assert client.post("/api/estimate", json={"preset": "quickstart"}, headers=headers).status_code == status
        assert client.get("/api/experiments", headers=headers).status_code == 200


def test_a_form_of_another_browser_is_refused(open_site: Served) -> None:
    with open_site.client(headers=HTML) as mine, open_site.client(headers=HTML) as theirs:
        value = form_value(mine.get("/").text)
        theirs.get("/")
        assert theirs.post("/theme", data={"csrf": value, "theme": "dark"}).status_code == 403
        assert mine.post("/theme", data={"csrf": "", "theme": "dark"}).status_code == 403
        assert mine.post("/theme", data={"csrf": value, "theme": "dark"}).status_code == 303


def test_a_form_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    with served(tmp_path) as first, first.client(headers=HTML) as client:
        value = form_value(client.get("/").text)
        cookie = client.cookies[security.FORM]
    with served(tmp_path) as second, second.client(headers=HTML, cookies={security.FORM: cookie}) as client:
        assert client.post("/theme", data={"csrf": value, "theme": "dark"}).status_code == 303


# -- HEAD, IPv6 -------------------------------------------------------------------------------------------------------


def gets(site: Served) -> list[str]:
    """Every address that answers GET, with the experiment and numbers of one that is there."""
    places = {"experiment": "small-one", "number": "2", "name": "cosine", "dataset": "digits", "image": "0",
              "key": "x", "stage": "x", "sha256": "0" * 64, "action": "cancel"}  # fmt: skip

    def paths(routes: Any) -> Iterator[str]:
        for route in routes:
            if "GET" in (getattr(route, "methods", None) or ()):
                yield re.sub(r"\{(\w+)(:path)?\}", lambda found: places.get(found[1], "x"), route.path)
            elif hasattr(route, "original_router"):
                yield from paths(route.original_router.routes)

    return sorted(set(paths(create_app(site.settings).routes)))


def test_head_says_of_every_address_what_get_would(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        row = finished(site.laboratory)
        digest = site.laboratory.store.outputs.digests()[0]
        base = f"/api/experiments/{row.slug}"
        more = [f"/api/artifacts/{digest}", f"{base}/figures/plane.html", f"{base}/figures/plane.svg", "/static/app.js",
                f"{base}/matrices/cosine.npy", f"{base}/solutions?format=csv", "/nowhere",
                "/api/experiments?format=ndjson"]  # fmt: skip
        addresses = [address for address in (*gets(site), *more) if not address.endswith("/events")]
        assert len(addresses) > 40
        for address in addresses:
            for accept in ("text/html", "*/*"):
                # packed, a form's one-time key would take a byte more or less each time
                asked = {"Accept": accept, "Accept-Encoding": "identity"}
                got, head = client.get(address, headers=asked), client.head(address, headers=asked)
                assert (head.status_code, head.content) == (got.status_code, b""), address
                again = client.get(address, headers=asked)  # pages tell the time, data are looked at
                for name in ("content-type", "content-length", "etag", "cache-control", "content-disposition"):
                    said = {answer.headers.get(name) for answer in (got, again)}
                    assert head.headers.get(name) in said or len(said) > 1, (address, name)
        assert client.head("/api/estimate").headers["allow"] == "POST"
        assert client.put("/api/workers").headers["allow"] == "GET, HEAD"


def test_head_of_a_stream_without_end_ends_and_is_forgotten(tmp_path: Path, wait_until) -> None:
    with served(tmp_path) as site, site.client() as client:
        for _ in range(3):
            head = client.head("/api/events")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"].startswith("text/event-stream")
        hub = site.app.state.site.hub
        wait_until(lambda: hub._listeners == 0, 10, "no listener left")


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:{port}"), ("::", "http://[::1]:{port}"),
                                           ("0.0.0.0", "http://127.0.0.1:{port}"),
                                           ("lab.example.org", "http://lab.example.org:{port}")])  # fmt: skip
def test_the_address_people_open_has_brackets_and_is_one(tmp_path: Path, host: str, url: str) -> None:
    settings = Settings(home=tmp_path, host=host, port=8123)
    assert settings.url == url.format(port=8123)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0"])
def test_one_command_runs_on_addresses_of_either_family(tmp_path: Path, host: str) -> None:
    port = free_port()
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_HOST": host, "MODESCAPE_PORT": str(port),
                   "MODESCAPE_WORKERS": "0", "MODESCAPE_TOKEN": TOKEN}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "modescape.cli", "up"], env=environment, stdout=subprocess.PIPE, text=True
    ) as up:
        try:
            assert up.stdout is not None
            line = next(line for line in up.stdout if "ready" in line)
            url = Settings(host=host, port=port).url
            assert url in line
            for asked in {url, *([f"http://127.0.0.1:{port}"] if host == "::" else [])}:
                assert httpx.get(f"{asked}/healthz", timeout=20).status_code == 200
            again = subprocess.run([sys.executable, "-m", "modescape.cli", "up"], env=environment, capture_output=True,
                                   text=True)  # fmt: skip
            assert url in again.stdout
            other = {**environment, "MODESCAPE_HOME": str(tmp_path / "other")}
            taken = subprocess.run([sys.executable, "-m", "modescape.cli", "up"], env=other, capture_output=True,
                                   text=True)  # fmt: skip
            assert (taken.returncode, "MODESCAPE_PORT" in taken.stderr) == (1, True)
        finally:
            up.terminate()
    assert up.returncode == 0


# -- sizes, headers, pages --------------------------------------------------------------------------------------------


def test_a_body_without_a_length_is_cut_off_too(open_site: Served) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    with open_site.client() as client:
        try:
            answer = client.post("/api/experiments", content=blocks(), headers={"Content-Type": "application/json"})
        except (httpx.WriteError, httpx.RemoteProtocolError):
            return  # the server hung up while we were still sending: refused as well
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/", "/api/experiments", "/nowhere", "/static/style.css", "/api/docs", "/healthz"])
def test_every_answer_carries_the_security_headers(open_site: Served, path: str) -> None:
    with open_site.client() as client:
        headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_errors_are_pages_for_people_and_documents_for_programs(open_site: Served) -> None:
    with open_site.client() as client:
        page = client.get("/nowhere", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert page.status_code == 404
        assert page.headers["content-type"].startswith("text/html")
        assert client.get("/nowhere").headers["content-type"] == "application/problem+json"
        evil = client.get("/<script>alert(1)</script>", headers=HTML)
        assert "<script>alert" not in evil.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../templates/base.html",
        "/static/..%2f..%2fpyproject.toml",
        "/static/%00",
        "/static/",
        "/static/nothing.js",
    ],
)
def test_static_files_stay_in_their_folder(open_site: Served, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", open_site.settings.port), timeout=10) as raw:
        raw.sendall(request.encode())
        answer = b""
        while block := raw.recv(65536):
            answer += block
    assert b" 404 " in answer.split(b"\r\n")[0]


def test_static_files_are_compressed_and_cached_by_content(open_site: Served) -> None:
    from modescape_api import assets

    with open_site.client() as client:
        forever = client.get(assets.url("style.css"))
        assert "immutable" in forever.headers["cache-control"]
        assert forever.headers["content-encoding"] == "gzip"
        plain = client.get("/static/style.css")
        assert plain.headers["cache-control"] == "public, no-cache"
        again = client.get("/static/style.css", headers={"If-None-Match": plain.headers["etag"]})
        assert again.status_code == 304
        plotly = client.get(assets.plotly_url(), headers={"Accept-Encoding": "gzip"})
        assert plotly.status_code == 200
        assert len(plotly.content) > 4_000_000
        assert int(plotly.headers["content-length"]) < 1_700_000


def test_json_is_compressed_above_a_kilobyte(open_site: Served) -> None:
    with open_site.client() as client:
        large = client.get("/api/catalogue")
        assert large.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in large.headers["vary"]
        assert "content-encoding" not in client.get("/healthz").headers
        bare = client.get("/api/catalogue", headers={"Accept-Encoding": "identity"})
        assert bare.json() == large.json()
