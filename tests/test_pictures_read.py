"""Picture files of every kind are read as what they show, or refused by name; files are written byte by byte where
Pillow does not write them."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import modescape as ms
from modescape.database import upgrade
from modescape.datasets import dataset, here, loading
from modescape.errors import DataCorrupt, InvalidInput
from modescape.kept_picture_checks import check_once, known
from modescape.laboratory import Laboratory
from modescape.science import data
from modescape.science.data.picture_check import PictureCheck, check_pictures
from modescape.science.data.pictures import Levels, UnreadablePicture, decode, header_of
from modescape.settings import Settings
from modescape.spec_parts import DataSpec
from modescape.tables import Stage
from modescape_api.pages.failures import causes

RAMP = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)  # 0 to 65520
BYTES = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def tiff(
    path: Path,
    values: np.ndarray,
    *,
    big: bool = False,
    bits: int,
    form: int = 1,
    photometric: int = 1,
    samples: int = 1,
) -> None:
    """An uncompressed TIFF of one strip, written by the TIFF 6.0 specification."""
    order = ">" if big else "<"
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    height, width = values.shape[:2]
    end = 8 + len(content)
    extra = struct.pack(f"{order}{samples}H", *[bits] * samples)
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, bits if samples == 1 else end),
        (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, samples), (278, 3, 1, height),
        (279, 4, 1, len(content)), (339, 3, 1, form),
    ]  # fmt: skip
    entries = b""
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        packed = struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
        entries += struct.pack(f"{order}HHI", tag, kind, count) + packed
    start = end + len(extra)
    head = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + content + extra + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def png(
    path: Path, rows: bytes, *, size: tuple[int, int], depth: int, colour: int, chunks: Sequence[bytes] = ()
) -> None:
    """A PNG of unfiltered rows; chunks: whole, placed before the pixels."""
    width, height = size
    lines = [rows[i : i + len(rows) // height] for i in range(0, len(rows), len(rows) // height)]
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def shown(path: Path, levels: Levels | None = None) -> np.ndarray:
    return np.asarray(decode(path, levels or Levels()).image)


# --- depth ------------------------------------------------------------------------------------------------------------

IN_16_BITS = np.rint(RAMP * (255 / 65535)).astype(np.uint8)


def _tiff_lzw(path: Path) -> None:
    Image.fromarray(RAMP).save(path, "TIFF", compression="tiff_lzw")


def _tiff_deflated_big_endian(path: Path) -> None:
    image = Image.frombytes("I;16B", (8, 8), RAMP.astype(">u2").tobytes())
    image.save(path, "TIFF", compression="tiff_adobe_deflate")


def _pgm(path: Path) -> None:
    path.write_bytes(b"P5\n# a comment\n8 8\n65535\n" + RAMP.astype(">u2").tobytes())


@pytest.mark.parametrize(
    "write",
    [
        lambda path: Image.fromarray(RAMP).save(path, "PNG"),
        lambda path: tiff(path, RAMP, bits=16),
        lambda path: tiff(path, RAMP, bits=16, big=True),
        lambda path: tiff(path, (65535 - RAMP).astype(np.uint16), bits=16, photometric=0),  # white is 0
        _tiff_lzw,
        _tiff_deflated_big_endian,
        _pgm,
    ],
    ids=["png", "tiff", "big-endian", "white-is-zero", "lzw", "deflated-big-endian", "pgm"],
)
def test_sixteen_bits_are_scaled_by_what_the_file_declares(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.tif"
    write(path)
    assert header_of(path).grey
    assert np.array_equal(shown(path), IN_16_BITS)


def test_a_pgm_declares_its_own_white(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    values = np.array([[0, 500, 1023, 7]], ">u2")
    path.write_bytes(b"P5 4 1 1023\n" + values.tobytes())
    assert shown(path).tolist() == [[0, 125, 255, 2]]  # 500 * 255 / 1023 = 124.6
    path.write_bytes(b"P2 4 1 1023\n0 500 1023 7\n")  # the same in plain text
    assert shown(path).tolist() == [[0, 125, 255, 2]]
    assert shown(path, Levels(given=2046)).tolist() == [[0, 62, 128, 1]]  # the file's own numbers, not Pillow's


def folder(root: Path, save: Callable[[Path, int], None], suffix: str = "png", n: int = 6) -> DataSpec:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            save(root / name / f"{name}{i}.{suffix}", i)
    return DataSpec(dataset="folder", path=str(root))


def levels_read(asked: DataSpec) -> tuple[int, int]:
    """Darkest and brightest byte of the training images."""
    images = loading.load(asked, ()).train.images
    assert isinstance(images, Tensor)
    return int(images.min()), int(images.max())


def look(asked: DataSpec) -> PictureCheck:
    root = dataset.own_path(asked)
    return check_pictures(data.scan_pictures(root).paths, root, white=asked.white)


def test_a_set_of_twelve_bits_in_sixteen_has_one_level_for_all(tmp_path: Path) -> None:
    """The brightest of all reaches 4,000, others less: 4,095 is white in each."""

    def save(path: Path, i: int) -> None:
        Image.fromarray(np.full((8, 8), 4000 if i == 0 else 800, np.uint16)).save(path)

    asked = folder(tmp_path, save)
    assert look(asked).white == 4095
    values = np.unique(np.concatenate([part.images.numpy() for part in _parts(asked)]))
    assert values.tolist() == [50, 249]  # 800 and 4,000 of 4,095
    assert "12 of 12 pictures have more than 8 bits a pixel: 4095 is white." in look(asked).sentences
    given = asked.model_copy(update={"white": 8190.0})
    assert look(given).white == 8190
    assert levels_read(given)[1] in (25, 125)


def _parts(asked: DataSpec) -> list[Any]:
    splits = loading.load(asked, ())
    return [splits.train, splits.validation, splits.test]


def test_a_sixteenth_of_the_range_is_enough_to_keep_it(tmp_path: Path) -> None:
    asked = folder(tmp_path, lambda path, i: Image.fromarray(np.full((8, 8), 4096, np.uint16)).save(path))
    assert look(asked).white == 65535
    assert levels_read(asked) == (16, 16)


def test_integers_of_32_bits_have_the_smallest_level_that_holds_them(tmp_path: Path) -> None:
    asked = folder(tmp_path, lambda path, i: tiff(path, np.full((8, 8), 600 + i, np.int32), bits=32, form=2), "tif")
    assert look(asked).white == 1023
    assert levels_read(asked)[1] == 151  # 605 * 255 / 1023 = 150.8


def test_unsigned_32_bits_are_not_taken_for_negative_ones(tmp_path: Path) -> None:
    asked = folder(tmp_path, lambda path, i: tiff(path, np.full((8, 8), 3e9, np.uint32), bits=32), "tif")
    assert look(asked).white == 2**32 - 1
    assert levels_read(asked) == (178, 178)  # 3e9 * 255 / (2^32 - 1) = 178.1


def test_floats_in_pictures_follow_the_rule_of_floats(tmp_path: Path) -> None:
    asked = folder(tmp_path, lambda path, i: tiff(path, np.full((8, 8), 0.2 * i + 0.05, "f4"), bits=32, form=3), "tif")
    assert look(asked).white == 1
    assert levels_read(asked) == (13, 255)  # .05 * 255 = 12.75, and 1.05 is cut off
    tiff(tmp_path / "a" / "a0.tif", np.full((8, 8), 7.5, np.float32), bits=32, form=3)
    found = look(asked)
    assert "a0.tif with 11 more pictures like it goes from 0.05" in found.problem
    assert "could mean several things" in found.problem
    said = asked.model_copy(update={"white": 7.5})
    assert look(said).problem == ""
    tiff(tmp_path / "b" / "b3.tif", np.array([[0, np.nan]], "f4"), bits=32, form=3)
    assert "b/b3.tif cannot be read as a picture: b3.tif holds nan at [0, 1]" in look(asked).problem


def test_colour_of_sixteen_bits_is_refused_by_name(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 3), np.uint16)
    for big in (False, True):
        path = tmp_path / f"{big}.tif"
        tiff(path, colour, bits=16, big=big, photometric=2, samples=3)
        with pytest.raises(UnreadablePicture, match=rf"{big}\.tif .*16 bits a colour"):
            header_of(path)
    Image.frombytes("RGB", (8, 8), bytes(192)).save(tmp_path / "eight.tif", compression="tiff_lzw")
    assert header_of(tmp_path / "eight.tif").is_plain
    for colours, n in ((2, 6), (6, 8), (4, 4)):  # RGB, RGBA, grey with transparency
        path = tmp_path / f"{colours}.png"
        png(path, bytes(64 * n), size=(8, 8), depth=16, colour=colours)
        with pytest.raises(UnreadablePicture, match=rf"{colours}\.png .*16 bits a colour"):
            header_of(path)
    asked = folder(tmp_path / "set", lambda path, i: Image.fromarray(BYTES).save(path))
    png(tmp_path / "set" / "b" / "b2.png", bytes(384), size=(8, 8), depth=16, colour=2)
    with pytest.raises(InvalidInput, match=r"b/b2\.png cannot be read as a picture: it has 16 bits a colour") as caught:
        here.describe(asked, ())
    assert caught.value.field == "data.path"


def test_signed_bytes_are_refused(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", np.full((8, 8), -3, np.int8), bits=8, form=2)
    with pytest.raises(UnreadablePicture, match="without a sign"):
        header_of(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_reaches_white(tmp_path: Path, depth: int) -> None:
    png(tmp_path / "a.png", b"\xff\x00", size=(8 // depth, 2), depth=depth, colour=0)
    assert shown(tmp_path / "a.png").astype(int)[:, 0].tolist() in ([255, 0], [1, 0])


# --- colours, transparency, turns, frames -----------------------------------------------------------------------------


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    half = np.zeros((1, 3, 4), np.uint8)
    half[0, :, 3] = (0, 51, 255)  # black: not there, a fifth, whole
    Image.fromarray(half).save(tmp_path / "rgba.png")
    assert shown(tmp_path / "rgba.png")[0].tolist() == [[255] * 3, [204] * 3, [0] * 3]
    assert "composed" in decode(tmp_path / "rgba.png", Levels()).remarks
    Image.fromarray(half[..., 2:].copy(), "LA").save(tmp_path / "la.png")
    assert header_of(tmp_path / "la.png").grey
    assert shown(tmp_path / "la.png").tolist() == [[255, 204, 0]]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "p.png", transparency=1)
    assert shown(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [255] * 3, [70, 80, 90]]
    palette.save(tmp_path / "p.gif", transparency=1)
    assert shown(tmp_path / "p.gif")[0].tolist() == [[10, 20, 30], [255] * 3, [70, 80, 90]]
    Image.fromarray(half).save(tmp_path / "a.webp", lossless=True, exact=True)
    assert shown(tmp_path / "a.webp")[0].tolist() == [[255] * 3, [204] * 3, [0] * 3]


def test_a_hidden_colour_is_laid_on_white_at_every_depth(tmp_path: Path) -> None:
    cases = [
        (0, 8, bytes([5, 9]), struct.pack(">H", 9), [5, 255]),
        (0, 16, struct.pack(">HH", 5 * 257, 9 * 257), struct.pack(">H", 9 * 257), [5, 255]),
        (0, 4, b"\x59", struct.pack(">H", 9), [85, 255]),  # 5 of 15 is 85
        (0, 2, b"\x60", struct.pack(">H", 2), [85, 255]),
    ]
    for colour, depth, row, hidden, expected in cases:
        path = tmp_path / f"{depth}.png"
        png(path, row, size=(2, 1), depth=depth, colour=colour, chunks=[chunk(b"tRNS", hidden)])
        assert shown(path).tolist() == [expected], depth
        assert not header_of(path).is_plain
    png(tmp_path / "rgb.png", bytes([1, 2, 3, 4, 5, 6]), size=(2, 1), depth=8, colour=2,
        chunks=[chunk(b"tRNS", struct.pack(">HHH", 4, 5, 6))])  # fmt: skip
    assert shown(tmp_path / "rgb.png")[0].tolist() == [[1, 2, 3], [255] * 3]


def test_opaque_pictures_are_what_they_were(tmp_path: Path) -> None:
    """Pillow's own conversion, which was used alone before, gives the same pixels."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name, image in {
        "rgb.png": Image.fromarray(colour), "l.png": Image.fromarray(BYTES), "p.gif": Image.fromarray(BYTES),
        "rgb.jpg": Image.fromarray(colour), "cmyk.jpg": Image.fromarray(colour).convert("CMYK"),
        "one.png": Image.fromarray(BYTES).convert("1"), "p.png": Image.fromarray(colour).quantize(16),
        "a.webp": Image.fromarray(colour), "a.bmp": Image.fromarray(colour), "a.ppm": Image.fromarray(colour),
        "a.tif": Image.fromarray(colour), "ycc.tif": Image.fromarray(colour).convert("YCbCr"),
    }.items():  # fmt: skip
        path = tmp_path / name
        image.save(path)
        header = header_of(path)
        assert header.is_plain, name
        for channels, mode in ((1, "L"), (3, "RGB")):
            with Image.open(path) as opened:
                before = np.asarray(opened.convert(mode))
            read = data.ImageFiles((path,), channels, 8, 8, levels=Levels()).read([0])[0]
            if channels == 3 or header.grey:
                assert np.array_equal(read.transpose(1, 2, 0).reshape(before.shape), before), name


def test_cmyk_is_remarked_on(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    found = decode(tmp_path / "a.jpg", Levels())
    assert "cmyk" in found.remarks
    red, green, blue = np.asarray(found.image)[0, 0].astype(int)
    assert red < 10
    assert min(green, blue) > 245  # cyan


@pytest.mark.parametrize("most", [255, 256, 1023, 65535])
def test_colour_of_a_ppm_of_two_bytes_is_scaled_by_its_maximum_and_remarked_on(tmp_path: Path, most: int) -> None:
    values = np.linspace(0, most, 12).astype(">u2" if most > 255 else "u1")
    (tmp_path / "a.ppm").write_bytes(b"P6\n2 2\n%d\n" % most + values.tobytes())
    found = decode(tmp_path / "a.ppm", Levels())
    assert np.abs(np.asarray(found.image).ravel() - values.astype(float) * 255 / most).max() <= 0.5
    assert ("deep" in found.remarks) is (most > 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_turned_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Row 0 and column 0 lie, as EXIF 2.3 has it, at the: top left, top right, bottom right, bottom left, left top,
    right top, right bottom, left bottom."""
    upright = np.zeros((8, 16), np.uint8)
    upright[:4, :8] = 255  # white at the top left
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    lossless = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **lossless)
    header = header_of(path)
    assert (header.width, header.height) == (16, 8)
    picture = decode(path, Levels())
    assert np.abs(np.asarray(picture.image.convert("L"), int) - upright).max() < 10
    assert ("turned" in picture.remarks) is (orientation != 1)
    assert header.is_plain is (orientation == 1 or (suffix == "tif" and orientation < 5))  # Pillow has turned TIFF


def test_exif_behind_a_pngs_pixels_turns_it_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(file, "PNG")
    content = file.getvalue()
    end = content.index(b"IEND") - 4
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(content[:end] + late + content[end:])
    header = header_of(tmp_path / "a.png")
    assert (header.width, header.height, header.is_plain) == (4, 8, False)
    assert shown(tmp_path / "a.png").shape == (8, 4)


def test_damaged_exif_beside_good_pixels_turns_nothing(tmp_path: Path) -> None:
    Image.fromarray(BYTES).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert header_of(tmp_path / "a.jpg").is_plain
    assert shown(tmp_path / "a.jpg").shape == (8, 8)


def test_the_first_frame_is_read_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 90)]
    for suffix in ("gif", "tif", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        found = decode(path, Levels(), frames=True)
        assert "several" in found.remarks
        assert abs(int(np.asarray(found.image.convert("L"))[0, 0]) - 40) <= 2
        frames[0].save(path)
        assert "several" not in decode(path, Levels(), frames=True).remarks


# --- damaged files ----------------------------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("gif", {}), ("webp", {}), ("bmp", {}), ("tif", {}),
     ("tif", {"compression": "tiff_lzw"}), ("ppm", {})],
)  # fmt: skip
def test_a_picture_that_is_cut_off_anywhere_is_never_read_as_another(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    path = tmp_path / f"IMG_0037.{suffix}"
    Image.fromarray(NOISE).save(path, **options)
    content, whole = path.read_bytes(), shown(path)
    reasons = []
    for length in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        try:
            same = np.array_equal(shown(path), whole)  # what was lost was not of the picture
        except UnreadablePicture as error:
            same = "IMG_0037" in str(error)
            reasons.append(error.reason)
        assert same, length
    assert len(reasons) >= 55
    assert all(reasons)


def test_what_is_no_picture_and_what_would_fill_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(UnreadablePicture, match="none of BMP, GIF"):
        header_of(tmp_path / "a.png")
    png(tmp_path / "bomb.png", b"\0\0", size=(1, 2), depth=8, colour=0)
    content = (tmp_path / "bomb.png").read_bytes()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(content[:8] + head + content[8 + len(head) :])
    with pytest.raises(UnreadablePicture, match="more than 178,956,970 pixels"):
        header_of(tmp_path / "bomb.png")
    with pytest.raises(UnreadablePicture, match=r"gone\.png cannot be read as a picture: No such file"):
        header_of(tmp_path / "gone.png")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def jpegs(root: Path) -> DataSpec:
    return folder(root, lambda path, i: Image.fromarray(np.roll(NOISE, i)).save(path), "jpg", n=20)


def test_a_look_names_every_picture_that_cannot_be_read(tmp_path: Path) -> None:
    asked = jpegs(tmp_path)
    for name in ("a/a3.jpg", "b/b7.jpg"):
        cut(tmp_path / name)
    told: list[tuple[int, int]] = []
    root = Path(asked.path or "")
    found = check_pictures(data.scan_pictures(root).paths, root, progress=lambda done, of: told.append((done, of)))
    assert [name for name, _ in found.bad] == ["a/a3.jpg", "b/b7.jpg"]
    assert "a/a3.jpg cannot be read as a picture: image file is truncated" in found.problem
    assert "(2 of 40 pictures cannot)" in found.problem
    assert told[-1] == (40, 40)
    assert PictureCheck.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_a_look_can_be_stopped(tmp_path: Path) -> None:
    asked = jpegs(tmp_path)
    root = Path(asked.path or "")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_pictures(data.scan_pictures(root).paths, root, check=stop)


def test_a_reader_that_dies_names_what_it_was_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = jpegs(tmp_path)
    root = Path(asked.path or "")
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom PIL import Image\nopened = Image.open\n"
        "def open(file, *a, **k):\n    if getattr(file, 'name', '').endswith('b7.jpg'):\n"
        "        os.kill(os.getpid(), 9)\n    return opened(file, *a, **k)\nImage.open = open\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataCorrupt, match=r"died while it was reading .*b/b7\.jpg"):
        check_pictures(sorted(root.glob("?/*.jpg")), root)


def trained(stages: Sequence[Stage]) -> set[str]:
    """How looks, trainings and predictions ended; pictures of noise leave nothing to compare."""
    return {stage.state for stage in stages if stage.kind in ("look", "train", "predict")}


SMALL = {"training": {"epochs": 1, "batch_size": 8, "snapshots": 0}, "ensemble": {"runs": 2}}


@pytest.mark.slow
def test_one_bad_picture_fails_the_first_stage_by_name_and_the_second_launch_at_once(tmp_path: Path) -> None:
    asked = jpegs(tmp_path / "pets")
    cut(tmp_path / "pets" / "b" / "b7.jpg")
    spec = {"data": {"dataset": "folder", "path": asked.path}, **SMALL}
    lab = ms.run(spec, folder=tmp_path / "home")
    first = lab.stages[0]
    assert (first.kind, first.key, first.state) == ("look", "data", "failed")
    assert "b/b7.jpg cannot be read as a picture" in first.error["message"]
    assert {stage.error["type"] for stage in lab.stages[1:]} == {"NeedFailed"}  # nothing was trained
    with pytest.raises(InvalidInput, match=r"b/b7\.jpg cannot be read") as caught:
        ms.run(spec, folder=tmp_path / "home")
    assert caught.value.field == "data.path"
    Image.fromarray(NOISE).save(tmp_path / "pets" / "b" / "b7.jpg")
    again = ms.run(spec, folder=tmp_path / "home")
    assert trained(again.stages) == {"succeeded"}


@pytest.mark.slow
def test_a_set_is_looked_through_once_and_other_images_are_too(tmp_path: Path) -> None:
    asked = jpegs(tmp_path / "pets")
    outside = tmp_path / "outside"
    outside.mkdir()
    for i in range(12):
        Image.fromarray(np.roll(NOISE, i)).save(outside / f"{i}.png")
    cut(outside / "4.png")
    other = {"dataset": "folder", "path": str(outside), "trajectory": False}
    spec = {"data": {"dataset": "folder", "path": asked.path}, "ood": [other], **SMALL}
    lab = ms.run(spec, folder=tmp_path / "home")
    states = {(stage.kind, stage.key): stage for stage in lab.stages}
    assert states["look", "data"].state == "succeeded"
    assert "4.png cannot be read" in states["look", "ood.0"].error["message"]
    assert states["train", "0"].state == states["predict", "0"].state == "succeeded"
    cause = next(cause for cause in causes(lab.stages) if cause.kind == "look")
    assert {stage.kind for stage in cause.dependants} == {
        "ood",
        "ood-compare",
        "ood-thumbnails",
    }  # it costs its study only
    Image.fromarray(NOISE).save(outside / "4.png")
    stages = ms.run(spec, folder=tmp_path / "home").stages
    assert {(s.kind, s.key): s for s in stages}["look", "data"].reused_from is not None
    assert trained(stages) == {"succeeded"}


def test_a_look_is_kept_by_what_the_files_hold(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    settings = Settings(home=tmp_path / "home")
    upgrade(settings.database)
    store = Laboratory(settings).store
    asked = jpegs(tmp_path / "pets")
    fingerprint = here.describe(asked, ()).fingerprint
    assert fingerprint is not None
    assert known(store, fingerprint, None) is None
    found = check_once(store, asked)
    assert known(store, fingerprint, None) == found
    assert known(store, fingerprint, 100.0) is None
    looked: list[Any] = []
    assert check_once(store, asked, progress=lambda *now: looked.append(now)) == found
    assert looked == []


def test_imagenet_names_the_picture_it_cannot_read(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(np.resize(NOISE, (240, 240, 3))).save(tmp_path / "imagenet" / part / name / f"{i}.JPEG")
    cut(tmp_path / "imagenet" / "train" / "b" / "1.JPEG")
    splits = loading.load(DataSpec(dataset="imagenet", validation_images=1, input_scale="unit"), (tmp_path,))
    import torch

    with pytest.raises(DataCorrupt, match=r"imagenet/train/b/1\.JPEG cannot be read as a picture: .*truncated"):
        [part.batch(torch.arange(len(part))) for part in (splits.train, splits.validation)]


# --- names and rights -------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_utf8_is_refused_as_it_is(tmp_path: Path) -> None:
    asked = folder(tmp_path, lambda path, i: Image.fromarray(BYTES).save(path))
    odd = os.fsencode(tmp_path / "a") + b"/caf\xe9.png"
    with open(odd, "wb") as file:  # noqa: PTH123 - bytes are no Path
        file.write((tmp_path / "a" / "a0.png").read_bytes())
    for call in (lambda: here.describe(asked, ()), lambda: data.scan_pictures(tmp_path)):
        with pytest.raises(InvalidInput, match=r"caf\\xe9\.png is not UTF-8"):
            call()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = folder(tmp_path, lambda path, i: Image.fromarray(BYTES).save(path))
    locked = tmp_path / "b" / "b2.png"
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        """As for a user who is not root: tests may run as root, who may read everything."""
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(InvalidInput, match=r"b2\.png cannot be read: Permission denied"):
        here.describe(asked, ())


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InvalidInput):
        here.describe(DataSpec(dataset="folder", path=str(tmp_path)), ())
    with pytest.raises(InvalidInput, match="there is no folder"):
        here.describe(DataSpec(dataset="folder", path=str(tmp_path / "vanished")), ())
