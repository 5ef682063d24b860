"""What is added up later is what would have been added up at once."""

import random

import prometheus_client
from prometheus_client import CollectorRegistry

from kit import tallying

BUCKETS = (0.1, 0.2, 0.5)


def test_a_histogram_says_what_one_says_that_adds_up_at_once() -> None:
    late, now = CollectorRegistry(), CollectorRegistry()
    mine = tallying.Histogram("t", "Times.", ["who"], registry=late, buckets=BUCKETS).labels("me")
    other = prometheus_client.Histogram("t", "Times.", ["who"], registry=now, buckets=BUCKETS).labels("me")
    chance = random.Random(1)
    for value in (*BUCKETS, 0, 9, *(chance.random() for _ in range(2 * tallying.MOST))):
        mine.add(value)
        other.observe(value)
    for name, labels in (("t_sum", {}), ("t_count", {}), *(("t_bucket", {"le": str(it)}) for it in (*BUCKETS, "+Inf"))):
        said = {"who": "me", **labels}
        expected = now.get_sample_value(name, said)
        assert expected is not None
        assert abs((late.get_sample_value(name, said) or 0) - expected) < 1e-9
    assert late.get_sample_value("t_count", {"who": "me"}) == 2 * tallying.MOST + 5  # asked again: nothing twice


def test_a_histogram_puts_no_more_than_so_much_aside() -> None:
    mine = tallying.Histogram("t", "Times.", registry=None)
    for _ in range(tallying.MOST):
        mine.add(1.0)
    assert mine._sum.get() == tallying.MOST


def test_a_counter_counts_both_ways() -> None:
    registry = CollectorRegistry()
    mine = tallying.Counter("n", "Number.", ["who"], registry=registry)
    mine.labels("me").add()
    mine.labels("me").add(2)
    mine.labels("me").inc(0.5)
    assert registry.get_sample_value("n_total", {"who": "me"}) == 3.5
    assert registry.get_sample_value("n_total", {"who": "me"}) == 3.5
