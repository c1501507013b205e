"""How numbers are computed in training: threads, kernels and precision, so that equal machines give equal bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["float32", "bfloat16"]


@contextmanager
def arithmetic(device: str) -> Iterator[None]:
    """How numbers are computed in training: one CPU thread, no denormals, and on a GPU `repeatable` kernels.

    Restored afterwards (but for denormals, whose old state torch does not tell: they are then on, its default).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        with repeatable() if torch.device(device).type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


@contextmanager
def generators_aside(device: str) -> Iterator[None]:
    """Within it torch's global generators, of processor and device, are one's own; afterwards they are as they were."""
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Deterministic GPU algorithms in full float32. Not for a CPU: the first call costs two seconds of imports."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, tf32 = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    matmul = torch.get_float32_matmul_precision()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # our pools do not overlap, so their backward pass is deterministic although torch only warns about it
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    memory.fill_uninitialized_memory = False  # what we leave empty is written before it is read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = benchmark, tf32
        torch.set_float32_matmul_precision(matmul)
        memory.fill_uninitialized_memory = filled


def choose_precision(asked: Literal["auto", "float32", "bfloat16"], device: str, *, is_ours: bool = True) -> Precision:
    """The arithmetic of training: `auto` takes bfloat16 only where processor or GPU has it in hardware (science c.5),
    and only for networks of ours. (Of torch 2.14's kernels on processors some give other numbers at every call, up to
    infinities, under its autocast: seen in timm's resnet10t, of which equal trainings differed.)

    Decided by features, never by a timing, so that the same machine always decides alike. (Measured on a processor
    without it, AVX2 only: bfloat16 is 4 times slower than float32.)
    """
    if asked != "auto":
        return asked
    if not is_ours:
        return "float32"
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if has_cpu_bfloat16() else "float32"


def has_cpu_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 (AVX-512 BF16, AMX or Arm's BF16); where Linux does not tell: no."""
    if not cpuinfo.exists():
        return False
    lines = cpuinfo.read_text().splitlines()
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(features.split()))


def arithmetic_used(device: str, precision: Precision) -> dict[str, str]:
    """What a training was computed with: device kind, its name or instruction set, torch version, precision."""
    place = torch.device(device)
    kind = torch.cuda.get_device_name(place) if place.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"precision": precision, "device": place.type, "hardware": kind, "torch": str(torch.__version__)}


def numerics_class(device: str, precision: Precision) -> str:
    """What must be equal for equal bits: device kind, instruction set, torch version, precision, threads."""
    used = arithmetic_used(device, precision)
    return f"{used['device']}/{used['hardware']}/torch {used['torch']}/{precision}/1 thread"
