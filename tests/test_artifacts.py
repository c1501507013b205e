"""Files named by their content."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from modescape.artifacts import Artifacts
from modescape.errors import ArtifactMissing


@pytest.fixture
def files(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def test_the_name_is_the_hash_of_the_bytes(files: Artifacts) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    info = files.put_array(array, "predictions")
    path = files.path(info.digest)
    assert info.digest == hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    assert path.parent.name == info.digest[:2]
    assert (info.kind, info.dtype, info.shape, info.bytes) == ("predictions", "float32", (3, 4), path.stat().st_size)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)


@pytest.mark.parametrize(
    "array",
    [np.zeros(()), np.zeros((0, 3), np.int64), np.array([[True], [False]]), np.asfortranarray(np.eye(3)),
     np.arange(4, dtype=">i4"), np.arange(6.0)[::2]],
    ids=["scalar", "empty", "bool", "column-major", "big-endian", "strided"],
)  # fmt: skip
def test_arrays_come_back_equal(files: Artifacts, array: np.ndarray) -> None:
    stored = files.array(files.put_array(array, "matrix").digest)
    np.testing.assert_array_equal(stored, array)
    assert stored.shape == array.shape


def test_layout_in_memory_does_not_change_the_name(files: Artifacts) -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    names = {files.put_array(a, "matrix").digest for a in (array, np.asfortranarray(array), array.astype(">f8"))}
    assert len(names) == 1


def test_mapped_arrays_cannot_be_written(files: Artifacts) -> None:
    stored = files.array(files.put_array(np.zeros(3), "matrix").digest)
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 1


def _digests(files: Artifacts) -> list[str]:
    return [path.stem for path in files.folder.glob("??/*")]


def test_objects_are_refused(files: Artifacts) -> None:
    with pytest.raises(ValueError, match="pickle"):
        files.put_array(np.array([{}]), "matrix")
    assert _digests(files) == []


def test_tensors_are_read_by_the_library_and_their_order_does_not_matter(files: Artifacts) -> None:
    tensors = {
        "scale": np.float32(3) * np.ones(()), "counts": np.arange(5, dtype=np.int64), "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float16), "bytes": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    info = files.put_tensors(tensors, "weights", {"step": "7", "epoch": "1"})
    backwards = files.put_tensors(dict(reversed(tensors.items())), "weights", {"epoch": "1", "step": "7"})
    assert info == backwards
    loaded = load_file(files.path(info.digest))
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    with safe_open(files.path(info.digest), framework="np") as file:
        assert file.metadata() == {"epoch": "1", "step": "7"}
    assert (info.dtype, info.shape) == ("mixed", (11,))


def test_bytes_are_the_same_in_another_process(files: Artifacts, tmp_path: Path) -> None:
    """Hash seeds differ between processes; names must not."""
    program = (
        "import sys, numpy as np; from modescape.artifacts import Artifacts\n"
        "tensors = {name: np.full(3, i, np.float32) for i, name in enumerate('abcdef')}\n"
        "print(Artifacts(sys.argv[1]).put_tensors(tensors, 'weights', dict(zip('uvwxyz', 'abcdef'))).digest)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "other")]
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        digests.add(made.stdout.strip())
    tensors = {name: np.full(3, i, np.float32) for i, name in enumerate("abcdef")}
    assert digests == {files.put_tensors(tensors, "weights", dict(zip("uvwxyz", "abcdef", strict=True))).digest}


def test_a_damaged_file_is_noticed(files: Artifacts) -> None:
    info = files.put_array(np.arange(100), "matrix")
    assert files.verify(info.digest)
    with files.path(info.digest).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert not files.verify(info.digest)


def test_a_file_is_read_again_once_it_has_changed_and_set_aside_for_good(files: Artifacts) -> None:
    info = files.put_array(np.arange(100), "matrix")
    assert files.sound(info.digest) == files.path(info.digest)
    content = files.path(info.digest).read_bytes()
    files.path(info.digest).write_bytes(content[:-1] + b"\x7f")
    os.utime(files.path(info.digest), ns=(1, 1))  # clocks of disks are coarse
    with pytest.raises(ArtifactMissing, match="is damaged"):
        files.sound(info.digest)
    aside = files.set_aside(info.digest)
    assert aside.read_bytes() == content[:-1] + b"\x7f"
    assert not files.exists(info.digest)
    assert files.put_array(np.arange(100), "matrix") == info
    assert files.sound(info.digest).read_bytes() == content
    files.sweep({info.digest}, grace_seconds=-1)
    assert (aside.exists(), files.exists(info.digest)) == (False, True)


def test_a_truncated_file_is_replaced_when_its_bytes_are_stored_again(files: Artifacts) -> None:
    info = files.put_array(np.arange(100), "matrix")
    os.truncate(files.path(info.digest), 10)
    files.put_array(np.arange(100), "matrix")
    assert files.verify(info.digest)


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_names_that_are_not_there_are_missing(files: Artifacts, name: str) -> None:
    assert not files.exists(name)
    with pytest.raises(ArtifactMissing):
        files.path(name)
    assert files.delete(name) == 0


def test_a_failed_write_leaves_nothing(files: Artifacts) -> None:
    with pytest.raises(KeyError):
        files.put_tensors({"a": np.zeros(2, np.complex64)}, "weights")
    assert [path for path in files.folder.rglob("*") if path.is_file()] == []


def test_delete_spares_what_a_running_stage_may_have_written(files: Artifacts) -> None:
    info = files.put_array(np.arange(10), "matrix")
    os.utime(files.path(info.digest), (0, 0))
    started = datetime.now(UTC) - timedelta(seconds=60)
    files.put_array(np.arange(10), "matrix")  # the running stage makes the same bytes: the file counts as new
    assert files.delete(info.digest, keep_since=started) == 0
    os.utime(files.path(info.digest), (0, 0))
    assert files.delete(info.digest, keep_since=started) == info.bytes
    assert not files.exists(info.digest)


def test_sweep_deletes_only_old_files_that_no_row_names(files: Artifacts) -> None:
    known, unknown, young = (files.put_array(np.full(5, i), "matrix") for i in range(3))
    (files.folder / "tmp" / "left-over").write_bytes(b"x" * 7)
    for old in (files.path(known.digest), files.path(unknown.digest), files.folder / "tmp" / "left-over"):
        os.utime(old, (0, 0))
    assert files.sweep({known.digest}) == unknown.bytes + 7
    assert set(_digests(files)) == {known.digest, young.digest}


def test_scratch_is_kept_until_dropped_and_swept_with_its_stage(files: Artifacts) -> None:
    stage, gone = "a" * 36, "b" * 36
    files.put_scratch(f"{stage}-1-10", {"w": np.ones(2)}, {"step": "10"})
    files.put_scratch(f"{stage}-1-20", {"w": np.zeros(2)}, {"step": "20"})
    files.put_scratch(f"{gone}-1-5", {"w": np.zeros(2)})
    files.drop_scratch(stage, keep=f"{stage}-1-20")
    with pytest.raises(ArtifactMissing):
        files.scratch(f"{stage}-1-10")
    tensors, metadata = files.scratch(f"{stage}-1-20")
    assert (tensors["w"].tolist(), metadata) == ([0, 0], {"step": "20"})
    assert files.sweep(set(), grace_seconds=-60) == 0, "without a list of stages scratch is left alone"
    assert files.sweep(set(), stages={stage}, grace_seconds=-60) > 0
    with pytest.raises(ArtifactMissing):
        files.scratch(f"{gone}-1-5")
    files.scratch(f"{stage}-1-20")


def test_many_processes_may_write_the_same_bytes(files: Artifacts) -> None:
    program = (
        "import sys, numpy as np; from modescape.artifacts import Artifacts\n"
        "for i in range(30): Artifacts(sys.argv[1]).put_array(np.full(1000, i), 'matrix')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(files.folder)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    digests = _digests(files)
    assert len(digests) == 30
    assert all(files.verify(digest) for digest in digests)
    assert list((files.folder / "tmp").iterdir()) == []
