"""What a query string asks of a list, answered: the grammar of filters (`modescape.asking`) over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from starlette.datastructures import ImmutableMultiDict

from modescape import asking
from modescape.askable import Askable
from modescape.asking import DEFAULT_LIMIT, Asked, operators_of
from modescape.columns import Fields, Kind
from modescape.listing import MAX_LIMIT, ListQuery, Page
from modescape.records import Json
from modescape_api.http import replies
from modescape_api.http.site import Site

MOST_COMPUTED = 20  # columns of one answer


def read(
    fields: Askable, parameters: ImmutableMultiDict[str, str], *, lenient: bool = False, but: Sequence[str] = ()
) -> Asked:
    """Raises InvalidInput naming every field and what is allowed; lenient ignores what is wrong, with a notice. but:
    parameters that are no questions to the list."""
    asked = [(key, value) for key, value in parameters.multi_items() if key not in but]
    return asking.read(fields, asked, lenient=lenient)


def of_a_view(here: Site, parameters: ImmutableMultiDict[str, str], *beside: str) -> ImmutableMultiDict[str, str]:
    """A view by its name alone, or with what says how much of it is wanted, asks for what its address asks for. With
    anything else it only says where an address comes from, which names all that it shows. beside: more that may stand
    with it. Raises NotFound."""
    view = parameters.get("view")
    if not view or set(parameters) - {"view", "limit", "cursor", "fields", "format", *beside}:
        return parameters
    own = [(key, value) for key, value in parse_qsl(here.store.views.get(view).query) if key not in parameters]
    return ImmutableMultiDict([*own, *parameters.multi_items()])


def answer(
    request: Request, fields: Fields[Any], find: Callable[[ListQuery], Page[Any]], name: str,
    parameters: ImmutableMultiDict[str, str] | None = None,
) -> Response:  # fmt: skip
    """The rows that the query string asks for, as `find` has them, in the form asked for; name: of the file;
    parameters: instead of those that stand in the address."""
    asked = read(fields, request.query_params if parameters is None else parameters)
    named = (name.strip() for name in request.query_params.get("fields", "").split(","))
    computed = tuple(dict.fromkeys(name for name in named if fields.beside(name) is not None))[:MOST_COMPUTED]
    asked = replace(asked, query=replace(asked.query, show=computed))

    def page(cursor: str | None) -> replies.Listing:
        found = find(asked.query if cursor is None else replace(asked.query, cursor=cursor))
        documents = [fields.document(row) for row in found.items]
        for document, values in zip(documents, found.shown, strict=False):
            document |= zip(computed, values, strict=True)
        return replies.Listing(documents, found.next, found.total, asked.words)

    return replies.listing(request, page(None), columns=(*fields.keys, *computed), more=page, name=name)


_TYPES = {Kind.NUMBER: "number", Kind.WHOLE: "integer", Kind.FLAG: "boolean"}  # of OpenAPI; the others are texts


def parameters(fields: Askable, *, paged: bool = True) -> Iterator[Json]:
    """What can be asked, as OpenAPI parameters. paged: it is a list, in some order and a page at a time."""
    if fields.searchable:
        yield _parameter(
            "q",
            {
                "type": "string",
                "examples": ['accuracy>0.9 claim:d=holds (tag:baseline or arch:resnet20v1) "free text"'],
            },
            f"The line of the search box: texts that {fields.searchable} contains, fields with `:` `=` `!=` `>` `>=` "
            "`<` `<=` `~` and a value (`a,b` for any of them, `low..high`), `or`, `-` for not, parentheses; "
            "`claim:b=holds`, `has:accuracy`, `archived:any`, `created:7d`. `GET /api/search` says how it is read.",
        )
    if fields.selectable:
        yield _parameter("sel", {"type": "string"}, "Numbers and ranges, such as 12-40,77.")
    for field in fields.asked.values():
        schema: Json = {"type": _TYPES.get(field.kind, "string")}
        if field.choices:
            schema["examples"] = list(field.choices[:3])
        more = ", ".join(f"`{field.name}__{operator}`" for operator in operators_of(field) if operator != "eq")
        about = field.description or f"{field.words[:1].upper()}{field.words[1:]}."
        yield _parameter(field.name, schema, f"{about} Also {more}." if more else about)
    if not paged:
        return
    sorts = ", ".join(field.name for field in fields.asked.values() if field.sortable)
    yield _parameter(
        "sort",
        {"type": "string", "default": fields.sort},
        f"Column to sort by, `-` before it for descending: {sorts}.",
    )
    yield _parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Rows a page.",
    )
    yield _parameter("cursor", {"type": "string"}, "The `next` of the page before.")
    yield _parameter("fields", {"type": "string"}, "Columns to give, separated by commas; empty means all.")
    yield _parameter("format", {"type": "string", "enum": ["json", "csv", "ndjson"]}, "Instead of the Accept header.")


def view_parameter() -> Json:
    return _parameter(
        "view", {"type": "string"}, "A named view by its slug, alone or with `limit`, `cursor`, `fields` and `format`: "
        "its filters and order. Beside filters it is not asked.",
    )  # fmt: skip


def _parameter(name: str, schema: Json, description: str) -> Json:
    """With nothing behind its name it counts as not asked, as forms send the fields that nobody has filled in."""
    return {"name": name, "in": "query", "required": False, "allowEmptyValue": True, "schema": schema,
            "description": description}  # fmt: skip
