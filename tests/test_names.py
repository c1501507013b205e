"""Names: what may be written, what is kept, and that each way in asks the same rule."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import httpx
import pytest
from serving import SPEC, served

from modescape import names
from modescape.database import downgrade, upgrade
from modescape.errors import InvalidInput
from modescape.laboratory import Laboratory
from modescape.listing import Condition, ListQuery
from modescape.settings import Settings
from modescape.spec import parse

ALLOWED = (
    "plain", "a\u00a0b", "نام\u200cها", "👩\u200d🔬", "☂\ufe0f", "a\u200fb", "<b>&\"'", "100 %", "x" * 200, "日本語",
    "\ue000 private", "\N{GREEK SMALL LETTER ALPHA}\u0301",
)  # fmt: skip
REFUSED = {
    "a\u0000b": "control character, U+0000", "a\tb": "control character, U+0009", "a\nb": "U+000A", "\u0085b": "U+0085",
    "a\u202ab": "direction override, U+202A", "a\u202eb": "U+202E", "a\u2066b": "U+2066", "a\u2069b": "U+2069",
    "a\ud800b": "surrogate", "a\u0378b": "without a character", "a\uffffb": "without a character",
    "": "0 characters", "   ": "0 characters", "x" * 201: "201 characters", "\u200d": "nothing that can be seen",
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_any_text_that_shows_as_it_is_is_a_name(name: str) -> None:
    assert names.checked(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(("name", "why"), REFUSED.items(), ids=[ascii(name)[:20] for name in REFUSED])
def test_what_cannot_be_stored_or_reads_otherwise_is_refused_by_its_code(name: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why.replace("+", r"\+")) as caught:
        names.checked(name, field="name")
    assert caught.value.field == "name"
    assert caught.value.allowed


def test_every_override_and_no_other_format_character_is_refused() -> None:
    refused = set()
    for code in range(0x2000, 0x2070):
        if unicodedata.category(chr(code)) == "Cf":
            try:
                names.checked(f"a{chr(code)}b")
            except InvalidInput:
                refused.add(code)
    assert refused == {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def test_spaces_at_the_ends_go_and_a_no_break_space_inside_stays() -> None:
    assert names.checked("  two   words ") == "two words"
    assert names.checked("two\u00a0words") == "two\u00a0words"


def test_both_spellings_of_a_letter_are_one_name_and_one_search(store_url: str) -> None:
    settings = Settings(home=Path("/nonexistent"), database_url=store_url)
    upgrade(store_url)
    store = Laboratory(settings).store
    made = store.experiments.create(name="Cafe\u0301", spec=parse(SPEC), stages=(), tags=("e\u0301",))
    assert made.name == "Caf\u00e9"
    for condition in (
        Condition("name", "eq", "Cafe\u0301"), Condition("name", "in", ["Cafe\u0301"]),
        Condition("text", "contains", "fe\u0301"), Condition("tag", "eq", "e\u0301"),
    ):  # fmt: skip
        assert store.experiments.page(ListQuery((condition,))).total == 1, condition
    store.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Öl", "ol"), ("O\u0308l", "ol"), ("STRASSE", "strasse"), ("straße", "strasse"), ("ΑΣ", "ας".replace("ς", "σ")),
        ("Ёлка", "елка"), ("ﬁne", "fine"), ("ｗｉｄｅ", "wide"), ("が", "が"), ("か\u3099", "が"), ("नि", "नि"),
        ("  two \u00a0\n words ", "two words"), ("İ", "i"), ("ø", "ø"), ("", ""),
    ],
)  # fmt: skip
def test_texts_are_folded_as_unicode_says_and_accents_go_of_three_scripts(text: str, expected: str) -> None:
    assert names.folded(text) == expected


@pytest.mark.slow
def test_what_is_folded_stays_as_it_is() -> None:
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            once = names.folded(f"a{chr(code)}\u0301b")
            assert names.folded(once) == once, hex(code)


def test_texts_of_an_older_home_are_found_as_new_ones_are(store_url: str) -> None:
    settings = Settings(home=Path("/nonexistent"), database_url=store_url)
    upgrade(store_url)
    store = Laboratory(settings).store
    made = store.experiments.create(name="Ölfeld", spec=parse(SPEC), stages=(), tags=("Früh",), notes="Ça va")
    store.close()
    downgrade(store_url, "0019")
    upgrade(store_url)
    store = Laboratory(settings).store
    for condition in (
        Condition("name", "contains", "OLF"), Condition("tag", "eq", "fruh"), Condition("text", "contains", "ca va"),
        Condition("text", "contains", "olfeld"), Condition("dataset", "eq", made.dataset.upper()),
    ):  # fmt: skip
        assert store.experiments.page(ListQuery((condition,))).total == 1, condition
    assert store.experiments.facets()["tag"] == [("Früh", 1)]
    store.close()


def test_page_api_and_store_ask_the_same(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client(headers={"Origin": site.url}) as client:
        for name in ("a\u0000b", "a\u202eb", "a\u0378b", "x" * 201):
            answers = [
                client.post("/api/experiments", json={"name": name, "spec": SPEC}),
                client.post("/launch", data={"name": name, "key": "k", "preset": "quickstart"}),
            ]
            assert [answer.status_code for answer in answers] == [422, 422], ascii(name)
            with pytest.raises(InvalidInput):
                site.laboratory.create(SPEC, name=name)
        shown = "<img src=x onerror=alert(1)> & Cafe\u0301"
        made = client.post("/api/experiments", json={"name": shown, "spec": SPEC}).json()
        assert made["name"] == unicodedata.normalize("NFC", shown)
        for address in (
            "/",
            f"/experiments/{made['slug']}",
            f"/compare?e={made['slug']}",
            f"/launch?from={made['slug']}",
        ):
            text = client.get(address, headers={"accept": "text/html"}).text
            assert "<img src=x" not in text, address
            assert "&lt;img src=x" in text, address


def test_a_name_of_two_hundred_letters_is_found_again(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        name = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 200
        made = client.post("/api/experiments", json={"name": name, "spec": SPEC})
        assert made.status_code == 201
        assert len(made.json()["slug"]) <= 80
        found: httpx.Response = client.get("/api/experiments", params={"name": name})
        assert found.json()["total"] == 1


# -- cells of tables in CSV -------------------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "=", "-0.5"]


@pytest.mark.parametrize("text", [*FORMULAS, *(f"'{one}" for one in FORMULAS), *(f"''{one}" for one in FORMULAS)])
def test_a_text_that_a_spreadsheet_would_work_out_is_text_in_a_table(text: str) -> None:
    cell = names.as_cell(text)
    assert cell == f"'{text}"
    assert names.from_cell(cell) == text, "and comes in again as it was"


@pytest.mark.parametrize("text", ["", "'", "''", "'quoted'", "a=1", " =1", "1-2", "−1", "é", "'tis"])
def test_other_texts_are_as_they_are(text: str) -> None:
    assert names.as_cell(text) == text
    assert names.from_cell(text) == text


@pytest.mark.parametrize("number", [-1, -0.5, 0, 1e-300, None, True])
def test_numbers_are_never_texts(number: object) -> None:
    assert names.as_cell(number) is number


def test_whoever_writes_a_table_in_csv_goes_through_as_cell() -> None:
    """Found by looking: each module that has a writer of CSV."""
    root = Path(names.__file__).parent.parent.parent
    writers = [file for room in ("worker", "backend") for file in (root / room).rglob("*.py")
               if "writer(" in (text := file.read_text(encoding="utf-8")) and "csv" in text]  # fmt: skip
    assert {file.name for file in writers} == {"replies.py", "laboratory.py", "telling.py", "figure.py"}
    for file in writers:
        assert re.search(r"\bas_cell\b[(,]", file.read_text(encoding="utf-8")), file.name
