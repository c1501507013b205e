"""Query parameters that several figures understand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from modescape.drawing.groups import GROUNDS, INDEPENDENT, TRAJECTORY
from modescape.drawing.reading import Results
from modescape.errors import InvalidInput
from modescape.registry import Options
from modescape.spec import Split


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


class FilterOptions(SplitOptions):
    """For figures of several methods."""

    method: tuple[str, ...] = Field((), max_length=16, description="Methods shown, comma-separated; empty means all.")

    @field_validator("method", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    def methods_of(self, results: Results) -> list[str]:
        """The experiment's methods that are asked for, in its order. Raises InvalidInput for one it does not have."""
        planned = [chosen.method for chosen in results.spec.methods]
        unknown = [name for name in self.method if name not in (*planned, INDEPENDENT, TRAJECTORY, *GROUNDS)]
        if unknown:
            raise InvalidInput(
                f"this experiment has no method {unknown[0]!r}",
                field="method",
                allowed="some of " + ", ".join((*planned, INDEPENDENT, TRAJECTORY)),
            )
        return [name for name in planned if not self.method or name in self.method]


class MethodOptions(FilterOptions):
    """For figures of single subspace samples."""

    color: Literal["method", "run"] = Field("method", description="What colour means; shape is always the method.")
