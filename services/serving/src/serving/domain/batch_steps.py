"""What is to be done next about a batch."""

from dataclasses import dataclass

from serving.domain.batches import FINAL, Batch, Phase, Progress, Reason, Why

NOTHING = Why()


@dataclass(frozen=True)
class Pin:
    """Find out which dataset version is meant, and write it down before anything is held."""


@dataclass(frozen=True)
class Begin:
    """Hold it and the models, and cut it into parts."""


@dataclass(frozen=True)
class Commit:
    """All parts are done: from here on it is too late to cancel."""


@dataclass(frozen=True)
class Write:
    """Have the result made, or see how far it is."""


@dataclass(frozen=True)
class Settle:
    """It has ended."""

    phase: Phase
    why: Why = NOTHING


@dataclass(frozen=True)
class Clean:
    """Let go of everything."""


@dataclass(frozen=True)
class Remove:
    """Forget it."""


@dataclass(frozen=True)
class Wait:
    """Others do what is to be done."""


Step = Pin | Begin | Commit | Write | Settle | Clean | Remove | Wait


def next_step(batch: Batch, progress: Progress) -> Step:
    """The one next thing to do about a batch."""
    match batch:
        case Batch(phase=phase, is_clean=False) if phase in FINAL:
            return Clean()
        case Batch(phase=phase, delete_requested=True) if phase in FINAL:
            return Remove()
        case Batch(phase=phase) if phase in FINAL:
            return Wait()
        case Batch(is_writing=True):
            return Write()
        case Batch(cancel_requested=True):
            return Settle(Phase.CANCELLED)
        case Batch(phase=Phase.PENDING):
            return Pin() if batch.pinned is None else Begin()
    if progress.lost is not None:
        hint = "Ask the deployment about some of the rows; what it says of them may tell more."
        return Settle(Phase.FAILED, Why(Reason.MODEL_FAILED, progress.lost, hint))
    return Commit() if progress.done == progress.parts else Wait()
