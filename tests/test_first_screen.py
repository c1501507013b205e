"""What one screen of an experiment says, in every state; how its sections fold; and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import plotly.graph_objects as go
import pytest
from playwright.sync_api import Browser, expect
from serving import SPEC, Served, served

from modescape.axes import lay, told
from modescape.claims.record import ClaimRecord
from modescape.columns import EXPERIMENTS
from modescape.drawing import style
from modescape.drawing.frame import fitted
from modescape.executor import Executor
from modescape.finding import Finding
from modescape.records import StageState
from modescape.registry import figures
from modescape.science.confidence import Word
from modescape.spec import ExperimentSpec
from modescape.tables import Experiment, utcnow
from modescape_api.pages import science
from modescape_api.pages.claims import answered
from modescape_api.pages.display import ago, by_kind, seconds_left, share_done
from modescape_api.pages.first_screen import question
from modescape_api.pages.terms import TERMS, explained, of_figure

LEARNS = {**SPEC, "training": {**SPEC["training"], "epochs": 20, "learning_rate": 0.005}, "ensemble": {"runs": 3}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("first")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(site: Served) -> Iterator[httpx.Client]:
    with site.visitor(follow_redirects=True) as client:
        yield client


@pytest.fixture(scope="module")
def learned(site: Served) -> Experiment:
    """Three small runs and samples around them, by the real stages."""
    row = site.laboratory.create(LEARNS, name="Learned")
    Executor(site.laboratory.store, site.laboratory.artifacts, site.laboratory.settings, name="tests").drain(
        experiment_id=row.id
    )
    return site.laboratory.store.experiments.get(row.id)


def words(page: str) -> str:
    """What a part of a page says, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).replace("\N{NO-BREAK SPACE}", " ").split())


def first(page: str) -> str:
    return page[page.index('id="live-verdict"') : page.index('class="sections"')]


# ---- what it says ----


def test_the_question_names_what_was_asked_for_and_nothing_else() -> None:
    def asked(**more: Any) -> str:
        return question(ExperimentSpec.model_validate({"data": {"dataset": "digits"}, **more}))

    assert asked(ensemble={"runs": 4}) == "Are 4 runs different functions?"
    sampled = {"method": "low-rank"}
    assert asked(ensemble={"runs": 4}, methods=[sampled]).endswith("and do samples of low-rank Gaussian come as far?")
    whole = asked(ensemble={"runs": 4}, methods=[sampled, {"method": "dropout"}], ood=[{"dataset": "uniform-noise"}])
    assert whole == (
        "Are 4 runs different functions, and do samples of 2 subspace methods come as far? "
        "Does it know what it does not know?"
    )
    assert asked(ensemble={"runs": 1}) == "What does one run alone say?"


def test_the_plane_of_the_first_screen_has_the_numbers_of_the_figure(
    site: Served, pages: httpx.Client, learned: Experiment
) -> None:
    page = first(pages.get(f"/experiments/{learned.slug}").text)
    picture = page[page.index('class="plane"') : page.index('class="dots"')]
    shown = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="(-?[\d.]+)%" y="(-?[\d.]+)%"', picture)]
    lines = httpx.get(f"{site.url}/api/experiments/{learned.slug}/figures/plane.csv").text.splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    left_out = re.search(r"(\d+) under [\d.]+ % are in the large one", words(picture))
    assert len(shown) == len(rows) - (int(left_out[1]) if left_out else 0)
    # the scale is linear: between two ticks of the axis the place of each function is that of its accuracy
    ticks = [(float(x), float(v)) for x, v in re.findall(r'<text x="([\d.]+)%" y="100%"[^>]*>([\d.]+)</text>', picture)]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    places = sorted(round(x0 + (100 * float(row["accuracy"]) - v0) * (x1 - x0) / (v1 - v0), 1) for row in rows)
    seen = sorted(x for x, _ in shown)
    assert seen == pytest.approx(places[len(places) - len(seen) :], abs=0.2)
    assert "n = 2 runs and 2 samples beside run 0" in words(picture)


def test_each_method_of_the_strip_has_its_n(pages: httpx.Client, learned: Experiment) -> None:
    page = first(pages.get(f"/experiments/{learned.slug}").text)
    strip = words(page[page.index('class="dots"') :])
    assert re.search(r"recent checkpoints of one run [\d.]+ 3 runs", strip)
    assert re.search(r"independent runs [\d.]+ 3 pairs", strip)


def test_no_answer_stands_twice_on_the_first_screen(pages: httpx.Client, learned: Experiment) -> None:
    page = pages.get(f"/experiments/{learned.slug}").text
    said = words(re.sub(r' aria-label="[^"]*"', "", first(page)))
    for number in re.findall(r"disagree on ([\d.]+ %)", said):
        assert said.count(number) == 1
    headline = re.search(r"\d+ of \d+ claims? holds? here", words(page))
    assert headline is not None
    assert words(page).count(headline[0]) == 1, "the section of the claims has another heading"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "says", "follows"),
    [
        ("cancel", "Cancelled before all runs were compared.", "Take it up again"),
        ("pause", "The first claims come when all runs are trained and predicted.", "Resume it"),
    ],
)
def test_what_was_stopped_says_what_is_known_and_what_is_not(
    site: Served, pages: httpx.Client, how: str, says: str, follows: str
) -> None:
    laboratory = site.laboratory
    row = laboratory.create({**LEARNS, "ensemble": {"runs": 3, "seed": 17}}, name=f"To {how}")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests")
    for _ in range(4):  # two runs, each trained and predicted
        lease = executor._claim(executor.machine.queues, row.id)
        assert lease is not None
        executor.work(lease)
    httpx.post(f"{site.url}/api/experiments/{row.slug}/{how}").raise_for_status()
    said = words(first(pages.get(f"/experiments/{row.slug}").text))
    assert says in said
    assert follows in said
    assert "2 of 3 runs are trained." in said
    assert re.search(r"2 runs predicted: accuracy [\d.]+ % of test images \(standard deviation [\d.]+, n = 2\)", said)
    assert re.search(r"Different runs disagree on [\d.]+ % of test labels \(one pair\)", said)
    assert "4 of" in said
    assert "1 × train" in said


@pytest.mark.slow
@pytest.mark.parametrize("stages", range(6))
def test_what_was_stopped_anywhere_has_a_page(site: Served, pages: httpx.Client, stages: int) -> None:
    laboratory = site.laboratory
    row = laboratory.create({**LEARNS, "ensemble": {"runs": 2, "seed": 40 + stages}}, name=f"After {stages}")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests")
    for _ in range(stages):
        lease = executor._claim(executor.machine.queues, row.id)
        assert lease is not None
        executor.work(lease)
    httpx.post(f"{site.url}/api/experiments/{row.slug}/cancel").raise_for_status()
    page = pages.get(f"/experiments/{row.slug}")
    assert page.status_code == 200
    assert ('class="plane"' in page.text) == (stages >= 4), "a function alone is no picture"


@pytest.mark.slow
def test_one_run_is_not_told_twice_that_it_is_alone(site: Served, pages: httpx.Client) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 1, "seed": 5}, "methods": []}, name="Alone")
    Executor(site.laboratory.store, site.laboratory.artifacts, site.laboratory.settings, name="tests").drain(
        experiment_id=row.id
    )
    said = words(first(pages.get(f"/experiments/{row.slug}").text))
    assert said.count("of the test images") == 1
    assert said.count("alone is compared with nothing") == 1


def test_while_it_runs_only_claims_that_were_asked_for_are_said_to_come(site: Served, pages: httpx.Client) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 3, "seed": 23}}, name="Waits")
    page = pages.get(f"/experiments/{row.slug}").text
    claims = words(page[page.index('id="claims"') : page.index('id="spec"')])
    assert "(a) Independent optima are orthogonal" in claims
    assert "comes with the stage compare" in claims
    assert "(g)" not in claims, "no study of seeds was asked for"
    assert "Launch a clone" not in claims


@pytest.mark.slow
def test_curves_and_the_first_matrix_come_first_while_it_runs(
    site: Served, pages: httpx.Client, learned: Experiment
) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 3, "seed": 29}}, name="Moves")

    def order(slug: str) -> list[str]:
        return re.findall(r'data-figure="([\w-]+)"', pages.get(f"/experiments/{slug}").text)

    assert order(row.slug)[:2] == ["trajectories", "similarity-runs"]
    assert order(learned.slug) == [name for name in figures if name in order(learned.slug)], "the argument's own order"
    page = pages.get(f"/experiments/{row.slug}").text
    assert page.index('data-figure="trajectories"') < page.index('id="claims"')
    page = pages.get(f"/experiments/{learned.slug}").text
    assert page.index('id="claims"') < page.index('data-figure="trajectories"')


def test_a_run_predicts_before_the_next_is_trained(site: Served) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 3, "seed": 31}}, name="In turn")
    names = [f"{stage.kind}/{stage.key}" for stage in site.laboratory.store.stages.of(row.id)]
    assert names[:6] == ["train/0", "predict/0", "train/1", "predict/1", "train/2", "predict/2"]


# ---- one word for one thing ----


def test_data_sets_and_networks_have_their_titles_on_lists_and_plots(pages: httpx.Client, learned: Experiment) -> None:
    """And not the keys that a spec has for them: beside each other they read as two different things."""
    rows = pages.get("/").text
    rows = rows[rows.index("<tbody") : rows.index("</tbody>")]
    assert re.search(r">\s*Digits<br>", rows)
    assert ">digits<" not in rows
    field = next(one for one in EXPERIMENTS.all if one.name == "architecture")
    assert told(field, "small-cnn") == "SmallCNN"
    assert [(tick.label, tick.value) for tick in lay(field, ["small-cnn", "mlp"]).ticks] == [
        ("MLP", "mlp"), ("SmallCNN", "small-cnn"),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_leads_to_the_picture_of_f1_asks_it_for_divergence(pages: httpx.Client, learned: Experiment) -> None:
    claim = ClaimRecord("f1", "f1", "", Word.HOLDS, "", 0.2, 5, 1200, estimate=1.0, low=0.9, high=1.1, p=1e-6)
    (row,) = answered(Finding.from_json({"claims": {"f1": claim.to_json()}}), ("plane",))
    assert (row.figure, row.shown_by) == ("plane", "distance=js")
    page = pages.get(f"/experiments/{learned.slug}/figures/plane?{row.shown_by}")
    assert page.status_code == 200
    assert "Ignored in the address" not in page.text
    (beside,) = answered(Finding.from_json({"claims": {"f1": claim.to_json()}}), ("shift", "plane"))
    assert beside.shown_by == "", "its own figure is on the page"


def test_the_definition_of_the_cosine_says_what_captions_say_is_left_out() -> None:
    (term,) = (one for one in TERMS if one.name == "Cosine of weights")
    assert "without what they share" in term.says
    assert "class mean of the head" in term.says


# ---- one clock ----


def test_ages_count_in_seconds_and_like_any_other_duration() -> None:
    assert [ago(utcnow() - timedelta(seconds=n + 0.2)) for n in (5, 100, 600, 3 * 3600)] == [
        "5 s ago", "100 s ago", "10 min ago", "3 h 00 ago",
    ]  # fmt: skip


def _stage(kind: str, state: StageState, estimate: float, seconds: float = 0.0, **more: Any) -> Any:
    plain = {"step": 0, "steps": 0, "progress": {}, "reused_from": None, "claimed_at": None}
    return SimpleNamespace(kind=kind, state=state, estimate=estimate, seconds=seconds, **(plain | more))


def test_time_left_is_by_the_measured_rate_of_each_kind() -> None:
    done, ready = StageState.SUCCEEDED, StageState.READY
    trained = [_stage("train", done, 10, seconds=30), _stage("train", ready, 10)]
    compared = [_stage("compare", done, 10, seconds=5), _stage("compare", ready, 10)]
    assert seconds_left([*trained, *compared], 1) == pytest.approx(30 + 5)
    assert seconds_left([*trained, _stage("embed", ready, 10)], 1) == pytest.approx(30 + 30), "not measured: as all are"
    half = _stage("train", StageState.RUNNING, 10, claimed_at=utcnow() - timedelta(seconds=20))
    assert seconds_left([trained[0], half], 1) == pytest.approx(10, abs=0.5), "it has been at it for 20 s of 30"
    kinds = by_kind([*trained, *compared[:1]])
    assert [kind.time for kind in kinds] == ["≈ 20 s planned", "5 s"]
    assert share_done(kinds) == pytest.approx((20 * 0.5 + 10) / 30)


def test_the_clock_and_machine_time_have_their_names(pages: httpx.Client, learned: Experiment) -> None:
    status = words(
        re.search(r'id="live-status".*?</span>\s*</div>', pages.get(f"/experiments/{learned.slug}").text, re.S)[0]
    )  # type: ignore[index]
    assert re.search(r"\d+ s from start to end, \d+ s of machine time", status)
    assert re.search(r"made \d+ s ago", status)


@pytest.mark.slow
def test_an_open_page_counts_seconds_and_replaces_nothing_for_them(
    site: Served, browser: Browser, learned: Experiment
) -> None:
    page = browser.new_context(base_url=site.url).new_page()
    page.goto(f"/experiments/{learned.slug}")
    age = page.locator("#live-status time")
    before = age.inner_text()
    age.evaluate("one => { one.dataset.mark = 'the same'; }")
    if before.endswith(" s ago"):
        expect(age).not_to_have_text(before)
    with page.expect_response(lambda answer: answer.url.endswith(f"/experiments/{learned.slug}")):
        page.evaluate("dispatchEvent(new Event('groupschanged'))")  # it asks for itself again
    page.wait_for_timeout(300)
    assert age.get_attribute("data-mark") == "the same"
    page.context.close()


# ---- sections ----


@pytest.mark.slow
def test_what_is_folded_stands_in_the_address(pages: httpx.Client, learned: Experiment) -> None:
    def opened(query: str) -> set[str]:
        page = pages.get(f"/experiments/{learned.slug}{query}").text
        return set(re.findall(r'data-section="(\w+)" open', page))

    assert opened("") == {"claims", "spec"}
    assert opened("?fold=claims&open=log,files") == {"spec", "log", "files"}
    folded = pages.get(f"/experiments/{learned.slug}?fold=plane,nothing").text
    assert re.findall(r'class="fig[^"]*folded" id="([\w-]+)"', folded) == ["plane"]


@pytest.mark.slow
def test_one_screen_answers_and_its_sections_fold(site: Served, browser: Browser, learned: Experiment) -> None:
    page = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 720}).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"/experiments/{learned.slug}")
    for part in (".asked", ".verdict h2", ".verdict .facts", ".plane svg", ".dots", "nav.sections"):
        box = page.locator(part).first.bounding_box()
        assert box is not None, part
        assert box["y"] + box["height"] <= 720, part
    page.locator("#plane [data-fold]").click()
    expect(page.locator("#plane .body")).to_be_hidden()
    page.locator('[data-section="log"] > summary').click()
    expect(page).to_have_url(re.compile(r"fold=plane&open=log"))
    page.reload()
    expect(page.locator("#plane .body")).to_be_hidden()
    expect(page.locator("#live-log")).to_be_visible()
    page.locator(".shows a").click()  # what a link leads to is opened
    expect(page.locator("#plane .plot .main-svg").first).to_be_visible(timeout=30_000)
    page.locator("[data-fold-all]").click()
    expect(page.locator(".figures .body:visible")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollHeight") < 2500
    page.locator("[data-fold-all]").click()
    page.locator('.sections a[href="#ensembles"]').click()
    expect(page.locator('.sections a[href="#ensembles"]')).to_have_attribute("aria-current", "true")
    assert wrong == []
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
def test_a_word_is_explained_on_hover_focus_and_until_escape(
    site: Served, browser: Browser, learned: Experiment, width: int
) -> None:
    page = browser.new_context(base_url=site.url, viewport={"width": width, "height": 720}).new_page()
    page.goto(f"/experiments/{learned.slug}")
    word, said = page.locator(".verdict .term").first, page.locator("#def-disagreement")
    expect(said).to_be_hidden()
    word.focus()
    expect(said).to_contain_text("d(f, g) = 1/N")
    box, at = said.bounding_box(), word.bounding_box()
    assert box is not None
    assert at is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert 0 <= box["y"] - at["y"] - at["height"] < 8, "at its word"
    page.keyboard.press("Tab")  # into it, to its chapter
    expect(said.locator("a")).to_be_focused()
    page.keyboard.press("Escape")
    expect(said).to_be_hidden()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    word.hover()
    expect(said).to_be_visible()
    said.hover()  # what is read may be pointed at
    page.wait_for_timeout(400)
    expect(said).to_be_visible()
    said.locator("a").click()
    expect(page.locator('[id="a.2"]')).to_be_in_viewport()
    page.context.close()


@pytest.mark.slow
def test_a_press_explains_a_word_without_script(site: Served, browser: Browser, learned: Experiment) -> None:
    page = browser.new_context(base_url=site.url, java_script_enabled=False).new_page()
    page.goto(f"/experiments/{learned.slug}")
    page.locator(".verdict .term").first.click()
    expect(page.locator("#def-disagreement")).to_be_visible()
    page.context.close()


# ---- words ----


def test_every_term_leads_to_a_section_of_a_chapter_that_is_there(pages: httpx.Client) -> None:
    for term in TERMS:
        page = pages.get(term.url.partition("#")[0])
        assert page.status_code == 200
        assert f'id="{term.chapter}"' in page.text, term.name
    assert pages.get("/science/y").status_code == 404
    listed = pages.get("/science").text
    assert all(term.formula.split()[0] in listed for term in TERMS)


def test_chapters_are_served_whole() -> None:
    folder = Path(__file__).parents[1] / "docs" / "science"
    for path in folder.glob("[a-z]-*.md"):
        chapter = science.chapters()[path.name[0]]
        kept = chapter.introduction + "".join(section.text for section in chapter.sections)
        left_out = re.sub(r"\s", "", re.sub(r"^#.*$", "", path.read_text(), flags=re.MULTILINE))
        assert re.sub(r"\s", "", kept) == left_out, path.name


def test_a_term_is_explained_where_it_comes_first_and_what_people_type_stays_text() -> None:
    said = str(explained("Runs disagree <b>; they disagree by accuracy & loss"))
    assert re.findall(r'popovertarget="def-([\w-]+)"', said) == ["disagreement", "accuracy", "loss"]
    assert said.count("disagree</button>") == 1
    assert "&lt;b&gt;" in said
    assert "<button" not in str(explained("Inaccurate, lossless")), "no part of a word"


@pytest.mark.parametrize("name", sorted(set(figures) - {"logged-curves", "cuts"}))
def test_every_figure_explains_its_words(name: str) -> None:
    assert of_figure(name, figures[name].needs)


# ---- pictures ----


def test_names_of_curves_that_end_near_each_other_are_kept_apart() -> None:
    ends = [(style.End(f"run {i}", x, 0.5, "#000"), x == 10.0) for i, x in enumerate((3.0, 3.2, 9.0, 10.0))]
    labels = style.end_labels_apart(ends, "light", x="x", y="y", bounds=[0, 1], room=200, reach=14, wide=1.5)
    assert [label["text"] for label in labels] == ["run 0", "run 1", "run 2", "run 3"]
    heights = [label["ay"] for label in labels]
    assert heights[1] - heights[0] == pytest.approx(style.END_GAP), "they end at nearly the same epoch"
    assert heights[3] - heights[2] == pytest.approx(style.END_GAP)
    assert heights[0] == heights[2], "far apart nothing moves for the other"
    assert [label["name"] for label in labels] == ["moving"] * 4, "pages part ends only, which would undo it"


def test_a_picture_of_maps_is_no_higher_than_they_fill() -> None:
    margin = {"t": 44, "b": 28, "l": 28, "r": 4}
    picture = go.Figure(layout={"height": 552, "margin": margin, "meta": {"tall": 0.48}})
    assert fitted(picture, 832) == 44 + 28 + 0.48 * 800
    assert fitted(picture, 5000) == 552
    assert fitted(go.Figure(layout={"height": 552, "margin": margin}), 832) == 552
