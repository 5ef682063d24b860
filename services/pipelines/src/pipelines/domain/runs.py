"""A run: one execution of a definition, with the parameters and on behalf of the caller that began it."""

import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from kit import errors
from kit.roles import Role
from pipelines.domain.documents import pointer_of, too_large_in
from pipelines.domain.steps import GOOD, UNDONE, StepPhase, StepReason


class RunNotFound(errors.NotFound): ...


class RunOver(errors.Conflict): ...


class RunUnderWay(errors.Conflict): ...


class NothingToResume(errors.Conflict): ...


class ParametersInvalid(errors.Invalid): ...


class Phase(enum.StrEnum):
    """Where a run is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOST_PLACES = 100
FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
RESUMABLE = frozenset({Phase.FAILED, Phase.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it was last read."""

    id: uuid.UUID
    project: str
    pipeline: str
    revision: int
    """Of the pipeline, when the run began: later changes are of later runs."""
    parameters: Mapping[str, Any]
    subject: str
    """Who began it. All that its steps do is done in this name."""
    role: Role
    phase: Phase = Phase.RUNNING
    reason: str = ""
    message: str = ""
    cancel_requested: bool = False
    created_at: datetime
    finished_at: datetime | None = None


def role_of(role: Role) -> Role:
    """What a run may do: what its author may, and no more than an editor."""
    return Role.EDITOR if role.at_least(Role.EDITOR) else role


def parameters_of(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run.

    Raises:
        ParametersInvalid: one is not known, of another type than its default, or holds an integer beyond 64 bits. A
            default of null takes anything.
    """
    places: list[errors.Place] = []
    for name, value in given.items():
        pointer = pointer_of("parameters", name)
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            places.append({"pointer": pointer, "detail": f"there is no parameter {name[:100]!r}; there are: {known}"})
        elif defaults[name] is not None and type_of(value) != type_of(defaults[name]):
            detail = f"must be a {type_of(defaults[name])}, as its default is; this is a {type_of(value)}"
            places.append({"pointer": pointer, "detail": detail})
    parameters = {**defaults, **given}
    large = islice(too_large_in(parameters), MOST_PLACES)
    places.extend({"pointer": pointer_of("parameters", *at), "detail": "is a number beyond 64 bits"} for at in large)
    if places:
        raise ParametersInvalid(f"{len(places)} parameter(s) cannot be used.", errors=places)
    return parameters


def type_of(value: Any) -> str:
    """What JSON calls a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "object"


@dataclass(frozen=True)
class Node:
    """Of a step, what decides about the others."""

    name: str
    needs: Sequence[str]
    if_skipped: str
    phase: StepPhase
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Skip:
    """Why a step is never begun."""

    reason: StepReason
    message: str


@dataclass(frozen=True)
class Advance:
    """What follows from the states of all steps."""

    ready: Sequence[str] = ()
    """Steps that can begin now."""
    skipped: Mapping[str, Skip] = field(default_factory=dict)
    phase: Phase | None = None
    """How the run ended, if it has."""
    reason: str = ""
    message: str = ""


def advance(nodes: Sequence[Node], *, cancelled: bool = False) -> Advance:
    """What becomes of a run whose steps (each after those that it needs) are like this."""
    phases = {node.name: (node.phase, node.reason) for node in nodes}
    ready: list[str] = []
    skipped: dict[str, Skip] = {}
    for node in nodes:
        if node.phase is not StepPhase.WAITING or cancelled:
            continue
        skip = _skip(node, phases)
        if skip is not None:
            skipped[node.name] = skip
            phases[node.name] = (StepPhase.SKIPPED, skip.reason)
        elif all(phases[need][0] not in UNDONE for need in node.needs):
            ready.append(node.name)
    if any(phase in UNDONE for phase, _ in phases.values()):
        return Advance(ready, skipped)
    return _ended(nodes, skipped, cancelled=cancelled)


def _skip(node: Node, phases: Mapping[str, tuple[StepPhase, str]]) -> Skip | None:
    for need in node.needs:
        phase, reason = phases[need]
        if phase in (StepPhase.FAILED, StepPhase.CANCELLED) or reason == StepReason.NEED_FAILED:
            return Skip(StepReason.NEED_FAILED, f"{need} did not succeed.")
    for need in node.needs:
        if phases[need][0] is StepPhase.SKIPPED and node.if_skipped == "skip":
            return Skip(StepReason.NEED_SKIPPED, f"{need} was skipped.")
    return None


def _ended(nodes: Sequence[Node], skipped: Mapping[str, Skip], *, cancelled: bool) -> Advance:
    if cancelled and not all(node.phase in GOOD for node in nodes):
        return Advance((), skipped, Phase.CANCELLED, "cancelled", "The run was cancelled.")
    failed = [node for node in nodes if node.phase is StepPhase.FAILED]
    if not failed:
        return Advance((), skipped, Phase.SUCCEEDED)
    others = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    message = f"Step {failed[0].name} failed: {failed[0].message or failed[0].reason}{others}"
    return Advance((), skipped, Phase.FAILED, "step-failed", message)
