"""One run's optimum and what lies around it: any solution of the run can be put back into the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modescape.errors import StageError
from modescape.methods.method import Draw, Neighbourhood
from modescape.methods.sampling import remake
from modescape.records import SampleSet, StageKind, StageState
from modescape.registry import Method, Options, methods
from modescape.results import Results
from modescape.science.barriers import BATCH_NORM_IMAGES
from modescape.science.predictions import ActivationMask, Placed
from modescape.science.predictions import accuracy as accuracy_of
from modescape.spec import ExperimentSpec
from modescape.stages.stage import Context, Json
from modescape.tables import Solution


def options_of(spec: ExperimentSpec, entry: Method) -> Options:
    """What the experiment chose of a method."""
    chosen = next(m for m in spec.methods if m.method == entry.name)
    return entry.options.model_validate(chosen.options)


class Around:
    """One run's optimum with what samplers and evaluations around it need.

    The stage must need or want the run's training. What methods stand on besides (weights collected by training on,
    samples of another method) is looked up in the experiment: the stages that made their samples needed it, so it is
    there. Where the training failed there is no optimum, and only networks that were trained apart can be placed.
    """

    def __init__(self, context: Context, run: int) -> None:
        from modescape.science import weights

        self.context, self.run, self.weights = context, run, weights
        self.network = context.network()
        self._others: dict[str, Neighbourhood] = {}
        self.layout = [(piece.name, piece.shape) for piece in weights.names_and_shapes(self.network)]
        self._own: Neighbourhood | None = None
        trained = context.wanted("train", f"{run}")
        if trained is None:
            return
        optimum = context.artifacts.tensors(trained["checkpoints"][-1]["weights"])
        weights.load_tensors(self.network, optimum)
        self.buffers = weights.buffers(self.network)
        self._own = self._with(weights.flatten(self.network), self._thetas(trained["snapshots"]))

    @property
    def has_optimum(self) -> bool:
        """Whether the run has a healthy one."""
        return self._own is not None and self.run not in self._results.failed

    @property
    def neighbourhood(self) -> Neighbourhood:
        """The optimum with its run's snapshots. Raises StageError when the training left none."""
        if self._own is None:
            raise StageError(f"run {self.run} has no optimum: its training failed")
        return self._own

    def neighbourhood_of(self, entry: Method) -> Neighbourhood:
        """The optimum with the snapshots that a method stands on; without any where there are fewer than two."""
        if entry.trained != "continued" and entry.of is None:
            return self.neighbourhood
        if entry.name not in self._others:
            if entry.of is None:
                thetas = self._thetas(self.chain(entry)["kept"])
            else:
                found = self._results.solutions(run=self.run, method=entry.of, sample_set=SampleSet.TYPICAL)
                thetas = [self.remade(solution).theta for solution in found]
            self._others[entry.name] = self._with(self.neighbourhood.theta, thetas)
        return self._others[entry.name]

    @cached_property
    def _results(self) -> Results:
        return self.context.results()

    def chain(self, entry: Method) -> Json:
        """What the chain of a method beside this run left."""
        key = f"{self.run}/{entry.name}"
        for stage in self._results.stages_of(StageKind.CHAIN):
            if (stage.key, stage.state) == (key, StageState.SUCCEEDED):
                extra: Json = stage.result["extra"]
                return extra
        raise StageError(f"chain/{key} has not finished")

    def _thetas(self, kept: Sequence[Json]) -> list[NDArray[np.float32]]:
        return [self.weights.from_tensors(self.network, self.context.artifacts.tensors(one["weights"])) for one in kept]

    def _with(self, theta: NDArray[np.float32], snapshots: list[NDArray[np.float32]]) -> Neighbourhood:
        return Neighbourhood(theta, np.stack(snapshots) if len(snapshots) >= 2 else None, self.layout)

    def place(self, draw: Draw) -> None:
        """Put a draw's weights into the network; batch-norm statistics are estimated again for moved weights."""
        weights, splits = self.weights, self.context.splits
        weights.assign(self.network, draw.theta)
        if weights.has_batch_norm(self.network):
            if np.array_equal(draw.theta, self.neighbourhood.theta):
                weights.assign_buffers(self.network, self.buffers)
            else:
                weights.refresh_batch_norm(self.network, splits.train, splits.transform, BATCH_NORM_IMAGES)

    def place_stored(self, digest: str) -> None:
        """Put stored weights into the network, with the batch-norm statistics stored beside them."""
        self.weights.load_tensors(self.network, self.context.artifacts.tensors(digest))

    def logits(self, draw: Draw, split: str, *, limit: int | None = None) -> NDArray[np.float32]:
        return self.context.logits(self.network, split, mask=draw.mask, limit=limit)

    def accuracy(self, draw: Draw, split: str, limit: int | None = None) -> float:
        self.place(draw)
        labels = self.context.split(split).numpy_labels()
        return accuracy_of(self.logits(draw, split, limit=limit), labels[:limit])

    def remade(self, solution: Solution) -> Draw:
        """The draw a sample of this run came from, made again from its seed, index, attempt and strength."""
        assert solution.method is not None
        assert solution.seed is not None
        assert solution.attempt is not None
        assert solution.strength is not None
        assert solution.sample_set is not None
        entry = methods[solution.method]
        return remake(
            entry,
            self.neighbourhood_of(entry),
            options_of(self.context.spec, entry),
            sample_set=solution.sample_set,
            index=solution.index,
            attempt=solution.attempt,
            strength=solution.strength,
            seed=solution.seed,
        )

    def placed(self, solutions: Iterable[Solution]) -> Iterator[Placed[Solution]]:
        """Solutions of this run, one after another, exactly as they were when their predictions were kept."""
        for solution in solutions:
            mask = self.place_solution(solution)
            yield Placed(solution, self.network, mask)

    def place_solution(self, solution: Solution) -> ActivationMask | None:
        """Put any solution of this run into the network, exactly as it was when its predictions were kept; the mask it
        predicts under, if it is a sample of activation dropout. Stored weights are loaded, others made again."""
        if solution.weights is not None:
            self.place_stored(solution.weights)
            return None
        draw = self.remade(solution)
        self.place(draw)
        return draw.mask
