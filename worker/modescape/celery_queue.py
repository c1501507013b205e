"""The doorbell: Celery carries stage ids from whoever made a stage ready to whoever can do it. Nothing else.

    dispatch(settings, store)          # after a commit: wake-ups for what is ready
    worker_main(settings, "gpu0")      # a worker process, until SIGTERM or a rest

Messages may be lost, doubled or late without harm: the store says what is ready and who has it, a wake-up only makes a
worker look at once, and then it goes on until nothing is ready. In every worker a reaper frees what dead workers held
and rings again for what nobody came for. While the broker is away (refusing, or silent, which costs a time-out) nobody
waits for it: launches and stages go on without a wake-up, and workers look by themselves. Measured choices: filesystem
queue polled every 0.25 s when nothing else is installed, Redis otherwise; pool `solo`, because torch hangs after a
fork.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.platforms import SecurityWarning
from kombu.exceptions import KombuError, OperationalError

from modescape import kept_counts, logs, plugins, published_entries
from modescape.artifacts import Artifacts
from modescape.database import UNAVAILABLE, check_schema
from modescape.errors import ConfigurationError
from modescape.executor import Executor, Machine, Runner
from modescape.outage import BROKER, DATABASE, OnceAMinute
from modescape.settings import Settings
from modescape.store import Store

log = logging.getLogger(__name__)

TASK = "modescape.run_stage"
HANGING = 70  # status of a worker that has ended itself, because its stage made no step any more
PRUNE_EVERY = 100  # reaper rounds
BROKER_SECONDS = 2.0  # for the broker to accept a connection, and to answer a command
NOTIFY_SECONDS = 3.0  # for the wake-ups of one launch, or for another thread's to be through
RESTED = "MODESCAPE_RESTED_MACHINE"  # what a worker that begins afresh knows of its machine, without looking
PAUSES = (5.0, 30.0)  # seconds a broker that did not answer is left alone: at first, and at most


def make_app(broker: str, home: Path) -> Celery:
    """The Celery application for a broker. Raises ConfigurationError when the queue's folder cannot be made."""
    app = Celery("modescape", set_as_current=False)
    app.conf.update(
        broker_url="filesystem://localhost/" if broker == "filesystem://" else broker,  # kombu warns without a host
        broker_transport_options=_transport_options(broker, home),
        broker_connection_timeout=BROKER_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
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
            "visibility_timeout": 24 * 3600,  # longer than any stage; a repeat does no harm anyway
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            "health_check_interval": 30,
            "socket_connect_timeout": BROKER_SECONDS,
            "socket_timeout": BROKER_SECONDS,  # without it a broker that hangs holds whoever asks it for ever
            **keepalive,
        }
    folders = {name: home / name for name in ("queue", "control")}
    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the queue's folder {error.filename} cannot be made ({error.strerror}); set MODESCAPE_HOME to one that can"
        ) from None
    return {
        "data_folder_in": str(folders["queue"]),
        "data_folder_out": str(folders["queue"]),  # the same: what one process puts out another takes in
        "control_folder": str(folders["control"]),
        "store_processed": False,
        "polling_interval": 0.25,
    }


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

    work: what a wake-up would make this worker do; called in a thread of its own while the broker is silent, or a disk
    has no room; idle: called at every round.
    """

    def __init__(self, executor: Executor, work: Callable[[], None], idle: Callable[[], None]) -> None:
        self._executor = executor
        self._work = work
        self._idle = idle
        self._working: threading.Thread | None = None
        self._is_away = False  # the database, at the last round
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
        seconds, rounds = self._executor.settings.lease_seconds, 0
        self._round(0.0)  # wake-ups that went to this worker's predecessor are lost: send all again
        while not self._over.wait(seconds / 3):
            rounds += 1
            self._round(2 * seconds, prune=rounds % PRUNE_EVERY == 0)

    def _round(self, older_than_seconds: float, *, prune: bool = False) -> None:
        executor = self._executor
        current = executor.current
        try:
            executor.settle_owed()
            executor.store.workers.seen(executor.name, stage_id=current[0].lease.stage.id if current else None)
            was_away, self._is_away = self._is_away, False
            # when the database is there again, all workers are silent until they have had time to speak
            for stage_id in () if was_away else executor.store.leases.reap():
                log.warning("freed stage %s: its worker stopped answering", stage_id)
            dispatch(executor.settings, executor.store, older_than_seconds=older_than_seconds)
            if prune:
                _tidy(executor)
        except UNAVAILABLE as error:
            self._is_away = True
            DATABASE.away(error)
        except Exception:  # whatever it is: a worker without a reaper would pass for dead
            log.exception("a round of the reaper failed")
        if executor.lacks_room or notifier_of(executor.settings.broker, executor.settings.home).is_silent:
            self._look()  # nobody rings when there is room again
        self._idle()

    def _look(self) -> None:
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
    living. runner and machine are the real ones unless a test says otherwise. Raises ConfigurationError.
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
        store, Artifacts(settings.artifact_folder), settings, name=name, runner=runner, machine=rested or look(),
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

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run_stage(stage_id: str) -> None:  # whose turn it is by now, the store says
        work()

    for stage_id in store.leases.release_owner(name):
        log.warning("freed stage %s: this worker was killed while it had it", stage_id)
    if rested is None:
        _register(store, name, here)
        living = [worker.name for worker in store.workers.living()]
        published_entries.publish(store.catalogue, name, living)
        if runner is None:
            _calibrate(store, name, here.device)
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
        from celery.worker import state

        executor = self._executor
        if "torch" in sys.modules and executor.idle_seconds > executor.settings.rest_seconds:
            self._asked, state.should_stop = True, 0  # an orderly end, at the next turn of Celery's loop

    def is_due(self) -> bool:
        """Asked once the worker has ended; from here on a signal ends the process as it would any other."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if threading.current_thread() is threading.main_thread():
                signal.signal(number, signal.SIG_DFL)
        return self._asked and not self._never


def _begin_afresh(name: str, settings: Settings, machine: Machine) -> None:
    log.info("nothing to do for %.0f s: gives its memory back", settings.rest_seconds)
    command = [sys.executable, "-P", "-m", "modescape.cli", "worker", "--name", name, "--device", settings.device]
    os.execve(sys.executable, command, {**os.environ, RESTED: json.dumps(asdict(machine))})


def _machine_of(told: str) -> Machine | None:
    return Machine(**(about := json.loads(told)) | {"queues": tuple(about["queues"])}) if told else None


def _register(store: Store, name: str, machine: Machine) -> None:
    store.workers.register(
        name, device=machine.title, numerics=machine.numerics, queue=machine.queues[0], pid=os.getpid()
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
