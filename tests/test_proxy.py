"""Behind real proxies, as docs/how-to/behind-a-proxy.md has them: nginx and Caddy, TLS, at the top and under a path."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from ports import free_port
from serving import Served, finished, served

from modescape.errors import ConfigurationError
from modescape.settings import Settings
from modescape_api.app import create_app
from modescape_api.http import identity, proxies, security

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).parent.parent / "docs" / "how-to" / "behind-a-proxy.md").read_text(encoding="utf-8")
NAME, TOKEN = "lab.example.org", "a-secret-of-many-characters"
NGINX = re.findall(r"```nginx\n(.*?)```", DOCUMENT, flags=re.S)
CADDY = re.findall(r"```caddy\n(.*?)```", DOCUMENT, flags=re.S)
# What runs, the root path, and whether the proxy tells how the visitor came.
CASES = {
    "nginx": (NGINX[0], "", True),
    "nginx-path": (NGINX[1], "/modescape", True),
    "nginx-bare": (NGINX[2], "/modescape", False),
    "caddy": (CADDY[0], "", True),
    "caddy-path": (CADDY[1], "/modescape", True),
}

# Where each page is asked for: under a path. What a page names depends on the root path alone, and what each proxy
# passes on is asked of all of them by the other tests.
FEW = pytest.mark.parametrize(
    "proxied",
    [pytest.param(name, marks=() if name == "nginx-path" else pytest.mark.check) for name in CASES],
    indirect=True,
)


@dataclass(frozen=True)
class Proxied:
    """url: what people type, with the root path; site: the application behind it."""

    url: str
    port: int
    root: str
    told: bool
    site: Served

    def client(self, **options: Any) -> httpx.Client:
        """Connects to this machine whatever the name, as a resolver that knows the name would."""
        headers = {"Host": f"{NAME}:{self.port}", **options.pop("headers", {})}
        client = httpx.Client(base_url=f"https://127.0.0.1:{self.port}", verify=_any(), headers=headers, timeout=20)
        client.event_hooks = {"request": [lambda request: request.extensions.update(sni_hostname=NAME)]}
        return client


def _any() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    crt, key = folder / "lab.crt", folder / "lab.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", crt],
        check=True, capture_output=True,
    )  # fmt: skip
    return crt, key


@pytest.fixture(scope="module", params=CASES)
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Proxied]:
    text, root, told = CASES[request.param]
    folder = tmp_path_factory.mktemp("proxy")
    trusted = "127.0.0.1" if told else ""
    with served(folder / "home", token=TOKEN, allowed_hosts=NAME, root_path=root, trusted_proxies=trusted) as site:
        finished(site.laboratory)
        port = free_port()
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{site.settings.port}")
        text = text.replace("/etc/ssl/lab.crt", str(certificate[0])).replace("/etc/ssl/lab.key", str(certificate[1]))
        with (_nginx if request.param.startswith("nginx") else _caddy)(text, port, folder):
            yield Proxied(f"https://{NAME}:{port}{root}/", port, root, told, site)


@contextmanager
def _nginx(server: str, port: int, folder: Path) -> Iterator[None]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.fail("nginx is not installed: sudo apt-get install nginx-light")
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\ngzip on;\ngzip_types *;\n{kept}{server}}}\n"
    )
    yield from _running([program, "-c", folder / "nginx.conf", "-e", folder / "error.log"], port, folder)


@contextmanager
def _caddy(site: str, port: int, folder: Path) -> Iterator[None]:
    program = shutil.which("caddy")
    if program is None:
        pytest.fail("Caddy is not installed: sudo apt-get install caddy")
    site = site.replace(f"{NAME} {{", f"https://{NAME}:{port} {{")
    options = f"{{\nadmin off\nauto_https disable_redirects\nstorage file_system {folder}/caddy\n}}\n"
    (folder / "Caddyfile").write_text(options + site)
    command = [program, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    yield from _running(command, port, folder)


def _running(command: list[Any], port: int, folder: Path) -> Iterator[None]:
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "proxy.log").read_text())
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


class _Addresses(HTMLParser):
    """Every address of a page that its server answers."""

    NAMES = ("href", "src", "action", "formaction", "data-src", "data-api", "data-events", "data-estimate",
             "data-plotly")  # fmt: skip

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(name, value) for name, value in attrs if name in self.NAMES and value and value[0] == "/"}


@contextmanager
def signed_in(proxied: Proxied) -> Iterator[httpx.Client]:
    client = proxied.client(headers={"Accept": "text/html", "Origin": f"https://{NAME}:{proxied.port}",
                                     "Sec-Fetch-Site": "same-origin"})  # fmt: skip
    entered = client.post(f"{proxied.root}/signin", data={"token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, f"{proxied.root}/"), entered.text[:300]
    yield client
    client.close()


def test_people_are_sent_to_sign_in_and_back_under_the_same_path(proxied: Proxied) -> None:
    with proxied.client(headers={"Accept": "text/html"}) as client:
        sent = client.get(f"{proxied.root}/workers")
        assert sent.headers["location"] == f"{proxied.root}/signin?next=%2Fworkers"
    with signed_in(proxied) as client:
        assert client.get(f"{proxied.root}/").status_code == 200
        (cookie,) = client.cookies.jar
        assert (cookie.name, cookie.path) == (identity.COOKIE, f"{proxied.root}/")
        assert cookie.secure == proxied.told


@FEW
def test_every_address_a_page_names_is_under_the_path_and_answers(proxied: Proxied) -> None:
    with signed_in(proxied) as client:
        waiting, seen = [f"{proxied.root}/"], set()
        api: set[str] = set()
        while waiting:
            page = waiting.pop()
            answer = client.get(page, follow_redirects=True)
            assert answer.status_code == 200, (page, answer.status_code)
            if "html" not in answer.headers["content-type"]:
                continue
            for name, address in _Addresses(answer.text).found:
                assert address.startswith(f"{proxied.root}/"), (page, name, address)
                assert not proxied.root or not address.startswith(proxied.root * 2), (page, name, address)
                place = urlsplit(address).path
                if place in seen or name in ("data-events", "formaction", "action"):
                    continue
                seen.add(place)
                if place.startswith(f"{proxied.root}/api/") and not place.endswith("/api/docs"):
                    api.add(address)
                elif name == "href":
                    waiting.append(address)
                else:
                    assert client.get(address).status_code == 200, (page, name, address)
        assert len(seen) > 40
        for address in sorted(api)[:40]:
            assert client.head(address).status_code in (200, 202, 303, 404, 405, 409), address
        assert client.get(f"{proxied.root}/nowhere").status_code == 404


def test_addresses_in_documents_lead_back_here(proxied: Proxied) -> None:
    with proxied.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        document = client.get(f"{proxied.root}/api/experiments/small-one").json()
        assert document["links"]["self"] == f"{proxied.root}/api/experiments/small-one"
        for address in document["links"].values():
            assert address.startswith(f"{proxied.root}/"), address
        figure = client.get(f"{proxied.root}/api/experiments/small-one/figures").json()["items"][0]
        assert client.get(figure["links"]["json"]).status_code in (200, 409)
        made = client.post(f"{proxied.root}/api/experiments/small-one/clone", json={"name": "again"})
        assert client.get(made.headers["location"]).json()["name"] == "again"
        refused = client.get(f"{proxied.root}/api/experiments/none")
        assert refused.json()["type"] == f"{proxied.root}/api/docs#not-found"
        shown = client.get(f"{proxied.root}/api/docs", headers={"Accept": "text/html"}).text
        if proxied.told:
            assert f"https://{NAME}:{proxied.port}{proxied.root}/api/experiments" in shown


def test_events_arrive_while_the_stream_is_open(proxied: Proxied) -> None:
    with (
        proxied.client(headers={"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "gzip"}) as client,
        client.stream("GET", f"{proxied.root}/api/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == ": modescape"
        proxied.site.laboratory.store.experiments.patch("small-one", notes="changed while a stream is open")
        assert any(line == "event: changed" for line in lines)


def test_another_site_changes_nothing_behind_a_proxy(proxied: Proxied) -> None:
    own = f"https://{NAME}:{proxied.port}"
    with proxied.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:

        def estimate(**headers: str) -> int:
            answer = client.post(f"{proxied.root}/api/estimate", json={"preset": "quickstart"}, headers=headers)
            return answer.status_code

        assert estimate() == 200
        assert estimate(**{"Origin": own, "Sec-Fetch-Site": "same-origin"}) == 200
        assert estimate(Origin=own) == (200 if proxied.told else 403), "no header says which port the visitor used"
        assert estimate(Origin=f"https://{NAME}:1") == 403
        assert estimate(Origin="https://evil.example") == 403
        assert estimate(**{"Origin": own, "Sec-Fetch-Site": "same-site"}) == (200 if proxied.told else 403)
        assert estimate(**{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}) == 403


def test_a_form_of_an_older_browser_is_known_by_its_referer_behind_a_proxy(proxied: Proxied) -> None:
    """Where the proxy says nothing of the port the visitor used, only the usual one can be ours."""
    place = f"{NAME}:{proxied.port}" if proxied.told else NAME
    for referer, status in (
        (f"https://{place}{proxied.root}/signin", 303),
        (f"https://{NAME}:1{proxied.root}/signin", 403),
        (f"https://evil.example/{place}{proxied.root}/signin", 403),
        ("", 403),
        (None, 403),
    ):
        headers = {"Accept": "text/html"} | ({} if referer is None else {"Referer": referer})
        with proxied.client(headers=headers) as client:
            entered = client.post(f"{proxied.root}/signin", data={"token": TOKEN})
            assert entered.status_code == status, referer


@FEW
def test_a_browser_signs_in_draws_and_launches(proxied: Proxied) -> None:
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(ignore_https_errors=True).new_page()
        broken: list[str] = []
        page.on("response", lambda answer: broken.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(proxied.url)
        page.fill("input[name=token]", TOKEN)
        page.click("main button")
        page.goto(urljoin(proxied.url, "experiments/small-one"))
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=60_000)
        page.keyboard.press("n")
        page.wait_for_url(f"{proxied.url}launch*")
        page.click("form[action$='/theme'] button")
        page.wait_for_function("document.documentElement.dataset.theme")
        page.click("button[value=launch]")
        page.wait_for_url(f"{proxied.url}experiments/*")
        expect(page.locator("[data-connection]")).to_have_text("live", timeout=20_000)
        cookies = {cookie["name"]: cookie["path"] for cookie in page.context.cookies()}
        assert cookies["theme"] == f"{proxied.root}/"
        browser.close()
    assert not broken


# -- without a proxy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/static/x", "/launch", "/a b", "/?", "//", "/../x/%2e"])
def test_a_root_path_that_cannot_be_is_refused(tmp_path: Path, path: str) -> None:
    if path == "//":
        create_app(Settings(home=tmp_path, root_path=path))  # nothing but slashes is the top
        return
    with pytest.raises(ConfigurationError, match="MODESCAPE_ROOT_PATH"):
        create_app(Settings(home=tmp_path, root_path=path))


def test_proxies_are_addresses(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MODESCAPE_TRUSTED_PROXIES"):
        create_app(Settings(home=tmp_path, trusted_proxies="nginx"))


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "lab.example.org", "X-Forwarded-Port": "8443"}


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [("127.0.0.1", True), ("10.0.0.0/8, 127.0.0.0/8", True), ("::1", False), ("10.0.0.1", False), ("", False)],
)
def test_forwarded_headers_are_believed_from_named_addresses_only(tmp_path: Path, trusted: str, believed: bool) -> None:
    with (
        served(tmp_path, token=TOKEN, allowed_hosts=NAME, trusted_proxies=trusted) as site,
        site.client(headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}) as client,
    ):
        entered = client.post("/signin", data={"token": TOKEN}, headers={"Sec-Fetch-Site": "same-origin", **FORWARDED})
        assert ("Secure" in entered.headers["set-cookie"]) == believed
        said = client.get("/api/docs", headers=FORWARDED).text
        assert ("https://lab.example.org:8443/api" in said) == believed
        lies = {"X-Forwarded-Host": "evil.example"}
        assert client.get("/healthz", headers=lies).status_code == (400 if believed else 200)
        lies = {"Host": "evil.example", "X-Forwarded-Host": NAME}
        assert client.get("/healthz", headers=lies).status_code == 400, "a page may write the second of them itself"


def test_one_socket_for_both_families_knows_a_proxy_by_its_old_address(tmp_path: Path) -> None:
    front = proxies.Front(create_app(Settings(home=tmp_path)), Settings(home=tmp_path, trusted_proxies="127.0.0.1"))
    assert front._is_trusted({"client": ("::ffff:127.0.0.1", 1)})
    assert not front._is_trusted({"client": ("::ffff:10.0.0.1", 1)})
    assert not front._is_trusted({"client": None})


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://lab.example.org", "lab.example.org", True),
        ("https://lab.example.org", "lab.example.org:443", True),
        ("http://lab.example.org:80", "lab.example.org", True),
        ("https://lab.example.org:8443", "lab.example.org", False),
        ("https://lab.example.org", "127.0.0.1:8000", True),  # Host was rewritten
        ("https://lab.example.org:8443", "127.0.0.1:8000", False),
        ("https://evil.example", "127.0.0.1:8000", False),
        ("https://evil.example", "lab.example.org", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("null", "lab.example.org", False),
        ("ftp://lab.example.org", "lab.example.org", False),
        ("https://lab.example.org@evil.example", "lab.example.org", False),
        ("https://[", "lab.example.org", False),
    ],
)
def test_an_origin_is_ours_by_host_and_port(origin: str, host: str, same: bool) -> None:
    def check() -> None:
        security.check_origin({"origin": origin, "host": host}, {NAME})

    if same:
        check()
    else:
        with pytest.raises(security.Refusal):
            check()


def test_what_people_type_is_no_link(tmp_path: Path) -> None:
    with served(tmp_path, root_path="/modescape") as site, site.client(headers={"Accept": "text/html"}) as client:
        row = finished(site.laboratory, notes='see href="/data/mine" and <a href="/x">')
        page = client.get(f"/modescape/experiments/{row.slug}").text
        assert "href=&#34;/data/mine&#34;" in page or "href=&quot;/data/mine" in page
        assert client.get(f"/experiments/{row.slug}").status_code == 200, "stripped by the proxy or not"
