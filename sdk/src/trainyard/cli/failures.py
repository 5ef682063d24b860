"""What a command says when it fails, and with which code it ends.

0 done · 1 failed · 2 usage · 3 not found · 4 conflict · 5 unauthorised or forbidden · 130 interrupted
"""

from trainyard.errors import (
    Conflict,
    Forbidden,
    NotConfigured,
    NotFound,
    ProblemError,
    TooMany,
    TrainyardError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

CODES: dict[type[TrainyardError], int] = {NotFound: 3, Conflict: 4, Unauthenticated: 5, Forbidden: 5, NotConfigured: 5}
NEXT: dict[type[TrainyardError], str] = {
    Unauthenticated: "Check TRAINYARD_API_KEY; `trainyard key create` (as an admin) makes a new key.",
    Forbidden: "`trainyard whoami` shows this key's role and scopes; an admin can make one with more.",
    Unreachable: "`trainyard status` shows what runs on this machine, `trainyard up` starts it.",
    Unavailable: "Try again in a moment; `trainyard status` shows which service is away.",
    TooMany: "Wait a moment before the next try.",
    NotFound: "`trainyard whoami` shows the project that this key looks into.",
}


class Failed(TrainyardError):
    """The thing that was started or waited for did not succeed."""


def exit_code_of(error: TrainyardError) -> int:
    """The code that a script can tell apart."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), 1)


def words_of(error: TrainyardError) -> str:
    """What happened, what to do next, and what to name when asking for help."""
    lines = [f"Error: {error}"]
    hint = next((NEXT[kind] for kind in type(error).__mro__ if kind in NEXT), None)
    if hint:
        lines.append(f"  → {hint}")
    if isinstance(error, ProblemError) and error.request_id:
        lines.append(f"  request {error.request_id}" + (f", problem {error.code}" if error.code else ""))
    return "\n".join(lines) + "\n"
