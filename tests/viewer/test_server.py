"""Who may talk to the viewer, and what its panel says."""

from __future__ import annotations

import pytest

from tests.viewer.balls import ball_samples
from tests.viewer.browsing import open_browser, open_playwright
from unseen.viewer.legend import describe_speed, frame_counter, legend
from unseen.viewer.modes import Mode
from unseen.viewer.server import is_own_origin
from unseen.viewer.session import Display, Speed


@pytest.mark.parametrize(
    "origin, host, listening, allowed",
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
        ("http://localhost:8080", "localhost:8080", "127.0.0.1", True),
        (None, "127.0.0.1:8080", "127.0.0.1", True),
        # Another page, another server of the machine, a page without an address.
        ("https://example.org", "127.0.0.1:8080", "127.0.0.1", False),
        ("http://127.0.0.1:9000", "127.0.0.1:8080", "127.0.0.1", False),
        ("null", "127.0.0.1:8080", "127.0.0.1", False),
        # A name on the internet that leads to this machine.
        ("http://example.org:8080", "example.org:8080", "127.0.0.1", False),
        ("http://studio:8080", "studio:8080", "0.0.0.0", True),
        ("http://example.org", "studio:8080", "0.0.0.0", False),
    ],
)
def test_only_our_own_page_is_served(origin, host, listening, allowed) -> None:
    assert is_own_origin(origin, host, listening) == allowed


def test_who_stands_where() -> None:
    samples = tuple(ball_samples(0.6, 0.5, 0.4))
    every = Display(samples)
    assert [cell.label for cell in every.cells()] == ["ball 0", "ball 1", "ball 2"]
    one = Display(samples, side_by_side=False, selected=samples[1])
    assert [cell.samples for cell in one.cells()] == [(samples[1],)]
    # A choice that is gone falls back to the first.
    gone = Display(samples[:1], side_by_side=False, selected=samples[1])
    assert [cell.samples for cell in gone.cells()] == [(samples[0],)]
    assert [cell.samples for cell in Display(samples, Mode.SPREAD).cells()] == [samples]
    assert Display().cells() == []


def test_the_panel_explains_every_mode_and_both_speeds() -> None:
    texts = {legend(mode) for mode in Mode}
    assert len(texts) == len(Mode)
    speed = describe_speed(Speed(12345, (720, 956), 0.5))
    assert "12 345 Gaussians" in speed and "956 × 720" in speed and ">2<" in speed
    # It stands in an attribute.
    script = frame_counter().split('onerror="')[1].split('">')[0]
    assert '"' not in script and "requestAnimationFrame" in script


def test_the_browser_counts_its_frames_while_the_mouse_is_down() -> None:
    with open_playwright() as playwright, open_browser(playwright) as browser:
        tab = browser.new_page()
        tab.set_content("<canvas width=99 height=99></canvas><div></div>")
        # As the panel does it: HTML that is put into a page that is there.
        tab.evaluate(
            "x => document.querySelector('div').innerHTML = x", frame_counter()
        )
        shown = tab.locator(".unseen-browser-fps")
        tab.mouse.move(50, 50)
        tab.wait_for_timeout(800)
        assert shown.inner_text() == "–"
        tab.mouse.down()
        tab.wait_for_function(
            "/^[0-9]+$/.test(document.querySelector('span').innerText)"
        )
        tab.mouse.up()
        assert int(shown.inner_text()) > 0
