"""Who may speak to whom: the whole table, and that it is what addresses in settings ask for."""

import pytest
from manifests import SERVICES, Release, Render, edges, meetings, outside

CALLS = {
    "gateway": ("ingest", "trainer", "registry", "serving", "pipelines"),
    "ingest": (),
    "trainer": ("ingest", "registry", "trainer"),
    "registry": (),
    "serving": ("ingest", "registry"),
    "pipelines": ("ingest", "trainer", "registry", "serving"),
}
KEEPS_OBJECTS = ("ingest", "trainer", "registry")
DATABASES = {"postgresql": 5432, "redis": 6379, "objects": 8333}


def between_services() -> set[tuple[str, str, int]]:
    kinds = ("api", "reconcile")
    table = {(f"{a}/{kind}", f"{b}/api", 8000) for a, peers in CALLS.items() for b in peers for kind in kinds}
    table |= {("trainer/runner", "ingest/api", 8000), ("trainer/runner", "trainer/api", 8000)}
    # The front door is open to all: also to the test, and to pods that are held to DNS and the database anyway.
    return table | {("gateway/test", "gateway/api", 8000)}


def to_databases() -> set[tuple[str, str, int]]:
    table = {("gateway/bootstrap", "trainyard/postgresql", 5432)}
    for service in SERVICES:
        for kind in ("api", "reconcile"):
            table |= {(f"{service}/{kind}", f"trainyard/{it}", DATABASES[it]) for it in ("postgresql", "redis")}
            if service in KEEPS_OBJECTS:
                table.add((f"{service}/{kind}", "trainyard/objects", 8333))
    return table


def test_the_whole_table(render: Render) -> None:
    assert edges(render("dev")) == between_services() | to_databases()


def test_the_whole_table_where_databases_are_elsewhere(render: Render) -> None:
    assert edges(render("default")) == between_services()


def test_the_table_is_that_of_the_addresses_in_settings(render: Render) -> None:
    implied = set()
    for pod in (it for it in render("default").pods if it.kind == "Deployment"):
        for peer in SERVICES:
            if f"{pod.service.upper()}_{peer.upper()}_URL" in pod.env():
                implied.add((f"{pod.service}/{pod.component}", f"{peer}/api", 8000))
    # A runner is told of the registry, since it shares the trainer's settings; it has no business there.
    implied.remove(("trainer/runner", "registry/api", 8000))
    assert implied | {("gateway/test", "gateway/api", 8000)} == between_services()


def test_services_alone_meet_as_in_the_suite(render: Render) -> None:
    together = Release("all", [it for service in SERVICES for it in render(service).objects], "")
    assert edges(together) == between_services() - {("gateway/test", "gateway/api", 8000)}


def test_two_suites_in_a_namespace_do_not_meet(render: Render) -> None:
    both = Release("both", [*render("dev").objects, *render("dev", release="other").objects], "")
    instance = "app.kubernetes.io/instance"
    found = {(a.labels[instance], b.labels[instance]) for a, b, _ in meetings(both)}
    assert found == {("trainyard", "trainyard"), ("other", "other")}


@pytest.mark.parametrize(
    ("pod", "ports"),
    [
        ("trainyard-gateway-api", {5432}),
        ("trainyard-ingest-api", {5432, 443}),
        ("trainyard-trainer-reconcile", {5432, 443}),
        ("trainyard-trainer-runner", set()),
        ("trainyard-serving-api", {5432}),
        ("trainyard-keys", {443, 6443}),
        ("trainyard-gateway-migrate", {5432}),
        ("trainyard-gateway-bootstrap", {5432, 443, 6443}),
        ("trainyard-main-job", set()),
    ],
)
def test_what_each_reaches_outside(render: Render, pod: str, ports: set[int]) -> None:
    release = render("default")
    dns = set() if pod == "trainyard-keys" else {53}
    assert outside(release, release.pod(pod)) == ports | dns


def test_what_each_reaches_outside_with_everything_on(render: Render) -> None:
    release = render("everything")
    assert outside(release, release.pod("trainyard-ingest-api")) == {53, 5432, 6432, 9000, 6379, 4318}
    assert outside(release, release.pod("trainyard-serving-api")) == {53, 5432, 6432, 6379, 4318}
    assert outside(release, release.pod("trainyard-trainer-runner")) == {53, 4318}
    assert outside(release, release.pod("trainyard-trainer-reconcile")) >= {443, 6443}


@pytest.mark.parametrize("case", ["default", "dev", "production", "everything"])
def test_every_pod_is_under_a_policy_of_both_directions(render: Render, case: str) -> None:
    release = render(case)
    (deny,) = (it for it in release.of("NetworkPolicy") if it["metadata"]["name"] == "trainyard-default-deny")
    assert deny["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "trainyard"}},
        "policyTypes": ["Ingress", "Egress"],
    }
    for pod in release.pods:
        assert pod.labels["app.kubernetes.io/instance"] == "trainyard"


def test_only_the_gateway_is_open_to_the_outside(release: Release) -> None:
    for policy in release.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if "from" not in rule:
                assert policy["metadata"]["name"].endswith("gateway-api")
                assert [it["port"] for it in rule["ports"]] == [8000]


def test_metrics_are_for_who_watches(render: Render) -> None:
    release = render("production")
    monitored = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for pod in (it for it in release.pods if it.kind == "Deployment"):
        policy = release.get("NetworkPolicy", pod.name)
        port = 9000 if pod.name == "trainyard-gateway-api" else 8000
        assert {"ports": [{"port": port, "protocol": "TCP"}], "from": [monitored]} in policy["spec"]["ingress"]


def test_monitors_find_a_port_on_every_pod(render: Render) -> None:
    release = render("production")
    for monitor in release.of("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (it for it in release.of("Service") if wanted.items() <= it["metadata"]["labels"].items())
        (port,) = service["spec"]["ports"]
        assert port["name"] == monitor["spec"]["endpoints"][0]["port"]
        pods = [pod for pod in release.pods if service["spec"]["selector"].items() <= pod.labels.items()]
        for pod in (it for it in pods if it.kind == "Deployment"):
            assert port["targetPort"] in {it["name"] for it in pod.containers[-1]["ports"]}, pod.name
    assert {it["metadata"]["name"].removeprefix("trainyard-") for it in release.of("ServiceMonitor")} == set(SERVICES)


def test_every_port_says_its_protocol(release: Release) -> None:
    for service in release.of("Service"):
        assert all(port["protocol"] == "TCP" for port in service["spec"]["ports"])
    for pod in release.pods:
        assert all(port["protocol"] == "TCP" for it in pod.containers for port in it.get("ports", []))


def test_services_find_their_pods(release: Release) -> None:
    for service in release.of("Service"):
        pods = [pod for pod in release.pods if service["spec"]["selector"].items() <= pod.labels.items()]
        assert pods, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            named = [it["name"] for pod in pods for one in pod.containers for it in one.get("ports", [])]
            assert port["targetPort"] in named


def test_the_outside_comes_in_by_the_gateway_alone(render: Render) -> None:
    release = render("everything")
    (ingress,), (route,) = release.of("Ingress"), release.of("HTTPRoute")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "trainyard-gateway", "port": {"name": "http"}}
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "trainyard-gateway"
    assert release.of("Ingress")[0]["spec"]["rules"][0]["host"] == "trainyard.example.com"
