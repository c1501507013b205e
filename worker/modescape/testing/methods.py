"""What every method keeps to: a function of its strength and its random numbers alone."""

from __future__ import annotations

import random
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modescape.errors import InvalidInput
from modescape.methods import sampling
from modescape.methods.method import Draw, Neighbourhood
from modescape.methods.sampling import Reach
from modescape.methods.trained import ContinuedOptions, FreshOptions, TrainedOptions
from modescape.records import SampleSet
from modescape.registry import Method, Options, methods
from modescape.spec_parts import TrainingSpec
from modescape.testing.contract import SHARED, Checked, Contract, at_bounds, concerns, equal, expect, module_of, refused

PARAMETERS, SNAPSHOTS = 4000, 8
LAYOUT = (("conv.weight", (20, 10, 3, 3)), ("conv.bias", (20,)), ("head.weight", (20, 109)))
HALFWAY = {"step": 0.4, "rate": 0.2, "scale": 12.0}  # strengths at which a small network has lost much
STRONGEST = {"step": 100.0, "rate": 0.95, "scale": 1e4}  # that are ever tried (methods.sampling)


def neighbourhood(snapshots: int = SNAPSHOTS, parameters: int = PARAMETERS) -> Neighbourhood:
    """Snapshots that differ mostly along two directions, and an optimum near them."""
    rng = np.random.default_rng(0)
    path = rng.normal(size=(2, parameters)) * [[0.05], [0.02]]
    steps = rng.normal(size=(snapshots, 2)) @ path + rng.normal(size=(snapshots, parameters)) * 0.001
    kept = (rng.normal(size=parameters) + steps).astype(np.float32)
    return Neighbourhood(kept[-1], kept, LAYOUT if parameters == PARAMETERS else ())


@dataclass(frozen=True)
class Trial:
    entry: Method

    @property
    def module(self) -> str:
        return module_of(self.entry.call)

    @cached_property
    def options(self) -> Options:
        return self.entry.options()

    @property
    def drawn(self) -> bool:
        """Whether it draws around an optimum."""
        return self.entry.trained != "fresh"

    def around(self, options: Options) -> Neighbourhood:
        """As many snapshots as its own training would keep."""
        return neighbourhood(options.samples if isinstance(options, ContinuedOptions) else SNAPSHOTS)

    @property
    def strength(self) -> float:
        return HALFWAY[self.entry.strength] if self.entry.strength else 0.0

    def draw(self, strength: float, seed: int = 1, options: Options | None = None) -> Draw:
        chosen = options or self.options
        found: Draw = self.entry.call(self.around(chosen), chosen, strength, np.random.default_rng(seed))
        return found


METHOD: Contract[Trial] = Contract("method", *SHARED)


@METHOD.rule
def _look(trial: Trial) -> None:
    """A look that it brings has one colour on light and one on dark ground, as #RRGGBB."""
    look = trial.entry.look
    concerns(look)
    for colour in (look.light, look.dark) if look else ():
        expect(
            re.fullmatch(r"#[0-9A-Fa-f]{6}", colour),
            f"{colour!r} is no colour; expected are # and six hexadecimal digits.",
        )


@METHOD.rule
def _again(trial: Trial) -> None:
    """Where it draws, equal random numbers give equal weights and others give others."""
    concerns(trial.drawn)
    one, same, other = (trial.draw(trial.strength, seed) for seed in (1, 1, 2))
    alike = one.theta.tobytes() == same.theta.tobytes() and one.mask == same.mask
    expect(alike, "Two draws with generators of one seed differ: every random number must come from the `rng` given.")
    if trial.entry.sampled:
        differs = one.theta.tobytes() != other.theta.tobytes() or one.mask != other.mask
        expect(differs, "Draws with generators of different seeds are the same.")


@METHOD.rule
def _weights(trial: Trial) -> None:
    """Where it draws, it gives as many float32 weights as the optimum has, all finite, with the strength asked for and
    the distance from the optimum."""
    concerns(trial.drawn)
    found, around = trial.draw(trial.strength), trial.around(trial.options)
    equal("draw's shape", found.theta.shape, around.theta.shape)
    equal("draw's type", str(found.theta.dtype), "float32")
    expect(np.isfinite(found.theta).all(), "Some of its weights are not finite.")
    if trial.entry.sampled:
        equal("draw's strength", found.strength, trial.strength)
    away = around.distance(found.theta)
    expect(abs(found.relative - away) <= 1e-6 * max(1, away), f"It says {found.relative} of a distance that is {away}.")


@METHOD.rule
def _alone(trial: Trial) -> None:
    """It leaves the neighbourhood and everybody else's random numbers as they are."""
    concerns(trial.drawn)
    around = trial.around(trial.options)
    theta, kept, before = around.theta.copy(), np.array(around.snapshots), _states()
    trial.entry.call(around, trial.options, trial.strength, np.random.default_rng(1))
    same = np.array_equal(around.theta, theta) and np.array_equal(np.array(around.snapshots), kept)
    expect(same, "It changed the weights it was given.")
    expect(_states() == before, "It drew from a generator of the whole process, not from the `rng` given.")


@METHOD.rule
def _centre(trial: Trial) -> None:
    """Sampled at strength 0 it gives its centre: the optimum, or the mean of the snapshots."""
    concerns(trial.entry.sampled)
    around = trial.around(trial.options)
    centre = around.theta if trial.entry.centre == "optimum" else around.mean.astype(np.float32)
    away = float(np.abs(trial.draw(0.0).theta - centre).max())
    expect(away == 0, f"At strength 0 its weights are up to {away:.3g} from the {trial.entry.centre}.")


@METHOD.rule
def _strong(trial: Trial) -> None:
    """Sampled at the largest strength that is tried (step 100, rate 0.95, scale 10,000) its weights are finite."""
    concerns(trial.entry.strength)
    strongest = STRONGEST[str(trial.entry.strength)]
    finite = np.isfinite(trial.draw(strongest).theta).all()
    expect(finite, f"At strength {strongest:g} some of its weights are not finite.")


@METHOD.rule
def _remade(trial: Trial) -> None:
    """A sample can be made again, bit for bit, from its seed, set, index and strength."""
    entry, options = trial.entry, trial.options
    concerns(entry.sampled)
    around, reach = trial.around(options), Reach(0.2, 0.5)
    for which in ("spread", "typical"):
        named: dict[str, Any] = {"sample_set": which, "seed": 5}
        for found in sampling.sample(
            entry, around, options, **named, count=4, reach=reach, accuracy=lambda draw: 0.9, reference=0.9
        ):
            again = sampling.remake(
                entry, trial.around(options), options, **named, index=found.index, attempt=found.attempt,
                strength=found.draw.strength,
            )  # fmt: skip
            same = again.theta.tobytes() == found.draw.theta.tobytes() and again.mask == found.draw.mask
            expect(same, f"Sample {found.index} of the {which} set, made again, has other weights.")


@METHOD.rule
def _counts(trial: Trial) -> None:
    """Not sampled, it gives as many solutions a run as it counts, and none at other strengths."""
    entry, options = trial.entry, trial.options
    concerns(not entry.sampled)
    if isinstance(options, FreshOptions):
        equal("count", entry.count(options), options.samples)
        equal("order of samples, best first, sorted,", sorted(options.best_first), list(range(options.samples)))
        return
    around = trial.around(options)
    found = list(sampling.sample(entry, around, options, sample_set=SampleSet.TYPICAL, count=5, seed=1))
    equal("number of solutions", len(found), entry.count(options))
    spread = list(sampling.sample(entry, around, options, sample_set=SampleSet.SPREAD, count=5, seed=1))
    equal("samples of a spread set", spread, [])


@METHOD.rule
def _trained(trial: Trial) -> None:
    """A method that trains says what its training is and how many weights that keeps; networks of its own lie around no
    optimum, so drawing is refused."""
    entry, options = trial.entry, trial.options
    concerns(entry.trained)
    base = ContinuedOptions if entry.trained == "continued" else FreshOptions
    expect(isinstance(options, base), f"It is trained {entry.trained!r}, so its options extend {base.__name__}.")
    assert isinstance(options, ContinuedOptions | FreshOptions)
    own = options.training(TrainingSpec())
    expect(own.epochs > 0 and options.samples > 0, f"It trains {own.epochs} epochs and keeps {options.samples}.")
    if entry.trained == "continued":
        equal("number of snapshots", own.snapshots, options.samples)
    else:
        refused("A draw around an optimum", lambda: trial.draw(0.0), InvalidInput)


@METHOD.rule
def _snapshots(trial: Trial) -> None:
    """Unless it says that it needs snapshots, it draws without them."""
    entry = trial.entry
    own = entry.of or isinstance(trial.options, TrainedOptions)  # its snapshots are of its own making
    concerns(trial.drawn and not own)
    concerns(not entry.needs_snapshots)
    bare = Neighbourhood(neighbourhood().theta, None, LAYOUT)
    entry.call(bare, trial.options, trial.strength, np.random.default_rng(1))


@METHOD.rule
def _bounds(trial: Trial) -> None:
    """With each option at its bounds, and at each of its choices, it draws finite weights or says in words (as
    InvalidInput) what is not allowed."""
    for words, options in at_bounds(trial.entry.options):
        if isinstance(options, ContinuedOptions | FreshOptions) and (not trial.drawn or options.samples > 100):
            continue
        try:
            found = trial.draw(trial.strength, options=options)
        except InvalidInput as error:
            expect(error.field or error.allowed, f"With {words} it refuses without saying what is allowed: {error}")
        else:
            expect(np.isfinite(found.theta).all(), f"With {words} some of its weights are not finite.")


def _states() -> tuple[Any, ...]:
    """Of the generators that a process has for everybody."""
    torch = sys.modules.get("torch")
    own = torch.get_rng_state().numpy().tobytes() if torch else b""
    return random.getstate(), repr(np.random.get_state(legacy=False)), own


@METHOD.lists
def check_method(entry: Method | str) -> Checked:
    """Is this a method as `modescape.methods.method` asks? Tried on 4,000 made-up weights, without torch.

    Raises ContractBroken with the first rule that does not hold.
    """
    entry = methods[entry] if isinstance(entry, str) else entry
    return METHOD.check(entry.name, Trial(entry))
