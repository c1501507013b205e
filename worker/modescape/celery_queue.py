"""The doorbell: Celery carries stage ids from whoever made a stage ready to whoever can do it. Nothing else.

    dispatch(settings, store)          # after a commit: wake-ups for what is ready
    worker_main(settings, "gpu0")      # a worker process, until SIGTERM or a rest

Messages may be lost, doubled or late without harm: the store says what is ready and who has it, a wake-up only makes a
worker look at once, and then it goes on until nothing is ready. In every worker a reaper frees what dead workers held
and rings again for what nobody came for. While the broker is away (refusing, or silent, which costs a time-out) nobody
waits for it: launches and stages go on without a wake-up, and workers look by themselves. Whatever else lies in the
queue is dropped with a line in the log before Celery sees it (`_wake_up`). Measured choices: filesystem
queue polled every 0.25 s when nothing else is installed, Redis otherwise; pool `solo`, because torch hangs after a
fork.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from queue import Empty
from typing import Any

from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.platforms import EX_FAILURE, SecurityWarning
from celery.worker import state as celery_state
from kombu.connection import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.transport import filesystem

from modescape import kept_counts, logs, plugins, published_entries
from modescape.artifacts import Artifacts
from modescape.database import UNAVAILABLE, check_schema, patiently
from modescape.errors import ConfigurationError, ModescapeError
from modescape.executor import Executor, Machine, Runner
from modescape.outage import BROKER, DATABASE, LOOPS, OnceAMinute, first_line
from modescape.readings import Reader
from modescape.records import Json
from modescape.settings import Settings
from modescape.store import Store

log = logging.getLogger(__name__)

TASK = "modescape.run_stage"
HANGING = 70  # status of a worker that has ended itself, because its stage made no step any more
PRUNE_EVERY = 100  # reaper rounds
BROKER_SECONDS = 2.0  # for the broker to accept a connection, and to answer a command
REDIS = "kombu.transport.redis"
LONGEST = 65_536  # bytes of a message
NOTIFY_SECONDS = 3.0  # for the wake-ups of one launch, or for another thread's to be through
RESTED = "MODESCAPE_RESTED_MACHINE"  # what a worker that begins afresh knows of its machine, without looking
DEAF_SECONDS = 10.0  # without a word from a queue, which is asked every second, after which a worker looks by itself
PAUSES = (5.0, 30.0)  # seconds a broker that did not answer is left alone: at first, and at most


def _wake_up(raw: bytes, queue: str) -> Json | None:
    """The message of a wake-up, made anew of the only thing that it says, as Celery takes it; None, with a line in the
    log, of anything else. Who can write to the broker may write anything: to be unpacked, executed, or done next year.
    """
    try:
        stage_id = _stage_of(raw)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        log.warning("dropped a message in the queue %s that is no wake-up: %s", queue, first_line(error))
        return None
    id_ = str(uuid.uuid4())
    return {
        "body": base64.b64encode(json.dumps([[stage_id], {}, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": TASK, "id": id_, "root_id": id_, "retries": 0, "timelimit": [None, None]},
        "properties": {
            "correlation_id": id_, "reply_to": "", "delivery_tag": id_, "delivery_mode": 2, "priority": 0,
            "body_encoding": "base64", "delivery_info": {"exchange": queue, "routing_key": queue},
        },
    }  # fmt: skip


def _stage_of(raw: bytes) -> str:
    """Raises ValueError, or what Python says of a document that is made otherwise."""
    if len(raw) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} bytes")
    message = json.loads(raw)
    headers, kind = message["headers"], message["content-type"]
    if headers.get("task") != TASK:
        raise ValueError(f"its task is {str(headers.get('task'))[:80]!r}")
    if kind != "application/json" or headers.get("compression") is not None:
        raise ValueError(f"its body is {str(headers.get('compression') or kind)[:80]!r}")
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = base64.b64decode(body, validate=True)
    [stage_id], _, _ = json.loads(body)
    if not (isinstance(stage_id, str) and stage_id.isascii() and stage_id.isprintable()):
        raise ValueError("it names no stage")
    return stage_id


class _Hearing:
    """Whether this process hears its queue: something comes out of it, or that it is empty."""

    def __init__(self) -> None:
        self._last: float | None = None

    def begin(self) -> None:
        if self._last is None:
            self._last = time.monotonic()

    def hears(self) -> None:
        self._last = time.monotonic()

    @property
    def is_deaf(self) -> bool:
        """Of a broker that is neither Redis nor a folder nobody can tell."""
        return self._last is not None and time.monotonic() - self._last > DEAF_SECONDS


HEARING = _Hearing()


class _Bell:
    """What a channel is here: each queue has an exchange of its name, and nothing has to be looked up for that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        HEARING.begin()
        super().__init__(*args, **kwargs)

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        return [(exchange, "", exchange)]

    def _queue_bind(self, *_: object) -> None:
        pass


class _FolderChannel(_Bell, filesystem.Channel):
    """Messages as files that are there as a whole or not at all, and are taken by whoever deletes them."""

    def _put(self, queue: str, payload: Json, **_: object) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{round(time.time() * 1000)}_{uuid.uuid4()}"
        (folder / name).write_text(json.dumps(payload), encoding="utf-8")
        (folder / name).rename(folder / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Json:
        HEARING.hears()
        for file in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            if file.name.partition(".")[2] != f"{queue}.msg" or not file.is_file():
                continue
            try:
                with file.open("rb") as opened:
                    raw = opened.read(LONGEST + 1)
                file.unlink()
            except FileNotFoundError:  # another worker was first
                continue
            if (found := _wake_up(raw, queue)) is not None:
                return found
        raise Empty


class _FolderTransport(filesystem.Transport):
    Channel = _FolderChannel


@lru_cache(maxsize=1)
def _redis_transport() -> type:
    """Of Redis, whose driver is loaded by who uses it."""
    from kombu.transport import redis

    class Channel(_Bell, redis.Channel):
        def _create_client(self, asynchronous: bool = False) -> Any:
            client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
            client.set_response_callback("BRPOP", self._heard)
            return client

        def _heard(self, answer: Sequence[bytes] | None, **_: object) -> tuple[bytes, bytes] | None:
            """None: the queue was empty, as far as Celery is told."""
            HEARING.hears()
            if not answer:
                return None
            key, raw = answer
            queue = key.decode(errors="replace").rpartition(self.sep)[0] or key.decode(errors="replace")
            message = _wake_up(raw, queue)
            return None if message is None else (key, json.dumps(message).encode())

    class Transport(redis.Transport):
        pass

    Transport.Channel = Channel
    return Transport


class _Line(Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """With the transport itself for its name: those of a pool are of a class of kombu's, made of what this has."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.transport_cls = self.get_transport_cls()

    def get_transport_cls(self) -> type:
        """Ours of what kombu would take. Of brokers that are neither, Celery itself leaves aside what is not JSON."""
        found: type = super().get_transport_cls()  # type: ignore[no-untyped-call]
        if found is filesystem.Transport:
            return _FolderTransport
        return _redis_transport() if (found.__module__, found.__name__) == (REDIS, "Transport") else found


class _Lines(AMQP):  # type: ignore[misc]
    Connection = _Line


def make_app(broker: str, home: Path) -> Celery:
    """The Celery application for a broker. Raises ConfigurationError when the queue's folder cannot be made."""
    app = Celery("modescape", set_as_current=False, amqp=_Lines)
    app.conf.update(
        broker_url="filesystem://localhost/" if broker == "filesystem://" else broker,  # kombu warns without a host
        broker_transport_options=_transport_options(broker, home),
        broker_connection_timeout=BROKER_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # also what a Redis refuses: a replica after a fail-over takes no writes
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # liveness, cancel and pause go through the database
        worker_hijack_root_logger=False,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # the reaper brings a stage back, not the broker
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="cpu",
    )
    return app


def _transport_options(broker: str, home: Path) -> dict[str, Any]:
    if not broker.startswith("filesystem"):
        keepalive = {} if broker.startswith("redis+socket") else {"socket_keepalive": True}
        return {
            "ack_emulation": False,  # a wake-up that is lost is rung again; no list of them, which anybody may damage
            "health_check_interval": 30,
            "socket_connect_timeout": BROKER_SECONDS,
            "socket_timeout": BROKER_SECONDS,  # without it a broker that hangs holds whoever asks it for ever
            **keepalive,
        }
    folder = home / "queue"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the queue's folder {error.filename} cannot be made ({error.strerror}); set MODESCAPE_HOME to one that can"
        ) from None
    # the same: what one process puts out another takes in
    return {"data_folder_in": str(folder), "data_folder_out": str(folder), "polling_interval": 0.25}


class Notifier:
    """The broker as one process sees it. One that does not answer is left alone for a while, twice as long each time,
    so that a launch waits for it a few seconds at most and forty-five launches not forty-five times as long."""

    def __init__(self, broker: str, home: Path) -> None:
        self._app = make_app(broker, home)
        connection = self._app.connection_for_write()
        self._errors = (
            OperationalError, KombuError, OSError, *connection.connection_errors, *connection.channel_errors
        )  # fmt: skip
        self._one_at_a_time = threading.Lock()
        self._quiet_until = 0.0
        self._pause = PAUSES[0]

    @property
    def is_silent(self) -> bool:
        """Whether the broker did not answer lately; workers must look by themselves."""
        return time.monotonic() < self._quiet_until

    def notify(self, due: Sequence[tuple[str, str]]) -> list[str]:
        """Send a wake-up for each (stage id, queue); ids of those that were sent."""
        if not self._one_at_a_time.acquire(timeout=NOTIFY_SECONDS):
            return []
        try:
            return [] if self.is_silent else self._send(due)
        finally:
            self._one_at_a_time.release()

    def _send(self, due: Sequence[tuple[str, str]]) -> list[str]:
        told: list[str] = []
        until = time.monotonic() + NOTIFY_SECONDS
        try:
            for stage_id, queue in due:
                self._app.send_task(TASK, args=[stage_id], queue=queue, retry=False)
                told.append(stage_id)
                if time.monotonic() > until:
                    break
        except self._errors as error:
            self._quiet_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, PAUSES[1])
            BROKER.away(error)
        else:
            self._pause = PAUSES[0]
            BROKER.back()
        return told


notifier_of = lru_cache(maxsize=8)(Notifier)


def dispatch(
    settings: Settings, store: Store, experiment_id: str | None = None, *, older_than_seconds: float | None = None
) -> int:
    """Put ready stages nobody was told of on the queue; how many. Call it after the commit that made them ready.

    older_than_seconds: also those whose last wake-up is older than that. A broker that does not answer costs a
    warning and a few seconds, not an error: the rows stay as they are and a reaper rings later.
    """
    due = store.leases.unnotified(experiment_id=experiment_id, older_than_seconds=older_than_seconds)
    told = notifier_of(settings.broker, settings.home).notify(due) if due else []
    if told:
        store.leases.mark_notified(told)
    return len(told)


class _Reaper:
    """A thread of every worker that says the worker lives, frees what dead ones held, and rings again.

    work: what a wake-up would make this worker do; called in a thread of its own while the broker is silent or not
    heard, or a disk has no room; idle: called at every round.
    """

    def __init__(self, executor: Executor, work: Callable[[], None], idle: Callable[[], None]) -> None:
        self._executor = executor
        self._work = work
        self._idle = idle
        self._working: threading.Thread | None = None
        self._reader = Reader()
        self._was_away = self._is_away = False  # the database, at the round before and at this one
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        if self._working is not None:
            self._working.join()

    def _run(self) -> None:
        """A worker without this thread would pass for dead: it ends with it, to be started again."""
        seconds, rounds = self._executor.settings.lease_seconds, 0
        try:
            self._round(0.0)  # wake-ups that went to this worker's predecessor are lost: send all again
            while not self._over.wait(seconds / 3):
                rounds += 1
                self._round(2 * seconds, prune=rounds % PRUNE_EVERY == 0)
        finally:
            if not self._over.is_set():
                log.critical("the reaper has ended, and this worker does with it")
                self._executor.stop()
                celery_state.should_stop = EX_FAILURE

    def _round(self, older_than_seconds: float, *, prune: bool = False) -> None:
        """One after another, whatever becomes of those before."""
        executor, settings = self._executor, self._executor.settings
        self._was_away, self._is_away = self._is_away, False
        parts = [
            executor.settle_owed,
            self._tell_of_itself,
            self._free,
            lambda: dispatch(settings, executor.store, older_than_seconds=older_than_seconds),
            *([lambda: _tidy(executor)] if prune else []),
            self._look,
            self._idle,
        ]
        for part in parts:
            try:
                part()
            except UNAVAILABLE as error:
                self._is_away = True
                DATABASE.away(error)
            except Exception:
                LOOPS.exception("a part of the reaper's round failed")

    def _tell_of_itself(self) -> None:
        executor, current = self._executor, self._executor.current
        stage_id = current[0].lease.stage.id if current else None
        deaf = {"hears_queue": False} if HEARING.is_deaf and not current else {}  # while at work it does not ask
        executor.store.workers.seen(executor.name, stage_id=stage_id, readings=self._reader.read() | deaf)

    def _free(self) -> None:
        if self._was_away:  # all workers are silent until they have had time to speak
            return
        for stage_id in self._executor.reap():
            log.warning("freed stage %s: its worker stopped answering", stage_id)

    def _look(self) -> None:
        settings = self._executor.settings
        is_silent = HEARING.is_deaf or notifier_of(settings.broker, settings.home).is_silent
        if not (self._executor.lacks_room or is_silent):
            return  # somebody rings; nobody does when there is room again
        if not self._executor.current and (self._working is None or not self._working.is_alive()):
            self._working = threading.Thread(target=self._work, name="without a bell", daemon=True)
            self._working.start()


def _tidy(executor: Executor) -> None:
    from modescape.laboratory import Laboratory
    from modescape.retention import tidy

    if forgotten := tidy(Laboratory.of(executor.settings, executor.store, executor.artifacts)):
        log.info("forgot what is old: %s", ", ".join(f"{count} {name}" for name, count in forgotten.items()))


def worker_main(
    settings: Settings, name: str | None = None, *, runner: Runner | None = None, machine: Machine | None = None
) -> None:
    """Run one worker until SIGTERM or Ctrl-C, which gives its stage back. Returns after an orderly end.

    One that has had no work for `settings.rest_seconds` gives back the memory of what it computes with, which is more
    than all else it is: this process begins afresh as `modescape worker`, under the same pid and name, and loads torch
    and plug-ins again when there is a stage.

    name: the same again after a crash frees at once what the crashed one held; so it must be unique among the
    living. runner and machine are the real ones unless a test says otherwise. Raises ConfigurationError, and
    ModescapeError where one of its loops has ended by itself.
    """
    _set_up_logging(settings)
    check_schema(settings.database)
    name = name or f"{platform.node()}-{os.getpid()}"
    rested = _machine_of(os.environ.pop(RESTED, ""))
    store = Store(settings.database)

    def look() -> Machine:
        plugins.load(settings.plugin_modules)
        return machine or Machine.here(settings)

    def wake() -> Machine:
        found = look()
        if found != rested:  # something was installed meanwhile
            _register(store, name, found)
        return found

    executor = Executor(
        store, Artifacts(settings.artifact_place), settings, name=name, runner=runner, machine=rested or look(),
        wake=wake if rested else None, after=lambda: dispatch(settings, store), hangs=_end_process,
    )  # fmt: skip
    here = executor.machine
    app = make_app(settings.broker, settings.home)
    one_at_a_time = threading.Lock()  # a wake-up, or a look without one

    def work() -> None:
        try:
            with one_at_a_time:
                executor.drain()
        except UNAVAILABLE as error:
            DATABASE.away(error)
        finally:
            HEARING.hears()  # the queue was not asked meanwhile

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run_stage(stage_id: str) -> None:  # whose turn it is by now, the store says
        work()

    def begin() -> None:
        for stage_id in store.leases.release_owner(name):
            log.warning("freed stage %s: this worker was killed while it had it", stage_id)
        if rested is None:
            _register(store, name, here)
            living = [worker.name for worker in store.workers.living()]
            published_entries.publish(store.catalogue, name, living)
            if runner is None:
                _calibrate(store, name, here.device)

    patiently(begin, until=threading.Event())
    executor.watch.begin()
    rest = _Rest(executor)
    reaper, counter = _Reaper(executor, work, rest.when_idle), kept_counts.Counter(store, name)
    signals.worker_shutting_down.connect(lambda **_: executor.stop(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: rest.never(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # ours is set up above
    worker = app.Worker(
        pool="solo", concurrency=1, hostname=f"{executor.name}@modescape", queues=list(here.queues),
        without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True,
    )  # fmt: skip
    reaper.start()
    counter.start()
    try:
        worker.start()
    finally:
        executor.stop()
        counter.stop()
        reaper.stop()
        begins_afresh = rest.is_due()
        try:
            if not begins_afresh:
                store.workers.stopped(name)
        except UNAVAILABLE as error:  # it will be found silent instead
            DATABASE.away(error)
        store.close()
    if begins_afresh:
        _begin_afresh(name, settings, executor.machine)
    if worker.exitcode:  # Celery has caught what it was
        raise ModescapeError(f"the worker {name} could not go on; what is above says why")


def _end_process() -> None:
    """At once, whatever its threads are at; the supervisor, or whatever started it, starts another one."""
    logging.shutdown()
    os._exit(HANGING)


class _Rest:
    """Ends a worker that has nothing to do and much in memory, so that it begins afresh."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._asked = self._never = False

    def never(self) -> None:
        """It was told to end for good."""
        self._never = True

    def when_idle(self) -> None:
        executor = self._executor
        if "torch" in sys.modules and executor.idle_seconds > executor.settings.rest_seconds:
            self._asked, celery_state.should_stop = True, 0  # an orderly end, at the next turn of Celery's loop

    def is_due(self) -> bool:
        """Asked once the worker has ended; from here on a signal ends the process as it would any other."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if threading.current_thread() is threading.main_thread():
                signal.signal(number, signal.SIG_DFL)
        return self._asked and not self._never


def _begin_afresh(name: str, settings: Settings, machine: Machine) -> None:
    log.info("nothing to do for %.0f s: gives its memory back", settings.rest_seconds)
    command = [sys.executable, "-P", "-m", "modescape.cli", "worker", "--name", name, "--device", settings.device,
               "--queues", ",".join(machine.queues)]  # fmt: skip
    os.execve(sys.executable, command, {**os.environ, RESTED: json.dumps(asdict(machine))})


def _machine_of(told: str) -> Machine | None:
    return Machine(**(about := json.loads(told)) | {"queues": tuple(about["queues"])}) if told else None


def _register(store: Store, name: str, machine: Machine) -> None:
    store.workers.register(
        name, device=machine.title, numerics=machine.numerics, queue=",".join(machine.queues), pid=os.getpid()
    )


def _calibrate(store: Store, name: str, device: str) -> None:
    """Measure what prices are made of until stages have finished; once for an arithmetic on a device."""
    if store.workers.calibration(name):
        return
    from modescape.calibration import calibrate

    started = time.monotonic()
    store.workers.calibrated(name, calibrate(device).as_document())
    log.info("measured this worker's speed in %.1f s", time.monotonic() - started)


def _set_up_logging(settings: Settings) -> None:
    logs.set_up(settings.log_level, settings.log_format)
    for chatty in ("alembic", "celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("celery.worker.consumer.consumer").addFilter(OnceAMinute())  # each try to reconnect
    # Celery warns root that messages could run code; ours are stage ids in JSON and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
