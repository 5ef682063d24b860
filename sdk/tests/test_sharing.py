"""Secrets, quotas and usage, from the client and from the command line."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import things
from fake_suite import Answer, FakeSuite
from typer.testing import Result

from trainyard.client import Client

Call = Callable[..., Result]
SECRET = {"name": "token", "version": 2, "subject": "ada", "created_at": things.MADE, "updated_at": things.MADE}
QUOTA: dict[str, Any] = {
    "project": "blue",
    "cpu": 8,
    "memory": 64 << 30,
    "gpu": None,
    "jobs": 4,
    "priority": 10,
    "budget": {"core_hours": 100.0, "period": "week", "spent": 12.5, "since": things.MADE, "until": things.MADE},
    "used": {"cpu": 2, "memory": 3 << 30, "gpu": 1, "jobs": 2},
    "waiting": 5,
}
TOOK = {"name": "2026-11-24", "core_hours": 1.5, "gib_hours": 3.0, "gpu_hours": 0.0, "attempts": 2}
USAGE = {"project": "blue", "first": "2026-11-01", "last": "2026-11-25", "by": "day", "total": TOOK, "items": [TOOK]}


def test_secrets_are_set_and_never_read(suite: FakeSuite, client: Client) -> None:
    suite.on("PUT", "/v1/secrets/token", Answer(200, SECRET))
    suite.on("GET", "/v1/secrets/token", Answer(200, SECRET))
    suite.on("GET", "/v1/secrets", Answer(200, things.page(SECRET)))
    suite.on("DELETE", "/v1/secrets/token", Answer(204))
    assert client.secrets.put("token", "a value").version == 2
    assert suite.asked[0].json == {"value": "a value"}
    assert [each.name for each in client.secrets.list()] == ["token"]
    assert client.secrets.get("token").subject == "ada"
    client.secrets.delete("token")


def test_quotas_and_usage_are_read_and_set(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/quotas/blue", Answer(200, QUOTA, {"etag": '"a"'}))
    suite.on("GET", "/v1/quotas", Answer(200, things.page(QUOTA)))
    suite.on("PUT", "/v1/quotas/blue", Answer(200, QUOTA))
    suite.on("GET", "/v1/usage", Answer(200, USAGE))
    quota = client.quotas.get("blue")
    assert (quota.cpu, quota.budget.spent, quota.waiting) == (8, 12.5, 5)
    assert [each.project for each in client.quotas.list()] == ["blue"]
    client.quotas.put("blue", {"cpu": 8})
    [put] = suite.of("PUT", "/v1/quotas/blue")
    assert put.json == {"cpu": 8}
    assert put.headers["if-match"] == '"a"'
    found = client.usage(first=date(2026, 11, 1), by="day")
    assert (found.total.core_hours, found.items[0].name) == (1.5, "2026-11-24")
    assert suite.of("GET", "/v1/usage")[0].query == {"first": "2026-11-01", "by": "day"}


def test_a_secret_comes_from_a_pipe_or_a_file_and_is_not_shown(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    suite.on("PUT", "/v1/secrets/token", Answer(200, SECRET))
    (tmp_path / "value").write_text("from a file\n")
    for done, value in (
        (call("secret", "set", "token", stdin="from a pipe\n"), "from a pipe"),
        (call("secret", "set", "token", "--file", str(tmp_path / "value")), "from a file"),
    ):
        assert done.exit_code == 0, done.output
        assert value not in done.output
        assert suite.of("PUT", "/v1/secrets/token")[-1 if value == "from a file" else 0].json == {"value": value}
    refused = call("secret", "set", "token", "--file", str(tmp_path / "nowhere"))
    assert refused.exit_code != 0
    assert "cannot be read" in refused.stderr


def test_secrets_are_listed_and_deleted(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/secrets", Answer(200, things.page(SECRET)))
    suite.on("DELETE", "/v1/secrets/token", Answer(204))
    assert "token" in call("secret", "list").stdout
    assert call("secret", "delete", "token", "--yes").exit_code == 0


def test_an_operator_sets_a_quota_and_everybody_sees_his_own(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/whoami", Answer(200, {"project": "blue", "role": "viewer"}))
    suite.on("GET", "/v1/quotas/blue", Answer(200, QUOTA))
    suite.on("GET", "/v1/quotas", Answer(200, things.page(QUOTA)))
    suite.on("PUT", "/v1/quotas/blue", Answer(200, QUOTA))
    shown = call("quota", "get").stdout
    for words in ("2 of 8", "3 GiB of 64 GiB", "2 of 4", "12.50 of 100 a week"):
        assert words in shown
    assert "blue" in call("quota", "list").stdout
    done = call("quota", "set", "blue", "--cpu", "8", "--memory", "64Gi", "--core-hours", "100", "--period", "week")
    assert done.exit_code == 0, done.output
    budget = {"core_hours": 100.0, "period": "week"}
    assert suite.of("PUT", "/v1/quotas/blue")[0].json == {"cpu": 8.0, "memory": "64Gi", "budget": budget}


def test_what_was_used_is_shown(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/usage", Answer(200, USAGE))
    done = call("usage", "--first", "2026-11-01")
    assert done.exit_code == 0, done.output
    assert "2026-11-24" in done.stdout
    assert "1.50 core-hours from 2026-11-01 to 2026-11-25" in done.stderr
    assert suite.of("GET", "/v1/usage")[0].query["first"] == "2026-11-01"
    assert '"core_hours": 1.5' in call("usage", "-o", "json").stdout
