"""Ensembles that are larger than memory: outputs are read a block of examples at a time, with the numbers of all."""

from __future__ import annotations

import mmap
import re
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
    monkeypatch.setattr(similarity, "_HELD", 1)
    monkeypatch.setattr(similarity, "_VALUES", 6 * 120)
    again = similarity.divergences(list(array[:2]), list(array), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(120, 500), (240, 500), (360, 500), (480, 500), (500, 500)]
    for measure, values in whole.items():
        np.testing.assert_allclose(again[measure], values, rtol=1e-12)
