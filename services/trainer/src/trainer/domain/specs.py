"""What a job may ask for: checked before it is taken, so that nothing is queued that can never be run."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from kit import errors
from models.estimators import estimator_kind, steps_of
from trainer.domain.jobs import JobSpec

MAX_RETRIES = 10
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=7)
NAME = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
_NAME = re.compile(NAME)
_VERSION = re.compile(r"[1-9][0-9]{0,8}|latest|sha256:[0-9a-f]{64}")


class JobInvalid(errors.Invalid): ...


@dataclass(frozen=True)
class DatasetReference:
    """`flights`, `flights@3` or `flights@sha256:…`."""

    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> "DatasetReference":
        """
        Raises:
            JobInvalid: it is none.
        """
        name, at, version = text.partition("@")
        if not is_name(name) or (at and not _VERSION.fullmatch(version)):
            detail = "must be a dataset, such as flights, flights@3 or flights@sha256:…"
            raise JobInvalid("This is not a dataset reference.", errors=[{"pointer": "#/dataset", "detail": detail}])
        return cls(name, version or "latest")


def is_name(text: str) -> bool:
    """A name of the suite: a DNS label with dots."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def check(spec: JobSpec) -> None:
    """
    Raises:
        EstimatorInvalid: an unknown estimator, or with parameters that it does not take.
        JobInvalid: anything else that cannot work.
    """
    DatasetReference.parse(spec.dataset)
    training = spec.training
    kind = estimator_kind(training.estimator.path, training.estimator.parameters, training.task)
    chosen = training.preprocessing
    steps_of(kind, chosen.numeric, chosen.categories, chosen.add_indicator)
    places: list[errors.Place] = []
    if not SHORTEST <= spec.deadline <= LONGEST:
        places.append({"pointer": "#/deadline", "detail": "must be between 1s and 7d"})
    if spec.model is not None and not is_name(spec.model):
        places.append({"pointer": "#/register/model", "detail": "must be a name: small letters, digits, . _ -"})
    for field, names in (("features", training.features), ("baseline", training.baseline)):
        places += _own_mistakes(field, names, training.target)
    if places:
        raise JobInvalid(f"{len(places)} value(s) of the job cannot work.", errors=places)


def missing_columns(spec: JobSpec, columns: Collection[str]) -> list[errors.Place]:
    """Where the job names columns that the dataset version does not have."""
    training = spec.training
    named = [("#/target", training.target)]
    for field, names in (("features", training.features), ("baseline", training.baseline)):
        named += [(f"#/{field}/{index}", name) for index, name in enumerate(names or ())]
    known = ", ".join(columns)
    return [
        {"pointer": pointer, "detail": f"there is no column {name[:100]!r}; there are {known}"[:1000]}
        for pointer, name in named
        if name not in columns
    ]


def _own_mistakes(field: str, names: tuple[str, ...] | None, target: str) -> list[errors.Place]:
    if names is None:
        return []
    if not names:
        return [{"pointer": f"#/{field}", "detail": "must name a column, or be left out"}]
    places: list[errors.Place] = []
    for index, name in enumerate(names):
        if name == target:
            places.append({"pointer": f"#/{field}/{index}", "detail": "is the target, which cannot tell itself"})
        elif name in names[:index]:
            places.append({"pointer": f"#/{field}/{index}", "detail": "is named twice"})
    return places
