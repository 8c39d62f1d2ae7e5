"""The REST API's documentation as a page of ours: FastAPI's own loads programs from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.access import Reader
from console.pages.rendering import page

router = APIRouter(include_in_schema=False)
_METHODS = ("get", "post", "put", "patch", "delete")
_Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """A parameter, or a member of what is sent or answered."""

    name: str
    type: str
    required: bool
    about: str


@dataclass(frozen=True)
class Endpoint:
    """One of the API's. *body* and *answer* are names of schemas."""

    method: str
    path: str
    summary: str
    about: str
    parameters: list[Field]
    body: str
    answers: list[tuple[str, str, str]]


@router.get("/openapi.json")
def openapi(request: Request, _who: Reader) -> JSONResponse:
    """The whole, for programs."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs_page(request: Request, _who: Reader) -> Response:
    """The whole, for people."""
    document = request.app.openapi()
    groups: dict[str, list[Endpoint]] = {}
    for path, methods in document["paths"].items():
        for method in filter(methods.__contains__, _METHODS):
            tag = next(iter(methods[method].get("tags", ())), "other")
            groups.setdefault(tag, []).append(_endpoint(method, path, methods[method]))
    schemas = document.get("components", {}).get("schemas", {})
    return page(
        request,
        "docs.html",
        title=document["info"]["title"],
        about=document["info"].get("description", "").split("\n\n"),
        groups=groups,
        schemas={name: _fields(schema) for name, schema in sorted(schemas.items())},
    )


def _endpoint(method: str, path: str, of: _Schema) -> Endpoint:
    parameters = [
        Field(
            f"{one['name']} ({one['in']})",
            type_of(one.get("schema", {})),
            one.get("required", False),
            one.get("description", ""),
        )
        for one in of.get("parameters", ())
    ]
    body = next((type_of(one.get("schema", {})) for one in of.get("requestBody", {}).get("content", {}).values()), "")
    answers = [
        (code, answer.get("description", ""), next(map(_content, answer.get("content", {}).values()), ""))
        for code, answer in sorted(of.get("responses", {}).items())
    ]
    return Endpoint(method.upper(), path, of.get("summary", ""), of.get("description", ""), parameters, body, answers)


def _content(of: _Schema) -> str:
    return type_of(of.get("schema", {}))


def _fields(schema: _Schema) -> list[Field]:
    required = schema.get("required", ())
    return [
        Field(name, type_of(one), name in required, one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]


def type_of(schema: _Schema) -> str:
    """A JSON schema in a few words: ``array of Backup``, ``string or null``, ``"read", "operate" or "admin"``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(type_of, schema.get("anyOf") or schema["oneOf"])))
    if "allOf" in schema:
        return " and ".join(map(type_of, schema["allOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"array of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind
