r"""What people may call things: any text that shows as it is. One rule for page, API, command line, notebook and store.

    checked(" Cafe\u0301 ")      # 'Café': no spaces at its ends, in Unicode's normal form C, so that alike is equal

Refused are characters that cannot be stored or sent, and those that make a line read otherwise than it is written.
No-break spaces, joiners, direction marks and variation selectors are part of how people write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache

from modescape.errors import InvalidInput

LONGEST = 200  # characters
_OVERRIDES = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
_WHAT = {"Cc": "a control character", "Cs": "half a character (a surrogate)", "Cn": "a code point without a character"}
_UNSEEN = ("C", "M", "Z")  # categories of what shows nothing by itself


def normal(text: str) -> str:
    """The form names are stored and compared in."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """The form texts are searched and put in order in, the same again when it is folded again: without case, accents of
    Latin, Greek and Cyrillic letters, and spaces at the ends; one space for every run of them.

    Compatibility forms are one (NFKC), and case is folded, not lowered (Unicode 3.13): "Straße", "STRASSE" and
    "strasse" are one text. Marks of other scripts tell words apart and stay.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        kept, drops = [], False
        for letter in text:
            is_mark = unicodedata.category(letter) == "Mn"
            if not is_mark:
                drops = _has_accents(letter)
            if not (is_mark and drops):
                kept.append(letter)
        text = unicodedata.normalize("NFKC", "".join(kept))
    return " ".join(text.casefold().split())


@lru_cache(maxsize=4096)
def _has_accents(letter: str) -> bool:
    """Whether marks on it are accents, without which people write it too."""
    return unicodedata.name(letter, "").startswith(("LATIN ", "GREEK ", "CYRILLIC "))


def checked(text: str, *, field: str = "", longest: int = LONGEST) -> str:
    """The name as it is kept. Raises InvalidInput saying which character is wrong."""
    if not isinstance(text, str):
        raise InvalidInput(f"is {text!r}, of the type {type(text).__name__}", field=field, allowed="a text")
    for place, letter in enumerate(text):
        what = "a direction override" if letter in _OVERRIDES else _WHAT.get(unicodedata.category(letter))
        if what is not None:
            raise InvalidInput(
                f"has {what}, U+{ord(letter):04X}, as character {place + 1}", field=field,
                allowed="text without control characters, direction overrides, surrogates and unassigned code points",
            )  # fmt: skip
    name = normal(re.sub(" +", " ", text.strip()))
    if not 1 <= len(name) <= longest:
        raise InvalidInput(f"has {len(name)} characters", field=field, allowed=f"1 to {longest} characters")
    if all(unicodedata.category(letter)[0] in _UNSEEN for letter in name):
        raise InvalidInput("has nothing that can be seen", field=field, allowed="a letter, digit or sign at least")
    return name


_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet works out instead of showing it


def as_cell(value: object) -> object:
    """A value as a table in CSV holds it: a text that a spreadsheet would take for a formula behind an apostrophe;
    whatever is no text as it is. `from_cell` takes the apostrophe off."""
    is_formula = isinstance(value, str) and value.lstrip("'").startswith(_FORMULAS)
    return f"'{value}" if is_formula else value


def from_cell(text: str) -> str:
    """A text of a table in CSV as it was before `as_cell`."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULAS) else text


def key_of(name: str) -> str:
    """How a method or a set of any name goes in specs: lower case letters, digits and hyphens, at most 64."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].rstrip("-") or "unnamed"


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """name -> its key; names that `key_of` makes alike, such as "a b" and "a-b", get numbers."""
    found: dict[str, str] = {}
    for name in sorted(set(names), key=lambda one: (key_of(one) != one, one)):
        key, number = key_of(name), 2
        while key in found.values():
            key, number = f"{key_of(name)[:60]}-{number}", number + 1
        found[name] = key
    return found


def meant(name: str, known: Iterable[str]) -> str:
    """What somebody may have meant, to stand behind what is wrong: "; did you mean plane?", or nothing."""
    plain = {one.lower(): one for one in known}
    asked = name[:200].lower()
    near = [asked] if asked in plain else get_close_matches(asked, plain, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(plain[one] for one in near)}?" if near else ""


def some(names: Sequence[str], most: int = 5) -> str:
    """They, or of more than `most` the first: "a, b, c and 12 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
