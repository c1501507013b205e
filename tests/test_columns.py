"""The columns of lists, and what is not made from their tables. A column is added in test_contributing.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving import SPEC, finished, served

from modescape import columns
from modescape.columns import EXPERIMENTS, SOLUTIONS, Facet
from modescape.listing import Condition
from modescape.tables import Experiment

FRONTEND = Path(__file__).parent.parent / "frontend"
TABLES = [columns.EXPERIMENTS, columns.SOLUTIONS, columns.MEASUREMENTS]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.noun)
def test_names_and_keys_are_given_once(table: columns.Fields[Any]) -> None:
    for given in ([field.name for field in table.all], list(table.keys)):
        assert len(given) == len(set(given))
    assert table.sort.removeprefix("-") in table.asked


@pytest.mark.slow
def test_a_facet_is_counted_labelled_and_marked_as_its_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facet = Facet("Origins", label=str.upper, mark=columns.Mark.STATUS)
    entries = (replace(one, facet=facet if one.name == "preset" else one.facet) for one in EXPERIMENTS.all)
    longer = replace(EXPERIMENTS, all=tuple(entries))
    monkeypatch.setattr(columns, "EXPERIMENTS", longer)
    monkeypatch.setattr("modescape_api.pages.listing.EXPERIMENTS", longer)
    with served(tmp_path) as site, site.client() as client:
        site.laboratory.create(SPEC, name="one", preset="fig-3-short")
        site.laboratory.create(SPEC, name="two", preset="fig-3-short")
        page = client.get("/").text
    found = re.search(r"<h2>Origins</h2>\s*<a id=\"facet-preset-1\"\s+href=\"([^\"]*)\">(.*?)</a>", page)
    assert found
    assert found[1] == "/?preset=fig-3-short"
    assert re.findall(r"<span(?: class=\"(\w+)[^>]*)?>([^<]+)</span>", found[2]) == [
        ("glyph", "○"), ("", "FIG-3-SHORT"), ("", "2"),
    ]  # fmt: skip


def test_a_notebook_asks_for_a_sample_set_by_the_columns_name_and_by_the_interfaces(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        done = finished(site.laboratory)
        solutions = site.laboratory.store.results.solutions
        [old, new] = [solutions(done.id, **{name: "typical"}).items for name in ("sample_set", "set")]
        sorted_by_it = solutions(done.id, [Condition("sample_set", "null", False)], sort="-sample_set").items
    assert [row.number for row in old] == [row.number for row in new] != []
    assert {row.sample_set for row in old} == {"typical"}
    assert [row.sample_set for row in sorted_by_it] == ["typical"] * len(old) + ["spread"] * len(old)


@pytest.mark.slow
def test_every_list_has_the_same_columns_as_csv_and_as_json(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        slug = finished(site.laboratory).slug
        site.laboratory.store.workers.register("lab", device="cpu", numerics="x", queue="cpu", pid=1)
        subjects = ("stages", "runs", "series", "solutions", "measurements", "matrices", "figures")
        for path in ("experiments", "workers", "data", *(f"experiments/{slug}/{subject}" for subject in subjects)):
            items = client.get(f"/api/{path}").json()["items"]
            header = client.get(f"/api/{path}?format=csv").text.partition("\n")[0].strip().split(",")
            assert items, path
            assert {key for item in items for key in item} <= set(header), path
            assert path == "data" or set(header) <= {key for item in items for key in item}, path  # own sets say more


def test_every_way_of_showing_a_cell_has_its_macro_and_is_used() -> None:
    template = (FRONTEND / "templates" / "_cells.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r"macro (\w+)\(row,", template)) == sorted(columns.Shows)
    assert {cell.shows for _, cell in EXPERIMENTS.cells} == set(columns.Shows)


def test_every_mark_of_a_facet_is_a_macro_and_is_used() -> None:
    template = (FRONTEND / "templates" / "_macros.html").read_text(encoding="utf-8")
    assert set(columns.Mark) <= set(re.findall(r"macro (\w+)\(", template))
    assert {facet.mark for _, facet in EXPERIMENTS.facets} == {None, *columns.Mark}


def test_the_index_that_facets_are_counted_from_holds_each_of_them() -> None:
    [index] = [index for index in Experiment.__table__.indexes if index.name == "ix_experiment_facets"]
    assert [column.key for column in index.columns] == [
        *(field.column.key for field, _ in EXPERIMENTS.facets),
        "archived_at",
    ]


def test_the_index_that_lists_are_read_from_holds_what_they_are_filtered_by() -> None:
    [index] = [index for index in Experiment.__table__.indexes if index.name == "ix_experiment_columns"]
    asked = {field.compared.key for field in EXPERIMENTS.asked.values()}
    assert asked - {column.key for column in index.columns} == {"digest"}  # which has an index of its own


def test_scripts_ask_for_columns_that_solutions_have() -> None:
    script = (FRONTEND / "static" / "chosen.js").read_text(encoding="utf-8")
    [asked] = re.findall(r'COLUMNS = "([\w,]+)"', script)
    assert set(asked.split(",")) <= set(SOLUTIONS.keys)
