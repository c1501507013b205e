"""One run's optimum and what lies around it: any solution of the run can be put back into the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modescape.registry import methods
from modescape.science.predictions import accuracy as accuracy_of
from modescape.science.subspace import ActivationMask, Draw, Neighbourhood, remake
from modescape.stages.stage import Context
from modescape.tables import Solution

BATCH_NORM_IMAGES = 2000


class Around:
    """One run's optimum with what samplers and evaluations around it need."""

    def __init__(self, context: Context, run: int) -> None:
        from modescape.science import weights

        self.context, self.weights = context, weights
        self.network = context.network()
        trained = context.need("train", f"{run}")
        optimum = context.artifacts.tensors(trained["checkpoints"][-1]["weights"])
        weights.load_tensors(self.network, optimum)
        self.buffers = weights.buffers(self.network)
        layout = [(piece.name, piece.shape) for piece in weights.names_and_shapes(self.network)]
        snapshots = [
            weights.from_tensors(self.network, context.artifacts.tensors(snapshot["weights"]))
            for snapshot in trained["snapshots"]
        ]
        self.neighbourhood = Neighbourhood(
            weights.flatten(self.network), np.stack(snapshots) if len(snapshots) >= 2 else None, layout
        )

    def place(self, draw: Draw) -> None:
        """Put a draw's weights into the network; batch-norm statistics are estimated again for moved weights."""
        weights, splits = self.weights, self.context.splits
        weights.assign(self.network, draw.theta)
        if weights.has_batch_norm(self.network):
            if np.array_equal(draw.theta, self.neighbourhood.theta):
                weights.assign_buffers(self.network, self.buffers)
            else:
                weights.refresh_batch_norm(self.network, splits.train, splits.transform, BATCH_NORM_IMAGES)

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
        entry = methods[solution.method]
        chosen = next(m for m in self.context.spec.methods if m.method == entry.name)
        return remake(
            entry,
            self.neighbourhood,
            entry.options.model_validate(chosen.options),
            sample_set="spread" if solution.sample_set == "spread" else "typical",
            index=solution.index,
            attempt=solution.attempt,
            strength=solution.strength,
            seed=solution.seed,
        )

    def place_solution(self, solution: Solution) -> ActivationMask | None:
        """Put any solution of this run into the network, exactly as it was when its predictions were kept; the mask it
        predicts under, if it is a sample of activation dropout. Stored weights are loaded, others made again."""
        if solution.weights is not None:
            self.weights.load_tensors(self.network, self.context.artifacts.tensors(solution.weights))
            return None
        draw = self.remade(solution)
        self.place(draw)
        return draw.mask
