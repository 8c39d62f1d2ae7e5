"""When and for whom: what is registered with Prefect, and what runs by itself."""

POOL = "backups"
"""The work pool whose workers run what is asked for, where nothing else is said."""
