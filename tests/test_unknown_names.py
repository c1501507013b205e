"""Experiments that a worker's plug-in, or a later version, made: a server that does not know their names shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from serving import SPEC, Served, finished, served

from modescape.claims.record import ClaimRecord
from modescape.plan import prepare
from modescape.registry import figures
from modescape.science.confidence import Word
from modescape.spec import ExperimentSpec, parse, stored, unknown
from modescape.tables import Experiment

HTML = {"accept": "text/html"}
STRANGE: dict[str, dict[str, Any]] = {
    "method": {"methods": [{"method": "their-jitter", "spread": 2, "typical": 2, "options": {"grip": 3}}]},
    "architecture": {"network": {"architecture": "their-net", "options": {"depth": 7}}},
    "data set": {"data": {**SPEC["data"], "dataset": "their-set"}},
    "data set of other images": {"ood": [{"dataset": "their-others", "images": 20}]},
    "study": {"their-study": {"images": 50}},
    "corruption": {"shift": {"corruptions": ["their_blur", "fog"], "images": 20, "members": 2}},
    "option": {"methods": [{"method": "random", "spread": 2, "typical": 2, "options": {"their-option": 3}}]},
    "margin": {"margins": {"z9": 0.5}},
    "field of a study": {"planes": [{"runs": [0, 1], "their-field": True}]},
    "value": {"training": {**SPEC["training"], "sampling": "their-order"}},
    "optimiser": {"training": {**SPEC["training"], "optimiser": "their-optimiser"}},
    "version": {"version": 2},
}
NAMES = {
    "method": "the method 'their-jitter'",
    "architecture": "the architecture 'their-net'",
    "data set": "the data set 'their-set'",
    "data set of other images": "the data set 'their-others'",
    "study": "the study 'their-study'",
    "corruption": "the corruption 'their_blur'",
    "option": "the option 'their-option of the method random'",
    "margin": "the field 'margins.z9'",
    "field of a study": "the field 'planes.0.their-field'",
    "value": "the field 'training.sampling'",
    "optimiser": "the optimiser 'their-optimiser'",
    "version": "the version 2",
    "preset": "the preset 'their-preset'",
}
ALL = {key: value for part in STRANGE.values() for key, value in part.items()}
ALL["training"] = {**STRANGE["optimiser"]["training"], "sampling": "their-order"}
ALL["methods"] = STRANGE["method"]["methods"] + STRANGE["option"]["methods"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("strange")) as site:
        yield site


@pytest.fixture(scope="module")
def plain(site: Served) -> Experiment:
    return finished(site.laboratory, name="a plain one")


# Those that the page treats each in its own way; of the others it is told by the one that has every strange name.
EACH = ("method", "version", "preset")


@pytest.fixture(
    scope="module",
    params=[
        *(
            pytest.param(name, marks=[pytest.mark.slow, *([] if name in EACH else [pytest.mark.check])])
            for name in NAMES
        ),
        "everything",
    ],
)
def strange(request: pytest.FixtureRequest, site: Served) -> tuple[Experiment, list[str]]:
    if request.param == "everything":
        return request.getfixturevalue("everything"), [*NAMES.values()]
    return made(site, request.param), [NAMES[request.param]]


@pytest.fixture(scope="module")
def everything(site: Served) -> Experiment:
    return made(site, "everything")


def made(site: Served, kind: str) -> Experiment:
    """A finished experiment whose rows are what a worker that knew the name would have left."""
    row = finished(site.laboratory, name=f"with a strange {kind}")
    spec = row.spec | (ALL if kind == "everything" else STRANGE.get(kind, {}))
    about = {
        "spec": json.dumps(spec), "dataset": spec["data"]["dataset"], "architecture": spec["network"]["architecture"],
        "preset": "their-preset" if kind in ("preset", "everything") else None, "id": row.id,
    }  # fmt: skip
    engine = sqlalchemy.create_engine(site.settings.database)
    with engine.begin() as connection:
        values = ", ".join(f"{name} = :{name}" for name in about if name != "id")
        connection.execute(sqlalchemy.text(f"UPDATE experiment SET {values} WHERE id = :id"), about)
        if kind in ("method", "everything"):
            change = "UPDATE solution SET method = 'their-jitter' WHERE method = 'random' AND experiment_id = :id"
            connection.execute(sqlalchemy.text(change), {"id": row.id})
            stages = "SELECT id, params FROM stage WHERE kind = 'sample' AND experiment_id = :id"
            for id_, params in connection.execute(sqlalchemy.text(stages), {"id": row.id}).all():
                renamed = json.dumps({**json.loads(params), "method": "their-jitter"})
                change = (
                    "UPDATE stage SET params = :params, key = replace(key, 'random', 'their-jitter') WHERE id = :id"
                )
                connection.execute(sqlalchemy.text(change), {"params": renamed, "id": id_})
    engine.dispose()
    return site.laboratory.store.experiments.get(row.id)


def test_the_page_opens_and_names_what_is_not_known(strange: tuple[Experiment, list[str]], site: Served) -> None:
    row, names = strange
    with site.client(headers=HTML) as client:
        for address in (f"/experiments/{row.slug}", f"/experiments/{row.slug}/figures/plane"):
            text = shown(client, address)
            assert "This server does not know" in text, address
            assert all(name.replace("'", "&#39;") in text for name in names), address
        document = client.get(f"/api/experiments/{row.slug}", headers={"accept": "application/json"}).json()
    assert sorted(document["unknown"]) == sorted(names)
    assert document["spec"] == row.spec


def test_its_figures_tables_and_comparisons_open(
    strange: tuple[Experiment, list[str]], plain: Experiment, site: Served
) -> None:
    row, _ = strange
    api, compared = f"/api/experiments/{row.slug}", f"compare?e={row.slug}&e={plain.slug}"
    with site.client(headers=HTML) as client:
        shown(client, f"/{compared}")
    with site.client() as client:
        tables = ("runs", "solutions", "measurements", "matrices", "series")
        for address in (api, f"{api}/figures", f"{api}/solutions?format=csv", f"/api/{compared}",
                        *(f"{api}/{name}" for name in tables)):  # fmt: skip
            assert client.get(address).status_code == 200, address
        for name in figures:
            assert client.get(f"{api}/figures/{name}.json").status_code in (200, 409), name


@pytest.mark.slow
def test_every_page_list_and_form_of_a_figure_opens_where_one_has_every_strange_name(
    everything: Experiment, site: Served
) -> None:
    page, api = f"/experiments/{everything.slug}", f"/api/experiments/{everything.slug}"
    with site.client(headers=HTML) as client:
        for address in ("/", "/?sort=disagreement", "/paper", "/workers", "/gallery", "/catalogue", "/data", page,
                        f"/compare?e={everything.slug}"):  # fmt: skip
            shown(client, address)
        for name in figures:
            for tab in ("plot", "data", "definition"):
                shown(client, f"{page}/figures/{name}?tab={tab}")
    with site.client() as client:
        for address in ("/api/experiments", "/api/experiments?format=csv", "/api/paper"):
            assert client.get(address).status_code == 200, address
        for name in figures:
            for form in ("csv", "html"):
                assert client.get(f"{api}/figures/{name}.{form}").status_code in (200, 409), name


def test_it_can_be_exported_and_not_launched_again(
    strange: tuple[Experiment, list[str]], site: Served, tmp_path: Path
) -> None:
    from modescape.laboratory import export

    row, names = strange
    assert export(site.laboratory, row.slug, tmp_path / "out") > 3
    assert json.loads((tmp_path / "out" / "spec.json").read_text()) == row.spec
    with site.client(headers=HTML) as client:
        text = shown(client, f"/launch?from={row.slug}")
        assert "Not loaded here: " in text
        assert all(name.replace("'", "&#39;") in text for name in names)
        assert ("before this can launch" in text) == (names != [NAMES["preset"]])


def shown(client: httpx.Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code, answer.text[-2000:])
    return answer.text


@pytest.mark.slow
def test_a_claim_that_is_not_known_is_left_aside(site: Served) -> None:
    """What a later version, or a plug-in's claim, has judged."""
    row = finished(site.laboratory, name="with a strange claim")
    record = ClaimRecord("z9", "Their claim", "mean", Word.HOLDS, "because", 0.1, 3, 600, "runs").to_json()
    engine = sqlalchemy.create_engine(site.settings.database)
    with engine.begin() as connection:
        finding = json.dumps({**row.finding, "claims": {"z9": {**record, "their-field": 1}}})
        values = {"finding": finding, "id": row.id}
        connection.execute(sqlalchemy.text("UPDATE experiment SET finding = :finding WHERE id = :id"), values)
    engine.dispose()
    with site.client(headers=HTML) as client:
        for address in (
            "/",
            "/paper",
            f"/experiments/{row.slug}",
            f"/compare?e={row.slug}",
            f"/launch?from={row.slug}",
        ):
            shown(client, address)
        document = client.get(f"/api/experiments/{row.slug}", headers={"accept": "application/json"})
    assert document.status_code == 200
    assert document.json()["findings"]["claims"] == []


# ---- what is read ----


def test_only_stored_specs_may_hold_unknown_names() -> None:
    from modescape.errors import InvalidInput

    for part in STRANGE.values():
        document = {**SPEC, **part}
        with pytest.raises(InvalidInput, match=r"their|z9|version"):
            prepare(document, ())
        assert isinstance(stored(document), ExperimentSpec)
        assert len(unknown(document)) == 1
    assert unknown(SPEC) == []


def test_a_stored_spec_is_read_as_it_was_promised() -> None:
    whole = parse(SPEC)
    assert stored(whole.model_dump(mode="json")).canonical() == whole.canonical()
    strange = stored({**SPEC, **STRANGE["method"]})
    assert strange.methods[0].options == {"grip": 3}
