"""A keeper writes down how its program ended, is known to be alive by its claim, and never runs a folder twice."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from attempts_at_work import Attempt, flights, prepare, result_of, start
from trainers_at_work import until

from trainer.domain.attempts import Exit, Outcome
from trainer.runtime import keeper

LONG = {"class": "sklearn.ensemble.RandomForestClassifier", "parameters": {"n_estimators": 10_000}}
SOON = timedelta(seconds=20)


@pytest.fixture
def fitting(tmp_path: Path, attempt: Attempt) -> Iterator["subprocess.Popen[bytes]"]:
    prepare(tmp_path, attempt.url, train=flights(3000), held_out=flights(300, 1), estimator=LONG)
    process = start(tmp_path)
    assert attempt.hears("fitting")
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def signals() -> Iterator[None]:
    """As they were: a keeper has the signals of its process to itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    while signal.sigpending() & keeper.HEARD:
        signal.sigwait(keeper.HEARD)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def program_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    [program] = psutil.Process(process.pid).children()
    return program


def gone(program: psutil.Process) -> bool:
    return not program.is_running() or program.status() == psutil.STATUS_ZOMBIE


def test_a_program_that_ends_leaves_its_code(tmp_path: Path, attempt: Attempt) -> None:
    prepare(tmp_path, attempt.url, train=flights(200), held_out=flights(50, 1), target="nothing")
    process = start(tmp_path)
    assert process.wait(60) == Exit.USER_ERROR
    process.communicate()
    assert keeper.exit_code_of(tmp_path) == Exit.USER_ERROR
    assert keeper.pid_of(tmp_path) == process.pid
    assert not keeper.is_claimed(tmp_path)


def test_a_program_that_is_killed_leaves_the_signal(fitting: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    assert keeper.is_claimed(tmp_path)
    assert keeper.exit_code_of(tmp_path) is None
    program_of(fitting).kill()
    assert fitting.wait(20) == -signal.SIGKILL
    assert keeper.exit_code_of(tmp_path) == -signal.SIGKILL


def test_sigterm_is_passed_on(fitting: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    fitting.send_signal(signal.SIGTERM)
    assert fitting.wait(20) == Exit.STOPPED
    assert result_of(tmp_path).outcome is Outcome.STOPPED
    assert keeper.exit_code_of(tmp_path) == Exit.STOPPED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_program_does_not_outlive_its_keeper(fitting: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    program = program_of(fitting)
    fitting.kill()
    until(lambda: gone(program), SOON)
    assert not keeper.is_claimed(tmp_path)
    assert keeper.exit_code_of(tmp_path) is None


def test_a_folder_is_never_worked_in_twice(fitting: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    for _ in range(2):
        second = start(tmp_path)
        assert second.wait(20) == keeper.TAKEN
        second.communicate()
        fitting.kill()  # the second time, nobody is there any more: what he did may be half done
        until(lambda: not keeper.is_claimed(tmp_path), SOON)
    assert keeper.pid_of(tmp_path) == fitting.pid


def test_a_look_at_the_claim_keeps_nobody_from_taking_it(signals: None, tmp_path: Path, attempt: Attempt) -> None:
    prepare(tmp_path, attempt.url, train=flights(200), held_out=flights(50, 1), target="nothing")
    probe = os.open(tmp_path / keeper.CLAIM_FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(probe, fcntl.LOCK_SH)
    later = threading.Timer(0.2, os.close, [probe])
    later.start()
    assert keeper.keep(tmp_path, None) == Exit.USER_ERROR
    later.join()


def test_a_program_without_a_runner_is_told_to_stop_after_a_while(tmp_path: Path, attempt: Attempt) -> None:
    prepare(tmp_path, attempt.url, train=flights(3000), held_out=flights(300, 1), estimator=LONG)
    lock = tmp_path / "runner.lock"
    held = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    script = "import sys; from pathlib import Path; from trainer.runtime import keeper; folder = Path(sys.argv[1]); "
    script += "sys.exit(keeper.keep(folder, folder / 'runner.lock', orphan=2.5))"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], start_new_session=True)
    assert attempt.hears("fitting")
    assert process.poll() is None
    os.close(held)  # the runner is gone
    assert process.wait(30) == Exit.STOPPED
    assert keeper.exit_code_of(tmp_path) == Exit.STOPPED


def test_a_keeper_in_this_process_waits_for_its_program(signals: None, tmp_path: Path, attempt: Attempt) -> None:
    prepare(tmp_path, attempt.url, train=flights(3000), held_out=flights(300, 1), estimator=LONG)
    # Nobody holds the runner's lock, so that the program is told to stop as soon as that is noticed.
    assert keeper.keep(tmp_path, tmp_path / "runner.lock", orphan=0) in (Exit.STOPPED, -signal.SIGKILL)
    assert keeper.exit_code_of(tmp_path) is not None
    assert keeper.keep(tmp_path, None) == keeper.TAKEN
    with pytest.raises(SystemExit, match="75"):
        keeper.end_as(keeper.TAKEN)


def test_what_nobody_wrote_is_nothing(tmp_path: Path) -> None:
    assert not keeper.is_claimed(tmp_path)
    assert keeper.pid_of(tmp_path) is None
    (tmp_path / keeper.EXIT_FILE).write_text("")
    assert keeper.exit_code_of(tmp_path) is None
