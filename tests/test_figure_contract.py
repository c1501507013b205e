"""What every figure of the registry keeps to, asked of the saved home: of each figure and each of its options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from saved_home import opened
from test_sgmcmc import chains_by_hand

from modescape.drawing.figure import FigureData, Words, csv, encode, figure
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES, Theme, looks
from modescape.errors import NotFound
from modescape.laboratory import Laboratory
from modescape.listing import ListQuery
from modescape.registry import Figure, figures

NAMES = list(figures)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Results of every experiment of the saved home."""
    settings = opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home")
    laboratory = Laboratory(settings)
    rows = laboratory.store.experiments.page(ListQuery(limit=100)).items
    yield [laboratory.results(row.slug) for row in rows]
    laboratory.store.close()


def ready(entry: Figure, homes: list[Any], options: Mapping[str, Any]) -> FigureData | None:
    """Of the first experiment that has this figure with these options."""
    for results in [chains_by_hand()] if entry.name == "cycles" else homes:  # chains of several cycles take long
        try:
            found: FigureData = entry.call(results, entry.options.model_validate(options))
        except (FigureNotReady, NotFound):  # or an image set of which it keeps no predictions
            continue
        return found
    return None


def collected(entry: Figure, homes: list[Any], **options: Any) -> FigureData:
    found = ready(entry, homes, options)
    assert found is not None, f"no experiment here has the figure {entry.name}"
    return found


def choices(entry: Figure) -> Iterator[tuple[str, Any]]:
    for key, field in entry.options.model_fields.items():
        values = (True, False) if field.annotation is bool else get_args(field.annotation)
        yield from ((key, value) for value in values if isinstance(value, str | int))


def shown(entry: Figure, homes: list[Any]) -> list[FigureData]:
    """The figure as it is, and with each choice of each option that an experiment here can show."""
    others = (ready(entry, homes, {key: value}) for key, value in choices(entry))
    return [collected(entry, homes), *(one for one in others if one is not None)]


def test_a_module_holds_one_figure_which_it_is_named_after() -> None:
    places = {name: entry.draw.__module__.removeprefix("modescape.") for name, entry in figures.items()}
    for name, place in places.items():
        named = name.replace("-", "_")
        assert re.fullmatch(rf"figures\.{named}|studies\.\w+\.figure_{named}", place), place


def test_a_figure_without_words_is_not_declared() -> None:
    about = {"title": "x", "question": "x?", "summary": "x.", "source": "x", "needs": (), "options": FigureOptions}
    declared = figure("wordless", order=1, **about)(lambda results, options: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="declare `tell` before `draw`"):
        declared.draw(lambda data, theme: None)
    assert "wordless" not in figures


def test_figures_stand_in_the_order_of_the_argument() -> None:
    orders = [entry.order for entry in figures.values()]
    assert orders == sorted(set(orders))


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_a_table_and_says_what_it_shows(name: str, homes: list[Any]) -> None:
    for data in shown(figures[name], homes):
        words: Words = figures[name].tell(data)
        assert words.caption.endswith(".")
        assert re.search(r"\d", words.caption)
        assert words.summary.endswith(".")
        assert all(len(line.values) == len(words.notes.head) - 1 for line in words.notes.lines)
        assert {line.look for line in words.notes.lines} <= {"", *looks()}
        assert {entry.look for entry in data.legend} <= set(looks())
        table = data.table()
        assert len(set(table.columns)) == len(table.columns)
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert csv(data).count("\n") == len(table.rows) + 1


@pytest.mark.parametrize("name", NAMES)
def test_the_caption_of_a_figure_counts_what_it_is_of(name: str, homes: list[Any]) -> None:
    caption = figures[name].tell(collected(figures[name], homes)).caption
    assert re.search(r"n = \d|\d[\d\u202f]* (\w+ ){0,3}(images|runs|checkpoints|functions|wedges|nodes)", caption), (
        caption
    )


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_drawn_in_both_sizes_as_high_as_it_says(name: str, theme: Theme, homes: list[Any]) -> None:
    for size in ("card", "page"):
        data = collected(figures[name], homes, size=size)
        drawn = figures[name].draw(data, theme)
        assert drawn.layout.height == data.pixels == (data.page_height if size == "page" else data.card_height)
        assert drawn.layout.meta["figure"] == name
        document = json.loads(encode(drawn, "list"))
        assert document["data"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_reserves_the_height_at_which_most_are_drawn(name: str, homes: list[Any]) -> None:
    """Of figures as high as what they show, the declaration is a guess; of all others it is the height."""
    data = collected(figures[name], homes)
    assert data.size.card == figures[name].card
    if type(data).card_height is FigureData.card_height:
        assert data.card_height == figures[name].card
