"""docker-compose.yml and the example for Kubernetes: held against the published schemas; what they start runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import postgres
import psycopg
import pytest
import yaml
from ports import free_port
from serving import served
from sqlalchemy import make_url
from test_proxy import TOKEN, _nginx

from modescape.database import schema_state, upgrade
from modescape.settings import Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
KUBERNETES: dict[str, Any] = yaml.safe_load(
    (ROOT / "examples" / "kubernetes" / "modescape.yaml").read_text(encoding="utf-8")
)
VERSIONS = ("1.28", "1.31")


def content(name: str) -> str:
    """A file that the composition puts into a container, as the container has it."""
    text: str = COMPOSE["configs"][name]["content"]
    return text.replace("$$", "$")


def pods() -> list[tuple[str, dict[str, Any]]]:
    return [
        (one["metadata"]["name"], one["spec"]["template"]["spec"])
        for one in KUBERNETES["items"] if one["kind"] in ("Deployment", "Job")
    ]  # fmt: skip


def test_the_composition_keeps_to_the_published_schema() -> None:
    found = find_spec("check_jsonschema")
    assert found is not None
    assert found.origin is not None
    schemas = Path(found.origin).parent / "builtin_schemas" / "vendor"
    jsonschema.validate(COMPOSE, json.loads((schemas / "compose-spec.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_for_kubernetes_keeps_to_the_published_schemas(version: str) -> None:
    assert len(KUBERNETES["items"]) >= 10
    for one in KUBERNETES["items"]:
        kubernetes_validate.validate(one, version, strict=True)


def test_policies_of_kubernetes_let_in_who_is_named() -> None:
    """A rule without `from` admits every pod of the cluster."""
    policies = [one["spec"] for one in KUBERNETES["items"] if one["kind"] == "NetworkPolicy"]
    rules = [rule for policy in policies for rule in policy["ingress"]]
    assert rules
    for rule in rules:
        assert rule["from"]
        assert rule["ports"]
        for one in rule["from"]:
            assert any(one[kind].get("matchLabels") for kind in ("namespaceSelector", "podSelector") if kind in one)


def test_containers_write_nothing_but_volumes_and_gain_no_rights() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        limits = service["deploy"]["resources"]["limits"]
        assert {"memory", "pids"} <= set(limits), name
    published = [name for name, service in COMPOSE["services"].items() if "ports" in service]
    assert published == ["proxy"]
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            closed = container["securityContext"]
            assert closed["readOnlyRootFilesystem"] is True, name
            assert closed["allowPrivilegeEscalation"] is False, name
            assert closed["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_settings_that_are_given_are_settings_that_there_are() -> None:
    texts = [(ROOT / "docker-compose.yml").read_text("utf-8"), json.dumps(KUBERNETES)]
    theirs = {"DATA_FOLDER", "SERVERS", "CPU_WORKERS", "GPU", "DATABASE_MEMORY", "SERVER_MEMORY", "WORKER_MEMORY"}
    named = {name for text in texts for name in re.findall(r"\bMODESCAPE_([A-Z_]+)\b", text)} - theirs
    assert len(named) > 10
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_commands_that_are_started_are_commands_that_there_are() -> None:
    from modescape.cli import parser

    started = [service["command"] for service in COMPOSE["services"].values() if "command" in service]
    checked = [service["healthcheck"] for service in COMPOSE["services"].values() if "healthcheck" in service]
    started += [check["test"][1:] for check in checked]
    started += [container["command"] for _, pod in pods() for container in pod["containers"]]
    probes = [container.get("livenessProbe", {}).get("exec") for _, pod in pods() for container in pod["containers"]]
    started += [probe["command"] for probe in probes if probe]
    ours = [command[1:] for command in started if command[0] == "modescape"]
    assert len(ours) >= 8
    for arguments in ours:
        parser().parse_args(arguments)


@pytest.mark.slow
def test_the_role_of_the_laboratory_owns_its_database_and_nothing_else(tmp_path: Path) -> None:
    password = """a "b" 'c' \\ $d"""
    with postgres.running() as url:
        folder = str(make_url(url.format(database="postgres")).query["host"])
        script = content("role").replace("--username postgres", f"--username tests --dbname postgres --host {folder}")
        script = script.replace("ALTER ROLE postgres", "ALTER ROLE tests")
        told = subprocess.run(
            ["sh", "-c", script], env={**os.environ, "POSTGRES_PASSWORD": password}, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        rules = Path(folder) / "data" / "pg_hba.conf"
        rules.write_text("local all modescape scram-sha-256\n" + rules.read_text())
        postgres.command(url, "SELECT pg_reload_conf()")
        settings = Settings(
            home=tmp_path, database_url=f"postgresql://modescape@/modescape?host={folder}", database_password=password,
        )  # fmt: skip
        upgrade(settings.database)
        assert schema_state(settings.database).current
        with psycopg.connect(host=folder, user="modescape", dbname="modescape", password=password) as connection:
            (row,) = connection.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
            ).fetchall()
            assert row == (False, False, False)
            indexes = connection.execute("SELECT indexname FROM pg_indexes WHERE indexname = 'ix_experiment_text'")
            assert indexes.fetchall(), "the extension that searches by letters is one that the owner may add"
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE ROLE another")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(host=folder, user="modescape", dbname="modescape", password="wrong")


@pytest.mark.slow
def test_servers_behind_the_proxy_are_one_for_who_is_signed_in(tmp_path: Path, postgres_url: str) -> None:
    """The proxy's own file, with two servers in place of the name that a composition resolves."""
    more = {"token": TOKEN, "trusted_proxies": "127.0.0.1", "database_url": postgres_url}
    with served(tmp_path / "home", **more) as one, served(tmp_path / "home", **more) as other:
        port = free_port()
        servers = "".join(f"server 127.0.0.1:{site.settings.port};\n" for site in (one, other))
        text = content("proxy").replace("listen 8080", f"listen 127.0.0.1:{port}")
        text = text.replace("location / {", "location / {\nadd_header X-Served-By $upstream_addr;")
        text = re.sub(r"resolver .*;\n", "", text).replace("server api:8000 resolve;", servers)
        with _nginx(text, port, tmp_path), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            client.headers.update({"Accept": "text/html", "Origin": f"http://127.0.0.1:{port}"})
            assert client.post("/signin", data={"token": TOKEN}).status_code == 303
            answers = [client.get("/workers") for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.headers["x-served-by"] for answer in answers}) == 2, "each of them was asked"
            row = client.get("/api/me", headers={"Accept": "application/json"}).json()
            assert (row["name"], row["address"], row["signed_in"]) == ("operator", "127.0.0.1", True)
            sent = client.put("/api/uploads/" + "0" * 64, content=b"x")
            assert sent.status_code == 422, "its digest is another"
            client.post("/signout")
            answers = [client.get("/workers") for _ in range(6)]
            assert {answer.status_code for answer in answers} == {303}, "on all of them at once"
            with httpx.stream("GET", f"http://127.0.0.1:{port}/api/events", timeout=30,
                              headers={"Authorization": f"Bearer {TOKEN}"}) as stream:  # fmt: skip
                lines = stream.iter_lines()
                assert next(lines).startswith((":", "retry"))
                other.laboratory.store.workers.stopped("nobody")
                assert any(line == "event: worker" for line in lines)
