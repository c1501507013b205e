"""How fast is our list of experiments beside the trackers that people use? One machine, one run, one server at a time.

    python benchmarks/peers.py [--runs 1000,10000] [--cache FOLDER] [--home FOLDER] [--only NAME]     # or: make peers

Each peer is the newest that pip finds, in a virtual environment of its own in the cache, which is kept. All get the
same runs: a name, a state, five parameters and three last metrics each, as each one's own Python writes them fastest:

- MLflow: in bulk into its own SQLAlchemy tables, the rows that `create_run` and `log_batch` make (those: 0.2 s a run).
- optuna-dashboard: `Study.add_trials` into SQLite; accuracy is the objective, other metrics and the name attributes.
- Trackio: `SQLiteStorage.bulk_log`, once a run, which is what its server calls. It knows no state of a run.
- Aim: a closed `Run` each, without captures; then `aim storage reindex`. Of states it knows active and finished.
- Modescape: as benchmarks/web.py fills a home; the parameters are its specs'.

Then each one's server is started as its documentation says (MLflow and Aim with the workers that they start), and asked
warm by one client over loopback, one request after another, what its list page asks for: the newest runs, the runs
sorted by a metric, those with one value of a parameter (a quarter). A page is as many runs as the page asks for: ours
50, Aim's 45, MLflow's 100, all of them in optuna-dashboard and Trackio (whose first answer has names alone: its list
then asks once a run). What a server cannot do is said so. Then the page's HTML (a peer's is empty, and has no ratio),
and Chromium's time from an empty cache to the first row; and the memory (PSS) of all processes that the server started,
after that. A page without a row in `--patience` seconds is loaded once, and that is said. Numbers are kept in
results/peers.json after each peer.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import web
from _beside import keep
from playwright.sync_api import Browser, Error, TimeoutError, sync_playwright

from modescape.database import upgrade
from modescape.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from ports import free_port

Json = dict[str, Any]
RAM = Path("/dev/shm")  # peers that commit each run are filled ten times as fast as on a disk; Aim wants 3 GB there

NEWEST, BY_METRIC, BY_PARAMETER = "list, newest first", "list, by a metric", "list, one value of a parameter"
BY_COLUMN, EACH, HTML = (
    "list, one value of a column",
    "what the list asks once a run",
    "page, HTML (runs in it: ours alone)",
)
FIRST_ROW, MEMORY = "page, first row in Chromium", "memory of the server"
BROWSER = "in the browser only"
OURS = "Modescape"


@dataclass(frozen=True)
class Ask:
    """One request of a list page; a body makes it a POST."""

    path: str
    body: Json | None = None


@dataclass(frozen=True)
class Peer:
    """One tracker. In `serve`, `env` and `first_row`: {bin}, {folder}, {port}, {last} (number of the newest run).

    asks: the list page's requests, or in words why there is none. rows: how many runs its page asks for.
    """

    name: str
    package: str
    fill: str
    serve: str
    ready: str
    page: str
    first_row: str
    rows: str
    asks: dict[str, Ask | str]
    env: dict[str, str] = field(default_factory=dict)


def _mlflow(order: str, chosen: str = "") -> Ask:
    asked = {"experiment_ids": ["1"], "order_by": [order], "run_view_type": "ACTIVE_ONLY", "filter": chosen}
    return Ask("/ajax-api/2.0/mlflow/runs/search", {**asked, "max_results": 100})


PEERS = (
    Peer(
        name="MLflow",
        package="mlflow",
        fill="""
import uuid
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert
states = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
store = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts")
experiment = store.create_experiment("bench")
for r in runs:
    r["id"] = uuid.uuid4().hex
with store.ManagedSessionMaker() as session:
    session.execute(insert(SqlRun), [
        {"run_uuid": r["id"], "name": r["name"], "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
         "user_id": "bench", "status": states[r["state"]], "start_time": int(1000 * r["started"]),
         "end_time": int(1000 * (r["started"] + r["seconds"])), "source_version": "", "lifecycle_stage": "active",
         "artifact_uri": f"{folder}/artifacts/{experiment}/{r['id']}/artifacts", "experiment_id": int(experiment)}
        for r in runs])
    session.execute(insert(SqlTag), [{"run_uuid": r["id"], "key": "mlflow.runName", "value": r["name"]} for r in runs])
    session.execute(insert(SqlParam), [
        {"run_uuid": r["id"], "key": k, "value": str(v)} for r in runs for k, v in r["params"].items()])
    metrics = [
        {"run_uuid": r["id"], "key": k, "value": v, "timestamp": int(1000 * r["started"]), "step": 0, "is_nan": False}
        for r in runs for k, v in r["metrics"].items()]
    session.execute(insert(SqlMetric), metrics)
    session.execute(insert(SqlLatestMetric), metrics)
""",
        serve="{bin}/mlflow server --backend-store-uri sqlite:///{folder}/mlflow.db --port {port}",
        env={"MLFLOW_DISABLE_TELEMETRY": "true"},
        ready="/health",
        page="/#/experiments/1/runs",
        first_row='text="run {last}"',
        rows="100",
        asks={
            NEWEST: _mlflow("attributes.start_time DESC"),
            BY_METRIC: _mlflow("metrics.`accuracy` DESC"),
            BY_PARAMETER: _mlflow("attributes.start_time DESC", 'params.`batch_size` = "64"'),
        },
    ),
    Peer(
        name="optuna-dashboard",
        package="optuna-dashboard",
        fill="""
from datetime import datetime, timedelta
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
optuna.logging.set_verbosity(optuna.logging.WARNING)
space = {
    "dataset": CategoricalDistribution(sorted({r["params"]["dataset"] for r in runs})),
    "architecture": CategoricalDistribution(sorted({r["params"]["architecture"] for r in runs})),
    "epochs": IntDistribution(1, 100), "batch_size": CategoricalDistribution([16, 32, 64, 128]),
    "learning_rate": FloatDistribution(0, 1)}
def trial(r):
    done, (accuracy, *others) = r["state"] == "succeeded", r["metrics"].items()
    made = create_trial(
        state=TrialState.COMPLETE if done else TrialState.FAIL, value=accuracy[1] if done else None,
        params=r["params"], distributions=space, user_attrs={"name": r["name"], **dict(others)})
    made.datetime_start = datetime.fromtimestamp(r["started"])
    made.datetime_complete = made.datetime_start + timedelta(seconds=r["seconds"])
    return made
study = optuna.create_study(storage=f"sqlite:///{folder}/optuna.db", study_name="bench", direction="maximize")
study.add_trials([trial(r) for r in runs])
""",
        serve="{bin}/optuna-dashboard sqlite:///{folder}/optuna.db --port {port}",
        ready="/api/meta",
        page="/dashboard/studies/1/trials",
        first_row='text="Trial 0"',
        rows="all",
        asks={NEWEST: Ask("/api/studies/1?after=0"), BY_METRIC: BROWSER, BY_PARAMETER: BROWSER},
    ),
    Peer(
        name="Trackio",
        package="trackio",
        fill="""
import os
os.environ.update(TRACKIO_DIR=f"{folder}/trackio", HF_HUB_OFFLINE="1")
from datetime import datetime, timezone
from trackio.sqlite_storage import SQLiteStorage
for r in runs:
    at = datetime.fromtimestamp(r["started"], timezone.utc).isoformat()
    SQLiteStorage.bulk_log(
        "bench", r["name"], [r["metrics"]], steps=[0], timestamps=[at], run_id=r["name"].replace(" ", "-"),
        config={**r["params"], "_Username": "bench", "_Created": at, "_Group": None})
""",
        serve="{bin}/trackio show --project bench",
        env={
            "TRACKIO_DIR": "{folder}/trackio",
            "GRADIO_SERVER_PORT": "{port}",
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "BROWSER": "true",
        },
        ready="/version",
        page="/runs?project=bench",
        first_row="table.runs-table tbody tr",
        rows="all",
        asks={
            NEWEST: Ask("/api/get_project_summary", {"project": "bench"}),
            EACH: Ask("/api/get_run_summary", {"project": "bench", "run": "run 7", "run_id": "run-7"}),
            BY_METRIC: "its list has no metrics and no sorting",
            BY_PARAMETER: "its list has no parameters; names are filtered in the browser",
        },
    ),
    Peer(
        name="Aim",
        package="aim",
        fill="""
import subprocess, sys
from aim import Repo, Run
repo = Repo(folder, init=True)
for r in runs:
    run = Run(repo=repo, experiment="bench", system_tracking_interval=None, log_system_params=False,
              capture_terminal_logs=False)
    run.name = r["name"]
    run["hparams"] = r["params"]
    for name, value in r["metrics"].items():
        run.track(value, name=name, step=0)
    run.close()
aim = sys.executable.replace("/python", "/aim")
subprocess.run([aim, "storage", "--repo", folder, "reindex", "-y"], check=True, stdout=subprocess.DEVNULL)
""",
        serve="{bin}/aim up --repo {folder} --port {port} -y",
        env={"AIM_UI_TELEMETRY_ENABLED": "0"},
        ready="/api/projects/",
        page="/runs",
        first_row='text="run {last}"',
        rows="45",
        asks={
            NEWEST: Ask("/api/runs/search/run/?q=&limit=45"),
            BY_METRIC: BROWSER,
            BY_PARAMETER: Ask(f"/api/runs/search/run/?q={quote('run.hparams.batch_size == 64')}&limit=45"),
        },
    ),
)

MINE = Peer(
    name=OURS,
    package="",
    fill="",
    serve=f"{sys.executable} -m modescape.cli serve",
    env={"MODESCAPE_HOME": "{folder}", "MODESCAPE_PORT": "{port}"},
    ready="/healthz",
    page="/",
    first_row='text="experiment 0"',
    rows="50",
    asks={
        NEWEST: Ask("/api/experiments?limit=50"),
        BY_METRIC: Ask("/api/experiments?sort=-accuracy&limit=50"),
        BY_PARAMETER: Ask("/api/experiments?spec.training.batch_size=64&limit=50"),
        BY_COLUMN: Ask("/api/experiments?dataset=cifar10&limit=50"),
    },
)


def runs_of(count: int) -> list[Json]:
    """Oldest first, a minute apart."""
    draw, ends = random.Random(0), time.time()
    return [
        {
            "name": f"run {i}",
            "state": draw.choice(["succeeded", "succeeded", "succeeded", "failed", "cancelled"]),
            "started": ends - 60 * (count - i),
            "seconds": draw.uniform(10, 1000),
            "params": {
                "dataset": draw.choice(["cifar10", "fashion-mnist", "digits", "cifar100"]),
                "architecture": draw.choice(["small-cnn", "medium-cnn", "resnet20v1"]),
                "epochs": draw.randint(1, 100),
                "batch_size": draw.choice([16, 32, 64, 128]),
                "learning_rate": draw.uniform(1e-4, 1),
            },
            "metrics": {
                "accuracy": draw.uniform(0.3, 0.9),
                "ensemble_accuracy": draw.uniform(0.4, 0.95),
                "disagreement": draw.uniform(0.05, 0.5),
            },
        }
        for i in range(count)
    ]


def first_of(count: int) -> dict[str, str]:
    """The run that stands first in each answer."""
    runs = runs_of(count)
    best = max(runs, key=lambda run: run["metrics"]["accuracy"])
    last = next(run for run in reversed(runs) if run["params"]["batch_size"] == 64)
    return {NEWEST: runs[-1]["name"], BY_METRIC: best["name"], BY_PARAMETER: last["name"]}


class Unable(Exception):
    """A peer that cannot be installed, filled or started, in the last words of what failed."""


def _done(command: list[str], doing: str, folder: Path) -> str:
    """What it printed."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise Unable(f"{doing} failed: {(done.stderr.strip() or 'without a word').splitlines()[-1][:200]}")
    return done.stdout


def installed(peer: Peer, cache: Path) -> tuple[Path, str]:
    """The newest that pip finds: where its programs are, and its version."""
    home = cache / peer.package
    if not (home / "bin" / "python").exists():
        _done([sys.executable, "-m", "venv", str(home)], "python -m venv", cache)
    python = str(home / "bin" / "python")
    _done([python, "-m", "pip", "install", "--quiet", "--upgrade", peer.package], "pip install", cache)
    asked = f"from importlib.metadata import version; print(version({peer.package!r}))"
    return home / "bin", _done([python, "-c", asked], "its version", cache).split()[-1]


def fill(peer: Peer, programs: Path, folder: Path, count: int) -> None:
    if peer is MINE:
        settings = Settings(home=folder)
        upgrade(settings.database)
        web.fill(settings, count)
        return
    given = folder / "runs.json"
    given.write_text(json.dumps(runs_of(count)))
    head = f"import json\nfolder = {str(folder)!r}\nruns = json.load(open({str(given)!r}))\n"
    _done([str(programs / "python"), "-c", head + peer.fill], "filling it", folder)


@contextmanager
def serving(peer: Peer, programs: Path, folder: Path, port: int, patience: float) -> Iterator[int]:
    """Its server, from its first answer to its end. Gives the process."""
    words = {"bin": str(programs), "folder": str(folder), "port": str(port)}
    env = {**os.environ, **{name: value.format(**words) for name, value in peer.env.items()}}
    said = folder / "server.log"
    with said.open("wb") as log:
        server = subprocess.Popen(
            peer.serve.format(**words).split(), env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        ends = time.monotonic() + patience
        while not _answers(port, peer.ready):
            if server.poll() is not None or time.monotonic() > ends:
                last = (said.read_text(errors="replace").strip() or "without a word").splitlines()[-1][:200]
                raise Unable(f"its server did not answer: {last}")
            time.sleep(0.2)
        yield server.pid
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):  # the whole group: some leave their workers behind
            try:
                os.killpg(server.pid, sign)
            except ProcessLookupError:
                break
            for _ in range(50):
                server.poll()
                time.sleep(0.1)
                if not any(_processes(server.pid)):
                    break
        server.wait()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _processes(session: int) -> Iterator[Path]:
    """Those of a server: all that it started, unless they left its session."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, _group, of, *_ = (path / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(of) == session and state != "Z":
            yield path


def megabytes(session: int) -> int:
    """Resident memory, with what several processes share counted once."""
    total = 0
    for path in _processes(session):
        try:
            told = (path / "smaps_rollup").read_text()
        except OSError:
            continue
        total += int(told.split("\nPss:")[1].split()[0])
    return round(total / 1024)


def _seconds_used(session: int) -> float:
    """Of the processor, by all the server's processes so far."""
    used = 0
    for path in _processes(session):
        try:
            used += sum(map(int, (path / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return used / os.sysconf("SC_CLK_TCK")


def settled(session: int, patience: float) -> None:
    """Workers go on starting behind the first answer: until two seconds pass with little to do, or patience ends."""
    ends, before = time.monotonic() + patience, -10.0
    while (now := _seconds_used(session)) - before > 0.2 and time.monotonic() < ends:
        before = now
        time.sleep(2)


def timings(port: int, ask: Ask, count: int, seconds: float, holds: str = "") -> Json:
    """p50 and p95 in milliseconds of up to `count` answers read whole, after five that are not counted.

    What comes is acknowledged at once: else a server that writes an answer in two parts waits 40 ms for that, which on
    loopback would be all that is seen of it.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"Accept-Encoding": "gzip", "Content-Type": "application/json"}
    body, method = (None, "GET") if ask.body is None else (json.dumps(ask.body), "POST")
    taken: list[float] = []
    ends = time.monotonic() + seconds
    for i in range(count + 5):
        began = time.perf_counter()
        connection.request(method, ask.path, body=body, headers=headers)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        answer = connection.getresponse()
        found = answer.read()
        if answer.status != 200:
            raise Unable(f"{ask.path}: {answer.status} {found[:200]!r}")
        if i >= 5:
            taken.append(1000 * (time.perf_counter() - began))
        if time.monotonic() > ends and len(taken) >= 5:
            break
    connection.close()
    if holds.encode() not in (gzip.decompress(found) if answer.headers["Content-Encoding"] == "gzip" else found):
        raise Unable(f"{ask.path}: answers without {holds!r}")
    p95, size = statistics.quantiles(taken, n=20, method="inclusive")[-1], round(len(found) / 1024)
    return {"n": len(taken), "p50": _short(statistics.median(taken)), "p95": _short(p95), "kb": size}


def _short(number: float) -> float:
    return round(number) if number >= 100 else round(number, 1)


def first_row(browser: Browser, url: str, row: str, loads: int, patience: float) -> Json:
    """Milliseconds from asking for the page to its first row, each time from an empty cache."""
    taken: list[float] = []
    for _ in range(loads):
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.route(lambda asked: "//127.0.0.1:" not in asked, lambda route: route.abort())  # fonts and counters
        page = context.new_page()
        began = time.perf_counter()
        try:
            page.goto(url, wait_until="commit", timeout=1000 * patience)
            page.locator(row).first.wait_for(state="visible", timeout=1000 * patience)
        except TimeoutError:
            return {"said": f"no row in {patience:g} s"}
        finally:
            context.close()
        taken.append(1000 * (time.perf_counter() - began))
    return {
        "n": loads, "p50": _short(statistics.median(taken)), "range": [_short(min(taken)), _short(max(taken))],
    }  # fmt: skip


def measure(peer: Peer, programs: Path, home: Path, count: int, browser: Browser, asked: argparse.Namespace) -> Json:
    """Every question's row."""
    with tempfile.TemporaryDirectory(dir=home, prefix="peers-") as made:
        folder, port = Path(made), free_port()
        began = time.perf_counter()
        fill(peer, programs, folder, count)
        holds = first_of(count) if peer is not MINE else {NEWEST: "experiment 0"}
        print(f"{peer.name}, {count} runs: filled in {time.perf_counter() - began:.0f} s", flush=True)
        rows: Json = {}
        with serving(peer, programs, folder, port, asked.patience) as session:
            settled(session, asked.patience)
            for question, ask in peer.asks.items():
                if isinstance(ask, str):
                    rows[question] = {"said": ask}
                else:
                    rows[question] = timings(port, ask, asked.requests, asked.seconds, holds.get(question, ""))
            rows[HTML] = timings(port, Ask(peer.page.partition("#")[0]), asked.requests, asked.seconds)
            url = f"http://127.0.0.1:{port}{peer.page}"
            rows[FIRST_ROW] = first_row(browser, url, peer.first_row.format(last=count - 1), 5, asked.patience)
            rows[MEMORY] = {"mb": megabytes(session)}
        return rows


def beside_ours(found: dict[str, Json]) -> Json:
    """Rows by question and name, the peers' with their ratio to ours: above 1 ours is faster, or smaller."""
    rows: Json = {}
    for name, answers in found.items():
        for question, row in answers.items():
            ours = found.get(OURS, {}).get(question, {})
            mine, theirs = (one.get("p50", one.get("mb")) for one in (ours, row))
            alike = name != OURS and question != HTML and mine and theirs
            ratio = {"ratio": round(theirs / mine, 2)} if alike else {}
            rows.setdefault(question, {})[name] = {**row, **ratio}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1000,10000")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="a question ends then, once asked five times")
    parser.add_argument("--patience", type=float, default=180, help="seconds to start, and to a page's row")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "modescape-peers")
    parser.add_argument("--home", type=Path, default=RAM if RAM.is_dir() else None, help="where the runs are written")
    parser.add_argument("--only", default="", help="one peer's name; nothing is kept")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is needed: sudo apt-get install chromium")
    about: dict[str, Json] = {}
    missing: dict[str, Json] = {}
    ready: list[tuple[Peer, Path]] = []
    for peer in (MINE, *PEERS):
        if asked.only and peer.name not in (asked.only, OURS):
            continue
        try:
            programs, version = (Path(sys.executable).parent, "") if peer is MINE else installed(peer, asked.cache)
            about[peer.name] = {"version": version, "runs a page": peer.rows}
            ready.append((peer, programs))
        except Unable as failed:
            missing[peer.name] = {NEWEST: {"said": f"left out: {failed}"}}
        print(f"{peer.name}: {about.get(peer.name) or missing[peer.name]}", flush=True)
    rows: Json = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for count in map(int, asked.runs.split(",")):
            found = dict(missing)
            for peer, programs in ready:
                try:
                    found[peer.name] = measure(peer, programs, asked.home, count, browser, asked)
                except (Unable, Error, OSError, http.client.HTTPException) as failed:
                    found[peer.name] = {NEWEST: {"said": f"left out: {failed}"[:200]}}
                for question, row in found[peer.name].items():
                    print(f"  {question:36} {json.dumps(row)}", flush=True)
                rows[f"{count:,} runs"] = beside_ours(found)
                if not asked.only:
                    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
                    keep("peers", rows, unit="ms", load=load, peers=about)
        browser.close()


if __name__ == "__main__":
    main()
