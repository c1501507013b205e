"""Query parameters that several figures understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from modescape.drawing.groups import GROUNDS, all_groups
from modescape.drawing.numbers import MAX_POINTS, MOST_POINTS
from modescape.errors import InvalidInput
from modescape.records import group_name
from modescape.registry import Options
from modescape.results import Results
from modescape.spec_parts import Split


class FigureOptions(Options):
    """Query parameters every figure understands.

    redraws: the picture depends on `method`, so a browser asks for another; else it hides groups by itself.
    """

    redraws: ClassVar[bool] = False

    size: Literal["card", "page"] = Field("card", description="card: beside others; page: alone and large.")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        """Options whose values only the experiment knows: value -> its words, the default first."""
        return {}

    def of(self, results: Results) -> Self:
        """These options with what was left open filled in from the experiment."""
        return self


def shown_panels(usual: Literal["all", "both"], words: str) -> Any:
    """The option of a figure that can draw one of its panels alone."""
    return Field(usual, description=f"{words}, or one for narrow screens.")


class MainSplitOptions(FigureOptions):
    """Left out, their `split` is the first of the experiment's, which its lists and verdicts are about too."""

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"split": {split: split for split in results.spec.evaluation.splits}}

    def of(self, results: Results) -> Self:
        if "split" in self.model_fields_set:
            return self
        return self.model_copy(update={"split": results.spec.evaluation.splits[0]})


class SplitOptions(MainSplitOptions):
    """For figures of predictions."""

    split: Split = Field(
        "test", description="Images the predictions are compared on; left out, the first of the experiment's splits."
    )


def _parted(value: Any) -> Any:
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_parted)]  # in a query string with commas between
Groups = Annotated[Names, AfterValidator(lambda names: tuple(map(group_name, names)))]


def refuse_unknown(field: str, asked: Sequence[str], known: Sequence[str], noun: str = "group") -> None:
    """Raises InvalidInput for a name the experiment does not have."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise InvalidInput(
            f"this experiment has no {noun} {unknown[0][:60]!r}", field=field, allowed="some of " + ", ".join(known)
        )


def refuse_unknown_groups(asked: Sequence[str], known: Sequence[str], noun: str = "group") -> None:
    """Legends name grounds too, which are no groups: they are let through. Raises InvalidInput."""
    refuse_unknown("method", [name for name in asked if name not in GROUNDS], known, noun)


def groups_asked(asked: Sequence[str], results: Results, usual: Sequence[str] = ()) -> list[str]:
    """The experiment's groups that are asked for, in its order; else the usual ones, or all. Raises InvalidInput."""
    known = all_groups(results)
    refuse_unknown_groups(asked, known)
    wanted = asked or usual
    return [name for name in known if not wanted or name in wanted]


class FilterOptions(SplitOptions):
    """For figures of several methods."""

    method: Groups = Field((), max_length=16, description="Methods shown, comma-separated; empty means all.")

    def methods_of(self, results: Results) -> list[str]:
        """The experiment's methods that are asked for, in its order. Raises InvalidInput for one it does not have."""
        planned = [chosen.method for chosen in results.spec.methods]
        refuse_unknown_groups(self.method, all_groups(results), "method")
        return [name for name in planned if not self.method or name in self.method]


class MethodOptions(FilterOptions):
    """For figures of single subspace samples."""

    points: Literal["some", "all"] = Field(
        "some", description="some: 2,000 at most, evenly, which every browser draws; all: 20,000 at most, for WebGL."
    )
    color: Literal["method", "run"] = Field("method", description="What colour means; shape is always the method.")

    @property
    def most_points(self) -> int:
        """Of one plot."""
        return MAX_POINTS if self.points == "some" else MOST_POINTS
