"""What a runner child gives up before it reads a byte of anybody's: the network, writing, and most of what can be read.

Each part is done where the kernel allows it, none needs a privilege, and none is asked back: docs/serving-formats.md
says what holds where. Linux alone has them; elsewhere only the limits of resources are left.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

FILES = 256
"""Descriptors that may be open."""
TASKS = 256
"""Threads and processes, where this process has its own count of them."""
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
NEW_USER, NEW_NET, NEW_IPC = 0x10000000, 0x40000000, 0x08000000
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
RIGHTS_OF = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many kinds of access to files a version of Landlock knows; later ones know 16."""
READABLE = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node"),
)


def confine(memory: int, models: Path | None) -> set[str]:
    """Give it up. `models` is the folder of models' files: they can be read by who knows their names, and not listed.

    Says what holds beside the limits of resources: `network` and `files`.
    """
    holds: set[str] = set()
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, FILES)]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _apart(libc):
            holds.add("network")
            limits.append((resource.RLIMIT_NPROC, TASKS))
        if models is not None and _only_reading(libc, models):
            holds.add("files")
        # After the above, which take them back: to end with the parent, also when it computes for ever; and to be
        # seen by it, which looks how much memory this takes.
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for which, most in [*limits, (resource.RLIMIT_DATA, memory)]:
        resource.setrlimit(which, (most, most))
    return holds


def _apart(libc: Any) -> bool:
    """Into a network of its own, in which there is nothing, as the user that it was."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(NEW_USER | NEW_NET | NEW_IPC) != 0:
        return False
    with suppress(OSError):  # then it has no name, and is the same user all the same
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _only_reading(libc: Any, models: Path) -> bool:
    """By Landlock: no file is written, made or removed, and none read but programs, libraries and models."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    every = (1 << RIGHTS_OF.get(version, 16)) - 1
    # Beside files: no TCP from the 4th version on, no abstract sockets and signals to others from the 6th.
    attributes = struct.pack("<QQQ", every, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for path in {*READABLE, sys.prefix, sys.base_prefix, *_packages()}:
            _allow(libc, rules, path, EXECUTE | READ_FILE | READ_DIR)
        _allow(libc, rules, str(models), READ_FILE)
        return bool(libc.syscall(RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _packages() -> Iterable[str]:
    return (path for path in sys.path if path and path != "/" and Path(path).is_absolute())


def _allow(libc: Any, rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this machine
    try:
        inside = access if Path(path).is_dir() else access & ~READ_DIR
        libc.syscall(ADD_RULE, rules, 1, struct.pack("<Qi", inside, place), 0)
    finally:
        os.close(place)
