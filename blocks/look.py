"""What every block of this project shows in Prefect's UI: where its documentation is, and its logo.

Prefect's client accepts http(s) URLs only, so a logo cannot travel as a data URL; offline it stays blank.
"""

from __future__ import annotations

from pydantic import HttpUrl

_REPOSITORY = "https://github.com/prefect-backups/prefect-backups"
DOCUMENTATION_URL = HttpUrl(f"{_REPOSITORY}#readme")
LOGO_URL = HttpUrl(f"{_REPOSITORY}/raw/main/docs/logo.png")
