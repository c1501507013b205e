"""Telling people and programs elsewhere that an experiment has ended: to which addresses, signed how, tried how often.

Webhooks follow the Standard Webhooks specification (standardwebhooks.com, 1.0): headers `webhook-id`,
`webhook-timestamp` and `webhook-signature`, the last the HMAC-SHA256 of the three parts of a message. A server that is
asked to send to any address could be made to ask its own neighbours: addresses that are not public are refused unless
the operator lists their hosts, at the moment of sending too, and a redirect is not followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import smtplib
import socket
import ssl
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from modescape.errors import ConfigurationError, InvalidInput, ModescapeError
from modescape.records import Json

SECRET_PREFIX = "whsec_"
WAITS = tuple(
    timedelta(seconds=s) for s in (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)
)  # after each failure; then no more
SECONDS = 20.0  # for a whole message, however slowly its server takes it
_STEP_SECONDS = 10.0  # until a server is there, and for each word of a mail server
# IANA's special-purpose registries, whole blocks of them: Python knows some, each version others. Of IPv6 what lies
# outside of the one block that is given out is nobody's. 168.63.129.16 is where a cloud keeps its machines' secrets.
_GIVEN_OUT = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = [ipaddress.ip_network(one) for one in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
    "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)]  # fmt: skip


class NotTaken(ModescapeError):
    """A message did not arrive; it is sent again later."""


# -- addresses --------------------------------------------------------------------------------------------------------


def checked_address(address: str, hosts: Collection[str], *, mails: bool) -> str:
    """A webhook's URL or a mail address, as it is kept. hosts: those that need not be public; mails: whether mail can
    be sent from here. Raises InvalidInput."""
    address = address.strip()
    if re.fullmatch(r"[^@\s<>,;:\"()\[\]\\]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}", address):
        if not mails:
            raise InvalidInput("mail cannot be sent from here", field="address", allowed="MODESCAPE_SMTP_URL set first")
        return address
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = (parts.hostname or "").rstrip(".")
    plain = parts.scheme == "http" and host in hosts
    if not host or not (parts.scheme == "https" or plain) or parts.username or parts.password or parts.fragment:
        raise InvalidInput(
            f"is {address[:200]!r}", field="address",
            allowed="https://host/path, without a name and password, or a mail address; http:// for hosts in "
            "MODESCAPE_NOTIFY_HOSTS",
        )  # fmt: skip
    if port == 0 or len(address) > 2000 or not address.isprintable():
        raise InvalidInput(f"is {address[:200]!r}", field="address", allowed="an address of at most 2,000 characters")
    if _as_ip(host) is not None and host not in hosts:
        _check_public(host, _as_ip(host), field="address")
    return address


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether anybody on the internet has that address."""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(found.ipv4_mapped)
        if found not in _GIVEN_OUT:
            return False
    if any(found in network for network in _NOT_PUBLIC if network.version == found.version):
        return False
    return found.is_global and not found.is_multicast


def _check_public(host: str, found: Any, *, field: str) -> None:
    if not is_public(found):
        raise InvalidInput(
            f"{host} is {found}, which is not public" if host != str(found) else f"{host} is not public",
            field=field, allowed="a public host, or one that the operator lists in MODESCAPE_NOTIFY_HOSTS",
        )  # fmt: skip


def reached_at(host: str, port: int, hosts: Collection[str]) -> str:
    """The IP address to send to, found once and checked: a name may lead elsewhere the next time it is asked. Raises
    NotTaken."""
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise NotTaken(f"{host} is not found ({error})") from None
    if host not in hosts:
        for address in found:
            try:
                _check_public(host, ipaddress.ip_address(str(address).partition("%")[0]), field="")
            except InvalidInput as error:
                raise NotTaken(error.message) from None
    return str(found[0])


# -- webhooks ---------------------------------------------------------------------------------------------------------


def new_secret() -> str:
    """With which the messages to one address are signed."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(secret: str, id_: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of a message (Standard Webhooks 1.0)."""
    moment = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    told = hmac.digest(key, b".".join((id_.encode(), moment.encode(), body)), hashlib.sha256)
    signature = f"v1,{base64.b64encode(told).decode()}"
    return {"webhook-id": id_, "webhook-timestamp": moment, "webhook-signature": signature}


def send_webhook(
    address: str,
    secret: str,
    id_: str,
    at: datetime,
    payload: Json,
    hosts: Collection[str],
    *,
    verify: ssl.SSLContext | bool = True,
) -> None:
    """Send a message once. Raises NotTaken unless the server says within `SECONDS` that it has it (2xx)."""
    import asyncio  # as late as somebody is told something: each command would load these

    import httpx

    body = orjson.dumps(payload, option=orjson.OPT_UTC_Z)
    parts = urlsplit(address)
    host, port = (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
    found = reached_at(host, port, hosts)
    there = httpx.URL(address).copy_with(host=found)
    headers = {
        "host": parts.netloc,
        "content-type": "application/json",
        "user-agent": "Modescape",
        **signed(secret, id_, at, body),
    }

    times = httpx.Timeout(SECONDS, connect=_STEP_SECONDS)

    async def sent() -> httpx.Response:
        options: dict[str, Any] = {"verify": verify, "trust_env": False, "follow_redirects": False}
        async with asyncio.timeout(SECONDS), httpx.AsyncClient(timeout=times, **options) as client:
            request = client.build_request(
                "POST", there, content=body, headers=headers, extensions={"sni_hostname": host}
            )
            answer = await client.send(request, stream=True)  # what it says besides is not read
            await answer.aclose()
            return answer

    try:
        answer = asyncio.run(sent())
    except TimeoutError:
        raise NotTaken(f"{host} has not taken it within {SECONDS:.0f} s") from None
    except (httpx.HTTPError, OSError) as error:
        raise NotTaken(f"{host} does not take it ({type(error).__name__}: {error})") from None
    if not answer.is_success:
        told = " a redirect, which is not followed," if answer.is_redirect else ""
        raise NotTaken(f"{host} answered{told} {answer.status_code}")


# -- mail -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MailServer:
    """Of MODESCAPE_SMTP_URL: smtp://user:password@host:587 (STARTTLS), smtps://…:465, smtp+plain://… of the house."""

    host: str
    port: int
    security: str
    user: str = ""
    password: str = ""

    @classmethod
    def of(cls, url: str) -> MailServer:
        """Raises ConfigurationError, which quotes none of it."""
        try:
            parts = urlsplit(url)
            ports = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
            return cls(
                host=parts.hostname or "", port=parts.port or ports[parts.scheme], security=parts.scheme,
                user=unquote(parts.username or ""), password=unquote(parts.password or ""),
            )  # fmt: skip
        except (ValueError, KeyError):
            raise ConfigurationError(
                "MODESCAPE_SMTP_URL is not smtp://, smtps:// or smtp+plain:// with user:password@host:port"
            ) from None


def send_mail(server: MailServer, sender: str, address: str, id_: str, subject: str, text: str) -> None:
    """Send a message once. Raises NotTaken, also where the server has not taken it within `SECONDS`."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, address, " ".join(subject.split())
    message["Message-ID"] = f"<{id_}@{sender.rpartition('@')[2] or 'modescape'}>"
    message.set_content(text)
    context = ssl.create_default_context()
    try:
        if server.security == "smtps":
            there: smtplib.SMTP = smtplib.SMTP_SSL(timeout=_STEP_SECONDS, context=context)
        else:
            there = smtplib.SMTP(timeout=_STEP_SECONDS)
        there._host = server.host  # type: ignore[attr-defined]  # the name that TLS checks, else that of the constructor
        with _ended_after(SECONDS, there), there:
            code, said = there.connect(server.host, server.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if server.security == "smtp":
                there.starttls(context=context)
            if server.user:
                there.login(server.user, server.password)
            there.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise NotTaken(f"the mail server does not take it ({type(error).__name__})") from None


@contextmanager
def _ended_after(seconds: float, there: smtplib.SMTP) -> Iterator[None]:
    """A conversation whose line is cut after so long: smtplib knows a time for each word alone."""
    over = threading.Event()

    def watch() -> None:
        if not over.wait(seconds):
            while not over.wait(0.1):  # it may be connecting yet
                with suppress(OSError, AttributeError):
                    there.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    watching = threading.Thread(target=watch, name="mail", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


# -- what is said -----------------------------------------------------------------------------------------------------


def in_words(payload: Json, url: str) -> tuple[str, str]:
    """Subject and text of a mail."""
    about = payload["data"]
    lines = [
        f"{about['name']} has {'been ' if about['status'] == 'cancelled' else ''}{about['status']}.",
        about.get("sentence") or "",
        f"What failed first: {about['error']}" if about.get("error") else "",
        f"{url}/experiments/{about['slug']}",
    ]
    return f"{about['name']}: {about['status']}", "\n\n".join(filter(None, lines)) + "\n"


def hosts_of(listed: str) -> frozenset[str]:
    return frozenset(_hosts(listed))


def _hosts(listed: str) -> Iterator[str]:
    for host in listed.split(","):
        if host.strip():
            yield host.strip().lower().strip("[]")
