"""Words of the wire that the SDK acts on are the words that the services say."""

from kit import idempotency, problems
from trainyard import wire


def test_a_duplicate_in_flight_has_one_name() -> None:
    assert problems.code_of(idempotency.IdempotencyInProgress) == wire.IN_FLIGHT
    assert problems.status_of(idempotency.IdempotencyInProgress) == 409


def test_what_is_worth_another_try_is_what_says_when() -> None:
    assert problems.RETRYABLE <= wire.RETRIED
