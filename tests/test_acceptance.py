"""The full-size checks of `make check` (under an hour): Fashion-MNIST from the form, every claim on it recomputed from
downloads, ten kills in one experiment.

They print what they measured; nothing here fails for being slow.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from independent import Downloaded, check_everything
from independent_verdict import check_verdict
from playwright.sync_api import Page, expect, sync_playwright
from ports import free_port
from test_journey import digests, every_figure_is_there, kill_a_busy_worker, running, status, true_labels

pytestmark = [pytest.mark.check, pytest.mark.timeout(3000)]

METHODS = ("random", "dropout", "diagonal", "low-rank")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def product(home: Path) -> Any:
    """The embedded product with Quickstart behind it; its URL."""
    port = free_port()
    environment = {"MODESCAPE_HOME": str(home), "MODESCAPE_PORT": str(port), "MODESCAPE_LEASE_SECONDS": "3"}
    with running("up", **environment) as process:
        url = f"http://127.0.0.1:{port}"
        begun = time.monotonic()
        waited(lambda: url in process.output, 120)
        ready = time.monotonic()
        waited(lambda: status(url, "quickstart") == "succeeded", 900)
        print(f"\nready after {ready - begun:.1f} s, Quickstart complete {time.monotonic() - ready:.0f} s later")
        yield url


def waited(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


def launch_from_the_form(page: Page, url: str, name: str) -> str:
    page.goto(f"{url}/launch?preset=fig-6-short")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/experiments/*", timeout=60_000)
    return page.url.rstrip("/").rsplit("/", 1)[1].split("?")[0]


def test_fashion_mnist_from_the_form(product: str, home: Path) -> None:
    """SmallCNN, 55,000 images, 3 runs x 5 epochs, four methods x 10 samples in each of two sets."""
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        slug = launch_from_the_form(page, product, "Fashion from the form")
        begun = time.monotonic()
        page.goto("about:blank")  # watching costs the two cores a little
        waited(lambda: status(product, slug) in ("succeeded", "failed"), 2400)
        print(f"complete {time.monotonic() - begun:.0f} s after Launch")
        page.goto(f"{product}/experiments/{slug}")
        for figure in page.locator("[data-figure]").all():
            figure.scroll_into_view_if_needed()
            expect(figure.locator(".plot .main-svg").first).to_be_visible(timeout=60_000)
        page.screenshot(path=str(home / "fashion.png"), full_page=True)
        browser.close()
    assert not wrong, wrong
    found = httpx.get(f"{product}/api/experiments/{slug}", timeout=30).json()
    assert found["status"] == "succeeded"
    spec = found["spec"]
    assert (spec["ensemble"]["runs"], spec["training"]["epochs"]) == (3, 5)
    every_figure_is_there(product, slug)
    downloaded = Downloaded(product, slug)
    print(f"{check_everything(downloaded, true_labels(spec), sample=1000)} numbers recomputed")

    # Independent runs: weights orthogonal, functions different; read again from the downloads alone.
    optima = [s["number"] for s in downloaded.solutions if s["role"] == "optimum"]
    cosine, rows, _ = downloaded.matrix("cosine", "")
    places = [rows.index(number) for number in optima]
    between = cosine[np.ix_(places, places)][np.triu_indices(len(optima), 1)]
    assert np.abs(between).max() < 0.05, between
    finding = found["findings"]
    independent = finding["independent"]["disagreement"]
    for method in finding["methods"]:
        print(f"{method['method']}: changes {method['disagreement']} at equal accuracy, runs {independent:.4f}")
        assert method["disagreement"] is not None
        assert independent > method["disagreement"]
    claims = {claim["id"]: claim["word"] for claim in finding["claims"]}
    print(claims)
    assert claims["a"] == claims["b"] == "holds"
    assert "does not hold" not in claims.values()

    # In t-SNE each sample's nearest optimum is its own run's.
    points, rows, _ = downloaded.matrix("tsne-samples")
    of = {s["number"]: s for s in downloaded.solutions}
    ends = {of[number]["run"]: points[i] for i, number in enumerate(rows) if of[number]["role"] == "optimum"}
    own = [
        min(ends, key=lambda run: float(np.linalg.norm(ends[run] - points[i]))) == of[number]["run"]
        for i, number in enumerate(rows)
        if of[number]["role"] == "sample"
    ]
    print(f"{sum(own)} of {len(own)} samples lie nearest to their own run")
    assert np.mean(own) > 0.95


@pytest.mark.timeout(4200)  # of which 3600 s are for the experiment, the rest for recomputing it
def test_every_claim_on_fashion_mnist(product: str) -> None:
    """The preset as it is: five SmallCNNs, six methods, 18 corruptions; stages the form's experiment has are reused."""
    begun = time.monotonic()
    made = httpx.post(f"{product}/api/experiments", json={"preset": "claims-short", "name": "Every claim"}, timeout=60)
    assert made.status_code == 201, made.text
    slug = made.json()["slug"]
    waited(lambda: status(product, slug) in ("succeeded", "failed"), 3600)
    found = httpx.get(f"{product}/api/experiments/{slug}", timeout=60).json()
    reused = sum(stage["reused_from"] is not None for stage in found["stages"])
    seconds = time.monotonic() - begun
    print(f"complete {seconds:.0f} s after Launch, {reused} of {len(found['stages'])} stages reused")
    assert found["status"] == "succeeded", found["error"]
    assert (found["preset"], found["changed"]) == ("claims-short", [])
    begun = time.monotonic()
    print(f"{check_verdict(Downloaded(product, slug))} numbers recomputed in {time.monotonic() - begun:.0f} s")

    claims = {claim["id"]: claim for claim in found["findings"]["claims"]}
    assert claims.keys() >= {"a", "b", "c", "d1", "e1", "e2", "f1", "f2"}
    methods = {letter: {part["method"]: part for part in claim["methods"]} for letter, claim in claims.items()}
    for letter in ("c", "d1"):
        assert set(methods[letter]) == {*METHODS, "pca-random"}
        assert not [part["gate"] for part in methods[letter].values() if part["gate"]]
    for letter, claim in claims.items():
        assert claim["word"] != "cannot tell" or claim["because"]
        for part in methods[letter].values():  # what is open has a closed gate, or its margin inside its interval
            if part["word"] == "cannot tell" and not part["gate"]:
                assert part["estimate"]["low"] <= part["estimate"]["margin"] <= part["estimate"]["high"], part
    asked = [claims["a"], claims["b"], methods["d1"]["random"], methods["f1"]["random"]]
    assert all(one["word"] in ("holds", "does not hold") for one in asked), [one["because"] for one in asked]


def test_ten_kills_leave_the_digests_of_an_undisturbed_run(product: str) -> None:
    spec = httpx.get(f"{product}/api/experiments/quickstart").json()["spec"]
    spec["data"] |= {"dataset": "fashion-mnist", "train_images": 12_000, "validation_images": 2000, "test_images": 2000}
    spec["training"] |= {"epochs": 4, "batch_size": 128, "halve_every": 2}
    spec["ensemble"]["runs"] = 3
    spec["methods"] = [{"method": method, "spread": 6, "typical": 6} for method in METHODS]
    made = []
    for name, kills in (("undisturbed", 0), ("killed ten times", 10)):
        answer = httpx.post(f"{product}/api/experiments", json={"name": name, "spec": spec, "fresh": True}, timeout=60)
        assert answer.status_code == 201, answer.text
        slug = answer.json()["slug"]
        made.append(slug)
        killed = 0
        pause = 0.0
        while status(product, slug) not in ("succeeded", "failed"):
            if killed < kills and time.monotonic() > pause and kill_a_busy_worker(product, killed):
                killed += 1
                pause = time.monotonic() + 6
            time.sleep(0.3)
        assert status(product, slug) == "succeeded"
        assert killed == kills, f"the experiment ended after {killed} kills"
    assert digests(product, made[0]) == digests(product, made[1])
