"""What every figure of the registry keeps to, asked of the saved home: of each figure and each of its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saved_home import SPECS, opened
from test_sgmcmc import chains_by_hand

from modescape.database import upgrade
from modescape.drawing.figure import figure
from modescape.drawing.options import FigureOptions
from modescape.imported.reading import read
from modescape.importing import bring_in
from modescape.laboratory import Laboratory, started
from modescape.listing import ListQuery
from modescape.registry import figures
from modescape.results import Results
from modescape.settings import Settings
from modescape.stages import KINDS
from modescape.testing import check_figure
from modescape.testing.figures import FIGURE
from modescape.testing.made import experiments

NAMES = list(figures)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Results of every experiment of the saved home."""
    settings = opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home")
    laboratory = Laboratory(settings)
    rows = laboratory.store.experiments.page(ListQuery(limit=100)).items
    yield [laboratory.results(row.slug) for row in rows]
    laboratory.store.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """An experiment of five trainings that another tool logged."""
    table = tmp_path_factory.mktemp("logs") / "runs.csv"
    rows = [f"{epoch},{1 / (1 + run + epoch)},{0.5 + 0.1 * run}" for run in range(5) for epoch in range(4)]
    table.write_text("\n".join(["epoch,val_loss,val_accuracy", *rows]))
    here = started(table.parent / "home", None)
    lab = here.finish(bring_in(here.laboratory, read(table), name="logs"), progress=False)
    return here.laboratory.results(lab.experiment.id)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Results of the same experiments before anything is done."""
    settings = Settings(home=tmp_path_factory.mktemp("begun"))
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    yield [laboratory.results(laboratory.create(spec, name=name).id) for name, spec in SPECS.items()]
    laboratory.store.close()


def test_a_module_holds_one_figure_which_it_is_named_after() -> None:
    places = {name: entry.draw.__module__.removeprefix("modescape.") for name, entry in figures.items()}
    for name, place in places.items():
        named = name.replace("-", "_")
        assert re.fullmatch(rf"figures\.{named}|studies\.\w+\.figure_{named}", place), place


def test_a_figure_without_words_is_not_declared() -> None:
    about = {"title": "x", "question": "x?", "summary": "x.", "source": "x", "needs": ()}
    with pytest.raises(ValueError, match="type of `options`"):
        figure("wordless", order=1, **about)(lambda results, options: None)  # type: ignore[arg-type]

    def collect(results: Results, options: FigureOptions) -> None: ...

    declared = figure("wordless", order=1, **about)(collect)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="declare `tell` before `draw`"):
        declared.draw(lambda data, theme: None)
    assert "wordless" not in figures


def test_figures_stand_in_the_order_of_the_argument() -> None:
    orders = [entry.order for entry in figures.values()]
    assert orders == sorted(set(orders))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_keeps_its_contract(name: str, homes: list[Any], begun: list[Any], logs: Results) -> None:
    # chains of several cycles take long; only other tools' logs are drawn as they are
    results = {"cycles": [chains_by_hand()], "logged-curves": [logs]}.get(name, homes)
    found = check_figure(name, results=results, begun=begun)
    of_failures = [rule for rule in FIGURE.rules if "a run has failed" in rule]
    assert list(found.not_asked) == (of_failures if name in ("cycles", "logged-curves") else [])


@pytest.mark.check
def test_every_figure_keeps_its_contract_on_experiments_that_are_done_for_it() -> None:
    with experiments(tuple(KINDS)) as made:
        assert made.with_failure.failed
        for name in NAMES:
            if name == "logged-curves":  # of trainings elsewhere
                continue
            found = check_figure(name, results=(made.finished, made.with_failure), begun=(made.begun,))
            assert not found.not_asked, found
