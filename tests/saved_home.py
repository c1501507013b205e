"""A home of small experiments with every study, method and failure in it, and all that it says.

    python tests/saved_home.py make FOLDER     # home.tar.xz and told.json.xz, by the code as it is
    python tests/saved_home.py differ FOLDER   # what later code says otherwise of that home, document by document
    python tests/saved_home.py retell FOLDER   # the same, and keep what it says now: after a change that was decided

Made before the house is rebuilt and asked again after each step. What must stay the same: digests of specs, keys of
stages, rows, figures (numbers and pictures) and every document of the API, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import base64
import itertools
import json
import lzma
import re
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
from serving import served
from sqlalchemy import URL, create_engine, select

from modescape.database import upgrade
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.listing import ListQuery
from modescape.registry import figures
from modescape.settings import Settings
from modescape.spec import ExperimentSpec
from modescape.stages import runner as real
from modescape.store import Store
from modescape.store.leases import Lease
from modescape.tables import Base, Experiment, Stage

NUMERICS = "saved"
MACHINE = Machine(device="cpu", title="a saved home", numerics=NUMERICS)

_SMALL: dict[str, Any] = {
    "data": {
        "dataset": "digits",
        "train_images": 300,
        "validation_images": 60,
        "test_images": 60,
        "input_scale": "standardised",
    },
    "network": {"architecture": "mlp", "options": {"first": 16, "second": 12}},
    "training": {"epochs": 6, "batch_size": 20, "learning_rate": 0.005, "snapshots": 8},
    "ensemble": {"runs": 3},
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}


def _small(**parts: Any) -> dict[str, Any]:
    return {**_SMALL, **{name: {**_SMALL.get(name, {}), **part} if isinstance(part, dict) else part
                         for name, part in parts.items()}}  # fmt: skip


_NARROW = {"spread": 4, "typical": 3}
_CHAIN = {"cycles": 2, "epochs_per_cycle": 3, "noise_epochs": 1, "samples_per_cycle": 2, "learning_rate": 0.02}
SPECS: dict[str, dict[str, Any]] = {
    "Every method": _small(
        methods=[
            *({"method": name, **_NARROW} for name in ("random", "dropout", "activation-dropout", "diagonal")),
            {"method": "low-rank", **_NARROW, "options": {"rank": 3}},
            {"method": "pca-random", **_NARROW, "options": {"rank": 2}},
            {"method": "averaging"},
            {"method": "ema"},
            {"method": "swag", **_NARROW, "options": {"epochs": 2, "per_epoch": 3, "columns": 4}},
            {"method": "sgmcmc", "options": _CHAIN},
        ],
        evaluation={"splits": ["test", "validation"]},
    ),
    "Fair strengths": _small(
        data={"train_images": 97, "validation_images": 500, "test_images": 60},
        training={"epochs": 15},
        methods=[{"method": "random", **_NARROW}, {"method": "averaging"}],
        evaluation={"averaged": "fair"},
    ),
    "Other images": _small(
        methods=[{"method": "random", **_NARROW}],
        shift={"corruptions": ["gaussian_noise", "contrast"], "images": 40, "members": 2},
        ood=[{"dataset": name, "images": 40, "members": 2} for name in ("uniform-noise", "permuted")],
    ),
    "Between optima": _small(
        planes=[
            {"kind": "radial", "runs": [0, 1], "train_images": 20, "test_images": 20},
            {"kind": "line", "runs": [0, 2], "train_images": 20, "test_images": 20},
            {"kind": "affine", "runs": [0, 1, 2], "train_images": 20, "test_images": 20},
        ],
        tunnels=[
            {"runs": [0, 1], "knots": 2, "epochs": 1, "images": 40, "triangle_images": 20},
            {"runs": [0, 2], "method": "bezier", "epochs": 2, "images": 40, "triangles": False},
        ],
        connectivity={"points": 5, "images": 40},
    ),
    "Where difference comes from": _small(
        seeds={"learning_rates": [0.01, 0.02], "repetitions": 3, "epochs": 3},
        instability={"epochs": [0, 2], "points": 5, "images": 40, "repetitions": 2},
    ),
    "With failures": _small(
        training={"learning_rate": 0.8, "optimiser": "sgd", "momentum": 0.9},
        ensemble={"runs": 5},
        methods=[{"method": "random", **_NARROW}],
    ),
}  # fmt: skip


def make(folder: Path) -> None:
    """The archive of a new home, and what it tells."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        fill(home)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / "home.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(home.rglob("*")):
                if path.is_file() and path.suffix not in (".lock", ".log"):
                    archive.add(path, path.relative_to(home).as_posix())
        told = tell(Settings(home=home))
    keep(folder, told)


def keep(folder: Path, told: Mapping[str, Any]) -> None:
    (folder / "told.json.xz").write_bytes(lzma.compress(json.dumps(told).encode(), preset=9))


def fill(home: Path) -> None:
    """Do every experiment, and one of them again with a run more."""
    settings = Settings(home=home)
    home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    executor = Executor(laboratory.store, laboratory.artifacts, settings, machine=MACHINE)
    more = {**SPECS["Fair strengths"], "ensemble": {"runs": 4}}
    for name, spec in {**SPECS, "A second look": more}.items():
        row = laboratory.create(spec, name=name, tags=["saved"], notes=f"{name}, small")
        executor.drain(experiment_id=row.id)
        print(name, laboratory.store.experiments.get(row.id).status, file=sys.stderr)
    laboratory.store.close()


def opened(folder: Path, home: Path, database: str = "") -> Settings:
    """The saved home unpacked and brought to this version; its rows in another database, if one is named."""
    with tarfile.open(folder / "home.tar.xz") as archive:
        archive.extractall(home, filter="data")
    kept = Settings(home=home)
    upgrade(kept.database)
    if not database:
        return kept
    settings = Settings(home=home, database_url=database)
    upgrade(settings.database)
    _copy(kept.database, settings.database)
    return settings


def _copy(source: URL | str, target: URL | str) -> None:
    """Every row, table by table, as it is."""
    with create_engine(source).connect() as old, create_engine(target).begin() as new:
        for table in Base.metadata.sorted_tables:
            rows = [row._asdict() for row in old.execute(select(table))]
            if rows:
                new.execute(table.insert(), rows)


# ---- what a home says ----


def tell(settings: Settings) -> dict[str, Any]:
    """Every document by its name."""
    laboratory = Laboratory(settings)
    try:
        told = dict(itertools.chain(_rows(settings.database), _keys(laboratory.store)))
        names = {row.id: row.slug for row in laboratory.store.experiments.page(ListQuery(limit=100)).items}
    finally:
        laboratory.store.close()
    with served(settings.home, database_url=settings.database_url) as site, site.client() as client:
        while any(row["state"] == "checking" for row in client.get("/api/data").json()["items"]):
            time.sleep(0.1)
        told |= dict(_documents(client, sorted(names.values())))
    return told


def _rows(database: URL | str) -> Iterator[tuple[str, Any]]:
    with create_engine(database).connect() as connection:
        for table in Base.metadata.sorted_tables:
            rows = connection.execute(select(table).order_by(*table.primary_key.columns))
            yield f"rows/{table.name}", [json.loads(json.dumps(row._asdict(), default=str)) for row in rows]


def _keys(store: Store) -> Iterator[tuple[str, Any]]:
    """Digests and stage keys worked out again from what is stored."""
    for row in store.experiments.page(ListQuery(limit=100)).items:
        experiment = store.experiments.get(row.id)
        spec = ExperimentSpec.model_validate(experiment.spec)
        yield f"spec/{row.slug}", [spec.canonical(), spec.digest(), spec.recipe()]
        stages = store.stages.of(row.id)
        yield f"keys/{row.slug}", {f"{one.kind}/{one.key}": _key(store, one, experiment) for one in stages}


def _key(store: Store, stage: Stage, experiment: Experiment) -> str:
    return real.stage_key(Lease("", "", 0.0, stage, experiment, store.stages.standing(stage)), NUMERICS)


def _documents(client: httpx.Client, slugs: list[str]) -> Iterator[tuple[str, Any]]:
    """Answers to every question that depends on nothing but the home."""
    for url in _urls(client, slugs):
        yield f"JSON {url}", _content(client.get(url))
    for slug, name in itertools.product(slugs, figures):
        url = f"/api/experiments/{slug}/figures/{name}"
        answer = client.get(url)
        yield f"JSON {url}", _content(answer)
        if answer.status_code == 200:
            yield f"CSV {url}", _content(client.get(url, headers={"accept": "text/csv"}))
            for options in variants(name):
                query = "&".join(f"{key}={value}" for key, value in options.items())
                yield f"JSON {url}?{query}", _content(client.get(f"{url}?{query}"))
    for url in ("/", "/launch", "/paper", "/gallery", "/catalogue", *(f"/experiments/{slug}" for slug in slugs)):
        yield f"text {url}", _words(client.get(url).text)
    yield "JSON /api/openapi.json", client.get("/api/openapi.json").json()


def _content(answer: httpx.Response) -> Any:
    if "json" not in answer.headers["content-type"]:
        return [answer.status_code, answer.text]
    return [answer.status_code, _plain(answer.json())]


def _plain(document: Any) -> Any:
    """With Plotly's encoded arrays as numbers, which other processors make a last digit different."""
    if isinstance(document, dict):
        if document.keys() >= {"dtype", "bdata"}:
            array = np.frombuffer(base64.b64decode(document["bdata"]), dtype=document["dtype"])
            return [document.get("shape"), array.tolist()]
        return {key: _plain(value) for key, value in document.items()}
    return [_plain(value) for value in document] if isinstance(document, list) else document


_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_AGE = re.compile(rf"\b(\d+ (s|min|h|h \d\d) ago|Mon|Tue|Wed|Thu|Fri|Sat|Sun|\d+ ({_MONTHS}) \d{{4}})\b")
_FREE = re.compile(r"\bof [\d,.]+ [kMGTP]B free\b")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")  # of the server that is asked


class _Text(HTMLParser):
    """What a page says, without what depends on the moment it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._unsaid = 0
        self._is_account = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._unsaid += tag in ("script", "style", "time")
        self._is_account = tag == "a" and dict(attrs).get("class") == "me"  # whose letter it is depends on who asks

    def handle_endtag(self, tag: str) -> None:
        self._unsaid -= tag in ("script", "style", "time")

    def handle_data(self, data: str) -> None:
        if not self._unsaid and not self._is_account and data.strip():
            said = _ADDRESS.sub("http://here", _AGE.sub("some time ago", " ".join(data.split())))
            self.words.append(_FREE.sub("of what is free", said))


def _words(page: str) -> list[str]:
    text = _Text()
    text.feed(page)
    return text.words


def _urls(client: httpx.Client, slugs: list[str]) -> Iterator[str]:
    yield from ("/api/experiments", "/api/experiments?sort=-accuracy&status=succeeded", "/api/paper")
    yield from (f"/api/compare?e={a}&e={b}" for a, b in itertools.combinations(slugs, 2))
    for slug in slugs:
        base = f"/api/experiments/{slug}"
        yield base
        for name in (
            "stages",
            "solutions",
            "measurements",
            "runs",
            "series",
            "matrices",
            "figures",
            "labels",
        ):
            yield f"{base}/{name}"
        for matrix in client.get(f"{base}/matrices").json()["items"]:
            split = f"?split={matrix['split']}" if matrix["split"] else ""
            yield f"{base}/matrices/{matrix['name']}{split}"
        yield f"{base}/solutions?role=sample&sort=-diversity&limit=5"
        yield f"{base}/solutions/0"


def variants(name: str) -> Iterator[Mapping[str, str]]:
    """A figure in the dark, and with each choice of each option by itself."""
    yield {"theme": "dark"}
    for key, field in figures[name].options.model_fields.items():
        choices = [value for value in get_args(field.annotation) if isinstance(value, str | int)]
        if field.annotation is bool:
            choices = [True, False]
        for value in choices:
            if value != field.default:
                yield {key: f"{value}".lower() if isinstance(value, bool) else f"{value}"}


# ---- then and now ----


def saved(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(lzma.decompress((folder / "told.json.xz").read_bytes()))
    return told


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """One line a document that is not the same, with the first place where it is not."""
    for name in sorted(before.keys() | after.keys()):
        if name not in after or name not in before:
            yield f"{name}: {'gone' if name not in after else 'new'}"
        else:
            place = next(_places(before[name], after[name], ""), None)
            if place is not None:
                yield f"{name}{place}"


_DIGEST = re.compile(r"[0-9a-f]{32}")  # as the version of a figure, which is another whenever its source is


def _places(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key == "version" and "question" in a:
                continue  # of a figure: a digest of the code that draws it
            if key not in a or key not in b:
                yield f"{where}/{key}: {'gone' if key not in b else 'new'}"
            elif key != "version" or not all(_DIGEST.fullmatch(str(value)) for value in (a[key], b[key])):
                yield from _places(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _places(x, y, f"{where}/{i}")
    elif not _same(a, b):
        yield f"{where}: {f'{a}'[:200]!r} was, {f'{b}'[:200]!r} is"


def _same(a: Any, b: Any) -> bool:
    """Floats may differ by what other processors make of the same sums."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b) or abs(a - b) <= 1e-9 * max(abs(a), abs(b))
    return type(a) is type(b) and bool(a == b)


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(folder)
        return
    with tempfile.TemporaryDirectory() as place:
        told = tell(opened(folder, Path(place), *sys.argv[3:]))
    found = list(differences(saved(folder), told))
    print("\n".join(found) or "all the same")
    if what == "retell":
        keep(folder, told)
    else:
        sys.exit(bool(found))


if __name__ == "__main__":
    main()
