"""What one request may cost: how much of it is read, what is asked of the database for it, what is made of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from serving import Served, finished, served
from sqlalchemy import event

from modescape import asking
from modescape.artifacts import Artifacts
from modescape.columns import EXPERIMENTS
from modescape.errors import Busy, InvalidInput
from modescape.records import Json
from modescape.reports import blocks, notes, notes_apart
from modescape.reports.notes_apart import NoteReader
from modescape.reports.telling import Teller, Told
from modescape.store import Store
from modescape.store.views import of_a_view
from modescape.testing.stores import SPEC, create

MANY = "&".join(f"spec.methods.{i // 3}.{('method', 'spread', 'typical')[i % 3]}=1" for i in range(501))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("bounds")) as running:
        finished(running.laboratory, name="one")
        yield running


@pytest.fixture
def visitor(site: Served) -> Iterator[httpx.Client]:
    with site.visitor() as found:
        yield found


@contextmanager
def asked_of(store: Store) -> Iterator[list[str]]:
    """The statements that the database is asked inside."""
    found: list[str] = []

    def heard(_: Any, __: Any, statement: str, *___: Any) -> None:
        found.append(statement)

    event.listen(store._database.engine, "before_cursor_execute", heard)
    try:
        yield found
    finally:
        event.remove(store._database.engine, "before_cursor_execute", heard)


# -- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/compare", {"all": "1"}),
        ("/export", {"all": "1"}),
        ("/archive", {"all": "1"}),
        ("/restore", {"all": "1"}),
        ("/change", {"all": "1", "tag": "x"}),
        ("/purge", {"all": "1"}),
    ],
)
def test_a_form_asks_no_more_than_an_address_may(path: str, fields: dict[str, str], visitor: httpx.Client) -> None:
    refused = visitor.post(path, data={**fields, "next": f"/?{MANY}"})
    assert refused.status_code == 422, refused.text
    assert "at most 500" in refused.text
    assert visitor.get("/api/experiments/one").status_code == 200  # and nothing was done


def test_a_view_and_the_options_of_a_block_hold_no_more_parameters_either(visitor: httpx.Client) -> None:
    with pytest.raises(InvalidInput, match="501"):
        of_a_view("&".join(["a=1"] * 501))
    assert len(of_a_view("&".join(["a=1"] * 500))) == 500 * 4 - 1
    report = visitor.post("/api/reports", json={"name": "of many"}).json()["slug"]
    block = {"block": "a", "a.kind": "figure", "a.experiment": "one", "a.figure": "plane", "a.options": MANY}
    refused = visitor.post(f"/reports/{report}", data={"name": "of many", **block})
    assert (refused.status_code, "at most 500" in refused.text) == (422, True)


@pytest.mark.parametrize("lenient", [False, True])
def test_a_question_has_at_most_500_parameters(lenient: bool) -> None:
    with pytest.raises(InvalidInput) as refused:
        asking.read(EXPERIMENTS, parse_qsl(MANY), lenient=lenient)
    assert (refused.value.field, refused.value.problems[0].allowed) == ("parameters", "at most 500")


def test_chips_cost_no_writing_of_all_parameters_each(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def counting(pairs: Any) -> str:
        written.append(len(pairs))
        return urlencode(pairs)

    monkeypatch.setattr("modescape.asking.urlencode", counting)
    pairs = [*parse_qsl(MANY)[:490], ("q", "status:succeeded dataset:digits")]
    chips = asking.read(EXPERIMENTS, pairs).chips
    assert len(chips) == 492
    assert chips[3].without == urlencode([one for one in pairs if one[0] != pairs[3][0]])
    assert chips[490].without == urlencode([*pairs[:490], ("q", "dataset:digits")])
    assert sum(written) <= 2 * len(pairs)


# -- reports ----------------------------------------------------------------------------------------------------------

COLUMNS = ["spec.training.epochs", "spec.ensemble.runs", "spec.network.architecture", "accuracy", "result.gain"]
SLOW = "![" * 24_000  # which is read in the square of its length


def told(store: Store, folder: Path, documents: list[Json]) -> Told:
    row = store.reports.create("A report", documents)
    return Teller(store, Artifacts(folder), draws=False).told(row)


def test_a_report_asks_as_little_of_the_database_whatever_it_tells(store: Store, tmp_path: Path) -> None:
    names = [create(store, name=f"e{i}").slug for i in range(50)]
    small: list[Json] = [
        {"kind": "numbers", "experiments": names[1:2], "columns": COLUMNS}, {"kind": "claims", "experiment": names[1]},
        {"kind": "text", "markdown": f"[[{names[1]}: spec.training.batch_size]] [[nobody]]"},
    ]  # fmt: skip
    large: list[Json] = [
        *[{"kind": "numbers", "experiments": names, "columns": COLUMNS * 4} for _ in range(130)],
        *[{"kind": "claims", "experiment": name} for name in names],
        *[{"kind": "text", "markdown": f"[[{name}: spec.training.batch_size]] [[{name}: claim d1]] [[{name}x]]" * 9}
          for name in names[:10]],
    ]  # fmt: skip
    counted = []
    for documents in (small, large):
        with asked_of(store) as statements:
            report = told(store, tmp_path, documents)
            said = report.say(names[0] if documents is large else names[1], "spec.training.batch_size")
        counted.append(len(statements))
        assert said.text == str(SPEC.training.batch_size)
    assert counted[0] == counted[1]
    cells = [str(SPEC.training.epochs), str(SPEC.ensemble.runs), SPEC.network.architecture, "–", "–"]
    assert report.parts[0].rows[7] == ("e7", *cells * 4)
    assert sum(len(part.rows) for part in report.parts) == 6500


def test_many_experiments_are_looked_up_in_one_question(store: Store) -> None:
    names = [create(store, name=f"e{i}").slug for i in range(30)]
    with asked_of(store) as few:
        store.experiments.bytes_of(*names[:2])
    with asked_of(store) as many:
        store.experiments.bytes_of(*names)
    assert len(few) == len(many)
    row = store.experiments.get("e3")
    assert {one: found.id for one, found in store.experiments.named([row.id, "e3", "nobody"]).items()} == {
        row.id: row.id, "e3": row.id,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([{"kind": "text", "markdown": "x" * 50_000}] * 5, "250,000 characters in notes"),
        ([{"kind": "numbers", "experiments": ["one"] * 50, "columns": ["runs"] * 20}] * 6, "6,000 cells in tables"),
        ([{"kind": "text", "markdown": "[[one]]" * 2001}], "2,001 references in notes"),
        (
            [{"kind": "text", "markdown": "".join(f"[[one: spec.x{i}]]" for i in range(101))}],
            "101 different",
        ),
        ([{"kind": "text", "markdown": "".join(f"[[e{i}]]" for i in range(201))}], "201 experiments"),
    ],
)
def test_a_report_is_no_more_than_who_opens_it_can_wait_for(
    documents: list[Json], said: str, visitor: httpx.Client
) -> None:
    visitor.headers["accept"] = "application/json"
    refused = visitor.post("/api/reports", json={"name": "large", "blocks": documents})
    assert refused.status_code == 422, refused.text
    assert said in refused.json()["detail"]
    assert refused.json()["errors"][0]["field"] == "blocks"
    kept = visitor.post("/api/reports", json={"name": "as large as it may be", "blocks": documents[:-1]})
    assert kept.status_code == 201, kept.text


def test_a_report_that_was_kept_when_there_was_no_limit_is_still_told(store: Store, tmp_path: Path) -> None:
    name = create(store, name="one").slug
    kept: list[Json] = [{"kind": "numbers", "experiments": [name] * 50, "columns": ["runs"] * 20}] * 6
    assert sum(len(part.rows) for part in told(store, tmp_path, kept).parts) == 300


def test_references_are_found_in_the_time_of_reading_a_note_once() -> None:
    for text in ("[[" + " " * 49_000, "[[" * 20_000, "[[a:" + " " * 49_000):
        blocks.check_size(blocks.read([{"kind": "text", "markdown": text}]))


# -- notes ------------------------------------------------------------------------------------------------------------


def test_a_note_that_takes_long_is_shown_as_it_was_typed_and_the_others_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes.read("Loaded before.")
    monkeypatch.setattr(notes_apart, "OF_ONE", 0.2)
    monkeypatch.setattr(notes_apart, "OF_ALL", time.process_time() + 10)  # a fork begins at none
    slow, fine = notes_apart.answer_all([SLOW + "<b>", "a *note*"])
    assert (slow["last"], fine["last"]) == (True, True)
    assert slow["parts"][0].endswith(f"<pre>{SLOW}&lt;b&gt;</pre>")
    assert "as it was typed" in slow["parts"][0]
    assert fine["parts"] == ("<p>a <em>note</em></p>\n",)


def test_of_many_such_notes_those_that_there_was_no_time_for_are_read_another_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notes_apart, "OF_ONE", 0.2)
    monkeypatch.setattr(notes_apart, "OF_ALL", time.process_time() + 0.1)
    (late,) = notes_apart.answer_all([SLOW])
    assert late["last"] is False
    assert "opened again" in late["parts"][0]


def test_a_server_reads_no_note_by_itself_and_none_twice(
    site: Served, visitor: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader: NoteReader = site.app.state.site.notes
    texts = ["One [[one: runs]].", "Two *words*."]
    made = visitor.post("/api/reports", json={"name": "read", "blocks": [{"kind": "text", "markdown": texts[0]}]})
    slug = made.json()["slug"]
    monkeypatch.setattr("modescape.reports.notes._parser", lambda: pytest.fail("the server reads a note"))
    before = reader.started
    for _ in range(2):
        page = visitor.get(f"/reports/{slug}")
        assert page.status_code == 200
        assert '<p>One <a class="said" href="/experiments/one"' in page.text
    assert reader.started == before + 1
    changed = visitor.patch(
        f"/api/reports/{slug}", json={"blocks": [{"kind": "text", "markdown": one} for one in texts]}
    )
    assert changed.status_code == 200
    assert "<em>words</em>" in visitor.get(f"/reports/{slug}").text
    assert reader.started == before + 2


def test_few_are_read_at_once_and_the_others_are_told_to_come_again(
    site: Served, visitor: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader: NoteReader = site.app.state.site.notes
    blocks_ = [{"kind": "text", "markdown": "Nobody has read this."}]
    slug = visitor.post("/api/reports", json={"name": "unread", "blocks": blocks_}).json()["slug"]
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(reader._places.taken())
        with pytest.raises(Busy):
            reader.read(["another"])
        refused = visitor.get(f"/reports/{slug}")
        assert (refused.status_code, "retry-after" in refused.headers) == (409, True)
    assert visitor.get(f"/reports/{slug}").status_code == 200


def test_a_note_that_ends_its_reader_is_shown_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = NoteReader()
    try:
        monkeypatch.setattr(notes_apart, "_WALL", 1e-6)
        (note,) = reader.read(["a *b*"])
        assert note.parts[0].endswith("<pre>a *b*</pre>")
        monkeypatch.undo()
        (note,) = reader.read(["a *b*"])
        assert note == notes.read("a *b*")
    finally:
        reader.end()
