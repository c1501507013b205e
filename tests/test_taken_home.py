"""What people take home: figures in every form, made by another process."""

from __future__ import annotations

import ast
import csv
import io
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving import Served, finished, served

import modescape as ms
from modescape.drawing import forms, latex
from modescape.errors import InvalidInput
from modescape_api.pages import rendering

pytestmark = pytest.mark.slow

FIGURE = "/api/experiments/small-one/figures/similarity-runs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        finished(running.laboratory, name="small_one & 50 %")
        finished(running.laboratory, name="small one")
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as found:
        yield found


def fetched(client: httpx.Client, form: str, **asked: object) -> bytes:
    answer = client.get(f"{FIGURE}.{form}", params=asked)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    media = forms.FORMS[form].media.partition(";")[0]
    assert answer.headers["content-type"].startswith(media)
    assert f'filename="small-one-similarity-runs.{form}"' in answer.headers["content-disposition"]
    return answer.content


def test_pictures_have_the_words_of_the_figure_and_the_size_asked_for(client: httpx.Client) -> None:
    svg = ET.fromstring(fetched(client, "svg", width=800))
    assert svg.get("width") == "800"
    said = " ".join("".join(svg.itertext()).split())
    for words in ("small one", "40 test images", "Are they the same function"):
        assert words in said, words
    with Image.open(io.BytesIO(fetched(client, "png", width=700, scale=3))) as picture:
        assert picture.width == 2100
    with Image.open(io.BytesIO(fetched(client, "png", width=700, scale=3, height=900))) as taller:
        assert taller.height > picture.height
    pdf = fetched(client, "pdf", width=800)
    assert pdf.startswith(b"%PDF")
    (box,) = re.findall(rb"/MediaBox \[0 0 ([\d.]+)", pdf)
    assert float(box) == pytest.approx(800 * 72 / 96, abs=1)  # points
    assert b"/FontFile" in pdf  # letters are letters, and no picture of them
    assert "kaleido" not in sys.modules  # this process serves, and has not made any of them


def test_parquet_has_the_numbers_of_the_csv_and_says_what_they_are(client: httpx.Client) -> None:
    lines = list(csv.DictReader(io.StringIO(fetched(client, "csv").decode())))
    packed = fetched(client, "parquet")
    import pyarrow.parquet as parquet

    found = parquet.read_table(io.BytesIO(packed))
    assert found.column_names == list(lines[0])
    for row, line in zip(found.to_pylist(), lines, strict=True):
        for name, value in row.items():
            assert (line[name] == "") if value is None else (type(value)(line[name]) == value), name
    about = {key.decode(): value.decode() for key, value in found.schema.metadata.items()}
    assert (about["experiment"], about["figure"]) == ("small one", "similarity-runs")
    assert "40 test images" in about["caption"]


def test_latex_sets_names_as_they_are_and_names_its_picture(client: httpx.Client) -> None:
    text = client.get("/api/experiments/small-one-50/figures/similarity-runs.tex").text
    assert r"\includegraphics[width=\linewidth]{small-one-50-similarity-runs.pdf}" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in text
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#]", body)  # would hide what follows, or be an argument


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("50 % & a_b", r"50 \% \& a\_b"),
        ("α ≥ 1\u202f000 − 3", r"\ensuremath{\alpha} \ensuremath{\geq} 1\,000 \ensuremath{-} 3"),
        (r"\input{x} $y$", r"{\textbackslash}input\{x\} \$y\$"),
    ],
)
def test_latex_of_a_text_shows_that_text(text: str, told: str) -> None:
    assert latex.escaped(text) == told


def test_a_long_table_breaks_across_pages() -> None:
    rows = [(i, 0.5, None) for i in range(41)]
    text = latex.table(("run", "accuracy", "gain"), rows, caption="Numbers", label="tab:x")
    assert text.startswith("\\begin{longtable}{rrr}")
    assert "40 & 0.5 & -- \\\\" in text
    assert latex.table(("run",), rows[:3], caption="", label="").startswith("\\begin{table}")


ALONE = """
import socket, sys
sys.modules["modescape"] = None
socket.socket = None
"""


def test_the_code_draws_the_same_figure_again_with_plotly_alone(client: httpx.Client, tmp_path: Path) -> None:
    asked = {"theme": "print", "panel": "disagreement"}
    code = fetched(client, "py", **asked).decode()
    told = "print([[list(row) for row in trace.z] for trace in figure.data if trace.type == 'heatmap'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{ALONE}{code}\n{told}"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Are they the same function" in (tmp_path / "small-one-similarity-runs.html").read_text(encoding="utf-8")
    drawn = client.get(f"{FIGURE}.json", params={**asked, "arrays": "list"}).json()
    values = [[list(row) for row in trace["z"]] for trace in drawn["data"] if trace["type"] == "heatmap"]
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == values
    assert "#       lab.experiment('small-one').figure('similarity-runs', panel='disagreement', theme='print')" in code


def test_a_home_makes_the_same_files_as_a_server(client: httpx.Client, site: Served) -> None:
    one = ms.open(site.settings.home).experiment("small-one")
    assert one.picture("similarity-runs", "tex") == fetched(client, "tex")
    with Image.open(io.BytesIO(ms.connect(site.url).experiment("small-one").picture(
        "similarity-runs", "png", width=640, scale=1
    ))) as picture:  # fmt: skip
        assert picture.width == 640


def test_what_makes_a_form_is_missing_and_the_button_says_so(
    client: httpx.Client, site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chrome")
    rendering.figure_forms.cache.clear()  # type: ignore[attr-defined]
    try:
        refused = client.get(f"{FIGURE}.pdf", params={"width": 777})
        assert refused.status_code == 406
        assert "no Chrome or Chromium is found" in refused.json()["detail"]
        assert "pdf" not in refused.json()["errors"][0]["allowed"]
        told = {one["name"]: one["missing"] for one in client.get("/api/figure-forms").json()["items"]}
        assert "BROWSER_PATH" in told["pdf"]
        assert told["csv"] == told["parquet"] == ""
        page = client.get("/experiments/small-one/figures/similarity-runs", headers={"accept": "text/html"}).text
        assert re.search(r'<button type="button" class="light tiny" disabled title="PDF: no Chrome', page)
        assert "PDF: no Chrome or Chromium is found on the server" in page
    finally:
        rendering.figure_forms.cache.clear()  # type: ignore[attr-defined]


def test_a_figure_that_waits_is_not_ready_in_any_form(client: httpx.Client, site: Served) -> None:
    row = site.laboratory.create({"data": {"dataset": "digits"}, "ensemble": {"runs": 2}}, name="waits")
    for form in ("json", "pdf", "parquet"):
        answer = client.get(f"/api/experiments/{row.slug}/figures/similarity-runs.{form}")
        assert (answer.status_code, "predict" in answer.json()["waits_for"]) == (409, True), answer.text
    for wrong in ({"width": 100}, {"split": "nowhere"}, {"width": 4000, "scale": 4}, {"scale": 9}, {"height": 9999}):
        assert client.get(f"{FIGURE}.png", params=wrong).status_code == 422, wrong
    home = ms.open(site.settings.home).experiment("small-one")
    with pytest.raises(InvalidInput, match="8000 pixels"):
        home.picture("similarity-runs", "png", width=4000, scale=4)


def test_a_table_is_no_wider_than_the_text() -> None:
    """A short one is scaled where it must be; one that breaks has smaller letters, then lies on its side, then has its
    heads a word a line and fewer digits."""
    assert r"\resizebox{\ifdim\width>\linewidth" in latex.table(("run",), [(0,)], caption="", label="")

    def breaking(columns: int, head: str = "value") -> str:
        return latex.table([head] * columns, [[0.123456789] * columns] * 50, caption="Numbers", label="tab:x")

    assert breaking(3).startswith(r"\begin{longtable}")
    assert re.match(r"\{\\(small|footnotesize|scriptsize)\\setlength", breaking(7))
    assert breaking(11).startswith("\\begin{landscape}\n")
    widest = breaking(14, "a_head_of_words")
    assert r"\shortstack{a \\ head \\ of \\ words}" in widest
    assert "& 0.1235 &" in breaking(19)
    for text in (breaking(7), breaking(11), widest):
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert begun == ended[::-1]
        assert text.count("{") == text.count("}")


@pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("kpsewhich")),
    reason="LaTeX is not installed, so nothing was set: apt-get install texlive-latex-extra",
)
def test_latex_sets_every_figure_inside_the_text(client: httpx.Client, site: Served, tmp_path: Path) -> None:
    """And a report, with its tables and claims."""
    parts = [{"kind": "text", "markdown": "# A_1 & 50 %\n\n$x^2$\n\n| a | b |\n|-|-:|\n| 1 | 2 |"}]
    parts += [{"kind": "figure", "experiment": "small-one", "figure": "similarity-runs"}]
    parts += [{"kind": "claims", "experiment": "small-one"}, {"kind": "numbers", "experiments": ["small-one"]}]
    slug = client.post("/api/reports", json={"name": "Told & set", "blocks": parts}).json()["slug"]
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/reports/{slug}/export?form=tex").content)) as archive:
        archive.extractall(tmp_path)
    names = [one["name"] for one in client.get("/api/experiments/small-one/figures").json()["items"]
             if one["state"] == "ready"]  # fmt: skip
    for name in names:
        text = client.get(f"/api/experiments/small-one/figures/{name}.tex").text
        (tmp_path / f"{name}.tex").write_text(text)
        shutil.copy(next(tmp_path.glob("figures/*.pdf")), tmp_path / f"small-one-{name}.pdf")
    used = "".join(rf"\usepackage{{{one}}}" for one in ("amsmath", "amssymb", "textcomp", *latex.PACKAGES))
    body = "\n".join(rf"\input{{{name}.tex}}\clearpage" for name in names)
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}\usepackage[T1]{{fontenc}}{used}\begin{{document}}{body}\end{{document}}"
    )
    assert names
    for document in ("report", "all"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{document}.tex"],
            cwd=tmp_path, capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, said[-2000:]
        assert not re.search(r"Overfull \\hbox \(([5-9]|\d\d+)\.", said), said
