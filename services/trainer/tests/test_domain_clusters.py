"""An attempt as objects of Kubernetes, and what a cluster says of them."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from runners_of_clusters import SITE, grant_of

from trainer.domain import clusters
from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.clusters import ATTEMPT, HOST, INDEX, name_of
from trainer.domain.leased import Attempt, said_last
from trainer.domain.shapes import Shape, shape_of
from trainer.domain.sightings import (
    Found,
    JobSeen,
    PodSeen,
    ending_of,
    hopeless,
    job_seen,
    pod_seen,
    state_of,
    tells,
)
from trainer.kubernetes.home import Record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GRANT = grant_of()


def spec_of(site: Any = SITE, **spec: Any) -> tuple[Any, Any, Any]:
    """The Job's spec, its pod's, its container's."""
    made = clusters.job(GRANT, site, shape_of(spec, Shape()))["spec"]
    pod = made["template"]["spec"]
    return made, pod, pod["containers"][0]


def test_a_job_is_one_pod_with_its_own_ends() -> None:
    job, pod, container = spec_of()
    assert (job["completionMode"], job["completions"], job["parallelism"], job["backoffLimit"]) == ("Indexed", 1, 1, 0)
    assert job["podReplacementPolicy"] == "Failed"
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore", "Ignore", "FailJob"]
    assert job["activeDeadlineSeconds"] == SITE.longest_seconds
    assert job["ttlSecondsAfterFinished"] == 86400
    assert pod["restartPolicy"] == "Never"
    assert container["resources"] == {
        "requests": {"cpu": "1000m", "memory": str(2 << 30)},
        "limits": {"memory": str(2 << 30)},
    }


def test_pods_are_as_restricted_as_pods_can_be() -> None:
    _, pod, container = spec_of()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_an_operator_says_where_jobs_run() -> None:
    site = replace(
        SITE,
        gpu_image="torch:1",
        node_selector={"pool": "jobs"},
        gpu_node_selector={"gpu": "yes"},
        tolerations=({"key": "jobs", "operator": "Exists"},),
        runtime_class="gvisor",
        priority_class="low",
        pull_secrets=("pull",),
        queue="team",
        checkpoints_claim="shared",
    )
    job, pod, container = spec_of(site, resources={"cpu": 0.5, "memory": 1 << 30, "gpu": 2})
    assert job["suspend"] is True
    assert job["template"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert container["image"] == "torch:1"
    assert container["resources"]["limits"] == {"memory": str(1 << 30), "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"]["cpu"] == "500m"
    assert pod["nodeSelector"] == {"pool": "jobs", "gpu": "yes"}
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("gvisor", "low")
    assert (pod["imagePullSecrets"], len(pod["tolerations"])) == ([{"name": "pull"}], 1)
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "checkpoints"]
    assert mount["subPath"] == f"blue/{GRANT.job}"
    _, pod, container = spec_of(site)
    assert (container["image"], pod["nodeSelector"]) == ("trainer-job:1", {"pool": "jobs"})


def test_nodes_that_may_go_fail_alone() -> None:
    job, pod, container = spec_of(nodes={"min": 1, "max": 3}, nproc=2)
    assert (job["backoffLimitPerIndex"], job["maxFailedIndexes"], job["completions"]) == (0, 2, 3)
    assert "backoffLimit" not in job
    assert job["podFailurePolicy"]["rules"][-1]["action"] == "FailIndex"
    assert pod["subdomain"] == name_of(GRANT.attempt)
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told["PET_NNODES"] == "1:3"


def test_a_deadline_and_a_trace_are_passed_on() -> None:
    grant = replace(GRANT, traceparent="00-1-2-01")
    made = clusters.job(grant, SITE, Shape(), 90)["spec"]
    assert made["activeDeadlineSeconds"] == 90
    assert {"name": "TRACEPARENT", "value": "00-1-2-01"} in made["template"]["spec"]["containers"][0]["env"]


def test_peers_reach_each_other_and_belong_to_their_job() -> None:
    for made in (clusters.service(GRANT, SITE, "7"), clusters.policy(GRANT, SITE, "7")):
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Job", "7")
        assert made["metadata"]["labels"][ATTEMPT] == GRANT.attempt
        assert made["metadata"]["labels"][HOST] == "cluster"


def test_names_are_labels_of_dns() -> None:
    # The name of a pod of an indexed Job is its host's name too: the Job's, a dash, and the index.
    assert len(f"{name_of(GRANT.attempt)}-63") <= 63


def test_a_record_is_read_as_it_was_written() -> None:
    record = Record(GRANT, uid="7", lines=3)
    made = clusters.secret(GRANT, SITE, asdict(record))
    assert Record.from_json(clusters.record_of(made)) == record
    with pytest.raises(TypeError):
        clusters.record_of({"data": {"record": "W10="}})


def job(**status: Any) -> dict[str, Any]:
    return {"metadata": {"uid": "7", "resourceVersion": "5"}, "spec": {}, "status": status}


def condition(kind: str, reason: str = "", status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": f"about {kind}"}


def test_what_a_job_says() -> None:
    assert job_seen(job()) == JobSeen(uid="7", version=5)
    assert job_seen(job(conditions=[condition("Complete")])).complete
    assert not job_seen(job(conditions=[condition("Complete", status="False")])).ended
    failed = job_seen(job(conditions=[condition("Failed", "DeadlineExceeded")]))
    assert (failed.failed, failed.message, failed.ended) == ("DeadlineExceeded", "about Failed", True)
    assert job_seen(job(conditions=[condition("Failed")])).failed == "Failed"


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    metadata = {"uid": "p", "name": "pod", "resourceVersion": "9", "labels": {INDEX: "1"}}
    metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z"}  # type: ignore[dict-item]
    states = [] if state is None else [{"name": "job", "state": state}]
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"containerStatuses": states} | status}


def test_what_a_pod_says() -> None:
    seen = pod_seen(pod({"running": {}}, phase="Running"))
    assert (seen.index, seen.node, seen.phase, seen.since) == (1, "n1", "Running", NOW)
    ended = pod_seen(pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, phase="Failed"))
    assert (ended.exit_code, ended.killed_for, ended.ended) == (137, "OOMKilled", True)
    waits = pod_seen(pod({"waiting": {"reason": "ErrImagePull", "message": "no"}}))
    assert (waits.waits_for, waits.message, waits.trouble) == ("ErrImagePull", "no", True)
    held = pod_seen(pod(conditions=[condition("PodScheduled", "Unschedulable", "False")]))
    assert (held.waits_for, held.message, held.trouble) == ("Unschedulable", "about PodScheduled", False)
    out = pod_seen(pod(phase="Failed", reason="Evicted", message="The node was low on disk."))
    assert out.evicted == "The node was low on disk."
    assert pod_seen(pod(conditions=[condition("DisruptionTarget")])).disrupted == "about DisruptionTarget"


def test_what_was_seen_of_an_end_stays_seen() -> None:
    before = pod_seen(
        pod({"terminated": {"exitCode": 3, "reason": "Error"}}, conditions=[condition("DisruptionTarget")])
    )
    after = pod_seen(pod(), before)
    assert (after.exit_code, after.killed_for, after.disrupted) == (3, "Error", "about DisruptionTarget")


RUNS = PodSeen(uid="p", name="pod", phase="Running", node="n1")
JOB = JobSeen(uid="7", version=5)


def test_the_log_says_what_a_job_waits_for() -> None:
    assert state_of(replace(JOB, suspended=True), []) == "The job waits in the cluster's queue."
    assert state_of(JOB, []) == ""
    held = PodSeen(uid="q", name="other", waits_for="Unschedulable", message="0/3 nodes are available")
    assert state_of(JOB, [held]) == "The pod waits (Unschedulable): 0/3 nodes are available"
    assert state_of(JOB, [held, RUNS]) == "1 of 2 pods wait (Unschedulable): 0/3 nodes are available"
    assert state_of(JOB, [replace(RUNS, waits_for="ContainerCreating", phase="Pending")]) == ""
    assert state_of(JOB, [RUNS, replace(RUNS, uid="q", node="n2")]) == "The job runs on n1, n2."


def test_nobody_waits_for_an_image_for_ever() -> None:
    pulls = PodSeen(uid="p", name="pod", waits_for="ImagePullBackOff", trouble=True, since=NOW, message="not found")
    assert hopeless([pulls], NOW + timedelta(minutes=4)) is None
    found = hopeless([pulls], NOW + timedelta(minutes=6))
    assert found is not None
    assert found.failure is not None
    assert found.failure["reason"] == "image-unavailable"
    assert hopeless([replace(pulls, waits_for="InvalidImageName")], NOW) is not None
    starts = hopeless([replace(pulls, waits_for="CreateContainerError")], NOW + timedelta(hours=1))
    assert starts is not None
    assert starts.failure is not None
    assert starts.failure["reason"] == "platform-error"
    waits = replace(pulls, trouble=False, waits_for="Unschedulable")
    assert hopeless([waits], NOW + timedelta(days=9)) is None


def ends(job: JobSeen | None, *pods: PodSeen, stopped: bool = False) -> Found:
    return ending_of(job, pods, stopped=stopped, memory=1 << 30)


def reason(found: Found) -> str:
    return found.result.outcome if found.result is not None else (found.failure or {"reason": ""})["reason"]


FAILED = replace(JOB, failed="PodFailurePolicy", message="a pod failed")


@pytest.mark.parametrize(
    ("job", "pod", "stopped", "expected"),
    [
        (replace(JOB, complete=True), replace(RUNS, exit_code=0), False, (0, "")),
        (FAILED, replace(RUNS, exit_code=137, killed_for="OOMKilled"), False, (137, "out-of-memory")),
        (FAILED, replace(RUNS, exit_code=65), False, (65, "")),
        (FAILED, replace(RUNS, exit_code=3), False, (3, "")),
        (FAILED, replace(RUNS, exit_code=3), True, (3, "stopped")),
        (FAILED, replace(RUNS, exit_code=1, disrupted="drained"), False, (1, "stopped")),
        (FAILED, replace(RUNS, exit_code=137, evicted="low on disk"), False, (None, "platform-error")),
        (FAILED, RUNS, False, (None, "crashed")),
        (replace(JOB, failed="DeadlineExceeded"), RUNS, False, (None, "stopped")),
        (None, RUNS, False, (None, "platform-error")),
        (None, RUNS, True, (None, "stopped")),
        (None, replace(RUNS, exit_code=70), False, (70, "")),
    ],
)
def test_how_an_end_is_called(job: JobSeen, pod: PodSeen, stopped: bool, expected: tuple[Any, ...]) -> None:
    found = ends(job, pod, stopped=stopped)
    assert (found.exit_code, reason(found)) == expected


def test_whose_last_words_are_kept() -> None:
    assert tells(replace(RUNS, phase="Failed", exit_code=137))
    assert not tells(replace(RUNS, phase="Failed", exit_code=65))  # it has said so itself
    assert not tells(RUNS)


def test_what_a_pod_has_handed_over_counts() -> None:
    attempt = Attempt(id=None, project="blue", job_id=None, number=1)  # type: ignore[arg-type]
    good, bad = (AttemptResult(outcome=each) for each in (Outcome.SUCCEEDED, Outcome.PLATFORM_ERROR))
    stopped = AttemptResult(outcome=Outcome.STOPPED)
    assert said_last(attempt, bad) is bad
    assert said_last(replace(attempt, result=good), None) is good
    assert said_last(replace(attempt, result=stopped), None) is None
