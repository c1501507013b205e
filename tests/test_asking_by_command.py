"""The commands that ask a home or a server, as people type them, while a server and a worker of the product run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ports import free_port
from test_cli import modescape, process
from test_journey import running

from modescape.imported.digest import set_digest
from modescape.imported.reading import read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 400, "test_images": 600},
    "training": {"epochs": 5, "batch_size": 32, "snapshots": 4},
    "ensemble": {"runs": 3, "seed": 11},
    "methods": [{"method": "random", "spread": 3, "typical": 2}],
}


class Asker:
    """The command line with one home or one server: `watch --json`, as programs follow it, in a process, the others in
    this one. json: what a command prints with --json."""

    def __init__(self, home: Path, *server: str) -> None:
        self._home, self._server = home, server

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        ask = process if arguments[0] == "watch" and "--json" in arguments else modescape
        return ask(self._home, *arguments, *self._server)

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stderr[-2000:])
        return json.loads(done.stdout)


def test_each_command_says_of_a_server_what_it_says_of_its_home(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    home, port = tmp_path / "home", free_port()
    url = f"http://127.0.0.1:{port}"
    here, there = Asker(home), Asker(tmp_path / "elsewhere", "--server", url)
    (tmp_path / "three runs.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    with running("up", MODESCAPE_HOME=str(home), MODESCAPE_PORT=str(port), MODESCAPE_WORKERS="1") as product:
        wait_until(lambda: url in product.output, 90, "the URL on the screen")
        assert there.json("cancel", "quickstart")["status"] in ("cancelled", "running")  # begun without being asked
        launched = there.json("launch", str(tmp_path / "three runs.yaml"))
        slug = launched["slug"]
        assert (slug, launched["kind"]) == ("three-runs", "experiment")
        followed = there("watch", slug, "--json")
        assert followed.returncode == 0, followed.stderr
        told = [json.loads(line) for line in followed.stdout.splitlines()]
        assert told[-1]["status"] == "succeeded"
        assert [one["done"] for one in told] == sorted(one["done"] for one in told)
        assert there("watch", "quickstart").returncode == 1, "what was cancelled has not succeeded"

        assert here.json("show", slug, "--solutions") == there.json("show", slug, "--solutions")
        assert here.json("list", "runs__lte=3", "--columns=slug,spec.training.epochs") == there.json(
            "list", "runs__lte=3", "--columns=slug,spec.training.epochs"
        )
        assert here.json("figures", slug) == there.json("figures", slug)
        for asker, name in ((here, "here"), (there, "there")):
            assert asker("figures", slug, "plane", "--to", str(tmp_path / f"{name}.csv")).returncode == 0
            assert asker("export", slug, str(tmp_path / f"{name}.zip")).returncode == 0
        assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
        assert set_digest(read(tmp_path / "here.zip")) == set_digest(read(tmp_path / "there.zip"))

        back = there.json("import", str(tmp_path / "there.zip"), "--recipe", "same", "--name", "back")["slug"]
        assert there("watch", back).returncode == 0
        number = "Disagreement of two members"  # as soon as one of them was made elsewhere
        compared = there("compare", slug, back).stdout
        line = next(line for line in compared.splitlines() if line.startswith(number))
        mine, theirs = [part.strip() for part in line.removeprefix(number).split("  ") if part.strip()][:2]
        assert mine == theirs

        for asker, wrong, said in (
            (there, ("cancel", slug), "has succeeded"),
            (there, ("show", "three-run"), f"did you mean {slug}?"),
            (here, ("list", "run=3"), "did you mean runs?"),
            (there, ("figures", slug, "plan"), "did you mean plane?"),
            (there, ("figures", slug, "plane", "--to", str(tmp_path / "plane.bmp")), ".html, .json, .csv"),
        ):
            refused = asker(*wrong)
            assert refused.returncode == 1, wrong
            assert said in refused.stderr, (wrong, refused.stderr)
            assert "Traceback" not in refused.stderr


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = Asker(tmp_path, "--server", f"http://127.0.0.1:{free_port()}")("show", "one")
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert Asker(tmp_path, "--server", "ftp://there")("list").stderr.count("http:// or https://") == 1
