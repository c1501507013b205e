# %% [markdown]
# # A method of your own
#
# A method takes the neighbourhood of a solution, a strength and random numbers, and gives weights. How strong its
# samples are to be is decided as for every other method, and so is how they are judged. Put the next cell into a file
# in `worker/modescape/methods`, and form, API and command line have it too.

# %%
import modescape as ms
from modescape.methods.method import Draw, Neighbourhood, SampledOptions, draw_at, method


@method(
    "shrinkage",
    title="Shrinkage",
    summary="Each weight kept or pulled towards zero, at random.",
    source="an example",
    centre="optimum",
    strength="rate",
    options=SampledOptions,
)
def shrinkage(around: Neighbourhood, options: SampledOptions, strength: float, rng) -> Draw:
    """theta_0 times numbers between 1 - 2 s and 1, so that a rate s shrinks weights by s on average."""
    return draw_at(around, around.theta * (1 - 2 * strength * rng.random(around.theta.size)), strength)


# %%
lab = ms.run(
    {
        "data": {
            "dataset": "digits",
            "input_scale": "unit",
            "train_images": 400,
            "validation_images": 190,
            "test_images": 300,
        },
        "network": {"architecture": "mlp", "options": {"first": 32, "second": 16}},
        "training": {"epochs": 8, "batch_size": 50, "learning_rate": 0.005},
        "ensemble": {"runs": 4},
        "methods": [
            {"method": "shrinkage", "spread": 20, "typical": 5},
            {"method": "random", "spread": 20, "typical": 5},
        ],
    },
    folder="kept",
)
print(lab.sentence())

# %% [markdown]
# Beside random directions in the plane, and what averaging its samples is worth.

# %%
lab.figure("plane").show()
lab.figure("ensembles").show()
