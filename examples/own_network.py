# %% [markdown]
# # A network of your own
#
# Any `torch.nn.Module` that takes images and gives logits. Its size is counted, and which of its units can change
# places is read off a forward pass. Put the next cell into a module that `MODESCAPE_PLUGINS` names, and form, API and
# command line have it too.

# %%
import modescape as ms
from modescape.architectures.architecture import architecture


@architecture("one-layer", title="One hidden layer", source="an example")
def one_layer(channels, height, width, classes, options):
    """24 hidden units with tanh."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 24), nn.Tanh(), nn.Linear(24, classes))


# %%
lab = ms.run(
    {
        "data": {
            "dataset": "digits",
            "input_scale": "unit",
            "train_images": 400,
            "validation_images": 100,
            "test_images": 300,
        },
        "network": {"architecture": "one-layer"},
        "training": {"epochs": 10, "batch_size": 50, "learning_rate": 0.01},
        "ensemble": {"runs": 4},
        "methods": [{"method": "random", "spread": 10, "typical": 5}],
    },
    folder="kept",
)
print(lab.sentence())

# %%
lab.figure("similarity-runs").show()
lab.figure("tsne-samples").show()
