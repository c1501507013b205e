"""The doorbell: Celery carries stage ids from whoever made a stage ready to whoever can do it. Nothing else.

    dispatch(settings, store)          # after a commit: wake-ups for what is ready
    worker_main(settings, "gpu0")      # a worker process, until SIGTERM

Messages may be lost, doubled or late without harm: the store says what is ready and who has it, a wake-up only makes a
worker look at once, and then it goes on until nothing is ready. In every worker a reaper frees what dead workers held
and rings again for what nobody came for. Measured choices: filesystem queue polled every 0.25 s when nothing else is
installed, Redis otherwise; pool `solo`, because torch hangs after a fork.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.platforms import SecurityWarning
from kombu.exceptions import KombuError, OperationalError

from modescape import registry
from modescape.artifacts import Artifacts
from modescape.errors import ConfigurationError
from modescape.executor import Executor, Machine, Runner, StageControl
from modescape.settings import Settings
from modescape.store import UNAVAILABLE, Store, check_schema

log = logging.getLogger(__name__)

TASK = "modescape.run_stage"
KEEP_EVENTS = 20_000
PRUNE_EVERY = 100  # reaper rounds


def make_app(broker: str, home: Path) -> Celery:
    """The Celery application for a broker. Raises ConfigurationError when the queue's folder cannot be made."""
    app = Celery("modescape", set_as_current=False)
    app.conf.update(
        broker_url="filesystem://localhost/" if broker == "filesystem://" else broker,  # kombu warns without a host
        broker_transport_options=_transport_options(broker, home),
        broker_connection_timeout=2,
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
            "socket_connect_timeout": 2,
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


_publisher = lru_cache(maxsize=8)(make_app)


def dispatch(
    settings: Settings, store: Store, experiment_id: str | None = None, *, older_than_seconds: float | None = None
) -> int:
    """Put ready stages nobody was told of on the queue; how many. Call it after the commit that made them ready.

    older_than_seconds: also those whose last wake-up is older than that. A broker that does not answer costs a
    warning, not an error: the rows stay as they are and a reaper rings later.
    """
    due = store.to_ring(experiment_id=experiment_id, older_than_seconds=older_than_seconds)
    rung: list[str] = []
    app = _publisher(settings.broker, settings.home)
    try:
        for stage_id, queue in due:
            app.send_task(TASK, args=[stage_id], queue=queue, retry=False)
            rung.append(stage_id)
    except (OperationalError, KombuError, OSError) as error:
        log.warning("the broker does not answer (%s); %d stages wait for the reaper", error, len(due) - len(rung))
    if rung:
        store.mark_rung(rung)
    return len(rung)


class _Reaper:
    """A thread of every worker that says the worker lives, frees what dead ones held, and rings again."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        seconds, rounds = self._executor.settings.lease_seconds, 0
        self._round(0.0)  # wake-ups that went to this worker's predecessor are lost: ring for everything
        while not self._over.wait(seconds / 3):
            rounds += 1
            self._round(2 * seconds)
            if rounds % PRUNE_EVERY == 0:
                self._executor.store.prune_events(KEEP_EVENTS)

    def _round(self, older_than_seconds: float) -> None:
        executor = self._executor
        current = executor.current
        try:
            executor.store.worker_seen(executor.name, stage_id=current.lease.stage_id if current else None)
            for stage_id in executor.store.reap():
                log.warning("freed stage %s: its worker stopped answering", stage_id)
            dispatch(executor.settings, executor.store, older_than_seconds=older_than_seconds)
        except UNAVAILABLE as error:
            log.warning("the database does not answer: %s", error)


def worker_main(
    settings: Settings, name: str | None = None, *, runner: Runner | None = None, machine: Machine | None = None
) -> None:
    """Run one worker until SIGTERM or Ctrl-C, which gives its stage back. Returns after an orderly end.

    name: the same again after a crash frees at once what the crashed one held; so it must be unique among the
    living. runner and machine are the real ones unless a test says otherwise. Raises ConfigurationError.
    """
    _set_up_logging(settings)
    check_schema(settings.database)
    registry.load_plugins(settings.plugin_modules)
    store = Store(settings.database)
    executor = Executor(
        store, Artifacts(settings.artifact_folder), settings, name=name or f"{platform.node()}-{os.getpid()}",
        runner=runner, machine=machine, after=lambda: dispatch(settings, store),
    )  # fmt: skip
    here = executor.machine
    app = make_app(settings.broker, settings.home)

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run_stage(stage_id: str) -> None:
        try:
            executor.drain(stage_id)
        except UNAVAILABLE as error:
            log.warning("the database does not answer: %s", error)

    for stage_id in store.release_owner(executor.name):
        log.warning("freed stage %s: this worker was killed while it had it", stage_id)
    store.register_worker(
        executor.name, device=here.title, numerics=here.numerics, queue=here.queues[0], pid=os.getpid()
    )
    if runner is None:
        _calibrate(store, executor.name, here.device)
    reaper = _Reaper(executor)
    signals.worker_shutting_down.connect(lambda **_: executor.stop(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # ours is set up above
    worker = app.Worker(
        pool="solo", concurrency=1, hostname=f"{executor.name}@modescape", queues=list(here.queues),
        without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True,
    )  # fmt: skip
    reaper.start()
    try:
        worker.start()
    finally:
        reaper.stop()
        store.worker_stopped(executor.name)
        store.close()


def _calibrate(store: Store, name: str, device: str) -> None:
    """Measure what prices are made of until stages have finished; once for an arithmetic on a device."""
    if store.worker_calibration(name):
        return
    from modescape.science.calibration import calibrate

    started = time.monotonic()
    store.worker_calibrated(name, calibrate(device).as_document())
    log.info("measured this worker's speed in %.1f s", time.monotonic() - started)


def _set_up_logging(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Celery warns root that messages could run code; ours are stage ids in JSON and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)


__all__ = ["StageControl", "dispatch", "make_app", "worker_main"]
