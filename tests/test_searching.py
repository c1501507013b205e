"""The line of the search box: how it is taken apart, what it finds, and what is said of what it does not mean."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import SPEC, served
from sqlalchemy import insert

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.database import open_database
from modescape.searching import All, Compared, Not, Text, half, parse, quoted
from modescape.searching import Any as AnyPart
from modescape.spec import parse as parsed_spec
from modescape.store import Store
from modescape.suggesting import suggest
from modescape.tables import Experiment

LINE = 'accuracy>0.9 claim:d=holds (tag:baseline or arch:resnet20v1) -status:failed "free text"'


def test_a_line_is_taken_apart_with_the_place_of_every_part() -> None:
    found = parse(LINE)
    assert found.faults == ()
    assert found.parts == (
        Compared("accuracy", ">", ("0.9",), 0, 12),
        Compared("claim:d", "=", ("holds",), 13, 26),
        AnyPart((Compared("tag", ":", ("baseline",), 28, 40), Compared("arch", ":", ("resnet20v1",), 44, 59)), 27, 60),
        Not(Compared("status", ":", ("failed",), 62, 75), 61, 75),
        Text("free text", 76, 87),
    )
    assert found.without(found.parts[2]) == 'accuracy>0.9 claim:d=holds -status:failed "free text"'


@pytest.mark.parametrize(
    ("line", "tree"),
    [
        ("a b", All((Text("a", 0, 1), Text("b", 2, 3)), 0, 3)),
        ("a AND b", All((Text("a", 0, 1), Text("b", 6, 7)), 0, 7)),
        ("a or b c", AnyPart((Text("a", 0, 1), All((Text("b", 5, 6), Text("c", 7, 8)), 5, 8)), 0, 8)),
        ("a|b", Text("a|b", 0, 3)),
        ("a | b", AnyPart((Text("a", 0, 1), Text("b", 4, 5)), 0, 5)),
        ("not (a b)", Not(All((Text("a", 5, 6), Text("b", 7, 8)), 4, 9), 0, 9)),
        ('name:"a, b",c', Compared("name", ":", ("a, b", "c"), 0, 13)),
        ("runs ≥ 3", Compared("runs", ">=", ("3",), 0, 8)),
        ("accuracy:.5...6", Compared("accuracy", ":", (".5...6",), 0, 15)),
        ("“curly quotes”", Text("curly quotes", 0, 14)),
        (r'"a \"quoted\" word"', Text('a "quoted" word', 0, 19)),
        ("well-known 12:30", All((Text("well-known", 0, 10), Text("12:30", 11, 16)), 0, 16)),
        ("orange notes android", All((Text("orange", 0, 6), Text("notes", 7, 12), Text("android", 13, 20)), 0, 20)),
        ("", None),
        ("  ", None),
    ],
)
def test_words_quotes_operators_and_parentheses(line: str, tree: object) -> None:
    assert (parse(line).tree, parse(line).faults) == (tree, ())


@pytest.mark.parametrize(
    ("line", "start", "end", "says", "left"),
    [
        ("(a b", 0, 1, "not closed", 2),
        ("a) b", 1, 2, "nothing opened", 2),
        ('say "so', 4, 5, "not closed", 2),
        ("a or", 2, 4, "nothing behind", 1),
        ("or a", 0, 2, "nothing before", 1),
        ("x ()", 2, 4, "nothing inside", 1),
        ("x tag:", 2, 6, "compared with nothing", 1),
        ("x not", 2, 5, "nothing behind", 1),
        ("(" * 40 + "a" + ")" * 40, 21, 81, "too deep", 0),
        ("a " * 100, 120, 200, "too many", 60),
        ("a" * 1001, 0, 1000, "longer", 1),
    ],
)
def test_what_is_not_understood_is_told_with_its_place_and_the_rest_is_there(
    line: str, start: int, end: int, says: str, left: int
) -> None:
    found = parse(line)
    assert [(one.start, one.end) for one in found.faults] == [(start, end)]
    assert says in found.faults[0].message
    assert found.faults[0].allowed
    assert len(found.parts) == left


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab1:=<>~!()"|-., \t“”not≥claim:öé\u0301'), max_size=60))
def test_any_text_is_read_without_an_error_and_every_place_is_in_it(line: str) -> None:
    found = parse(line)
    for fault in found.faults:
        assert 0 <= fault.start < fault.end <= len(line)
    asked = asking.read(EXPERIMENTS, [("q", line)], lenient=True)
    assert all(0 <= one.start <= one.end <= len(line) for one in asked.faults)
    for chip in asked.chips:
        assert len(chip.without) < 20 * len(line) + 2


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and not any(ord(c) < 32 for c in text)))
def test_a_quoted_value_is_read_as_it_was(value: str) -> None:
    found = parse(f"name={quoted(value)}")
    if set(value) & set("“”„"):
        return  # which are quotation marks themselves
    assert found.tree == Compared("name", "=", (value,), 0, len(f"name={quoted(value)}"))


# -- what it finds ----------------------------------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(store: Store, count: int) -> list[dict[str, Any]]:
    rng = random.Random(4)
    spec = parsed_spec(SPEC)
    document = spec.model_dump(mode="json")
    rows = []
    for i in range(count):
        word = rng.choice(["holds", "does not hold", "cannot tell", None])
        estimate = round(rng.random() * 2, 2) if word else None
        epochs = rng.choice([1, 2, 5])
        rows.append(
            {
                "id": f"{i:08d}-0000-4000-8000-000000000000", "slug": f"e-{i}", "notes": rng.choice(["", "Frühling"]),
                "name": rng.choice(["Ölfeld", "plain", "two words"]) + f" {i}",
                "tags": rng.choice([[], ["Baseline"], ["baseline", "draft"], ["a, b"]]), "spec":
                {**document, "training": {**document["training"], "epochs": epochs}}, "digest": spec.digest(),
                "created_by": rng.choice(["ada", "Bob"]), "created_at": START + timedelta(hours=7 * i), "status":
                rng.choice(["queued", "running", "succeeded", "failed"]), "dataset": rng.choice(["digits", "Lungs Ä"]),
                "input_scale": "unit", "architecture": rng.choice(["small-cnn", "resnet20v1"]), "methods":
                rng.choice([[], ["random"], ["random", "dropout"]]), "runs": rng.choice([2, 3]), "stages_total": 9,
                "seconds": rng.random() * 8000, "project": rng.choice(["", "Paper"]), "parent":
                rng.choice([None, "e-1"]),
                "accuracy": round(rng.random(), 2) if i % 5 else None, "archived_at": START if i % 9 == 0 else None,
                "finding": {"claims": {"d1": {"word": word, "estimate": estimate}}} if word else {}, "preset": None,
                "_epochs": epochs, "_word": word, "_estimate": estimate,
            }
        )  # fmt: skip
    engine = open_database(store.url)
    with engine.begin() as connection:
        stored = [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
        connection.execute(insert(Experiment), stored)
    engine.dispose()
    return rows


def more(row: dict[str, Any], name: str, than: float) -> bool:
    return row[name] is not None and row[name] > than


FOUND: dict[str, Callable[[dict[str, Any]], bool]] = {
    "accuracy>0.5": lambda r: more(r, "accuracy", 0.5),
    "accuracy > 50%": lambda r: more(r, "accuracy", 0.5),
    "-accuracy>0.5": lambda r: not more(r, "accuracy", 0.5),
    "accuracy:0.2..0.4": lambda r: r["accuracy"] is not None and 0.2 <= r["accuracy"] <= 0.4,
    "accuracy!=0.5": lambda r: r["accuracy"] != 0.5,
    "has:accuracy": lambda r: r["accuracy"] is not None,
    "-has:project": lambda r: r["project"] == "",
    "has:parent,tag": lambda r: r["parent"] is not None or r["tags"] != [],
    "status:FAILED,queued": lambda r: r["status"] in ("failed", "queued"),
    "state!=failed": lambda r: r["status"] != "failed",
    "tag:BASELINE": lambda r: "Baseline" in r["tags"] or "baseline" in r["tags"],
    "-tag:baseline": lambda r: not ("Baseline" in r["tags"] or "baseline" in r["tags"]),
    'tag:"a, b"': lambda r: "a, b" in r["tags"],
    'data:"lungs a"': lambda r: r["dataset"] == "Lungs Ä",
    "dataset~lung": lambda r: r["dataset"] == "Lungs Ä",
    "owner:bob": lambda r: r["created_by"] == "Bob",
    "project:PAPER": lambda r: r["project"] == "Paper",
    "parent:e-1": lambda r: r["parent"] == "e-1",
    "method:dropout": lambda r: "dropout" in r["methods"],
    "name:ol": lambda r: r["name"].startswith("Öl"),
    'name="two words 7"': lambda r: r["name"] == "two words 7",
    "OLFELD": lambda r: r["name"].startswith("Öl"),
    "fruhling": lambda r: r["notes"] == "Frühling",
    "draft words": lambda r: "draft" in r["tags"] and "words" in r["name"],
    '"two words"': lambda r: "two words" in r["name"],
    "ö": lambda r: "Öl" in r["name"] or "o" in f"{r['name']} {r['slug']} {''.join(r['tags'])}{r['project']}".lower(),
    "claim:d=holds": lambda r: r["_word"] == "holds",
    "claim:d1=does-not-hold,cannot-tell": lambda r: r["_word"] in ("does not hold", "cannot tell"),
    "claim:d1!=holds": lambda r: r["_word"] != "holds",
    "claim:d1": lambda r: r["_word"] is not None,
    "claim:d1>1.2": lambda r: more(r, "_estimate", 1.2),
    "spec.training.epochs<=2": lambda r: r["_epochs"] <= 2,
    "spec.training.epochs:5": lambda r: r["_epochs"] == 5,
    "seconds>1h": lambda r: r["seconds"] > 3600,
    "cost>1h": lambda r: r["seconds"] > 3600,
    "created:2026-01-03": lambda r: r["created_at"].strftime("%m-%d") == "01-03",
    "created>2026-01-03": lambda r: r["created_at"] >= datetime(2026, 1, 4, tzinfo=UTC),
    "created<=2026-01-03": lambda r: r["created_at"] < datetime(2026, 1, 4, tzinfo=UTC),
    "created:2026-01": lambda r: r["created_at"].month == 1,
    "created>=2026-01-02T03:00:00Z": lambda r: r["created_at"] >= datetime(2026, 1, 2, 3, tzinfo=UTC),
    "created:7d": lambda r: False,
    "(status:failed or tag:draft) runs:3":
        lambda r: (r["status"] == "failed" or "draft" in r["tags"]) and r["runs"] == 3,
    "not (status:failed or (tag:draft runs:3))":
        lambda r: not (r["status"] == "failed" or ("draft" in r["tags"] and r["runs"] == 3)),
    "accuracy>0.9 or -has:accuracy": lambda r: more(r, "accuracy", 0.9) or r["accuracy"] is None,
    "": lambda r: True,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", ["by the database", "in memory"])
def test_a_line_finds_what_a_plain_loop_finds(store: Store, way: str) -> None:
    rows = fill(store, 90)
    store.experiments._held._is_wanted = way == "in memory"
    for line, meets in FOUND.items():
        for archived, more_words in ((False, ""), (True, " archived:true"), (None, " archived:any")):
            asked = asking.read(
                EXPERIMENTS, [("q", f"({line}){more_words}" if line else more_words), ("limit", "1000")]
            )
            assert asked.query.archived is archived
            there = (row for row in rows if archived is None or (row["archived_at"] is not None) is archived)
            page = store.experiments.page(asked.query)
            assert {row.id for row in page} == {row["id"] for row in there if meets(row)}, line
            assert page.total == len(page)


@pytest.mark.parametrize(
    ("line", "at", "says"),
    [
        ("digits colour:red", (7, 13), "no field 'colour'"),
        ("acuracy>0.9", (0, 7), "did you mean accuracy"),
        ("runs:3 accuracy>high", (7, 20), "not a number: 'high'"),
        ("runs:2.5", (0, 8), "not a whole number"),
        ("status:nothing", (0, 14), "no status 'nothing'"),
        ("name>a", (0, 6), "cannot be compared by >"),
        ("claim:z=holds", (0, 13), "no claim 'z'"),
        ("claim:b=perhaps", (0, 15), "no word 'perhaps'"),
        ("created:soon", (0, 12), "not a time"),
        ("a (b or archived:true)", (8, 21), "by itself"),
        ("has:colour", (0, 10), "no field 'colour'"),
        ("accuracy:..", (0, 11), "no end"),
        ("tag:", (0, 4), "compared with nothing"),
        ("runs:3 accuracy>=90", (7, 19), "never more than 1: '90'"),
        ("disagreement:0.2..20", (0, 20), "never more than 1: '20'"),
        ("ensemble_accuracy>120%", (0, 22), "never more than 1: '120%'"),
    ],
)
def test_faults_have_the_place_of_what_is_wrong(line: str, at: tuple[int, int], says: str) -> None:
    asked = asking.read(EXPERIMENTS, [("q", line)], lenient=True)
    [fault] = asked.faults
    assert (fault.start, fault.end) == at
    assert says in fault.message
    assert fault.allowed
    assert asked.notices == ()


def test_a_share_that_is_written_in_percent_is_answered_with_how_it_is_meant() -> None:
    [fault] = asking.read(EXPERIMENTS, [("q", "accuracy>=90")], lenient=True).faults
    assert fault.allowed == "90%, which is 0.9"
    assert asking.read(EXPERIMENTS, [("q", "accuracy>=90% accuracy<=1")]).faults == ()


def test_the_api_takes_the_line_of_the_page_and_says_where_it_is_wrong(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        for name, tags in (("one", ["Baseline"]), ("two", []), ("Öl", ["paper"])):
            client.post("/api/experiments", json={"name": name, "spec": SPEC, "tags": tags}).raise_for_status()
        found = client.get("/api/experiments", params={"q": "tag:baseline or ol"}).json()
        assert {row["name"] for row in found["items"]} == {"one", "Öl"}
        wrong = client.get("/api/experiments", params={"q": "tag:baseline colour:red"})
        assert wrong.status_code == 422
        [error] = wrong.json()["errors"]
        assert (error["field"], error["at"]) == ("q", [13, 19])
        told = client.get("/api/search", params={"q": "tag:baseline colour:red", "caret": 8}).json()
        assert [(one["start"], one["end"]) for one in told["faults"]] == [(13, 19)]
        assert [(one["text"], one["start"], one["end"]) for one in told["suggestions"]] == [("Baseline", 4, 8)]
        page = client.get("/", params={"q": "tag:baseline <b>:red"}, headers={"accept": "text/html"}).text
        assert "one" in page
        shown = client.get("/", params={"q": "tag:baseline colour:red"}, headers={"accept": "text/html"}).text
        assert "<mark>colour</mark>" in shown
        assert "there is no field" in shown


# -- what may come next -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "half_typed"),
    [
        ("acc", ("acc", "", "acc", 0)), ("tag:x acc", ("acc", "", "acc", 6)), ("-sta", ("sta", "", "sta", 1)),
        ("(sta", ("sta", "", "sta", 1)), ("status:", ("status", ":", "", 7)), ("status:fa", ("status", ":", "fa", 7)),
        ("status:failed,ca", ("status", ":", "ca", 14)), ("claim:d", ("claim:d", "", "claim:d", 0)),
        ("claim:d=ho", ("claim:d", "=", "ho", 8)), ("", ("", "", "", 0)), ("a ", ("", "", "", 2)),
    ],
)  # fmt: skip
def test_what_is_being_typed_is_known_by_what_stands_before_the_caret(line: str, half_typed: tuple[Any, ...]) -> None:
    found = half(line, len(line))
    assert (found.field, found.operator, found.value, found.start) == half_typed


def test_fields_values_words_of_claims_and_paths_are_offered() -> None:
    def texts(line: str) -> list[str]:
        return [
            one.text
            for one in suggest(EXPERIMENTS, line, len(line), lambda name: {"tag": ["a, b", "Öl"]}.get(name, []))
        ]

    assert texts("accu")[:1] == ["accuracy>"]
    assert "claim:b=" in texts("claim:b")
    assert texts("claim:b=")[:3] == ["holds", "does-not-hold", "cannot-tell"]
    assert texts("status:f") == ["failed"]
    assert texts("tag:o") == ["Öl"]
    assert texts("tag:") == ['"a, b"', "Öl"]
    assert "spec.training.learning_rate>" in texts("learning_rate")
    assert texts("archived:") == ["true", "false", "any"]
    for line in ("accu", "claim:b=", "status:f", "tag:", "learning_rate"):
        for one in suggest(EXPERIMENTS, line, len(line), lambda name: ["a, b"]):
            whole = line[: one.start] + one.text + line[one.end :]
            asked = asking.read(EXPERIMENTS, [("q", whole)], lenient=True)
            assert all("nothing" in fault.message for fault in asked.faults), whole  # only a value is still to come
