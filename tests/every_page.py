"""A home in which everything has happened, and the address of each page and state of a page, by name.

    with everything(folder) as site:      # a server over the saved home, with what else there can be
        for name, stop in PAGES.items():
            visit(page, stop)             # opened, and brought to the state that its name says

Made for checks that ask the same of all pages: axe-core's rules, and pictures.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import saved_home
from serving import SPEC, Served, SmallRunner, finished, served

from modescape import users
from modescape.acting import UserRole
from modescape.executor import Executor, Machine
from modescape.records import Progress, StageOutput
from modescape.tables import Experiment

if TYPE_CHECKING:
    from playwright.sync_api import Page

SAVED = Path(__file__).parent / "saved"
TOKEN = "a secret of some length"
PASSWORD = "ada has a long password"
EXPERIMENTS = (
    "every-method", "fair-strengths", "other-images", "between-optima", "where-difference-comes-from", "with-failures",
)  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """One state of one page. opened: what its user does there first."""

    path: str
    opened: Callable[[Page], None] | None = None


class _Failing(SmallRunner):
    """Its comparison goes wrong, as a stage that needs more memory than there is."""

    def _compare(self, *told: Any) -> StageOutput:
        raise MemoryError("Unable to allocate 11.9 GiB for an array with shape (40000, 40000)")


def _spec(seed: int, **more: Any) -> dict[str, Any]:
    return {**SPEC, "ensemble": {"runs": 2, "seed": seed}, **more}


def _work(site: Served, row: Experiment, runner: SmallRunner, stages: int | None = None) -> None:
    laboratory = site.laboratory
    machine = Machine(device="cpu", title="test", numerics="test")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, runner=runner, machine=machine)
    if stages is None:
        executor.drain(experiment_id=row.id)
        return
    for _ in range(stages):
        lease = executor._claim(executor.machine.queues, row.id)
        assert lease is not None
        executor.work(lease)


def _fill(site: Served, later: Callable[[], None]) -> None:
    laboratory, store = site.laboratory, site.laboratory.store
    later()
    finished(laboratory, name="Put away")
    store.experiments.archive("put-away")
    later()
    _work(site, laboratory.create(_spec(11), name="Went wrong"), _Failing())
    for seed, (name, stages) in enumerate({"Waiting": 0, "Taking a break": 2, "Given up": 3}.items()):
        later()
        row = laboratory.create(_spec(20 + seed), name=name)
        _work(site, row, SmallRunner(), stages)
    store.experiments.pause("taking-a-break")
    store.experiments.cancel("given-up")
    later()
    row = laboratory.create(_spec(30, ensemble={"runs": 4, "seed": 30}), name="Under way")
    _work(site, row, SmallRunner(), 5)
    lease = store.leases.claim("a worker", experiment_id=row.id, lease_seconds=1e6)
    assert lease is not None
    store.leases.beat(lease, Progress(5, 10, {"epoch": 1.0, "loss": 0.7}))
    later()
    with site.client() as client:
        _post(client, "/api/sweeps", {"name": "Two rates", "base": _spec(40), "over": {"training.epochs": [2, 3]}})
        _post(client, "/api/views", {"name": "Accurate ones", "query": "accuracy__gte=0.5&sort=-accuracy"})
        report = {
            "name": "What it is worth",
            "blocks": [
                {"kind": "text", "markdown": "# Findings\n\nRuns reach [[every-method: accuracy]], $x^2$.\n\n"
                                             "| a | b |\n|-|-:|\n| 1 | 2 |"},
                {"kind": "figure", "experiment": "every-method", "figure": "plane"},
                {"kind": "claims", "experiment": "every-method"},
                {"kind": "numbers", "experiments": ["every-method", "fair-strengths"]},
                {"kind": "methods"},
                {"kind": "references"},
            ],
        }  # fmt: skip
        _post(client, "/api/reports", report)
        _post(client, "/api/links", {"to": "/reports/what-it-is-worth", "name": "For a supervisor"})
        later()
        _members(client)


def _post(client: httpx.Client, path: str, document: Mapping[str, Any]) -> Any:
    answer = client.post(path, json=document)
    assert answer.status_code in (200, 201, 202), (path, answer.text)
    return answer.json()


def _members(client: httpx.Client) -> None:
    """An ensemble made elsewhere that still waits for members."""
    random = np.random.default_rng(0)
    truth = np.arange(40) % 5

    def send(values: np.ndarray[Any, Any]) -> str:
        file = io.BytesIO()
        np.save(file, values)
        digest = hashlib.sha256(file.getvalue()).hexdigest()
        client.put(f"/api/uploads/{digest}", content=file.getvalue()).raise_for_status()
        return digest

    asked = {"name": "From elsewhere", "planned": 3, "recipe": "same", "truth": {"test": send(truth)}}
    id_ = _post(client, "/api/imports", asked)["id"]
    for number in range(2):
        logits = random.normal(size=(40, 5)).astype(np.float32)
        logits[np.arange(40), truth] += 2
        files = [{"name": "test.logits.npy", "sha256": send(logits)}]
        client.put(f"/api/imports/{id_}/members/{number}", json={"files": files, "seed": number}).raise_for_status()


@contextmanager
def everything(home: Path, later: Callable[[], None] = lambda: None) -> Iterator[Served]:
    """A server over a home in which everything has happened, for who sits at the machine. later: called before each new
    experiment, by whoever holds the clock."""
    saved_home.opened(SAVED, home)
    with served(home) as site:
        _fill(site, later)
        yield site


@contextmanager
def lab(home: Path) -> Iterator[Served]:
    """A server that asks who one is: ada, an admin, and two others."""
    with served(home, token=TOKEN) as site:
        store = site.laboratory.store
        for name, role in (("ada", UserRole.ADMIN), ("bob", UserRole.RESEARCHER), ("vera", UserRole.VIEWER)):
            store.users.add(name, role, users.hash_password(PASSWORD))
        store.users.add_token("ada", "laptop", users.digest("laptop"), timedelta(days=30))
        finished(site.laboratory, name="of the lab")
        yield site


def sign_in(page: Page) -> None:
    page.goto("/signin")
    page.get_by_label("Name", exact=True).fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    page.wait_for_url("**/")


# ---- the states ----


def _wrong_launch(page: Page) -> None:
    page.locator('[name="ensemble.runs"]').fill("none")
    page.locator('[name="training.epochs"]').fill("-3")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("alert").first.wait_for()


def _keys(page: Page) -> None:
    page.locator("h1").first.click()
    page.keyboard.press("?")
    page.locator("#keys").wait_for()


def _searching(page: Page) -> None:
    page.locator("#search").fill("accuracy>0.9 nonsense:")
    page.locator(".offered").first.wait_for()


def _menus(page: Page) -> None:
    for menu in page.locator("details:not([open]) > summary").all():
        if menu.is_visible():
            menu.evaluate("one => { one.parentElement.open = true; }")


def _rows(page: Page) -> None:
    for box in page.locator("input[name=ref]").all()[:2]:
        if box.is_visible():
            box.check()


def _selection(page: Page) -> None:
    page.locator("#selection").wait_for()
    page.locator("#selection").get_by_role("button", name="Table").click()


def _term(page: Page) -> None:
    page.locator(".verdict .term").first.focus()
    page.locator(".def:popover-open").wait_for()


PAGES: dict[str, Stop] = {
    "list": Stop("/"),
    "list, chosen": Stop("/", _rows),
    "list, menus open": Stop("/", _menus),
    "list, being searched": Stop("/", _searching),
    "list, filtered": Stop("/?status=succeeded&q=saved&nonsense=1"),
    "list, in groups": Stop("/?group=dataset"),
    "list, nothing found": Stop("/?q=nothing-such"),
    "archive": Stop("/?archived=true"),
    "keys": Stop("/", _keys),
    **{slug: Stop(f"/experiments/{slug}") for slug in EXPERIMENTS},
    "experiment, all open": Stop("/experiments/every-method?open=log,files,missing", _menus),
    "experiment, selection": Stop("/experiments/every-method?sel=0-3", _selection),
    "experiment, a word": Stop("/experiments/every-method", _term),
    "waiting": Stop("/experiments/waiting"),
    "running": Stop("/experiments/under-way"),
    "paused": Stop("/experiments/taking-a-break"),
    "cancelled": Stop("/experiments/given-up"),
    "failed": Stop("/experiments/went-wrong"),
    "archived": Stop("/experiments/put-away"),
    "growing": Stop("/experiments/from-elsewhere"),
    "figure": Stop("/experiments/every-method/figures/plane"),
    "figure, maps": Stop("/experiments/between-optima/figures/landscape"),
    "figure, data": Stop("/experiments/every-method/figures/plane?tab=data"),
    "figure, definition": Stop("/experiments/every-method/figures/plane?tab=definition"),
    "images": Stop("/experiments/every-method/examples"),
    "launch": Stop("/launch"),
    "launch, a preset": Stop("/launch?preset=fig-6", _menus),
    "launch, blank": Stop("/launch?preset=blank"),
    "launch, a clone": Stop("/launch?from=other-images"),
    "launch, errors": Stop("/launch?preset=quickstart", _wrong_launch),
    "import": Stop("/import", _menus),
    "compare, nothing": Stop("/compare"),
    "compare": Stop("/compare?e=every-method&e=fair-strengths"),
    "compare, side by side": Stop("/compare?e=every-method&e=other-images&pictures=beside"),
    "sweeps": Stop("/sweeps"),
    "sweep": Stop("/sweeps/two-rates"),
    "reports": Stop("/reports"),
    "report": Stop("/reports/what-it-is-worth"),
    "report, edited": Stop("/reports/what-it-is-worth?edit=1"),
    "links": Stop("/links?to=/experiments/every-method"),
    "data": Stop("/data", _menus),
    "workers": Stop("/workers"),
    "catalogue": Stop("/catalogue"),
    "paper": Stop("/paper"),
    "corruptions": Stop("/gallery?dataset=digits&image=3"),
    "definitions": Stop("/science"),
    "a chapter": Stop("/science/a"),
    "API": Stop("/api/docs"),
    "not found": Stop("/nothing-here"),
}
BEHIND_SIGN_IN: dict[str, Stop] = {
    "account": Stop("/account"),
    "users": Stop("/users", _menus),
    "deeds": Stop("/deeds"),
    "notices": Stop("/notices"),
    "list of a lab": Stop("/"),
}


_DRAWN = """one => one.querySelector(".plot .main-svg") || one.classList.contains("folded")
    || one.querySelector("[data-why]")?.textContent.trim() !== "Loading" """


def visit(page: Page, stop: Stop, *, whole: bool = True) -> None:
    """Open a page in its state, with every figure drawn that can be; not whole: those on its first screen."""
    page.goto(stop.path, wait_until="load")
    if stop.opened is not None:
        stop.opened(page)
    for figure in page.locator("[data-figure]:has(.plot):visible").all():
        if not whole and not figure.evaluate("one => one.getBoundingClientRect().y < innerHeight"):
            break
        figure.scroll_into_view_if_needed()
        page.wait_for_function(_DRAWN, arg=figure.element_handle())
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
