"""Networks come into a running server by their weights: over REST, by the page in a real browser, by the command."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import sync_playwright
from safetensors.torch import save_file
from serving import Served, mainly, served
from test_doors import Door, sha
from torch import nn

from modescape.cli import main
from modescape.datasets.loading import load
from modescape.executor import Executor
from modescape.laboratory import Lab
from modescape.records import Role, StageState
from modescape.spec_parts import DataSpec
from modescape.uploads import Uploads

pytestmark = pytest.mark.usefixtures("few_redraws")

DIGITS = {"dataset": "digits", "train_images": 497, "validation_images": 100, "test_images": 1000}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A folder of three networks in files of torch and of safetensors, and their accuracies as torch finds them."""
    place = tmp_path_factory.mktemp("weights")
    splits = load(DataSpec.model_validate(DIGITS), ())
    images, labels = splits.train.images.float() / 255, splits.train.labels
    accuracies = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
        )
        optimiser = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimiser.step()
        with torch.no_grad():
            right = network(splits.test.images.float() / 255).argmax(1) == splits.test.labels
        accuracies.append(float(right.double().mean()))
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        if seed == 1:
            torch.save({"state_dict": state}, place / "1.pt")
        else:
            save_file(state, place / f"{seed}.safetensors")
    return place, accuracies


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with served(tmp_path_factory.mktemp("home")) as site:
        yield Door(site)


def asked(door: Door, files: list[Path], **more: Any) -> Json:
    sent = [door.send(one.read_bytes(), one.name) for one in files]
    return {"name": "sent", "files": sent, "architecture": "mlp", "data": DIGITS, "inputs": "unit", "keys": "by-order",
            "recipe": "same", **more}  # fmt: skip


def worked(site: Served, slug: str) -> Lab:
    row = site.laboratory.store.experiments.get(slug)
    Executor(site.laboratory.store, site.laboratory.artifacts, site.laboratory.settings).run_experiment(
        row.id, progress=False
    )
    return Lab(site.laboratory, slug)


@pytest.mark.slow
@mainly("postgres")
def test_sent_weights_are_placed_checked_and_judged_by_a_worker(
    store_url: str, tmp_path: Path, weights: tuple[Path, list[float]]
) -> None:
    folder, accuracies = weights
    with served(tmp_path / "home", database_url=store_url) as site:
        door = Door(site)
        document = asked(door, sorted(folder.iterdir()), expect_accuracy=[f"{one:.3f}" for one in accuracies])
        key = {"Idempotency-Key": "once"}
        made = door.client.post("/api/imports/weights", json=document, headers=key)
        assert made.status_code == 201, made.text
        again = door.client.post("/api/imports/weights", json=document, headers=key)
        assert (again.status_code, again.json()["slug"]) == (201, made.json()["slug"])
        other = door.client.post("/api/imports/weights", json={**document, "name": "other"}, headers=key)
        assert other.status_code == 409
        Uploads(site.laboratory.settings.upload_folder, quota=0).sweep(used_too=True)
        assert [one.name for one in site.laboratory.settings.upload_folder.iterdir() if one.is_file()] == ["lock"]
        lab = worked(site, made.json()["slug"])
        found = [one.accuracy for one in lab.solutions(role=Role.OPTIMUM)]
        assert found == pytest.approx(accuracies, abs=1e-9)
        page = door.client.get(f"/experiments/{lab.experiment.slug}").text
        assert "Which tensor went where" in page
        assert "<code>1.weight</code>" in page
        assert "members disagree on" in page.lower()
        assert "1.pt: converted from torch, of what lies under &#39;state_dict&#39;" in page


def test_an_accuracy_that_is_not_met_names_the_suspects_on_the_page(
    shared: Door, weights: tuple[Path, list[float]]
) -> None:
    folder, accuracies = weights
    document = asked(shared, [folder / "0.safetensors"], inputs="raw255", expect_accuracy=[f"{accuracies[0]:.3f}"])
    made = shared.client.post("/api/imports/weights", json={**document, "name": "wrongly scaled"})
    lab = worked(shared.site, made.json()["slug"])
    assert next(s for s in lab.stages if s.kind == "train").state == StageState.FAILED
    page = shared.client.get(f"/experiments/{lab.experiment.slug}").text
    assert f"and {accuracies[0]:.3f} was stated" in page
    assert "with the inputs unit" in page


class _Program:
    def __reduce__(self) -> Any:
        return (exit, (3,))


def _header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.safetensors", b"", "does not begin as .safetensors"),
        ("a.safetensors", b"\xff" * 64, "does not begin as .safetensors"),
        ("a.safetensors", _header(b"not json"), "header cannot be read"),
        ("a.safetensors", _header(b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'), "are there"),
        ("a.safetensors", _header(b'{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}'), "lengths"),
        ("a.txt", b"hello", "no file of weights by its name"),
        ("a.npy", b"\x93NUMPY", "no file of weights by its name"),
        ("a.pt", b"no archive of torch", "a.pt"),
        ("a.pt", pickle.dumps({"state_dict": _Program()}), "a.pt"),
        ("snapshots/0/1.safetensors|curve/bend.safetensors", _header(b"{}"), "no file of a member is among them"),
        ("../a.safetensors", _header(b"{}"), "a.safetensors"),
    ],
)
def test_what_is_no_file_of_weights_is_refused_in_words_and_the_server_lives_on(
    shared: Door, name: str, content: bytes, said: str
) -> None:
    document = asked(shared, []) | {"files": [shared.send(content, one) for one in name.split("|")]}
    answer = shared.client.post("/api/imports/weights", json=document)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]
    assert shared.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"architecture": "no-such"}, "network.architecture"),
        ({"data": "no-such"}, "data.dataset"),
        ({"inputs": "sideways"}, "inputs"),
        ({"expect_accuracy": [".9", ".8"]}, "expect_accuracy"),
        ({"more": {"seeds": {}}}, "seeds"),
        ({"more": {"data": {"dataset": "mnist"}}}, "more.data.dataset"),
        ({"more": {"data": {"input_scale": "raw255"}}}, "more.data.input_scale"),
        ({"more": {"data": "mnist"}}, "more.data"),
        ({"more": {"network": {"architecture": "small-cnn"}}}, "more.network.architecture"),
        ({"more": {"network": {"options": {"width": 7}}}}, "more.network.options"),
        ({"more": {"network": []}}, "more.network"),
        ({"more": {"ensemble": {"runs": 5}}}, "more.ensemble.runs"),
        ({"more": {"source": "trained"}}, "more.source"),
        ({"files": [{"name": "gone.safetensors", "sha256": "0" * 64}]}, ""),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(
    shared: Door, weights: tuple[Path, list[float]], change: Json, field: str
) -> None:
    document = asked(shared, [weights[0] / "0.safetensors"]) | change
    answer = shared.client.post("/api/imports/weights", json=document)
    assert answer.status_code == (422 if field else 404), answer.text
    assert not field or field in [one["field"] for one in answer.json()["errors"]]


def test_what_is_said_twice_alike_or_only_there_is_taken(shared: Door, weights: tuple[Path, list[float]]) -> None:
    more = {
        "network": {"architecture": "mlp"},
        "data": {"dataset": "digits", "split_seed": 5},
        "ensemble": {"runs": 1, "seed": 3},
    }
    answer = shared.client.post(
        "/api/imports/weights", json=asked(shared, [weights[0] / "0.safetensors"], more=more, name="said twice")
    )
    assert answer.status_code == 201, answer.text
    spec = shared.client.get(answer.headers["location"]).json()["spec"]
    assert (spec["data"]["split_seed"], spec["ensemble"]["seed"]) == (5, 3)


def test_the_form_takes_one_file_without_a_script_and_keeps_what_was_typed(
    shared: Door, weights: tuple[Path, list[float]]
) -> None:
    content = (weights[0] / "2.safetensors").read_bytes()
    typed = {"architecture": "mlp", "data": json.dumps(DIGITS), "inputs": "unit", "keys": "by-order", "recipe": "same",
             "name": "by the form", "more": "{oh"}  # fmt: skip
    with shared.site.visitor() as visitor:
        file = {"file": ("2.safetensors", content)}
        wrong = visitor.post("/import/weights", data=typed, files=file)
        assert wrong.status_code == 422
        assert '<code>more</code>: <span class="lines">is not JSON' in wrong.text
        assert 'value="by the form"' in wrong.text
        assert sha(content) in wrong.text
        sent = json.dumps([{"name": "2.safetensors", "sha256": sha(content)}])
        made = visitor.post("/import/weights", data={**typed, "more": "", "files": sent})
        assert made.status_code == 303, made.text
        assert "weights of 1 member, made elsewhere" in visitor.get(made.headers["location"]).text


@pytest.mark.slow
def test_a_browser_sends_weights_and_shows_which_tensor_went_where(
    tmp_path: Path, weights: tuple[Path, list[float]]
) -> None:
    folder, accuracies = weights
    with served(tmp_path / "home") as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site.url}/import")
        form = page.locator("#weights")
        form.locator("input[name=file]").set_input_files(sorted(folder.iterdir()))
        assert "1.pt" in (form.locator("[data-named]").text_content() or "")
        form.locator("[name=architecture]").select_option("mlp")
        form.locator("[name=data]").fill(json.dumps(DIGITS))
        form.locator("[name=inputs]").fill("nonsense")
        form.locator("[name=keys]").select_option("by-order")
        form.locator("[name=expect_accuracy]").fill(", ".join(f"{one:.3f}" for one in accuracies))
        form.locator("[name=name]").fill("dropped")
        form.locator("[data-go]").click()
        page.wait_for_selector("#refused")
        assert "nonsense" in (page.locator("section.bad").text_content() or "")
        page.locator("#weights [name=inputs]").fill("unit")
        page.locator("#weights [data-go]").click()  # the files are here: nothing is sent again
        page.wait_for_url("**/experiments/dropped")
        worked(site, "dropped")
        page.reload()
        page.locator("#tensors summary").click()
        assert "1.weight" in (page.locator("#tensors").text_content() or "")
        browser.close()
        assert not errors


@pytest.mark.slow
def test_the_command_sends_weights(
    shared: Door, weights: tuple[Path, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import", "--weights", f"{weights[0]}/*.safetensors", "--architecture", "mlp", "--data",
                 json.dumps(DIGITS), "--inputs", "unit", "--keys", "by-order", "--name", "from afar",
                 "--recipe", "same", "--server", shared.site.url]  # fmt: skip
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == f"{shared.site.url}/experiments/from-afar"
    lab = worked(shared.site, "from-afar")
    found = [one.accuracy for one in lab.solutions(role=Role.OPTIMUM)]
    assert found == pytest.approx([weights[1][0], weights[1][2]], abs=1e-9)
    assert main([*arguments, "--look"]) == 1
