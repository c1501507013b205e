"""How stages a second and trained images grow with workers that share nothing but PostgreSQL, Redis and S3.

    sudo python benchmarks/scaling.py [--workers 1,2,4,8,16] [--seconds 20]

Each worker has a network namespace, a home and a cache of its own, as on a machine of its own (which takes root, and
`ip`); the database, the broker and the bucket are reached over a bridge. Five questions:

- *waiting*: stages that sleep 0.2 s and keep two small files, so that processors are no limit: what coordination costs.
- *empty*: stages that only keep their files: how many a second the database and the bucket take, and what one costs in
  transactions, bytes written ahead, seconds of the database's processes, and commands of Redis.
- *telling*: processes that write the progress of a stage each as often as they can: how much the database takes.
- *training*: runs of SmallCNN on digits: images a second of all together, as far as there are cores.

- *keeping*: an experiment of 1,000 solutions: bytes of the database and of the bucket for one.

Prints rows and keeps them in results/scaling.json; docs/scaling.md says what follows for a thousand workers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from _beside import keep
from pydantic import SecretStr

from modescape.celery_queue import dispatch
from modescape.database import upgrade
from modescape.laboratory import Laboratory
from modescape.records import PlannedStage
from modescape.settings import Settings
from modescape.spec import parse
from modescape.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import buckets
import postgres
from ports import free_port
from serving import SPEC

Json = dict[str, Any]
TESTS = Path(__file__).resolve().parents[1] / "tests"
BRIDGE, NET, HERE = "modescape0", "10.213", "10.213.0.1"
HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all 10.213.0.0/16 trust\n"
ASLEEP = 0.2


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def bridge() -> Iterator[None]:
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{HERE}/16", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        yield
    finally:
        ip("link", "del", BRIDGE)


@contextmanager
def namespace(number: int) -> Iterator[None]:
    """A network of its own with one way out, to the bridge."""
    name, ours = f"modescape{number}", f"modescapev{number}"
    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", ours, "master", BRIDGE, "up")
        ip("-n", name, "addr", "add", f"{NET}.1.{number}/16", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", name)


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    port, program = free_port(), shutil.which("redis-server")
    if program is None:
        sys.exit("Redis is not installed: sudo apt-get install redis-server")
    command = [program, "--port", str(port), "--bind", HERE, "--protected-mode", "no", "--save", "", "--dir",
               str(folder)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def bucket(folder: Path) -> Iterator[buckets.S3Server]:
    server = buckets.S3Server(folder)
    server._command.append("-ip.bind=0.0.0.0")
    server.start()
    server.client.create_bucket(Bucket=buckets.BUCKET)
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Laboratories:
    """What all workers share, and those that run."""

    settings: Settings
    store: Store
    admin: str  # URL of the database, for its own statistics
    folder: Path
    redis_port: int
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @contextmanager
    def crew(self, count: int, *program: str) -> Iterator[None]:
        with ExitStack() as stack:
            for number in range(1, count + 1):
                name = f"w{number}"
                home = self.folder / f"home{number}"
                home.mkdir(exist_ok=True)
                given = self.settings.model_copy(update={"home": home})
                environment = {**os.environ, "MODESCAPE_HOME": str(home), "OMP_NUM_THREADS": "1"}
                for key in ("database_url", "broker_url", "artifacts", "s3_endpoint", "s3_key", "s3_secret"):
                    value = getattr(given, key)
                    said = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                    environment[f"MODESCAPE_{key.upper()}"] = said
                command = ["ip", "netns", "exec", f"modescape{number}", sys.executable, *program, name]
                with (home / "log").open("ab") as log:
                    self.workers[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(self._end)
            deadline = time.monotonic() + 120
            while len(self.store.workers.living()) < count:
                if time.monotonic() > deadline:
                    sys.exit((self.folder / "home1" / "log").read_text()[-3000:])
                time.sleep(0.1)
            yield

    def _end(self) -> None:
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            process.wait(60)
        self.workers.clear()

    def until_ended(self, experiment: str) -> None:
        while not (row := self.store.experiments.get(experiment)).status.has_ended:
            time.sleep(0.05)
        if row.status != "succeeded":
            sys.exit(f"{row.slug}: {row.error}")

    def costs(self) -> Json:
        """Counters that only grow: of the database since it was made, and of its processes and Redis."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            commits = connection.execute(
                "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
            ).fetchone()
            written = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
        assert commits is not None
        assert written is not None
        ticks = 0
        for page in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = page.read_text().partition(") ")
            except OSError:  # it has ended
                continue
            if "(postgres" in name:
                ticks += sum(map(int, rest.split()[11:15]))  # of itself, and of its children that have ended
        told = subprocess.run(["redis-cli", "-h", HERE, "-p", str(self.redis_port), "info", "stats"],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip
        commands = next(line for line in told.splitlines() if line.startswith("total_commands_processed"))
        return {
            "transactions": float(commits[0]), "bytes_ahead": float(written[0]),
            "database_seconds": ticks / os.sysconf("SC_CLK_TCK"), "redis_commands": float(commands.partition(":")[2]),
        }  # fmt: skip


def toy(lab: Laboratories, stages: int, seconds: float) -> float:
    """Stages that sleep and keep two files; seconds from the first begun to the last ended."""
    planned = [PlannedStage("train", f"{i}", params={"run": i, "steps": 1, "seconds": seconds}) for i in range(stages)]
    row = lab.store.experiments.create(name="toys", spec=parse(SPEC), stages=planned, fresh=True)
    dispatch(lab.settings, lab.store, row.id)
    lab.until_ended(row.id)
    return _span(lab, row.id)


def _span(lab: Laboratories, experiment: str, kind: str = "train") -> float:
    stages = [stage for stage in lab.store.stages.of(experiment) if stage.kind == kind]
    begun, ended = [s.claimed_at for s in stages if s.claimed_at], [s.finished_at for s in stages if s.finished_at]
    return (max(ended) - min(begun)).total_seconds()


def training(lab: Laboratories, workers: int) -> float:
    """Images a second of all together: two runs a worker, of SmallCNN on digits."""
    document = {
        "data": {"dataset": "digits"}, "network": {"architecture": "small-cnn"},
        "training": {"epochs": 300, "checkpoint_every": 300}, "ensemble": {"runs": 2 * workers, "seed": workers},
        "methods": [],
    }  # fmt: skip
    laboratory = Laboratory(lab.settings)
    row = laboratory.create(document, name=f"training {workers}", fresh=True)
    dispatch(lab.settings, lab.store, row.id)
    lab.until_ended(row.id)
    images = sum((stage.work or {}).get("trained", 0.0) for stage in lab.store.stages.of(row.id))
    laboratory.store.close()
    return float(images / _span(lab, row.id))


TELLING = """
import sys, time
from modescape.records import Progress
from modescape.settings import Settings
from modescape.store import Store

store, seconds = Store(Settings().database), float(sys.argv[2])
lease = store.leases.claim(sys.argv[1])
until, told = time.monotonic() + seconds, 0
while time.monotonic() < until:
    told += 1
    store.leases.beat_all([(lease, Progress(told, 10**9, {"loss": 1.0}))])
print(told)
"""


def telling(lab: Laboratories, processes: int, seconds: float) -> Json:
    """Each has a stage, half of them of one experiment and half of another."""
    planned = [PlannedStage("train", f"{i}", params={"run": i}) for i in range(processes)]
    made = [
        lab.store.experiments.create(name=f"telling {half}", spec=parse(SPEC), stages=planned, fresh=True)
        for half in range(2)
    ]
    url = lab.settings.database.render_as_string(hide_password=False)
    environment = {**os.environ, "MODESCAPE_DATABASE_URL": url, "MODESCAPE_HOME": str(lab.folder / "home")}
    before, asked = lab.costs(), [sys.executable, "-c", TELLING]
    running = [
        subprocess.Popen([*asked, f"t{i}", f"{seconds}"], env=environment, stdout=subprocess.PIPE)
        for i in range(processes)
    ]
    told = sum(int(process.communicate()[0]) for process in running)
    spent = {key: round((value - before[key]) / told, 4) for key, value in lab.costs().items()}
    for experiment in made:
        lab.store.experiments.cancel(experiment.id)
    return {"a_second": round(told / seconds, 1), "each": spent}


def keeping(lab: Laboratories, bucket: buckets.S3Server) -> Json:
    """Bytes for a solution of the smallest network there is, with its share of stages, matrices and events."""
    document = {
        "data": {"dataset": "digits"}, "network": {"architecture": "mlp"},
        "training": {"epochs": 20, "checkpoint_every": 5}, "ensemble": {"runs": 4},
        "methods": [{"method": method, "spread": 115, "typical": 10} for method in ("random", "dropout")],
    }  # fmt: skip

    def kept() -> tuple[int, int]:
        with psycopg.connect(lab.admin) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=buckets.BUCKET)
        return int(row[0]), sum(one["Size"] for page in pages for one in page.get("Contents", ()))

    before = kept()
    laboratory = Laboratory(lab.settings)
    row = laboratory.create(document, name="keeping", fresh=True)
    dispatch(lab.settings, lab.store, row.id)
    lab.until_ended(row.id)
    solutions = len(laboratory.store.results.all_solutions(row.id))
    laboratory.store.close()
    spent = [(now - then) / solutions for now, then in zip(kept(), before, strict=True)]
    return {"solutions": solutions, "database_bytes": round(spent[0]), "bucket_bytes": round(spent[1])}


def main(counts: Sequence[int], seconds: float) -> None:
    rows: Json = {}
    folder = Path(tempfile.mkdtemp(prefix="modescape-scaling-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.enter_context(bridge())
        for number in range(1, max(counts) + 1):
            stack.enter_context(namespace(number))
        hba = folder / "hba.conf"
        folder.chmod(0o755)
        hba.write_text(HBA)
        url = stack.enter_context(postgres.running(f"listen_addresses={HERE}", f"hba_file={hba}"))
        postgres.command(url, "CREATE DATABASE modescape")
        broker = stack.enter_context(redis(folder))
        files = stack.enter_context(bucket(folder / "s3"))
        place = files.settings(f"http://{HERE}:{files.port}")
        settings = Settings(
            home=folder / "home", database_url=f"postgresql+psycopg://tests@{HERE}/modescape",
            broker_url=f"redis://{HERE}:{broker}/0", **place,
        )  # fmt: skip
        upgrade(settings.database)
        store = Store(settings.database)
        stack.callback(store.close)
        lab = Laboratories(settings, store, f"postgresql://tests@{HERE}/modescape", folder, broker)
        for count in counts:
            with lab.crew(count, str(TESTS / "toy_worker.py")):
                toy(lab, 2 * count, 0.01)  # everybody has connected once
                stages = max(4, int(seconds / ASLEEP)) * count
                took = toy(lab, stages, ASLEEP)
                before, empty = lab.costs(), 30 * count + 100
                went = toy(lab, empty, 0.0)
                spent = {key: round((value - before[key]) / empty, 4) for key, value in lab.costs().items()}
            rows[f"{count} workers"] = {
                "waiting": {"stages": stages, "a_second": round(stages / took, 2),
                            "of_linear": round(stages / took * ASLEEP / count, 3)},
                "empty": {"stages": empty, "a_second": round(empty / went, 2), "a_stage": spent},
            }  # fmt: skip
            print(count, rows[f"{count} workers"], flush=True)
        for count in [count for count in counts if count <= 4]:
            with lab.crew(count, "-P", "-m", "modescape.cli", "worker", "--name"):
                rate = training(lab, count)
            rows[f"{count} workers"]["training"] = {"runs": 2 * count, "images_a_second": round(rate)}
            print(count, rows[f"{count} workers"]["training"], flush=True)
        rows["telling"] = {f"{count} processes": telling(lab, count, 10.0) for count in (1, 4)}
        print(rows["telling"], flush=True)
        with lab.crew(min(2, max(counts)), "-P", "-m", "modescape.cli", "worker", "--name"):
            rows["a solution"] = keeping(lab, files)
        print(rows["a solution"], flush=True)
    keep("scaling", rows, cores=os.cpu_count(), asleep=ASLEEP)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4,8,16")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of stages that sleep")
    given = parser.parse_args()
    main([int(one) for one in given.workers.split(",")], given.seconds)
