"""What does a network say about a set of images, and how good is it? Logits, and every score read from them.

    logits = predict(network, splits.test, splits.transform)          # float32 [N, K]
    predict_in_groups(placed, {"test": splits.test}, splits.transform)   # the same of many functions, several at a time
    scores(logits, labels)["brier"]
    scores(average([logits_a, logits_b]), labels)                  # of the ensemble of two

Logits are computed in float32 and stored; whatever is shown is computed from the stored array in float64. Conventions
where libraries differ: natural logarithms; Brier sums over classes (0 to 2, uniform predictions give 1 - 1/K); ties
between classes go to the lowest index. Only predicting needs torch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from modescape.science.blocks import blocks

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

Array = NDArray[Any]
Floats = NDArray[np.float64]
Logits = NDArray[np.float32]
T = TypeVar("T")

# Measured on one thread, images 3x32x32 a second with 1, 2, 4, 8 and 16 functions together: SmallCNN 42,600, 44,300,
# 44,300, 44,400 and 44,600, the MLP 131,000, 154,000, 163,000, 170,000 and 171,000.
_ON_PROCESSOR = 8
_ON_CARD = 64
_SECONDS = 10.0  # that a group may take, for what is paused or lost begins again at its border
_HELD = 1 << 26  # bytes that weights and logits of a group may take on a processor
_BESIDE_CARD = 1 << 30  # and its logits, which come back from a card
_VALUES = 1 << 18  # probabilities that are scored at a time: 2 MB


@dataclass(frozen=True)
class ActivationMask:
    """Dropout at prediction time, as a recipe: `predict` draws the mask from the seed.

    rate: probability of dropping a unit; seed: of the mask; per_example: a fresh mask for every image instead of one
    mask for all (then the sample is a random process, not a function).
    """

    rate: float
    seed: int
    per_example: bool


@dataclass(frozen=True)
class Placed(Generic[T]):
    """A function to be predicted: the network that holds its weights and buffers at this moment, its mask, and what its
    logits are to be told with."""

    of: T
    network: torch.nn.Module
    mask: ActivationMask | None = None


def predict(
    module: torch.nn.Module,
    split: Split,
    transform: InputTransform,
    *,
    device: str | torch.device = "cpu",
    mask: ActivationMask | None = None,
    limit: int | None = None,
    batch: int | None = None,
    check: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Logits [N, K] of a split, in float32 whatever the training used, the network in evaluation mode.

    limit: only the first so many images. mask: activation dropout at prediction time. check is called before each
    batch and may raise to stop. Batches are cut the same way every time, so equal weights give equal bits. Networks
    that have a form in oneDNN's layout predict in it (`in_blocks`); the parameters of all are left in
    channels-last memory order.
    """
    each = predict_each([module], split, transform, device=device, masks=[mask], limit=limit, batch=batch, check=check)
    found: NDArray[np.float32] = each[0]
    return found


def predict_each(
    modules: Sequence[torch.nn.Module],
    split: Split,
    transform: InputTransform,
    *,
    device: str | torch.device = "cpu",
    masks: Sequence[ActivationMask | None] | None = None,
    limit: int | None = None,
    batch: int | None = None,
    check: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Logits [S, N, K] of several networks of one architecture, each as `predict` gives them, to the bit.

    masks: one for each network. Batches are prepared once, and so is what the first layers multiply.
    """
    import torch

    from modescape.science.in_blocks import in_blocks

    count = len(split) if limit is None else min(limit, len(split))
    if count == 0 or not modules:
        raise ValueError("there are no images to predict" if modules else "there is no network to predict with")
    device = torch.device(device)
    for module in modules:
        module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    look: Callable[[torch.Tensor], Any] = getattr(modules[0], "look", None) or (lambda images: images)
    logits: NDArray[np.float32] | None = None
    with ExitStack() as stack:
        for module, mask in zip(modules, masks or [None] * len(modules), strict=True):
            stack.enter_context(_evaluating(module, mask))
        for context in (torch.inference_mode(), torch.autocast(device.type, enabled=False), _exact(device)):
            stack.enter_context(context)
        size = batch or _batch_size(split, device)
        streams: list[Any] | None = None if device.type == "cuda" and len(modules) > 1 else []
        fast: list[Any] = []
        for start in range(0, count, size):
            if check is not None:
                check()
            images = split.rows(start, min(start + size, count)).to(device)
            fast = fast or [in_blocks(module, (size, *images.shape[1:])) for module in modules]
            if None in fast:
                seen = look(transform(images.contiguous(memory_format=torch.channels_last)))
            if any(fast):  # what is seen is shared by all that see it in one layout
                ordered = transform(images.contiguous()).to_mkldnn()
            answers = [
                partial(module, seen) if function is None else partial(function, ordered)
                for module, function in zip(modules, fast, strict=True)
            ]
            given: list[torch.Tensor] = []
            if streams is None:
                before = _allocated(device)
                given = [answers[0]()]
                streams = _streams(device, torch.cuda.max_memory_allocated(device) - before)
            given += _launched(answers[len(given) :], streams)
            found = torch.stack(given).float().cpu().numpy()  # all that a batch gave, in one copy
            if logits is None:
                logits = np.empty((len(modules), count, found.shape[-1]), np.float32)
            logits[:, start : start + len(images)] = found
    assert logits is not None
    return logits


def _streams(device: torch.device, step: int) -> list[Any]:
    """As many as half of a card's free memory holds functions at once. step: bytes that one takes for a batch."""
    return _all_streams(device)[: max(1, _free(device) // 2 // max(1, step))]


@cache
def _all_streams(device: torch.device) -> list[Any]:
    """The same every time, for what was allocated on one is used again on it."""
    import torch

    return [torch.cuda.Stream(device) for _ in range(_ON_CARD)]  # type: ignore[no-untyped-call]


def _launched(answers: Sequence[Callable[[], torch.Tensor]], streams: Sequence[Any]) -> list[torch.Tensor]:
    """What each gives; with streams, on these in turn, after all that was launched before, and before what follows."""
    import torch

    if not streams:
        return [answer() for answer in answers]
    used = streams[: len(answers)]
    main, found = torch.cuda.current_stream(streams[0].device), []
    for stream in used:
        stream.wait_stream(main)
    for i, answer in enumerate(answers):
        with torch.cuda.stream(used[i % len(used)]):
            found.append(answer())
    for stream in used:
        main.wait_stream(stream)
    return found


def predict_in_groups(
    placed: Iterable[Placed[T]],
    splits: Mapping[str, Split],
    transform: InputTransform,
    *,
    device: str | torch.device = "cpu",
    together: int | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[list[tuple[T, dict[str, Logits]]]]:
    """Logits of many functions of one architecture on every split, each as `predict` gives them; in their order, group
    by group.

    A function is taken over when it is told, so all of them may be placed in one network in turn. together: how many
    make a group; None: as many as are worth it, find room and take 10 s, which the first one tells, predicted alone.
    """
    import torch

    device = torch.device(device)
    copies: list[torch.nn.Module] = []  # of the networks of a group, made once
    group: list[Placed[T]] = []

    def predicted(networks: Sequence[torch.nn.Module], group: Sequence[Placed[T]]) -> list[tuple[T, dict[str, Logits]]]:
        masks = [one.mask for one in group]
        found = {
            name: predict_each(networks, split, transform, device=device, masks=masks, check=check)
            for name, split in splits.items()
        }
        return [(one.of, {name: logits[i] for name, logits in found.items()}) for i, one in enumerate(group)]

    for one in placed:
        one.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if together is None:
            began = time.monotonic()
            found = predicted([one.network], [one])
            in_time = int(_SECONDS / max(time.monotonic() - began, 1e-6))
            together = max(1, min(in_time, _how_many(one.network, found[0][1].values(), device)))
            yield found
        elif together == 1:
            yield predicted([one.network], [one])
        elif _joined(copies, len(group), one.network):
            group.append(one)
            if len(group) == together:
                yield predicted(copies, group)
                group = []
        else:
            if group:
                yield predicted(copies[: len(group)], group)
                group = []
            together = 1
            yield predicted([one.network], [one])
    if group:
        yield predicted(copies[: len(group)], group)


def _joined(copies: list[torch.nn.Module], place: int, network: torch.nn.Module) -> bool:
    """Copy a network to its place in a group; False of one that cannot be copied (expanded buffers)."""
    import torch

    try:
        if len(copies) == place:
            copies.append(copy.deepcopy(network))
            return True
        with torch.no_grad():
            for own, other in zip(_tensors(copies[place]), _tensors(network), strict=True):
                own.copy_(other)
    except (RuntimeError, TypeError):
        return False
    return True


def _tensors(network: torch.nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _how_many(network: torch.nn.Module, logits: Iterable[Logits], device: torch.device) -> int:
    """How many functions like this one, which gave these logits, make a group."""
    own, said = sum(one.nbytes for one in _tensors(network)), sum(one.nbytes for one in logits)
    if device.type == "cuda":
        return max(1, min(_ON_CARD, _free(device) // 2 // own, _BESIDE_CARD // said))
    return max(1, min(_ON_PROCESSOR, _HELD // (2 * own + said)))  # weights a second time, in blocks


def _allocated(device: torch.device) -> int:
    """Bytes on a card now; the most at once are counted from here."""
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _free(device: torch.device) -> int:
    """Bytes of a card that nobody uses."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@contextmanager
def _evaluating(module: torch.nn.Module, mask: ActivationMask | None) -> Iterator[None]:
    """The network in evaluation mode, under its mask, and afterwards as it was before."""
    from modescape.science.networks import dropout_layers, forced_dropout

    if mask is not None and not dropout_layers(module):
        raise ValueError("activation dropout needs a network with dropout layers")
    was_training = module.training
    module.eval()
    try:
        if mask is None:
            yield
        else:
            rng = np.random.Generator(np.random.SFC64(mask.seed))
            with forced_dropout(module, mask.rate, rng, fixed=not mask.per_example):
                yield
    finally:
        module.train(was_training)


def _batch_size(split: Split, device: torch.device) -> int:
    """About 80,000 pixels a batch keep activations in the processor's cache; a GPU takes more.

    Measured on one thread: SmallCNN at 28 x 28 18,000 images a second with 100 to 500 images and 8,000 with 1,000;
    MediumCNN at 32 x 32 880 with 50 to 100 images and 650 with 200.
    """
    import torch

    height, width = split.batch(torch.zeros(1, dtype=torch.int64, device=split.labels.device)).shape[-2:]
    if device.type == "cpu":
        return min(max(80_000 // (height * width), 8), 500)
    return min(max(4_000_000 // (height * width), 32), 4000)


def _exact(device: torch.device) -> Any:
    """Full float32 and repeatable kernels on a GPU; nothing to do on a processor."""
    import torch

    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


# --------------------------------------------------------------------------------------------- from logits to numbers


def log_softmax(logits: Array, axis: int = -1) -> Floats:
    """Log-probabilities over an axis, float64; no epsilon is ever needed."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def softmax(logits: Array) -> Floats:
    """Probabilities over the last axis, float64."""
    return np.exp(log_softmax(logits))


def average(members: Iterable[Array]) -> Floats:
    """The ensemble's prediction, as the log of the mean of the members' *probabilities*: logits [N, K] each -> [N, K].

    In logarithms it can stand wherever logits can (`scores(average(members), labels)` is exact even where float64
    probabilities would vanish); `softmax` gives the probabilities. Logits themselves are never averaged
    (Lakshminarayanan et al. 2017). Members are taken one at a time.
    """
    total, count = None, 0
    for logits in members:
        found = log_softmax(logits)
        total = found if total is None else np.logaddexp(total, found)
        count += 1
    if total is None:
        raise ValueError("the average of no members is undefined")
    return np.asarray(total - np.log(count))


def accuracy(outputs: Array, labels: Array) -> float:
    """Fraction of examples whose largest output is the true class; logits or probabilities [N, K], labels [N]."""
    return float(np.mean(outputs.argmax(axis=-1) == labels))


def nll(logits: Array, labels: Array) -> float:
    """Mean negative log-probability of the true class, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def brier(probabilities: Array, labels: Array) -> float:
    """Mean over examples of the squared distance to the one-hot label, summed over classes: 0 to 2 (science a.5)."""
    values = np.asarray(probabilities, np.float64)
    right = values[np.arange(len(labels)), labels]
    return float(np.mean(np.square(values).sum(axis=-1) - 2 * right + 1))


def ece(probabilities: Array, labels: Array, *, bins: int = 15) -> float:
    """Expected calibration error: equal-width bins lo < confidence <= hi, 0 to 1 (science a.6; Guo et al. 2017)."""
    return _ece(np.asarray(probabilities, np.float64).max(axis=-1), probabilities.argmax(axis=-1) == labels, bins)


def _ece(confidence: Floats, right: Array, bins: int) -> float:
    gaps = np.bincount(bin_of(confidence, bins), right - confidence, minlength=bins)  # n_b (accuracy_b - confidence_b)
    return float(np.abs(gaps).sum() / len(right))


def bin_of(confidence: Array, bins: int) -> NDArray[np.int64]:
    """Which of `bins` equal-width bins lo < confidence <= hi each confidence falls into, 0 to bins - 1; any shape."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")


def entropy(probabilities: Array) -> Floats:
    """Entropy of each prediction in nats, 0 to log K, shape without the class axis; 0 log 0 is 0."""
    values = np.asarray(probabilities, np.float64)
    return np.asarray(-(values * np.log(np.where(values > 0, values, 1.0))).sum(axis=-1))


def scores(logits: Array, labels: Array) -> dict[str, float]:
    """accuracy, nll, brier, ece and mean entropy of one function; logits [N, K] (or an `average`), labels [N].

    Read a block of examples at a time; the means are taken of all of them at once.
    """
    return _scores([logits], labels, lambda part: log_softmax(logits[part]))


def scores_together(members: Sequence[Array], labels: Array) -> dict[str, float]:
    """`scores` of the average of members [N, K] each, none of which needs to be in memory as a whole."""
    return _scores(members, labels, lambda part: log_softmax(average(member[part] for member in members)))


def _scores(members: Sequence[Array], labels: Array, logs_of: Callable[[slice], Floats]) -> dict[str, float]:
    count, classes = members[0].shape
    right, sure = np.empty(count, np.bool_), np.empty(count, np.bool_)  # by logarithms and by probabilities
    confidence, losses, squares, entropies = (np.empty(count) for _ in range(4))
    for part in blocks(members, rows=_VALUES // classes):
        logs, truth = logs_of(part), labels[part]
        probabilities, rows = np.exp(logs), np.arange(len(truth))
        right[part] = logs.argmax(axis=-1) == truth
        sure[part] = probabilities.argmax(axis=-1) == truth
        confidence[part] = probabilities.max(axis=-1)
        losses[part] = logs[rows, truth]
        squares[part] = np.square(probabilities).sum(axis=-1) - 2 * probabilities[rows, truth] + 1
        entropies[part] = entropy(probabilities)
    return {
        "accuracy": float(np.mean(right)),
        "nll": float(-losses.mean()),
        "brier": float(np.mean(squares)),
        "ece": _ece(confidence, sure, 15),
        "entropy": float(entropies.mean()),
    }
