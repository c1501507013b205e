"""What every entry keeps to, as functions for anybody's own tests: each takes an entry, or its name.

    from modescape.testing import check_method

    def test_my_method() -> None:
        import own_entries
        check_method("gn-noise")         # ContractBroken names the entry, the rule it breaks, and what was found

    modescape plugins check own_entries.py           # the same for all that a module declares, from a shell

Each function's documentation lists its rules. `made` does small experiments for figures, `evidence` makes what claims
are judged on. Needs no pytest; nothing of the product looks in here.
"""

from collections.abc import Callable, Mapping

from modescape.testing.architectures import check_architecture
from modescape.testing.claims import check_claim
from modescape.testing.contract import Checked, ContractBroken
from modescape.testing.corruptions import check_corruption
from modescape.testing.datasets import check_dataset
from modescape.testing.figures import check_figure
from modescape.testing.methods import check_method
from modescape.testing.presets import check_preset
from modescape.testing.recipes import (
    RECIPES,
    check_augmentation,
    check_loss,
    check_optimiser,
    check_schedule,
    check_trainer,
)
from modescape.testing.stores import check_store
from modescape.testing.studies import check_study

# By the name of their registry.
CHECKS: Mapping[str, Callable[..., Checked]] = {
    "datasets": check_dataset,
    "architectures": check_architecture,
    "methods": check_method,
    "corruptions": check_corruption,
    "studies": check_study,
    "figures": check_figure,
    "presets": check_preset,
    "claims": check_claim,
    **RECIPES,
}

__all__ = [
    "CHECKS", "Checked", "ContractBroken",
    "check_architecture", "check_augmentation", "check_claim", "check_corruption", "check_dataset", "check_figure",
    "check_loss", "check_method", "check_optimiser", "check_preset", "check_schedule", "check_store", "check_study",
    "check_trainer",
]  # fmt: skip
