"""How soon a page's first plot is painted, whether scrolling stays smooth, and what comes before any plot.

    python benchmarks/browser.py [--rounds 10] [--home FOLDER]

Makes a home with one small experiment that has every study and twenty figures on its page (minutes), serves it as users
do (`modescape serve`) and opens pages in Chromium, 1400 x 900. Painted is the second frame after the first figure said
that it is drawn, and of the plane on the first screen, which the server draws, the first content; time counts from
DOMContentLoaded. Warm: the browser has been there before; cold: it has nothing; in both the server has drawn the
figures before, but for the last row of each page, where it has just started.

Scrolling: from the first of the figures to the end with the wheel, as soon as it is painted, under a trace of Chromium.
A script task is a task of the page's main thread, and how long is what scripts take of it, from the first turn of the
wheel to the last. Bytes are those of scripts and styles that the page names, but Plotly's, as they are sent. Kept in
results/browser.json with the budgets, and with how busy the machine was (load average over its cores, before).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _beside import keep
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from web import start

from modescape.database import upgrade
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from ports import free_port
from saved_home import SPECS

Json = dict[str, Any]
SLUG = "every-figure"
BUDGETS = {"warm": "300 ms", "cold": "1 s", "script task": "50 ms", "scripts and styles": "60 KiB"}
PAGES = {  # with their first plot
    "the plane of the first screen, which the server draws": "",
    "the first of twenty figures": "#trajectories",
    "a figure alone": "/figures/plane",
}
TOLD = """
new PerformanceObserver(seen => seen.getEntriesByName("first-contentful-paint").forEach(one => {
    window.content = one.startTime;
})).observe({ type: "paint", buffered: true });
addEventListener("figuredrawn", () => requestAnimationFrame(() => requestAnimationFrame(() => {
    window.painted ??= performance.now();
})));
"""
DRAWN = "() => location.hash || location.pathname.includes('figures') ? window.painted : window.content"
FROM_CONTENT = f"({DRAWN})() - performance.getEntriesByType('navigation')[0].domContentLoadedEventStart"
SCRIPT = (
    "EvaluateScript", "EventDispatch", "FireAnimationFrame", "FunctionCall", "RunMicrotasks", "TimerFire",
    "v8.callFunction", "v8.compile", "v8.compileModule", "v8.evaluateModule", "v8.run",
)  # fmt: skip


def fill(settings: Settings) -> None:
    """One experiment with all that the small ones of the tests have."""
    spec: Json = {}
    for one in SPECS.values():
        spec |= {key: part for key, part in one.items() if key not in ("training", "ensemble", "data")}
    spec |= {
        "data": SPECS["Fair strengths"]["data"], "training": SPECS["Fair strengths"]["training"],
        "ensemble": {"runs": 3}, "methods": SPECS["Every method"]["methods"], "evaluation": {"averaged": "fair"},
    }  # fmt: skip
    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    row = laboratory.create(spec, name=SLUG)
    machine = Machine(device="cpu", title="benchmark", numerics="benchmark")
    Executor(laboratory.store, laboratory.artifacts, settings, machine=machine).drain(experiment_id=row.id)
    laboratory.store.close()


def opened(context: BrowserContext, url: str) -> tuple[Page, float]:
    """The page, and the ms from DOMContentLoaded until its first plot is painted."""
    page = context.new_page()
    page.add_init_script(TOLD)
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_function(DRAWN, timeout=60_000)
    return page, max(0.0, page.evaluate(FROM_CONTENT))


def painted(browser: Browser, url: str, rounds: int, before: Callable[[], object] | None = None) -> list[float]:
    """Cold: each time with a browser that has nothing; before: what is done each time."""
    found = []
    for _ in range(rounds):
        if before is not None:
            before()
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        found.append(opened(context, url)[1])
        context.close()
    return found


def painted_warm(browser: Browser, url: str, rounds: int) -> list[float]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    found = []
    for _ in range(rounds + 2):  # the first brings everything, at the second the scripts are compiled for good
        page, ms = opened(context, url)
        page.wait_for_timeout(500)  # what was compiled is kept
        page.close()
        found.append(ms)
    context.close()
    return found[2:]


def scrolled(browser: Browser, url: str) -> tuple[list[float], int]:
    """ms of scripts in each task while the wheel turns, and how many figures were drawn in the end."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page, _ = opened(context, url)
    browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline", "v8", "blink.user_timing"])
    page.evaluate("performance.mark('wheel turns')")
    page.mouse.move(700, 500)
    while page.evaluate("scrollY + innerHeight < document.documentElement.scrollHeight - 2"):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(33)
    page.evaluate("performance.mark('wheel rests')")
    trace = json.loads(browser.stop_tracing())
    for card in page.locator("[data-figure]").all():
        card.scroll_into_view_if_needed()
    page.wait_for_timeout(3000)
    drawn = page.locator(".plot[data-live]").count()
    context.close()
    return list(script_tasks(trace["traceEvents"])), drawn


def script_tasks(events: Sequence[Json]) -> Iterator[float]:
    marks = {event["name"]: event for event in events if event["name"] in ("wheel turns", "wheel rests")}
    first, last = (marks[name]["ts"] for name in ("wheel turns", "wheel rests"))
    thread = marks["wheel turns"]["pid"], marks["wheel turns"]["tid"]
    mine = [e for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) == thread and first <= e["ts"] <= last]
    scripts = sorted((e["ts"], e["ts"] + e.get("dur", 0)) for e in mine if e["name"] in SCRIPT)
    outer: list[tuple[float, float]] = []
    for one in scripts:  # those inside others count once
        if not outer or one[0] >= outer[-1][1]:
            outer.append(one)
    for task in mine:
        if task["name"] in ("RunTask", "ThreadControllerImpl::RunTask"):
            begins, ends = task["ts"], task["ts"] + task.get("dur", 0)
            took = sum(b - a for a, b in outer if begins <= a < ends)
            if took:
                yield took / 1000


def bytes_before_plots(url: str) -> int:
    """Scripts and styles that the page names, as they are sent."""
    with urllib.request.urlopen(url) as answer:
        page = answer.read().decode()
    named = {
        name for name in re.findall(r'(?:href|src)="(/static/[^"]+\.(?:js|css)[^"]*)"', page) if "plotly" not in name
    }
    total = 0
    for name in named:
        asked = urllib.request.Request(url.split("/experiments")[0] + name, headers={"accept-encoding": "gzip"})
        with urllib.request.urlopen(asked) as answer:
            total += len(answer.read())
    return total


def row(values: Sequence[float]) -> Json:
    low, high = min(values), max(values)
    return {"n": len(values), "p50": round(statistics.median(values)), "range": [round(low), round(high)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--home", type=Path, help="of an earlier time, or a new one, which stays")
    asked = parser.parse_args()
    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        settings = Settings(home=asked.home or Path(place) / "home", port=free_port())
        if not (settings.home / "modescape.db").exists():
            fill(settings)
        url = f"http://127.0.0.1:{settings.port}/experiments/{SLUG}"
        process, _ = start(settings)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])

        def again() -> None:
            nonlocal process
            stop(process)
            process, _ = start(settings)

        try:
            rows: Json = {}
            for name, path in PAGES.items():
                opened(browser.new_context(), url + path)  # now the server has drawn it
                rows[name] = {
                    "warm": row(painted_warm(browser, url + path, asked.rounds)),
                    "cold": row(painted(browser, url + path, asked.rounds)),
                    "cold, server just started": row(painted(browser, url + path, asked.rounds, again)),
                }
            tasks, drawn = scrolled(browser, url + "#trajectories")
            longest = sorted(tasks)[-5:][::-1]
            rows["longest script task while scrolling"] = row(longest[:1]) | {"figures": drawn, "tasks": len(tasks)}
            kilobytes = bytes_before_plots(url) / 1024
            rows["scripts and styles before any plot"] = {"said": f"{kilobytes:.1f} KiB"}
            print(f"longest script tasks, ms: {[round(ms) for ms in longest]}")
        finally:
            browser.close()
            stop(process)
    for name, found in rows.items():
        print(name, found)
    keep("browser", rows, load=load, budgets=BUDGETS)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


if __name__ == "__main__":
    main()
