"""What makes an install, an upgrade and a rollback go well: names, selectors, and what comes before what."""

import json
from pathlib import Path

import helm
import pytest
from manifests import SERVICES, Object, Pod, Release, Render, hook_of, references

TEMPLATES = sorted(helm.CHARTS.glob("*/templates/**/*"))
LONG = "a-release-with-a-name-as-long-as-helm-lets-them-be-ok"
CLUSTER_WIDE = {"PriorityClass"}


def identity(it: Object) -> tuple[str, str, str]:
    return it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]


def test_no_object_is_there_twice(release: Release) -> None:
    found = [identity(it) for it in release.objects]
    assert sorted(found) == sorted(set(found))


@pytest.mark.parametrize("case", ["dev", "everything", "pipelines"])
def test_names_have_63_characters_at_most(render: Render, case: str) -> None:
    assert len(LONG) == 53
    release = render(case, release=LONG)
    for it in release.objects:
        assert len(it["metadata"]["name"]) <= 63, it["metadata"]["name"]
        if it["kind"] == "StatefulSet":  # its pods are labelled with its name and a hash
            assert len(it["metadata"]["name"]) <= 52
        for value in it["metadata"].get("labels", {}).values():
            assert len(value) <= 63
    for pod in release.pods:
        assert all(len(name) <= 63 for _, name, _ in references(pod))
    assert len({identity(it) for it in release.objects}) == len(release.objects)


def test_long_names_of_two_releases_stay_apart(render: Render) -> None:
    one, two = render("dev", release=LONG), render("dev", release=LONG[:-1] + "x")
    assert not {identity(it) for it in one.objects} & {identity(it) for it in two.objects}


@pytest.mark.parametrize("case", ["default", "dev", "everything"])
def test_two_releases_in_a_namespace_do_not_collide(render: Render, case: str) -> None:
    one, two = render(case), render(case, release="other")
    assert not {identity(it) for it in one.objects} & {identity(it) for it in two.objects}
    made = [{name for pod in it.pods for _, name, _ in references(pod)} for it in (one, two)]
    shared = made[0] & made[1]
    assert shared <= {"trainyard-database", "dsn", "dsn-admin", "s3", "redis", "collector", "my-trainer-key"}


def test_services_alone_do_not_collide(render: Render) -> None:
    found = [identity(it) for service in SERVICES for it in render(service).objects]
    assert len(found) == len(set(found))


def test_selectors_stay_whatever_else_changes(render: Render) -> None:
    """A Deployment's selector cannot be changed: an upgrade that tried would fail."""
    before = selectors(render("default"))
    for more in (
        ["image.tag=v2", "api.replicas=5", "gateway.api.podLabels.x=y"],
        ["networkPolicy.enabled=false", "migrate.mode=init", "database.singleRole=true"],
        ["redis.existingSecret=r", "otlp.endpoint=http://c:4318", "priorityClasses.create=true"],
    ):
        assert selectors(render("default", *more)) == before
    after = selectors(render("production"))
    assert {name: after[name] for name in before} == before


def selectors(release: Release) -> dict[str, object]:
    return {f"{it['kind']}/{it['metadata']['name']}": it["spec"]["selector"]
            for kind in ("Deployment", "StatefulSet") for it in release.of(kind)}  # fmt: skip


def test_selectors_match_their_pods_and_no_others(release: Release) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for it in release.of(kind):
            wanted = it["spec"]["selector"]["matchLabels"].items()
            assert [pod.name for pod in release.pods if wanted <= pod.labels.items()] == [it["metadata"]["name"]]


def test_a_new_release_of_the_chart_restarts_only_what_has_a_new_image(render: Render) -> None:
    """What pods are made from names no version of a chart: it would restart databases too."""
    for pod in (it for it in render("dev").pods if it.kind in ("Deployment", "StatefulSet")):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(pod.labels), pod.name
    before, after = render("dev"), render("dev", "image.tag=v2")
    changed = {a.name for a, b in zip(before.pods, after.pods, strict=True) if a.spec != b.spec}
    assert changed == {pod.name for pod in before.pods if pod.service != "trainyard"}


def made_by_jobs(release: Release) -> dict[str, tuple[str, int]]:
    """Secrets and ConfigMaps that Jobs make: when, by event and weight."""
    found = {}
    for pod in (it for it in release.pods if it.kind == "Job"):
        hook = hook_of(pod.owner)
        assert hook is not None, pod.name
        for argument in pod.containers[-1].get("args", []):
            key, _, value = argument.partition("=")
            if pod.component == "keys" and key != "cluster":
                found[value.partition(":")[0] if key in ("--secret",) else value] = (hook[0][0], hook[1])
            if pod.component == "bootstrap" and key == "--secret":
                found[value] = (hook[0][0], hook[1])
    return found


GIVEN = {"trainyard-database", "trainyard-database-admin", "trainyard-objects", "trainyard-redis", "trainyard-db-app",
         "dsn", "dsn-admin", "s3", "redis", "collector"}  # fmt: skip
"""What is there before anything is installed."""


def test_what_pods_need_is_there_before_them(release: Release) -> None:
    made = made_by_jobs(release)
    for pod in release.pods:
        hook = hook_of(pod.owner)
        for kind, name, key in references(pod):
            if name in GIVEN:
                continue
            assert name in made, (pod.name, kind, name)
            event, weight = made[name]
            if event == "pre-install":
                assert hook is None or "pre-install" not in hook[0] or hook[1] > weight, (pod.name, name)
            else:  # the administrator's key: only what is run by hand afterwards may need it
                assert hook is not None
                assert (hook[0], key) == (["test"], "api_key"), pod.name


def test_the_key_that_a_pod_asks_for_is_one_that_is_made(render: Render) -> None:
    (keys,) = (pod for pod in render("dev").pods if pod.component == "keys")
    pairs = [it.removeprefix("--secret=").split("=")[0].split(":") for it in keys.containers[0]["args"]
             if it.startswith("--secret=")]  # fmt: skip
    made = {tuple(pair) for pair in pairs}
    for pod in render("dev").pods:
        for kind, name, key in references(pod):
            if kind == "Secret" and key is not None and name != "trainyard-admin":
                assert (name, key) in made, (pod.name, name, key)
    items = {(it["secret"]["secretName"], item["key"]) for pod in render("dev").pods
             for it in pod.spec.get("volumes", []) if "secret" in it for item in it["secret"]["items"]}  # fmt: skip
    assert {item for item in items if item[1] != "private.json"} == {("trainyard-redis", "valkey.conf")}
    assert {item for item in items if item[1] != "private.json"} <= made


def test_hooks_have_what_they_need_before_them(release: Release) -> None:
    for pod in (it for it in release.pods if it.kind == "Job"):
        hook = hook_of(pod.owner)
        assert hook is not None
        needed = [("ServiceAccount", pod.spec["serviceAccountName"])]
        if pod.spec["automountServiceAccountToken"]:
            needed += [(kind, pod.spec["serviceAccountName"]) for kind in ("Role", "RoleBinding")]
        for kind, name in needed:
            its = hook_of(release.get(kind, name))
            if "pre-install" in hook[0]:
                assert its is not None, (pod.name, kind)
                assert its[0] == hook[0]
                assert its[1] < hook[1], (pod.name, kind, name)
            else:  # by then the whole release is there
                assert its is None


def test_everything_of_a_hook_is_made_anew_each_time(release: Release) -> None:
    for it in release.objects:
        if hook_of(it) is not None:
            policy = it["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",")
            assert "before-hook-creation" in policy
            if it["kind"] in ("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"):
                assert "hook-succeeded" in policy, "rights stay no longer than their Job"


def test_the_order_of_jobs(render: Render) -> None:
    release = render("production")
    weights = {it["metadata"]["name"].removeprefix("trainyard-"): hook_of(it) for it in release.of("Job")}
    assert weights.pop("keys") == (["pre-install", "pre-upgrade"], -15)
    assert weights.pop("prepare") == (["pre-install", "pre-upgrade"], -10)
    assert weights.pop("gateway-bootstrap") == (["post-install", "post-upgrade"], 0)
    assert weights == {f"{service}-migrate": (["pre-install", "pre-upgrade"], -5) for service in SERVICES}


def test_jobs_are_tried_again_and_end(release: Release) -> None:
    for it in release.of("Job"):
        assert it["spec"]["backoffLimit"] >= 3
        assert it["spec"]["activeDeadlineSeconds"] <= 900
        assert it["spec"]["template"]["spec"]["restartPolicy"] == "Never"
        # Argo CD would wait for ever for a Job that is deleted before it has looked.
        assert "ttlSecondsAfterFinished" not in it["spec"]


def test_a_database_of_the_same_release_is_waited_for_by_pods_and_by_no_hook_before_it(render: Render) -> None:
    """A hook before the install would wait for what is installed after it, and `--wait` for what comes after it."""
    release = render("dev")
    before = [it["metadata"]["name"] for it in release.of("Job") if "pre-install" in (hook_of(it) or ([],))[0]]
    assert before == ["trainyard-keys"]
    keys = release.pod("trainyard-keys")
    assert not any(name.endswith("_DATABASE_URL") for name in keys.env())
    for pod in (it for it in release.pods if it.ours):
        first = pod.spec.get("initContainers", [{}])[0].get("args", [])
        assert (first[:1] == ["migrate"]) == (pod.component != "runner"), pod.name
        if first:
            assert first[1].startswith("--wait=")


def test_where_a_hook_migrates_no_pod_does(render: Render) -> None:
    for pod in render("production").pods:
        assert "initContainers" not in pod.spec, pod.name


def test_nobody_migrates_where_you_do(render: Render) -> None:
    release = render("default", "migrate.mode=none")
    assert {pod.component for pod in release.pods if pod.kind == "Job"} == {"keys", "bootstrap"}
    assert not [it for it in release.objects if it["metadata"]["name"] == "trainyard-migrate"]


def test_keys_of_one_s_own(render: Render) -> None:
    release = render(
        "default", "keys.create=false", "serving.keys.existingSecret=mine", "keys.existingPublicConfigMap=all"
    )
    assert not [pod for pod in release.pods if pod.component == "keys"]
    names = {name for _, name, _ in references(release.pod("trainyard-serving-api"))}
    assert names == {"mine", "all", "trainyard-database"}


def test_an_admin_of_one_s_own(render: Render) -> None:
    release = render("default", "gateway.admin.existingSecret=mine")
    assert not [pod for pod in release.pods if pod.component == "bootstrap"]
    assert ("Secret", "mine", "api_key") in list(references(release.pod("trainyard-main-job")))


def test_the_database_job_knows_the_administrator_and_every_address(render: Render) -> None:
    pod = render("production").pod("trainyard-prepare")
    assert pod.containers[0]["args"] == ["prepare", "--wait=120", *SERVICES]
    assert set(pod.env()) == {"KIT_ADMIN_DATABASE_URL", *(f"{service.upper()}_DATABASE_URL" for service in SERVICES)}
    others = [it.name for it in render("production").pods if "KIT_ADMIN_DATABASE_URL" in it.env()]
    assert others == ["trainyard-prepare"]


@pytest.mark.parametrize(
    "file", [it for it in TEMPLATES if it.is_file()], ids=lambda it: str(it.relative_to(helm.CHARTS))
)
def test_nothing_is_random_or_looked_up(file: Path) -> None:
    words = ("lookup", "rand", "genCA", "genSelfSigned", "genSigned", "genPrivateKey", "uuidv4", "htpasswd", "now ")
    used = [word for word in words if f"{{{{ {word}" in file.read_text() or f"({word}" in file.read_text()]
    assert used == []


def test_dashboards_and_rules_are_in_the_release(render: Render) -> None:
    release = render("production")
    for it in release.of("ConfigMap"):
        assert it["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((name, text),) = it["data"].items()
        assert json.loads(text)["title"], name
    (rules,) = release.of("PrometheusRule")
    assert rules["spec"]["groups"]
    assert {next(iter(it["data"])) for it in release.of("ConfigMap")} == {
        path.name for path in (helm.CHARTS / "trainyard/files/dashboards").glob("*.json")
    }
    assert "{{ $labels" in json.dumps(rules["spec"])


# Who may do what with Kubernetes.


def rights(release: Release) -> dict[str, list[tuple[str, tuple[str, ...], tuple[str, ...]]]]:
    return {it["metadata"]["name"]: [(rule["resources"][0], tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
            for rule in it["rules"]] for it in release.of("Role")}  # fmt: skip


def test_the_only_rights_there_are(render: Render) -> None:
    keys = tuple(f"trainyard-{service}-key" for service in SERVICES)
    assert rights(render("default")) == {
        "trainyard-keys": [
            ("secrets", ("create",), ()),
            ("secrets", ("get",), keys),
            ("configmaps", ("get", "update"), ("trainyard-public-keys",)),
        ],
        "trainyard-gateway-bootstrap": [
            ("secrets", ("create",), ()),
            ("secrets", ("get", "update"), ("trainyard-admin",)),
        ],
    }


def test_in_the_small_profile_passwords_are_made_beside_keys(render: Render) -> None:
    (_, get, _) = rights(render("dev"))["trainyard-keys"]
    assert set(get[2]) - {f"trainyard-{service}-key" for service in SERVICES} == {
        "trainyard-postgresql",
        "trainyard-objects",
        "trainyard-redis",
    }


def test_only_the_trainer_may_make_jobs_and_only_there(render: Render) -> None:
    release = render("everything")
    role = release.get("Role", "trainyard-trainer-jobs")
    binding = release.get("RoleBinding", "trainyard-trainer-jobs")
    assert {it["metadata"]["namespace"] for it in (role, binding)} == {"trainyard-jobs"}
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "get", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "trainyard-trainer-jobs", "namespace": "trainyard"}
    ]
    others = [it for it in release.of("Role") if it is not role]
    assert all({*rule["resources"]} <= {"secrets", "configmaps"} for it in others for rule in it["rules"])


def test_nothing_has_rights_in_the_whole_cluster(release: Release) -> None:
    assert not release.of("ClusterRole")
    assert not release.of("ClusterRoleBinding")
    assert {it["kind"] for it in release.objects if "namespace" not in it["metadata"]} <= CLUSTER_WIDE


def with_token(release: Release) -> set[str]:
    return {pod.name for pod in release.pods if pod.spec["automountServiceAccountToken"]}


def test_tokens_are_for_who_asks(render: Render) -> None:
    assert with_token(render("default")) == {"trainyard-keys", "trainyard-gateway-bootstrap"}
    everything = render("everything")
    assert with_token(everything) - with_token(render("default")) == {"trainyard-trainer-reconcile"}


def test_who_has_rights_shares_its_account_with_nobody_else(release: Release) -> None:
    bound = {it["subjects"][0]["name"] for it in release.of("RoleBinding")}
    users: dict[str, list[Pod]] = {}
    for pod in release.pods:
        users.setdefault(pod.spec["serviceAccountName"], []).append(pod)
    for name in bound:
        assert len(users[name]) == 1, name
    for it in release.of("ServiceAccount"):
        assert it["automountServiceAccountToken"] is False
