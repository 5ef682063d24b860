"""Bodies that are arrays already, Arrow's and NumPy's, as a model's input arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import rows
from models.signature import Arrays, Signature
from models.tensor_signature import AnySignature, TensorSignature
from serving.domain import arrow, npy
from serving.domain.instances import pointing


def arrays_of_arrow(signature: AnySignature, content: bytes) -> Arrays:
    """Of a stream of Arrow with the model's columns, or inputs, by name.

    Raises:
        arrow.ArrowInvalid, rows.RowsInvalid: it cannot be read, or does not fit the model.
    """
    columns = arrow.read(content, columns=len(signature.inputs), most=rows.MAX_ELEMENTS)
    if isinstance(signature, Signature):
        nullable = {column.name for column in signature.inputs if column.nullable}
        columns = {name: _filled(array) if name in nullable else array for name, array in columns.items()}
    with pointing("#/inputs", "#"):
        return rows.arrays_of_tensors(signature, columns)


def arrays_of_npy(signature: AnySignature, content: bytes) -> Arrays:
    """Of an array [rows, columns] with the columns in the model's order, or of the one input of a model of tensors.

    Raises:
        npy.NpyInvalid, rows.RowsInvalid: it cannot be read, or does not fit the model.
    """
    array = npy.read(content, most=rows.MAX_ELEMENTS)
    with pointing("#/inputs", "#"):
        if len(signature.inputs) == 1:
            return rows.arrays_of_tensors(signature, {signature.names[0]: array})
        if array.ndim != 2 or array.shape[1] != len(signature.inputs) or isinstance(signature, TensorSignature):
            said = f"has the shape {list(array.shape)}, and the model takes {len(signature.inputs)} inputs"
            raise rows.RowsInvalid("The array does not fit the model.", errors=[{"pointer": "#", "detail": said}])
        return rows.arrays_of_tensors(signature, dict(zip(signature.names, array.T, strict=True)))


def _filled(array: NDArray[Any]) -> NDArray[Any]:
    """Texts that are missing are empty, as the model has them."""
    if array.dtype != object:
        return array
    filled = np.empty(array.shape, object)
    filled[:] = ["" if value is None else value for value in array.tolist()]
    return filled
