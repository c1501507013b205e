"""Doing stages, with or without a queue: claim one, run it, keep its lease alive, and tell the store how it ended.

    Executor(store, artifacts, settings).run_experiment(experiment.id, progress=True)     # a notebook, `modescape run`

A worker process (`celery_queue`) does the same in answer to wake-ups. While a stage runs, a second thread keeps its
lease, tells its progress and reads the user's wish; the stage itself only looks at a flag at every step.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from modescape import extras, heap
from modescape.artifacts import Artifacts
from modescape.database import UNAVAILABLE, is_away, is_busy
from modescape.errors import ConfigurationError, LeaseLost, ModescapeError, StageInterrupted
from modescape.outage import DATABASE
from modescape.records import Json, StageKind, StageOutput, Status
from modescape.settings import Settings
from modescape.stages.control import StageControl
from modescape.store import Store
from modescape.store.leases import Lease

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5  # how soon a wish is noticed; reading it costs 0.1 ms
TELL_SECONDS = 1.0  # between progress events of one stage


class Runner(Protocol):
    """What does a stage's work: the module `stages.runner`, or something small in tests."""

    def stage_key(self, lease: Lease, numerics: str) -> str: ...

    def run_stage(
        self,
        lease: Lease,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        control: StageControl,
        *,
        device: str,
    ) -> StageOutput: ...

    def renewed(self, lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput: ...


@dataclass(frozen=True)
class Machine:
    """What computes here. device: "cpu" or "cuda"; numerics: what must be equal for equal bytes; queues: those it
    takes stages from, its own first."""

    device: str
    title: str
    numerics: str
    queues: tuple[str, ...]

    @classmethod
    def here(cls, settings: Settings) -> Machine:
        """Look at this machine; loads torch, where that is installed: what was made elsewhere is judged without.

        Raises ConfigurationError when a GPU is asked for and there is none, or nothing that computes on one.
        """
        heap.keep()
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"  # read once, when torch is loaded: parallelism is one worker a core
        if not extras.has("torch"):
            if settings.device == "cuda":
                extras.require("worker", "MODESCAPE_DEVICE=cuda")
            return cls("cpu", _processor(), _numerics_of_numpy(), ("cpu",))
        import torch

        from modescape.science.arithmetic import choose_precision, numerics_class

        torch.set_num_threads(1)
        cuda = settings.device != "cpu" and torch.cuda.is_available()
        if settings.device == "cuda" and not cuda:
            raise ConfigurationError("MODESCAPE_DEVICE is cuda, but torch finds no GPU; use cpu or auto")
        device = "cuda" if cuda else "cpu"
        title = torch.cuda.get_device_name() if cuda else _processor()
        numerics = numerics_class(device, choose_precision("auto", device))
        return cls(device, title, numerics, ("gpu", "cpu") if cuda else ("cpu",))


class Executor:
    """Takes stages one after another. Not thread-safe, except `stop`.

    name: the worker's, unique among those alive; runner and machine: None means the real ones of this machine;
    after: called after each stage, when others may have become ready.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        *,
        name: str | None = None,
        runner: Runner | None = None,
        machine: Machine | None = None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        if runner is None:
            from modescape.stages import runner as real

            runner = real
        self.store = store
        self.artifacts = artifacts
        self.settings = settings
        self.name = name or f"{platform.node()}-{os.getpid()}"
        self.machine = machine or Machine.here(settings)
        self.current: StageControl | None = None
        self._runner = runner
        self._after = after
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Give the present stage back at its next step and take no other. From any thread or a signal handler."""
        self._stopping.set()
        current = self.current
        if current is not None:
            current.stop(StageInterrupted("the worker is stopping"))

    def drain(self, first: str | None = None, *, experiment_id: str | None = None) -> int:
        """Work until nothing is ready, on the stage `first` before others; how many stages were taken."""
        taken = 0
        while not self._stopping.is_set():
            lease = self._claim(self.machine.queues, experiment_id, first)
            if lease is None:
                break
            self.work(lease)
            first = None
            taken += 1
        if taken:
            heap.give_back()
        return taken

    def run_experiment(self, experiment_id: str, *, progress: bool = False) -> None:
        """Do all of one experiment here; other workers of the same database may help. Returns when it has ended.

        Returns earlier, too, when it was paused by someone else. progress: on stderr, a bar where that is a terminal
        and else a line for each stage.
        """
        from threadpoolctl import threadpool_limits

        # one BLAS thread: this may be somebody else's process, whose numpy was loaded with one for every core
        with threadpool_limits(limits=1), _progress(self.store, experiment_id, shown=progress) as moved:
            while not self._stopping.is_set():
                lease = self._claim(("cpu", "gpu"), experiment_id)
                if lease is not None:
                    moved(f"{lease.stage.kind} {lease.stage.key}")
                    self.work(lease)
                elif (status := self.store.experiments.get(experiment_id).status).has_ended or status is Status.PAUSED:
                    heap.give_back()
                    return
                else:  # another worker has the rest
                    self.store.leases.reap()
                    time.sleep(TICK_SECONDS)
                moved("")

    def _claim(self, queues: Sequence[str], experiment_id: str | None, first: str | None = None) -> Lease | None:
        return self.store.leases.claim(
            self.name, stage_id=first, queues=queues, experiment_id=experiment_id,
            lease_seconds=self.settings.lease_seconds,
        )  # fmt: skip

    def work(self, lease: Lease) -> str:
        """Run one claimed stage to its end; how it ended: succeeded, reused, failed, lost, waiting (another worker does
        the same), or the state given back."""
        control = StageControl(self.store, lease)
        self.current = control
        if self._stopping.is_set():
            control.stop(StageInterrupted("the worker is stopping"))
        started = time.monotonic()
        try:
            with self._heart(control):
                outcome = self._work(control)
        except LeaseLost as lost:
            outcome = "lost"
            log.warning("%s", lost)
        except UNAVAILABLE as error:  # nothing can be told; the lease runs out and the stage goes on elsewhere
            outcome = "lost"
            DATABASE.away(error)
        finally:
            self.current = None
        seconds = time.monotonic() - started
        log.info("%s %s: %s in %.1f s", lease.experiment.slug, lease.name, outcome, seconds)
        self._after()
        return outcome

    def _work(self, control: StageControl) -> str:
        lease, started = control.lease, time.monotonic()
        try:
            control.check()
            memo = self._runner.stage_key(lease, self.machine.numerics)
            if self.store.leases.reuse(
                lease, memo, exists=self.artifacts.exists,
                renew=lambda output: self._runner.renewed(lease, output, self.artifacts),
            ):  # fmt: skip
                return "reused"
            if not self.store.leases.begin(lease, memo):
                return "waiting"
            control.begin(memo)
            with extras.said():
                output = self._runner.run_stage(
                    lease, self.store, self.artifacts, self.settings, control, device=self.machine.device
                )
            self.store.leases.finish(lease, output, memo, control.untold())
        except LeaseLost:
            raise
        except StageInterrupted:
            return self.store.leases.give_back(lease)
        except Exception as error:
            if is_away(error) or is_busy(error):
                raise
            expected = isinstance(error, ModescapeError)  # its words are for the user; where it was raised is kept
            log.error("%s %s failed: %s", lease.experiment.slug, lease.name, error, exc_info=not expected)
            self.store.leases.fail(lease, _record(error, lease))
            return "failed"
        except BaseException:  # Ctrl-C in a notebook: the stage can go on later
            self.store.leases.give_back(lease)
            raise
        self._learn_speed(lease, output, time.monotonic() - started)
        return "succeeded"

    def _learn_speed(self, lease: Lease, output: StageOutput, seconds: float) -> None:
        """What prices are made of. A stage that went on where another attempt had stopped says nothing of its kind."""
        if lease.stage.attempt == 1 and "skipped" not in output.extra:
            self.store.workers.learn(lease.stage, self.machine.numerics, seconds)
        rate = output.extra.get("images_per_second")
        if lease.stage.kind == StageKind.TRAIN and rate:
            self.store.workers.keep_speed(self.name, lease.experiment.architecture, float(rate))

    @contextmanager
    def _heart(self, control: StageControl) -> Iterator[None]:
        """Beat the lease from a second thread until the stage is over."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(control, over), name="heart", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat(self, control: StageControl, over: threading.Event) -> None:
        seconds = control.lease.seconds
        tick, beaten = min(TICK_SECONDS, seconds / 6), time.monotonic()
        while not over.wait(tick):
            now = time.monotonic()
            due = now - beaten > seconds / 3 or (control.has_progress and now - beaten > TELL_SECONDS)
            try:
                if due:
                    control.tell()
                    beaten = now
                else:
                    control.stop_if_asked(self.store.leases.wish(control.lease))
            except LeaseLost as lost:
                control.stop(lost)
                return
            except UNAVAILABLE as error:
                DATABASE.away(error)
                if now - beaten > seconds:
                    control.stop(LeaseLost("the database did not answer for a whole lease"))
                    return


def _record(error: Exception, lease: Lease) -> Json:
    return {
        "type": type(error).__name__,
        "message": _storable(str(error)[:2000]) or type(error).__name__,
        "traceback": _storable(traceback.format_exc()[-20_000:]),
        "params": lease.stage.params,
    }


def _storable(text: str) -> str:
    """What both databases take: a message may quote a file name that is not UTF-8, or the NULs of a damaged file."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


@contextmanager
def _progress(store: Store, experiment_id: str, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """Tells how far an experiment is; call what it gives with the name of what runs now, or "" between two stages."""
    if not shown:
        yield lambda doing: None
        return
    total = store.experiments.get(experiment_id).stages_total
    if not sys.stderr.isatty():
        yield lambda doing: _line(store.experiments.get(experiment_id).stages_done, total, doing)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="stage") as bar:

        def moved(doing: str) -> None:
            bar.set_description_str(doing)
            bar.update(store.experiments.get(experiment_id).stages_done - bar.n)

        yield moved


def _line(done: int, total: int, doing: str) -> None:
    if doing:
        print(f"stage {done + 1}/{total}: {doing}", file=sys.stderr, flush=True)


def _numerics_of_numpy() -> str:
    """As `science.arithmetic.numerics_class`, of a machine on which numpy alone computes."""
    found = np.show_config(mode="dicts")
    extensions = found.get("SIMD Extensions", {}) if found else {}
    widest = [*extensions.get("baseline", []), *extensions.get("found", [])][-1:] or [platform.machine()]
    return f"cpu/{widest[0]}/numpy {np.__version__}/1 thread"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:80]
    return (platform.processor() or platform.machine())[:80]
