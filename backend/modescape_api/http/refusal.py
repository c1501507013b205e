"""A request that is refused by HTTP itself, whatever it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modescape.errors import ModescapeError, Problem


class Refusal(ModescapeError):
    """A request that fails for a reason of HTTP rather than of the laboratory. `kind` is a name of `problems.KINDS`."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.kind = kind
        self.problems = tuple(problems)
        self.headers = dict(headers or {})
