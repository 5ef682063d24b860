"""The runner child's program, run in a thread here."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from registries import digest_of
from worlds import LOGISTIC, rows, trained

from models.rows import arrays_of
from models.signature import Prediction
from serving.runner import frames
from serving.runner.__main__ import Loaded


class Parent:
    def __init__(self, channel: socket.socket) -> None:
        self._file = channel.makefile("rwb")

    def ask(self, header: dict[str, Any], *parts: bytes) -> tuple[dict[str, Any], bytes]:
        self._file.write(frames.pack({"id": 1, **header}, parts))
        self._file.flush()
        assert self._hear()[0] == {"begun": True, "id": 1}
        return self._hear()

    def _hear(self) -> tuple[dict[str, Any], bytes]:
        head, body = frames.sizes(self._file.read(frames.HEAD.size))
        return orjson.loads(self._file.read(head)), self._file.read(body)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def parent() -> Iterator[Parent]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=Loaded(theirs).serve)
    thread.start()
    it = Parent(ours)
    yield it
    it.close()
    ours.close()
    thread.join()
    theirs.close()


def order(path: Path, **changes: Any) -> dict[str, Any]:
    made = trained(LOGISTIC, twin=False)
    path.write_bytes(made.files["skops"])
    said: dict[str, Any] = {"op": "load", "model": "m", "path": str(path), "digest": digest_of(made.files["skops"])}
    said |= {"format": "skops", "architecture": None}
    return {**said, "signature": made.signature.to_json(), "example": made.example, **changes}


def test_a_model_is_loaded_asked_and_dropped(parent: Parent, tmp_path: Path) -> None:
    made = trained(LOGISTIC, twin=False)
    loaded, _ = parent.ask(order(tmp_path / "model"))
    assert loaded["ok"] is True
    assert loaded["seconds"] > 0
    asked = rows(7)
    columns, parts = frames.columns_of(arrays_of(made.signature, {"rows": asked}))
    header, body = parent.ask({"op": "predict", "model": "m", "columns": columns}, *parts)
    prediction = frames.prediction_of(header, body)
    labels, scores = made.predict(asked)
    assert made.signature.labels_of(prediction) == labels
    np.testing.assert_array_equal(prediction.scores, scores)
    assert parent.ask({"op": "unload", "model": "m"})[0]["ok"] is True
    header, _ = parent.ask({"op": "predict", "model": "m", "columns": columns}, *parts)
    assert (header["ok"], header["kind"]) == (False, "absent")


def test_what_is_wrong_is_said(parent: Parent, tmp_path: Path) -> None:
    header, _ = parent.ask(order(tmp_path / "model", digest="sha256:" + "0" * 64))
    assert (header["ok"], header["kind"]) == (False, "corrupt")
    assert "not those of" in header["detail"]


def test_arrays_survive_the_way() -> None:
    made = trained(LOGISTIC, twin=False)
    arrays = arrays_of(made.signature, {"rows": rows(9)})
    described, parts = frames.columns_of(arrays)
    for name, array in frames.arrays_of(described, b"".join(parts)).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


@pytest.mark.parametrize("labels", [np.array(["a", "ü"], object), np.array([3, 1])])
def test_labels_without_scores_survive_the_way(labels: np.ndarray[Any, Any]) -> None:
    header, parts = frames.answer_of(Prediction(labels, None))
    prediction = frames.prediction_of(header, b"".join(parts))
    assert prediction.values.tolist() == labels.tolist()
    assert prediction.scores is None


def test_tensors_survive_the_way() -> None:
    words, none = np.empty((2, 1), object), np.empty((0, 3), object)
    words[:, 0] = [b"", b"\xff\0"]
    tensors = {"words": words, "none": none, "one": np.array(7), "flags": np.array([[True], [False]])}
    header, parts = frames.answer_of(Prediction(np.empty(0), None, tensors))
    found = frames.prediction_of(orjson.loads(orjson.dumps(header)), b"".join(parts)).tensors
    assert found is not None
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_no_frame_is_larger_than_ours() -> None:
    with pytest.raises(frames.FrameInvalid):
        frames.sizes(b"\xff" * frames.HEAD.size)
