"""Who may come in: tokens, hosts, origins, forms, sizes and headers, tried from outside over a real socket."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import sync_playwright
from ports import free_port
from serving import Served, finished, served
from sqlalchemy import inspect, text

from modescape import supervisor
from modescape.errors import ConfigurationError
from modescape.settings import Settings
from modescape_api.app import create_app
from modescape_api.http import security

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
    with closed_site.visitor() as client:
        sent = client.get("/workers?x=1")
        assert sent.status_code == 303
        assert sent.headers["location"] == "/signin?next=%2Fworkers%3Fx%3D1"
        assert 'action="/signin"' in client.get(sent.headers["location"]).text
        wrong = client.post("/signin", data={"token": "no"})
        assert wrong.status_code == 403
        assert "modescape_session" not in client.cookies
        entered = client.post("/signin", data={"token": TOKEN, "next": "/workers?x=1"})
        assert entered.status_code == 303
        assert entered.headers["location"] == "/workers?x=1"
        cookie = entered.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
        assert TOKEN not in cookie
        assert client.get("/workers").status_code == 200
        assert client.get("/api/experiments", headers={"Accept": "application/json"}).status_code == 200
        left = client.post("/signout")
        assert left.status_code == 303
        assert client.get("/workers").status_code == 303


@pytest.mark.parametrize(
    "next", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb", ""]
)
def test_signing_in_never_leads_elsewhere(next: str) -> None:
    assert security.own_path(next) == "/"


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
        ("LOCALHOST.:{port}", 200),
        ("user@localhost", 400),
        ("[", 400),
        # what would be read as a path, a query, a user or a second host where addresses are put together of it
        ("localhost/static/?", 400),
        ("localhost/signin", 400),
        ("localhost?x", 400),
        ("localhost#x", 400),
        ("localhost\\x", 400),
        ("localhost, evil.example", 400),
        ("localhost evil.example", 400),
        ("localhost:", 400),
        ("localhost:80:80", 400),
        ("localhost:65536", 400),
        ("localhost:" + "9" * 5000, 400),
        ("[127.0.0.1]", 400),
        ("[::1", 400),
        ("::1", 400),
        ("[::1]x", 400),
        ("", 400),
    ],
)
def test_the_host_must_be_ours(open_site: Served, host: str, status: int) -> None:
    with open_site.client() as client:
        answer = client.get("/healthz", headers={"Host": host.format(port=open_site.settings.port)})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["type"].endswith("wrong-host")
        assert answer.json()["errors"][0]["field"] == "Host"


def said(port: int, request: bytes) -> bytes:
    """What a server answers to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("host", ["localhost/static/?", "localhost/signin?", "localhost/static/#", "x@localhost"])
def test_no_host_opens_an_address_that_needs_the_token(closed_site: Served, host: str) -> None:
    with closed_site.client() as client:
        for path in ("/api/experiments", "/workers"):
            for accept in ("*/*", "text/html"):
                answer = client.get(path, headers={"Host": host, "Accept": accept})
                assert answer.status_code == 400, answer.text[:200]


def test_a_request_names_one_host(closed_site: Served, tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN, allowed_hosts="lab.example.org", trusted_proxies="127.0.0.1") as behind:
        for port in (closed_site.settings.port, behind.settings.port):
            for second in ("localhost", "evil.example", "lab.example.org\r\nX-Forwarded-Host: lab.example.org"):
                for first, last in (("localhost", second), (second, "localhost")):
                    request = f"GET /healthz HTTP/1.1\r\nHost: {first}\r\nHost: {last}\r\nConnection: close\r\n\r\n"
                    assert said(port, request.encode()).startswith(b"HTTP/1.1 400"), (first, last)


@pytest.mark.parametrize("path", ["/healthz/../api/experiments", "/healthzz", "/signin/x", "//static/style.css",
                                  "/%73tatic%2f..%2fapi%2fexperiments", "/readyz%3f", "/api/experiments%3f/static/",
                                  "/signin%23", "/static", "/api/experiments;/static/"])  # fmt: skip
def test_only_the_open_addresses_themselves_are_open(closed_site: Served, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status = int(said(closed_site.settings.port, request.encode()).split()[1])
    assert status == (404 if path.startswith("/%73tatic") else 401)


def test_who_may_ask_is_decided_on_the_path_that_routes_match() -> None:
    """`request.url` is put together with the Host header, which visitors write."""
    folder = Path(security.__file__).parent
    for file in (folder / "security.py", folder / "proxies.py"):
        assert not re.search(r"request\.(url|base_url)\b(?!`)", file.read_text(encoding="utf-8")), file.name


@pytest.mark.slow
@pytest.mark.parametrize("port", ["9" * 5000, "²", "-1", "65536", ""])
def test_a_forwarded_port_that_is_none_is_no_failure(tmp_path: Path, port: str) -> None:
    with served(tmp_path, allowed_hosts="lab.example.org", trusted_proxies="127.0.0.1") as site:
        head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Port: {port}\r\nConnection: close\r\n\r\n"
        status = int(said(site.settings.port, head.encode("latin-1")).split()[1])
        assert status == (400 if port == "65536" else 200)


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


OWN = "http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": OWN}, 303),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://lab.example.org", "Sec-Fetch-Site": "same-origin"}, 303),  # a proxy rewrote Host
        ({"Sec-Fetch-Site": "none"}, 303),  # sent again from the history
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example", "Referer": f"{OWN}/launch"}, 403),
        ({"Origin": "null", "Referer": f"{OWN}/launch"}, 403),  # a frame without an origin
        ({"Sec-Fetch-Site": "cross-site", "Referer": f"{OWN}/launch"}, 403),
        # browsers from before 2020 send no Origin with a form
        ({"Referer": f"{OWN}/launch?preset=quickstart"}, 303),
        ({"Referer": OWN}, 303),
        ({"Referer": "http://evil.example/page"}, 403),
        ({"Referer": f"http://evil.example/{OWN}/launch"}, 403),
        ({"Referer": f"{OWN}.evil.example/launch"}, 403),
        ({"Referer": f"{OWN}@evil.example/launch"}, 403),
        ({"Referer": "http://127.0.0.1:1/launch"}, 403),
        ({"Referer": "about:blank"}, 403),
        ({"Referer": "http://["}, 403),
        ({"Referer": ""}, 403),
        # and no Referer where the page forbids it
        ({"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101 Firefox/60.0"}, 403),
        ({"User-Agent": "Lynx/2.8.9"}, 403),
        ({}, 403),
    ],
)
def test_a_form_is_taken_from_our_own_pages_only(open_site: Served, headers: dict[str, str], status: int) -> None:
    """Every form of every page goes through this one gate, with whatever the browser says of where it comes from."""
    headers = {name: value.format(port=open_site.settings.port) for name, value in headers.items()}
    for body in ({"data": {"theme": "dark"}}, {"files": {"theme": (None, "dark")}}):  # urlencoded and multipart
        with open_site.client(headers={**HTML, **headers}) as client:
            answer = client.post("/theme", **body)
            assert answer.status_code == status, answer.text[:500]
            assert ("theme" in client.cookies) == (status == 303)


OLD_BROWSER = "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko"


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"User-Agent": "curl/8.5.0"}, False),
        ({"User-Agent": "curl/8.5.0", "Content-Type": "application/x-www-form-urlencoded"}, False),  # curl -d ''
        ({"User-Agent": OLD_BROWSER}, True),
        ({"User-Agent": OLD_BROWSER, "Content-Type": "application/x-www-form-urlencoded"}, True),
        ({"User-Agent": OLD_BROWSER, "Content-Type": "text/plain"}, True),
        ({"User-Agent": OLD_BROWSER, "Referer": f"{OWN}/"}, False),
        # what no page can send to another site without asking
        ({"User-Agent": "Mozilla/5.0 WindowsPowerShell/5.1", "Content-Type": "application/json"}, False),
        ({"User-Agent": OLD_BROWSER, "Authorization": "Bearer x"}, False),
    ],
)
def test_an_address_for_programs_is_no_door_for_a_page_that_hides_where_it_is(
    open_site: Served, headers: dict[str, str], refused: bool
) -> None:
    """Without a body such an address asks for no JSON, which a page would have to ask leave for."""
    headers = {name: value.format(port=open_site.settings.port) for name, value in headers.items()}
    with open_site.client(headers=headers) as client:
        answer = client.post("/api/experiments/none/pause")
    assert answer.status_code == (403 if refused else 404), answer.text


@contextmanager
def _elsewhere(page: str) -> Iterator[str]:
    """Another web site on this machine, which has one page; its address."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_a_browser_without_scripts_posts_our_forms_and_no_other_sites(open_site: Served) -> None:
    """The other site differs by its port only, which no cookie tells apart."""
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for policy in ("unsafe-url", "no-referrer"):
            form = f'''<meta name="referrer" content="{policy}"><form method="post" action="{open_site.url}/theme">
                <input name="theme" value="dark"><button>Win a prize</button></form>'''
            context = browser.new_context(java_script_enabled=False)
            page = context.new_page()
            with _elsewhere(form) as elsewhere:
                page.goto(elsewhere)
                with page.expect_response("**/theme") as refused:
                    page.click("button")
            assert refused.value.status == 403, policy
            assert context.cookies(open_site.url) == []
            page.goto(f"{open_site.url}/workers")
            page.click("form[action='/theme'] button")
            page.wait_for_url(f"{open_site.url}/workers")
            assert [cookie["name"] for cookie in context.cookies(open_site.url)] == ["theme"]
            context.close()
        browser.close()


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


@pytest.mark.slow
def test_head_says_of_every_address_what_get_would(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        row = finished(site.laboratory)
        digest = site.laboratory.store.outputs.digests()[0]
        base = f"/api/experiments/{row.slug}"
        more = [f"/api/artifacts/{digest}", f"{base}/figures/plane.html", f"{base}/figures/plane.svg", "/static/app.js",
                f"{base}/matrices/cosine.npy", f"{base}/solutions?format=csv", "/nowhere",
                "/api/experiments?format=ndjson"]  # fmt: skip
        # of metrics each answer counts what was asked before
        addresses = [one for one in (*gets(site), *more) if not one.endswith(("/events", "/metrics"))]
        assert len(addresses) > 40
        for address in addresses:
            for accept in ("text/html", "*/*") if address.startswith(("/api", "/nowhere")) else ("text/html",):
                # packed, a form's one-time key would take a byte more or less each time
                asked = {"Accept": accept, "Accept-Encoding": "identity"}
                got, head = client.get(address, headers=asked), client.head(address, headers=asked)
                assert (head.status_code, head.content) == (got.status_code, b""), address
                names = ("content-type", "content-length", "etag", "cache-control", "content-disposition")
                if unlike := [name for name in names if head.headers.get(name) != got.headers.get(name)]:
                    again = client.get(address, headers=asked)  # pages tell the time, data are looked at
                    for name in unlike:
                        said = {answer.headers.get(name) for answer in (got, again)}
                        assert head.headers.get(name) in said or len(said) > 1, (address, name)
        assert client.head("/api/estimate").headers["allow"] == "POST"
        assert client.put("/api/workers").headers["allow"] == "GET, HEAD"


def _rows(site: Served) -> dict[str, list[Any]]:
    """Every row of the database but what workers and the clock write."""
    engine = site.laboratory.store._database.engine
    with engine.connect() as connection:
        tables = [name for name in inspect(engine).get_table_names() if name != "worker"]
        return {name: list(map(tuple, connection.execute(text(f'SELECT * FROM "{name}"')))) for name in tables}


@pytest.mark.slow
def test_nothing_that_is_asked_with_get_changes_a_row(tmp_path: Path) -> None:
    """But for a sample's weights, which are made again when they are asked for, by nobody of another site."""
    with served(tmp_path) as site, site.client() as client:
        row = finished(site.laboratory)
        base = f"/api/experiments/{row.slug}"
        more = [f"{base}/ensemble.zip", f"{base}/solutions/2/weights", f"{base}/figures/plane?numbers=0,1,2",
                f"/launch?clone={row.slug}", "/gallery?dataset=digits&corruption=fog&image=1", "/signin"]  # fmt: skip
        before = _rows(site)
        for address in [address for address in (*gets(site), *more) if not address.endswith("/events")]:
            for accept in ("text/html", "*/*"):
                assert client.get(address, headers={"Accept": accept}).status_code < 500, address
                assert _rows(site) == before, address
        weights = f"{base}/solutions/8/weights"
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            assert client.get(weights, headers=headers).status_code == 403
            assert _rows(site) == before
        assert client.get(weights, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 202


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
@pytest.mark.parametrize(
    "host", ["::", *(pytest.param(host, marks=pytest.mark.check) for host in ("::1", "localhost", "0.0.0.0"))]
)  # fmt: skip
def test_one_command_runs_on_addresses_of_either_family(
    tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port, folder = free_port(), tmp_path / "started-here"
    folder.mkdir()
    for name in ("six", "httpx", "jinja2", "fastapi"):  # of others, which happen to lie where it is started
        (folder / f"{name}.py").write_text("raise SystemExit('not ours')\n", encoding="utf-8")
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_HOST": host, "MODESCAPE_PORT": str(port),
                   "MODESCAPE_WORKERS": "0", "MODESCAPE_TOKEN": TOKEN}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "modescape.cli", "up"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        try:
            assert up.stdout is not None
            line = next(line for line in up.stdout if "ready" in line)
            settings = Settings(home=tmp_path, host=host, port=port, workers=0, token=TOKEN)
            assert settings.url in line
            for asked in {settings.url, *([f"http://127.0.0.1:{port}"] if host == "::" else [])}:
                assert httpx.get(f"{asked}/healthz", timeout=20).status_code == 200
            assert supervisor.up(settings) == 0, "it is running already"
            assert settings.url in capsys.readouterr().out
            with pytest.raises(ConfigurationError, match="MODESCAPE_PORT"):
                supervisor.up(settings.model_copy(update={"home": tmp_path / "other"}))
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


@pytest.mark.parametrize("path", ["/signin", "/healthz", "/static/style.css"])
def test_of_a_stranger_a_small_body_is_read(closed_site: Served, path: str) -> None:
    """What is open to all is open to crowds: each could have a megabyte kept until its last byte comes."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in form.items()), ""]
    head = "\r\n".join(lines).encode()
    for announced, sent in [
        (b"Content-Length: 20000", b""),
        (b"Transfer-Encoding: chunked", b"4e20\r\n" + b"a" * 20_000 + b"\r\n"),
    ]:
        with socket.create_connection(("127.0.0.1", closed_site.settings.port), timeout=20) as connection:
            connection.sendall(head + announced + b"\r\n\r\n" + sent)  # and no more of it
            assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    with closed_site.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        answer = client.post(
            "/theme", content="theme=dark&next=/%23" + "a" * 1000 + "&more=" + "a" * 20_000, headers=form
        )
        assert answer.status_code != 413, "of who is known as much as ever"
        assert client.post("/signin", content="token=" + "a" * 16_000, headers=form).status_code != 413


@pytest.mark.parametrize("path", ["/", "/api/experiments", "/nowhere", "/static/style.css", "/signin", "/healthz"])
def test_a_cookie_takes_no_time(closed_site: Served, path: str) -> None:
    """Python before 3.11.10 and 3.12.6 takes 8 s for this one, and all others wait."""
    with closed_site.client() as client:
        started = time.monotonic()
        client.get(path, headers={"Cookie": 'theme="' + "\\" * 60_000 + '"'})
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("cookies", "theme"),
    [
        ("theme=dark", "dark"),
        ('_xsrf="2|a\\"b"; theme=dark ;other=1', "dark"),
        ("theme=dark; theme=light", "light"),
        ('theme="dark"', None),
        ("mytheme=dark; theme", None),
        ("x=theme=dark", None),
    ],
)
def test_cookies_of_ours_are_read_among_others(open_site: Served, cookies: str, theme: str | None) -> None:
    """Browsers send what other servers of the same name have set, whatever their port."""
    with open_site.client() as client:
        page = client.get("/", headers={**HTML, "Cookie": cookies}).text
    found = re.search(r'<html[^>]* data-theme="(\w+)"', page)
    assert (found[1] if found else None) == theme


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
    from modescape_api.http import assets

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
