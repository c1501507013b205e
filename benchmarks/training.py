"""How fast do we train, beside the loop one would write by hand? Both on the same two cores, in one go, alternating.

    python benchmarks/training.py --images 20000 --epochs 2 --rounds 3

The hand-written loop: torchvision's FashionMNIST with ToTensor, a DataLoader with 2 workers, eager float32, one member
after another; with torch's default threads and with one (its workers then get the other cores), the faster counts. Ours: the same SmallCNN, data, optimiser and schedule, two members at a time,
a single-threaded process each, as two workers do. Imports and data loading are outside the clock; batches are not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDERS = (Path("/usr/share/datasets"), Path.home() / ".local/share/modescape/data")
BATCH = 128


@dataclass(frozen=True)
class Work:
    images: int
    epochs: int
    members: int


@dataclass(frozen=True)
class Outcome:
    """images a second over all members, and the members' test accuracies."""

    rate: float
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

    seconds, seen, accuracies = 0.0, 0, []
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
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test)
        accuracies.append(hits / 10_000)
    return Outcome(seen / seconds, tuple(accuracies))


def ours(work: Work, root: Path) -> Outcome:
    """Two single-threaded processes, a member each, started together."""
    context = multiprocessing.get_context("spawn")
    rate, accuracies = 0.0, []
    for first in range(0, work.members, 2):
        members = range(first, min(first + 2, work.members))
        barrier, queue = context.Barrier(len(members)), context.Queue()
        processes = [context.Process(target=_member, args=(work, m, barrier, queue)) for m in members]
        for process in processes:
            process.start()
        results = [queue.get(timeout=3600) for _ in processes]
        for process in processes:
            process.join()
        wall = max(end for _, _, end, _ in results) - min(start for _, start, _, _ in results)
        rate += sum(seen for seen, *_ in results) / wall / -(-work.members // 2)
        accuracies += [accuracy for *_, accuracy in results]
    return Outcome(rate, tuple(accuracies))


def _member(work: Work, member: int, barrier: Callable[[], int], queue: object) -> None:
    from modescape.science import data
    from modescape.science.networks import build
    from modescape.science.predictions import predict
    from modescape.science.seeds import run_seeds
    from modescape.science.training import train
    from modescape.spec import parse

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
    splits = data.load(spec.data, FOLDERS)
    seeds = run_seeds(0, run=member)
    network = build(spec.network, splits.shape, seed=seeds.weights)
    barrier.wait()  # type: ignore[attr-defined]
    start = time.perf_counter()
    train(network, splits, spec.training, seeds)
    end = time.perf_counter()
    hits = predict(network, splits.test, splits.transform).argmax(1) == splits.test.numpy_labels()
    seen = work.epochs * (work.images // BATCH) * BATCH
    queue.put((seen, start, end, float(hits.mean())))  # type: ignore[attr-defined]


def unpack(root: Path) -> None:
    """torchvision wants plain IDX files in its own folder; the Debian package has them gzipped."""
    from modescape.science import data

    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    location = data.DataLocation(FOLDERS)
    where = data.availability_of("fashion-mnist", location).where
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
    ratios = [f.rate / p.rate for p, f in zip(plain, fast, strict=True)]
    report = {
        "n": asked.rounds,
        "images": asked.images,
        "epochs": asked.epochs,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "by_hand_images_per_second": statistics.median(p.rate for p in plain),
        "ours_images_per_second": statistics.median(f.rate for f in fast),
        "by_hand_accuracy": statistics.mean(a for p in plain for a in p.accuracies),
        "ours_accuracy": statistics.mean(a for f in fast for a in f.accuracies),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    if asked.json:
        print(json.dumps(report))
        return
    low, high = min(ratios), max(ratios)
    print(f"by hand {report['by_hand_images_per_second']:8,.0f} images/s, accuracy {report['by_hand_accuracy']:.3f}")
    print(f"ours    {report['ours_images_per_second']:8,.0f} images/s, accuracy {report['ours_accuracy']:.3f}")
    print(f"ratio   {report['ratio']:.2f} (n = {asked.rounds}, {low:.2f} to {high:.2f}) on {report['machine']}")


if __name__ == "__main__":
    main()
