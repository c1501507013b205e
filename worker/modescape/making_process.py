"""The process that makes what people take home: it is started by `making` and by nobody else.

What making takes is loaded here once, and each thing is made by a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from modescape import parcels, plugins, registry
from modescape.drawing import forms, many, pictures
from modescape.drawing.options import FigureOptions
from modescape.errors import ModescapeError
from modescape.forks import answer_in_forks, limit
from modescape.laboratory import Laboratory
from modescape.making import raised
from modescape.pydantic_errors import invalid
from modescape.records import Json
from modescape.registry import figures
from modescape.reports import writing
from modescape.reports.images import write_anew
from modescape.settings import Settings

_MEMORY = 1 << 30  # bytes, for what is small


def main() -> None:
    registry.load()
    pictures.prepare()
    answer_in_forks(answer)


def answer(asked: Json) -> Json:
    """Make what is asked for, in a fork that limits itself first."""
    limit(seconds=asked["seconds"], memory=_MEMORY if _is_small(asked) else None)
    settings = Settings.model_validate(asked["settings"])
    try:
        plugins.load(settings.plugin_modules, light=True)
        laboratory = Laboratory(settings)
        try:
            _MAKE[asked["what"]](laboratory, asked, Path(asked["to"]))
        finally:
            laboratory.store.close()
    except ModescapeError as error:
        return raised(error)
    return {}


def _is_small(asked: Json) -> bool:
    """Whether it starts no browser, which takes more addresses than it may, and holds no whole experiment."""
    return asked["what"] == "image" or (asked["what"] == "report" and asked["form"] in ("html", "ipynb"))


def _figure(laboratory: Laboratory, asked: Json, to: Path) -> None:
    results, figure = laboratory.results(asked["experiment"]), figures[asked["figure"]]
    try:
        options = figure.options.model_validate(asked["options"])
    except ValidationError as error:
        raise invalid(error, figure.options) from None
    assert isinstance(options, FigureOptions)  # which the registry need not know
    options, row = options.of(results), results.experiment
    home = forms.Home(figure, figure.call(results, options), row.name, row.slug, asked["options"], asked["link"])
    to.write_bytes(forms.made(home, forms.Asked(**asked["asked"])))


def _plot(laboratory: Laboratory, asked: Json, to: Path) -> None:
    size = forms.checked(forms.Asked(**asked["asked"]))
    picture = many.drawn(many.Many.from_json(asked["plot"]), size.theme, size.width)
    to.write_bytes(pictures.drawn_as([pictures.Wanted(picture, size.form, size.scale)])[0])  # type: ignore[arg-type]


def _report(laboratory: Laboratory, asked: Json, to: Path) -> None:
    writing.take(laboratory, asked["report"], asked["form"], asked["link"], to)


def _parcel(laboratory: Laboratory, asked: Json, to: Path) -> None:
    id_, store = asked["parcel"], laboratory.store
    parts = parcels.checked(asked["parts"])
    files = parcels.pack(laboratory, asked["experiment"], parts, to, partial(store.parcels.heard, id_))
    store.parcels.ready(id_, files, to.stat().st_size)


def _image(laboratory: Laboratory, asked: Json, to: Path) -> None:
    write_anew(Path(asked["from"]), to)


_MAKE: dict[str, Callable[[Laboratory, Json, Path], None]] = {
    "figure": _figure, "report": _report, "image": _image, "parcel": _parcel, "plot": _plot,
}  # fmt: skip


if __name__ == "__main__":
    main()
