"""What is noticed of each request, beside its answer: counts and times always; of some the attributes of a span, a row
of the request log, or a line that says where the time of a slow one went."""

import logging
import math
import time
from types import TracebackType
from typing import Any, Self

from starlette.types import Scope

from kit import bodies, errors, problems, tracing
from models.signature import Arrays, Prediction
from serving.domain.allowances import Allowance
from serving.domain.request_rows import Kept, Logged
from serving.replica.request_log import RequestLog
from serving.replica.table import Answering, Live
from serving.replica.tallies import Spent

log = logging.getLogger(__name__)
LINES, LINE_SECONDS = 20, 5.0
"""Lines about slow requests at once, and seconds until one more: some megabytes a day, however slow all of them are."""


class Watching:
    """One request, from its body to its answer: `with` it, what becomes of it is counted, and told where due."""

    __slots__ = ("arrays", "began", "count", "live", "one", "predicted_at", "prediction", "scope", "spent")

    def __init__(self, scope: Scope, live: Live, one: Answering, began: float) -> None:
        self.scope = scope
        self.live = live
        self.one = one
        self.began = began
        self.spent = Spent()
        self.count = 0
        self.arrays: Arrays | None = None
        self.prediction: Prediction | None = None
        self.predicted_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ended(error, tracing.traceparent.get())

    def admitted(self, seconds: float) -> None:
        """It waited so long to be read."""
        self.spent.queue = seconds

    def asks(self, arrays: Arrays) -> int:
        """This is what it asks. Says the rows."""
        self.arrays = arrays
        self.count = self.one.resident.signature.rows_in(arrays)
        self.spent.read = time.perf_counter() - self.began - self.spent.queue
        return self.count

    def refused(self) -> None:
        """The model did not answer, or too many waited for it."""
        self.one.tally.refused(time.perf_counter() - self.began)

    def answers(self, prediction: Prediction) -> None:
        """The model says this."""
        self.prediction = prediction
        self.predicted_at = time.perf_counter()

    def ended(self, error: BaseException | None, context: str | None) -> None:
        """It is answered, or never will be. `context` is the traceparent of its span."""
        ended = time.perf_counter()
        seconds = ended - self.began
        if error is None:
            self.spent.write = ended - self.predicted_at
            self.one.tally.answered(self.count, seconds, self.spent)
        watch: Watch = self.scope["state"]["parts"].watch
        if watch.wants(seconds):
            try:
                watch.hears(self, seconds, error, context)
            except Exception:  # whatever is wrong with what is told of an answer, it is given
                log.exception("a request was not told of")


class Watch:
    """What a process notices."""

    def __init__(self, request_log: RequestLog | None = None, *, slow: float = math.inf) -> None:
        """`slow` is the seconds above which a request is worth a line."""
        self._log = request_log
        self._slow = slow
        self._lines = Allowance(LINES, LINE_SECONDS)

    def wants(self, seconds: float) -> bool:
        """Whether more than counts is to be told of a request that took so long."""
        return seconds > self._slow or self._log is not None or tracing.is_on()

    def hears(self, request: Watching, seconds: float, error: BaseException | None, context: str | None) -> None:
        """What became of a request, whose trace context this is."""
        if error is not None and not isinstance(error, Exception):
            return  # the process ends
        identity = request.scope["state"]["request_id"]
        said = _said(request, seconds, error)
        if tracing.is_on() and context is not None and tracing.is_sampled(context):
            request.scope["state"]["span"] = {f"trainyard.{name}": value for name, value in said.items() if value != ""}
        said |= {"request_id": identity, "trace_id": (context or "")[3:35]}
        if seconds > self._slow and self._lines.take(time.monotonic()):
            log.warning("slow request", extra=said | {"withheld": self._lines.told()})
        if self._log is not None and self._log.takes(identity):
            kept = None
            if request.arrays is not None:
                asked = request.one.resident.signature, request.arrays, request.count, request.prediction
                kept = Kept.of(*asked, self._log.bounds.request)
            self._log.put(Logged(time.time(), said, kept))


def _said(request: Watching, seconds: float, error: BaseException | None) -> dict[str, Any]:
    live, target, spent = request.live, request.one.target, request.spent
    return {
        "project": live.desired.project,
        "deployment": live.desired.name,
        "revision": live.desired.revision,
        "model": target.model,
        "version": target.version,
        "status": _status(error),
        "code": problems.code_of(type(error)) if isinstance(error, errors.Error) else "",
        "rows": request.count,
        "batch_rows": spent.batch,
        "read_seconds": round(spent.read, 6),
        "queue_seconds": round(spent.queue, 6),
        "compute_seconds": round(spent.compute, 6),
        "write_seconds": round(spent.write, 6),
        "seconds": round(seconds, 6),
    }


def _status(error: BaseException | None) -> int:
    """Of the answer; 0: there was nobody to have one."""
    if error is None:
        return 200
    return 0 if isinstance(error, bodies.ClientGone) else problems.status_of(type(error))
