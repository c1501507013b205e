"""What one request may cost: how much of it is read, what is asked of the database for it, what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from serving import Served, finished, served

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.errors import InvalidInput
from modescape.store.views import of_a_view

MANY = "&".join(f"spec.methods.{i // 3}.{('method', 'spread', 'typical')[i % 3]}=1" for i in range(501))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("bounds")) as running:
        finished(running.laboratory, name="one")
        yield running


@pytest.fixture
def visitor(site: Served) -> Iterator[httpx.Client]:
    with site.visitor() as found:
        yield found


# -- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/compare", {"all": "1"}),
        ("/export", {"all": "1"}),
        ("/archive", {"all": "1"}),
        ("/restore", {"all": "1"}),
        ("/change", {"all": "1", "tag": "x"}),
        ("/purge", {"all": "1"}),
    ],
)
def test_a_form_asks_no_more_than_an_address_may(path: str, fields: dict[str, str], visitor: httpx.Client) -> None:
    refused = visitor.post(path, data={**fields, "next": f"/?{MANY}"})
    assert refused.status_code == 422, refused.text
    assert "at most 500" in refused.text
    assert visitor.get("/api/experiments/one").status_code == 200  # and nothing was done


def test_a_view_and_the_options_of_a_block_hold_no_more_parameters_either(visitor: httpx.Client) -> None:
    with pytest.raises(InvalidInput, match="501"):
        of_a_view("&".join(["a=1"] * 501))
    assert len(of_a_view("&".join(["a=1"] * 500))) == 500 * 4 - 1
    report = visitor.post("/api/reports", json={"name": "of many"}).json()["slug"]
    block = {"block": "a", "a.kind": "figure", "a.experiment": "one", "a.figure": "plane", "a.options": MANY}
    refused = visitor.post(f"/reports/{report}", data={"name": "of many", **block})
    assert (refused.status_code, "at most 500" in refused.text) == (422, True)


@pytest.mark.parametrize("lenient", [False, True])
def test_a_question_has_at_most_500_parameters(lenient: bool) -> None:
    with pytest.raises(InvalidInput) as refused:
        asking.read(EXPERIMENTS, parse_qsl(MANY), lenient=lenient)
    assert (refused.value.field, refused.value.problems[0].allowed) == ("parameters", "at most 500")


def test_chips_cost_no_writing_of_all_parameters_each(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def counting(pairs: Any) -> str:
        written.append(len(pairs))
        return urlencode(pairs)

    monkeypatch.setattr("modescape.asking.urlencode", counting)
    pairs = [*parse_qsl(MANY)[:490], ("q", "status:succeeded dataset:digits")]
    chips = asking.read(EXPERIMENTS, pairs).chips
    assert len(chips) == 492
    assert chips[3].without == urlencode([one for one in pairs if one[0] != pairs[3][0]])
    assert chips[490].without == urlencode([*pairs[:490], ("q", "dataset:digits")])
    assert sum(written) <= 2 * len(pairs)
