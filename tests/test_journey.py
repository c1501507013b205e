"""The embedded product as a newcomer runs it: first start, Quickstart with a kill, figures, each line of the README."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from forked import forks
from independent import Downloaded, check_everything
from ports import free_port
from test_cli import modescape
from test_readme import notebook, shell_lines

from modescape.datasets.loading import load
from modescape.settings import Settings
from modescape.spec import parse
from modescape.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIGURES = (
    "trajectories", "similarity-trajectory", "similarity-runs", "tsne-trajectories", "tsne-samples", "plane",
    "ensembles", "reliability",
)  # fmt: skip
http = httpx.Client(timeout=60)  # one: each of its own reads all certificates again


class Process:
    """A command of the product with its output at hand."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modescape.cli", *arguments],
            env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(40)


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Process]:
    started = Process(*arguments, **environment)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.kill(signal.SIGTERM)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get(f"{url}/readyz", timeout=2).status_code == 200
    return False


def status(url: str, slug: str) -> str:
    found: str = http.get(f"{url}/api/experiments/{slug}").json()["status"]
    return found


def digests(url: str, slug: str) -> dict[str, Any]:
    """The files of every checkpoint's weights and of every matrix (which hold every prediction's distances)."""
    solutions = Downloaded(url, slug).solutions
    found: dict[str, Any] = {f"{s['number']}": s["weights"] for s in solutions}
    for matrix in http.get(f"{url}/api/experiments/{slug}/matrices").json()["items"]:
        found[f"{matrix['name']} {matrix['split']}"] = matrix["artifact"]
    assert len(found) > 50
    return found


def done(stages: list[dict[str, Any]]) -> int:
    return sum(stage["state"] == "succeeded" for stage in stages)


def every_figure_is_there(url: str, slug: str) -> None:
    for name in FIGURES:
        answer = http.get(f"{url}/api/experiments/{slug}/figures/{name}.json")
        assert answer.status_code == 200, (name, answer.text[:500])
        assert answer.json()["data"]
        table = http.get(f"{url}/api/experiments/{slug}/figures/{name}.csv")
        assert table.status_code == 200
        assert len(table.text.splitlines()) > 2


def kill_a_busy_worker(url: str, which: int = 0) -> bool:
    """SIGKILL a worker that has a stage; False when none has (one killed a moment ago may still be listed)."""
    listed = [w["pid"] for w in http.get(f"{url}/api/workers").json()["items"] if w["state"] == "working"]
    busy = [pid for pid in listed if Path(f"/proc/{pid}").exists()]
    if busy:
        os.kill(busy[which % len(busy)], signal.SIGKILL)
    return bool(busy)


# The preset under its own name with fewer of everything, before anything else a process does: `up` asks no plug-in.
FEWER = """
from dataclasses import replace
from modescape.registry import presets
small = presets["quickstart"].call()
small["training"]["epochs"] = 8
small["ensemble"]["runs"] = 3
for method in small["methods"]:
    method |= {"spread": 5, "typical": 4} if "spread" in method else {}
presets.keep({**presets.here, "quickstart": replace(presets["quickstart"], call=lambda: small)})
"""


def run_the_readme(url: str, folder: Path, before: str, environment: dict[str, str]) -> None:
    """Every curl and modescape line of the README as it stands, and its notebook, on this port, in this folder.

    Those of modescape in forks of one process that has loaded the product: `up` was a process of its own.
    """
    # the first runs already; fetching has a test of its own, and what a newcomer with files does has test_wheel.py
    elsewhere = ("modescape up", "modescape data fetch", "modescape import 'run_*", "modescape export mine")
    lines = [
        line for line in shell_lines() if line.startswith(("curl ", "modescape ")) and not line.startswith(elsewhere)
    ]
    assert len(lines) >= 7
    with forks("torch", "modescape.cli", "modescape.laboratory", "modescape.exporting", "modescape.stages") as run:
        for line in lines:
            program, *arguments = shlex.split(line.replace("http://127.0.0.1:8000", url))
            if program == "curl":
                subprocess.run([program, "-f", *arguments], check=True, capture_output=True)
            else:
                command = "import sys; from modescape.cli import main; sys.exit(main(sys.argv[1:]))"
                run(before + command, folder, *arguments, **environment)
        code = notebook(f'"quickstart", folder={str(folder)!r}')  # takes over what is there
        assert "Independent runs disagree on" in run(before + code, folder, **environment)


def true_labels(document: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return load(parse(document).data, Settings().data_folders).test.numpy_labels()


@pytest.mark.parametrize("quickstart", ["fewer", pytest.param("whole", marks=pytest.mark.check)])
def test_embedded_from_first_start_to_figures(quickstart: str, tmp_path: Path, wait_until: Any) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    before = FEWER if quickstart == "fewer" else ""
    (tmp_path / "sitecustomize.py").write_text(before, encoding="utf-8")
    environment = {
        "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(port),
        "MODESCAPE_LEASE_SECONDS": "3", "MODESCAPE_WORKERS": "2", "PYTHONPATH": str(tmp_path),
    }  # fmt: skip
    with running("up", **environment) as product:
        wait_until(lambda: url in product.output, 90, "the URL on the screen")

        again = subprocess.run(
            [sys.executable, "-m", "modescape.cli", "up"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert again.returncode == 0
        assert url in again.stdout

        # Quickstart was queued by itself; a worker that has a stage of it is killed.
        experiment = f"{url}/api/experiments/quickstart"
        wait_until(lambda: done(http.get(experiment).json()["stages"]) >= 6, 120, "six stages")
        wait_until(lambda: kill_a_busy_worker(url), 20, "a busy worker")
        wait_until(lambda: status(url, "quickstart") == "succeeded", 240, "Quickstart")
        every_figure_is_there(url, "quickstart")
        document = http.get(experiment).json()["spec"]
        assert check_everything(Downloaded(url, "quickstart"), true_labels(document), sample=20) > 500

        run_the_readme(url, tmp_path, before, environment)

        # Its curl asks for the same again, which is taken over, not computed, and gives the same files.
        wait_until(lambda: status(url, "my-first") == "succeeded", 60, "the reused experiment")
        assert digests(url, "my-first") == digests(url, "quickstart")
        stages = http.get(f"{url}/api/experiments/my-first").json()["stages"]
        assert all(stage["reused_from"] for stage in stages if stage["kind"] in ("train", "predict", "sample"))

        product.process.send_signal(signal.SIGTERM)
        assert product.process.wait(40) == 0
    wait_until(lambda: not answers(url), 5, "the end of the server")
    left = subprocess.run(
        ["pgrep", "-f", f"^{sys.executable} -m modescape.cli"], capture_output=True, text=True
    ).stdout.split()
    environments = [Path(f"/proc/{pid}/environ") for pid in left]
    assert not [e for e in environments if e.exists() and f"MODESCAPE_HOME={tmp_path}".encode() in e.read_bytes()]


def family(pid: int) -> list[int]:
    """A process and all that came of it, itself first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def test_a_lid_closed_over_the_whole_product_loses_nothing(tmp_path: Path, wait_until: Any) -> None:
    """Supervisor, server and workers sleep longer than a lease, three times; whoever wakes first judges nobody,
    and who follows the events from before goes on hearing of them."""
    port, lease = free_port(), 2
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "sitecustomize.py").write_text(FEWER.replace('"] = 8', '"] = 50'), encoding="utf-8")
    environment = {
        "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(port), "MODESCAPE_LEASE_SECONDS": str(lease),
        "MODESCAPE_WORKERS": "2", "PYTHONPATH": str(tmp_path),
    }  # fmt: skip
    heard: list[str] = []

    def follow() -> None:
        with contextlib.suppress(httpx.TransportError), http.stream("GET", f"{url}/api/events") as stream:
            heard.extend(line for line in stream.iter_lines() if line.startswith("event:"))

    with running("up", **environment) as product:
        wait_until(lambda: url in product.output, 90, "the URL on the screen")
        follower = threading.Thread(target=follow, daemon=True)
        follower.start()

        def training() -> list[dict[str, Any]]:
            stages = http.get(f"{url}/api/experiments/quickstart").json()["stages"]
            return [stage for stage in stages if stage["kind"] == "train" and stage["state"] == "running"]

        members = family(product.process.pid)
        assert len(members) >= 4
        for order in (members, members[::-1], members[1:] + members[:1]):
            wait_until(lambda: len(training()) == 2, 60, "two trainings")
            for pid in members:
                os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(1.5 * lease)
            for pid in order:
                os.kill(pid, signal.SIGCONT)
                threading.Event().wait(0.2)
        before = len(heard)
        wait_until(lambda: status(url, "quickstart") == "succeeded", 240, "Quickstart")
        assert family(product.process.pid) == members, "nobody was started again"
        store = Store(Settings(home=tmp_path).database)
        for stage in store.stages.of(store.experiments.get("quickstart").id):
            assert (stage.attempt, stage.losses) == (1, 0), stage.history
        store.close()
        assert len(heard) > before
        every_figure_is_there(url, "quickstart")


def test_a_taken_port_and_an_unwritable_home_are_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = modescape(tmp_path, "up", MODESCAPE_PORT=port)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"port {port}" in ended.stderr
    assert "MODESCAPE_PORT" in ended.stderr
    (tmp_path / "file").touch()
    ended = modescape(tmp_path / "file" / "home", "up")
    assert ended.returncode == 1
    assert "MODESCAPE_HOME" in ended.stderr
    assert "Traceback" not in ended.stderr
