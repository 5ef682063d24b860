"""The program itself: one attempt, from `job.json` to `result.json` and an exit code."""

import json
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx2

from kit.tracing import unsampled
from trainer.domain.attempts import EXIT_OF, JOB_FILE, STAGES_FILE, AttemptJob, AttemptResult, Exit, Outcome
from trainer.runtime import outputs, training
from trainer.runtime.mistakes import UserMistake
from trainer.runtime.reporting import ReportedLogs, Reporter

TIMEOUT = 5.0  # seconds that a call to the attempt's URL may take
AGAIN = 1.0  # seconds after which a stop is said again that nothing has come of

log = logging.getLogger("trainer.runtime")


class Stopped(BaseException):
    """SIGTERM, or the attempt is over. Not an Exception: no library's handler may take it for a failure of its own."""


def main(folder: Path) -> Exit:
    """Run the attempt in this folder."""
    job = AttemptJob.from_json(json.loads((folder / JOB_FILE).read_text()))
    said = {"Authorization": f"Bearer {job.token}"}
    if (trace := os.environ.get("TRACEPARENT")) is not None:
        said["traceparent"] = unsampled(trace)  # a report every few seconds would be all that a trace shows
    with httpx2.Client(base_url=job.url, headers=said, timeout=TIMEOUT, trust_env=False) as client:
        # The news that the attempt is over comes on another thread; the signal brings it to this one.
        reporter = Reporter(
            client,
            beat=timedelta(seconds=job.heartbeat_seconds),
            over=lambda: os.kill(os.getpid(), signal.SIGTERM),
            trail=folder / STAGES_FILE,
        )
        handler = ReportedLogs(reporter)
        _log_to(logging.StreamHandler(), handler)
        result = _attempt(job, folder, reporter)
        outputs.write_result(folder, result)
        reporter.close()
        logging.getLogger().removeHandler(handler)
    return EXIT_OF[result.outcome]


def _attempt(job: AttemptJob, folder: Path, reporter: Reporter) -> AttemptResult:
    try:
        signal.signal(signal.SIGTERM, _stop)
        reporter.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # held back while the program was starting
        return training.run(job, folder, reporter)
    except Stopped:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return _stopped()
    except Exception as error:  # noqa: BLE001 - whatever it is, the attempt has a result
        # Compiled code can make another error of a signal in the middle of it: that is no mistake of anybody's.
        return _stopped() if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else _failed(error)
    finally:
        # From here on the attempt has its result: a late signal must not cut it in two.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _stopped() -> AttemptResult:
    log.warning("stopped")
    return AttemptResult(outcome=Outcome.STOPPED, message="The attempt was stopped.")


def _failed(error: Exception) -> AttemptResult:
    if isinstance(error, UserMistake):
        log.error("%s %s", error.message, error.hint)  # it is the author's to read, not a trace
        return AttemptResult(outcome=Outcome.USER_ERROR, message=error.message, hint=error.hint)
    log.error("the job failed", exc_info=error)
    return AttemptResult(outcome=Outcome.PLATFORM_ERROR, message=f"{type(error).__name__}: {error}")


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told once is enough; what unwinds now must not be cut off
    # Unless it came out where nothing can be raised, as in a destructor, and was only printed.
    signal.signal(signal.SIGALRM, _stop_again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise Stopped


def _stop_again(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped


def _log_to(*handlers: logging.Handler) -> None:
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each report would be reported itself
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
