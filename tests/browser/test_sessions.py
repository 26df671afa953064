"""Two users at once: neither sees a word of the other, whatever both do."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def text_of(name: str) -> tuple[str, str, str]:
    return f"What does {name} know?", f"First {name} waits. Then {name} boils it. Last {name} peels.", f"No, {name}."


def sentences(page: Page) -> list[str]:
    return page.locator(".s[data-side='0'] .t").all_text_contents()


def test_two_users_at_once_do_not_see_each_others_text(open_page: Callable[..., Page]):
    pages = {"anna": open_page(), "bert": open_page()}  # each in a context of its own
    for name, page in pages.items():
        for field, text in zip(("#prompt", "#a", "#b"), text_of(name), strict=True):
            page.fill(f"{field} textarea", text)
    for page in pages.values():
        page.evaluate("document.querySelector('#score').click()")
    for name, page in pages.items():
        expect(page.locator(".s[data-side='0'] .t").first).to_have_text(f"First {name} waits.")

    for page in pages.values():  # both operate on the same place
        page.locator(".s[data-side='0'][data-index='1']").focus()
        page.keyboard.press("Delete")
    for name, page in pages.items():
        expect(page.locator(".s[data-side='0']")).to_have_count(2)
        assert sentences(page) == [f"First {name} waits.", f"Last {name} peels."]

    pages["anna"].keyboard.press("Control+z")  # and one of them takes it back
    expect(pages["anna"].locator(".s[data-side='0']")).to_have_count(3)
    assert sentences(pages["bert"]) == ["First bert waits.", "Last bert peels."]
    pages["bert"].click(".history button[data-op=reset]")
    expect(pages["bert"].locator(".s[data-side='0']")).to_have_count(3)
    assert sentences(pages["bert"])[1] == "Then bert boils it."

    later = open_page()  # who comes later finds the first example
    for name, page in {**pages, "": later}.items():
        for other in pages:
            assert (other in page.evaluate("document.body.innerHTML")) == (other == name)
    for name, page in pages.items():
        assert all(name in page.input_value(f"{field} textarea") for field in ("#prompt", "#a", "#b"))
    assert not re.search("anna|bert", later.input_value("#a textarea"))
