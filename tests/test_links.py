"""Links that were shared: what they let read, what they do not, and that they end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from serving import Served, finished, served

from modescape import users
from modescape.acting import Actor, UserRole, acting
from modescape.errors import Forbidden, InvalidInput, NotFound
from modescape.store import Store
from modescape_api.http import sharing

TOKEN = "a token of many letters, which nobody guesses"
ADA, BOB = Actor("ada", UserRole.RESEARCHER), Actor("bob", UserRole.RESEARCHER)


# -- the store, on both databases -------------------------------------------------------------------------------------


def test_a_link_is_its_makers_until_it_ends_or_is_revoked(store: Store) -> None:
    with acting(ADA):
        row = store.links.add("experiment", "/experiments/a", "for Bob", users.digest("one"), timedelta(days=1))
        ended = store.links.add("experiment", "/experiments/a", "before", users.digest("two"), timedelta(seconds=-1))
        assert [one.name for one in store.links.all()] in (["before", "for Bob"], ["for Bob", "before"])
    found = store.links.by_secret(users.digest("one"))
    assert found is not None
    assert found.target == "/experiments/a"
    assert store.links.by_secret(users.digest("two")) is None
    assert store.links.by_secret(users.digest("three")) is None
    with acting(BOB):
        assert store.links.all() == []
        with pytest.raises(NotFound):
            store.links.revoke(row.id)
    with acting(Actor("eve", UserRole.VIEWER)), pytest.raises(Forbidden):
        store.links.add("view", "/", "x", users.digest("four"), None)
    with acting(Actor("root", UserRole.ADMIN)):
        assert {one.id for one in store.links.all()} == {row.id, ended.id}
        store.links.revoke(row.id)
    assert store.links.by_secret(users.digest("one")) is None
    assert [one.verb for one in store.deeds.page(thing=row.id)] == ["revoke", "share"]


@pytest.mark.parametrize(
    "target",
    ["", "//elsewhere.example", "https://elsewhere.example/experiments/a", "/account", "/experiments/a/figures/b",
     "/users", "/api/experiments", "/\\elsewhere", "/experiments/a#b", "/s/secret"],
)  # fmt: skip
def test_only_pages_that_are_one_thing_can_be_shared(target: str) -> None:
    with pytest.raises(InvalidInput):
        sharing.kind_of(target)


# -- followed ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("links"), token=TOKEN, open_links=True) as running:
        for name in ("one", "two", "three"):
            finished(running.laboratory, name=name)
        yield running


@pytest.fixture
def researcher(site: Served) -> Iterator[httpx.Client]:
    with site.client(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def stranger(site: Served) -> Iterator[httpx.Client]:
    with site.visitor() as client:
        yield client


def shared(researcher: httpx.Client, to: str, **more: Any) -> dict[str, Any]:
    answer = researcher.post("/api/links", json={"to": to, "name": "for a friend", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reads(client: httpx.Client, path: str) -> bool:
    answer = client.get(path, headers={"accept": "application/json, text/html;q=0.5"})
    assert answer.status_code in (200, 401, 404), (path, answer.status_code)
    return answer.status_code == 200


def test_a_link_to_an_experiment_leads_to_that_and_nothing_else(
    researcher: httpx.Client, stranger: httpx.Client, site: Served
) -> None:
    assert not reads(stranger, "/api/experiments/one")
    made = shared(researcher, "/experiments/one")
    page = stranger.get(made["url"], follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/experiments/one")
    assert "shared with you to be read" in page.text
    for gone in ("Archive", 'href="/launch', 'href="/links', 'aria-label="Main"', "Sign out"):
        assert gone not in page.text, gone
    for path in ("/api/experiments/one", "/api/experiments/one/figures/trajectories.json",
                 "/api/experiments/one/solutions", "/experiments/one/figures/trajectories"):  # fmt: skip
        assert reads(stranger, path), path
    for path in ("/", "/api/experiments", "/experiments/two", "/api/experiments/two", "/api/experiments/onee",
                 "/api/experiments/one/../two", "/api/events", "/users", "/links", "/api/links", "/account",
                 "/reports", "/data", "/compare?e=one&e=two"):  # fmt: skip
        assert not reads(stranger, path), path
    for method, path in (("POST", "/experiments/one/archive"), ("POST", "/api/experiments/one/cancel"),
                         ("DELETE", "/api/experiments/one"), ("PATCH", "/api/experiments/one"),
                         ("POST", "/api/experiments/one/selections"), ("POST", "/theme")):  # fmt: skip
        refused = stranger.request(method, path, headers={"accept": "application/json", "origin": site.url})
        assert refused.status_code == 401, (method, path, refused.status_code)
    assert researcher.delete(f"/api/links/{made['id']}").status_code == 204
    assert not reads(stranger, "/api/experiments/one")
    assert stranger.get(made["url"]).status_code == 404


def test_a_link_to_a_report_leads_to_its_figures_alone(researcher: httpx.Client, stranger: httpx.Client) -> None:
    parts = [{"kind": "figure", "experiment": "one", "figure": "trajectories"}, {"kind": "text", "markdown": "note"}]
    slug = researcher.post("/api/reports", json={"name": "Told", "blocks": parts}).json()["slug"]
    stranger.get(shared(researcher, f"/reports/{slug}")["url"])
    for path in (f"/reports/{slug}", f"/api/reports/{slug}", f"/api/reports/{slug}/export?form=ipynb",
                 "/api/experiments/one/figures/trajectories.json?theme=dark"):  # fmt: skip
        assert reads(stranger, path), path
    for path in (f"/reports/{slug}?edit=1", "/reports", "/api/experiments/one", "/experiments/one",
                 "/api/experiments/one/figures/similarity-runs.json",
                 "/api/experiments/two/figures/trajectories.json"):  # fmt: skip
        assert not reads(stranger, path), path


def test_a_link_to_a_view_leads_to_what_its_address_says(researcher: httpx.Client, stranger: httpx.Client) -> None:
    stranger.get(shared(researcher, "/compare?e=one&e=two")["url"])
    stranger.get(shared(researcher, "/?dataset=digits")["url"])  # both are remembered
    for path in ("/compare?e=one&e=two", "/compare?e=two&e=one&theme=dark", "/?dataset=digits",
                 "/api/experiments?dataset=digits", "/api/experiments/two/figures/trajectories.json"):  # fmt: skip
        assert reads(stranger, path), path
    for path in ("/compare?e=one&e=three", "/", "/?dataset=cifar10", "/api/experiments", "/api/experiments/one",
                 "/api/experiments/three/figures/trajectories.json"):  # fmt: skip
        assert not reads(stranger, path), path


def test_a_link_to_a_plot_leads_to_its_fields_and_lets_one_pick(
    researcher: httpx.Client, stranger: httpx.Client
) -> None:  # fmt: skip
    plot = "/plots?q=status%3Asucceeded&x=accuracy&y=runs&axes=runs%2Caccuracy"
    page = stranger.get(shared(researcher, plot)["url"], follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/plots")
    for gone in ('href="/?', "Draw</button>", 'action="/links', "/links?to=", 'name="ref"', "/api/experiments?",
                 'formaction="/compare"'):  # fmt: skip
        assert gone not in page.text, gone
    assert "/plots.svg?" in page.text
    for path in (f"{plot}&from.accuracy=0.2&part=picked", f"{plot}&none.runs=1", plot.replace("/plots", "/plots.svg")):
        assert reads(stranger, path), path
    for path in ("/plots", plot.replace("y=runs", "y=seconds"), f"{plot}&colour=owner",
                 plot.replace("succeeded", "failed"), plot.replace("runs%2Caccuracy", "runs%2Cnotes"),
                 "/api/experiments?q=status%3Asucceeded", "/plots.svg?x=accuracy"):  # fmt: skip
        assert not reads(stranger, path), path


def test_where_the_operator_does_not_allow_it_one_signs_in_first(site: Served, tmp_path_factory: Any) -> None:
    with served(tmp_path_factory.mktemp("closed"), token=TOKEN) as closed:
        finished(closed.laboratory, name="one")
        with closed.client(headers={"authorization": f"Bearer {TOKEN}"}) as researcher:
            url = shared(researcher, "/experiments/one")["url"]
            assert researcher.get(url, follow_redirects=True).status_code == 200
        with closed.visitor(follow_redirects=True) as stranger:
            answer = stranger.get(url)
            assert answer.url.path == "/signin"
            assert "next=%2Fexperiments%2Fone" in str(answer.url)
            assert not stranger.cookies.get(sharing.COOKIE)


def test_the_page_makes_shows_once_and_revokes(site: Served) -> None:
    with site.visitor() as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        made = client.post("/links", data={"to": "/experiments/two", "name": "by hand", "days": ""})
        assert made.status_code == 201
        assert "This address is shown once" in made.text
        page = client.get("/links").text
        assert "by hand" in page
        assert "/s/" not in page
        refused = client.post("/links", data={"to": "/experiments/nobody", "name": "x", "days": "3"})
        assert refused.status_code == 422
        (row,) = [one for one in client.get("/api/links", headers={"accept": "application/json"}).json()["items"]
                  if one["name"] == "by hand"]  # fmt: skip
        assert row["expires_at"] is None
        assert client.post(f"/links/{row['id']}/revoke").status_code == 303
        assert "by hand" not in client.get("/links").text


def test_links_and_reports_work_under_a_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings: dict[str, Any] = {"token": TOKEN, "open_links": True, "root_path": "/lab"}
    with served(tmp_path_factory.mktemp("under"), **settings) as site:
        finished(site.laboratory, name="one")
        with site.client(headers={"authorization": f"Bearer {TOKEN}"}) as researcher:
            made = researcher.post("/lab/api/links", json={"to": "/experiments/one", "name": "x"}).json()
            assert made["url"].startswith(f"{site.url}/lab/s/")
            written = researcher.post("/lab/api/reports", json={"name": "Told", "experiment": "one"})
            assert written.headers["location"] == "/lab/api/reports/told"
            page = researcher.get("/lab/reports/told", headers={"accept": "text/html"}).text
            assert 'data-src="/lab/api/experiments/one/figures/trajectories"' in page
            assert 'href="/lab/experiments/one"' in page
        with site.visitor(follow_redirects=True) as stranger:
            answer = stranger.get(made["url"])
            assert (answer.status_code, answer.url.path) == (200, "/lab/experiments/one")
            assert stranger.get("/lab/api/experiments/one/figures/trajectories.json").status_code == 200
            assert stranger.get("/lab/").url.path == "/lab/signin"
