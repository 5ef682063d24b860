"""`deploy`: a deployment serves what it is to serve."""

import asyncio

from kit.clients import Principal
from kit.failpoints import failpoint
from pipelines.clients.serving import Deployment
from pipelines.domain import kinds
from pipelines.domain.steps import StepFailed
from pipelines.kinds.doing import FIRST_LOOK, LOOK, Doing, Done, Immediate, Neighbours, Working


class Deploy(Immediate):
    """Done when it is ready at the generation that we asked for, and its aliases mean what they mean now."""

    async def work(self, doing: Doing) -> Done | Working:
        body = kinds.Deploy.model_validate(doing.inputs).body()
        name, memo = doing.inputs["deployment"], doing.step.memo
        if "generation" not in memo:
            failpoint("pipelines.deploy.before_put")
            found = await doing.ask.serving.put(doing.principal, name, body)
            failpoint("pipelines.deploy.after_put")
            memo = {"generation": found.generation, "models": found.models}
            first = True
        else:
            found = await doing.ask.serving.deployment(doing.principal, name)
            first = False
        if found.generation != memo["generation"] and found.models != memo["models"]:
            raise StepFailed("superseded", f"{name} was told to serve something else meanwhile.")
        if found.is_settled and found.status.phase == "failed":
            raise StepFailed(found.status.reason or "failed", found.status.message or f"{name} failed.")
        if found.is_settled and found.status.phase == "ready" and await _is_current(doing.ask, doing.principal, found):
            return Done(_outputs(found))
        return Working(memo, f"serving:{name}", FIRST_LOOK if first else LOOK)


async def _is_current(ask: Neighbours, principal: Principal, found: Deployment) -> bool:
    """Whether it serves what its references mean now: after an alias has moved, it takes a moment to notice."""

    async def meant(reference: str) -> str:
        model, _, version = reference.partition("@")
        now = await ask.registry.version(principal, model, version or "latest")
        return f"{now.model}@{now.version}"

    wanted = await asyncio.gather(*(meant(str(part["model"])) for part in found.models))
    return sorted(wanted) == sorted(found.serves)


def _outputs(found: Deployment) -> dict[str, object]:
    return {
        "deployment": found.name,
        "generation": found.generation,
        "revision": found.revision.id if found.revision else None,
        "serves": found.serves,
    }
