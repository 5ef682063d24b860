"""What a cluster says of an attempt's Job and pods, and what that means. Pure: documents in, words out.

A document may be old, and a pod may be gone before its end was seen: what is final is said by the Job's own conditions
or by the server's word that there is no Job; pods only tell why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from trainer.domain.attempts import AttemptResult, Exit, Outcome
from trainer.domain.clusters import CONTAINER, DISRUPTED, INDEX
from trainer.domain.leased import LOG_HINT, MEMORY_HINT

Document = Mapping[str, Any]
IMAGE_TROUBLE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
START_TROUBLE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
PATIENCE = timedelta(minutes=5)
"""How long an image may not be there, or a container not start: registries and nodes come back."""
OWN_EXITS = frozenset({int(each) for each in Exit})
IMAGE_HINT = "Check the image's name and the pull secret with your operator."
NODE_HINT = "The node may have been full of disk or memory: ask for what the job takes, or write less."


@dataclass(frozen=True, kw_only=True)
class PodSeen:
    """A pod as it was last seen, and what was seen of its end."""

    uid: str
    name: str
    index: int | None = None
    version: int = 0
    phase: str = "Pending"
    node: str = ""
    leaving: bool = False
    disrupted: str = ""
    """Why the cluster took it away: a node drained, a pod preempted."""
    evicted: str = ""
    """What the node said when it put the pod out: of disk or memory, for the most part."""
    exit_code: int | None = None
    killed_for: str = ""
    message: str = ""
    """Of what holds it up, while it has not started."""
    waits_for: str = ""
    trouble: bool = False
    """Whether what holds it up is no matter of capacity."""
    since: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, kw_only=True)
class JobSeen:
    """A Job as it was last seen."""

    uid: str
    version: int
    complete: bool = False
    failed: str = ""
    message: str = ""
    suspended: bool = False
    leaving: bool = False

    @property
    def ended(self) -> bool:
        return self.complete or bool(self.failed)


def version_of(document: Document) -> int:
    """The resource version, as a number: of two of one object, the greater one is the newer."""
    return int(document["metadata"]["resourceVersion"])


def job_seen(document: Document) -> JobSeen:
    """What a Job says of itself."""
    conditions = _conditions(document)
    failed = conditions.get("Failed", {})
    return JobSeen(
        uid=document["metadata"]["uid"],
        version=version_of(document),
        complete="Complete" in conditions,
        failed=failed.get("reason") or ("Failed" if failed else ""),
        message=failed.get("message") or "",
        suspended=bool(document.get("spec", {}).get("suspend")),
        leaving="deletionTimestamp" in document["metadata"],
    )


def pod_seen(document: Document, before: PodSeen | None = None) -> PodSeen:
    """What a pod says of itself; what was seen of its end before stays seen."""
    metadata, status = document["metadata"], document.get("status") or {}
    conditions = _conditions(document)
    disrupted = conditions.get(DISRUPTED, {})
    index = (metadata.get("labels") or {}).get(INDEX) or (metadata.get("annotations") or {}).get(INDEX)
    seen = PodSeen(
        uid=metadata["uid"],
        name=metadata["name"],
        index=None if index is None else int(index),
        version=version_of(document),
        phase=status.get("phase") or "Pending",
        node=(document.get("spec") or {}).get("nodeName") or "",
        leaving="deletionTimestamp" in metadata,
        disrupted=disrupted.get("message") or disrupted.get("reason") or "",
        evicted=(status.get("message") or "the node was short of something")
        if status.get("reason") == "Evicted"
        else "",
        # What it waits for before it has a node is no trouble.
        since=_time(
            conditions.get("PodScheduled", metadata).get("lastTransitionTime") or metadata.get("creationTimestamp")
        ),
    )
    seen = _with_container(seen, status, _conditions(document, "False").get("PodScheduled", {}))
    if before is None:
        return seen
    return replace(
        seen,
        disrupted=seen.disrupted or before.disrupted,
        evicted=seen.evicted or before.evicted,
        exit_code=before.exit_code if seen.exit_code is None else seen.exit_code,
        killed_for=seen.killed_for or before.killed_for,
    )


def _with_container(seen: PodSeen, status: Document, unscheduled: Document) -> PodSeen:
    states = [
        each.get("state") or {} for each in status.get("containerStatuses") or () if each.get("name") == CONTAINER
    ]
    state = states[0] if states else {}
    if (ended := state.get("terminated")) is not None:
        return replace(seen, exit_code=ended.get("exitCode"), killed_for=ended.get("reason") or "")
    if (waiting := state.get("waiting")) is not None:
        reason = waiting.get("reason") or ""
        trouble = reason in IMAGE_TROUBLE | START_TROUBLE
        return replace(seen, waits_for=reason, message=waiting.get("message") or "", trouble=trouble)
    if unscheduled and not state:
        return replace(
            seen, waits_for=unscheduled.get("reason") or "Unschedulable", message=unscheduled.get("message") or ""
        )
    return seen


def state_of(job: JobSeen | None, pods: Sequence[PodSeen]) -> str:
    """One sentence for the job's log: what it waits for, or where it works."""
    if job is not None and job.suspended:
        return "The job waits in the cluster's queue."
    present = [pod for pod in pods if not pod.leaving and not pod.ended]
    held_up = [pod for pod in present if pod.waits_for not in ("", "ContainerCreating", "PodInitializing")]
    if held_up:
        pod = held_up[0]
        many = f"{len(held_up)} of {len(present)} pods wait" if len(present) > 1 else "The pod waits"
        said = f": {pod.message}" if pod.message else ""
        return f"{many} ({pod.waits_for}){said}"[:1000]
    working = sorted({pod.node for pod in present if pod.phase == "Running"})
    if present and all(pod.phase == "Running" for pod in present):
        return f"The job runs on {', '.join(working) or 'a node'}."
    return ""


@dataclass(frozen=True)
class Found:
    """How an attempt ended in the cluster, in the words of a runner. With none of them: as the program itself said."""

    exit_code: int | None = None
    result: AttemptResult | None = None
    failure: dict[str, str] | None = None


def hopeless(pods: Sequence[PodSeen], now: datetime) -> Found | None:
    """Why waiting any longer is of no use, if it is not: nobody brings the image, or the container cannot start."""
    for pod in pods:
        late = pod.since is not None and now - pod.since > PATIENCE
        if pod.trouble and not pod.ended and (late or pod.waits_for == "InvalidImageName"):
            said = f"The container cannot be started ({pod.waits_for}): {pod.message}"
            if pod.waits_for in IMAGE_TROUBLE:
                return _failed("image-unavailable", said, IMAGE_HINT)
            return _failed("platform-error", said)
    return None


def ending_of(job: JobSeen | None, pods: Sequence[PodSeen], *, stopped: bool, memory: int) -> Found:
    """What is said of the end of an attempt whose Job has ended or is gone."""
    codes = [pod.exit_code for pod in pods if pod.exit_code is not None]
    code = next((each for each in codes if each != 0), codes[0] if codes else None)
    if job is not None and job.complete:
        return Found(exit_code=0)
    if any(pod.killed_for == "OOMKilled" for pod in pods):
        said = f"The job took more than the {memory >> 20} MiB of memory that it may."
        return replace(_failed("out-of-memory", said, MEMORY_HINT), exit_code=code)
    if (evicted := next((pod.evicted for pod in pods if pod.evicted and not pod.disrupted), "")) != "":
        return _failed("platform-error", f"The node put the job out: {evicted}", NODE_HINT)
    if stopped or (job is not None and job.failed == "DeadlineExceeded"):
        return Found(code, _stopped("The attempt was stopped."))
    if (disrupted := next((pod.disrupted for pod in pods if pod.disrupted), "")) != "":
        return Found(code, _stopped(f"The cluster took a pod of the job away: {disrupted}"))
    if any(each in OWN_EXITS and each != 0 for each in codes):
        return Found(code)  # the program has said what it was
    if job is None:
        return _failed("platform-error", "Somebody deleted the attempt's Kubernetes Job, or its namespace.")
    if code is None:
        return _failed("crashed", f"The attempt's Kubernetes Job failed ({job.failed}): {job.message}", LOG_HINT)
    return Found(code)


def tells(pod: PodSeen) -> bool:
    """Whether the end of what the pod printed is worth keeping: nobody else has said why it ended."""
    return (pod.phase == "Failed" or pod.exit_code not in (None, 0)) and pod.exit_code not in OWN_EXITS


def _failed(reason: str, message: str, hint: str = "") -> Found:
    return Found(failure={"reason": reason, "message": message[:2000], "hint": hint})


def _stopped(message: str) -> AttemptResult:
    return AttemptResult(outcome=Outcome.STOPPED, message=message[:2000])


def _conditions(document: Document, status: str = "True") -> dict[str, Document]:
    found = (document.get("status") or {}).get("conditions") or ()
    return {each["type"]: each for each in found if each.get("status") == status}


def _time(text: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else text
