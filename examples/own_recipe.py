# %% [markdown]
# # A recipe of your own
#
# How networks are trained is made of parts: an optimiser, a schedule, a loss, an augmentation, each one decorated
# function. Where a loop of your own trains, or another library, a trainer hands weights over after every epoch; it may
# do whatever it likes in between. Put this cell into a module that `MODESCAPE_PLUGINS` names, and form, API and command
# line have its parts too. Nothing here loads torch before it is used.

# %%
from pydantic import Field

import modescape as ms
from modescape.recipes.recipe import Moment, optimiser, schedule, trainer
from modescape.registry import NoOptions, Options


@optimiser("averaged-descent", title="Averaged descent", source="Polyak and Juditsky 1992")
def averaged_descent(weights, options: NoOptions, training):
    """Descent that remembers the mean of its steps, as torch has it."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(weights, torch.optim.ASGD)


@schedule("triangle", title="Triangle", source="Smith 2017")
def triangle(moment: Moment, options: NoOptions, training) -> float:
    """Up along a straight line for half of the steps, and down again."""
    return training.learning_rate * (1 - abs(2 * (moment.step + 1) / moment.steps - 1))


class SharpnessOptions(Options):
    radius: float = Field(0.05, ge=0, le=10, description="How far the gradient is looked for from where weights are.")


@trainer("sharpness-aware", title="Sharpness-aware", source="Foret et al. 2021, algorithm 1", options=SharpnessOptions)
def sharpness_aware(member, options: SharpnessOptions):
    """Descent along gradients taken where the loss nearby is highest, so that minima are flat."""
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy

    network, training, images = member.network, member.training, member.splits.train
    momentum = torch.optim.SGD(network.parameters(), lr=training.learning_rate, momentum=training.momentum)
    parameters = list(network.parameters())
    for i, kept in member.state.items():  # what was handed over with the last epoch: of a run that goes on
        momentum.state[parameters[int(i)]]["momentum_buffer"] = torch.from_numpy(kept).to(member.device)

    def slope(rows):
        network.zero_grad()
        loss = cross_entropy(network(member.splits.transform(images.batch(rows))), images.labels[rows])
        loss.backward()
        return float(loss.detach())

    for _ in member.remaining:
        losses = []
        order = torch.from_numpy(member.rng.permutation(len(images))).to(member.device)
        for rows in order.split(training.batch_size):
            member.check()  # a pause or a stop is heard here
            losses.append(slope(rows))
            length = torch.sqrt(sum((p.grad**2).sum() for p in parameters)) + 1e-12
            away = [options.radius * p.grad / length for p in parameters]
            with torch.no_grad():
                for p, step in zip(parameters, away, strict=True):
                    p.add_(step)
            slope(rows)
            with torch.no_grad():
                for p, step in zip(parameters, away, strict=True):
                    p.sub_(step)
            momentum.step()
        buffers = [momentum.state[p]["momentum_buffer"] for p in parameters]
        state = {f"{i}": buffer.cpu().numpy() for i, buffer in enumerate(buffers)}
        member.hand_over(loss=float(np.mean(losses)), state=state)


# %%
spec = {
    "data": {
        "dataset": "digits",
        "input_scale": "unit",
        "train_images": 400,
        "validation_images": 100,
        "test_images": 300,
    },
    "network": {"architecture": "mlp", "options": {"first": 32, "second": 16}},
    "training": {
        "trainer": "sharpness-aware",
        "trainer_options": {"radius": 0.02},
        "epochs": 12,
        "batch_size": 25,
        "learning_rate": 0.05,
        "snapshots": 4,
    },
    "ensemble": {"runs": 4},
    "methods": [{"method": "random", "spread": 10, "typical": 5}],
}

if __name__ == "__main__":
    flat = ms.run(spec, folder="flat")
    print(flat.sentence())

# %% [markdown]
# The same runs by our own loop, with the other two parts, label smoothing and mixed examples.

# %%
if __name__ == "__main__":
    parts = {
        "optimiser": "averaged-descent",
        "schedule": "triangle",
        "loss": "label-smoothing",
        "loss_options": {"smoothing": 0.05},
        "augmentation": "mixup",
        "epochs": 12,
        "batch_size": 25,
        "learning_rate": 0.1,
        "snapshots": 4,
    }
    plain = ms.run({**spec, "training": parts}, folder="plain")
    print(plain.sentence())
    flat.figure("similarity-runs").show()
    plain.figure("plane").show()
