"""Remove from installed packages what none of our programs loads: `python3 trim.py SITE-PACKAGES`.

Parts of pyarrow that talk to other systems, its headers and its tests are half of its size.
"""

import shutil
import sys
from pathlib import Path

UNUSED = (
    *(
        "pyarrow/tests",
        "pyarrow/include",
        "pyarrow/src",
        "pyarrow/libarrow_python*.so",
        "pyarrow/libarrow_python*.so.*.*.*",
    ),
    *("pyarrow/*flight*", "pyarrow/_substrait*", "pyarrow/_s3fs*", "pyarrow/libarrow_s3*"),
    *(
        "pyarrow/*.pyx",
        "pyarrow/*.pxd",
        "pyarrow/*.pxi",
        "numpy/**/tests",
        "numpy/f2py",
        "numpy/_core/include",
        "scipy/**/tests",
        "sklearn/**/tests",
        "onnxruntime/transformers",
    ),
    *("onnxruntime/tools", "onnxruntime/quantization", "onnx/backend/test"),
)


def main(folder: Path) -> None:
    for pattern in UNUSED:
        for it in sorted(folder.glob(pattern)):
            if it.is_dir() and not it.is_symlink():
                shutil.rmtree(it)
            elif it.suffix != ".py" and (it.exists() or it.is_symlink()):
                it.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
