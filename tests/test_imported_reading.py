"""Every way in gives the same ensemble: a folder, an archive, two arrays, tables, files a member, arrays in memory."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
import zipfile
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_data import real

from modescape.apart import Asked
from modescape.errors import InvalidInput
from modescape.imported.digest import set_digest
from modescape.imported.door import Odd, examine
from modescape.imported.ensemble import Ensemble, Member, OutputKind, Recipe, SetRole, Unclear, sets_of
from modescape.imported.globs import members_of, read_glob
from modescape.imported.memory import Samples, from_arrays
from modescape.imported.reading import read
from modescape.imported.two_arrays import natural
from modescape.imported.writing import write
from modescape.importing import analyse
from modescape.reading_process import one_member, read_sent
from modescape.records import SampleSet

M, N, K = 12, 30, 3
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(M, N, K)).astype("f4")
OTHER = RANDOM.normal(size=(M, 10, K)).astype("f4")
LABELS = RANDOM.integers(0, K, N)


def softmax(values: np.ndarray) -> np.ndarray:
    odds = np.exp(values.astype(float))
    return odds / odds.sum(-1, keepdims=True)


# --- the format ---


def test_the_format_as_it_is_proposed_is_read(tmp_path: Path) -> None:
    """Its names, its document, and every part it has a place for."""
    said = {
        "schema": 1, "name": "WRN-16-4", "kind": "logits", "classes": ["a", "b", "c"], "recipe": "same",
        "members": [{"id": i, "seed": 7 + i, "config": {"depth": 16}} for i in range(M)],
        "sets": {"test": {"role": "id", "data": "cifar10/test"}, "svhn": {"role": "ood", "data": "svhn/test"},
                 "fog/3": {"role": "shift", "type": "fog", "intensity": 3}},
    }  # fmt: skip
    arrays = {
        "test.logits": LOGITS, "test.labels": LABELS, "test.ids": np.arange(N), "validation.logits": OTHER,
        "validation.labels": LABELS[:10], "ood/svhn.logits": OTHER, "shift/fog/3.logits": LOGITS,
        "shift/cifar10.1/1.logits": OTHER, "shift/cifar10.1/1.labels": LABELS[:10],
        "trajectory.test.logits": LOGITS[:, None], "trajectory.epochs": np.array([10]),
        "samples/swag/test.logits": np.stack([LOGITS] * 2, 1), "samples/swag/strength": np.ones((M, 2)),
        "samples/swag/centre.logits": LOGITS, "samples/swag/ood/svhn.logits": np.stack([OTHER] * 2, 1),
        "matrices/cut": np.eye(4), "images/test": np.zeros((N, 1, 8, 8), "u1"),
    }  # fmt: skip
    np.savez(tmp_path / "e.npz", **{"ensemble.json": np.array(json.dumps(said))}, **arrays)
    one = read(tmp_path / "e.npz")
    assert (one.name, one.recipe, one.kind, one.classes) == (
        "WRN-16-4",
        Recipe.SAME,
        OutputKind.LOGITS,
        ("a", "b", "c"),
    )
    assert (one.members[3].id, one.members[3].seed, one.members[3].config) == ("3", 10, {"depth": 16})
    assert set(one.sets) == {"test", "validation", "ood/svhn", "shift/fog/3", "shift/cifar10.1/1"}
    assert (one.sets["ood/svhn"].data, one.sets["ood/svhn"].name) == ("svhn/test", "svhn")
    fog, natural_shift = one.sets["shift/fog/3"], one.sets["shift/cifar10.1/1"]
    assert fog.shift is not None
    assert (fog.role, fog.shift.type, fog.shift.intensity, fog.has_own_images) == (SetRole.SHIFT, "fog", 3, False)
    assert natural_shift.has_own_images
    assert np.array_equal(one.truth(fog), LABELS)
    assert one.truth(one.sets["ood/svhn"]) is None
    swag = one.samples["swag"]
    assert (set(swag.outputs), set(swag.centre)) == ({"test", "ood/svhn"}, {"test"})
    assert one.trajectory is not None
    assert one.trajectory.outputs["test"].shape == (M, 1, N, K)
    assert list(one.rest) == ["matrices/cut.npy"]
    assert not one.unread
    assert not examine(one).refused


def test_arrays_alone_are_an_ensemble_of_a_recipe_nobody_stated(tmp_path: Path) -> None:
    np.save(tmp_path / "test.logits.npy", LOGITS)
    np.save(tmp_path / "test.labels.npy", LABELS)
    one = read(tmp_path)
    assert (one.recipe, [member.id for member in one.members]) == (Recipe.UNKNOWN, [str(i) for i in range(M)])


def test_the_name_of_a_file_says_its_kind_where_nothing_else_does(tmp_path: Path) -> None:
    for what, kind, outputs in (("probs", OutputKind.PROBS, softmax(LOGITS)),
                                ("log-probs", OutputKind.LOG_PROBS, np.log(softmax(LOGITS))),
                                ("predictions", OutputKind.LABELS, LOGITS.argmax(-1))):  # fmt: skip
        (tmp_path / what).mkdir()
        np.save(tmp_path / what / f"test.{what}.npy", outputs)
        np.save(tmp_path / what / "test.labels.npy", LABELS)
        assert read(tmp_path / what).kind is kind


def test_only_one_member_is_in_memory_when_rows_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **{"test.logits": LOGITS, "test.labels": LABELS})
    rows = read(tmp_path / "e.npz").test.outputs.rows()
    assert np.array_equal(next(rows), LOGITS[0])
    assert np.array_equal(next(rows), LOGITS[1])


# --- two arrays ---


def test_two_obvious_arrays_are_read_and_their_kind_is_read_off_them(tmp_path: Path) -> None:
    for outputs, kind in ((LOGITS, OutputKind.LOGITS), (softmax(LOGITS), OutputKind.PROBS),
                          (LOGITS.argmax(-1), OutputKind.LABELS), (LOGITS[0], OutputKind.LOGITS)):  # fmt: skip
        np.savez(tmp_path / "two.npz", whatever=outputs, classes_true=LABELS.astype("u1"), notes=np.arange(3))
        one = read(tmp_path / "two.npz")
        assert one.kind is kind
        assert one.test.outputs.shape[:2] == ((M if outputs.shape[0] == M else 1), N)
        assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
        assert one.unread == ("notes",)


def test_what_is_unclear_is_asked_with_its_choices_and_the_answer_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", first=LOGITS, second=LOGITS * 2, y=LABELS)
    with pytest.raises(Unclear) as asked:
        read(tmp_path / "e.npz")
    assert asked.value.field == "outputs"
    assert [choice.value for choice in asked.value.choices] == ["first", "second"]
    assert np.array_equal(read(tmp_path / "e.npz", outputs="second").test.outputs.read(), LOGITS * 2)
    np.savez(tmp_path / "e.npz", first=LOGITS, one=LABELS, other=LABELS)
    with pytest.raises(Unclear) as asked:
        read(tmp_path / "e.npz")
    assert (asked.value.field, [choice.value for choice in asked.value.choices]) == ("labels", ["one", "other"])
    np.savez(tmp_path / "e.npz", logits=LOGITS, features=LOGITS, labels=LABELS)
    assert read(tmp_path / "e.npz").unread == ("features",), "of several pairs one goes by the usual names"


def test_arrays_that_do_not_fit_are_refused_with_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", a=LOGITS.transpose(1, 0, 2), y=LABELS)
    with pytest.raises(InvalidInput, match=r"a float32 \[30, 12, 3\], y int64 \[30\]"):
        read(tmp_path / "e.npz")


def test_outputs_without_true_labels_are_told_to_lack_them(tmp_path: Path) -> None:
    def refused(path: Path) -> InvalidInput:
        with pytest.raises(InvalidInput) as error:
            read(path)
        return error.value

    runs = tmp_path / "runs"
    runs.mkdir()
    for i in range(10):
        np.save(runs / f"run_{i}.npy", LOGITS[i])
    lacking = refused(runs)
    assert lacking.field == "labels"
    assert "the true labels are missing: run_0 float32 [30, 3], run_1 " in str(lacking)
    assert "run_7 float32 [30, 3] and 2 more were taken for outputs" in str(lacking)
    assert "whole numbers [30], one for each example" in str(lacking)
    for outputs in (LOGITS, LOGITS[0], LOGITS.argmax(-1)):
        np.savez(tmp_path / "e.npz", preds=outputs)
        lacking = refused(tmp_path / "e.npz")
        assert lacking.field == "labels"
        assert f"preds {outputs.dtype} {list(outputs.shape)} was taken for outputs" in str(lacking)
        assert "whole numbers [30]" in str(lacking)
    np.save(tmp_path / "one.npy", LOGITS)
    assert refused(tmp_path / "one.npy").field == "labels"
    np.savez(tmp_path / "e.npz", preds=LOGITS, y=LABELS[:-1])
    assert refused(tmp_path / "e.npz").field == "files", "there are some, which do not fit"
    np.save(runs / "y.npy", LABELS)
    assert len(read(runs).members) == 10


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_outputs_in_a_folder_a_member_without_true_labels_are_told_to_lack_them(tmp_path: Path, form: str) -> None:
    arrays = {f"run_{m}/{of}.npy": one[m] for of, one in (("test", LOGITS), ("svhn", OTHER)) for m in range(3)}
    with pytest.raises(InvalidInput, match=r"labels are missing: run_0/svhn float32 .*, run_0/test ") as lacking:
        read(packed(laid(tmp_path / "e", arrays), form))
    assert lacking.value.field == "labels"
    one = read(packed(laid(tmp_path / "one", {"run_0/preds.npy": LOGITS, "run_0/y.npy": LABELS}), form))
    assert np.array_equal(one.test.outputs.read(), LOGITS)


def test_published_labels_of_thirty_models_are_asked_about_and_read() -> None:
    path = real("real/cifar10.1-testbed") / "cifar10.1-testbed-label-predictions.npz"
    with pytest.raises(Unclear) as asked:
        read(path)
    assert len(asked.value.choices) == 3
    one = read(path, outputs="original_labels_predicted")
    assert (one.kind, one.test.outputs.shape) == (OutputKind.LABELS, (30, 10_000))


# --- tables ---


def rows(*, shuffled: bool = True) -> tuple[list[str], list[list[Any]]]:
    columns = ["member", "set", "example", "label", "p_0", "p_1", "p_2"]
    odds, other = softmax(LOGITS), softmax(OTHER)
    found = [[f"m{m}", "test", f"x{i}", int(LABELS[i]), *odds[m, i]] for m in range(M) for i in range(N)]
    found += [[f"m{m}", "ood/svhn", f"o{i}", "", *other[m, i]] for m in range(M) for i in range(10)]
    found += [[f"m{m}", "shift/fog/3", f"x{i}", int(LABELS[i]), *odds[m, i]] for m in range(M) for i in range(N)]
    if shuffled:
        first, rest = found[:N], found[N:]
        np.random.default_rng(1).shuffle(rest)  # type: ignore[arg-type]
        found = first + rest
    return columns, found


def check_table(one: Ensemble) -> None:
    assert one.kind is OutputKind.PROBS
    order = [[member.id for member in one.members].index(f"m{m}") for m in range(M)]
    for place, outputs in (("test", LOGITS), ("ood/svhn", OTHER), ("shift/fog/3", LOGITS)):
        ids = one.sets[place].ids
        assert ids is not None
        examples = np.argsort([int(text[1:]) for text in ids])
        assert np.array_equal(one.sets[place].outputs.read()[order][:, examples], softmax(outputs)), place
    assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
    assert one.sets["ood/svhn"].labels is None
    assert not one.sets["shift/fog/3"].has_own_images, "its examples are the test set's"


def test_a_table_in_long_form_is_read_in_whatever_order_its_rows_are(tmp_path: Path) -> None:
    columns, found = rows()
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *found])
    check_table(read(tmp_path / "t.csv"))


def _table(path: Path, rows: list[list[Any]]) -> Path:
    columns = ["member", "example", "label", "p_0", "p_1"]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        table = {name: list(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}
        parquet.write_table(pyarrow.table(table), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "column", "nothing"),
    [(".csv", 0, None), (".csv", 1, None), (".parquet", 0, None), (".parquet", 1, None), (".parquet", 1, math.nan)],
)
def test_an_empty_cell_is_named_by_its_line_and_its_column(
    suffix: str, column: int, nothing: float | None, tmp_path: Path
) -> None:
    rows: list[list[Any]] = [[f"m{m}", float(n), n % 2, 0.25, 0.75] for m in range(2) for n in range(12_000)]
    assert len(read(_table(tmp_path / f"whole{suffix}", rows)).members) == 2
    rows[11_000][column] = nothing  # behind 11,000 lines and the names
    name = ("member", "example")[column]
    with pytest.raises(InvalidInput, match=f"line 11002 has an empty cell in its column {name}") as said:
        read(_table(tmp_path / f"odd{suffix}", rows))
    assert said.value.allowed == f"a {name} in every row"


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('member,example,label,p_0,p_1\n\na,"one\ntwo",0,0.5,0.5\n\na,,1,0.5,0.5\n')
    with pytest.raises(InvalidInput, match="line 6 has an empty cell in its column example"):
        read(path)


def test_a_member_of_other_examples_is_told_by_one_of_them(tmp_path: Path) -> None:
    rows = [[f"m{m}", n + 5 * (m == 1 and n == 9), n % 2, 0.25, 0.75] for m in range(2) for n in range(10)]
    with pytest.raises(
        InvalidInput,
        match=r"'m1' has 10 examples of test, the first 10: '14' is of it alone \(line 21\), "
        r"'9' is missing, of which the first has \(line 11\)",
    ):
        read(_table(tmp_path / "t.csv", rows))
    with pytest.raises(InvalidInput, match=r"'m1' has 9 examples of test, the first 10: '9' is missing, .*line 11"):
        read(_table(tmp_path / "t.csv", rows[:-1]))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_rows_say_against_each_other_is_told_with_both_lines(tmp_path: Path, suffix: str) -> None:
    whole: list[list[Any]] = [[f"m{m}", f"x{n}", str(n % 2), 0.25, 0.75] for m in range(2) for n in range(10)]

    def refused(number: int, **changes: Any) -> str:
        rows = [list(row) for row in whole]
        for column, value in changes.items():
            rows[number][("member", "example", "label").index(column)] = value
        with pytest.raises(InvalidInput) as said:
            read(_table(tmp_path / f"t{suffix}", rows))
        return str(said.value)

    assert "'m1' has the example 'x3' twice in test, in lines 15 and 17" in refused(15, example="x3")
    assert "the example 'x4' of test has the label 0 in line 6, 1 in 16" in refused(14, label="1")
    whole = whole[:10]
    assert "the example 'x7' of test has no label (line 9), and others have (line 2)" in refused(7, label="")


def test_a_table_of_names_alone_is_said_to_have_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("member,example,label,p_0,p_1\n")
    with pytest.raises(InvalidInput, match="it has a line of names and no rows"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_the_same_table_as_parquet_and_arrow(suffix: str, tmp_path: Path) -> None:
    import pyarrow

    columns, found = rows()
    lines = [[None if value == "" else value for value in row] for row in found]
    table = pyarrow.table({name: list(values) for name, values in zip(columns, zip(*lines, strict=True), strict=True)})
    if suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    else:
        with pyarrow.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as file:
            file.write_table(table)
    check_table(read(tmp_path / f"t{suffix}"))
    (tmp_path / f"bad{suffix}").write_bytes((tmp_path / f"t{suffix}").read_bytes()[:500])
    with pytest.raises(InvalidInput, match=rf"bad\{suffix}: it cannot be read"):
        read(tmp_path / f"bad{suffix}")


def test_without_pyarrow_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="pip install pyarrow"):
        read(tmp_path / "t.parquet")


def test_a_table_of_predicted_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("member,label,prediction\na,0,1\na,1,1\nb,0,0\nb,1,0\n")
    one = read(tmp_path / "t.csv")
    assert one.kind is OutputKind.LABELS
    assert one.test.outputs.read().tolist() == [[1, 1], [0, 0]]
    assert one.test.ids is None


# --- one file a member ---


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for m in range(M):
        (tmp_path / f"run_{m}").mkdir()
        np.save(tmp_path / f"run_{m}" / "test.npy", LOGITS[m])
        np.save(tmp_path / f"run_{m}" / "svhn.npy", OTHER[m])
    np.save(tmp_path / "y.npy", LABELS)
    np.save(tmp_path / "y_val.npy", LABELS[:10])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_a_member_are_read_in_the_order_people_count(runs: Path) -> None:
    one = read_glob(
        "run_*/test.npy", labels="y.npy", member=r"run_(\d+)", ood={"svhn": "run_*/svhn.npy"},
        shift={("fog", 3): "run_*/test.npy", ("natural", 1): ("run_*/svhn.npy", "y_val.npy")},
        validation=("run_*/svhn.npy", "y_val.npy"), recipe=Recipe.SAME,
    )  # fmt: skip
    assert [member.id for member in one.members] == [str(m) for m in range(M)], "10 after 9"
    assert np.array_equal(one.test.outputs.read(), LOGITS)
    assert np.array_equal(one.sets["ood/svhn"].outputs.read(), OTHER)
    assert not one.sets["shift/fog/3"].has_own_images
    assert one.sets["shift/natural/1"].has_own_images
    assert set_digest(one) == set_digest(from_arrays(
        LOGITS, LABELS, ood={"svhn": OTHER}, validation=(OTHER, LABELS[:10]), recipe="same",
        shift={("fog", 3): LOGITS, ("natural", 1): (OTHER, LABELS[:10])},
    ))  # fmt: skip


def zipped(path: Path, folder: Path, around: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.glob("*.np*"):
            archive.write(file, around + file.name)
    return path


@pytest.mark.parametrize("as_it_lies", ["folder", "archive", "archive of a folder", "one array an npz"])
def test_a_folder_of_a_file_a_member_needs_no_pattern(tmp_path: Path, as_it_lies: str) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for i in range(M):
        if as_it_lies == "one array an npz":
            np.savez(folder / f"run_{i}.npz", LOGITS[i])
        else:
            np.save(folder / f"run_{i}.npy", LOGITS[i])
    np.save(folder / "truth.npy", LABELS)
    is_archive = as_it_lies.startswith("archive")
    around = "runs/" if as_it_lies == "archive of a folder" else ""
    path = zipped(tmp_path / "runs.zip", folder, around) if is_archive else folder
    for labels in (None, "truth", "truth.npy", str(folder / "truth.npy")):
        one = read(path, labels=labels)
        assert [member.id for member in one.members] == [f"run_{i}" for i in range(M)]
        assert set_digest(one) == set_digest(from_arrays(LOGITS, LABELS, members=[f"run_{i}" for i in range(M)]))


def test_a_file_a_member_of_predicted_labels_asks_which_is_the_truth_unless_its_name_says_so(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"run_{i}.npy", LOGITS[i].argmax(-1))
    np.save(tmp_path / "what.npy", LABELS)
    with pytest.raises(Unclear, match="Which file holds the true labels") as asked:
        read(tmp_path)
    assert [choice.value for choice in asked.value.choices] == ["run_0", "run_1", "run_2", "what"]
    assert read(tmp_path, labels="what").kind is OutputKind.LABELS
    (tmp_path / "what.npy").rename(tmp_path / "y.npy")
    assert len(read(tmp_path).members) == 3


def test_of_several_files_a_member_those_of_the_true_labels_are_read_and_the_others_told(runs: Path) -> None:
    one = read(runs)
    assert np.array_equal(one.test.outputs.read(), LOGITS)
    assert [member.id for member in one.members] == [f"run_{i}" for i in range(M)]
    labels, said = one.remarks
    assert labels == "The true labels are those of y.npy"
    assert "--ood NAME='run_*/svhn.npy'" in said
    assert one.unread == ("y_val",)
    for m in range(M):
        np.save(runs / f"run_{m}" / "svhn.npy", LOGITS[m] + 1)
    with pytest.raises(Unclear, match="which is of the test set") as asked:
        read(runs)
    assert (asked.value.field, [one.value for one in asked.value.choices]) == ("outputs", ["svhn", "test"])
    assert np.array_equal(read(runs, outputs="test").test.outputs.read(), LOGITS)
    assert np.array_equal(read(runs, outputs="svhn").test.outputs.read(), LOGITS + 1)


def packed(folder: Path, form: str) -> Path:
    """The arrays of a folder as they lie there, in a .zip, or in an .npz by their names."""
    if form == "folder":
        return folder
    path = folder.parent / f"{folder.name}.{form}"
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.npy"))}
    if form == "npz":
        np.savez(path, **{name.removesuffix(".npy"): np.load(file) for name, file in files.items()})
        return path
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


def laid(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, array)
    return folder


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
@pytest.mark.parametrize("name", ["run_{m}/{of}", "runs/seed{m}/{of}", "run_{m}_{of}"])
def test_a_file_that_a_member_lacks_is_named_and_the_test_set_is_read(tmp_path: Path, form: str, name: str) -> None:
    def of_member(m: int, of: str) -> str:
        return name.format(m=m, of=of) + ".npy"

    sets = {"test": LOGITS, "svhn": OTHER, "val": OTHER[:, :7], "fog": LOGITS[:, :9]}
    lacks = {(3, "svhn"), (1, "fog"), (5, "fog")}
    arrays = {of_member(m, of): one[m] for of, one in sets.items() for m in range(M) if (m, of) not in lacks}
    path = packed(laid(tmp_path / "e", arrays | {"y.npy": LABELS}), form)
    one = read(path)
    assert np.array_equal(one.test.outputs.read(), LOGITS)
    assert len(one.members) == M
    labels, fog, svhn, val = sorted(one.remarks)
    assert labels == "The true labels are those of y.npy"
    gone = [of_member(m, of).removesuffix(".npy") for m, of in ((1, "fog"), (5, "fog"), (3, "svhn"))]
    assert f"{gone[0]}, {gone[1]} are missing" in fog
    assert f"{gone[2]} is missing" in svhn
    assert "missing" not in val
    assert all("Add" in said and "ood/" not in said for said in (fog, svhn)), "only what is taken is offered"


@pytest.mark.parametrize("lacks", [{4}, {1, 4}, {10}, set()])
@pytest.mark.parametrize("name", ["run_{m}/{of}", "cifar10/seed{m}/{of}"])
def test_the_way_that_is_said_to_read_a_set_of_which_members_have_files_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: set[int], name: str
) -> None:
    members = range(11 if lacks == {10} else 6)
    arrays = {f"{name.format(m=m, of='test')}.npy": LOGITS[m] for m in members}
    arrays |= {f"{name.format(m=m, of='svhn2')}.npy": OTHER[m] for m in members if m not in lacks}
    monkeypatch.chdir(laid(tmp_path, arrays | {"y.npy": LABELS}))
    _, said = read(Path()).remarks
    if lacks == {10}:
        assert said.endswith("Add it, or leave its member out"), "no short pattern leaves that out"
        return
    *test, ood = re.findall(r"'([^']+)'", said)
    pattern = test[0] if lacks else f"{name.format(m='*', of='test')}.npy"
    one = read_glob(pattern, labels="y.npy", ood={"svhn": ood})
    kept = [m for m in members if m not in lacks]
    assert [member.id for member in one.members] == [f"{m}" for m in kept]
    assert np.array_equal(one.sets["ood/svhn"].outputs.read(), OTHER[kept])


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
def test_who_has_no_outputs_on_the_test_set_is_no_member_and_named(tmp_path: Path, form: str) -> None:
    arrays = {f"run_{m}/{of}.npy": one[m] for of, one in (("test", LOGITS), ("svhn", OTHER)) for m in range(M)}
    del arrays["run_3/test.npy"]
    one = read(packed(laid(tmp_path / "e", arrays | {"y.npy": LABELS}), form))
    assert [member.id for member in one.members] == [f"run_{m}" for m in range(M) if m != 3]
    assert "run_3/test is missing, so run_3/svhn is of no member" in one.remarks


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_files_above_the_members_and_of_other_axes_are_no_members(tmp_path: Path, form: str) -> None:
    arrays = {f"run_{m}/test.npy": LOGITS[m] for m in range(M)} | {"mean.npy": LOGITS.mean(0), "y.npy": LABELS}
    arrays |= {f"run_{m}/features.npy": np.zeros((N, 2, 2), np.float32) for m in range(1, M)}
    one = read(packed(laid(tmp_path / "e", arrays), form))
    assert [member.id for member in one.members] == [f"run_{m}" for m in range(M)]
    assert np.array_equal(one.test.outputs.read(), LOGITS)
    assert "mean was not read" in one.remarks
    assert any("run_0/features is missing" in said for said in one.remarks)


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
@pytest.mark.parametrize("name", ["labels", "y", "targets", "whatever"])
def test_labels_beside_outputs_of_the_format_are_taken_where_one_file_can_be_meant(
    tmp_path: Path, form: str, name: str
) -> None:
    arrays = {"test.logits.npy": LOGITS, f"{name}.npy": LABELS.astype("u1"), "ids.npy": np.arange(N)}
    one = read(packed(laid(tmp_path / "e", arrays), form))
    assert np.array_equal(one.test.labels, LABELS)  # type: ignore[arg-type]
    assert one.remarks == (f"The true labels are those of {name}.npy, for there is no test.labels.npy",)
    assert one.unread == ("ids.npy",), "class numbers are below K"


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
def test_of_several_that_can_be_labels_the_usual_name_counts_and_else_it_is_asked(tmp_path: Path, form: str) -> None:
    folder = laid(tmp_path / "e", {"test.logits.npy": LOGITS, "one.npy": LABELS, "two.npy": LABELS[::-1]})
    with pytest.raises(Unclear, match=r"no test\.labels\.npy: which file") as asked:
        read(packed(folder, form))
    assert (asked.value.field, [one.value for one in asked.value.choices]) == ("labels", ["one", "two"])
    assert np.array_equal(read(packed(folder, form), labels="two").test.labels, LABELS[::-1])  # type: ignore[arg-type]
    laid(folder, {"y.npy": LABELS[::-1]})
    one = read(packed(folder, form))
    assert np.array_equal(one.test.labels, LABELS[::-1])  # type: ignore[arg-type]
    assert one.unread == ("one.npy",), "two says what y says"
    (refused,) = examine(read(laid(tmp_path / "none", {"test.logits.npy": LOGITS, "y.npy": LABELS + 1}))).refused
    assert refused.sentence == (
        "the set test has no true labels: put them beside as test.labels.npy, or name a file of them (labels)"
    )


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
@pytest.mark.parametrize("outputs", ["all", "one a member"])
def test_labels_that_were_found_beside_outputs_are_named_in_what_is_told(
    tmp_path: Path, form: str, outputs: str
) -> None:
    all_of = {"preds.npy": LOGITS} if outputs == "all" else {f"run_{m}.npy": LOGITS[m] for m in range(M)}
    path = packed(laid(tmp_path / "e", all_of | {"truth.npy": LABELS}), form)
    told = [one.sentence for one in examine(read(path)).told]
    assert "The true labels are those of truth.npy" in told
    assert not read(path, labels="truth").remarks, "which were named"


def test_labels_beside_an_archive_or_in_the_members_own_are_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "both").mkdir()
    np.savez(tmp_path / "both" / "preds.npz", LOGITS)
    np.save(tmp_path / "both" / "y.npy", LABELS)
    assert read(tmp_path / "both").remarks == ("The true labels are those of y.npy",)
    (tmp_path / "own").mkdir()
    for m in range(3):
        np.savez(tmp_path / "own" / f"m{m}.npz", logits=LOGITS[m], labels=LABELS)
    assert read(tmp_path / "own").remarks == ("The true labels are those of m0.npz",)
    monkeypatch.chdir(tmp_path)
    for given in ("own/*.npz", [f"own/m{m}.npz" for m in range(3)]):
        one = read_glob(given)
        assert set_digest(replace(one, members=read("own").members)) == set_digest(read("own"))
        assert one.remarks == ("The true labels are those of own/m0.npz",)
    np.savez("own/m2.npz", logits=LOGITS[2], labels=LABELS[::-1])
    for take in (partial(read, "own"), partial(read_glob, "own/*.npz")):
        with pytest.raises(InvalidInput, match=r"m2\.npz: it(s labels are not those| has labels of its own)"):
            take()
    np.save("own/m3.npy", LOGITS[3])
    with pytest.raises(InvalidInput, match="is needed beside one file a member") as lacking:
        read_glob("own/*.npy")
    assert lacking.value.field == "labels"


def test_predicted_labels_alone_take_only_labels_of_a_usual_name(tmp_path: Path) -> None:
    laid(tmp_path / "e", {"test.predictions.npy": LOGITS.argmax(-1), "other.npy": LABELS})
    assert read(tmp_path / "e").test.labels is None
    laid(tmp_path / "e", {"y.npy": LABELS})
    assert np.array_equal(read(tmp_path / "e").test.labels, LABELS)  # type: ignore[arg-type]


_WITH_LABELS = {
    "format": {"test.logits.npy": LOGITS, "test.labels.npy": LABELS},
    "two arrays": {"preds.npy": LOGITS, "labels.npy": LABELS},
    "a file a member": {**{f"run_{m}.npy": LOGITS[m] for m in range(M)}, "truth.npy": LABELS},
}


@pytest.mark.parametrize("form", ["folder", "zip", "npz"])
@pytest.mark.parametrize("what", _WITH_LABELS)
def test_what_has_labels_takes_no_others_from_elsewhere_and_the_same_are_not_called_unread(
    tmp_path: Path, form: str, what: str
) -> None:
    path = packed(laid(tmp_path / "e", _WITH_LABELS[what]), form)
    np.save(tmp_path / "same.npy", LABELS.astype("u1"))
    np.save(tmp_path / "other.npy", (LABELS + 1) % K)
    same = read(path, labels=str(tmp_path / "same.npy"))
    assert np.array_equal(same.test.labels, LABELS)  # type: ignore[arg-type]
    assert same.unread == ()
    with pytest.raises(InvalidInput, match=r"it has labels of its own.* those of other\.npy are others"):
        read(path, labels=str(tmp_path / "other.npy"))


def test_names_of_classes_are_given_to_what_has_none_and_others_than_the_files_are_refused(tmp_path: Path) -> None:
    names = ["\u00e2ne", "loup", "zebra"]
    for own in ([], ["0", "1", "2"]):
        write(from_arrays(LOGITS, LABELS, classes=own), path := tmp_path / f"{len(own)}.zip")
        assert read(path, classes=names).classes == tuple(names)
    write(from_arrays(LOGITS, LABELS, classes=names), path := tmp_path / "named.zip")
    assert read(path, classes=["a\u0302ne", "loup", "zebra"]).classes == tuple(names), "the same, decomposed"
    for given, said in (
        (["loup", "\u00e2ne", "zebra"], "class 0 is 'loup', and the files call it '\u00e2ne'"),
        (names[:2], "2 are given, the files name 3"),
        (["\u00e2ne", "loup", "Zebra"], "class 2 is 'Zebra'"),
    ):
        with pytest.raises(InvalidInput, match=said) as refused:
            read(path, classes=given)
        assert refused.value.field == "classes"


def test_labels_within_the_files_of_members_are_held_against_those_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for m in range(3):
        np.savez(f"run_{m}.npz", outputs=LOGITS[m], y=LABELS)
    np.save(tmp_path / "same.npy", LABELS)
    np.save(tmp_path / "other.npy", (LABELS + 1) % K)
    assert len(read_glob("run_*.npz", labels="same.npy").members) == 3
    assert read_glob("run_*.npz", labels="same.npy", shift={("fog", 1): "run_*.npz"}).sets["shift/fog/1"].count == N
    for labels, more in (
        ("other.npy", {}),
        ("same.npy", {"validation": ("run_*.npz", "other.npy")}),
        ("same.npy", {"shift": {("fog", 1): ("run_*.npz", "other.npy")}}),
    ):
        with pytest.raises(InvalidInput, match=r"run_0\.npz: it has labels of its own, and those of other\.npy"):
            read_glob("run_*.npz", labels=labels, **more)  # type: ignore[arg-type]
    folder = tmp_path / "folder"
    folder.mkdir()
    for m in range(3):
        np.savez(folder / f"run_{m}.npz", outputs=LOGITS[m], y=LABELS)
    np.save(folder / "labels.npy", LABELS)
    assert read(folder).unread == ()
    np.save(folder / "labels.npy", (LABELS + 1) % K)
    with pytest.raises(InvalidInput, match=r"its labels are not those of labels\.npy"):
        read(folder)


def test_a_member_that_comes_alone_brings_no_labels_but_those_that_were_given_before(tmp_path: Path) -> None:
    np.save(tmp_path / "declared.npy", LABELS)
    labels = {"test": str(tmp_path / "declared.npy")}
    for given, fits in ((LABELS, True), ((LABELS + 1) % K, False)):
        folder = laid(tmp_path / f"files {fits}", {"test.logits.npy": LOGITS[0], "test.labels.npy": given})
        (packs := tmp_path / f"pack {fits}").mkdir()
        np.savez(packs / "m.npz", preds=LOGITS[:1], y=given)
        for root in (folder, packs):
            asked: dict[str, Any] = {"id": "7", "seed": None, "config": {}, "labels": labels}
            if fits:
                assert np.array_equal(one_member(root, Asked(), **asked).test.labels, LABELS)  # type: ignore[arg-type]
                continue
            with pytest.raises(InvalidInput, match="not those that were given when the import was opened"):
                one_member(root, Asked(), **asked)


@pytest.mark.parametrize("ending", ["", ".zip", ".npz"])
def test_members_without_a_file_of_weights_are_told(tmp_path: Path, ending: str) -> None:
    whole = from_arrays(LOGITS, LABELS, weights=[{"w": np.full((2, 2), m, np.float32)} for m in range(M)])
    for gone, said in (
        ([], None),
        (["3"], "Member 3 has no weights: "),
        (["1", "10"], "Members 1 and 10 have no weig"),
    ):
        some = replace(whole, weights={one: tensors for one, tensors in whole.weights.items() if one not in gone})
        write(some, path := tmp_path / f"without {len(gone)}{ending}")
        told = [one for one in examine(read(path)).told if one.what is Odd.WEIGHTS]
        assert [one.members for one in told] == ([tuple(gone)] if gone else [])
        assert said is None or told[0].sentence.startswith(said)


def test_architectures_of_different_numbers_are_members_of_one_ensemble(tmp_path: Path) -> None:
    arrays = {"resnet_1.npy": LOGITS[0], "resnet_2.npy": LOGITS[1], "vgg_1.npy": LOGITS[2], "y.npy": LABELS}
    one = read(laid(tmp_path / "e", arrays))
    assert [member.id for member in one.members] == ["resnet_1", "resnet_2", "vgg_1"]
    with pytest.raises(Unclear):
        read(packed(tmp_path / "e", "npz"))


def test_numbered_arrays_of_one_npz_are_members_and_others_are_asked_about(tmp_path: Path) -> None:
    np.savez(tmp_path / "numbered.npz", **{f"run_{i}": LOGITS[i] for i in range(M)}, labels=LABELS)
    one = read(tmp_path / "numbered.npz")
    assert set_digest(one) == set_digest(from_arrays(LOGITS, LABELS, members=[f"run_{i}" for i in range(M)]))
    np.savez(tmp_path / "named.npz", adam=LOGITS[0], eve=LOGITS[1], labels=LABELS)
    with pytest.raises(Unclear, match="Several arrays could be"):
        read(tmp_path / "named.npz")


@pytest.mark.parametrize("of", ["a folder", "an npz"])
def test_labels_that_are_whole_numbers_in_floats_are_labels_and_fractions_are_a_regression(
    tmp_path: Path, of: str
) -> None:
    def written(truth: np.ndarray) -> Path:
        if of == "a folder":
            for i in range(3):
                np.save(tmp_path / f"run_{i}.npy", LOGITS[i])
            np.save(tmp_path / "y.npy", truth)
            return tmp_path
        np.savez(tmp_path / "e.npz", outputs=LOGITS[:3], y=truth)
        return tmp_path / "e.npz"

    assert np.array_equal(read(written(LABELS.astype("f8"))).test.labels, LABELS)
    with pytest.raises(InvalidInput, match="regression"):
        read(written(LABELS + 0.5))


@pytest.mark.parametrize("name", ["run_0.pt", "run_0.pkl"])
def test_pickles_that_come_instead_of_outputs_are_refused_with_the_lines_that_convert_them(
    tmp_path: Path, name: str
) -> None:
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InvalidInput, match=rf"(?s){name}.*np\.save"):
        read(tmp_path)


def test_a_pickle_among_a_file_a_member_is_a_member_that_cannot_be_read(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"run_{i}.npy", LOGITS[i])
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / "notes.txt").write_text("as it came")
    assert read(tmp_path).unread == ("notes.txt",)
    (tmp_path / "run_3.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InvalidInput, match=r"(?s)run_3\.pkl.*np\.save"):
        read(tmp_path)


@pytest.mark.parametrize("labels", ["in each", "in each and beside", "beside"])
def test_an_npz_a_member_may_hold_its_labels_too(tmp_path: Path, labels: str) -> None:
    for i in range(M):
        own = {"labels": LABELS} if "each" in labels else {}
        np.savez(tmp_path / f"run_{i}.npz", logits=LOGITS[i], **own)
    if "beside" in labels:
        np.save(tmp_path / "y.npy", LABELS)
    one = read(tmp_path, labels="y" if "beside" in labels else None)
    assert set_digest(one) == set_digest(from_arrays(LOGITS, LABELS, members=[f"run_{i}" for i in range(M)]))
    by_glob = read_glob(str(tmp_path / "run_*.npz"), labels=tmp_path / ("y.npy" if "beside" in labels else "run_0.npz"))
    assert len(by_glob.members) == M
    if labels == "in each":
        np.savez(tmp_path / "run_5.npz", logits=LOGITS[5], labels=LABELS[::-1])
        with pytest.raises(InvalidInput, match=r"run_5\.npz: its labels are not those of run_0\.npz"):
            read(tmp_path)
    np.savez(tmp_path / "run_5.npz", logits=LOGITS[5], extra=LOGITS[5])
    with pytest.raises(InvalidInput, match=r"run_5\.npz: it holds extra\.npy, logits\.npy"):
        read(tmp_path)


def test_an_archive_and_the_labels_beside_it_are_one_ensemble_as_a_server_gets_them(tmp_path: Path) -> None:
    (folder := tmp_path / "runs").mkdir()
    for i in range(3):
        np.save(folder / f"run_{i}.npy", LOGITS[i])
    (sent := tmp_path / "sent").mkdir()
    zipped(sent / "runs.zip", folder, "")
    np.save(sent / "labels.npy", LABELS)
    for labels in (None, "labels.npy", str(sent / "labels.npy")):
        assert [member.id for member in read(sent, labels=labels).members] == ["run_0", "run_1", "run_2"]


def test_labels_in_a_column_and_what_a_mac_leaves_behind(tmp_path: Path) -> None:
    (folder := tmp_path / "runs").mkdir()
    for i in range(3):
        np.save(folder / f"run_{i}.npy", LOGITS[i])
    np.save(folder / "t.npy", LABELS[:, None])
    (folder / "._run_0.npy").write_bytes(b"\0\5\x16\7")
    for path in (folder, zipped(tmp_path / "runs.zip", folder, "runs/")):
        one = read(path)
        assert len(one.members) == 3
        np.testing.assert_array_equal(one.truth(one.test), LABELS)


def test_archives_inside_an_archive_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (folder := tmp_path / "runs").mkdir()
    for i in range(3):
        np.savez(folder / f"run_{i}.npz", LOGITS[i])
    np.save(folder / "y.npy", LABELS)
    with pytest.raises(InvalidInput, match=r"run_\d\.npz, an archive inside an archive.*the folder itself"):
        read(zipped(tmp_path / "runs.zip", folder, ""))


def test_a_model_beside_the_arrays_is_no_reason_to_refuse_them(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "labels.npy", LABELS)
    (tmp_path / "model.pt").write_bytes(b"\x80\x04K\x01.")
    assert len(read(tmp_path).members) == M


def test_the_format_in_an_archive_of_its_folder_is_read_without_its_document(tmp_path: Path) -> None:
    (folder := tmp_path / "e").mkdir()
    np.save(folder / "test.logits.npy", LOGITS)
    np.save(folder / "test.labels.npy", LABELS)
    assert set_digest(read(zipped(tmp_path / "e.zip", folder, "e/"))) == set_digest(read(folder))


def test_without_an_expression_a_member_is_what_the_wildcards_stand_for(runs: Path) -> None:
    pattern = str(runs / "run_*" / "test.npy")
    assert [one.id for one in read_glob(pattern, labels="y.npy").members] == [str(m) for m in range(M)]


def test_a_wildcard_may_leave_letters_out(tmp_path: Path) -> None:
    for name in ("best", "last", "one"):
        np.save(tmp_path / f"{name}.npy", LOGITS[0])
    np.save(tmp_path / "y.npy", LABELS)
    one = read_glob(str(tmp_path / "*[!ey].npy"), labels=tmp_path / "y.npy")
    assert [member.id for member in one.members] == ["bes-t", "las-t"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("[^dy]*.npy", ["b-est", "l-ast", "o-ne[1]"]),  # as shells read it
        ("[!dy]*.npy", ["b-est", "l-ast", "o-ne[1]"]),
        ("one[1].npy", ["one[1]"]),  # a file whose name looks like a pattern
        ("**/deep.npy", ["a-b", "a", "deep"]),
        ("a/**/deep.npy", ["b", "deep"]),
        ("**/[d]eep.npy", ["a-b-d", "a-d", "d"]),
    ],
)
def test_every_pattern_names_the_members_it_finds(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("best", "last", "one[1]", "y", "deep", "a/deep", "a/b/deep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"{name}.npy", LOGITS[0])
    assert sorted(members_of(str(tmp_path / pattern))) == sorted(names)


def test_a_member_without_a_file_is_named(runs: Path) -> None:
    Path("run_7/svhn.npy").unlink()
    with pytest.raises(InvalidInput, match=r"run_\*/svhn\.npy: member '7' has no file there"):
        read_glob("run_*/test.npy", labels="y.npy", ood={"svhn": "run_*/svhn.npy"})
    with pytest.raises(InvalidInput, match=r"run_7/test\.npy: member '7' has no outputs on the test set"):
        read_glob("run_*/svhn.npy", labels="y_val.npy", ood={"a": "run_*/test.npy"})


def test_a_member_of_another_shape_is_named(runs: Path) -> None:
    np.save("run_4/test.npy", LOGITS[4, :-1])
    with pytest.raises(InvalidInput, match=r"run_4/test\.npy: it is \[29, 3\], run_0/test\.npy is \[30, 3\]"):
        read_glob("run_*/test.npy", labels="y.npy")


def test_two_files_of_one_member_are_asked_about(runs: Path) -> None:
    with pytest.raises(Unclear, match="are both of member") as asked:
        read_glob("run_*/*.npy", labels="y.npy", member=r"run_(\d+)")
    assert asked.value.field == "member"


def test_no_files_and_pickles_are_refused(runs: Path) -> None:
    with pytest.raises(InvalidInput, match="no file is there"):
        read_glob("nothing_*.npy", labels="y.npy")
    Path("run_0/a.pt").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="weights_only=True"):
        read_glob("run_*/*.pt", labels="y.npy")
    with pytest.raises(InvalidInput, match="it is no regular expression"):
        read_glob("run_*/test.npy", labels="y.npy", member="(")


SIGMOID = RANDOM.normal(size=(M, N)).astype("f4")
ONE_NUMBER = {
    "probabilities": (1 / (1 + np.exp(-SIGMOID)), r"np\.stack\(\[1 - p, p\], -1\)"),
    "logits": (SIGMOID, r"np\.stack\(\[0 \* z, z\], -1\)"),
    "predicted labels": (LOGITS.argmax(-1).astype("f4"), r"outputs\.astype\(int\)"),
}


@pytest.mark.parametrize("what", ONE_NUMBER)
@pytest.mark.parametrize("kind", [None, "probs", "labels"])
def test_floats_of_one_number_an_example_are_refused_with_what_makes_them_readable(
    what: str, kind: str | None, tmp_path: Path
) -> None:
    found, hint = ONE_NUMBER[what]
    truth = LABELS if what == "predicted labels" else LABELS % 2
    np.savez(tmp_path / "a.npz", preds=found, labels=truth)
    with pytest.raises(InvalidInput, match=hint):
        read(tmp_path / "a.npz", kind=OutputKind(kind) if kind else None)
    if kind != "labels":
        one = from_arrays(found, truth, kind=kind or "logits")
        assert re.search(hint, examine(one).refused[0].sentence)
        assert f"[{M}, {N}]" in examine(one).refused[0].sentence
        with pytest.raises(InvalidInput, match=hint):
            from_arrays(found[0], truth, kind=kind or "logits")


@pytest.mark.parametrize("given", [LOGITS.round().astype(int), np.eye(K, dtype="u1")[LOGITS.argmax(-1)]])
def test_whole_numbers_of_a_column_a_class_are_refused_with_what_makes_them_readable(
    given: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", preds=given, labels=LABELS)
    said = r"(?s)whole numbers.*outputs\.argmax\(-1\)"
    for call in (lambda: read(tmp_path / "a.npz"), lambda: analyse(given, LABELS, folder=tmp_path)):
        with pytest.raises(InvalidInput, match=said):
            call()
    with pytest.raises(InvalidInput, match=r"outputs\.argmax\(-1\)\[None\], or logits as outputs\.astype"):
        analyse(given[0], LABELS, folder=tmp_path)
    with pytest.raises(InvalidInput, match=r"it holds bool for predicted labels.*outputs\.astype\(int\)"):
        analyse(LOGITS.argmax(-1) > 0, LABELS > 0, folder=tmp_path)


def test_natural_order() -> None:
    assert sorted(["run10", "run2", "run1", "run", "b3/1", "b3/0"], key=natural) == [
        "b3/0",
        "b3/1",
        "run",
        "run1",
        "run2",
        "run10",
    ]


# --- arrays in memory ---


class OnlyDlpack:
    """What an array of a framework is that NumPy knows by DLPack alone."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


def test_arrays_of_every_framework_are_the_same_ensemble() -> None:
    import torch

    digest = set_digest(from_arrays(LOGITS, LABELS))
    needs_gradient = torch.tensor(LOGITS, requires_grad=True)
    for outputs in (torch.from_numpy(LOGITS), needs_gradient, [torch.from_numpy(one) for one in LOGITS], list(LOGITS),
                    OnlyDlpack(LOGITS)):  # fmt: skip
        assert set_digest(from_arrays(outputs, LABELS)) == digest
    assert set_digest(from_arrays(LOGITS, torch.from_numpy(LABELS))) == digest
    assert set_digest(from_arrays(LOGITS, LABELS.tolist())) == digest


def test_bfloat16_becomes_float32_exactly() -> None:
    import torch

    rounded = torch.from_numpy(LOGITS).bfloat16()
    one = from_arrays(rounded, LABELS)
    assert one.test.outputs.dtype == np.float32
    assert np.array_equal(one.test.outputs.read(), rounded.float().numpy())


def test_bfloat16_of_jax_becomes_float32_exactly() -> None:
    import ml_dtypes

    rounded = LOGITS.astype(ml_dtypes.bfloat16)
    assert np.array_equal(from_arrays(rounded, LABELS).test.outputs.read(), rounded.astype("f4"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"logits": LOGITS[0, 0]}, "logits: it is"),
        ({"logits": "x.pt"}, "weights_only"),
        ({"logits": object()}, "logits: it is of the type object"),
        ({"kind": "scores"}, "kind is 'scores'"),
        ({"recipe": "mine"}, "recipe is 'mine'"),
        ({"validation": LOGITS}, "validation: it is of the type ndarray"),
        ({"ood": {"../a": LOGITS}}, "leads out"),
        ({"ood": {"a/b": LOGITS}}, "holds a /"),
        ({"shift": {"fog": LOGITS}}, "no intensity"),
        ({"shift": {("fog", 7): LOGITS}}, "no intensity"),
        ({"samples": {"swag": LOGITS}}, r"samples\['swag'\]: it is"),
        ({"trajectory": (np.array([2, 1]), np.stack([LOGITS] * 2, 1))}, "epochs do not increase"),
        ({"weights": [{}]}, "weights are 1, members 12"),
        ({"members": ["a"]}, "members names 1"),
        ({"members": ["a"] * M}, "two members are called 'a'"),
        ({"images": np.zeros((N, 8, 8))}, "images are"),
        ({"logits": None}, "logits: it is None"),
        ({"labels": {"y": LABELS}}, "labels: it is of the type dict"),
        ({"logits": np.array([LOGITS[0], None], object)}, "logits: it holds Python objects"),
        ({"logits": np.ma.masked_less(LOGITS, 0)}, "logits: some of its numbers are masked"),
        ({"ood": LOGITS}, r"ood is of the type ndarray .*dictionary"),
        ({"ood": {7: LOGITS}}, r"ood\[7\]: its name is of the type int"),
        ({"samples": [LOGITS]}, "samples is of the type list .*dictionary"),
        ({"samples": {7: LOGITS}}, r"samples\[7\]: its name is"),
        ({"samples": {"swag": Samples(LOGITS[:, None], ood=[LOGITS])}}, r"samples\['swag'\]\.ood is of the type list"),
        ({"shift": [LOGITS]}, "shift is of the type list .*dictionary"),
        ({"shift": {3: LOGITS}}, r"shift\[3\] has no intensity"),
        ({"shift": {None: LOGITS}}, r"shift\[None\] has no intensity"),
        ({"shift": {("fog",): LOGITS}}, "no intensity"),
        ({"shift": {("fog", 3, 1): LOGITS}}, "no intensity"),
        ({"shift": {(7, 3): LOGITS}}, r"shift\[\(7, 3\)\]: its name is of the type int"),
        ({"shift": {("fog", 3): LOGITS, "fog/3": LOGITS}}, r"shift\['fog/3'\]: .* is the same set"),
        ({"shift": {("fog", 3): (LOGITS, LABELS, LABELS)}}, r"it is 3 things .*\(outputs, labels\)"),
        ({"weights": 5}, "weights is of the type int"),
        ({"weights": "a.safetensors"}, "weights is of the type str .*a list, one a member"),
        ({"members": 12}, "members is of the type int"),
        ({"members": "a" * M}, "members is of the type str"),
        ({"classes": "abc"}, "classes is of the type str"),
        ({"kind": None}, "kind is None"),
    ],
)
def test_an_argument_that_is_not_right_is_named(given: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"logits": LOGITS, "labels": LABELS, **given}
    with pytest.raises(InvalidInput, match=words):
        from_arrays(arguments.pop("logits"), arguments.pop("labels"), **arguments)


def test_what_is_noted_of_a_member_is_kept_as_json_can_have_it() -> None:
    noted = {
        "lr": np.float32(0.5),
        "decay": math.nan,
        "huge": 2**70,
        "on": date(2024, 1, 2),
        "betas": (0.9, 1),
        3: None,
    }
    assert Member("a", np.int64(7), noted).config == {
        "lr": 0.5, "decay": "nan", "huge": str(2**70), "on": "2024-01-02", "betas": [0.9, 1], "3": None,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="64 bits"):
        Member("a", 2**70)


def test_samples_keep_what_was_given_with_them() -> None:
    drawn = np.stack([LOGITS] * 4, 1)
    swag = Samples(
        drawn, strength=np.arange(M * 4).reshape(M, 4), centre=LOGITS, shift={"fog/3": drawn}, validation=drawn
    )
    one = from_arrays(LOGITS, LABELS, samples={"swag": swag, "random": drawn}, shift={("fog", 3): LOGITS})
    kept = one.samples["swag"]
    assert set(kept.outputs) == {"test", "shift/fog/3", "validation"}
    assert kept.strength is not None
    assert kept.strength[1, 2] == 6
    assert one.samples["random"].strength is None


def test_samples_may_come_with_the_labels_of_the_set_if_they_are_the_same() -> None:
    drawn, truth = np.stack([OTHER] * 4, 1), LABELS[:10]
    swag = Samples(np.stack([LOGITS] * 4, 1), shift={("natural", 1): (drawn, truth)}, ood={"svhn": drawn})
    given = {"shift": {("natural", 1): (OTHER, truth)}, "ood": {"svhn": OTHER}}
    kept = from_arrays(LOGITS, LABELS, samples={"swag": swag}, **given).samples["swag"]
    assert np.array_equal(kept.outputs["shift/natural/1"].read(), drawn)
    swag = Samples(np.stack([LOGITS] * 4, 1), shift={("natural", 1): (drawn, (truth + 1) % K)})
    with pytest.raises(InvalidInput, match="its labels are not those of the set"):
        from_arrays(LOGITS, LABELS, samples={"swag": swag}, **given)


def test_a_trajectory_may_have_the_validation_set_too() -> None:
    along, held = np.stack([LOGITS] * 2, 1), np.stack([OTHER] * 2, 1)
    given = {"validation": (OTHER, LABELS[:10])}
    one = from_arrays(LOGITS, LABELS, trajectory=([1, 5], {"test": along, "validation": held}), **given)
    assert one.trajectory is not None
    assert np.array_equal(one.trajectory.outputs["validation"].read(), held)
    assert not one.lacking("validation")
    assert from_arrays(LOGITS, LABELS, trajectory=along, **given).lacking("validation") == ["trajectory"]
    with pytest.raises(InvalidInput, match="it has outputs of 'fog'"):
        from_arrays(LOGITS, LABELS, trajectory={"fog": along}, **given)


def test_names_in_an_archive_that_does_not_say_they_are_utf_8(tmp_path: Path) -> None:
    """As `zip -r` writes them; Python's own archives say so in bit 11 of each name's flags."""
    for i in range(3):
        np.save(tmp_path / f"läuf_{i}.npy", LOGITS[i])
    np.save(tmp_path / "y.npy", LABELS)
    content = bytearray(zipped(tmp_path / "e.zip", tmp_path, "größe/").read_bytes())
    for signature, flags in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        for found in re.finditer(re.escape(signature), bytes(content)):
            content[found.start() + flags] &= ~8
    (tmp_path / "e.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert "größe/läuf_0.npy" not in archive.namelist(), "so Python alone reads it"
    assert [one.id for one in read(tmp_path / "e.zip").members] == ["läuf_0", "läuf_1", "läuf_2"]


# --- sets of one method ---


def test_samples_of_one_method_are_told_by_the_endings_of_their_names() -> None:
    """swag-spread beside swag-typical; a name that only ends so is a method's own."""
    spread, typical, fair, last = SampleSet.SPREAD, SampleSet.TYPICAL, SampleSet.FAIR, SampleSet.LAST
    assert sets_of(["swag-last", "swag-spread", "swag-typical", "x-fair"]) == {
        "swag": {last: "swag-last", spread: "swag-spread", typical: "swag-typical"}, "x": {fair: "x-fair"},
    }  # fmt: skip
    for alone in ("dropout", "swa-last", "-typical", "low-rank", "epoch-30"):
        assert sets_of([alone]) == {alone: {typical: alone}}
    assert sets_of(["a", "a-spread"]) == {"a": {typical: "a"}, "a-spread": {typical: "a-spread"}}


@pytest.mark.parametrize(
    ("better", "says"),
    [
        (np.zeros((M, 1), np.uint8), "it is uint8"),
        (np.full(M, 2), "more than 0 and 1"),
        (np.ones(M - 1, bool), "are told"),
    ],
)
def test_which_last_iterates_are_better_is_told_of_every_member(better: np.ndarray, says: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    drawn = {
        name: Samples(rng.normal(size=(M, count, N, K)))
        for name, count in (("swag-typical", 4), ("swag-last", 1))
    }  # fmt: skip
    told = {**drawn, "swag-last": replace(drawn["swag-last"], better=np.arange(M) % 2)}
    logits, labels = rng.normal(size=(M, N, K)), rng.integers(0, K, N)
    write(from_arrays(logits, labels, samples=told), tmp_path / "whole")
    assert read(tmp_path / "whole").samples["swag-last"].better.tolist() == [i % 2 == 1 for i in range(M)]
    np.save(tmp_path / "whole" / "samples" / "swag-last" / "better.npy", better)
    with pytest.raises(InvalidInput, match=says):
        refused(read(tmp_path / "whole"))


def refused(ensemble: Ensemble) -> None:
    """As whatever takes an ensemble in."""
    if found := examine(ensemble).refused:
        raise InvalidInput(found[0].sentence)


# --- an answer is taken or refused, never dropped ---


def _formats(folder: Path, *, labelled: bool) -> dict[str, Path]:
    """The same outputs as a folder, archives and a table, with labels of their own or without any."""
    arrays = {"test.logits.npy": LOGITS} | ({"test.labels.npy": LABELS} if labelled else {})
    places = {"folder": folder / "fold2", "zip": folder / "e.zip", "npz": folder / "e.npz", "csv": folder / "t.csv"}
    places["folder"].mkdir()
    with zipfile.ZipFile(places["zip"], "x") as archive:
        for name, array in arrays.items():
            np.save(places["folder"] / name, array)
            archive.write(places["folder"] / name, name)
    np.savez(places["npz"], **{name.removesuffix(".npy"): array for name, array in arrays.items()})
    with places["csv"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["member", *(["label"] if labelled else []), *(f"logit_{k}" for k in range(K))])
        for member in range(M):
            for row, label in zip(LOGITS[member], LABELS, strict=True):
                rows.writerow([member, *([label] if labelled else []), *map(float, row)])
    return places


AS = ["folder", "zip", "npz", "csv"]


@pytest.mark.parametrize("how", AS)
def test_labels_that_are_named_are_those_of_what_has_none(how: str, tmp_path: Path) -> None:
    place = _formats(tmp_path, labelled=False)[how]
    np.save(tmp_path / "y2.npy", LABELS)
    assert examine(read(place)).refused
    found = read(place, labels=str(tmp_path / "y2.npy"))
    assert found.test.labels is not None
    assert found.test.labels.tolist() == LABELS.tolist()
    assert not examine(found).refused
    assert not found.unread
    with pytest.raises(InvalidInput, match=r"no array of that name is there for labels"):
        read(place, labels=str(tmp_path / "nowhere.npy"))


def test_labels_that_came_beside_are_named_by_their_file(tmp_path: Path) -> None:
    """As a server gets them: within the folder of what was sent, and nowhere else."""
    places = _formats(tmp_path, labelled=False)
    np.save(places["folder"] / "y2.npy", LABELS)
    for name in ("y2.npy", "y2", str(places["folder"] / "y2.npy")):
        found = read(places["folder"], labels=name, within=places["folder"])
        assert found.test.labels is not None
        assert found.test.labels.tolist() == LABELS.tolist()
        assert not found.unread
    np.save(tmp_path / "y3.npy", LABELS)
    with pytest.raises(InvalidInput, match=r"no array of that name is there for labels"):
        read(places["folder"], labels=str(tmp_path / "y3.npy"), within=places["folder"])
    for how in ("zip", "npz", "csv"):
        (sent := tmp_path / how).mkdir()
        places[how].rename(sent / places[how].name)
        np.save(sent / "labels.npy", LABELS)
        found = read(sent, labels="labels.npy", within=sent)
        assert found.test.labels is not None
        assert found.test.labels.tolist() == LABELS.tolist(), how


@pytest.mark.parametrize("how", AS)
def test_labels_other_than_its_own_are_refused_and_the_same_pass(how: str, tmp_path: Path) -> None:
    place = _formats(tmp_path, labelled=True)[how]
    np.save(tmp_path / "same.npy", LABELS)
    np.save(tmp_path / "y2.npy", (LABELS + 1) % K)
    assert set_digest(read(place, labels=str(tmp_path / "same.npy"))) == set_digest(read(place))
    with pytest.raises(InvalidInput, match=r"labels of its own, .*y2.npy are others") as refused:
        read(place, labels=str(tmp_path / "y2.npy"))
    assert "leave labels out" in str(refused.value)
    assert ("column label" if how == "csv" else "test.labels.npy") in str(refused.value)


@pytest.mark.parametrize("how", AS)
def test_outputs_are_not_named_of_what_says_itself_which_they_are(how: str, tmp_path: Path) -> None:
    place = _formats(tmp_path, labelled=True)[how]
    with pytest.raises(InvalidInput, match=r"it says by itself which outputs .* 'preds' .*leave outputs out"):
        read(place, outputs="preds")
    with pytest.raises(InvalidInput, match=r"no runs of a tracker lie there"):
        read(place, experiment="first")
    if how != "csv":
        assert set_digest(read(place, outputs="test.logits.npy")) == set_digest(read(place))


def test_outputs_of_one_array_are_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "preds.npy", LOGITS)
    np.save(tmp_path / "y.npy", LABELS)
    assert read(tmp_path / "preds.npy", labels=str(tmp_path / "y.npy"), outputs="preds.npy").test.count == N
    with pytest.raises(InvalidInput, match=r"no array of that name is there for outputs"):
        read(tmp_path / "preds.npy", labels=str(tmp_path / "y.npy"), outputs="others")


@pytest.mark.parametrize("said", ["outputs", "labels", "experiment"])
@pytest.mark.parametrize("letter", ["\0", "\n", "\x1b", "\x7f"])
@pytest.mark.parametrize("how", [*AS, "one array", "two arrays"])
def test_characters_that_no_name_has_are_refused_in_what_is_said(
    how: str, letter: str, said: str, tmp_path: Path
) -> None:
    places = _formats(tmp_path, labelled=True)
    np.save(places.setdefault("one array", tmp_path / "preds.npy"), LOGITS)
    np.savez(places.setdefault("two arrays", tmp_path / "two.npz"), a=LOGITS, b=LABELS)
    with pytest.raises(InvalidInput, match="with characters that no name has") as refused:
        read(places[how], **{said: f"y{letter}.npy"}, within=tmp_path)
    assert refused.value.problems[0].field == said


def test_labels_that_are_called_as_the_format_calls_them_make_no_format_of_a_file_a_member(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"m{i}.npy", LOGITS[i])
    np.save(tmp_path / "test.labels.npy", LABELS)
    found = read(tmp_path)
    np.testing.assert_array_equal(found.test.outputs.read(), LOGITS[:3])
    assert found.test.labels is not None
    np.testing.assert_array_equal(found.test.labels, LABELS)


def test_a_sent_file_whose_name_begins_with_a_dot_is_said_to_be_unread(tmp_path: Path) -> None:
    for name in (".m0.npy", "m1.npy", "m2.npy"):
        np.save(tmp_path / name, LOGITS[0] if name == "m1.npy" else LOGITS[1])
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / ".DS_Store").write_bytes(b"a desktop's own")
    found = read_sent(tmp_path, Asked(name="dots"))
    assert found.unread == (".m0.npy",)
    assert found.test.outputs.shape[0] == 2
