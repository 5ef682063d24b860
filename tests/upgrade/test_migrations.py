"""Every service's history of migrations: what each revision may do, up and down, killed, at once, and shut out."""

import re

import pytest
from alembic import command
from expanding import noticed
from histories import KINDS, heads, scripts, steps

from kit import migrations
from kit.testing import SERVICES

every_service = pytest.mark.parametrize("service", SERVICES)


@every_service
def test_a_history_has_one_end_and_every_revision_says_what_it_does(service: str) -> None:
    assert len(heads(service)) == 1
    for script in scripts(service):
        assert re.fullmatch(rf"({'|'.join(KINDS)}): \S.*", script.doc), script.path
        # The name of the file says it too, and is in the order of the history.
        assert re.match(rf"{script.revision}_({script.doc.partition(':')[0]})_", script.path.rpartition("/")[2])


@every_service
def test_an_expansion_is_nothing_that_the_release_before_would_notice(service: str, empty_database_url: str) -> None:
    for step in steps(service, empty_database_url):
        assert step.statements, step
        if step.kind == "expand":
            assert noticed(step.statements) == [], step.message
        else:
            assert step.needs, f"{service} {step.revision}: `needs` says from which release on nothing misses this"


@every_service
def test_up_is_what_the_code_says_and_down_is_nothing(service: str, empty_database_url: str) -> None:
    config = migrations.config(service, empty_database_url)
    for _ in range(2):
        command.upgrade(config, "head")
        command.check(config)
        command.downgrade(config, "base")
