"""What is done next about a job, whatever was seen: every case is a sentence."""

from datetime import timedelta
from typing import Any

import pytest
from makers import NOW, attempt_of, job_of, spec_of

from trainer.domain.jobs import Phase, Pinned, Reason, Why
from trainer.domain.leased import AttemptPhase, backoff
from trainer.domain.steps import (
    GRACE,
    LOOK,
    SWEEP,
    Commit,
    Lose,
    Pin,
    Queue,
    Register,
    Remove,
    Settle,
    Sight,
    Step,
    Stop,
    Suspect,
    Wait,
    Withdraw,
    next_step,
)

SECOND = timedelta(seconds=1)
PINNED = {"pinned": Pinned("flights@3", "sha256:" + "d" * 64)}
RUNNING = {"phase": Phase.RUNNING, "started_at": NOW - SECOND, **PINNED}
LATE: dict[str, Any] = RUNNING | {"started_at": NOW - timedelta(minutes=10)}
ALIVE = {"running": True}
SILENT = {"running": True, "lease_until": NOW}
CRASH = Why(Reason.CRASHED, "The job's process was ended by signal 9.", "Look at the log.")
CRASHED = {"phase": AttemptPhase.FAILED, "why": CRASH, "finished_at": NOW - timedelta(minutes=5)}
ENDED = {"phase": AttemptPhase.SUCCEEDED}

CASES = {
    "a new job first learns which dataset version it means": ({}, None, 0, Pin()),
    "a job whose dataset version is known is queued": (PINNED, None, 0, Queue(1)),
    "a queued attempt is waited for": (PINNED, {}, 0, Wait(LOOK)),
    "a running attempt is waited for": (RUNNING, ALIVE, 0, Wait(LOOK)),
    "a queued attempt of a cancelled job is taken back": (PINNED | {"cancel_requested": True}, {}, 0, Withdraw()),
    "a running attempt of a cancelled job is stopped": (RUNNING | {"cancel_requested": True}, ALIVE, 0, Stop()),
    "an attempt that was told to stop is waited for": (
        RUNNING | {"cancel_requested": True},
        ALIVE | {"stop_requested": True},
        0,
        Wait(LOOK),
    ),
    "a cancelled job ends when nothing runs": (
        {"cancel_requested": True},
        None,
        0,
        Settle(Phase.CANCELLED, Why(Reason.CANCELLED, "The job was cancelled.")),
    ),
    "a job that was cancelled while it ended well is cancelled": (
        RUNNING | {"cancel_requested": True},
        ENDED,
        0,
        Settle(Phase.CANCELLED, Why(Reason.CANCELLED, "The job was cancelled.")),
    ),
    "a runner that is silent is suspected": (RUNNING, SILENT, 0, Suspect()),
    "a suspect gets time to answer": (RUNNING, SILENT | {"suspected_at": NOW - SECOND}, 0, Wait(GRACE - SECOND)),
    "a runner that stays silent has lost its attempt": (RUNNING, SILENT | {"suspected_at": NOW - GRACE}, 0, Lose()),
    "a silent runner of a cancelled job is given up too": (
        RUNNING | {"cancel_requested": True},
        SILENT | {"suspected_at": NOW - GRACE},
        0,
        Lose(),
    ),
    "a result is registered, and from then on nothing else": (RUNNING, ENDED, 0, Commit()),
    "a job past the point of no return registers": (RUNNING | {"registering": True}, ENDED, 0, Register()),
    "a job past the point of no return has no deadline": (LATE | {"registering": True}, ENDED, 0, Register()),
    "a result in time counts even if it is seen late": (LATE, ENDED, 0, Commit()),
    "a result that nobody wants registered is a success": (
        RUNNING | {"spec": spec_of(model=None)},
        ENDED,
        0,
        Settle(Phase.SUCCEEDED),
    ),
    "a running attempt is stopped at the deadline": (LATE, ALIVE, 0, Stop()),
    "an attempt that was given back is tried again at once": (RUNNING, {"phase": AttemptPhase.STOPPED}, 0, Queue(2)),
    "a crash is tried again after a while": (RUNNING, CRASHED, 1, Queue(2)),
    "a fresh crash is not tried again yet": (
        RUNNING,
        CRASHED | {"finished_at": NOW - SECOND},
        1,
        Wait(SECOND, Why(Reason.RETRYING, f"Attempt 1: {CRASH.message}", CRASH.hint)),
    ),
    "a second crash is waited for longer": (
        RUNNING,
        CRASHED | {"number": 2, "finished_at": NOW},
        2,
        Wait(4 * SECOND, Why(Reason.RETRYING, f"Attempt 2: {CRASH.message}", CRASH.hint)),
    ),
    "a job that crashed too often has failed, and says why": (
        RUNNING,
        CRASHED | {"number": 3},
        3,
        Settle(
            Phase.FAILED,
            Why(Reason.CRASHED, "The job's process was ended by signal 9 (tried 3 times).", "Look at the log."),
        ),
    ),
    "a job without retries fails with its first crash": (
        RUNNING | {"spec": spec_of(retries=0)},
        CRASHED,
        1,
        Settle(Phase.FAILED, CRASH),
    ),
    "a mistake of its author is not tried again": (
        RUNNING,
        CRASHED | {"why": Why(Reason.USER_ERROR, "There is no column x.", "There are a, b.")},
        1,
        Settle(Phase.FAILED, Why(Reason.USER_ERROR, "There is no column x.", "There are a, b.")),
    ),
    "a finished job is left alone": ({"phase": Phase.SUCCEEDED, "cancel_requested": True}, None, 0, Wait(None)),
    "a deleted job lets go of what it holds": (
        {"phase": Phase.FAILED, "delete_requested": True},
        None,
        0,
        Remove(last=False),
    ),
    "a deleted job is kept while a stalled replica may act for it": (
        {"phase": Phase.FAILED, "delete_requested": True, "removed_at": NOW - SECOND},
        None,
        0,
        Wait(SWEEP - SECOND),
    ),
    "then what came late is let go of too": (
        {"phase": Phase.FAILED, "delete_requested": True, "removed_at": NOW - SWEEP},
        None,
        0,
        Remove(last=True),
    ),
}


Given = dict[str, Any]


@pytest.mark.parametrize(("job", "attempt", "failures", "want"), CASES.values(), ids=CASES.keys())
def test_next_step(job: Given, attempt: Given | None, failures: int, want: Step) -> None:
    seen = Sight(job_of(**job), None if attempt is None else attempt_of(**attempt), failures, NOW)
    assert next_step(seen) == want


@pytest.mark.parametrize("attempt", [None, CRASHED, {"phase": AttemptPhase.STOPPED}])
def test_a_job_past_its_deadline_fails_and_is_not_tried_again(attempt: Given | None) -> None:
    step = next_step(Sight(job_of(**LATE), None if attempt is None else attempt_of(**attempt), 1, NOW))
    assert isinstance(step, Settle)
    assert (step.phase, step.why.reason) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)
    assert "600 s" in step.why.message


def test_waits_between_attempts_double_up_to_a_minute() -> None:
    assert [backoff(failures).total_seconds() for failures in (1, 2, 3, 5, 6, 50)] == [2, 4, 8, 32, 60, 60]
