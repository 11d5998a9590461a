"""`unseen models`: what there is to train and to use."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Models:
    """List methods, presets and bundled models, and where weights come from."""

    json: bool = False
    """Print JSON, with the measured numbers of bundled models, instead of tables."""

    def run(self) -> None:
        """Print the lists."""
        listing = list_models()
        if self.json:
            print(json.dumps(listing, indent=2))
        else:
            _print_tables(listing)


def list_models() -> dict[str, list[dict[str, Any]]]:
    """Methods, presets and bundled models as JSON values."""
    from unseen.checkpoints.model_folder import bundled_models, describe_model

    models = [{"name": name, **describe_model(name)} for name in bundled_models()]
    return {"methods": _methods(), "presets": _presets(), "models": models}


def _methods() -> list[dict[str, Any]]:
    from unseen.checkpoints.importers import IMPORTERS
    from unseen.methods.method import SceneMethod
    from unseen.methods.registry import METHODS

    return [
        {
            "name": name,
            "title": method.title,
            "summary": _summary(method),
            "samples": "scenes" if issubclass(method, SceneMethod) else "views",
            "stochastic": method.stochastic,
            "min_context": method.min_context,
            "max_context": method.max_context,
            "text": "prompt" in method.sample_options,
            "importers": {
                system: {"licence": entry.licence}
                for system, entry in IMPORTERS.items()
                if entry.method == name
            },
        }
        for name, (method, _) in METHODS.items()
    ]


def _summary(method: type) -> str:
    """One line: the heading of the module, which is about the paper."""
    import inspect

    module = inspect.getmodule(method)
    text = (module.__doc__ if module is not None else None) or method.__doc__ or ""
    return text.strip().split("\n")[0].rstrip(".")


def _importers(importers: dict[str, dict[str, str]]) -> str:
    """How released weights are read, and what their licence is."""
    each = [f"import {name} ({x['licence']})" for name, x in importers.items()]
    return ", ".join(each) or "-"


def _samples(method: dict[str, Any]) -> str:
    """How many samples there are, of what, and from how many views."""
    count = "several" if method["stochastic"] else "one"
    kind = "" if method["samples"] == "scenes" else ", of views"
    least, most = method["min_context"], method["max_context"]
    if least > 0:
        views = None if most is None else f"{most} view"
    else:
        views = "no view" if most == 0 else f"no view, or {most or 'any'}"
    views = "of a text" if method["text"] else views
    return count + kind + (f" ({views})" if views else "")


def _presets() -> list[dict[str, Any]]:
    from unseen.checkpoints.model_folder import bundled_models
    from unseen.methods.registry import PRESETS, method_name

    bundled = bundled_models()
    return [
        {
            "name": name,
            "method": method_name(preset.method),
            "image_size": preset.method.image_size,
            "steps": preset.train.steps,
            "batch_size": preset.train.batch_size * preset.train.accumulate,
            "bundled": name in bundled,
            "description": preset.description,
        }
        for name, preset in PRESETS.items()
    ]


def _print_tables(listing: dict[str, list[dict[str, Any]]]) -> None:
    import rich.console

    console = rich.console.Console(highlight=False)
    titles = {m["name"]: m["title"] for m in listing["methods"]}
    _print(
        console,
        "Methods",
        ["name", "samples per image", "released weights (licence)", ""],
        [
            [
                m["title"],
                _samples(m),
                _importers(m["importers"]),
                m["summary"],
            ]
            for m in listing["methods"]
        ],
    )
    _print(
        console,
        "Presets, for `unseen train`",
        ["name", "method", "pixels", "steps", ""],
        [
            [
                p["name"],
                titles[p["method"]],
                str(p["image_size"]),
                _short(p["steps"]),
                p["description"],
            ]
            for p in listing["presets"]
        ],
    )
    _print(
        console,
        "Bundled models, for `unseen sample --model`",
        ["name", "method", "parameters", "MB", "trained for", "licence", "numbers"],
        [
            [
                m["name"],
                titles[m["method"]],
                _short(m["parameters"]),
                f"{m['megabytes']:g}",
                "?" if m["step"] is None else f"{_short(m['step'])} steps",
                m["licence"] or "?",
                _numbers(m["metrics"]),
            ]
            for m in listing["models"]
        ],
    )
    console.print("Released weights: unseen import SYSTEM FILE OUT.")


def _print(console: Any, title: str, columns: list[str], rows: list[list[str]]) -> None:
    import rich.box
    import rich.table

    table = rich.table.Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        is_number = column in ("pixels", "steps", "parameters", "MB")
        # Names and methods stay whole: they are what one types, or a single word.
        table.add_column(
            column,
            justify="right" if is_number else "left",
            no_wrap=column in ("name", "method") or is_number,
        )
    for row in rows:
        table.add_row(*row)
    console.print(table if rows else f"{title}: none")


def _short(count: int) -> str:
    """A large number with its unit: 7 M, 200 k."""
    for unit, name in ((10**6, " M"), (10**3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _numbers(metrics: dict[str, Any]) -> str:
    """What is measured in dB, one per line; `--json` has everything."""
    return "\n".join(
        f"{name.replace('psnr', 'PSNR').replace('_', ' ')} {value:.1f} dB"
        for name, value in metrics.items()
        if "psnr" in name
    )
