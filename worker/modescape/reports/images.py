"""An image that is put into a report, written anew: whatever else was in its file is gone.

write_anew(Path("sent"), Path("kept"))       # PNG or JPEG
"""

from __future__ import annotations

import warnings
from pathlib import Path

from modescape.errors import InvalidInput

PIXELS = 20_000_000
LONGEST = 2400  # px of a side: larger ones are made smaller
_READS = ("PNG", "JPEG", "WEBP", "GIF")
MEDIA = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def write_anew(source: Path, to: Path) -> None:
    """Photographs as JPEG, everything else as PNG; of what moves, the first picture. Raises InvalidInput for what is no
    picture, or a larger one."""
    from PIL import Image, ImageOps

    allowed = f"a PNG, JPEG, WebP or GIF of at most {PIXELS // 1_000_000} million pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=_READS) as sent:
                if sent.width * sent.height > PIXELS:
                    raise InvalidInput(f"has {sent.width} × {sent.height} pixels", field="image", allowed=allowed)
                is_photograph = sent.format == "JPEG"
                picture = ImageOps.exif_transpose(sent)
                picture.thumbnail((LONGEST, LONGEST))
                if is_photograph:
                    picture.convert("RGB").save(to, "JPEG", quality=90)
                else:
                    mode = "RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB"
                    picture.convert(mode).save(to, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("is no picture that can be read", field="image", allowed=allowed) from None


def media_of(content: bytes) -> str:
    """Of what `write_anew` wrote."""
    return next(media for begin, media in MEDIA.items() if content.startswith(begin))


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height, px, read off the header of what `write_anew` wrote."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
        return picture.size
