"""What Google would take: parameters, fields and bodies by its own description of the interface, and the query grammar.

The description is the discovery document that google-api-python-client ships.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient

Selection = dict[str, "Selection"]
_UPLOADS = {"uploadType": {"type": "string"}, "upload_id": {"type": "string"}}


@dataclass
class Refused(Exception):
    """An answer of Google's that is no success."""

    status: int
    reason: str
    message: str
    headers: Mapping[str, str]

    def __init__(self, status: int, reason: str, message: str, **headers: str) -> None:
        self.status, self.reason, self.message = status, reason, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def body(self) -> bytes:
        """As https://developers.google.com/workspace/drive/api/guides/handle-errors shows it."""
        domain = "usageLimits" if "LimitExceeded" in self.reason else "global"
        detail = {"domain": domain, "reason": self.reason, "message": self.message}
        return json.dumps({"error": {"errors": [detail], "code": self.status, "message": self.message}}).encode()


@cache
def description() -> dict[str, Any]:
    path = Path(googleapiclient.__file__).parent / "discovery_cache/documents/drive.v3.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def check_parameters(resource: str, method: str, given: Mapping[str, str], upload: bool = False) -> None:
    """Every parameter is one of the method's, of its type and within its bounds."""
    document = description()
    known = {**document["parameters"], **document["resources"][resource]["methods"][method]["parameters"]}
    for name, value in given.items():
        rule = ({**known, **_UPLOADS} if upload else known).get(name)
        if rule is None or rule.get("location") == "path":
            raise Refused(400, "badRequest", f"unknown parameter {name}")
        if rule["type"] == "boolean" and value not in ("true", "false"):
            raise Refused(400, "invalidParameter", f"{name} is no boolean: {value}")
        if rule["type"] == "integer" and not int(rule["minimum"]) <= int(value) <= int(rule["maximum"]):
            raise Refused(400, "invalidParameter", f"{name} is out of bounds: {value}")
        if "enum" in rule and value not in rule["enum"]:
            raise Refused(400, "invalidParameter", f"{name} may not be {value}")


def check_file(body: Mapping[str, Any], *, new: bool) -> None:
    """A file's metadata holds only fields that exist and may be written."""
    properties = description()["schemas"]["File"]["properties"]
    for name in body:
        if name not in properties:
            raise Refused(400, "badRequest", f"unknown field {name}")
        if properties[name].get("readOnly") or "Output only" in properties[name].get("description", ""):
            raise Refused(403, "fieldNotWritable", f"{name} cannot be written")
        if not new and name in ("id", "parents"):
            raise Refused(403, "fieldNotWritable", f"{name} cannot be written in an update")
    for name, value in (body.get("appProperties") or {}).items():
        if len(f"{name}{value or ''}".encode()) > 124:
            raise Refused(400, "badRequest", "a property has 124 bytes at most")


def parse_fields(text: str, schema: str) -> Selection:
    """A partial response's selector, such as ``nextPageToken,files(id,name)``; each name has to exist."""
    tokens = re.findall(r"[A-Za-z*]\w*|[(),/]", text)
    if "".join(tokens) != text:
        raise Refused(400, "invalidParameter", f"Invalid field selection {text}")
    selection = _names(tokens, text)
    if tokens:
        raise Refused(400, "invalidParameter", f"Invalid field selection {text}")
    _check_names(selection, {"$ref": schema})
    return selection


def _names(tokens: list[str], text: str) -> Selection:
    found: Selection = {}
    while True:
        if not tokens or tokens[0] in "(),/":
            raise Refused(400, "invalidParameter", f"Invalid field selection {text}")
        name, inner = tokens.pop(0), {}
        if tokens and tokens[0] == "(":
            tokens.pop(0)
            inner = _names(tokens, text)
            if not tokens or tokens.pop(0) != ")":
                raise Refused(400, "invalidParameter", f"Invalid field selection {text}")
        elif tokens and tokens[0] == "/":
            tokens.pop(0)
            inner = _names(tokens[:1], text)
            tokens.pop(0)
        found[name] = inner
        if not tokens or tokens[0] != ",":
            return found
        tokens.pop(0)


def _check_names(selection: Selection, schema: dict[str, Any]) -> None:
    while "items" in schema or "$ref" in schema:
        schema = schema["items"] if "items" in schema else description()["schemas"][schema["$ref"]]
    for name, inner in selection.items():
        if name == "*":
            continue
        if name not in schema.get("properties", {}):
            raise Refused(400, "invalidParameter", f"Invalid field selection {name}")
        if inner:
            _check_names(inner, schema["properties"][name])


def selected(document: Any, selection: Selection) -> Any:
    """What *selection* leaves of *document*."""
    if isinstance(document, list):
        return [selected(item, selection) for item in document]
    if not selection or "*" in selection or not isinstance(document, dict):
        return document
    return {name: selected(document[name], inner) for name, inner in selection.items() if name in document}


Test = Callable[[Any], bool]
_TOKEN = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|(<=|>=|!=|[=<>(){}])|([A-Za-z]+))")
_TIMES = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


class Query:
    """A search query, as https://developers.google.com/workspace/drive/api/guides/ref-search-terms has it, in part.

    ``test`` says whether a node fits; ``parents`` are the folders that it names. *application*: whose properties count.
    """

    def __init__(self, text: str, application: str) -> None:
        self.parents: list[str] = []
        self._application = application
        self._text, self._tokens = text, []
        position = 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None:
                self._refuse()
            kind = "text" if match[1] is not None else "sign" if match[2] else "word"
            self._tokens.append((kind, re.sub(r"\\(.)", r"\1", match[1]) if kind == "text" else match[match.lastindex]))
            position = match.end()
        self.test = self._either()
        if self._tokens:
            self._refuse()

    def _refuse(self) -> Any:
        raise Refused(400, "invalid", f"Invalid Value: {self._text}")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[0] if self._tokens else ("end", "")

    def _take(self, kind: str, *values: str) -> str:
        found = self._peek()
        if found[0] != kind or (values and found[1] not in values):
            self._refuse()
        self._tokens.pop(0)
        return found[1]

    def _either(self) -> Test:
        terms = [self._both()]
        while self._peek() == ("word", "or"):
            self._tokens.pop(0)
            terms.append(self._both())
        return lambda node: any(term(node) for term in terms)

    def _both(self) -> Test:
        terms = [self._term()]
        while self._peek() == ("word", "and"):
            self._tokens.pop(0)
            terms.append(self._term())
        return lambda node: all(term(node) for term in terms)

    def _term(self) -> Test:
        kind, value = self._peek()
        if (kind, value) == ("sign", "("):
            self._tokens.pop(0)
            inner = self._either()
            self._take("sign", ")")
            return inner
        if (kind, value) == ("word", "not"):
            self._tokens.pop(0)
            negated = self._term()
            return lambda node: not negated(node)
        if kind == "text":
            parent = self._take("text")
            self._take("word", "in")
            self._take("word", "parents")
            self.parents.append(parent)
            return lambda node: parent in node.parents
        return self._comparison(self._take("word"))

    def _comparison(self, name: str) -> Test:
        if name == "trashed":
            wanted = self._take("sign", "=", "!=") == "="
            wanted = (self._take("word", "true", "false") == "true") == wanted
            return lambda node: node.trashed == wanted
        if name == "appProperties":
            return self._property()
        if name in ("createdTime", "modifiedTime"):
            compare, moment = _TIMES[self._take("sign", *_TIMES)], datetime.fromisoformat(self._take("text"))
            return lambda node: compare(node.created if name == "createdTime" else node.modified, moment)
        if name == "name":
            equal, text = self._take("sign", "=", "!=") == "=", self._take("text").casefold()
            return lambda node: (node.name.casefold() == text) == equal
        if name == "mimeType":
            equal, kind = self._take("sign", "=", "!=") == "=", self._take("text")
            return lambda node: (node.kind == kind) == equal
        return self._refuse()

    def _property(self) -> Test:
        self._take("word", "has")
        self._take("sign", "{")
        self._take("word", "key")
        self._take("sign", "=")
        key = self._take("text")
        self._take("word", "and")
        self._take("word", "value")
        self._take("sign", "=")
        value = self._take("text")
        self._take("sign", "}")
        return lambda node: node.properties.get(self._application, {}).get(key) == value
