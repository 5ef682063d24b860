"""Remove from installed packages what none of our programs loads: `python3 trim.py SITE-PACKAGES`.

Parts of pyarrow that talk to other systems, its headers and its tests are half of its size. Where `strip` is there,
large libraries lose the symbols that only a debugger reads.
"""

import shutil
import subprocess
import sys
from pathlib import Path

PYARROW = "tests include src libarrow_python*.so libarrow_python*.so.*.*.* *flight* _substrait* _s3fs* libarrow_s3*"
SOURCES = "*.pyx *.pxd *.pxi"
UNUSED = (
    *(f"pyarrow/{it}" for it in f"{PYARROW} {SOURCES}".split()),
    *("numpy/**/tests", "numpy/_core/include", "scipy/**/tests", "sklearn/**/tests"),
    *("onnxruntime/transformers", "onnxruntime/tools", "onnxruntime/quantization", "onnx/backend/test"),
    *("sqlalchemy/testing", *(f"sqlalchemy/dialects/{it}" for it in ("mysql", "oracle", "mssql", "sqlite"))),
)
# Only those that were linked where they lie: what a wheel's repair has moved does not survive it.
WITH_SYMBOLS = (
    "uvloop/*.so",
    "obstore/*.so",
    "cryptography/hazmat/bindings/*.so",
    "pyarrow/*.so",
    "pyarrow/*.so.[0-9]*",
)


def main(folder: Path) -> None:
    for pattern in UNUSED:
        for it in sorted(folder.glob(pattern)):
            if it.is_dir() and not it.is_symlink():
                shutil.rmtree(it)
            elif it.suffix != ".py" and (it.exists() or it.is_symlink()):
                it.unlink()
    if strip := shutil.which("strip"):
        found = [it for pattern in WITH_SYMBOLS for it in sorted(folder.glob(pattern)) if not it.is_symlink()]
        subprocess.run([strip, "--strip-unneeded", *found], check=True)  # noqa: S603 - of files that pip put there


if __name__ == "__main__":
    main(Path(sys.argv[1]))
