"""The stage graph as pure data: what may start, what can never be done, and how an experiment stands.

    graph = Graph({"a": StageState.FAILED, "b": StageState.BLOCKED}, [Arrow("b", "a")])
    graph.settle()       # [Move("b", StageState.FAILED, because="a")]

A stage is blocked, ready, running, paused, succeeded, failed or cancelled. A blocked one becomes ready when all that it
needs has succeeded and all that it wants (an optional arrow) has ended. It is cancelled when one of these was, and
fails when something that it needs has failed, or all that it waits for has; so on to what waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from modescape.records import StageState, Status


@dataclass(frozen=True)
class Arrow:
    """`stage` waits for `need`, which must succeed, or (optional) only end. Both are ids."""

    stage: str
    need: str
    optional: bool = False


@dataclass(frozen=True)
class Move:
    """Where a blocked stage goes; because: the id of the stage whose failure it cannot do without."""

    stage: str
    state: StageState
    because: str | None = None


class Graph:
    """The stages of an experiment by id, in the order of the plan, and the arrows between them; without circles."""

    def __init__(self, states: Mapping[str, StageState], arrows: Iterable[Arrow]) -> None:
        self._states = dict(states)
        self._place = {id_: place for place, id_ in enumerate(self._states)}
        self._needs: dict[str, list[Arrow]] = {id_: [] for id_ in self._states}
        for arrow in arrows:
            self._needs[arrow.stage].append(arrow)
        for needs in self._needs.values():
            needs.sort(key=lambda arrow: (arrow.optional, self._place[arrow.need]))

    def settle(self, *, paused: bool = False) -> list[Move]:
        """What every blocked stage becomes that need not wait any more, after those that it waits for; paused: what
        would be ready is held. Doing these moves and asking again gives none."""
        states, moves = dict(self._states), []
        for id_ in self._blocked():
            move = self._move(id_, states, StageState.PAUSED if paused else StageState.READY)
            if move is not None:
                states[id_] = move.state
                moves.append(move)
        return moves

    def _blocked(self) -> Iterable[str]:
        """Blocked stages, each after the blocked ones that it waits for."""
        blocked = [id_ for id_, state in self._states.items() if state is StageState.BLOCKED]
        return TopologicalSorter(
            {id_: [arrow.need for arrow in self._needs[id_] if self._states[arrow.need] is StageState.BLOCKED]
             for id_ in blocked}
        ).static_order()  # fmt: skip

    def _move(self, id_: str, states: Mapping[str, StageState], free: StageState) -> Move | None:
        needs = self._needs[id_]
        if any(states[arrow.need] is StageState.CANCELLED for arrow in needs):
            return Move(id_, StageState.CANCELLED)
        failed = [arrow for arrow in needs if states[arrow.need] is StageState.FAILED]
        if failed and (not failed[0].optional or len(failed) == len(needs)):
            return Move(id_, StageState.FAILED, because=failed[0].need)
        if all(states[arrow.need].has_ended for arrow in needs):
            return Move(id_, free)
        return None

    def relatives(self, stage: str) -> set[str]:
        """A stage, all that it waits for and all that waits for it, directly or not."""
        above = {id_: [arrow.need for arrow in needs] for id_, needs in self._needs.items()}
        below: dict[str, list[str]] = {id_: [] for id_ in self._states}
        for id_, needs in above.items():
            for need in needs:
                below[need].append(id_)
        return _reached(stage, above) | _reached(stage, below)


def _reached(start: str, neighbours: Mapping[str, Collection[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = [other for other in neighbours[waiting.pop()] if other not in found]
        found.update(new)
        waiting += new
    return found


def status(stages: Iterable[tuple[StageState, bool]], *, started: bool) -> Status:
    """How an experiment stands whose stages are so; (state, whether it can succeed without) of each, or of each kind.

    started: whether any stage was ever claimed.
    """
    there = {state for state, optional in stages if not (optional and state is StageState.FAILED)}
    if StageState.RUNNING in there:
        return Status.RUNNING
    if StageState.PAUSED in there:
        return Status.PAUSED
    if there & {StageState.READY, StageState.BLOCKED}:
        return Status.RUNNING if started else Status.QUEUED
    if StageState.CANCELLED in there:
        return Status.CANCELLED
    return Status.FAILED if StageState.FAILED in there else Status.SUCCEEDED
