"""Swagger UI in a real browser: Authorize, Try it out, and nothing that leaves the machine."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright

from gateway.settings import Settings
from kit.testing import KeyFolder

from .gateways import Door, Upstream, caller_of, gateway_at_work, says

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOT = os.environ.get("GATEWAY_SCREENSHOT")
INGEST = {
    "openapi": "3.1.0",
    "info": {"title": "ingest", "version": "1"},
    "paths": {
        "/v1/datasets/{name}": {
            "get": {
                "operationId": "get_dataset",
                "tags": ["datasets"],
                "summary": "Get Dataset",
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": {"description": "it"}},
            }
        }
    },
}


if not CHROMIUM.exists():
    if os.environ.get("CI_REQUIRE_BROWSER") == "1":
        raise RuntimeError(f"CI_REQUIRE_BROWSER=1, and there is no {CHROMIUM}.")
    pytest.skip(f"NOT TESTED: Swagger UI in a browser. There is no {CHROMIUM}.", allow_module_level=True)


class Watched:
    """A page, with all that it asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda it: self.asked.append(it.url))
        page.on("console", lambda it: self.complaints.append(it.text) if it.type in ("error", "warning") else None)
        page.on("pageerror", lambda it: self.complaints.append(str(it)))


@pytest.fixture
async def docs_door(settings: Settings, blue: dict[str, str], upstream: Upstream) -> AsyncIterator[Door]:
    upstream.replies["/openapi.json"] = says(INGEST)
    async with gateway_at_work(settings) as port:
        yield Door(port, blue, upstream, settings)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 1400})
            page.set_default_timeout(30_000)
            yield Watched(page)
        finally:
            await browser.close()


async def test_the_page_asks_with_the_key_that_it_was_given(
    docs_door: Door, watched: Watched, key_folder: KeyFolder
) -> None:
    page = watched.page
    origin = f"http://127.0.0.1:{docs_door.port}"
    await page.goto(f"{origin}/docs")
    await page.get_by_text("Get Dataset").wait_for()

    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator(".auth-container input").fill(docs_door.keys["viewer"])
    await page.locator(".auth-container button.authorize").click()
    await page.locator(".auth-container").get_by_text("Authorized").wait_for()
    await page.locator("button.btn-done").click()

    await page.get_by_text("Get Dataset").click()
    await page.get_by_role("button", name="Try it out").click()
    await page.get_by_placeholder("name").fill("flights@3")
    await page.get_by_role("button", name="Execute", exact=True).click()
    await page.locator(".live-responses-table .response-col_status").first.wait_for()
    status = await page.locator(".live-responses-table .response .response-col_status").first.inner_text()

    assert status.startswith("200")
    (scope,) = docs_door.upstream.asked("/v1/datasets/flights@3")
    assert caller_of(scope, key_folder, "ingest").subject == "vic"
    assert watched.complaints == []
    assert {urlsplit(url).netloc for url in watched.asked if not url.startswith("data:")} == {urlsplit(origin).netloc}
    stored = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert docs_door.keys["viewer"] not in stored
    if SCREENSHOT:
        await page.screenshot(path=SCREENSHOT, full_page=True)


async def test_without_a_key_the_answer_is_a_problem(docs_door: Door, watched: Watched) -> None:
    page = watched.page
    await page.goto(f"http://127.0.0.1:{docs_door.port}/docs")
    await page.get_by_text("Whoami").first.click()
    await page.get_by_role("button", name="Try it out").click()
    await page.get_by_role("button", name="Execute", exact=True).click()
    shown = page.locator(".live-responses-table .response")
    await shown.get_by_text("unauthenticated").first.wait_for()

    assert (await page.locator(".live-responses-table .response .response-col_status").first.inner_text())[:3] == "401"
