"""`ingest`: an upload becomes a version of a dataset."""

from collections.abc import Mapping
from typing import Any

from kit import errors
from kit.failpoints import failpoint
from pipelines.clients.ingest import Version
from pipelines.domain import kinds
from pipelines.domain.steps import StepFailed
from pipelines.kinds.doing import FIRST_LOOK, LOOK, Doing, Done, Prepared, Working


class Ingest:
    """The version is found again by its number; before it has one, by the idempotency key, and by its bytes."""

    async def prepare(self, doing: Doing, given: kinds.With) -> Prepared:
        assert isinstance(given, kinds.Ingest)
        inputs = given.model_dump(mode="json")
        if given.settings is not None:
            return Prepared(inputs, inputs)
        found = await doing.ask.ingest.dataset(doing.principal, given.dataset)
        # A version is made with the settings that the dataset has: they are part of what tells it from others.
        return Prepared(inputs, inputs | {"settings": found.settings if found else {}})

    async def work(self, doing: Doing) -> Done | Working:
        number = doing.step.memo.get("version")
        if number is None:
            version = await self._make(doing)
        else:
            version = await doing.ask.ingest.version(doing.principal, doing.inputs["dataset"], number)
        match version.status.phase:
            case "ready":
                return Done(_outputs(version))
            case "failed":
                raise StepFailed(version.status.reason or "failed", version.status.message or "Its data was refused.")
            case _:
                due_in = FIRST_LOOK if number is None else LOOK
                return Working({"version": version.version}, f"ingest:{version.reference}", due_in)

    async def cancel(self, doing: Doing) -> None:
        """The version becomes ready; nobody is hurt by it."""

    async def still_there(self, doing: Doing, outputs: Mapping[str, Any]) -> bool:
        try:
            version = await doing.ask.ingest.version(doing.principal, outputs["dataset"], outputs["version"])
        except errors.NotFound:
            return False
        return bool(version.digest == outputs["digest"])

    async def _make(self, doing: Doing) -> Version:
        asked, name = doing.inputs, doing.inputs["dataset"]
        dataset = None
        if asked["settings"] is not None:
            dataset = await doing.ask.ingest.put_dataset(doing.principal, name, asked["settings"])
        elif await doing.ask.ingest.dataset(doing.principal, name) is None:
            dataset = await doing.ask.ingest.put_dataset(doing.principal, name, {})
        source = {member: asked[member] for member in ("upload", "format", "compression")}
        failpoint("pipelines.ingest.before_post")
        version = await doing.ask.ingest.make_version(doing.principal, name, source, key=doing.step.idempotency_key)
        failpoint("pipelines.ingest.after_post")
        if dataset is not None and version.settings != dataset.settings:
            raise StepFailed("changed", f"The settings of {name} were changed while the version was being made.")
        return version


def _outputs(version: Version) -> dict[str, Any]:
    return {
        "dataset": version.dataset,
        "version": version.version,
        "reference": version.reference,
        "digest": version.digest,
        "rows": version.rows,
        "rows_in": version.rows_in,
        "rejected": version.rejected,
        "splits": version.splits,
    }
