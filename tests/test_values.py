"""Numbers of any type become the bytes they mean, or are refused; expected bytes are worked out by hand."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from modescape.datasets import here, loading
from modescape.errors import InvalidInput
from modescape.science import data
from modescape.science.data.values import in_bytes, level_above
from modescape.spec import parse
from modescape.spec_parts import DataSpec


def read(*arrays: Any, white: float | None = None) -> tuple[list[list[int]], float | None, str]:
    """Of arrays [1, 1, n] in one set: their bytes, what was white, and what was said."""
    names = ("train", "test", "third")[: len(arrays)]
    found, reading = in_bytes(dict(zip(names, (np.asarray(a)[None, None] for a in arrays), strict=True)), white=white)
    return [found[name].ravel().tolist() for name in names], reading.white, " ".join(reading.sentences)


@pytest.mark.parametrize(
    ("values", "expected", "white"),
    [
        (np.array([0, 100, 4095], np.uint16), [0, 6, 255], 4095),  # 12 bits in 16: 100 * 255 / 4095 = 6.2
        (np.array([0, 4096, 65535], np.uint16), [0, 16, 255], 65535),  # 4096 * 255 / 65535 = 15.9
        (np.array([0, 4096, 5000], np.uint16), [0, 16, 19], 65535),  # a sixteenth of the range is used
        (np.array([0, 1023], np.int32), [0, 255], 1023),
        (np.array([0, 1024], np.int64), [0, 128], 2047),  # 1024 * 255 / 2047 = 127.6
        (np.array([0, 70000], ">u4"), [0, 136], 131071),  # 70000 * 255 / 131071 = 136.2
        (np.array([0, 16], np.int64), [0, 16], 255),  # whole numbers up to 255 are bytes, of whatever type
        (np.array([0, 16], np.uint16), [0, 16], 255),
        (np.array([0, 1], np.int64), [0, 255], 1),  # and up to 1 black and white
        (np.array([0, 1], np.uint8), [0, 1], 255),  # bytes are bytes
        (np.array([False, True]), [0, 255], 1),
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255], 1),  # 127.5 is rounded to even
        (np.array([0.0, 0.5, 1.0000001], np.float32), [0, 128, 255], 1),
        (np.array([-3e-9, 0.25, 1.1]), [0, 64, 255], 1),
        (np.array([-0.1, 0.2, 0.75], np.float16), [0, 51, 191], 1),  # .75 * 255 = 191.25
        (np.array([0.0, 2.0, 16.0]), [0, 2, 16], 255),
        (np.array([0.0, 255.0], np.float32), [0, 255], 255),
        (np.array([-24.5, 100.4, 279.9]), [0, 100, 255], 255),
        (np.array([0.0, 128.5]), [0, 128], 255),
    ],
)
def test_numbers_are_read_as_what_they_mean(values: Any, expected: list[int], white: float) -> None:
    found, level, _ = read(values)
    assert found == [expected]
    assert level == white


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, 1.2]),
        np.array([-0.2, 1.0]),
        np.array([0.0, 0.3, 2.0]),  # fractions up to 2: halves of what?
        np.array([0.1, 128.0]),
        np.array([-26.0, 200.5]),
        np.array([0.5, 281.0]),
        np.array([-1.0, 255.0]),  # whole numbers, one of them below black
        np.array([0.0, 4095.0]),
        np.array([-1, 3]),
        np.array([-1000, 3000], np.int16),
    ],
)
def test_numbers_that_could_mean_several_things_are_refused_with_what_is_allowed(values: Any) -> None:
    with pytest.raises(InvalidInput, match=r"train goes from .* could mean several things") as caught:
        read(values)
    assert caught.value.field == "data.path"
    assert "data.white" in caught.value.allowed


def test_what_is_white_can_be_said() -> None:
    assert read(np.array([0.0, 1.0, 2.0]), white=2)[0] == [[0, 128, 255]]
    assert read(np.array([0, 5, 15], np.uint8), white=15)[0] == [[0, 85, 255]]
    assert read(np.array([0.0, 4095.0]), white=4095)[0] == [[0, 255]]
    assert read(np.array([-3.0, 33.0]), white=30)[0] == [[0, 255]]  # a tenth beyond is cut off
    for beyond in ([0.0, 2.3], [-0.3, 1.0]):
        with pytest.raises(InvalidInput, match="2 was said to be white") as caught:
            read(np.array(beyond), white=2)
        assert caught.value.field == "data.white"


def test_one_level_serves_the_whole_set() -> None:
    """Training reaches 4,000 and test 100: with a level each, the darkest test would be as bright as training."""
    found, white, _ = read(np.array([0, 4000], np.uint16), np.array([0, 100], np.uint16))
    assert (found, white) == ([[0, 249], [0, 6]], 4095)
    assert read(np.array([0.0, 1.0000001], np.float32), np.array([0.0, 0.4]))[0] == [[0, 255], [0, 102]]
    assert read(np.array([0.0, 200.5]), np.array([0.0, 1.0]))[0] == [[0, 200], [0, 1]]
    assert read(np.array([0, 4000], np.uint16), np.array([0, 100], np.int64))[0] == [[0, 249], [0, 6]]
    assert read(np.array([0, 255], np.uint8), np.array([0.0, 1.0]))[0] == [[0, 255], [0, 255]]  # types of their own


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_value_that_is_no_number_is_named_with_its_place(value: float, shown: str) -> None:
    images = np.zeros((3, 4, 5), np.float32)
    images[2, 1, 3] = value
    with pytest.raises(InvalidInput, match=rf"images holds {shown} at \[2, 1, 3\]"):
        in_bytes({"images": images})


def test_denormal_values_are_named_and_refused_where_there_is_nothing_else() -> None:
    images = np.full((2, 2, 2), 0.5, np.float32)
    images[1, 0, 1] = 1e-41
    _, reading = in_bytes({"images": images})
    assert "1 values are denormal and read as 0, the first at images[1, 0, 1]." in reading.sentences
    bytes_read_as_floats = np.arange(8, dtype=np.int32).view(np.float32).reshape(2, 2, 2)
    with pytest.raises(InvalidInput, match=r"7 so small that they are denormal \(the first is images\[0, 0, 1\]\)"):
        in_bytes({"images": bytes_read_as_floats})


@pytest.mark.parametrize(
    ("values", "loses"),
    [
        (np.arange(256, dtype=np.float32) / 255, False),
        (np.arange(257, dtype=np.float64) / 256, True),
        (np.array([0.0, 1.05]), True),  # cut off
        (np.arange(256, dtype=np.uint16) * 257, False),  # bytes, repeated
        (np.arange(256, dtype=np.uint16) * 256, True),
        (np.arange(4096, dtype=np.uint16), True),
        (np.arange(256, dtype=np.int64), False),
        (np.array([0.0, 128.5]), True),
    ],
)
def test_what_rounding_loses_is_said(values: Any, loses: bool) -> None:
    assert ("finer than that are lost" in read(values)[2]) is loses


def test_bytes_that_hardly_leave_black_are_remarked_on() -> None:
    assert "Nothing is brighter than 15 of 255" in read(np.array([0, 15], np.uint8))[2]
    assert "Nothing is brighter" not in read(np.array([0, 16], np.uint8))[2]


@pytest.mark.parametrize("values", [np.array([0.0, 1e-30]), np.array([0.0, 0.05]), np.array([0.0, 0.01], np.float32)])
def test_floats_that_hardly_leave_black_are_remarked_on(values: Any) -> None:
    assert "of 1; if that is white, say so in data.white" in read(values)[2]
    assert "Nothing is brighter" not in read(values / values.max() * 0.1)[2]


def test_an_array_that_is_black_beside_the_others_is_remarked_on() -> None:
    """Training was scaled to 0 to 1 and test was not."""
    for train, test in (([0.0, 0.7], [0.0, 200.5]), ([0, 1], [0, 255])):
        said = read(np.array(train), np.array(test))[2]
        assert f"train goes up to {train[1]:g} and others beside it to {test[1]:g}" in said
    assert "others beside it" not in read(np.array([0.0, 200.5]), np.array([0.0, 20.0]))[2]


def test_a_declared_level_holds_in_both_byte_orders() -> None:
    values = np.array([0, 30000], "u2")
    assert read(values) == read(values.astype(">u2"))
    assert read(values.astype(">u2"))[1] == 65535


def test_a_white_that_divides_to_infinity_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too small to be white"):
        read(np.array([0.0, 1e-40], np.float32), white=1e-40)


@pytest.mark.parametrize("dtype", ["u2", ">u2", "i4", "i8", "u8"])
@pytest.mark.parametrize("bits", range(1, 16))
def test_white_holds_everything_and_bytes_are_the_nearest(dtype: str, bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, size=50)
    found, white, _ = read(values.astype(dtype))
    assert white is not None
    assert white >= values.max()
    assert np.abs(found[0] - values * 255 / white).max() <= 0.5


def test_a_level_is_the_smallest_of_whole_bits() -> None:
    assert [level_above(value) for value in (0, 1, 2, 255, 256, 4095, 4096)] == [1, 1, 3, 255, 511, 4095, 8191]


# --- what was computed before stays true ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        (np.array([0, 3], np.uint8), True),
        (np.array([0, 200], np.int64), True),
        (np.array([0.0, 1.0]), True),
        (np.array([0.0, 200.5]), True),
        (np.array([0.0, 1.01]), False),  # was 0 and 1 of 255
        (np.array([0, 1]), False),
        (np.array([0, 300]), False),  # was refused
    ],
)
def test_what_is_read_otherwise_than_before_has_another_fingerprint(tmp_path: Path, values: Any, plain: bool) -> None:
    images = np.resize(values, (20, 4, 4))
    asked = npz(tmp_path, images=images, labels=np.arange(20) % 2)
    found = here.describe(asked, ()).fingerprint
    assert asked.path is not None
    assert (found == data.file_digest(Path(asked.path), "sha256")) is plain


def test_an_unsaid_white_level_is_in_no_digest_and_a_said_one_is() -> None:
    own = {"dataset": "npz", "path": "/mine.npz"}
    plain = parse({"data": own})
    assert '"white"' not in plain.canonical()
    assert parse({"data": {**own, "white": None}}).digest() == plain.digest()
    assert parse({"data": {**own, "white": 4095}}).digest() != plain.digest()
    with pytest.raises(InvalidInput, match=r"data.white: belongs to the sets `folder` and `npz`"):
        parse({"data": {"dataset": "digits", "white": 16}})


# --- files ------------------------------------------------------------------------------------------------------------


def npz(path: Path, **arrays: Any) -> DataSpec:
    file = path / "mine.npz"
    np.savez(file, **arrays)
    return DataSpec(dataset="npz", path=str(file))


def test_an_npz_of_twelve_bits_is_read_by_its_level_and_says_so(tmp_path: Path) -> None:
    images = np.zeros((20, 4, 4), np.uint16)
    images[:, 0, 0] = 4000
    asked = npz(tmp_path, images=images, labels=np.arange(20) % 2)
    info = here.describe(asked, ())
    assert "images: 0 to 4000, of which 4095 is white." in info.remarks
    for asked_for, brightest in ((asked, 249), (asked.model_copy(update={"white": 8191.0}), 125)):
        pixels = loading.load(asked_for, ()).train.images
        assert isinstance(pixels, Tensor)
        assert pixels.max() == brightest


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    spoilt = bytearray(content)
    for i in range(100, 160):
        spoilt[i] ^= 0xFF
    return bytes(spoilt)


def _encrypted(content: bytes) -> bytes:
    spoilt = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = spoilt.find(mark)
        spoilt[at + offset] |= 1
    return bytes(spoilt)


def _odd_compression(content: bytes) -> bytes:
    spoilt = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = spoilt.find(mark)
        spoilt[at + offset : at + offset + 2] = struct.pack("<H", 97)
    return bytes(spoilt)


def _huge_header(content: bytes) -> bytes:
    return content.replace(b"(20, 4, 4)", b"(9" + b"9" * 7 + b",)")


@pytest.mark.parametrize("spoil", [_cut, _flip, _encrypted, _odd_compression, _huge_header, lambda content: b""])
def test_a_damaged_npz_is_refused_by_name(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    asked = npz(tmp_path, images=np.zeros((20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    path = tmp_path / "mine.npz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InvalidInput, match=r"mine\.npz cannot be read as \.npz"):
        here.describe(asked, ())


def test_other_things_in_an_npz_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in (("images", np.zeros((20, 4, 4), np.uint8)), ("labels", np.arange(20) % 2)):
            file = io.BytesIO()
            np.save(file, values)
            archive.writestr(f"{name}.npy", file.getvalue())
        archive.writestr("__MACOSX/._images.npy", b"\x00\x05\x16\x07")
        archive.writestr("notes.txt", "hello")
    assert here.describe(DataSpec(dataset="npz", path=str(path)), ()).train_total == 16


def test_an_array_of_objects_is_named_and_never_loaded(tmp_path: Path) -> None:
    for key in ("images", "labels", "classes"):
        arrays = {"images": np.zeros((20, 4, 4)), "labels": np.arange(20) % 2, "classes": np.array(["a", "b"])}
        asked = npz(tmp_path, **{**arrays, key: arrays[key].astype(object)})
        with pytest.raises(InvalidInput, match=rf"{key} in mine.npz cannot be read \(it holds Python objects"):
            here.describe(asked, ())


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    asked = npz(tmp_path, images=np.zeros((20, 4, 4)), labels=np.arange(20) % 2)
    member = io.BytesIO()
    np.save(member, np.ones((20, 4, 4)))
    with zipfile.ZipFile(str(asked.path), "a") as archive:
        archive.writestr("images", member.getvalue())
    with pytest.raises(InvalidInput, match="more than one array called images"):
        here.describe(asked, ())


@pytest.mark.parametrize("odd", ["a\0b", "line\n", "\ud800"])
def test_class_names_that_cannot_be_stored_are_refused(tmp_path: Path, odd: str) -> None:
    asked = npz(tmp_path, images=np.zeros((20, 4, 4)), labels=np.arange(20) % 2, classes=np.array([odd, "b"]))
    with pytest.raises(InvalidInput, match="`classes` holds"):
        here.describe(asked, ())


def test_a_member_that_is_no_array_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"no array")
        archive.writestr("labels", b"none either")
    with pytest.raises(InvalidInput, match="it holds nothing"):
        here.describe(DataSpec(dataset="npz", path=str(path)), ())
