"""The study of shift: every number again from the files it left, whatever was interrupted, shared or published."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import told
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize_scalar
from serving import served

from modescape import plan as planning
from modescape.claims import CLAIMS
from modescape.corruptions.corruption import corrupt
from modescape.database import upgrade
from modescape.datasets import here
from modescape.drawing.figure import encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES
from modescape.errors import InvalidInput
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.methods.sgmcmc import CyclicalOptions
from modescape.records import DataInfo
from modescape.registry import figures, presets
from modescape.results import Results
from modescape.settings import Settings
from modescape.spec import check, parse, sizes
from modescape.stages import stage as real
from modescape.stages.stage import Task
from modescape.studies.shift import stages as shift_stages
from modescape.study import said_of_chains
from modescape.tables import Stage
from modescape.voice import HERE

CPU = Machine(device="cpu", title="test", numerics="test")
TYPES, INTENSITIES, IMAGES, MEMBERS, RUNS = ("gaussian_noise", "contrast"), (1, 2, 3, 4, 5), 60, 2, 3
SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 120, "validation_images": 50, "test_images": 80},
    "training": {"epochs": 2, "batch_size": 20, "snapshots": 4},
    "ensemble": {"runs": RUNS},
    "methods": [{"method": "random", "spread": 0, "typical": 2}, {"method": "averaging"}],
    "evaluation": {"embed_images": 20},
    "shift": {"corruptions": list(TYPES), "images": IMAGES, "members": MEMBERS},
}


def laboratory(home: Path, **settings: Any) -> Laboratory:
    made = Settings(home=home, **settings)
    home.mkdir(parents=True, exist_ok=True)
    upgrade(made.database)
    made.artifact_place.mkdir(parents=True, exist_ok=True)
    return Laboratory(made)


def run(lab: Laboratory, spec: dict[str, Any]) -> Results:
    row = lab.create(spec, name="shift")
    Executor(lab.store, lab.artifacts, lab.settings, machine=CPU).drain(experiment_id=row.id)
    return Results(lab.store, lab.artifacts, row.id)


def left(results: Results, kind: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = stage(results, kind, key).result["extra"]
    return found


def stage(results: Results, kind: str, key: str) -> Stage:
    found = next(one for one in results.stages if (one.kind, one.key) == (kind, key))
    assert found.state == "succeeded", found.error
    return found


def shift_files(results: Results) -> dict[str, Any]:
    """What the stages left for others: the digests of their arrays, and what is in them."""
    return {f"{one.kind}/{one.key}": one.result["extra"] for one in results.stages if one.kind in ("corrupt", "shift")}


def numbers(results: Results) -> dict[tuple[Any, ...], float | None]:
    metrics = ("accuracy", "brier", "nll", "ece", "js_mean")
    return {
        (m.metric, m.subject, m.corruption, m.intensity): m.value
        for metric in metrics
        for by_type in (False, True)
        for m in results.shifted(metric, by_type=by_type)
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shift")


@pytest.fixture(scope="module")
def done(home: Path) -> Results:
    return run(laboratory(home), SPEC)


# ---- an independent program: numpy alone, from the files ----


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    normal: NDArray[np.float64] = odds / odds.sum(-1, keepdims=True)
    return normal


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-(p * np.log(p)).sum(-1))


def scores(p: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    one_hot = np.eye(p.shape[1])[labels]
    top, right = p.max(1), p.argmax(1) == labels
    gaps = 0.0
    for b in range(15):
        inside = (top > b / 15) & (top <= (b + 1) / 15)
        if inside.any():
            gaps += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    return {
        "accuracy": float(right.mean()),
        "brier": float(((p - one_hot) ** 2).sum(1).mean()),
        "nll": float(-np.log(p[np.arange(len(p)), labels]).mean()),
        "ece": float(gaps),
    }


@pytest.mark.slow
def test_every_number_follows_from_the_files(done: Results) -> None:
    labels = done.true_labels("test")[:IMAGES]
    again: dict[tuple[Any, ...], float] = {}
    for group, stored in (("optimum", 1), ("trajectory", MEMBERS), ("random", MEMBERS), ("averaging", 1)):
        kept = [left(done, "shift", f"{r}/{group}") for r in range(RUNS)]
        assert kept[0]["cells"] == [[None, 0], *([t, i] for t in TYPES for i in INTENSITIES)]
        logits = np.stack([done.artifacts.array(one["logits"]) for one in kept])
        assert logits.shape == (RUNS, stored, 11, IMAGES, 10)
        p = softmax(logits)
        said = "independent" if group == "optimum" else group
        for c, (name, intensity) in enumerate(kept[0]["cells"]):
            single = p[:, :, c].mean(1)
            for size in (1, 2, 3):
                found = [scores(single[list(s)].mean(0), labels) for s in itertools.combinations(range(RUNS), size)]
                for metric in found[0]:
                    mean = float(np.mean([one[metric] for one in found]))
                    again[metric, f"shift/{said}/{size}", name, intensity] = mean
            if group == "optimum":
                pairs = [p[list(s), 0, c] for s in itertools.combinations(range(RUNS), MEMBERS)]
            else:
                pairs = [p[r, :, c] for r in range(RUNS)] if stored == MEMBERS else []
            if pairs:
                js = [float((entropy(some.mean(0)) - entropy(some).mean(0)).mean()) for some in pairs]
                again["js_mean", f"shift/{said}", name, intensity] = float(np.mean(js))
    for (metric, subject, name, intensity), _ in list(again.items()):
        if name == TYPES[0]:
            over = [again[metric, subject, t, intensity] for t in TYPES]
            again[metric, subject, None, intensity] = float(np.mean(over))
    stored_numbers = numbers(done)
    assert stored_numbers.keys() == again.keys()
    for key, value in again.items():
        assert stored_numbers[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.slow
def test_losses_have_twins_after_a_temperature_of_each_prediction_fitted_to_clean_validation_images(
    tmp_path: Path,
) -> None:
    """Fitted again by another optimiser, on predictions that were kept by another stage."""
    spec = {
        **SPEC,
        "data": {**SPEC["data"], "train_images": 97, "validation_images": 500},
        "training": {**SPEC["training"], "epochs": 12},
        "shift": {**SPEC["shift"], "corruptions": ["contrast"]},
    }
    spec["evaluation"] = {**SPEC["evaluation"], "splits": ["test", "validation"]}
    done = run(laboratory(tmp_path), spec)
    truth, labels = done.true_labels("validation"), done.true_labels("test")[:IMAGES]
    runs = [done.artifacts.array(left(done, "shift", f"{r}/optimum")["validation"]) for r in range(RUNS)]
    for optimum, kept in zip(done.solutions(role="optimum"), runs, strict=True):
        np.testing.assert_allclose(np.exp(kept), softmax(done.logits(optimum, "validation")), atol=1e-6)
    logits = np.stack([done.artifacts.array(left(done, "shift", f"{r}/optimum")["logits"])[0] for r in range(RUNS)])
    rows = {(m.subject, m.metric, m.corruption, m.intensity): m.value for metric in ("nll-calibrated", "ece-calibrated")
            for m in done.shifted(metric, by_type=True)}  # fmt: skip
    assert len(rows) == 2 * 6 * (3 + 3 + 3 + 3)
    for size in (1, 2, 3):
        found: dict[int, list[dict[str, float]]] = {0: [], 5: []}
        for chosen in itertools.combinations(range(RUNS), size):
            own = np.log(np.mean([np.exp(runs[r]) for r in chosen], axis=0))

            def loss(log_t: float, own: NDArray[np.float64] = own) -> float:
                return scores(softmax(own / np.exp(log_t)), truth)["nll"]

            t = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
            for cell, intensity in ((0, 0), (5, 5)):
                mean = np.log(softmax(logits[list(chosen), cell]).mean(0))
                found[intensity].append(scores(softmax(mean / t), labels))
        for intensity, each in found.items():
            for metric in ("nll", "ece"):
                expected = np.mean([one[metric] for one in each])
                stored = rows[
                    f"shift/independent/{size}", f"{metric}-calibrated", "contrast" if intensity else None, intensity
                ]
                assert stored == pytest.approx(expected, rel=1e-5), (size, intensity, metric)
    shown = collect("shift", done, panel="nll")
    assert told(shown).notes.head == ("Intensity 5", "NLL, nats", "NLL after temperature, nats")
    assert "after averaging" in " ".join(told(shown).notes.text)
    alone = collect("shift-types", done, metric="ece-calibrated")
    assert "after each prediction’s own temperature" in told(alone).caption


@pytest.mark.slow
def test_without_enough_validation_images_the_figures_say_why_losses_have_no_twin(done: Results) -> None:
    assert "500 validation images" in " ".join(told(collect("shift", done, panel="ece")).notes.text)
    with pytest.raises(FigureNotReady, match="500 validation images"):
        collect("shift", done, panel="ece-calibrated")


@pytest.mark.slow
def test_clean_cells_are_the_predictions_kept_before_and_corrupted_ones_are_of_the_kept_images(done: Results) -> None:
    import torch

    from modescape.architectures.building import build
    from modescape.datasets.loading import load
    from modescape.science.data import Split
    from modescape.science.predictions import predict
    from modescape.science.weights import load_tensors

    optimum = done.solutions(run=1, role="optimum")[0]
    logits = done.artifacts.array(left(done, "shift", "1/optimum")["logits"])
    np.testing.assert_array_equal(logits[0, 0], done.logits(optimum, "test")[:IMAGES])
    splits = load(done.spec.data, ())
    images = done.artifacts.array(left(done, "corrupt", "contrast")["images"])
    clean = splits.test.images.numpy()
    assert images.shape == (5, 80, 1, 8, 8)
    for i, intensity in enumerate(INTENSITIES):
        expected = corrupt(clean, "contrast", intensity, indices=np.arange(80), dataset="digits")
        np.testing.assert_array_equal(images[i], expected)
    network = build(done.spec.network, splits.shape, seed=0)
    load_tensors(network, done.artifacts.tensors(str(optimum.weights)))
    last = Split(torch.from_numpy(np.array(images[4, :IMAGES])), splits.test.labels[:IMAGES])
    np.testing.assert_allclose(predict(network, last, splits.transform), logits[0, 10], atol=1e-4)


@pytest.mark.slow
def test_late_checkpoints_and_first_samples_make_the_groups(done: Results) -> None:
    assert left(done, "shift", "0/trajectory")["functions"] == [
        {"role": "checkpoint", "set": None, "index": 1},
        {"role": "optimum", "set": None, "index": 2},
    ]
    assert [f["index"] for f in left(done, "shift", "2/random")["functions"]] == [0, 1]


@pytest.mark.slow
def test_labels_and_sums_say_the_same_as_logits(home: Path, done: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift_stages, "LOGIT_BYTES", 0)
    fewer = run(laboratory(home), SPEC)
    kept = left(fewer, "shift", "0/random")
    assert "logits" not in kept
    logits = done.artifacts.array(left(done, "shift", "0/random")["logits"])
    labels = fewer.artifacts.array(kept["labels"])
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    p = softmax(logits)
    np.testing.assert_allclose(fewer.artifacts.array(kept["sums"]), p.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fewer.artifacts.array(kept["entropies"]), entropy(p).sum(0), atol=1e-5)
    js = entropy(p.mean(0)) - entropy(p).mean(0)
    np.testing.assert_allclose(fewer.artifacts.array(kept["divergences"]), js, atol=1e-5)  # one pair: M is 2
    expected = numbers(done)
    for key, value in numbers(fewer).items():
        assert value == pytest.approx(expected[key], abs=1e-5), key


@pytest.mark.slow
def test_stages_are_shared_as_far_as_the_experiments_agree(home: Path, done: Results) -> None:
    other = json.loads(json.dumps(SPEC)) | {"evaluation": {"embed_images": 30, "perplexity": 3.0}}
    other["methods"] = [SPEC["methods"][0]]
    other["data"] = SPEC["data"] | {"input_scale": "unit", "train_images": 100}
    found = run(laboratory(home), other)
    assert all(stage(found, "corrupt", name).reused_from for name in TYPES)
    assert not stage(found, "shift", "0/random").reused_from  # other networks
    scaled = other | {"data": other["data"] | {"image_size": 6}}
    found = run(laboratory(home), scaled)
    assert not any(stage(found, "corrupt", name).reused_from for name in TYPES)
    assert found.artifacts.array(left(found, "corrupt", TYPES[0])["images"]).shape[-2:] == (6, 6)
    shown = SPEC | {"evaluation": {"embed_images": 30}, "methods": [SPEC["methods"][0]]}
    found = run(laboratory(home), shown)
    assert all(stage(found, "shift", f"{r}/{g}").reused_from for r in range(RUNS) for g in ("optimum", "random"))
    assert numbers(found).items() <= numbers(done).items()


@pytest.mark.parametrize(
    ("field", "value", "decides"),
    [
        ("image_size", 6, True), ("white", 12.0, True), ("fingerprint", "b" * 64, True), ("path", "/elsewhere", False),
        ("input_scale", "unit", False), ("train_images", 90, False), ("test_images", 70, False),
    ],
)  # fmt: skip
def test_corrupted_images_are_shared_by_what_has_the_same_pixels(field: str, value: Any, decides: bool) -> None:
    own = {"dataset": "npz", "path": "/mine", "fingerprint": "a" * 64, "validation_images": 50}
    first, second = (
        real.KINDS["corrupt"].parts(Task("corrupt", "contrast", {"corruption": "contrast", "images": 60}, spec))
        for spec in (parse(SPEC | {"data": own}), parse(SPEC | {"data": own | {field: value}}))
    )
    assert (first != second) == decides


@pytest.mark.slow
def test_interruptions_leave_the_bytes_of_an_undisturbed_run(
    tmp_path: Path, done: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift_stages, "SAVE_EVERY_SECONDS", 0.0)
    stopped: dict[str, int] = {}
    lab = laboratory(tmp_path)
    row = lab.create(SPEC, name="again and again")
    for _ in range(40):
        executor = Executor(lab.store, lab.artifacts, lab.settings, machine=CPU)
        kept = lab.store.leases.save_partial

        def save(lease: Any, partial: Any, *, executor: Executor = executor, kept: Any = kept, **more: Any) -> Any:
            wish = kept(lease, partial, **more)
            if lease.stage.kind in ("corrupt", "shift", "shift-compare") and stopped.setdefault(lease.stage.key, 0) < 2:
                stopped[lease.stage.key] += 1
                executor.stop()
            return wish

        monkeypatch.setattr(lab.store.leases, "save_partial", save)
        executor.drain(experiment_id=row.id)
        monkeypatch.setattr(lab.store.leases, "save_partial", kept)
        if lab.store.experiments.get(row.id).status == "succeeded":
            break
    assert {"contrast", "0/random", "2/trajectory", "all"} <= {key for key, count in stopped.items() if count == 2}
    found = Results(lab.store, lab.artifacts, row.id)
    assert shift_files(found) == shift_files(done)
    assert numbers(found) == numbers(done)
    assert not list((lab.settings.artifact_place / "scratch").glob("*"))


@pytest.mark.slow
def test_images_made_as_they_are_predicted_are_those_that_would_be_kept(
    home: Path, done: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift_stages, "HELD_BYTES", 0)
    monkeypatch.setattr(shift_stages, "CHUNK_BYTES", 25 * 64)  # 60 images in three pieces
    found = run(laboratory(home), SPEC)
    assert not [one for one in found.stages if one.kind == "corrupt"]
    for key in ("0/optimum", "1/random"):
        expected = done.artifacts.array(left(done, "shift", key)["logits"])
        np.testing.assert_allclose(found.artifacts.array(left(found, "shift", key)["logits"]), expected, atol=1e-4)


# ---- over HTTP, in figures, in the verdict ----


@pytest.mark.slow
def test_everything_shown_can_be_downloaded(home: Path, done: Results) -> None:
    with served(home) as site, site.client() as client:
        base = f"/api/experiments/{done.experiment.slug}"
        asked = client.get(f"{base}/measurements?metric=brier&intensity=5&limit=500").json()
        assert {row["intensity"] for row in asked["items"]} == {5}
        assert {row["corruption"] for row in asked["items"]} == {None, *TYPES}
        assert len(asked["items"]) == 4 * 3 * 3  # groups, sizes, two types and their mean
        some = client.get(f"{base}/measurements?metric=js_mean&corruption=contrast&intensity__gte=4").json()
        assert len(some["items"]) == 2 * 3
        rows = {row["key"]: row for row in client.get(f"{base}/stages").json()["items"] if row["kind"] == "shift"}
        about = client.get(f"{base}/stages/{rows['0/random']['id']}").json()
        file = next(one for one in about["files"] if one["digest"] == about["left"]["logits"])
        assert file["shape"] == [MEMBERS, 11, IMAGES, 10]
        assert len(client.get(file["url"]).content) == file["bytes"]
        assert client.get(f"{base}/stages/{'0' * 36}").status_code == 404
        page = client.get(f"/experiments/{done.experiment.slug}").text
        assert about["left"]["logits"] in page
        for name in ("shift", "shift-types"):
            table = client.get(f"{base}/figures/{name}", headers={"accept": "text/csv"}).text
            assert "independent" in table


def collect(name: str, results: Results, **options: Any) -> Any:
    entry = figures[name]
    return entry.call(results, entry.options.model_validate(options))


@pytest.mark.slow
def test_figures_show_the_stored_numbers(done: Results) -> None:
    stored = numbers(done)
    data = collect("shift", done)
    assert data.solid == 3
    assert data.groups == ["independent", "trajectory", "random", "averaging"]
    line = data.line("random", "brier", 2)
    assert line.intensities.tolist() == [0, *INTENSITIES]
    assert line.value.tolist() == [stored["brier", "shift/random/2", None, i] for i in (0, *INTENSITIES)]
    assert data.line("independent", "js_mean", 0).at(5) == stored["js_mean", "shift/independent", None, 5]
    assert data.line("trajectory", "accuracy", 1) is None  # compared, not recommended
    assert "2 types, 60 test images each" in told(data).caption
    assert "version 1" in told(data).caption
    one = collect("shift", done, corruption="contrast", method="independent", panel="nll", ensemble=2)
    assert [row[1] for row in one.rows()] == ["nll"] * len(one.rows())
    assert one.line("independent", "nll", 2).at(3) == stored["nll", "shift/independent/2", "contrast", 3]
    summed = collect("shift", done, divergence="sum", panel="js")
    assert summed.line("random", "js_mean", 0).at(1) == 2 * stored["js_mean", "shift/random", None, 1]
    types = collect("shift-types", done)
    assert types.shown[0] == "independent"
    many, one_run = ("accuracy", "shift/independent/3"), ("accuracy", "shift/independent/1")
    gains = {t: stored[*many, t, 5] - stored[*one_run, t, 5] for t in TYPES}
    assert types.gain == pytest.approx(gains)
    assert types.types == tuple(sorted(TYPES, key=lambda t: -gains[t]))
    for name, options in (("shift", {}), ("shift", {"size": "page", "panel": "brier"}), ("shift-types", {}),
                          ("shift-types", {"panel": "types"}),
                          ("shift-types", {"panel": "intensities", "metric": "ece"}),
                          ("shift-types", {"metric": "js_mean", "size": "page"})):  # fmt: skip
        for theme in THEMES:
            drawn = figures[name].draw(collect(name, done, **options), theme)
            assert sum(len(trace.x) for trace in drawn.data) < 2000
            assert len(encode(drawn)) < 300_000
    for wrong in ({"corruption": "fog"}, {"method": "dropout"}, {"ensemble": 7}):
        with pytest.raises(InvalidInput):
            collect("shift", done, **wrong)


@pytest.mark.slow
def test_the_verdict_hears_of_shift_and_refuses_so_few_images(done: Results) -> None:
    claim = done.store.experiments.get(done.experiment.id).finding["claims"]["f2"]
    assert claim["word"] == "cannot tell"
    assert (claim["n"], claim["N"]) == (RUNS, IMAGES)


def shifted_by_hand() -> Any:
    """Accuracies of three groups under one type; `averaging`, which is not drawn unasked, lies far below the others."""

    def rows(metric: str, *, by_type: bool = False) -> list[Any]:
        source = {"source": "generated", "constants": "cifar", "version": 1}
        if metric.endswith("-change"):
            return []  # no images of their own
        return [
            SimpleNamespace(
                subject=subject, metric=metric, value=level - i / 100, intensity=i, n=60, split=None,
                corruption="contrast" if i and by_type else None,
                details={"sd": 0.0, "members": 2, "units": 3, "from": source},
            )
            for subject, level in (("shift/independent/1", 0.8), ("shift/independent/3", 0.9), ("shift/random/1", 0.85),
                                   ("shift/averaging/1", 0.3), ("shift/averaging/3", 0.35))
            for i in (0, *INTENSITIES)
        ]  # fmt: skip

    return SimpleNamespace(spec=parse(SPEC), shifted=rows, failed={}, failed_chains={}, voice=HERE)


def test_types_draw_the_groups_asked_for_and_list_the_others() -> None:
    entry = figures["shift-types"]
    usual = collect("shift-types", shifted_by_hand(), panel="types")
    assert usual.shown == ("independent", "random")
    assert [(one.group, one.on) for one in usual.legend] == [
        ("independent", True), ("random", True), ("averaging", False),
    ]  # fmt: skip
    # the axis holds what is drawn, 75 to 90 %, and not the 25 % of a group that is only in the table
    assert entry.draw(usual, "light").layout.yaxis.range[0] > 70
    assert entry.draw(collect("shift-types", shifted_by_hand()), "light").layout.yaxis.range[0] > 70
    asked = collect("shift-types", shifted_by_hand(), panel="types", method="averaging,baseline")
    drawn = entry.draw(asked, "light")
    assert {trace.legendgroup for trace in drawn.data} == {"averaging"}
    assert drawn.layout.yaxis.range[1] < 40
    assert told(asked).notes.lines[0].values == ("25.0", "30.0")
    assert entry.options.redraws  # so that a browser asks for them
    assert entry.options.choices(shifted_by_hand()) == {"corruption": {"": "all", "contrast": "Contrast"}}
    with pytest.raises(FigureNotReady, match="none of the groups"):
        collect("shift", shifted_by_hand(), method="trajectory")


def with_own_images() -> Any:
    """The same, and of two sets with images of their own: one of 400, which all are right on, one of 300."""
    by_hand = shifted_by_hand()
    before = by_hand.shifted
    known = {"turned": ("Turned, by hand", 400, 1.0), "faded": ("Faded", 300, 0.5)}

    def rows(metric: str, *, by_type: bool = False) -> list[Any]:
        if metric.endswith("-change"):
            details = {"here": 0.8, "low": None, "high": None, "images_only": True}
            return [
                SimpleNamespace(corruption=name, intensity=1, n=n, details={**details, "title": title, "there": share})
                for name, (title, n, share) in known.items()
            ]
        plain = before(metric, by_type=by_type)
        own = [
            SimpleNamespace(**{**vars(row), "corruption": name, "intensity": 1, "n": n, "value": share})
            for name, (_, n, share) in known.items() for row in plain if row.intensity == 1
        ]  # fmt: skip
        return plain + own * by_type

    by_hand.shifted = rows
    return by_hand


def test_sets_with_images_of_their_own_are_at_no_intensity_in_words_tables_and_pictures() -> None:
    results, entry = with_own_images(), figures["shift-types"]
    data = collect("shift-types", results)
    said = told(data)
    assert "60 test images each: corrupted here with the CIFAR constants" in said.caption
    for words in ("Turned, by hand: 400 images of its own", "Faded: 300 images of its own"):
        assert words in said.caption
        assert f"{words}, at no intensity." in said.notes.text
    assert said.notes.head[0] == "accuracy, %: Intensity 5, or images of its own"
    assert "On Faded, 300 images of its own, 3 runs gain +0.0 points." in said.summary
    at = data.columns.index("intensity")
    cells = {(row[0], row[at], row[data.columns.index("images")]) for row in data.rows()}
    assert cells == {
        *(("contrast", i, 60) for i in (0, *INTENSITIES)),
        ("Turned, by hand", 0, 60), ("Turned, by hand", None, 400), ("Faded", 0, 60), ("Faded", None, 300),
    }  # fmt: skip
    drawn = entry.draw(data, "light")
    axes = {data.types[i]: drawn.layout[f"xaxis{i + 1 if i else ''}"] for i in range(3)}
    assert axes["contrast"].tickvals == (0, 5)
    assert axes["faded"].ticktext == axes["turned"].ticktext == ("test", "own")
    hovers = " ".join(one for trace in drawn.data for one in trace.hovertext or ())
    assert "Faded, images of its own" in hovers
    assert "Faded, intensity" not in hovers
    boxes = entry.draw(collect("shift-types", results, panel="intensities"), "light").data
    assert {value for box in boxes for value in box.q3} & {50.0, 100.0} == set(), "they are in no box of an intensity"
    alone = told(collect("shift-types", results, corruption="faded"))
    assert "intensity" not in alone.summary
    assert alone.notes.head[0] == "accuracy, %: images of its own"
    assert "corrupted" not in alone.caption


def test_no_mean_at_an_intensity_has_images_of_their_own_in_it() -> None:
    contrast, both = (
        collect("shift", with_own_images(), corruption=asked) for asked in ("contrast", "contrast,faded,turned")
    )
    assert both.rows() == contrast.rows()
    assert told(both).caption == told(contrast).caption
    own = collect("shift", with_own_images(), corruption="faded,turned")
    assert "On images of its own, mean over 2 sets: one run has an accuracy of 75.0 %" in told(own).summary
    assert told(own).notes.head[0] == "Images of its own"
    assert {row[own.columns.index("intensity")] for row in own.rows()} == {0, None}


def test_few_types_fill_the_page() -> None:
    data = collect("shift-types", shifted_by_hand(), size="page")
    assert figures["shift-types"].draw(data, "light").layout.height == data.page_height == 592


def test_a_figure_of_no_study_says_how_to_get_it() -> None:
    class Nothing:
        spec = parse({})
        voice = HERE

        def shifted(self, metric: str, *, by_type: bool = False) -> list[Any]:
            return []

    with pytest.raises(FigureNotReady, match="no corruptions in this spec") as waiting:
        collect("shift", Nothing())  # type: ignore[arg-type]
    assert not waiting.value.planned


# ---- published sets ----


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small set in colour, and its corruptions in the layout of CIFAR-10-C."""
    folder = tmp_path_factory.mktemp("coloured")
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 3
    images = np.clip(rng.normal(60 + 60 * labels[:, None, None, None], 40, (90, 32, 32, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / "own.npz", train_images=images[:60], train_labels=labels[:60], test_images=images[60:],
             test_labels=labels[60:])  # fmt: skip
    (folder / "own-C").mkdir()
    np.save(folder / "own-C" / "labels.npy", np.tile(labels[60:], 5).astype(np.uint8))
    test = images[60:].transpose(0, 3, 1, 2)
    for name in TYPES:
        rows = [corrupt(test, name, i, indices=np.arange(30), dataset="x") for i in INTENSITIES]
        np.save(folder / "own-C" / f"{name}.npy", np.concatenate(rows).transpose(0, 2, 3, 1))
    return folder, {
        **SPEC,
        "data": {"dataset": "npz", "path": str(folder / "own.npz"), "validation_images": 10},
        "methods": [],
        "training": {"epochs": 12, "batch_size": 10, "snapshots": 0},
        "ensemble": {"runs": 2},
        "shift": {"source": "published", "path": str(folder / "own-C"), "corruptions": list(TYPES), "images": 20,
                  "trajectory": False},
    }  # fmt: skip


def order_of_test(file: Path) -> NDArray[np.intp]:
    """Rows of the test images of an .npz file in the order of split seed 0: the draw after that of training."""
    with np.load(file) as arrays:
        rng = np.random.Generator(np.random.Philox(0))
        rng.permutation(len(arrays["train_labels"]))
        return rng.permutation(len(arrays["test_labels"]))


@pytest.mark.slow
def test_a_published_set_is_read_as_it_is(tmp_path: Path, coloured: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = coloured
    lab = laboratory(tmp_path / "a")
    found = run(lab, spec)
    assert found.stages[0].kind == "corrupt"  # looked at before anything is trained
    plain = run(lab, {name: part for name, part in spec.items() if name != "shift"})
    assert stage(plain, "train", "0").reused_from  # which waited for the look, but does not depend on it
    logits = found.artifacts.array(left(found, "shift", "0/optimum")["logits"])

    import torch

    from modescape.architectures.building import build
    from modescape.datasets.loading import load
    from modescape.science.data import Split
    from modescape.science.predictions import predict
    from modescape.science.weights import load_tensors

    published = np.load(folder / "own-C" / "contrast.npy")[3 * 30 : 4 * 30]  # intensity 4, in the order of the file
    rows = published[order_of_test(folder / "own.npz")[:20]].transpose(0, 3, 1, 2)
    splits = load(found.spec.data, ())
    network = build(found.spec.network, splits.shape, seed=0)
    load_tensors(network, found.artifacts.tensors(str(found.solutions(run=0, role="optimum")[0].weights)))
    own = Split(torch.from_numpy(np.ascontiguousarray(rows)), splits.test.labels[:20])
    np.testing.assert_allclose(logits[0, 9], predict(network, own, splits.transform), atol=1e-4)
    assert "the published set in the folder own-C" in told(collect("shift", found)).caption


def test_a_folder_without_photographs_is_no_frost(tmp_path: Path, coloured: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(InvalidInput, match="no pictures") as refused:
        planning.prepare({**coloured[1], "shift": {"path": str(tmp_path), "trajectory": False}}, ())
    assert refused.value.field == "shift.path"


@pytest.mark.slow
def test_frost_is_made_of_the_photographs_given(tmp_path: Path, coloured: tuple[Path, dict[str, Any]]) -> None:
    photographs = tmp_path / "frost"
    photographs.mkdir()
    Image.fromarray(np.full((300, 400, 3), (30, 100, 210), np.uint8)).save(photographs / "a.png")
    spec = {**coloured[1], "shift": {"corruptions": ["frost", "contrast"], "images": 20, "trajectory": False}}
    lab = laboratory(tmp_path / "home")
    plain = run(lab, spec)
    spec["shift"] |= {"path": str(photographs)}
    found = run(lab, spec)
    assert stage(found, "corrupt", "contrast").reused_from
    frost = found.artifacts.array(left(found, "corrupt", "frost")["images"])
    test = np.load(coloured[0] / "own.npz")["test_images"].transpose(0, 3, 1, 2)
    test = test[order_of_test(coloured[0] / "own.npz")]
    # intensity 1 of CIFAR adds 0.2 x texture to the whole image
    expected = np.clip(test + 0.2 * np.array([30, 100, 210])[:, None, None], 0, 255)
    assert np.abs(frost[0] - expected).max() < 1.01
    assert "frost is from the photographs in frost" in told(collect("shift", found)).caption
    assert "frost is procedural" in told(collect("shift", plain)).caption
    again = planning.prepare(spec, ()).spec.shift
    Image.fromarray(np.full((300, 400, 3), 9, np.uint8)).save(photographs / "a.png")
    changed = planning.prepare(spec, ()).spec.shift
    assert again is not None
    assert changed is not None
    assert again.fingerprint != changed.fingerprint


@pytest.mark.slow
def test_labels_in_another_order_cost_no_training(
    tmp_path: Path, coloured: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spec = coloured
    other = tmp_path / "own-C"
    other.mkdir()
    for name in TYPES:
        (other / f"{name}.npy").symlink_to(folder / "own-C" / f"{name}.npy")
    labels = np.load(folder / "own-C" / "labels.npy")
    np.save(other / "labels.npy", np.tile(np.roll(labels[:30], 1), 5))
    lab = laboratory(tmp_path / "b")
    rolled = {**spec, "shift": {**spec["shift"], "path": str(other)}}
    with pytest.raises(InvalidInput, match="labels in another order") as refused:
        lab.create(rolled, name="rolled")
    assert refused.value.problems[0].field == "shift.path"
    monkeypatch.setattr(here, "own_test", lambda *_: None)  # as for sets whose labels only a worker can read
    row = lab.create(rolled, name="rolled")
    executor = Executor(lab.store, lab.artifacts, lab.settings, machine=CPU)
    lease = lab.store.leases.claim("test", experiment_id=row.id, lease_seconds=60)
    assert lease is not None
    assert executor.work(lease) == "failed"
    first, *rest = lab.store.stages.of(row.id)
    assert first.kind == "corrupt"
    assert "labels in another order" in first.error["message"]
    assert {one.state for one in rest} == {"failed"}


def refused(document: dict[str, Any], **info: Any) -> dict[str, str]:
    """Field -> message and what is allowed, of a spec that must be refused."""
    about = {"channels": 1, "height": 28, "width": 28, "classes": tuple("0123456789"), "train_total": 60_000,
             "test_total": 10_000, "validation_default": 5000} | info  # fmt: skip
    with pytest.raises(InvalidInput) as error:
        check(parse({"ensemble": {"runs": 5}, **document}), DataInfo(**about))
    return {problem.field: f"{problem.message}; {problem.allowed}" for problem in error.value.problems}


@pytest.mark.parametrize(
    ("study", "field", "words"),
    [
        ({"corruptions": ["mist"]}, "shift.corruptions", "no corruption 'mist'"),
        ({"corruptions": ["saturate"]}, "shift.corruptions", "does not apply to images of 28x28 pixels and 1 channel"),
        ({"corruptions": ["fog", "fog"]}, "shift.corruptions", "listed twice"),
        ({"intensities": [1, 1]}, "shift.intensities", "listed twice"),
        ({"intensities": [6]}, "shift.intensities.0", "6"),
        ({"intensities": [0]}, "shift.intensities.0", "0"),
        ({"images": 20_000}, "shift.images", "20000 of 10000"),
        ({"members": 6}, "shift.members", "5 runs"),
        ({"source": "published"}, "shift.path", "path"),
    ],
)
def test_a_study_that_cannot_be_done_is_refused(study: dict[str, Any], field: str, words: str) -> None:
    found = refused({"shift": study})
    assert field in found
    assert words in found[field]


def test_tiny_images_have_eight_types_and_gray_ones_eighteen() -> None:
    study = parse({"shift": {}}).shift
    assert study is not None
    info = DataInfo(1, 8, 8, tuple("01"), 100, 100, 10)
    assert len(study.types(info)) == 8
    assert len(study.types(DataInfo(1, 28, 28, tuple("01"), 100, 100, 10))) == 18
    assert len(study.types(DataInfo(3, 224, 224, tuple("01"), 100, 100, 10))) == 19
    published = parse({"shift": {"source": "published", "path": "/x"}}).shift
    assert published is not None
    assert len(published.types(DataInfo(3, 224, 224, tuple("01"), 100, 100, 10))) == 15
    assert "fog" in refused({"shift": {"corruptions": ["fog"]}}, height=8, width=8)["shift.corruptions"]


def test_published_folders_are_looked_at_before_anything_starts(coloured: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = coloured
    prepared = planning.prepare(spec, ())
    assert prepared.spec.shift is not None
    assert len(prepared.spec.shift.fingerprint or "") == 64
    lacking = {**spec, "shift": {**spec["shift"], "corruptions": ["fog", "contrast"]}}
    with pytest.raises(InvalidInput, match="lacks 1 of 2 types: fog") as error:
        planning.prepare(lacking, ())
    assert error.value.problems[0].field == "shift.path"
    with pytest.raises(InvalidInput, match="has 30 images of each type and intensity, the data set 1200"):
        planning.prepare({**spec, "data": {"dataset": "digits"}, "shift": {**spec["shift"], "images": 20}}, ())
    with pytest.raises(InvalidInput, match="no folder"):
        planning.prepare({**spec, "shift": {**spec["shift"], "path": str(folder / "nowhere")}}, ())


# ---- plans ----


def test_everything_waits_for_the_look_at_a_published_set(coloured: tuple[Path, dict[str, Any]]) -> None:
    chains = {"method": "sgmcmc", "options": {"cycles": 2, "epochs_per_cycle": 3, "noise_epochs": 1, "batch_size": 10}}
    spec = {**coloured[1], "methods": [chains], "seeds": {"learning_rates": [1e-3], "repetitions": 1}}
    stages = planning.prepare(spec, ()).plan.stages
    assert {"train", "chain", "arm"} <= {stage.kind for stage in stages}
    waiting = {("corrupt", "published")}
    for one in stages[1:]:  # in the order they are claimed
        assert waiting & {*one.needs, *one.wants}, one
        waiting.add((one.kind, one.key))


def test_chains_are_represented_by_the_ends_of_their_cycles() -> None:
    options = {"cycles": 3, "epochs_per_cycle": 3, "samples_per_cycle": 2, "noise_epochs": 1}
    assert CyclicalOptions.model_validate(options).best_first == [5, 3, 1, 4, 2, 0]
    kept = [SimpleNamespace(method="sgmcmc", sample_set="typical", index=i) for i in range(6)]
    results: Any = SimpleNamespace(
        spec=parse({"methods": [{"method": "sgmcmc", "options": options}]}),
        solutions=lambda run: kept,
        averaged=lambda method, run: kept,
        places=lambda method: Results.places(results, method),
        _is_apart=lambda method: Results._is_apart(results, method),
    )
    assert [s.index for s in Results.group(results, "sgmcmc", 0, 4)] == [5, 3, 1, 4]
    said = "Cyclical SG-MCMC: the last samples of its cycles, latest cycle first."
    assert said_of_chains(["independent", "random", "sgmcmc"]) == [said]


def plan_of(preset: str, info: DataInfo) -> planning.Plan:
    spec = parse(presets[preset].call())
    check(spec, info)
    return planning.plan(spec, info)


FASHION = DataInfo(1, 28, 28, tuple("0123456789"), 60_000, 10_000, 5000)


def test_the_plan_says_what_it_costs() -> None:
    spec = parse(presets["fig-9-short"].call() | {"shift": {"images": 2000, "trajectory": False}})
    assert sizes(spec, FASHION).test == 10_000
    plan = planning.plan(spec, FASHION)
    # 5 runs of (optimum + average + 4 methods x 5 samples) under 18 types x 5 intensities of 2,000 images
    assert any("20 million predictions (110 functions x 18 types x 5 intensities" in w for w in plan.warnings)
    costs = {kind.kind: kind for kind in plan.kinds}
    assert costs["corrupt"].count == 18
    assert costs["shift"].count == 30
    assert sum(one.work.predicted for one in plan.stages if one.kind == "shift") == 110 * (90 * 2000 + 2000)
    for one in plan.stages:
        if one.kind == "shift" and one.key == "3/diagonal":
            needs = {("train", "3"), ("predict", "3"), ("sample", "3/diagonal/fair"), ("corrupt", "fog")}
            assert needs <= set(one.needs)
            assert one.params["keep"] == "logits"
    shorter = planning.plan(spec.model_copy(update={"shift": None}), FASHION)
    logits, images = 110 * 91 * 2000 * 10 * 4, 18 * 5 * 10_000 * 784
    assert plan.bytes - shorter.bytes == logits + images


@pytest.mark.parametrize("preset", ["fig-9", "fig-9-short", "fig-10", "fig-10-short"])
def test_presets_of_shift_add_up(preset: str) -> None:
    info = FASHION
    if preset == "fig-9":
        info = DataInfo(3, 32, 32, tuple("0123456789"), 50_000, 10_000, 500)
    if preset == "fig-10":
        info = DataInfo(3, 224, 224, tuple(map(str, range(1000))), 1_281_167, 50_000, 10_000)
    plan = plan_of(preset, info)
    kinds = {kind.kind for kind in plan.kinds}
    assert {"shift", "shift-compare"} <= kinds
    assert ("corrupt" in kinds) == (preset != "fig-10")  # too large to keep
    keep = {stage.params["keep"] for stage in plan.stages if stage.kind == "shift"}
    assert keep == ({"logits"} if preset.endswith("short") else {"labels"})
    assert {"shift", "shift-types"} <= set(plan.answers)


# ---- ImageNet's layout ----


@pytest.mark.slow
def test_a_folder_in_the_layout_of_imagenet_goes_through_every_stage(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 5)):
        for tint, name in ((200, "n01440764"), (60, "n01443537")):
            folder = tmp_path / "data" / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(tint, 30, (60 + i, 80, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"ILSVRC2012_{part}_{i:08d}.JPEG")
    lab = laboratory(tmp_path / "home", data=str(tmp_path / "data"))
    spec = {
        "data": {"dataset": "imagenet", "input_scale": "symmetric", "validation_images": 4},
        "training": {"epochs": 1, "batch_size": 6, "snapshots": 2, "snapshot_window": 1.0,
                     "augmentation": "resized-crop-flip", "sampling": "epoch"},
        "ensemble": {"runs": 2},
        "methods": [{"method": "random", "spread": 0, "typical": 2, "options": {"floor": "none", "typical_max": 0.1}}],
        "evaluation": {"embed_images": 10},
        "shift": {"corruptions": ["contrast"], "intensities": [5], "images": 10, "trajectory": False},
    }  # fmt: skip
    prepared = lab.prepare(spec)
    assert prepared.info.classes == ("n01440764", "n01443537")
    assert (prepared.sizes.train, prepared.sizes.test) == (12, 10)
    found = run(lab, spec)
    assert lab.store.experiments.get(found.experiment.id).status == "succeeded"
    assert found.artifacts.array(left(found, "shift", "1/random")["logits"]).shape == (2, 2, 10, 2)


def test_the_claim_under_shift_is_promised_over_five_intensities_and_no_fewer() -> None:
    for intensities, promised in (([1, 2, 3, 4, 5], True), ([2, 4], False), ([5], False)):
        asked = parse({
            "data": {"dataset": "digits"}, "methods": [{"method": "random"}],
            "shift": {"corruptions": ["contrast"], "intensities": intensities},
        })  # fmt: skip
        claim = CLAIMS["f2"]
        assert (claim.decided_by.is_promised(asked), claim.evidence.is_planned(asked)) == (promised, promised)
    assert "intensities 1 to 5" in claim.decided_by.words
