"""The page's pure functions, run by Node: selections in the URL."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from modescape.registry import figures
from modescape_api.http.assets import frontend
from modescape_api.pages import forms

STATIC = frontend() / "static"


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.fail("Node is not installed: sudo apt-get install nodejs")
    return program


def run(node: str, script: str, given: Any = None) -> Any:
    """The JSON that `script` prints; the modules' pure functions are in scope, `given` too."""
    program = (
        f'import * as s from "{STATIC / "selection.js"}";\n'
        f"const given = {json.dumps(given)};\nconsole.log(JSON.stringify({script}));"
    )
    done = subprocess.run([node, "--input-type=module"], input=program, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_modules_with_pure_functions_load_without_a_page(node: str) -> None:
    assert run(node, "typeof s.encode") == "function"


def test_a_selection_survives_the_url(node: str) -> None:
    cases = [
        ([], ""),
        ([7], "7"),
        ([1, 2, 3], "1-3"),
        ([40, 12, 13, 77, 12], "12-13,40,77"),
        (list(range(500)), "0-499"),
    ]
    assert run(node, "given.map(s.encode)", [numbers for numbers, _ in cases]) == [text for _, text in cases]
    assert run(node, "given.map(s.decode)", [text for _, text in cases]) == [sorted(set(n)) for n, _ in cases]


def test_what_a_picture_does_not_show_is_marked_by_its_run_and_method(node: str) -> None:
    def of(run: int, role: str, method: str | None = None) -> dict[str, Any]:
        return {"run": run, "role": role, "method": method}

    known = {
        1: of(0, "checkpoint"), 2: of(0, "optimum"), 3: of(1, "checkpoint"), 4: of(1, "optimum"),
        5: of(0, "sample", "dropout"), 6: of(0, "sample", "dropout"), 7: of(0, "sample", "random"),
        8: of(1, "sample", "dropout"), 9: of(0, "sample", "dropout"),
    }  # fmt: skip
    script = (
        "given.cases.map(([chosen, shown]) => s.marks(chosen, new Set(shown), "
        "new Map(given.known.map(([n, row]) => [n, row]))))"
    )
    cases = [
        ([5], [5, 6, 8]),  # itself
        ([5], [6, 8, 9, 2]),  # its method's samples of its run
        ([7], [1, 2, 3, 4, 6]),  # none of its method: its run's optimum
        ([7, 4], [1, 3]),  # not that either: its run's checkpoints
        ([5, 8], [6]),  # nothing stands for run 1
        ([], [1, 2]),
        ([99], [1, 2]),  # of no known run
    ]
    found = run(node, script, {"cases": cases, "known": list(known.items())})
    assert found == [
        {"marked": [5], "absent": []},
        {"marked": [6, 9], "absent": [5]},
        {"marked": [2], "absent": [7]},
        {"marked": [1, 3], "absent": [7, 4]},
        {"marked": [6], "absent": [5, 8]},
        {"marked": [], "absent": []},
        {"marked": [], "absent": [99]},
    ]


def test_nonsense_in_the_url_is_left_out_and_cannot_hang_the_tab(node: str) -> None:
    script = '[s.decode("a,3,-4,5-,9-7,<b>,8"), s.decode(null), s.decode("0-9999999").length]'
    assert run(node, script) == [[3, 8], [], 1_000_000]


def test_shift_adds_alt_removes_and_the_same_again_clears(node: str) -> None:
    script = """[
        s.choose([1, 2], [5, 4]), s.choose([1, 2], [2, 4], {shiftKey: true}), s.choose([1, 2], [2, 4], {altKey: true}),
        s.choose([1, 2], [2, 1]), s.toggle([1, 2], [2]), s.toggle([1, 2], [2, 3])
    ]"""
    assert run(node, script) == [[4, 5], [1, 2, 4], [1], [], [1], [1, 2, 3]]


def test_changes_leave_the_earlier_selection_alone(node: str) -> None:
    script = "(b => { s.add(b, [2]); s.remove(b, [1]); return b; })(Object.freeze([3, 1]))"
    assert run(node, script) == [3, 1]


def test_the_bar_counts_by_method_and_gives_the_range_of_accuracy(node: str) -> None:
    solutions = [
        [1, {"method": "dropout", "role": "sample", "accuracy": 0.6}],
        [2, {"method": "dropout", "role": "sample", "accuracy": 0.7}],
        [3, {"method": None, "role": "optimum", "accuracy": None}],
        [4, {"method": None, "role": "checkpoint", "accuracy": 0.1}],
    ]
    about = run(node, "s.describe([1, 2, 3, 4, 99], new Map(given))", solutions)
    assert about == {"groups": [["dropout", 2], ["independent", 1], ["trajectory", 1]], "accuracy": [0.1, 0.7]}


def test_two_or_three_solutions_can_be_cut_through(node: str) -> None:
    assert run(node, "[0, 1, 2, 3, 4].map(s.cutsThrough)") == [[], [], ["radial", "line"], ["affine"], []]


def test_a_word_is_said_as_its_field_means_it() -> None:
    blank = forms.defaults()
    shown = forms.sections(blank, was=blank)
    (vary,) = (c for section in shown for c in section.controls if c.name == "ensemble.vary")
    assert vary.choices[0] == forms.Choice("both", "initialisation and order")
    (panel,) = (c for c in forms.option_controls(figures["ensembles"], "x") if c.name == "x.panel")
    assert panel.choices[0] == forms.Choice("both", "both")
