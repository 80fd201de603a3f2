"""The OpenAPI 3.1 document of the routes, from the same types that requests are read with."""

from functools import cache
from typing import Any, get_args

import msgspec

from svcctl import __version__
from svcctl.api.guarded import Guarded
from svcctl.api.route import Raw, Route
from svcctl.commands import Command

_REFS = "#/components/schemas/{name}"


def openapi(backend: Guarded) -> Raw:  # noqa: ARG001  # every handler takes one
    from svcctl.api.app import ROUTES

    content = msgspec.json.encode(document(ROUTES))
    return Raw(content, "application/json", f"{__version__}-openapi")


ROUTES = (Route("GET", "/openapi.json", "This document", openapi, power="follow"),)


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    schemas, components = _schemas(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    for path, summary in (("/health/live", "Whether it runs"), ("/health/ready", "Whether it reaches its store")):
        answer = {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}
        paths[path] = {
            "get": {"operationId": path[8:], "summary": summary, "security": [], "responses": {"200": answer}}
        }
        paths[path]["get"]["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "svcctl", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components | {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "What went wrong",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint", "next"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"]},
                "next": {"type": ["string", "null"]},
            },
        }
    },
}


def _schemas(routes: tuple[Route, ...]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Of every type that routes speak of, and of what those refer to."""
    kinds = [kind for route in routes for kind in (route.asked, _body(route), *_answers(route)) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFS)
    for command in get_args(Command):
        components[command.__name__]["additionalProperties"] = False
    return dict(zip(kinds, schemas, strict=True)), components


def _body(route: Route) -> Any:
    return route.body if route.limit and route.kind not in {"frames", "bytes"} else None


def _answers(route: Route) -> tuple[Any, ...]:
    if route.kind == "blob" or route.answer is Raw:
        return ()
    if route.kind == "poll":
        return tuple(route.answer.__args__)
    return (route.answer,)


def _operation(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "responses": {"200": _answer(route, schemas), "default": {"$ref": "#/components/responses/Problem"}},
    }
    if route.asked:
        found["parameters"] = list(_parameters(route, route.asked))
    if route.limit:
        kind = _body(route)
        schema = {"type": "string", "format": "binary"} if kind is None else schemas[kind]
        found["requestBody"] = {"required": True, "content": {route.media_type: {"schema": schema}}}
    return found


def _answer(route: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    kinds = _answers(route)
    if not kinds:
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
    elif len(kinds) == 1:
        schema = schemas[kinds[0]]
    else:
        schema = {"anyOf": [schemas[kind] for kind in kinds]}
    return {"description": "OK", "content": {route.answers: {"schema": schema}}}


def _parameters(route: Route, kind: type[Any]) -> Any:
    for field in msgspec.structs.fields(kind):
        (schema,), _ = msgspec.json.schema_components([field.type], ref_template=_REFS)
        in_path = field.name in route.path_names
        yield {
            "name": field.name,
            "in": "path" if in_path else "query",
            "required": in_path or field.required,
            "schema": schema,
        }
