"""A job tells what it does, loses nothing to a trainer that is away for a while, and stops when it is told to."""

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from attempts_at_work import HIST, Attempt, flights, prepare, result_of, start

from trainer.domain.attempts import JOB_FILE, RESULT_FILE, AttemptJob, Exit, Outcome
from trainer.runtime import program, reporting
from trainer.runtime.mistakes import UserMistake
from trainer.runtime.reporting import Reporter

LONG = {"class": HIST, "parameters": {"max_iter": 10_000, "early_stopping": False}}
BEAT = timedelta(milliseconds=20)


@pytest.fixture
def fitting(tmp_path: Path, attempt: Attempt) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the middle of a long fit."""
    prepare(tmp_path, attempt.url, train=flights(3000), held_out=flights(300, 1), estimator=LONG)
    process = start(tmp_path)
    assert attempt.hears("fitting")
    yield process
    process.kill()
    process.communicate()


def test_sigterm_stops_a_fit_cleanly_and_hands_nothing_over(
    fitting: "subprocess.Popen[bytes]", tmp_path: Path, attempt: Attempt
) -> None:
    fitting.send_signal(signal.SIGTERM)
    assert fitting.wait(20) == Exit.STOPPED
    result = result_of(tmp_path)
    assert (result.outcome, result.model) == (Outcome.STOPPED, None)
    assert attempt.lines[-1] == "stopped"
    assert not (tmp_path / f"{RESULT_FILE}.part").exists()


class Meddling(Reporter):
    """As compiled code may be: a signal in the middle of it comes out as another error."""

    def start(self) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except program.Stopped:
            raise UserMistake("The estimator cannot be fitted: no buffer", "") from None


class Swallowing(Reporter):
    """As a destructor does: what is raised in it is printed, and all goes on."""

    def start(self) -> None:
        with contextlib.suppress(program.Stopped):
            signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(30)


@pytest.mark.parametrize("library", [Meddling, Swallowing])
def test_a_stop_is_a_stop_whatever_a_library_makes_of_it(tmp_path: Path, library: type[Reporter]) -> None:
    prepare(tmp_path, "http://attempt", train=flights(30), held_out=flights(30, 1))
    job = AttemptJob.from_json(json.loads((tmp_path / JOB_FILE).read_text()))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        result = program._attempt(job, tmp_path, library(Told().client(), beat=BEAT, over=lambda: None))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert result.outcome is Outcome.STOPPED
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_sigterm_that_comes_while_the_program_starts_is_not_lost(tmp_path: Path, attempt: Attempt) -> None:
    prepare(tmp_path, attempt.url, train=flights(3000), held_out=flights(300, 1), estimator=LONG)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the child inherits it: no moment is too early
    try:
        process = start(tmp_path)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == Exit.STOPPED, errors
    assert result_of(tmp_path).outcome is Outcome.STOPPED


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("heartbeat", (200, b'{"stop": true}')), ("heartbeat", (401, b"{}")), ("logs", (409, b"{}"))],
)
def test_an_attempt_that_is_over_stops(
    fitting: "subprocess.Popen[bytes]", tmp_path: Path, attempt: Attempt, kind: str, answer: tuple[int, bytes]
) -> None:
    attempt.answers[kind] = answer
    if kind == "logs":
        attempt.answers["heartbeat"] = (410, b"")
    assert fitting.wait(30) == Exit.STOPPED
    assert result_of(tmp_path).outcome is Outcome.STOPPED


def test_a_job_is_not_stopped_by_a_trainer_that_is_away(tmp_path: Path) -> None:
    closed = Attempt()
    closed.close()
    prepare(tmp_path, closed.url, train=flights(300), held_out=flights(300, 1))
    process = start(tmp_path)
    assert process.wait(60) == Exit.SUCCEEDED
    process.communicate()
    assert result_of(tmp_path).outcome is Outcome.SUCCEEDED


class Told:
    """A transport that fails as often as it is told to, and keeps the bodies of what it let through."""

    def __init__(self, failures: int = 0, status: int = 200, content: bytes = b"{}") -> None:
        self.failures, self.status, self.content = failures, status, content
        self.sent: list[tuple[str, bytes]] = []
        self.called = threading.Condition()

    def client(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self._answer), base_url="http://attempt")

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.failures:
            self.failures -= 1
            raise httpx2.ConnectError("away")
        with self.called:
            self.sent.append((request.url.path, request.content))
            self.called.notify_all()
        return httpx2.Response(self.status, content=self.content)


def reported(told: Told, *, beat: timedelta = BEAT, entries: int = 3) -> list[tuple[str, bytes]]:
    with told.client() as client:
        reporter = Reporter(client, beat=beat, over=lambda: None)
        reporter.start()
        for index in range(entries):
            reporter.log("info", f"line {index}")
            reporter.metric("loss", 1 / (index + 1), index)
        reporter.close()
    return told.sent


def test_what_could_not_be_sent_is_sent_again_under_its_number() -> None:
    sent = reported(Told(failures=2))
    (logs,) = [content for path, content in sent if path == "/logs"]
    assert logs.count(b'"number"') == 3
    (points,) = [content for path, content in sent if path == "/metrics"]
    assert b'"step":2' in points.replace(b" ", b"")


def test_many_lines_go_out_in_batches() -> None:
    sent = reported(Told(), entries=1200)
    assert sum(content.count(b'"number"') for path, content in sent if path == "/logs") == 1200
    assert all(content.count(b'"number"') <= reporting.MAX_BATCH for _, content in sent)


def test_the_oldest_lines_are_dropped_when_too_many_wait() -> None:
    reporter = Reporter(Told().client(), beat=BEAT, over=lambda: None)
    for index in range(reporting.MAX_WAITING + 5):
        reporter.log("info", str(index))
    assert len(reporter._waiting["logs"]) == reporting.MAX_WAITING
    assert reporter._waiting["logs"][0]["message"] == "5"


@pytest.mark.parametrize(
    ("status", "content", "told"),
    [(200, b'{"stop": true}', 1), (404, b"", 1), (200, b"[]", 0), (200, b"not json", 0), (503, b'{"stop": true}', 0)],
)
def test_only_a_clear_word_ends_an_attempt_and_it_is_passed_on_once(status: int, content: bytes, told: int) -> None:
    calls: list[int] = []
    transport = Told(status=status, content=content)
    with transport.client() as client:
        reporter = Reporter(client, beat=BEAT, over=lambda: calls.append(1))
        reporter.start()
        with transport.called:
            assert transport.called.wait_for(lambda: len(transport.sent) >= 3, timeout=5)
        reporter.close()
    assert len(calls) == told


def test_what_is_refused_is_let_go_and_the_rest_goes_out(capfd: pytest.CaptureFixture[str]) -> None:
    told = Told(status=422, content=b"bad line")
    sent = reported(told)
    assert len([path for path, _ in sent if path == "/logs"]) == 1
    assert "logs refused: bad line" in capfd.readouterr().err


def test_a_point_that_is_no_number_is_left_out() -> None:
    told = Told()
    with told.client() as client:
        reporter = Reporter(client, beat=BEAT, over=lambda: None)
        reporter.start()
        for step, value in enumerate([float("nan"), 0.5, float("inf")]):
            reporter.metric("loss", value, step)
        reporter.close()
    (points,) = [content for path, content in told.sent if path == "/metrics"]
    assert b'"step":1' in points.replace(b" ", b"")
    assert points.count(b'"number"') == 1


def test_what_cannot_be_said_at_all_is_let_go_and_the_rest_goes_out(capfd: pytest.CaptureFixture[str]) -> None:
    told = Told()
    with told.client() as client:
        reporter = Reporter(client, beat=BEAT, over=lambda: None)
        reporter._add("logs", {"level": "info", "message": float("nan")})
        reporter.metric("loss", 0.5)
        reporter.start()
        reporter.close()
    assert "/metrics" in [path for path, _ in told.sent]
    assert "logs cannot be sent" in capfd.readouterr().err


def test_a_batch_is_smaller_than_what_the_trainer_takes() -> None:
    entries = [{"message": "x" * reporting.MAX_MESSAGE}] * 100
    taken = reporting._batch_of(entries)
    assert 1 < len(taken) < 100
    assert sum(len(entry["message"]) for entry in taken) <= reporting.MAX_BYTES
    assert reporting._batch_of([{"message": "x" * 2 * reporting.MAX_BYTES}] * 2) == [
        entries[0] | {"message": "x" * 2**20}
    ]


def test_a_line_holds_nothing_that_json_cannot_say() -> None:
    reporter = Reporter(Told().client(), beat=BEAT, over=lambda: None)
    reporter.log("info", "a\0b\udcffc")
    assert reporter._waiting["logs"][0]["message"] == "a\N{REPLACEMENT CHARACTER}b?c"
