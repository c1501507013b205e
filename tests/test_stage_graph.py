"""The stage graph: properties of random graphs against rules written a second time, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from modescape.records import StageState, Status
from modescape.stage_graph import Arrow, Graph, Move, status

BLOCKED, READY, RUNNING, PAUSED = StageState.BLOCKED, StageState.READY, StageState.RUNNING, StageState.PAUSED
SUCCEEDED, FAILED, CANCELLED = StageState.SUCCEEDED, StageState.FAILED, StageState.CANCELLED
SEEDS = range(60)

States = dict[str, StageState]


def random_graph(rng: np.random.Generator) -> tuple[list[str], list[Arrow]]:
    """Up to 25 stages in the order of a plan, each waiting for some before it; ids that sort otherwise."""
    n = int(rng.integers(1, 26))
    names = [f"{i:02}" for i in rng.permutation(n)]
    share = rng.uniform(0.05, 0.5)
    arrows = [
        Arrow(names[i], names[j], optional=bool(rng.random() < 0.4))
        for i in range(n)
        for j in range(i)
        if rng.random() < share
    ]
    return names, [arrows[i] for i in rng.permutation(len(arrows))]


def random_states(rng: np.random.Generator, names: Sequence[str]) -> States:
    chances = [0.5, 0.08, 0.08, 0.04, 0.2, 0.06, 0.04]
    return {name: list(StageState)[rng.choice(len(chances), p=chances)] for name in names}


def after(states: States, moves: Sequence[Move]) -> States:
    return {**states, **{move.stage: move.state for move in moves}}


def expected(name: str, states: Mapping[str, StageState], arrows: Sequence[Arrow]) -> StageState:
    """What a stage becomes, by the sentences of the documentation: one stage at a time, from what it waits for."""
    if states[name] != BLOCKED:
        return states[name]
    waits = [(expected(arrow.need, states, arrows), arrow.optional) for arrow in arrows if arrow.stage == name]
    if [state for state, _ in waits if state == CANCELLED]:
        return CANCELLED
    if [state for state, optional in waits if state == FAILED and not optional]:
        return FAILED
    if waits and all(state == FAILED for state, _ in waits):
        return FAILED
    needed = [state for state, optional in waits if not optional]
    wanted = [state for state, optional in waits if optional]
    done = all(state == SUCCEEDED for state in needed) and all(state in (SUCCEEDED, FAILED) for state in wanted)
    return READY if done else BLOCKED


@pytest.mark.parametrize("seed", SEEDS)
def test_every_blocked_stage_becomes_what_the_rules_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, arrows = random_graph(rng)
    states = random_states(rng, names)
    settled = after(states, Graph(states, arrows).settle())
    assert settled == {name: expected(name, states, arrows) for name in names}


@pytest.mark.parametrize("seed", SEEDS)
def test_settling_is_done_in_one_go_and_does_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    names, arrows = random_graph(rng)
    states = random_states(rng, names)
    moves = Graph(states, arrows).settle()
    settled = after(states, moves)
    assert len({move.stage for move in moves}) == len(moves), "each stage moves once"
    assert all(states[move.stage] == BLOCKED for move in moves), "only blocked stages move"
    assert Graph(settled, arrows).settle() == []
    shuffled = {name: states[name] for name in rng.permutation(names)}
    assert after(states, Graph(shuffled, list(reversed(arrows))).settle()) == settled
    only = [arrow for arrow in arrows if states[arrow.stage] == BLOCKED]
    assert Graph(states, only).settle() == moves, "arrows of other stages do not matter"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_holds_what_would_be_ready_and_changes_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    names, arrows = random_graph(rng)
    states = random_states(rng, names)
    free, held = Graph(states, arrows).settle(), Graph(states, arrows).settle(paused=True)
    assert [Move(m.stage, PAUSED if m.state == READY else m.state, m.because) for m in free] == held


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failure_names_a_failed_stage_that_it_waits_for_and_cannot_do_without(seed: int) -> None:
    rng = np.random.default_rng(3000 + seed)
    names, arrows = random_graph(rng)
    states = random_states(rng, names)
    now = dict(states)
    for move in Graph(states, arrows).settle():
        waits = sorted((a for a in arrows if a.stage == move.stage), key=lambda a: (a.optional, names.index(a.need)))
        failed = [arrow for arrow in waits if now[arrow.need] == FAILED]
        assert (move.because is not None) == (move.state == FAILED)
        if move.because is not None:
            assert move.because == failed[0].need, "the first in the plan, those that must succeed before others"
            assert not failed[0].optional or len(failed) == len(waits)
        now[move.stage] = move.state


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_to_stages_an_experiment_comes_to_an_end(seed: int) -> None:
    """Claim and end stages at random until none is left: nothing stays blocked, nothing starts too early."""
    rng = np.random.default_rng(4000 + seed)
    names, arrows = random_graph(rng)
    states = dict.fromkeys(names, BLOCKED)
    ends = rng.dirichlet([8, 1, 0.3])
    seen = []
    while moves := Graph(states, arrows).settle():
        states = after(states, moves)
        ready = [name for name in names if states[name] == READY]
        if not ready:
            break
        for name in rng.permutation(ready)[: int(rng.integers(1, 4))]:
            waits = [arrow for arrow in arrows if arrow.stage == name]
            assert all(states[arrow.need] == SUCCEEDED for arrow in waits if not arrow.optional)
            assert all(states[arrow.need] in (SUCCEEDED, FAILED) for arrow in waits)
            states[name] = (SUCCEEDED, FAILED, CANCELLED)[rng.choice(3, p=ends)]
            seen.append(name)
        while ready := [name for name in names if states[name] == READY]:  # the others of this round
            states[ready[0]] = SUCCEEDED
    assert seen
    assert all(state.has_ended for state in states.values())
    assert status([(state, False) for state in states.values()], started=True).has_ended


@pytest.mark.parametrize("seed", SEEDS)
def test_relatives_are_those_a_path_leads_to_or_comes_from(seed: int) -> None:
    rng = np.random.default_rng(5000 + seed)
    names, arrows = random_graph(rng)
    n = len(names)
    leads = np.eye(n, dtype=int)
    for arrow in arrows:
        leads[names.index(arrow.stage), names.index(arrow.need)] = 1
    reaches = np.linalg.matrix_power(leads, n) > 0
    graph = Graph(dict.fromkeys(names, BLOCKED), arrows)
    for i, name in enumerate(names):
        assert graph.relatives(name) == {names[j] for j in range(n) if reaches[i, j] or reaches[j, i]}


@pytest.mark.parametrize(
    ("stages", "started", "word"),
    [
        ([], False, "succeeded"),
        ([(BLOCKED, False), (READY, False)], False, "queued"),
        ([(BLOCKED, False), (SUCCEEDED, False)], True, "running"),
        ([(FAILED, False), (READY, False)], True, "running"),
        ([(PAUSED, False), (READY, False)], True, "paused"),
        ([(PAUSED, False), (RUNNING, False)], True, "running"),
        ([(SUCCEEDED, False), (FAILED, True)], True, "succeeded"),
        ([(SUCCEEDED, False), (FAILED, False)], True, "failed"),
        ([(CANCELLED, False), (FAILED, False)], True, "cancelled"),
        ([(CANCELLED, True), (SUCCEEDED, False)], True, "cancelled"),
    ],
)
def test_an_experiment_stands_as_its_stages_do(stages: list[tuple[StageState, bool]], started: bool, word: str) -> None:
    assert status(stages, started=started) == Status(word)
