"""Bundles as a runner runs them: real processes, in a real sandbox where there is one."""

from typing import Any

import pytest
from attempts_at_work import Attempt
from bundles_at_work import bundle_grant
from runners_at_work import Boss, Host, ended, running

HELLO = """
import json, os, sys
run = json.load(open(os.environ["TRAINYARD_RUN_FILE"]))
print("hello", run["parameters"], sys.argv[1:], os.getcwd())
"""


async def run_bundle(host: Host, boss: Boss, program: str, **spec: Any) -> dict[str, Any]:
    boss.queue.append(bundle_grant(boss, program, **spec))
    async with running(host):
        return await ended(boss)


async def test_a_program_is_run_and_what_it_prints_is_the_jobs_log(host: Host, boss: Boss, attempt: Attempt) -> None:
    end = await run_bundle(host, boss, HELLO, parameters={"lr": 0.1}, arguments=["--fast"])
    assert (end["exit_code"], end["failure"]) == (0, None), attempt.lines
    assert attempt.lines == ["hello {'lr': 0.1} ['--fast'] /trainyard/bundle"]
