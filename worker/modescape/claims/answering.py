"""What the claims answer to the question of an experiment, each half in a clause with the claim's letter.

    answer(told)        # "runs are different functions (b)"
    behind(told)        # "2.67 times as much as one run's recent checkpoints (b: 1.62 to 4.39 times, at 95 %)"

First screen, API, notebook, command line and reports all take their words from here, so that none of them can say what
a claim does not; the list gives the numbers alone. A clause names what its claim compares, because "different" alone
would be more than any claim tells: runs may be far from every sample and yet no farther apart than one run at two
times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modescape.claims.record import HOLDS_FOR_OTHERS
from modescape.claims.telling import Told
from modescape.science.confidence import Word


@dataclass(frozen=True, kw_only=True)
class Half:
    """Of one claim: a clause for each word, one where it is open only for what could not be judged, and what its effect
    is of. {margin}: in times; {samples}: of the method that decides."""

    holds: str
    fails: str
    open: str
    effect: str
    partly: str = ""


HALVES: Mapping[str, Half] = {
    "b": Half(
        holds="runs are different functions",
        fails="runs disagree less than {margin} as much as one run's recent checkpoints",
        open="whether runs disagree more than one run's recent checkpoints cannot be told yet",
        effect="{effect} as much as one run's recent checkpoints",
    ),
    "d1": Half(
        holds="at equal accuracy no samples come as far",
        fails="at equal accuracy runs are less than {margin} as far apart as {samples} from their solution",
        open="whether samples come as far cannot be told yet",
        effect="{effect} as far apart as {samples} from their solution{decides}",
        partly="samples of the methods that can be judged do not come as far; of the others it cannot be told yet",
    ),
}


def answer(told: Told) -> str:
    """With its letter, and whether its word is fragile."""
    half, word = HALVES[told.record.id], told.word_at_look
    is_partly = half.partly and told.at_look.look == 1 and told.record.qualifier == HOLDS_FOR_OTHERS
    open_ = half.partly if is_partly else half.open
    text = {Word.HOLDS: half.holds, Word.DOES_NOT_HOLD: half.fails, Word.CANNOT_TELL: open_}[word]
    shade = ", fragile" if told.is_fragile and word is not Word.CANNOT_TELL else ""
    return f"{_filled(text, told)} ({told.record.id}{shade})"


def behind(told: Told) -> str:
    """The effect with its interval at the level that its word needs; "" without one."""
    bar, interval = (told.bar, told.interval) if told.at_look.look == 1 else (told.at_look.bar, told.at_look.interval)
    if bar.value is None or not interval:
        return ""
    said = _filled(HALVES[told.record.id].effect, told)
    return f"{said} ({told.record.id}: {interval}, at {100 * bar.confidence:.3g} %)"


def _filled(text: str, told: Told) -> str:
    look = told.bar if told.at_look.look == 1 else told.at_look.bar
    value = look.value
    return text.format(
        margin=told.claim.say(told.record.margin),
        effect="" if value is None else told.claim.say(value),
        decides=", and that method decides" if look.decides else "",
        samples=f"samples of {_lower(look.decides)}" if look.decides else "samples",
    )


def _lower(title: str) -> str:
    return title if title[:2].isupper() else title[:1].lower() + title[1:]  # SWAG stays SWAG
