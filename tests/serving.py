"""A real server on a free port over a real database, and an experiment whose stages were done by a small runner.

The runner stands in for the real one where only the shape of results matters: it writes random logits of three
networks through the real executor, store and artifacts, in milliseconds and without torch.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from ports import free_port

from modescape.artifacts import Artifacts
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.records import (
    ArtifactInfo,
    ListColumns,
    NewMatrix,
    NewMeasurement,
    NewSolution,
    PredictedRun,
    StageOutput,
)
from modescape.settings import Settings
from modescape.stages.control import StageControl
from modescape.store import Store
from modescape.store.leases import Lease
from modescape.tables import Experiment
from modescape_api.app import create_app
from modescape_api.http.connections import Protocol

IMAGES, CLASSES, PARAMETERS = 40, 10, 12
SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 100, "validation_images": 50, "test_images": IMAGES},
    "network": {"architecture": "small-cnn"},
    "training": {"epochs": 2, "batch_size": 20, "snapshots": 2},
    "ensemble": {"runs": 2, "seed": 3},
    "methods": [{"method": "random", "spread": 2, "typical": 2}],
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}


def mainly(database: str) -> pytest.MarkDecorator:
    """A test of what no SQL decides: on this database by `make test`, on the other by `make check`."""
    other = pytest.param({"sqlite": "postgres", "postgres": "sqlite"}[database], marks=pytest.mark.check)
    return pytest.mark.parametrize("store_url", [database, other], indirect=True)


class SmallRunner:
    """Random results of the right shape, equal for equal stages."""

    def renewed(self, lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
        return output

    def stage_key(self, lease: Lease, numerics: str) -> str:
        return hashlib.sha256(f"{lease.experiment.id}/{lease.stage.kind}/{lease.stage.key}".encode()).hexdigest()

    def run_stage(
        self,
        lease: Lease,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        control: StageControl,
        *,
        device: str,
    ) -> StageOutput:
        random = np.random.default_rng(int(self.stage_key(lease, "")[:8], 16))
        output: StageOutput = getattr(self, f"_{lease.stage.kind}")(lease, store, artifacts, control, random)
        return output

    def _train(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        run = lease.stage.params["run"]
        kept = []
        files: list[ArtifactInfo] = []
        for epoch in range(3):
            info = artifacts.put_tensors({"w": random.normal(size=PARAMETERS).astype(np.float32)}, "weights")
            files.append(info)
            kept.append({"epoch": epoch, "step": 5 * epoch, "weights": info.digest})
        curve = [(step, 2.0 / (1 + step), 1.8e9 + step) for step in range(11)]
        names = ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "learning-rate")
        control.save_partial({"checkpoints": kept}, points=dict.fromkeys(names, curve), run=run, artifacts=files)
        return StageOutput(artifacts=files, extra={"checkpoints": kept, "architecture": "small-cnn"})

    def _solutions(
        self, lease: Lease, artifacts: Artifacts, random: np.random.Generator, count: int, **common: Any
    ) -> StageOutput:
        truth, logits = np.arange(IMAGES, dtype=np.int64) % CLASSES, random.normal(size=(count, IMAGES, CLASSES))
        logits[:, np.arange(IMAGES), truth] += 2.0  # runs at chance would count as failed
        block = artifacts.put_array(logits.astype(np.float32), "predictions")
        labels = artifacts.put_array(truth, "labels")
        output = StageOutput(artifacts=[block, labels])
        first = lease.stage.params["first_number"]
        for i in range(count):
            accuracy = 0.5 + 0.1 * i
            values = {name: value[i] if isinstance(value, list) else value for name, value in common.items()}
            output.solutions.append(
                NewSolution(
                    number=first + i,
                    run=lease.stage.params["run"],
                    index=i,
                    accuracy=accuracy,
                    cosine=0.9,
                    diversity=None if i == 0 else 0.2 * i,
                    predictions={"test": {"artifact": block.digest, "index": i}},
                    **values,
                )
            )
            output.measurements.append(
                NewMeasurement(metric="accuracy", value=accuracy, solution=first + i, split="test", n=IMAGES)
            )
        output.extra = {
            "labels": {"test": labels.digest},
            "classes": [str(c) for c in range(CLASSES)],
            "logits": {"test": block.digest},
        }
        return output

    def _predict(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        kept = next(s for s in lease.standing.needs if s.kind == "train").result["extra"]["checkpoints"]
        output = self._solutions(
            lease,
            artifacts,
            random,
            len(kept),
            role=[*["checkpoint"] * (len(kept) - 1), "optimum"],
            epoch=[float(one["epoch"]) for one in kept],
            weights=[one["weights"] for one in kept],
        )
        output.runs = {lease.stage.params["run"]: PredictedRun(0.7, 0.7, "")}
        return output

    def _sample(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        asked = lease.stage.params
        method, sample_set = asked["method"], asked["sample_set"]
        return self._solutions(
            lease, artifacts, random, asked["count"], role="sample", method=method, sample_set=sample_set, seed=5
        )

    def _compare(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        numbers = [s.number for s in store.results.all_solutions(lease.experiment.id) if s.role != "sample"]
        square = random.random((len(numbers), len(numbers)))
        square = (square + square.T) / 2
        np.fill_diagonal(square, 0.0)
        output = StageOutput()
        for name, split, values in (("cosine", "", 1 - square), ("disagreement", "test", square)):
            info = artifacts.put_array(values, "matrix")
            output.artifacts.append(info)
            output.matrices.append(
                NewMatrix(name=name, split=split, rows=numbers, columns=list(numbers), artifact=info.digest)
            )
        output.measurements.append(
            NewMeasurement(metric="disagreement", value=float("nan"), subject="independent", split="test", n=1)
        )
        output.experiment = ListColumns(accuracy=0.7, ensemble_accuracy=0.75, disagreement=0.5)
        return output

    def _embed(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        return StageOutput()

    def _ensemble(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        return StageOutput()

    _examples = _thumbnails = _ensemble

    def _materialise(
        self, lease: Lease, store: Store, artifacts: Artifacts, control: StageControl, random: np.random.Generator
    ) -> StageOutput:
        info = artifacts.put_tensors({"w": random.normal(size=PARAMETERS).astype(np.float32)}, "weights")
        return StageOutput(artifacts=[info], weights={lease.stage.params["number"]: info.digest})


def work(laboratory: Laboratory, experiment_id: str) -> None:
    """Do every stage of an experiment that is ready, and those that become ready."""
    machine = Machine(device="cpu", title="test", numerics="test")
    executor = Executor(
        laboratory.store, laboratory.artifacts, laboratory.settings, runner=SmallRunner(), machine=machine
    )
    executor.drain(experiment_id=experiment_id)


def finished(laboratory: Laboratory, name: str = "small one", **more: Any) -> Experiment:
    row = laboratory.create(SPEC, name=name, **more)
    work(laboratory, row.id)
    return laboratory.store.experiments.get(row.id)


@dataclass(frozen=True)
class Served:
    app: FastAPI
    url: str
    settings: Settings
    laboratory: Laboratory

    def client(self, **options: Any) -> httpx.Client:
        # The server closes what is idle for 5 s, maybe in the moment in which something is asked.
        limits = httpx.Limits(keepalive_expiry=2)
        return httpx.Client(base_url=self.url, timeout=60, limits=limits, **options)

    def visitor(self, **options: Any) -> httpx.Client:
        """A client that asks for pages, and posts their forms as a browser does."""
        return self.client(headers={"Accept": "text/html", "Origin": self.url}, **options)


@contextmanager
def served(home: Path, *, http: type[Protocol] = Protocol, **changes: Any) -> Iterator[Served]:
    """The application behind uvicorn in a thread of this process, until the block ends. http: whose limits hold."""
    settings = Settings(home=home, port=free_port(), **changes)
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=settings.port,
            http=http,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    laboratory = Laboratory(settings)
    try:
        yield Served(app, f"http://127.0.0.1:{settings.port}", settings, laboratory)
    finally:
        laboratory.store.close()
        server.should_exit = True
        thread.join(10)
