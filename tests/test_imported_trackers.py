"""Logs of other tools, read as ensembles: real ones beside the project, and small ones made here."""

from __future__ import annotations

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_data import real

from modescape.apart import Asked
from modescape.errors import InvalidInput
from modescape.imported.digest import set_digest
from modescape.imported.door import examine
from modescape.imported.ensemble import OutputKind, Unclear
from modescape.imported.reading import read
from modescape.imported.trackers.logged import curve, value_of
from modescape.imported.writing import write
from modescape.importing import bring_in
from modescape.laboratory import started
from modescape.reading_process import looked, read_sent
from modescape.records import StageState
from modescape.sending import files_below, with_labels

LABELS = np.random.default_rng(0).integers(0, 3, 40)


def outputs(run: int) -> np.ndarray:
    found = np.random.default_rng(run + 1).normal(size=(40, 3)).astype(np.float32)
    found[np.arange(40), LABELS] += 2
    return found


# --- real logs ---


def test_seven_living_runs_of_a_public_mlflow_store_are_read_and_the_deleted_are_named() -> None:
    one = read(real("real/trackers") / "mlruns-files" / "mlruns")
    assert one.name == "Fashion_MNIST_Experiment"
    assert len(one.members) == 7
    assert "run mysterious-goose-781, which was deleted" in one.unread
    rmsprop = next(member for member in one.members if member.id == "salty-bear-997")
    assert dict(rmsprop.config) == {"epochs": 10, "optimizer": "RMSprop"}
    assert one.curves["salty-gull-89"]["val_loss"][:, 1].tolist() == pytest.approx([0.3276152014732361])
    assert one.curves["salty-gull-89"]["val_loss"][0, 2] == pytest.approx(1691411878.321)
    assert not one.has_outputs


@pytest.mark.parametrize("place", ["keras-csvlogger", "lightning-mnist/logs", "mlruns-files/mlruns", "mlruns-files"])
def test_logs_that_were_sent_to_a_server_are_looked_at_like_those_here(place: str) -> None:
    asked = Asked(None, None, None, name="logs")
    look = looked(lambda: read_sent(real("real/trackers") / place, asked), asked)
    assert len(look.members) > 1
    assert {one.accuracy for one in look.members} == {None}
    assert look.may


def test_two_runs_that_keras_appended_to_one_table_are_two_members() -> None:
    one = read(real("real/trackers") / "keras-csvlogger" / "mnist-two-runs-appended.csv")
    assert [len(curves["loss"]) for curves in one.curves.values()] == [5, 10]
    first = next(iter(one.curves.values()))
    assert first["val_accuracy"][:2, :2].tolist() == [[0, 0.9527000188827515], [1, 0.9696000218391418]]
    assert np.isnan(first["val_accuracy"][:, 2]).all(), "Keras notes no times"


def test_nine_of_twelve_versions_of_lightning_logged_something() -> None:
    one = read(real("real/trackers") / "lightning-mnist")
    assert [member.id for member in one.members] == [f"version_{n}" for n in (0, 3, 4, 6, 7, 8, 9, 10, 11)]
    assert sorted(one.unread) == [f"run version_{n}, which logged nothing" for n in (1, 2, 5)]
    assert one.curves["version_4"]["val_acc"][:, :2].tolist() == [
        [859, 0.9103999733924866], [1719, 0.9291999936103821], [2579, 0.9416000247001648],
    ]  # fmt: skip
    assert "epoch" not in one.curves["version_4"]


def test_training_and_validation_of_one_keras_run_in_tensorboard_are_one_member() -> None:
    one = read(real("real/trackers") / "tensorboard-tf2")
    assert len(one.members) == 1
    curves = next(iter(one.curves.values()))
    assert {"train/epoch_loss", "validation/epoch_loss"} <= set(curves)
    assert curves["train/epoch_accuracy"][0, 1] == pytest.approx(0.6843, abs=1e-4)


# --- MLflow ---


def mlflow_run(store: Path, run: str, *, seed: int, stage: str = "active", status: int = 3, files: bool = True) -> Path:
    folder = store / "7" / run
    for name in ("params", "metrics/val", "tags", "artifacts/eval"):
        (folder / name).mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        f"run_id: {run}\nrun_name: net-{seed}\nlifecycle_stage: {stage}\nstatus: {status}\nstart_time: {100 + seed}\n"
    )
    (folder / "params" / "seed").write_text(str(seed))
    (folder / "params" / "lr").write_text("1e-3")
    (folder / "metrics" / "val" / "loss").write_text("1000 0.5 0\n2000 0.25 10\n3000 0.3 10\n")
    if files:
        np.save(folder / "artifacts" / "eval" / "test.logits.npy", outputs(seed))
        np.save(folder / "artifacts" / "eval" / "test.labels.npy", LABELS)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "mlruns" / "7").mkdir(parents=True)
    (tmp_path / "mlruns" / "7" / "meta.yaml").write_text("experiment_id: '7'\nname: nets\n")
    for seed in range(3):
        mlflow_run(tmp_path / "mlruns", f"{seed:032x}", seed=seed)
    return tmp_path / "mlruns"


def test_predictions_that_runs_kept_as_artifacts_become_the_ensemble(store: Path) -> None:
    one = read(store)
    assert (one.name, one.kind) == ("nets", OutputKind.LOGITS)
    assert [(member.id, member.seed) for member in one.members] == [("net-0", 0), ("net-1", 1), ("net-2", 2)]
    assert np.array_equal(one.test.outputs.read(), np.stack([outputs(seed) for seed in range(3)]))
    assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
    assert not examine(one).refused


def test_of_two_points_at_one_step_the_later_stays(store: Path) -> None:
    assert read(store).curves["net-0"]["val/loss"].tolist() == [[0, 0.5, 1], [10, 0.3, 3]]


def test_a_run_without_predictions_is_named_where_others_have_some(store: Path) -> None:
    mlflow_run(store, "a" * 32, seed=5, status=1, files=False)
    one = read(store)
    assert len(one.members) == 3
    assert "run net-5, which kept no predictions" in one.unread
    assert one.remarks == ("Run net-5 had not finished; it is read as far as it came",)


def test_labels_that_differ_between_runs_are_refused(store: Path) -> None:
    np.save(store / "7" / f"{1:032x}" / "artifacts" / "eval" / "test.labels.npy", LABELS[::-1])
    with pytest.raises(InvalidInput, match="not those of the other runs"):
        read(store)


def test_files_of_other_names_are_read_as_the_user_says(store: Path) -> None:
    for folder in (store / "7").glob("*/artifacts/eval"):
        (folder / "test.logits.npy").rename(folder / "preds.npy")
        (folder / "test.labels.npy").rename(folder / "y.npy")
    assert not read(store).has_outputs
    one = read(store, outputs="eval/preds.npy", labels="eval/y.npy")
    for name in ("outputs", "labels"):
        with pytest.raises(InvalidInput, match=r"no run has a file 'eval/gone\.npy'") as said:
            read(store, **{"outputs": "eval/preds.npy", "labels": "eval/y.npy", name: "eval/gone.npy"})
        assert (said.value.problems[0].field, "eval/y.npy" in (said.value.allowed or "")) == (name, True)
    assert one.test.outputs.shape == (3, 40, 3)


def test_of_several_experiments_one_is_asked_for(store: Path) -> None:
    (store / "8").mkdir()
    (store / "8" / "meta.yaml").write_text("experiment_id: '8'\nname: others\n")
    mlflow_run(store, "b" * 32, seed=9).rename(store / "8" / ("b" * 32))
    with pytest.raises(Unclear) as asked:
        read(store)
    assert [(choice.value, choice.words) for choice in asked.value.choices] == [("7", "nets"), ("8", "others")]
    assert [member.id for member in read(store, experiment="others").members] == ["net-9"]
    with pytest.raises(InvalidInput, match="no experiment called 'nothing'"):
        read(store, experiment="nothing")


def test_an_object_of_python_in_meta_yaml_is_a_text_and_runs_nothing(store: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (store / "7" / "meta.yaml").write_text(
        f"experiment_id: '7'\nname: nets\nx: !!python/object/apply:os.mkdir ['{trap}']\n"
    )
    assert read(store).name == "nets"
    assert not trap.exists()


def test_a_line_that_is_no_point_is_refused_with_its_number(store: Path) -> None:
    (store / "7" / f"{0:032x}" / "metrics" / "val" / "loss").write_text("1000 0.5 0\nnonsense\n")
    with pytest.raises(InvalidInput, match="line 2 is no point of a metric"):
        read(store)


SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER NOT NULL, name VARCHAR(256) NOT NULL, artifact_location VARCHAR(256),
    lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT);
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL, name VARCHAR(250), source_type VARCHAR(20), status VARCHAR(9),
    start_time BIGINT, end_time BIGINT, lifecycle_stage VARCHAR(20), artifact_uri VARCHAR(200), experiment_id INTEGER);
CREATE TABLE metrics (key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL,
    run_uuid VARCHAR(32) NOT NULL, step BIGINT NOT NULL DEFAULT '0', is_nan BOOLEAN NOT NULL DEFAULT '0');
CREATE TABLE params (key VARCHAR(250) NOT NULL, value VARCHAR(8000) NOT NULL, run_uuid VARCHAR(32) NOT NULL);
CREATE TABLE tags (key VARCHAR(250) NOT NULL, value VARCHAR(8000), run_uuid VARCHAR(32) NOT NULL);
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The tables that MLflow 2 and 3 have, as far as they are read; files lie where they were noted."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(SCHEMA)
        made.execute(
            "INSERT INTO experiments VALUES (1, 'digits', '', 'active', 0, 0), (0, 'Default', '', 'active', 0, 0)"
        )
        for seed in range(3):
            files = tmp_path / "mlruns" / "1" / f"r{seed}" / "artifacts"
            files.mkdir(parents=True)
            np.save(files / "test.logits.npy", outputs(seed))
            np.save(files / "test.labels.npy", LABELS)
            made.execute(
                "INSERT INTO runs VALUES (?, ?, '', 'FINISHED', ?, 0, 'active', ?, 1)",
                (f"r{seed}", f"net-{seed}", seed, files.as_uri()),
            )
            made.executemany(
                "INSERT INTO metrics VALUES ('loss', ?, ?, ?, ?, ?)",
                [(1.0, 1000, f"r{seed}", 0, 0), (0.5, 2000, f"r{seed}", 5, 0), (0.0, 3000, f"r{seed}", 6, 1)],
            )
            made.execute("INSERT INTO params VALUES ('seed', ?, ?)", (str(seed), f"r{seed}"))
        made.execute("INSERT INTO runs VALUES ('gone', 'gone', '', 'FINISHED', 9, 0, 'deleted', '', 1)")
        made.commit()
    return path


def test_a_database_of_mlflow_gives_runs_curves_and_predictions(database: Path) -> None:
    one = read(database)
    assert [(member.id, member.seed) for member in one.members] == [("net-0", 0), ("net-1", 1), ("net-2", 2)]
    assert one.curves["net-1"]["loss"][:2].tolist() == [[0, 1, 1], [5, 0.5, 2]]
    assert math.isnan(one.curves["net-1"]["loss"][2, 1]), "is_nan says so"
    assert one.test.outputs.shape == (3, 40, 3)
    assert one.unread == ("run gone, which was deleted",)


def test_a_database_that_was_moved_finds_its_files_beside_it(database: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "mlruns").rename(moved / "mlruns")
    database.rename(moved / "mlflow.db")
    assert read(moved / "mlflow.db").test.outputs.shape == (3, 40, 3)


def test_a_database_that_was_sent_is_not_followed_to_other_folders(database: Path, tmp_path: Path) -> None:
    alone = tmp_path / "sent"
    alone.mkdir()
    database.rename(alone / "mlflow.db")
    assert read(alone / "mlflow.db").test.outputs.shape == (3, 40, 3), "somebody's own, on this machine"
    found = read(alone / "mlflow.db", within=alone)
    assert not found.sets
    assert [member.id for member in found.members] == ["net-0", "net-1", "net-2"]
    (tmp_path / "mlruns").rename(alone / "mlruns")
    assert read(alone / "mlflow.db", within=alone).test.outputs.shape == (3, 40, 3)


NO_PLACES = [
    "a\0b", "/tmp/a%00b", "file:///tmp/a\nb", "http://[", "file://[::1", b"\0\xff", 7, 0.5,
    "x" * 5000, "/" + "y/" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("address", NO_PLACES)
@pytest.mark.parametrize("is_sent", [True, False])
def test_a_run_that_names_no_place_costs_its_own_predictions_alone(
    is_sent: bool, address: str | bytes | float, database: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(database)) as made, made:
        made.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = 'r1'", (address,))
    found = read(database, within=tmp_path if is_sent else None)
    assert [member.id for member in found.members] == ["net-0", "net-2"]
    assert "run net-1, which kept no predictions" in found.unread
    assert not examine(found).refused


@pytest.mark.parametrize("column", ["value", "step", "timestamp"])
@pytest.mark.parametrize("value", ["oops", b"\0", ""])
def test_a_run_whose_metrics_are_no_numbers_is_named_and_left_out(
    column: str, value: str | bytes, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as made, made:
        made.execute(f"UPDATE metrics SET {column} = ? WHERE run_uuid = 'r1' AND timestamp = 2000", (value,))
    found = read(database)
    left_out = [one for one in found.unread if one.startswith("run net-1, one of whose metrics is no number")]
    assert len(left_out) == (0 if (column, value) == ("step", "") else 1)
    assert len(found.members) == 3 - len(left_out)


def test_names_of_runs_that_are_no_texts_are_taken_as_texts(database: Path) -> None:
    with closing(sqlite3.connect(database)) as made, made:
        made.execute("UPDATE runs SET name = x'00ff' WHERE run_uuid = 'r1'")
        made.execute("UPDATE runs SET name = 5, status = 5 WHERE run_uuid = 'r2'")
    assert len(read(database).members) == 3


@pytest.mark.parametrize("what", ["meta", "metric", "parameter", "root"])
def test_what_is_refused_of_logs_is_named_and_not_where_it_lies(what: str, store: Path) -> None:
    run = store / "7" / f"{0:032x}"
    if what in ("meta", "root"):
        ((run if what == "meta" else store) / "meta.yaml").write_text("a: [")
    elif what == "metric":
        (run / "metrics" / "loss").write_text("nonsense\n")
    else:
        (run / "params" / "long").write_bytes(b"x" * (5 << 20))
    with pytest.raises(InvalidInput) as refused:
        read(store, within=store)
    assert str(store.parent) not in str(refused.value)
    assert {"meta": f"{run.name}/meta.yaml", "metric": f"{run.name}/metrics/loss", "root": f"{store.name}/meta.yaml",
            "parameter": f"{run.name}/params/long"}[what] in str(refused.value)  # fmt: skip


def test_a_file_that_may_not_be_read_is_named_and_not_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "y.npy", LABELS)

    def denied(path: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InvalidInput, match=r"cannot be read \(Permission denied\)") as refused:
        read(tmp_path / "y.npy", labels=str(tmp_path / "y.npy"), within=tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_a_few_lines_of_meta_yaml_that_stand_for_billions_are_nothing(store: Path) -> None:
    lines = ["a0: &a0 [1, 2]"] + [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 60)]
    meta = store / "7" / "meta.yaml"
    meta.write_text(meta.read_text() + "\n" + "\n".join(lines))
    assert read(store).name == "nets"


URI_NAMES = [
    "%2e%2e%2fmlflow.db",
    "mlflow.db#",
    "mlflow.db?mode=rwc#",
    "x%2f..%2f..%2fmlflow.db",
    "50%25.db",
    "a#b?c=d&e.db",
]


@pytest.mark.parametrize("name", URI_NAMES)
def test_whatever_a_database_is_called_it_alone_is_opened(name: str, database: Path, tmp_path: Path) -> None:
    """A name is not a URI: beside the folder lies another database that some of these would be."""
    alone = tmp_path / "runs#1 50%25"
    alone.mkdir()
    shutil.copy(database, alone / name)
    with closing(sqlite3.connect(alone / name)) as sent, sent:
        sent.execute("UPDATE runs SET name = 'sent-' || name")
    before = set(tmp_path.rglob("*"))
    found = read(alone / name, within=alone)
    assert [member.id for member in found.members] == ["sent-net-0", "sent-net-1", "sent-net-2"]
    assert set(tmp_path.rglob("*")) == before, "and none is made"


def test_the_folder_that_mlflow_was_run_in_is_read_by_its_database(database: Path, tmp_path: Path) -> None:
    assert set_digest(read(tmp_path)) == set_digest(read(database))
    assert read(tmp_path).members[1].config == {"seed": 1}
    mlflow_run(tmp_path / "mlruns", "a" * 32, seed=9)
    with pytest.raises(InvalidInput, match=r"runs are in mlflow\.db, and others in mlruns as files"):
        read(tmp_path)


@pytest.mark.parametrize("what", ["of another tool", "cut"])
def test_a_database_that_is_not_mlflows_is_refused(what: str, database: Path) -> None:
    if what == "cut":
        database.write_bytes(database.read_bytes()[:3000])
    else:
        database.unlink()
        with closing(sqlite3.connect(database)) as made:
            made.execute("CREATE TABLE x (y)")
    with pytest.raises(InvalidInput, match=r"mlflow\.db: it (is a database, and not one of MLflow's|cannot be read)"):
        read(database)


# --- tables ---


def test_columns_that_change_on_the_way_are_read_by_their_new_heading(tmp_path: Path) -> None:
    folder = tmp_path / "version_0"
    folder.mkdir()
    (folder / "hparams.yaml").write_text("lr: 0.1\nmodel:\n  width: 8\nseed: 3\n")
    (folder / "metrics.csv").write_text("epoch,step,loss\n0,1,0.5\n0,2,0.4\nepoch,step,loss,val\n1,3,0.3,\n1,4,,0.9\n")
    one = read(tmp_path)
    assert one.members[0].seed == 3
    assert dict(one.members[0].config) == {"lr": 0.1, "model.width": 8, "seed": 3}
    curves = one.curves["version_0"]
    assert curves["loss"][:, :2].tolist() == [[1, 0.5], [2, 0.4], [3, 0.3]]
    assert curves["val"][:, :2].tolist() == [[4, 0.9]]


# --- predictions beside the logs of every tool ---


def events(folder: Path, run: int) -> None:
    """A file of TensorBoard's events, written by TensorBoard."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for step in range(3):
        value = Summary.Value(tag="loss", simple_value=run + step)
        writer.add_event(Event(wall_time=100.0 + step, step=step, summary=Summary(value=[value])))
    writer.close()


def lightning(folder: Path, run: int) -> None:
    (folder / "hparams.yaml").write_text(f"seed: {run}\n")
    (folder / "metrics.csv").write_text(f"epoch,step,loss\n0,0,{run}\n0,1,{run + 1}\n0,2,{run + 2}\n")


def keras(folder: Path, run: int) -> None:
    (folder / "log.csv").write_text(f"epoch,loss\n0,{run}\n1,{run + 1}\n2,{run + 2}\n")


TOOLS = {"tensorboard": events, "lightning": lightning, "keras": keras}


@pytest.fixture(params=TOOLS)
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of three runs, each with its logs, its predictions and the true labels."""
    for run in range(3):
        folder = tmp_path / "runs" / f"run_{run}"
        folder.mkdir(parents=True)
        TOOLS[request.param](folder, run)
        np.save(folder / "test.logits.npy", outputs(run))
        np.save(folder / "test.labels.npy", LABELS)
    return tmp_path / "runs"


def test_predictions_beside_a_runs_logs_are_read_whichever_tool_logged(runs: Path) -> None:
    for one in (read(runs), read(runs, outputs="test.logits.npy"), read_sent(runs, Asked(None, None, None))):
        assert [member.id for member in one.members] == ["run_0", "run_1", "run_2"]
        assert np.array_equal(one.test.outputs.read(), np.stack([outputs(run) for run in range(3)]))
        assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
        for run in range(3):
            assert one.curves[f"run_{run}"]["loss"][:, :2].tolist() == [[0, run], [1, run + 1], [2, run + 2]]
        assert not one.unread


def test_labels_that_lie_elsewhere_are_those_of_the_runs(runs: Path, tmp_path: Path) -> None:
    for run in range(3):
        (runs / f"run_{run}" / "test.labels.npy").unlink()
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / "sent").mkdir()
    for name, path in (found := with_labels(files_below(runs), tmp_path / "y.npy"))[0].items():
        (tmp_path / "sent" / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, tmp_path / "sent" / name)
    sent = read_sent(tmp_path / "sent", Asked(labels=found[1]))
    for one in (read(runs, labels=str(tmp_path / "y.npy")), sent):
        assert np.array_equal(one.test.outputs.read(), np.stack([outputs(run) for run in range(3)]))
        assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
        assert one.curves["run_2"]["loss"][:, 1].tolist() == [2, 3, 4]
        assert not one.unread
    with pytest.raises(InvalidInput, match="labels"):
        read_sent(runs, Asked(None, None, None, labels=str(tmp_path / "y.npy")))  # a stranger's files name none here


def test_labels_beside_the_runs_are_meant_before_those_of_a_run(runs: Path) -> None:
    for run in range(3):
        np.save(runs / f"run_{run}" / "y.npy", LABELS[::-1])
    assert np.array_equal(read(runs, labels="y.npy").test.labels, LABELS[::-1])  # type: ignore[arg-type]
    np.save(runs / "y.npy", LABELS)
    for one in (read(runs, labels="y.npy"), read_sent(runs, Asked(labels="y.npy"))):
        assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]


def test_a_run_that_lies_in_another_ones_folder_keeps_its_predictions_to_itself(tmp_path: Path) -> None:
    events(tmp_path, 9)
    for run in range(2):
        (tmp_path / f"{run}" / "eval").mkdir(parents=True)
        events(tmp_path / f"{run}", run)
        np.save(tmp_path / f"{run}" / "eval" / "test.logits.npy", outputs(run))
        np.save(tmp_path / f"{run}" / "eval" / "test.labels.npy", LABELS)
    one = read(tmp_path)
    assert [member.id for member in one.members] == ["0", "1"]
    assert list(one.unread) == [f"run {tmp_path.name}, which kept no predictions"]


def test_predictions_of_several_trainings_in_one_table_are_of_the_last(tmp_path: Path) -> None:
    for run in range(2):
        (tmp_path / f"{run}").mkdir()
        (tmp_path / f"{run}" / "log.csv").write_text("epoch,loss\n0,5\n1,4\n0,3\n1,2\n")
        np.save(tmp_path / f"{run}" / "test.logits.npy", outputs(run))
        np.save(tmp_path / f"{run}" / "test.labels.npy", LABELS)
    one = read(tmp_path)
    assert one.curves["1"]["loss"][:, :2].tolist() == [[0, 3], [1, 2]]
    assert list(one.unread) == ["1 earlier trainings in 0/log.csv", "1 earlier trainings in 1/log.csv"]


def test_a_table_with_a_column_epoch_beside_other_arrays_is_no_run(tmp_path: Path) -> None:
    """As exports have among their figures."""
    for run in range(2):
        (tmp_path / f"run_{run}").mkdir()
        keras(tmp_path / f"run_{run}", run)
        np.save(tmp_path / f"run_{run}" / "preds.npy", outputs(run))
    np.save(tmp_path / "labels.npy", LABELS)
    one = read(tmp_path)
    assert np.array_equal(one.test.outputs.read(), np.stack([outputs(run) for run in range(2)]))


def test_a_few_lines_of_yaml_that_stand_for_billions_are_read_in_part(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 2]"] + [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 60)]
    (tmp_path / "hparams.yaml").write_text("\n".join(lines))
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n0,1,0.5\n")
    assert len(read(tmp_path).members[0].config) <= 10_000


def test_a_table_with_a_text_among_its_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,loss\n0,0.5\n1,oops\n")
    with pytest.raises(InvalidInput, match=r"row 2 holds 'oops', which is no number"):
        read(tmp_path / "log.csv")


# --- curves ---


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("1e-3", 0.001), ("True", True), ("None", None), ("adam", "adam"), ("1_000", "1_000"), ("", "")],
)
def test_parameters_kept_as_texts_become_what_they_say(text: str, value: Any) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_points_without_steps_are_numbered_as_they_were_written() -> None:
    assert curve([(0, 3.0, 1.0), (0, 2.0, 2.0), (0, 1.0, 3.0)])[:, :2].tolist() == [[0, 3], [1, 2], [2, 1]]


def test_curves_that_are_written_are_read_again_with_the_same_digest(store: Path, tmp_path: Path) -> None:
    one = read(store)
    for target in (tmp_path / "copy", tmp_path / "copy.zip"):
        write(one, target)
        other = read(target)
        assert set_digest(other) == set_digest(one)
        assert other.curves["net-0"]["val/loss"].tolist() == one.curves["net-0"]["val/loss"].tolist()


def test_curves_alone_are_written_and_read_too(store: Path, tmp_path: Path) -> None:
    for file in store.rglob("*.npy"):
        file.unlink()
    write(read(store), tmp_path / "copy.zip")
    other = read(tmp_path / "copy.zip")
    assert [member.id for member in other.members] == ["net-0", "net-1", "net-2"]
    assert not other.has_outputs


# --- as experiments ---


@pytest.mark.slow
def test_logs_without_predictions_become_an_experiment_of_curves(store: Path, tmp_path: Path) -> None:
    for file in store.rglob("*.npy"):
        file.unlink()
    here = started(tmp_path / "home", None)
    lab = here.finish(bring_in(here.laboratory, read(store), name="logs"), progress=False)
    assert {stage.kind for stage in lab.stages} == {"curves"}
    assert {stage.state for stage in lab.stages} == {StageState.SUCCEEDED}
    steps, values = lab.points(1, "val/loss")
    assert (steps.tolist(), values.tolist()) == ([0, 10], [0.5, 0.3])
    figure = lab.figure("logged-curves")
    assert [trace.name for trace in figure.data] == ["net-0", "net-1", "net-2"]
    assert figure.data[2].y.tolist() == pytest.approx([0.5, 0.3])


@pytest.mark.slow
def test_logs_with_predictions_have_curves_and_everything_else(store: Path, tmp_path: Path) -> None:
    here = started(tmp_path / "home", None)
    lab = here.finish(bring_in(here.laboratory, read(store), name="logs"), progress=False)
    assert [stage.error for stage in lab.stages if stage.state != StageState.SUCCEEDED] == []
    assert {"curves", "predict", "compare", "ensemble"} <= {stage.kind for stage in lab.stages}
    labels = np.stack([outputs(seed) for seed in range(3)]).argmax(-1)
    matrix = lab.matrix("disagreement")
    assert matrix is not None
    np.testing.assert_allclose(matrix.values, (labels[:, None] != labels[None]).mean(-1), atol=1e-12)
    assert lab.points(0, "val/loss")[1].tolist() == [0.5, 0.3]
