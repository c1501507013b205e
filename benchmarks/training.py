"""How fast do we train, beside the loop one would write by hand? Both on the same two cores, in one go, alternating.

    python benchmarks/training.py --images 20000 --epochs 2 --rounds 3
    python benchmarks/training.py --json > benchmarks/training.json     # what the README says, held by a test

The hand-written loop: torchvision's FashionMNIST with ToTensor, a DataLoader with 2 workers, eager float32, one member
after another; with torch's default threads and with one (the other core is then its loader's): the faster counts.
Ours: the same SmallCNN, data, optimiser and schedule, two members at a time, a single-threaded process each, as two
workers do. Imports and data loading are outside the clock; batches are not. Beside images a second stand images a
core-second (processor time, children included), which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = (Path("/usr/share/datasets"), Path.home() / ".local/share/modescape/data")
BATCH = 128


@dataclass(frozen=True)
class Work:
    images: int
    epochs: int
    members: int


@dataclass(frozen=True)
class Outcome:
    """Images a second over all members, images a core-second, and the members' test accuracies."""

    rate: float
    core_rate: float
    accuracies: tuple[float, ...]


def by_hand(work: Work, root: Path, threads: int) -> Outcome:
    """What one writes on a first afternoon."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    train = Subset(FashionMNIST(str(root), train=True, transform=ToTensor()), range(work.images))
    test = DataLoader(FashionMNIST(str(root), train=False, transform=ToTensor()), batch_size=500)

    torch.set_num_threads(threads)

    def network() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.Dropout(0.1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.Dropout(0.1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.Dropout(0.1), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip

    seconds, seen, used = 0.0, 0, core_seconds()
    accuracies: list[float] = []
    models: list[nn.Sequential] = []
    for member in range(work.members):
        torch.manual_seed(member)
        model = network()
        optimiser = torch.optim.Adam(model.parameters(), lr=1.6e-3)
        loader = DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2)
        start = time.perf_counter()
        model.train()
        for _ in range(work.epochs):
            for images, labels in loader:
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                seen += len(labels)
        seconds += time.perf_counter() - start
        models.append(model.eval())
    used = core_seconds() - used
    with torch.no_grad():
        for model in models:
            hits = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test)
            accuracies.append(hits / 10_000)
    return Outcome(seen / seconds, seen / used, tuple(accuracies))


def core_seconds() -> float:
    """Processor time of this process and its finished children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def ours(work: Work, root: Path) -> Outcome:
    """Two single-threaded processes, a member each, started together."""
    context = multiprocessing.get_context("spawn")
    rate, used, total = 0.0, 0.0, 0
    accuracies: list[float] = []
    for first in range(0, work.members, 2):
        members = range(first, min(first + 2, work.members))
        barrier, queue = context.Barrier(len(members)), context.Queue()
        processes = [context.Process(target=_member, args=(work, m, barrier, queue)) for m in members]
        for process in processes:
            process.start()
        results: list[Member] = [queue.get(timeout=3600) for _ in processes]
        for process in processes:
            process.join()
        wall = max(r.end for r in results) - min(r.start for r in results)
        seen = sum(r.seen for r in results)
        rate += seen / wall / -(-work.members // 2)
        used, total = used + sum(r.core_seconds for r in results), total + seen
        accuracies += [r.accuracy for r in results]
    return Outcome(rate, total / used, tuple(accuracies))


@dataclass(frozen=True)
class Member:
    """One member's training: images seen, its span on the wall clock, its processor time, its test accuracy."""

    seen: int
    start: float
    end: float
    core_seconds: float
    accuracy: float


def _member(work: Work, member: int, barrier: Callable[[], int], queue: object) -> None:
    from modescape.architectures.building import build
    from modescape.datasets import loading
    from modescape.science.predictions import predict
    from modescape.science.seeds import run_seeds
    from modescape.spec import parse
    from modescape.training import train

    spec = parse(
        {
            "data": {
                "dataset": "fashion-mnist",
                "input_scale": "unit",
                "train_images": work.images,
                "validation_images": 0,
            },
            "network": {"architecture": "small-cnn"},
            "training": {"epochs": work.epochs, "batch_size": BATCH, "snapshots": 0},
        }
    )
    splits = loading.load(spec.data, FOLDERS)
    seeds = run_seeds(0, run=member)
    network = build(spec.network, splits.shape, seed=seeds.weights)
    barrier.wait()  # type: ignore[attr-defined]
    start, used = time.perf_counter(), core_seconds()
    train(network, splits, spec.training, seeds)
    end, used = time.perf_counter(), core_seconds() - used
    hits = predict(network, splits.test, splits.transform).argmax(1) == splits.test.numpy_labels()
    seen = work.epochs * (work.images // BATCH) * BATCH
    queue.put(Member(seen, start, end, used, float(hits.mean())))  # type: ignore[attr-defined]


def unpack(root: Path) -> None:
    """torchvision wants plain IDX files in its own folder; the Debian package has them gzipped."""
    from modescape.datasets import dataset, here

    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    location = dataset.DataLocation(FOLDERS)
    where = here.availability_of("fashion-mnist", location).where
    if where is None:
        sys.exit("Fashion-MNIST is not here: run `modescape data fetch fashion-mnist` or install dataset-fashion-mnist")
    for path in where.glob("*-ubyte*"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of words")
    asked = parser.parse_args()
    work = Work(asked.images, asked.epochs, asked.members)
    plain, fast = [], []
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        for _ in range(asked.rounds):
            tries = [by_hand(work, Path(folder), threads) for threads in {os.cpu_count() or 1, 1}]
            plain.append(max(tries, key=lambda outcome: outcome.rate))
            fast.append(ours(work, Path(folder)))
    pairs = list(zip(plain, fast, strict=True))
    ratios = {"ratio": [f.rate / p.rate for p, f in pairs], "core_ratio": [f.core_rate / p.core_rate for p, f in pairs]}
    report: dict[str, Any] = {
        "n": asked.rounds,
        "images": asked.images,
        "epochs": asked.epochs,
        **{name: statistics.median(values) for name, values in ratios.items()},
        **{f"{name}_range": [min(values), max(values)] for name, values in ratios.items()},
        "by_hand_images_per_second": statistics.median(p.rate for p in plain),
        "ours_images_per_second": statistics.median(f.rate for f in fast),
        "by_hand_images_per_core_second": statistics.median(p.core_rate for p in plain),
        "ours_images_per_core_second": statistics.median(f.core_rate for f in fast),
        "by_hand_accuracy": statistics.mean(a for p in plain for a in p.accuracies),
        "ours_accuracy": statistics.mean(a for f in fast for a in f.accuracies),
        "machine": _machine(),
    }
    if asked.json:
        print(json.dumps(report))
        return
    for title, name in (("by hand", "by_hand"), ("ours   ", "ours")):
        rate, core_rate = report[f"{name}_images_per_second"], report[f"{name}_images_per_core_second"]
        accuracy = report[f"{name}_accuracy"]
        print(f"{title} {rate:8,.0f} images/s {core_rate:8,.0f} images/core-second, accuracy {accuracy:.3f}")
    for title, name in (("ratio  ", "ratio"), ("by core", "core_ratio")):
        low, high = report[f"{name}_range"]
        print(f"{title} {report[name]:.2f} (n = {asked.rounds}, {low:.2f} to {high:.2f}) on {report['machine']}")


def _machine() -> str:
    """Its class, for a reader: processor family, cores, and whether it multiplies bfloat16; no name."""
    from modescape.science.arithmetic import has_cpu_bfloat16

    return f"{platform.machine()}, {os.cpu_count()} cores, {'bfloat16' if has_cpu_bfloat16() else 'no bfloat16'}"


if __name__ == "__main__":
    main()
