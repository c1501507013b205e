"""The larger form as its users run it: a sweep from the form on PostgreSQL and Redis, with kills, to its page."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from independent import Downloaded, check_everything
from playwright.sync_api import Page, expect, sync_playwright
from test_journey import (
    answers,
    digests,
    every_figure_is_there,
    free_port,
    http,
    kill_a_busy_worker,
    running,
    true_labels,
)

from modescape.laboratory import run
from modescape.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILLED = {
    "data.train_images": "400", "data.test_images": "300", "training.epochs": "6", "training.batch_size": "20",
    "training.snapshots": "5", "ensemble.runs": "3", "methods.random.spread": "4", "methods.random.typical": "3",
}  # fmt: skip


def launched_from_the_form(page: Page, url: str) -> str:
    """The address of a sweep of two cells, filled in as a person would."""
    page.goto(f"{url}/launch?preset=blank")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.get_by_label("Name", exact=True).fill("Rates and biases")
    page.locator("[name='methods.random.on'][type=checkbox]").check()
    for name, value in FILLED.items():
        page.locator(f"[name='{name}']").fill(value)
    rows = {"Field 1": "training.learning_rate", "Values 1": "0.001, 0.003",
            "Field 2": "network.options.zero_bias", "Values 2": "true"}  # fmt: skip
    for label, value in rows.items():
        page.get_by_label(label, exact=True).fill(value)
    expect(page.locator("#plan-price")).to_contain_text("for 2 cells", timeout=30_000)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/sweeps/*", timeout=60_000)
    return page.url


def a_samples_weights_are_made_again(found: Downloaded, wait_until: Any) -> None:
    """Asked for, they are made from the seed; they lie where the stored cosine and distance say."""
    sample = next(s for s in found.solutions if s["method"] == "random" and s["set"] == "typical")
    optimum = next(s for s in found.solutions if s["role"] == "optimum" and s["run"] == sample["run"])
    address = f"{found.base}/solutions/{sample['number']}/weights"
    first = found.client.get(address)
    assert first.status_code == 202
    assert first.headers["location"]
    wait_until(lambda: found.client.get(address).status_code == 200, 60, "the sample's weights")
    there, here = found.weights(optimum["number"]), found.weights(sample["number"])
    a, b = (np.concatenate([w[name].ravel().astype(np.float64) for name in sorted(there)]) for w in (there, here))
    assert abs(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) - sample["cosine"]) < 1e-6
    assert abs(float(np.linalg.norm(a - b)) - sample["distance"]) < 1e-4


def test_a_sweep_from_the_form_survives_a_worker_a_server_and_a_redis_that_are_killed(
    tmp_path: Path, postgres_url: str, redis_server: Any, wait_until: Any
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "MODESCAPE_HOME": str(tmp_path / "home"), "MODESCAPE_PORT": str(port), "MODESCAPE_LEASE_SECONDS": "3",
        "MODESCAPE_DATABASE_URL": postgres_url.replace("postgresql://", "postgresql+psycopg://"),
        "MODESCAPE_BROKER_URL": redis_server.url, "MODESCAPE_DEVICE": "cpu",
    }  # fmt: skip
    migrated = subprocess.run(
        [sys.executable, "-m", "modescape.cli", "migrate"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert migrated.returncode == 0, migrated.stderr
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running("serve", **environment))
        stack.enter_context(running("worker", "--name", "w0", **environment))
        wait_until(lambda: answers(url), 120, "the first answer")
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        address = launched_from_the_form(page, url)
        expect(page.get_by_role("heading", name="Rates and biases")).to_be_visible()
        api = f"{url}/api{address.removeprefix(url)}"

        def cells() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = [cell["experiment"] for cell in http.get(api).json()["cells"]]
            return found

        first = f"{url}/api/experiments/{cells()[0]['slug']}"
        wait_until(
            lambda: any(s["kind"] == "train" and s["step"] > 0 for s in http.get(first).json()["stages"]),
            120,
            "a first step",
        )
        wait_until(lambda: kill_a_busy_worker(url), 30, "a busy worker to kill")
        server.kill()
        redis_server.kill()  # without persistence: every wake-up is lost
        redis_server.start()
        stack.enter_context(running("serve", **environment))
        stack.enter_context(running("worker", "--name", "w1", **environment))
        wait_until(lambda: answers(url), 120, "an answer again")
        wait_until(lambda: {cell["status"] for cell in cells()} == {"succeeded"}, 600, "both cells")

        # The page has followed without being loaded again.
        expect(page.locator("#live-cells h2")).to_contain_text("2 of 2 ended", timeout=60_000)
        expect(page.locator("#live-claims")).to_contain_text("cells tested", timeout=60_000)
        expect(page.locator("#number .main-svg").first).to_be_visible(timeout=60_000)
        page.locator("select[name=y]").select_option("gain")
        page.get_by_role("button", name="Show", exact=True).click()
        page.get_by_role("button", name="Show for every cell").click()
        for figure in page.locator("[data-figure=trajectories]").all():
            figure.scroll_into_view_if_needed()
            expect(figure.locator(".plot .main-svg").first).to_be_visible(timeout=60_000)
        assert page.locator("[data-figure=trajectories]").count() == 2
        with page.expect_download() as download:
            page.get_by_role("link", name="LaTeX").click()
        assert r"\begin{tabular}" in download.value.path().read_text()
        browser.close()
        assert not wrong, wrong

        slug, spec = cells()[0]["slug"], http.get(first).json()["spec"]
        every_figure_is_there(url, slug)
        found = Downloaded(url, slug)
        assert check_everything(found, true_labels(spec), sample=20) > 500

        # The notebook's way, on SQLite and undisturbed, gives the same files.
        lab = run(spec, settings=Settings(home=tmp_path / "notebook", device="cpu"))
        there: dict[str, Any] = {f"{s.number}": s.weights for s in lab.solutions()}
        there |= {f"{m.name} {m.split}": m.artifact for m in lab.store.results.matrices(lab.experiment.id)}
        assert digests(url, slug) == there

        a_samples_weights_are_made_again(found, wait_until)
