"""`python -m serving.runner FD MEMORY [MODELS]`: models that may not run in serving's own process, for one project.

They are asked through one socket.

It ends when its parent does, and when it needs more memory than it may have it says so instead of answering.
"""

import hashlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import orjson

from kit import errors
from models.runners import ModelUnloadable, Runner
from models.tensor_signature import signature_of_json
from serving.domain.revisions import File, Target
from serving.runner import frames, runtimes
from serving.runner.confining import confine
from serving.runner.warming import warm

NOWHERE = "/"


class Loaded:
    """What the child knows."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._models: dict[str, Runner] = {}
        self._turn = threading.Lock()

    def serve(self) -> None:
        """Until the parent closes its end. Loading goes on beside answering."""
        with ThreadPoolExecutor(1) as answering, ThreadPoolExecutor(1) as loading:
            while (message := _receive(self._channel)) is not None:
                header, body = message
                pool = loading if header["op"] == "load" else answering
                pool.submit(self._do, header, body).add_done_callback(_must_not_fail)

    def _do(self, header: dict[str, Any], body: bytes) -> None:
        self._say({"begun": True}, header["id"])
        try:
            said, parts = getattr(self, f"_{header['op']}")(header, body)
        except MemoryError:
            said, parts = {"ok": False, "kind": "memory", "detail": "The model needs more memory than it may have."}, []
        except errors.Invalid as error:
            said = {"ok": False, "kind": "invalid", "detail": error.detail, "places": error.errors}
            parts = []
        except errors.Error as error:
            said, parts = {"ok": False, "kind": "corrupt", "detail": error.detail}, []
        except Exception as error:  # noqa: BLE001 - an estimator may raise anything; whoever asked must hear of it
            said, parts = {"ok": False, "kind": "failed", "detail": f"{type(error).__name__}: {error}"[:300]}, []
        self._say({"ok": True, **said}, header["id"], parts)

    def _say(self, said: dict[str, Any], number: int, parts: Sequence[bytes] = ()) -> None:
        with self._turn:
            self._channel.sendall(frames.pack({**said, "id": number}, parts))

    def _load(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], list[bytes]]:
        content = _mapped(Path(header["path"]))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != header["digest"]:
            raise ModelUnloadable(f"The bytes are not those of {header['digest']}.")
        signature = signature_of_json(header["signature"])
        model = runtimes.load(header["format"], runtimes.Loading(content, signature, header["architecture"]))
        target = Target(
            model="",
            version=0,
            digest="",
            weight=0,
            file=File(header["format"], "", header["digest"], len(content)),
            signature=header["signature"],
            example=header["example"],
        )
        seconds = warm(model, target)
        self._models[header["model"]] = model
        return {"seconds": seconds}, []

    def _unload(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], list[bytes]]:
        self._models.pop(header["model"], None)
        return {}, []

    def _predict(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], list[bytes]]:
        model = self._models.get(header["model"])
        if model is None:
            return {"ok": False, "kind": "absent", "detail": "The model is not loaded."}, []
        return frames.answer_of(model.predict(frames.arrays_of(header["columns"], body)))


def _mapped(path: Path) -> mmap:
    with path.open("rb") as file:
        try:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
        except ValueError:  # nothing can be mapped of a file that has no bytes
            raise ModelUnloadable("The file is empty.") from None


def _receive(channel: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    head = _exactly(channel, frames.HEAD.size)
    if head is None:
        return None
    header, body = frames.sizes(head)
    whole = _exactly(channel, header + body)
    return None if whole is None else (orjson.loads(whole[:header]), whole[header:])


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _must_not_fail(done: "Future[None]") -> None:
    if done.exception() is not None:
        os.kill(os.getpid(), signal.SIGKILL)  # the channel is broken: nobody hears us


def main(argv: list[str]) -> int:
    descriptor, memory = int(argv[0]), int(argv[1])
    confine(memory, Path(argv[2]) if len(argv) > 2 else None)
    # Nothing can be written, and torch wants a folder to write to all the same: one that is there already.
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = NOWHERE
    os.environ["JOBLIB_MULTIPROCESSING"] = "0"  # it would look for semaphores, and warn that there are none
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to end
    with socket.socket(fileno=descriptor) as channel:
        Loaded(channel).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
