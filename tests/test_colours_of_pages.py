"""On one page a colour means one thing, and a thing has one colour: in all figures that the page asks for, as the
server draws them, and in its legends."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import numpy as np
import pytest
import saved_home
from every_page import EXPERIMENTS, SAVED
from serving import Served, served

import modescape as ms
from modescape.drawing import style
from modescape.drawing.frame import Frame, framed
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.overlay import Member, over, overlaid
from modescape.registry import figures, methods

pytestmark = pytest.mark.slow
Meaning = tuple[str, str]
THEMES: tuple[style.Theme, ...] = ("light", "dark")
# What readers are told that a colour is, in whatever words a figure says it: of each look the words that mean it.
SAME: Mapping[str, str] = {
    "optima": "independent runs", "an ensemble": "independent runs", "independent": "independent runs",
    "trajectory": "along one training", "latest checkpoints": "along one training", "median run": "along one training",
    "one trajectory": "along one training", "run": "along one training", "checkpoints": "along one training",
    "both": "independent runs",  # other initial weights and another order of batches: two independent runs
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("colours") / "home"
    saved_home.opened(SAVED, home)
    with served(home) as running:
        yield running


# ---- what a page shows ----


def asked_by(client: httpx.Client, path: str, theme: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure that the page asks for, by its address."""
    page = client.get(path, headers={"accept": "text/html"})
    assert page.status_code == 200
    for tag in re.findall(r"<figure[^>]*data-src=[^>]*>", page.text):
        about = dict(re.findall(r'data-([a-z]+)="([^"]*)"', tag))
        query = parse_qsl(about.get("query", "").replace("&amp;", "&"))
        answer = client.get(f"{about['src']}.json", params=[*query, ("theme", theme), ("arrays", "list")])
        if answer.status_code == 200:
            yield f"{about['src']}?{query}", answer.json()
        else:
            assert answer.status_code == 409, answer.text  # it waits, or lacks something


def coloured(figure: dict[str, Any], theme: style.Theme) -> Iterator[tuple[str, Meaning]]:
    """Each categorical colour in the picture with what it means there: a run by its number, an experiment, a method or
    another group, else what its line is called."""
    inks = [ink.lower() for ink in style.RUN_INKS[theme]]
    for trace in figure["data"]:
        if trace["type"] not in ("scatter", "bar", "box"):
            continue  # maps have scales of colours
        about = trace.get("meta") or {}
        group = about.get("method") or trace.get("legendgroup") or ""
        for colour in colours_of(trace):
            if about.get("experiment"):
                yield colour, ("experiment", about["experiment"])
            elif "run" in about:
                yield colour, ("run", f"{about['run'] % len(inks)}")
            elif colour in inks:  # a point of a run, which its figure's contract compares with the run's number
                yield colour, ("run", f"{inks.index(colour)}")
            else:
                yield colour, ("group", said(group, trace.get("name") or ""))


def said(group: str, name: str) -> str:
    if group in methods:
        return methods[group].title
    name = name.partition(",")[0]  # "optima, one run"
    return SAME.get(group, "") or SAME.get(name, "") or name or group


def colours_of(trace: dict[str, Any]) -> Iterator[str]:
    """Of marks, lines and areas, see-through ones as what they are made of."""
    for part in ("marker", "line", "error_x", "error_y"):
        found = (trace.get(part) or {}).get("color")
        yield from (opaque(one) for one in (found if isinstance(found, list) else [found]) if isinstance(one, str))
    if isinstance(trace.get("fillcolor"), str):
        yield opaque(trace["fillcolor"])


def opaque(colour: str) -> str:
    found = re.fullmatch(r"rgba\((\d+),\s*(\d+),\s*(\d+),\s*[\d.]+\)", colour)
    return "#" + "".join(f"{int(part):02x}" for part in found.groups()) if found else colour.lower()


def neutral(theme: style.Theme) -> set[str]:
    """Inks and greys, of texts and of what everything is compared with: they tell nothing apart."""
    looks = style.looks()
    return {value.lower() for value in style.TOKENS[theme].values()} | {
        looks[key].colour(theme).lower() for key in ("baseline", "theory")
    }


def found_on(client: httpx.Client, path: str, theme: style.Theme) -> dict[str, dict[Meaning, set[str]]]:
    """Colour -> what it means -> where."""
    meanings: dict[str, dict[Meaning, set[str]]] = defaultdict(lambda: defaultdict(set))
    grounds = neutral(theme)
    for where, figure in asked_by(client, path, theme):
        for colour, meaning in coloured(figure, theme):
            if colour not in grounds:
                meanings[colour][meaning].add(where)
    return meanings


def agree(meanings: Mapping[str, Mapping[Meaning, set[str]]]) -> None:
    several = {colour: dict(found) for colour, found in meanings.items() if len(found) > 1}
    assert not several, f"colours that mean several things: {several}"
    colours: dict[Meaning, set[str]] = defaultdict(set)
    for colour, found in meanings.items():
        for meaning in found:
            colours[meaning].add(colour)
    assert not {one: found for one, found in colours.items() if len(found) > 1}, "things with several colours"


@pytest.mark.parametrize(
    ("slug", "theme"), [*((one, "light") for one in EXPERIMENTS), ("every-method", "dark"), ("between-optima", "dark")]
)
def test_on_the_page_of_an_experiment_a_colour_means_one_thing(site: Served, slug: str, theme: style.Theme) -> None:
    with site.client() as client:
        meanings = found_on(client, f"/experiments/{slug}", theme)
    agree(meanings)
    assert ("run", "0") in {one for found in meanings.values() for one in found}
    assert ("group", "independent runs") in {one for found in meanings.values() for one in found}


@pytest.mark.parametrize(
    ("query", "theme"),
    [("e=every-method&e=fair-strengths", "dark"), ("e=other-images&e=between-optima&e=every-method", "light"),
     ("e=where-difference-comes-from&e=other-images", "light"),
     ("e=every-method&e=other-images&pictures=beside", "light")],
)  # fmt: skip
def test_where_experiments_are_compared_a_colour_means_one_thing(site: Served, query: str, theme: style.Theme) -> None:
    with site.client() as client:
        meanings = found_on(client, f"/compare?{query}", theme)
        page = client.get(f"/compare?{query}", headers={"accept": "text/html"}).text
    kinds = {kind for found in meanings.values() for kind, _ in found}
    if "beside" in query:
        agree(meanings)
        assert "experiment" not in kinds
        return
    # what is of one experiment alone has that one's colour, and its methods are told by their symbols
    slugs = re.findall(r"e=([a-z-]+)", query)
    inks = {style.experiment_ink(place, theme).lower(): f"e:{slug}" for place, slug in enumerate(slugs)}
    for colour, found in meanings.items():
        if {kind for kind, _ in found} == {"run"}:
            assert len(found) == 1
            continue
        owners = {name for kind, name in found if kind == "experiment"}
        owners |= {
            f"e:{re.search('experiments/([^/]+)/', place)[1]}"  # type: ignore[index]
            for (kind, _), places in found.items() if kind != "experiment" for place in places
        }  # fmt: skip
        assert owners == {inks[colour]}, (colour, found)
    legend = page[page.index('class="legend"') :]
    legend = legend[: legend.index("</div>")]
    assert "var(--look-experiment-0)" in legend
    assert not re.search(r'color="var\(--look-(?!experiment)', legend), "the legend gives methods a colour"


def test_an_import_is_drawn_in_the_same_colours(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = np.arange(300) % 5
    logits = random.normal(size=(4, 300, 5)).astype(np.float32)
    logits[:, np.arange(300), truth] += 2
    samples = logits[:, None] + 0.3 * random.normal(size=(4, 3, 300, 5)).astype(np.float32)
    lab = ms.analyse(logits, truth, samples={"mine": samples}, folder=tmp_path, progress=False)
    with served(tmp_path) as running, running.client() as client:
        agree(found_on(client, f"/experiments/{lab.experiment.slug}", "light"))


# ---- legends ----


def test_an_experiment_keeps_its_colour_where_another_has_nothing_to_show() -> None:
    line = Series(panel="p", group="independent", x=np.arange(2.0), y=np.arange(2.0))
    layer = Layer((Axes("p", "x", "y"),), (line,))
    members = [Member("a", "A", why="it waits"), Member("b", "B", layer), Member("c", "C", layer)]
    data = overlaid(figures["ensembles"], figures["ensembles"].options(), members)
    for theme in THEMES:
        drawn = over(figures["ensembles"]).draw(data, theme)
        assert [trace.line.color for trace in drawn.data] == [style.experiment_ink(place, theme) for place in (1, 2)]
        framed(drawn, Frame.of(over(figures["ensembles"]), data, "A, B, C"), theme, 960)
        legend = {one.name: one for one in drawn.data if one.showlegend}
        assert [legend[name].line.color for name in "BC"] == [style.experiment_ink(place, theme) for place in (1, 2)]
        assert legend["optima" if "optima" in legend else "independent runs"].marker.color == style.token("text", theme)


def test_the_legend_that_goes_along_has_the_colours_of_the_picture(site: Served) -> None:
    """Of the training curves lines are runs, so the ensemble alone has a colour of its own."""
    with site.client() as client:
        drawn = client.get("/api/experiments/every-method/figures/trajectories.json?frame=900&arrays=list").json()
    legend = {one["name"]: one["line"]["color"] for one in drawn["data"] if one.get("showlegend")}
    assert legend["ensemble of runs"] == style.look("independent").colour("light")
    assert legend["run"] == style.token("text", "light")
