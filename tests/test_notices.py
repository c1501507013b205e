"""Webhooks and mails when experiments end: written down with the change, signed, sent again, to no neighbours."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from ports import free_port
from serving import SPEC, Served, served, work
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from modescape import notices
from modescape.acting import Actor, UserRole, acting
from modescape.errors import ConfigurationError, Forbidden, InvalidInput, NotFound
from modescape.laboratory import Laboratory
from modescape.notices import MailServer, NotTaken
from modescape.settings import Settings
from modescape.store import Store
from modescape.store.notices import ENDINGS
from modescape.tables import Notice
from modescape.testing.stores import claim, create, finish

HOME = frozenset(("127.0.0.1", "hooks.example.org"))


class Hook:
    """A server of somebody else's: what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.port = 0

    @contextmanager
    def running(self, context: ssl.SSLContext | None = None) -> Iterator[Hook]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.sent.append((headers, self.rfile.read(length)))
                status = hook.answers.pop(0) if hook.answers else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            self.port = server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self
            server.shutdown()


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["ftp://a.example", "http://a.example/", "https://", "https://u:p@a.example/", "https://a.example/#x", "a@b",
     "a b@c.de", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/", "https://169.254.169.254/latest",
     "https://192.168.0.1", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://[fe80::1]/",
     "https://0.0.0.0/", "https://224.0.0.1/", "https://a.example:0/", "https://a.example:x/", "javascript:alert(1)",
     "https://[", "x" * 3000, "a@b.de\nBcc: c@d.de"],
)  # fmt: skip
def test_addresses_that_are_none_or_of_neighbours_are_refused(address: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        notices.checked_address(address, frozenset(), mails=True)
    assert refused.value.field == "address"
    assert refused.value.allowed


@pytest.mark.parametrize("address", ["https://a.example/b?c=d", "https://93.184.216.34:8443/", "ada@lab.example.org"])
def test_public_addresses_are_taken(address: str) -> None:
    assert notices.checked_address(address, frozenset(), mails=True) == address
    assert notices.checked_address("http://127.0.0.1:8000/x", HOME, mails=False), "listed"
    with pytest.raises(InvalidInput, match="MODESCAPE_SMTP_URL"):
        notices.checked_address("ada@lab.example.org", frozenset(), mails=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("100.64.0.1", False), ("::ffff:8.8.8.8", True),
     ("2002:a00:1::", False), ("::ffff:127.0.0.1", False), ("192.0.2.1", False),
     ("255.255.255.255", False), ("fd00::1", False), ("::", False),
     ("::8.8.8.8", False), ("fec0::3", False), ("64:ff9b:1::808:808", False), ("168.63.129.16", False)],
)  # fmt: skip
def test_what_is_public(address: str, public: bool) -> None:
    assert notices.is_public(ipaddress.ip_address(address)) == public


# iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, every block that is in them
SPECIAL = [
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32",
    "192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32",
    "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
    "255.255.255.255/32", "::1/128", "::/128", "::ffff:0:0/112", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64",
    "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48",
    "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16",
    "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8", "224.0.0.0/4",
]  # fmt: skip


@pytest.mark.parametrize("block", SPECIAL)
def test_no_block_with_a_special_purpose_is_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    for place in (0, network.num_addresses // 2, network.num_addresses - 1):
        assert not notices.is_public(network[place]), network[place]
        if network.version == 4:
            assert not notices.is_public(ipaddress.ip_address(f"::ffff:{network[place]}"))


@pytest.mark.parametrize("address", ["4000::1", "1fff::1", "e000::1", "::1:0:0:0:0"])
def test_of_ipv6_what_nobody_was_given_is_not_public(address: str) -> None:
    assert not notices.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "192.0.1.1", "192.1.0.1", "198.20.0.1", "203.0.112.1", "2001:4860:4860::8888", "2001:200::1",
                "2a00:1450:4001::1", "3ffe:ffff::1", "2620:4f:8001::1"],
)  # fmt: skip
def test_addresses_beside_those_are_public(address: str) -> None:
    assert notices.is_public(ipaddress.ip_address(address))


def test_a_name_that_leads_to_a_neighbour_is_not_sent_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it led elsewhere when the address was added."""
    told: list[Any] = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: told)
    with pytest.raises(NotTaken, match=r"hooks\.example\.org is 10\.0\.0\.1, which is not public"):
        notices.reached_at("hooks.example.org", 443, frozenset())
    assert notices.reached_at("hooks.example.org", 443, HOME) == "8.8.8.8"
    del told[1]
    assert notices.reached_at("hooks.example.org", 443, frozenset()) == "8.8.8.8"


# -- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_is_signed_as_the_specification_says() -> None:
    """Verified by the library of those who wrote it."""
    secret, at = notices.new_secret(), datetime.now(UTC)
    headers = notices.signed(secret, "msg_1", at, b'{"a": 1}')
    assert Webhook(secret).verify(b'{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a": 2}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(notices.new_secret()).verify(b'{"a": 1}', headers)


def test_a_webhook_gets_the_message_whole_and_its_answer_counts() -> None:
    with Hook().running() as hook:
        send = lambda: notices.send_webhook(  # noqa: E731
            f"http://127.0.0.1:{hook.port}/a?b=c", secret, "msg_1", datetime.now(UTC), {"type": "t"}, HOME
        )
        secret = notices.new_secret()
        send()
        ((headers, body),) = hook.sent
        assert Webhook(secret).verify(body, headers) == {"type": "t"}
        assert headers["host"] == f"127.0.0.1:{hook.port}"
        for status, said in ((302, "redirect"), (500, "500"), (404, "404")):
            hook.answers.append(status)
            with pytest.raises(NotTaken, match=said):
                send()
        assert len(hook.sent) == 4, "a redirect is not followed"
    with pytest.raises(NotTaken, match="ConnectError"):
        send()


def test_over_tls_the_name_is_checked_though_the_number_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=x", "-addext", "subjectAltName=DNS:hooks.example.org"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(certificate)
    real = socket.getaddrinfo
    here = lambda host, *more, **named: real("127.0.0.1" if "example" in str(host) else host, *more, **named)  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", here)
    with Hook().running(context) as hook:
        for host, taken in (("hooks.example.org", True), ("other.example.org", False)):
            asked = (f"https://{host}:{hook.port}/", notices.new_secret(), "msg_1", datetime.now(UTC), {}, {host})
            if taken:
                notices.send_webhook(*asked, verify=trusting)
            else:
                with pytest.raises(NotTaken, match="certificate"):
                    notices.send_webhook(*asked, verify=trusting)
    assert len(hook.sent) == 1
    assert hook.sent[0][0]["host"] == f"hooks.example.org:{hook.port}"


class Mails:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.sent.append(envelope)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[Mails, str]]:
    mails, port = Mails(), free_port()
    controller = Controller(mails, hostname="127.0.0.1", port=port)
    controller.start()
    yield mails, f"smtp+plain://127.0.0.1:{port}"
    controller.stop()


def test_a_mail_says_what_ended_and_where() -> None:
    payload = {
        "data": {
            "name": "Two\r\nBcc: x@y.z",
            "status": "failed",
            "slug": "two",
            "sentence": None,
            "error": "train/0: no",
        }
    }
    subject, text = notices.in_words(payload, "https://lab.example.org")
    with mail_server() as (mails, url):
        server = MailServer.of(url)
        notices.send_mail(server, "modescape@lab.example.org", "ada@lab.example.org", "msg_1", subject, text)
    (envelope,) = mails.sent
    assert envelope.rcpt_tos == ["ada@lab.example.org"]
    written = envelope.content.decode()
    assert "Subject: Two Bcc: x@y.z: failed" in written
    assert "\nBcc:" not in written.partition("\r\n\r\n")[0]
    assert "train/0: no" in written
    assert "https://lab.example.org/experiments/two" in written
    with pytest.raises(NotTaken):
        notices.send_mail(server, "a@b.de", "ada@lab.example.org", "msg_1", subject, text)


def test_a_mail_servers_address_is_read_or_refused_without_its_password() -> None:
    assert MailServer.of("smtps://a%40b:p%3Aw@mail.example") == MailServer("mail.example", 465, "smtps", "a@b", "p:w")
    assert MailServer.of("smtp://mail.example").port == 587
    for wrong in ("http://u:secret@mail.example", "smtp://u:secret@mail.example:x"):
        with pytest.raises(ConfigurationError) as refused:
            MailServer.of(wrong)
        assert "secret" not in str(refused.value)


# -- what is written down ---------------------------------------------------------------------------------------------


def ended(store: Store, name: str = "Toy", **how: Any) -> str:
    row = create(store, name=name)
    while store.experiments.get(row.id).status not in ENDINGS:
        finish(store, claim(store))
    return row.id


def test_who_asked_for_an_ending_is_told_of_it_once(store: Store) -> None:
    store.notices.add("https://a.example/all", ENDINGS, "whsec_")
    only = store.notices.add("https://a.example/failed", ["failed"], "whsec_")
    id_ = ended(store, "good")
    cancelled = create(store, name="stopped")
    store.experiments.cancel(cancelled.id)
    failing = create(store, name="bad")
    lease = claim(store, experiment=failing)
    store.leases.fail(lease, {"type": "X", "message": "broken", "traceback": ""})
    for stage in store.stages.of(failing.id):
        if stage.state == "ready":
            store.leases.fail(claim(store), {"type": "X", "message": "broken", "traceback": ""})
    told = [
        (one.address.rpartition("/")[2], notice.payload)
        for one in store.notices.recipients()
        for notice in store.notices.of(one.id)
    ]
    assert sorted((who, payload["type"], payload["data"]["slug"]) for who, payload in told) == [
        ("all", "experiment.cancelled", "stopped"), ("all", "experiment.failed", "bad"),
        ("all", "experiment.succeeded", "good"),
        ("failed", "experiment.failed", "bad"),
    ]  # fmt: skip
    data = next(payload["data"] for _, payload in told if payload["data"]["slug"] == "bad")
    assert (data["status"], "broken" in data["error"]) == ("failed", True)
    claimed = [store.notices.claim() for _ in range(3)]
    assert [due is not None for due in claimed] == [True, True, False], "one to each address at a time"
    store.experiments.retry(failing.id)
    assert store.notices.waiting() == 4, "nothing new while it runs"
    store.notices.remove(only.id)
    assert store.notices.waiting() == 3, "what was to be told there is forgotten"
    assert id_


def test_what_does_not_arrive_is_sent_again_later_each_time_and_at_last_given_up(store: Store) -> None:
    recipient = store.notices.add("https://a.example/", ENDINGS, "whsec_")
    ended(store)
    due = store.notices.claim()
    assert due is not None
    id_, waits = due.notice.id, []
    for _ in range(len(notices.WAITS)):
        store.notices.failed(id_, "no")
        (row,) = store.notices.of(recipient.id)
        assert row.next_at is not None
        waits.append(row.next_at - datetime.now(UTC))
        assert store.notices.claim() is None, "not yet due"
        _make_due(store)
        again = store.notices.claim()
        assert again is not None
        assert again.notice.id == id_
    assert all(abs(got - wanted) < timedelta(seconds=5) for got, wanted in zip(waits, notices.WAITS, strict=True))
    store.notices.failed(id_, "no")
    (row,) = store.notices.of(recipient.id)
    assert (row.next_at, row.told_at, row.error, row.attempts) == (None, None, "no", len(notices.WAITS) + 1)
    assert store.notices.waiting() == 0


def _make_due(store: Store) -> None:
    with store.notices.database.writing() as change:
        change.session.execute(update(Notice).values(next_at=change.now, claimed_until=None))


@pytest.mark.slow
def test_one_of_several_servers_sends_a_message_and_another_after_a_kill(store: Store) -> None:
    store.notices.add("https://a.example/", ENDINGS, "whsec_")
    for number in range(20):
        ended(store, f"n{number}")
    taken: list[str] = []

    def take() -> None:
        while len(taken) < 20:
            if (due := store.notices.claim()) is not None:
                taken.append(due.notice.id)
                store.notices.told(due.notice.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 20
    ended(store, "last")
    due = store.notices.claim()
    assert due is not None
    assert store.notices.claim() is None
    with store.notices.database.writing() as change:  # whoever had it was killed
        change.session.execute(update(Notice).values(claimed_until=change.now - timedelta(seconds=1)))
    again = store.notices.claim()
    assert again is not None
    assert again.notice.id == due.notice.id


def test_one_address_that_fails_delays_only_its_own(store: Store) -> None:
    bad, good = (store.notices.add(f"https://{name}.example/", ENDINGS, "whsec_") for name in ("bad", "good"))
    for number in range(3):
        ended(store, f"n{number}")
    told = []
    for _ in range(4):
        due = store.notices.claim()
        assert due is not None
        told.append(due.recipient.address)
        if due.recipient.id == bad.id:
            store.notices.failed(due.notice.id, "no")
        else:
            store.notices.told(due.notice.id)
    assert store.notices.claim() is None, "the others of the one that fails wait, too"
    assert sorted(told) == [bad.address, *[good.address] * 3]
    waiting = [one for one in store.notices.of(bad.id) if one.next_at is not None]
    assert sorted(one.attempts for one in waiting) == [0, 0, 1], "and are tried as often as they would have been"


def test_addresses_are_for_admins(store: Store) -> None:
    row = store.notices.add("https://a.example/", ENDINGS, "whsec_")
    with acting(Actor("bob", UserRole.RESEARCHER)):
        for verb in (
            lambda: store.notices.add("https://b.example/", ENDINGS, ""),
            lambda: store.notices.remove(row.id),
            lambda: store.notices.test(row.id),
        ):
            with pytest.raises(Forbidden):
                verb()
    for missing in (store.notices.remove, store.notices.test, store.notices.of):
        with pytest.raises(NotFound):
            missing("none")


@contextmanager
def dripping(word: bytes, every: float) -> Iterator[int]:
    """A server that goes on saying something, and never has said all: its port."""
    over = threading.Event()

    def talk(line: socket.socket) -> None:
        with line, suppress(OSError):
            while not over.wait(every):
                line.sendall(word)

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield listening.getsockname()[1]
        over.set()


def test_who_takes_a_message_word_by_word_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "SECONDS", 0.5)
    with dripping(b"X", 0.05) as port, pytest.raises(NotTaken, match="within"):
        notices.send_webhook(f"http://127.0.0.1:{port}/", notices.new_secret(), "msg_1", datetime.now(UTC), {}, HOME)
    began = time.monotonic()
    with dripping(b"2", 0.05) as port, pytest.raises(NotTaken):
        notices.send_mail(MailServer("127.0.0.1", port, "smtp+plain"), "a@b.de", "c@d.ef", "msg_1", "s", "t")
    assert time.monotonic() - began < 5


def test_who_thinks_for_long_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "SECONDS", 5.0)
    monkeypatch.setattr(notices, "_STEP_SECONDS", 0.2)

    def answer(listening: socket.socket) -> None:
        line, _ = listening.accept()
        with line:
            line.recv(65536)
            time.sleep(0.8)
            line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        notices.send_webhook(address, notices.new_secret(), "msg_1", datetime.now(UTC), {}, HOME)


@pytest.mark.slow
def test_a_slow_address_holds_up_no_other(tmp_path: Path, hook: Hook, wait_until: Any) -> None:
    with served(tmp_path, notify_hosts="127.0.0.1") as site, dripping(b"H", 0.2) as port:
        store = site.laboratory.store
        for number in (port, hook.port):
            store.notices.add(f"http://127.0.0.1:{number}/", ENDINGS, notices.new_secret())
        for number in range(5):
            ended(store, f"n{number}")
        began = time.monotonic()
        wait_until(lambda: len(hook.sent) == 5, 15, "what is to be told elsewhere")
        assert time.monotonic() - began < notices.SECONDS
        assert store.notices.waiting() == 5


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook().running() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with mail_server() as (mails, url), served(tmp_path, notify_hosts="127.0.0.1", smtp_url=url) as running:
        running.app.state.mails = mails
        yield running


@pytest.mark.slow
def test_an_experiment_that_ends_is_told_by_webhook_and_mail(site: Served, hook: Hook, wait_until: Any) -> None:
    with site.client() as client:
        wrong = client.post("/api/recipients", json={"address": "https://10.0.0.1/"})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "address")
        wrong = client.post("/api/recipients", json={"address": "a@b.example", "endings": ["done"]})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "endings")
        made = client.post("/api/recipients", json={"address": f"http://127.0.0.1:{hook.port}/hook"}).json()
        client.post("/api/recipients", json={"address": "ada@lab.example.org", "endings": ["succeeded"]})
        assert "secret" not in client.get("/api/recipients").text
        hook.answers.append(503)  # and again five seconds later
        laboratory: Laboratory = site.laboratory
        row = laboratory.create(SPEC, name="told")
        work(laboratory, row.id)
        wait_until(lambda: len(hook.sent) == 2, 20, "the webhook to be tried twice")
        first, second = (Webhook(made["secret"]).verify(body, headers) for headers, body in hook.sent)
        assert first == second
        assert (first["type"], first["data"]["slug"], first["data"]["created_by"]) == (
            "experiment.succeeded", "told", row.created_by
        )  # fmt: skip
        assert hook.sent[0][0]["webhook-id"] == hook.sent[1][0]["webhook-id"], "by which a repeat is known"
        mails = site.app.state.mails
        wait_until(lambda: mails.sent, 20, "the mail")
        assert f"{site.url}/experiments/told" in mails.sent[0].content.decode()
        address = f"/api/recipients/{made['id']}"
        wait_until(lambda: client.get(f"{address}/notices").json()["items"][0]["state"] == "told", 10, "it to be kept")
        (kept,) = client.get(f"{address}/notices").json()["items"]
        assert kept["attempts"] == 2
        assert client.post(f"{address}/test").status_code == 202
        wait_until(lambda: len(hook.sent) == 3, 20, "the message to try it")
        assert json.loads(hook.sent[2][1])["type"] == "test"
        assert client.delete(address).status_code == 204
        assert client.delete(address).status_code == 404


def test_settings_show_no_password_of_the_mail_server() -> None:
    from modescape.settings import shown

    assert "hidden" not in shown(Settings(smtp_url="smtp://u:hidden@mail.example"), "smtp_url")  # type: ignore[arg-type]
