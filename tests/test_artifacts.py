"""Files named by their content: in a folder, and in a bucket of an independent S3 server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import buckets
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from modescape.artifacts import Artifacts
from modescape.artifacts.folder import names_of
from modescape.errors import ArtifactMissing
from modescape.settings import Settings


class InFolder:
    """What is kept, seen and spoilt past the product."""

    ticks = 0.02  # seconds that may pass between two changes without being told

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)

    def names(self) -> list[str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(content)


class InBucket:
    ticks = 1.1

    def __init__(self, server: buckets.S3Server, about: dict[str, Any]) -> None:
        self.client, self.place = server.client, about["artifacts"]
        self._prefix = self.place.removeprefix(f"s3://{buckets.BUCKET}/") + "/"

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=buckets.BUCKET, Prefix=self._prefix).get("Contents", ())
        return sorted(one["Key"].removeprefix(self._prefix) for one in found if one["Size"])

    def read(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=buckets.BUCKET, Key=self._prefix + name)["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=buckets.BUCKET, Key=self._prefix + name, Body=content)


@dataclass(frozen=True)
class Kept:
    """Artifacts of one machine, and what is really there. settings: of another machine that shares it, by its home."""

    files: Artifacts
    inside: InFolder | InBucket
    about: dict[str, Any]

    def elsewhere(self, home: Path) -> Artifacts:
        return Artifacts(Settings(home=home, **self.about).artifact_place)

    def name(self, digest: str) -> str:
        return next(name for name in names_of(digest) if name in self.inside.names())

    def spoil(self, digest: str) -> None:
        content = self.inside.read(self.name(digest))
        self.inside.write(self.name(digest), content[:-1] + bytes([content[-1] ^ 1]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[buckets.S3Server]:
    with buckets.running(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "folder":
        inside: InFolder | InBucket = InFolder(tmp_path / "artifacts")
        about: dict[str, Any] = {"artifacts": inside.place}
    else:
        about = (made := request.getfixturevalue("server")).settings()
        inside = InBucket(made, about)
    return Kept(Artifacts(Settings(home=tmp_path / "home", **about).artifact_place), inside, about)


@pytest.fixture
def files(kept: Kept) -> Artifacts:
    return kept.files


def test_the_name_is_the_hash_of_the_bytes(kept: Kept) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    info = kept.files.put_array(array, "predictions")
    content = kept.inside.read(f"{info.digest[:2]}/{info.digest}.npy")
    assert info.digest == hashlib.sha256(content).hexdigest()
    assert (info.kind, info.dtype, info.shape, info.bytes) == ("predictions", "float32", (3, 4), len(content))
    path = kept.files.path(info.digest)
    assert path.name == f"{info.digest}.npy"
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)
    assert b"".join(kept.files.content(info.digest).blocks) == content


@pytest.mark.parametrize(
    "array",
    [np.zeros(()), np.zeros((0, 3), np.int64), np.array([[True], [False]]), np.asfortranarray(np.eye(3)),
     np.arange(4, dtype=">i4"), np.arange(6.0)[::2]],
    ids=["scalar", "empty", "bool", "column-major", "big-endian", "strided"],
)  # fmt: skip
def test_arrays_come_back_equal(tmp_path: Path, array: np.ndarray) -> None:
    files = Artifacts(tmp_path)
    stored = files.array(files.put_array(array, "matrix").digest)
    np.testing.assert_array_equal(stored, array)
    assert stored.shape == array.shape


def test_layout_in_memory_does_not_change_the_name(tmp_path: Path) -> None:
    files, array = Artifacts(tmp_path), np.arange(6, dtype=np.float64).reshape(2, 3)
    names = {files.put_array(a, "matrix").digest for a in (array, np.asfortranarray(array), array.astype(">f8"))}
    assert len(names) == 1


def test_what_one_machine_wrote_another_reads(kept: Kept, tmp_path: Path) -> None:
    info = kept.files.put_array(np.arange(1000), "matrix")
    weights = kept.files.put_tensors({"w": np.arange(3.0)}, "weights", {"step": "7"})
    other = kept.elsewhere(tmp_path / "other")
    np.testing.assert_array_equal(other.array(info.digest), np.arange(1000))
    assert other.tensors(weights.digest)["w"].tolist() == [0, 1, 2]
    assert other.exists(info.digest)
    assert other.verify(weights.digest)
    assert other.sound(weights.digest).suffix == ".safetensors"
    assert other.put_array(np.arange(1000), "matrix") == info


def test_mapped_arrays_cannot_be_written(files: Artifacts) -> None:
    stored = files.array(files.put_array(np.zeros(3), "matrix").digest)
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 1


def test_objects_are_refused(kept: Kept) -> None:
    with pytest.raises(ValueError, match="pickle"):
        kept.files.put_array(np.array([{}]), "matrix")
    assert kept.inside.names() == []


def test_tensors_are_read_by_the_library_and_their_order_does_not_matter(tmp_path: Path) -> None:
    files = Artifacts(tmp_path)
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


@pytest.mark.slow
def test_bytes_are_the_same_in_another_process(tmp_path: Path) -> None:
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
    about = dict(zip("uvwxyz", "abcdef", strict=True))
    assert digests == {Artifacts(tmp_path).put_tensors(tensors, "weights", about).digest}


def test_a_damaged_file_is_noticed_set_aside_and_made_again(kept: Kept, tmp_path: Path) -> None:
    info = kept.files.put_array(np.arange(100), "matrix")
    content = kept.inside.read(kept.name(info.digest))
    assert kept.files.verify(info.digest)
    kept.spoil(info.digest)
    assert not kept.files.verify(info.digest)
    with pytest.raises(ArtifactMissing, match="damaged"):
        kept.elsewhere(tmp_path / "other").sound(info.digest)
    aside = kept.files.set_aside(info.digest)
    assert aside == f"{kept.files.aside}/{info.digest}.npy" == f"{kept.inside.place}/damaged/{info.digest}.npy"
    assert kept.inside.names() == [f"damaged/{info.digest}.npy"]
    assert not kept.files.exists(info.digest)
    with pytest.raises(ArtifactMissing, match="no file"):
        kept.files.path(info.digest)
    assert kept.files.put_array(np.arange(100), "matrix") == info
    assert kept.inside.read(kept.name(info.digest)) == content
    kept.files.sweep({info.digest}, grace_seconds=-60)
    assert kept.inside.names() == [f"{info.digest[:2]}/{info.digest}.npy"]


def test_a_file_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    files = Artifacts(tmp_path)
    info = files.put_array(np.arange(100), "matrix")
    path = files.path(info.digest)
    assert files.sound(info.digest) == path
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    os.utime(path, ns=(1, 1))  # clocks of disks are coarse
    with pytest.raises(ArtifactMissing, match="is damaged"):
        files.sound(info.digest)


def test_a_truncated_file_is_replaced_when_its_bytes_are_stored_again(kept: Kept) -> None:
    info = kept.files.put_array(np.arange(100), "matrix")
    kept.inside.write(kept.name(info.digest), b"half")
    kept.files.put_array(np.arange(100), "matrix")
    assert kept.files.verify(info.digest)


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_names_that_are_not_there_are_missing(files: Artifacts, name: str) -> None:
    assert not files.exists(name)
    for ask in (files.path, files.content, files.verify, files.set_aside):
        with pytest.raises(ArtifactMissing):
            ask(name)
    assert files.delete(name) == 0


def test_a_failed_write_leaves_nothing(kept: Kept) -> None:
    with pytest.raises(KeyError):
        kept.files.put_tensors({"a": np.zeros(2, np.complex64)}, "weights")
    assert kept.inside.names() == []


def test_delete_spares_what_a_running_stage_may_have_written(kept: Kept) -> None:
    info = kept.files.put_array(np.arange(10), "matrix")
    time.sleep(2 * kept.inside.ticks)
    started = datetime.now(UTC)
    time.sleep(0.02)
    assert kept.files.delete(info.digest, keep_since=started - timedelta(hours=1)) == 0
    kept.files.put_array(np.arange(10), "matrix")  # the running stage makes the same bytes: the file counts as new
    assert kept.files.delete(info.digest, keep_since=started) == 0
    assert kept.files.delete(info.digest, keep_since=datetime.now(UTC) + timedelta(seconds=5)) == info.bytes
    assert not kept.files.exists(info.digest)
    with pytest.raises(ArtifactMissing):
        kept.files.path(info.digest)


def test_sweep_deletes_only_old_files_that_no_row_names(kept: Kept) -> None:
    known, unknown = (kept.files.put_array(np.full(5, i), "matrix") for i in range(2))
    kept.inside.write("tmp/left-over", b"x" * 7)
    assert kept.files.sweep({known.digest}) == 0, "they are young"
    assert kept.files.sweep({known.digest}, grace_seconds=-60) == unknown.bytes + 7
    assert kept.inside.names() == [kept.name(known.digest)]


def test_scratch_is_kept_until_dropped_and_swept_with_its_stage(kept: Kept, tmp_path: Path) -> None:
    stage, gone = "a" * 36, "b" * 36
    kept.files.put_scratch(f"{stage}-1-10", {"w": np.ones(2)}, {"step": "10"})
    kept.files.put_scratch(f"{stage}-1-20", {"w": np.zeros(2)}, {"step": "20"})
    kept.files.put_scratch(f"{gone}-1-5", {"w": np.zeros(2)})
    other = kept.elsewhere(tmp_path / "other")
    kept.files.drop_scratch(stage, keep=f"{stage}-1-20")
    with pytest.raises(ArtifactMissing):
        other.scratch(f"{stage}-1-10")
    tensors, metadata = other.scratch(f"{stage}-1-20")
    assert (tensors["w"].tolist(), metadata) == ([0, 0], {"step": "20"})
    assert kept.files.sweep(set(), grace_seconds=-60) == 0, "without a list of stages scratch is left alone"
    assert kept.files.sweep(set(), stages={stage}, grace_seconds=-60) > 0
    with pytest.raises(ArtifactMissing):
        other.scratch(f"{gone}-1-5")
    other.scratch(f"{stage}-1-20")


def test_files_of_another_folder_are_taken_in_by_their_names(kept: Kept, tmp_path: Path) -> None:
    elsewhere = Artifacts(tmp_path / "backup")
    info, bad = (elsewhere.put_array(np.full(5, i), "matrix") for i in range(2))
    elsewhere.path(bad.digest).write_bytes(b"other")
    kept.files.adopt(elsewhere.path(info.digest))
    with pytest.raises(Exception, match="is not what its name says"):
        kept.files.adopt(elsewhere.path(bad.digest))
    assert kept.inside.names() == [f"{info.digest[:2]}/{info.digest}.npy"]


def test_another_process_leaves_files_in_a_folder_of_its_own(kept: Kept) -> None:
    with kept.files.landing() as folder:
        info = Artifacts(folder).put_array(np.arange(7), "given")
    assert kept.inside.names() == [f"{info.digest[:2]}/{info.digest}.npy"]
    assert kept.files.array(info.digest).tolist() == list(range(7))


@pytest.mark.slow
def test_many_processes_may_write_the_same_bytes(tmp_path: Path) -> None:
    files = Artifacts(tmp_path)
    program = (
        "import sys, numpy as np; from modescape.artifacts import Artifacts\n"
        "for i in range(30): Artifacts(sys.argv[1]).put_array(np.full(1000, i), 'matrix')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    digests = [path.stem for path in tmp_path.glob("??/*")]
    assert len(digests) == 30
    assert all(files.verify(digest) for digest in digests)
    assert list((tmp_path / "tmp").iterdir()) == []
