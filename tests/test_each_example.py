"""Single examples: their numbers are those of numpy and scipy and sum up to those of the whole set; pages of them hold
every example once; the page, the API and old experiments."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from drawn import comes_once_it_answers
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, expect
from saved_home import opened
from scipy.special import softmax
from scipy.stats import entropy
from serving import Served, mainly, served
from sqlalchemy import create_engine, text

import modescape as ms
from modescape.errors import InvalidInput
from modescape.example_list import ExampleSet, ExamplesNotReady
from modescape.executor import Executor
from modescape.imported.ensemble import OutputKind
from modescape.imported.memory import from_arrays
from modescape.importing import bring_in
from modescape.laboratory import Lab, started
from modescape.listing import AnyOf, Condition, ListQuery
from modescape.science.examples import ExampleNumber, by_class, of_each
from modescape.settings import Settings
from modescape.stages.examples import SIDE, small

pytestmark = pytest.mark.usefixtures("few_redraws")
Arrays = NDArray[Any]
M, N, K = 5, 400, 4
NAMES = ("ant", "bee", "cow", "dog")


def made(seed: int = 0) -> tuple[Arrays, Arrays]:
    """Logits [M, N, K] of members that err together and apart, and labels [N]."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, N)
    shared = 1.5 * rng.normal(size=(N, K)) + 1.5 * np.eye(K)[truth]
    return (shared + rng.normal(size=(M, N, K))).astype(np.float32), truth


def analysed(folder: Path, **given: Any) -> Lab:
    logits, truth = made()
    return ms.analyse(logits, truth, folder=folder, progress=False, classes=NAMES, **{"recipe": "same", **given})


# -- the numbers are what others compute -------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [N, 1, 37, 399])
def test_every_number_is_numpys_and_scipys_however_examples_are_cut(cut: int) -> None:
    logits, truth = made()
    found = of_each((logits[:, i : i + cut] for i in range(0, N, cut)), truth)
    p = softmax(logits.astype(np.float64), axis=-1)
    mean, labels, rows = p.mean(0), logits.argmax(-1), np.arange(N)
    answers = mean.argmax(-1)
    apart = np.mean([labels[a] != labels[b] for a, b in combinations(range(M), 2)], axis=0)
    shares = np.stack([(labels == k).mean(0) for k in range(K)], axis=-1)
    expected = {
        "disagreement": apart,
        "vote-entropy": entropy(shares, axis=-1),
        "members-wrong": (labels != truth).sum(0),
        "entropy": entropy(mean, axis=-1),
        "mutual-information": entropy(mean, axis=-1) - entropy(p, axis=-1).mean(0),
        "confidence": mean.max(-1),
        "loss": -np.log(mean[rows, truth]),
        "wrong-and-sure": np.where(answers != truth, mean.max(-1), np.nan),
    }
    assert {*found.numbers} == {*ExampleNumber}
    for name, values in expected.items():
        np.testing.assert_allclose(found.numbers[ExampleNumber(name)], values, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(found.votes, labels)
    np.testing.assert_array_equal(found.answers, answers)


def test_mutual_information_is_the_mean_divergence_of_members_from_their_mixture() -> None:
    logits, _ = made()
    p = softmax(logits.astype(np.float64), axis=-1)
    mixture = p.mean(0)
    divergence = np.mean([entropy(one, mixture, axis=-1) for one in p], axis=0)
    found = of_each([logits]).numbers[ExampleNumber.MUTUAL_INFORMATION]
    np.testing.assert_allclose(found, divergence, atol=1e-12)
    assert found.min() >= 0
    assert found.max() <= np.log(M)


def test_numbers_of_five_hand_made_votes() -> None:
    votes = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 2], [0, 0, 1], [0, 1, 3]])  # [members, examples]
    logits = np.where(np.arange(4) == votes[..., None], 0.0, -100.0)
    found = of_each([logits], np.array([0, 0, 1]), has_probabilities=False)
    # 5 alike; 2 and 3: 1 + 3 pairs of 10 alike; 1, 2, 1, 1: one pair of 10 alike
    np.testing.assert_allclose(found.numbers[ExampleNumber.DISAGREEMENT], [0, 0.6, 0.9])
    np.testing.assert_array_equal(found.numbers[ExampleNumber.MEMBERS_WRONG], [0, 3, 3])
    np.testing.assert_array_equal(found.answers, [0, 1, 1])
    assert {*found.numbers} == {n for n in ExampleNumber if not n.needs_probabilities}


def test_a_tie_of_votes_goes_to_the_lowest_class() -> None:
    logits = np.where(np.arange(3) == np.array([2, 1])[:, None, None], 0.0, -100.0)
    assert of_each([logits], has_probabilities=False).answers.tolist() == [1]


def test_without_labels_nothing_is_called_wrong_and_no_member_alone_disagrees() -> None:
    logits, _ = made()
    found = of_each([logits[:1]])
    assert {*found.numbers} == {n for n in ExampleNumber if not n.needs_labels}
    assert np.isnan(found.numbers[ExampleNumber.DISAGREEMENT]).all()


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        of_each([])


def test_means_over_examples_are_the_numbers_of_the_experiment(tmp_path: Path) -> None:
    lab = analysed(tmp_path)
    kept = lab.examples()
    together = {m.metric: m.value for m in lab.measurements(subject="ensemble/independent")}
    scores = {m.metric: m.value for m in lab.measurements(subject=f"ensemble/independent/{M}")}
    matrix = lab.matrix("disagreement")
    assert matrix is not None
    pairs = matrix.values[np.triu_indices(M, 1)]
    for name, whole in (
        ("mutual_information", together["epistemic"]),
        ("entropy", together["entropy"]),
        ("loss", scores["nll"]),
        ("disagreement", pairs.mean()),
    ):
        assert kept.column(name).mean() == pytest.approx(whole, abs=1e-6), name
    assert 1 - kept.column("wrong").mean() == pytest.approx(scores["accuracy"])


def test_classes_are_counted_as_a_confusion_matrix_counts_them() -> None:
    logits, truth = made()
    found = of_each([logits], truth)
    confusion = np.zeros((K, K), int)
    np.add.at(confusion, (truth, found.answers), 1)
    for one in by_class(found, truth, K):
        own = confusion[one.label]
        others = np.where(np.arange(K) == one.label, 0, own)
        assert one.examples == own.sum()
        assert one.accuracy == pytest.approx(own[one.label] / own.sum())
        assert (one.taken_for, one.taken) == (others.argmax(), others.max())
        assert one.members_accuracy == pytest.approx((logits.argmax(-1)[:, truth == one.label] == one.label).mean())
    assert sum(one.examples for one in by_class(found, truth, K)) == N


def test_classes_that_never_occur_or_are_never_confused_say_so() -> None:
    logits = np.broadcast_to(np.eye(3)[[0, 2]] * 9, (2, 2, 3))
    found = by_class(of_each([logits], np.array([0, 2])), np.array([0, 2]), 3)
    assert [(one.label, one.taken_for, one.taken) for one in found] == [(0, None, 0), (2, None, 0)]


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    rng = np.random.default_rng(3)
    logits, truth = made()
    return ms.analyse(
        logits, truth, folder=tmp_path_factory.mktemp("examples"), progress=False, classes=NAMES, recipe="same",
        ood={"noise": rng.normal(size=(M, 50, K)).astype(np.float32)},
        shift={("fog", 3): (logits + rng.normal(size=logits.shape)).astype(np.float32)},
        images=rng.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8),
    )  # fmt: skip


def walked(kept: ExampleSet, query: ListQuery) -> list[int]:
    """Numbers of the examples of every page, one after another."""
    found, cursor, turns = [], query.cursor, 0
    while turns == 0 or cursor is not None:
        page = kept.page(replace(query, cursor=cursor))
        found += [one.index for one in page.items]
        cursor, turns = page.next, turns + 1
        assert turns <= N
    return found


@pytest.mark.parametrize("limit", [1, 7, 50, 399, 400, 1000])
@pytest.mark.parametrize(
    "sort", ["disagreement", "-disagreement", "-wrong_and_sure", "wrong_and_sure", "label", "-index"]
)
def test_pages_hold_every_example_once_in_order_with_ties_and_gaps(lab: Lab, sort: str, limit: int) -> None:
    kept = lab.examples()
    found = walked(kept, ListQuery(sort=sort, limit=limit))
    values = kept.column(sort.removeprefix("-")).astype(float)
    signed = -values if sort.startswith("-") else values
    assert found == sorted(range(N), key=lambda i: (np.isnan(signed[i]), signed[i] if signed[i] == signed[i] else 0, i))


def test_a_page_after_a_row_is_the_same_wherever_the_pages_were_cut(lab: Lab) -> None:
    kept = lab.examples()
    whole = walked(kept, ListQuery(sort="-disagreement", limit=1000))
    cursor = kept.page(ListQuery(sort="-disagreement", limit=13)).next
    assert walked(kept, ListQuery(sort="-disagreement", limit=29, cursor=cursor)) == whole[13:]


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        (Condition("wrong", "eq", True), lambda one: one.label != one.answer),
        (Condition("wrong", "eq", False), lambda one: one.label == one.answer),
        (Condition("split", "eq", True), lambda one: len({*one.votes}) > 1),
        (Condition("label", "in", (1, 3)), lambda one: one.label in (1, 3)),
        (Condition("label", "notin", (1, 3)), lambda one: one.label not in (1, 3)),
        (Condition("answer", "ne", 2), lambda one: one.answer != 2),
        (Condition("loss", "gte", 1.0), lambda one: one.numbers["loss"] >= 1.0),
        (Condition("entropy", "lt", 0.5), lambda one: one.numbers["entropy"] < 0.5),
        (Condition("wrong_and_sure", "null", True), lambda one: one.label == one.answer),
        (Condition("number", "in", (4, 400, 7)), lambda one: one.index in (4, 7)),
        (
            AnyOf((Condition("label", "eq", 0), Condition("confidence", "gt", 0.9))),
            lambda one: one.label == 0 or one.numbers["confidence"] > 0.9,
        ),
    ],
)
def test_a_condition_leaves_those_that_meet_it(lab: Lab, condition: Condition | AnyOf, is_met: Any) -> None:
    kept = lab.examples()
    everyone = kept.examples(range(N))
    page = kept.page(ListQuery((condition,), sort="index", limit=1000))
    expected = [one.index for one in everyone if is_met(one)]
    assert [one.index for one in page.items] == expected
    assert page.total == len(expected)
    assert 0 < len(expected) < N


@pytest.mark.parametrize("cursor", ["x", "WyJpbmRleCIsMSwyXQ", "WyJpbmRleCIsInoiLDJd", "bnVsbA"])
def test_a_cursor_of_another_list_is_refused(lab: Lab, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        lab.examples().page(ListQuery(sort="-loss", cursor=cursor))


def test_fields_there_are_not_are_refused_with_those_there_are(lab: Lab) -> None:
    with pytest.raises(InvalidInput) as column:
        lab.examples().page(ListQuery((Condition("shoe", "eq", 1),)))
    assert "disagreement" in (column.value.allowed or "")
    with pytest.raises(InvalidInput) as place:
        lab.examples("elsewhere")
    assert place.value.allowed == "test, ood/0, shift/fog/3"


def test_other_images_have_no_truth_and_shifted_ones_that_of_the_test_set(lab: Lab) -> None:
    other, foggy = lab.examples("ood/0"), lab.examples("shift/fog/3")
    assert "needs true labels" in other.untold
    assert other.by_class() == []
    assert other.examples([0])[0].wrong is None
    assert foggy.untold == ""
    np.testing.assert_array_equal(foggy.labels, lab.examples().labels)
    assert foggy.column("disagreement").mean() > lab.examples().column("disagreement").mean()


def test_labels_alone_give_what_votes_tell_and_name_the_rest(tmp_path: Path) -> None:
    logits, truth = made()
    lab = ms.analyse(logits.argmax(-1), truth, kind="labels", folder=tmp_path, recipe="same", progress=False)
    kept = lab.examples()
    votes = logits.argmax(-1)
    majority = np.stack([(votes == k).sum(0) for k in range(K)]).argmax(0)
    np.testing.assert_array_equal(kept.answers, majority)
    assert {*kept.numbers} == {n for n in ExampleNumber if not n.needs_probabilities}
    assert "mutual information" in kept.untold
    assert "probabilities" in kept.untold


def test_a_failed_member_has_no_vote(tmp_path: Path) -> None:
    logits, truth = made()
    logits[2] = np.nan
    lab = ms.analyse(logits, truth, folder=tmp_path, recipe="same", progress=False)
    kept = lab.examples()
    assert kept.runs == [0, 1, 3, 4]
    np.testing.assert_array_equal(np.asarray(kept.votes).T, np.delete(logits, 2, axis=0).argmax(-1))


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_pictures_that_came_with_an_ensemble_are_shown_as_they_are(lab: Lab) -> None:
    rng = np.random.default_rng(3)
    rng.normal(size=(M, 50, K)), rng.normal(size=(M, N, K))
    images = rng.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8)
    kept = lab.examples()
    assert (kept.pictures, kept.unpictured) == (N, "")
    np.testing.assert_array_equal(kept.picture(17), images[17])
    assert "no images came" in lab.examples("shift/fog/3").unpictured


def test_large_images_become_small_ones_of_the_same_shape_and_mean() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 4 * SIDE, 2 * SIDE), dtype=np.uint8)
    found = small(images)
    assert found.shape == (2, 3, SIDE, SIDE // 2)
    boxes = images.reshape(2, 3, SIDE, 4, SIDE // 2, 4).mean(axis=(3, 5))
    assert np.abs(found - boxes).max() <= 1
    assert small(images[:, :, :SIDE, :SIDE]).shape[2:] == (SIDE, SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("are_alike", [True, False])
def test_images_of_a_known_set_are_taken_only_if_its_labels_are_the_ensembles(tmp_path: Path, are_alike: bool) -> None:
    from modescape.datasets.loading import load
    from modescape.spec_parts import DataSpec

    here = started(tmp_path, None)
    test = load(DataSpec(dataset="digits"), here.laboratory.settings.data_folders).test
    truth = test.numpy_labels()
    logits = np.random.default_rng(0).normal(size=(3, len(truth), 10)).astype(np.float32) + 2 * np.eye(10)[truth]
    given = truth if are_alike else truth[::-1].copy()
    ensemble = from_arrays(logits[:, :: 1 if are_alike else -1], given, recipe="same")
    sets = {"test": replace(ensemble.sets["test"], data="digits/test")}
    lab = here.finish(bring_in(here.laboratory, replace(ensemble, sets=sets), name="digits"), progress=False)
    kept = lab.examples()
    if are_alike:
        np.testing.assert_array_equal(kept.picture(5), test.images[5].numpy())
    else:
        assert kept.pictures == 0
        assert "labels are not those" in kept.unpictured


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("site") / "home"
    with served(home) as running:
        logits, truth = made()
        images = np.random.default_rng(3).integers(0, 256, (N, 1, 60, 96), dtype=np.uint8)
        ensemble = from_arrays(logits, truth, classes=NAMES, recipe="same", images=images)
        row = bring_in(running.laboratory, ensemble, name="members")
        labels = from_arrays(logits.argmax(-1), truth, kind=OutputKind.LABELS, recipe="same")
        for one in (row, bring_in(running.laboratory, labels, name="votes")):
            done(running, one.id)
        yield running


def done(site: Served, experiment: str) -> None:
    """Do every stage of an experiment that is ready."""
    laboratory = site.laboratory
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings).run_experiment(experiment, progress=False)


AT = "/api/experiments/members/examples"


def test_the_api_gives_pages_tables_and_words(site: Served) -> None:
    kept = ExampleSet.of(site.laboratory.results("members"))
    with site.client() as client:
        first = client.get(AT, params={"wrong": "true", "sort": "-wrong_and_sure", "limit": 5}).json()
        again = client.get(
            AT, params={"wrong": "true", "sort": "-wrong_and_sure", "limit": 5, "cursor": first["next"]}
        ).json()
        table = list(csv.DictReader(io.StringIO(client.get(AT, params={"format": "csv", "wrong": "true"}).text)))
        wrong = client.get(AT, params={"shoe": "1"})
    sure = kept.column("wrong_and_sure")
    order = sorted(np.flatnonzero(~np.isnan(sure)), key=lambda i: -sure[i])
    assert [one["index"] for one in first["items"] + again["items"]] == order[:10]
    assert first["total"] == len(order) == len(table)
    assert first["query"] == "Images where ensemble wrong is true, by confidence where wrong, largest first"
    one = first["items"][0]
    assert one["votes"] == made()[0].argmax(-1)[:, one["index"]].tolist()
    assert wrong.status_code == 422
    assert "disagreement" in wrong.json()["errors"][0]["allowed"]


def test_classes_sets_points_and_pictures_have_addresses(site: Served) -> None:
    with site.client() as client:
        sets = client.get(f"{AT}/sets").json()["items"]
        classes = client.get(f"{AT}/classes").json()["items"]
        points = client.get(f"{AT}/points", params={"x": "entropy", "label": "1", "with": "0-2"}).json()
        picture = client.get(f"{AT}/3.png")
        beyond = client.get(f"{AT}/{N}.png")
    assert sets == [{"name": "test", "title": "test", "examples": N}]
    assert [one["class"] for one in classes] == list(NAMES)
    labels = made()[1]
    assert points["index"] == sorted({*np.flatnonzero(labels == 1).tolist(), 0, 1, 2})
    assert (points["x"]["name"], points["y"]["name"]) == ("entropy", "mutual_information")
    assert len(points["x"]["values"]) == len(points["wrong"]) == points["shown"]
    assert Image.open(io.BytesIO(picture.content)).size == (48, 30)
    assert beyond.status_code == 404


def test_many_points_are_thinned_evenly_and_those_that_are_named_stay(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modescape_api.resources.each_example.MOST_POINTS", 40)
    with site.client() as client:
        found = client.get(f"{AT}/points", params={"with": "1,2"}).json()
    assert (found["total"], found["shown"]) == (N, 42)
    assert {0, 1, 2, N - 1} <= {*found["index"]}


def test_the_page_shows_rows_choices_classes_and_what_is_lacking(site: Served) -> None:
    with site.visitor() as visitor:
        page = visitor.get("/experiments/members/examples?wrong=true&sort=-loss")
        votes = visitor.get("/experiments/votes/examples")
        odd = visitor.get("/experiments/members/examples?cursor=zzz&shoe=2&x=shoe")
        front = visitor.get("/experiments/members")
    assert page.status_code == votes.status_code == odd.status_code == 200
    wrong = ExampleSet.of(site.laboratory.results("members")).column("wrong").sum()
    assert f'data-total="{wrong}"' in page.text
    assert "ant" in page.text
    assert 'aria-sort="descending"' in page.text
    assert "needs probabilities, and only labels are known" in votes.text
    assert "Sure, though wrong" not in votes.text
    assert "Wrong and sure" not in votes.text
    assert "Ignored" in odd.text
    assert "/experiments/members/examples" in front.text


def until(page: Any, holds: str) -> None:
    """Playwright's own waiting needs eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never came true: {holds}")


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["**/plotly*", "**/api/**"])
def test_points_that_did_not_come_are_asked_for_again(site: Served, browser: Browser, lost: str) -> None:
    """A server that is started again while somebody reads."""
    comes_once_it_answers(browser, f"{site.url}/experiments/members/examples", lost)


@pytest.mark.slow
def test_a_browser_links_plot_and_table_both_ways(site: Served, browser: Browser) -> None:
    kept = ExampleSet.of(site.laboratory.results("members"))
    across, up = kept.column("mutual_information"), kept.column("loss")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{site.url}/experiments/members/examples")
    plot = page.locator("[data-points]")
    expect(plot).to_have_attribute("data-live", "1", timeout=30_000)

    # rows to points: a ticked row is a point of the last trace, and in the address
    first = page.locator("#found [data-index]").first
    number = int(first.get_attribute("data-index") or -1)
    first.locator("input").check()
    ringed = "document.querySelector('[data-points]').data?.at(-1).customdata"
    until(page, f"{ringed}?.length === 1 && {ringed}[0] === {number}")
    assert f"marked={number}" in page.url

    page.wait_for_timeout(1000)  # the legend has a line more now, and the axes are set anew
    # points to rows: a box is a condition on both numbers
    ends = page.evaluate(
        """() => {
            const plot = document.querySelector('[data-points]'), { xaxis, yaxis } = plot._fullLayout;
            const frame = plot.getBoundingClientRect(), at = (x, y) =>
                [frame.left + xaxis._offset + xaxis.d2p(x), frame.top + yaxis._offset + yaxis.d2p(y)];
            return [at(0.1, 0.5), at(0.2, 3)];
        }"""
    )
    page.mouse.move(*ends[0])
    page.mouse.down()
    page.mouse.move(*ends[1], steps=6)
    page.wait_for_timeout(300)  # Plotly looks at the pointer a few times a second
    page.mouse.move(*ends[1])
    page.wait_for_timeout(300)
    page.mouse.up()
    page.wait_for_url("**mutual_information__gte**")
    bounds = {key: float(value[0]) for key, value in parse_qs(urlsplit(page.url).query).items() if "__" in key}
    inside = (
        (across >= bounds["mutual_information__gte"])
        & (across <= bounds["mutual_information__lte"])
        & (up >= bounds["loss__gte"])
        & (up <= bounds["loss__lte"])
    )
    assert 0.08 < bounds["mutual_information__gte"] < 0.12 < 0.18 < bounds["mutual_information__lte"] < 0.22
    assert inside.sum() > 0
    expect(page.locator("#found [data-total]")).to_have_attribute("data-total", f"{inside.sum()}")
    shown = {int(row.get_attribute("data-index") or -1) for row in page.locator("#found [data-index]").all()}
    assert shown <= {*np.flatnonzero(inside).tolist()}

    # the address says it all: the same page again has the same rows and the ring
    page.reload()
    expect(page.locator("#found [data-total]")).to_have_attribute("data-total", f"{inside.sum()}")
    until(page, f"{ringed}?.includes({number}) === true")
    assert not wrong
    page.close()


# -- experiments from before -------------------------------------------------------------------------------------------


@pytest.fixture
def old_home(tmp_path: Path, store_url: str) -> Iterator[Served]:
    """The saved home, whose experiments were made before single examples had numbers, on either database."""
    home = opened(Path(__file__).parent / "saved", tmp_path / "home", store_url).home
    changes = {}
    if store_url.startswith("postgresql"):
        changes = {"database_url": store_url}
        with create_engine(store_url).begin() as rows:  # they were copied with their ids
            rows.execute(text("SELECT setval(pg_get_serial_sequence('event', 'id'), (SELECT max(id) FROM event))"))
    with served(home, data_roots=str(home), **changes) as running:
        yield running


@pytest.mark.slow
@mainly("postgres")
def test_an_old_experiment_is_told_how_to_get_them_and_gets_them(old_home: Served) -> None:
    at = "/api/experiments/every-method/examples"
    before = {s.id: s.memo for s in old_home.laboratory.store.stages.of("every-method")}
    with old_home.client() as client, old_home.visitor() as visitor:
        assert client.get(at).status_code == 404
        page = visitor.get("/experiments/every-method/examples")
        assert "Work it out" in page.text
        asked = client.post(at)
        assert asked.status_code == 202
        again = client.post(at)
        assert [s["id"] for s in again.json()["stages"]] == [s["id"] for s in asked.json()["stages"]]
        assert "being worked out" in visitor.get("/experiments/every-method/examples").text
        done(old_home, old_home.laboratory.store.experiments.get("every-method").id)
        found = client.get(at).json()
        assert client.post(at).status_code == 200
    kept = old_home.laboratory.results("every-method")
    assert found["total"] == len(kept.true_labels(kept.spec.evaluation.splits[0]))
    assert old_home.laboratory.store.experiments.get("every-method").status == "succeeded"
    after = {s.id: s.memo for s in old_home.laboratory.store.stages.of("every-method")}
    assert before.items() <= after.items()


@pytest.mark.slow
@mainly("sqlite")
def test_an_archived_experiment_is_left_alone(old_home: Served) -> None:
    old_home.laboratory.store.experiments.archive("every-method")
    with old_home.client() as client:
        assert client.post("/api/experiments/every-method/examples").status_code == 409


@pytest.mark.slow
def test_one_run_alone_says_so_and_not_to_work_it_out(tmp_path: Path) -> None:
    logits, truth = made()
    settings = Settings(home=tmp_path)
    lab = ms.analyse(logits[:1], truth, settings=settings, recipe="same", progress=False)
    with pytest.raises(ExamplesNotReady, match="one run alone") as refused:
        lab.examples()
    assert refused.value.is_closed
