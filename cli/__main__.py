"""``python -m cli``: the same as ``backups``."""

from cli import main

main()
