"""The objects of a bucket on S3-compatible storage, by names below a prefix.

Every request is tried again for a while, later each time, when what went wrong may pass: no answer, an answer cut off,
too many requests, a fault of the server. What lasts longer, or what the server refuses, is `StorageAway`, and for some
seconds afterwards every request is tried once only. Every try ends within a limit by the clock, whatever the other side
does. Large files go up in parts, each tried by itself.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from modescape import extras
from modescape.errors import ConfigurationError, StorageAway
from modescape.outage import first_line

T = TypeVar("T")

PATIENCE_SECONDS = 20.0  # for which a request is tried
AWAY_SECONDS = 5.0  # for which it is not tried again, after one has failed for good
PAUSE_SECONDS = (0.1, 5.0)  # between two tries, at first and at most
ANSWER_SECONDS = 10.0  # until a server has begun to answer what costs it little
REQUEST_SECONDS = 30.0  # of one try, but for what its bytes may take
PROBE_SECONDS = 5.0  # of all that a probe asks
_SLOWEST = 256_000  # bytes a second that go over a line
_SLOWEST_COPY = 10_000_000  # that a server copies or puts together by itself
PART = 8 << 20  # bytes of a part, and of what is read at once
AT_ONCE = 4  # parts on their way
_MOST_PARTS = 10_000  # of one object
_COPIED = 5 << 30  # bytes that a server copies by itself in one request
_PASSING = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9/!_.*'()-]{0,500}")
# What a server itself says where an object is not there; a proxy whose server is away answers 404 to anything.
_GONE = {
    "head_object": {"404", "NoSuchKey"}, "get_object": {"NoSuchKey"}, "copy_object": {"NoSuchKey"},
    "delete_object": {"NoSuchKey"}, "complete_multipart_upload": {"NoSuchUpload"},
    "abort_multipart_upload": {"NoSuchUpload"},
}  # fmt: skip
_PROBE = b"modescape"
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"})


@dataclass(frozen=True)
class Address:
    """A bucket, and the folder of local copies. prefix: what names begin with, "" or ending in a slash; endpoint and
    region: None for those of the environment; key and secret: likewise; cache_bytes: of all copies together."""

    bucket: str
    prefix: str
    cache: Path
    cache_bytes: int
    endpoint: str | None = None
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class Entry:
    """An object. name: below the prefix; modified: by this machine's clock, to a second; sha256: of its content, where
    it is noted and was asked for."""

    name: str
    bytes: int
    modified: datetime
    sha256: str | None = None


class Objects:
    """Raises ExtraMissing where s3fs is not installed, and StorageAway where a request fails for good."""

    def __init__(self, address: Address) -> None:
        extras.require("s3", f"MODESCAPE_ARTIFACTS={address.where}", "s3fs")
        self.address = address
        self._gave_up: float | None = None

    @cached_property
    def _system(self) -> Any:
        import s3fs
        from aiobotocore.session import AioSession
        from botocore.handlers import add_expect_header
        from fsspec.asyn import sync

        about = self.address
        session = AioSession()
        session.unregister("before-call.s3", add_expect_header)  # it would wait for "continue" without any limit
        system = s3fs.S3FileSystem(
            key=about.key, secret=about.secret, endpoint_url=about.endpoint, use_listings_cache=False,
            session=session, skip_instance_cache=True,
            client_kwargs={"region_name": about.region} if about.region else {},
            config_kwargs={
                "connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 1},
                "request_checksum_calculation": "when_required", "response_checksum_validation": "when_required",
                # of servers of one's own hardly any has a name for each bucket
                **({"s3": {"addressing_style": "path"}} if about.endpoint else {}),
            },
        )  # fmt: skip
        system.retries = 1
        sync(system.loop, system.set_session)  # it reads much, which is no request's time
        return system

    def head(self, name: str) -> Entry | None:
        """None where it is not there, or a proxy says so of everything; `find` knows."""
        try:
            told = self._call("head_object", ANSWER_SECONDS, Key=self._key(name))
        except FileNotFoundError:
            return None
        sha256 = self._of(told, "Metadata").get("sha256")
        return Entry(name, self._of(told, "ContentLength"), self._modified(told, told), sha256)

    def find(self, name: str) -> Entry | None:
        """None where the server itself says that it is not there: HEAD has no room for who says it."""
        found = self.head(name)
        if found is None:
            try:
                self._get(name, 0, 1)
            except FileNotFoundError:
                return None
            raise StorageAway(f"the bucket {self.address.where} says both that {name} is there and that it is not")
        return found

    def list(self, beginning: str = "") -> Iterator[Entry]:
        more: dict[str, Any] = {}
        while True:
            told = self._call("list_objects_v2", Prefix=self._key(beginning), **more)
            for one in told.get("Contents", ()):
                name = one["Key"].removeprefix(self.address.prefix)
                yield Entry(name, one["Size"], self._modified(told, one))
            if not told.get("IsTruncated"):
                return
            more = {"ContinuationToken": self._of(told, "NextContinuationToken")}

    def read(self, name: str, start: int = 0) -> bytes:
        """So many bytes as go at once, fewer at the end. Raises FileNotFoundError."""
        return self._get(name, start, PART)

    def _get(
        self, name: str, start: int, size: int, limit: float | None = None, *, patience: float | None = None
    ) -> bytes:
        async def got() -> bytes:
            asked = {"Key": self._key(name), "Range": f"bytes={start}-{start + size - 1}"}
            told = await asyncio.wait_for(self._request("get_object", asked), ANSWER_SECONDS)
            try:
                return bytes(await told["Body"].read())
            finally:
                told["Body"].close()

        limit = REQUEST_SECONDS + size / _SLOWEST if limit is None else limit
        try:
            return self._tried("get_object", got, limit, patience=patience)
        except _OutOfRange:
            return b""

    def blocks(self, name: str, first: bytes = b"") -> Iterator[bytes]:
        """Its bytes, block by block. first: what was read of it before. Raises FileNotFoundError."""
        block, start = first or self.read(name), 0
        while block:
            yield block
            start += len(block)
            block = self.read(name, start) if len(block) == PART else b""

    def put(self, name: str, path: Path, size: int, sha256: str) -> None:
        about: dict[str, Any] = {"Key": self._key(name), "Metadata": {"sha256": sha256}}
        with path.open("rb") as file:
            if size <= 2 * PART:
                content = file.read()
                self._call("put_object", REQUEST_SECONDS + size / _SLOWEST, Body=content, **about)
            else:
                self._put_in_parts(file, size, about)

    def _put_in_parts(self, file: IO[bytes], size: int, about: Mapping[str, Any]) -> None:
        part = max(PART, -(-size // _MOST_PARTS))
        begun = self._call("create_multipart_upload", **about)
        its = {"Key": about["Key"], "UploadId": self._of(begun, "UploadId")}

        def sent(number: int, block: bytes) -> dict[str, Any]:
            limit = REQUEST_SECONDS + len(block) / _SLOWEST
            told = self._call("upload_part", limit, PartNumber=number, Body=block, **its)
            return {"PartNumber": number, "ETag": self._of(told, "ETag")}

        parts: list[dict[str, Any]] = []
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                while some := [block for _ in range(AT_ONCE) if (block := file.read(part))]:
                    parts += pool.map(sent, range(len(parts) + 1, len(parts) + len(some) + 1), some)
            limit = REQUEST_SECONDS + size / _SLOWEST_COPY
            try:
                self._call("complete_multipart_upload", limit, MultipartUpload={"Parts": parts}, **its)
            except FileNotFoundError as error:
                found = self.head(about["Key"].removeprefix(self.address.prefix))
                if found is None or found.bytes != size:  # else it was completed, and the answer lost
                    raise StorageAway(f"the bucket {self.address.where} has forgotten what was sent to it") from error
        except BaseException:
            self._forget(its)
            raise

    def _forget(self, upload: Mapping[str, str]) -> None:
        """What is not reached now is swept later."""
        try:
            self._call("abort_multipart_upload", ANSWER_SECONDS, patience=0.0, **upload)
        except (FileNotFoundError, StorageAway):
            return

    def touch(self, entry: Entry, sha256: str) -> bool:
        """Make it as new as if it had been sent now; False where that must be done."""
        if entry.bytes > _COPIED:
            return False
        key = self._key(entry.name)
        try:
            self._call(
                "copy_object", REQUEST_SECONDS + entry.bytes / _SLOWEST_COPY, Key=key,
                CopySource={"Bucket": self.address.bucket, "Key": key}, MetadataDirective="REPLACE",
                Metadata={"sha256": sha256},
            )  # fmt: skip
        except FileNotFoundError:  # deleted in this moment
            return False
        return True

    def move(self, entry: Entry, name: str) -> None:
        ways = self._path(entry.name), self._path(name)
        limit = REQUEST_SECONDS + entry.bytes / _SLOWEST_COPY
        self._tried("copy_object", lambda: self._system._cp_file(*ways), limit)
        self.delete(entry.name)

    def delete(self, name: str) -> None:
        try:
            self._call("delete_object", Key=self._key(name))
        except FileNotFoundError:  # some servers say so
            return

    def drop_uploads(self, before: float) -> None:
        """Forget what was begun to be sent before, and never ended."""
        more: dict[str, Any] = {}
        while True:
            told = self._call("list_multipart_uploads", Prefix=self.address.prefix, **more)
            for one in told.get("Uploads", ()):
                if one["Initiated"].timestamp() <= before:
                    self._forget({"Key": one["Key"], "UploadId": one["UploadId"]})
            if not told.get("IsTruncated"):
                return
            more = {"KeyMarker": self._of(told, "NextKeyMarker"),
                    "UploadIdMarker": self._of(told, "NextUploadIdMarker")}  # fmt: skip

    def probe(self) -> None:
        """Write a small object and read it back, once. Raises StorageAway."""
        begun = time.monotonic()
        self._call("put_object", PROBE_SECONDS - 0.5, patience=0.0, Key=self._key("probe"), Body=_PROBE)
        try:
            left = PROBE_SECONDS - (time.monotonic() - begun)
            found = self._get("probe", 0, 2 * len(_PROBE), max(0.5, left), patience=0.0)
        except FileNotFoundError:
            found = None
        if found != _PROBE:
            raise StorageAway(f"the bucket {self.address.where} does not keep what is written to it")

    def _key(self, name: str) -> str:
        return self.address.prefix + name

    def _path(self, name: str) -> str:
        return f"{self.address.bucket}/{self._key(name)}"

    def _of(self, told: Mapping[str, Any], name: str) -> Any:
        try:
            return told[name]
        except KeyError:
            raise StorageAway(f"the bucket {self.address.where} answers without {name}: it is no S3 storage") from None

    def _modified(self, told: Mapping[str, Any], one: Mapping[str, Any]) -> datetime:
        """By this machine's clock, which the server's may be far from. told: the answer, which says what time it is
        there; one: what of it tells of the object."""
        modified: datetime = self._of(one, "LastModified")
        said = told["ResponseMetadata"]["HTTPHeaders"].get("date")
        return modified + (datetime.now(UTC) - parsedate_to_datetime(said)) if said else modified

    def _request(self, method: str, arguments: Mapping[str, Any]) -> Awaitable[Any]:
        found: Awaitable[Any] = self._system._call_s3(method, Bucket=self.address.bucket, **arguments)
        return found

    def _call(self, method: str, limit: float | None = None, *, patience: float | None = None, **arguments: Any) -> Any:
        limit = REQUEST_SECONDS if limit is None else limit
        return self._tried(method, lambda: self._request(method, arguments), limit, patience=patience)

    def _tried(self, method: str, do: Callable[[], Awaitable[T]], limit: float, *, patience: float | None = None) -> T:
        """limit: seconds of each try. Raises FileNotFoundError where the object is not there, and StorageAway."""
        from aiohttp import ClientError as NetworkError
        from botocore.exceptions import BotoCoreError
        from botocore.parsers import ResponseParserError
        from fsspec.asyn import sync

        begun, pause = time.monotonic(), PAUSE_SECONDS[0]
        if patience is None:
            recently = self._gave_up is not None and begun - self._gave_up < AWAY_SECONDS
            patience = 0.0 if recently else PATIENCE_SECONDS
        while True:
            try:
                found: T = sync(self._system.loop, do, timeout=limit)
            except (OSError, TimeoutError, BotoCoreError, NetworkError, ResponseParserError) as error:
                told = _Told.by(error, limit)
                if told.code in _GONE.get(method, ()):
                    raise FileNotFoundError(first_line(error)) from error
                if told.code == "InvalidRange":
                    raise _OutOfRange from error
                wait = pause * random.uniform(0.5, 1.0)  # those who wait together do not come back together
                if not told.passes or time.monotonic() + wait > begun + patience:
                    self._gave_up = time.monotonic()
                    raise StorageAway(f"the bucket {self.address.where} {told.words}") from error
            else:
                self._gave_up = None
                return found
            time.sleep(wait)
            pause = min(PAUSE_SECONDS[1], 2 * pause)


class _OutOfRange(Exception):
    """What was to be read begins where the object ends."""


@dataclass(frozen=True)
class _Told:
    """What an error says. code: the server's, "" where it said none; passes: whether the same may go well later."""

    code: str
    passes: bool
    words: str

    @classmethod
    def by(cls, error: BaseException, limit: float) -> _Told:
        from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return cls("", False, "cannot be used without credentials: set MODESCAPE_S3_KEY and "
                                  "MODESCAPE_S3_SECRET, or what AWS's own tools read")  # fmt: skip
        answer = next((one for one in (error, error.__cause__) if isinstance(one, ClientError)), None)
        if answer is None and isinstance(error, TimeoutError) and not error.args:
            return cls("", True, f"does not answer (within {limit:.3g} seconds)")
        if answer is None:
            return cls("", True, f"does not answer ({first_line(error) or type(error).__name__})")
        code = str(answer.response.get("Error", {}).get("Code", ""))
        status = int(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = first_line(answer)
        if code == "NoSuchBucket":
            return cls(code, False, f"is not there ({said})")
        if code in _FULL or status == 507:
            return cls(code, False, f"has no more room ({said})")
        if (status >= 500 and status != 501) or status == 429 or code in _PASSING or code == "404":  # of no S3 server
            return cls(code, True, f"does not answer ({said})")
        return cls(code, False, f"refuses what is asked of it ({said})")


def checked_bucket(url: str) -> tuple[str, str]:
    """Name and prefix. Raises ConfigurationError, which quotes nothing: what is not understood may hold a secret."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3" or not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError("MODESCAPE_ARTIFACTS is neither a folder nor a bucket such as s3://bucket/prefix")
    if prefix and {"", ".", ".."} & set(prefix.split("/")):  # clients and proxies make other names of them
        raise ConfigurationError("MODESCAPE_ARTIFACTS has a prefix with a part that is empty, . or ..")
    return bucket, f"{prefix}/" if prefix else ""


def checked_endpoint(url: str) -> str | None:
    """None where there is none. Raises ConfigurationError, likewise."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not {*"@?#"} & {*url} and (parts.port or True)
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError("MODESCAPE_S3_ENDPOINT is not an address such as https://s3.example.org:9000")
    return url
