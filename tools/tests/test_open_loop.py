"""When an answer of a server that is measured is whole."""

import pytest

from benchmarks.open_loop import answered

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
PIECES = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(("answer", "status"), [(PLAIN, 200), (PIECES, 503), (EMPTY, 204)])
def test_an_answer_is_whole_at_its_end_and_not_before(answer: bytes, status: int) -> None:
    assert [answered(answer[:size]) for size in range(len(answer))] == [None] * len(answer)
    assert answered(answer) == status
