"""Ask the process in this container how it is: `python -IS probe.py [PATH [PORT]]`; ends with 0 when it says 200.

Runs every few seconds in every container: no imports that take time.
"""

import socket
import sys


def status(path: str, port: int) -> int:
    """The status of the answer; 0 when there was none."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
            connection.sendall(request.encode())
            answer = connection.recv(64).split(b" ", 2)
    except OSError:
        return 0
    return int(answer[1]) if len(answer) > 1 and answer[1].isdigit() else 0


if __name__ == "__main__":
    sys.exit(status(sys.argv[1] if len(sys.argv) > 1 else "/livez", int((sys.argv[2:] or ["8000"])[0])) != 200)
