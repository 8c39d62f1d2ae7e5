"""Runs."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from console import runs
from console.access import Reader
from console.models.runs import RunDetail

router = APIRouter(tags=["runs"])


@router.get("/runs/{run_id}")
def get_run(run_id: UUID, _who: Reader) -> RunDetail:
    """What becomes of a run that was asked for: its state, how far it is, and the end of its log."""
    return runs.get_run(run_id)
