"""What stands beside the launch form as YAML, curl, Python and a command, run: each launches the same experiment."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from serving import Served, served
from test_launching import filled_in, program

from modescape import users
from modescape.acting import UserRole
from modescape.tables import Experiment

pytestmark = pytest.mark.slow

NAMES = ("curl", "python", "command")
PASSWORD = "a long password of hers"
ODD = "it's a \"name\" $HOME `id` \\ <b>ö</b> 'MODESCAPE'"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("programs"), device="cpu") as running:
        yield running


def run(name: str, text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As somebody does who has copied it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MODESCAPE_")}
    kept |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MODESCAPE_HOME": str(folder / "elsewhere")}
    shell = [sys.executable, "-c", text] if name == "python" else [shutil.which("bash") or "bash", "-c", text]
    return subprocess.run(shell, capture_output=True, text=True, env={**kept, **environment}, cwd=folder, timeout=120)


def newest(site: Served) -> Experiment:
    return site.laboratory.store.experiments.get(site.laboratory.store.experiments.page()[0].id)


def said(row: Experiment) -> dict[str, Any]:
    return {"name": row.name, "spec": row.spec, "preset": row.preset, "notes": row.notes, "project": row.project,
            "parent": row.parent, "priority": row.priority, "tags": row.tags}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_program_launches_what_the_button_launches(name: str, site: Served, tmp_path: Path) -> None:
    with site.visitor() as client:
        launched = client.post("/api/experiments", json={"preset": "quickstart", "name": f"parent of {name}"}).json()
        parent = launched["slug"]
        more = {"name": ODD, "notes": f"-{ODD}", "project": "öl", "priority": "high", "parent": parent}
        more["tags"] = "a b,  $(ls)"
        form = filled_in(client, "quickstart", **{"training.epochs": "3", **more})
        text = program(client.post("/launch/plan", data=form).text, name)
        made = client.post("/launch", data=form)
        assert made.status_code == 303, made.text
        button = said(newest(site))
        done = run(name, text, tmp_path)
        assert done.returncode == 0, done.stderr
        row = newest(site)
        assert said(row) == button
        assert (row.name, row.notes, row.parent) == (ODD, f"-{ODD}", parent)
        assert row.tags == ["a b", "$(ls)"]
        assert f"/experiments/{row.slug}" in done.stdout
        assert row.slug != made.headers["location"].rpartition("/")[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_of_a_sweep_launches_the_sweep(name: str, site: Served, tmp_path: Path) -> None:
    with site.visitor() as client:
        form = filled_in(client, "quickstart", name=f"rates by {name}", tags="rates, paper")
        form |= {"sweep.field": "training.learning_rate", "sweep.values": "0.001, 0.003", "sweep.paired": "true"}
        text = program(client.post("/launch/plan", data=form).text, name)
        done = run(name, text, tmp_path)
        assert done.returncode == 0, done.stderr
        newest_sweep = client.get("/api/sweeps").json()["items"][0]
        assert newest_sweep["name"] == f"rates by {name}"
        found = client.get(f"/api/sweeps/{newest_sweep['slug']}").json()
        assert [one["varied"] for one in found["cells"]] == [{"training.learning_rate": v} for v in (0.001, 0.003)]
        assert found["paired"] is True
        cell = client.get(f"/api/experiments/{found['cells'][0]['experiment']['slug']}").json()
        assert cell["tags"] == ["rates", "paper"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_printed_and_the_status_says_so(name: str, site: Served, tmp_path: Path) -> None:
    with site.visitor() as client:
        form = filled_in(client, "quickstart", **{"training.epochs": "0"})
        text = program(client.post("/launch/plan", data=form).text, name)
        done = run(name, text, tmp_path)
        assert done.returncode != 0
        assert "epochs" in done.stdout + done.stderr
        assert "1 to 100" in (done.stdout + done.stderr).replace("\u202f", "")


def test_the_file_of_yaml_is_the_spec_and_names_its_schema(site: Served, tmp_path: Path) -> None:
    with site.visitor() as client:
        form = filled_in(client, "quickstart", **{"training.epochs": "3"})
        text = program(client.post("/launch/plan", data=form).text, "yaml")
        schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
        assert schema is not None
        assert client.get(schema[1]).status_code == 200
        assert (
            client.post("/api/estimate", json={"spec": yaml.safe_load(text)}).json()["spec"]["training"]["epochs"] == 3
        )
        file = tmp_path / "mine.yaml"
        file.write_text(text, encoding="utf-8")
        done = run("command", f"modescape launch mine.yaml --server {site.url} --name=mine", tmp_path)
        assert done.returncode == 0, done.stderr
        assert newest(site).spec["training"]["epochs"] == 3


@pytest.mark.parametrize("name", NAMES)
def test_who_came_in_by_signing_in_gets_the_header_of_a_token_and_never_the_token(
    name: str, tmp_path: Path, site: Served
) -> None:
    with served(tmp_path / "closed", token="t" * 32) as closed:
        closed.laboratory.store.users.add("ada", UserRole.RESEARCHER, password=users.hash_password(PASSWORD))
        with httpx.Client(base_url=closed.url, headers={"origin": closed.url}, timeout=30) as client:
            entered = client.post("/signin", data={"name": "ada", "password": PASSWORD})
            assert entered.status_code == 303, entered.text
            form = filled_in(client, "quickstart", name="hers")
            text = program(client.post("/launch/plan", data=form).text, name)
            page = html.unescape(client.get("/launch").text)
        assert "t" * 32 not in page + text
        assert "MODESCAPE_TOKEN" in text
        without = run(name, text, tmp_path)
        assert without.returncode != 0
        done = run(name, text, tmp_path, MODESCAPE_TOKEN="t" * 32)
        assert done.returncode == 0, done.stderr + done.stdout
        assert newest(closed).name == "hers"
    with site.visitor() as client:
        assert "Authorization" not in program(client.get("/launch").text, "curl"), "nobody asks for one here"
