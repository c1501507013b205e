"""What does a plane of the loss landscape cost? Processor time of grids of one network, and whether it is linear.

    python benchmarks/landscape.py --architecture small-cnn --rounds 3

Weight vectors of a radial plane are evaluated on random images of Fashion-MNIST's size, as `plane` stages do it: cells
x images from small to large, alternating. Processor time, because a busy machine disturbs it less than the clock; on a
quiet machine with one worker a core they are equal. From the largest grid: how long 33 x 33 cells of 1,000 training and
1,000 test images take on two quiet cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

GRIDS = ((11, 500), (11, 1000), (33, 500), (33, 1000))  # cells, images
LOOK = 33 * 33 * 2000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--architecture", default="small-cnn")
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # parallelism is one worker a core

    import numpy as np
    import torch

    from modescape.architectures.building import build
    from modescape.science import landscape, weights
    from modescape.science.data import InputTransform, Shape, Split
    from modescape.spec_parts import NetworkSpec

    torch.set_num_threads(1)
    shape = Shape(1, 28, 28, 10)
    networks = [build(NetworkSpec(architecture=options.architecture), shape, seed=seed) for seed in (0, 1)]
    plane = landscape.radial(*(weights.flatten(network) for network in networks))
    nodes = plane.axes(33).x
    as_they_are = InputTransform("raw255", np.zeros(1, np.float32), np.ones(1, np.float32))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1000, 1, 28, 28), dtype=np.uint8))
    split = Split(pixels, torch.zeros(1000, dtype=torch.int64))
    gauge = landscape.Gauge(networks[0], as_they_are)

    def seconds(cells: int, images: int) -> float:
        shown = split.take(images)
        view = landscape.View(shown, shown.numpy_labels(), np.zeros((2, images), np.int64))
        started = time.process_time()
        for _ in gauge.each((plane.at(nodes[i % 33], nodes[5]) for i in range(cells)), [view]):
            pass
        return time.process_time() - started

    seconds(3, 200)  # warm
    found: dict[tuple[int, int], list[float]] = {grid: [] for grid in GRIDS}
    for _ in range(options.rounds):
        for grid in GRIDS:
            found[grid].append(seconds(*grid))
    print(f"{options.architecture}, {len(plane.first):,} weights; {platform.machine()}, torch {torch.__version__}")
    print("cells  images  processor time, s (median, range)    images a core-second")
    rates = {}
    for (cells, images), times in found.items():
        middle = statistics.median(times)
        rates[cells, images] = cells * images / middle
        spread = f"{middle:8.3f} ({min(times):.3f} to {max(times):.3f}, n = {len(times)})"
        print(f"{cells:5}  {images:6}  {spread:36}  {rates[cells, images]:10,.0f}")
    smallest, largest = rates[GRIDS[0]], rates[GRIDS[-1]]
    more = GRIDS[-1][0] * GRIDS[-1][1] / (GRIDS[0][0] * GRIDS[0][1])
    print(f"{more:.0f} times the cells x images take {more * smallest / largest:.2f} times as long")
    print(f"33 x 33 cells of 2,000 images on two quiet cores: {LOOK / largest / 2:.0f} s")


if __name__ == "__main__":
    main()
