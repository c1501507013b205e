"""How an experiment is spoken of: runs, where they were trained here; members, where they were made elsewhere.

    voice = voice_of(experiment.provenance, experiment.spec)
    voice("Independent runs disagree on 58.2 %")     # of an imported ensemble: "Members disagree on 58.2 %"

Nobody promised that members of an ensemble made elsewhere are independent runs of one recipe, and nobody can train or
launch them from here. Every sentence about an experiment comes by here on its way out (figures through their
declaration, findings and claims through `Finding.of`, the rest through its page), so that a new figure, one of a
plug-in, and a sentence that was stored long ago need know nothing of it. Names that people gave are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# What cannot be done to an ensemble that was made elsewhere, and what can: before the nouns, and in this order.
_ADVICE = (
    (r"; (?:the preset [\w-]+ has (?:them|some|one|it)|clone it with one|clone it and add a study of shift)$", ""),
    (r"; (?:select three solutions, or clone it with one|name a set under Out of distribution)$", ""),
    (r"; launch with 2 runs or more$", ""),
    (r" in this spec\b", " here"),
    (r"raise (?:data\.test_images|shift\.images|ensemble\.runs)", "bring more of them"),
    (r"use more test images, or harder ones", "bring more test images, or harder ones"),
    (r"train those runs again", "bring those members again"),
    (r"keep more \(training\.checkpoint_every\) or train longer", "bring more, from late in the training"),
    (
        r"ask for more of them, or for smaller strengths where the accuracy floor refused them",
        "bring more of them, or of smaller strengths",
    ),
    (r"use smaller strengths, or more typical samples", "bring samples of smaller strengths, or more of them"),
    (
        r"draw strengths between 0 and ([^ ,]+), or more spread samples",
        r"bring samples of strengths between 0 and \1, or more of them",
    ),
    (
        r"snapshots from a later or longer window \(training\.snapshot_window, epochs\) would start nearer",
        "samples from later in the training would start nearer",
    ),
    (r"the narrow samples are averaged as they are drawn", "the samples are averaged as they came"),
    (r"No typical samples", "No samples"),
)
# The paper's own title of a claim keeps its word; everywhere else an optimum is the final function of a member.
_NOUNS = (
    (r"\b([Aa])n independent run\b", r"\1 member"),
    (r"\bindependent runs?\b", "member"),
    (r"\bseparately trained runs\b", "members"),
    (r"\bthe optimum of (?=its own run|every run|run )", ""),
    (r", its optimum\b", ""),
    (r"\b(run)([’'])s optimum\b", r"\1"),
    (r"(?<![Ii]ndependent )\boptima\b", "members"),
    (r"\bsubspace (samples?)\b", r"\1"),
    (r"\bruns\b", "members"),
)
_ONE, _NUMBERED = (re.compile(pattern, re.IGNORECASE) for pattern in (r"\brun(?: (\d+))?\b", r"\brun (\d+)\b"))
_CALLED = re.compile(r"\b(?:runs?|optima|optimum)\b", re.IGNORECASE)


def _rules(pairs: tuple[tuple[str, str], ...]) -> Iterator[tuple[re.Pattern[str], str]]:
    for pattern, said in pairs:
        yield re.compile(pattern, re.IGNORECASE), said


@dataclass(frozen=True)
class Voice:
    """elsewhere: whether its members were made elsewhere; kept: names that people gave and that are left as they are;
    titles: what was given, by the key that a spec has for it; members: their names, by their numbers."""

    elsewhere: bool = False
    kept: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()

    def __call__(self, text: str) -> str:
        """The text as this experiment says it. Said twice it is the same."""
        if not self.elsewhere or not text:
            return text
        parts = self._names.split(text) if self._names is not None else [text]
        said = "".join(self.titles.get(part, part) if i % 2 else self._said(part) for i, part in enumerate(parts))
        alone = _NUMBERED.fullmatch(text)  # a legend's or an axis' word for it, where a name says what it is
        name = self._name(int(alone[1])) if alone else ""
        return said if not name or name.isdecimal() else name

    def _said(self, text: str) -> str:
        def called(found: re.Match[str]) -> str:
            number = found[1]
            return _like(found, "member") + (f" {self._name(int(number)) or number}" if number else "")

        return _ONE.sub(called, _reworded(text))

    def _name(self, number: int) -> str:
        """What the member of that number is called; "" where it has no name, or one that reads as a number of runs."""
        name = self.members[number] if number < len(self.members) else ""
        return "" if _NUMBERED.search(name) else name

    @cached_property
    def _names(self) -> re.Pattern[str] | None:
        """Names that must not be read as words, and keys that have a title."""
        names = sorted({*self.kept, *self.titles, *self.titles.values()}, key=len, reverse=True)
        if not names:
            return None
        return re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])")


HERE = Voice()
_ADVICES, _CALLS = tuple(_rules(_ADVICE)), tuple(_rules(_NOUNS))


def _reworded(text: str) -> str:
    """All but what a single run is called."""
    for pattern, said in _ADVICES:
        text = pattern.sub(said, text)
    for pattern, said in _CALLS:
        text = pattern.sub(lambda found, said=said: _like(found, said), text)  # type: ignore[misc]
    return text


def _like(found: re.Match[str], said: str) -> str:
    """The word in the number and with the first letter of the one it stands for."""
    before, now = found.group(), found.expand(said)
    if now == "member" and before.lower().endswith("runs"):
        now = "members"
    return now[:1].upper() + now[1:] if before[:1].isupper() else now


def together(voices: Iterable[Voice]) -> Voice:
    """Of several experiments in one sentence: members, as soon as one was made elsewhere, for a run is a member too."""
    every = list(voices)
    if not any(one.elsewhere for one in every):
        return HERE
    kept = {name for one in every for name in (*one.kept, *one.titles, *one.titles.values())}
    return Voice(True, tuple(sorted(name for name in kept if _CALLED.search(name))))


def voice_of(provenance: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> Voice:
    """Of an experiment by its row's columns; HERE of one that was trained here."""
    imported = spec.get("imported")
    if provenance is None and imported is None and spec.get("weights") is None:
        return HERE
    titles = dict((imported or {}).get("titles", {}))
    for one in spec.get("methods", ()) if imported is not None else ():
        title = one.get("options", {}).get("title", "")
        if title and title.lower() != one["method"]:
            titles[one["method"]] = title
    members = tuple(f"{one.get('id', '')}" for one in (provenance or {}).get("members", ()))
    given = {*members, *(imported or {}).get("classes", ()), (provenance or {}).get("name", "")}
    return Voice(True, tuple(sorted(name for name in given if _CALLED.search(f"{name}"))), titles, members)
