"""Specs, filters and files of any bytes: each is read, or refused in our words; nothing else is ever raised.

A few hundred examples in `make test`, always the same; MODESCAPE_FUZZ_EXAMPLES many in `make fuzz`, always others.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keeping import keep
from serving import SPEC

from modescape import asking, documents, spec
from modescape.columns import EXPERIMENTS, SOLUTIONS
from modescape.datasets import here
from modescape.errors import ModescapeError
from modescape.imported import reading
from modescape.spec_parts import DataSpec
from modescape.sweeps import asked as sweeps

FEW, MANY = 60, int(os.environ.get("MODESCAPE_FUZZ_EXAMPLES", "5000"))
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def odd(strategy: st.SearchStrategy[Any]) -> Any:
    """Two tests of one function: a few examples by `make test`, many by `make fuzz`."""

    def made(function: Any) -> Any:
        few = settings(max_examples=FEW, derandomize=True, deadline=None, suppress_health_check=QUIET, database=None)
        many = settings(max_examples=MANY, deadline=None, suppress_health_check=QUIET, database=None)

        @pytest.mark.parametrize(
            "often", [False, pytest.param(True, marks=[pytest.mark.fuzz, pytest.mark.timeout(7200)])]
        )
        def test(often: bool) -> None:
            (many if often else few)(given(strategy)(function))()
            if often:
                keep("fuzz", f"by rules, {function.__name__}", {"examples": MANY})

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        return test

    return made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = [(part, name) for part, values in SPEC.items() if isinstance(values, dict) for name in values]


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A good spec with some of its values replaced by anything."""
    found = orjson.loads(orjson.dumps(SPEC))
    for part, name in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        found[part][name] = draw(JSON)
    if draw(st.booleans()):
        found[draw(st.sampled_from(["ood", "planes", "tunnels", "seeds", "shift", "studies", "margins", "x"]))] = draw(
            JSON
        )
    return found


@odd(JSON | changed())
def test_a_spec_of_anything(document: Any) -> None:
    try:
        spec.parse(document)
    except ModescapeError:
        return


@pytest.mark.slow
@odd(
    st.fixed_dictionaries(
        {
            "base": JSON | changed(),
            "over": st.dictionaries(st.text(max_size=20), st.lists(JSON, max_size=3), max_size=3),
        }
    )
)
def test_a_sweep_over_anything(document: Any) -> None:
    try:
        list(sweeps.read(document).cells())
    except ModescapeError:
        return


@odd(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_a_document_of_any_text(text: str) -> None:
    for read in (documents.from_yaml, lambda said: documents.from_json(said, "spec")):
        try:
            read(text)
        except ModescapeError:
            continue


NAMES = st.sampled_from(["name", "accuracy", "runs", "created", "archived", "tag", "q", "sel", "sort", "limit",
                         "cursor", "number", "role", "spec.training.epochs", "fields"])  # fmt: skip
KEYS = st.tuples(NAMES | st.text(max_size=10), st.sampled_from(["", *(f"__{name}" for name in asking.OPERATORS)])).map(
    "".join
)


@odd(st.lists(st.tuples(KEYS, st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)), max_size=6))
def test_a_filter_of_anything(pairs: list[tuple[str, str]]) -> None:
    for fields in (EXPERIMENTS, SOLUTIONS):
        asking.read(fields, pairs, lenient=True)
        try:
            asking.read(fields, pairs)
        except ModescapeError:
            continue


def _npz() -> bytes:
    kept = io.BytesIO()
    np.savez(kept, images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    return kept.getvalue()


def _npy() -> bytes:
    kept = io.BytesIO()
    np.save(kept, np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32))
    return kept.getvalue()


def _zip() -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("test.logits.npy", _npy())
        archive.writestr("test.labels.npy", b"")
    return kept.getvalue()


GOOD: dict[str, bytes] = {
    ".npz": _npz(), ".npy": _npy(), ".zip": _zip(), ".safetensors": b"\x08\0\0\0\0\0\0\0{}      ",
    ".csv": b"member,example,label,logit_0,logit_1\n0,0,1,0.5,-1\n0,1,0,=1,2\n",
    ".parquet": b"PAR1" + bytes(40) + b"PAR1",
    ".tsv": b"a\tb\tlabel\n1\t2\t0\n", ".gz": gzip.compress(b"\0\0\x08\x03" + bytes(40)), "": b"\0\0\x08\x03\0\0\0\x02",
}  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good file in which some bytes are others, which is cut off, or which goes on; or any bytes under its ending."""
    ending = draw(st.sampled_from([*GOOD]))
    if draw(st.integers(0, 4)) == 0:
        return ending, draw(st.binary(max_size=300))
    raw = bytearray(GOOD[ending])
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[place] = value
    return ending, bytes(raw[: draw(st.integers(0, len(raw)))]) + draw(st.binary(max_size=20))


@odd(damaged())
def test_a_file_of_any_bytes_as_an_ensemble(file: tuple[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"outputs{file[0]}"
        path.write_bytes(file[1])
        try:
            reading.read(path)
        except ModescapeError:
            return


@odd(damaged())
def test_a_file_of_any_bytes_as_a_set_of_ones_own(file: tuple[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"set{file[0]}"
        path.write_bytes(file[1])
        for dataset in ("npz", "numbers"):
            try:
                here.describe(DataSpec.model_validate({"dataset": dataset, "path": str(path)}), ())
            except (ModescapeError, ValueError):
                continue


@odd(st.binary(max_size=120) | damaged().map(lambda file: file[1]))
def test_published_files_of_any_bytes(raw: bytes) -> None:
    """IDX under the names of MNIST, packed or not."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "mnist"
        place.mkdir()
        for part in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ):
            (place / part).write_bytes(raw)
            (place / f"{part}.gz").write_bytes(raw)
        try:
            here.describe(DataSpec.model_validate({"dataset": "fashion-mnist"}), (Path(folder),))
        except ModescapeError:
            return
