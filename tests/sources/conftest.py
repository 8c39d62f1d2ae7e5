"""What the tests of sources share."""

from __future__ import annotations

from tests.peers.postgres import postgres_server

__all__ = ["postgres_server"]
