"""Every pod is held to Pod Security's `restricted`, tells how it is, and has the time that its end takes."""

import re

import pytest
import yaml
from manifests import SERVICES, WORKLOADS, Release, Render, references

DIGEST = "sha256:" + "a" * 64


def test_every_pod_is_restricted(release: Release) -> None:
    assert release.pods
    for pod in release.pods:
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.name
        assert security["runAsUser"] >= 999, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        assert all(set(it) & {"secret", "configMap", "emptyDir"} for it in pod.spec.get("volumes", [])), pod.name
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.name
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_a_runner_may_have_a_profile_of_the_node_s(render: Render) -> None:
    profile = "trainer.runner.seccompProfile"
    release = render("default", f"{profile}.type=Localhost", f"{profile}.localhostProfile=a/b.json")
    found = {pod.name: pod.spec["securityContext"]["seccompProfile"] for pod in release.pods}
    assert found.pop("trainyard-trainer-runner") == {"type": "Localhost", "localhostProfile": "a/b.json"}
    assert all(it == {"type": "RuntimeDefault"} for it in found.values())


def test_pods_have_the_user_of_their_image(release: Release) -> None:
    for pod in release.pods:
        expected = 999 if pod.component == "postgresql" else 65532
        assert (pod.spec["securityContext"]["runAsUser"], pod.spec["securityContext"]["fsGroup"]) == (expected,) * 2


def test_every_container_says_what_it_needs(release: Release) -> None:
    for pod in release.pods:
        for container in pod.containers:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), pod.name
            assert set(container["resources"]["limits"]) == {"memory"}, pod.name


def test_every_folder_in_memory_or_on_disk_has_a_limit(release: Release) -> None:
    for pod in release.pods:
        for volume in pod.spec.get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], (pod.name, volume["name"])


def test_every_mount_is_of_a_volume_and_every_volume_is_mounted(release: Release) -> None:
    for pod in release.pods:
        claims = {it["metadata"]["name"] for it in pod.owner["spec"].get("volumeClaimTemplates", [])}
        mounted = {it["name"] for container in pod.containers for it in container.get("volumeMounts", [])}
        assert mounted == claims | {it["name"] for it in pod.spec.get("volumes", [])}, pod.name
        for container in pod.containers:
            places = [it["mountPath"] for it in container.get("volumeMounts", [])]
            assert len(places) == len(set(places))


def test_what_serves_is_asked_how_it_is(release: Release) -> None:
    for pod in (it for it in release.pods if it.kind == "Deployment"):
        (container,) = pod.spec["containers"]
        asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert asked == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}, pod.name
        assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in asked} <= set(pod.ports)


def test_the_end_of_a_pod_takes_no_longer_than_it_may(release: Release) -> None:
    for pod in (it for it in release.pods if it.kind == "Deployment"):
        name = pod.service.upper()
        drain, grace = (int(pod.env()[f"{name}_{which}_SECONDS"]["value"]) for which in ("DRAIN", "GRACE"))
        assert pod.spec["terminationGracePeriodSeconds"] >= drain + grace + 10


def test_the_time_follows_the_values(render: Render) -> None:
    pod = render("default", "drainSeconds=30", "serving.graceSeconds=120").pod("trainyard-serving-api")
    assert pod.env()["SERVING_DRAIN_SECONDS"]["value"] == "30"
    assert pod.spec["terminationGracePeriodSeconds"] == 160


def test_a_rolling_update_takes_no_pod_before_another_is_known(release: Release) -> None:
    for it in release.of("Deployment"):
        assert it["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        # The gateway looks names up every two seconds, and a cluster's DNS keeps answers for five.
        assert it["spec"]["minReadySeconds"] >= 8


def test_nothing_finds_its_neighbours_in_the_environment(release: Release) -> None:
    for pod in release.pods:
        assert pod.spec["enableServiceLinks"] is False, pod.name


@pytest.mark.parametrize("case", ["default", "everything"])
def test_images_are_of_the_chart_s_version(render: Render, case: str) -> None:
    release = render(case)
    registry = {"default": "ghcr.io/trainyard", "everything": "registry.example:5000/mirror"}[case]
    for pod in release.pods:
        for container in pod.containers:
            assert re.fullmatch(rf"{registry}/[a-z-]+(:0\.1\.0|@{DIGEST})", container["image"]), container["image"]


def test_images_by_digest(render: Render) -> None:
    release = render("everything")
    images = {pod.name: pod.containers[-1]["image"].rsplit("/", 1)[1] for pod in release.pods}
    assert images["trainyard-gateway-api"] == images["trainyard-gateway-migrate"] == f"gateway@{DIGEST}"
    assert images["trainyard-trainer-runner"] == f"trainer-job-torch@{DIGEST}"
    assert images["trainyard-trainer-api"] == "trainer:0.1.0"
    assert images["trainyard-serving-api"] == "serving-onnx:0.1.0"
    assert images["trainyard-main-job"] == f"demo@{DIGEST}"


def test_a_tag_of_one_service(render: Render) -> None:
    release = render("default", "image.tag=1.2.3", "serving.image.tag=v9")
    images = {pod.name: pod.containers[-1]["image"] for pod in release.pods}
    assert images["trainyard-serving-api"] == "ghcr.io/trainyard/serving:v9"
    assert images["trainyard-trainer-runner"] == "ghcr.io/trainyard/trainer-job:1.2.3"
    assert images["trainyard-main-job"] == "ghcr.io/trainyard/demo:1.2.3"


def test_pull_secrets_reach_every_pod(render: Render) -> None:
    for pod in render("everything").pods:
        assert pod.spec["imagePullSecrets"] == [{"name": "registry-login"}], pod.name


def test_pods_are_placed_as_asked(render: Render) -> None:
    pod = render("everything").pod("trainyard-gateway-api")
    assert pod.spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod.spec["tolerations"][0]["key"] == "dedicated"
    assert "nodeAffinity" in pod.spec["affinity"]
    assert pod.labels["team"] == "ml"
    assert {it["topologyKey"] for it in pod.spec["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(it["whenUnsatisfiable"] == "ScheduleAnyway" for it in pod.spec["topologySpreadConstraints"])


def test_a_label_of_a_user_s_changes_no_selector(render: Render) -> None:
    pod = render("default", "gateway.api.podLabels.app\\.kubernetes\\.io/name=mine").pod("trainyard-gateway-api")
    assert pod.service == "gateway"


def test_predictions_come_before_jobs(render: Render) -> None:
    release = render("production")
    values = {it["metadata"]["name"]: it["value"] for it in release.of("PriorityClass")}
    of = {pod.name: values[pod.spec["priorityClassName"]] for pod in release.pods if pod.kind == "Deployment"}
    assert of["trainyard-serving-api"] == of["trainyard-gateway-api"] > of["trainyard-registry-api"]
    assert of["trainyard-registry-api"] > of["trainyard-trainer-runner"]


def test_more_replicas_where_load_asks_for_them(render: Render) -> None:
    release = render("production")
    scaled = {it["spec"]["scaleTargetRef"]["name"] for it in release.of("HorizontalPodAutoscaler")}
    assert scaled == {"trainyard-gateway-api", "trainyard-serving-api"}
    for it in release.of("Deployment"):
        assert ("replicas" in it["spec"]) == (it["metadata"]["name"] not in scaled)


def test_a_budget_blocks_no_drain(release: Release) -> None:
    budgets = release.of("PodDisruptionBudget")
    selected = {tuple(sorted(it["spec"]["selector"]["matchLabels"].items())) for it in budgets}
    for it in release.of("Deployment"):
        assert tuple(sorted(it["spec"]["selector"]["matchLabels"].items())) in selected
    for it in budgets:  # also with one replica: one may always go
        assert (it["spec"]["maxUnavailable"], "minAvailable" in it["spec"]) == (1, False)


def test_the_onnx_image_is_for_serving_alone(render: Render) -> None:
    images = {pod.containers[-1]["image"] for pod in render("everything").pods if pod.service == "serving"}
    assert images == {"registry.example:5000/mirror/serving-onnx:0.1.0"}


def test_the_test_pod_asks_the_gateway_with_the_admin_s_key(render: Render) -> None:
    for case in ("default", "dev", "everything"):
        pod = render(case).pod("trainyard-main-job")
        assert pod.env()["TRAINYARD_URL"]["value"] == "http://trainyard-gateway:8000"
        assert list(references(pod)) == [("Secret", "trainyard-admin", "api_key")]
        assert {it["mountPath"] for it in pod.spec["containers"][0]["volumeMounts"]} >= {"/tmp"}


def test_a_runner_s_memory_holds_its_attempts(render: Render) -> None:
    pod = render("default").pod("trainyard-trainer-runner")
    attempts = int(pod.env()["TRAINER_RUNNER_SLOTS"]["value"]) * int(pod.env()["TRAINER_RUNNER_MEMORY_BYTES"]["value"])
    assert bytes_of(pod.containers[0]["resources"]["limits"]["memory"]) >= attempts + (256 << 20)


def test_serving_s_memory_holds_its_child(render: Render) -> None:
    pod = render("default").pod("trainyard-serving-api")
    child = int(pod.env()["SERVING_RUNNER_MEMORY_BYTES"]["value"])
    assert bytes_of(pod.containers[0]["resources"]["limits"]["memory"]) >= child + (1 << 30)


def test_ingest_s_memory_holds_its_parsers(render: Render) -> None:
    pod = render("default").pod("trainyard-ingest-reconcile")
    assert bytes_of(pod.containers[0]["resources"]["limits"]["memory"]) >= (512 << 20) + 2 * (600 << 20)


def bytes_of(text: str) -> int:
    return int(text[:-2]) * {"Mi": 1 << 20, "Gi": 1 << 30}[text[-2:]]


def test_a_small_profile_asks_for_little(render: Render) -> None:
    release = render("dev")
    assert {it["kind"] for it in release.objects} & set(WORKLOADS) == set(WORKLOADS)
    cpu = sum(
        int(it["spec"].get("replicas", 1)) * int(container["resources"]["requests"]["cpu"].removesuffix("m"))
        for it in (*release.of("Deployment"), *release.of("StatefulSet"))
        for container in it["spec"]["template"]["spec"]["containers"]
    )
    assert cpu <= 500  # of two cores, with as much again while it is updated


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_alone_has_what_it_has_in_the_suite(render: Render, service: str) -> None:
    alone = {pod.name: pod.spec["containers"][0]["args"] for pod in render(service).pods if pod.kind == "Deployment"}
    suite = render("default")
    for name, args in alone.items():
        assert suite.pod(f"trainyard-{name}").spec["containers"][0]["args"] == args
    assert set(alone) == {it.name.removeprefix("trainyard-") for it in suite.pods
                          if it.kind == "Deployment" and it.service == service}  # fmt: skip


def test_rendered_twice_it_is_the_same(render: Render) -> None:
    """As Argo CD asks: nothing random, nothing looked up, no time."""
    for case in ("default", "dev", "everything"):
        again = render(case, "minReadySeconds=10")
        assert yaml.safe_dump(again.objects) == yaml.safe_dump(render(case).objects)
