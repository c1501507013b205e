"""Plug-ins: who loads them, what their source decides, what workers publish of them, and that a server without torch
offers all of it."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from bringing import environment, install, python
from forked import Forks, forks
from ports import free_port
from pydantic import Field, ValidationError

from modescape import published_entries, versions
from modescape.errors import StageError
from modescape.registry import Options, architectures, corruptions, datasets, methods, presets
from modescape.sources import Source
from modescape.spec import parse, stored
from modescape.spec_parts import keyed
from modescape.stages.keys import task_of
from modescape.store import Store
from modescape.versions import Added, Renamed

SOURCE = Source("their_lab", "1.2", "0" * 64)
SPEC: dict[str, Any] = {
    "data": {"dataset": "their-stripes", "input_scale": "standardised"},
    "network": {"architecture": "gn-net"},
    "training": {"epochs": 3, "batch_size": 20, "snapshots": 3, "learning_rate": 0.01},
    "ensemble": {"runs": 2},
    "methods": [{"method": "their-jitter", "spread": 2, "typical": 2}, {"method": "random", "spread": 2, "typical": 2}],
    "studies": {"their-rounding": {"digits": [0, 3]}},
    "margins": {"z": 0.3},
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def run() -> Iterator[Forks]:
    """Runs programs in processes with the product loaded, but none of what is beside it."""
    with forks("torch", "modescape.plan", "modescape.stages.keys", "modescape.cli") as run:
        yield run


# ---- who loads what ----

LIGHT = """
import sys
from modescape import plugins, registry
plugins.load(("broken", "insists", "does_without"), light=True)
for one in plugins.found():
    print(one.module, one.state, "|", one.why, "|", *one.entries)
print(sorted(name for name in ("torch", "their_lab.network", "broken", "insists", "helper") if name in sys.modules))
print([e.name for known in registry.Registry.all for e in known.here.values() if e.brought])
"""
ODD = {
    "broken.py": "import their_lab\nimport helper\nfrom modescape.presets.base import experiment\nnot_there\n",
    "helper.py": "",
    "insists.py": "try:\n    import torch\nexcept ImportError:\n    raise RuntimeError('please install torch')\n",
    "does_without.py": "try:\n    import scipy.special\nexcept ImportError:\n    scipy = None\n",
}


@pytest.fixture(scope="module")
def with_odd_ones(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("odd")
    for name, text in ODD.items():
        (folder / name).write_text(text, encoding="utf-8")
    return f"{installed}:{folder}"


@pytest.mark.slow
def test_a_server_loads_what_is_light_and_leaves_the_rest_to_workers(with_odd_ones: str, tmp_path: Path) -> None:
    *told, modules, entries = python(LIGHT, Path(with_odd_ones), tmp_path).splitlines()
    states = {line.split()[0]: line.split(" ", 1)[1] for line in told}
    assert states == {
        "their_lab.stripes": "loaded |  | dataset 'their-stripes'",
        "their_lab.jitter": "loaded |  | method 'their-jitter'",
        "their_lab.pictures": "loaded |  | figure 'their-accuracies'",
        "their_lab.rounding": "loaded |  | study 'their-rounding'",
        "their_claim": "loaded |  | claim (z)",
        "their_lab.network": "elsewhere | it loads torch |",
        "insists": "elsewhere | it loads torch |",
        "does_without": "loaded |  |",
        "broken": "failed | NameError: name 'not_there' is not defined |",
    }
    assert modules == "['helper']"  # a module of a third package stays: some can be imported only once
    assert entries == "['their-stripes', 'their-jitter', 'their-rounding', 'their-accuracies']"


@pytest.mark.slow
def test_a_module_of_the_working_folder_is_found_behind_everything_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "here_alone.py").write_text("name = 'mine'\n")
    (tmp_path / "six.py").write_text("raise SystemExit('this file happens to lie here')\n")
    asked = (
        "import sys; from modescape.cli import main; print(main(['plugins'])); print(sys.modules['here_alone'].name)"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "MODESCAPE_PLUGINS": "here_alone"},
    )  # fmt: skip
    assert told.stdout.split()[-2:] == ["0", "mine"]


@pytest.mark.slow
def test_a_module_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(
        "from modescape.datasets.dataset import dataset\n"
        "@dataset('half', title='Half', source='a test')\n"
        "def half(location, spec):\n    'A set.'\n"
        "from modescape.stages.stage import stage\n"
        "stage('half-stage')(half)\n"
        "raise SystemExit('no')\n"
    )
    code = (
        "import sys\nfrom modescape import plugins\nfrom modescape.registry import datasets\n"
        "from modescape.stages.stage import KINDS\nplugins.load(('half',))\n"
        "print('half' in datasets, 'half-stage' in KINDS, 'half' in sys.modules, plugins.found()[0].why)\n"
    )
    assert python(code, tmp_path, tmp_path).strip() == "False False False SystemExit: no"


@pytest.mark.slow
def test_the_command_line_says_what_is_loaded_from_where(run: Forks, with_odd_ones: str, tmp_path: Path) -> None:
    command = "from modescape.cli import main; print(main(['plugins']))"
    beside = [*map(Path, with_odd_ones.split(":"))]
    all_well = run(command, tmp_path, path=beside, MODESCAPE_PLUGINS="does_without")
    *lines, status = [" ".join(line.split()) for line in all_well.splitlines()]
    assert status == "0"
    assert "their_lab.network loaded entry point network of their-lab 1.2" in lines
    assert "architecture 'gn-net'" in lines
    assert "does_without loaded MODESCAPE_PLUGINS" in lines
    one_fails = run(command, tmp_path, path=beside, MODESCAPE_PLUGINS="broken, does_without")
    assert one_fails.splitlines()[-1] == "1"
    assert "NameError: name 'not_there' is not defined" in one_fails
    assert "architecture 'gn-net'" in one_fails


@pytest.mark.slow
def test_in_a_notebook_they_are_there(installed: Path, tmp_path: Path) -> None:
    """In a process of its own, where the registry has not been asked for yet."""
    code = "import modescape as ms\nprint('their-jitter' in ms.registry.methods, 'gn-net' in ms.registry.architectures)"
    assert python(code, installed, tmp_path).strip() == "True True"


# ---- what their source decides ----

KEYS = """
import json
from modescape import plugins
plugins.load()
from modescape.plan import prepare
from modescape.stages.keys import _digest, _taken
from modescape.stages.stage import Task
prepared = prepare(SPEC, ())
planned = {(one.kind, one.key): (place, one) for place, one in enumerate(prepared.plan.stages)}
keys = {}
for name, (_, one) in planned.items():
    needs = [(need[0], keys[need]) for need in _taken(prepared.spec, one, planned)]
    keys[name] = _digest(Task.of(one, prepared.spec), needs, "numerics")
print(json.dumps({"/".join(name): key for name, key in keys.items()}))
"""


def keys(run: Forks, site: Path, spec: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = json.loads(run(KEYS.replace("SPEC", repr(spec)), site, path=[site]))
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def edited(folder: Path, module: str, **more: Any) -> Path:
    folder.mkdir()
    site = install(folder, **more)
    with (site / "their_lab" / f"{module}.py").open("a") as file:
        file.write("\n# a later thought\n")
    return site


@pytest.mark.slow
def test_an_edited_figure_is_in_no_key_and_an_edited_network_in_all(
    run: Forks, installed: Path, tmp_path: Path
) -> None:
    before = keys(run, installed, SPEC)
    assert keys(run, edited(tmp_path / "figure", "pictures"), SPEC) == before
    assert changed(before, keys(run, edited(tmp_path / "network", "network"), SPEC)) == set(before)
    folder = tmp_path / "released"
    folder.mkdir()
    assert changed(before, keys(run, install(folder, version="1.3"), SPEC)) == set(before)


@pytest.mark.slow
def test_an_edited_method_is_in_the_keys_of_its_samples_and_of_what_stands_on_them(
    run: Forks, installed: Path, tmp_path: Path
) -> None:
    spec = {**SPEC, "data": {"dataset": "digits"}, "network": {"architecture": "mlp"}}
    moved = changed(keys(run, installed, spec), keys(run, edited(tmp_path / "method", "jitter"), spec))
    samples = {f"sample/{run}/their-jitter/{which}" for run in (0, 1) for which in ("spread", "typical")}
    study = {f"their-rounded/{run}" for run in (0, 1)}  # of the same package
    assert moved == samples | study | {"compare/all", "embed/samples", "ensemble/all"}


OURS = {
    **SPEC, "data": {"dataset": "digits"}, "network": {"architecture": "mlp"}, "methods": SPEC["methods"][1:],
    "studies": {}, "margins": {}, "seeds": {}, "shift": {"corruptions": ["brightness"], "images": 20, "members": 2},
}  # fmt: skip
JUDGING = {"compare/trajectories", "compare/all"}


@pytest.mark.slow
def test_ours_are_in_no_key_but_where_a_claim_of_others_is_judged(run: Forks, installed: Path, tmp_path: Path) -> None:
    """With a plug-in beside them or without."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert changed(keys(run, installed, OURS), keys(run, empty, OURS)) == JUDGING
    without = install(tmp_path / "site")
    (without / "their_claim.py").write_text("")
    assert keys(run, without, OURS) == keys(run, empty, OURS)


@pytest.mark.slow
def test_an_edited_claim_and_another_margin_are_judged_anew_and_nothing_else(
    run: Forks, installed: Path, tmp_path: Path
) -> None:
    before = keys(run, installed, OURS)
    site = install(tmp_path / "site")
    (site / "their_claim.py").write_text((site / "their_claim.py").read_text() + "# a later thought\n")
    assert changed(before, keys(run, site, OURS)) == JUDGING
    moved = changed(before, keys(run, installed, {**OURS, "margins": {"z": 0.4}}))
    assert {name.partition("/")[0] for name in moved} == {"compare", "embed"}  # whose keys have the whole spec
    text = (site / "their_claim.py").read_text()
    (site / "their_claim.py").write_text(text.replace("Evidence", "SeedsEvidence"))
    on_seeds = keys(run, site, OURS)
    assert changed(on_seeds, keys(run, site, {**OURS, "margins": {"z": 0.4}})) >= {"seeds/all"}


def test_a_file_that_more_than_draws_counts(tmp_path: Path) -> None:
    from modescape.sources import _only_draws

    drawing = b"from modescape.drawing.figure import figure\n"
    assert _only_draws("pictures.py", {"pictures.py": drawing, "network.py": b"import torch"})
    for more in (b"from modescape.methods.method import method", b"import modescape", b"exec('x')"):
        assert not _only_draws("pictures.py", {"pictures.py": drawing + more}), more
    assert not _only_draws("pictures.py", {"pictures.py": drawing, "network.py": b"from .pictures import helper"})
    assert not _only_draws("__init__.py", {"__init__.py": drawing})


@pytest.mark.slow
def test_what_is_typed_has_a_source_of_its_own_in_every_process(run: Forks, tmp_path: Path) -> None:
    code = (
        "from modescape.registry import methods\nfrom modescape.methods.method import method\n"
        "@method('typed', title='T', summary='S', source='s', centre='mean', strength=None, sampled=False)\n"
        "def typed(around, options, strength, rng): ...\n"
        "print(methods['typed'].brought.package, methods['typed'].brought.digest)\n"
    )
    first, second = (run(code, tmp_path).split() for _ in range(2))
    assert first[0] == second[0] == "__main__"
    assert first[1] != second[1]


# ---- what is published ----


def both(noun: str, entry: Any) -> tuple[Any, Any]:
    """An entry, and what stands in for it where it is not loaded."""
    document = json.loads(json.dumps(published_entries.document(replace(entry, brought=SOURCE))))
    return entry, published_entries.entry_of(noun, document)


KNOWN = [
    pytest.param(known.noun, entry, id=f"{known.noun}-{entry.name}")
    for known in (datasets, architectures, methods, corruptions, presets)
    for entry in known.values()
]


@pytest.mark.parametrize(("noun", "entry"), KNOWN)
def test_what_stands_in_says_what_the_entry_says(noun: str, entry: Any) -> None:
    """Of every entry of ours, as if it were a plug-in's: fields, and options with their bounds, defaults and order."""
    own, other = both(noun, entry)
    unsaid = {"dropout": other.said()["dropout"]} if own.said().get("dropout", "") is None else {}  # looked at
    assert other.said() == own.said() | unsaid
    assert other.options.model_json_schema() == own.options.model_json_schema()
    assert list(other.options.model_fields) == list(own.options.model_fields)
    assert keyed(other.options()) == keyed(own.options())
    assert (other.loaded, other.brought) == (False, SOURCE)
    if noun == "preset":
        assert other.call() == own.call()
    else:
        with pytest.raises(published_entries.NotLoaded, match=f"{noun} '{entry.name}' is not loaded in this process"):
            other.call()


def test_sizes_are_known_where_they_were_published() -> None:
    own, other = both("architecture", architectures["small-cnn"])
    shape = (3, 32, 32, 10)
    assert other.parameters(*shape, other.options()) == own.parameters(*shape, own.options()) == 19466
    assert other.multiply_adds(*shape, other.options()) == own.multiply_adds(*shape, own.options())
    assert other.parameters(3, 31, 31, 10, other.options()) == own.parameters(3, 31, 31, 10, own.options())  # counted
    assert other.why_not_aligned == own.why_not_aligned == ""


def test_a_worker_without_a_plug_in_says_which_one_it_lacks() -> None:
    """Its stages are not taken for ones that were done, nor done in some other way."""
    document = {"methods": [{"method": "their-jitter"}], "network": {"architecture": "gn-net"}}
    lease: Any = SimpleNamespace(experiment=SimpleNamespace(spec=document), stage=None)
    with pytest.raises(StageError) as refused:
        task_of(lease)
    assert "the architecture 'gn-net', the method 'their-jitter'" in str(refused.value)
    assert "MODESCAPE_PLUGINS" in str(refused.value)


class Marked(Options):
    grip: Annotated[float, Renamed("hold")] = Field(1.0, gt=0, le=10, description="Its older name is hold.")
    late: Annotated[int, Added] = Field(3, ge=0, description="Came later.")


def test_marks_of_older_specs_are_published() -> None:
    other = published_entries.options_of("x", json.loads(json.dumps(published_entries._options_document(Marked))))
    for given in ({}, {"hold": 2.0}, {"grip": 2.0, "late": 4}):
        assert keyed(other.model_validate(given)) == keyed(Marked.model_validate(given))
    assert keyed(other.model_validate({"grip": 2.0})) == {"hold": 2.0}
    for wrong in ({"grip": 11}, {"hold": 1, "grip": 1}, {"late": -1}, {"other": 1}):
        with pytest.raises((ValidationError, ValueError)):
            other.model_validate(wrong)


def test_what_nobody_has_any_more_is_not_offered(store: Store) -> None:
    def says(worker: str, package: str, *names: str, living: tuple[str, ...]) -> None:
        rows = {("plugin", f"{package} on {worker}"): {"worker": worker, "package": package}} if package else {}
        rows |= {("method", name): {"brought": {"package": package}} for name in names}
        store.catalogue.publish(rows, lambda row: row["worker"] == worker or row["worker"] not in living)

    def offered() -> list[str]:
        return [row.name for row in store.catalogue.published() if row.kind == "method"]

    store.catalogue.put("data", "scans", {})
    says("a", "one", "jitter", "shake", living=("a",))
    says("b", "one", "jitter", "shake", living=("a", "b"))
    says("b", "two", "twist", living=("a", "b"))  # without the first package now; a still has it
    assert offered() == ["jitter", "shake", "twist"]
    says("a", "one", "jitter", living=("a", "b"))  # a later version of it
    assert offered() == ["jitter", "twist"]
    says("c", "", living=("b", "c"))  # a has stopped
    assert offered() == ["twist"]
    says("b", "", living=("b", "c"))
    assert offered() == []
    assert [row.kind for row in store.catalogue.entries()] == ["data"]


def test_nothing_stands_in_for_what_cannot_be_understood(caplog: pytest.LogCaptureFixture) -> None:
    from modescape.tables import Catalogue

    try:
        published_entries.stand_in([
            Catalogue(kind="method", name="odd", details={"name": "odd"}),
            Catalogue(kind="their-kind", name="odd", details={}),
            Catalogue(kind="method", name="random", details=published_entries.document(
                replace(methods["random"], brought=SOURCE, title="Another"))),
            Catalogue(kind="method", name="twist", details=published_entries.document(
                replace(methods["random"], brought=SOURCE, name="twist"))),
        ])  # fmt: skip
        assert "'odd' is not understood" in caplog.text
        assert "odd" not in methods
        assert methods["random"].title == "Random subspace"  # what is loaded hides what is published
        assert list(methods)[-1] == "twist"
        assert parse({"methods": [{"method": "twist", "options": {}}]}).methods[0].options["tries"] == 5
    finally:
        published_entries.stand_in([])
    assert "twist" not in methods


# ---- specs of other versions ----


def test_a_spec_of_an_older_version_is_lifted_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from modescape_api.pages import forms

    def lift(document: Any) -> Any:
        """A fictitious version 0 counted runs in `members`, at the top."""
        rest = {name: value for name, value in document.items() if name != "members"}
        return {**rest, "ensemble": {"runs": document["members"]}}

    monkeypatch.setitem(versions.LIFTS, 0, lift)
    old, new = {"version": 0, "members": 4}, {"version": 1, "ensemble": {"runs": 4}}
    assert parse(old).digest() == stored(old).digest() == parse(new).digest()
    assert forms.to_values(old) == forms.to_values(new)
    assert old == {"version": 0, "members": 4}
    monkeypatch.setitem(versions.LIFTS, -1, lambda document: {"members": document["count"]})
    assert parse({"version": -1, "count": 4}).digest() == parse(new).digest()  # two at a time


def test_the_version_that_is_accepted_is_the_one_that_lifts_lead_to() -> None:
    assert parse({}).version == versions.VERSION
    assert set(versions.LIFTS) == set(range(1, versions.VERSION))


def test_an_option_that_was_renamed_keeps_digests_and_is_read_under_both_names() -> None:
    from modescape_api.pages import forms

    known = dict(methods.here)
    methods.add(replace(methods["averaging"], name="gripping", options=Marked))
    try:
        old, new = ({"methods": [{"method": "gripping", "options": {name: 2.0}}]} for name in ("hold", "grip"))
        assert parse(old).digest() == parse(new).digest()
        assert parse(new).methods[0].options == {"hold": 2.0}  # as it was promised
        assert methods["gripping"].options.model_validate(parse(new).methods[0].options).grip == 2.0
        assert forms.to_values(parse(old).model_dump(mode="json"))["methods.gripping.options.grip"] == "2.0"
    finally:
        methods.keep(known)


# ---- the whole, with a server and a worker of their own ----


@contextmanager
def running(site: Path, home: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    with (home / f"{arguments[0]}.log").open("ab") as log:
        command = [sys.executable, "-m", "modescape.cli", *arguments]
        process = subprocess.Popen(command, env=environment(site, home, **more), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_beside_the_product_is_offered_planned_trained_and_drawn(
    installed: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """A server that cannot load its network, and a worker that can: form, catalogue, API, plan, figures and pages."""
    port = free_port()
    with running(installed, tmp_path, "serve", MODESCAPE_PORT=str(port)) as server:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until(lambda: _answers(client), 60, "the server")
            _before_a_worker(client)
            with running(installed, tmp_path, "worker", "--name", "theirs", MODESCAPE_LOG_LEVEL="INFO"):
                wait_until(lambda: "gn-net" in _names(client, "architectures"), 120, "what the worker publishes")
                _offered(client, wait_until)
                slug = _launched(client)
                wait_until(lambda: _status(client, slug) not in ("queued", "running"), 240, "the experiment")
            _shown(client, slug)
        assert "torch" not in Path(f"/proc/{server.pid}/maps").read_text()
    bare = tmp_path / "bare"
    bare.mkdir()
    with (
        running(bare, tmp_path, "serve", MODESCAPE_PORT=str(port)),  # without the package from now on
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        wait_until(lambda: _answers(client), 60, "the server")
        with running(bare, tmp_path, "worker", "--name", "bare"):  # which says that nobody has the package any more
            wait_until(lambda: "gn-net" not in _names(client, "architectures"), 120, "what nobody has to go")
        _shown_without(client, slug)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _names(client: httpx.Client, noun: str) -> dict[str, Any]:
    return {entry["name"]: entry for entry in client.get("/api/catalogue").json()[noun]}


def _status(client: httpx.Client, slug: str) -> str:
    return str(client.get(f"/api/experiments/{slug}").json()["status"])


def _page(client: httpx.Client, address: str) -> str:
    answer = client.get(address, headers={"accept": "text/html"})
    assert answer.status_code == 200, (address, answer.status_code, answer.text[-1000:])
    return answer.text


def _before_a_worker(client: httpx.Client) -> None:
    assert _names(client, "methods")["their-jitter"]["loaded"] is True
    assert "gn-net" not in _names(client, "architectures")
    assert (_names(client, "claims")["z"]["package"], "package" in _names(client, "claims")["a"]) == (
        "their_claim 1.2",
        False,
    )
    answer = client.post("/api/estimate", json={"spec": SPEC})
    assert answer.status_code == 422
    assert "gn-net" in answer.text
    plugins = {one["module"]: one for one in client.get("/api/catalogue").json()["plugins"]}
    assert plugins["their_lab.network"]["state"] == "elsewhere"


def _plan(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    return dict(client.post("/api/estimate", json={"spec": spec}).json())


def _offered(client: httpx.Client, wait_until: Callable[..., None]) -> None:
    network = _names(client, "architectures")["gn-net"]
    assert (network["loaded"], network["package"], network["dropout"]) == (False, "their_lab 1.2", False)
    assert network["options"]["properties"]["width"]["maximum"] == 64
    assert "their-accuracies" in _names(client, "figures")
    form = _page(client, "/launch?preset=blank")
    for control in ("gn-net", "network.options.gn-net.width", "methods.their-jitter.options.grip", "their-stripes",
                    "studies.their-rounding.digits", "margins.z"):  # fmt: skip
        assert control in form, control
    said = _page(client, "/catalogue")
    for text in ("GN net", "not loaded here, workers have it", "Their stripes", "Their accuracies", "worker theirs",
                 "Their rounding", "(z) Runs err on different images", "<td>claim (z)</td>"):  # fmt: skip
        assert text in said, text
    assert "#0B5D3B" in client.get("/static/tokens.css").text
    plan = _plan(client, SPEC)
    assert plan["parameters"] == 9 * 1 * 8 + 8 + 2 * 8 + 8 * 64 * 2 + 2  # convolution, norm, linear layer
    assert not any("is not known here" in warning for warning in plan["warnings"])
    assert [one["count"] for one in plan["kinds"] if one["kind"] == "their-rounded"] == [2]
    for wrong, field, allowed in (
        ({"studies": {"their-rounding": {"digits": [7]}}}, "studies.their-rounding.digits.0", "0 to 6"),
        ({"studies": {"their-rounding": {"digit": [2]}}}, "studies.their-rounding.digit", "digits"),
        ({"studies": {"her-rounding": {}}}, "studies.her-rounding", "their-rounding"),
        ({"margins": {"z": 11}}, "margins.z", "more than 0, at most 10"),
        ({"margins": {"y": 1}}, "margins.y", "a, b, c, d1, e1, e2, f1, f2, g, h, z"),
    ):
        problem = client.post("/api/estimate", json={"spec": {**SPEC, **wrong}}).json()["errors"][0]
        assert (problem["field"], problem["allowed"]) == (f"spec.{field}", allowed)
    wide = {**SPEC, "network": {"architecture": "gn-net", "options": {"width": 12}}}
    counted = 9 * 1 * 12 + 12 + 2 * 12 + 12 * 64 * 2 + 2  # by a worker: a plan waits for it, but not for ever
    wait_until(lambda: _plan(client, wide)["parameters"] == counted, 120, "a worker to count the wider network")
    assert not any("how large GN net is" in warning for warning in _plan(client, wide)["warnings"])
    odd = {**SPEC, "network": {"architecture": "gn-net", "options": {"width": 13}}}
    problem = client.post("/api/estimate", json={"spec": odd}).json()["errors"][0]
    assert problem["field"] == "spec.network.options.width"


def _launched(client: httpx.Client) -> str:
    """From the form, with the network that this server does not load."""
    form = {
        "name": "with their things", "key": "k", "data.dataset": "their-stripes", "data.input_scale": "standardised",
        "network.architecture": "gn-net", "network.options.gn-net.width": "12", "training.epochs": "3",
        "training.batch_size": "20", "training.snapshots": "3", "training.learning_rate": "0.01", "ensemble.runs": "3",
        "methods.their-jitter.on": "true", "methods.their-jitter.spread": "2", "methods.their-jitter.typical": "2",
        "methods.their-jitter.options.grip": "2", "studies.their-rounding.on": "true",
        "studies.their-rounding.digits": "0, 3", "margins.z": "0.3", "evaluation.embed_images": "20",
        "evaluation.embed_runs": "2",
    }  # fmt: skip
    answer = client.post("/launch", data=form, headers={"Origin": str(client.base_url).rstrip("/")})
    assert answer.status_code == 303, answer.text[-2000:]
    return answer.headers["location"].rsplit("/", 1)[1]


def _shown(client: httpx.Client, slug: str) -> None:
    document = client.get(f"/api/experiments/{slug}").json()
    assert (document["status"], document["unknown"]) == ("succeeded", [])
    assert document["spec"]["network"]["options"] == {"width": 12}
    assert document["spec"]["methods"][0]["options"]["hold"] == 2.0
    figure = client.get(f"/api/experiments/{slug}/figures/their-accuracies.json")
    assert figure.status_code == 200, figure.text
    assert client.get(f"/api/experiments/{slug}/figures/plane.json").status_code == 200
    page = _page(client, f"/experiments/{slug}")
    for text in ("GN net", "Their stripes", "How far apart are the runs", "their jitter"):
        assert text in page, text
    assert "This server does not know" not in page
    claim = next(one for one in document["findings"]["claims"] if one["id"] == "z")
    assert (claim["margin"], claim["n"]) == (pytest.approx(math.log(0.3)), 3)
    assert claim["word"] in ("holds", "does not hold", "cannot tell")
    assert "Runs err on different images" in page
    rounded = [one for one in document["stages"] if one["kind"] == "their-rounded"]
    assert [one["state"] for one in rounded] == ["succeeded"] * 3
    found = client.get(f"/api/experiments/{slug}/measurements?subject=rounding").json()["items"]
    assert sorted(one["details"]["digits"] for one in found) == [0, 0, 0, 3, 3, 3]
    for address in ("/", "/paper", f"/launch?from={slug}", f"/experiments/{slug}/figures/their-accuracies"):
        _page(client, address)


def _shown_without(client: httpx.Client, slug: str) -> None:
    """Where none of the names is known: as text on every page, with all numbers that were kept."""
    page, api = f"/experiments/{slug}", f"/api/experiments/{slug}"
    names = ("the data set", "the architecture", "the method", "the study", "the field")
    lacking = client.get(api).json()["unknown"]
    assert [one.partition(" '")[0] for one in lacking] == list(names)
    for text in ("This server does not know", *(name.replace("'", "&#39;") for name in lacking)):
        assert text in _page(client, page), text
    assert "gn-net, not loaded here" in _page(client, "/")
    assert "Install the plug-in that brings it" in _page(client, f"/launch?from={slug}")
    for address in ("/paper", "/workers", "/catalogue", "/data", f"/compare?e={slug}"):
        _page(client, address)
    listed = client.get(f"{api}/figures")
    assert listed.status_code == 200, listed.text
    for one in listed.json()["items"]:
        for form in ("json", "csv", *["html"] * (one["name"] == "plane")):  # JSON's picture with Plotly inside
            assert client.get(f"{api}/figures/{one['name']}.{form}").status_code in (200, 409), one["name"]
        _page(client, f"{page}/figures/{one['name']}")
    rows = list(csv.DictReader(client.get(f"{api}/figures/ensembles.csv").text.splitlines()))
    unknown = {row["training"] == "" for row in rows if "their-jitter" in row.values()}
    known = {row["training"] == "" for row in rows if "their-jitter" not in row.values()}
    assert (unknown, known) == ({True}, {False})  # of how many epochs a method is that is not here
