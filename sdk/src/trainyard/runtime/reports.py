"""What a program tells of its work: to the runner by a unix socket, and to a file of its own folder.

Nothing here stops the work, or waits for anybody: what the runner does not take now is kept, the oldest is dropped when
too much waits, and at the end some seconds are given to what is left.
"""

import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LONGEST = 64 << 10
MOST = 10_000
AGAIN = 1.0
FAREWELL = 3.0


class Reports:
    """Of one process."""

    def __init__(
        self, address: Path | None, trail: Path | None, *, again: float = AGAIN, farewell: float = FAREWELL
    ) -> None:
        """`address` is the runner's socket, `trail` the file that gets every line too.

        After `again` seconds somebody who did not answer is asked again; `farewell` are those given at the end.
        """
        self._again = again
        self._farewell = farewell
        self._address = address
        self._trail = trail
        self._number = 0
        self._lines: deque[bytes] = deque(maxlen=MOST)
        self._sent = 0
        """Bytes of the first line."""
        self._socket: socket.socket | None = None
        self._not_before = 0.0

    def tell(self, kind: str, entry: Mapping[str, Any]) -> None:
        """One line."""
        self._number += 1
        at = datetime.now(UTC).isoformat()
        line = json.dumps({"type": kind, "number": self._number, "at": at, **entry}).encode() + b"\n"
        if len(line) > LONGEST:
            raise ValueError(f"A report has {LONGEST >> 10} KiB at most.")
        if self._trail is not None:
            with contextlib.suppress(OSError), self._trail.open("ab") as file:  # a full disk ends no training for this
                file.write(line)
        if self._address is not None:
            if len(self._lines) == MOST:
                self._drop()
            self._lines.append(line)
            self.send()

    def send(self) -> bool:
        """As much as the runner takes now; whether all of it went."""
        try:
            while self._lines:
                connection = self._connected()
                if connection is None:
                    return False
                self._sent += connection.send(self._lines[0][self._sent :])
                if self._sent == len(self._lines[0]):
                    self._lines.popleft()
                    self._sent = 0
        except BlockingIOError:
            return False
        except OSError:
            # Whoever listens next has not seen the beginning of this line.
            self._hang_up()
            self._not_before = time.monotonic() + self._again
            return False
        return True

    def close(self) -> None:
        """Give what is left some seconds."""
        ends = time.monotonic() + self._farewell
        while not self.send() and time.monotonic() < ends:
            time.sleep(0.02)
        self._hang_up()

    def _connected(self) -> socket.socket | None:
        if self._socket is None and time.monotonic() >= self._not_before:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.connect(str(self._address))
        return self._socket

    def _drop(self) -> None:
        """The oldest of those that have not begun to go."""
        begun = self._lines.popleft() if self._sent else None
        self._lines.popleft()
        if begun is not None:
            self._lines.appendleft(begun)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._sent = 0
