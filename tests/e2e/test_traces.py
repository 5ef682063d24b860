"""One trace from the gateway to the model that answers; and what a collector does is nobody's business but its own."""

from collections.abc import Iterator

import pytest
from suites_at_work import Suite, until
from worlds import World

from kit.testing_traces import Collector, Seen

SERVICES = {f"trainyard-{name}" for name in ("gateway", "ingest", "trainer", "registry", "serving", "pipelines")}
STARTED = ("trainyard-gateway", "POST /v1/pipelines/{rest:path}")
ENDPOINTS = ("GATEWAY", "INGEST", "TRAINER", "REGISTRY", "SERVING", "PIPELINES")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as it:
        yield it


def told(collector: Collector) -> dict[str, str]:
    where = {f"{name}_OTLP_ENDPOINT": f"{collector.url}/" for name in ENDPOINTS}
    return where | {"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=blue"}


def whole(collector: Collector) -> list[Seen]:
    """The spans of the run's trace, once the last of them is there."""
    trace = collector.trace_of(*STARTED)
    spans = collector.of(trace)
    assert SERVICES | {"trainyard-trainer-job"} == {span.service for span in spans}
    known = {span.id for span in spans}
    assert all(span.parent in known for span in spans if span.parent)
    assert ("trainyard-serving", "load") in {(span.service, span.name) for span in spans}
    return spans


def test_one_trace_goes_from_the_gateway_through_the_job_to_serving(
    suite: Suite, world: World, collector: Collector
) -> None:
    suite.start(**told(collector))
    with suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        client.predict(world.name, [world.row()])
    spans = until(lambda: whole(collector))
    by_id = {span.id: span for span in spans}

    def path_of(span: Seen) -> list[str]:
        return [] if not span.parent else [*path_of(by_id[span.parent]), by_id[span.parent].service]

    def services_to(service: str, name: str) -> list[str]:
        found = next(span for span in spans if (span.service, span.name) == (service, name))
        path = [it.removeprefix("trainyard-") for it in [*path_of(found), service]]
        return [it for place, it in enumerate(path) if place == 0 or path[place - 1] != it]

    [root] = [span for span in spans if not span.parent]
    assert (root.service, root.name) == STARTED
    assert services_to("trainyard-ingest", "reconcile versions") == ["gateway", "pipelines", "ingest"]
    assert services_to("trainyard-trainer-job", "fitting") == ["gateway", "pipelines", "trainer", "trainer-job"]
    assert services_to("trainyard-registry", "PUT /internal/v1/models/{name}/versions")[-2:] == ["trainer", "registry"]
    assert services_to("trainyard-serving", "load") == ["gateway", "pipelines", "serving"]
    job = next(span for span in spans if span.name == "job")
    stages = {span.name: span for span in spans if span.parent == job.id}
    assert list(stages) == ["reading", "fitting", "evaluating", "converting"]
    assert all(job.began <= stage.began <= stage.ended <= job.ended for stage in stages.values())
    assert len(spans) < 200, "what is asked again and again leaves no spans"
    assert {headers["x-tenant"] for headers in collector.headers} == {"blue"}
    assert suite.metric("trainer", "trainyard_spans_dropped_total") == 0


@pytest.mark.parametrize("how", ["refuses", "stalls"])
def test_a_collector_that_is_no_use_holds_up_nothing(
    suite: Suite, world: World, collector: Collector, how: str
) -> None:
    if how == "refuses":
        collector.status = 503
    else:
        collector.release.clear()
    suite.start(**told(collector))
    with suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        client.predict(world.name, [world.row()])
    if how == "refuses":
        until(lambda: suite.metric("trainer", "trainyard_spans_dropped_total") > 0)
    assert collector.spans == []
