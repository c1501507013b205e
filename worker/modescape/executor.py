"""Doing stages, with or without a queue: claim one, run it, keep its lease alive, and tell the store how it ended.

    Executor(store, artifacts, settings).run_experiment(experiment.id, progress=True)     # a notebook, `modescape run`

A worker process (`celery_queue`) does the same in answer to wake-ups. While a stage runs, a second thread keeps its
lease, tells its progress and reads the user's wish; the stage itself only looks at a flag at every step. Stages that
train members of one ensemble may be claimed and done together (`stages.grouping`): each keeps its row, lease and files.
While the database is away or takes no writes, what is computed goes on and what must be written waits: nobody else
could write that the stage is theirs, and who can is told apart by the token.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from modescape import extras, heap, logs
from modescape.artifacts import Artifacts
from modescape.database import AGAIN_SECONDS, UNAVAILABLE, is_away, is_busy, no_room, patiently
from modescape.drawing.words import duration
from modescape.errors import ConfigurationError, LeaseLost, ModescapeError, NoRoom, StageInterrupted
from modescape.outage import DATABASE, LOOPS, lacks, lacks_nothing
from modescape.records import Json, Queue, StageKind, StageOutput, Status
from modescape.settings import Settings
from modescape.stages.control import StageControl
from modescape.stages.grouping import Group
from modescape.stages.together import Together
from modescape.store import Store
from modescape.store.leases import Lease

T = TypeVar("T")

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5  # how soon a wish is noticed; reading it costs 0.1 ms
TELL_SECONDS = 1.0  # between progress events of one stage
TELL_TIMES = 20.0  # as long as the last took, where that is longer: so many workers share a database that is slow
# A stage that gives no sign of life for ten times as long as all of it should take, and for so long, hangs.
HANGS_SECONDS, HANGS_TIMES = 600.0, 10.0
UNPRICED_SECONDS = 8640.0  # what a stage of which nobody knows how long it takes should take: it has a day


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


class Grouper(Protocol):
    """Says how the experiment of a claimed stage trains its members: `stages.runner.group_of`."""

    def __call__(
        self,
        lease: Lease,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        control: StageControl,
        *,
        device: str,
        title: str,
    ) -> Group | None: ...


@dataclass(frozen=True)
class Machine:
    """What computes here. device: "cpu" or "cuda"; numerics: what must be equal for equal bytes; queues: those it
    takes stages from."""

    device: str
    title: str
    numerics: str
    queues: tuple[str, ...] = tuple(Queue)

    @classmethod
    def here(cls, settings: Settings) -> Machine:
        """Look at this machine; loads torch, where that is installed: what was made elsewhere is judged without.

        Raises ConfigurationError when a GPU is asked for and there is none, or nothing that computes on one.
        """
        heap.keep()
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"  # read once, when torch is loaded: parallelism is one worker a core
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # likewise: sums in one order
        if not extras.has("torch"):
            if settings.device == "cuda":
                extras.require("worker", "MODESCAPE_DEVICE=cuda")
            return cls("cpu", _processor(), _numerics_of_numpy(), settings.queues_served)
        import torch

        from modescape.science.arithmetic import choose_precision, numerics_class

        torch.set_num_threads(1)
        cuda = settings.device != "cpu" and torch.cuda.is_available()
        if settings.device == "cuda" and not cuda:
            raise ConfigurationError("MODESCAPE_DEVICE is cuda, but torch finds no GPU; use cpu or auto")
        device = "cuda" if cuda else "cpu"
        title = torch.cuda.get_device_name() if cuda else _processor()
        numerics = numerics_class(device, choose_precision("auto", device))
        return cls(device, title, numerics, settings.queues_served)


class Watch:
    """Whether the silence of others may be judged. Not by who has slept itself (a laptop's lid, a stopped process), not
    after a jump of the clock by which leases expire, and not just after an outage: then everybody has been silent, and
    a lease must pass in which those who live can beat."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self._looked: tuple[float, datetime] | None = None
        self._fit_from = 0.0

    def begin(self) -> None:
        """From here on a lease must pass, as after a sleep: whoever starts may have been started by a lid."""
        self._fit_from = time.monotonic() + self._lease

    def is_fit(self, at: datetime) -> bool:
        """Ask it at every round, with the time read before: who falls asleep in between judges by an old clock."""
        now, before = time.monotonic(), self._looked
        self._looked = now, at
        if before is not None:
            passed = max(now - before[0], abs((at - before[1]).total_seconds()))  # some clocks stand still in a sleep
            if passed > self._lease * 2 / 3:  # twice what lies between two rounds
                self.begin()
        return now >= self._fit_from


class Executor:
    """Takes stages one after another, or several that belong together. Not thread-safe, except `stop`.

    name: the worker's, unique among those alive; runner, group_of and machine: None means the real ones of this machine
    (nothing is done together by a runner that is given alone); wake: called before the first stage, for the machine as
    it is then (see `celery_queue.worker_main`); after: called after each stage, when others may have become ready;
    hangs: called when a stage hangs, which only the end of its process ends, once the store knows.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        *,
        name: str | None = None,
        runner: Runner | None = None,
        group_of: Grouper | None = None,
        machine: Machine | None = None,
        wake: Callable[[], Machine] | None = None,
        after: Callable[[], object] = lambda: None,
        hangs: Callable[[], object] = lambda: None,
    ) -> None:
        if runner is None:
            from modescape.stages import runner as real

            runner, group_of = real, group_of or real.group_of
        self.store = store
        self.artifacts = artifacts
        self.settings = settings
        self.name = name or f"{platform.node()}-{os.getpid()}"
        self.machine = machine or Machine.here(settings)
        self.current: tuple[StageControl, ...] = ()
        self.lacks_room: NoRoom | None = None  # what kept it from taking a stage when it last looked
        self._owed: list[tuple[Lease, NoRoom | None]] = []
        self._runner = runner
        self._group_of = group_of
        self._wake = wake
        self._ended = time.monotonic()
        self._after = after
        self._hangs = hangs
        self.watch = Watch(settings.lease_seconds)
        self._stopping = threading.Event()

    @property
    def idle_seconds(self) -> float:
        """Since its last stage ended."""
        return 0.0 if self.current else time.monotonic() - self._ended

    def stop(self) -> None:
        """Give the present stages back at their next steps and take no other. From any thread or a signal handler."""
        self._stopping.set()
        for control in self.current:
            control.stop(StageInterrupted("the worker is stopping"))

    def drain(self, *, experiment_id: str | None = None) -> int:
        """Work until nothing is ready; how many stages were taken."""
        taken = 0
        while not self._stopping.is_set():
            lease = self._claim(self.machine.queues, experiment_id)
            if lease is None:
                break
            taken += self._take(lease)
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
                lease = self._claim(tuple(Queue), experiment_id)
                if lease is not None:
                    moved(f"{lease.stage.kind} {lease.stage.key}")
                    self._take(lease)
                elif (status := self._status(experiment_id)).has_ended or status is Status.PAUSED:
                    heap.give_back()
                    return
                else:  # another worker has the rest, or there is no room for it
                    if self.lacks_room is None:
                        self._patiently(self.reap)
                    time.sleep(TICK_SECONDS)
                moved("")

    def reap(self) -> list[str]:
        """Free the stages of workers that stopped answering; their ids."""
        at = self.store.leases.clock()
        return self.store.leases.reap(at) if self.watch.is_fit(at) else []

    def _status(self, experiment_id: str) -> Status:
        return self._patiently(lambda: self.store.experiments.get(experiment_id).status)

    def _patiently(self, do: Callable[[], T]) -> T:
        """Do it once the database lets it be done, or raise what is in the way when this executor is to stop, or there
        is no room for it."""
        return patiently(do, until=self._stopping)

    def _claim(self, queues: Sequence[str], experiment_id: str | None, kind: str | None = None) -> Lease | None:
        """None when nothing is ready, or what it makes could not be kept."""
        try:
            self._patiently(self.settle_owed)
            self.artifacts.check_room()
            lease = self._patiently(lambda: self.store.leases.claim(
                self.name, queues=queues, experiment_id=experiment_id, kind=kind,
                lease_seconds=self.settings.lease_seconds, room=self.artifacts.free,
            ))  # fmt: skip
        except (NoRoom, *UNAVAILABLE) as error:
            self.lacks_room = no_room(error)
            if self.lacks_room is None:
                raise
            lacks(self.lacks_room)
            return None
        self.lacks_room = None
        return lease

    def settle_owed(self) -> None:
        """Give back what could not be given back when its work ended, for the database took nothing. From any thread.
        Raises what the store raises."""
        while self._owed:
            lease, why = self._owed.pop()
            try:
                if why is not None:
                    self.store.leases.wait(lease, str(why), room=why.bytes)
                else:
                    self.store.leases.give_back(lease)
            except LeaseLost:  # somebody else has it by now
                pass
            except BaseException:
                self._owed.append((lease, why))
                raise

    def work(self, lease: Lease) -> str:
        """Run one claimed stage to its end; how it ended: succeeded, reused, failed, lost, waiting (another worker does
        the same), or the state given back."""
        with self._heart([lease]) as (control,):
            return self._one(control)

    def _take(self, lease: Lease) -> int:
        """Run a claimed stage, together with others where its experiment trains several members at once; how many."""
        with self._heart([lease]) as (control,):
            if self._wake is not None:
                self.machine, self._wake = self._awoken(lease, self._wake), None
            group = self._group(control)
            if group is None:
                self._one(control)
                return 1
        # its heart stops for the moment in which others are claimed: a lease lasts longer
        leases = [lease, *self._company(lease, group)]
        together = Together(group.way)
        with self._heart(leases, together) as controls:
            together.run([partial(self._one, control, share=len(leases)) for control in controls])
        return len(leases)

    def _awoken(self, lease: Lease, wake: Callable[[], Machine]) -> Machine:
        try:
            return self._patiently(wake)
        except BaseException:  # what this machine lacks is no fault of the stage
            self._patiently(lambda: self.store.leases.give_back(lease))
            raise

    def _group(self, control: StageControl) -> Group | None:
        if self._group_of is None:
            return None
        try:
            return self._group_of(
                control.lease, self.store, self.artifacts, self.settings, control,
                device=self.machine.device, title=self.machine.title,
            )  # fmt: skip
        except Exception as error:  # a stage begins by the same: alone it meets this again, and tells it
            log.info("%s is trained alone: %s", control.lease.name, error)
            return None

    def _company(self, lease: Lease, group: Group) -> Iterator[Lease]:
        """Leases of stages of the same kind and experiment: as many as go together, and no more than this worker's
        share of those that are ready."""
        living = self._patiently(self.store.workers.living)
        alike = {
            one.name for one in living
            if one.device == self.machine.title and lease.stage.queue in one.queue.split(",")
        }  # fmt: skip
        ready = 1 + self._patiently(lambda: self.store.leases.ready(lease.experiment.id, lease.stage.kind))
        for _ in range(min(group.members, -(-ready // len(alike | {self.name}))) - 1):
            other = self._claim((lease.stage.queue,), lease.experiment.id, kind=lease.stage.kind)
            if other is None:
                return
            yield other

    def _one(self, control: StageControl, share: int = 1) -> str:
        """Run one claimed stage; share: how many share the time that it takes."""
        with logs.about(experiment=control.lease.experiment.slug, stage=control.lease.name, worker=self.name):
            return self._named(control, share)

    def _named(self, control: StageControl, share: int) -> str:
        lease, started = control.lease, time.monotonic()
        try:
            outcome = self._work(control, share)
        except LeaseLost as lost:
            outcome = "lost"
            self._owed.append((lease, None))  # it may be ours all the same: the database was silent for too long
            log.warning("%s", lost)
            self._outlived(lease)
        except UNAVAILABLE as error:  # told to stop meanwhile, or no room; if nobody tells soon, it goes on elsewhere
            outcome = "lost"
            self._owed.append((lease, no_room(error)))
            DATABASE.away(error)
        finally:
            self.current = tuple(one for one in self.current if one is not control)
        if outcome in ("succeeded", "reused") and (control.has_saved or lease.stage.attempt > 1):
            self._forget_scratch(lease)
        seconds = time.monotonic() - started
        log.info("%s %s: %s in %.1f s", lease.experiment.slug, lease.name, outcome, seconds)
        try:
            self._after()
        except UNAVAILABLE as error:  # a reaper rings later
            DATABASE.away(error)
        return outcome

    def _forget_scratch(self, lease: Lease) -> None:
        """What a stage could go on from goes once the database has its end, and not before: whoever is killed between
        the two would begin anew."""
        try:
            self.artifacts.drop_scratch(lease.stage.id)
        except (OSError, NoRoom) as error:  # `verify` sweeps it
            log.warning("what %s went on from is left behind: %s", lease.name, error)

    def _outlived(self, lease: Lease) -> None:
        try:
            self._patiently(lambda: self.store.leases.outlived(lease))
        except UNAVAILABLE as error:  # told to stop
            DATABASE.away(error)

    def _work(self, control: StageControl, share: int) -> str:
        lease, started = control.lease, time.monotonic()
        try:
            control.check()
            memo = self._runner.stage_key(lease, self._numerics(control))
            if self._patiently(lambda: self.store.leases.reuse(
                lease, memo, exists=self.artifacts.exists,
                renew=lambda output: self._runner.renewed(lease, output, self.artifacts),
            )):  # fmt: skip
                return "reused"
            if not self._patiently(lambda: self.store.leases.begin(lease, memo)):
                return "waiting"
            control.begin(memo)
            with extras.said():
                output = self._runner.run_stage(
                    lease, self.store, self.artifacts, self.settings, control, device=self.machine.device
                )
            told = control.untold()
            self._patiently(lambda: self.store.leases.finish(lease, output, memo, told))
        except LeaseLost:
            raise
        except StageInterrupted:
            return self._patiently(lambda: self.store.leases.give_back(lease))
        except Exception as error:
            if (lack := no_room(error)) is not None:
                lacks(lack)
                why, room = str(lack), lack.bytes
                self._patiently(lambda: self.store.leases.wait(lease, why, room=room))
                return "waiting for room"
            if is_away(error) or is_busy(error):  # it could not read: it begins anew, from what was saved
                DATABASE.away(error)
                self._stopping.wait(AGAIN_SECONDS)
                return self._patiently(lambda: self.store.leases.give_back(lease))
            expected = isinstance(error, ModescapeError)  # its words are for the user; where it was raised is kept
            log.error("%s %s failed: %s", lease.experiment.slug, lease.name, error, exc_info=not expected)
            record = _record(error, lease)
            self._patiently(lambda: self.store.leases.fail(lease, record))
            return "failed"
        except BaseException:  # Ctrl-C in a notebook: the stage can go on later
            self.store.leases.give_back(lease)
            raise
        lacks_nothing()
        try:
            self._learn_speed(lease, output, (time.monotonic() - started) / share)
        except UNAVAILABLE as error:  # the stage is done; other stages say how fast it goes
            DATABASE.away(error)
        return "succeeded"

    def _numerics(self, control: StageControl) -> str:
        """What must be equal for equal bytes: members in turn have the bits of members alone, stacked ones do not."""
        stacked = control.together is not None and control.together.way == "stacked"
        return f"{self.machine.numerics}/stacked" if stacked else self.machine.numerics

    def _learn_speed(self, lease: Lease, output: StageOutput, seconds: float) -> None:
        """What prices are made of. A stage that went on where another attempt had stopped says nothing of its kind."""
        if lease.stage.attempt == 1 and "skipped" not in output.extra:
            self.store.workers.learn(lease.stage, self.machine.numerics, seconds)
        rate = output.extra.get("images_per_second")
        if lease.stage.kind == StageKind.TRAIN and rate:
            self.store.workers.keep_speed(self.name, lease.experiment.architecture, float(rate))

    @contextmanager
    def _heart(self, leases: Sequence[Lease], together: Together | None = None) -> Iterator[list[StageControl]]:
        """Beat leases from a second thread until their stages are over."""
        controls = [StageControl(self.store, lease, together, self._stopping) for lease in leases]
        self.current, over = tuple(controls), threading.Event()
        if self._stopping.is_set():
            self.stop()
        thread = threading.Thread(target=self._beat, args=(leases[0].seconds, over), name="heart", daemon=True)
        try:
            thread.start()
            yield controls
        finally:
            over.set()
            if thread.ident is not None:  # it was begun
                thread.join()
            self.current, self._ended = (), time.monotonic()

    def _beat(self, seconds: float, over: threading.Event) -> None:
        tick, beaten = min(TICK_SECONDS, seconds / 6), time.monotonic()
        pause = TELL_SECONDS
        patience = _patience([one.lease for one in self.current])
        seen, silent, looked = -1, 0.0, beaten
        while not over.wait(tick):
            now = time.monotonic()
            controls = [one for one in self.current if not one.is_lost]
            signs = sum(one.signs for one in self.current)
            # a process that was stopped for an hour was silent for one tick
            silent = silent + min(now - looked, 2 * tick) if signs == seen else 0.0
            seen, looked = signs, now
            has_progress = any(one.has_progress for one in controls)
            try:
                if controls and silent > patience:
                    self._end_hanging(controls, silent)
                    return
                if now - beaten > seconds / 3 or (has_progress and now - beaten > pause):
                    self._tell(controls)
                    beaten, pause = now, max(TELL_SECONDS, TELL_TIMES * (time.monotonic() - now))
                else:
                    for one in controls:
                        one.look()
            except UNAVAILABLE as error:
                DATABASE.away(error)
            except Exception:  # whatever it is: without this loop a stage would be worked on without its lease
                LOOPS.exception("a beat failed; the next comes in a moment")

    def _end_hanging(self, controls: Sequence[StageControl], silent: float) -> None:
        """Tell the store, then whoever can end this process: nothing else ends a call that never returns."""
        for one in controls:
            stage = one.lease.stage
            expected = f", where all of it should take {duration(stage.estimate)}" if stage.estimate else ""
            message = f"it made no step for {duration(silent)} on {self.name}{expected}"
            log.error("%s %s hangs and is ended: %s", one.lease.experiment.slug, one.lease.name, message)
            with suppress(LeaseLost):
                self.store.leases.hang(one.lease, message)
            one.stop(LeaseLost(f"{one.lease.name} was ended: {message}"))
        self._hangs()

    def _tell(self, controls: Sequence[StageControl]) -> None:
        """Write the progress of all, or just keep their leases, in one transaction."""
        answers = self.store.leases.beat_all([(one.lease, one.untold()) for one in controls]) if controls else []
        for one, answer in zip(controls, answers, strict=True):
            one.stop_if_asked(answer)


def _patience(leases: Sequence[Lease]) -> float:
    """Seconds without any sign of life after which stages that are done together hang."""
    return max(HANGS_SECONDS, HANGS_TIMES * sum(one.stage.estimate or UNPRICED_SECONDS for one in leases))


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
