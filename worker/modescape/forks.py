"""Questions about files of others, answered by forks of a process that has loaded what answering takes, and no file.

    readers = Readers("modescape.reading_process")      # whoever asks; nothing is started yet
    readers.ask(question, seconds=60)                   # what the fork says; Ended where it came to its end before
    answer_in_forks(answer)                             # that module: `answer(question)` in a fork for each

Questions and answers are JSON. Each fork has a session of its own, limits itself before it opens a file, and ends with
the process that forked it: none sees what another one read, and what all of them import is imported once.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

log = logging.getLogger("modescape.apart")

Json = dict[str, Any]

IDLE_SECONDS = 600.0  # without a question, after which the process ends: its memory is worth more than its imports
_STATUS = re.compile(rb"-?[0-9]{1,3}")
_SAID = 64 << 20  # bytes of an answer
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Ended(Exception):
    """A fork came to its end before it had answered. The message says why; is_limit: because it took too much."""

    def __init__(self, why: str, *, is_limit: bool = False) -> None:
        self.is_limit = is_limit
        super().__init__(why)


# --- whoever asks -----------------------------------------------------------------------------------------------------


class Readers:
    """The process of which every question gets a fork. It begins with the first question, or when it is to be warm, has
    none of our settings in its environment, and ends with the process that asks, or after ten minutes without a
    question. module: what it runs, which calls `answer_in_forks`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def ask(self, question: Json, *, seconds: float) -> Json:
        """What a fork answers. seconds: of wall clock. Raises Ended."""
        deadline, said = time.monotonic() + seconds, bytearray()
        with self.connected() as line:
            try:
                line.settimeout(seconds)
                line.sendall(json.dumps(question).encode())
                line.shutdown(socket.SHUT_WR)
                while block := line.recv(1 << 20):
                    said += block
                    if len(said) > _SAID:
                        raise Ended(f"what is said of it takes more than {_SAID >> 20} MiB", is_limit=True)
                    line.settimeout(max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                self._kill(said)
                raise Ended(f"reading took more than {seconds:g} seconds", is_limit=True) from None
            except ConnectionError:  # it has ended
                said.clear()
            except BaseException:
                self._kill(said)
                raise
        return _answer_of(said, seconds)

    def connected(self) -> socket.socket:
        """A line to a fork, which says its process id, reads a question, answers, and whose status comes last."""
        mine, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._control or self._begun(), [b"?"], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):  # it had nothing to do, or somebody has ended it
                self._end()
                socket.send_fds(self._begun(), [b"?"], [theirs.fileno()])
        return mine

    def warm(self) -> None:
        """Begin now what the first question would wait for."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._begun()

    def end(self) -> None:
        with self._lock:
            self._end()

    def _begun(self) -> socket.socket:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("MODESCAPE_", "AWS_"))}
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=plain | one_thread, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.end)
        return self._control

    def _end(self) -> None:
        atexit.unregister(self.end)
        if self._process is not None and self._control is not None:
            self._control.close()
            self._process.kill()
            self._process.wait()
        self._process = self._control = None

    def _kill(self, said: bytearray) -> None:
        """The process that is on a line, which has said its id, or has not begun."""
        process, begun, _ = said.partition(b"\n")
        if not begun:
            self.end()
            return
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def _answer_of(said: bytearray, seconds: float) -> Json:
    _, _, rest = bytes(said).partition(b"\n")
    found, _, status = rest.rpartition(b"\n")
    if status == b"0":
        answer: Json = json.loads(found)
        return answer
    if not _STATUS.fullmatch(status):  # the process that forked it was ended, before it could say how this one did
        found, status = rest, b"no status"
    log.warning("a reading process ended with %s: %s", status.decode(), found.decode(errors="replace")[-4000:])
    if not status.startswith(b"-"):
        raise Ended("the process that read it failed; the server's log has the details")
    if -int(status) == signal.SIGXCPU:
        raise Ended(f"reading took more than {seconds:g} seconds of a processor", is_limit=True)
    raise Ended(f"the process that read it was ended ({signal.Signals(-int(status)).name})")


# --- the process that answers -----------------------------------------------------------------------------------------


def answer_in_forks(answer: Callable[[Json], Json], *, idle: float = IDLE_SECONDS) -> None:
    """Fork for each line that comes over standard input, and say on it how the fork ended, until nobody can ask, or
    nobody has asked for so many seconds."""
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    gc.freeze()
    lines: dict[int, socket.socket] = {}
    asker, ending, asked = os.getppid(), False, True  # asked: questions can still come
    while asked or (lines and os.getppid() == asker):
        wait = (None if lines else idle) if asked else 1.0
        ready, _, _ = select.select([control.fileno(), waking] if asked else [waking], [], [], wait)
        if waking in ready:
            os.read(waking, 4096)
            _say_ends(lines)
        if asked and not ready:  # who asks from now on is told so by the system, and who has asked already is answered
            control.shutdown(socket.SHUT_RD)
            ending = True
        if asked and (control.fileno() in ready or not ready):
            _, received, _, _ = socket.recv_fds(control, 1, 1)
            if not received:
                if not ending:  # nobody is there who could be answered
                    return
                asked = False
                continue
            line = socket.socket(fileno=received[0])
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (control, *lines.values()):
                    other.close()
                _read(line, answer)
            lines[process] = line


def _say_ends(lines: dict[int, socket.socket]) -> None:
    """Status of each fork that came to its end: as `subprocess` says it, negative of a signal."""
    while lines:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        with lines.pop(process) as line, suppress(OSError):
            line.sendall(b"\n%d" % os.waitstatus_to_exitcode(status))


def _read(line: socket.socket, answer: Callable[[Json], Json]) -> NoReturn:
    """Answer the question on a line, or say where it went wrong, and end."""
    status = 1
    try:
        os.setsid()
        _die_with_parent()
        line.sendall(b"%d\n" % os.getpid())
        question = json.loads(b"".join(iter(lambda: line.recv(1 << 16), b"")))
        line.sendall(json.dumps(answer(question), allow_nan=False).encode())
        status = 0
    except BaseException:
        line.sendall(traceback.format_exc().encode())
    finally:
        os._exit(status)


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def limit(
    *, seconds: float | None = None, space: int | None = None, memory: int | None = None, files: int | None = None
) -> None:
    """Of this process, for good. space: bytes of addresses, files that are mapped among them; memory: bytes that it
    writes to, beyond those it has; files: bytes of a file that it writes; seconds: of a processor. No core file."""
    _set(resource.RLIMIT_CORE, 0, 0)
    if seconds is not None:
        whole = int(seconds) + 1
        _set(resource.RLIMIT_CPU, whole, whole + 5)
    if space is not None:
        _set(resource.RLIMIT_AS, space, space)
    if memory is not None:
        _set(resource.RLIMIT_DATA, most := _data() + memory, most)
    if files is not None:
        _set(resource.RLIMIT_FSIZE, files, files)


def _set(what: int, soft: int, hard: int) -> None:
    """As far as this process may: a limit that it was given is never widened."""
    _, given = resource.getrlimit(what)
    if given != resource.RLIM_INFINITY:
        soft, hard = min(soft, given), min(hard, given)
    resource.setrlimit(what, (soft, hard))


def _data() -> int:
    """Bytes that this process has to write to, where the system tells."""
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 1 << 30
