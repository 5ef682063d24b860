"""Who changes a thing says which state of it he has seen."""

import httpx2
import pytest
from starlette.requests import Request

from kit import etags
from kit.etags import Changed, IfMatchMissing, check_match, etag_of, forbids_existing, require_match

TAG = etag_of("1")


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "headers": raw})


def test_a_tag_is_strong_and_tells_states_apart() -> None:
    assert TAG == etag_of("1") != etag_of("2")
    assert TAG.startswith('"')
    assert len(TAG) == 34


@pytest.mark.parametrize("given", [TAG, f'"other", {TAG}', "*", f' {TAG} ,"x"'])
def test_one_who_knows_the_state_may_change_it(given: str) -> None:
    require_match(request(("if-match", given)), TAG)
    check_match(request(("if-match", given)), TAG)


def test_tags_may_come_in_several_lines() -> None:
    require_match(request(("if-match", '"other"'), ("if-match", TAG)), TAG)


@pytest.mark.parametrize("given", ['"other"', f"W/{TAG}", "", TAG.strip('"')])
def test_one_who_knows_another_state_may_not(given: str) -> None:
    for match in (require_match, check_match):
        with pytest.raises(Changed) as refused:
            match(request(("if-match", given)), TAG)
        assert refused.value.extra == {"etag": TAG}


def test_one_who_knows_none_is_asked_to_look_except_for_a_delete() -> None:
    with pytest.raises(IfMatchMissing):
        require_match(request(), TAG)
    check_match(request(), TAG)


@pytest.mark.parametrize(("given", "forbids"), [("*", True), (" * ", True), (TAG, False), ("", False)])
def test_a_put_may_mean_to_create_only(given: str, forbids: bool) -> None:
    assert forbids_existing(request(("if-none-match", given))) is forbids
    assert not forbids_existing(request())


async def test_on_the_wire_it_is_428_412_and_200(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/lamps", json={"name": "red"})
    assert (await client.put("/v1/lamps/red")).status_code == 428
    stale = await client.put("/v1/lamps/red", headers={"if-match": '"stale"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["etag"]) == (412, "changed", made.headers["etag"])
    assert (await client.put("/v1/lamps/red", headers={"if-match": stale.json()["etag"]})).status_code == 200
    # It is another state now.
    assert (await client.put("/v1/lamps/red", headers={"if-match": stale.json()["etag"]})).status_code == 412
    assert etags.etag_of("lit") == (await client.put("/v1/lamps/red", headers={"if-match": '"x"'})).json()["etag"]
