"""The command line: `modescape up` runs the product, everything else is one verb each. See `modescape --help`.

Each verb loads what it needs when it is called, so that `--help` and a word misspelt are answered at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from modescape import __version__, extras, user_commands
from modescape.client import commands as commands_of_client
from modescape.errors import ConfigurationError, InvalidInput, ModescapeError
from modescape.records import PRIORITIES

if TYPE_CHECKING:
    from modescape.imported.ensemble import Ensemble, OutputKind, Recipe
    from modescape.importing_weights import GivenWeights
    from modescape.laboratory import Lab
    from modescape.sending import ServerDoor
    from modescape.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors of ours are one clear message on stderr and exit status 1 (2 for bad usage)."""
    parsed = parser().parse_args(arguments)
    from modescape.settings import read_settings

    command: Callable[[Settings, argparse.Namespace], int] = parsed.command
    try:
        with extras.said(), _keeping_home(command):
            settings = read_settings()
            if command in _KEEPING and not (settings.open or getattr(parsed, "open", False)):
                _close(settings.home)
            status = command(settings, parsed)
        sys.stdout.flush()
        return status
    except InvalidInput as error:
        for problem in error.problems:
            print(f"modescape: {problem}", file=sys.stderr)
        return 1
    except ModescapeError as error:
        print(f"modescape: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a file, or a folder, of which the system says no
        if isinstance(error, BrokenPipeError):  # whoever reads has enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer, too
            return 141
        named = f"{error.filename}: " if error.filename else ""
        print(f"modescape: {named}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except EOFError:  # it asks, and standard input is at its end: nothing is done without an answer
        print("modescape: nobody answers, and nothing was done; --help says how to answer beforehand", file=sys.stderr)
        return 1
    except Exception as error:
        from modescape.database import no_room

        if (lack := no_room(error)) is None:
            raise
        print(f"modescape: {lack}", file=sys.stderr)
        return 1


@contextmanager
def _keeping_home(command: Callable[..., int]) -> Iterator[None]:
    """What commands that make something in a home make is their account's alone; what they start inherits it."""
    before = os.umask(0o077) if command in _KEEPING else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def _close(home: Path) -> None:
    """To other accounts, where it is there already and open to them; one that is not ours stays as it is."""
    try:
        about = home.stat()
    except OSError:
        return
    if about.st_uid == os.getuid() and about.st_mode & 0o077:
        home.chmod(0o700)
        print(f"closed {home} to other accounts; --open, or MODESCAPE_OPEN, leaves it as it is", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modescape", description="Are these networks really different functions?")
    parser.add_argument("--version", action="version", version=f"modescape {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, call: Callable[[Settings, argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_, description=help_)
        added.set_defaults(command=call)
        return added

    for served in (
        command("up", _up, "migrate the database, start the API, the pages and the workers, and print the URL"),
        command("serve", _serve, "run only the API and the pages"),
    ):
        served.add_argument("--open", action="store_true", help="let in every account of this machine")
    worker = command("worker", _worker, "run one worker")
    worker.add_argument(
        "--name", default=None, help="name of the worker; a restarted one of the same name resumes at once"
    )
    worker.add_argument(
        "--check", nargs="?", const="", default=None, metavar="NAME",
        help="run none, but say whether that one answers (without NAME: those of this machine); status 0 if so, else 1",
    )  # fmt: skip
    worker.add_argument("--device", default=None, choices=("auto", "cpu", "cuda"), help="where to compute")
    worker.add_argument(
        "--queues", default=None, help="take only stages of these queues, separated by commas: cpu, gpu, long"
    )
    migrate = command("migrate", _migrate, "bring the database to this version")
    migrate.add_argument("--to", default="head", help="an Alembic revision; `base` destroys everything in the database")
    migrate.add_argument("--yes", action="store_true", help="do not ask before something is destroyed")
    run = command("run", _run, "run a spec here and now, without any service")
    run.add_argument("spec", help="a file of JSON or YAML, `-` for standard input, or a preset")
    run.add_argument("--name", default=None, help="name of the experiment")
    run.add_argument("--fresh", action="store_true", help="compute everything, even what an earlier experiment has")
    bring = command("import", _import, "judge an ensemble made elsewhere: a folder, an archive, arrays, a table")
    bring.add_argument(
        "path", nargs="*", help="where it lies; files, or a pattern such as 'run_*/test.npy', for one file a member"
    )
    bring.add_argument("--name", default=None, help="name of the experiment")
    bring.add_argument("--labels", default=None, help="file of the true labels; in an .npz, the array's name")
    bring.add_argument("--outputs", default=None, help="in an .npz, the name of the array of predictions")
    bring.add_argument("--member", default=None, help=r"what of a path is the member's name, such as 'run_(\d+)'")
    bring.add_argument("--validation", default=None, metavar="PATTERN=LABELS", help="outputs on validation images")
    bring.add_argument("--ood", action="append", default=[], metavar="NAME=PATTERN", help="on images of another kind")
    bring.add_argument(
        "--shift", action="append", default=[], metavar="TYPE/INTENSITY=PATTERN",
        help="on the test images changed; =LABELS behind it for images of their own",
    )  # fmt: skip
    bring.add_argument("--kind", choices=("logits", "probs", "log-probs", "labels"), help="what the numbers are")
    bring.add_argument(
        "--recipe", choices=("same", "different", "unknown"),
        help="same: members differ by their seeds alone, which claims about runs stand on",
    )  # fmt: skip
    bring.add_argument("--experiment", default=None, help="which one, of several in another tool's logs")
    bring.add_argument("--permutation", choices=("apply", "keep"), help="whether classes are put in the labels' order")
    bring.add_argument("--mixed", choices=("keep",), help="what looks like probabilities among logits is logits")
    _weights_arguments(bring)
    commands_of_client.asks_a_server(bring)
    bring.add_argument("--look", action="store_true", help="say what is understood and what is odd, and keep nothing")
    launch = command("launch", _launch, "store an experiment or a sweep for the workers; the whole is checked first")
    launch.add_argument("spec", help="a file of JSON or YAML, `-`, or a preset; one with `over` is a sweep")
    launch.add_argument("--name", default=None, help="name of it")
    launch.add_argument("--preset", default=None, help="the preset that a spec began as, by its name")
    launch.add_argument("--notes", default="", help="anything worth remembering")
    launch.add_argument("--tag", action="append", default=[], help="to find it by; once for each")
    launch.add_argument("--project", default="", help="a name that several experiments are given; not of a sweep")
    launch.add_argument("--parent", default=None, help="the experiment that this is a clone of; not of a sweep")
    launch.add_argument("--fresh", action="store_true", help="compute everything, even what an earlier experiment has")
    launch.add_argument("--priority", default="normal", choices=tuple(PRIORITIES), help="before or after what waits")
    launch.add_argument("--here", action="store_true", help="of a sweep: run it here and now, without any service")
    launch.add_argument("--price", action="store_true", help="of a sweep: check and price it, and keep nothing")
    commands_of_client.asks_a_server(launch)
    commands_of_client.add_to(command)
    data = command("data", _data, "list data sets, here and missing, or fetch one")
    data.add_argument("action", nargs="?", default="list", choices=("list", "fetch"))
    data.add_argument("name", nargs="?", help="data set to fetch")
    spool = command("spool", _spool, "list, send or forget what training loops have logged and nobody has sent yet")
    spool.add_argument("action", nargs="?", default="list", choices=("list", "send", "forget"))
    spool.add_argument("id", nargs="*", help="which, as they are listed; of send, none are all")
    spool.add_argument("--token", default=None, help="the server's token; empty takes MODESCAPE_TOKEN")
    verify = command("verify", _verify, "check the database and every artifact; have made again what is damaged")
    verify.add_argument("--sweep", action="store_true", help="delete files that no row names")
    kept = command("backup", _backup, "copy everything into a folder, while the service runs; either database reads it")
    kept.add_argument("folder", type=Path, help="where copies are kept, each by its moment; artifacts once for all")
    kept.add_argument("--keep", type=int, default=None, help="how many copies stay; nothing keeps all")
    kept.add_argument("--no-artifacts", action="store_true", help="the tables alone; artifacts are kept elsewhere")
    back = command("restore", _restore, "put a backup into an empty database, and verify it")
    back.add_argument("folder", type=Path, help="where copies are kept")
    back.add_argument("--at", default=None, help="which one, such as 2026-11-30T14-05-00Z; the newest otherwise")
    back.add_argument(
        "--keep-tokens", action="store_true", help="tokens hold again, also those that were revoked since"
    )
    asked = command("plugins", _plugins, "list plug-ins and what went wrong, or check what modules declare")
    asked.add_argument("action", nargs="?", default="list", choices=("list", "check"))
    asked.add_argument("module", nargs="*", help="to check: a file, a folder of a package, or a module's name")
    schema = command(
        "schema", _schema, "write the JSON Schema of a spec, by which editors complete and check YAML and JSON"
    )
    schema.add_argument("file", nargs="?", type=Path, help="where to; nothing: to standard output")
    schema.add_argument("--sweep", action="store_true", help="of a sweep")
    user_commands.add_to(command)
    command("settings", _settings, "list every setting with its value")
    return parser


def _weights_arguments(bring: argparse.ArgumentParser) -> None:
    group = bring.add_argument_group("weights", "networks that were trained elsewhere, to be evaluated here")
    group.add_argument(
        "--weights", nargs="+", action="extend", metavar="PATTERN",
        help="a file a member: .safetensors, .pt, .ckpt; a pattern, a folder of them, or each by its name",
    )  # fmt: skip
    group.add_argument("--architecture", default=None, help="whose weights they are")
    group.add_argument("--options", default="{}", metavar="JSON", help="the network's options")
    group.add_argument("--data", default=None, help="the data set they were trained on; JSON for more than its name")
    group.add_argument("--inputs", default=None, help="how pixels were scaled: unit, imagenet, mean=...;std=..., +bgr")
    group.add_argument(
        "--keys", default="by-name", choices=("by-name", "by-order"), help="how tensors find their place"
    )
    group.add_argument(
        "--expect-accuracy", action="append", default=[], metavar="A",
        help="on the test set, as it was printed (.9173, 91.73%%); once for each member",
    )  # fmt: skip
    group.add_argument(
        "--held-out", action="store_true",
        help="the validation images, the last of the training files, were kept out of these trainings",
    )  # fmt: skip
    group.add_argument("--snapshots", default=None, metavar="FOLDER", help="FOLDER/<member>/<epoch>.safetensors")
    group.add_argument("--curve", default=None, metavar="FILE", help="the bend of a Bezier curve between the first two")
    group.add_argument("--spec", default=None, metavar="FILE", help="JSON or YAML: methods, planes, ... of a spec")
    group.add_argument("--table", action="store_true", help="show which tensor went where")


def _up(settings: Settings, parsed: argparse.Namespace) -> int:
    for extra in ("server", "worker"):
        extras.require(extra, "modescape up")
    from modescape.supervisor import up

    return up(_serving(settings, parsed))


def _serve(settings: Settings, parsed: argparse.Namespace) -> int:
    extras.require("server", "modescape serve")
    from modescape_api.app import serve

    _keep_links_inside(settings)
    serve(_serving(settings, parsed))
    return 0


def _serving(settings: Settings, parsed: argparse.Namespace) -> Settings:
    if not parsed.open:
        return settings
    os.environ["MODESCAPE_OPEN"] = "1"
    return settings.model_copy(update={"open": True})


def _keep_links_inside(settings: Settings) -> None:
    """For what others see and workers train on: their sets hold the same files for all of them."""
    from modescape.science.data import bounds, keep_to

    keep_to((*settings.registration_roots, *settings.data_folders))
    memory, unpacked = (int(given * 2**30) for given in (settings.read_memory, settings.read_unpacked))
    bounds.keep_within(pixels=settings.read_pixels, unpacked=unpacked, memory=memory)


def _one_thread() -> None:
    """One thread for every numerical library; each reads its variable once, when it is loaded.

    Parallelism is one worker a core: two workers with two BLAS threads each slow one another down several times.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _worker(settings: Settings, parsed: argparse.Namespace) -> int:
    if parsed.check is not None:
        return _check_worker(settings, parsed.check)
    _one_thread()
    extras.require("worker", "modescape worker")
    from modescape.celery_queue import worker_main

    asked = {name: getattr(parsed, name) for name in ("device", "queues") if getattr(parsed, name)}
    settings = settings.model_copy(update=asked)
    _keep_links_inside(settings)
    worker_main(settings, parsed.name)
    return 0


def _check_worker(settings: Settings, name: str) -> int:
    from modescape.database import UNAVAILABLE, check_schema
    from modescape.outage import first_line
    from modescape.store import Store

    check_schema(settings.database)
    store = Store(settings.database)
    try:
        answers, words = store.workers.heard_of(name, lease_seconds=settings.lease_seconds)
    except UNAVAILABLE as error:
        answers, words = False, f"the database does not answer ({first_line(error)})"
    finally:
        store.close()
    print(f"modescape: {words}", file=sys.stdout if answers else sys.stderr)
    return 0 if answers else 1


def _migrate(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.database import downgrade, upgrade

    if parsed.to == "head":
        upgrade(settings.database)
    else:
        _ask_before_destroying(settings, parsed)
        downgrade(settings.database, parsed.to)
    print(f"database is at {parsed.to}")
    return 0


def _ask_before_destroying(settings: Settings, parsed: argparse.Namespace) -> None:
    """Raises ConfigurationError where nobody says yes."""
    if parsed.yes:
        return
    where = settings.database.set(username=None, password=None, query={}).render_as_string()
    lost = "everything in it" if parsed.to == "base" else "what only newer versions keep"
    what = f"taking {where} back to {parsed.to} destroys {lost}"
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{what}; --yes says that this is meant")
    if input(f"{what[0].upper()}{what[1:]}. Type {parsed.to} to do so: ").strip() != parsed.to:
        raise ConfigurationError("nothing was changed")


def _launch(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape import documents, plugins
    from modescape.sweeps.asked import is_sweep

    plugins.load(settings.plugin_modules)
    _keep_links_inside(settings)
    written = documents.read(parsed.spec)
    sweeps = is_sweep(written.document)
    if sweeps and not (parsed.server or parsed.json):
        return _sweep(settings, parsed, written.document, parsed.name or written.name)
    if parsed.here or parsed.price:
        only = "a sweep in this home, told in words" if sweeps else "a sweep"
        raise InvalidInput("is asked", field="--here" if parsed.here else "--price", allowed=only)
    if not parsed.server:
        extras.require("worker", "handing an experiment to workers", "celery")
    return commands_of_client.launch(settings, parsed, written.document, parsed.name or written.name, written.preset)


def _sweep(settings: Settings, parsed: argparse.Namespace, document: Any, name: str) -> int:
    _one_thread()
    from modescape.drawing.words import price
    from modescape.laboratory import started
    from modescape.records import Status
    from modescape.sweeps import launching
    from modescape.sweeps.running import run_here

    here = started(None, settings)
    if parsed.here:
        found = run_here(here, document, name=name, fresh=parsed.fresh, progress=True)
        print(found)
        return 0 if all(row.status == Status.SUCCEEDED for row in found.kept.experiments) else 1
    prepared = launching.prepare(here.laboratory, document, fresh=parsed.fresh)
    whole = prepared.price
    reused = f"{whole.here} here already, {whole.shared} done once for several cells"
    cost = f"{price(whole.seconds, whole.low, whole.high)}, {whole.bytes / 1e6:,.0f} MB"
    print(f"{whole.cells} cells, {whole.stages} stages ({reused}), {cost}")
    if parsed.price:
        return 0
    extras.require("worker", "handing experiments to workers", "celery")
    from modescape import celery_queue

    row = launching.create(
        here.laboratory,
        prepared,
        name=name,
        notes=parsed.notes,
        fresh=parsed.fresh,
        priority=PRIORITIES[parsed.priority],
    )
    for experiment in here.laboratory.store.sweeps.get(row.id).experiments:
        celery_queue.dispatch(settings, here.laboratory.store, experiment.id)
    print(f"/sweeps/{row.slug}")
    return 0


def _run(settings: Settings, parsed: argparse.Namespace) -> int:
    _one_thread()
    from modescape import plugins
    from modescape.laboratory import run

    plugins.load(settings.plugin_modules)
    return _told(run(parsed.spec, settings=settings, name=parsed.name, fresh=parsed.fresh))


def _told(lab: Lab, *, as_json: bool = False) -> int:
    """What an experiment that has ended says, and what of it failed."""
    from modescape.records import StageState

    if as_json:
        commands_of_client.print_json({"slug": lab.experiment.slug, "sentence": lab.sentence()})
    else:
        print(lab.sentence())
    failed = [
        stage for stage in lab.stages if stage.state == StageState.FAILED and stage.error.get("type") != "NeedFailed"
    ]
    for stage in failed:
        print(f"modescape: {stage.kind}/{stage.key} failed: {stage.error.get('message')}", file=sys.stderr)
    return 1 if failed else 0


def _import(settings: Settings, parsed: argparse.Namespace) -> int:
    _one_thread()
    if parsed.weights is not None:
        return _import_weights(settings, parsed)
    if not parsed.path:
        raise InvalidInput("is needed", field="path", allowed="where the ensemble lies; or --weights")
    from modescape.imported.ensemble import Unclear
    from modescape.imported.saying import question

    try:
        return _import_outputs(settings, parsed)
    except Unclear as unclear:
        if not parsed.look:
            raise
        if not parsed.json:
            print(question(unclear))
            return 0
        return _look_for_programs(parsed, partial(_raised, unclear))


def _raised(error: Exception) -> NoReturn:
    raise error


def _import_outputs(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.imported.answers import examined
    from modescape.imported.ensemble import OutputKind, Recipe
    from modescape.imported.saying import understood
    from modescape.importing import Answers, bring_in
    from modescape.laboratory import started

    if parsed.server:
        return _import_there(settings, parsed)
    kind = OutputKind(parsed.kind) if parsed.kind else None
    recipe = Recipe(parsed.recipe) if parsed.recipe else None
    if parsed.look and parsed.json:
        return _look_for_programs(parsed, partial(_read, parsed, kind, recipe))
    ensemble = _read(parsed, kind, recipe)
    for line in understood(*examined(ensemble, parsed.permutation)):
        print(line, file=sys.stderr if parsed.json else sys.stdout)
    if parsed.look:
        return 0
    answers = Answers(kind=kind, permutation=parsed.permutation, recipe=recipe, mixed=parsed.mixed)
    here = started(None, settings)
    experiment = bring_in(
        here.laboratory, ensemble, name=parsed.name or ensemble.name, answers=answers,
        provenance=_lay_at(parsed.path[0]),
    )  # fmt: skip
    return _told(here.finish(experiment, progress=True), as_json=parsed.json)


def _look_for_programs(parsed: argparse.Namespace, read: Callable[[], Ensemble]) -> int:
    """What `POST /api/imports/look` answers."""
    from dataclasses import asdict

    from modescape.apart import Asked
    from modescape.reading_process import looked

    asked = Asked(
        parsed.kind, parsed.recipe, parsed.permutation, parsed.outputs, parsed.labels, parsed.name, mixed=parsed.mixed
    )
    commands_of_client.print_json(asdict(looked(read, asked)))
    return 0


def _lay_at(path: str) -> dict[str, str]:
    """Where what is imported lay, for its provenance."""
    from modescape.imported.arrays import printable

    return {"path": printable(str(Path(path).absolute()))}


def _import_weights(settings: Settings, parsed: argparse.Namespace) -> int:
    from dataclasses import asdict

    from modescape import documents, plugins
    from modescape.imported.door import not_read
    from modescape.imported.ensemble import Recipe
    from modescape.imported.saying import said as sentence_of
    from modescape.imported.tensor_names import Keys
    from modescape.importing_weights import Choices, NamedFile, bring_in_weights, data_of, look, members_from, unread
    from modescape.laboratory import started

    for option in ("architecture", "data"):
        if getattr(parsed, option) is None:
            raise InvalidInput("is needed beside --weights", field=f"--{option}", allowed="a name")
    plugins.load(settings.plugin_modules)
    members = members_from(
        parsed.weights, member=parsed.member, snapshots=parsed.snapshots, expect_accuracy=parsed.expect_accuracy
    )
    said = sys.stderr if parsed.json else sys.stdout
    beside = unread(parsed.weights)
    odd = [not_read(beside)] if beside else []
    if not (parsed.look and parsed.json):
        for one in odd:
            print(sentence_of(one.level, one.sentence), file=said)
    if parsed.server:
        return _send_weights(settings, parsed, members)
    data = _json("--data", parsed.data) if parsed.data.lstrip().startswith("{") else parsed.data
    choices = Choices(
        parsed.architecture, data_of(data, parsed.inputs), _json("--options", parsed.options), Keys(parsed.keys),
        Recipe(parsed.recipe or "unknown"), parsed.held_out,
        NamedFile.of(parsed.curve) if parsed.curve else None,
        documents.read(parsed.spec).document if parsed.spec else {},
    )  # fmt: skip
    found = look(settings, members, choices)
    if parsed.look and parsed.json:
        commands_of_client.print_json({
            "name": parsed.name or "weights", "recipe": choices.recipe, "members": [one.name for one in members],
            "files": [one.document() for one in found], "odd": [asdict(one) for one in odd],
        })  # fmt: skip
        return 0
    for placed in found:
        print(placed.sentence(), file=said)
        for line in placed.lines() if parsed.table or not placed.fit.is_plain else ():
            print(f"    {line}", file=said)
    if parsed.look:
        return 0
    here = started(None, settings)
    experiment = bring_in_weights(
        here.laboratory, members, choices, name=parsed.name or "weights", unread=beside,
        provenance=_lay_at(parsed.weights[0]),
    )  # fmt: skip
    return _told(here.finish(experiment, progress=True), as_json=parsed.json)


def _send_weights(settings: Settings, parsed: argparse.Namespace, members: Sequence[GivenWeights]) -> int:
    """Send weights to a server, whose worker puts them into their places."""
    from modescape import documents
    from modescape.importing_weights import NamedFile, files_to_send

    if parsed.look:
        raise InvalidInput("puts weights into a network here", field="--look", allowed="without --server")
    door = _door(settings, parsed)
    curve = NamedFile.of(parsed.curve) if parsed.curve else None
    sent = door.send(files_to_send(members, curve))
    data = _json("--data", parsed.data) if parsed.data.lstrip().startswith("{") else parsed.data
    found = door.bring_in_weights(
        parsed.name or "weights", sent, architecture=parsed.architecture, options=_json("--options", parsed.options),
        data=data, inputs=parsed.inputs, keys=parsed.keys, recipe=parsed.recipe, held_out=parsed.held_out, by=_who(),
        expect_accuracy=parsed.expect_accuracy, more=documents.read(parsed.spec).document if parsed.spec else None,
    )  # fmt: skip
    print(door.page(found["slug"]))
    return 0


def _door(settings: Settings, parsed: argparse.Namespace) -> ServerDoor:
    from modescape.sending import ServerDoor

    return ServerDoor(
        parsed.server, parsed.token or settings.token_for(parsed.server), tell=lambda line: print(line, file=sys.stderr)
    )


def _who() -> str:
    import getpass
    import socket

    return f"{getpass.getuser()} at {socket.gethostname()}"


def _json(option: str, text: str) -> Any:
    from modescape import documents

    return documents.from_json(text, option)


def _import_there(settings: Settings, parsed: argparse.Namespace) -> int:
    """Send it to a server: files as they lie, or, of patterns, as one archive that is put together here."""
    import tempfile

    from modescape.imported.arrays import printable
    from modescape.imported.globs import leading_out
    from modescape.sending import file_of_labels, files_below, understood, with_labels

    if parsed.experiment is not None:
        allowed = "import it here, without a server; or send the one experiment alone"
        raise InvalidInput("is not asked by servers", field="--experiment", allowed=allowed)
    door = _door(settings, parsed)
    for link, target in leading_out(_files_named(parsed)).items():
        print(f"modescape: {printable(link)} is a link: {printable(str(target))} is sent", file=sys.stderr)
    answers = {name: getattr(parsed, name) for name in ("kind", "recipe", "permutation", "mixed", "outputs", "labels")}
    with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
        if _names_many(parsed):
            from modescape.imported.ensemble import OutputKind, Recipe
            from modescape.imported.writing import write

            kind = OutputKind(parsed.kind) if parsed.kind else None
            ensemble = _read(parsed, kind, Recipe(parsed.recipe) if parsed.recipe else None)
            write(ensemble, path := Path(folder) / "ensemble.zip")
            answers |= {"labels": None, "outputs": None}
            name, files = parsed.name or ensemble.name, {"ensemble.zip": path}
        else:
            path = Path(parsed.path[0])
            name, files = parsed.name or printable(path.stem), files_below(path)
            if parsed.labels and (labels := file_of_labels(parsed.labels)):
                files, answers["labels"] = with_labels(files, labels)
        sent = door.send(files)
    look = door.look(sent, name=name, **answers)
    if parsed.look and parsed.json:
        commands_of_client.print_json(look)
        return 0
    for line in understood(look):
        print(line, file=sys.stderr if parsed.json else sys.stdout)
    if parsed.look:
        return 0
    found = door.bring_in(name, sent, by=_who(), **answers)
    if parsed.json:
        commands_of_client.print_json({"slug": found["experiment"], "page": door.page(found["experiment"])})
    else:
        print(door.page(found["experiment"]))
    return 0


def _files_named(parsed: argparse.Namespace) -> list[str]:
    """Every file, or pattern of files, that the arguments name; no folder, which has rules of its own."""
    sets = [_named_file("--ood", one)[1] for one in parsed.ood]
    for one in parsed.shift:
        _, given = _shifted(one)
        sets += [given] if isinstance(given, str) else given
    sets += _named_file("--validation", parsed.validation) if parsed.validation else ()
    patterns = [one for one in (*parsed.path, *sets) if any(c in one for c in "*?[") and not Path(one).exists()]
    named = (*parsed.path, *sets, *([parsed.labels] if parsed.labels else ()))
    return [*patterns, *(one for one in named if Path(one).is_file())]


def _names_many(parsed: argparse.Namespace) -> bool:
    """Whether the arguments name one file a member."""
    return bool(
        parsed.member or parsed.validation or parsed.ood or parsed.shift or len(parsed.path) > 1
        or any(c in parsed.path[0] for c in "*?[")
    )  # fmt: skip


def _read(parsed: argparse.Namespace, kind: OutputKind | None, recipe: Recipe | None) -> Ensemble:
    """The ensemble that the arguments name: one place, or a file a member. Raises InvalidInput, Unclear."""
    from modescape.imported.globs import read_glob
    from modescape.imported.reading import read

    if not _names_many(parsed):
        return read(
            parsed.path[0], name=parsed.name, kind=kind, recipe=recipe, outputs=parsed.outputs, labels=parsed.labels,
            experiment=parsed.experiment,
        )  # fmt: skip
    _check_patterns(parsed)
    return read_glob(
        parsed.path[0] if len(parsed.path) == 1 else parsed.path, labels=parsed.labels, member=parsed.member,
        kind=kind, recipe=recipe, name=parsed.name,
        validation=_named_file("--validation", parsed.validation) if parsed.validation else None,
        ood=dict(_named_file("--ood", one) for one in parsed.ood),
        shift=dict(_shifted(one) for one in parsed.shift),
    )  # fmt: skip


def _check_patterns(parsed: argparse.Namespace) -> None:
    """Raises InvalidInput for options that do not go with one file a member, and for those of one with a place that
    says by itself what it holds."""
    from modescape.imported.reading import says_itself

    place = Path(parsed.path[0])
    if len(parsed.path) == 1 and says_itself(place):
        given = [one for one in ("member", "validation", "ood", "shift") if getattr(parsed, one)]
        raise InvalidInput(
            f"goes with one file a member, and {place.name or place} is a folder or an archive of several files",
            field=f"--{given[0]}",
            allowed="in a folder of the format its sets by their names, ood/NAME.logits.npy beside test.logits.npy; or "
            "patterns of one file a member, in quotes",
        )
    for option in ("outputs", "experiment"):
        if getattr(parsed, option) is not None:
            raise InvalidInput("does not go with one file a member", field=f"--{option}", allowed="leave it out")


def _named_file(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InvalidInput(f"is {text!r}", field=option, allowed="two things with = between")
    return name, value


def _shifted(text: str) -> tuple[tuple[str, int], str | tuple[str, str]]:
    where, given = _named_file("--shift", text)
    kind, _, intensity = where.rpartition("/")
    if not kind or not intensity.isdecimal():
        raise InvalidInput(f"is {text!r}", field="--shift", allowed="such as fog/3='run_*/fog3.npy'")
    pattern, _, labels = given.partition("=")
    return (kind, int(intensity)), (pattern, labels) if labels else pattern


def _data(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape import plugins
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


def _spool(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.logger.left import forget, left, send

    if parsed.action == "list":
        for spool in left(settings, parsed.id):
            print(spool)
        return 0
    if parsed.action == "forget":
        if not parsed.id:
            raise InvalidInput("which?", field="id", allowed="as `modescape spool` lists them")
        for line in forget(settings, parsed.id):
            print(line)
        return 0
    return 0 if send(settings, parsed.id, parsed.token, lambda line: print(line, file=sys.stderr)) else 1


def _verify(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.laboratory import Laboratory, verify

    report = verify(Laboratory(settings), sweep=parsed.sweep)
    print(report.text())
    return 0 if report.sound else 1


def _backup(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.backup import backup
    from modescape.laboratory import Laboratory

    taken = backup(Laboratory(settings), parsed.folder, artifacts=not parsed.no_artifacts, keep=parsed.keep)
    about = taken.manifest
    rows = sum(kept.rows for kept in about.tables.values())
    files = f"{about.artifacts:,} artifacts of {about.bytes / 1e6:,.1f} MB ({taken.copied:,} of them new)"
    print(f"{taken.folder}: {rows:,} rows, {files if about.artifacts else 'no artifacts'}")
    for digest in about.missing:
        print(f"modescape: the artifact {digest} is missing or damaged and not in the copy", file=sys.stderr)
    return 1 if about.missing else 0


def _restore(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape.backup import restore
    from modescape.laboratory import Laboratory, verify

    told = restore(parsed.folder, settings, at=parsed.at, keep_tokens=parsed.keep_tokens)
    rows = sum(kept.rows for kept in told.tables.values())
    print(f"{rows:,} rows of {told.at}, from {told.database}, written by version {told.version}")
    report = verify(Laboratory(settings))
    print(report.text())
    return 0 if report.sound else 1


def _plugins(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape import plugins

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


def _schema(settings: Settings, parsed: argparse.Namespace) -> int:
    from modescape import plugins
    from modescape.schemas import spec_schema, sweep_schema

    plugins.load(settings.plugin_modules)
    text = json.dumps(sweep_schema() if parsed.sweep else spec_schema(), indent=1, ensure_ascii=False) + "\n"
    if parsed.file is None:
        sys.stdout.write(text)
    else:
        parsed.file.write_text(text, encoding="utf-8")
    return 0


def _settings(settings: Settings, _: argparse.Namespace) -> int:
    from modescape.settings import Settings, shown

    for name, field in Settings.model_fields.items():
        print(f"MODESCAPE_{name.upper():17} {shown(settings, name):40} {field.description}")
    return 0


# What may make a home, or something in it.
_KEEPING = frozenset({
    _up, _serve, _worker, _migrate, _run, _import, _launch, _data, _verify, _restore,
    user_commands.change_users,
})  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
