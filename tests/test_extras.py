"""Without torch and without a server: what was made elsewhere is judged, and all else says what it lacks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from modescape import extras
from modescape.errors import ConfigurationError, ExtraMissing
from modescape.executor import Machine
from modescape.imported.ensemble import Tensors
from modescape.imported.tensors import floats, header_of
from modescape.science import isotonic
from modescape.settings import Settings

TESTS = Path(__file__).parent
PROJECT = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def without(code: str, *arguments: str, packages: str = "(*TRAINING, *SERVING)") -> subprocess.CompletedProcess[str]:
    """Run this where packages are not installed."""
    begins = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from without import *; install(*{packages})\n"
    return subprocess.run(
        [sys.executable, "-c", begins + code, *arguments], capture_output=True, text=True, timeout=200
    )


def commands(home: Path, asked: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """How commands of one process end, and what each says of it."""
    code = (
        f"import io, json, os; os.environ['MODESCAPE_HOME'] = {str(home)!r}\n"
        "from contextlib import redirect_stderr\nfrom modescape.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    with redirect_stderr(io.StringIO()) as said:\n        status = main(arguments)\n"
        "    print(json.dumps([status, said.getvalue()]))\n"
    )
    done = without(code, json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


JUDGED = """
import json
import sys
import numpy as np
import modescape as ms
from modescape.science import isotonic

isotonic.REDRAWS = 600  # a tenth of the time
rng = np.random.default_rng(0)
labels = rng.integers(0, 4, 200)
def outputs(*shape):
    made = rng.normal(size=(*shape, 200, 4)).astype(np.float32)
    made[..., np.arange(200), labels] += 2
    return made
lab = ms.analyse(
    outputs(4), labels, recipe="same", samples={"swag": ms.Samples(outputs(4, 3), strength=np.ones((4, 3)))},
    ood={"noise": rng.normal(size=(4, 100, 4))}, shift={("fog", 3): outputs(4)}, validation=(outputs(4), labels),
    trajectory=([1, 2], outputs(4, 2)), weights=[{"w": rng.normal(size=(5, 6)).astype(np.float32)} for _ in range(4)],
    progress=False,
)
from modescape.errors import ModescapeError
drawn = []
for name in ms.registry.figures:
    try:
        drawn.append((name, json.loads(lab.figure(name).to_json())["data"]))
    except ModescapeError:
        pass
claims = [one.to_json() for one in lab.claims()]
print(json.dumps([lab.sentence(), claims, drawn, [str(stage.error) for stage in lab.stages if stage.error]]))
print([name for name in ("torch", "celery", "fastapi") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.slow
def test_an_ensemble_is_judged_without_torch_and_server_as_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, whole = without(JUDGED), io.StringIO()
    assert alone.returncode == 0, alone.stderr
    monkeypatch.setattr(isotonic, "REDRAWS", isotonic.REDRAWS)  # which it sets
    with redirect_stdout(whole), redirect_stderr(io.StringIO()):
        exec(JUDGED, {})
    assert alone.stderr.splitlines()[-1] == "[]"
    (sentence, claims, drawn, errors) = json.loads(alone.stdout)
    assert errors == []
    assert [sentence, claims, drawn, errors] == json.loads(whole.getvalue())
    assert {name for name, _ in drawn} >= {
        "trajectories", "similarity-trajectory", "similarity-runs", "tsne-trajectories", "tsne-samples", "plane",
        "ensembles", "reliability", "shift", "shift-types", "ood", "ood-entropy",
    }  # fmt: skip
    assert len(claims) >= 8


def test_importing_it_loads_nothing_but_what_python_has() -> None:
    code = "before = set(sys.modules); import modescape; print(*(set(sys.modules) - before))"
    names = {name.partition(".")[0] for name in without(code).stdout.split()}
    assert "modescape" in names
    assert names - {"modescape"} <= set(sys.stdlib_module_names)


@pytest.mark.slow
def test_what_needs_an_extra_says_the_line_that_installs_it(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.zeros(3))
    (tmp_path / "w.pt").write_bytes(b"PK")
    weights = ("import", "--weights", str(tmp_path / "w.pt"), "--architecture", "mlp", "--data", "digits")
    lacking = {
        ("up",): ("server", "fastapi"),
        ("serve",): ("server", "uvicorn"),
        ("worker",): ("worker", "torch, torchvision, celery"),
        ("run", "quickstart"): ("worker", "torch"),
        ("launch", "quickstart"): ("worker", "celery"),
        weights: ("worker", "torch"),
    }
    for arguments, (status, said) in zip(lacking, commands(tmp_path / "home", [*lacking]), strict=True):
        extra, lacks = lacking[arguments]
        assert status == 1, arguments
        assert f"pip install 'modescape[{extra}]'" in said, said
        assert lacks in said, said
        assert "Traceback" not in said, said
    assert not (tmp_path / "home").exists(), "nothing was begun"


@pytest.mark.slow
def test_a_notebook_is_told_too() -> None:
    code = "import modescape as ms\ntry: ms.run('quickstart')\nexcept ms.errors.ExtraMissing as e: print(e)"
    done = without(code)
    said = "training networks needs torch, which is not installed: pip install 'modescape[worker]'\n"
    assert done.stdout == said, done.stderr


def test_a_package_that_turns_out_to_be_missing_is_named_with_its_line() -> None:
    with (
        pytest.raises(ExtraMissing, match=r"needs python-multipart, .* pip install 'modescape\[server\]'"),
        extras.said(),
    ):
        raise ModuleNotFoundError("No module named 'multipart'", name="multipart")
    with pytest.raises(ModuleNotFoundError, match="nobody"), extras.said():
        raise ModuleNotFoundError("No module named 'nobody.knows'", name="nobody.knows")


def test_a_gpu_that_nothing_here_could_use_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "has", lambda module: module != "torch")
    with pytest.raises(ExtraMissing, match=r"MODESCAPE_DEVICE=cuda needs torch"):
        Machine.here(Settings(home=tmp_path, device="cuda"))
    alone = Machine.here(Settings(home=tmp_path))
    assert (alone.device, alone.queues) == ("cpu", ("cpu", "gpu", "long"))
    assert f"numpy {np.__version__}" in alone.numerics
    assert Machine.here(Settings(home=tmp_path, queues="long, cpu")).queues == ("long", "cpu")
    with pytest.raises(ConfigurationError, match=r"MODESCAPE_QUEUES names tpu \(allowed: cpu, gpu, long\)"):
        Machine.here(Settings(home=tmp_path, queues="cpu,tpu"))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_numbers_of_every_floating_type_are_those_torch_reads(dtype: torch.dtype, tmp_path: Path) -> None:
    width = dtype.itemsize
    bits = np.arange(256, dtype=np.uint8) if width == 1 else np.random.default_rng(0).integers(0, 256, 4096, np.uint8)
    tensor = torch.from_numpy(bits).view(dtype)
    save_file({"before": torch.ones(3), "w": tensor, "z": torch.ones(2, dtype=torch.int64)}, tmp_path / "a.safetensors")
    entries = {entry.name: entry for entry in header_of(Tensors.of(tmp_path / "a.safetensors")).entries}
    with (tmp_path / "a.safetensors").open("rb") as file:
        found = floats(file, entries["w"])
        assert floats(file, entries["before"]).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(found, tensor.double().numpy())
    assert not entries["z"].is_float
    if width == 1:  # and as another library has it
        own = ml_dtypes.float8_e4m3fn if dtype is torch.float8_e4m3fn else ml_dtypes.float8_e5m2
        np.testing.assert_array_equal(found, bits.view(own).astype(np.float64))


def test_every_extra_that_is_named_in_words_is_one_that_can_be_installed() -> None:
    declared = PROJECT["optional-dependencies"]
    for extra, modules in extras.EXTRAS.items():
        named = {word.split(">")[0].split("[")[0] for word in declared[extra]}
        assert set(modules.values()) <= named, extra
