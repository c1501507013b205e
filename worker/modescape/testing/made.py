"""Small finished experiments and evidence made to order, for whoever tries a figure or a claim.

    with experiments(("predict", "compare")) as made:
        made.finished                    # Results: three runs of a small network on 300 digits, a few seconds
        made.with_failure                # the same, of which the first run has diverged
        made.begun                       # the same, of which nothing has been done yet

Everything is done here, in a temporary home, by the code that workers run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from modescape.database import upgrade
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.registry import studies
from modescape.results import Results
from modescape.settings import Settings
from modescape.spec import is_ours
from modescape.study import BROUGHT

if TYPE_CHECKING:
    from torch import nn

Json = dict[str, Any]
DIGITS: Json = {
    "data": {"dataset": "digits", "train_images": 300, "validation_images": 60, "test_images": 60,
             "input_scale": "standardised"},
    "network": {"architecture": "mlp", "options": {"first": 16, "second": 12}},
    "training": {"epochs": 6, "batch_size": 20, "learning_rate": 0.005, "snapshots": 8},
    "ensemble": {"runs": 4},
    "methods": [{"method": "random", "spread": 4, "typical": 3}],
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}  # fmt: skip
_FEW = {"train_images": 20, "test_images": 20}
_CHAIN = {
    "cycles": 2,
    "epochs_per_cycle": 8,
    "noise_epochs": 1,
    "samples_per_cycle": 2,
    "learning_rate": 0.1,
    "batch_size": 20,
}
# Kinds of stages -> what a spec must ask for to have them, beyond `DIGITS`, whose runs are trained and compared.
_PARTS: tuple[tuple[tuple[str, ...], Json], ...] = (
    (("chain",), {"methods": [*DIGITS["methods"], {"method": "sgmcmc", "options": _CHAIN}]}),
    (("strength",), {"data": {"train_images": 97, "validation_images": 500}, "training": {"epochs": 15},
                     "evaluation": {"averaged": "fair"}}),
    (("shift", "shift-compare"), {"shift": {"corruptions": ["gaussian_noise"], "images": 40, "members": 2}}),
    (("ood", "ood-compare"), {"ood": [{"dataset": "uniform-noise", "images": 40, "members": 2}]}),
    (("seeds", "arm"), {"seeds": {"learning_rates": [0.01], "repetitions": 3, "epochs": 3}}),
    (("plane",), {"planes": [{"kind": "radial", "runs": [1, 2], **_FEW},
                             {"kind": "affine", "runs": [1, 2, 3], **_FEW}]}),
    (("tunnel", "triangles"), {"tunnels": [
        {"runs": [1, 2], "knots": 2, "epochs": 1, "images": 40, "triangle_images": 20}]}),
    (("connectivity", "connectivity-compare"), {"connectivity": {"points": 5, "images": 40}}),
    (("instability", "branch"), {"instability": {"epochs": [0, 2], "points": 5, "images": 40, "repetitions": 2}}),
)  # fmt: skip


def spec_with(kinds: Sequence[str]) -> Json:
    """The spec of a small experiment in which these kinds of stages occur, those of studies from outside too."""
    asked = deepcopy(DIGITS)
    for own, part in _PARTS:
        if set(own) & set(kinds):
            asked |= {name: {**asked.get(name, {}), **value} if isinstance(value, dict) else value
                      for name, value in part.items()}  # fmt: skip
    brought = [one.name for one in studies.values() if set(one.stages) & set(kinds) and not is_ours(one.name)]
    return asked | {BROUGHT: {name: {} for name in brought if studies[name].is_ready}} if brought else asked


@dataclass(frozen=True)
class Made:
    """One spec at three times: done, done with a run that diverged, and begun."""

    finished: Results
    with_failure: Results
    begun: Results


@contextmanager
def experiments(kinds: Sequence[str] = (), *, spec: Mapping[str, Any] | None = None) -> Iterator[Made]:
    """Experiments in which these kinds of stages occur, or of that spec. Takes seconds, and a minute for many kinds."""
    asked = spec_with(kinds) if spec is None else dict(spec)
    with _laboratory() as laboratory:
        finished = _do(laboratory, asked, "finished")
        with _first_run_diverges():
            with_failure = _do(laboratory, asked, "with a failure")
        begun = laboratory.create(asked, name="begun", fresh=True)
        yield Made(finished, with_failure, laboratory.results(begun.id))


@contextmanager
def done(spec: Mapping[str, Any]) -> Iterator[Results]:
    """The results of one experiment of that spec."""
    with _laboratory() as laboratory:
        yield _do(laboratory, spec, "done")


@contextmanager
def _laboratory() -> Iterator[Laboratory]:
    with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
        settings = Settings(home=Path(folder), database_url="")
        upgrade(settings.database)
        laboratory = Laboratory(settings)
        try:
            yield laboratory
        finally:
            laboratory.store.close()


def _do(laboratory: Laboratory, spec: Mapping[str, Any], name: str) -> Results:
    row = laboratory.create(dict(spec), name=name, fresh=True)
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings).run_experiment(row.id)
    return laboratory.results(row.id)


@contextmanager
def _first_run_diverges() -> Iterator[None]:
    """Initial weights of run 0 are so large that its first step is none."""
    import torch

    from modescape.architectures import building
    from modescape.science.seeds import run_seeds

    build, seed = building.build, run_seeds(0, 0, "both").weights

    def built(*args: Any, **named: Any) -> nn.Module:
        network = build(*args, **named)
        with torch.no_grad():
            for parameter in network.parameters() if named["seed"] == seed else ():
                parameter.mul_(1e18)
        return network

    with patch.object(building, "build", built):
        yield
