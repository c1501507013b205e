"""What is said of ensembles made elsewhere: every page, figure and answer of the API is walked, and no sentence calls
their members runs, advises what cannot be done to them, or says a word before the seal."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving import Served, served
from test_doors import Door

import modescape as ms
from modescape.registry import figures
from modescape.voice import HERE, Voice, together, voice_of

M, N, K, S = 4, 500, 5, 3
REFUSED = re.compile(
    r"independent runs?\b|\bruns?\b(?! \w+-\w+-\d+)|narrow samples|\bnan\b|\(\)|not computed yet|\bclone\b|"
    r"lower learning rate|raise data|train those|cannot tell",
    re.IGNORECASE,
)
ALLOWED = (  # words that are no sentence about the ensemble
    re.compile(r"0 running|nothing runs until one is started|modescape"),
    re.compile(r"NaN, infinities above 0 or rows of nothing but -inf among"),
)


def made(kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, K, N)
    base = rng.normal(size=(N, K)) + 2.0 * np.eye(K)[truth]
    logits = (base + rng.normal(size=(M, N, K))).astype(np.float32)
    around = (logits[:, None] + 0.3 * rng.normal(size=(M, S, N, K))).astype(np.float32)
    if kind == "labels alone":
        return {"logits": logits.argmax(-1), "labels": truth, "kind": "labels", "recipe": "same"}
    if kind == "of no known recipe":
        return {"logits": logits, "labels": truth}
    if kind == "with failures":
        bad = np.concatenate([logits, logits[:1], np.full((1, N, K), np.nan, np.float32)])
        return {"logits": bad, "labels": truth, "recipe": "same"}
    return {
        "logits": logits, "labels": truth, "recipe": "same",
        "samples": {"swag": ms.Samples(around, strength=np.tile([0.5, 1.0, 2.0], (M, 1))), "Laplace (KFAC)": around},
        "ood": {"SVHN": rng.normal(size=(M, 200, K)).astype(np.float32)},
        "shift": {("fog", i): (logits + 0.5 * i * rng.normal(size=logits.shape)).astype(np.float32) for i in (1, 3)},
        "trajectory": ([1, 5, 9], np.stack([logits + 0.1 * i for i in (3, 2, 1)], 1).astype(np.float32)),
        "weights": [{"conv.weight": rng.normal(size=(8, 9)).astype(np.float32)} for _ in range(M)],
    }  # fmt: skip


KINDS = ("labels alone", "of no known recipe", "with failures", "with everything")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setattr("modescape.science.isotonic.REDRAWS", 600)
        for kind in KINDS:
            ms.analyse(**made(kind), name=kind, settings=site.settings, progress=False)
        yield site


def slug_of(kind: str) -> str:
    return kind.replace(" ", "-")


def read_of(page: str) -> Iterator[str]:
    """What people read of a page, a piece of text at a time: no scripts, no spec, no names of stages."""
    body = page.partition("<main")[2] or page
    body = re.sub(r'<(script|style|pre)\b.*?</\1>|<section[^>]*id="log".*?</section>', " ", body, flags=re.DOTALL)
    said = re.findall(r'(?:aria-label|title|alt|placeholder)="([^"]*)"', body)
    for text in [*said, *re.split(r"<[^>]+>", body)]:
        plain = " ".join(html.unescape(text).split())
        if plain:
            yield plain


def texts_of(value: Any) -> Iterator[str]:
    """Sentences of an answer: its strings of more than a word."""
    if isinstance(value, str):
        if " " in value and not value.startswith(("/", "http")):
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("spec", "links", "url", "meta"):
                yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def refused(texts: Iterator[str], *, words: bool = False) -> list[str]:
    found = (text for text in texts if REFUSED.search(text) and not any(one.search(text) for one in ALLOWED))
    return [text for text in found if words or "cannot tell" not in text]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=pytest.mark.check) if one == "of no known recipe" else one for one in KINDS]
)
def test_no_page_speaks_of_runs_nor_advises_what_cannot_be_done(site: Served, kind: str) -> None:
    slug = slug_of(kind)
    wrong = {}
    with site.visitor() as visitor:
        for address in (f"/experiments/{slug}", f"/experiments/{slug}/examples"):
            wrong[address] = refused(read_of(opened(visitor, address)))
        for name in figures:
            page = f"/experiments/{slug}/figures/{name}"
            said = [text for tab in ("", "?tab=data") for text in refused(read_of(opened(visitor, page + tab)))]
            if visitor.get(f"/api{page}.json").status_code == 200:  # else it says what it would need
                wrong[page] = said
            if kind == "with everything":
                opened(visitor, f"{page}?tab=definition")  # says what a figure is by itself
    assert not {address: said for address, said in wrong.items() if said}


def opened(visitor: httpx.Client, address: str) -> str:
    answer = visitor.get(address)
    assert answer.status_code == 200, address
    return answer.text


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_and_no_picture_speaks_of_runs(site: Served, kind: str) -> None:
    slug = slug_of(kind)
    with site.client() as client:
        assert not refused(texts_of(client.get(f"/api/experiments/{slug}").json()))
        told = client.get(f"/api/experiments/{slug}/figures").json()["items"]
        assert not refused(texts_of([{k: v for k, v in one.items() if k != "options"} for one in told]))
        wrong = {}
        for one in told:
            answer = client.get(f"/api/experiments/{slug}/figures/{one['name']}.json", params={"arrays": "list"})
            if answer.status_code == 200:
                wrong[one["name"]] = refused(texts_of(answer.json()))
        assert not {name: said for name, said in wrong.items() if said}
        rows = client.get("/api/experiments").json()["items"]
        assert next(one for one in rows if one["name"] == kind)["finding"].startswith("members disagree")


def test_what_is_missing_is_said(site: Served) -> None:
    with site.visitor() as visitor:
        page = visitor.get(f"/experiments/{slug_of('labels alone')}").text
    said = list(read_of(page))
    assert "Only labels are known here, and how sure a label is needs probabilities." in said
    assert said.count("It needs checkpoints along a training that all members have alike, and there are none.") == 2
    assert "It needs the networks themselves: bring their weights with the page Import." in said
    assert "(a) Independent optima are orthogonal:" in said
    assert "needs the weights of every member, which it does not have." in said
    with site.client() as client:
        words = client.get(f"/api/experiments/{slug_of('labels alone')}/figures/similarity-runs.json").json()["words"]
    assert (
        words["missing"] == "The cosine of weights, and claim (a), need weights, which did not come with the members."
    )


def test_comparing_what_was_made_elsewhere_speaks_of_members(site: Served) -> None:
    with site.visitor() as visitor:
        page = visitor.get("/compare", params={"e": [slug_of("with everything"), slug_of("of no known recipe")]})
        assert not refused(
            read_of(page.text),
        )
        assert "Everything else that is known of them is equal." in " ".join(page.text.split())
    with site.client() as client:
        told = client.get("/api/compare", params={"e": [slug_of("with everything"), slug_of("of no known recipe")]})
        assert not refused(texts_of(told.json()))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_called_failed_that_was_merely_not_brought(site: Served, kind: str) -> None:
    with site.client() as client:
        told = client.get(f"/api/experiments/{slug_of(kind)}/figures").json()["items"]
    states = {one["state"] for one in told}
    assert states <= {"ready", "not-planned", *(["failed"] if kind == "with failures" else [])}


def test_the_list_calls_no_network_of_an_import_not_loaded(site: Served) -> None:
    with site.visitor() as visitor:
        assert "not loaded here" not in visitor.get("/").text
    with site.client() as client:
        scales = {one["input_scale"] for one in client.get("/api/experiments").json()["items"]}
    assert scales == {"imported"}, "pixels that never came have no scale"


def test_several_are_spoken_of_as_members_as_soon_as_one_was_made_elsewhere() -> None:
    other = Voice(True, ("run away",))
    assert together([HERE, HERE]) is HERE
    assert together([HERE, other])("Disagreement of two runs, and run away") == (
        "Disagreement of two members, and run away"
    )


def test_members_are_called_by_their_own_names() -> None:
    voice = voice_of({"members": [{"id": "alpha"}, {"id": "beta-7"}, {"id": "12"}]}, {"imported": {}})
    assert [voice(f"run {i}") for i in range(4)] == ["alpha", "beta-7", "member 12", "member 3"]
    assert voice("<b>run 1</b><br>run 0, epoch 5") == "<b>member beta-7</b><br>member alpha, epoch 5"
    assert voice("Run 1 alone, the optimum of run 0, and runs 0 and 1.") == (
        "Member beta-7 alone, member alpha, and members 0 and 1."
    )
    for said in map(voice, ("run 0", "run 2", "Along run 2 two runs, and a run")):
        assert voice(said) == said
    assert HERE("run 0") == "run 0"


def test_legends_of_curves_have_the_names_of_members(tmp_path: Path) -> None:
    given = made("with everything")
    names = ["alpha", "beta-7", "delta", "5"]
    lab = ms.analyse(given["logits"], given["labels"], recipe="same", members=names, trajectory=given["trajectory"],
                     folder=tmp_path, progress=False)  # fmt: skip
    drawn = lab.figure("trajectories")
    assert {trace.name for trace in drawn.data} >= {"alpha", "beta-7", "delta", "member 5"}


def test_names_that_people_gave_are_said_as_they_gave_them(site: Served) -> None:
    with site.client() as client:
        words = client.get(f"/api/experiments/{slug_of('with everything')}/figures/ensembles.json").json()["words"]
    assert [one["title"] for one in words["legend"]] == ["members", "Laplace (KFAC)", "SWAG"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Independent runs disagree on 3 %", "Members disagree on 3 %"),
        ("an independent run, every run, one run", "a member, every member, one member"),
        ("the optimum of run 0, over its own", "member 0, over its own"),
        ("Independent optima are orthogonal", "Independent optima are orthogonal"),
        ("optima, one run: ECE .1", "members, one member: ECE .1"),
        ("400 test images, at least 500 are needed: raise data.test_images",
         "400 test images, at least 500 are needed: bring more of them"),
        ("Averaging Dry run 3 and run 3", "Averaging Dry run 3 and member 3"),
        ("nothing is running; a trunk, a runner", "nothing is running; a trunk, a runner"),
    ],
)  # fmt: skip
def test_the_voice_of_what_was_made_elsewhere(text: str, said: str) -> None:
    voice = Voice(True, ("Dry run 3",))
    assert voice(text) == said
    assert voice(voice(text)) == said
    assert HERE(text) == text


def test_names_of_members_classes_and_methods_are_kept() -> None:
    provenance = {"name": "my runs", "members": [{"id": "run-3"}, {"id": "run 4"}, {"id": "wide"}]}
    imported = {"classes": ["cat", "home run"], "titles": {"run-b": "Run B"}}
    methods = [{"method": "laplace-kfac", "options": {"title": "Laplace (KFAC)"}}]
    voice = voice_of(provenance, {"imported": imported, "methods": methods})
    text = "run 1 is run 4 and run-3 of my runs: home run, run-b, laplace-kfac"
    assert voice(text) == "member 1 is run 4 and run-3 of my runs: home run, Run B, Laplace (KFAC)"
    assert voice_of(None, {"source": "trained"}) is HERE


@pytest.mark.slow
def test_before_the_seal_the_api_has_no_word_where_the_page_shows_none(tmp_path: Path) -> None:
    with served(tmp_path / "home") as site:
        door = Door(site)
        import_id = door.opened(planned=4)
        for number in range(3):
            door.add(import_id, number, whole=True)
        slug = door.client.get(f"/api/imports/{import_id}").json()["experiment"]
        door.run(slug)
        before = door.client.get(f"/api/experiments/{slug}").json()["findings"]["claims"]
        assert before
        assert all(one["word"] is None and one["glyph"] is None for one in before)
        assert "cannot tell" not in json.dumps(before)
        door.client.post(f"/api/imports/{import_id}/seal")
        door.run(slug)
        after = door.client.get(f"/api/experiments/{slug}").json()["findings"]["claims"]
        assert all(one["word"] for one in after)
