"""Every classifier of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from modescape.architectures.architecture import architecture
from modescape.architectures.libraries import LibraryOptions, fitted, known, names_of, refused
from modescape.imported.tensor_names import Slot, without_prefixes

if TYPE_CHECKING:
    from torch import nn

_OF_TWO_ANSWERS = ("googlenet", "inception_v3")  # one of which is for training alone


class TorchvisionOptions(LibraryOptions):
    model: str = Field("resnet18", max_length=100, description="Name of a classifier of torchvision.")

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        return known("torchvision", name)


@architecture(
    "torchvision",
    title="torchvision network",
    options=TorchvisionOptions,
    source="TorchVision maintainers 2016; the model's own paper",
    initial="as the model's own code draws them",
    place=70,
)
def torchvision_model(channels: int, height: int, width: int, classes: int, options: TorchvisionOptions) -> nn.Module:
    """Any of the library's classifiers by name, from random weights."""
    from torchvision import models

    side = options.image_size or height
    try:
        builder = models.get_model_builder(options.model)
        given: dict[str, Any] = {"weights": None, "num_classes": classes, **options.more}
        if options.model.startswith("vit_"):
            given.setdefault("image_size", side)
        if options.model.startswith("maxvit_"):
            given.setdefault("input_size", (side, side))
        if options.model in _OF_TWO_ANSWERS:
            given |= {"aux_logits": False, "init_weights": True}  # one answer an image
        module: nn.Module = builder(**given)
        if channels != 3:
            _take(module, channels)
    except Exception as error:  # its own code
        raise refused("torchvision", options, error) from error
    return fitted(module, classes, options, scaled=True)


_FAMILIES = {  # by a name that their tensors begin with: building all takes seconds
    "layer1": ("resnet", "resnext", "wide_resnet"),
    "features": ("alexnet", "convnext", "densenet", "efficientnet", "mobilenet", "squeezenet", "swin", "vgg"),
    "layers": ("mnasnet", "vit"),
    "stage2": ("shufflenet",),
    "inception3a": ("googlenet",),
    "Mixed_5b": ("inception",),
    "blocks": ("maxvit",),
}


def resembling(found: Sequence[Slot]) -> str:
    """The classifier of torchvision whose tensors have these names, and most of these shapes; "" where there is none,
    or no torchvision. RegNets, which draw their weights as they are built, are not looked at."""
    named = without_prefixes(found)
    beginnings = {name.partition(".")[0] for name in named}
    families = tuple(one for first, some in _FAMILIES.items() if first in beginnings for one in some)
    candidates = sorted(name for name in names_of("torchvision") if name.startswith(families))
    if not candidates:
        return ""
    import torch
    from torchvision import models

    best, most = "", -1
    for name in candidates:
        given = {"aux_logits": False, "init_weights": False} if name in _OF_TWO_ANSWERS else {}
        with torch.device("meta"):
            module = models.get_model(name, weights=None, **given)
        own = without_prefixes([Slot(at, tuple(value.shape)) for at, value in module.state_dict().items()])
        alike = sum(named[at].shape == one.shape for at, one in own.items()) if own.keys() == named.keys() else -1
        best, most = (name, alike) if alike > most else (best, most)
    return best


def _take(module: nn.Module, channels: int) -> None:
    """Put in place of the first convolution one that takes so many channels."""
    from torch import nn

    name, first = next((name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d))
    about: Any = first  # its sizes are typed as tuples of any length
    own = nn.Conv2d(
        channels, about.out_channels, about.kernel_size, about.stride, about.padding, about.dilation,
        bias=about.bias is not None,
    )  # fmt: skip
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, own)
