"""Fuzzing led by coverage (atheris, which is libFuzzer for Python): bytes are changed so that other lines are reached.

    python tests/test_fuzzed_by_coverage.py TARGET SECONDS FOLDER

What is read is refused in our words or taken; anything else ends the process, and what did it is a file in FOLDER. The
inputs that reached new lines are kept there too, and are where the next time begins. `make fuzz` runs every target for
MODESCAPE_FUZZ_SECONDS, `make test` what each begins with; `test_fuzzed_files.py` looks at the same readers by rules,
with values that are nearer to good ones.
"""

from __future__ import annotations

import functools
import gzip
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import orjson
import pytest
from keeping import keep

Bytes = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """reads: raises what is no refusal; seeds: inputs to begin with."""

    reads: Bytes
    seeds: tuple[bytes, ...]


def targets() -> dict[str, Target]:
    from serving import SPEC  # here, for what is imported before its code is instrumented is not looked into
    from test_fuzzed_files import GOOD

    from modescape import asking, documents, searching, spec
    from modescape.columns import EXPERIMENTS, SOLUTIONS
    from modescape.corruptions.published import check_set
    from modescape.datasets import here
    from modescape.errors import ModescapeError
    from modescape.imported import reading
    from modescape.imported.ensemble import Tensors
    from modescape.imported.tensors import header_of
    from modescape.records import DataInfo
    from modescape.reports import notes
    from modescape.spec_parts import DataSpec
    from modescape.sweeps import asked as sweeps

    def refusing(reads: Bytes) -> Bytes:
        @functools.wraps(reads)
        def one(raw: bytes) -> None:
            try:
                reads(raw)
            except ModescapeError:
                return

        return one

    @refusing
    def as_spec(raw: bytes) -> None:
        spec.parse(documents.from_json(raw.decode("latin-1"), "spec"))

    @refusing
    def as_yaml(raw: bytes) -> None:
        found = documents.from_yaml(raw.decode("latin-1"))
        if isinstance(found, dict) and "over" in found:
            list(sweeps.read(found).cells())
        else:
            spec.parse(found)

    def as_filter(raw: bytes) -> None:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
        for fields in (EXPERIMENTS, SOLUTIONS):
            asking.read(fields, pairs, lenient=True)
            refusing(lambda _, fields=fields: asking.read(fields, pairs))(raw)

    def as_search(raw: bytes) -> None:
        text = raw.decode("utf-8", "replace")
        found = searching.parse(text)
        for fault in found.faults:
            assert 0 <= fault.start <= fault.end <= len(text)
        typed = searching.half(text, len(text) // 2)
        assert 0 <= typed.start <= typed.end <= len(text)

    def as_note(raw: bytes) -> None:
        def say(experiment: str, asked: str) -> notes.Said:
            return notes.Said(f"{experiment} {asked}", url="/here")

        text = raw.decode("utf-8", "replace").replace("\0", "")
        shown = notes.read(text).html(say, lambda digest, words: None).lower()
        assert not any(odd in shown for odd in ("<script", "<iframe", "<style", "<form", "javascript:alert"))
        notes.tex(text, say, lambda digest: None)
        notes.markdown(text, say, lambda digest: None)

    def in_a_file(name: str, reads: Callable[[Path], None]) -> Bytes:
        def one(raw: bytes) -> None:
            with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
                reads(path)

        return refusing(one)

    def ensemble(path: Path) -> None:
        reading.read(path)

    def header(path: Path) -> None:
        header_of(Tensors(path.name, path.stat().st_size, lambda: path.open("rb"), path))

    def own(dataset: str) -> Callable[[Path], None]:
        def describe(path: Path) -> None:
            try:
                here.describe(DataSpec.model_validate({"dataset": dataset, "path": str(path)}), ())
            except ValueError:  # of the model's fields
                return

        return describe

    def idx(path: Path) -> None:
        raw = path.read_bytes()
        for part in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            (path.parent / part).write_bytes(raw)
        here.describe(DataSpec.model_validate({"dataset": "mnist"}), (path.parent.parent,))

    def corrupted(path: Path) -> None:
        np.save(path.parent / "labels.npy", np.tile(np.arange(4) % 2, 5))
        check_set(path.parent, DataInfo(3, 8, 8, ("a", "b"), 8, 4, 2), ("fog",))

    def array(values: object) -> bytes:
        with tempfile.TemporaryFile() as file:
            np.save(file, np.asarray(values))
            file.seek(0)
            return file.read()

    tensors = orjson.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    safetensors = len(tensors).to_bytes(8, "little") + tensors + bytes(8)
    a_search = b'accuracy>0.9 claim:d=holds (tag:baseline or arch:resnet20v1) -status:failed "free text"'
    a_note = b"# Why\n\n| a | b |\n|---|---|\n| 1 | $x^2$ |\n\n![x](image:00) [[small:accuracy]] <b>no</b>\n\n"
    kept = {
        "spec": Target(as_spec, (orjson.dumps(SPEC),)),
        "yaml": Target(
            as_yaml, (b"base: {preset: quickstart}\nover:\n  training.epochs: [1, 2]\n", b"data: &a [*a]\n")
        ),
        "filter": Target(as_filter, (b"accuracy__gte=0.5&tag=a&q=b&sort=-created&limit=5&cursor=x", b"created__lt=1d")),
        "search": Target(as_search, (a_search,)),
        "note": Target(as_note, (a_note, b"$$\\frac{1}{2}$$\n")),
        "idx": Target(in_a_file("mnist/train-images-idx3-ubyte", idx), (GOOD[""], bytes(16))),
        "idx-packed": Target(in_a_file("mnist/train-images-idx3-ubyte.gz", idx), (gzip.compress(GOOD[""]),)),
        "corrupted": Target(in_a_file("fog.npy", corrupted), (array(np.zeros((20, 8, 8, 3), np.uint8)),)),
        "own-npz": Target(in_a_file("set.npz", own("npz")), (GOOD[".npz"],)),
        "own-numbers": Target(in_a_file("set.csv", own("numbers")), (b"a,b,label\n1,2,x\n3,4,y\n",)),
        "header": Target(in_a_file("w.safetensors", header), (safetensors, GOOD[".safetensors"])),
    }
    for ending in ENDINGS:
        kept[f"ensemble{ending}"] = Target(in_a_file(f"outputs{ending}", ensemble), (GOOD.get(ending, b"{}"),))
    return kept


ENDINGS = (".npz", ".npy", ".zip", ".safetensors", ".csv", ".parquet", ".json", ".h5")
SHARED_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112 - before anything is imported
LONGEST = 4096  # bytes of an input
READERS = (
    "modescape.asking", "modescape.corruptions.published", "modescape.datasets", "modescape.documents",
    "modescape.imported", "modescape.reports", "modescape.science.data", "modescape.searching", "modescape.spec",
    "modescape.sweeps", "modescape.versions", "markdown_it", "mdit_py_plugins", "pylatexenc", "latex2mathml",
)  # fmt: skip


def main() -> None:
    import atheris

    name, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with atheris.instrument_imports(include=[*READERS]):  # of modules that are imported while it runs too
        target = targets()[name]
        for number, seed in enumerate(target.seeds):
            (folder / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=4096"]
        said = [f"-artifact_prefix={folder}/found-", "-print_final_stats=1", "-verbosity=1"]
        atheris.Setup([sys.argv[0], *limits, *said, str(folder)], target.reads)
        atheris.Fuzz()


NAMES = (
    *("spec", "yaml", "filter", "search", "note", "idx", "idx-packed", "corrupted", "own-npz", "own-numbers", "header"),
    *(f"ensemble{ending}" for ending in ENDINGS),
)


def test_every_target_reads_what_it_begins_with() -> None:
    found = targets()
    assert tuple(found) == NAMES
    for target in found.values():
        for seed in (*target.seeds, b"", b"\0"):
            target.reads(seed)


@pytest.mark.fuzz
@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="atheris is built for no other")
@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_reach_other_lines_are_read_or_refused(name: str) -> None:
    folder = Path(__file__).parent.parent / ".fuzz" / name
    folder.mkdir(parents=True, exist_ok=True)
    seconds = int(os.environ.get("MODESCAPE_FUZZ_SECONDS", "60"))
    command = [sys.executable, __file__, name, str(seconds), str(folder)]
    ended = subprocess.run(command, capture_output=True, cwd=Path(__file__).parent, check=False)
    told = (ended.stdout + ended.stderr).decode("utf-8", "replace")
    assert ended.returncode == 0, told[-8000:]
    done, reached = re.search(r"Done (\d+) runs", told), re.findall(r"cov: (\d+)", told)
    assert done, told[-2000:]
    assert reached, "nothing of what reads it is instrumented"
    keep("fuzz", f"by coverage, {name}", {"seconds": seconds, "inputs": int(done[1]), "edges": int(reached[-1])})


if __name__ == "__main__":
    main()
