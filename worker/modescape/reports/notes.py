"""Notes of a report: Markdown as HTML that is safe to show, as LaTeX, and as Markdown without references.

    html("The gain is [[quickstart: ensemble_accuracy]] for $M = 5$.", say)

CommonMark with tables, struck words and $formulas$ (markdown-it); formulas become MathML, which browsers set by
themselves; what comes out is cleaned once more (nh3). HTML that people type is shown as text. Images are those of the
report, by `image:<digest>`; others are no images but links: nothing is ever fetched from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from modescape import extras
from modescape.drawing import latex

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.tree import SyntaxTreeNode

IMAGE = "image:"  # before the digest of an image of the report
REFERENCE = re.compile(r"\[\[\s*([^\[\]:|\n]{1,80}?)\s*(?::\s*([^\[\]\n]{1,120}?)\s*)?\]\]")
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
        token.meta = {"experiment": found[1], "what": found[2] or ""}
    state.pos = found.end()
    return True


def references(text: str) -> list[tuple[str, str]]:
    """What a note refers to: experiment and what is asked of it."""
    return [
        (one.meta["experiment"], one.meta["what"])
        for token in _parser().parse(text)
        for one in token.children or ()
        if one.type == "reference"
    ]


# -- HTML -------------------------------------------------------------------------------------------------------------


_MATHML = frozenset({
    "math", "mrow", "mi", "mn", "mo", "mfrac", "msup", "msub", "msubsup", "msqrt", "mroot", "mtext", "mtable", "mtr",
    "mtd", "mover", "munder", "munderover", "mspace", "mstyle", "menclose", "mpadded", "mphantom", "mmultiscripts",
    "mprescripts", "none", "semantics",
})  # fmt: skip
_TAGS = _MATHML | {
    "h2", "h3", "h4", "h5", "h6", "p", "em", "strong", "s", "a", "ul", "ol", "li", "blockquote", "code", "pre", "hr",
    "br", "table", "thead", "tbody", "tr", "th", "td", "img", "span", "div",
}  # fmt: skip
_OF_MATH = {
    "display", "mathvariant", "stretchy", "fence", "separator", "form", "accent", "columnalign", "rowspacing",
    "columnspacing", "linethickness", "lspace", "rspace", "width", "height", "depth", "minsize", "maxsize", "notation",
    "movablelimits", "displaystyle", "scriptlevel",
}  # fmt: skip
_ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title", "class"}, "img": {"src", "alt", "title", "loading"}, "span": {"class", "title"},
    "div": {"class", "tabindex", "role", "aria-label"}, "code": {"class"}, "ol": {"start"},
    "th": {"class", "scope"}, "td": {"class"}, **dict.fromkeys(_MATHML, _OF_MATH),
}  # fmt: skip


def html(text: str, say: Say, image: Callable[[str], str | None]) -> str:
    """A note as HTML that is safe to put into a page. Headings begin below the page's own. image: the address of an
    image by its digest, None where the report has none such."""
    import nh3

    parser = _parser()
    env: dict[str, Any] = {}
    tokens = parser.parse(text, env)
    shown = "".join(_Html(say, image).block(tokens, parser, env))
    return nh3.clean(
        shown, tags=set(_TAGS), attributes=_ATTRIBUTES, url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer nofollow", attribute_filter=_checked,
    )  # fmt: skip


def _checked(tag: str, name: str, value: str) -> str | None:
    """`data:` is for images that go into one file, and images are ours."""
    if name == "href" and value.lower().startswith("data:"):
        return None
    if (tag, name) == ("img", "src") and not value.startswith(("data:image/", "/")):
        return None
    return None if (tag, name) == ("img", "src") and value.startswith("//") else value


class _Html:
    def __init__(self, say: Say, image: Callable[[str], str | None]) -> None:
        self._say, self._image = say, image

    def block(self, tokens: Sequence[Token], parser: MarkdownIt, env: dict[str, Any]) -> list[str]:
        """The tokens as the library renders them, but for those that are ours."""

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
                token.children = [self._inline(one) for one in token.children]
            said.append(token)
            if token.type == "table_close":
                said.append(_raw("</div>\n"))
        return [parser.renderer.render(said, parser.options, env)]

    def _inline(self, token: Token) -> Token:
        if token.type == "reference":
            return _raw(_link(self._say(token.meta["experiment"], token.meta["what"])), inline=True)
        if token.type.startswith("math_inline"):
            return _raw(mathml(token.content, display=token.type == "math_inline_double"), inline=True)
        if token.type == "image":
            return _raw(self._picture(token), inline=True)
        return token

    def _picture(self, token: Token) -> str:
        source, alt = str(token.attrGet("src") or ""), escape(token.content)
        if source.startswith(IMAGE):
            if (found := self._image(source.removeprefix(IMAGE))) is not None:
                return f'<img src="{escape(found)}" alt="{alt}" loading="lazy">'
            return f'<span class="bad">image {alt or "without a name"}, which this report does not have</span>'
        return f'<a href="{escape(source)}">{alt or escape(source)}</a>'


def _raw(text: str, *, inline: bool = False) -> Token:
    from markdown_it.token import Token

    return Token("html_inline" if inline else "html_block", "", 0, content=text)


def _link(said: Said) -> str:
    title = f' title="{escape(said.title)}"' if said.title else ""
    if not said.is_known:
        return f'<span class="bad"{title}>{escape(said.text)}</span>'
    if not said.url:
        return f'<span class="said"{title}>{escape(said.text)}</span>'
    return f'<a class="said" href="{escape(said.url)}"{title}>{escape(said.text)}</a>'


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
        return f"\\[\n{_formula(node.content.strip())}\n\\]\n\n"
    if kind.startswith("math_inline"):
        return f"${_formula(node.content)}$"
    if kind == "heading":
        return f"\\{_HEADINGS[int(node.tag[1]) - 1]}{{{inner()}}}\n\n"
    if kind == "code_inline":
        return rf"\texttt{{{latex.escaped(node.content)}}}"
    if kind in ("fence", "code_block"):
        lines = "\\\\\n".join(latex.escaped(line).replace(" ", "~") for line in node.content.rstrip("\n").split("\n"))
        return f"\\begin{{quote}}\\ttfamily\n{lines}\n\\end{{quote}}\n\n"
    if kind == "link":
        return rf"\href{{{_url(str(node.attrs.get('href', '')))}}}{{{inner()}}}"
    if kind == "image":
        return _tex_image(node, image)
    if kind in ("softbreak", "hardbreak"):
        return "\n" if kind == "softbreak" else "\\\\\n"
    if kind == "hr":
        return "\\bigskip\n\n"
    if kind == "table":
        return _tex_table(node, inner)
    return inner()


_ACTS = re.compile(r"\\(input|include|write|openin|openout|read|immediate|catcode|csname|def)(?![a-zA-Z])")


def _formula(text: str) -> str:
    """What a reader typed between dollars stays between them."""
    return _ACTS.sub(r"\\text{\1}", text)


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


_CODE = re.compile(r"(```.*?(?:```|\Z)|`+[^`\n]*`+)", re.DOTALL)


def markdown(text: str, say: Say, image: Callable[[str], str | None]) -> str:
    """A note as Markdown that any program reads: references are what they say, images files. Code stays as it is."""

    def spoken(found: re.Match[str]) -> str:
        return say(found[1], found[2] or "").text

    def named(found: re.Match[str]) -> str:
        return f"]({image(found[1]) or found[1]}"

    def plainly(part: str) -> str:
        part = re.sub(rf"!\[([^\]]*)\]\((?!{IMAGE})", r"[\1](", part)  # what lies elsewhere is a link
        part = re.sub(r"<(?=[a-zA-Z/!?])(?!https?:)", r"\<", part)  # HTML is shown, not meant
        return re.sub(rf"\]\({IMAGE}([0-9a-f]{{1,64}})", named, REFERENCE.sub(spoken, part))

    parts = _CODE.split(text)
    plain = list(map(plainly, parts[::2]))
    return "".join(one for pair in zip(plain, [*parts[1::2], ""], strict=True) for one in pair)
