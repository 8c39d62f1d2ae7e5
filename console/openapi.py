"""What FastAPI does not know of itself: how one is let in, and what a problem looks like."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from console.models.common import ProblemDetails


class Console(FastAPI):
    """The application, with an OpenAPI document that is complete."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        if self.openapi_schema is None:
            document = super().openapi()
            _, found = models_json_schema(
                [(ProblemDetails, "serialization")], ref_template="#/components/schemas/{model}"
            )
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(found["$defs"])
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer", "description": "backups console token add"}
            }
            document["security"] = [{"token": []}]
        return self.openapi_schema or {}
