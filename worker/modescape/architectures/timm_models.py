"""Every network of the library timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from modescape.architectures.architecture import architecture
from modescape.architectures.libraries import LibraryOptions, fitted, known, refused
from modescape.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn


class TimmOptions(LibraryOptions):
    model: str = Field("resnet18", max_length=100, description="Name of a model of timm, such as vit_tiny_patch16_224.")

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        return known("timm", name)


@architecture(
    "timm",
    title="timm network",
    options=TimmOptions,
    source="Wightman 2019, PyTorch Image Models; the model's own paper",
    initial="as the model's own code draws them",
    place=80,
)
def timm_model(channels: int, height: int, width: int, classes: int, options: TimmOptions) -> nn.Module:
    """Any of the library's image models by name, from random weights; `pip install 'modescape[timm]'`."""
    try:
        import timm
    except ModuleNotFoundError:
        raise InvalidInput(
            "timm is not installed: pip install 'modescape[timm]'", field="network.architecture"
        ) from None
    sides = (options.image_size,) * 2 if options.image_size is not None else (height, width)
    given = {"num_classes": classes, "in_chans": channels, **options.more}
    if timm.get_pretrained_cfg_value(options.model, "fixed_input_size"):  # others take images of any size
        given.setdefault("img_size", sides)
    try:
        module = timm.create_model(options.model, pretrained=False, **given)
    except Exception as error:  # its own code, of a thousand models
        raise refused("timm", options, error) from error
    return fitted(module, classes, options, scaled=True)
