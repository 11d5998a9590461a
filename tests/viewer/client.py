"""A client without a browser: remembers what it is sent, and can press buttons."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np


class Handle:
    """A control or a node: its properties, and what happens when it is used."""

    def __init__(self, **properties: Any) -> None:
        self.removed = False
        self._callbacks: list[Callable[[Any], None]] = []
        vars(self).update(properties)

    def _connect(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    on_update = on_click = on_upload = _connect

    def use(self, **properties: Any) -> None:
        """What a person does with it."""
        vars(self).update(properties)
        for callback in self._callbacks:
            callback(None)

    def remove(self) -> None:
        self.removed = True

    def set_gaussians(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays


class ButtonGroup(Handle):
    """viser cannot disable one."""

    def __setattr__(self, name: str, value: Any) -> None:
        assert name != "disabled", "Button groups cannot be disabled."
        super().__setattr__(name, value)


class Gui:
    """Controls by their labels."""

    def __init__(self) -> None:
        self.controls: dict[str, Handle] = {}

    @contextlib.contextmanager
    def add_folder(self, label: str) -> Iterator[None]:
        yield

    def _add(self, label: str, value: Any = None, **properties: Any) -> Handle:
        value = properties.pop("initial_value", value)
        settings = {"visible": True, "disabled": False, **properties}
        handle = Handle(label=label, value=value, **settings)
        self.controls[label] = handle
        return handle

    add_checkbox = add_number = add_slider = add_button = add_upload_button = _add

    def add_dropdown(self, label: str, options: list[str]) -> Handle:
        return self._add(label, options[0], options=options)

    def add_button_group(self, label: str, options: Any) -> Handle:
        group = ButtonGroup(label=label, value=options[0], options=options)
        group.visible = True
        self.controls[label] = group
        return group

    def add_html(self, content: str) -> Handle:
        return Handle(content=content)

    def add_markdown(self, content: str) -> Handle:
        return self._add("status", content=content)

    def add_image(self, image: np.ndarray, **properties: Any) -> Handle:
        return self._add("image", image=image, **properties)

    def add_progress_bar(self, value: float, **properties: Any) -> Handle:
        return self._add("progress", value, **properties)


class World:
    """Nodes by their names."""

    def __init__(self) -> None:
        self.nodes: dict[str, Handle] = {}
        self.backgrounds: list[np.ndarray] = []

    def _add(self, name: str, *arrays: Any, **properties: Any) -> Handle:
        self.nodes[name] = Handle(arrays=arrays, **properties)
        return self.nodes[name]

    add_frame = add_label = add_camera_frustum = add_gaussian_splats = _add

    def has(self, ending: str) -> bool:
        """Whether there is a node whose name ends so."""
        return any(name.endswith(ending) for name in self.nodes)

    def set_background_image(self, image: np.ndarray, **_: Any) -> None:
        self.backgrounds.append(image)


class Client:
    """In place of viser's `ClientHandle`."""

    def __init__(self) -> None:
        self.gui, self.scene = Gui(), World()
        self.messages: list[str] = []
        self.files: dict[str, bytes] = {}
        self.camera = SimpleNamespace(
            fov=0.7,
            aspect=1.5,
            image_height=48,
            image_width=72,
            wxyz=np.array([1.0, 0, 0, 0]),
            position=np.zeros(3),
            look_at=np.zeros(3),
            on_update=lambda callback: None,
        )

    def atomic(self) -> Any:
        return contextlib.nullcontext()

    def flush(self) -> None:
        pass

    def add_notification(self, title: str, body: str, **_: Any) -> None:
        self.messages.append(f"{title}: {body}")

    def send_file_download(self, name: str, content: bytes, **_: Any) -> None:
        self.files[name] = content
