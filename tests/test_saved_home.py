"""What is asked of a saved home (saved_home.py) leaves nothing out, and what differs in it is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import saved_home
from saved_home import SPECS, differences

from modescape.registry import methods
from modescape.spec import parse, studies


def test_differences_are_found_where_they_are() -> None:
    before = {"a": {"x": [1, 2.0]}, "gone": 1}
    assert list(differences(before, {"a": {"x": [1, 2.0 + 1e-12]}, "gone": 1})) == []
    assert list(differences(before, {"a": {"x": [1, 2.1]}, "new": 1})) == [
        "a/x/1: '2.0' was, '2.1' is", "gone: gone", "new: new",
    ]  # fmt: skip
    figure = {"meta": {"version": "0" * 32}}
    assert list(differences(figure, {"meta": {"version": "1" * 32}})) == []  # another source, the same picture
    assert list(differences(figure, {"meta": {"version": "1.0"}})) != []


def test_the_saved_home_has_every_method_and_every_study() -> None:
    specs = [parse(spec) for spec in SPECS.values()]
    assert {chosen.method for spec in specs for chosen in spec.methods} == set(methods)
    asked = {field.partition(".")[0] for spec in specs for field, _ in studies(spec)}
    assert asked == {"shift", "ood", "seeds", "planes", "tunnels", "connectivity", "instability"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.check)])
def test_a_saved_home_says_what_it_said(kind: str, request: pytest.FixtureRequest) -> None:
    """In a process of its own, where nothing is declared but what is ours."""
    database = [request.getfixturevalue("postgres_url")] if kind == "postgres" else []
    command = [sys.executable, saved_home.__file__, "differ", str(Path(__file__).parent / "saved"), *database]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all the same\n"), done.stdout + done.stderr
