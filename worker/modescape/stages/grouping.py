"""How a worker trains the runs of an experiment: one at a time, or which way and how many at once.

On a processor runs are trained alone unless the spec says otherwise: a core each, they share nothing worth sharing. On
a GPU the way is measured once for a card, a network on a shape of data and a version of torch; the database keeps what
was found, so that all workers of a home agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modescape.errors import InvalidInput
from modescape.records import Json, StageKind
from modescape.stages.given import GIVEN
from modescape.stages.stage import Context

if TYPE_CHECKING:
    import torch

    from modescape.training_groups import Way

GROUPING = "grouping"  # the catalogue's kind of what was measured
MOST = 64
WORTH = 1.3  # how many times faster stacked must be than branches, whose bits are those of runs alone


@dataclass(frozen=True)
class Group:
    """members: at most so many at once."""

    way: Way
    members: int


def group_of(context: Context, *, title: str) -> Group | None:
    """How the runs of a claimed training's experiment are trained on `context.device`, a machine of that title; None:
    each alone.

    Raises InvalidInput where the spec asks for what its networks do not allow.
    """
    if context.lease.stage.kind != StageKind.TRAIN or GIVEN in context.params:
        return None
    import torch

    grouping = context.spec.ensemble.grouping
    if grouping == "alone" or (grouping == "auto" and torch.device(context.device).type != "cuda"):
        return None
    from modescape.training_groups import cannot_be, members_that_fit, memory_of

    network, splits, training = context.network(), context.splits, context.spec.training
    asked = asked_way(context, network)
    if asked is None and cannot_be("branches", [network], training) is not None:
        return None
    needed = memory_of(network, splits, training, context.device)
    way = asked or _way(context, network, title)
    fit = members_that_fit(free_memory(context.device), needed, way)
    return Group(way, min(fit, MOST)) if fit > 1 else None


def asked_way(context: Context, network: torch.nn.Module) -> Way | None:
    """The way that the spec names; None where it leaves that to the machine. Raises InvalidInput where the networks
    cannot be trained so."""
    from modescape.training_groups import cannot_be

    grouping = context.spec.ensemble.grouping
    if grouping not in ("branches", "stacked"):
        return None
    if (why := cannot_be(grouping, [network], context.spec.training)) is not None:
        raise InvalidInput(why, field="ensemble.grouping", allowed="auto, alone")
    return grouping


def _way(context: Context, network: torch.nn.Module, title: str) -> Way:
    """What was measured on this card, or is now."""
    import torch

    from modescape.training_groups import cannot_be, measure

    training = context.spec.training
    if cannot_be("stacked", [network], training) is not None:
        return "branches"
    catalogue = context.store.catalogue
    shape = (context.lease.stage.work or {}).get("shape", context.spec.network.architecture)
    name = f"{title} / {shape} / batch {training.batch_size} / torch {torch.__version__}"
    kept = catalogue.entry(GROUPING, name)
    if kept is None:
        found = measure(network, context.splits, training, context.device)
        kept = catalogue.put_first(GROUPING, name, {str(way): speed for way, speed in found.items()})
    return faster(kept.details)


def faster(measured: Json) -> Way:
    """Of training images a second, by way, the way to take."""
    return "stacked" if measured["stacked"] >= WORTH * measured["branches"] else "branches"


def free_memory(device: str) -> int:
    """Bytes that a group may take there: of a card nine tenths of what is free, of a machine, which others use too, a
    quarter."""
    import torch

    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.9)
    about = Path("/proc/meminfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return kilobytes[0] * 1024 // 4 if kilobytes else 2**31
