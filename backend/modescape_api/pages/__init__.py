"""The pages people see: the same functions as the JSON API, answered as HTML; forms post here and work without script.

A page and its data are one address: `/` answers the query string of `/api/experiments`, `/experiments/x` shows what
`/api/experiments/x` says. Templates and static files lie in `frontend`; everything people typed is escaped by Jinja.
"""

from fastapi import APIRouter

from modescape_api.pages import (
    bulk,
    compare,
    documentation,
    examples,
    experiment,
    figure,
    gallery,
    importing,
    launching,
    links,
    listing,
    notices,
    plots,
    reference,
    rendering,
    reports,
    science,
    signin,
    sweeps,
    tour,
    users,
)

router = APIRouter(include_in_schema=False)
for page in (
    rendering,
    signin,
    listing,
    plots,
    bulk,
    launching,
    examples,
    importing,
    experiment,
    figure,
    compare,
    sweeps,
    reports,
    gallery,
    reference,
    users,
    links,
    notices,
    documentation,
    science,
    tour,
):
    router.include_router(page.router)
