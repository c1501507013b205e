"""A worker process whose stages are hash chains: a wrong resume, a skipped step or a lost input changes the last hash.

    python tests/toy_worker.py NAME          # settings from MODESCAPE_*

params of a stage: steps; seconds a step; die_at: the process ends there, whatever the attempt; die_after_until:
attempts before that one end with their process once all steps are done; fail_until: attempts before that one raise at
half way; hang_until: attempts before that one never come to an end of half way.
TOY_HANGS_SECONDS: how long a stage may make no step.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace

import numpy as np

from modescape.artifacts import Artifacts
from modescape.errors import StageError
from modescape.executor import Machine
from modescape.records import StageOutput
from modescape.settings import Settings
from modescape.stages.control import StageControl
from modescape.store import Store
from modescape.store.leases import Lease

SAVE_EVERY = 5
MACHINE = Machine("cpu", "toy", "toy numerics")


def start_of(kind: str, key: str, inputs: list[str]) -> str:
    return hashlib.sha256("|".join([kind, key, *inputs]).encode()).hexdigest()


def step_of(value: str, step: int) -> str:
    return hashlib.sha256(f"{value}{step}".encode()).hexdigest()


class ToyRunner:
    def renewed(self, lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
        return output

    def stage_key(self, lease: Lease, numerics: str) -> str:
        needs = [need.memo or "" for need in lease.standing.needs]
        return hashlib.sha256(
            "|".join([numerics, lease.stage.kind, lease.stage.key, str(lease.stage.params), *needs]).encode()
        ).hexdigest()

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
        inputs = [need.result["extra"]["value"] for need in lease.standing.needs]
        at, value = 0, start_of(lease.stage.kind, lease.stage.key, inputs)
        output = StageOutput()
        if "resume" in lease.stage.partial:
            _, metadata = artifacts.scratch(lease.stage.partial["resume"])
            at, value = int(metadata["at"]), metadata["value"]
        steps, points = lease.stage.params["steps"], []
        for step in range(at, steps):
            control.check()
            if step == lease.stage.params.get("die_at"):
                os._exit(9)
            if step == steps // 2 and lease.stage.attempt < lease.stage.params.get("fail_until", 0):
                raise StageError(f"attempt {lease.stage.attempt} was told to fail")
            while step == steps // 2 and lease.stage.attempt < lease.stage.params.get("hang_until", 0):
                time.sleep(0.1)  # stands for a call that does not return
            time.sleep(lease.stage.params["seconds"])  # stands for work
            value = step_of(value, step)
            points.append((step, float(int(value[:8], 16)), 0.0))
            control.progress(step + 1, steps, value=value[:8])
            if (step + 1) % SAVE_EVERY == 0:
                name = f"{lease.stage.id}-{lease.stage.attempt}-{step + 1}"
                artifacts.put_scratch(name, {"at": np.array(step)}, {"at": str(step + 1), "value": value})
                kept = artifacts.put_array(np.frombuffer(value.encode(), np.uint8), "weights")
                control.save_partial({"resume": name}, points={"chain": points}, run=lease.stage.params["run"],
                                     artifacts=[kept], step=step + 1)  # fmt: skip
                artifacts.drop_scratch(lease.stage.id, keep=name)
                points = []
        output.artifacts.append(artifacts.put_array(np.frombuffer(value.encode(), np.uint8), "weights"))
        output.extra = {"value": value}
        if lease.stage.attempt < lease.stage.params.get("die_after_until", 0):
            os._exit(9)
        return output


if __name__ == "__main__":
    from modescape import executor
    from modescape.celery_queue import worker_main

    executor.HANGS_SECONDS = float(os.environ.get("TOY_HANGS_SECONDS", executor.HANGS_SECONDS))
    worker_main(Settings(), sys.argv[1], runner=ToyRunner(), machine=replace(MACHINE, queues=Settings().queues_served))
