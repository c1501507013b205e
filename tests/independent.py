"""An independent recomputation: everything a figure shows, again, from what anyone can download.

It shares no code with the product: plain numpy, written from the definitions, over HTTP.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-6


class Downloaded:
    """One experiment through its REST address."""

    def __init__(self, url: str, slug: str, client: httpx.Client | None = None) -> None:
        self.client = client or httpx.Client(timeout=60)
        self.base = f"{url}/api/experiments/{slug}"
        self.solutions: list[dict[str, Any]] = []
        following: str | None = f"{self.base}/solutions?limit=500"
        while following:
            page = self.json(following)
            self.solutions += page["items"]
            cursor = page["next"]
            following = None if cursor is None else f"{self.base}/solutions?limit=500&cursor={cursor}"
        self._predictions: dict[tuple[int, str], NDArray[np.float32]] = {}
        self._weights: dict[int, dict[str, NDArray[np.float32]]] = {}

    def json(self, address: str) -> Any:
        answer = self.client.get(address)
        assert answer.status_code == 200, (address, answer.status_code, answer.text[:500])
        return answer.json()

    def array(self, address: str) -> NDArray[Any]:
        answer = self.client.get(address)
        assert answer.status_code == 200, (address, answer.status_code, answer.text[:500])
        loaded: NDArray[Any] = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return loaded

    def logits(self, number: int, split: str = "test") -> NDArray[np.float32]:
        key = (number, split)
        if key not in self._predictions:
            self._predictions[key] = self.array(f"{self.base}/solutions/{number}/predictions?split={split}")
        return self._predictions[key]

    def weights(self, number: int) -> dict[str, NDArray[np.float32]]:
        if number not in self._weights:
            answer = self.client.get(f"{self.base}/solutions/{number}/weights")
            assert answer.status_code == 200, answer.text[:300]
            self._weights[number] = read_safetensors(answer.content)
        return self._weights[number]

    def matrix(self, name: str, split: str = "test") -> tuple[NDArray[np.float64], list[int], list[Any]]:
        """Values, the solution numbers of the rows, those of the columns: from the CSV that people download."""
        values = self.array(f"{self.base}/matrices/{name}.npy?split={split}")
        about = self.json(f"{self.base}/matrices/{name}?split={split}")
        return values, about["rows"], about["columns"]


def read_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The published format read by hand: 8 bytes of length, a JSON header, then raw little-endian data."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    data = content[8 + size :]
    kinds = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8}
    return {
        name: np.frombuffer(
            data[item["data_offsets"][0] : item["data_offsets"][1]], dtype=kinds[item["dtype"]]
        ).reshape(item["shape"])
        for name, item in header.items()
        if name != "__metadata__"
    }


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    exponent = np.exp(logits.astype(np.float64) - logits.astype(np.float64).max(axis=1, keepdims=True))
    normal: NDArray[np.float64] = exponent / exponent.sum(axis=1, keepdims=True)
    return normal


def scores(logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, NLL, Brier (sum over classes), ECE (15 bins) and mean entropy, as science a.4 to a.7 define them."""
    p = softmax(logits)
    n, k = p.shape
    onehot = np.zeros((n, k))
    onehot[np.arange(n), labels] = 1
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    ece = 0.0
    for b in range(15):
        inside = (top > b / 15) & (top <= (b + 1) / 15)
        if inside.any():
            ece += inside.sum() / n * abs(right[inside].mean() - top[inside].mean())
    log_p = logits.astype(np.float64) - logits.astype(np.float64).max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    return {
        "accuracy": float(right.mean()),
        "nll": float(-log_p[np.arange(n), labels].mean()),
        "brier": float(((p - onehot) ** 2).sum(axis=1).mean()),
        "ece": float(ece),
        "entropy": float(-(p * log_p).sum(axis=1).mean()),
    }


def check_everything(found: Downloaded, labels: NDArray[np.int64], *, split: str = "test", sample: int = 40) -> int:
    """Recompute scores, geometry, diversities and matrices; returns how many numbers were compared."""
    compared = 0
    optima = {s["run"]: s for s in found.solutions if s["role"] == "optimum"}
    chosen = found.solutions[:: max(1, len(found.solutions) // sample)]
    shown = {s["number"] for s in chosen} | {s["number"] for s in optima.values()}
    predicted = {number: found.logits(number, split).argmax(axis=1) for number in shown}
    for solution in chosen:
        number = solution["number"]
        again = scores(found.logits(number, split), labels)
        stored = {
            m["metric"]: m["value"]
            for m in found.json(f"{found.base}/measurements?solution={number}&split={split}")["items"]
        }
        for metric, value in again.items():
            assert abs(stored[metric] - value) < TOLERANCE, (number, metric, stored[metric], value)
            compared += 1
        differ = float((predicted[number] != predicted[optima[solution["run"]]["number"]]).mean())
        assert abs(solution["disagreement"] - differ) < TOLERANCE
        if again["accuracy"] < 1:
            assert abs(solution["diversity"] - differ / (1 - again["accuracy"])) < TOLERANCE
        else:
            assert solution["diversity"] is None
        compared += 2
    compared += _check_disagreement(found, predicted, split)
    compared += _check_cosine(found)
    compared += _check_divergences(found, split)
    return compared


def _check_disagreement(found: Downloaded, predicted: dict[int, NDArray[np.int64]], split: str) -> int:
    values, rows, columns = found.matrix("disagreement", split)
    assert values.shape == (len(rows), len(columns))
    kept = [(i, number) for i, number in enumerate(rows) if number in predicted]
    places, numbers = [i for i, _ in kept], [number for _, number in kept]
    assert rows == columns
    again = np.array([[(predicted[a] != predicted[b]).mean() for b in numbers] for a in numbers])
    assert np.abs(values[np.ix_(places, places)] - again).max() < TOLERANCE
    return len(numbers) ** 2


def trained(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Trainable tensors of a network, without the statistics of batch norm."""
    kept = {name: one.astype(np.float64) for name, one in sorted(tensors.items())}
    return {name: one for name, one in kept.items() if "running_" not in name and "num_batches" not in name}


def reduced(tensors: Mapping[str, NDArray[np.float32]], classes: int) -> dict[str, NDArray[np.float64]]:
    """Without what two networks share for free: scales and offsets of batch norm, known by the statistics beside them,
    and the class mean of the head, the only matrix of K rows in networks of ours, and of its bias."""
    norms = {name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")}
    kept = {n: one for n, one in trained(tensors).items() if n.rpartition(".")[0] + "." not in norms}
    (head,) = [name for name, one in kept.items() if one.ndim == 2 and len(one) == classes]
    for name in (head, head.replace("weight", "bias")):
        if name in kept:
            kept[name] = kept[name] - kept[name].mean(axis=0)
    return kept


def cosines(networks: Sequence[Mapping[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    w = np.stack([np.concatenate([one.ravel() for one in tensors.values()]) for tensors in networks])
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    return np.asarray(w @ w.T)


def _check_cosine(found: Downloaded) -> int:
    compared = 0
    for name in ("cosine", "cosine-reduced"):
        values, rows, columns = found.matrix(name, "")
        tensors = [found.weights(number) for number in rows]
        classes = found.logits(rows[0], "test").shape[1]
        again = cosines([trained(one) if name == "cosine" else reduced(one, classes) for one in tensors])
        assert rows == columns
        assert np.abs(values - again).max() < TOLERANCE
        compared += int(values.size)
    return compared


def _check_divergences(found: Downloaded, split: str) -> int:
    compared = 0
    probabilities: dict[int, NDArray[np.float64]] = {}
    for name in ("kl", "js", "total-variation", "hellinger"):
        values, rows, columns = found.matrix(name, split)
        chosen = range(0, len(columns), max(1, len(columns) // 12))
        for number in {*rows, *(columns[j] for j in chosen)} - probabilities.keys():
            probabilities[number] = softmax(found.logits(number, split))
        for j in chosen:
            for i, a in enumerate(rows):
                again = _distance(name, probabilities[a], probabilities[columns[j]])
                assert abs(values[i, j] - again) < TOLERANCE, (name, a, columns[j])
                compared += 1
    return compared


def _distance(name: str, p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    tiny = 1e-300  # far below anything a difference of float32 logits can give here
    if name == "kl":
        each = (p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))).sum(axis=1)
    elif name == "js":
        m = (p + q) / 2
        each = sum((x * (np.log(np.maximum(x, tiny)) - np.log(np.maximum(m, tiny)))).sum(axis=1) for x in (p, q)) / 2
    elif name == "total-variation":
        each = np.abs(p - q).sum(axis=1) / 2
    else:
        each = np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=1) / 2)
    return float(np.mean(each))
