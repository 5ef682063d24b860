"""Secrets on a host: told to the program when it is started, and kept out of what it prints."""

import base64
from datetime import timedelta

import pytest
from attempts_at_work import Attempt
from bundles_at_work import bundle_grant
from runners_at_work import Boss, Host, running

from kit import errors
from kit.testing import eventually
from trainer.domain.redaction import HIDDEN
from trainer.domain.secrets import SecretMissing

PATIENCE = timedelta(seconds=60)
PROGRAM = """
import base64, os
value = os.environ["TRAINYARD_SECRET_S3_TOKEN"]
print("plain", value)
print("packed", base64.b64encode(value.encode()).decode())
print(len(value))
raise ValueError(value)
"""


async def end_of(host: Host, boss: Boss, program: str) -> dict[str, object]:
    boss.queue.append(bundle_grant(boss, program, secrets=["s3.token"]))
    async with running(host):
        await eventually(lambda: bool(boss.ends), PATIENCE)
    [end] = boss.ends
    found: dict[str, object] = end["result"] or end["failure"]
    return found


@pytest.mark.parametrize("value", ["correct horse battery", "two\nlines of it"])
async def test_a_program_finds_its_secret_and_nobody_finds_it_in_its_log(
    host: Host, boss: Boss, attempt: Attempt, value: str
) -> None:
    boss.known["s3.token"] = value
    end = await end_of(host, boss, PROGRAM)
    assert end["outcome"] == "failed"
    written = "\n".join([*attempt.lines, *boss.said, str(end)])
    assert HIDDEN in written
    assert str(len(value)) in attempt.lines
    for secret in (*value.splitlines()[-1:], base64.b64encode(value.encode()).decode()):
        assert secret not in written
    assert not list(host.home.folder.rglob("warden.json")), "nothing of it stays on the host"


@pytest.mark.parametrize("refused", [SecretMissing("There is no such secret.")])
async def test_an_attempt_without_its_secret_is_not_begun(host: Host, boss: Boss, refused: errors.Error) -> None:
    boss.raises["secrets"] = refused
    end = await end_of(host, boss, "print('never')")
    assert end == {"reason": "inputs-unavailable", "message": "There is no such secret."}
