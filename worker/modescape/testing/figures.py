"""What every figure keeps to: numbers, words and a picture that agree, whatever an experiment has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel

from modescape.drawing.figure import FigureData, Words, csv, encode
from modescape.drawing.options import FigureOptions
from modescape.drawing.overlay import Member, over, overlaid
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES, looks
from modescape.errors import InvalidInput, NotFound
from modescape.records import Json
from modescape.registry import Figure, figures
from modescape.results import Results
from modescape.stages import KINDS
from modescape.testing.contract import (
    SHARED,
    Checked,
    Contract,
    NotAsked,
    at_bounds,
    equal,
    expect,
    module_of,
)
from modescape.testing.made import experiments
from modescape.testing.pictures import (
    axes_have_units,
    colours_mean_one_thing,
    lines_are_named,
    maps_keep_their_shape,
    nothing_hides,
    numbers_have_units,
    runs_begin_above,
)

COUNTED = re.compile(r"n = \d|\d[\d\u202f]* (\w+ ){0,3}(images|runs|checkpoints|functions|wedges|nodes)")


@dataclass(frozen=True)
class Trial:
    """results: of experiments that have it; begun: of experiments of which nothing is done yet."""

    entry: Figure
    results: Sequence[Results]
    begun: Sequence[Results] = ()

    @property
    def module(self) -> str:
        return module_of(self.entry.draw)

    def collect(self, results: Results, options: BaseModel) -> FigureData | None:
        """None where this experiment has nothing to show."""
        try:
            found: FigureData = self.entry.call(results, options)
        except (FigureNotReady, NotFound):  # or an image set of which it keeps no predictions
            return None
        return found

    @cached_property
    def plain(self) -> FigureData:
        """As it is, of the first experiment that has it."""
        found = self.first(self.entry.options())
        expect(found is not None, f"None of {len(self.results)} experiments has it: {self._why()}.")
        assert found is not None
        return found

    def _why(self) -> str:
        for results in self.results:
            try:
                self.entry.call(results, self.entry.options())
            except (FigureNotReady, NotFound) as error:
                return str(error)
        return "there are no experiments"

    def first(self, options: BaseModel) -> FigureData | None:
        found = (self.collect(results, options) for results in self.results)
        return next((one for one in found if one is not None), None)

    @cached_property
    def shown(self) -> list[tuple[str, FigureData]]:
        """As it is, and with each choice and bound of each option that an experiment here can show."""
        found = [("", self.plain)]
        for words, options in at_bounds(self.entry.options):
            try:
                data = self.first(options)
            except InvalidInput as error:
                expect(error.field or error.allowed, f"With {words} it refuses without saying what is allowed: {error}")
                continue
            if data is not None:
                found.append((f" with {words}", data))
        return found

    @cached_property
    def drawn(self) -> list[tuple[str, FigureData, Any]]:
        """The pictures of all that are shown, in the light theme."""
        return [(words, data, self.entry.draw(data, "light")) for words, data in self.shown]

    def right(self, rule: Callable[[Json], Iterable[str]]) -> None:
        """Every picture, as a dictionary with its arrays, keeps the rule."""
        for words, _, drawn in self.drawn:
            self.refuse(words, rule(_of(drawn)))

    @staticmethod
    def refuse(words: str, wrong: Iterable[str]) -> None:
        found = list(dict.fromkeys(wrong))
        expect(not found, f"{'; '.join(found[:5])}{words}.")


FIGURE: Contract[Trial] = Contract("figure", *SHARED)


@FIGURE.rule
def _declared(trial: Trial) -> None:
    """It asks a question, names stages that exist, and its options are those of a figure."""
    entry = trial.entry
    expect(entry.question.endswith("?"), f"Its question is {entry.question!r}.")
    unknown = sorted(set(entry.needs) - set(KINDS))
    expect(entry.needs and not unknown, f"It needs the stages {unknown or 'none'}; there are {', '.join(KINDS)}.")
    expect(issubclass(entry.options, FigureOptions), "Its options do not extend FigureOptions.")


@FIGURE.rule
def _waits(trial: Trial) -> None:
    """Of an experiment without results it says what it waits for, and shows nothing."""
    if not trial.begun:
        raise NotAsked("No experiment that has only begun was given.")
    for results in trial.begun:
        planned = {stage.kind for stage in results.planned}
        try:
            trial.entry.call(results, trial.entry.options())
        except FigureNotReady as waiting:
            expect(str(waiting), "It waits without a word.")
            unknown = sorted(set(waiting.waits_for) - set(KINDS))
            expect(not unknown, f"It waits for stages that do not exist: {', '.join(unknown)}.")
            expect(waiting.waits_for or not set(trial.entry.needs) <= planned or waiting.closed or not trial.results,
                   f"It says “{waiting}” as if it never came, though its stages are planned.")  # fmt: skip
        else:
            expect(False, "It shows something; expected is FigureNotReady.")


@FIGURE.rule
def _words(trial: Trial) -> None:
    """Its words are made of what is drawn: a caption and a summary in sentences with numbers, and a small table whose
    lines fit its head, with each choice of each option."""
    for words, data in trial.shown:
        _speaks(trial.entry, data, words)


@FIGURE.rule
def _counted(trial: Trial) -> None:
    """Its caption says how many things it is of (n = 5, 60 images, 3 runs)."""
    caption = trial.entry.tell(trial.plain).caption
    expect(COUNTED.search(caption), f"Its caption counts nothing: {caption}")


@FIGURE.rule
def _table(trial: Trial) -> None:
    """It has a table with a head, whose rows fit it and can be written as CSV."""
    for words, data in trial.shown:
        table = data.table()
        expect(table.columns and len(set(table.columns)) == len(table.columns), f"Two columns{words} have one name.")
        expect(table.rows, f"Its table{words} is empty.")
        expect(all(len(row) == len(table.columns) for row in table.rows), f"A row of its table{words} is too short.")
        plain = all(cell is None or isinstance(cell, str | int | float) for row in table.rows for cell in row)
        expect(plain, f"Its table{words} holds something that is neither a number nor a text.")
        equal(f"number of lines as CSV{words}", csv(data).count("\n"), len(table.rows) + 1)


@FIGURE.rule
def _legend(trial: Trial) -> None:
    """What its legend names has a look that exists."""
    for words, data in trial.shown:
        unknown = {entry.look for entry in data.legend} - set(looks())
        expect(not unknown, f"Its legend{words} has looks that do not exist: {unknown}.")


@FIGURE.rule
def _drawn(trial: Trial) -> None:
    """In every theme, as a card and as a page, it is drawn as high as it says, under its own name."""
    name = trial.entry.name
    for size in ("card", "page"):
        data = trial.first(trial.entry.options.model_validate({"size": size}))
        assert data is not None
        high = data.page_height if size == "page" else data.card_height
        for theme in THEMES:
            drawn = trial.entry.draw(data, theme)
            equal(f"height as a {size}", drawn.layout.height, high)
            equal("`layout.meta.figure`", (drawn.layout.meta or {}).get("figure"), name)
            expect(drawn.data, f"There is nothing in it as a {size} in the theme {theme}.")


@FIGURE.rule
def _json(trial: Trial) -> None:
    """As JSON it holds finite numbers and gaps, nothing infinite, with each choice of each option."""
    for words, _, drawn in trial.drawn:
        expect(all(map(_no_infinity, _arrays(drawn.to_dict()))), f"It draws infinite numbers{words}.")
        json.loads(encode(drawn), parse_constant=_refuse)
        json.loads(encode(drawn, "list"), parse_constant=_refuse)


@FIGURE.rule
def _coloured(trial: Trial) -> None:
    """A colour means one thing: of the palette, what the legend or the group of the trace says; an ink of runs, that
    run (`meta={"run": ...}`, or the solutions in `customdata`)."""
    for words, data, drawn in trial.drawn:
        trial.refuse(words, colours_mean_one_thing(_of(drawn), data))


@FIGURE.rule
def _named(trial: Trial) -> None:
    """Lines have their names beside them while a panel has eight or fewer, and there are four panels or fewer."""
    trial.right(lines_are_named)


@FIGURE.rule
def _ordered(trial: Trial) -> None:
    """Run 0 is above and at the left in every map."""
    trial.right(runs_begin_above)


@FIGURE.rule
def _unhidden(trial: Trial) -> None:
    """No bar, box or area hides another."""
    trial.right(nothing_hides)


@FIGURE.rule
def _shaped(trial: Trial) -> None:
    """Heat maps keep their shape and use their room, with a whole bar for each scale of colours."""
    trial.right(maps_keep_their_shape)


@FIGURE.rule
def _units(trial: Trial) -> None:
    """Every number has its unit: on the axes, and in each cell of the small table."""
    trial.right(axes_have_units)
    for words, data in trial.shown:
        trial.refuse(words, numbers_have_units(trial.entry.tell(data).notes))


@FIGURE.rule
def _laid(trial: Trial) -> None:
    """Where it can be laid over that of other experiments, its curves and points fit their axes and are drawn, in every
    theme, in the colour of each experiment."""
    if trial.entry.lay is None:
        return
    for words, data in trial.shown:
        layer = trial.entry.lay(data)
        names = [axes.name for axes in layer.axes]
        expect(len(set(names)) == len(names), f"Two of its axes{words} have one name.")
        expect(all(one.panel in names for one in layer.series), f"A series{words} is on axes that it does not have.")
        fit = all(len(one.x) == len(one.y) > 0 for one in layer.series)
        expect(fit, f"A series{words} is empty, or has not as many x as y.")
        if not layer.series:
            continue
        members = [Member(name, name, layer) for name in ("one", "other")]
        together = overlaid(trial.entry, data.options, members)
        equal(f"values in its table{words}", len(together.rows()), 2 * sum(len(one.x) for one in layer.series))
        for theme in THEMES:
            traces = [t.to_plotly_json() for t in over(trial.entry).draw(together, theme).data]
            inks = [{(t.get("line") or t["marker"])["color"] for t in traces if t["meta"]["experiment"] == m.group}
                    for m in members]  # fmt: skip
            expect(all(inks) and not inks[0] & inks[1], f"Two experiments{words} share a colour in {theme}.")


@FIGURE.rule
def _same(trial: Trial) -> None:
    """Asked again it gives the same numbers, words and picture."""
    entry, options = trial.entry, trial.entry.options()
    one, other = trial.plain, trial.first(options)
    assert other is not None
    equal("table, asked again,", repr(other.table()), repr(one.table()))
    equal("words, asked again,", entry.tell(other), entry.tell(one))
    expect(encode(entry.draw(one, "light")) == encode(entry.draw(other, "light")), "Drawn again it is another picture.")


@FIGURE.rule
def _card(trial: Trial) -> None:
    """A card reserves the height at which it is drawn, unless that follows from what it shows."""
    data = trial.plain
    equal("height that its card reserves", data.size.card, trial.entry.card)
    if type(data).card_height is FigureData.card_height:
        equal("card's height", data.card_height, trial.entry.card)


@FIGURE.rule
def _failed(trial: Trial) -> None:
    """Of an experiment in which a run has failed it draws what there is, and says how many failed, or says why there is
    nothing."""
    broken = [results for results in trial.results if results.failed]
    if not broken:
        raise NotAsked("No experiment with a failed run was given.")
    for results in broken:
        data = trial.collect(results, trial.entry.options())
        if data is None:
            continue
        _speaks(trial.entry, data, " with a failed run")
        words: Words = trial.entry.tell(data)
        expect(not data.lost or data.lost in words.caption, "Its caption does not say which runs failed.")
        trial.entry.draw(data, "light")


def _of(drawn: Any) -> Json:
    """The picture as plain dictionaries, arrays as they are."""
    return {
        "data": [trace.to_plotly_json() for trace in drawn.data], "layout": drawn.layout.to_plotly_json(),
    }  # fmt: skip


def _speaks(entry: Figure, data: FigureData, words: str) -> None:
    said: Words = entry.tell(data)
    expect(said.caption.endswith("."), f"Its caption{words} does not end as a sentence: {said.caption!r}")
    expect(re.search(r"\d", said.caption), f"Its caption{words} has no number: {said.caption!r}")
    expect(said.summary.endswith("."), f"Its summary{words} does not end as a sentence: {said.summary!r}")
    for line in said.notes.lines:
        fits = len(line.values) == len(said.notes.head) - 1
        expect(fits, f"Line {line.label!r} of its small table{words} does not fit the head {said.notes.head}.")
        expect(line.look in ("", *looks()), f"Line {line.label!r} of its small table{words} has no look {line.look!r}.")


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if "bdata" in value:
            import base64

            yield np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
        else:
            for one in value.values():
                yield from _arrays(one)
    elif isinstance(value, np.ndarray | list | tuple):
        flat = np.asarray(value, dtype=object).ravel()
        yield np.array([one for one in flat if isinstance(one, int | float | np.number)], float)
        for one in flat:
            if isinstance(one, Mapping | list | tuple | np.ndarray):
                yield from _arrays(one)
    elif isinstance(value, float):
        yield np.array([value])


def _no_infinity(values: Any) -> bool:
    return not (np.issubdtype(values.dtype, np.floating) and np.isinf(values).any())


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@FIGURE.lists
def check_figure(
    entry: Figure | str,
    *,
    results: Sequence[Results] | None = None,
    begun: Sequence[Results] = (),
    spec: Mapping[str, Any] | None = None,
) -> Checked:
    """Is this a figure as `modescape.drawing.figure` asks? Tried on small experiments that are done here for it: with
    the stages it needs, with a run that has failed, and only begun. That takes seconds, or a minute.

    spec: of experiments that have it, where it needs more than stages of a kind. results, begun: of experiments that
    are there already, instead. Raises ContractBroken with the first rule that does not hold.
    """
    entry = figures[entry] if isinstance(entry, str) else entry
    if results is not None:
        return FIGURE.check(entry.name, Trial(entry, results, begun))
    with experiments(entry.needs, spec=spec) as made:
        return FIGURE.check(entry.name, Trial(entry, (made.finished, made.with_failure), (made.begun,)))
