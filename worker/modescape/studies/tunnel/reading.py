"""Low-loss paths between two runs: which there are and what their stages have left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.words import percent
from modescape.errors import InvalidInput
from modescape.results import Results
from modescape.studies.tunnel.study import TunnelSpec

LINES, SPLITS = ("path", "straight"), ("train", "test")
QUANTITIES = ("loss", "accuracy", "agreement_a", "agreement_b")
PATH = "spare-3"  # look of the optimised path in every picture: no method has it
LOSS, ACCURACY, AGREEMENT_A = 0, 1, 2  # of these; the accuracy is a number wherever anything is computed


class OneTunnel(FigureOptions):
    tunnel: int = Field(0, ge=0, le=7, description="Which tunnel of the spec, counted from 0.")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        ends = (_ends(results, i) for i in range(len(results.spec.tunnels)))
        said = {f"{i}": f"runs {a} and {b}" for i, (a, b) in enumerate(ends)}
        if len(set(said.values())) < len(said):  # the same ends by several methods
            said = {key: f"{words}, {results.spec.tunnels[int(key)].method}" for key, words in said.items()}
        return {"tunnel": said}


def partial_of(computed: NDArray[np.bool_]) -> str:
    return "" if computed.all() else f"after {computed.sum()} of {computed.size} points"


def counted(computed: NDArray[np.bool_], of: str) -> str:
    return f"{computed.sum()} of {computed.size} points of {of} are computed."


def _ends(results: Results, number: int) -> tuple[int, int]:
    """The runs a tunnel goes between: healthy ones, where those that are meant by default have failed."""
    a, b = results.so_far("tunnel", f"{number}").get("runs") or results.spec.tunnels[number].runs
    return a, b


def study_of(results: Results, number: int) -> TunnelSpec:
    """The tunnel as asked for, between the runs it went between."""
    studies = results.spec.tunnels
    if not studies:
        raise FigureNotReady("no tunnel in this spec; the preset s2-short has one")
    if number >= len(studies):
        raise InvalidInput(
            f"this experiment has no tunnel {number}", field="tunnel", allowed=f"0 to {len(studies) - 1}"
        )
    return studies[number].model_copy(update={"runs": _ends(results, number)})


def from_to(first: float, last: float) -> str:
    """ "falls from 100.0 to 78.3 %": what a rate does between two ends, as far as the printed digits tell."""
    if percent(first) == percent(last):
        return f"begins and ends at {percent(first)} %"
    return f"{'falls' if last < first else 'rises'} from {percent(first)} to {percent(last)} %"
