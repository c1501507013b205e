"""Notes of a report: Markdown as HTML that is safe to show, as LaTeX, and as Markdown without references.

    read("The gain is [[quickstart: ensemble_accuracy]] for $M = 5$.").html(say, image)

CommonMark with tables, struck words and $formulas$ (markdown-it); formulas become MathML, which browsers set by
themselves; what comes out is cleaned once more (nh3). HTML that people type is shown as text. Images are those of the
report, by `image:<digest>`; others are no images but links: nothing is ever fetched from elsewhere.

What references say is put into what was read each time that it is shown. Reading takes the square of the length of some
notes: a server has another process do it (`notes_apart`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from modescape import extras
from modescape.drawing import latex
from modescape.drawing.formulas import is_mathematics

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.tree import SyntaxTreeNode

IMAGE = "image:"  # before the digest of an image of the report
REFERENCE = re.compile(r"\[\[([^\[\]:|\n]{1,100})(?::([^\[\]\n]{0,140}))?\]\]")
_LONGEST_FORMULA = 4000  # characters


@dataclass(frozen=True)
class Said:
    """What a reference says now. text: in the note; title: what it is, of which experiment, n; url: where it is from;
    is_known: else the text says what is wrong."""

    text: str
    title: str = ""
    url: str = ""
    is_known: bool = True


Say = Callable[[str, str], Said]  # of an experiment's reference and what is asked of it ("" its name)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    extras.require("reports", "notes in Markdown", "markdown_it", "mdit_py_plugins", "nh3", "latex2mathml")
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    found = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    found.use(dollarmath_plugin, double_inline=True, allow_space=False, allow_digits=False)
    found.inline.ruler.before("link", "reference", _reference)
    return found


def _reference(state: StateInline, silent: bool) -> bool:
    """An inline rule: [[experiment: what]]."""
    found = REFERENCE.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        token = state.push("reference", "", 0)
        token.meta = dict(zip(("experiment", "what"), referred(found), strict=True))
    state.pos = found.end()
    return True


def referred(found: re.Match[str]) -> tuple[str, str]:
    """Of a reference as it is typed the experiment, and what is asked of it."""
    return found[1].strip(), (found[2] or "").strip()


# -- HTML -------------------------------------------------------------------------------------------------------------


_MATHML = frozenset({
    "math", "mrow", "mi", "mn", "mo", "mfrac", "msup", "msub", "msubsup", "msqrt", "mroot", "mtext", "mtable", "mtr",
    "mtd", "mover", "munder", "munderover", "mspace", "mstyle", "menclose", "mpadded", "mphantom", "mmultiscripts",
    "mprescripts", "none", "semantics",
})  # fmt: skip
_TAGS = _MATHML | {
    "h2", "h3", "h4", "h5", "h6", "p", "em", "strong", "s", "a", "ul", "ol", "li", "blockquote", "code", "pre", "hr",
    "br", "table", "thead", "tbody", "tr", "th", "td", "span", "div",
}  # fmt: skip
_OF_MATH = {
    "display", "mathvariant", "stretchy", "fence", "separator", "form", "accent", "columnalign", "rowspacing",
    "columnspacing", "linethickness", "lspace", "rspace", "width", "height", "depth", "minsize", "maxsize", "notation",
    "movablelimits", "displaystyle", "scriptlevel",
}  # fmt: skip
_ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title", "class"}, "span": {"class", "title"},
    "div": {"class", "tabindex", "role", "aria-label"}, "code": {"class"}, "ol": {"start"},
    "th": {"class", "scope"}, "td": {"class"}, **dict.fromkeys(_MATHML, _OF_MATH),
}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """One as it was read. parts: HTML that is safe to put into a page; between two of them stands what is there as the
    number of a reference or an image. references: experiment, what is asked of it, and whether it stands in a link;
    images: digest and the words for it."""

    parts: tuple[str, ...]
    between: tuple[int, ...] = ()
    references: tuple[tuple[str, str, bool], ...] = ()
    images: tuple[tuple[str, str], ...] = ()

    def html(self, say: Say, image: Callable[[str, str], str | None]) -> str:
        """image: HTML of an image by its digest and the words for it, None where the report has none such."""
        shown = [self.parts[0]]
        for number, part in zip(self.between, self.parts[1:], strict=True):
            if number < len(self.references):
                experiment, what, is_in_link = self.references[number]
                shown.append(_link(say(experiment, what), plain=is_in_link))
            else:
                digest, words = self.images[number - len(self.references)]
                shown.append(image(digest, words) or _absent(words))
            shown.append(part)
        return "".join(shown)


def picture(source: str, words: str) -> str:
    """An image in HTML."""
    return f'<img src="{_quoted(source)}" alt="{_quoted(words)}" loading="lazy">'


def _absent(words: str) -> str:
    said = f"image {words or 'without a name'}, which this report does not have"
    return f'<span class="bad">{escape(said, quote=False)}</span>'


def as_typed(text: str, why: str) -> Note:
    """One that is shown as it was typed. why: a sentence."""
    return Note((f'<p class="bad">{escape(why)}</p><pre>{escape(text)}</pre>',))


def read(text: str) -> Note:
    """A note. Headings begin below the page's own."""
    import nh3

    parser, env, found = _parser(), dict[str, Any](), _Found(secrets.token_hex(16))
    shown = parser.renderer.render(found.block(parser.parse(text, env)), parser.options, env)
    clean = nh3.clean(
        shown, tags=set(_TAGS), attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )  # fmt: skip
    parts = re.split(rf"{found.mark}([ri])([0-9]+)\.", clean)
    kinds, places = parts[1::3], map(int, parts[2::3])
    between = [place + (len(found.references) if kind == "i" else 0) for kind, place in zip(kinds, places, strict=True)]
    return Note(tuple(parts[::3]), tuple(between), tuple(found.references), tuple(found.images))


def read_all(texts: Sequence[str]) -> list[Note]:
    return list(map(read, texts))


class _Found:
    """The tokens of a note as the library renders them, but for those that are ours: where references and images stand,
    a mark does, which nobody can have typed."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.references: list[tuple[str, str, bool]] = []
        self.images: list[tuple[str, str]] = []

    def block(self, tokens: Sequence[Token]) -> list[Token]:
        said: list[Token] = []
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):
                token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
            if token.type in ("th_open", "td_open"):
                is_right = "right" in str(token.attrGet("style"))
                token.attrs = {"class": "num"} if is_right else {}
                if token.type == "th_open":
                    token.attrSet("scope", "col")
            if token.type.startswith("math_block"):
                token = _raw(f'<div class="math" tabindex="0">{mathml(token.content, display=True)}</div>\n')
            elif token.type == "table_open":
                said.append(_raw('<div class="scroll" tabindex="0" role="group" aria-label="Table">'))
            if token.children:
                token.children = list(self._inline(token.children))
            said.append(token)
            if token.type == "table_close":
                said.append(_raw("</div>\n"))
        return said

    def _inline(self, tokens: Iterable[Token]) -> Iterator[Token]:
        links = 0
        for token in tokens:
            links += {"link_open": 1, "link_close": -1}.get(token.type, 0)
            if token.type == "reference":
                self.references.append((token.meta["experiment"], token.meta["what"], links > 0))
                yield _raw(f"{self.mark}r{len(self.references) - 1}.", inline=True)
            elif token.type.startswith("math_inline"):
                yield _raw(mathml(token.content, display=token.type == "math_inline_double"), inline=True)
            elif token.type == "image":
                yield _raw(self._picture(token), inline=True)
            else:
                yield token

    def _picture(self, token: Token) -> str:
        source = str(token.attrGet("src") or "")
        if source.startswith(IMAGE):
            self.images.append((source.removeprefix(IMAGE), token.content))
            return f"{self.mark}i{len(self.images) - 1}."
        return f'<a href="{escape(source)}">{escape(token.content) or escape(source)}</a>'


def _raw(text: str, *, inline: bool = False) -> Token:
    from markdown_it.token import Token

    return Token("html_inline" if inline else "html_block", "", 0, content=text)


def _link(said: Said, *, plain: bool) -> str:
    """plain: inside another link."""
    title, text = f' title="{_quoted(said.title)}"' if said.title else "", escape(said.text, quote=False)
    if not said.is_known:
        return f'<span class="bad"{title}>{text}</span>'
    if not said.url or plain:
        return f'<span class="said"{title}>{text}</span>'
    return f'<a class="said" href="{_quoted(said.url)}"{title} rel="noopener noreferrer nofollow">{text}</a>'


def _quoted(text: str) -> str:
    """Between double quotes."""
    return escape(text, quote=False).replace('"', "&quot;")


def mathml(formula: str, *, display: bool) -> str:
    """A formula in TeX as MathML; what is not understood as it was typed."""
    import latex2mathml.converter

    try:
        if len(formula) > _LONGEST_FORMULA:
            raise ValueError("it is too long")
        return str(latex2mathml.converter.convert(formula, display="block" if display else "inline"))
    except Exception:  # the library raises whatever the formula makes it meet, and a page must be shown
        return f'<code class="bad">{escape(formula)}</code>'


# -- LaTeX ------------------------------------------------------------------------------------------------------------


_HEADINGS = ("section", "subsection", "subsubsection", "paragraph", "subparagraph", "subparagraph")
_AROUND: Mapping[str, tuple[str, str]] = {
    "em": (r"\emph{", "}"), "strong": (r"\textbf{", "}"), "s": (r"\underline{", "}"), "paragraph": ("", "\n\n"),
    "bullet_list": ("\\begin{itemize}\n", "\\end{itemize}\n\n"),
    "ordered_list": ("\\begin{enumerate}\n", "\\end{enumerate}\n\n"), "list_item": (r"\item ", ""),
    "blockquote": ("\\begin{quote}\n", "\\end{quote}\n\n"),
}  # fmt: skip


def tex(text: str, say: Say, image: Callable[[str], str | None]) -> str:
    """A note as LaTeX. image: the file of an image by its digest, beside the document."""
    from markdown_it.tree import SyntaxTreeNode

    return _tex(SyntaxTreeNode(_parser().parse(text)), say, image)


def _tex(node: SyntaxTreeNode, say: Say, image: Callable[[str], str | None]) -> str:
    def inner(of: SyntaxTreeNode = node) -> str:
        return "".join(_tex(child, say, image) for child in of.children)

    kind = node.type
    if kind in _AROUND:
        return inner().join(_AROUND[kind])
    if kind == "text":
        return latex.escaped(node.content)
    if kind == "reference":
        return latex.escaped(say(node.meta["experiment"], node.meta["what"]).text)
    if kind.startswith("math_block"):
        formula = node.content.strip()
        return f"\\[\n{formula}\n\\]\n\n" if is_mathematics(formula) else f"{_as_typed(formula)}\n\n"
    if kind.startswith("math_inline"):
        return f"${node.content}$" if is_mathematics(node.content) else _as_typed(node.content)
    if kind == "heading":
        return f"\\{_HEADINGS[int(node.tag[1]) - 1]}{{{inner()}}}\n\n"
    if kind == "code_inline":
        return _as_typed(node.content)
    if kind in ("fence", "code_block"):
        lines = "\\\\\n".join(latex.escaped(line).replace(" ", "~") for line in node.content.rstrip("\n").split("\n"))
        return f"\\begin{{quote}}\\ttfamily\n{lines}\n\\end{{quote}}\n\n"
    if kind == "link":
        address = str(node.attrs.get("href", ""))
        return rf"\href{{{_url(address)}}}{{{inner()}}}" if _LEADS.match(address) else inner()
    if kind == "image":
        return _tex_image(node, image)
    if kind in ("softbreak", "hardbreak"):
        return "\n" if kind == "softbreak" else "\\\\\n"
    if kind == "hr":
        return "\\bigskip\n\n"
    if kind == "table":
        return _tex_table(node, inner)
    return inner()


_LEADS = re.compile("https?://|mailto:", re.IGNORECASE)  # hyperref would start a program by `run:`


def _as_typed(text: str) -> str:
    return rf"\texttt{{{latex.escaped(text)}}}"


def _url(text: str) -> str:
    return re.sub(r"([%#&_{}~^\\])", lambda found: rf"\{found[0]}" if found[0] in "%#&_{}" else "", text)


def _tex_image(node: SyntaxTreeNode, image: Callable[[str], str | None]) -> str:
    source = str(node.attrs.get("src", ""))
    file = image(source.removeprefix(IMAGE)) if source.startswith(IMAGE) else None
    if file is None:
        return latex.escaped(node.content or source)
    return rf"\includegraphics[width=\linewidth]{{{file}}}"


def _tex_table(node: SyntaxTreeNode, inner: Callable[[SyntaxTreeNode], str]) -> str:
    lines = [row for part in node.children for row in part.children]
    head, *rows = [[inner(cell) for cell in row.children] for row in lines]
    right = ["right" in str(cell.attrs.get("style", "")) for cell in lines[0].children]
    shape = "".join("r" if one else "l" for one in right)
    body = "\n".join(" & ".join(row) + r" \\" for row in rows)
    return (
        f"\\begin{{center}}\n\\begin{{tabular}}{{{shape}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{center}\n\n"
    )


# -- Markdown ---------------------------------------------------------------------------------------------------------


_HTML = re.compile(r"<(?=[a-zA-Z/!?])")
_LINKED = re.compile(r"https?://[^\s<>`]*>")  # behind the < of an address that is a link by itself


def markdown(text: str, say: Say, image: Callable[[str], str | None]) -> str:
    """A note as Markdown that any program reads: references are what they say, images files. Code stays as it is."""

    def spoken(found: re.Match[str]) -> str:
        return plain(say(*referred(found)).text)

    def named(found: re.Match[str]) -> str:
        return f"]({image(found[1]) or found[1]}"

    def told(part: str) -> str:
        part = re.sub(rf"!\[([^\[\]]*)\]\((?!{IMAGE})", r"[\1](", part)  # what lies elsewhere is a link
        part = _HTML.sub(lambda found: "<" if _LINKED.match(part, found.end()) else r"\<", part)  # shown, not meant
        return re.sub(rf"\]\({IMAGE}([0-9a-f]{{1,64}})", named, REFERENCE.sub(spoken, part))

    def around(parts: Sequence[str]) -> str:
        return "".join(part if i % 2 else told(part) for i, part in enumerate(parts))

    found = _blocks(re.sub("\r\n?", "\n", text))
    return harmless("\n".join(one if is_code else around(_around_code(one, cells)) for one, is_code, cells in found))


def plain(text: str) -> str:
    """Text in Markdown, as it stands: whatever somebody has named an experiment begins no HTML, link or formula."""
    text = re.sub(r"&(?=#?\w)", "&amp;", " ".join(text.split("\n")))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text)
    return re.sub(r"([`*$]|\\(?!_))", r"\\\1", text.replace("<", "&lt;")).replace("](", "]&#40;")


def harmless(text: str) -> str:
    """Markdown in which whoever reads it finds no HTML; what is HTML in spite of all is shown in other signs."""
    from markdown_it import MarkdownIt

    readers = [MarkdownIt("commonmark"), MarkdownIt("commonmark").enable("table")]
    tokens = [token for reader in readers for token in reader.parse(text)]
    inner = [one for token in tokens for one in token.children or ()]
    return _HTML.sub("&lt;", text) if any(one.type.startswith("html_") for one in (*tokens, *inner)) else text


def _blocks(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Lines that belong together, whether they are code, and whether they are a row of a table."""
    kinds: dict[int, tuple[int, bool, bool]] = {}  # by line; of those without, each stands alone
    is_cell = False
    for number, token in enumerate(_parser().parse(text)):
        is_cell = token.type in ("th_open", "td_open") or (is_cell and token.type == "inline")
        if token.map and token.type in ("fence", "code_block", "inline"):
            kind = (-token.map[0] - 1 if is_cell else number), token.type != "inline", is_cell
            kinds |= dict.fromkeys(range(*token.map), kind)
    lines = enumerate(text.split("\n"))
    for _, together in groupby(lines, lambda one: kinds.get(one[0], (-1_000_000 - one[0], False, False))):
        numbers, found = zip(*together, strict=True)
        _, is_code, of_table = kinds.get(numbers[0], (0, False, False))
        yield "\n".join(found), is_code, of_table


def _around_code(text: str, of_table: bool) -> list[str]:
    """Text and code by turns. Code goes from as many backticks as it begins with to the next that are as many
    (CommonMark 6.1), in a table within its cell."""
    if of_table:
        parts = [""]
        for i, cell in enumerate(re.split(r"(?<!\\)(\|)", text)):
            first, *rest = [cell] if i % 2 else _around_code(cell, of_table=False)
            parts = [*parts[:-1], parts[-1] + first, *rest]
        return parts
    runs = list(re.finditer("`+", text))
    later: dict[int, list[int]] = {}  # by how many: which runs, the next last
    for i in reversed(range(len(runs))):
        later.setdefault(len(runs[i][0]), []).append(i)
    parts, begun, i = [], 0, 0
    while i < len(runs):
        start, end = runs[i].span()
        before = text[begun:start]
        if (len(before) - len(before.rstrip("\\"))) % 2:  # the first of them stands for itself
            start += 1
        ends = later.get(end - start, [])
        while ends and ends[-1] <= i:
            ends.pop()
        if start == end or not ends:
            i += 1
            continue
        i = ends[-1]
        parts += [text[begun:start], text[start : runs[i].end()]]
        begun, i = runs[i].end(), i + 1
    return [*parts, text[begun:]]
