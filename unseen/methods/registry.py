"""All methods and all presets by name. A new method is one line in each."""

from __future__ import annotations

from typing import Any

from unseen.errors import UserError
from unseen.methods.dfm import DFM, DFMConfig
from unseen.methods.method import Method
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset

METHODS: dict[str, tuple[type[Method], type]] = {
    "DFM": (DFM, DFMConfig),
}

PRESETS: dict[str, Preset] = {
    "objects-64": Preset(
        DFMConfig(),
        TrainConfig(
            steps=60_000,
            batch_size=8,
            learning_rate=3e-4,
            warmup_steps=500,
            decay="cosine",
            weight_decay=0.01,
            ema_decay=0.9995,
            num_workers=1,
        ),
        num_context=2,
        num_target=2,
        description="One image of an object to 3D scenes at 64x64.",
    ),
}


def method_name(config: Any) -> str:
    """The name of the method that a configuration belongs to.

    Raises:
        UserError: it is no method's configuration.
    """
    for name, (_, config_class) in METHODS.items():
        if type(config) is config_class:
            return name
    raise UserError(
        f"{type(config).__name__} is not the configuration of a method: use one of "
        f"{', '.join(entry.__name__ for _, entry in METHODS.values())}."
    )


def build_method(config: Any) -> Method:
    """A method with random weights from torch's global generator."""
    method_class, _ = METHODS[method_name(config)]
    return method_class(config)  # type: ignore[call-arg]
