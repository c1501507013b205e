"""The commands that ask a home or a server: list, views, show, estimate, launch, watch, cancel, pause, resume, retry,
change, purge, priority, compare, export, figures, reports.

Each takes `--server URL` and `--token`, without them it asks the home of the settings, and with `--json` it prints what
the REST interface's documents say, for programs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from modescape.errors import ConfigurationError, Conflict, InvalidInput
from modescape.records import PRIORITIES

if TYPE_CHECKING:
    from modescape.client.source import Form
    from modescape.client.tables import Table
    from modescape.client.workspace import Workspace
    from modescape.records import BulkDone, Json
    from modescape.settings import Settings

Add = Callable[[str, Callable[["Settings", argparse.Namespace], int], str], argparse.ArgumentParser]

_FORMS: Mapping[str, Form] = {
    ".html": "html", ".json": "json", ".csv": "csv", ".svg": "svg", ".png": "png", ".pdf": "pdf",
    ".parquet": "parquet", ".tex": "tex", ".py": "py",
}  # fmt: skip
_HOLDS = {
    "cancel": "stop an experiment, or all of a sweep; what is done is kept, and `retry` takes it up again",
    "pause": "stop an experiment, or all of a sweep, for now: what runs is saved",
    "resume": "go on after a pause",
    "retry": "do again what failed or was cancelled, from what is saved",
}
_LISTED = ("slug", "name", "status", "dataset", "architecture", "runs", "accuracy", "disagreement", "created_at")


def add_to(command: Add) -> None:
    """Declare the commands."""
    listed = command("list", _list, "list experiments, or sweeps")
    listed.add_argument("filter", nargs="*", metavar="FIELD=VALUE", help="such as dataset=digits or accuracy__gte=0.9")
    listed.add_argument(
        "--search", "--text", dest="text", default="", metavar="LINE",
        help="as in the search box: 'accuracy>0.9 tag:paper -status:failed \"free text\"'",
    )  # fmt: skip
    listed.add_argument("--sort", default=None, help="a column, - before it for largest first (--sort=-accuracy)")
    listed.add_argument("--limit", type=int, default=50, help="how many at most")
    listed.add_argument("--columns", default=None, help="separated by commas; also spec.<path> and result.<path>")
    listed.add_argument("--view", default=None, metavar="SLUG", help="begin with a kept one; see `modescape views`")
    listed.add_argument(
        "--by", default=None, metavar="FIELD", help="how many have each value of it, with mean and spread of numbers"
    )
    listed.add_argument("--sweeps", action="store_true", help="sweeps instead")
    views = command("views", _views, "list the named views of the list, keep one, or remove one")
    views.add_argument("action", nargs="?", default="list", choices=("list", "keep", "remove"))
    views.add_argument("name", nargs="?", help="of what is kept; the slug of what is removed")
    views.add_argument("query", nargs="?", help="what stands behind the question mark of the list's address")
    show = command("show", _show, "say what one experiment is, how far, and what it says of each claim")
    show.add_argument("experiment", help="slug or id")
    show.add_argument("--solutions", action="store_true", help="its solutions as a table")
    show.add_argument("--stages", action="store_true", help="its stages as a table")
    estimate = command("estimate", _estimate, "say what launching an experiment or a sweep would cost; nothing is kept")
    estimate.add_argument("spec", help="a file of JSON or YAML, `-`, or a preset; one with `over` is a sweep")
    estimate.add_argument("--fresh", action="store_true", help="compute everything, even what is here already")
    watch = command("watch", _watch, "follow an experiment or a sweep until it has ended; status 0 when it succeeded")
    watch.add_argument("experiment", help="slug or id, of a sweep too")
    holds = []
    for verb, does in _HOLDS.items():
        holds.append(held := command(verb, _hold, does))
        held.add_argument("experiment", help="slug or id, of a sweep too")
        held.set_defaults(hold=verb)
    change = command("change", _change, "give experiments tags or a project, archive them, or bring them back")
    _which(change)
    change.add_argument("--tag", action="append", default=[], help="to add; once for each")
    change.add_argument("--untag", action="append", default=[], help="to take away; once for each")
    change.add_argument("--project", default=None, help="to put them into; empty takes them out of theirs")
    stored = change.add_mutually_exclusive_group()
    stored.add_argument("--archive", action="store_true", help="take them out of the lists; nothing is deleted")
    stored.add_argument("--restore", action="store_true", help="bring them back from the archive")
    purge = command("purge", _purge, "delete archived experiments for good")
    _which(purge)
    purge.add_argument("--yes", action="store_true", help="do not ask")
    priority = command("priority", _priority, "have an experiment done before or after others that wait")
    priority.add_argument("experiment", help="slug or id")
    priority.add_argument("priority", choices=tuple(PRIORITIES))
    compare = command("compare", _compare, "put experiments side by side, with intervals of the differences")
    compare.add_argument("experiment", nargs="+", help="two to 24 slugs or ids")
    compare.add_argument(
        "--from", dest="reference", metavar="SLUG", help="differences are from it; else from the first"
    )
    export = command("export", _export, "write an experiment into a folder, or its ensemble into a .zip")
    export.add_argument("experiment", help="slug or id")
    export.add_argument("folder", type=Path, help="a new folder, or a new .zip or .npz for the ensemble alone")
    figures = command("figures", _figures, "list the figures of an experiment, or write one")
    figures.add_argument("experiment", help="slug or id")
    figures.add_argument("figure", nargs="?", help="one of them, to be written")
    figures.add_argument("--to", type=Path, default=None, help=f"a new {', '.join(_FORMS)}; without it JSON is printed")
    figures.add_argument("--width", type=int, default=960, help="px of a picture")
    figures.add_argument("--scale", type=float, default=2.0, help="device pixels for each, of PNG")
    figures.add_argument("--theme", default="light", choices=("light", "dark", "print"))
    figures.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="as on the figure's page")
    reports = command("reports", _reports, "list the reports, or write one into a file")
    reports.add_argument("report", nargs="?", help="slug or id")
    reports.add_argument("--to", type=Path, default=None, help="a new .html, .ipynb, .md.zip or .tex.zip")
    asking = (listed, views, show, estimate, watch, change, purge, priority, compare, export, figures, reports)
    for one in (*asking, *holds):
        asks_a_server(one)


def _which(command: argparse.ArgumentParser) -> None:
    """Experiments by name, or a line of the search box."""
    command.add_argument("experiment", nargs="*", help="slugs or ids")
    command.add_argument(
        "--search", default=None, metavar="LINE", help="instead: all that the search box finds by it, 1,000 at most"
    )


def asks_a_server(command: argparse.ArgumentParser) -> None:
    """--server, --token, --json."""
    command.add_argument("--server", metavar="URL", help="a running server, such as http://127.0.0.1:8000")
    command.add_argument("--token", default=None, help="a token of yours, or the server's; empty takes MODESCAPE_TOKEN")
    command.add_argument("--json", action="store_true", help="for programs")


def workspace(settings: Settings, parsed: argparse.Namespace, *, new: bool = False) -> Workspace:
    """What the arguments name. new: a home that is not there yet is made."""
    from modescape import plugins
    from modescape.client import workspace as there

    if parsed.server:
        return there.connect(parsed.server, parsed.token or settings.token_for(parsed.server))
    plugins.load(settings.plugin_modules)
    return there.of_settings(settings, new=new)


def print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def launch(settings: Settings, parsed: argparse.Namespace, document: Any, name: str, preset: str | None) -> int:
    """Store what a document asks for, for the workers."""
    made = workspace(settings, parsed, new=True).launched(
        preset if preset is not None else document, name=name, preset=preset or parsed.preset, fresh=parsed.fresh,
        priority=parsed.priority, notes=parsed.notes, tags=parsed.tag, project=parsed.project, parent=parsed.parent,
    )  # fmt: skip
    if parsed.json:
        print_json(asdict(made))
    else:
        print(f"{(parsed.server or '').rstrip('/')}/{made.kind}s/{made.slug}")
    return 0


def _list(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.store.groups import GROUP_NUMBERS

    lab = workspace(settings, parsed)
    columns = tuple(filter(None, parsed.columns.split(","))) if parsed.columns else ()
    if parsed.sweeps:
        found = lab.sweeps()
        shown = columns or found.columns
    else:
        filters = dict(_pair("filter", one) for one in parsed.filter)
        if parsed.by is not None:
            found = lab.groups(parsed.by, parsed.text, numbers=columns or GROUP_NUMBERS, view=parsed.view, **filters)
            shown = found.columns
        else:
            found = lab.experiments(
                parsed.text, sort=parsed.sort, limit=parsed.limit, columns=columns, view=parsed.view, **filters
            )
            shown = columns or _LISTED
    if parsed.json:
        print_json({"query": found.title, "total": found.total, "items": found.rows})
    else:
        _print(found, shown)
    return 0


def _views(settings: Settings, parsed: argparse.Namespace) -> int:
    lab = workspace(settings, parsed)
    if parsed.action == "list":
        found = lab.views()
        if parsed.json:
            print_json([asdict(one) for one in found])
        for one in () if parsed.json else found:
            print(f"{one.slug:32} {one.query}")
        return 0
    if not parsed.name or (parsed.action == "keep" and parsed.query is None):
        raise InvalidInput("which?", field="name", allowed="keep NAME QUERY, or remove SLUG")
    if parsed.action == "remove":
        lab.remove_view(parsed.name)
        return 0
    kept = lab.keep_view(parsed.name, parsed.query)
    if parsed.json:
        print_json(asdict(kept))
    else:
        print(kept.slug)
    return 0


def _print(found: Table, columns: tuple[str, ...]) -> None:
    print(found.text(columns) if found.rows else f"{found.title}: none")


def _show(settings: Settings, parsed: argparse.Namespace) -> int:
    one = workspace(settings, parsed).experiment(parsed.experiment)
    detail = one.detail
    if parsed.json:
        told: Json = {name: value for name, value in asdict(detail).items() if name != "row"} | {"list": detail.row}
        print_json(told | ({"solutions": one.solutions.rows} if parsed.solutions else {}))
        return 0
    print(one)
    runs = f"{detail.row['runs']} {detail.voice('runs' if detail.row['runs'] != 1 else 'run')}"
    about = f"{detail.row['dataset']}, {detail.row['architecture']}, {runs}, launched"
    if detail.voice.elsewhere:
        about = f"{runs}, imported"
    print(f"\n{about} {detail.created:%Y-%m-%d %H:%M} UTC" + (f"\n{detail.notes}" if detail.notes else ""))
    if detail.waits:
        print(f"waits: {detail.waits}")
    if parsed.stages:
        print()
        for stage in detail.stages:
            spent = "" if stage.seconds is None else f"{stage.seconds:.1f} s"
            print(f"{stage.kind:14} {stage.key:20} {stage.state:10} {spent:>10}  {stage.error or stage.waits}".rstrip())
    if parsed.solutions:
        print(f"\n{one.solutions.text(_OF_SOLUTIONS)}")
    return 0


_OF_SOLUTIONS = ("number", "run", "role", "method", "set", "index", "epoch", "accuracy", "disagreement", "cosine")


def _estimate(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape import documents, plugins

    plugins.load(settings.plugin_modules)
    found = workspace(settings, parsed, new=True).estimate(documents.read(parsed.spec).document, fresh=parsed.fresh)
    if parsed.json:
        print_json(asdict(found))
    else:
        print(found)
    return 0


def _watch(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.client.records import Progress
    from modescape.records import Status

    went_well = False
    for progress in workspace(settings, parsed).watch(parsed.experiment):
        print(json.dumps(asdict(progress)) if parsed.json else progress, flush=True)
        went_well = progress.status == Status.SUCCEEDED if isinstance(progress, Progress) else not progress.failed
    return 0 if went_well else 1


def _hold(settings: Settings, parsed: argparse.Namespace) -> int:
    lab = workspace(settings, parsed)
    getattr(lab, parsed.hold)(parsed.experiment)
    progress = next(iter(lab.watch(parsed.experiment)))
    if parsed.json:
        print_json(asdict(progress))
    else:
        print(progress)
    return 0


def _change(settings: Settings, parsed: argparse.Namespace) -> int:
    lab, which = workspace(settings, parsed), parsed.experiment
    is_changed = bool(parsed.tag or parsed.untag or parsed.project is not None)
    if parsed.archive or parsed.restore:
        if is_changed:
            raise InvalidInput("is a deed of its own", field="--archive", allowed="without --tag, --untag, --project")
        do = lab.archive if parsed.archive else lab.restore
        return _did(do(*which, search=parsed.search), "archived" if parsed.archive else "restored", parsed)
    done = lab.change(*which, search=parsed.search, tag=parsed.tag, untag=parsed.untag, project=parsed.project)
    return _did(done, "changed", parsed)


def _purge(settings: Settings, parsed: argparse.Namespace) -> int:
    lab, which = workspace(settings, parsed), parsed.experiment
    meant = lab.purge(*which, search=parsed.search, dry=True)
    if not parsed.yes and meant.done:
        one = meant.done[0] if len(meant.done) == 1 else str(len(meant.done))
        of_what = "its slug" if len(meant.done) == 1 else "how many"
        freed = f"{meant.freed / 1e6:,.1f} MB"
        asked = f"{', '.join(meant.done)}\nDelete these and their files ({freed}) for good? Type {of_what}, {one}: "
        if input(asked).strip() != one:
            raise ConfigurationError("nothing was deleted")
    done = lab.purge(*meant.done) if meant.done else meant
    return _did(done, f"freed {done.freed / 1e6:,.1f} MB", parsed)


def _did(done: BulkDone, said: str, parsed: argparse.Namespace) -> int:
    """What was done, and what could not be; status 1 where something could not."""
    if parsed.json:
        print_json(done.document())
    else:
        print(f"{len(done.done)} experiment{'' if len(done.done) == 1 else 's'}: {said}")
        for slug, why in done.failed.items():
            print(f"modescape: {slug}: {why}", file=sys.stderr)
    return 1 if done.failed else 0


def _priority(settings: Settings, parsed: argparse.Namespace) -> int:
    lab = workspace(settings, parsed)
    lab.prioritise(parsed.experiment, parsed.priority)
    row = lab.experiment(parsed.experiment).detail.row
    if parsed.json:
        print_json({name: row[name] for name in ("slug", "priority")})
    else:
        print(f"{row['slug']}: {parsed.priority} priority")
    return 0


def _compare(settings: Settings, parsed: argparse.Namespace) -> int:
    found = workspace(settings, parsed).compare(*parsed.experiment, reference=parsed.reference)
    if parsed.json:
        print_json(found.document())
    else:
        print(found)
    return 0


def _export(settings: Settings, parsed: argparse.Namespace) -> int:
    files = workspace(settings, parsed).experiment(parsed.experiment).export(parsed.folder)
    if parsed.json:
        print_json({"files": files, "path": str(parsed.folder)})
    else:
        print(f"wrote {files} files to {parsed.folder}")
    return 0


def _figures(settings: Settings, parsed: argparse.Namespace) -> int:
    one = workspace(settings, parsed).experiment(parsed.experiment)
    if parsed.figure is None:
        found = one.figures
        if parsed.json:
            print_json([asdict(entry) for entry in found])
        for entry in () if parsed.json else found:
            print(f"{entry.name:24} {entry.state:12} {entry.question}")
        return 0
    form: Form | None = _FORMS.get(parsed.to.suffix.lower()) if parsed.to else "json"
    if form is None:
        raise InvalidInput(f"ends in {parsed.to.suffix!r}", field="--to", allowed=", ".join(_FORMS))
    if parsed.to is not None and parsed.to.exists():
        raise Conflict(f"{parsed.to} is there already; name a new file")
    options: dict[str, Any] = {name: _of_text(value) for name, value in (_pair("--option", o) for o in parsed.option)}
    content = one.picture(parsed.figure, form, theme=parsed.theme, width=parsed.width, scale=parsed.scale, **options)
    if parsed.to is None:
        sys.stdout.buffer.write(content + b"\n")
        return 0
    parsed.to.write_bytes(content)
    if parsed.json:
        print_json({"figure": parsed.figure, "path": str(parsed.to), "bytes": len(content)})
    else:
        print(f"wrote {parsed.to}")
    return 0


def _reports(settings: Settings, parsed: argparse.Namespace) -> int:
    lab = workspace(settings, parsed)
    if parsed.report is None:
        found = lab.reports()
        if parsed.json:
            print_json([{**asdict(one), "changed_at": one.changed_at.isoformat()} for one in found])
        for one in () if parsed.json else found:
            print(f"{one.slug:32} {one.changed_at:%Y-%m-%d %H:%M}  {one.name}")
        return 0
    report = lab.report(parsed.report)
    if parsed.to is not None:
        print(f"wrote {report.export(parsed.to)}")
    elif parsed.json:
        print_json({"slug": report.slug, "name": report.name, "blocks": report.blocks})
    else:
        print(report)
    return 0


def _pair(field: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidInput(f"is {text!r}", field=field, allowed="name=value")
    return name, value


def _of_text(value: str) -> str | list[str]:
    """Several values are parted by commas, as in a query string."""
    return value.split(",") if "," in value else value
