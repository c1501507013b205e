"""What secrets and names of users are like, and how long one waits after failing to sign in.

Passwords are kept as Argon2id hashes (RFC 9106) with the parameters OWASP's Password Storage Cheat Sheet (2024) names
first: 19 MiB, two passes, one lane; some 25 ms each. Tokens and sign-ins are 256 random bits, of which SHA-256 is kept:
what nobody can guess needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import unicodedata
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from modescape import extras, names
from modescape.acting import NOBODY, account
from modescape.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LONGEST_DAYS = 3650  # of a token that ends
TOKEN_PREFIX = "modescape_"  # by which scanners of repositories know a token that was left in one
OPERATOR = "operator"  # the name of who shows a secret of the server itself: MODESCAPE_TOKEN, or the home's key
RETENTION = "retention"  # the name under which workers delete what was archived for long

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1000  # characters
LONGEST_NAME = 64
SESSION = timedelta(days=30)
CODE = timedelta(minutes=10)  # in which an address that signs in once must be opened
KNOWN = timedelta(days=365)  # for which a browser stays known that a user has not signed in with

FREE_FAILURES = {"user": 5, "address": 20, "browser": 5}  # before one waits at all: many share an address
LONGEST_WAIT = {"user": 30.0, "address": 900.0, "browser": 900.0}  # seconds: strangers hold up the user no longer
HALVED = timedelta(minutes=10)  # how long until failures count half
FORGOTTEN = timedelta(days=1)  # and until they are forgotten
GUESSABLE = 32  # characters: a longer secret of the server is guessed by nobody, and has no limit


# -- names and passwords ----------------------------------------------------------------------------------------------


def checked_name(name: str, *, field: str = "name") -> str:
    """A user's name as it is kept. Raises InvalidInput."""
    name = unicodedata.normalize("NFKC", names.checked(name, field=field, longest=LONGEST_NAME))
    if not re.fullmatch(r"\w[\w.@+-]*", name):
        raise InvalidInput(
            f"is {name!r}", field=field,
            allowed="letters, digits and . _ - @ +, a letter or digit first, without spaces, such as ada.lovelace",
        )  # fmt: skip
    others = {
        OPERATOR: "whoever shows the server's own token",
        RETENTION: "what deletes what was archived for long",
        key_of(NOBODY.name): "whoever has not signed in",
        key_of(account()): "the account of this machine that runs Modescape",
    }
    if (stands_for := others.get(key_of(name))) is not None:
        raise InvalidInput(f"is {name!r}, which stands for {stands_for}", field=field, allowed="another name")
    return name


def key_of(name: str) -> str:
    """By which names are compared: `Ada` and `ada` are one."""
    return unicodedata.normalize("NFKC", name).casefold()


def checked_password(password: str, name: str, *, field: str = "password") -> str:
    """Raises InvalidInput for one that is short, or the name. Nothing else is asked of it: length is what counts (NIST
    SP 800-63B)."""
    allowed = f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters of any kind, not the name"
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidInput(f"has {len(password)} characters", field=field, allowed=allowed)
    if key_of(password) == key_of(name):
        raise InvalidInput("is the user's name", field=field, allowed=allowed)
    try:
        password.encode()
    except UnicodeEncodeError:
        raise InvalidInput("has half a character", field=field, allowed=allowed) from None
    return password


def hash_password(password: str) -> str:
    """As it is kept: Argon2id with its salt and parameters."""
    return _hasher().hash(password)


def password_holds(password: str, kept: str | None) -> bool:
    """Whether it is the one that was kept. None, of a user that is not there, takes as long and is never so."""
    from argon2.exceptions import VerificationError

    try:
        return _hasher().verify(kept or _nobody(), password) and kept is not None
    except (VerificationError, UnicodeEncodeError):
        return False


@lru_cache
def _hasher() -> PasswordHasher:
    extras.require("server", "passwords", "argon2")
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@lru_cache
def _nobody() -> str:
    return hash_password(secrets.token_urlsafe(32))


# -- secrets ----------------------------------------------------------------------------------------------------------


def new_secret(prefix: str = "") -> str:
    """256 random bits as text."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Under which a secret of 256 random bits is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same(given: str, secret: str) -> bool:
    """Compares in a time that tells neither the place where they differ nor the secret's length."""
    return hmac.compare_digest(digest(given), digest(secret))


def home_key(home: Path, *, make: bool = False) -> str | None:
    """The secret of a home, which whoever can read its files can show; None where there is none, unless it is to be
    made: once, and the same after every restart. Raises ConfigurationError where it can be neither read nor made."""
    path = home / "key"
    with suppress(FileNotFoundError, NotADirectoryError):
        return _read_key(path)
    if not make:
        return None
    fresh = path.with_name(f".key-{secrets.token_hex(8)}")
    try:
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(new_secret(), encoding="utf-8")
        with suppress(FileExistsError):  # another process was first
            path.hardlink_to(fresh)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made ({error.strerror})") from None
    finally:
        fresh.unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except PermissionError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from None
    if len(key) < 32:
        raise ConfigurationError(f"{path} holds no key of ours; delete it and start again")
    return key


# -- failures ---------------------------------------------------------------------------------------------------------


def of_user(name: str) -> str:
    """Under which failures with a user's name are counted, whether or not there is such a user."""
    return f"user {digest(key_of(name))[:32]}"  # somebody may have typed a password here


def of_address(address: str) -> str:
    """Under which failures from an address are counted: of IPv6 the network, which one person has to themselves."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return f"address {address[:64]}"
    found = getattr(found, "ipv4_mapped", None) or found
    return f"address {found if found.version == 4 else ipaddress.ip_network((found, 64), strict=False)}"


def of_browser(known: str, name: str) -> str:
    """Under which failures with a user's name are counted in a browser that is known by what has the digest `known`:
    who else signs in there neither uses them up nor clears them."""
    return f"browser {digest(known + key_of(name))}"


def still(count: int, passed: timedelta) -> int:
    """What of `count` failures counts when the last of them is so long ago."""
    return count >> min(63, max(0, int(passed / HALVED)))


def wait_after(key: str, count: int) -> float:
    """Seconds that must pass after the last of `count` failures: none at first, then twice as long each time, up to a
    longest, so that nobody is kept out for good."""
    kind = key.partition(" ")[0]
    free = FREE_FAILURES[kind]
    return 0.0 if count < free else float(min(LONGEST_WAIT[kind], 2.0 ** min(count - free, 20)))
