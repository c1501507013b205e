"""Who trains a member. Others come as plug-ins: see docs/how-to/own-recipe.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.errors import InvalidInput
from modescape.recipes.recipe import trainer
from modescape.registry import NoOptions
from modescape.spec_parts import OURS

if TYPE_CHECKING:
    from modescape.training import Member


@trainer(OURS, title="Our own loop", source="science c", place=10)
def ours(member: Member, options: NoOptions) -> None:
    """Step by step, from optimiser, schedule, loss and augmentation; a killed run goes on in the middle of an epoch."""
    raise InvalidInput("our own loop is `modescape.training.train`; it takes no member", field="training.trainer")
