"""`promote`: an alias points at a model version. Where it does already, nothing is done."""

from kit import errors
from kit.failpoints import failpoint
from pipelines.clients.registry import Alias
from pipelines.kinds.doing import Doing, Done, Immediate, Working


class Promote(Immediate):
    """By compare-and-set: a move by somebody else at the same moment is seen."""

    async def work(self, doing: Doing) -> Done | Working:
        model, alias, version = (doing.inputs[member] for member in ("model", "alias", "version"))
        seen = await doing.ask.registry.alias(doing.principal, model, alias)
        moved = seen is None or seen.version != version
        failpoint("pipelines.promote.before_put")
        if moved:
            await _move(doing, model, alias, version, seen)
        failpoint("pipelines.promote.after_put")
        return Done(
            {
                "model": model,
                "alias": alias,
                "version": version,
                "reference": f"{model}@{alias}",
                "moved": moved,
            }
        )


async def _move(doing: Doing, model: str, alias: str, version: int, seen: Alias | None) -> None:
    try:
        await doing.ask.registry.move(doing.principal, model, alias, version, seen)
    except errors.PreconditionFailed:
        # What moved it may have been an earlier try of ours, whose answer was lost.
        now = await doing.ask.registry.alias(doing.principal, model, alias)
        if now is None or now.version != version:
            raise
