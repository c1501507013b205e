# %% [markdown]
# # Your own pictures
#
# A folder with one folder a class is all that is needed. Here such a folder is written first: noisy discs and squares
# of 12 by 12 pixels. With pictures of your own, leave that cell out.

# %%
from pathlib import Path

import numpy as np
from PIL import Image

import modescape as ms

rng = np.random.default_rng(0)
up, across = np.mgrid[:12, :12]
for i in range(400):
    centre, size = rng.uniform(5, 6, 2), rng.uniform(3, 5)
    apart = abs(up - centre[0]), abs(across - centre[1])
    far = np.hypot(*apart) if i % 2 else np.maximum(*apart)
    noisy = np.clip((far < size) * 0.5 + rng.normal(0.3, 0.1, (12, 12)), 0, 1)
    folder = Path("shapes") / ("disc" if i % 2 else "square")
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * noisy).astype(np.uint8)).save(folder / f"{i:03d}.png")

# %% [markdown]
# The set is split by the spec: here 200 pictures to train on, 100 to choose strengths on, 80 to test.

# %%
lab = ms.run(
    {
        "data": {
            "dataset": "folder", "path": str(Path("shapes").resolve()), "input_scale": "standardised",
            "train_images": 200, "validation_images": 100, "test_images": 80,
        },
        "network": {"architecture": "mlp", "options": {"first": 32, "second": 16}},
        "training": {"epochs": 10, "batch_size": 20, "learning_rate": 0.005},
        "ensemble": {"runs": 4},
        "methods": [{"method": "random", "spread": 10, "typical": 5}],
    },
    folder="kept",
)  # fmt: skip
print(lab.sentence())

# %% [markdown]
# Do all runs learn equally well, and is their ensemble better than one of them?

# %%
lab.figure("trajectories").show()
lab.figure("ensembles").show()
