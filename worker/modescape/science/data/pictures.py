"""One picture file as pixels: what its header says, and what is in it once decoded.

    header = header_of(path)                       # size as shown, grey or colour, how deep; nothing is decoded
    picture = decode(path, Levels())
    picture.image                                  # Pillow's, 8 bits: mode L or RGB, upright, opaque
    picture.remarks                                # {"turned", "composed", "several", "cmyk", "deep", "rounded"}

The rules (science k.4), the same for every set of a user's own: the first frame or page; numbers of more than 8 bits
scaled by their white level (`values`); CMYK and YCbCr as Pillow turns them into RGB, colour profiles ignored;
transparent parts laid on white; turned as EXIF says. Public sets are read as torchvision reads them (`raw.ImageFiles`).
What cannot be read without losing what nobody was told of is refused, with the file's name.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins of the formats read here; Pillow loads others, some of which run programs, by itself
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from modescape.errors import DataCorrupt, ModescapeError
from modescape.science.data import bounds
from modescape.science.data.values import Extent, Kind, extent_of, to_bytes, union, white_of

_PLUGINS = (
    BmpImagePlugin.BmpImageFile, GifImagePlugin.GifImageFile, JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile, PpmImagePlugin.PpmImageFile, TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)  # fmt: skip
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)  # as Pillow calls them; JPEG includes MPO
BACKGROUND = (255, 255, 255)  # what transparent parts are laid on
READING = 2  # raised when the same files come to be read as other pixels; see Header.is_plain

Remark = Literal["turned", "composed", "several", "cmyk", "deep", "rounded"]

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "F"}
_KNOWN = {*_GREY, "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"}
_DEEP = {"I", "I;16", "I;16B", "F"}
_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}


class UnreadablePicture(DataCorrupt):
    """A picture cannot be decoded, or not faithfully. path: the file; reason: why, without its name."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{printable(path)} cannot be read as a picture: {reason}")


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded. width, height: upright, in pixels; is_plain: read as pixels by the rules
    that held before READING 2, so that what was computed from it stays true."""

    width: int
    height: int
    grey: bool
    kind: Kind
    is_plain: bool


@dataclass(frozen=True)
class Levels:
    """What is white in a set of pictures: given by the user for all of them, or found in the set for 16-bit numbers
    (None: as each file declares), integers, and floats."""

    given: float | None = None
    declared: float | None = None
    integers: float | None = None
    floats: float | None = None

    def of(self, extent: Extent, name: str) -> float:
        """Raises InvalidInput where the numbers reach far beyond what was given."""
        if self.given is not None:
            white_of(extent, name, given=self.given)
        found = {"declared": self.declared, "integers": self.integers, "floats": self.floats}.get(extent.kind)
        return self.given or found or max(extent.whites, default=255.0)


@dataclass(frozen=True)
class Picture:
    """Decoded: mode L or RGB, 8 bits, upright, opaque. brightest: the largest value in the file, before any scaling."""

    image: Image.Image
    remarks: frozenset[Remark]
    brightest: float


def header_of(path: Path) -> Header:
    """Raises UnreadablePicture."""
    with _opened(path) as image:
        turned = _orientation(image, path)
        width, height = image.size if turned < 5 else image.size[::-1]
        plain = image.mode in _PLAIN and turned == 1 and not image.has_transparency_data
        plain = plain and _tag(image, ExifTags.Base.Orientation, 1) < 5  # of TIFF, see _opened
        return Header(width, height, image.mode in _GREY, _kind(image), plain)


def extent_of_picture(path: Path) -> Extent:
    """What numbers a picture of more than 8 bits has. Raises UnreadablePicture, and InvalidInput naming a value that is
    no number."""
    with _opened(path) as image:
        values, white = _numbers(image)
    return extent_of(values, path.name, declared=white)


def find_levels(paths: Sequence[Path], *, given: float | None = None) -> Levels:
    """What is white in the pictures of a set that have more than 8 bits, which are all decoded for it where that is not
    given. Raises UnreadablePicture, and InvalidInput where their numbers could mean several things."""
    if given is not None or not paths:
        return Levels(given=given)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return levels_among(list(zip(paths, threads.map(extent_of_picture, paths), strict=True)))


def levels_among(found: Sequence[tuple[Path, Extent]]) -> Levels:
    """`find_levels` of pictures that were decoded. Raises InvalidInput."""
    whites: dict[str, float | None] = {}
    for kind in ("declared", "integers", "floats"):
        alike = [(path, extent) for path, extent in found if extent.kind == kind]
        if alike:
            more = f" with {len(alike) - 1} more pictures like it" if len(alike) > 1 else ""
            whites[kind] = white_of(union([extent for _, extent in alike]), f"{alike[0][0].name}{more}")
    return Levels(**whites)


def decode(path: Path, levels: Levels, *, frames: bool = False) -> Picture:
    """frames: look whether there are several, which reads the whole file. Raises UnreadablePicture, InvalidInput."""
    with _opened(path) as image:
        remarks: set[Remark] = set()
        stretched = {"L;2": 85, "L;4": 17}.get(_rawmode(image), 1)
        turned = _orientation(image, path)
        if frames and _frames(image) > 1:
            remarks.add("several")
        if image.mode == "CMYK":
            remarks.add("cmyk")
        if _is_turned_by_pillow(image):
            remarks.add("turned")
        if _is_deep_colour_of_ppm(image):
            remarks.add("deep")
        if _kind(image) == "bytes":
            shown, brightest = _opaque(image, path, levels, stretched, remarks)
        else:
            shown, brightest = _shallow(image, path, levels, remarks)
        if turned != 1:
            remarks.add("turned")
            shown = shown.transpose(_TURNS[turned])
    return Picture(shown, frozenset(remarks), brightest)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file open in Pillow, if it can be read faithfully; whatever goes wrong while it is, names it.

    Pillow's readers raise what they please on damaged files: OSError, SyntaxError, struct.error, KeyError, ... It is
    given a file without a name, for what it maps into memory by name it may scramble (13.0: plain TIFF on its side).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures below Pillow's limit, odd EXIF
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                _refuse_unfaithful(image, path)
                yield image
    except ModescapeError:
        raise
    except Exception as error:
        raise UnreadablePicture(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return (
            f"it is none of {', '.join(FORMATS)}, of a depth or colours that are not read, or damaged where it says so"
        )
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {bounds.most_pixels():,} pixels; MODESCAPE_READ_PIXELS allows more"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error}" if str(error) else type(error).__name__


def printable(name: str | os.PathLike[str]) -> str:
    """A file's name as text that can be stored and shown, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# --- what the header says ---------------------------------------------------------------------------------------------


def _rawmode(image: Image.Image) -> str:
    """How Pillow will unpack the file: "RGB;16B"; "" where the format has no such thing."""
    args = _unpacking(image)
    return str(args[0] if isinstance(args, tuple) else args)


def _unpacking(image: Image.Image) -> Any:
    return image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else ""


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    tags = getattr(image, "tag_v2", None)
    found = None if tags is None else tags.get(tag)
    return default if found is None else found


def _refuse_unfaithful(image: Image.Image, path: Path) -> None:
    """What Pillow would read, but not as it is: 16 bits a colour are cut to 8, signs are dropped."""
    if image.mode not in _KNOWN:
        raise UnreadablePicture(path, f"its colours are {image.mode}, which is neither grey, RGB, CMYK nor YCbCr")
    bits, signs = _tag(image, 258, (8,)), _tag(image, 339, (1,))
    if ";16" in _rawmode(image) and len(image.getbands()) > 1:
        raise UnreadablePicture(path, "it has 16 bits a colour, which would be cut to 8; save it with 8, or as grey")
    if image.mode not in _DEEP and (max(bits) > 8 or set(signs) != {1}):
        raise UnreadablePicture(path, f"its {max(bits)} bits a sample would be cut to 8 without a sign")
    if image.mode == "F" and _tag(image, 262, 1) == 0:
        raise UnreadablePicture(path, "its floats have white at 0, and nothing says where black is")


def _kind(image: Image.Image) -> Kind:
    if image.mode == "F":
        return "floats"
    if image.mode not in _DEEP:
        return "bytes"
    if image.mode == "I" and image.format == "TIFF":
        return "integers"
    return "declared"


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image, path: Path) -> int:
    """1 to 8 as EXIF has it, 1 where it says nothing that can be read. Pillow turns TIFF by itself, and would decode a
    PNG to look for EXIF behind its pixels, so that is done only where there is some."""
    if image.format == "TIFF" or (image.format == "PNG" and not _has_chunk(path, b"eXIf")):
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF beside good pixels
        return 1
    return found if found in _TURNS else 1


def _is_turned_by_pillow(image: Image.Image) -> bool:
    """TIFF, once it is decoded; then the tag is gone."""
    return _tag(image, ExifTags.Base.Orientation, 1) in _TURNS


def _frames(image: Image.Image) -> int:
    """Frames or pages; 1 where those behind the first cannot be read."""
    try:
        found = int(getattr(image, "n_frames", 1))
        if found > 1:
            image.seek(0)
        return found
    except Exception:  # as damaged as they please: the first is what is read
        return 1


def _has_chunk(path: Path, wanted: bytes) -> bool:
    """Whether a PNG has such a chunk anywhere."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == wanted:
                return True
            file.seek(length + 4, 1)
    return False


# --- more than 8 bits -------------------------------------------------------------------------------------------------


def _numbers(image: Image.Image) -> tuple[NDArray[Any], float | None]:
    """The file's own numbers [H, W], and the level it declares for white."""
    maxval = _declared_by_pgm(image)
    bits = max(_tag(image, 258, (16,)))
    unsigned = set(_tag(image, 339, (1,))) == {1}
    inverted = _tag(image, 262, 1) == 0
    values = np.asarray(image)
    if image.mode == "F":
        return values, None
    if maxval is not None:  # Pillow has stretched them to 65535
        return np.rint(values * (maxval / 65535)).astype(np.int32), float(maxval)
    if image.format == "PPM":
        return values, 65535.0
    if image.mode == "I":
        values = values.view(np.uint32) if unsigned and bits == 32 else values
        white = None
    else:
        white = float((1 << bits) - 1)
    if inverted:
        top = int(white) if white else int(np.iinfo(values.dtype).max)
        values = (top - values.astype(np.int64)).astype(values.dtype)
    return values, white


def _declared_by_pgm(image: Image.Image) -> int | None:
    """The maximum a PGM of two bytes a value declares, where it is not 65535, which Pillow reads as it is."""
    args = _unpacking(image)
    return int(args[1]) if image.format == "PPM" and image.mode == "I" and isinstance(args, tuple) else None


def _is_deep_colour_of_ppm(image: Image.Image) -> bool:
    """Colour of two bytes a value, which Pillow scales to one by the maximum that the file declares."""
    args = _unpacking(image)
    return image.format == "PPM" and image.mode == "RGB" and isinstance(args, tuple) and int(args[1]) > 255


def _shallow(image: Image.Image, path: Path, levels: Levels, remarks: set[Remark]) -> tuple[Image.Image, float]:
    """Grey of 8 bits from more."""
    hidden = image.info.get("transparency")
    values, declared = _numbers(image)
    extent = extent_of(values, path.name, declared=declared)
    pixels, loses = to_bytes(values, levels.of(extent, path.name))
    if loses:
        remarks.add("rounded")
    if isinstance(hidden, int) and (values == hidden).any():
        remarks.add("composed")
        pixels = np.where(values == hidden, np.uint8(BACKGROUND[0]), pixels)
    return Image.fromarray(pixels), extent.high


# --- 8 bits -----------------------------------------------------------------------------------------------------------


def _opaque(
    image: Image.Image, path: Path, levels: Levels, stretched: int, remarks: set[Remark]
) -> tuple[Image.Image, float]:
    """Grey or RGB without transparency."""
    if image.has_transparency_data:
        shown = _composed(image, stretched, remarks)
    else:
        shown = image.convert("L" if image.mode in _GREY else "RGB")
    brightest = float(np.max(shown.getextrema()))
    if levels.given is not None:
        values = np.asarray(shown)
        values, loses = to_bytes(values, levels.of(extent_of(values, path.name), path.name))
        shown = Image.fromarray(values)
        if loses:
            remarks.add("rounded")
    return shown, brightest


def _composed(image: Image.Image, stretched: int, remarks: set[Remark]) -> Image.Image:
    """Laid on the background. stretched: what Pillow multiplied grey of fewer bits with, but not their hidden value."""
    hidden = image.info.get("transparency")
    if isinstance(hidden, int) and image.mode == "L":
        image.info["transparency"] = hidden * stretched
    layered = image.convert("RGBA")
    if layered.getchannel("A").getextrema()[0] != 255:
        remarks.add("composed")
    behind = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(behind, layered).convert("L" if image.mode in _GREY else "RGB")
