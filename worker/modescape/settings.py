"""Where things are and how the services run: environment variables MODESCAPE_..., listed by `modescape settings`.

Nothing here changes a result; what does belongs in the experiment's spec. Read in app, celery_queue and cli only, then
passed.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modescape import neighbours
from modescape.errors import ConfigurationError
from modescape.records import Queue
from modescape.users import home_key

if TYPE_CHECKING:
    from sqlalchemy import URL

    from modescape.artifacts.objects import Address

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MODESCAPE_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "modescape",
        description="Folder of the embedded database, the queue and the artifacts.",
    )
    host: str = Field(
        "127.0.0.1", description="Address the server listens on (:: is all, IPv6 and IPv4); beyond loopback a token "
        "is required.",
    )  # fmt: skip
    port: int = Field(8000, ge=1, le=65535, description="Port of the API and the pages.")
    token: SecretStr | None = Field(
        None, description="Secret by which programs and people come in as admins; beyond loopback it or an account of "
        "an admin is required.",
    )  # fmt: skip
    open: bool = Field(
        False, description="On loopback, let in every account of this machine; else only the one the server runs under."
    )
    open_links: bool = Field(
        False, description="Let whoever has a link that a researcher shared read what it leads to without signing in."
    )
    allowed_hosts: str = Field("", description="Further host names the server answers to, separated by commas.")
    root_path: str = Field("", description="Path a proxy serves this server under, such as /modescape.")
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks whose X-Forwarded-For, -Proto, -Host and -Port are believed, with commas.",
    )
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; empty means SQLite in the home folder.")
    database_password: SecretStr | None = Field(
        None, description="Password for database_url, any characters; in the URL itself they must be percent-encoded."
    )
    broker_url: SecretStr | None = Field(
        None, description="Celery broker, such as redis://host:6379/0; empty means a folder in home."
    )
    broker_password: SecretStr | None = Field(None, description="Password for broker_url, any characters.")
    artifacts: Path | str | None = Field(
        None, description="Where arrays and weights are kept: a folder, or a bucket on S3-compatible storage, "
        "s3://bucket/prefix; empty means `artifacts` in home.",
    )  # fmt: skip
    s3_endpoint: str = Field(
        "", description="Address of the S3-compatible server, such as https://s3.example.org:9000; empty: as AWS's own "
        "tools find it.",
    )  # fmt: skip
    s3_region: str = Field("", description="Region of the bucket; empty: as AWS's own tools find it.")
    s3_key: SecretStr | None = Field(
        None, description="Access key for the bucket; empty: as AWS's own tools find one (AWS_ACCESS_KEY_ID, a profile "
        "or a role).",
    )  # fmt: skip
    s3_secret: SecretStr | None = Field(None, description="Secret that goes with s3_key.")
    cache: Path | None = Field(
        None, description="Folder of copies of what a bucket holds, this machine's own; empty means `cache` in home."
    )
    cache_gigabytes: float = Field(
        10.0, gt=0, description="Gigabytes that those copies may take; what was not used for longest goes first."
    )
    data: str = Field("", description="Folders to look for data sets in, separated by colons, before the usual places.")
    data_roots: str = Field(
        "", description="Folders users may register data from, separated by colons; empty: the data folders."
    )
    workers: int | None = Field(
        None, ge=0, le=256, description="Workers `modescape up` starts; empty means one per core."
    )
    device: str = Field("auto", description="auto, cpu or cuda.")
    queues: str = Field(
        "", description="Queues that a worker takes stages from, separated by commas, of cpu (gathering and judging), "
        "gpu (training and predicting) and long (whatever is expected to take over an hour); empty: all.",
    )  # fmt: skip
    lease_seconds: float = Field(30.0, gt=0.5, le=3600, description="How long a silent worker keeps its stage.")
    rest_seconds: float = Field(
        300.0, gt=0, description="How long a worker without work keeps in memory what computing needs (some 400 MB); "
        "then it begins afresh, and its next stage some seconds later.",
    )  # fmt: skip
    plugins: str = Field(
        "", description="Modules with entries of your own, separated by commas, beside those that entry points name."
    )
    upload_quota: float = Field(
        20.0, gt=0, description="Gigabytes that files sent to this server may take until something is made of them, "
        "those of one user half of it, admins aside.",
    )  # fmt: skip
    import_memory: float = Field(
        2.0, ge=0.5, description="Gibibytes of memory for the process that reads what was sent, beyond the files."
    )
    import_seconds: float = Field(600.0, gt=0, description="Seconds that process may take for what was sent together.")
    read_memory: float = Field(
        4.0, ge=0.25, description="Gibibytes of memory for a process that reads users' data sets for the server."
    )
    read_seconds: float = Field(600.0, gt=0, description="Seconds that process may take for one set.")
    read_pixels: int = Field(
        178_956_970, ge=1, description="Pixels of the largest picture of a user's own that is read, by workers too."
    )
    read_unpacked: float = Field(
        8.0, gt=0, description="Gibibytes that a user's .npz file may hold once unpacked, for workers too."
    )
    public_url: str = Field("", description="Address under which people open this server, for links in mails.")
    notify_hosts: str = Field(
        "", description="Hosts that may be told of experiments although they are not public, separated by commas."
    )
    smtp_url: SecretStr | None = Field(
        None, description="Mail server: smtp://user:password@host:587 (STARTTLS), smtps://… or smtp+plain://…; empty: "
        "no mails.",
    )  # fmt: skip
    mail_from: str = Field("modescape@localhost", description="Sender of mails.")
    keep_events: int = Field(
        20_000, ge=1000, description="How many of the last events are kept, for pages and programs that were away."
    )
    keep_days: float = Field(
        90.0, ge=0, description="Days until workers that were not heard of, and keys of requests that may be repeated, "
        "are forgotten; 0: never.",
    )  # fmt: skip
    keep_selections_days: float = Field(
        365.0, ge=0, description="Days until a selection of solutions that an address names by a key is forgotten; 0: "
        "never.",
    )  # fmt: skip
    keep_deeds_days: float = Field(0.0, ge=0, description="Days until it is forgotten who did what; 0: never.")
    keep_archived_days: float = Field(
        0.0, ge=0, description="Days after which archived experiments are deleted for good; 0: never."
    )
    max_gigabytes: float | None = Field(
        None, ge=0, description="Gigabytes that one launch may keep; empty: what is free on the artifacts' disk, less "
        "5 %, and in a bucket any; 0: any.",
    )  # fmt: skip
    user_gigabytes: float = Field(
        0.0, ge=0, description="Gigabytes that experiments of one user may keep, admins' aside; 0: any."
    )
    user_machine_days: float = Field(
        0.0, ge=0, description="Days of machine time that one user may have waiting, admins aside; 0: any."
    )
    max_machine_days: float = Field(
        90.0, ge=0, description="Days of machine time that one launch may take, on all workers together; 0: any."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: str = Field("text", description="text, for people, or json: an object a line, for programs.")
    request_log: bool = Field(False, description="Write a line for each request: who, what, how long.")

    @cached_property
    def database(self) -> URL:
        """Never a string, in which the home folder's name would have to be escaped. Raises ConfigurationError."""
        from modescape.database import file_url, parse_url

        if self.database_url is None or not self.database_url.get_secret_value():
            return file_url(self.home / "modescape.db")
        url = parse_url(self.database_url.get_secret_value())
        return url.set(password=self.database_password.get_secret_value()) if self.database_password else url

    @cached_property
    def broker(self) -> str:
        """With its password, so for Celery only. Raises ConfigurationError."""
        url = self.broker_url.get_secret_value() if self.broker_url else ""
        return _checked_broker(url, self.broker_password) if url else "filesystem://"

    @cached_property
    def artifact_place(self) -> Path | Address:
        """A folder, or a bucket with all that it takes to use it. Raises ConfigurationError."""
        from modescape.artifacts.objects import Address, checked_bucket, checked_endpoint

        given = str(self.artifacts or "")
        if "://" not in given:
            return Path(given) if given else self.home / "artifacts"
        bucket, prefix = checked_bucket(given)
        return Address(
            bucket, prefix, self.cache or self.home / "cache", int(self.cache_gigabytes * 1e9),
            endpoint=checked_endpoint(self.s3_endpoint), region=self.s3_region or None,
            key=self.s3_key.get_secret_value() if self.s3_key else None,
            secret=self.s3_secret.get_secret_value() if self.s3_secret else None,
        )  # fmt: skip

    @cached_property
    def upload_folder(self) -> Path:
        return self.home / "uploads"

    @cached_property
    def made_folder(self) -> Path:
        """What is being made for people to take home, and archives until they are fetched."""
        return self.home / "made"

    def told(self) -> dict[str, object]:
        """All of them as JSON, secrets too: for a process of ours over a line that nobody else reads."""
        found = self.model_dump(mode="json")
        secrets = {name: value for name in found if isinstance(value := getattr(self, name), SecretStr)}
        return found | {name: value.get_secret_value() for name, value in secrets.items()}

    @cached_property
    def spool_folder(self) -> Path:
        """What training loops of one's own have logged and not sent yet."""
        return self.home / "spool"

    @cached_property
    def data_folders(self) -> tuple[Path, ...]:
        """Where data sets are looked for, in order; the first is where `modescape data fetch` puts them."""
        own = tuple(Path(folder).expanduser() for folder in self.data.split(":") if folder)
        return (*own, self.home / "data", Path("/usr/share/datasets"))

    @cached_property
    def registration_roots(self) -> tuple[Path, ...]:
        own = tuple(Path(folder).expanduser() for folder in self.data_roots.split(":") if folder)
        return own or self.data_folders[:-1]

    @property
    def queues_served(self) -> tuple[str, ...]:
        """Raises ConfigurationError for a name that is no queue."""
        asked = tuple(dict.fromkeys(name.strip() for name in self.queues.split(",") if name.strip()))
        if wrong := [name for name in asked if name not in list(Queue)]:
            raise ConfigurationError(f"MODESCAPE_QUEUES names {', '.join(wrong)} (allowed: {', '.join(Queue)})")
        return asked or tuple(Queue)

    @cached_property
    def plugin_modules(self) -> tuple[str, ...]:
        return tuple(module.strip() for module in self.plugins.split(",") if module.strip())

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    def token_for(self, url: str) -> str | None:
        """What shows a server who this is: MODESCAPE_TOKEN, or the key of this home to the server that it runs here."""
        if self.token is not None:
            return self.token.get_secret_value()
        try:
            asked, own = urlsplit(url), urlsplit((self.home / "url").read_text(encoding="utf-8"))
            same = asked.hostname in LOOPBACK and (asked.hostname, asked.port) == (own.hostname, own.port)
            if same and neighbours.is_ours(str(asked.hostname), asked.port or 80):
                return home_key(self.home)
        except (OSError, ValueError, ConfigurationError):  # another account's home, or none: nothing is shown
            return None
        return None

    @property
    def url(self) -> str:
        """Where the server is found from this machine: an address that means all of them is none to open."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def _checked_broker(url: str, password: SecretStr | None) -> str:
    """The URL with the password in it. Errors quote no part of it: what is not understood may be the password."""
    checked = []
    for one in url.split(";"):  # Celery's way to name several
        try:
            parts = urlsplit(one)
            understood = parts.scheme and (parts.port or True)
        except ValueError:
            understood = False
        if not understood or (parts.netloc and "@" in parts.path + parts.query + parts.fragment):
            raise ConfigurationError(
                "MODESCAPE_BROKER_URL is not an address such as redis://host:6379/0; a password with special "
                "characters goes into MODESCAPE_BROKER_PASSWORD"
            )
        if password and parts.netloc:
            user, _, where = parts.netloc.rpartition("@")
            secret = quote(password.get_secret_value(), safe="")
            one = parts._replace(netloc=f"{user.partition(':')[0]}:{secret}@{where}").geturl()
        checked.append(one)
    return ";".join(checked)


def shown(settings: Settings, name: str) -> str:
    """The value of a setting as people may see it: of URLs everything but user and password, of secrets nothing."""
    value = getattr(settings, name)
    if value is None or value == "":
        return ""
    from modescape.artifacts.objects import checked_endpoint

    try:
        if name == "database_url":
            return settings.database._replace(username=None, password=None).set(query={}).render_as_string()
        if name == "artifacts":
            place = settings.artifact_place
            return str(place) if isinstance(place, Path) else place.where
        if name == "s3_endpoint":
            return str(checked_endpoint(str(value)))
        if name == "broker_url":
            return "; ".join(_without_user(one) for one in settings.broker.split(";"))
    except ConfigurationError:
        return "(not understood)"
    return "(set)" if isinstance(value, SecretStr) else str(value)


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def read_settings() -> Settings:
    """The settings of this process's environment. Raises ConfigurationError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [_wrong(str(item["loc"][0]), item["msg"], item["input"]) for item in error.errors()]
        raise ConfigurationError("; ".join(wrong)) from None


def _wrong(name: str, message: str, given: object) -> str:
    secret = "SecretStr" in str(Settings.model_fields[name].annotation)
    return f"MODESCAPE_{name.upper()}: {message}" + ("" if secret else f", got {given!r}")
