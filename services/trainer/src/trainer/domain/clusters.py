"""An attempt as objects of Kubernetes: a Job, what it is told and what it may reach. Pure: names and forms, no calls.

All names are made of the attempt's id, so that making a thing again is finding it. The Secret is both what the pods are
told and all that a runner knows of the attempt: it is made first and goes last.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.domain.attempts import Exit
from trainer.domain.grants import Grant
from trainer.domain.shapes import Shape

PREFIX = "trainyard.example"
HOST, ATTEMPT, JOB, FENCE = f"{PREFIX}/host", f"{PREFIX}/attempt", f"{PREFIX}/job", f"{PREFIX}/fence"
QUEUE = "kueue.x-k8s.io/queue-name"
CONTAINER = "job"
RECORD, TOKEN = "record", "token"
TOLD = "/etc/trainyard/attempt"
WORK, CHECKPOINTS = "/var/lib/trainyard", "/var/lib/trainyard-checkpoints"
USER = 65532
RENDEZVOUS = 29400
INDEX = "batch.kubernetes.io/job-completion-index"
DISRUPTED = "DisruptionTarget"
Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is the same for all jobs of a cluster: said by its operator."""

    namespace: str
    host: str
    """Under which attempts are leased: all replicas of a runner are one host."""
    image: str
    trainer_url: str
    """Where pods reach the trainer."""
    gpu_image: str | None = None
    gpu_resource: str = "nvidia.com/gpu"
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    work_size: str = "32Gi"
    grace_seconds: int = 60
    """From SIGTERM to the end: for a last checkpoint, and to hand things over."""
    longest_seconds: int = 7 * 86400
    """A Job is ended by the cluster after that, whatever becomes of the trainer."""
    keep_seconds: int = 86400
    """An ended Job is removed by the cluster after that; by us as soon as its end is recorded."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    gpu_node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    runtime_class: str | None = None
    priority_class: str | None = None
    queue: str | None = None
    """A LocalQueue of Kueue. Jobs are made suspended then, and Kueue lets them start."""
    checkpoints_claim: str | None = None
    """A volume claim that all nodes can write: where checkpoints outlive their pods."""
    managed_by: str | None = None
    """Who looks after Jobs, when that is not the cluster's own controller."""


def name_of(attempt: str) -> str:
    """Of everything that belongs to the attempt."""
    return f"ty-{attempt}"


def labels_of(grant: Grant, site: Site) -> dict[str, str]:
    """By what an attempt's things are found."""
    return {
        "app.kubernetes.io/name": "trainer",
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/managed-by": "trainyard",
        HOST: site.host,
        ATTEMPT: grant.attempt,
        JOB: grant.job,
    }


def secret(grant: Grant, site: Site, record: Mapping[str, Any]) -> Object:
    """What the runner knows, and the token that pods speak with: they see nothing but that."""
    data = {RECORD: json.dumps(record), TOKEN: grant.token}
    return _object("v1", "Secret", grant, site) | {
        "type": "Opaque",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def record_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was written into a Secret.

    Raises:
        ValueError, KeyError, TypeError: it is none of ours.
    """
    known = json.loads(base64.b64decode(found["data"][RECORD]))
    if not isinstance(known, dict):
        raise TypeError("This is no record.")
    return known


def service(grant: Grant, site: Site, owner: str) -> Object:
    """Names for the pods of a Job, before they are ready: they find each other by them."""
    return _object("v1", "Service", grant, site, owner) | {
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {ATTEMPT: grant.attempt},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS, "protocol": "TCP"}],
        }
    }


def policy(grant: Grant, site: Site, owner: str) -> Object:
    """The pods of one attempt may reach each other. What every job may reach is said once, by the chart."""
    peers = [{"podSelector": {"matchLabels": {ATTEMPT: grant.attempt}}}]
    return _object("networking.k8s.io/v1", "NetworkPolicy", grant, site, owner) | {
        "spec": {
            "podSelector": {"matchLabels": {ATTEMPT: grant.attempt}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers}],
            "egress": [{"to": peers}],
        }
    }


def job(grant: Grant, site: Site, shape: Shape, deadline_seconds: float | None = None) -> Object:
    """The Job of an attempt: as many pods as it has nodes, each with its index."""
    ends = min(site.longest_seconds, max(1, round(deadline_seconds or site.longest_seconds)))
    made = _object("batch/v1", "Job", grant, site)
    if site.queue is not None:
        made["metadata"]["labels"][QUEUE] = site.queue
    spec: Object = {
        "completionMode": "Indexed",
        "completions": shape.most,
        "parallelism": shape.most,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _rules(shape)},
        "activeDeadlineSeconds": ends,
        "ttlSecondsAfterFinished": site.keep_seconds,
        "template": {"metadata": {"labels": dict(made["metadata"]["labels"])}, "spec": _pod(grant, site, shape)},
    }
    spec |= {"backoffLimitPerIndex": 0, "maxFailedIndexes": shape.spare} if shape.spare else {"backoffLimit": 0}
    if site.queue is not None:
        spec["suspend"] = True
    if site.managed_by is not None:
        spec["managedBy"] = site.managed_by
    return made | {"spec": spec}


def _rules(shape: Shape) -> list[Object]:
    """A node that goes away is nobody's failure, and a pod that was told to stop has not failed."""
    stopped = {"containerName": CONTAINER, "operator": "In", "values": [int(Exit.STOPPED)]}
    others = {"containerName": CONTAINER, "operator": "NotIn", "values": [0, int(Exit.STOPPED)]}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": DISRUPTED, "status": "True"}]},
        {"action": "Ignore", "onExitCodes": stopped},
        {"action": "FailIndex" if shape.spare else "FailJob", "onExitCodes": others},
    ]


def _pod(grant: Grant, site: Site, shape: Shape) -> Object:
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": site.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(grant, site, shape)],
        "volumes": _volumes(grant, site),
    }
    selector = dict(site.node_selector) | (dict(site.gpu_node_selector) if shape.gpu else {})
    optional = {
        "subdomain": name_of(grant.attempt) if shape.most > 1 else None,
        "nodeSelector": selector or None,
        "tolerations": [dict(each) for each in site.tolerations] or None,
        "runtimeClassName": site.runtime_class,
        "priorityClassName": site.priority_class,
        "imagePullSecrets": [{"name": each} for each in site.pull_secrets] or None,
    }
    return pod | {name: value for name, value in optional.items() if value is not None}


def _container(grant: Grant, site: Site, shape: Shape) -> Object:
    image = site.gpu_image if shape.gpu and site.gpu_image is not None else site.image
    limits = {"memory": str(shape.memory)} | ({site.gpu_resource: str(shape.gpu)} if shape.gpu else {})
    mounts: list[Object] = [
        {"name": "told", "mountPath": TOLD, "readOnly": True},
        {"name": "work", "mountPath": WORK},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    if site.checkpoints_claim is not None:
        # Below the project: a job's id is no secret between projects.
        mounts.append({"name": "checkpoints", "mountPath": CHECKPOINTS, "subPath": f"{grant.project}/{grant.job}"})
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": site.pull_policy,
        "command": ["python", "-P", "-m", "trainer.kubernetes.pod"],
        "env": [{"name": name, "value": value} for name, value in _environment(grant, site, shape).items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": f"{shape.millicores}m", "memory": str(shape.memory)}, "limits": limits},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _environment(grant: Grant, site: Site, shape: Shape) -> dict[str, str]:
    """Where the pod asks; for more than one node, how torchrun finds the others (it reads PET_… by itself)."""
    told = {
        "TRAINYARD_ATTEMPT_URL": f"{site.trainer_url.rstrip('/')}/internal/v1/attempts/{grant.attempt}",
        "TRAINYARD_TOKEN_FILE": f"{TOLD}/{TOKEN}",
        "TRAINYARD_WORK": WORK,
        "TRAINYARD_MEMORY_BYTES": str(shape.memory),
    }
    if site.checkpoints_claim is not None:
        told["TRAINYARD_CHECKPOINTS"] = CHECKPOINTS
    if grant.traceparent is not None:
        told["TRACEPARENT"] = grant.traceparent
    if shape.most > 1:
        name = name_of(grant.attempt)
        nodes = str(shape.most) if not shape.spare else f"{shape.least}:{shape.most}"
        told |= {
            "PET_NNODES": nodes,
            "PET_NPROC_PER_NODE": str(shape.nproc),
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ID": grant.attempt,
            "PET_RDZV_ENDPOINT": f"{name}-0.{name}.{site.namespace}.svc:{RENDEZVOUS}",
            "PET_MAX_RESTARTS": "3",
            # A worker that comes back must not be sent to an address of one that has gone.
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
    return told


def _volumes(grant: Grant, site: Site) -> list[Object]:
    seen = {"key": TOKEN, "path": TOKEN}
    secret = {"secretName": name_of(grant.attempt), "defaultMode": 0o440, "items": [seen]}
    volumes: list[Object] = [
        {"name": "told", "secret": secret},
        {"name": "work", "emptyDir": {"sizeLimit": site.work_size}},
        {"name": "tmp", "emptyDir": {"sizeLimit": site.work_size}},
    ]
    if site.checkpoints_claim is not None:
        volumes.append({"name": "checkpoints", "persistentVolumeClaim": {"claimName": site.checkpoints_claim}})
    return volumes


def _object(version: str, kind: str, grant: Grant, site: Site, owner: str | None = None) -> Object:
    """Its head. `owner`: the uid of the Job that it goes with."""
    metadata: Object = {
        "name": name_of(grant.attempt),
        "namespace": site.namespace,
        "labels": labels_of(grant, site),
        "annotations": {FENCE: str(grant.fence), f"{PREFIX}/project": grant.project},
    }
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "batch/v1", "kind": "Job", "name": name_of(grant.attempt), "uid": owner}
        ]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
