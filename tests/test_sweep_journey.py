"""A sweep as its users run it: from the form, with real workers of which one is killed, to its page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from test_journey import answers, free_port, kill_a_busy_worker, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILLED = {
    "data.train_images": "400", "data.test_images": "300", "training.epochs": "6", "training.batch_size": "20",
    "training.snapshots": "5", "ensemble.runs": "3",
}  # fmt: skip


def launched_from_the_form(page: Page, url: str) -> str:
    """The address of a 2 x 2 sweep, filled in as a person would."""
    page.goto(f"{url}/launch?preset=blank")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.get_by_label("Name", exact=True).fill("Rates and biases")
    for name, value in FILLED.items():
        page.locator(f"[name='{name}']").fill(value)
    rows = {"Field 1": "training.learning_rate", "Values 1": "0.001, 0.003",
            "Field 2": "network.options.zero_bias", "Values 2": "false, true"}  # fmt: skip
    for label, value in rows.items():
        page.get_by_label(label, exact=True).fill(value)
    expect(page.locator("#plan-price")).to_contain_text("for 4 cells", timeout=30_000)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/sweeps/*", timeout=60_000)
    return page.url


def test_a_sweep_from_the_form_to_its_page_with_a_worker_killed_on_the_way(tmp_path: Path, wait_until: Any) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    home = {"MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(port), "MODESCAPE_LEASE_SECONDS": "5"}
    with running("up", **home), sync_playwright() as playwright:
        wait_until(lambda: answers(url), 120, "the first answer")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        address = launched_from_the_form(page, url)
        expect(page.get_by_role("heading", name="Rates and biases")).to_be_visible()
        api = f"{url}/api{address.removeprefix(url)}"

        def cells() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = httpx.get(api, timeout=60).json()["cells"]
            return found

        wait_until(lambda: any(c["experiment"]["status"] == "running" for c in cells()), 300, "a running cell")
        wait_until(lambda: kill_a_busy_worker(url), 120, "a busy worker to kill")
        wait_until(lambda: {c["experiment"]["status"] for c in cells()} == {"succeeded"}, 600, "all four cells")
        # The page has followed without being loaded again.
        expect(page.locator("#live-cells h2")).to_contain_text("4 of 4 ended", timeout=60_000)
        expect(page.locator("#live-claims")).to_contain_text("cells tested", timeout=60_000)
        expect(page.locator("#number .main-svg").first).to_be_visible(timeout=60_000)
        page.locator("select[name=y]").select_option("gain")
        page.get_by_role("button", name="Show", exact=True).click()
        page.get_by_role("button", name="Show for every cell").click()
        for figure in page.locator("[data-figure=trajectories]").all():
            figure.scroll_into_view_if_needed()
            expect(figure.locator(".plot .main-svg").first).to_be_visible(timeout=60_000)
        assert page.locator("[data-figure=trajectories]").count() == 4
        with page.expect_download() as download:
            page.get_by_role("link", name="LaTeX").click()
        assert r"\begin{tabular}" in download.value.path().read_text()
        browser.close()
    assert not wrong, wrong
