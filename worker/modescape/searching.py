"""The one line people search lists by, taken apart: what is compared with what, what is text, and what makes no sense.

    found = parse('accuracy>0.9 claim:d=holds (tag:baseline or arch:resnet20v1) -status:failed "free text"')
    found.tree          # All((Compared("accuracy", ">", ...), ..., Not(Compared("status", ...)), Text("free text")))
    found.faults        # (), or what is not understood, with where it stands

    question   parts that all hold; `or` between parts, one of which holds; parentheses; `-` or `not` before a part
    part       field operator value, or text: words, each of which is found, or "several words" as they stand
    operator   :  =  !=  >  >=  <  <=  ~        ~ is "contains"; spaces may stand around all but before the colon
    value      a word, "several words", several with commas between them (any of these), or low..high

Fields and values are names and texts here; what they mean is `modescape.asking`'s. A part that is not understood is
left out of the tree, and the rest is there. Places are numbers of characters (code points): [start, end).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 1000  # characters of a question
_DEEPEST = 20  # parentheses inside one another
_MOST = 60  # parts

OPERATORS = (":", "=", "!=", ">", ">=", "<", "<=", "~")
_SAME = {"≥": ">=", "≤": "<=", "≠": "!=", "==": "="}
_OPENING, _CLOSING = '"“„”', '"”“'
_SIGN = r"(?:>=|<=|!=|==|[=<>~≥≤≠])"
_FIELD = re.compile(rf"(?P<field>[^\W\d][\w.\-]*)(?:(?P<colon>:)\s*|\s*(?P<sign>{_SIGN})\s*)", re.UNICODE)
_CLAIM = re.compile(rf"claim:(?P<letter>\w+)(?:\s*(?P<sign>{_SIGN}|:)\s*)?", re.IGNORECASE)
_BARE = re.compile(r"[^\s()\"“”„,]+")
_PLAIN = re.compile(r"\w[\w.+\-]*")
_WORD = re.compile(r"[^\s()\"“”„]+")


@dataclass(frozen=True)
class Fault:
    """What is not understood, where it stands, and what is allowed there."""

    message: str
    allowed: str
    start: int
    end: int


@dataclass(frozen=True)
class Text:
    """A text that is to be found."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Compared:
    """A field compared with any of some values. values: () where only the field of a claim is named (`claim:d`)."""

    field: str
    operator: str
    values: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Not:
    part: Node
    start: int
    end: int


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple[Node, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Any:
    """One part holds at least."""

    parts: tuple[Node, ...]
    start: int
    end: int


Node = Text | Compared | Not | All | Any


@dataclass(frozen=True)
class Parsed:
    """tree: None where nothing was asked that is understood."""

    text: str
    tree: Node | None
    faults: tuple[Fault, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """What all has to hold, from the left."""
        if self.tree is None:
            return ()
        return self.tree.parts if isinstance(self.tree, All) else (self.tree,)

    def without(self, part: Node) -> str:
        """The text that is left when one of `parts` is taken away."""
        return " ".join(f"{self.text[: part.start]} {self.text[part.end :]}".split())


@dataclass(frozen=True)
class Half:
    """What stands before the caret and is not whole yet: a field or a text where operator is "", else a value."""

    field: str
    operator: str
    value: str
    start: int
    end: int


def parse(text: str) -> Parsed:
    """Of any text; nothing is raised."""
    reader = _Reader(text[:LONGEST])
    tree = reader.all_of_it()
    if len(text) > LONGEST:
        reader.wrong("is longer than is read", f"at most {LONGEST} characters", 0, LONGEST)
    return Parsed(text, tree, tuple(sorted(reader.faults, key=lambda one: one.start)))


def half(text: str, caret: int) -> Half:
    """The word that is being typed. start, end: what a whole one takes the place of."""
    before = text[:caret]
    start = max((before.rfind(mark) for mark in " \t()"), default=-1) + 1
    word = before[start:].lstrip("-")
    start = caret - len(word)
    claim = _CLAIM.match(word)
    found = claim or _FIELD.match(word)
    if found is None or (claim and not claim["sign"] and claim.end() == len(word)):
        return Half(word, "", word, start, caret)
    name = f"claim:{claim['letter']}" if claim else found["field"]
    sign = claim["sign"] if claim else found["colon"] or found["sign"]
    if not sign:
        return Half(word, "", word, start, caret)
    last = max(found.end(), word.rfind(",") + 1)
    return Half(name, _SAME.get(sign, sign), word[last:].strip(_OPENING), start + last, caret)


def quoted(text: str) -> str:
    """A value as it is typed, so that it is read as this text."""
    plain = _PLAIN.fullmatch(text) and ".." not in text
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.faults: list[Fault] = []
        self.count = 0
        self.is_cut_off = False  # what follows was not read

    def wrong(self, message: str, allowed: str, start: int, end: int) -> None:
        self.faults.append(Fault(message, allowed, start, end))

    def all_of_it(self) -> Node | None:
        found: list[Node] = []
        while self._skip():
            part = self._any_of(0)
            if part is not None:
                found.append(part)
            if self._skip() and self.text[self.at] == ")":
                self.wrong("closes what nothing opened", "( before it", self.at, self.at + 1)
                self.at += 1
        return _joined(found)

    def _skip(self) -> bool:
        """Over spaces; whether anything is left."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    def _keyword(self, *words: str) -> re.Match[str] | None:
        return re.compile(rf"(?:{'|'.join(words)})(?=[\s()]|$)", re.IGNORECASE).match(self.text, self.at)

    def _any_of(self, depth: int) -> Node | None:
        start = self.at
        found, first = [self._all_of(depth)], self.at
        while self._skip() and (word := self._keyword("or") or re.compile(r"\|").match(self.text, self.at)):
            if found[-1] is None and not self._has_fault(start if len(found) == 1 else first, word.start()):
                self.wrong("has nothing before it", 'a part before it, or "or" in quotation marks', *word.span())
            self.at = first = word.end()
            if not self._skip() or self.text[self.at] == ")":
                self.wrong("has nothing behind it", 'a part behind it, or "or" in quotation marks', *word.span())
            found.append(self._all_of(depth))
        parts = tuple(part for part in found if part is not None)
        if len(parts) < 2:
            return parts[0] if parts else None
        return Any(parts, parts[0].start, parts[-1].end)

    def _has_fault(self, start: int, end: int) -> bool:
        return any(start <= fault.start <= end for fault in self.faults)

    def _all_of(self, depth: int) -> Node | None:
        found: list[Node] = []
        while self._skip() and self.text[self.at] not in ")|" and not self._keyword("or"):
            if word := self._keyword("and"):
                self.at = word.end()
                continue
            part = self._part(depth)
            if part is not None:
                found.append(part)
        return _joined(found)

    def _part(self, depth: int) -> Node | None:
        start = self.at
        if (word := self._keyword("not")) or re.compile(r"-(?=\S)").match(self.text, self.at):
            self.at = word.end() if word else self.at + 1
            if not self._skip() or self.text[self.at] in ")|":
                self.wrong("has nothing behind it", 'a part behind it, or "not" in quotation marks', start, self.at)
                return None
            if depth > _DEEPEST:
                self._too_deep()
                return None
            inside = self._part(depth + 1)
            return None if inside is None else Not(inside, start, inside.end)
        if self.text[self.at] == "(":
            return self._parentheses(depth)
        self.count += 1
        if self.count > _MOST:
            self.wrong("is one part too many", f"at most {_MOST}", self.at, len(self.text))
            self.at, self.is_cut_off = len(self.text), True
            return None
        if claim := _CLAIM.match(self.text, self.at):
            self.at = claim.end()
            name, sign = f"claim:{claim['letter']}", claim["sign"]
            return (
                self._compared(name, _SAME.get(sign, sign), start) if sign else Compared(name, "", (), start, self.at)
            )
        if field := _FIELD.match(self.text, self.at):
            self.at = field.end()
            sign = field["colon"] or field["sign"]
            return self._compared(field["field"], _SAME.get(sign, sign), start)
        if self.text[self.at] in _OPENING:
            text = self._quoted()
            return Text(text, start, self.at) if text.strip() else None
        word = _WORD.match(self.text, self.at)
        if word is None:  # a mark that nothing begins with
            self.wrong("stands alone", "text, or field:value", self.at, self.at + 1)
            self.at += 1
            return None
        self.at = word.end()
        return Text(word[0], start, self.at)

    def _parentheses(self, depth: int) -> Node | None:
        start = self.at
        if depth > _DEEPEST:
            self._too_deep()
            return None
        self.at += 1
        inside = self._any_of(depth + 1)
        if self._skip() and self.text[self.at] == ")":
            self.at += 1
        elif not self.is_cut_off:
            self.wrong("is not closed", ") behind it", start, start + 1)
        if inside is None:
            if not self._has_fault(start, self.at) and not self.is_cut_off:
                self.wrong("has nothing inside", "parts in parentheses", start, self.at)
            return None
        # As wide as the parentheses, so that taking it away takes them along.
        match inside:
            case All():
                return All(inside.parts, start, self.at)
            case Any():
                return Any(inside.parts, start, self.at)
            case _:
                return All((inside,), start, self.at)

    def _too_deep(self) -> None:
        self.wrong("is too deep", f"at most {_DEEPEST} inside one another", self.at, len(self.text))
        self.at, self.is_cut_off = len(self.text), True

    def _compared(self, name: str, operator: str, start: int) -> Node | None:
        values = list(self._values())
        if not values:
            self.wrong(f"{name} is compared with nothing", f"a value behind {operator}", start, self.at)
            return None
        return Compared(name, operator, tuple(values), start, self.at)

    def _values(self) -> Iterator[str]:
        while self.at < len(self.text):
            if self.text[self.at] in _OPENING:
                yield self._quoted()
            elif (word := _BARE.match(self.text, self.at)) is not None:
                self.at = word.end()
                yield word[0]
            if self.at >= len(self.text) or self.text[self.at] != ",":
                return
            self.at += 1

    def _quoted(self) -> str:
        """What stands between quotation marks; of one that is not closed all that follows."""
        start, letters = self.at, []
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] not in _CLOSING:
            if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2] in ("\\", '"'):
                self.at += 1
            letters.append(self.text[self.at])
            self.at += 1
        if self.at >= len(self.text):
            self.wrong("is not closed", 'another " behind it', start, start + 1)
        self.at = min(self.at + 1, len(self.text))
        return "".join(letters)


def _joined(parts: list[Node]) -> Node | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return All(tuple(parts), parts[0].start, parts[-1].end)
