"""What a sweep may ask for: checked before it is taken, so that no trial is begun that can never work."""

from collections.abc import Iterator

from kit import errors
from trainer.domain import spaces, specs
from trainer.domain.spaces import Space, pointer_of
from trainer.domain.specs import LONGEST, SHORTEST
from trainer.domain.sweeps import Method, SweepSpec, with_parameters


class SweepInvalid(errors.Invalid): ...


def check(spec: SweepSpec) -> None:
    """
    Raises:
        EstimatorInvalid: the job cannot work with some value of the space, or at all.
        JobInvalid: the same.
        SweepInvalid: anything else that cannot work.
    """
    places = [*spaces.mistakes(spec.space), *_own_mistakes(spec)]
    if places:
        raise SweepInvalid(f"{len(places)} value(s) of the sweep cannot work.", errors=places)
    for parameters in spaces.corners(spec.space):
        try:
            specs.check(with_parameters(spec.job, parameters))
        except errors.Invalid as exc:
            exc.errors = [_of_sweep(place, spec.space) for place in exc.errors]
            raise


def _own_mistakes(spec: SweepSpec) -> Iterator[errors.Place]:
    time, size = spec.budget.time, spaces.size_of(spec.space)
    if time is not None and not SHORTEST <= time <= LONGEST:
        yield {"pointer": "#/budget/time", "detail": "must be between 1s and 7d"}
    if spec.algorithm.method is Method.GRID and size is None:
        detail = "a grid needs choices, or whole numbers, or a step, for each parameter"
        yield {"pointer": "#/space", "detail": detail}
    if spec.model is not None and not specs.is_name(spec.model):
        yield {"pointer": "#/job/register/model", "detail": "must be a name: small letters, digits, . _ -"}


def _of_sweep(place: errors.Place, space: Space) -> errors.Place:
    """Where that is in the body of a sweep: what is wrong with a value of the space is wrong there."""
    within = place["pointer"]
    for name in map(pointer_of, space):
        for inside in (f"#/estimator/parameters/{name}", f"#/parameters/{name}"):
            if within == inside or within.startswith(f"{inside}/"):
                return {"pointer": f"#/space/{name}", "detail": place["detail"]}
    return {"pointer": f"#/job{within[1:]}", "detail": place["detail"]}
