"""Key files: made once, never readable by others, rotated without a refused request."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kit import keys
from kit.__main__ import main
from kit.callers import Role
from kit.tokens import TokenRefused, load_signer, load_verifier, public_keys


def init(folder: Path, *names: str) -> None:
    assert main(["keys", "init", "--dir", str(folder), *names]) == 0


def test_a_service_verifies_what_another_signs(tmp_path: Path) -> None:
    init(tmp_path / "keys", "gateway", "trainer")
    token = load_signer(tmp_path / "keys/gateway.private.json").mint("trainer", "default", Role.ADMIN, "ann")

    caller = load_verifier(tmp_path / "keys/public.json", "trainer").verify(token)

    assert (caller.issuer, caller.subject, caller.role) == ("gateway", "ann", Role.ADMIN)


def test_asking_again_keeps_the_keys_that_exist(tmp_path: Path) -> None:
    init(tmp_path, "gateway")
    before = (tmp_path / "gateway.private.json").read_bytes()
    init(tmp_path, "gateway", "trainer")

    assert (tmp_path / "gateway.private.json").read_bytes() == before
    assert {key.issuer for key in public_keys(json.loads((tmp_path / "public.json").read_bytes())).values()} == {
        "gateway",
        "trainer",
    }


def test_private_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    init(tmp_path / "keys", "gateway")

    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "keys/gateway.private.json").st_mode) == 0o600
    assert b'"d"' not in (tmp_path / "keys/public.json").read_bytes()


def test_a_rotation_refuses_nothing_before_the_older_key_is_retired(tmp_path: Path) -> None:
    init(tmp_path, "gateway")
    private, public = tmp_path / "gateway.private.json", tmp_path / "public.json"
    old = load_signer(private).mint("trainer", "p", Role.VIEWER, "ann")
    assert main(["keys", "add", "--dir", str(tmp_path), "gateway"]) == 0
    new = load_signer(private).mint("trainer", "p", Role.VIEWER, "ann")

    both = load_verifier(public, "trainer")
    assert both.verify(old) == both.verify(new)
    assert main(["keys", "retire", "--dir", str(tmp_path), "gateway"]) == 0
    one = load_verifier(public, "trainer")
    assert one.verify(new).subject == "ann"
    with pytest.raises(TokenRefused):
        one.verify(old)


@pytest.mark.parametrize("arguments", [("retire", "gateway"), ("add", "nobody")])
def test_a_rotation_that_cannot_be_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    init(tmp_path, "gateway")
    verb, name = arguments

    assert main(["keys", verb, "--dir", str(tmp_path), name]) == 1
    assert name in capsys.readouterr().err


def test_a_service_has_two_keys_at_most(tmp_path: Path) -> None:
    init(tmp_path, "gateway")
    keys.add(tmp_path, "gateway")

    with pytest.raises(ValueError, match="retire one first"):
        keys.add(tmp_path, "gateway")


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "public.json").mkdir()

    with pytest.raises(OSError, match="public"):
        keys.init(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["public.json"]


def test_it_is_a_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "kit", "keys", "init", "--dir", str(tmp_path), "ingest"], check=False)

    assert done.returncode == 0
    assert (tmp_path / "ingest.private.json").exists()
