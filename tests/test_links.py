"""Links that were shared: what they let read, what they do not, and that they end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from serving import SPEC, Served, finished, served
from sqlalchemy import bindparam, select, text

from modescape import users
from modescape.acting import Actor, UserRole, acting
from modescape.database import downgrade, open_database, upgrade
from modescape.errors import Forbidden, InvalidInput, NotFound
from modescape.store import Store
from modescape.tables import SharedLink, UtcDateTime
from modescape.testing.stores import create
from modescape_api.http import sharing

TOKEN = "a token of many letters, which nobody guesses"
ADA, BOB = Actor("ada", UserRole.RESEARCHER), Actor("bob", UserRole.RESEARCHER)


# -- the store, on both databases -------------------------------------------------------------------------------------


def test_a_link_is_its_makers_until_it_ends_or_is_revoked(store: Store) -> None:
    with acting(ADA):
        row = store.links.add("experiment", "/experiments/a", "for Bob", users.digest("one"), timedelta(days=1),
                              without_sign_in=True)  # fmt: skip
        ended = store.links.add("experiment", "/experiments/a", "before", users.digest("two"), timedelta(seconds=-1),
                                without_sign_in=True)  # fmt: skip
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
        store.links.add("view", "/", "x", users.digest("four"), timedelta(days=1))
    with acting(Actor("root", UserRole.ADMIN)):
        assert {one.id for one in store.links.all()} == {row.id, ended.id}
        store.links.revoke(row.id)
    assert store.links.by_secret(users.digest("one")) is None
    assert [one.verb for one in store.deeds.page(thing=row.id)] == ["revoke", "share"]


def hold(store: Store, secret: str) -> bool:
    return store.links.by_secret(users.digest(secret)) is not None


def lent(store: Store, secret: str, *things: str) -> SharedLink:
    return store.links.add("view", "/x", "x", users.digest(secret), timedelta(days=1), things)


def test_a_link_ends_with_whatever_it_is_of(store: Store) -> None:
    with acting(ADA):
        one, two = (create(store, name=name) for name in ("one", "two"))
        report = store.reports.create("told", [])
        sweep = store.sweeps.create(name="swept", document={}, cells=[]).id
        for secret, things in (("one", [one.id]), ("both", [one.id, two.id]), ("two", [two.id]),
                               ("report", [report.id]), ("sweep", [sweep]), ("list", [])):  # fmt: skip
            lent(store, secret, *things)
        store.experiments.archive("one")
        assert hold(store, "one")
        store.experiments.purge("one")
        assert [hold(store, secret) for secret in ("one", "both", "two", "list")] == [False, False, True, True]
        again = create(store, name="one")
        assert (again.slug, hold(store, "one")) == ("one", False)
        with pytest.raises(NotFound, match="deleted in this moment"):
            lent(store, "late", one.id)
        store.reports.remove("told")
        assert not hold(store, "report")
        store.sweeps.archive(sweep)
        store.sweeps.forget(sweep)
        assert [hold(store, secret) for secret in ("sweep", "two")] == [False, True]


def test_a_link_holds_while_its_maker_may_share(store: Store) -> None:
    store.users.add("grace", UserRole.ADMIN, "a hash")
    store.users.add("ada", UserRole.RESEARCHER, None)
    with acting(ADA):
        row = lent(store, "ada's")
    store.users.change("ADA", disabled=True)
    assert not hold(store, "ada's")
    store.users.change("ada", disabled=False)
    assert hold(store, "ada's")
    store.users.change("ada", role=UserRole.VIEWER)
    assert not hold(store, "ada's")
    with acting(Actor("ada", UserRole.VIEWER)):
        assert [one.id for one in store.links.all()] == [row.id]
        store.links.revoke(row.id)
    store.users.change("ada", role=UserRole.RESEARCHER)
    assert not hold(store, "ada's")
    with acting(ADA):
        lent(store, "another")
    store.users.remove("ada")
    assert not hold(store, "another")
    assert store.links.all() == []
    with acting(ADA):  # a token of hers that was being looked at when she was removed
        lent(store, "late")
    assert not hold(store, "late")


def test_who_follows_a_link_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with acting(ADA):
        row = lent(store, "a")
    with monkeypatch.context() as broken:
        broken.setattr(store._database, "writing", lambda: pytest.fail("it writes"))
        assert hold(store, "a")
        with acting(ADA):
            assert store.links.all()[0].used_at is not None  # as far as this server knows

    def kept() -> Any:
        with store._database.reading() as session:
            return session.scalar(select(SharedLink.used_at).where(SharedLink.id == row.id))

    assert kept() is None
    with monkeypatch.context() as full:
        full.setattr(store._database, "writing", lambda: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OSError, match="no room"):
            store.links.write_followed()
    store.links.write_followed()
    first = kept()
    assert first is not None
    store.links.write_followed()
    assert kept() == first


def test_one_user_shares_so_many_links_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modescape.store.links.MOST", 2)
    with acting(ADA):
        lent(store, "a")
        lent(store, "b")
        with pytest.raises(InvalidInput, match="2 links already"):
            lent(store, "c")
    with acting(BOB):
        lent(store, "d")


def test_links_of_before_end_with_their_things_too(store: Store) -> None:
    with acting(ADA):
        for name in ("one", "gone"):
            create(store, name=name)
        store.reports.create("told", [])
    store.users.add("ada", UserRole.RESEARCHER, None)
    downgrade(store.url, "0024")
    targets = ("/experiments/one", "/experiments/gone", "/reports/told", "/compare?e=one&e=gone", "/?method=dropout",
               "/plots?method=dropout&x=n", "/plots?x=n", "/plots?e=gone&e=one", "/?sort=name", "/")  # fmt: skip
    made, ended = datetime.now(UTC), datetime(2026, 1, 2, tzinfo=UTC)
    columns = "id, digest, kind, target, name, created_by, created_at, expires_at"
    engine = open_database(store.url)
    with engine.begin() as connection:
        for target in targets:
            for maker in ("Ada", "operator"):
                values = {"id": f"{maker} {target}", "target": target, "maker": maker, "at": made,
                          "ends": ended if (maker, target) == ("operator", "/reports/told") else None}  # fmt: skip
                insert = f"INSERT INTO shared_link ({columns}) VALUES (:id, :id, 'x', :target, 'x', :maker, :at, :ends)"
                moments = [bindparam(name, type_=UtcDateTime()) for name in ("at", "ends")]
                connection.execute(text(insert).bindparams(*moments), values)
        connection.execute(text("DELETE FROM experiment WHERE slug = 'gone'"))
    engine.dispose()
    upgrade(store.url)
    found = {one.id: one for one in store.links.all()}
    assert len(found) == len(targets) * 2
    one, told = store.experiments.get("one").id, store.reports.get("told").id
    assert found["Ada /experiments/one"].things == [one]
    assert found["Ada /reports/told"].things == [told]
    holding = {id_ for id_, row in found.items() if row.expires_at > made + timedelta(days=300)}
    assert holding == {
        "Ada /experiments/one", "Ada /reports/told", "Ada /?method=dropout",
        "Ada /plots?method=dropout&x=n", "operator /plots?method=dropout&x=n", "operator /plots?x=n",
        "operator /experiments/one", "operator /?method=dropout", "operator /?sort=name", "operator /",
    }  # fmt: skip
    assert found["operator /reports/told"].expires_at == ended
    downgrade(store.url, "0024")
    upgrade(store.url)
    assert {one.id: one.expires_at for one in store.links.all()} == {id_: row.expires_at for id_, row in found.items()}


@pytest.mark.parametrize(
    "target",
    ["", "//elsewhere.example", "https://elsewhere.example/experiments/a", "/account", "/experiments/a/figures/b",
     "/users", "/api/experiments", "/\\elsewhere", "/experiments/a#b", "/s/secret"],
)  # fmt: skip
def test_only_pages_that_are_one_thing_can_be_shared(target: str, sqlite_url: str) -> None:
    store = Store(sqlite_url)
    with pytest.raises(InvalidInput):
        sharing.led(store, target)
    store.close()


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
    answer = researcher.post("/api/links", json={"to": to, "name": "for a friend", "without_sign_in": True, **more})
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


@pytest.mark.slow
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
                 "/api/compare/figures/trajectories.json?e=one&e=two",
                 "/api/experiments?dataset=digits", "/api/experiments/two/figures/trajectories.json"):  # fmt: skip
        assert reads(stranger, path), path
    for path in ("/compare?e=one&e=three", "/api/compare/figures/trajectories.json?e=one&e=three",
                 "/", "/?dataset=cifar10", "/api/experiments", "/api/experiments/one",
                 "/api/experiments/three/figures/trajectories.json"):  # fmt: skip
        assert not reads(stranger, path), path


@pytest.mark.slow
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
    refused = researcher.post("/api/links", json={"to": "/plots?accuracyy__gte=1&x=runs", "name": "x"})
    assert refused.status_code == 422, "what is no question would share everything"
    for path in ("/plots", plot.replace("y=runs", "y=seconds"), f"{plot}&colour=owner",
                 plot.replace("succeeded", "failed"), plot.replace("runs%2Caccuracy", "runs%2Cnotes"),
                 "/api/experiments?q=status%3Asucceeded", "/plots.svg?x=accuracy"):  # fmt: skip
        assert not reads(stranger, path), path


def test_a_condition_of_a_list_is_no_way_of_looking_at_it(researcher: httpx.Client, stranger: httpx.Client) -> None:
    stranger.get(shared(researcher, "/?method=random&q=one&q=two&sort=name")["url"])
    for path in ("/?q=one&method=random&q=two", "/?method=random&q=one&q=two&sort=-name&limit=5&columns=name,seconds",
                 "/api/experiments?q=one&q=two&method=random&format=csv"):  # fmt: skip
        assert reads(stranger, path), path
    for path in ("/?q=one&q=two", "/?method=random", "/", "/?sort=name", "/api/experiments",
                 "/?method=random&q=two&q=one",
                 "/?method=random&q=one&q=two&archived=any", "/?method=random&q=one&q=two&method=dropout",
                 "/?view=x"):  # fmt: skip
        assert not reads(stranger, path), path


def test_the_list_of_everything_is_shared_by_admins_alone(site: Served, researcher: httpx.Client) -> None:
    site.laboratory.store.users.add("grace", UserRole.RESEARCHER, None)
    token = researcher.post("/api/tokens", json={"name": "t", "user": "grace"}).json()["token"]
    with site.client(headers={"authorization": f"Bearer {token}"}) as grace:
        for bare in ("/", "/plots?x=runs&from.runs=2", "/?sort=name", "/?columns=name&archived=true", "/?limit=5"):
            refused = grace.post("/api/links", json={"to": bare, "name": "x"})
            assert (refused.status_code, "admin" in refused.json()["detail"]) == (403, True), bare
        for wrong in ("/?acuracy=1", "/?accuracy__gte=much", "/compare", "/compare?pictures=beside"):
            assert grace.post("/api/links", json={"to": wrong, "name": "x"}).status_code == 422, wrong
        shared(grace, "/?dataset=digits")
        assert grace.post("/api/links", json={"to": "/?dataset=digits", "name": "x", "days": None}).status_code == 422
    shared(researcher, "/")


def test_a_view_is_shared_as_what_it_asks_for(site: Served, researcher: httpx.Client, stranger: httpx.Client) -> None:
    view = site.laboratory.store.views.add("Digits", "dataset=digits&sort=name")
    made = shared(researcher, f"/?view={view.slug}")
    page = stranger.get(made["url"], follow_redirects=True)
    assert (page.status_code, page.url.path, page.url.params.get("dataset")) == (200, "/", "digits")
    site.laboratory.store.views.change(view.slug, query="dataset=cifar10")
    assert reads(stranger, "/?dataset=digits")
    assert not reads(stranger, "/?dataset=cifar10")


def test_a_shared_list_and_comparison_name_nothing_else(
    site: Served, researcher: httpx.Client, stranger: httpx.Client
) -> None:
    other = {**SPEC, "data": {**SPEC["data"], "dataset": "digits-0-4", "train_images": 60, "test_images": 30}}
    waiting = site.laboratory.create(other, name="a waiting one")
    site.laboratory.store.views.add("A private view", "q=private")
    try:
        whole = researcher.get("/", headers={"accept": "text/html"}).text
        for name in ("a waiting one", "A private view"):
            assert name in whole
        for to in ("/?dataset=digits", "/compare?e=one&e=two"):
            page = stranger.get(shared(researcher, to)["url"], follow_redirects=True).text
            assert "one" in page
            for name in ("waiting", "A private view", '<option value="three">'):
                assert name not in page, (to, name)
    finally:
        site.laboratory.store.experiments.archive(waiting.id)


def test_pictures_of_a_comparison_and_of_a_sweep_come_with_it(
    site: Served, researcher: httpx.Client, stranger: httpx.Client
) -> None:
    asked = {"name": "pair", "base": SPEC, "over": {"training.learning_rate": [0.01, 0.02]}}
    sweep = researcher.post("/api/sweeps", json=asked)
    assert sweep.status_code == 201, sweep.text
    cell = site.laboratory.store.sweeps.get("pair").experiments[0].slug
    stranger.get(shared(researcher, "/compare?e=one&e=two")["url"])
    stranger.get(shared(researcher, "/sweeps/pair")["url"])
    for path in ("/api/compare?e=one&e=two", "/api/compare/figures/trajectories.json?e=one&e=two&split=test",
                 "/api/compare/figures/plane.csv?e=two", "/sweeps/pair?show=plane", "/api/sweeps/pair",
                 "/api/sweeps/pair/figure.json?y=accuracy", "/sweeps/pair?show=plane&y=accuracy"):  # fmt: skip
        answer = stranger.get(path, headers={"accept": "application/json, text/csv, text/html;q=0.5"})
        assert answer.status_code in (200, 409), (path, answer.text)
    assert stranger.get(f"/api/experiments/{cell}/figures/plane.json").status_code != 401
    for path in ("/api/compare/figures/plane.csv?e=one&e=three", "/api/compare?e=one&e=three", f"/experiments/{cell}",
                 "/sweeps", "/api/sweeps", "/api/experiments/three/figures/plane.json"):  # fmt: skip
        assert not reads(stranger, path), path


def test_what_comes_under_a_name_later_is_not_what_was_shared(
    site: Served, researcher: httpx.Client, stranger: httpx.Client
) -> None:
    first = finished(site.laboratory, name="of that name")
    parts = [{"kind": "figure", "experiment": first.slug, "figure": "trajectories"}]
    told = researcher.post("/api/reports", json={"name": "Told of it", "blocks": parts}).json()["slug"]
    for to in (f"/experiments/{first.id}", f"/compare?e=one&e={first.slug}", f"/reports/{told}"):
        stranger.get(shared(researcher, to)["url"])
    its = [f"/api/experiments/{first.slug}", f"/compare?e=one&e={first.slug}",
           f"/api/experiments/{first.slug}/figures/trajectories.json"]  # fmt: skip
    assert all(reads(stranger, path) for path in its)
    site.laboratory.store.experiments.archive(first.id)
    site.laboratory.store.experiments.purge(first.id)
    second = finished(site.laboratory, name="of that name")
    assert (second.slug, second.id != first.id) == (first.slug, True)
    assert reads(researcher, its[0])
    assert not any(reads(stranger, path) for path in its)
    assert reads(stranger, f"/reports/{told}")
    assert second.name not in stranger.get(f"/reports/{told}").text  # the page says that it is gone


@pytest.mark.slow
def test_where_the_operator_does_not_allow_it_one_signs_in_first(site: Served, tmp_path_factory: Any) -> None:
    with served(tmp_path_factory.mktemp("closed"), token=TOKEN) as closed:
        finished(closed.laboratory, name="one")
        with closed.client(headers={"authorization": f"Bearer {TOKEN}"}) as researcher:
            url = shared(researcher, "/experiments/one", without_sign_in=False)["url"]
            asked = {"to": "/experiments/one", "name": "x", "without_sign_in": True}
            refused = researcher.post("/api/links", json=asked)
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "without_sign_in")
            assert researcher.get(url, follow_redirects=True).status_code == 200
        with closed.visitor(follow_redirects=True) as stranger:
            answer = stranger.get(url)
            assert answer.url.path == "/signin"
            assert "next=%2Fexperiments%2Fone" in str(answer.url)
            assert not stranger.cookies.get(sharing.COOKIE)


def test_a_link_is_read_without_signing_in_only_where_it_says_so(
    researcher: httpx.Client, stranger: httpx.Client, site: Served
) -> None:
    closed = shared(researcher, "/experiments/three", without_sign_in=False)
    answer = stranger.get(closed["url"], follow_redirects=True)
    assert answer.url.path == "/signin"
    assert not reads(stranger, "/api/experiments/three")
    with site.visitor(follow_redirects=True) as reader:  # with the cookie of another link, too
        reader.get(shared(researcher, "/experiments/one")["url"])
        secrets = f"{reader.cookies[sharing.COOKIE]}.{closed['url'].rpartition('/')[2]}"
        kept = {"cookie": f"{sharing.COOKIE}={secrets}", "accept": "application/json"}
        assert httpx.get(f"{site.url}/api/experiments/one", headers=kept).status_code == 200
        assert httpx.get(f"{site.url}/api/experiments/three", headers=kept).status_code == 401


@pytest.mark.slow
def test_the_page_says_what_can_be_done_without_naming_settings_to_who_cannot_change_them(
    site: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with served(tmp_path_factory.mktemp("words"), token=TOKEN) as closed:
        finished(closed.laboratory, name="one")
        store, secret = closed.laboratory.store, users.TOKEN_PREFIX + "b" * 40
        with acting(Actor("root", UserRole.ADMIN)):
            bob = store.users.add("bob", UserRole.RESEARCHER, password=None)
            store.reports.create("told", [])
        with acting(Actor("bob", UserRole.RESEARCHER)):
            store.users.add_token(bob.name, "laptop", users.digest(secret), None)
        pages = {}
        for who, token in (("admin", TOKEN), ("researcher", secret)):
            headers = {"authorization": f"Bearer {token}", "accept": "text/html"}
            for to in ("/reports/told", "/experiments/one"):
                pages[who, to] = httpx.get(f"{closed.url}/links", params={"to": to}, headers=headers).text
    assert "MODESCAPE_OPEN_LINKS" in pages["admin", "/experiments/one"]
    for page in (pages["researcher", "/reports/told"], pages["researcher", "/experiments/one"]):
        assert "MODESCAPE_" not in page
        assert "ask whoever runs this server" in page
        assert "without_sign_in" not in page
    assert 'href="/api/reports/told/export?form=html"' in pages["researcher", "/reports/told"]
    assert 'href="/reports?experiment=one"' in pages["researcher", "/experiments/one"]
    with site.visitor() as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        page = client.get("/links?to=/experiments/one").text
        assert 'name="without_sign_in"' in page
        asked = {"to": "/experiments/one", "name": "ticked", "days": "3", "without_sign_in": "true"}
        assert client.post("/links", data=asked).status_code == 201
        (row,) = [one for one in site.laboratory.store.links.found(select(SharedLink)) if one.name == "ticked"]
        assert row.without_sign_in
        assert "whoever has it" in client.get("/links").text


def test_links_of_before_are_read_as_they_were(store: Store) -> None:
    with acting(ADA):
        things, lifetime = [create(store, name="a").id], timedelta(days=1)
        row = store.links.add("experiment", "/experiments/a", "x", users.digest("one"), lifetime, things)
    downgrade(store.url, "0024")
    upgrade(store.url)
    found = store.links.by_secret(users.digest("one"))
    assert found is not None
    assert (found.id, found.without_sign_in) == (row.id, True)


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
        lasts = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
        assert lasts == timedelta(days=30)  # nobody has said how long, and it ends all the same
        assert client.post(f"/links/{row['id']}/revoke").status_code == 303
        assert "by hand" not in client.get("/links").text


@pytest.mark.slow
def test_links_and_reports_work_under_a_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings: dict[str, Any] = {"token": TOKEN, "open_links": True, "root_path": "/lab"}
    with served(tmp_path_factory.mktemp("under"), **settings) as site:
        finished(site.laboratory, name="one")
        with site.client(headers={"authorization": f"Bearer {TOKEN}"}) as researcher:
            asked = {"to": "/experiments/one", "name": "x", "without_sign_in": True}
            made = researcher.post("/lab/api/links", json=asked).json()
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
