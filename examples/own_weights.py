# %% [markdown]
# # Weights from a training of your own
#
# Networks that were trained anywhere can be judged here: from files of torch or `.safetensors`, one a network. Here two
# small networks are trained first, in plain torch, on the digits of scikit-learn; with files of your own, leave that
# cell out.

# %%
from pathlib import Path

import numpy as np
import torch
from torch import nn

import modescape as ms
from modescape.datasets.loading import load
from modescape.spec_parts import DataSpec

data = {"dataset": "digits", "train_images": 497, "validation_images": 100, "test_images": 1000}
splits = load(DataSpec.model_validate(data), ())
images, labels = splits.train.images.float() / 255, splits.train.labels

Path("checkpoints").mkdir(exist_ok=True)
for seed in range(3):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for epoch in range(30):
        for rows in torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(497)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimiser.step()
    torch.save({"state_dict": network.state_dict(), "seed": seed}, f"checkpoints/{seed}.pt")

# %% [markdown]
# Its layers are those of the network `mlp` here, under other names: they find their places by their order and shapes.
# What else is to be done is said as in any spec.

# %%
lab = ms.import_weights(
    "checkpoints/*.pt",
    architecture="mlp",
    data=data,
    inputs="unit",
    keys="by-order",
    recipe="same",
    spec={
        "methods": [{"method": "random", "spread": 10, "typical": 5}],
        "connectivity": {"points": 11},
    },
    folder="kept",
)
print(lab.sentence())

# %%
lab.figure("similarity-runs").show()
lab.figure("connectivity").show()
