"""The palette does what it promises: readable, told apart by every eye, and written down in one place only."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from modescape.drawing import style
from modescape.registry import Symbol, methods

Floats = NDArray[np.float64]
FIGURES = Path(style.__file__).parent
FRONTEND = Path(__file__).parent.parent / "frontend"

# Machado, Oliveira, Fernandes 2009, table 1, severity 1.0; applied to linear sRGB
VISIONS = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> Floats:
    """Linear sRGB in [0, 1] of "#RRGGBB" (IEC 61966-2-1)."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: Floats) -> Floats:
    """CIELAB under D65 of linear sRGB."""
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(matrix) @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(first: Floats, second: Floats) -> float:
    """Colour difference of two CIELAB colours (Sharma, Wu, Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    ml, mc = (l1 + l2) / 2, (c1 + c2) / 2
    if c1 * c2 == 0:
        mh = h1 + h2
    elif abs(h1 - h2) <= 180:
        mh = (h1 + h2) / 2
    else:
        mh = (h1 + h2 + 360) / 2 if h1 + h2 < 360 else (h1 + h2 - 360) / 2
    t = 1 - 0.17 * np.cos(np.radians(mh - 30)) + 0.24 * np.cos(np.radians(2 * mh))
    t += 0.32 * np.cos(np.radians(3 * mh + 6)) - 0.2 * np.cos(np.radians(4 * mh - 63))
    sl = 1 + 0.015 * (ml - 50) ** 2 / np.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    rotation = -2 * np.sqrt(mc**7 / (mc**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((mh - 275) / 25) ** 2))))
    terms = (dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * dc / sc * dh / sh
    return float(np.sqrt(terms))


# Sharma, Wu, Dalal 2005, table 1: the pairs that break careless hue arithmetic, and some large differences
PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "expected"), PUBLISHED)
def test_the_colour_difference_agrees_with_published_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=5e-5)
    assert ciede2000(np.array(second), np.array(first)) == pytest.approx(expected, abs=5e-5)


def smallest(colours: list[str], vision: str) -> float:
    seen = [lab(np.clip(VISIONS[vision] @ linear(colour), 0, 1)) for colour in colours]
    return min(ciede2000(a, b) for a, b in combinations(seen, 2))


# The smallest differences the interface promises between any two of the ten looks, to 0.1 of rounding
PROMISED = {
    "light": {"normal": 21.7, "deutan": 13.1, "protan": 12.5, "tritan": 12.7},
    "dark": {"normal": 18.8, "deutan": 12.2, "protan": 11.8, "tritan": 11.6},
}


@pytest.mark.parametrize("vision", list(VISIONS))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_eye_can_part_any_two_methods(theme: style.Theme, vision: str) -> None:
    colours = [entry.colour(theme) for key, entry in style.looks().items() if not key.startswith("spare")]
    assert len(colours) == 10
    assert smallest(colours, vision) >= PROMISED[theme][vision] - 0.1


# With the spare looks: fifteen
PROMISED_OF_ALL = {
    "light": {"normal": 12.5, "deutan": 10.8, "protan": 10.6, "tritan": 12.1},
    "dark": {"normal": 11.3, "deutan": 10.2, "protan": 10.5, "tritan": 10.8},
}


@pytest.mark.parametrize("vision", list(VISIONS))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_two_looks_share_a_hue_and_every_eye_can_part_them(theme: style.Theme, vision: str) -> None:
    colours = [entry.colour(theme) for entry in style.looks().values()]
    assert len(set(colours)) == len(colours) == 15
    assert smallest(colours, vision) >= PROMISED_OF_ALL[theme][vision]


def test_every_method_has_a_look_of_its_own() -> None:
    looks = [method.look for method in methods.values()]
    assert None not in looks
    assert len(set(looks)) == len(looks)
    assert [style.look(name) for name in methods] == looks
    assert [style.look(look.key) for look in looks if look] == looks


@pytest.mark.parametrize("vision", list(VISIONS))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_eye_can_part_any_two_runs(theme: style.Theme, vision: str) -> None:
    assert smallest(list(style.RUN_INKS[theme]), vision) >= 18.9


@pytest.mark.parametrize("theme", style.THEMES)
def test_marks_stand_out_from_card_and_page(theme: style.Theme) -> None:
    marks = [entry.colour(theme) for entry in style.looks().values()] + list(style.RUN_INKS[theme])
    for ground in ("card", "page"):
        for mark in marks:
            assert contrast(mark, style.token(ground, theme)) >= 3, (mark, ground)
    assert contrast(style.token("control", theme), style.token("card", theme)) >= 3


@pytest.mark.parametrize("theme", style.THEMES)
@pytest.mark.parametrize("name", ["text", "muted", "link", "succeeded", "failed", "cancelled", "queued"])
def test_text_is_readable_on_every_ground(theme: style.Theme, name: str) -> None:
    for ground in ("card", "page", "soft", "selected", "error-ground"):
        assert contrast(style.token(name, theme), style.token(ground, theme)) >= 4.5, ground


def test_looks_differ_in_symbol_too() -> None:
    symbols = [entry.symbol for entry in style.looks().values()]
    assert len(set(symbols)) == len(symbols)


def test_pages_can_draw_every_symbol() -> None:
    sprite = "".join(path.read_text(encoding="utf-8") for path in FRONTEND.rglob("*.*ml"))
    sprite += "".join(path.read_text(encoding="utf-8") for path in FRONTEND.rglob("*.svg"))
    for symbol in get_args(Symbol):
        assert f'id="y-{symbol.removesuffix("-open")}"' in sprite, symbol
    with pytest.raises(ValueError, match="symbol 'blob' is not one of star, circle"):
        style.Look("blob", "solid", "#000000", "#FFFFFF")  # type: ignore[arg-type]


def test_an_unknown_method_gets_a_spare_look_and_always_the_same() -> None:
    assert style.look("my-plugin").key.startswith("spare-")
    assert style.look("my-plugin") == style.look("my-plugin")


def test_css_gives_every_colour_to_every_theme() -> None:
    blocks = re.findall(r"\{[^{}]*--page[^{}]*\}", style.css())
    assert len(blocks) == 4  # light, dark, dark by the system, print
    names = [set(re.findall(r"--([\w-]+):", block)) for block in blocks]
    assert all(found == names[0] for found in names)
    assert {"page", "text", "look-independent", "look-spare-4", "run-4"} <= names[0]
    assert ":root:not([data-theme])" in style.css()


def test_no_colour_is_written_outside_the_style_file() -> None:
    for path in FIGURES.glob("*.py"):
        if path.name != "style.py":
            found = re.findall(r"""["']#[0-9a-fA-F]{3,8}\b|\brgba?\(""", path.read_text())
            assert not found, (path.name, found)
