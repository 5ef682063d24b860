"""What a release has, and which pods may speak to which: network policies as the specification reads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Object = Mapping[str, Any]
SERVICES = ("gateway", "ingest", "pipelines", "registry", "serving", "trainer")
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Pod")


@dataclass(frozen=True)
class Pod:
    """A pod that some object of the release makes."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Object
    owner: Object

    @property
    def service(self) -> str:
        return self.labels["app.kubernetes.io/name"]

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[Any]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ours(self) -> bool:
        """Whether a service of the suite runs in it, and not a database or a test."""
        return self.service in SERVICES and self.component not in ("keys", "test") and not self.name.endswith("prepare")

    def env(self, container: int = -1) -> dict[str, Any]:
        return {each["name"]: each for each in self.containers[container].get("env", [])}

    @property
    def ports(self) -> list[int]:
        return [port["containerPort"] for it in self.spec["containers"] for port in it.get("ports", [])]


@dataclass(frozen=True)
class Release:
    """Everything that Helm would make."""

    name: str
    objects: Sequence[Object]
    text: str

    def of(self, kind: str) -> list[Object]:
        return [it for it in self.objects if it["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        (found,) = (it for it in self.of(kind) if it["metadata"]["name"] == name)
        return found

    @property
    def pods(self) -> list[Pod]:
        return [pod_of(it) for kind in WORKLOADS for it in self.of(kind)]

    def pod(self, name: str) -> Pod:
        (found,) = (it for it in self.pods if it.name == name)
        return found


class Render(Protocol):
    """Makes a release of a case in tools/helm.py, with further `--set`s."""

    def __call__(self, name: str, *more: str, release: str = "") -> Release: ...


def pod_of(owner: Object) -> Pod:
    name, kind = owner["metadata"]["name"], owner["kind"]
    template = owner if kind == "Pod" else owner["spec"]["template"]
    return Pod(kind, name, template["metadata"]["labels"], template["spec"], owner)


def hook_of(it: Object) -> tuple[list[str], int] | None:
    """Events and weight of a hook."""
    annotations = it["metadata"].get("annotations", {})
    if "helm.sh/hook" not in annotations:
        return None
    return annotations["helm.sh/hook"].split(","), int(annotations["helm.sh/hook-weight"])


def references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Secrets and ConfigMaps that a pod cannot start without: kind, name, key."""
    for container in pod.containers:
        for each in container.get("env", []):
            if "valueFrom" in each:
                ((how, ref),) = each["valueFrom"].items()
                yield {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[how], ref["name"], ref["key"]
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def allows(rules: Sequence[Object], side: str, other: Mapping[str, str], port: int) -> bool:
    """Whether a rule lets pods of the namespace through. Without peers it is everybody, without ports every port."""
    for rule in rules:
        ports = [it["port"] for it in rule.get("ports", []) if it["protocol"] == "TCP"]
        if "ports" in rule and port not in ports:
            continue
        if side not in rule:
            return True
        for peer in rule[side]:
            if set(peer) == {"podSelector"} and selects(peer["podSelector"], other):
                return True
    return False


def may(policies: Sequence[Object], side: str, own: Mapping[str, str], other: Mapping[str, str], port: int) -> bool:
    kind = {"to": "Egress", "from": "Ingress"}[side]
    mine = [
        it["spec"] for it in policies if selects(it["spec"]["podSelector"], own) and kind in it["spec"]["policyTypes"]
    ]
    return not mine or any(allows(it.get(kind.lower(), []), side, other, port) for it in mine)


def meetings(release: Release) -> Iterator[tuple[Pod, Pod, int]]:
    """Who reaches which port of whom, by both sides' policies."""
    policies = release.of("NetworkPolicy")
    for a in release.pods:
        for b in release.pods:
            for port in b.ports:
                if may(policies, "to", a.labels, b.labels, port) and may(policies, "from", b.labels, a.labels, port):
                    yield a, b, port


def edges(release: Release) -> set[tuple[str, str, int]]:
    """The same by `service/component`."""
    return {(f"{a.service}/{a.component}", f"{b.service}/{b.component}", port) for a, b, port in meetings(release)}


def outside(release: Release, pod: Pod) -> set[int | str]:
    """The TCP ports that a pod may reach of something that is no pod of the release."""
    policies = [it["spec"] for it in release.of("NetworkPolicy") if selects(it["spec"]["podSelector"], pod.labels)]
    found: set[int | str] = set()
    for rule in (rule for spec in policies for rule in spec.get("egress", [])):
        if "to" not in rule or any("podSelector" not in peer for peer in rule["to"]):
            found |= {it["port"] for it in rule["ports"] if it["protocol"] == "TCP"}
    return found
