"""What a model takes and answers: columns of a table, or tensors."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

SMALLEST, GREATEST = -(2**63), 2**63 - 1
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Part(BaseModel):
    """A part of a manifest: nothing unknown in it, and nothing taken for something else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Column(Part):
    """What goes in, or comes out."""

    name: Word
    type: Literal["number", "integer", "string", "boolean", "timestamp"]
    nullable: bool = False


Columns = Annotated[list[Column], Field(max_length=2000)]
Class = Annotated[int, Field(ge=SMALLEST, le=GREATEST)] | bool | Annotated[str, StringConstraints(max_length=1024)]
Classes = Annotated[list[Class], Field(max_length=10_000)]
Task = Literal["classification", "regression"]


class Signature(Part):
    """Of a model that takes rows of a table."""

    inputs: Columns
    outputs: Columns
    task: Task
    classes: Classes = []
    """In the order of the scores; of a regression there are none."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        _check_names(self.inputs)
        if (self.task == "classification") != (len(self.classes) > 1):
            raise ValueError("a classification has two classes or more, a regression none")
        if len({type(each) for each in self.classes}) > 1 or len(set(self.classes)) != len(self.classes):
            raise ValueError("classes are all of one type, and each is there once")
        return self


def _is_size(value: int) -> int:
    if value == 0:
        raise ValueError("a size is 1 or more, or -1 for any")
    return value


class Tensor(Part):
    """An array that goes in, or comes out. The words are those of the Open Inference Protocol."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    datatype: Literal[
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "FP32",
        "FP64",
        "BYTES",
    ]
    shape: Annotated[list[Annotated[int, Field(ge=-1, lt=2**31), AfterValidator(_is_size)]], Field(max_length=8)]
    """-1 is any length; as the first length, it is that of the batch."""


Tensors = Annotated[list[Tensor], Field(min_length=1, max_length=64)]


class TensorSignature(Part):
    """Of a model that takes and answers tensors."""

    task: Literal["tensors"]
    inputs: Tensors
    outputs: Tensors
    classes: Annotated[list[Class], Field(max_length=0)] = []

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        _check_names(self.inputs)
        _check_names(self.outputs)
        return self


def _of_its_kind(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    # By its task, and not whichever fits: what is wrong is then said of the one that was meant, at its own place.
    if isinstance(value, Part):
        return validate(value)
    is_of_tensors = isinstance(value, dict) and value.get("task") == "tensors"
    return (TensorSignature if is_of_tensors else Signature).model_validate(value)


AnySignature = Annotated[Signature | TensorSignature, WrapValidator(_of_its_kind)]


def _check_names(parts: Sequence[Column] | Sequence[Tensor]) -> None:
    names = [part.name for part in parts]
    if not names or len(set(names)) != len(names):
        raise ValueError("a signature has at least one input, and each name once")
