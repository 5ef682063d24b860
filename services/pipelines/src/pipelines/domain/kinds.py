"""What each kind of step is told in its `with`, once all references are replaced."""

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib import metadata
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from kit import errors
from pipelines.domain.documents import LARGEST, too_large_in
from pipelines.domain.expressions import LONGEST
from pipelines.domain.references import is_reference

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"sha256:[0-9a-f]{64}|(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def is_name(text: str) -> bool:
    """A name of the suite."""
    return NAME.fullmatch(text) is not None and ".." not in text


def _named(value: str) -> str:
    if not is_name(value):
        raise ValueError(
            "a name has 1 to 63 characters a-z, 0-9, '.', '_' and '-', and begins and ends with one of a-z0-9"
        )
    return value


def _referring(value: str) -> str:
    name, at, version = value.partition("@")
    if not is_name(name) or (at and not _VERSION.fullmatch(version)):
        raise ValueError("it is written as name, name@3, name@latest, name@alias or name@sha256:…")
    return value


Name = Annotated[str, AfterValidator(_named)]
Reference = Annotated[str, AfterValidator(_referring)]
"""A version of a dataset or a model, as users name it; which of these words mean one is said by its owner."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Count = Annotated[int, Field(ge=0, lt=LARGEST)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]
Object = dict[str, Any]
"""What its owner checks: it knows better, and says the place."""


class _With(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Ingest(_With):
    """Make a dataset version of an upload."""

    dataset: Name
    upload: Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
    format: Literal["csv", "ndjson", "parquet"] = "csv"
    compression: Literal["gzip", "zstd"] | None = None
    settings: Object | None = None
    """None: those that the dataset has."""


class Estimator(_With):
    class_: Annotated[Word, Field(alias="class")]
    parameters: Object = {}


class Register(_With):
    model: Name


class Train(_With):
    """Train a model on a dataset version, and register it."""

    dataset: Reference
    task: Literal["classification", "regression"]
    target: Word
    estimator: Estimator
    features: list[Word] | None = None
    preprocessing: Object | None = None
    baseline: list[Word] | None = None
    seed: Count = 0
    retries: Count | None = None
    deadline: Word | None = None
    register_: Annotated[Register | None, Field(alias="register")] = None

    def spec(self) -> dict[str, Any]:
        """The body of `POST /v1/jobs`: what was not said is left to the trainer."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


class Gate(_With):
    """Let the run go on only when all expressions are true."""

    require: Annotated[list[Expression], Field(min_length=1, max_length=100)]


class Promote(_With):
    """Point an alias at a model version."""

    model: Name
    version: Annotated[Count, Field(ge=1)]
    alias: Name


class Weighted(_With):
    model: Reference
    weight: Annotated[int, Field(ge=1, le=10_000)]


class Deploy(_With):
    """Have a deployment serve a model, and wait until it does."""

    deployment: Name
    model: Reference | None = None
    models: Annotated[list[Weighted], Field(min_length=1, max_length=16)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.model is None) == (self.models is None):
            raise ValueError("give either model or models")
        return self

    def body(self) -> dict[str, Any]:
        """The body of `PUT /v1/deployments/{name}`."""
        return self.model_dump(mode="json", exclude={"deployment"}, exclude_none=True)


With = Ingest | Train | Gate | Promote | Deploy
KINDS: Mapping[str, type[With]] = {
    "ingest": Ingest,
    "train": Train,
    "gate": Gate,
    "promote": Promote,
    "deploy": Deploy,
}
VERSIONS: Mapping[str, int] = {"ingest": 1, "train": 1}
"""Of the kinds whose results are reused: raised by whoever changes what one of them makes of the same `with`."""
RELEASE = metadata.version("trainyard-pipelines")
"""Of the suite, whose packages have one version: who computes for us is of this release, too, but for an upgrade."""
TIMEOUTS: Mapping[str, timedelta] = {
    "ingest": timedelta(hours=2),
    "train": timedelta(days=7),
    "gate": timedelta(minutes=5),
    "promote": timedelta(minutes=15),
    "deploy": timedelta(minutes=15),
}
"""How long a step of a kind may take when it does not say."""


class StepInputsInvalid(errors.Invalid): ...


def mistakes_in(kind: str, given: Mapping[str, Any]) -> list[tuple[tuple[object, ...], str]]:
    """What is wrong with a `with`, each with the path to it. What a reference will replace is not judged yet."""
    try:
        KINDS[kind].model_validate(given)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False)
        return [(tuple(error["loc"]), error["msg"]) for error in found if not _is_open(error["type"], error["input"])]
    return []


def inputs_of(kind: str, given: Mapping[str, Any]) -> With:
    """The `with` of a step that begins.

    Raises:
        StepInputsInvalid: what the references were replaced by does not fit.
    """
    try:
        inputs = KINDS[kind].model_validate(given)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False)
        places = [(".".join(["with", *map(str, error["loc"])]), error["msg"]) for error in found]
        said = "; ".join(f"{place}: {message}" for place, message in places)
        raise StepInputsInvalid(said[:1000]) from None
    large = next(too_large_in(given), None)
    if large is not None:
        raise StepInputsInvalid(f"{'.'.join(['with', *map(str, large)])[:900]}: a number beyond 64 bits")
    return inputs


def _is_open(type_: str, given: object) -> bool:
    return type_ not in ("missing", "extra_forbidden") and is_reference(given)
