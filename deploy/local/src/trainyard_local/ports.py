"""Ports of this machine that nobody uses."""

import random
import socket

# Below what the system gives to outgoing connections, which could take the port of a service while it restarts.
_LOW, _HIGH = 15_000, 32_000


def is_free(port: int) -> bool:
    with socket.socket() as it:
        # As servers do it: a connection that is dying does not count.
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            it.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(known: dict[str, int], names: list[str]) -> dict[str, int]:
    """A port for each name: the one it had, while that is free."""
    chosen: dict[str, int] = {}
    for name in names:
        port = known.get(name, 0)
        while not port or port in chosen.values() or not is_free(port):
            port = random.randrange(_LOW, _HIGH)  # noqa: S311 - not a secret
        chosen[name] = port
    return chosen
