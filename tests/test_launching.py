"""The launch form answered: a browser takes over what the server says of the form as it is filled in."""

from __future__ import annotations

import html
import json
import math
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving import Served, served
from test_data import small_cifar10

from modescape.architectures import counting
from modescape.architectures.counting import Count
from modescape.records import StageOutput
from modescape.registry import presets
from modescape.science.data import contents
from modescape.spec import parse
from modescape_api.pages import forms


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("launching")) as running:
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.visitor() as asking:
        yield asking


def filled_in(client: httpx.Client, preset: str, **changes: str) -> dict[str, Any]:
    """What a browser posts of a preset's form with some fields typed anew."""
    page = client.get(f"/launch?preset={preset}").text
    values = forms.to_values(presets[preset].call())
    pairs = forms.posted(forms.sections(values, was=values))
    return {**dict(re.findall(r'name="(key|preset)" value="([^"]*)"', page)), **dict(pairs), **changes}


class Parts(HTMLParser):
    """The text of every element marked data-answer, by its id, as a browser that takes them over reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._open: list[str] = []  # ids of the elements that are open, "" for those that are not marked

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open += (
            [given["id"] or "" if "data-answer" in given else ""] if tag not in ("meta", "link", "input", "br") else []
        )
        if self._open and self._open[-1]:
            self.found[self._open[-1]] = ""

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if inside := next(filter(None, reversed(self._open)), ""):
            self.found[inside] = " ".join(f"{self.found[inside]} {data}".split())


def answered(page: str) -> dict[str, str]:
    parts = Parts()
    parts.feed(page)
    return parts.found


def program(page: str, name: str) -> str:
    """The same as the form, as a program does it."""
    found = re.search(rf'<pre id="program-{name}"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def body(page: str) -> Any:
    """What curl would post."""
    return json.loads(program(page, "curl").split("<<'MODESCAPE'\n")[1].removesuffix("\nMODESCAPE\n"))


def problems(page: str) -> dict[str, str]:
    found = re.findall(r'<div data-problem="([^"]+)">(.*?)</div>', page, re.DOTALL)
    return {field: html.unescape(re.sub("<[^>]+>", "", text)) for field, text in found}


def test_what_is_taken_over_is_what_the_whole_page_shows(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart", **{"ensemble.runs": "4", "training.epochs": "7"})
    answer = client.post("/launch/plan", data=form)
    page = client.post("/launch", data={**form, "do": "plan"})
    assert (answer.status_code, page.status_code) == (200, 200)
    parts, whole = answered(answer.text), answered(page.text)
    assert (
        parts.keys()
        == whole.keys()
        > {"plan-price", "plan-figures", "go-total", "note", "power", "changes", "line-3", "program-curl"}
    )
    assert parts == whole
    assert "× 4" in parts["plan-price"]
    assert body(answer.text)["spec"]["training"]["epochs"] == 7


def test_a_page_as_it_opens_holds_what_posting_it_answers(client: httpx.Client) -> None:
    for preset in ("quickstart", "fig-9-short"):
        page = client.get(f"/launch?preset={preset}").text
        answer = client.post("/launch/plan", data=filled_in(client, preset)).text
        assert body(page) == body(answer)
        assert "name" not in body(page), "nothing was typed"
        assert answered(page)["plan-price"] == answered(answer)["plan-price"]


def test_the_body_to_copy_is_a_launch_of_the_api(client: httpx.Client, site: Served) -> None:
    answer = client.post("/launch/plan", data=filled_in(client, "quickstart", name="</script>a name"))
    assert "</script>a name" not in answer.text
    asked = body(answer.text)
    assert asked["name"] == "</script>a name"
    priced = client.post("/api/estimate", json=asked, headers={"accept": "application/json"}).json()
    assert priced["words"]["total"] == answered(answer.text)["go-total"]


def test_a_priority_is_chosen_in_the_form(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart")
    assert "priority" not in body(client.post("/launch/plan", data=form).text)
    assert body(client.post("/launch/plan", data={**form, "priority": "high"}).text)["priority"] == 1
    page = client.post("/launch", data={**form, "priority": "low", "do": "plan"}).text
    assert '<option value="low" selected>low</option>' in page


def test_what_is_wrong_is_named_as_the_form_names_it_and_leaves_the_plan(client: httpx.Client) -> None:
    changes = {"methods.low-rank.options.rank": "0", "shift.on": "true", "shift.intensities": "6", "name": "a\u202eb"}
    form = filled_in(client, "quickstart", **changes)
    form["methods.low-rank.on"] = "true"
    refused = client.post("/launch/plan", data=form)
    assert refused.status_code == 422
    assert "plan-price" not in answered(refused.text)
    told = problems(refused.text)
    assert told.keys() == {"name", "methods.low-rank.options.rank", "shift.intensities"}, "all at once"
    refused = client.post("/launch/plan", data={**form, "name": "a name"})
    told = problems(refused.text)
    assert told.keys() == {"methods.low-rank.options.rank", "shift.intensities"}
    assert told["methods.low-rank.options.rank"].startswith("✗ ")
    assert answered(refused.text)["note"].startswith("2 fields to change first. ")
    assert "Methods › low-rank › rank: " in answered(refused.text)["note"]


def test_names_the_sweep_the_spec_and_sizes_are_all_looked_at_whatever_is_wrong_with_the_others(
    client: httpx.Client,
) -> None:
    changes = {
        "name": "a\u202eb", "project": "x" * 101, "training.epochs": "many", "data.train_images": "99999",
        "training.batch_size": "100000", "sweep.field": "training.nonsense", "sweep.values": "1, 2",
    }  # fmt: skip
    form = filled_in(client, "quickstart", **changes)
    for address in ("/launch/plan", "/launch"):
        refused = client.post(address, data=form)
        assert refused.status_code == 422
        told = problems(refused.text) if address == "/launch/plan" else dict.fromkeys(
            re.findall(r'href="#f-([^"]+)"', refused.text), ""
        )  # fmt: skip
        # Of the sweep's own fields nothing is looked at while its base cannot be read.
        assert {"name", "project", "training.epochs", "data.train_images", "training.batch_size"} <= told.keys()
    told = problems(client.post("/launch/plan", data=form).text)
    assert "99999 for training" in told["data.train_images"]
    assert "(with Training › " in told["data.train_images"], "it may hang on fields that are taken to be as before"
    assert "(with" not in told["training.epochs"] + told["name"]
    site_has = client.get("/api/experiments").json()["total"]
    client.post("/launch", data={**form, "do": "launch"})
    assert client.get("/api/experiments").json()["total"] == site_has


def test_a_field_that_is_wrong_makes_no_other_wrong(client: httpx.Client) -> None:
    """A fresh head needs given weights; these cannot be read, and that is all."""
    form = filled_in(client, "quickstart", **{"training.initial_weights": "/etc/hosts", "ensemble.vary": "head"})
    assert problems(client.post("/launch/plan", data=form).text).keys() == {"training.initial_weights"}


def test_the_price_is_greyed_while_fields_are_wrong(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart", **{"training.epochs": "0"})
    page = client.post("/launch", data=form).text
    assert '<aside class="card plan stale"' in page
    assert re.search(r'<b id="go-total"[^>]* class="stale"', page)
    assert "stale" not in client.get("/launch?preset=quickstart").text


def test_blank_is_launchable(client: httpx.Client, site: Served) -> None:
    page = client.get("/launch?preset=blank").text
    assert '"problems"' not in page
    assert "stale" not in page
    values = forms.to_values(forms.blank())
    pairs = dict(forms.posted(forms.sections(values, was=values)))
    key = re.findall(r'name="key"\s+value="([^"]*)"', page)[0]
    made = client.post("/launch", data={**pairs, "key": key, "preset": "", "do": "launch"})
    assert made.status_code == 303, made.text
    row = site.laboratory.store.experiments.get(made.headers["location"].rpartition("/")[2])
    assert (row.preset, row.runs) == (None, forms.blank()["ensemble"]["runs"])
    assert row.spec["evaluation"]["averaged"] == "fair"
    site.laboratory.store.experiments.cancel(row.id)


def test_changes_are_told_one_by_one_and_undone_without_script(client: httpx.Client) -> None:
    changed = {"training.epochs": "7", "ensemble.runs": "4", "training.optimiser_options.sgd.momentum": "0.5"}
    form = filled_in(client, "quickstart", **changed)
    del form["methods.dropout.on"]
    was = forms.to_values(presets["quickstart"].call())
    told = re.findall(
        r'<button class="plain small" name="undo" value="([^"]+)"', client.post("/launch/plan", data=form).text
    )
    assert set(told) == {"training.epochs", "ensemble.runs", "methods.dropout.on"}, "no option of another optimiser"
    page = client.post("/launch", data={**form, "undo": "training.epochs"})
    assert page.status_code == 200
    fields = dict(re.findall(r'name="(training\.epochs|ensemble\.runs)" value="([^"]*)"', page.text))
    assert fields == {"training.epochs": was["training.epochs"], "ensemble.runs": "4"}
    page = client.post("/launch", data={**form, "undo": "methods.dropout.on"})
    assert re.search(r'name="methods.dropout.on"[^>]* checked', page.text)
    page = client.post("/launch", data={**form, "undo": "*", "name": "kept"})
    assert "change against" not in page.text
    assert 'name="name" value="kept"' in page.text


def test_sections_say_in_a_line_what_is_set_in_them(client: httpx.Client) -> None:
    changes = {"data.train_images": "300", "training.epochs": "3", "ensemble.runs": "1", "shift.on": "true"}
    parts = answered(client.post("/launch/plan", data=filled_in(client, "quickstart", **changes)).text)
    assert parts["line-2"] == "Digits, 300 training images, raw 0–255"
    assert "3 epochs" in parts["line-3"]
    assert parts["line-4"].startswith("1 run that differ")
    assert "random subspace" in parts["line-5"].lower()
    assert parts["line-6"] != "no studies"


def test_an_empty_field_shows_what_stands_for_it(client: httpx.Client) -> None:
    page = client.get("/launch?preset=quickstart").text

    def grey(name: str, text: str = page) -> str:
        found = re.search(rf'name="{re.escape(name)}"[^>]*?\splaceholder="([^"]*)"', text)
        return found[1] if found else ""

    assert grey("name") == presets["quickstart"].title, "what it is called that nobody names"
    sizes = client.post("/api/estimate", json={"preset": "quickstart"}).json()["sizes"]
    assert grey("data.test_images").replace("\u202f", "") == str(sizes["test"])
    assert grey("data.validation_images").replace("\u202f", "") == str(sizes["validation"])
    assert grey("methods.random.options.spread_max") == "measured on the network"
    form = filled_in(client, "quickstart", **{"training.learning_rate": "0.01", "training.epochs": "6"})
    answer = client.post("/launch/plan", data=form).text
    automatic = json.loads(re.findall(r'id="automatic">(.*?)</script>', answer)[0])
    assert automatic["methods.swag.options.learning_rate"] == "0.005", "half of what is typed now"
    assert automatic["seeds.epochs"] == "6"
    page = client.post("/launch", data={**form, "planes.0.on": "true", "do": "plan"}).text
    assert grey("planes.0.runs", page) == ", ".join(map(str, parse({"planes": [{}]}).planes[0].runs))


def test_half_widths_stand_beside_the_number_of_runs_with_a_button_for_what_d1_needs(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart", **{"ensemble.runs": "3"})
    spec = body(client.post("/launch/plan", data=form).text)["spec"]
    lines = {one["claim"]: one for one in client.post("/api/estimate", json={"spec": spec}).json()["open"]["claims"]}
    answer = client.post("/launch/plan", data=form).text
    power = answered(answer)["power"]
    half = lines["d1"]["half_width"]
    assert f"÷ or × {math.exp(half):.3g}" in power
    assert lines["d1"]["words"] in power
    needs = lines["d1"]["needs"]
    assert needs is not None, "simulated anew, no number is enough for digits: choose another preset here"
    assert needs > 3, "simulated anew, three are enough for digits: begin with another number here"
    assert f"Take {needs} runs, enough for (d1)" in re.sub(r"\s+", " ", power)
    more = client.post("/launch", data={**form, "runs": str(needs)}).text
    assert re.search(rf'name="ensemble.runs" value="{needs}"', more)
    assert f"{needs} runs are enough for (d1)" in answered(more)["power"]


def test_the_options_of_what_is_chosen_are_in_the_spec_and_of_nothing_else(client: httpx.Client) -> None:
    changes = {
        "training.optimiser": "adamw", "training.optimiser_options.adamw.weight_decay": "0.05",
        "training.optimiser_options.rmsprop.alpha": "nonsense", "training.schedule": "warm-up",
        "training.schedule_options.warm-up.epochs": "2", "training.augmentation": "mixup",
    }  # fmt: skip
    form = filled_in(client, "quickstart", **changes)
    training = body(client.post("/launch/plan", data=form).text)["spec"]["training"]
    assert training["optimiser_options"]["weight_decay"] == 0.05
    assert training["schedule_options"]["epochs"] == 2
    assert "loss_options" not in training or not training["loss_options"]
    back = forms.to_values({"training": training})
    assert back["training.optimiser_options.adamw.weight_decay"] == "0.05"
    assert back["training.schedule_options.warm-up.epochs"] in ("2", "2.0")


NAMES = ["Digits, noisy, 2026", "Digits", 'a "new" one, or two', "[old] ones", "2026", "1e3", "caf\u00e9,2"]


@pytest.mark.parametrize("names", [[one] for one in NAMES] + [NAMES, NAMES[::-1]])
def test_names_are_in_the_spec_as_they_are_typed(names: list[str]) -> None:
    on = {"shift.on": "true", "shift.others": ", ".join(map(forms.quoted, names))}
    assert forms.to_document(on.items())["shift"]["others"] == names
    values = forms.to_values({"shift": {"others": names}})
    assert values["shift.others"] == on["shift.others"]
    assert forms.listed(", ".join(map(forms.quoted, names[:1])))[0] in (names[0], 2026, 1000), "values of a sweep, too"


def test_lists_of_numbers_are_numbers_and_json_is_what_it_says() -> None:
    form = {"shift.on": "true", "shift.intensities": "1, 3,5", "shift.others": '["a, b", {"dataset": "npz"}]'}
    shift = forms.to_document(form.items())["shift"]
    assert (shift["intensities"], shift["others"]) == ([1, 3, 5], ["a, b", {"dataset": "npz"}])


@pytest.mark.slow
def test_the_form_offers_registered_names_and_takes_them_with_and_without_quotation_marks(tmp_path: Path) -> None:
    where = tmp_path / "noisy.npz"
    rng = np.random.default_rng(0)
    np.savez(where, images=rng.integers(0, 255, (60, 8, 8), np.uint8), labels=np.arange(60) % 10)
    with served(tmp_path / "home", data_roots=str(tmp_path)) as site, site.visitor() as client:
        name = "Digits, noisy, 2026"
        site.laboratory.store.own_sets.register(name, {"dataset": "npz", "where": str(where)})
        assert '"Digits, noisy, 2026"' in html.unescape(client.get("/launch?preset=quickstart").text)
        for typed in (f'"{name}"', name, "Digits,noisy,2026"):
            form = filled_in(client, "quickstart", **{"shift.on": "true", "shift.others": typed})
            assert "no data set is called" not in html.unescape(client.post("/launch/plan", data=form).text)


def test_a_wrong_option_of_a_recipe_is_named_where_it_stands(client: httpx.Client) -> None:
    changes = {
        "training.optimiser": "adamw", "training.optimiser_options.adamw.beta1": "1.5", "training.schedule": "warm-up",
    }  # fmt: skip
    refused = client.post("/launch/plan", data=filled_in(client, "quickstart", **changes))
    assert refused.status_code == 422
    assert problems(refused.text).keys() == {"training.optimiser_options.adamw.beta1"}
    late = {"training.schedule": "warm-up", "training.schedule_options.warm-up.epochs": "999"}
    refused = client.post("/launch/plan", data=filled_in(client, "quickstart", **late))
    assert problems(refused.text).keys() == {"training.schedule_options.warm-up.epochs"}


def test_initial_weights_come_from_where_data_may_come_from_only(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart", **{"training.initial_weights": "/etc/hosts", "ensemble.vary": "head"})
    refused = client.post("/launch/plan", data=form)
    assert problems(refused.text).keys() == {"training.initial_weights"}
    assert "not inside the folders" in problems(refused.text)["training.initial_weights"]


def test_the_plan_is_for_our_own_forms_only(client: httpx.Client) -> None:
    form = filled_in(client, "quickstart")
    assert client.post("/launch/plan", data=form, headers={"origin": "http://elsewhere.test"}).status_code == 403
    assert client.post("/launch/plan", data=form).status_code == 200


@pytest.mark.slow
def test_a_set_whose_files_are_being_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    read = contents._md5
    monkeypatch.setattr(contents, "_md5", lambda path: (go_on.wait(90), read(path))[1])
    small_cifar10(tmp_path / "data")
    try:
        with served(tmp_path / "home", data=str(tmp_path / "data")) as running, running.visitor() as asking:
            page = asking.get("/launch").text
    finally:
        go_on.set()
    assert "CIFAR-10 (being checked)" in page
    missing = re.search(r"Not on this machine: ([^.]*)\.", page)
    assert missing is not None
    assert "CIFAR-100" in missing[1].split(", ")
    assert "CIFAR-10" not in missing[1].split(", ")


@pytest.mark.slow
def test_remembered_prices_are_those_of_this_moment(tmp_path: Path) -> None:
    """A page plans what is chosen alone, until a worker comes, or a stage that a preset would take over is here."""
    with served(tmp_path) as site, site.visitor() as client:
        store, here = site.laboratory.store, site.app.state.site

        def cards() -> str:
            return client.get("/launch?preset=blank").text.split('name="key"')[0]

        first = cards()
        before = dict(here.prices)
        assert before
        assert cards() == first
        assert all(here.prices[name] is before[name] for name in here.prices), "nothing was planned again"
        store.workers.register("w", device="cpu", numerics="cpu/1", queue="cpu", pid=1)
        with_worker = cards()
        assert all(here.prices[name] is not before[name] for name in here.prices), "there is somebody to work now"
        row = site.laboratory.create(presets["quickstart"].call(), name="q")
        lease = store.leases.claim("w", experiment_id=row.id, kind="train")
        assert lease is not None
        store.leases.finish(lease, StageOutput(), sorted(here.prices["quickstart"].asked)[0])
        now = cards()
        assert now != with_worker
        here.prices.clear()
        assert cards() == now
        before = dict(here.prices)
        counting.know({"a network": Count(1, 1, batch_norm=False, dropout=False)})
        cards()
        assert all(here.prices[name] is not before[name] for name in here.prices), "a worker has counted something"
