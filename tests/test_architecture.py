"""Who may import whom, and where colours live: the rules of the house, read off the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
LABORATORY = ROOT / "worker" / "modescape"
SERVER = ROOT / "backend" / "modescape_api"
SOURCES = sorted([*LABORATORY.rglob("*.py"), *SERVER.rglob("*.py")])

# Each heavy library has its own doors.
DOORS = {
    "celery": {"celery_queue.py"},
    "kombu": {"celery_queue.py"},
    "fastapi": {"modescape_api"},
    "argon2": {"users.py"},
    "starlette": {"modescape_api"},
    "uvicorn": {"modescape_api"},
    "plotly": {"drawing", "figures", "studies", "sweeps", "modescape_api"},
    "torch": {
        "science",
        "training.py",
        "training_groups",
        "calibration.py",
        "initial.py",
        "datasets",
        "architectures",
        "methods",
        "recipes",
        "stages",
        "stages.py",
        "testing",
        "executor.py",
        "celery_queue.py",
        "torch_child.py",  # a process of its own
    },
    "torchvision": {"science", "datasets", "recipes", "architectures"},
    "sqlalchemy": {"backup.py", "store", "tables.py", "columns.py", "stored_values.py", "listing.py", "database.py"},
    "alembic": {"database.py"},
}


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def rooms(path: Path) -> set[str]:
    base = SERVER.parent if path.is_relative_to(SERVER) else LABORATORY
    return set(path.relative_to(base).parts)


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_enter_by_their_doors_only(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for line, module in imports(path)
        if (doors := DOORS.get(module.split(".")[0])) and not doors & rooms(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_process_that_is_started_imports_from_the_folder_one_stands_in() -> None:
    """-P: `python -m` and `-c` have the working folder first on their path. Who tests modules of his own wants that."""
    started = [
        (path, one) for path in SOURCES for one in re.findall(r"\[\s*sys\.executable,\s*(\S+)", path.read_text("utf-8"))
    ]
    assert len(started) >= 7
    theirs = {LABORATORY / "cli.py", LABORATORY / "testing" / "contract.py"}
    assert not [path for path, option in started if option != '"-P",' and path not in theirs]


def test_imports_point_one_way() -> None:
    """Inside functions and for types, too; the contract is in pyproject and printed in docs/architecture.md."""
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_module_imports_itself_on_a_way_around() -> None:
    """Inside functions and for types, too."""
    graph = grimp.build_graph("modescape", "modescape_api")
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.slow
def test_declarations_and_planning_need_no_torch() -> None:
    code = (
        "import sys; from modescape import plan, presets, registry, finding, figures; registry.load();"
        "plan.prepare(registry.presets['quickstart'].call(), ());"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy', 'celery') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_colours_are_written_in_one_file_but_for_the_looks_of_methods() -> None:
    colour = re.compile(r"#[0-9a-fA-F]{6}\b")
    files = [
        *SOURCES,
        *(ROOT / "frontend").rglob("*.css"),
        *(ROOT / "frontend").rglob("*.js"),
        *(ROOT / "frontend").rglob("*.html"),
    ]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path != LABORATORY / "drawing" / "style.py" and path.parent != LABORATORY / "methods"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if colour.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_top_level_is_as_agreed() -> None:
    for name in (
        "pyproject.toml",
        "docker-compose.yml",
        "backend",
        "worker",
        "frontend",
        "migrations",
        "tests",
        "README.md",
    ):
        assert (ROOT / name).exists(), name
