"""The set digest: the same for the same arrays however they lie, another for anything else; what is written is read."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from modescape.errors import Conflict, InvalidInput
from modescape.imported.arrays import Array, held, stacked
from modescape.imported.digest import contents, set_digest
from modescape.imported.door import examine
from modescape.imported.ensemble import Ensemble, Member, OutputKind, Recipe
from modescape.imported.manifest import document
from modescape.imported.memory import Samples, from_arrays
from modescape.imported.reading import read
from modescape.imported.writing import write

NAMES = ("svhn", "digits", "čísla", "a.b", "x y", "labels", "test")


@dataclass
class Drawing:
    """Draws ensembles that the format can hold: every part is there or not, every kind, dtype and size."""

    seed: int

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.kind = list(OutputKind)[self.seed % 4]
        self.m, self.n, self.s, self.t = (int(self.random.integers(1, 5)) for _ in range(4))
        self.k = int(self.random.integers(2, 5))
        self.dtype = self.random.choice(["f2", "f4", "f8", ">f4"])

    def outputs(self, *lead: int, examples: int | None = None) -> np.ndarray:
        shape = (*lead, examples or self.n)
        if self.kind is OutputKind.LABELS:
            return self.random.integers(0, self.k, shape).astype(self.random.choice(["u1", "i4", "i8"]))
        return self.random.normal(size=(*shape, self.k)).astype(self.dtype)

    def labels(self, examples: int | None = None) -> np.ndarray:
        return self.random.integers(0, self.k, examples or self.n)

    def is_there(self) -> bool:
        return bool(self.random.random() < 0.6)

    def maybe(self, value: Any) -> Any:
        return value if self.is_there() else None

    def samples(self, ood: list[str], shift: list[tuple[str, int]]) -> Samples:
        m, s = self.m, self.s
        return Samples(
            self.outputs(m, s), strength=self.maybe(self.random.random((m, s))), centre=self.maybe(self.outputs(m)),
            ood={name: self.outputs(m, s) for name in ood if self.is_there()},
            shift={key: self.outputs(m, s) for key in shift if self.is_there()},
        )  # fmt: skip

    def shifted(self) -> Any:
        """The test set changed, or a set with labels of its own, or with images of its own and no labels."""
        other = self.n + 1
        return [
            self.outputs(self.m),
            (self.outputs(self.m, examples=other), self.labels(other)),
            self.outputs(self.m, examples=other),
        ][int(self.random.integers(3))]

    def ensemble(self) -> Ensemble:
        ood = [name for name in NAMES if self.is_there()]
        shift = [("fog", i) for i in range(1, 6) if self.is_there()]
        members = [Member(f"run {i}", self.maybe(i), {"lr": 0.1, "ü": [i, None]}) for i in range(self.m)]
        weights = [{"a.weight": self.random.normal(size=(2, 3)), "n": np.array(i)} for i in range(self.m)]
        made = from_arrays(
            self.outputs(self.m), self.labels(), kind=self.kind, recipe=list(Recipe)[self.seed % 3],
            name=f"n{self.seed}", members=members, classes=[f"class {i}" for i in range(self.k)],
            ood={name: self.outputs(self.m, examples=int(self.random.integers(1, 9))) for name in ood},
            shift={key: self.shifted() for key in shift},
            validation=self.maybe((self.outputs(self.m, examples=7), self.labels(7))),
            trajectory=self.maybe((np.arange(self.t) * 0.5, self.outputs(self.m, self.t))),
            samples=self.maybe({"swag": self.samples(ood, shift), "random": self.outputs(self.m, self.s)}),
            weights=self.maybe(weights), ids=self.maybe(np.array([f"i{i}" for i in range(self.n)])),
            images=self.maybe(self.random.integers(0, 256, (self.n, 3, 2, 2)).astype("u1")),
        )  # fmt: skip
        rest = {
            "matrices/cut.npy": held("cut", self.random.normal(size=(4, 4))),
            "arms/0/a.npy": held("a", np.arange(3)),
        }
        return replace(made, rest=self.maybe(rest) or {}, left_out=self.maybe(("what has no place",)) or ())


def same(first: Ensemble, second: Ensemble) -> None:
    """Every part, and not only by the digest."""
    assert document(first) == document(second)
    one, other = contents(first), contents(second)
    assert list(one) == list(other)
    for path, content in one.items():
        if isinstance(content, Array):
            also = other[path]
            assert isinstance(also, Array)
            assert (content.shape, content.dtype) == (also.shape, also.dtype)
            assert np.array_equal(content.read(), also.read()), path
    assert {place: (s.role, s.shift, s.has_own_images) for place, s in first.sets.items()} == {
        place: (s.role, s.shift, s.has_own_images) for place, s in second.sets.items()
    }


@pytest.mark.parametrize("seed", range(24))
def test_what_is_written_is_read_with_the_same_digest(seed: int, tmp_path: Path) -> None:
    one = Drawing(seed).ensemble()
    digest = set_digest(one)
    for name in ("folder", "one.npz", "one.zip"):
        write(one, tmp_path / name)
        again = read(tmp_path / name)
        same(one, again)
        assert set_digest(again) == digest, name
        assert not again.unread
        write(again, tmp_path / "again" / name)
        assert set_digest(read(tmp_path / "again" / name)) == digest
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "again" / "one.npz").read_bytes()


def test_drawn_ensembles_have_every_part_now_and_then() -> None:
    paths = {path.split("/")[0].split(".")[0] for seed in range(24) for path in contents(Drawing(seed).ensemble())}
    assert paths == {"ensemble", "test", "validation", "ood", "shift", "samples", "trajectory", "weights", "images",
                     "matrices", "arms"}  # fmt: skip


def plain(**more: Any) -> Ensemble:
    random = np.random.default_rng(0)
    given = {"logits": random.normal(size=(3, 8, 4)).astype("f4"), "labels": random.integers(0, 4, 8), **more}
    return from_arrays(given.pop("logits"), given.pop("labels"), **given)


def test_the_digest_says_nothing_of_the_name_nor_of_how_members_lie() -> None:
    random = np.random.default_rng(0)
    outputs = random.normal(size=(3, 8, 4)).astype("f4")
    digest = set_digest(plain())
    assert set_digest(plain(name="another")) == digest
    assert set_digest(plain(logits=list(outputs))) == digest, "an array a member"
    assert set_digest(plain(logits=np.asfortranarray(outputs))) == digest
    assert set_digest(plain(logits=outputs.astype(">f4"))) == digest
    assert set_digest(plain(labels=plain().test.labels.astype("u1"))) == digest  # type: ignore[union-attr]


def test_anything_else_changes_the_digest() -> None:
    other = np.array(plain().test.outputs.read())
    other[2, 7, 3] = np.nextafter(other[2, 7, 3], np.float32(9))
    labels = np.array(plain().test.labels)
    labels[0] = 3 - labels[0]
    ones = [
        plain(),
        plain(logits=other),
        plain(logits=plain().test.outputs.read().astype("f8")),
        plain(logits=plain().test.outputs.read()[::-1]),
        plain(labels=labels),
        plain(kind="log-probs"),
        plain(recipe="same"),
        plain(classes=list("abcd")),
        plain(members=["a", "b", "c"]),
        plain(members=[Member(str(i), seed=i) for i in range(3)]),
        plain(members=[Member(str(i), config={"a": 1}) for i in range(3)]),
        plain(ids=np.arange(8)),
        plain(ood={"a": other}),
        plain(ood={"b": other}),
        plain(shift={("a", 1): other}),
        plain(shift={("a", 2): other}),
        plain(samples={"a": other[:, None]}),
        plain(samples={"a": Samples(other[:, None], strength=np.ones((3, 1)))}),
        plain(weights=[{"w": np.arange(3)}] * 3),
        plain(weights=[{"v": np.arange(3)}] * 3),
        plain(weights=[{"w": np.arange(3).reshape(3, 1)}] * 3),
    ]
    assert len({set_digest(one) for one in ones}) == len(ones)


def test_the_digest_of_weights_is_of_their_tensors_and_not_of_remarks_or_order(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {"b": np.arange(6, dtype="f4").reshape(2, 3), "a": np.arange(3)}
    save_file(tensors, tmp_path / "0.safetensors", metadata={"written": "today"})
    save_file(dict(reversed(tensors.items())), tmp_path / "1.safetensors")
    by_file = [plain(weights=[tmp_path / f"{i}.safetensors"] * 3) for i in range(2)]
    digests = {set_digest(one) for one in [*by_file, plain(weights=[tensors] * 3)]}
    assert len(digests) == 1
    write(by_file[0], tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "e.zip") as file:
        assert file.read("weights/2.safetensors") == (tmp_path / "0.safetensors").read_bytes(), "kept as they were"


def test_an_npz_that_is_written_opens_with_numpy(tmp_path: Path) -> None:
    write(plain(), tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        assert np.array_equal(file["test.logits"], plain().test.outputs.read())


def test_nothing_that_is_there_is_written_over_and_nothing_half_written_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        write(plain(), tmp_path / "there")
    torn = stacked("torn", [held("a", np.zeros((8, 4), "f4"))] * 3)
    broken = replace(torn, source=Broken())
    one = plain()
    with pytest.raises(InvalidInput):
        write(replace(one, sets={"test": replace(one.test, outputs=broken)}), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


class Broken:
    """A file that turns out to be damaged while it is read."""

    def whole(self) -> Any:
        raise InvalidInput("damaged")

    def blocks(self, depth: int) -> Any:
        yield np.zeros((8, 4)[depth - 1 :], "f4")
        raise InvalidInput("damaged")


ODD_IDS = [
    "a/b", "a/b/c", "a", "a%2Fb", "100%", "%2F", "..", ".", "../../up", "/etc/x", ".hidden", "._x", "__MACOSX", "c:d",
    "a\\b", "run_1.npy", "Run.SAFETENSORS", "x.npz", "é/ü", "lr=0.1, wd=1e-4", "a b", "*?[]", "run_1",
]  # fmt: skip


def _with_odd_ids() -> Ensemble:
    """A member of each, with weights and curves that are no other's; names of curves have slashes, too."""
    count = len(ODD_IDS)
    random = np.random.default_rng(1)
    one = plain(
        logits=random.normal(size=(count, 8, 4)).astype("f4"), members=ODD_IDS,
        weights=[{"w": np.full(2, i, "f4")} for i in range(count)],
    )  # fmt: skip
    points = {id_: np.array([[0, i, np.nan], [1, -i, np.nan]], "f8") for i, id_ in enumerate(ODD_IDS)}
    return replace(one, curves={id_: {"loss": found, "b/loss": found * [1, -1, 1]} for id_, found in points.items()})


def test_whatever_members_are_called_their_weights_and_curves_come_back(tmp_path: Path) -> None:
    one = _with_odd_ids()
    assert not examine(one).refused
    for name in ("folder", "one.npz", "one.zip"):
        write(one, place := tmp_path / "root" / name)
        again = read(place)
        assert set_digest(again) == set_digest(one), name
        assert (list(again.weights), list(again.curves)) == (ODD_IDS, ODD_IDS)
        assert not again.unread
        for i, id_ in enumerate(ODD_IDS):
            with again.weights[id_].open() as file:
                assert load(file.read())["w"].tolist() == [i, i], id_
            assert [again.curves[id_][curve][0, 1] for curve in ("loss", "b/loss")] == [i, -i], id_
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["folder", "one.npz", "one.zip"]
    with zipfile.ZipFile(tmp_path / "root" / "one.zip") as archive:
        assert "weights/run_1.safetensors" in archive.namelist()
        assert "curves/lr=0.1, wd=1e-4/loss.npy" in archive.namelist()
        assert not [name for name in archive.namelist() if {"..", ""} & set(name.split("/"))]


def test_weights_and_curves_in_folders_of_ids_with_slashes_are_read(tmp_path: Path) -> None:
    """As they were written before names of files were: `a/b` was a folder, `a` another member's."""
    write(plain(members=["a/b", "c", "50%"]), tmp_path / "e")
    for id_ in ("a/b", "50%"):
        (place := tmp_path / "e" / "weights" / f"{id_}.safetensors").parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(save({"w": np.arange(3)}))
        (tmp_path / "e" / "curves" / id_).mkdir(parents=True)
        np.save(tmp_path / "e" / "curves" / id_ / "loss.npy", [[0.0, 1.0]])
    again = read(tmp_path / "e")
    assert sorted(again.weights) == sorted(again.curves) == ["50%", "a/b"]
    (tmp_path / "e" / "weights" / "a%2fb.safetensors").write_bytes(save({"w": np.arange(3)}))
    with pytest.raises(InvalidInput, match="is of the same member"):
        read(tmp_path / "e")


def test_a_member_with_control_characters_in_its_name_is_refused_as_other_names_are() -> None:
    for letter in ("\0", "\n", "\x7f"):
        (refused,) = examine(plain(members=[f"a{letter}", "c", "d"], weights=[{"w": np.arange(3)}] * 3)).refused
        assert "has a control character" in refused.sentence
