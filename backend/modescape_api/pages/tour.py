"""A tour of the argument in five steps, over an example whose spec comes with Modescape.

Nobody is led into it: the list asks once in each browser, and every step can be left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape.acting import UserRole
from modescape.claims.telling import Told
from modescape.listing import Condition, ListQuery
from modescape.records import Status
from modescape.registry import presets
from modescape.science.confidence import Word
from modescape.spec import parse as spec_of
from modescape.tables import Experiment
from modescape_api.http.identity import TOUR_COOKIE, needs
from modescape_api.http.site import Here, Site
from modescape_api.pages.rendering import Next, back, render
from modescape_api.resources import experiments
from modescape_api.resources.experiments import Draft

router = APIRouter()

EXAMPLE = "quickstart"  # a preset
FEW = 10  # experiments of a home where somebody may be new


@dataclass(frozen=True)
class Step:
    """figure: above which it is read; see: what to look for there, whatever it shows; claim: what answers it."""

    figure: str
    title: str
    see: str
    claim: str = ""


STEPS = (
    Step(
        "trajectories",
        "Equally good places?",
        "Networks were trained by one recipe; only their random numbers differ. Look where their curves end, and how "
        "far apart: by accuracy alone it is hard to say which is which. The ensemble averages what all of them say.",
    ),
    Step(
        "similarity-runs",
        "The same function?",
        "Bright means alike. A cell beside the diagonal is two runs: by their weights in one map, by the labels that "
        "they give in the other. How much less bright than the diagonal it is says how far they are two functions.",
        "b",
    ),
    Step(
        "tsne-samples",
        "Where do they lie?",
        "Each mark is one function, placed by what it predicts. Look whether samples drawn around a run stay with that "
        "run, and where the other runs lie. How far apart the islands lie means nothing.",
        "c",
    ),
    Step(
        "plane",
        "What does diversity cost?",
        "To the right is more accurate, higher is more different from the reference. Look what samples lose in "
        "accuracy as they become different, and what the other runs do, the stars.",
        "d1",
    ),
    Step(
        "ensembles",
        "What is it worth?",
        "Look how accurate an average of several functions is beside each alone, and how it grows with their number. "
        "How sure all of this is say the claims: each is tested, with an interval.",
        "e1",
    ),
)


@dataclass(frozen=True)
class Stand:
    """Where somebody is on the tour, from 1; here: what the claim of this step says of this experiment, "" where none
    is judged; back, next: addresses, "" at the ends."""

    number: int
    of: int
    step: Step
    here: str
    back: str
    next: str
    leave: str
    is_done: bool


def stand(row: Experiment, asked: str | None, planned: Collection[str], told: Sequence[Told] = ()) -> Stand | None:
    """The step that an address asks for (`tour=2`); None where it asks for none that there is."""
    steps = [step for step in STEPS if step.figure in planned]
    if asked is None or not asked.isdecimal() or not 1 <= int(asked[:4]) <= len(steps):
        return None
    number, page = int(asked[:4]), f"/experiments/{row.slug}"
    step = steps[number - 1]

    def address(at: int) -> str:
        return f"{page}?tour={at}#tour" if 1 <= at <= len(steps) else ""

    here = next((_here(one) for one in told if one.record.id == step.claim and not one.waits), "")
    return Stand(number, len(steps), step, here, address(number - 1), address(number + 1), page, row.status.has_ended)


def _here(told: Told) -> str:
    """What a claim says here, in the words of its row."""
    word = told.word_at_look
    said = "cannot be told yet" if word is Word.CANNOT_TELL else f"{word}{', but is fragile' * told.is_fragile}"
    return f"Here: claim ({told.record.id}), “{told.record.title}”, {said}."


def example(here: Site) -> Experiment | None:
    """The newest one of the example's own spec, and not of a changed one: a finished one, else one that is being
    computed; where there is none, a finished one that began as the example."""
    own = spec_of(presets[EXAMPLE].call()).digest()
    running = tuple(one for one in Status if not one.has_ended)
    asked: tuple[tuple[Condition, ...], ...] = (
        (Condition("digest", "eq", own), Condition("status", "eq", Status.SUCCEEDED)),
        (Condition("digest", "eq", own), Condition("status", "in", running)),
        (Condition("preset", "eq", EXAMPLE), Condition("status", "eq", Status.SUCCEEDED)),
    )
    for conditions in asked:
        if found := here.store.experiments.page(ListQuery(conditions, limit=1)).items:
            return found[0]
    return None


def is_offered(request: Request, here: Site, total: int) -> bool:
    """Whether the list asks: in a young home with a finished example, until somebody has answered in this browser."""
    if not 0 < total <= FEW or TOUR_COOKIE in request.cookies:
        return False
    found = example(here)
    return found is not None and found.status == Status.SUCCEEDED


@router.get("/tour")
def tour_page(request: Request, here: Here) -> Response:
    """To the first step; where there is no example, to the one button that makes it."""
    row = example(here)
    if row is not None:
        return RedirectResponse(f"/experiments/{row.slug}?tour=1#tour", status_code=303)
    return render(
        request,
        here,
        "tour.html",
        steps=STEPS,
        summary=presets[EXAMPLE].summary,
        last_event=here.store.events.last_id(),
    )


@router.post("/tour")
def begin(here: Here, seen: Annotated[str, Form(max_length=60)] = "") -> Response:
    """Compute the example, unless it is here or on its way. seen: the last event when the button was shown, by which
    two presses are one."""
    row = example(here) or experiments.launch(here, Draft(preset=EXAMPLE), key=f"tour-{seen}" if seen else None)
    return RedirectResponse(f"/experiments/{row.slug}", status_code=303)


@router.post("/tour/leave")
@needs(UserRole.VIEWER)
def leave(next: Next = "/") -> Response:
    """Not to be asked again in this browser."""
    answer = back(next)
    answer.set_cookie(TOUR_COOKIE, "left", max_age=31536000, samesite="lax")
    return answer
