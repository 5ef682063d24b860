"""A runner looks after its children: from a grant to the word of how it ended, whatever happens on the way."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from stat import S_IMODE

import psutil
import pytest
from attempts_at_work import Attempt
from neighbours import Neighbours, digest_of
from runners_at_work import PATIENCE, SLOW, Boss, Host, ended, grant_of, running

from kit import errors
from kit.testing import eventually
from trainer.domain.attempts import JOB_FILE, Exit
from trainer.domain.grants import Grant
from trainer.runner.host import Home, Record
from trainer.runtime import keeper

AWAY = errors.Unavailable("away")
OVER = errors.Conflict("over")
# A runner that was killed leaves its children; in this process, Python says so.
ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def works(host: Host, attempt: Attempt, grant: Grant) -> psutil.Process:
    """Once the program fits. Says its keeper."""
    await eventually(lambda: "fitting" in attempt.lines, PATIENCE)
    assert keeper.is_claimed(host.work(grant))
    return psutil.Process(keeper.pid_of(host.work(grant)))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_an_attempt_is_run_handed_over_and_nothing_is_left(
    host: Host, boss: Boss, neighbours: Neighbours
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]
    async with running(host):
        end = await ended(boss)
        await eventually(lambda: not host.home.folder_of(grant).exists())
    assert (end["exit_code"], end["failure"]) == (0, None)
    result = end["result"]
    assert isinstance(result, dict)
    files = result["model"]["files"]
    assert {file["path"] for file in files} == {"model.skops", "model.onnx"}
    assert all(digest_of(boss.outputs[file["digest"]]) == file["digest"] for file in files)
    assert boss.said[:2] == ["Read 600 rows of flights@3.", "Attempt 1 was started."]
    assert boss.beats > 0
    assert (2, set()) in boss.asked


async def test_what_comes_before_the_program_is_said_before_it_starts(
    host: Host, boss: Boss, neighbours: Neighbours
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]
    found: list[bool] = []
    boss.hears = lambda: found.append((host.work(grant) / keeper.CLAIM_FILE).exists())
    async with running(host, beat=30):
        await ended(boss)
    assert boss.said == ["Read 600 rows of flights@3.", "Attempt 1 was started."]
    assert found == [False]


async def test_a_child_gets_a_private_folder_and_nothing_of_our_secrets(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_DATABASE_URL", "postgresql://trainer:hush-hush@/trainer")
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
        [program] = process.children()
        for each in (process, program):
            environment = each.environ()
            assert not [name for name in environment if name.startswith("TRAINER_")]
            assert (environment["OMP_NUM_THREADS"], environment["PYTHONHASHSEED"]) == ("1", "0")
        assert os.getsid(process.pid) == process.pid
        work = host.work(grant)
        assert (S_IMODE(work.stat().st_mode), S_IMODE((work / JOB_FILE).stat().st_mode)) == (0o700, 0o600)
        assert S_IMODE((host.home.folder_of(grant) / "record.json").stat().st_mode) == 0o600
        told = json.loads((work / JOB_FILE).read_text())
        assert (told["token"], told["memory_bytes"]) == ("tya_secret", 4 << 30)
        boss.stop = True
        await ended(boss)


async def test_a_stop_is_passed_on_and_what_does_not_end_is_killed(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host, grace=0.2):
        process = await works(host, attempt, grant)
        [program] = process.children()
        program.suspend()  # it hears nothing
        boss.stop = True
        end = await ended(boss)
    assert gone(program)
    result = end["result"]
    assert isinstance(result, dict)
    assert result["outcome"] == "stopped"


async def test_an_attempt_that_is_somebody_else_s_is_killed_and_not_reported(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
        boss.raises["beat"] = OVER
        await eventually(lambda: not host.home.folder_of(grant).exists(), PATIENCE)
        assert gone(process)
    assert boss.ends == []


async def test_an_attempt_that_takes_too_much_memory_is_ended(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    boss.queue = [grant_of(neighbours)]
    async with running(host, memory=40 << 20):
        end = await ended(boss)
    failure = end["failure"]
    assert isinstance(failure, dict)
    assert (failure["reason"], end["result"]) == ("out-of-memory", None)
    assert "40 MiB" in failure["message"]


async def test_a_program_that_is_killed_is_reported_with_its_signal(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
        process.children()[0].kill()
        end = await ended(boss)
    assert (end["exit_code"], end["result"], end["failure"]) == (-signal.SIGKILL, None, None)
    assert any("fitting" in said for said in boss.said)  # what it printed last


async def test_a_dataset_that_is_gone_or_damaged_is_a_failure_and_one_that_is_away_is_waited_for(
    host: Host, boss: Boss, neighbours: Neighbours
) -> None:
    gone_one, damaged = grant_of(neighbours, dataset="nothing@1"), grant_of(neighbours)
    digest = neighbours.versions["flights@3"]["shards"][0]["digest"]
    neighbours.shards[digest] += b"more"
    boss.queue = [gone_one, damaged]
    neighbours.answers["GET", "/v1/datasets/nothing"] = (503, {"detail": "Not now."})
    async with running(host):
        await ended(boss)
        assert [end["attempt"] for end in boss.ends] == [damaged.attempt]
        del neighbours.answers["GET", "/v1/datasets/nothing"]
        await eventually(lambda: len(boss.ends) == 2, PATIENCE)
    assert [end["failure"]["reason"] for end in boss.ends] == ["inputs-unavailable"] * 2


async def test_an_attempt_that_is_stopped_before_it_began_ends(host: Host, boss: Boss, neighbours: Neighbours) -> None:
    boss.queue = [grant_of(neighbours)]
    boss.stop = True
    neighbours.answers["GET", "/v1/datasets"] = (503, {"detail": "Not now."})
    async with running(host):
        end = await ended(boss)
    result = end["result"]
    assert isinstance(result, dict)
    assert result["outcome"] == "stopped"


async def test_a_host_without_room_says_so(host: Host, boss: Boss, neighbours: Neighbours) -> None:
    grant = grant_of(neighbours)
    host.home.save(Record(grant))
    host.work(grant).symlink_to("/proc/nowhere")  # not even root makes a folder there
    async with running(host):
        end = await ended(boss)
    failure = end["failure"]
    assert isinstance(failure, dict)
    assert failure["reason"] == "platform-error"


async def test_a_trainer_that_is_away_hears_of_the_end_when_it_is_back(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]
    async with running(host):
        await eventually(lambda: boss.asked and not boss.queue)
        boss.raises = dict.fromkeys(("beat", "lines", "put_output", "finish", "lease"), AWAY)
        await eventually(lambda: keeper.exit_code_of(host.work(grant)) == Exit.SUCCEEDED, PATIENCE)
        assert boss.ends == []
        boss.raises = {}
        assert (await ended(boss))["exit_code"] == 0
    assert "Attempt 1 was started." in boss.said


async def test_what_the_trainer_does_not_take_is_a_failure_of_the_platform(
    host: Host, boss: Boss, neighbours: Neighbours
) -> None:
    boss.queue = [grant_of(neighbours)]
    boss.raises["put_output"] = errors.TooLarge("too large")
    async with running(host):
        end = await ended(boss)
    failure = end["failure"]
    assert isinstance(failure, dict)
    assert (failure["reason"], end["result"]) == ("platform-error", None)
    assert "too large" in failure["message"]


@ABANDONED
async def test_a_child_goes_on_without_its_runner_and_is_taken_over(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host, kills=True):
        process = await works(host, attempt, grant)
    assert process.is_running()
    async with running(host):
        await eventually(lambda: (1, {grant.attempt}) in boss.asked)  # it does not ask for it anew
        assert process.is_running()
        boss.stop = True
        end = await ended(boss)
    assert end["exit_code"] == Exit.STOPPED
    assert "The runner was started anew, and took the job over." in boss.said


@ABANDONED
async def test_a_child_that_ended_meanwhile_is_told_by_what_it_left(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]
    boss.raises["put_output"] = AWAY
    async with running(host, kills=True):
        await eventually(lambda: keeper.exit_code_of(host.work(grant)) == Exit.SUCCEEDED, PATIENCE)
    boss.raises = {}
    async with running(host):
        end = await ended(boss)
    assert end["exit_code"] == Exit.SUCCEEDED
    assert len(boss.outputs) == 2


async def test_a_runner_that_is_told_to_end_stops_its_children_and_says_so(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
    assert gone(process)
    assert boss.ends[0]["result"]["outcome"] == "stopped"


async def test_what_a_runner_had_no_time_to_say_the_next_one_says(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
        boss.raises = dict.fromkeys(("beat", "lines", "finish", "lease"), AWAY)
    assert gone(process)
    assert boss.ends == []
    boss.raises = {}
    async with running(host):
        end = await ended(boss)
    result = end["result"]
    assert isinstance(result, dict)
    assert result["outcome"] == "stopped"


async def test_an_attempt_that_is_given_anew_begins_anew(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        process = await works(host, attempt, grant)
        boss.queue = [replace(grant, fence=2)]
        await eventually(lambda: not boss.queue)
        boss.raises["beat"] = OVER  # of the older fence
        await eventually(lambda: gone(process), PATIENCE)
        del boss.raises["beat"]
        await eventually(lambda: attempt.lines.count("fitting") == 2, PATIENCE)
        boss.stop = True
        await ended(boss)
    assert len(boss.ends) == 1


async def test_a_disk_that_is_full_ends_no_runner(
    host: Host, boss: Boss, neighbours: Neighbours, caplog: pytest.LogCaptureFixture
) -> None:
    grant = grant_of(neighbours)
    host.home.folder_of(grant).write_text("in the way")
    async with running(host):
        boss.queue = [grant]
        await ended(boss)
        assert "no room for an attempt" in caplog.messages
        host.home.folder_of(grant).unlink()
        boss.queue = [grant]
        await eventually(lambda: len(boss.ends) == 2, PATIENCE)
    assert [end["exit_code"] for end in boss.ends] == [None, 0]


async def test_there_is_one_runner_on_a_host(host: Host, boss: Boss, neighbours: Neighbours) -> None:
    async with running(host):
        await eventually(lambda: not Home(host.home.folder).take())
        stop = asyncio.Event()
        second = asyncio.create_task(Host(host.home.folder, boss, host.ingest, "").runner().run(stop))
        await asyncio.wait({second}, timeout=0.2)
        assert not second.done()
        stop.set()
        await second


def test_a_host_keeps_its_name_and_forgets_half_written_attempts(tmp_path: Path, neighbours: Neighbours) -> None:
    home = Home(tmp_path / "runner")
    name = home.host
    record = Record(grant_of(neighbours), started=True, ended_for="memory", lines=3)
    home.save(record)
    half = home.folder / "attempts" / "half"
    half.mkdir()
    (half / "record.json").write_text("{")
    again = Home(tmp_path / "runner")
    assert (again.host, again.records()) == (name, [record])
    assert not half.exists()
    again.forget(record.grant)
    assert again.records() == []
