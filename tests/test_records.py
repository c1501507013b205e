"""The words of rows and documents, and what stages hand over: explained, registered, and stored as they stand."""

from __future__ import annotations

import ast
import inspect
import tokenize
from enum import StrEnum
from io import StringIO

import pytest
from sqlalchemy import text

from modescape import records
from modescape.database import open_database
from modescape.records import (
    EventKind,
    ListColumns,
    NewMeasurement,
    NewSolution,
    PlannedStage,
    PredictedRun,
    Role,
    SampleSet,
    StageKind,
    StageOutput,
    StageState,
    Status,
    TrainedRun,
)
from modescape.spec import parse
from modescape.stages import KINDS
from modescape.store import Store
from modescape.tables import Stage

ENUMS = [found for found in vars(records).values() if isinstance(found, type) and issubclass(found, StrEnum)]


@pytest.mark.parametrize("words", [found for found in ENUMS if found is not StrEnum], ids=lambda words: words.__name__)
def test_every_word_has_a_line_of_explanation(words: type[StrEnum]) -> None:
    source = inspect.getsource(words)
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    [tree] = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    lines = {node.lineno: node.targets[0] for node in tree.body if isinstance(node, ast.Assign)}
    assert len(lines) == len(words)
    assert {line for line in lines if len(comments.get(line, "")) < 5} == set()


def test_stages_that_other_rooms_speak_of_are_registered_and_fit_their_column() -> None:
    assert set(StageKind) <= set(KINDS)
    width = Stage.__table__.c.kind.type.length
    assert width is None or all(len(kind) <= width for kind in KINDS)


def test_every_state_a_stage_comes_into_is_an_event() -> None:
    """But blocked: nothing happens when a stage begins to wait."""
    told = {EventKind.of(state) for state in StageState if state != StageState.BLOCKED}
    assert told == {kind for kind in EventKind if kind.startswith("stage-")}
    with pytest.raises(ValueError, match="stage-blocked"):
        EventKind.of(StageState.BLOCKED)


def test_words_are_stored_as_texts_and_read_as_words(store: Store) -> None:
    spec = parse({"ensemble": {"runs": 1}})
    row = store.experiments.create(name="words", spec=spec, stages=[PlannedStage("train", "0")])
    with open_database(store.url).connect() as connection:
        assert connection.execute(text("SELECT status FROM experiment")).scalar_one() == "queued"
        assert connection.execute(text("SELECT state FROM stage")).scalar_one() == "ready"
        connection.execute(text("UPDATE stage SET wish = 'pause'"))
        connection.commit()
    assert store.experiments.get(row.id).status is Status.QUEUED
    [stage] = store.stages.of(row.id)
    assert (stage.state, stage.wish) == (StageState.READY, records.Wish.PAUSE)
    assert isinstance(stage.state, StageState)
    assert isinstance(stage.wish, records.Wish)


def test_an_output_is_the_same_after_it_was_stored() -> None:
    output = StageOutput(
        solutions=[NewSolution(number=3, run=1, role=Role.SAMPLE, index=0, sample_set=SampleSet.FAIR)],
        measurements=[NewMeasurement(metric="accuracy", value=None, solution=3)],
        runs={0: TrainedRun({"precision": "fp32"}), 1: PredictedRun(None, 0.5, "")},
        experiment=ListColumns(accuracy=0.5, finding={"split": "test"}),
        weights={3: "0" * 64},
        extra={"skipped": "no reason"},
    )
    again = StageOutput.from_json(output.to_json())
    assert again == output
    assert isinstance(again.solutions[0].role, Role)


@pytest.mark.parametrize(("kept", "now"), [
    ("ensemble/optimum/4", "ensemble/independent/4"), ("ood/0/optimum", "ood/0/independent"), ("optima", "independent"),
    ("ensemble/my-optimum/4", "ensemble/my-optimum/4"), ("shift/independent", "shift/independent"), ("", ""),
])  # fmt: skip
def test_outputs_kept_under_an_old_name_of_a_group_are_read_under_its_name(kept: str, now: str) -> None:
    whole = StageOutput(
        measurements=[NewMeasurement(metric="js_mean", value=0.5, subject=kept, details={"group": kept})]
    )
    [measured] = StageOutput.from_json(whole.to_json()).measurements
    assert (measured.subject, measured.details) == (now, {"group": now})


def test_what_is_not_told_is_not_stored() -> None:
    """It would overwrite what another stage has told."""
    stored = StageOutput(runs={0: TrainedRun({}), 1: PredictedRun(None, None, "diverged")}).to_json()
    assert stored["runs"] == {
        "0": {"arithmetic": {}},
        "1": {"accuracy": None, "best_accuracy": None, "failed": "diverged"},
    }
    assert stored["experiment"] == {}
    assert ListColumns(disagreement=0.25).told() == {"disagreement": 0.25}
