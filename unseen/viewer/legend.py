"""Small pieces of HTML for the panel: what colours mean, and how fast it is."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unseen.export.colormap import colorize, to_bytes
from unseen.viewer.modes import FULL_SPREAD, INK, INVENTED, SEEN, Mode
from unseen.viewer.session import Speed

STYLE = "font-size:0.8em;padding:0 0.6em 0.3em 0.6em;line-height:1.4;"


def legend(mode: Mode) -> str:
    """HTML that says what the colours of a mode mean."""
    texts: dict[Mode, Callable[[], str]] = {
        Mode.COLOR: lambda: "The scenes as they look.",
        Mode.DEPTH: lambda: _bar(0.1, "far", "near") + "Distance from your camera.",
        Mode.OPACITY: lambda: (
            _ramp(["#ffffff", _hex((INK,) * 3)], "empty", "opaque")
            + "How much matter a ray meets."
        ),
        Mode.SPREAD: lambda: (
            _bar(0.0, "same", f"{FULL_SPREAD:g} or more")
            + "Standard deviation of the colour (0 to 1) over the samples: dark "
            "where they agree, light where each has its own answer."
        ),
        Mode.SEEN: lambda: (
            _swatch(SEEN, "seen by the input")
            + _swatch(INVENTED, "invented")
            + "A surface is seen if nothing of the scene stands between it and "
            "the input camera."
        ),
    }
    return f'<div style="{STYLE}">{texts[mode]()}</div>'


def _bar(low: float, left: str, right: str) -> str:
    """The colour map from `low` to 1, between two words."""
    values = torch.linspace(low, 1, 9)[None]
    colors = to_bytes(colorize(values))[:, 0].T.tolist()
    return _ramp(
        ["#{:02x}{:02x}{:02x}".format(*color) for color in colors], left, right
    )


def _ramp(colors: list[str], left: str, right: str) -> str:
    return (
        '<div style="display:flex;gap:0.5em;align-items:center">'
        f"<span>{left}</span><div style='flex:1;height:0.8em;border:1px solid #ccc;"
        f"background:linear-gradient(90deg,{','.join(colors)})'></div>"
        f"<span>{right}</span></div>"
    )


def _swatch(color: tuple[float, ...], text: str) -> str:
    return (
        '<div style="display:flex;gap:0.5em;align-items:center">'
        f'<div style="width:1.2em;height:0.8em;background:{_hex(color)}"></div>'
        f"<span>{text}</span></div>"
    )


def _hex(color: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in color)


# Browsers do not report their frame rate, so the page counts itself: frames between
# pressing and releasing the mouse over the 3D view, when it is redrawn all the time.
# HTML that is put into a page runs no <script>, but a picture's error handler, in which
# a bare `addEventListener` is that of the picture.
_COUNTER = """
var span = this.parentElement.querySelector('span'), frames = 0, start = 0, on = false;
function frame(now) {
  if (!on) return;
  frames += 1;
  if (now - start > 500) {
    var rate = 1000 * frames / (now - start);
    span.textContent = rate.toFixed(rate < 10 ? 1 : 0);
    frames = 0; start = now;
  }
  requestAnimationFrame(frame);
}
window.addEventListener('pointerdown', function (event) {
  if (event.target.tagName != 'CANVAS' || on) return;
  on = true; frames = 0; start = performance.now(); requestAnimationFrame(frame);
}, true);
window.addEventListener('pointerup', function () { on = false; }, true);
"""


def frame_counter() -> str:
    """HTML that shows the browser's frames per second while the scene is turned."""
    script = " ".join(_COUNTER.split())
    return (
        f'<div style="{STYLE}"><img src="data:," style="display:none" '
        f'onerror="{script}">Browser: <b><span class="unseen-browser-fps">–</span></b> '
        "frames/s (while you turn the scenes)</div>"
    )


def describe_speed(speed: Speed) -> str:
    """HTML about what the server has drawn last."""
    text = f"{speed.num_gaussians:,} Gaussians.<br>".replace(",", " ")
    if speed.size is None:
        text += "Exact: when the camera rests."
    else:
        height, width = speed.size
        rate = 1 / max(speed.seconds, 1e-6)
        text += (
            f'Exact: <b><span class="unseen-exact-fps">{rate:.2g}</span></b> frames/s '
            f"({speed.seconds:.2g} s for {width} × {height})"
        )
    return f'<div style="{STYLE}">{text}</div>'
