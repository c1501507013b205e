"""Where does a training step's time go, and how much could any loop spare? Per layer, one thread, 3x32x32, batch 128.

    python benchmarks/roofline.py          # prints a line each and keeps results/roofline.json

Each convolution and linear layer is timed alone, its three passes in the layout that training has (channels-last), on
arrays that are warm: what torch's kernels reach on this processor. A step of `training.train` is then profiled, and its
time told by what is done. `most` is what a loop would win over the one by hand (stepping.py) if nothing took time but
those layers at their speed alone: no training by torch's kernels is faster. Processor time, the least of several.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from _beside import keep, timed
from stepping import BATCH, COUNTS, SHAPE, ways
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from modescape import heap
from modescape.architectures.building import build
from modescape.science.arithmetic import has_cpu_bfloat16
from modescape.spec import parse

DONE = {
    "convolutions and linear": ("conv", "mm", "linear"),
    "normalisation": ("batch_norm",),
    "pooling": ("pool",),
    "ReLU and sums": ("clamp_min", "threshold", "relu", "aten::add"),
    "copies and fills": ("copy", "fill", "zero", "to_copy", "empty", "index"),
}


def least(call: Callable[[], Any], times: int = 7) -> float:
    """Seconds."""
    call()
    return min(timed(call, time.process_time)[0] for _ in range(times))


def layers(architecture: str, precision: str) -> list[dict[str, Any]]:
    """Each with its billions of operations, its milliseconds alone, and how many of them a second."""
    network = build(parse({"network": {"architecture": architecture}}).network, SHAPE, seed=0)
    seen: list[tuple[str, Any, Tensor]] = []
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            hook = layer.register_forward_hook(lambda one, given, _, name=name: seen.append((name, one, given[0])))
            hooks.append(hook)
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    network.eval()(torch.rand(BATCH, *SHAPE[:3], requires_grad=True))  # else the first layer may take another way
    for hook in hooks:
        hook.remove()
    found = []
    for number, (name, layer, given) in enumerate(seen):
        one: Any = layer.to(kind)
        inputs = given.detach().to(kind)
        if isinstance(layer, nn.Conv2d):
            one = one.to(memory_format=torch.channels_last)
            inputs = inputs.to(memory_format=torch.channels_last)
        inputs.requires_grad_(number > 0)  # nobody asks for the gradient of images
        outputs = one(inputs)
        area = outputs.shape[-2] * outputs.shape[-1] if outputs.dim() == 4 else 1
        operations = 2.0 * BATCH * area * layer.weight.numel() * (3 if number else 2)
        gradient = torch.ones_like(outputs)

        def passes(one: Any = one, inputs: Tensor = inputs, gradient: Tensor = gradient) -> None:
            one(inputs).backward(gradient)

        seconds = least(passes)
        found.append(
            {
                "layer": name, "operations": round(operations / 1e9, 3), "ms": round(1e3 * seconds, 2),
                "a second": round(operations / seconds / 1e9),
            }
        )  # fmt: skip
    return found


def step(architecture: str, precision: str) -> dict[str, Any]:
    """Milliseconds of a step, of one by hand, and of ours by what is done in it."""
    ours, others = ways(architecture, COUNTS[architecture], precision)
    steps = COUNTS[architecture] / BATCH
    by_hand = least(others["by hand"], 4)
    heap.keep()  # as workers do
    whole = least(ours, 4)
    with profile(activities=[ProfilerActivity.CPU]) as told:
        ours()
    spent: dict[str, float] = dict.fromkeys([*DONE, "all else"], 0.0)
    for event in told.key_averages():
        kind = next((kind for kind, names in DONE.items() if any(name in event.key for name in names)), "all else")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return {
        "ms": round(1e3 * whole / steps, 2), "ms by hand": round(1e3 * by_hand / steps, 2),
        "shares": {kind: round(value / total, 3) for kind, value in spent.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a line's name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for architecture in COUNTS:
        for precision in ("float32", "bfloat16") if has_cpu_bfloat16() else ("float32",):
            name = f"{architecture}, {precision}"
            if asked.only not in name:
                continue
            alone, spent = layers(architecture, precision), step(architecture, precision)
            least_ms = sum(layer["ms"] for layer in alone)
            most = spent["ms by hand"] / least_ms
            by_hand = spent["ms by hand"]
            said = f"{spent['ms']} ms a step, {least_ms:.1f} its layers alone, {by_hand} by hand: at most {most:.2f}"
            rows[name] = {"said": said, "most": round(most, 2), "step": spent, "layers": alone}
            print(f"{name}: {rows[name]}", flush=True)
    if not asked.only:
        keep("roofline", rows, torch=torch.__version__, threads=1)


if __name__ == "__main__":
    main()
