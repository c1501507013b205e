"""A report taken home: one HTML file, Markdown with SVG, LaTeX with PDF figures, or a notebook that makes it again.

write(told, "tex", Path("report.zip"), images, link="https://lab.example")
"""

from __future__ import annotations

import base64
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from modescape import extras
from modescape.drawing import forms, latex, pictures, style
from modescape.drawing.figure import csv
from modescape.drawing.frame import plot
from modescape.errors import InvalidInput
from modescape.reports import notes
from modescape.reports.blocks import FigureOf, NumbersOf, Text
from modescape.reports.telling import CLAIM_HEADS, Part, Told, claim_cells
from modescape.tables import ReportImage

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_BYTES = 100_000_000  # of what is taken home: what is larger is opened by no browser and carried by no mail
_DRAWN_AT_ONCE = 12  # figures, by one browser: so many drawings are in memory
_SUFFIX = {"image/png": "png", "image/jpeg": "jpg"}
_COLUMN = 680  # px of a figure: its letters are 12 px, 8 points in a column of paper
_OLD = (1980, 1, 1, 0, 0, 0)  # the first moment a zip knows: equal contents are equal bytes


@dataclass(frozen=True)
class Form:
    """title: on buttons; media, suffix: of the file; missing: what keeps it from being made here, "" if nothing."""

    name: str
    title: str
    media: str
    suffix: str
    summary: str
    missing: Callable[[], str] = field(repr=False, default=lambda: "")


def _lacks(*modules: str) -> str:
    absent = [module for module in modules if not extras.has(module)]
    return f"{', '.join(absent)} is not installed on the server: {extras.line('reports')}" if absent else ""


FORMS = {
    one.name: one
    for one in (
        Form("html", "HTML", "text/html; charset=utf-8", "html", "One file that shows it anywhere."),
        Form("md", "Markdown + SVG", "application/zip", "md.zip", "Text and drawings, zipped.", pictures.missing),
        Form("tex", "LaTeX + PDF", "application/zip", "tex.zip", "For a paper: booktabs tables, PDF figures, zipped.",
             lambda: _lacks("pylatexenc") or pictures.missing()),
        Form("ipynb", "Notebook", "application/x-ipynb+json", "ipynb", "Makes it again, cell by cell.",
             lambda: _lacks("nbformat")),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Taking:
    """images: of the report, by digest; link: where its numbers are, a server's address or a home's folder."""

    told: Told
    images: Mapping[str, ReportImage]
    link: str = ""

    @property
    def title(self) -> str:
        return self.told.report.name

    def home(self, part: Part) -> forms.Home:
        """The figure of a part."""
        assert isinstance(part.block, FigureOf)
        assert part.figure is not None
        assert part.data is not None
        assert part.experiment is not None
        row = part.experiment
        return forms.Home(part.figure, part.data, row.name, row.slug, part.block.options, self.link)

    def stem(self, part: Part) -> str:
        """Of the files of a figure."""
        return f"figures/{part.number}-{self.home(part).stem}"

    def image_file(self, digest: str) -> str | None:
        image = self.images.get(digest)
        return None if image is None else f"images/{digest[:12]}.{_SUFFIX[image.media]}"

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The images, as they lie beside the document."""
        for digest, image in self.images.items():
            yield f"images/{digest[:12]}.{_SUFFIX[image.media]}", image.content

    def drawn(self, form: pictures.Vector) -> Iterator[tuple[str, bytes]]:
        """Every figure that there is."""
        shown = [part for part in self.told.parts if part.data is not None]
        asked = forms.Asked(form, "print", _COLUMN)
        for first in range(0, len(shown), _DRAWN_AT_ONCE):
            some = shown[first : first + _DRAWN_AT_ONCE]
            made = pictures.drawn_as([forms.picture(self.home(part), asked, words=False) for part in some])
            for part, content in zip(some, made, strict=True):
                yield f"{self.stem(part)}.{form}", content


def write(taking: Taking, form: str, to: Path) -> None:
    """Raises InvalidInput for a form that there is not and for what would be larger than `MOST_BYTES`,
    ConfigurationError for a form that is missing here."""
    if form not in FORMS:
        raise InvalidInput(f"there is no form {form[:40]!r}", field="form", allowed=", ".join(FORMS))
    with _File(io.FileIO(to, "wb")) as out:
        _MAKE[form](taking, out)


class _File(io.BufferedWriter):
    """Becomes no larger than `MOST_BYTES`."""

    def write(self, content: ReadableBuffer, /) -> int:
        written = super().write(content)
        if self.tell() > MOST_BYTES:
            raise _too_large()
        return written


def _too_large() -> InvalidInput:
    return InvalidInput(
        f"it takes more than {MOST_BYTES // 1_000_000} MB", field="form", allowed="a report of fewer figures and images"
    )


def _zip(out: _File, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name, _OLD), content, zipfile.ZIP_DEFLATED)


def _claim_rows(part: Part) -> list[tuple[str, ...]]:
    return [claim_cells(one) for one in part.claims]


# -- one HTML file ----------------------------------------------------------------------------------------------------


_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_STYLE = (
    "body{font:16px/1.5 %s;color:%s;background:%s;margin:24px auto;max-width:1000px;padding:0 24px}"
    "h1,h2,h3,p{overflow-wrap:anywhere}p,ul,ol,blockquote{max-width:68ch}figure{margin:32px 0;break-inside:avoid}"
    "figcaption{font-size:14px;max-width:none}table{border-collapse:collapse;margin:16px 0}"
    "th,td{text-align:left;padding:4px 16px 4px 0;border-bottom:1px solid %s}.num{text-align:right}"
    ".scroll{overflow-x:auto}img,.image{max-width:100%%;height:auto}.once{position:absolute}.bad{color:%s}"
    ".math{overflow:auto hidden;padding:8px 0}"
    "pre{overflow-x:auto}@media print{body{margin:0}.modebar{display:none}}"
)


def _html(taking: Taking, out: _File) -> None:
    def token(name: str) -> str:
        return style.token(name, "light")

    look = _STYLE % (style.FONT, token("text"), token("card"), token("hairline"), token("failed"))
    first = next((part for part in taking.told.parts if part.data is not None), None)
    report = taking.told.report
    made = f"{report.created_by}, {report.changed_at:%Y-%m-%d}; revision {report.revision}"
    foot = f"{made}; Modescape {version('modescape')}"
    shown = _Shown.of(taking)
    out.write((
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(taking.title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{look}</style></head><body>'
        f"{shown.kept()}<h1>{escape(taking.title)}</h1>\n"
    ).encode())  # fmt: skip
    for part in taking.told.parts:
        out.write(f"{_html_of(taking, part, shown, script=part is first)}\n".encode())
    out.write(f"<p><small>{escape(foot)}</small></p></body></html>".encode())


def _html_of(taking: Taking, part: Part, shown: _Shown, *, script: bool) -> str:
    if isinstance(part.block, Text):
        assert part.note is not None
        return part.note.html(_without_links(taking), shown.html)
    if part.wrong:
        return f'<p class="bad">{escape(part.wrong)}</p>'
    if isinstance(part.block, FigureOf):
        home = taking.home(part)
        drawn = plot(home.figure.draw(home.data, "light"), home.frame, script=script)
        said = f"<b>Figure {part.number}. {escape(part.title)}</b> {escape(home.name)}. {escape(part.caption)}"
        return f'<figure id="{part.anchor}">{drawn}<figcaption>{said}</figcaption></figure>'
    if part.claims:
        return f"<h2>{escape(part.title)}</h2>{_html_table(CLAIM_HEADS, _claim_rows(part))}"
    if isinstance(part.block, NumbersOf):
        said = f"<p><b>Table {part.number}.</b> {escape(part.caption)}</p>"
        return f'<div id="{part.anchor}">{said}{_html_table(part.heads, part.rows)}</div>'
    tag = "li" if part.kind == "references" else "p"
    lines = "".join(f"<{tag}>{escape(one)}</{tag}>" for one in part.paragraphs)
    return f"<h2>{escape(part.title)}</h2>" + (f"<ol>{lines}</ol>" if tag == "li" else lines)


def _html_table(heads: tuple[str, ...], rows: object) -> str:
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows  # type: ignore[attr-defined]
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _without_links(taking: Taking) -> notes.Say:
    """What leads to pages of the server leads nowhere from a file; what leads inside it stays."""

    def say(experiment: str, what: str) -> notes.Said:
        said = taking.told.say(experiment, what)
        return notes.Said(said.text, said.title, said.url if said.url.startswith("#") else "", said.is_known)

    return say


@dataclass(frozen=True)
class _Shown:
    """Images inside the file, each once however often it is shown. often: those that are shown more than once."""

    images: Mapping[str, ReportImage]
    often: frozenset[str]

    @classmethod
    def of(cls, taking: Taking) -> _Shown:
        counted = Counter(digest for part in taking.told.parts if part.note for digest, _ in part.note.images)
        return cls(taking.images, frozenset(one for one, n in counted.items() if n > 1 and one in taking.images))

    def kept(self) -> str:
        """What the places show of those that have several."""
        kept = "".join(
            f'<image id="image-{digest}" width="{image.width}" height="{image.height}" href="{_data(image)}"/>'
            for digest, image in self.images.items()
            if digest in self.often
        )
        return f'<svg class="once" width="0" height="0" aria-hidden="true"><defs>{kept}</defs></svg>' if kept else ""

    def html(self, digest: str, words: str) -> str | None:
        """At one place; None where the report has none such."""
        if (image := self.images.get(digest)) is None:
            return None
        if digest not in self.often:
            return notes.picture(_data(image), words)
        size = f'width="{image.width}" height="{image.height}" viewBox="0 0 {image.width} {image.height}"'
        return f'<svg class="image" role="img" aria-label="{escape(words)}" {size}><use href="#image-{digest}"/></svg>'


def _data(image: ReportImage) -> str:
    return f"data:{image.media};base64,{base64.b64encode(image.content).decode()}"


# -- Markdown and LaTeX -----------------------------------------------------------------------------------------------


def _markdown(taking: Taking, out: _File) -> None:
    text = (
        "\n\n".join([f"# {notes.plain(taking.title)}", *(_markdown_of(taking, part) for part in taking.told.parts)])
        + "\n"
    )
    document = [("report.md", notes.harmless(text).encode())]
    _zip(out, chain(document, taking.drawn("svg"), _csv_files(taking), taking.files()))


def _csv_files(taking: Taking) -> Iterator[tuple[str, bytes]]:
    for part in taking.told.parts:
        if part.data is not None:
            yield f"{taking.stem(part)}.csv", csv(part.data).encode()


def _markdown_of(taking: Taking, part: Part) -> str:
    if isinstance(part.block, Text):
        return notes.markdown(part.block.markdown, taking.told.say, taking.image_file)
    if part.wrong:
        return f"*{notes.plain(part.wrong)}*"
    if isinstance(part.block, FigureOf):
        said = f"**Figure {part.number}. {part.title}** {notes.plain(f'{taking.home(part).name}. {part.caption}')}"
        return f"![{part.title}]({taking.stem(part)}.svg)\n\n{said}"
    if part.claims:
        return f"## {notes.plain(part.title)}\n\n{_markdown_table(CLAIM_HEADS, _claim_rows(part))}"
    if isinstance(part.block, NumbersOf):
        return f"**Table {part.number}.** {notes.plain(part.caption)}\n\n{_markdown_table(part.heads, list(part.rows))}"
    paragraphs = map(notes.plain, part.paragraphs)
    lines = [f"{i}. {one}" if part.kind == "references" else one for i, one in enumerate(paragraphs, 1)]
    return f"## {part.title}\n\n" + ("\n" if part.kind == "references" else "\n\n").join(lines)


def _markdown_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(notes.plain(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), line(("---",) * len(heads)), *map(line, rows)])


def _latex(taking: Taking, out: _File) -> None:
    body = "\n".join(_latex_of(taking, part) for part in taking.told.parts)
    packages = "\n".join(rf"\usepackage{{{one}}}" for one in ("amsmath", "amssymb", "textcomp", *latex.PACKAGES))
    text = "\n".join([
        rf"% By Modescape {version('modescape')}; its figures are beside it. Run pdflatex or lualatex twice.",
        r"\documentclass{article}", r"\usepackage[T1]{fontenc}", packages, r"\usepackage[hidelinks]{hyperref}",
        rf"\title{{{latex.escaped(taking.title)}}}", rf"\author{{{latex.escaped(taking.told.report.created_by)}}}",
        rf"\date{{{taking.told.report.changed_at:%Y-%m-%d}}}", r"\begin{document}", r"\maketitle", "", body,
        r"\end{document}", "",
    ])  # fmt: skip
    _zip(out, chain([("report.tex", text.encode())], taking.drawn("pdf"), taking.files()))


def _latex_of(taking: Taking, part: Part) -> str:
    if isinstance(part.block, Text):
        return notes.tex(part.block.markdown, taking.told.say, taking.image_file)
    if part.wrong:
        return rf"\emph{{{latex.escaped(part.wrong)}}}" + "\n"
    if isinstance(part.block, FigureOf):
        said = f"{part.title} {taking.home(part).name}. {part.caption}"
        return latex.figure(f"{taking.stem(part)}.pdf", caption=said, label=f"fig:{part.block.id}")
    if part.claims:
        return latex.table(CLAIM_HEADS, _claim_rows(part), caption=part.title, label=f"tab:{part.block.id}", wide=1)
    if isinstance(part.block, NumbersOf):
        caption = part.caption or "Numbers of the experiments"
        return latex.table(part.heads, part.rows, caption=caption, label=f"tab:{part.block.id}")
    if part.kind == "references":
        items = "\n".join(rf"\bibitem{{r{i}}} {latex.escaped(one)}" for i, one in enumerate(part.paragraphs, 1))
        return f"\\begin{{thebibliography}}{{99}}\n{items}\n\\end{{thebibliography}}\n"
    return f"\\section*{{{part.title}}}\n\n" + "\n\n".join(map(latex.escaped, part.paragraphs)) + "\n"


# -- a notebook -------------------------------------------------------------------------------------------------------


def _notebook(taking: Taking, out: _File) -> None:
    """Figures, claims and numbers are asked for again; notes say what they said when it was written. An image is there
    once for each cell that shows it, for cells share none."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = [
        new_markdown_cell(
            f"# {notes.plain(taking.title)}\n\nNeeds `pip install modescape`; asks {taking.link or 'a home'}."
        ),
        new_code_cell(f"import modescape as ms\n\nlab = {forms.opening(taking.link)}"),
    ]
    attached_bytes = 0
    for part in taking.told.parts:
        if isinstance(part.block, Text):
            attached = _Attached(taking)
            cell = new_markdown_cell(notes.markdown(part.block.markdown, taking.told.say, attached.name))
            if attached.files:
                cell["attachments"] = attached.files
                attached_bytes += sum(len(one) for file in attached.files.values() for one in file.values())
                if attached_bytes > MOST_BYTES:
                    raise _too_large()
            cells.append(cell)
            continue
        title, caption = notes.plain(part.title), notes.plain(part.caption)
        head = {"figure": f"**Figure {part.number}. {title}** {caption}", "claims": f"## {title}",
                "numbers": f"**Table {part.number}.** {caption}"}.get(part.kind)  # fmt: skip
        cells.append(new_markdown_cell(head or _markdown_of(taking, part)))
        if (code := _code(part)) is not None and not part.wrong:
            cells.append(new_code_cell(code))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    made = new_notebook(cells=cells, metadata={**kernel, "title": taking.title})
    for i, cell in enumerate(made.cells):
        cell["id"] = f"cell-{i}"  # else drawn by chance
    nbformat.validate(made)
    text: str = nbformat.writes(made)
    out.write(text.encode())


@dataclass(frozen=True)
class _Attached:
    """The images of one cell, inside it. files: name -> media -> base64."""

    taking: Taking
    files: dict[str, dict[str, str]] = field(default_factory=dict)

    def name(self, digest: str) -> str | None:
        if (image := self.taking.images.get(digest)) is None:
            return None
        name = f"{digest[:12]}.{_SUFFIX[image.media]}"
        self.files[name] = {image.media: base64.b64encode(image.content).decode()}
        return f"attachment:{name}"


def _code(part: Part) -> str | None:
    block = part.block
    if isinstance(block, FigureOf):
        return forms.call(part.slugs[0], block.figure, block.options)
    if part.claims:
        letters = tuple(one.record.id for one in part.claims)
        return f"[one for one in lab.experiment({part.slugs[0]!r}).claims if one.letter in {letters!r}]"
    if isinstance(block, NumbersOf):
        slugs, columns = [one for one in part.slugs if one], list(dict.fromkeys(("slug", *block.columns)))
        return f"[dict(one) for one in lab.experiments(columns={columns!r}) if one['slug'] in {slugs!r}]"
    return None


_MAKE: dict[str, Callable[[Taking, _File], None]] = {
    "html": _html, "md": _markdown, "tex": _latex, "ipynb": _notebook,
}  # fmt: skip
