"""The way from a process's log to the journal of its machine: for a logging configuration, see logging.yml."""

from __future__ import annotations

import logging
import socket
from logging.handlers import SysLogHandler


class Journal(logging.Handler):
    """The system's journal, as systemd has it at /dev/log. A record that it does not take at once is lost (O10)."""

    def __init__(self, address: str = "/dev/log") -> None:
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*, with its level and as ``backups``."""
        level = SysLogHandler.priority_names.get(record.levelname.lower(), SysLogHandler.LOG_WARNING)
        try:
            line = f"<{SysLogHandler.LOG_USER << 3 | level}>backups: {self.format(record)}"
            self._socket.sendto(line.encode(errors="replace"), self._address)
        except OSError:
            return  # it is down, or full
        except Exception:  # noqa: BLE001 - as every handler: a record that cannot be shown fails nobody
            self.handleError(record)

    def close(self) -> None:
        """Nothing is sent any more."""
        self._socket.close()
        super().close()
