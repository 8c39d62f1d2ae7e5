"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from console import metrics
from console.access import Reader

router = APIRouter(tags=["status"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(_who: Reader) -> Response:
    """Figures for Prometheus: last success, size, duration, what is overdue and what failed, by app and destination."""
    return Response(metrics.metrics(), media_type=CONTENT_TYPE_LATEST)
