# %% [markdown]
# # Networks whose weights others have published
#
# A plug-in: name it in `MODESCAPE_PLUGINS=published_networks` (with this folder on `PYTHONPATH`), and weights of these
# networks can be imported. Tensors keep the names they have in the authors' files.
#
#     modescape import --weights 'member-*.safetensors' --architecture mnist-mlp200 --data mnist --inputs unit

# %%
from itertools import pairwise

from pydantic import Field

from modescape.architectures.architecture import Layer, architecture, halved
from modescape.registry import Options

# %% [markdown]
# ## An MLP of three hidden layers with batch norm, for MNIST


# %%
def mlp_layers(channels, height, width, classes, options):
    sizes = (channels * height * width, 200, 200, 200)
    for inputs, outputs in pairwise(sizes):
        yield Layer(1, inputs, outputs, norm=200)
    yield Layer(1, 200, classes)


def mlp_wiring(module, wiring):
    before = None
    for linear, norm, group in ((1, 2, "first"), (4, 5, "second"), (7, 8, "third")):
        wiring.layer(module.net[linear - 1], before, group)
        wiring.norm(module.net[norm - 1], group)
        before = group
    wiring.layer(module.net[9], before, None)


@architecture(
    "mnist-mlp200", title="MLP 200-200-200", layers=mlp_layers, source="github.com/RP-13-p/deep-ensembles-asi",
    batch_norm=True, dropout=False, wiring=mlp_wiring,
)  # fmt: skip
def mnist_mlp200(channels, height, width, classes, options):
    """Three hidden layers of 200 units, each with batch norm and ReLU."""
    from torch import nn

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            sizes, layers = (channels * height * width, 200, 200, 200), []
            for inputs, outputs in pairwise(sizes):
                layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            self.net = nn.Sequential(*layers, nn.Linear(200, classes))

        def forward(self, images):
            return self.net(images.flatten(1))

    return Mlp()


# %% [markdown]
# ## A small CNN for CIFAR-10, two optima of which a curve was trained between


# %%
class CurveCnnOptions(Options):
    dropout: float = Field(0.5, ge=0, le=0.9, description="Share of hidden units dropped in training.")


def cnn_layers(channels, height, width, classes, options):
    inputs = channels
    for i, outputs in enumerate((16, 32, 64)):
        yield Layer(9, inputs, outputs, halved(height, i) * halved(width, i))
        inputs = outputs
    yield Layer(1, 64 * 16, 256)
    yield Layer(1, 256, classes)


def cnn_wiring(module, wiring):
    before = None
    for place, group in ((0, "first"), (3, "second"), (6, "third")):
        wiring.layer(module.features[place], before, group)
        before = group
    wiring.layer(module.classifier[2], before, "hidden")
    wiring.layer(module.classifier[5], "hidden", None)


@architecture(
    "cifar-curve-cnn", title="CNN 16-32-64", layers=cnn_layers, options=CurveCnnOptions, dropout=True, min_side=16,
    source="github.com/simoneiriksson/mode-connectivity", wiring=cnn_wiring,
)  # fmt: skip
def cifar_curve_cnn(channels, height, width, classes, options):
    """Three convolutions of 16, 32 and 64 channels, a mean pool to 4 by 4, and a hidden layer of 256 units."""
    from torch import nn

    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            )  # fmt: skip
            self.classifier = nn.Sequential(
                nn.Flatten(), nn.Dropout(options.dropout), nn.Linear(1024, 256), nn.ReLU(),
                nn.Dropout(options.dropout), nn.Linear(256, classes),
            )  # fmt: skip

        def forward(self, images):
            return self.classifier(self.features(images))

    return Cnn()


# %% [markdown]
# ## ResNet-20 with shortcuts that have no weights


# %%
def resnet_layers(channels, height, width, classes, options):
    yield Layer(9, channels, 16, height * width, bias=False, norm=16)
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        positions = halved(height, stage) * halved(width, stage)
        for _ in range(3):
            yield Layer(9, inputs, outputs, positions, bias=False, norm=outputs)
            yield Layer(9, outputs, outputs, positions, bias=False, norm=outputs)
            inputs = outputs
    yield Layer(1, 64, classes)


@architecture(
    "resnet20-a", title="ResNet-20 (A)", layers=resnet_layers, batch_norm=True, dropout=False, min_side=8,
    decay_on="weights", source="github.com/akamaster/pytorch_resnet_cifar10",
    unaligned="its shortcuts pad channels with zeros, which ties channels of different widths to their places",
)  # fmt: skip
def resnet20_a(channels, height, width, classes, options):
    """Nine residual blocks of 16, 32 and 64 channels; shortcuts take every other pixel and add channels of zeros."""
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.stride, self.padding = (1 if inputs == outputs else 2), (outputs - inputs) // 2
            self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)

        def forward(self, x):
            out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            if self.padding:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
            return F.relu(out + x)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            inputs = 16
            for number, outputs in enumerate((16, 32, 64), 1):
                blocks = [Block(inputs if i == 0 else outputs, outputs) for i in range(3)]
                setattr(self, f"layer{number}", nn.Sequential(*blocks))
                inputs = outputs
            self.linear = nn.Linear(64, classes)

        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    return ResNet()
