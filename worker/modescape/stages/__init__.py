"""Every kind of stage: each module says what it does, when it is part of a plan, and what it costs. Imports no torch.

PLANNERS is the order in which stages are planned, and so claimed. A new kind is a module here and a name in that list;
new ones go to the end of their block, because solution numbers are given in this order.
"""

from __future__ import annotations

from modescape.stages import (
    chain,
    compare,
    connectivity,
    embed,
    ensemble,
    instability,
    last,
    look,
    ood,
    plane,
    predict,
    sample,
    seeds,
    shift,
    strength,
    train,
    tunnel,
)
from modescape.stages.stage import KINDS

PLANNERS = (
    train.plan,
    predict.plan,
    compare.plan_trajectories,
    embed.plan_trajectories,
    chain.plan,
    sample.plan,
    strength.plan,
    sample.plan_fair,
    last.plan,
    compare.plan_all,
    embed.plan_samples,
    ensemble.plan,
    ood.plan,
    shift.plan,
    seeds.plan,
    instability.plan,
    plane.plan,
    tunnel.plan,
    connectivity.plan,
    shift.plan_check,
    look.plan,
)

__all__ = ["KINDS", "PLANNERS"]
