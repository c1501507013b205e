"""The API described: an OpenAPI document with examples and every error, and a page that shows it without any script.

Swagger UI and ReDoc are several megabytes of script from elsewhere; a page of our own needs none, works offline, under
the Content-Security-Policy, and in print.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from modescape.records import Json
from modescape.spec import ExperimentSpec
from modescape_api.http import bodies, problems, replies
from modescape_api.resources import (
    artifacts,
    axes,
    bulk,
    catalogue,
    compare,
    curves,
    cuts,
    data,
    each_example,
    events,
    experiments,
    figures,
    gallery,
    imports,
    links,
    matrices,
    metrics,
    notices,
    paper,
    parcels,
    reports,
    searching,
    selections,
    solutions,
    sweeps,
    uploads,
    users,
    views,
    workers,
)
from modescape_api.resources.examples import Example

router = APIRouter(include_in_schema=False)

INTRODUCTION = (
    "Everything the pages show and do. Lists answer `{items, next, total, query}` and take the same query strings as "
    "the pages; ask for `text/csv` or `application/x-ndjson` (or `?format=csv`) to get them as tables. Errors are "
    "problem documents that name the field and what is allowed. Numbers are JSON numbers; NaN and infinity are null; "
    "times are UTC."
)

TAGS = {
    "experiments": "Launch, list, follow, stop and repeat experiments.",
    "sweeps": "One experiment for every combination of settings, and what they say together.",
    "results": "Everything a figure shows, raw: rows, predictions, weights, matrices.",
    "figures": "Pictures of those numbers.",
    "reports": "Notes between figures, claims and numbers, read and taken home.",
    "catalogue": "What can be chosen, and what a choice would cost.",
    "data": "Data sets on this machine.",
    "imports": "Ensembles made elsewhere: their files, and the experiments they become.",
    "events": "What happened, as it happens.",
    "users": "Who may come in, and who did what.",
    "links": "What one experiment, report or view can be read by.",
    "notices": "Addresses that are told when experiments end.",
    "service": "Workers, and whether all is well.",
}
# In the order in which requests are compared with their addresses, and the document lists them.
PARTS = (experiments, searching, axes, bulk, views, parcels, sweeps, solutions, each_example, curves, matrices, cuts,
         artifacts, selections, figures, reports, catalogue, compare, data, uploads, imports, gallery, paper, events,
         users, links, notices, metrics, workers)  # fmt: skip


def openapi(app: FastAPI) -> Json:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        routes = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]
        models: dict[type[BaseModel], None] = dict.fromkeys(
            model for route in routes for model in bodies.read_by(route)
        )
        models[ExperimentSpec] = None
        _, defined = models_json_schema(
            [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
        )
        schemas.update(defined["$defs"])
        schemas["Draft"]["properties"]["spec"]["anyOf"] = [
            {"$ref": "#/components/schemas/ExperimentSpec"},
            {"type": "null"},
        ]
        for schema in schemas.values():
            _let_runs_be_meant(schema.get("properties", {}))
        schemas["Problem"] = problems.SCHEMA
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        document["components"]["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of a user (`/api/tokens`), or MODESCAPE_TOKEN. Not needed on loopback without "
                "the latter by the account that the server runs under.",
            }
        }
        document["security"] = [{"token": []}, {}]
        document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        for operations in document["paths"].values():
            for method, operation in operations.items():
                _complete(method, operation)
        for route in routes:
            if route.include_in_schema:
                _read_examples(route, document["paths"][route.path_format])
        app.openapi_schema = document
    return app.openapi_schema


def _let_runs_be_meant(properties: Json) -> None:
    """Of studies that go through runs (`study.ThroughRuns`): no run, or null, means the first healthy ones."""
    runs = properties.get("runs", {})
    if "named" in properties and runs.get("type") == "array":
        kept = {name: runs.pop(name) for name in [*runs] if name not in ("title", "description", "default")}
        runs["anyOf"] = [kept, {"type": "array", "maxItems": 0}, {"type": "null"}]


def _complete(method: str, operation: Json) -> None:
    """Errors any request can meet, in our own form: FastAPI's validation errors never leave this server."""
    responses = operation["responses"]
    generated = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if generated.get("$ref", "").endswith("HTTPValidationError"):
        responses["422"] = problems.documented("invalid-input")[422]
    common = ("wrong-host", "unauthorised", "forbidden", "internal", "busy")
    for name in common if method != "get" else tuple(n for n in common if n != "forbidden"):
        kind = problems.KINDS[name]
        reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
        responses.setdefault(str(kind.status), {"description": kind.title, "content": {problems.MEDIA_TYPE: reference}})


def _read_examples(route: APIRoute, operations: Json) -> None:
    """In place of their names, and after FastAPI, which drops every null from its document: an answer has them."""
    for method in route.methods or ():
        operation = operations[method.lower()]
        shown = [(operation["responses"][str(status)], answer) for status, answer in route.responses.items()]
        if route.openapi_extra and "requestBody" in route.openapi_extra:
            shown.append((operation["requestBody"], route.openapi_extra["requestBody"]))
        for theirs, ours in shown:
            for form, content in ours.get("content", {}).items():
                if isinstance(example := content.get("example"), Example):
                    theirs["content"][form]["example"] = example.read()


@router.get("/api/openapi.json")
def openapi_document(request: Request) -> Response:
    return replies.tagged_json(request, openapi(request.app))
