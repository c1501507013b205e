"""Experiments along axes: how a field is laid, what a part of it is in words and for the store, how many are given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from saved_home import opened
from serving import Served, served
from test_searching import fill

from modescape import asking
from modescape.axes import MOST_WORDS, Scale, axis_field, lay, picked
from modescape.columns import EXPERIMENTS
from modescape.errors import InvalidInput
from modescape.listing import ListQuery
from modescape.store import Store
from modescape.store import in_memory as memory
from modescape_api.resources import axes as resource

HTML = {"accept": "text/html"}


# -- one axis ---------------------------------------------------------------------------------------------------------


def test_equal_factors_of_a_learning_rate_are_equal_steps() -> None:
    axis = lay(axis_field("spec.training.learning_rate"), [0.001, 0.01, 0.1, None])
    assert axis.is_log
    assert axis.places[:3] == pytest.approx([0, 0.5, 1])
    assert (axis.places[3], axis.without) == (None, 1)
    assert [tick.label for tick in axis.ticks] == ["0.001", "0.01", "0.1"]
    even = lay(axis_field("spec.training.learning_rate"), [0.001, 0.01, 0.1], log=False)
    assert even.places[1] == pytest.approx(9 / 99)


def test_zero_has_a_place_of_its_own_below_a_log_axis_and_negative_numbers_have_none() -> None:
    field = axis_field("spec.training.weight_decay")
    axis = lay(field, [0.0, 1e-4, 1e-2])
    assert axis.places[0] == 0.0
    assert 0 < (axis.places[1] or 0) < 0.2
    assert axis.place(1e-4) == axis.places[1]
    assert axis.ticks[0].label == "0"
    assert not lay(axis_field("result.gain"), [-0.1, 0.2], log=True).is_log


def test_numbers_that_many_share_have_a_tick_each_and_others_round_ones() -> None:
    sizes = lay(axis_field("spec.training.batch_size"), [16, 32, 64, 128] * 3)
    assert [tick.label for tick in sizes.ticks] == ["16", "32", "64", "128"]
    shares = lay(axis_field("accuracy"), [0.512, 0.633, 0.861])
    assert [tick.label for tick in shares.ticks] == ["60 %", "70 %", "80 %"]
    one = lay(axis_field("accuracy"), [0.5, 0.5])
    assert one.places == pytest.approx((0.5, 0.5)), "equal values lie in the middle"


def test_words_that_are_compared_alike_share_a_place_and_rare_ones_the_last() -> None:
    axis = lay(axis_field("project"), ["Öl", "öl", "Öl", "paper", "", None])
    assert [(tick.label, tick.n) for tick in axis.ticks] == [("Öl", 3), ("paper", 1)]
    assert axis.without == 2
    assert axis.places[0] == axis.places[1] == 0.25
    many = lay(axis_field("name"), [f"name {i:02d}" for i in range(40)] + ["name 00"])
    assert len(many.ticks) == MOST_WORDS
    assert many.left_out == 40 - (MOST_WORDS - 1)
    assert many.ticks[-1].n == many.left_out
    assert many.kind is Scale.WORDS


def test_a_list_and_an_unknown_field_are_no_axis() -> None:
    for name in ("tag", "method", "archived", "nonsense", "spec.nonsense"):
        with pytest.raises(InvalidInput, match="nothing is laid along"):
            axis_field(name)


# -- a part of it -----------------------------------------------------------------------------------------------------

PARTS: list[tuple[str, dict[str, Any]]] = [
    ("accuracy", {"low": "20%", "high": "0.6"}),
    ("accuracy", {"low": "0.9"}),
    ("accuracy", {"high": "0.3", "without": True}),
    ("accuracy", {"without": True}),
    ("seconds", {"low": "1h", "high": "2h"}),
    ("runs", {"low": "2.5"}),
    ("created", {"low": "2026-01-09", "high": "2026-01-20"}),
    ("dataset", {"words": ["lungs ä"]}),
    ("status", {"words": ["failed", "queued"]}),
    ("architecture", {"words": ["small-cnn"], "without": True}),
    ("parent", {"without": True}),
    ("spec.training.epochs", {"low": "2", "high": "5"}),
    ("result.claims.d1.word", {"words": ["holds"], "without": True}),
    ("result.claims.d1.estimate", {"low": "0.5", "high": "1.5"}),
]


def test_a_part_is_the_same_in_words_for_the_store_and_by_itself_on_both_databases(store: Store) -> None:
    fill(store, 200)
    every = ListQuery(limit=None, archived=None)
    for name, typed in PARTS:
        part = picked(axis_field(name), **typed)
        along = store.experiments.along(every, [name], 1000)
        alone = {slug for slug, value in zip(along.slugs, along.values[name], strict=True) if part.holds(value)}
        by_store = ListQuery((part.condition,), limit=None, archived=None)
        by_line = asking.read(EXPERIMENTS, [("q", f"{part.line} archived:any")]).query
        assert {row.slug for row in store.experiments.page(by_store)} == alone, (name, typed)
        assert store.experiments.along(by_line, [name], 1000).total == len(alone), part.line
        assert 0 < len(alone) < 200, (name, typed)


def test_what_is_no_number_is_named_by_its_field() -> None:
    with pytest.raises(InvalidInput) as error:
        picked(axis_field("accuracy"), low="much", high="9x")
    assert [problem.field for problem in error.value.problems] == ["from.accuracy", "to.accuracy"]


# -- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [False, True], ids=["asked", "in memory"])
def test_of_too_many_as_many_are_given_evenly_in_the_list_s_order(
    store: Store, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = fill(store, 203)
    if held:
        monkeypatch.setattr(memory, "MANY", 1)
        monkeypatch.setattr(memory, "LONG", 0.0)
        store.experiments.page(ListQuery())
    query = asking.read(EXPERIMENTS, [("archived", "false"), ("sort", "-accuracy")]).query
    there = [row for row in rows if row["archived_at"] is None]
    in_order = sorted(there, key=lambda row: (row["accuracy"] is None, -(row["accuracy"] or 0)))
    for most in (1000, 50, 7):
        along = store.experiments.along(query, ["accuracy", "spec.training.epochs"], most)
        assert along.total == len(there)
        assert len(along.slugs) == min(most, len(there))
        values = along.values["accuracy"]
        known = [one for one in values if one is not None]
        assert known == sorted(known, reverse=True)
        assert values[len(known) :] == (None,) * (len(values) - len(known))
        epochs = {row["slug"]: row["_epochs"] for row in rows}
        assert along.values["spec.training.epochs"] == tuple(epochs[slug] for slug in along.slugs)
        if most < len(there):
            places = [math.ceil(i * len(there) / most) for i in range(most)]
            assert values == tuple(in_order[place]["accuracy"] for place in places)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home: Path = tmp_path_factory.mktemp("axes")
    with served(home) as running:
        fill(running.laboratory.store, 120)
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as one:
        yield one


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text


def test_axes_are_given_as_columns_and_as_rows(client: httpx.Client) -> None:
    asked = {"axes": "accuracy,dataset,created,spec.training.epochs,result.claims.d1.word", "q": "status:succeeded"}
    found = ok(client.get("/api/axes", params=asked))
    rows = ok(client.get("/api/experiments", params={"q": "status:succeeded", "limit": 200}))["items"]
    assert found["total"] == len(rows)
    assert found["experiments"] == [row["slug"] for row in rows]
    by_name = {axis["name"]: axis for axis in found["axes"]}
    assert by_name["accuracy"]["values"] == [row["accuracy"] for row in rows]
    assert by_name["accuracy"]["without"] == sum(row["accuracy"] is None for row in rows)
    assert by_name["spec.training.epochs"]["log"]
    assert by_name["dataset"]["words"] == ["digits", "Lungs Ä"]
    lines = ok(client.get("/api/axes", params={**asked, "format": "csv"})).splitlines()
    assert lines[0] == "slug,name,accuracy,dataset,created,spec.training.epochs,result.claims.d1.word"
    assert len(lines) == len(rows) + 1
    refused = client.get("/api/axes", params={"axes": "accuracy,tag"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "axes"


@pytest.mark.slow
def test_numbers_of_a_comparison_are_axes_of_what_is_compared(tmp_path: Path) -> None:
    saved = opened(Path(__file__).parent / "saved", tmp_path / "home").home
    with served(saved) as site, site.client() as client:
        slugs = [row["slug"] for row in ok(client.get("/api/experiments"))["items"]][::-1][:4]
        found = ok(client.get("/api/axes", params={"axes": "accuracy,compare.brier,compare.ensemble-nll", "e": slugs}))
        compared = ok(client.get("/api/compare", params={"e": slugs}))
        numbers = {one["name"]: [value and value["value"] for value in one["values"]] for one in compared["numbers"]}
        by_name = {axis["name"]: axis["values"] for axis in found["axes"]}
        assert found["experiments"] == slugs, "in the order asked"
        assert by_name["compare.brier"] == numbers["brier"]
        assert by_name["compare.ensemble-nll"] == numbers["ensemble-nll"]
        assert any(numbers["brier"])
        refused = client.get("/api/axes", params={"axes": "compare.brier"})
        assert "is a number of a comparison" in refused.json()["detail"]
        query = [("e", slug) for slug in slugs]
        page = ok(
            client.get("/plots", params=[*query, ("x", "compare.brier"), ("to.compare.brier", "2")], headers=HTML)
        )
        assert re.findall(r'class="mark k(\d)', page) == ["0", "1", "2", "3"], "colour means experiment"
        assert f'href="/experiments/{slugs[0]}"' in page
        picked_of = sum(one is not None and one <= 2 for one in numbers["brier"])
        assert f"<b>{picked_of}</b> of 4" in page


def test_a_page_without_script_links_every_mark_and_says_who_has_no_value(client: httpx.Client, site: Served) -> None:
    address = "/plots?archived=false&axes=dataset,accuracy,result.claims.d1.estimate&x=accuracy&y=seconds&colour=status"
    page = ok(client.get(address, headers=HTML))
    rows = ok(client.get("/api/experiments?limit=200"))["items"]
    for kind in ("mark", "line"):
        hrefs = re.findall(rf'<a class="{kind}[^"]*" href="/experiments/([^"]+)"', page)
        assert hrefs == [row["slug"] for row in rows]
    without = sum(row["accuracy"] is None for row in rows)
    assert f"{without} have no accuracy" in re.sub(r"\s+", " ", page)
    assert f"{without} without accuracy" in re.sub(r"\s+", " ", page)
    statuses = {row["status"] for row in rows}
    assert len(re.findall(r'name="is.status" value="(\w+)"', page)) == len(statuses), "the legend"


def test_what_is_picked_is_counted_listed_and_handed_on(client: httpx.Client) -> None:
    page = ok(
        client.get("/plots?from.accuracy=30%25&to.accuracy=0.7&is.dataset=digits&axes=dataset,runs", headers=HTML)
    )
    rows = ok(client.get("/api/experiments", params={"q": "accuracy:0.3..0.7 dataset:digits", "limit": 200}))["items"]
    assert f"<b>{len(rows)}</b>" in page
    assert page.count('class="mark out"') == page.count('class="line out"') > 0
    link = re.search(r'href="(/\?[^"]+)">Show these in the list', page)
    assert link is not None
    address = link[1].replace("&amp;", "&")
    assert ok(client.get(f"/api/experiments{address[1:]}&limit=200"))["items"] == rows
    csv = re.search(r'href="(/api/experiments\?[^"]+format=csv)"', page)
    assert csv is not None
    assert len(ok(client.get(csv[1].replace("&amp;", "&"))).splitlines()) == len(rows) + 1
    assert page.count('name="ref"') == min(50, len(rows))
    if len(rows) <= 50:
        assert page.count("Compare") > 1
    wrong = ok(client.get("/plots?from.accuracy=much&colour=tag&x=nonsense", headers=HTML))
    assert "from.accuracy: is not a number" in wrong
    assert "nothing is laid along &#39;tag&#39;" in wrong
    assert "nothing is laid along &#39;nonsense&#39;" in wrong


def test_above_the_most_it_says_so_and_still_counts_all(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    every = ok(client.get("/api/experiments"))["total"]
    fast = ok(client.get("/api/experiments", params={"q": "seconds<4000"}))["total"]
    monkeypatch.setattr(resource, "MOST", 30)
    page = ok(client.get("/plots?to.seconds=4000", headers=HTML))
    said = re.sub(r"\s+", " ", page)
    assert f"30 of {every} are drawn, evenly" in said
    assert page.count('<a class="mark') == 30
    assert f"<b>{fast}</b> of {every} experiments are picked" in said, "not of those alone that are drawn"


def test_more_than_eight_values_share_no_colours(client: httpx.Client) -> None:
    page = ok(client.get("/plots?colour=seconds", headers=HTML))
    assert "too many for colours" in page
    assert not re.search(r'class="mark[^"]* k\d', page)
    names = ok(client.get("/plots?colour=name", headers=HTML))
    assert len(set(re.findall(r'class="mark k(\d)', names))) == 7
    assert "other values" in names


def test_places_follow_the_values(client: httpx.Client) -> None:
    """Independent of the page: higher accuracy lies to the right, and as far as it is higher."""
    page = ok(client.get("/plots?x=accuracy&y=seconds&q=has:accuracy", headers=HTML))
    rows = ok(client.get("/api/experiments?q=has:accuracy&limit=200"))["items"]
    xs = [float(x) for x in re.findall(r'<use href="#m-circle" x="([\d.]+)%"', page)]
    slope, offset = np.polyfit([row["accuracy"] for row in rows], xs, 1)
    assert slope > 0
    assert np.abs(np.polyval([slope, offset], [row["accuracy"] for row in rows]) - xs).max() < 0.02


def test_times_are_laid_in_order() -> None:
    moments = [datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC), None]
    axis = lay(axis_field("created"), moments)
    assert axis.places == (0.0, 1.0, None)
    assert axis.ticks[0].label in ("1 Mar 2026", "2 Mar 2026")
