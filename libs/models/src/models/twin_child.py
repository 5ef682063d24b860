"""The child of `models.twin`: convert, write, load what was written, compare."""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

from models.conversions import onnx_of
from models.edges import edge_rows, far_rows
from models.onnx_models import OnnxModel
from models.signature import Signature
from models.skops_models import SkopsModel
from models.twin import MAX_MEMORY, MAX_REASON, ONNX, ROWS, SIGNATURE, SKOPS, VERDICT, read_rows
from models.verdicts import Verdict, compare

_PR_SET_PDEATHSIG = 1


def judge(folder: Path) -> Verdict:
    """The verdict over the model in this folder; its twin is written beside it."""
    signature = Signature.from_json(json.loads((folder / SIGNATURE).read_text()))
    original = SkopsModel((folder / SKOPS).read_bytes(), signature)
    try:
        content = onnx_of(original.pipeline, signature)
        twin = OnnxModel(content, signature)
    except Exception as error:  # noqa: BLE001  # a converter may raise anything; whatever it is, there is no twin
        return Verdict(kept=False, reason=f"The model cannot become ONNX: {type(error).__name__}: {error}"[:MAX_REASON])
    (folder / ONNX).write_bytes(content)
    rows = read_rows(folder / ROWS)
    beside, far = edge_rows(original.pipeline, signature, rows), far_rows(signature, rows)
    return compare(original, twin, rows, beside=beside, far=far)


def main(folder: Path, memory: int = MAX_MEMORY) -> None:
    """Judge, and leave the verdict in the folder. An allocation beyond `memory` fails."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    verdict = judge(folder)
    (folder / VERDICT).write_text(json.dumps(verdict.to_json()))


def die_with(parent: int) -> None:  # pragma: no cover - for a process of its own, which reports no coverage
    """End when `parent`, who asked for this, is gone: nobody wants it then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    main(Path(sys.argv[1]), int(sys.argv[3]))
