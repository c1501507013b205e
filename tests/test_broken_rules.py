"""Each rule of each contract is broken on purpose, by an entry that is wrong in one way, and the check says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import Field
from saved_home import opened

from modescape.claims import CLAIMS
from modescape.claims.claim import Joins, Margin
from modescape.claims.record import ClaimRecord
from modescape.corruptions import corruption as corruption_module
from modescape.drawing.figure import Legend, Note, Notes
from modescape.drawing.style import look
from modescape.errors import InvalidInput
from modescape.laboratory import Laboratory
from modescape.methods.method import SampledOptions, draw_at
from modescape.plan import prepare
from modescape.registry import (
    RECIPE,
    Family,
    Look,
    architectures,
    corruptions,
    datasets,
    figures,
    losses,
    methods,
    optimisers,
    presets,
    studies,
)
from modescape.science.confidence import Word
from modescape.science.data import Origin, OwnTest, RawData
from modescape.store.leases import Leases
from modescape.study import StudySpec
from modescape.testing import ContractBroken, check_store
from modescape.testing.architectures import ARCHITECTURE, check_architecture
from modescape.testing.claims import CLAIM, check_claim
from modescape.testing.contract import Contract
from modescape.testing.corruptions import CORRUPTION, check_corruption
from modescape.testing.datasets import DATASET, check_dataset
from modescape.testing.figures import FIGURE, check_figure
from modescape.testing.made import DIGITS
from modescape.testing.methods import METHOD, check_method
from modescape.testing.presets import PRESET, check_preset
from modescape.testing.recipes import (
    AUGMENTATION,
    LOSS,
    OPTIMISER,
    SCHEDULE,
    TRAINER,
    Trial,
)
from modescape.testing.stores import STORE
from modescape.testing.studies import STUDY, check_study

Wrong = dict[str, tuple[str, Any]]  # words of a rule -> name of a sound entry, and what is wrong with the other


class Undescribed(SampledOptions):
    tries: int = Field(0, ge=1, description="Its default is no value that it allows.")


class _Elsewhere:
    """A function that says it is from a module which nobody can import."""

    __module__ = "nowhere_at_all"

    def __call__(self, *given: Any) -> Any:
        raise AssertionError("nobody calls it")


def breaks(words: str, check: Callable[[], object], name: str) -> None:
    """The check names the entry and that rule, and says more than that it is broken."""
    with pytest.raises(ContractBroken) as caught:
        check()
    assert words in caught.value.rule, caught.value
    assert f"{name}" in str(caught.value)
    assert len(caught.value.found) > 10


def covered(contract: Contract[Any], wrong: Wrong) -> None:
    """Every rule of the contract is broken by somebody here."""
    assert [rule for rule in contract.rules if not any(words in rule for words in wrong)] == []


SHARED: Wrong = {
    "It says what it is": ("", {"title": "Ends with a stop."}),
    "none of torch": ("", {"call": _Elsewhere()}),
}


# ---- methods ----


def other(**changes: Any) -> Callable[..., Any]:
    """The random method with something else about its draws."""

    def call(around: Any, options: Any, strength: float, rng: Any) -> Any:
        return replace(methods["random"].call(around, options, strength, rng), **changes)

    return call


def greedy(around: Any, options: Any, strength: float, rng: Any) -> Any:
    np.random.random()
    return methods["random"].call(around, options, strength, rng)


def careless(around: Any, options: Any, strength: float, rng: Any) -> Any:
    return draw_at(around, around.theta * (1 + strength * np.random.random(around.theta.size)), strength)


def displaced(around: Any, options: Any, strength: float, rng: Any) -> Any:
    return draw_at(around, around.theta + 1 + strength * rng.random(around.theta.size), strength)


def exploding(around: Any, options: Any, strength: float, rng: Any) -> Any:
    found = methods["random"].call(around, options, strength, rng)
    return replace(found, theta=found.theta * np.float32(np.inf)) if strength > 50 else found


calls = iter(range(10_000))


def forgetful(around: Any, options: Any, strength: float, rng: Any) -> Any:
    """As it should be at the strengths of single draws, and another each time at those of samples."""
    drift = 0.0 if strength in (0.0, 0.2, 0.4, 100.0) else next(calls) * 1e-3
    return draw_at(around, around.theta * (1 + strength * rng.random(around.theta.size) + drift), strength)


def choosy(around: Any, options: Any, strength: float, rng: Any) -> Any:
    if options.tries == 100:
        raise InvalidInput("no")
    return methods["random"].call(around, options, strength, rng)


METHODS: Wrong = {
    **SHARED,
    "Its options are described": ("random", {"options": Undescribed}),
    "one colour on light": ("random", {"look": Look("star", "solid", "red", "#000000")}),
    "equal random numbers": ("random", {"call": careless}),
    "as many float32 weights": ("random", {"call": other(relative=7.0)}),
    "everybody else's random numbers": ("random", {"call": greedy}),
    "at strength 0": ("random", {"call": displaced}),
    "largest strength": ("random", {"call": exploding}),
    "made again": ("random", {"call": forgetful}),
    "as many solutions a run": ("sgmcmc", {"count": lambda options: 1}),
    "what its training is": ("swag", {"trained": "fresh"}),
    "draws without them": ("diagonal", {"needs_snapshots": False}),
    "at its bounds": ("random", {"call": choosy}),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", METHODS)
def test_a_wrong_method_is_found(words: str) -> None:
    name, wrong = METHODS[words]
    name = name or "random"
    breaks(words, lambda: check_method(replace(methods[name], **wrong)), name)


# ---- networks ----


def small(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The MLP with something done to it."""
    return lambda *shape: change(architectures["mlp"].call(*shape))


def _with(name: str, method: Callable[..., Any]) -> Callable[[Any], Any]:
    def change(module: Any) -> Any:
        module.__class__ = type(type(module).__name__, (type(module),), {name: method})
        return module

    return change


def _mixing(self: Any, images: Any) -> Any:
    logits = type(self).__mro__[1].forward(self, images)
    return logits + logits.mean(0)


def _double(self: Any, images: Any) -> Any:
    return type(self).__mro__[1].forward(self, images).double()


def _unseeded(self: Any, rng: Any) -> None:
    type(self).__mro__[1].initialise(self, np.random.default_rng())


def _idle(module: Any) -> Any:
    """With its last layer's biases out of reach of the gradient."""
    module.head.bias.register_hook(lambda gradient: gradient)
    forward = module.forward

    def detached(self: Any, images: Any) -> Any:
        from torch.nn import functional

        hidden = functional.relu(self.first(images.flatten(1)))
        hidden = functional.relu(self.second(hidden))
        return functional.linear(hidden, self.head.weight, self.head.bias.detach())

    del forward
    return _with("forward", detached)(module)


def _hidden(module: Any) -> Any:
    """With a factor that is neither weight nor statistic, another in each network."""
    module.factor = float(np.random.default_rng().random()) + 1

    def forward(self: Any, images: Any) -> Any:
        return type(self).__mro__[1].forward(self, images) * self.factor

    return _with("forward", forward)(module)


def _crossed(module: Any, wiring: Any) -> None:
    wiring.layer(module.first, None, "first")
    wiring.layer(module.second, None, "second")
    wiring.layer(module.head, "second", None)


def _wide_off(*shape: Any) -> int:
    """Right but for the widest first layer."""
    return architectures["mlp"].parameters(*shape) + (shape[-1].first == 8192)


NETWORKS: Wrong = {
    **SHARED,
    "Its options are described": ("", {"options": Undescribed}),
    "as many weights as it declares, for": ("", {"parameters": lambda *shape: 1}),
    "multiplications": ("", {"multiply_adds": lambda *shape: 1}),
    "batch normalisation, and": ("", {"batch_norm": True}),
    "takes float32 images": ("", {"call": small(_with("forward", _double))}),
    "Equal seeds": ("", {"call": small(_with("initialise", _unseeded))}),
    "images beside it": ("", {"call": small(_with("forward", _mixing))}),
    "reaches every weight": ("", {"call": small(_idle)}),
    "travel as plain arrays": ("", {"call": small(_hidden)}),
    "in another order": ("", {"wiring": _crossed}),
    "at its bounds": ("", {"parameters": _wide_off}),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", NETWORKS)
def test_a_wrong_network_is_found(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry: Any = replace(architectures["mlp"], name="mine", **NETWORKS[words][1])
    if words == "none of torch":
        entry = replace(entry, call=_Importable())
    monkeypatch.setitem(architectures._entries, "mine", entry)
    breaks(words, lambda: check_architecture(entry), "architecture mine")


class _Importable(_Elsewhere):
    __module__ = "nowhere_at_all"

    def __call__(self, *given: Any) -> Any:
        return architectures["mlp"].call(*given)


# ---- data sets ----


def raw(**changes: Any) -> Callable[..., RawData]:
    return lambda location, spec: replace(datasets["blobs"].call(location, spec), **changes)


def drifting(location: Any, spec: Any) -> RawData:
    found: RawData = datasets["blobs"].call(location, spec)
    return replace(found, test_images=np.random.default_rng().integers(0, 255, (200, 1, 8, 8), np.uint8))


SETS: Wrong = {
    **SHARED,
    "Its options are described": ("", {"options": Undescribed}),
    "all of its sizes": ("", {"channels": 0}),
    "how to get them": ("", {"files": lambda location: None, "how_to_get": ""}),
    "Images are bytes": ("", {"call": raw(train_labels=np.full(400, 7))}),
    "what is read: sizes": ("", {"test_total": 199}),
    "Read again": ("", {"call": drifting}),
    "Test labels that it knows": ("", {"own_test": lambda location, spec: OwnTest(np.zeros(200, np.int64))}),
    "A spec cuts it": ("", {"call": raw(origins={"train": Origin(("one.png",))})}),
}  # fmt: skip


@pytest.mark.parametrize("words", SETS)
def test_a_wrong_data_set_is_found(words: str) -> None:
    breaks(words, lambda: check_dataset(replace(datasets["blobs"], **SETS[words][1])), "data set blobs")


# ---- corruptions ----


def dark(batch: Any, *constants: float) -> Any:
    return batch.x * 0.5


def together(batch: Any, *constants: float) -> Any:
    return batch.x * 0.5 + 0.4 * batch.x.mean()


def restless(batch: Any, *constants: float) -> Any:
    return batch.x * 0.5 + 0.3 * (next(calls) % 2)


KINDS: Wrong = {
    **SHARED,
    "Its options are described": ("", {"options": Undescribed}),
    "constants of five intensities": ("", {"family": Family("", "")}),
    "images of some size": ("", {"needs_colour": True, "small": False, "name": "odd"}),
    "bytes of the same shape": ("", {"call": lambda batch, *constants: batch.x}),
    "byte for byte": ("", {"call": together}),
    "the same bytes": ("", {"call": restless}),
    "Declared random": ("", {"is_random": True}),
}


@pytest.mark.parametrize("words", KINDS)
def test_a_wrong_corruption_is_found(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = replace(corruptions["brightness"], call=dark, is_random=False)
    entry = replace(sound, **KINDS[words][1])
    if words == "images of some size":
        monkeypatch.setattr(corruption_module, "applicable", lambda *size: ())
        monkeypatch.setattr("modescape.testing.corruptions.applicable", lambda *size: ())
    monkeypatch.setitem(corruptions._entries, entry.name, entry)
    breaks(words, lambda: check_corruption(entry), "corruption")


# ---- presets ----

SHARED_DOCUMENT = presets["quickstart"].call()
PRESETS: Wrong = {
    **SHARED,
    "Its options are described": ("", {"options": Undescribed}),
    "plain JSON": ("", {"call": lambda: SHARED_DOCUMENT}),
    "can be launched": ("", {"call": lambda: {"data": {"dataset": "none-such"}}}),
    "short version": ("", {"twin_of": "none-such"}),
    "plain shapes": ("", {"thumbnail": '<path d="M0 0" style="color:red"/>'}),
}


@pytest.mark.parametrize("words", PRESETS)
def test_a_wrong_preset_is_found(words: str) -> None:
    breaks(words, lambda: check_preset(replace(presets["quickstart"], **PRESETS[words][1])), "preset quickstart")


# ---- parts of a training ----


def forgetful(weights: Any, options: Any, training: Any) -> Any:
    """An optimiser whose momentum is in none of its moments."""
    found = optimisers["momentum"].call(weights, options, training)
    moments, found.moments = found.moments, {}

    def update(theta: Any, gradient: Any, rate: float) -> None:
        theta.add_(moments["velocity"].mul_(0.9).add_(gradient), alpha=-rate)

    found.update = update
    return found


def leaky(weights: Any, options: Any, training: Any) -> Any:
    """An optimiser that knows how many there were before it."""
    LEAKED.append(1)
    found = optimisers["sgd"].call(weights, options, training)
    plain = found.update
    found.update = lambda theta, gradient, rate: plain(theta, gradient, rate / len(LEAKED))
    return found


LEAKED: list[int] = []


def drifting(weights: Any, options: Any, training: Any) -> Any:
    found = optimisers["sgd"].call(weights, options, training)
    found.update = lambda theta, gradient, rate: theta.add_(gradient, alpha=-rate - 0.01)
    return found


def climbing(weights: Any, options: Any, training: Any) -> Any:
    found = optimisers["sgd"].call(weights, options, training)
    found.update = lambda theta, gradient, rate: theta.add_(gradient, alpha=rate)
    return found


def healing(weights: Any, options: Any, training: Any) -> Any:
    """An optimiser after which the loss is a number again, whatever it was."""
    import torch

    found = optimisers["sgd"].call(weights, options, training)
    torch.nan_to_num_(weights.theta.data)
    return found


def uphill(moment: Any, options: Any, training: Any) -> float:
    TIMES.append(1)
    return training.learning_rate * len(TIMES) / 1e6


TIMES: list[int] = []


def mended(logits: Any, targets: Any, options: Any) -> Any:
    return losses["cross-entropy"].call(logits.nan_to_num(), targets, options)


def hard_only(logits: Any, targets: Any, options: Any) -> Any:
    from torch.nn import functional

    return functional.cross_entropy(logits, targets if targets.ndim == 1 else targets.argmax(1).roll(1))


def steep(logits: Any, targets: Any, options: Any) -> Any:
    return losses["cross-entropy"].call(logits, targets, options) * logits.exp().sum().clamp(max=1e38).reciprocal()


def backwards(logits: Any, targets: Any, options: Any) -> Any:
    return -losses["cross-entropy"].call(logits, targets, options).clamp(max=50)


def random_loss(logits: Any, targets: Any, options: Any) -> Any:
    return losses["cross-entropy"].call(logits, targets, options) * (1 + np.random.random())


def careless_images(examples: Any, options: Any, rng: Any) -> Any:
    return replace(examples, images=examples.images.roll(int(np.random.randint(12)), 3))


def shrunk(examples: Any, options: Any, rng: Any) -> Any:
    return replace(examples, images=examples.images[..., 1:, 1:])


def numbered(examples: Any, options: Any, rng: Any) -> Any:
    TIMES.append(1)
    return replace(examples, images=examples.images.roll(len(TIMES), 3))


def trains(member: Any, *, order: bool = True, step: float = 1e-3, keep: bool = True, clean: bool = False) -> None:
    """Descent with momentum by hand; keep: it hands its velocity over; order: batches are drawn by the member."""
    import torch
    from torch.nn.functional import cross_entropy

    parameters = list(member.network.parameters())
    kept = [torch.from_numpy(member.state[f"{i}"]) if member.state else torch.zeros_like(p)
            for i, p in enumerate(parameters)]  # fmt: skip
    images = member.splits.train
    if clean:
        for p in parameters:
            torch.nan_to_num_(p.data)
    for _ in member.remaining:
        rows = torch.from_numpy(member.rng.permutation(len(images))) if order else torch.arange(len(images))
        for own in rows.split(100):
            member.network.zero_grad()
            if order is False:
                member.network.eval()
            cross_entropy(member.network(member.splits.transform(images.batch(own))), images.labels[own]).backward()
            for p, velocity in zip(parameters, kept, strict=True):
                velocity.mul_(0.9).add_(p.grad)
                p.data.sub_(velocity, alpha=step)
        member.hand_over(state={f"{i}": v.numpy() for i, v in enumerate(kept)} if keep else None)


def once(member: Any, options: Any) -> None:
    TIMES.append(1)
    trains(member, step=1e-3 * len(TIMES))


SHARED_PARTS: Wrong = {
    "It says what it is": ("", {"title": "Ends with a stop."}),
    "Its options are described": ("", {"options": Undescribed}),
    "none of torch": ("", {"call": _Elsewhere()}),
}
PARTS: dict[str, tuple[Contract[Any], Wrong]] = {
    "optimiser": (OPTIMISER, SHARED_PARTS | {
        "killed at any step": ("momentum", {"call": forgetful}),
        "trained after another": ("sgd", {"call": leaky}),
        "told as diverged": ("sgd", {"call": healing}),
        "At a rate of 0": ("sgd", {"call": drifting}),
        "down a bowl": ("sgd", {"call": climbing}),
    }),
    "schedule": (SCHEDULE, SHARED_PARTS | {
        "killed at any step": ("constant", {"call": uphill}),
        "trained after another": ("constant", {"call": uphill}),
        "told as diverged": ("constant", {"call": None}),
        "finite and not negative": ("constant", {"call": lambda moment, options, training: 1.0 - moment.step}),
        "function of the step alone": ("constant", {"call": uphill}),
        "Twice the learning rate": ("constant", {"call": lambda moment, options, training: 0.1}),
    }),
    "loss": (LOSS, SHARED_PARTS | {
        "killed at any step": ("cross-entropy", {"call": random_loss}),
        "trained after another": ("cross-entropy", {"call": random_loss}),
        "told as diverged": ("cross-entropy", {"call": mended}),
        "are the same target": ("cross-entropy", {"call": hard_only}),
        "finite number with finite slopes": ("cross-entropy", {"call": steep}),
        "loses less than a wrong": ("cross-entropy", {"call": backwards}),
    }),
    "augmentation": (AUGMENTATION, SHARED_PARTS | {
        "killed at any step": ("none", {"call": careless_images, "name": "careless"}),
        "trained after another": ("none", {"call": careless_images, "name": "careless"}),
        "told as diverged": ("none", {"call": None}),
        "stay as many": ("none", {"call": shrunk}),
        "The same random numbers": ("none", {"call": numbered}),
    }),
    "trainer": (TRAINER, SHARED_PARTS | {
        "killed at any step": ("modescape", {"call": lambda member, options: trains(member, keep=False)}),
        "trained after another": ("modescape", {"call": once}),
        "told as diverged": ("modescape", {"call": lambda member, options: trains(member, clean=True)}),
        "hands over every epoch": ("modescape", {"call": lambda member, options: trains(member, step=0.0)}),
        "Members with other batches": ("modescape", {"call": lambda member, options: trains(member, order=False)}),
    }),
}  # fmt: skip


@pytest.mark.parametrize(("part", "words"), [(part, words) for part, (_, wrong) in PARTS.items() for words in wrong])
def test_a_wrong_part_of_a_training_is_found(part: str, words: str) -> None:
    """Each rule is asked by itself, for one wrong thing may break several."""
    contract, table = PARTS[part]
    name, changes = table[words]
    sound = RECIPE[part][name or next(iter(RECIPE[part]))]
    entry = replace(sound, **({"name": "wrong"} | changes))
    (asked,) = (rule for sentence, rule in contract.rules.items() if words in sentence)
    TIMES.clear()
    LEAKED.clear()
    breaks(words, lambda: Contract(part, asked).check(entry.name, Trial(part, entry)), entry.name)


@pytest.mark.parametrize("part", PARTS)
def test_every_rule_of_a_part_of_a_training_is_broken_here(part: str) -> None:
    contract, table = PARTS[part]
    covered(contract, table)


def test_every_rule_of_the_simple_kinds_is_broken_here() -> None:
    for contract, wrong in ((METHOD, METHODS), (ARCHITECTURE, NETWORKS), (DATASET, SETS), (CORRUPTION, KINDS),
                            (PRESET, PRESETS)):  # fmt: skip
        covered(contract, wrong)


# ---- figures, on the saved home ----

# Found once for each choice of its options: what is broken is what is made of it.
PLANE = replace(figures["plane"], call=cache(figures["plane"].call))


def collected(**changes: Any) -> Callable[..., Any]:
    return lambda results, options: replace(PLANE.call(results, options), **changes)


def told(**changes: Any) -> Callable[[Any], Any]:
    return lambda data: replace(PLANE.tell(data), **changes)


def drawn(change: Callable[[Any], object]) -> Callable[..., Any]:
    def draw(data: Any, theme: Any) -> Any:
        picture = PLANE.draw(data, theme)
        change(picture)
        return picture

    return draw


def eager(results: Any, options: Any) -> Any:
    return PLANE.call(HOMES[0], options)


def silent_of_failures(data: Any) -> Any:
    return replace(PLANE.tell(replace(data, lost="")), caption="n = 3 runs.")


def tableless(results: Any, options: Any) -> Any:
    found = PLANE.call(results, options)
    return type("Bare", (type(found),), {"rows": lambda self: []})(**vars(found))


def moody(data: Any) -> Any:
    said = PLANE.tell(data)
    return replace(said, summary=f"{next(calls)}.")


RED, GREY = look("independent").colour("light"), look("theory").colour("light")


def with_map(picture: Any, rows: list[float]) -> None:
    """A map of two rows that stand in this order from below, without a word on its shape."""
    ticks = {"tickmode": "array", "tickvals": [0, 1], "ticktext": ["0", "1"]}
    picture.add_heatmap(z=[[0.0, 1.0], [1.0, 0.0]], zmin=0, zmax=1, xaxis="x9", yaxis="y9", colorbar={"x": 1, "len": 1})
    picture.update_layout(xaxis9={**ticks, "range": [0.0, 1.0]}, yaxis9={**ticks, "range": rows})


HOMES: list[Any] = []
BEGUN: list[Any] = []
PICTURES: Wrong = {
    **SHARED,
    "none of torch": ("", {"draw": _Elsewhere()}),
    "Its options are described": ("", {"options": Undescribed}),
    "It asks a question": ("", {"needs": ("no-such-stage",)}),
    "without results": ("", {"call": eager}),
    "a run has failed": ("", {"tell": silent_of_failures}),
    "Its words are made": ("", {"tell": told(summary="no sentence")}),
    "how many things": ("", {"tell": told(caption="Of 3 dozens.")}),
    "a table with a head": ("", {"call": tableless}),
    "its legend names": ("", {"call": collected(legend=(Legend("x", "X", "no-such-look"),))}),
    "In every theme": ("", {"draw": drawn(lambda picture: picture.update_layout(height=77))}),
    "Where it can be laid": ("", {"lay": lambda data: replace(PLANE.lay(data), axes=())}),
    "As JSON": ("", {"draw": drawn(lambda picture: picture.add_scatter(y=[1.0, float("inf")]))}),
    "A colour means one thing": (
        "",
        {
            "draw": drawn(
                lambda picture: picture.add_scatter(y=[1.0], name="stray", legendgroup="theory", line={"color": RED})
            )
        },
    ),
    "Lines have their names": (
        "",
        {
            "draw": drawn(
                lambda picture: picture.add_scatter(
                    x=[1.0, 2.0],
                    y=[1.0, 2.0],
                    mode="lines",
                    name="nameless",
                    line={"color": GREY},
                    xaxis="x9",
                    yaxis="y9",
                )
            )
        },
    ),
    "Run 0 is above": ("", {"draw": drawn(lambda picture: with_map(picture, [0.0, 1.0]))}),
    "hides another": ("", {"draw": drawn(lambda picture: picture.add_bar(y=[1.0]).add_bar(y=[2.0]))}),
    "keep their shape": ("", {"draw": drawn(lambda picture: with_map(picture, [1.0, 0.0]))}),
    "Every number has its unit": ("", {"tell": told(notes=Notes(("", "how much"), (Note("of something", ("3",)),)))}),
    "Asked again": ("", {"tell": moody}),
    "A card reserves": ("", {"card": 78}),
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    laboratory = Laboratory(opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home"))
    HOMES[:] = [laboratory.results(slug) for slug in ("every-method", "with-failures")]
    BEGUN[:] = [laboratory.results(laboratory.create(DIGITS, name="begun").id)]
    yield HOMES
    laboratory.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("words", PICTURES)
def test_a_wrong_figure_is_found(words: str, homes: list[Any]) -> None:
    entry = replace(PLANE, **PICTURES[words][1])
    breaks(words, lambda: check_figure(entry, results=homes, begun=BEGUN), "figure plane")


# ---- claims ----


def judged(change: Callable[[ClaimRecord, Any], ClaimRecord | None]) -> Callable[..., Any]:
    """The judge of claim (b) with something else about its records."""

    def judge(asked: Any, evidence: Any) -> Any:
        record = CLAIMS["b"].judge(asked, evidence)
        return record if record is None or record.low is None else change(record, evidence)

    judge.__module__ = "modescape.claims.b"
    return judge


def of_few(asked: Any, evidence: Any) -> Any:
    record = CLAIMS["b"].judge(asked, evidence)
    return replace(record, n=1) if evidence.units < 3 else record


def of_nothing(asked: Any, evidence: Any) -> Any:
    record = CLAIMS["b"].judge(asked, evidence)
    return replace(asked.record(evidence), word=Word.HOLDS) if record is None else record


of_few.__module__ = of_nothing.__module__ = "modescape.claims.b"


def contrary(record: ClaimRecord, evidence: Any) -> ClaimRecord:
    return replace(record, word=Word.HOLDS)


def shy(record: ClaimRecord, evidence: Any) -> ClaimRecord:
    return replace(record, word=Word.CANNOT_TELL)


def hasty(record: ClaimRecord, evidence: Any) -> ClaimRecord:
    """Without a reason where the margin is inside."""
    inside = (record.low or 0) < record.margin < (record.high or 0)
    return replace(record, because="" if inside and record.margin == record.estimate else record.because)


CLAIMED: Wrong = {
    "none of torch": ("", {"judge": _Elsewhere()}),
    "says all of itself": ("", {"title": "Ends with a stop."}),
    "kind of evidence exist": ("", {"figures": ("no-such-figure",)}),
    "over methods reads": ("", {"joins": Joins.EVERY}),
    "Its margin has": ("", {"margin": Margin(field="b9", default=5.0, le=1, says="Too large.")}),
    "leaves open": ("", {"left_open": lambda margin, half: "nothing"}),
    "What it says of evidence": ("", {"judge": judged(lambda record, _: replace(record, id="q"))}),
    "from its JSON": ("", {"judge": judged(lambda record, _: replace(record, parts={"odd": float("nan")}))}),
    "Judged again": ("", {"judge": judged(lambda record, _: replace(record, because=f"{next(calls)}"))}),
    "Its word is": ("", {"judge": judged(contrary)}),
    "Far from the margin": ("", {"judge": judged(shy)}),
    "margin inside its interval": ("", {"judge": judged(hasty)}),
    "From two units": ("", {"judge": of_few}),
    "nothing of what it reads": ("", {"judge": of_nothing}),
}


@pytest.mark.parametrize("words", CLAIMED)
def test_a_wrong_claim_is_found(words: str) -> None:
    breaks(words, lambda: check_claim(replace(CLAIMS["b"], **CLAIMED[words][1])), "claim (b)")


# ---- studies ----


class Loose:
    """Asks nothing."""

    model_fields: ClassVar[dict[str, Any]] = {}


class Foreign(StudySpec):
    """From a module that nobody can import."""


Foreign.__module__ = "nowhere_at_all"


ASKED: Wrong = {
    "It says what it is": ("", {"title": "Ends with a stop."}),
    "none of torch": ("", {"options": Foreign}),
    "lacks without it": ("", {"absent": "nothing"}),
    "extends StudySpec": ("", {"options": Loose}),
    "plans stages of the kinds": ("", {"stages": ("connectivity",)}),
    "part of what was promised": ("", {}),
    "more often than it can": ("", {"most": 0}),
    "at its bounds": ("", {}),
    "Some figure shows": ("", {}),
    "Its stages are done": ("", {}),
}


def _nameless(document: Any, folders: Any) -> Any:
    if document.get("connectivity", {}).get("points") == 3:
        raise InvalidInput("no")
    return prepare(document, folders)


@pytest.mark.parametrize("words", ASKED)
def test_a_wrong_study_is_found(words: str, homes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(studies["connectivity"], **ASKED[words][1])
    if words == "part of what was promised":
        monkeypatch.setattr("modescape.spec.ExperimentSpec.digest", lambda spec: "one for all")
    if words == "at its bounds":
        monkeypatch.setattr("modescape.testing.studies.prepare", _nameless)
    if words == "Some figure shows":
        monkeypatch.setattr("modescape.testing.studies.figures", {})
    breaks(words, lambda: check_study(entry, results=homes), "study connectivity")


# ---- stores ----

STORES: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "fenced by the lease's token": (Leases, "beat", lambda self, lease, progress=None: None),
    "keeps the lease and tells progress": (Leases, "beat", lambda self, lease, progress=None: "pause"),
    "frees its stage": (Leases, "reap", lambda self, now=None: []),
    "claimed by one worker": (Leases, "claim", lambda self, *given, **named: None),
}


@pytest.mark.parametrize("words", STORES)
def test_a_wrong_store_is_found(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """(Alone of its contract, so that the rules before it do not find it first.)"""
    of, method, wrong = STORES[words]
    monkeypatch.setattr(of, method, wrong)
    (rule,) = (one for one in STORE.rules if words in one)
    monkeypatch.setattr(STORE, "rules", {rule: STORE.rules[rule]})
    breaks(words, check_store, "store")


def test_every_rule_of_figures_claims_and_studies_is_broken_here() -> None:
    covered(FIGURE, PICTURES)
    covered(STUDY, ASKED)
    covered(CLAIM, CLAIMED)


# ---- the command ----

OWN = """
import numpy as np

from modescape.methods.method import SampledOptions, draw_at, method

about = {"summary": "An example.", "source": "a test", "centre": "optimum", "strength": "scale",
         "options": SampledOptions}


@method("gn-noise", title="Noise", **about)
def noise(around, options, strength, rng):
    return draw_at(around, around.theta * (1 + strength * rng.standard_normal(around.theta.size)), strength)
"""
WILD = """

@method("wild", title="Wild", **about)
def wild(around, options, strength, rng):
    return draw_at(around, around.theta * (1 + strength * np.random.random(around.theta.size)), strength)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (OWN, 0, r"method gn-noise: 11 rules hold\n"),
        (
            OWN + WILD,
            1,
            r"method gn-noise: 11 rules hold\nmethod wild breaks the rule “Where it draws, equal random .*\n",
        ),
        ("import nowhere_at_all", 1, r"own\.py cannot be imported: ModuleNotFoundError: .*\n"),
        ("x = 1", 1, r"own\.py: nothing is declared there\n"),
    ],
)
def test_the_command_says_of_each_entry_whether_it_works(text: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "modescape.cli", "plugins", "check", "own.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert re.fullmatch(said, done.stdout), done.stdout


@pytest.mark.slow
def test_the_contracts_need_no_pytest_and_nothing_looks_into_them() -> None:
    code = "import sys, modescape.testing; print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    assert all(rule in (check_method.__doc__ or "") for rule in METHOD.rules)
