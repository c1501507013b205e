"""The command line: `modescape up` runs the product, everything else is one verb each. See `modescape --help`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modescape import __version__, plugins
from modescape.errors import ConfigurationError, InvalidInput, ModescapeError
from modescape.records import StageState
from modescape.settings import Settings, read_settings, shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors of ours are one clear message on stderr and exit status 1 (2 for bad usage)."""
    parsed = parser().parse_args(arguments)
    command: Callable[[Settings, argparse.Namespace], int] = parsed.command
    try:
        return command(read_settings(), parsed)
    except InvalidInput as error:
        for problem in error.problems:
            print(f"modescape: {problem}", file=sys.stderr)
        return 1
    except ModescapeError as error:
        print(f"modescape: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modescape", description="Are these networks really different functions?")
    parser.add_argument("--version", action="version", version=f"modescape {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, call: Callable[[Settings, argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_, description=help_)
        added.set_defaults(command=call)
        return added

    command("up", _up, "migrate the database, start the API, the pages and the workers, and print the URL")
    command("serve", _serve, "run only the API and the pages")
    worker = command("worker", _worker, "run one worker")
    worker.add_argument(
        "--name", default=None, help="name of the worker; a restarted one of the same name resumes at once"
    )
    worker.add_argument("--device", default=None, choices=("auto", "cpu", "cuda"), help="where to compute")
    migrate = command("migrate", _migrate, "bring the database to this version")
    migrate.add_argument("--to", default="head", help="an Alembic revision; `base` empties the schema")
    run = command("run", _run, "run a spec here and now, without any service")
    run.add_argument("spec", help="a JSON file, `-` for standard input, or the name of a preset")
    run.add_argument("--name", default=None, help="name of the experiment")
    run.add_argument("--fresh", action="store_true", help="compute everything, even what an earlier experiment has")
    data = command("data", _data, "list data sets, here and missing, or fetch one")
    data.add_argument("action", nargs="?", default="list", choices=("list", "fetch"))
    data.add_argument("name", nargs="?", help="data set to fetch")
    export = command("export", _export, "write an experiment's spec, figures and data into a folder")
    export.add_argument("experiment", help="slug or id")
    export.add_argument("folder", type=Path)
    verify = command("verify", _verify, "re-hash every artifact and recompute the list columns")
    verify.add_argument("--sweep", action="store_true", help="delete files that no row names")
    purge = command("purge", _purge, "delete an archived experiment for good")
    purge.add_argument("experiment", help="slug or id")
    purge.add_argument("--yes", action="store_true", help="do not ask")
    asked = command("plugins", _plugins, "list plug-ins and what went wrong, or check what modules declare")
    asked.add_argument("action", nargs="?", default="list", choices=("list", "check"))
    asked.add_argument("module", nargs="*", help="to check: a file, a folder of a package, or a module's name")
    command("settings", _settings, "list every setting with its value")
    return parser


def _up(settings: Settings, _: argparse.Namespace) -> int:
    from modescape.supervisor import up

    return up(settings)


def _serve(settings: Settings, _: argparse.Namespace) -> int:
    from modescape_api.app import serve

    serve(settings)
    return 0


def _one_thread() -> None:
    """One thread for every numerical library; each reads its variable once, when it is loaded.

    Parallelism is one worker a core: two workers with two BLAS threads each slow one another down several times.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _worker(settings: Settings, parsed: argparse.Namespace) -> int:
    _one_thread()
    from modescape.celery_queue import worker_main

    if parsed.device:
        settings = settings.model_copy(update={"device": parsed.device})
    worker_main(settings, parsed.name)
    return 0


def _migrate(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.database import downgrade, upgrade

    if parsed.to == "head":
        upgrade(settings.database)
    else:
        downgrade(settings.database, parsed.to)
    print(f"database is at {parsed.to}")
    return 0


def _document(source: str) -> tuple[Any, str, str | None]:
    """The spec JSON that `source` names, a name for its experiment, and the preset if it is one."""
    from modescape.registry import presets

    if source in presets:
        return presets[source].call(), source, source
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{source} is neither a preset nor a file that can be read ({error.strerror})",
            field="spec", allowed="a JSON file, -, or one of " + ", ".join(presets),
        ) from None  # fmt: skip
    try:
        return json.loads(text), Path(source).stem if source != "-" else "experiment", None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{source} is not JSON: {error}", field="spec", allowed="a JSON object") from None


def _run(settings: Settings, parsed: argparse.Namespace) -> int:
    _one_thread()
    from modescape.laboratory import run

    plugins.load(settings.plugin_modules)
    document, name, preset = _document(parsed.spec)
    lab = run(document, settings=settings, name=parsed.name or name, preset=preset, fresh=parsed.fresh)
    print(lab.sentence())
    failed = [
        stage for stage in lab.stages if stage.state == StageState.FAILED and stage.error.get("type") != "NeedFailed"
    ]
    for stage in failed:
        print(f"modescape: {stage.kind}/{stage.key} failed: {stage.error.get('message')}", file=sys.stderr)
    return 1 if failed else 0


def _data(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.datasets.here import availability, fetch

    plugins.load(settings.plugin_modules)
    if parsed.action == "fetch":
        if not parsed.name:
            raise InvalidInput("which data set?", field="name", allowed="see `modescape data`")
        from tqdm import tqdm

        with tqdm(unit="B", unit_scale=True, desc=parsed.name) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            fetch(parsed.name, settings.data_folders[0], progress)
        return 0
    words = {"here": "here", "missing": "missing", "other": "other files"}
    for item in availability(settings.data_folders, patience=None):
        size = f"{item.bytes / 1e6:,.0f} MB" if item.bytes else "-"
        told = item.where if item.present else item.how
        print(f"{item.name:15} {size:>12}   {words[item.state]:11} {told}")
    return 0


def _export(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.laboratory import Laboratory, export

    plugins.load(settings.plugin_modules)
    print(f"wrote {export(Laboratory(settings), parsed.experiment, parsed.folder)} files to {parsed.folder}")
    return 0


def _verify(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.laboratory import Laboratory, verify

    report = verify(Laboratory(settings), sweep=parsed.sweep)
    print(report.text())
    return 0 if report.sound else 1


def _purge(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.laboratory import Laboratory, purge

    laboratory = Laboratory(settings)
    experiment = laboratory.store.experiments.get(parsed.experiment)
    if not parsed.yes:
        answer = input(f"Delete {experiment.name} ({experiment.slug}) and its files for good? Type its slug: ")
        if answer.strip() != experiment.slug:
            raise ConfigurationError("nothing was deleted")
    print(f"freed {purge(laboratory, experiment.id) / 1e6:,.1f} MB")
    return 0


def _plugins(settings: Settings, parsed: argparse.Namespace) -> int:
    if parsed.action == "check":  # in another process, so that a module that breaks takes nothing along
        if not parsed.module:
            raise InvalidInput("which modules?", field="module", allowed="files, folders or names of modules")
        return subprocess.run([sys.executable, "-m", "modescape.testing", *parsed.module], check=False).returncode
    plugins.load(settings.plugin_modules)
    for plugin in plugins.found():
        print(f"{plugin.module:30} {plugin.state:8} {plugin.named_by}")
        print(f"    {plugin.why or ', '.join(plugin.entries) or 'it declares nothing'}")
    if not plugins.found():
        print("none: no entry point of the group `modescape` is installed, and MODESCAPE_PLUGINS names no module")
    return 1 if any(plugin.state == plugins.State.FAILED for plugin in plugins.found()) else 0


def _settings(settings: Settings, _: argparse.Namespace) -> int:
    for name, field in Settings.model_fields.items():
        print(f"MODESCAPE_{name.upper():17} {shown(settings, name):40} {field.description}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
