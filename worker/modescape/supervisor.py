"""What `make run` runs: one process that migrates, starts server and workers, keeps them alive and ends them all.

Children get this process's stdout and stderr, so their logs are followed by simply watching. They are tied to it: when
it ends, for whatever reason, the kernel ends them (Linux), and SIGINT and SIGTERM end them in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

from modescape.errors import ConfigurationError, InvalidInput
from modescape.outage import DATABASE
from modescape.registry import presets
from modescape.settings import Settings

if TYPE_CHECKING:
    from modescape.store import Store

READY_SECONDS = 120.0
GRACE_SECONDS = 20.0  # a worker hands its stage back after its current step


def up(settings: Settings) -> int:
    """Run the product until told to stop; 0 after an orderly end, also when it was running already (and says where)."""
    home = _own_home(settings.home)
    lock = _lock(home) or _lock_of_one_that_ends(home)
    if lock is None:
        print(f"Modescape is already running at {_entrance(_address(home), settings)}", flush=True)
        return 0
    _check_port(settings)
    url = settings.url
    (home / "url").write_text(url, encoding="utf-8")
    _prepare_database(settings)
    family = _Family()
    family.start("server", ["serve"])
    for name, environment in _workers(settings):
        family.start(name, ["worker", "--name", name], environment)
    try:
        _wait_until_ready(url, family, settings)
        print(f"\n  Modescape is ready:  {_entrance(url, settings)}\n", flush=True)
        family.watch()
    finally:
        family.stop()
        (home / "url").unlink(missing_ok=True)  # somebody else may listen there next
        lock.close()
    return 0


def _own_home(home: Path) -> Path:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = home / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"the folder {home} cannot be written ({error.strerror}); set MODESCAPE_HOME to one that can"
        ) from None
    return home


def _lock(home: Path) -> IO[str] | None:
    """An exclusive lock on the home folder for as long as the file stays open, or None when another process has it."""
    handle = (home / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def _address(home: Path) -> str:
    """Where the one that has the lock said it is; "" before it has said so."""
    try:
        return (home / "url").read_text(encoding="utf-8")
    except OSError:
        return ""


def _lock_of_one_that_ends(home: Path) -> IO[str] | None:
    """The lock of another process, once that has ended; None as soon as it answers where it said it would.

    One that was told to stop keeps the lock until its workers have handed their stages back. Raises ConfigurationError
    where it neither answers nor ends.
    """
    deadline, told = time.monotonic() + READY_SECONDS, False
    while time.monotonic() < deadline:
        url = _address(home)
        if url and _answers(url):
            return None
        if not told:
            print(f"Another Modescape has {home} and does not answer; waiting until it does, or has ended", flush=True)
            told = True
        time.sleep(0.2)
        if (lock := _lock(home)) is not None:
            return lock
    raise ConfigurationError(
        f"another Modescape has {home} and did not answer within {READY_SECONDS:.0f} s; end it (`ps` shows "
        "`modescape up`), or use another MODESCAPE_HOME"
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:  # not listening
        return False


def _entrance(url: str, settings: Settings) -> str:
    """The address to open: one that signs in once where the server cannot see that it is this account that asks."""
    from modescape.store import Store

    try:
        with urllib.request.urlopen(f"{url}/api/me", timeout=5):
            return url
    except urllib.error.HTTPError as error:
        if error.code != 401 or settings.token is not None:
            return url
    except (OSError, ValueError):  # it does not answer, or has not said where it is
        return url
    store = Store(settings.database)
    try:
        return f"{url}/signin?code={store.users.new_code()}"
    finally:
        store.close()


def _check_port(settings: Settings) -> None:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, settings.host != "::")
                probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"port {settings.port} on {settings.host} cannot be used ({error.strerror}); "
            "choose another with MODESCAPE_PORT"
        ) from None


def _prepare_database(settings: Settings) -> None:
    """Create or migrate; a database seen for the first time gets the Quickstart experiment, once."""
    from modescape.database import upgrade
    from modescape.laboratory import Laboratory

    upgrade(settings.database)
    laboratory = Laboratory(settings)
    if laboratory.store.catalogue.set_fact_once("quickstart", "queued"):
        try:
            laboratory.create(presets["quickstart"].call(), name="Quickstart", preset="quickstart")
        except InvalidInput as error:  # no room for it, which is no reason not to start
            print(f"modescape: Quickstart was not queued: {error}", file=sys.stderr, flush=True)


def _workers(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """Name and environment of each worker: one a GPU where there are any, else one a core, each single-threaded."""
    host = socket.gethostname()
    gpus = [] if settings.device == "cpu" else _gpus()
    if gpus:
        return [(f"{host}-gpu{gpu}", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus]
    if settings.device == "cuda":
        raise ConfigurationError("MODESCAPE_DEVICE is cuda, but nvidia-smi lists no GPU; use cpu or auto")
    count = settings.workers if settings.workers is not None else len(os.sched_getaffinity(0))
    return [(f"{host}-cpu{i}", {"CUDA_VISIBLE_DEVICES": ""}) for i in range(count)]


def _gpus() -> list[str]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _say(line: str) -> None:
    """To whom it may concern: a terminal that is gone is no reason to end everything."""
    with contextlib.suppress(OSError):
        print(f"modescape: {line}", file=sys.stderr, flush=True)


@dataclass
class _Child:
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0
    restart_at: float | None = None


@dataclass
class _Family:
    """The children by name. A dead one is started again, later each time it dies young."""

    children: dict[str, _Child] = field(default_factory=dict)
    stopping: bool = False

    def __post_init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._told_to_stop)

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        # -P: what lies in the folder this was started in is no module of ours
        command = [sys.executable, "-P", "-m", "modescape.cli", *arguments]
        self.children[name] = _Child(
            command, environment or {}, self._spawn(command, environment or {}), time.monotonic()
        )

    def _spawn(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C reaches only this process, which then ends the others in order.
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    def watch(self) -> None:
        while not self.stopping:
            self.restart_dead()
            time.sleep(0.2)

    def restart_dead(self) -> None:
        now = time.monotonic()
        for name, child in self.children.items():
            if child.process.poll() is None:
                continue
            if child.restart_at is None:
                child.failures = 0 if now - child.started > 60 else child.failures + 1
                child.restart_at = now + min(30.0, 0.5 * 2**child.failures)
                _say(f"{name} ended with {child.process.returncode}; starting it again")
            elif now >= child.restart_at:
                try:
                    child.process = self._spawn(child.command, child.environment)
                except (OSError, subprocess.SubprocessError) as error:  # no memory, or no process, to be had just now
                    child.failures += 1
                    child.restart_at = now + min(30.0, 0.5 * 2**child.failures)
                    _say(f"{name} could not be started ({error}); trying again")
                else:
                    child.started, child.restart_at = now, None

    def stop(self) -> None:
        """End every child: SIGTERM, and SIGKILL to those that do not listen."""
        for child in self.children.values():
            child.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in self.children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _wait_until_ready(url: str, family: _Family, settings: Settings) -> None:
    """Until the server answers and every worker has told the database that it is there."""
    from modescape.store import Store

    store = Store(settings.database)
    deadline = time.monotonic() + READY_SECONDS
    while not family.stopping:
        answering = _answering(url, store, family)
        silent = [name for name in family.children if name not in answering]
        if not silent:
            return
        for name, child in family.children.items():
            if child.process.poll() is not None:
                raise ConfigurationError(f"{name} ended with {child.process.returncode} at once; its message is above")
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{', '.join(silent)} did not answer within {READY_SECONDS:.0f} s")
        time.sleep(0.1)


def _answering(url: str, store: Store, family: _Family) -> set[str]:
    from modescape.database import UNAVAILABLE

    here = {child.process.pid for child in family.children.values()}
    try:
        found = {worker.name for worker in store.workers.all() if worker.pid in here and worker.stopped_at is None}
    except UNAVAILABLE as error:
        DATABASE.away(error)
        return set()
    return found | {"server"} if _answers(url) else found
