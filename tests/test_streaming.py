"""Ensembles that are larger than memory: outputs are read a block of examples at a time, with the numbers of all."""

from __future__ import annotations

import mmap
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modescape.artifacts import Artifacts
from modescape.science import predictions, similarity
from modescape.science.blocks import blocks, give_back
from modescape.science.predictions import average, entropy, log_softmax, softmax


def mapped(folder: Path, *shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Logits that lie on the disk, as stages read them."""
    np.save(folder / "logits.npy", 3 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    array: NDArray[np.float32] = np.load(folder / "logits.npy", mmap_mode="r")
    return array


def of_files() -> int:
    """Bytes of mapped files that count as this process's memory."""
    found = re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_blocks_cover_every_example_once() -> None:
    functions = [np.zeros((10, 3)), np.zeros((10, 3))]
    for rows, count in ((1, 10), (4, 3), (10, 1), (99, 1), (0, 10)):
        parts = list(blocks(functions, rows))
        assert len(parts) == count
        assert np.concatenate([np.arange(10)[part] for part in parts]).tolist() == list(range(10))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="needs a system that takes pages back")
def test_what_has_been_read_of_a_file_is_given_back(tmp_path: Path) -> None:
    array = mapped(tmp_path, 2, 40_000, 1000)  # 320 MB
    before, most = of_files(), 0
    for part in blocks(list(array), 500):
        array[0][part].sum(), array[1][part].sum()
        most = max(most, of_files() - before)
    assert most < 200 << 20
    assert of_files() - before < 20 << 20


def test_giving_back_changes_no_number(tmp_path: Path) -> None:
    array = mapped(tmp_path, 50, 4)
    whole = np.array(array)
    give_back([array, array[3:]])
    np.testing.assert_array_equal(array, whole)


def test_what_was_written_to_a_private_copy_of_a_file_is_not_lost(tmp_path: Path) -> None:
    mapped(tmp_path, 50, 4)
    private = np.load(tmp_path / "logits.npy", mmap_mode="c")
    private[:] = 7
    give_back([private, private[:]])
    assert (private == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", ">f4"])
def test_an_array_kept_in_blocks_is_the_file_of_the_array_kept_whole(tmp_path: Path, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 99, (3, 7, 5)).astype(dtype)
    files = Artifacts(tmp_path)
    whole = files.put_array(array, "predictions")
    in_parts = files.put_blocks((row[part] for row in array for part in (slice(0, 4), slice(4, 7))),
                                array.shape, array.dtype, "predictions")  # fmt: skip
    assert in_parts == whole


def test_blocks_that_are_not_the_whole_array_are_refused(tmp_path: Path) -> None:
    files = Artifacts(tmp_path)
    for count in (1, 3):
        with pytest.raises(ValueError, match="of an array of 80"):
            files.put_blocks(iter([np.zeros((1, 5))] * count), (2, 5), np.float64, "x")


def test_scores_in_blocks_are_those_of_all_examples_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = mapped(tmp_path, 3, 1000, 7)
    labels = np.random.default_rng(1).integers(0, 7, 1000)
    whole = [predictions.scores(one, labels) for one in array], predictions.scores_together(list(array), labels)
    logs = average(np.asarray(array))
    odds = softmax(logs)
    right = odds[np.arange(1000), labels]
    assert whole[1]["nll"] == pytest.approx(-np.log(right).mean(), abs=1e-12)
    assert whole[1]["brier"] == pytest.approx((np.square(odds).sum(1) - 2 * right + 1).mean(), abs=1e-12)
    assert whole[1]["entropy"] == pytest.approx(-(odds * np.log(odds)).sum(1).mean(), abs=1e-12)
    monkeypatch.setattr(predictions, "_VALUES", 64)  # nine examples at a time
    assert [predictions.scores(one, labels) for one in array] == whole[0]
    assert predictions.scores_together(list(array), labels) == whole[1]


def test_the_divergence_of_functions_on_disk_is_that_of_their_probabilities(tmp_path: Path) -> None:
    array = mapped(tmp_path, 4, 600, 11)
    found = similarity.js_mean_of(list(array))
    assert found == similarity.js_mean(softmax(array))
    odds = softmax(array)
    assert found == pytest.approx((entropy(odds.mean(0)) - entropy(odds).mean(0)).mean(), abs=1e-12)


def test_divergences_read_a_block_of_every_function_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = mapped(tmp_path, 4, 500, 6)
    whole = similarity.divergences(list(array[:2]), list(array))
    p, q = log_softmax(array[:2])[:, None], log_softmax(array)[None]
    np.testing.assert_allclose(whole["kl"], (np.exp(p) * (p - q)).sum(-1).mean(-1), atol=1e-12)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(similarity, "_HELD", 2 * 6 * 120)  # of both bases
    again = similarity.divergences(list(array[:2]), list(array), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(120, 500), (240, 500), (360, 500), (480, 500), (500, 500)]
    for measure, values in whole.items():
        np.testing.assert_allclose(again[measure], values, atol=1e-12)


# -- a whole ensemble --------------------------------------------------------------------------------------------------

ALL_STAGES = """
import re, sys
from pathlib import Path
import numpy as np
import modescape as ms
from modescape.laboratory import started
from modescape.records import StageState

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

folder = Path(sys.argv[1])
warm = np.load(folder / "small.npy")
ms.analyse(warm, np.arange(len(warm[0])) % warm.shape[-1], folder=folder / "warm", progress=False)
before = peak()
files = [folder / f"{i}.npy" for i in range(int(sys.argv[2]))]
lab = ms.analyse([np.load(f, mmap_mode="r") for f in files], np.load(folder / "labels.npy"), recipe="same",
                 ood={"other": [np.load(f, mmap_mode="r") for f in files]}, folder=folder / "home", progress=False)
stopped = [f"{s.kind}/{s.key}: {s.error}" for s in lab.stages if s.state != StageState.SUCCEEDED]
assert not stopped, stopped
print(before, peak())
"""


def judged(folder: Path, members: int, examples: int, classes: int) -> tuple[float, float]:
    """Peaks of resident memory, in MiB, of a process that judges an ensemble from its files: once it has judged a small
    one (all that is imported is there then), and in the end."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, examples)
    np.save(folder / "labels.npy", truth)
    np.save(folder / "small.npy", rng.standard_normal((3, 500, 5)).astype(np.float32))
    shared = rng.standard_normal((examples, classes), np.float32)
    for member in range(members):
        logits = shared + rng.standard_normal((examples, classes), np.float32)
        logits[np.arange(examples), truth] += 5
        np.save(folder / f"{member}.npy", logits.astype(np.float16))
    del shared, logits
    command = [sys.executable, "-c", ALL_STAGES, str(folder), str(members)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = map(float, done.stdout.split())
    return before, after


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs a system that tells peaks of memory")
def test_judging_takes_a_few_blocks_of_memory_whatever_the_outputs_take(tmp_path: Path) -> None:
    before, after = judged(tmp_path, 3, 6000, 1000)  # 48 MB a member in float64
    assert after - before < 250


@pytest.mark.check
def test_an_ensemble_of_the_size_of_imagenet_is_judged_in_two_gigabytes(tmp_path: Path) -> None:
    _, after = judged(tmp_path, 6, 50_000, 1000)
    assert after < 2000
