"""The page of addresses that are told when experiments end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape.acting import UserRole
from modescape.errors import InvalidInput
from modescape.store.notices import ENDINGS
from modescape_api.http import bodies
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.pages.rendering import Posted, render
from modescape_api.resources import notices

router = APIRouter()


@router.get("/notices")
@needs(UserRole.ADMIN)
def every(request: Request, here: Here) -> Response:
    return _page(request, here)


def _page(
    request: Request, here: Site, *, problem: str = "", address: str = "", secret: str = "", status: int = 200
) -> Response:
    """secret: of an address that was added in this moment, told once."""
    rows = [(row, [notices.as_notice(one) for one in here.store.notices.of(row.id, 1)])
            for row in here.store.notices.recipients()]  # fmt: skip
    return render(
        request, here, "notices.html", status=status, section="/notices", headers={"cache-control": "no-store"},
        rows=rows, problem=problem, address=address, secret=secret, endings=ENDINGS,
        mails=here.settings.smtp_url is not None,
    )  # fmt: skip


@router.post("/notices")
@needs(UserRole.ADMIN)
def add(request: Request, here: Here, form: Posted) -> Response:
    address = str(form.get("address", ""))
    try:
        asked = {"address": address, "endings": [str(one) for one in form.getlist("ending")]}
        row = notices.add_recipient(here, bodies.validate(notices.NewRecipient, asked))
    except InvalidInput as error:
        return _page(request, here, problem=str(error), address=address, status=422)
    return _page(request, here, secret="" if "@" in row.address else row.secret, status=201)


@router.post("/notices/{action}")
@needs(UserRole.ADMIN)
def act(here: Here, action: str, id: Annotated[str, Form(max_length=36)] = "") -> Response:
    verbs = {"remove": here.store.notices.remove, "test": here.store.notices.test}
    if action not in verbs:
        raise InvalidInput(f"there is no {action[:40]!r}", field="action", allowed=", ".join(verbs))
    verbs[action](id)
    return RedirectResponse("/notices", status_code=303)
