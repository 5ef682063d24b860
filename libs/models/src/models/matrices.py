"""The object matrix that estimators are fitted on: rows by columns in the signature's order, without pandas."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.signature import Arrays, Signature


def matrix_of(signature: Signature, arrays: Arrays) -> NDArray[Any]:
    """[rows, columns] of objects, from one [rows, 1] array per column."""
    rows = len(arrays[signature.names[0]])
    matrix = np.empty((rows, len(signature.names)), object)
    for index, name in enumerate(signature.names):
        matrix[:, index] = arrays[name][:, 0]
    return matrix
