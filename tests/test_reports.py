"""Reports: notes between figures, claims and numbers, which say what is so when they are read; and taken home."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Browser
from serving import Served, finished, served
from sqlalchemy import select

import modescape as ms
from modescape.acting import Actor, UserRole, acting
from modescape.database import downgrade, upgrade
from modescape.errors import Conflict, Forbidden, InvalidInput, NotFound
from modescape.reports import blocks, notes, taken, writing
from modescape.reports.images import write_anew
from modescape.reports.notes import Said
from modescape.reports.telling import Teller
from modescape.store import Store
from modescape.tables import Report, ReportImage, ReportRevision

ADA, BOB = Actor("ada", UserRole.RESEARCHER), Actor("bob", UserRole.RESEARCHER)


def say(experiment: str, what: str) -> Said:
    return Said(f"<{experiment}/{what}>", "title & more", "/experiments/x")


def shown(text: str) -> str:
    def image(digest: str, words: str) -> str | None:
        return notes.picture("/kept.png", words) if digest == "abc" else None

    return notes.read(text).html(say, image)


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# -- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "![a](https://elsewhere.example/pixel.png)",
        "![a](//elsewhere.example/pixel.png)",
        "![a](data:image/svg+xml;base64,PHN2Zz4=)",
        "$\\href{javascript:alert(1)}{x}$",
        "$x\\text{<script>alert(1)</script>}$",
        "[[a: b]] <iframe src=//elsewhere.example></iframe>",
        '![x" onload="alert(1)](image:abc)',
        "<style>body{background:url(//elsewhere.example)}</style>",
    ],
)
def test_nothing_that_is_typed_runs_or_fetches_anything(text: str) -> None:
    allowed = {"p", "a", "span", "img", "code", *notes._MATHML}
    for tag, attributes in Tags(shown(text)).found:
        assert tag in allowed, (tag, text)
        assert not [name for name in attributes if name.startswith(("on", "style"))]
        if tag == "img":
            assert attributes["src"] == "/kept.png"
        if tag == "a":
            assert str(attributes["href"]).startswith(("/", "https://elsewhere", "//elsewhere"))


def test_a_note_has_headings_formulas_tables_images_and_what_references_say() -> None:
    html = shown(
        "# Head\n\n[[a: b]] and $x^2$ ![seen](image:abc)\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n$$\\frac{a}{b}$$"
    )
    assert "<h2>Head</h2>" in html
    assert 'title="title &amp; more"' in html
    assert "&lt;a/b&gt;</a>" in html
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert "<mfrac>" in html
    assert ("img", {"src": "/kept.png", "alt": "seen", "loading": "lazy"}) in Tags(html).found
    assert '<td class="num">2</td>' in html


def test_references_in_code_stay_as_they_are_typed() -> None:
    text = "`[[a: b]]`\n\n```\n[[a: b]]\n```\n\n[[a: b]]"
    assert shown(text).count("[[a: b]]") == 2
    plain = notes.markdown(text, lambda experiment, what: Said("93 %"), lambda digest: None)
    assert plain == "`[[a: b]]`\n\n```\n[[a: b]]\n```\n\n93 %"


def test_latex_of_a_note_sets_what_was_written_and_reads_no_files() -> None:
    text = "## A & b\n\n*em* **strong** `c_d` [l](https://x.example/a_b%20c#d)\n\n- one\n- two\n\n"
    text += "$\\input{secret}$ [[a: b]]"
    tex = notes.tex(text, lambda experiment, what: Said("50 %"), lambda digest: None)
    for part in (
        r"\subsection{A \& b}", r"\emph{em} \textbf{strong} \texttt{c\_d}", r"\href{https://x.example/a\_b\%20c\#d}{l}",
        "\\begin{itemize}\n\\item one", r"\texttt{{\textbackslash}input\{secret\}} 50 \%",
    ):  # fmt: skip
        assert part in tex, part


HIDDEN = (
    '`` <img src=x onerror=alert(1)> `', '`<img src=x onerror=alert(1)>``', '\\`<img src=x>`',
    "a `` b\n\n<img src=x> ``",
    "```\ncode\n\n```\n<img src=x>\n```", "> `` x\n\n<img src=x> `` y", "| `` | <img src=x> `` |\n|---|---|\n| a | b |",
    "| a |\n|---|\n| `` <img src=x> ` |", "<https://x.example/<img src=x>>", "<https://x onerror=alert(1)>",
    "<!-- a -->",
    "<?php a ?>", "[[a: b]] [[c: `]] <img src=x> `", "~~~\n```\n~~~\n<img src=x>", "    code\n\n<img src=x>",
    "<div>\n\n`<b>`", "- ```\n<img src=x>\n  ```", "``` `` <img src=x> ```` `",
)  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
def test_markdown_of_a_note_holds_no_html(text: str) -> None:
    """Read by the library with HTML, with and without tables, and as part of a longer document."""
    from markdown_it import MarkdownIt

    named = "<img src=x onerror=alert(1)> `<b>` [a](javascript:b) $x$ &lt;"
    plain = notes.markdown(text, lambda experiment, what: Said(named), lambda digest: None)
    for reader in (MarkdownIt("commonmark"), MarkdownIt("gfm-like", {"linkify": False})):
        for document in (plain, notes.harmless(f"```\n\n{plain}\n\n```\n\n{plain}")):
            html = reader.render(document)
            assert {tag for tag, _ in Tags(html).found} <= {
                "p", "code", "pre", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "a", "ul", "li", "em",
            }, html  # fmt: skip


def test_code_in_markdown_of_a_note_stays_as_it_is() -> None:
    text = (
        "`vector<int>` and ``a ` b<c>`` <https://x.example/a> a<b\n\n    indented <b>\n\n"
        "~~~\nfenced <b> [[a: b]]\n~~~\n\n"
        "| `a<b>` | x |\n|---|---|\n| 1 | `c<d>` |"
    )
    assert notes.markdown(text, lambda *_: Said("x"), lambda digest: None) == text.replace(" a<b\n", " a\\<b\n")


def test_what_a_reference_says_is_text_in_markdown() -> None:
    from markdown_it import MarkdownIt

    for named in ("<b>x</b>", "_a_b_ * c * `d` $e$ & &lt; [f](g) \\ h", "1 < 2 & 3"):
        plain = notes.markdown("[[a]]", lambda *_, said=named: Said(said), lambda digest: None)
        html = MarkdownIt("gfm-like", {"linkify": False}).render(plain)
        assert unescape(html) == f"<p>{named}</p>\n"


TYPED = (
    r"$\directlua{os.execute('id')}$", r"$\^^69nput{/etc/passwd}$", "$^^5cinput{/etc/passwd}$",
    r"$\InputIfFileExists{/etc/passwd}{}{}$", r"$\lstinputlisting{/etc/passwd}$",
    r"$\expandafter\csname inp\endcsname$", r"$\write18{id}$", r"$\special{x}$", r"$\pdfobj file {/etc/passwd}$",
    r"$\end{document}$", r"$\end {document}$", "$$\n\\begin{filecontents}[overwrite]{x.sh} a \\end{filecontents}\n$$",
    r"$\text{\openout3=x}$", r"$a}\input{/etc/passwd}{b$", r"$\makeatletter\@@input x$", r"$x % y$",
    r"$\newcommand{\a}{b}$",
    r"[a](run:./evil)", r"[a](http://x/\write18{id})", r"![\input{/etc/passwd}](x)", r"`\input{x}`", r"\input{x}",
)  # fmt: skip


@pytest.mark.parametrize("text", TYPED)
def test_latex_of_a_note_runs_and_reads_nothing(text: str) -> None:
    """Every command of the document is one that sets text; pylatexenc reads it."""
    from pylatexenc.latexwalker import LatexWalker

    sets = {"texttt", "textbackslash", "href", "ensuremath", "textasciicircum", "textquotesingle", "item", "emph"}
    tex = notes.tex(text, lambda experiment, what: Said("x"), lambda digest: None)
    assert "^^" not in tex
    nodes, found = list(LatexWalker(tex, tolerant_parsing=False).get_latex_nodes()[0]), set()
    while nodes:
        node = nodes.pop()
        if name := getattr(node, "macroname", ""):
            found.add(name)
        assert not getattr(node, "environmentname", ""), tex
        assert type(node).__name__ not in ("LatexMathNode", "LatexCommentNode"), tex
        nodes += getattr(node, "nodelist", None) or []
        arguments = getattr(node, "nodeargd", None)
        nodes += [one for one in getattr(arguments, "argnlist", None) or [] if one is not None]
    assert {name for name in found if name.isalpha()} <= sets, tex
    assert "run:" not in tex


@pytest.mark.parametrize(
    "formula",
    [r"x^{2} + \frac{a}{b}", r"\mathbb{E}_{p(\theta \mid x)}[\lVert f \rVert]", r"50\,\% \text{ of } \mathrm{KL}",
     r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", r"\left\{ x \ge 0 \right\}",
     r"\begin{cases} 1 & x > 0 \\ 0 & \text{else} \end{cases}", r"\hat{\sigma}^2 = \sum_{i=1}^{n} (x_i - \bar{x})^2"],
)  # fmt: skip
def test_latex_of_a_note_keeps_its_formulas(formula: str) -> None:
    assert f"${formula}$" in notes.tex(f"Now ${formula}$.", lambda *_: Said("x"), lambda digest: None)


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "field", "said"),
    [
        ({"kind": "figure", "experiment": "a", "figure": "plaine"}, "blocks.0.figure", "did you mean plane"),
        (
            {"kind": "figure", "experiment": "a", "figure": "plane", "options": {"split": 3}},
            "blocks.0.options.split",
            "",
        ),
        ({"kind": "claims", "experiment": "a", "claims": ["z9"]}, "blocks.0.claims", "no claim"),
        ({"kind": "numbers", "experiments": ["a"], "columns": ["accurracy"]}, "blocks.0.columns", "accuracy"),
        ({"kind": "numbers", "experiments": []}, "blocks.0.experiments", ""),
        ({"kind": "text", "html": "<b>"}, "blocks.0.html", ""),
        ({"kind": "poem"}, "blocks.0", ""),
    ],
)
def test_what_is_wrong_in_a_block_is_named_by_its_field(block: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        blocks.read([block])
    assert refused.value.field == field
    assert said in str(refused.value)


def test_two_blocks_never_have_one_id() -> None:
    ids = [block.id for block in blocks.read([{"kind": "text", "id": "a"}, {"kind": "text", "id": "a"}])]
    assert ids[0] == "a"
    assert ids[1] != "a"


# -- the store, on both databases -------------------------------------------------------------------------------------


def test_who_wrote_a_report_changes_it_and_nobody_loses_what_another_wrote(store: Store) -> None:
    with acting(ADA):
        row = store.reports.create("Ä report", [{"kind": "text", "id": "a", "markdown": "one"}])
        assert (row.slug, row.revision, row.created_by) == ("a-report", 1, "ada")
        changed = store.reports.change("a-report", blocks=[{"kind": "text", "id": "a", "markdown": "two"}], revision=1)
        assert changed.revision == 2
        with pytest.raises(Conflict, match="revision 2"):
            store.reports.change("a-report", name="late", revision=1)
    with acting(BOB):
        with pytest.raises(Forbidden, match="ada made it"):
            store.reports.change("a-report", name="mine now")
        with pytest.raises(Forbidden):
            store.reports.remove(row.id)
        with pytest.raises(Forbidden):
            store.reports.add_image("a-report", "x", b"y", "image/png", (1, 1))
    with acting(Actor("eve", UserRole.VIEWER)), pytest.raises(Forbidden):
        store.reports.create("not hers", [])
    assert store.reports.get(row.id).blocks[0]["markdown"] == "two"
    with acting(ADA):
        store.reports.remove(row.id)
    with pytest.raises(NotFound):
        store.reports.get(row.id)
    assert {one.verb for one in store.deeds.page(thing=row.id)} == {"write", "change", "remove"}


def test_what_a_report_said_before_is_kept_looked_at_and_restored_by_who_may_change_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modescape.store.reports.MOST_REVISIONS", 3)

    def note(text: str) -> list[dict[str, Any]]:
        return [{"kind": "text", "id": "a", "markdown": text}]

    with acting(ADA):
        row = store.reports.create("First", note("one"))
        store.reports.change(row.id, blocks=note("two"))
    with acting(Actor("root", UserRole.ADMIN)):
        store.reports.change(row.id, name="Second")
    with acting(ADA):
        kept = [(one.revision, one.name, one.blocks, one.by) for one in store.reports.revisions(row.id)]
        assert kept == [
            (3, "Second", note("two"), "root"), (2, "First", note("two"), "ada"), (1, "First", note("one"), "ada"),
        ]  # fmt: skip
        restored = store.reports.restore(row.id, 1)
        assert (restored.revision, restored.name, restored.blocks) == (4, "First", note("one"))
        assert [one.revision for one in store.reports.revisions(row.id)] == [4, 3, 2]
        with pytest.raises(NotFound, match="revision 1 of First is not kept"):
            store.reports.restore(row.id, 1)
    with acting(BOB):
        for asked in (lambda: store.reports.revisions(row.id), lambda: store.reports.revision(row.id, 2),
                      lambda: store.reports.restore(row.id, 2)):  # fmt: skip
            with pytest.raises(Forbidden):
                asked()
    with acting(ADA):
        store.reports.remove(row.id)
    assert store.reports.found(select(ReportRevision)) == []


def test_an_image_of_a_kept_revision_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modescape.store.reports._KEPT", timedelta(seconds=-60))
    monkeypatch.setattr("modescape.store.reports.MOST_REVISIONS", 2)
    with acting(ADA):
        row = store.reports.create("Pictures", [])
        image = store.reports.add_image(row.id, "a", b"\x89PNG 1", "image/png", (2, 1))
        named = [{"kind": "text", "id": "a", "markdown": f"![a](image:{image.digest})"}]
        store.reports.change(row.id, blocks=named)
        store.reports.change(row.id, blocks=[])
        assert len(store.reports.images(row.id)) == 1  # revision 2 names it
        store.reports.change(row.id, name="Later")
        assert store.reports.images(row.id) == []


def test_a_report_of_before_revisions_begins_with_what_it_says(store: Store) -> None:
    with acting(ADA):
        row = store.reports.create("Old", [{"kind": "text", "id": "a", "markdown": "one"}])
        store.reports.change(row.id, name="Older")
        downgrade(store.url, "0024")
        upgrade(store.url)
        (kept,) = store.reports.revisions(row.id)
        assert (kept.revision, kept.name, kept.blocks[0]["markdown"], kept.by) == (2, "Older", "one", "ada")
        assert kept.at == store.reports.get(row.id).changed_at


def test_images_are_kept_once_within_limits_and_go_with_their_report(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with acting(ADA):
        row = store.reports.create("Pictures", [])
        first = store.reports.add_image(row.slug, "a", b"\x89PNG 1", "image/png", (2, 1))
        assert store.reports.add_image(row.slug, "b", b"\x89PNG 1", "image/png", (2, 1)).name == "a"
        assert first.digest == hashlib.sha256(b"\x89PNG 1").hexdigest()
        monkeypatch.setattr("modescape.store.reports.MOST_IMAGES", 1)
        with pytest.raises(InvalidInput, match="1 images already"):
            store.reports.add_image(row.slug, "c", b"\x89PNG 2", "image/png", (2, 1))
        store.reports.change(row.slug, blocks=[])  # nothing names it, but it has just come
        assert [one.digest for one in store.reports.images(row.id)] == [first.digest]
        store.reports.remove(row.slug)
    assert store.reports.images(row.id) == []


def test_one_user_writes_so_many_reports_and_keeps_so_many_bytes_of_images(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modescape.store.reports.MOST", 2)
    monkeypatch.setattr("modescape.store.reports.MOST_BYTES_OF_ONE", 11)
    with acting(ADA):
        one, two = (store.reports.create(name, []) for name in ("one", "two"))
        with pytest.raises(InvalidInput, match="2 reports already"):
            store.reports.create("three", [])
        store.reports.add_image(one.slug, "a", b"\x89PNG 1", "image/png", (2, 1))
        with pytest.raises(InvalidInput, match="no room for this image"):
            store.reports.add_image(two.slug, "a", b"\x89PNG 2", "image/png", (2, 1))
    with acting(BOB):
        other = store.reports.create("three", [])
        store.reports.add_image(other.slug, "a", b"\x89PNG 2", "image/png", (2, 1))
    with acting(ADA):
        store.reports.remove(one.slug)
        store.reports.create("three", [])
        store.reports.add_image(two.slug, "a", b"\x89PNG 2", "image/png", (2, 1))


def test_one_user_keeps_so_many_views(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modescape.store.views.MOST_OF_ONE", 1)
    with acting(ADA):
        row = store.views.add("one", "dataset=digits")
        with pytest.raises(InvalidInput, match="you have 1 views already"):
            store.views.add("two", "dataset=digits")
    with acting(BOB):
        store.views.add("two", "dataset=digits")
    with acting(ADA):
        store.views.remove(row.slug)
        store.views.add("three", "dataset=digits")


# -- images -----------------------------------------------------------------------------------------------------------


def test_an_image_is_written_anew_without_what_else_was_in_its_file(tmp_path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("Secret", "where I live")
    Image.new("RGBA", (8, 4), (1, 2, 3, 4)).save(tmp_path / "sent", "PNG", pnginfo=about)
    write_anew(tmp_path / "sent", tmp_path / "kept")
    content = (tmp_path / "kept").read_bytes()
    assert b"where I live" in (tmp_path / "sent").read_bytes()
    assert b"where I live" not in content
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (8, 4), (1, 2, 3, 4))


@pytest.mark.parametrize(
    "content", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\nnothing", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(content)
    with pytest.raises(InvalidInput, match="no picture that can be read"):
        write_anew(tmp_path / "sent", tmp_path / "kept")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modescape.reports.images.PIXELS", 100)
    Image.new("1", (11, 10)).save(tmp_path / "sent", "PNG")
    with pytest.raises(InvalidInput, match="11 × 10 pixels"):
        write_anew(tmp_path / "sent", tmp_path / "kept")


# -- read, over HTTP and at home --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("reports")) as running:
        finished(running.laboratory, name="small one")
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as found:
        yield found


PARTS: list[dict[str, Any]] = [
    {"kind": "text", "markdown": "Gain: [[small-one: ensemble_accuracy]] at [[small-one: spec.training.epochs]] "
     "epochs, see [[small-one: figure similarity-runs]]; [[nobody: accuracy]] and $M = 2$.\n\n![A dot](image:DIGEST)"},
    {"kind": "numbers", "experiments": ["small-one"], "columns": ["runs", "accuracy", "spec.training.epochs"],
     "caption": "50 % & more"},
    {"kind": "figure", "experiment": "small-one", "figure": "trajectories", "caption": "Mine."},
    {"kind": "figure", "experiment": "small-one", "figure": "similarity-runs", "options": {"panel": "disagreement"}},
    {"kind": "methods"},
    {"kind": "references"},
]  # fmt: skip


@pytest.fixture(scope="module")
def written(site: Served) -> str:
    """The slug of a report with one of every kind that this experiment has, and an image."""
    dot = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(dot, "PNG")
    with site.client() as client:
        made = client.post("/api/reports", json={"name": "All of it", "blocks": []}).json()
        sent = client.post(
            f"/api/reports/{made['slug']}/images?name=A%20dot", content=dot.getvalue(),
            headers={"content-type": "image/png"},
        )  # fmt: skip
        assert sent.status_code == 201, sent.text
        digest = sent.json()["digest"]
        parts = json.loads(json.dumps(PARTS).replace("DIGEST", digest))
        changed = client.patch(f"/api/reports/{made['slug']}", json={"blocks": parts, "revision": 1})
        assert changed.status_code == 200, changed.text
        assert client.get(sent.json()["url"]).headers["content-type"] == "image/png"
    return str(made["slug"])


@pytest.mark.slow
def test_a_page_says_what_is_so_now(client: httpx.Client, site: Served, written: str) -> None:
    page = client.get(f"/reports/{written}", headers={"accept": "text/html"}).text
    row = site.laboratory.store.experiments.get("small-one")
    assert row.ensemble_accuracy == 0.75
    assert re.search(r'<a class="said"[^>]*>75\.0\u202f%</a> at <a class="said"[^>]*>2</a> epochs', page)
    assert re.search(r'<a class="said" href="#b-[0-9a-f]{8}"[^>]*>Figure 2</a>', page)
    assert '<span class="bad" title="There is no experiment \'nobody\' here.">[[nobody: accuracy]]</span>' in page
    assert page.count('data-figure="figure-') == 2
    assert 'data-query="panel=disagreement"' in page
    assert "batches of 20, adam, learning rate" in page
    assert "Deep Ensembles: A Loss Landscape Perspective" in page
    with acting(Actor("root", UserRole.ADMIN)):
        site.laboratory.store.experiments.patch("small-one", name="another name")
    try:
        assert "another name" in client.get(f"/reports/{written}", headers={"accept": "text/html"}).text
    finally:
        site.laboratory.store.experiments.patch("small-one", name="small one")


@pytest.mark.slow
def test_one_html_file_holds_everything_and_asks_nobody(client: httpx.Client, written: str) -> None:
    answer = client.get(f"/api/reports/{written}/export", params={"form": "html"})
    assert answer.status_code == 200, answer.text
    html = answer.text
    assert "default-src 'none'" in html
    assert html.count("Plotly.newPlot(") == 2
    assert html.count("plotly.js v") == 1  # the script, once
    outside = [tag for tag in Tags(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)).found
               if str(tag[1].get("src", "") or "").startswith(("http", "/"))]  # fmt: skip
    assert outside == []
    assert 'src="data:image/png;base64,' in html
    for words in ("<b>Figure 1. Do the runs reach", "Mine.", "75.0\u202f%", "Table 1.", "50 % &amp; more"):
        assert words in html, words


@pytest.mark.slow
def test_an_image_that_is_shown_often_is_in_the_file_once(
    client: httpx.Client, site: Served, browser: Browser, tmp_path: Path
) -> None:
    dot = io.BytesIO()
    Image.effect_noise((300, 200), 90).convert("RGB").save(dot, "PNG")
    slug = client.post("/api/reports", json={"name": "Often", "blocks": []}).json()["slug"]
    sent = client.post(f"/api/reports/{slug}/images", content=dot.getvalue(), headers={"content-type": "image/png"})
    shown = f'![A "dot"](image:{sent.json()["digest"]}) '
    blocks = [{"kind": "text", "markdown": shown * 75} for _ in range(2)]
    assert client.patch(f"/api/reports/{slug}", json={"blocks": blocks}).status_code == 200
    answer = client.get(f"/api/reports/{slug}/export", params={"form": "html"})
    assert int(answer.headers["content-length"]) == len(answer.content) < 1.5 * len(dot.getvalue()) + 50_000
    assert list(site.settings.made_folder.iterdir()) == []
    assert answer.text.count("data:image/png;base64,") == 1
    (tmp_path / "often.html").write_bytes(answer.content)
    page = browser.new_page()
    page.goto((tmp_path / "often.html").as_uri())
    places = page.get_by_role("img", name='A "dot"')
    assert places.count() == 150
    for place in (places.first, places.last):
        seen = Image.open(io.BytesIO(place.screenshot())).convert("L")
        assert seen.width == 300
        assert seen.height in (200, 201)  # it may begin between two pixels
        assert seen.getextrema()[1] - seen.getextrema()[0] > 200  # of the noise, not of an empty place
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("form", list(taken.FORMS))
def test_what_would_be_too_large_is_refused_and_said(
    site: Served, written: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "MOST_BYTES", 100)
    with pytest.raises(InvalidInput, match="fewer figures and images"):
        writing.take(site.laboratory, written, form, "", tmp_path / "made")


def test_a_notebook_counts_each_cell_that_shows_an_image(
    site: Served, written: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(taken, "MOST_BYTES", 1_000_000)
    cells = [{"kind": "text", "id": f"b-{i:08x}", "markdown": f"![](image:{'a' * 64})"} for i in range(4)]
    now = datetime.now(UTC)
    row = Report(id="x", slug="x", name="x", created_by="x", revision=1, created_at=now, changed_at=now, blocks=cells)
    told = Teller(site.laboratory.store, site.laboratory.artifacts, draws=False).told(row)
    image = ReportImage(report_id="x", digest="a" * 64, media="image/png", width=1, height=1, content=bytes(200_000))
    taking = taken.Taking(told, {"a" * 64: image})
    with pytest.raises(InvalidInput, match="more than 1 MB"):
        taken.write(taking, "ipynb", tmp_path / "made")
    monkeypatch.setattr(taken, "MOST_BYTES", 2_000_000)
    taken.write(taking, "ipynb", tmp_path / "made")


@pytest.mark.slow
def test_markdown_and_latex_come_with_their_figures(client: httpx.Client, written: str) -> None:
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/reports/{written}/export?form=md").content)) as archive:
        text = archive.read("report.md").decode()
        files = re.findall(r"\]\(([^)]+)\)", text)
        assert "figures/2-small-one-similarity-runs.svg" in files
        assert set(files) <= set(archive.namelist())
        assert archive.read("figures/2-small-one-similarity-runs.svg").startswith(b"<svg")
        assert "| small one | 2 | 70.0\u202f% | 2 |" in text
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/reports/{written}/export?form=tex").content)) as archive:
        tex = archive.read("report.tex").decode()
        pictures = re.findall(r"\\includegraphics\[[^]]*\]{([^}]+)}", tex)
        assert len(pictures) == 3
        assert set(pictures) <= set(archive.namelist())
        assert archive.read("figures/1-small-one-trajectories.pdf").startswith(b"%PDF")
        begun, ended = (re.findall(rf"\\{word}{{([a-z*]+)}}", tex) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended)
        assert r"\caption{50 \% \& more}" in tex
        assert "small one & 2 &" in tex
        assert r"\toprule" in tex


@pytest.mark.slow
def test_the_notebook_makes_it_again(client: httpx.Client, written: str, tmp_path: Path) -> None:
    answer = client.get(f"/api/reports/{written}/export?form=ipynb")
    book = nbformat.reads(answer.text, as_version=4)
    nbformat.validate(book)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    space: dict[str, Any] = {}
    exec(code[0], space)
    made = [eval(one, space) for one in code[1:]]
    assert made[0] == [{"slug": "small-one", "runs": 2, "accuracy": 0.7, "spec.training.epochs": 2}]
    assert [type(one).__name__ for one in made[1:]] == ["Figure", "Figure"]
    said = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert "75.0\u202f%" in said
    (picture,) = [cell.attachments for cell in book.cells if "attachments" in cell]
    assert next(iter(picture.values())).keys() == {"image/png"}


@pytest.mark.slow
def test_a_home_and_a_server_write_and_take_reports_alike(site: Served, tmp_path: Path) -> None:
    for number, lab in enumerate((ms.open(site.settings.home), ms.connect(site.url))):
        report = lab.write_report("From a notebook", experiment="small-one")
        assert [one["kind"] for one in report.blocks][-2:] == ["methods", "references"]
        report.change(blocks=[{"kind": "text", "markdown": "[[small-one: runs]] runs"}])
        assert lab.report(report.slug).entry.revision == 2
        assert [one.revision for one in report.revisions()] == [2, 1]
        report.restore(1)
        assert [one["kind"] for one in report.blocks][-1] == "references"
        report.restore(2)
        assert report.entry.revision == 4
        target = report.export(tmp_path / f"{number}.html")
        assert ">2</span> runs" in target.read_text(encoding="utf-8")
        with pytest.raises(InvalidInput, match="no experiment 'gone'"):
            report.change(blocks=[{"kind": "claims", "experiment": "gone"}])
        with pytest.raises(Conflict):
            report.export(target)
    assert {one.slug for one in lab.reports()} >= {"from-a-notebook", "from-a-notebook-2"}


@pytest.mark.slow
def test_forms_write_order_and_refuse_without_script(site: Served) -> None:
    with site.visitor(follow_redirects=False) as visitor:
        made = visitor.post("/reports", data={"name": "By hand", "experiment": ""})
        assert made.headers["location"] == "/reports/by-hand?edit=1"
        page = visitor.get("/reports/by-hand?edit=1").text
        for kind in ("text", "claims", "figure"):
            (add,) = re.findall(rf'value="(add:{kind}:[^"]+)"', page)
            page = visitor.post("/reports/by-hand", data={**fields(page), "do": add}).text
            assert "Not saved yet" in page
        assert site.laboratory.store.reports.get("by-hand").revision == 1  # a draft is in the form alone
        asked = fields(page)
        first, _, third = asked["block"]
        asked |= {f"{first}.markdown": "# Mine", f"{third}.experiment": "nobody"}
        refused = visitor.post("/reports/by-hand", data={**asked, "do": "save"})
        assert refused.status_code == 422
        assert "# Mine" in refused.text  # what was typed is not lost
        assert "there is no experiment &#39;nobody&#39;" in refused.text
        asked |= {f"{third}.experiment": "small-one", f"{third}.figure": "similarity-runs"}
        asked[f"{third}.options"] = "panel=cosine"
        asked = fields(visitor.post("/reports/by-hand", data={**asked, "do": f"up:{third}"}).text)
        assert site.laboratory.store.reports.get("by-hand").blocks == []
        saved = visitor.post("/reports/by-hand", data={**asked, "do": "save"})
        assert saved.headers["location"] == "/reports/by-hand"
        row = site.laboratory.store.reports.get("by-hand")
        assert [one["kind"] for one in row.blocks] == ["text", "figure", "claims"]
        assert row.blocks[1]["options"] == {"panel": "cosine"}
        assert row.revision == 2
        draft = fields(visitor.post("/reports/by-hand", data={**asked, "do": f"remove:{third}"}).text)
        assert draft["block"] == [first, asked["block"][2]]
        assert site.laboratory.store.reports.get("by-hand").blocks == row.blocks
        late = visitor.post("/reports/by-hand", data={**asked, "do": "save"})
        assert late.status_code == 409
        assert "was changed meanwhile" in late.text


@pytest.mark.slow
def test_an_image_that_is_put_in_leaves_the_draft_in_the_form(site: Served) -> None:
    with site.visitor(follow_redirects=False) as visitor:
        visitor.post("/reports", data={"name": "With dots", "experiment": ""})
        page = visitor.get("/reports/with-dots?edit=1").text
        asked = fields(visitor.post("/reports/with-dots", data={**fields(page), "do": "add:text:new-1"}).text)
        dot = io.BytesIO()
        Image.new("RGB", (2, 2)).save(dot, "PNG")
        sent = {**asked, "new-1.markdown": "mine", "do": "image"}
        for name, status in (("", 422), ("a dot", 200)):
            answer = visitor.post(
                "/reports/with-dots/images", data={**sent, "image-name": name}, files={"image": dot.getvalue()}
            )
            assert answer.status_code == status
            assert fields(answer.text)["new-1.markdown"] == "mine"
        row = site.laboratory.store.reports.get("with-dots")
        assert (row.blocks, row.revision) == ([], 1)
        assert [one.name for one in site.laboratory.store.reports.images(row.id)] == ["a dot"]


@pytest.mark.slow
def test_an_old_revision_is_shown_and_restored_by_page_and_by_api(site: Served, client: httpx.Client) -> None:
    blocks_then = [{"kind": "text", "id": "a", "markdown": "What I *said*"}]
    slug = client.post("/api/reports", json={"name": "Then", "blocks": blocks_then}).json()["slug"]
    client.patch(f"/api/reports/{slug}", json={"name": "Now", "blocks": []})
    with site.visitor(follow_redirects=False) as visitor:
        assert f"/reports/{slug}?revision=1" in visitor.get(f"/reports/{slug}?edit=1").text
        page = visitor.get(f"/reports/{slug}?revision=1").text
        assert "This is revision 1" in page
        assert "What I <em>said</em>" in page
        assert "This is revision" not in visitor.get(f"/reports/{slug}?revision=2").text
        assert visitor.post(f"/reports/{slug}/restore", data={"revision": 1}).status_code == 303
    found = client.get(f"/api/reports/{slug}").json()
    assert (found["name"], found["revision"], found["blocks"]) == ("Then", 3, blocks_then)
    assert [one["name"] for one in client.get(f"/api/reports/{slug}/revisions").json()["items"]] == [
        "Then", "Now", "Then",
    ]  # fmt: skip
    assert client.get(f"/api/reports/{slug}/revisions/2").json()["blocks"] == []
    assert client.post(f"/api/reports/{slug}/revisions/2/restore").json()["revision"] == 4
    assert client.post(f"/api/reports/{slug}/revisions/9/restore").status_code == 404
    client.delete(f"/api/reports/{slug}")


def fields(page: str) -> dict[str, Any]:
    """What the form of the page would send."""
    found: dict[str, Any] = {"block": []}
    inside = page[page.index("data-report") :]
    for tag, attributes in Tags(inside[: inside.index("</form>")]).found:
        name = attributes.get("name")
        if tag == "input" and name == "block":
            found["block"].append(attributes["value"])
        elif tag == "input" and name:
            found[name] = attributes.get("value") or ""
    for name, body in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>([^<]*)</textarea>', inside):
        found[name] = body
    for name, body in re.findall(r'<select name="([^"]+)">(.*?)</select>', inside, re.DOTALL):
        found[name] = (re.findall(r'value="([^"]+)" selected', body) or re.findall(r'value="([^"]+)"', body))[0]
    return found
