"""The interface for programs as OpenAPI 3.1, generated from the table of questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ha_monitor.incidents.address import NAME_PARAMETER
from ha_monitor.query.items import Document
from ha_monitor.version import __version__
from ha_monitor.web.endpoints import ENDPOINTS, TAIL, Endpoint
from ha_monitor.web.parameters import MAX_VALUE, Kind, Parameter

REF = "#/components/schemas/{name}"
ERRORS = {
    "400": "The question is invalid; the error says why",
    "401": "User name and password are required",
    "404": "There is nothing of that name",
    "503": "The store is unavailable, or there are too many questions",
}


def description(server: str) -> dict[str, Any]:
    """The whole description.

    :param server: the path below which the interface is served.
    """
    whole = [endpoint for endpoint in (*ENDPOINTS, TAIL) if _is_whole(endpoint)]
    types = {endpoint.item for endpoint in (*ENDPOINTS, TAIL)} | {Document}
    _, schemas = msgspec.json.schema_components(sorted(types, key=lambda one: one.__name__), ref_template=REF)
    del schemas["Document"]["properties"]["items"]["items"]
    schemas["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ha-monitor",
            "version": __version__,
            "description": "What the monitor of Celery's events knows, in the form of the commands' answers. Read "
            "only. Times are in ISO 8601, UTC; durations in seconds; what is not known is null.",
        },
        "servers": [{"url": server}],
        "paths": dict(_path(endpoint, is_whole=endpoint in whole) for endpoint in (*ENDPOINTS, TAIL)),
        "components": {"schemas": schemas},
    }


def _is_whole(endpoint: Endpoint) -> bool:
    """Whether the item is the whole answer."""
    return endpoint is TAIL or endpoint.name == "monitor"


def _path(endpoint: Endpoint, *, is_whole: bool) -> tuple[str, dict[str, Any]]:
    item = {"$ref": REF.format(name=endpoint.item.__name__)}
    listed = {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    schema = item if is_whole else {"allOf": [{"$ref": REF.format(name="Document")}, listed]}
    parameters = [*([_name_of(endpoint)] if endpoint.takes_name else []), *map(_parameter, endpoint.parameters)]
    operation = {
        "operationId": f"{endpoint.name}{'_one' if endpoint.takes_name else ''}",
        "summary": endpoint.meaning,
        "parameters": parameters,
        "responses": {
            "200": {"description": endpoint.meaning, "content": _json(schema)},
            "304": {"description": "Nothing has changed since the answer whose tag was sent (If-None-Match)"},
            **_errors(ERRORS.items()),
        },
    }
    return f"/{endpoint.name}{'/{name}' if endpoint.takes_name else ''}", {"get": operation}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(errors: Iterable[tuple[str, str]]) -> dict[str, Any]:
    content = _json({"$ref": REF.format(name="Error")})
    return {
        status: {"description": meaning} if status == "401" else {"description": meaning, "content": content}
        for status, meaning in errors
    }


def _name_of(endpoint: Endpoint) -> dict[str, Any]:
    of = "an id, or the beginning of one" if endpoint.name in ("tasks", "errors") else "a name, as it is"
    of += f"; a name with an empty, . or .. segment is requested as /{endpoint.name}/?{NAME_PARAMETER}=NAME"
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": of,
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_VALUE},
    }


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "maxLength": MAX_VALUE}
    if one.kind is Kind.COUNT:
        schema = {"type": "integer", "minimum": 1, "maximum": one.maximum, "default": int(one.default)}
    elif one.kind is Kind.FLAG:
        schema = {"type": "string", "enum": ["yes", "no"], "default": "no"}
    elif one.kind is Kind.CHOICE:
        schema = {"type": "string", "enum": list(one.choices), "default": one.default}
    elif one.default:
        schema["default"] = one.default
    return {"name": one.name, "in": "query", "description": f"{one.meaning} ({one.kind})", "schema": schema}
