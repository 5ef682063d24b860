"""Known by their first bytes: files that run code when they are loaded, and what such files are packed in."""

import pickletools
import re

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "compressed (gzip), as joblib writes it",
    b"BZh": "compressed (bzip2), as joblib writes it",
    b"\xfd7zXZ\x00": "compressed (xz), as joblib writes it",
    b"]\x00\x00": "compressed (lzma), as joblib writes it",
    b"\x04\x22\x4d\x18": "compressed (lz4), as joblib writes it",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"ZF0x": "compressed, as old versions of joblib write it",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# Protocols 0 and 1 have no header: how a tuple, a list, a dictionary or an object begins in them. What they name only
# makes a better hint: what is of no format is refused anyway.
_OLD = re.compile(rb"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\((?:[dlt]p?\d*\n?|[icKXUI])|[\]})]q.", re.DOTALL)
_ENOUGH = 4
"""Opcodes that no other file begins with by chance."""


def unsafe_kind(head: bytes) -> str | None:
    """What kind of a file it is that must not be loaded, if it is one."""
    if _PICKLE.match(head):
        return "a pickle"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if _ZLIB.match(head):
        return "compressed (zlib), as joblib writes it"
    if _OLD.match(head) and _reads_as_pickle(head):
        return "a pickle"
    return None


def _reads_as_pickle(head: bytes) -> bool:
    """Whether its beginning is that of an old pickle. It is split into opcodes, and none of them is acted on."""
    found = 0
    try:
        for _ in pickletools.genops(head):
            found += 1
            if found > _ENOUGH:
                return True
    except (ValueError, UnicodeError, OverflowError):
        return False  # it is cut off too early to be known, or goes on as none
    return True  # to its end
