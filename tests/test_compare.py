"""Experiments side by side: what differs, by how much, and when that cannot be said."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from serving import SPEC, Served, served

import modescape as ms
from modescape.comparing import _together, differing, told_apart
from modescape.comparing.ensembles import BOUNDS, Reading, Value
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.overlay import Member, draw, overlaid
from modescape.errors import InvalidInput, NotFound
from modescape.executor import Executor
from modescape.registry import figures
from modescape.results import Results
from modescape.store import Store
from modescape.testing.pictures import lines_are_named
from modescape.testing.stores import create
from modescape_api.pages import compare as compare_page

LEARNING = {**SPEC["training"], "batch_size": 5, "learning_rate": 0.003}  # enough steps to leave chance behind
THREE = {**SPEC, "training": LEARNING, "ensemble": {"runs": 3, "seed": 3}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three tiny experiments, really computed: `one` and `same` have the same networks, `other` has others."""
    with served(tmp_path_factory.mktemp("compare")) as running:
        laboratory = running.laboratory
        for name, spec in {
            "one": THREE,
            "other": {**THREE, "ensemble": {"runs": 4, "seed": 9}, "methods": []},
            "same": {**THREE, "methods": []},
            "waiting": {**THREE, "ensemble": {"runs": 2, "seed": 5}},
            "seeded": {**THREE, "training": {**LEARNING, "learning_rate": 0.002}, "methods": []},
        }.items():
            row = laboratory.create(spec, name=name)
            if name != "waiting":
                Executor(laboratory.store, laboratory.artifacts, laboratory.settings).drain(experiment_id=row.id)
                assert laboratory.store.experiments.get(row.id).status == "succeeded"
        yield running


def ask(site: Served, *names: str) -> dict[str, Any]:
    with site.client() as client:
        answer = client.get("/api/compare", params={"e": names})
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "numbers": {number["name"]: number for number in answer.json()["numbers"]}}


def labels(site: Served, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels [R, N] of the optima, and the true ones [N]."""
    results = Results(site.laboratory.store, site.laboratory.artifacts, name)
    return results.labels_of(results.solutions(role="optimum"), "test"), results.true_labels("test")


def jackknifed(statistic: Any, said: NDArray[np.int64]) -> tuple[float, float]:
    """Value and delete-one standard error over runs."""
    n = len(said)
    without = np.array([statistic(np.delete(said, i, axis=0)) for i in range(n)])
    return statistic(said), math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())


def apart(said: NDArray[np.int64]) -> float:
    pairs = [(said[i] != said[j]).mean() for i in range(len(said)) for j in range(i)]
    return float(np.mean(pairs))


@pytest.mark.slow
def test_intervals_and_differences_are_those_of_the_predictions(site: Served) -> None:
    """From the kept logits alone, with scipy's Student t. How many runs learn anything may differ between machines."""
    numbers = ask(site, "one", "other")["numbers"]
    (first, truth), (second, _) = labels(site, "one"), labels(site, "other")
    statistics = {
        "accuracy": lambda said: float((said == truth).mean()),
        "disagreement": apart,
        "diversity": lambda said: apart(said) / (1 - (said == truth).mean()),
    }
    for name, statistic in statistics.items():
        (a, error_a), (b, error_b) = jackknifed(statistic, first), jackknifed(statistic, second)
        for value, error, n, shown in ((a, error_a, len(first), 0), (b, error_b, len(second), 1)):
            half = stats.t.ppf(0.975, n - 1) * error
            told = numbers[name]["values"][shown]
            least, most = BOUNDS[name]
            ends = [max(value - half, least), min(value + half, most)]
            assert [told["value"], told["low"], told["high"]] == pytest.approx([value, *ends])
            assert told["runs"] == n
        variance = error_a**2 + error_b**2
        degrees = variance**2 / (error_a**4 / (len(first) - 1) + error_b**4 / (len(second) - 1))
        half = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
        nothing, difference = numbers[name]["differences"]
        assert nothing is None
        found = [difference["value"], difference["low"], difference["high"]]
        assert found == pytest.approx([b - a, b - a - half, b - a + half])
    # of plain means the jackknife is the usual standard error, and the difference that of Welch's test
    ends = stats.ttest_ind((second == truth).mean(axis=1), (first == truth).mean(axis=1), equal_var=False)
    interval, told = ends.confidence_interval(0.95), numbers["accuracy"]["differences"][1]
    assert [told["low"], told["high"]] == pytest.approx([interval.low, interval.high])
    usual = stats.sem((first == truth).mean(axis=1))
    low = numbers["accuracy"]["values"][0]["low"]
    assert low == pytest.approx(max(0, (first == truth).mean() - stats.t.ppf(0.975, len(first) - 1) * usual))


@pytest.mark.parametrize(
    ("name", "reading", "ends"),
    [("accuracy", (0.98, 3, 0.02, 0.894, 1.066), (0.894, 1)), ("disagreement", (0.01, 3, 0.01, -0.03, 0.05), (0, 0.05)),
     ("cosine", (0.99, 3, 0.02, 0.9, 1.08), (0.9, 1)), ("gain", (0.01, 3, 0.02, -0.07, 0.09), (-0.07, 0.09))],
)  # fmt: skip
def test_an_interval_ends_where_its_number_can_be(
    name: str, reading: tuple[float, int, float, float, float], ends: tuple[float, float]
) -> None:
    shown = Reading(*reading).shown(name)
    assert (shown.low, shown.high) == ends
    assert shown.value == reading[0]


def test_experiments_with_the_same_networks_have_no_interval_between_them(site: Served) -> None:
    found = ask(site, "one", "same", "other")
    together = {"experiments": ["one", "same"], "networks": 3, "runs": [[0, 0], [1, 1], [2, 2]]}
    assert found["shared_networks"] == [together]
    for number in found["numbers"].values():
        same, other = number["differences"][1:]
        assert same["low"] is None
        if number["name"] != "seconds":
            assert (same["value"], same["how"], same["p"], same["stands"]) == (0, "identical", None, False)
            is_of_runs = not number["name"].startswith("ensemble-")
            assert (other["low"] is not None, other["how"]) == (is_of_runs, "welch" if is_of_runs else "")


@pytest.mark.slow
def test_the_ensembles_accuracy_has_the_interval_of_its_runs(site: Served) -> None:
    """From the kept logits alone: accuracy of the averaged probabilities, without each run in turn."""
    told = ask(site, "one", "other")["numbers"]["ensemble"]
    for place, name in enumerate(("one", "other")):
        results = Results(site.laboratory.store, site.laboratory.artifacts, name)
        logits = np.stack([results.logits(one, "test") for one in results.solutions(role="optimum")])
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        truth = results.true_labels("test")

        def together(runs: NDArray[np.float64], truth: NDArray[np.int64] = truth) -> float:
            return float(((runs / runs.sum(-1, keepdims=True)).mean(0).argmax(-1) == truth).mean())

        value, error = jackknifed(together, odds)
        half = stats.t.ppf(0.975, len(odds) - 1) * error
        shown = told["values"][place]
        assert shown["value"] == pytest.approx(site.laboratory.store.experiments.get(name).ensemble_accuracy)
        ends = [max(0, value - half), min(1, value + half)]
        assert [shown["value"], shown["low"], shown["high"]] == pytest.approx([value, *ends])


@pytest.mark.slow
def test_any_of_them_can_be_the_reference(site: Served) -> None:
    def told(**more: str) -> dict[str, Any]:
        with site.client() as client:
            answer = client.get("/api/compare", params={"e": ["one", "other", "seeded"], **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    first, turned = told(), told(**{"from": "seeded"})
    assert (first["reference"], turned["reference"]) == ("one", "seeded")
    for a, b in zip(first["numbers"], turned["numbers"], strict=True):
        assert b["differences"][2] is None
        assert a["values"] == b["values"]
        one, back = a["differences"][2], b["differences"][0]
        assert back["value"] == pytest.approx(-one["value"])
        assert back["how"] == one["how"]
        if one["low"] is not None:
            assert [back["low"], back["high"]] == pytest.approx([-one["high"], -one["low"]])
    assert turned["judged"][0] == "one: paired with seeded run by run, for their runs began from the same seeds."
    asked = {"e": ["one", "other", "seeded"], "from": "other"}
    with site.client() as client:
        lines = list(csv.DictReader(io.StringIO(client.get("/api/compare", params={**asked, "format": "csv"}).text)))
        page = client.get("/compare", params=asked, headers={"accept": "text/html"}).text
        refused = client.get("/api/compare", params={**asked, "from": "waiting"})
    of_runs = {line["experiment"]: line for line in lines if line["number"] == "accuracy"}
    assert of_runs["other"]["difference"] == ""
    expected = float(of_runs["one"]["value"]) - float(of_runs["other"]["value"])
    assert float(of_runs["one"]["difference"]) == pytest.approx(expected)
    assert page.count("from other\n") >= 2
    assert 'value="other" selected' in page
    assert "from=other&amp;format=csv" in page
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["allowed"] == "one, other, seeded"
    found = ms.open(site.settings.home).compare("one", "other", "seeded", reference="other")
    assert found.table().rows == ms.connect(site.url).compare("one", "other", "seeded", reference="other").table().rows
    assert "one − other" in repr(found)


def test_options_are_said_in_words() -> None:
    mlp, cnn = ({"network": {"architecture": name}} for name in ("mlp", "small-cnn"))
    assert compare_page._title("network.options.first", [cnn, mlp]) == "Network › units of the first hidden layer"
    assert compare_page._title("training.learning_rate", [cnn]) == "Training › learning rate"


def test_a_panel_shows_what_each_experiments_own_page_shows() -> None:
    """A loss of 130 in the first steps would press everything else to the bottom."""
    axes = [Axes("loss", "epoch", "loss", window=window) for window in ((0.1, 2.0), (0.0, 1.5))]
    line = Series(panel="loss", group="independent", x=np.arange(3.0), y=np.array([130.0, 1.0, 0.2]))
    members = [Member(name, name, Layer((own,), (line,))) for name, own in zip("ab", axes, strict=True)]
    figure = figures["trajectories"]
    drawn = draw(overlaid(figure, figure.options(), members), "light")
    assert list(drawn.layout.yaxis.range) == [0.0, 2.0]


@pytest.mark.slow
def test_runs_that_began_from_the_same_seeds_are_paired(site: Served) -> None:
    """Against scipy's paired test, and the jackknife over runs of the difference itself."""
    found = ask(site, "one", "seeded")
    assert found["shared_networks"] == []
    (first, truth), (second, _) = labels(site, "one"), labels(site, "seeded")
    a, b = (first == truth).mean(axis=1), (second == truth).mean(axis=1)
    told = found["numbers"]["accuracy"]["differences"][1]
    tested = stats.ttest_rel(b, a)
    ends = tested.confidence_interval(0.95)
    assert (told["how"], told["runs"]) == ("paired", 3)
    assert [told["value"], told["low"], told["high"]] == pytest.approx([(b - a).mean(), ends.low, ends.high])
    assert told["p"] == pytest.approx(tested.pvalue)
    assert told["stands"] == (tested.pvalue < 0.05)
    both = np.stack([first, second])
    differ = [apart(np.delete(both[1], i, 0)) - apart(np.delete(both[0], i, 0)) for i in range(3)]
    error = math.sqrt(2 / 3 * np.square(np.array(differ) - np.mean(differ)).sum())
    half = stats.t.ppf(0.975, 2) * error
    told = found["numbers"]["disagreement"]["differences"][1]
    assert told["high"] - told["value"] == pytest.approx(half)
    assert ask(site, "seeded", "other")["numbers"]["accuracy"]["differences"][1]["how"] == "welch"


def test_scores_are_those_of_the_predictions(site: Served) -> None:
    """Brier and NLL from the kept logits; of a run their mean, of all together those of the mean of probabilities."""
    numbers = ask(site, "one", "other")["numbers"]
    results = Results(site.laboratory.store, site.laboratory.artifacts, "one")
    logits = np.stack([results.logits(one, "test") for one in results.solutions(role="optimum")]).astype(np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    odds /= odds.sum(-1, keepdims=True)
    truth = results.true_labels("test")
    at, whole = np.arange(len(truth)), odds.mean(0)

    def brier(p: NDArray[np.float64]) -> float:
        return float(np.square(p - np.eye(p.shape[-1])[truth]).sum(-1).mean())

    told = {name: number["values"][0]["value"] for name, number in numbers.items()}
    assert told["brier"] == pytest.approx(np.mean([brier(p) for p in odds]), rel=1e-4)
    assert told["ensemble-brier"] == pytest.approx(brier(whole), rel=1e-4)
    assert told["nll"] == pytest.approx(np.mean([-np.log(p[at, truth]).mean() for p in odds]), rel=1e-4)
    assert told["ensemble-nll"] == pytest.approx(-np.log(whole[at, truth]).mean(), rel=1e-4)
    alone = (odds.argmax(-1) == truth).mean()
    assert told["gain"] == pytest.approx((whole.argmax(-1) == truth).mean() - alone, abs=1e-6)
    assert told["seconds"] == results.experiment.seconds
    assert numbers["gain"]["values"][0]["low"] is not None


def test_of_many_differences_those_stand_that_holm_leaves() -> None:
    """.01, .02 and .03 of three at 5 %: the limits are .05 / 3, .05 / 2 and .05; a fourth at .04 keeps all but .01."""

    def standing(*p_values: float | None) -> list[bool]:
        given = [None if p is None else Value(value=1.0, p=p) for p in p_values]
        return [one is not None and one.stands for one in _together(given)]

    assert standing(0.03, 0.01, 0.02) == [True, True, True]
    assert standing(0.03, 0.01, 0.02, 0.04) == [False, True, False, False]
    assert standing(0.03, None, 0.2) == [False, False, False]
    assert standing(0.049) == [True]


def test_experiments_on_different_input_scales_are_compared_with_a_caution(site: Served) -> None:
    scaled = {**THREE, "data": {**THREE["data"], "input_scale": "unit"}}
    slug = site.laboratory.create(scaled, name="scaled").slug
    assert ask(site, "one", "other")["cautions"] == []
    (said,) = ask(site, "one", slug)["cautions"]
    assert said.startswith("Their input scales differ, which changes diversity itself")
    with site.client(headers={"accept": "text/html"}) as client:
        assert "Their input scales differ" in client.get(f"/compare?e=one&e={slug}").text


def test_cosines_of_weights_with_and_without_their_network_are_compared_with_a_caution(site: Served) -> None:
    rng = np.random.default_rng(0)
    for name in ("files", "more files"):
        truth = rng.integers(0, 4, 40)
        logits = rng.normal(size=(3, 40, 4)) + 3 * np.eye(4)[truth]
        weights = [{"net": rng.normal(size=(4, 3)), "offset": rng.normal(size=3)} for _ in range(3)]
        ms.analyse(logits, truth, name=name, weights=weights, settings=site.settings, recipe="same", progress=False)
    (said,) = ask(site, "one", "files")["cautions"]
    assert said.startswith("Cosines of weights, and claim (a), are not of the same weights")
    assert ask(site, "files", "more-files")["cautions"] == []


def test_what_is_not_computed_yet_is_left_empty(site: Served) -> None:
    numbers = ask(site, "waiting", "one")["numbers"]
    assert all(number["values"][0] is None and number["differences"][1] is None for number in numbers.values())
    assert numbers["accuracy"]["values"][1]["runs"] == 3


def test_only_what_differs_between_the_specs_is_told(site: Served) -> None:
    found = ask(site, "one", "other")["differs"]
    assert found == [
        {"field": "ensemble.runs", "values": ["3", "4"]},
        {"field": "ensemble.seed", "values": ["3", "9"]},
        {"field": "methods.random", "values": ["yes", "no"]},
    ]
    a = {"methods": [{"method": "x", "spread": 3}, {"method": "y", "spread": 1}], "shift": None, "data": {"n": 0.5}}
    b = {"methods": [{"method": "y", "spread": 2}], "shift": {"images": 5}, "data": {"n": 0.5, "fingerprint": "f"}}
    assert differing([a, a]) == []
    assert differing([a, b, a]) == [
        ("shift", ("no", "yes", "no")),
        ("methods.x", ("yes", "no", "yes")),
        ("methods.y.spread", ("1", "2", "1")),
    ]


def test_of_what_was_made_elsewhere_nothing_is_told_that_nobody_knows(site: Served) -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(3, 40, 4)), rng.integers(0, 4, 40)
    ms.analyse(logits, truth, name="elsewhere", settings=site.settings, recipe="same", progress=False)
    found = ask(site, "one", "elsewhere")
    assert {one["field"]: one["values"] for one in found["differs"] if "." not in one["field"]} == {
        "source": ["trained", "imported"],
        **{part: ["known", "not known"] for part in ("data", "network", "training")},
    }
    assert found["cautions"] == []
    assert found["numbers"]["disagreement"]["title"] == "Disagreement of two members"
    assert ask(site, "one", "other")["numbers"]["disagreement"]["title"] == "Disagreement of two runs"


@pytest.mark.parametrize(
    ("names", "status", "said"),
    [
        (["one"], 422, "nothing to be compared with"),
        (["one", "one"], 422, "nothing to be compared with"),
        (["one", "none such"], 404, "none such"),
        ([f"n{i}" for i in range(51)], 422, "up to 50"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(site: Served, names: list[str], status: int, said: str) -> None:
    with site.client() as client:
        answer = client.get("/api/compare", params={"e": names})
    assert answer.status_code == status
    assert said in answer.text


# -- in a notebook ----------------------------------------------------------------------------------------------------


def test_a_notebook_compares_by_name_or_what_it_has_at_hand(site: Served) -> None:
    """The same numbers as over HTTP, whatever the experiments are named by."""
    home = site.settings.home
    at_hand = Results(site.laboratory.store, site.laboratory.artifacts, "one")
    found = ms.compare("one", "other", folder=home)
    assert ms.compare(at_hand, "other", folder=home).numbers == found.numbers
    told = ask(site, "one", "other")
    assert {number.name: [value and value.value for value in number.values] for number in found.numbers} == {
        name: [value and value["value"] for value in number["values"]] for name, number in told["numbers"].items()
    }
    assert [row.slug for row in found.rows] == told["experiments"]
    first, _ = labels(site, "one")
    disagreement = found.number("disagreement").values[0]
    assert disagreement is not None
    assert disagreement.value == pytest.approx(apart(first))


@pytest.mark.slow
def test_experiments_of_two_homes_are_compared_and_equal_networks_known(site: Served, tmp_path: Path) -> None:
    lab = ms.run({**THREE, "methods": []}, folder=tmp_path, name="elsewhere", progress=False)
    found = ms.compare(lab, "one", "other", folder=site.settings.home)
    assert [tuple(shared) for shared in found.shared] == [(0, 1, 3, ((0, 0), (1, 1), (2, 2)))]
    same, other = found.number("accuracy").differences[1:]
    assert same is not None
    assert other is not None
    assert (same.value, same.low) == (0, None)
    assert other.low is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logits", "probs", "log-probs", "labels"])
def test_networks_are_the_same_however_their_outputs_were_given(site: Served, tmp_path: Path, kind: str) -> None:
    results = Results(site.laboratory.store, site.laboratory.artifacts, "one")
    optima = results.solutions(role="optimum")
    logits = np.stack([results.logits(one, "test") for one in optima]).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    given = {"logits": 2 + logits, "probs": np.exp(logs), "log-probs": logs, "labels": logits.argmax(-1)}[kind]
    stranger = np.roll(given[:1], 1, axis=1)
    lab = ms.analyse(
        np.concatenate([given[1:], stranger]), results.true_labels("test"), kind=kind, recipe="same", folder=tmp_path,
        progress=False,
    )  # fmt: skip
    found = ms.compare("one", lab, folder=site.settings.home)
    assert [tuple(shared) for shared in found.shared] == [(0, 1, 2, ((1, 0), (2, 1)))]
    difference = found.number("accuracy").differences[1]
    assert difference is not None
    assert (difference.low, difference.how) == (None, "shared")


def test_a_comparison_reads_as_a_table(site: Served) -> None:
    found = ms.compare("one", "waiting", "same", folder=site.settings.home)
    head, *lines = repr(found).splitlines()
    assert head.split("  ")[-1] == "same − one"
    (accuracy,) = (line for line in lines if line.startswith("Accuracy of a run"))
    assert accuracy.count(" % (") == 2
    assert accuracy.endswith("0.0 points")  # the same networks: nothing between them, and no interval
    assert re.search(r"  –  +\d", accuracy)  # what waits has no number
    assert "methods.random: yes / yes / no" in lines
    table = found.table()
    assert {row[table.columns.index("experiment")] for row in table.rows} == {"one", "same"}
    number, value, low = (table.columns.index(name) for name in ("number", "value", "value low"))
    (row,) = (row for row in table.rows if row[:2] == ("disagreement", "one"))
    shown = found.number("disagreement").values[0]
    assert shown is not None
    assert (row[number], row[value], row[low]) == ("disagreement", shown.value, shown.low)


def test_a_number_is_drawn_with_its_intervals_for_those_that_have_it(site: Served) -> None:
    found = ms.compare("one", "other", "waiting", folder=site.settings.home)
    drawn = found.figure("accuracy", theme="dark")
    (dots,) = drawn.data
    known = [value for value in found.number("accuracy").values if value is not None]
    assert list(drawn.layout.yaxis.ticktext) == ["one", "other"]
    assert list(dots.x) == [value.value for value in known]
    ends = zip(dots.x, dots.error_x.arrayminus, dots.error_x.array, strict=True)
    assert [(x - less, x + more) for x, less, more in ends] == [pytest.approx((v.low, v.high)) for v in known]


@pytest.mark.parametrize("named", [(), ("one",), ("one",) * 51])
def test_fewer_than_two_or_more_than_fifty_are_refused(site: Served, named: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=f"{len(named)} were named") as refused:
        ms.compare(*named, folder=site.settings.home)
    assert refused.value.problems[0].allowed == "two to 50 of them"


def test_what_is_not_there_is_named(site: Served) -> None:
    with pytest.raises(NotFound, match="none such"):
        ms.compare("one", "none such", folder=site.settings.home)
    with pytest.raises(InvalidInput, match="no number 'width'") as refused:
        ms.compare("one", "other", folder=site.settings.home).figure("width")
    assert "disagreement" in refused.value.problems[0].allowed


def test_a_notebook_has_the_numbers_of_the_paper_with_what_is_nearest(site: Served) -> None:
    found = ms.paper(folder=site.settings.home)
    with site.client() as client:
        told = client.get("/api/paper").json()["items"]
    assert [(n.printed.key, [near.slug for near in n.near]) for n in found.numbers] == [
        (item["key"], [near["slug"] for near in item["nearest"]]) for item in told
    ]
    assert any(number.near for number in found.numbers)
    rows = [dict(zip(found.table().columns, row, strict=True)) for row in found.table().rows]
    assert [(row["number"], row["experiment"]) for row in rows] == [
        (item["key"], near["slug"]) for item in told for near in item["nearest"]
    ]
    lines = repr(found).splitlines()
    at = lines.index("71.0 %  MediumCNN, test accuracy on CIFAR-10 (Fig 6)")
    assert "the preset fig-6-medium does; nearest, though not the same quantity:" in lines[at + 1]
    assert "instead of MediumCNN" in lines[at + 1]


# -- on one picture ---------------------------------------------------------------------------------------------------


def test_a_figure_of_several_experiments_holds_the_numbers_of_each(site: Served) -> None:
    """The points of the plane are those of each experiment's own figure; what has none is named."""
    asked = {"e": ["one", "seeded", "waiting"], "arrays": "list"}
    with site.client() as client:
        answer = client.get("/api/compare/figures/ensembles.json", params=asked)
        again = client.get("/api/compare/figures/ensembles.json", params=asked,
                           headers={"If-None-Match": answer.headers["etag"]})  # fmt: skip
        table = client.get("/api/compare/figures/ensembles.csv", params=asked).text
        own = client.get("/api/experiments/one/figures/ensembles.csv").text
        html = client.get("/api/compare/figures/ensembles.html", params=asked)
    assert (answer.status_code, again.status_code, html.status_code) == (200, 304, 200)
    told = answer.json()
    assert {trace["meta"]["experiment"] for trace in told["data"]} == {"e:one", "e:seeded"}
    assert told["words"]["missing"].startswith("Not here: waiting: ")
    assert "Colour means experiment here" in told["words"]["caption"]
    rows = list(csv.DictReader(io.StringIO(table)))
    mine = [float(row["y"]) for row in rows if (row["experiment"], row["panel"], row["method"]) == (
        "one", "accuracy", "independent")]  # fmt: skip
    theirs = [float(row["mean"]) for row in csv.DictReader(io.StringIO(own)) if (row["method"], row["measure"]) == (
        "independent", "accuracy")]  # fmt: skip
    assert mine == pytest.approx([100 * value for value in theirs])


def test_more_than_eight_experiments_are_grey_until_they_are_pointed_at() -> None:
    def inks(count: int) -> set[str]:
        line = Series(panel="p", group="independent", x=np.arange(3.0), y=np.arange(3.0))
        layer = Layer((Axes("p", "x", "y"),), (line,))
        members = [Member(f"n{i}", f"n <b>{i}</b>", layer) for i in range(count)]
        figure = figures["ensembles"]
        drawn = draw(overlaid(figure, figure.options(), members), "light")
        assert (drawn.layout.meta.get("lit") is not None) == (count > 8)
        assert not any("<b>" in trace.name for trace in drawn.data)
        return {trace.line.color for trace in drawn.data}

    assert [len(inks(count)) for count in (1, 2, 8, 9, 50)] == [1, 2, 8, 1, 1]


@pytest.mark.parametrize(("panels", "beside"), [(1, 0), (2, 1), (3, 1), (2, 3)])
def test_lines_have_their_names_where_they_end_on_every_panel(panels: int, beside: int) -> None:
    """Of eight lines in a panel each has one, its experiment's or what it is; of more the main ones keep theirs."""
    names = [f"p{i}" for i in range(panels)]
    methods = ("dropout", "random", "diagonal")[:beside]
    series = [
        Series(panel=name, group=group, title=group, x=np.arange(3.0), y=k + np.arange(3.0),
               dash="" if group == "independent" else "dot")
        for name in names for k, group in enumerate(("independent", *methods))
    ]  # fmt: skip
    layer = Layer(tuple(Axes(name, "runs averaged", name) for name in names), tuple(series))
    long = "a name of many letters that is longer than its room, the "
    members = [Member(f"n{i}", f"{long}{word}", layer) for i, word in enumerate(("first", "second", "third"))]
    drawn = draw(overlaid(figures["ensembles"], figures["ensembles"].options(), members), "light")
    picture = {"data": [trace.to_plotly_json() for trace in drawn.data], "layout": drawn.layout.to_plotly_json()}
    assert list(lines_are_named(picture)) == []
    for axis in ("y", "y2", "y3")[:panels]:
        written = [one["text"] for one in picture["layout"]["annotations"] if one.get("name") == "end"
                   and one["yref"] == axis]  # fmt: skip
        own = [text for text in written if "…" in text]
        assert [text[-3:] for text in own] == ["rst", "ond", "ird"], "names that begin alike are told apart"
        assert len(written) - len(own) == (3 * beside if 3 * (1 + beside) <= 8 else 0)
        longest = max(len(text) for text in written)
        width = max(720 if panels == 2 else 900, picture["layout"]["meta"].get("narrow", 0))
        axes = [picture["layout"][f"xaxis{i or ''}"].get("domain", [0, 1]) for i in ("", 2, 3)[:panels]]
        gaps = [right[0] - left[1] for left, right in pairwise(axes)]
        margin = picture["layout"]["margin"]
        for gap in gaps:  # 20 px of a leader, the next panel's numbers
            assert gap * (width - margin["l"] - margin["r"]) > 20 + 6 * longest + 20


def test_what_cannot_lie_over_others_is_refused_in_words(site: Served) -> None:
    with site.client() as client:
        for path, status, words in (
            ("similarity-runs.json?e=one&e=other", 422, "cannot be laid over"),
            ("none.json?e=one", 404, "there is no figure"),
            ("ensembles.json", 422, "e"),
            ("ensembles.json?e=one&panel=odd", 422, "panel"),
        ):
            answer = client.get(f"/api/compare/figures/{path}")
            assert answer.status_code == status, answer.text
            assert words in answer.text


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_what_is_missing_and_shows_the_rest(site: Served) -> None:
    with site.visitor() as client:
        empty, one = client.get("/compare").text, client.get("/compare?e=one").text
        assert len(re.findall(r'<option value="other">', empty)) == 2  # compare … with …
        assert "Choose what to compare one with" in one
        assert '<option value="one">' not in one
        page = client.get("/compare?e=one&e=other").text
        beside = client.get("/compare?e=one&e=other&pictures=beside").text
        asked = client.post("/compare", data={"ref": ["one", "other"], "next": "/"})
        forged = client.post("/compare", data={"ref": ["one", "other"]}, headers={"Origin": "http://evil.example"})
    assert "Ensemble › seed" in page
    assert page.count('data-figure="trajectories"') == 1
    assert beside.count('data-figure="trajectories"') == 2
    assert 'data-figure="plane"' not in page  # only one of them has samples
    assert (asked.status_code, asked.headers["location"]) == (303, "/compare?e=one&e=other")
    assert forged.status_code == 403


def test_experiments_of_one_name_are_told_apart_by_what_they_are_found_by(store: Store) -> None:
    rows = [store.experiments.get(create(store, name=name).id) for name in ("Looks", "Looks", "Another")]
    assert told_apart(rows) == [f"Looks ({rows[0].slug})", f"Looks ({rows[1].slug})", "Another"]
    assert told_apart(rows[1:]) == ["Looks", "Another"]
