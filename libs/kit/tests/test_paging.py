"""Lists in pages: every item once, whatever is put in between."""

import base64

import httpx2
import pytest

from kit.paging import PageTokenInvalid, number_of

NAMES = [f"lamp-{number}" for number in range(7)]


def token(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


async def make(client: httpx2.AsyncClient, *names: str) -> None:
    for name in names:
        assert (await client.post("/v1/lamps", json={"name": name})).status_code == 201


async def page(client: httpx2.AsyncClient, **query: object) -> tuple[list[str], str | None]:
    answer = (await client.get("/v1/lamps", params={name: str(value) for name, value in query.items()})).json()
    return [item["name"] for item in answer["items"]], answer["next_page_token"]


async def test_pages_show_every_item_once(client: httpx2.AsyncClient) -> None:
    await make(client, *NAMES)
    seen, more = await page(client, page_size=3)
    while more is not None:
        names, more = await page(client, page_size=3, page_token=more)
        seen += names
    assert seen == NAMES


async def test_what_is_put_in_before_moves_no_page(client: httpx2.AsyncClient) -> None:
    await make(client, *NAMES)
    first, more = await page(client, page_size=2)
    await make(client, "a-lamp")
    rest, _ = await page(client, page_token=more)
    assert first + rest == NAMES


async def test_a_last_page_that_is_full_has_no_next(client: httpx2.AsyncClient) -> None:
    await make(client, *NAMES[:2])
    assert await page(client, page_size=2) == (NAMES[:2], None)
    assert await page(client, page_size=1) == (NAMES[:1], token(b"1lamp-0"))


async def test_a_key_may_be_of_any_letters(client: httpx2.AsyncClient) -> None:
    await make(client, "läm", "löm")
    _, more = await page(client, page_size=1)
    assert await page(client, page_token=more) == (["löm"], None)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        "***",
        "é",
        token(b"2lamp"),
        token(b"1a\0b"),
        token(b"1\xff"),
        token(b"1a") + "\n",
    ],
)
async def test_a_token_that_no_list_gave_is_refused(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.get("/v1/lamps", params={"page_token": given})
    assert (answer.status_code, answer.json()["code"]) == (422, "page-token-invalid")
    assert answer.json()["errors"][0]["pointer"] == "?page_token"


@pytest.mark.parametrize("query", ["page_size=0", "page_size=1001", "page_size=x", "page_token=" + "a" * 513])
async def test_a_page_has_its_limits(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/v1/lamps?{query}")).status_code == 422


def test_a_list_by_number_takes_numbers() -> None:
    assert number_of(None) is None
    assert number_of("17") == 17
    for other in ("", "x", "-1", "1" * 19, "\u0663"):
        with pytest.raises(PageTokenInvalid):
            number_of(other)
