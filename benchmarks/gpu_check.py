"""Does the product work on a GPU, and is the card full? One command, one JSON; it needs no service and no registry.

    make gpu-check                       # on a machine with a GPU; DEVICE=cpu tries the command itself, in minutes
    PYTHONPATH=worker:backend:benchmarks python benchmarks/gpu_check.py cuda --out .       # a bare machine

Sameness: a training twice, killed and resumed, and in groups gives the bits of one alone; stacks its gradients; the
card's accuracy is the processor's. Speed at the paper's shape, 3x32x32 in batches of 128: training images a second of
1, 4, 16 and 64 members, branches and stacked, beside eager and compiled loops written by hand that train one member
after another; predictions a second of as many functions at once, beside an eager network that predicts one after
another; the share of time in which the card computes; memory. Product: every short preset, put on scikit-learn's
digits, through the real laboratory to its last figure; with CIFAR-10 in MODESCAPE_DATA also fig-6 whole. What fell
short is named at the end, and the exit status says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from stepping import BATCH, RATE, SHAPE, UNIT, plain
from torch import nn

import modescape.presets  # noqa: F401, they register themselves
from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.errors import StageInterrupted
from modescape.registry import presets
from modescape.science import weights
from modescape.science.arithmetic import choose_precision, numerics_class
from modescape.science.data import Split, Splits
from modescape.science.predictions import Placed, predict, predict_in_groups
from modescape.science.seeds import run_seeds
from modescape.spec import ExperimentSpec, parse
from modescape.training import Recipe, Run, Silent, TrainState
from modescape.training_groups import Trainee, Way, train_alone, train_group
from modescape.training_groups.on_card import OnCard, cannot_be_captured

NETWORKS = ("small-cnn", "medium-cnn", "resnet20v1")
MEMBERS = {"cuda": (1, 4, 16, 64), "cpu": (1, 2)}
SECONDS = {"cuda": 3.0, "cpu": 0.5}  # of each measurement
GOALS = {"small-cnn": 2_000_000, "medium-cnn": 300_000, "resnet20v1": 250_000}  # training images a second, of one card


class Report:
    """What was found, kept as it grows: a check that is cut off loses nothing."""

    def __init__(self, device: str, folder: Path) -> None:
        self.began = time.monotonic()
        self.file = folder / f"gpu_check_{device}.json"
        self.found: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(), "device": device, "torch": torch.__version__,
            "python": platform.python_version(),
            "card": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
            "numerics": numerics_class(device, choose_precision("auto", device)), "fell_short": [],
        }  # fmt: skip

    def say(self, part: str, name: str, value: Any, *, holds: bool = True) -> None:
        self.found.setdefault(part, {})[name] = value
        if not holds:
            self.found["fell_short"].append(f"{part}: {name}")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")
        print(
            f"{time.monotonic() - self.began:6.1f} s  {part}: {name}: {value}{'' if holds else '   <- FELL SHORT'}",
            flush=True,
        )

    @contextmanager
    def part(self, part: str, name: str) -> Iterator[None]:
        """What raises is a finding too, and no reason to leave the rest."""
        try:
            yield
        except Exception:
            self.say(part, name, traceback.format_exc()[-1500:], holds=False)


def synchronised(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# --- sameness ---------------------------------------------------------------------------------------------------------


class _Stop(Silent):
    """Stops a training at its n-th step, with its state."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0
        self.state: TrainState | None = None

    def check(self) -> None:
        self.steps += 1
        if self.steps > self.at:
            raise StageInterrupted("stopped by the check")

    def save(self, state: TrainState) -> None:
        self.state = state


def _members(spec: ExperimentSpec, splits: Splits, runs: range) -> list[Trainee]:
    seeds = [run_seeds(0, run=run) for run in runs]
    return [Trainee(build(spec.network, splits.shape, seed=one.weights), one) for one in seeds]


def _group(spec: ExperimentSpec, splits: Splits, runs: range, device: str, way: Way = "branches") -> list[nn.Module]:
    members = _members(spec, splits, runs)
    ended = train_group(members, splits, spec.training, way=way, device=device, captured=True)
    assert ended == [None] * len(runs), ended
    return [one.network for one in members]


def sameness(report: Report, device: str) -> None:
    for name in NETWORKS:
        epochs = (6 if name == "small-cnn" else 2) * (5 if device == "cuda" else 1)
        changes = {"training": {"epochs": epochs, "snapshots": 0, "augmentation": "shift-flip"}}
        spec = parse({"data": {"dataset": "digits", "train_images": 397}, "network": {"architecture": name}, **changes})
        splits = loading.load(spec.data, ())
        with report.part("sameness", name):
            first = [weights.flatten(one) for one in _group(spec, splits, range(3), device)]
            again = weights.flatten(_group(spec, splits, range(1), device)[0])
            report.say("sameness", f"{name}: alone and in a group, the same bits", _same(first[0], again),
                       holds=_same(first[0], again))  # fmt: skip
            resumed = _resumed(spec, splits, device)
            report.say("sameness", f"{name}: after a kill, the same bits", _same(resumed, first[1]),
                       holds=_same(resumed, first[1]))  # fmt: skip
            apart = _gradients_apart(spec, splits, device)
            report.say(
                "sameness", f"{name}: gradients of a stack against branches, relative", apart, holds=apart < 1e-4
            )
        with report.part("sameness", f"{name}: accuracy"):
            labels = splits.test.numpy_labels()
            there = [_accuracy(one, splits, device, labels) for one in _group(spec, splits, range(4), device)]
            here = []
            for one in _members(spec, splits, range(4)):
                train_alone(one.network, splits, spec.training, one.seeds)
                here.append(_accuracy(one.network, splits, "cpu", labels))
            error = float((np.var(there, ddof=1) / 4 + np.var(here, ddof=1) / 4) ** 0.5)
            alike = abs(float(np.mean(there)) - float(np.mean(here))) < max(4 * error, 0.05)
            report.say("sameness", f"{name}: accuracy of 4 runs there and 4 as a processor trains", [there, here],
                       holds=alike)  # fmt: skip


def _same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other))


def _resumed(spec: ExperimentSpec, splits: Splits, device: str) -> Any:
    [member] = _members(spec, splits, range(1, 2))
    stop = _Stop(4)
    train_group([Trainee(member.network, member.seeds, stop)], splits, spec.training, way="branches", device=device,
                captured=True)  # fmt: skip
    [fresh] = _members(spec, splits, range(1, 2))
    later = Trainee(fresh.network, fresh.seeds, resume=stop.state)
    train_group([later], splits, spec.training, way="branches", device=device, captured=True)
    return weights.flatten(later.network)


def _runs(spec: ExperimentSpec, splits: Splits, count: int, device: str) -> list[Run]:
    recipe, there = Recipe.of(spec.training, len(splits.train)), splits.to(device)
    members = _members(spec, splits, range(count))
    return [Run(m.network.to(device), there, spec.training, m.seeds, recipe, device, 0) for m in members]


def _gradients_apart(spec: ExperimentSpec, splits: Splits, device: str) -> float:
    branches, stack = _runs(spec, splits, 3, device), _runs(spec, splits, 3, device)
    OnCard(branches, "float32", stacked=False).learn()
    OnCard(stack, "float32", stacked=True).learn()
    pairs = zip(branches, stack, strict=True)
    return median(float((b.gradient - a.gradient).norm() / a.gradient.norm()) for a, b in pairs)


def _accuracy(network: nn.Module, splits: Splits, device: str, labels: Any) -> float:
    found = predict(network, splits.test, splits.transform, device=device)
    return float((found.argmax(1) == labels).mean())


# --- speed ------------------------------------------------------------------------------------------------------------


def _noise(count: int) -> Splits:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE[:3]), dtype=torch.uint8, generator=random)
    every = Split(pixels, torch.randint(0, 10, (count,), generator=random))
    return Splits(every, every.take(0), every, tuple(map(str, range(10))), UNIT, SHAPE)


def _rate(once: Callable[[], int], device: str) -> float:
    """Images a second of it, after a few that warm it up."""
    for _ in range(3):
        once()
    synchronised(device)
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS[device]:
        for _ in range(10 if device == "cuda" else 1):
            images += once()
        synchronised(device)
    return images / (time.perf_counter() - started)


def _ours(spec: ExperimentSpec, splits: Splits, members: int, way: Way, device: str) -> Callable[[], int]:
    runs = _runs(spec, splits, members, device)
    assert (why := cannot_be_captured(runs[0])) is None, why
    precision = choose_precision("auto", device)
    card = OnCard(runs, precision, stacked=way == "stacked")

    def once() -> int:
        card.learn()
        return members * BATCH

    return once


def _by_hand(name: str, splits: Splits, device: str, *, compiled: bool) -> Callable[[], int]:
    """One step of the loop that people write: images ready on the device, fused Adam, autocast."""
    torch.manual_seed(0)
    network: Any = plain(name).to(device)
    network = torch.compile(network) if compiled else network
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    images = (
        (splits.train.rows(0, len(splits.train)).float() / 255).to(device).contiguous(memory_format=torch.channels_last)
    )
    labels, lower = splits.train.labels.to(device), choose_precision("auto", device) == "bfloat16"

    def once() -> int:
        chosen = torch.randint(0, len(labels), (BATCH,), device=device)
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=lower):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return BATCH

    return once


def speed(report: Report, device: str) -> None:
    splits = _noise(50_000 if device == "cuda" else 2_560)
    for name in NETWORKS if device == "cuda" else NETWORKS[:1]:
        spec = parse({
            "data": {"dataset": "cifar10", "input_scale": "unit", "validation_images": 0},
            "network": {"architecture": name}, "training": {"epochs": 1000, "snapshots": 0, "learning_rate": RATE},
        })  # fmt: skip
        others: dict[str, float] = {}
        for compiled in (False, True):
            words = "compiled loop" if compiled else "eager loop"
            with report.part("speed", f"{name}, {words}"):
                others[words] = _rate(_by_hand(name, splits, device, compiled=compiled), device)
                report.say("speed", f"{name}, {words}, one member after another, images/s", round(others[words]))
        best = 0.0
        for members in MEMBERS[device]:
            for way in ("branches", "stacked") if members > 1 else ("branches",):
                line = f"{name}, {members} members, {way}"
                with report.part("speed", line):
                    if device == "cuda":
                        torch.cuda.reset_peak_memory_stats()
                    found = _rate(_ours(spec, splits, members, way, device), device)
                    best = max(best, found)
                    ratios = {words: round(found / other, 2) for words, other in others.items()}
                    report.say(
                        "speed", f"{line}, images/s", {"ours": round(found), "ours / other": ratios} | _memory(device)
                    )
        if device == "cuda":
            report.say("goals", f"{name}, images/s of a group", {"reached": round(best), "goal": GOALS[name]},
                       holds=best >= GOALS[name])  # fmt: skip
            with report.part("speed", f"{name}, share"):
                share = _share(_ours(spec, splits, 16, "branches", device))
                report.say("speed", f"{name}, 16 branches: share of the time in which the card computes", share)
        with report.part("speed", f"{name}, predictions"):
            _predictions(report, name, spec, splits.test.to(device).take(10_000), device)


def _predictions(report: Report, name: str, spec: ExperimentSpec, test: Split, device: str) -> None:
    """Of functions at once, beside a network in evaluation that one writes by hand, one function after another."""
    eager = plain(name).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def by_hand() -> int:
        with torch.inference_mode():
            for part in torch.split(test.rows(0, len(test)), 1000):
                eager((part.float() / 255).contiguous(memory_format=torch.channels_last)).cpu()
        return len(test)

    other = _rate(by_hand, device)
    report.say("speed", f"{name}, eager, one function after another, predictions/s", round(other))
    network = build(spec.network, SHAPE, seed=0).to(device)
    thetas = [weights.flatten(build(spec.network, SHAPE, seed=seed)) for seed in range(max(MEMBERS[device]))]

    def placed() -> Iterator[Placed[int]]:
        for number in itertools.cycle(range(len(thetas))):
            weights.assign(network, thetas[number])
            yield Placed(number, network)

    def in_groups(together: int | None) -> Any:
        return predict_in_groups(placed(), {"test": test}, UNIT, device=device, together=together)

    alone = {number: found["test"] for [(number, found)] in itertools.islice(in_groups(1), len(thetas))}
    for together in (*MEMBERS[device], None):
        groups = in_groups(together)
        if together is None:
            next(groups)  # the first, which tells how many others have room
        first = next(groups)
        line = f"{name}, {len(first)} at once{'' if together else ', as many as are taken'}"
        same = all(_same(found["test"], alone[number]) for number, found in first if number in alone)
        report.say("sameness", f"{line}, the same bits", same, holds=same)

        def once(groups: Any = groups) -> int:
            return len(next(groups)) * len(test)

        found = _rate(once, device)
        told = {"ours": round(found), "ours / other": round(found / other, 2)} | _memory(device)
        report.say("speed", f"{line}, predictions/s", told)


def _memory(device: str) -> dict[str, int]:
    return {"peak MiB": torch.cuda.max_memory_allocated() >> 20} if device == "cuda" else {}


def _share(once: Callable[[], int]) -> float:
    """Of the time of 50 steps, that in which any kernel runs."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(5):
        once()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(50):
            once()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or []
        if "CUDA" in str(event.device_type)
    )
    busy, reached = 0.0, spans[0][0]
    for begin, end in spans:  # kernels of several streams overlap
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return round(float(busy / (reached - spans[0][0])), 3)


# --- the product ------------------------------------------------------------------------------------------------------


def _small(name: str) -> dict[str, Any]:
    """A short preset on digits of 8 x 8."""
    document: dict[str, Any] = json.loads(json.dumps(presets[name].call()))
    document["data"] = {"dataset": "digits", "input_scale": "unit"}
    document["training"] = {**document.get("training", {}), "snapshots": 6}
    if document.get("shift"):
        document["shift"] |= {"images": 500, "corruptions": ["gaussian_noise", "contrast", "pixelate"]}
    for one in document.get("ood") or []:
        one |= {"dataset": "blobs", "images": 200}
    return document


def product(report: Report, device: str, until: float, only: list[str] | None) -> None:
    names = only if only is not None else [one for one in presets if one == "quickstart" or one.endswith("-short")]
    for name in names:
        _whole(report, device, name, _small(name), until)
    if device == "cuda" and os.environ.get("MODESCAPE_DATA"):
        seconds = _whole(report, device, "fig-6", presets["fig-6"].call(), until)
        if seconds is not None:
            report.say("goals", "fig-6, seconds from the command to the last figure", {"reached": seconds, "goal": 90},
                       holds=seconds <= 90)  # fmt: skip


def _whole(report: Report, device: str, name: str, document: dict[str, Any], until: float) -> float | None:
    """Seconds of `modescape run`, in a home of its own."""
    left = until - time.monotonic()
    if left < 10:
        report.say("product", name, "left out: no time")
        return None
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps(document))
        environment = os.environ | {"MODESCAPE_HOME": folder, "MODESCAPE_DEVICE": device}
        started = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "modescape.cli", "run", str(spec)], env=environment, capture_output=True,
                text=True, timeout=left, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            report.say("product", name, "cut off: no time")
            return None
    seconds = round(time.monotonic() - started, 1)
    failed = (done.stdout + done.stderr)[-1500:]
    report.say("product", name, f"{seconds} s" if done.returncode == 0 else failed, holds=done.returncode == 0)
    return seconds if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gpu", help="folder of the JSON")
    parser.add_argument("--seconds", type=float, default=3600, help="presets not begun by then are left out, by name")
    parser.add_argument("--presets", nargs="*", help="only these")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here; DEVICE=cpu tries the command itself")
        return 2
    torch.set_num_threads(1)
    until = time.monotonic() + asked.seconds
    report = Report(asked.device, asked.out)
    sameness(report, asked.device)
    speed(report, asked.device)
    product(report, asked.device, until, asked.presets)
    report.say("whole", "seconds", round(time.monotonic() - report.began))
    print("fell short:", "; ".join(report.found["fell_short"]) or "nothing")
    return 1 if report.found["fell_short"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
