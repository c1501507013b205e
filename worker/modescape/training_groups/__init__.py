"""Training several members of an ensemble at once, on one device.

    ended = train_group([Trainee(network, seeds, listener), ...], splits, spec.training, way="stacked")

Small networks leave a card idle: a step is many launches of microseconds. A group shares them. Members are what they
are alone: each has its seeds, its listener, its saved states, at whatever step it is resumed; one that stops, fails or
ends leaves the group, which goes on. Of two ways

- **branches** makes each member's own step in turn: to the bit what it is alone;
- **stacked** makes one step of all at once, as one function of all their weights [M, P] (`torch.func.vmap`). From equal
  states its gradients are those of the members alone up to rounding; bits are another numerics class.

Everything random is drawn by member and step as alone, so both ways see the same images, masks and augmentation. On a
GPU a step is captured once and repeated by the card (`on_card.py`), also that of a member alone.
"""

from modescape.training_groups.group import Trainee, Way, cannot_be, train_alone, train_group
from modescape.training_groups.sizes import Memory, measure, members_that_fit, memory_of

__all__ = [
    "Memory",
    "Trainee",
    "Way",
    "cannot_be",
    "measure",
    "members_that_fit",
    "memory_of",
    "train_alone",
    "train_group",
]
