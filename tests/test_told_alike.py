"""What a figure says beside its picture (its alternative text, caption and notes) and what the claims of the same
experiment say never contradict: the same number wherever both name one, and no answer but the claims'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from saved_home import MACHINE, SPECS, opened

import modescape as ms
from modescape.database import upgrade
from modescape.drawing.figure import Words
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput, NotFound
from modescape.executor import Executor
from modescape.finding import Finding
from modescape.laboratory import Laboratory
from modescape.listing import ListQuery
from modescape.registry import figures
from modescape.settings import Settings

pytestmark = pytest.mark.slow
MEMBERS, EXAMPLES, CLASSES = 4, 1200, 5
# What only a claim answers. A figure may say of which claim something is, and that a number cannot be read.
ANSWERS = re.compile(
    r"\b(holds?|does not hold|hold not|cannot be told|can be told|orthogonal|significant\w*|different functions|"
    r"same function|add up|matters? more|more diverse|gains? more|stays? near)\b",
    re.IGNORECASE,
)
OTHERWISE: Mapping[str, list[dict[str, Any]]] = {  # what else may be asked of a figure, and changes what it says
    "similarity-runs": [{"weights": "all"}, {"split": "validation"}, {"blocks": 2}],
    "plane": [{"split": "validation"}, {"around": "own"}, {"distance": "js"}, {"method": "near"}],
    "ensembles": [{"panel": "brier"}, {"split": "validation"}],
    "cycles": [{"quantity": "disagreement"}],
}


@dataclass(frozen=True)
class Said:
    """options: with which the figure was asked."""

    figure: str
    options: Mapping[str, Any]
    words: Words

    @property
    def all(self) -> str:
        notes = self.words.notes
        cells = [" ".join((line.label, *line.values)) for line in notes.lines]
        return "\n".join((self.words.summary, self.words.caption, *notes.head, *cells, *notes.text))

    def cell(self, label: str, head: str) -> str:
        (line,) = [one for one in self.words.notes.lines if one.label == label]
        return line.values[self.words.notes.head.index(head) - 1]


@dataclass(frozen=True)
class Told:
    """An experiment: what its claims say as the API gives it, by letter, its sentence, and what its figures say."""

    slug: str
    claims: Mapping[str, dict[str, Any]]
    sentence: str
    said: tuple[Said, ...]

    def of(self, figure: str, **options: Any) -> Said | None:
        found = [one for one in self.said if one.figure == figure and dict(one.options) == options]
        return found[0] if found else None


def told(laboratory: Laboratory, slug: str) -> Told:
    results = laboratory.results(slug)
    finding = Finding.of(laboratory.store.experiments.get(slug))
    said = []
    for name, figure in figures.items():
        for options in ({}, *OTHERWISE.get(name, [])):
            try:
                data = figure.call(results, figure.options.model_validate(options).of(results))
            except (FigureNotReady, NotFound):
                continue
            except InvalidInput:  # a method that this one does not have
                continue
            said.append(Said(name, options, figure.tell(data)))
    claims = {one["id"]: one for one in finding.document().get("claims", [])}
    return Told(slug, claims, finding.sentence, tuple(said))


# ---- experiments in which claims go each way ----


def made(folder: Path, *, between: float, inside: float, common: float, along: float) -> Told:
    """Members that differ by noise of `between`, samples by up to `inside`, checkpoints by `along`; weights share
    `common` of themselves."""
    random = np.random.default_rng(3)

    def world(examples: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        truth = random.integers(CLASSES, size=examples)
        shared = 2.2 * np.eye(CLASSES)[truth] + 0.8 * random.normal(size=(examples, CLASSES))
        return truth, shared, shared + between * random.normal(size=(MEMBERS, examples, CLASSES))

    truth, _, logits = world(EXAMPLES)
    strength = np.tile(np.linspace(0.1, 1, 12), (MEMBERS, 1))

    def around(of: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        return of[:, None] + noise[..., None, None] * random.normal(size=(*noise.shape, *of.shape[1:]))

    samples = ms.Samples(around(logits, inside * strength), strength=strength)
    path = np.stack([0.3 * logits, *(logits + along * random.normal(size=(4, *logits.shape))), logits], axis=1)
    root = random.normal(size=(60, 40))
    weights = [{"layer.weight": (common * root + random.normal(size=root.shape)).astype(np.float32)}
               for _ in range(MEMBERS)]  # fmt: skip
    held, _, of_held = world(600)
    lab = ms.analyse(
        logits, truth, kind="logits", samples={"near": samples}, trajectory=([1, 6, 7, 8, 9, 10], path),
        validation=(of_held, held), weights=weights, recipe="same", folder=folder, progress=False,
    )  # fmt: skip
    laboratory = Laboratory(Settings(home=folder))
    try:
        return told(laboratory, lab.experiment.slug)
    finally:
        laboratory.store.close()


WORLDS = {
    "apart": {"between": 1.6, "inside": 0.9, "common": 0.0, "along": 0.1},
    "together": {"between": 0.15, "inside": 2.0, "common": 2.0, "along": 1.5},
}


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modescape.science.isotonic.REDRAWS", 600)
        found = {name: made(tmp_path_factory.mktemp(name), **world) for name, world in WORLDS.items()}
    settings = opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home")
    laboratory = Laboratory(settings)
    for row in laboratory.store.experiments.page(ListQuery(limit=100)).items:
        found[row.slug] = told(laboratory, row.slug)
    laboratory.store.close()
    return found


def near(text: str, value: float, *, digits: int) -> bool:
    """As printed: to half a unit of its last place, and none has a minus before nothing."""
    shown = float(text.replace("−", "-"))
    return abs(shown - value) <= 0.5000001 * 10**-digits and not re.fullmatch(r"[-−]0?\.?0*", text)


def parts(claim: Mapping[str, Any]) -> dict[str, float]:
    return dict(claim.get("parts") or {})


def test_claims_go_each_way_in_these(experiments: dict[str, Told]) -> None:
    words = {f"{letter}: {one['word']}" for told in experiments.values() for letter, one in told.claims.items()}
    for letter in ("a", "b", "f1"):
        assert {f"{letter}: holds", f"{letter}: does not hold", f"{letter}: cannot tell"} <= words
    for letter in ("c", "d1", "d2", "e1"):
        assert {f"{letter}: holds", f"{letter}: cannot tell"} <= words
    assert "e2: does not hold" in words


def test_no_figure_answers_what_a_claim_answers(experiments: dict[str, Told]) -> None:
    wrong = [
        (told.slug, said.figure, said.options, found[0])
        for told in experiments.values() for said in told.said if (found := ANSWERS.search(said.all))
    ]  # fmt: skip
    assert not wrong
    assert ANSWERS.search("Independent runs are more diverse.")


def test_the_cosine_and_the_disagreement_are_those_of_claims_a_and_b(experiments: dict[str, Told]) -> None:
    compared = 0
    for told in experiments.values():
        said = told.of("similarity-runs")
        assert said is not None
        read = re.search(r"disagree on ([\d.]+) % of test labels.*; the cosine of their weights is (−?[.\d]+)\.",
                         said.words.summary)  # fmt: skip
        assert read, said.words.summary
        assert near(read[2], told.claims["a"]["estimate"], digits=3)
        shown = re.search(r"cosine of their weights is (−?[\d.]+\d)", told.sentence)
        assert shown, told.sentence
        assert near(shown[1], float(read[2].replace("−", "-")), digits=3), "the sentence says the same number"
        assert f"disagree on {read[1]} % of test labels" in told.sentence
        across = parts(told.claims["b"]).get("across runs")
        if across is not None:
            assert near(read[1], 100 * across, digits=1)
            compared += 1
        if whole := told.of("similarity-runs", weights="all"):
            assert "weights is" not in whole.words.summary, "another cosine than the verdict's has another name"
        if other := told.of("similarity-runs", split="validation"):
            assert "of validation labels" in other.words.summary
            assert "test" not in other.words.summary
    assert compared == len(WORLDS)


def test_the_plane_reads_what_claim_d1_reads(experiments: dict[str, Told]) -> None:
    compared = 0
    for told in experiments.values():
        claim = told.claims.get("d1", {})
        read = parts(claim).get("independent runs")
        for said in told.said:
            if said.figure != "plane":
                continue
            found = re.search(r"disagree on ([\d.]+) % of test labels; where they cost one point of accuracy.*change "
                              r"([\d.]+) % \(95 % interval ([\d.]+) to ([\d.]+) %\)", said.words.summary)  # fmt: skip
            assert (found is not None) == (read is not None and claim["effect"] != "–"), said.options
            if found is None:
                continue
            (method,) = claim["methods"]
            wanted = [method["parts"][name] for name in ("independent runs", "samples at equal accuracy",
                                                         "its lower end", "its upper end")]  # fmt: skip
            assert all(near(text, 100 * value, digits=1) for text, value in zip(found.groups(), wanted, strict=True))
            assert f"change {found[2]} % (95 % interval {found[3]} to {found[4]} %)" in told.sentence
            assert said.cell("near", "changes, %") == found[2]
            compared += 1
    assert compared >= 3


def test_of_other_images_the_plane_does_not_say_what_d1_says_of_test_images(
    experiments: dict[str, Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method, here with the claim of one in which it is judged: it was read on test images alone."""
    folder = tmp_path / "one"
    record = {}

    def kept(self: Any, letter: str) -> Any:
        return record.get(letter)

    monkeypatch.setattr("modescape.science.isotonic.REDRAWS", 600)
    made(folder, **WORLDS["apart"])
    one = Laboratory(Settings(home=folder))
    record["d1"] = Finding.of(next(iter(one.store.experiments.page(ListQuery(limit=1)).items))).claim("d1")
    one.store.close()
    assert record["d1"] is not None
    laboratory = Laboratory(opened(Path(__file__).parent / "saved", tmp_path / "home"))
    try:
        results, plane = laboratory.results("every-method"), figures["plane"]
        monkeypatch.setattr(type(results), "claim", kept)
        for split, told_of in (("test", True), ("validation", False)):
            options = plane.options.model_validate({"split": split}).of(results)
            words = plane.tell(plane.call(results, options))
            assert ("disagree on 56.3 % of test labels" in words.summary) == told_of
            assert ("56.3" in [line.values[1] for line in words.notes.lines]) == told_of
            assert ("is read on test images" in " ".join(words.notes.text)) != told_of
    finally:
        laboratory.store.close()


def test_what_averaging_gains_is_what_claim_e1_counts(experiments: dict[str, Told]) -> None:
    compared = 0
    for told in experiments.values():
        said, found = told.of("ensembles"), parts(told.claims.get("e1", {}))
        assert said is not None
        read = re.search(r"accuracy of ([\d.]+) % on test images, an ensemble of (\d+) ([\d.]+) %", said.words.summary)
        assert read, said.words.summary
        gained = float(read[3]) - float(read[1])
        points = re.search(r"Averaging (\d+) \w+ (gains|loses) ([\d.]+) points", told.sentence)
        if points:
            assert points[1] == read[2]
            sign = 1 if points[2] == "gains" else -1
            assert gained == pytest.approx(sign * float(points[3]), abs=0.11)  # each is rounded
        if found and read[2] == "4":
            assert gained / 100 == pytest.approx(found["accuracy gain of an ensemble of 4"], abs=0.0011)
            label = next(line.label for line in said.words.notes.lines if line.strong)
            one, all_ = (float(text) for text in said.cell(label, "Brier score").split(" → "))
            assert one - all_ == pytest.approx(found["of an ensemble of 4"], abs=0.0011)
            compared += 1
    assert compared == len(WORLDS)


def test_the_study_of_seeds_says_what_claim_g_compares(tmp_path: Path) -> None:
    """Trained here, on images enough for the claim."""
    spec = SPECS["Where difference comes from"]
    asked = {**spec, "data": {**spec["data"], "test_images": 600}, "instability": None}
    settings = Settings(home=tmp_path)
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    try:
        row = laboratory.create(asked, name="seeds")
        Executor(laboratory.store, laboratory.artifacts, settings, machine=MACHINE).drain(experiment_id=row.id)
        found = told(laboratory, row.slug)
    finally:
        laboratory.store.close()
    said, claim = found.of("seeds"), parts(found.claims["g"])
    assert said is not None
    share = r"([\d.]+) ± [\d.]+ %"
    read = re.search(
        f"other initial weights {share}, another batch order {share}, both {share}.*share of test labels",
        said.words.summary,
    )
    assert read, said.words.summary
    for text, name in zip(read.groups(), ("other initial weights", "other batches", "both others"), strict=True):
        assert near(text, 100 * claim[name], digits=1)
    assert f"learning rate of {re.search(r'learning rate ([0-9.e-]+)', found.claims['g']['estimand'])[1]}" in (  # type: ignore[index]
        said.words.summary
    )
    assert not ANSWERS.search(said.all)
