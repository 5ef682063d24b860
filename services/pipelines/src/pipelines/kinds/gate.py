"""`gate`: the run goes on only when every expression is true."""

from pipelines.domain.expressions import values_in
from pipelines.domain.steps import StepFailed, StepReason
from pipelines.kinds.doing import Doing, Done, Immediate, Working


class Gate(Immediate):
    """Evaluated anew in every run."""

    async def work(self, doing: Doing) -> Done | Working:
        required: list[str] = doing.inputs["require"]
        verdicts = await doing.ask.expressions.evaluate(required, doing.data)
        for expression, verdict in zip(required, verdicts, strict=True):
            if verdict.value is None:
                raise StepFailed(StepReason.EXPRESSION, f"`{expression[:500]}` {verdict.error}")
        false = [expression for expression, verdict in zip(required, verdicts, strict=True) if not verdict.value]
        if false:
            said = "; ".join(f"`{text[:300]}` is false ({values_in(text, doing.data)})" for text in false)
            raise StepFailed(StepReason.GATE, said)
        return Done({"passed": True, "require": required})
