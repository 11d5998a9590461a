"""The panel of one client, pressed without a browser."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import unseen
from tests.pictures import bad_pictures, save_plate
from tests.viewer.balls import (
    BallMethod,
    ball_model,
    ball_samples,
    given_view,
    wait_until,
)
from tests.viewer.client import Client
from unseen.cli.main import main
from unseen.methods.method import SampleOptions
from unseen.scenes.io import scene_provenance
from unseen.viewer.modes import Mode
from unseen.viewer.sampling_panel import SamplingPanel
from unseen.viewer.studio import Exhibition, Studio
from unseen.viewer.view_panel import ViewPanel


class Desk:
    """A studio with a model, and clients that come and go."""

    def __init__(self, on_any_step: Callable[[int], None]) -> None:
        self.model = ball_model(on_any_step)
        self.studio = Studio(Exhibition("b", model=self.model, model_name="m/balls"))

    def come(self) -> tuple[Client, ViewPanel, SamplingPanel]:
        client = Client()
        sampling = SamplingPanel(client, self.studio, self.model)  # type: ignore
        view = ViewPanel(client, self.studio)  # type: ignore
        sampling.view = view
        view.start()
        return client, view, sampling


@pytest.fixture
def gate() -> threading.Event:
    """Opened, sampling goes beyond its second step."""
    return threading.Event()


@pytest.fixture
def desk(gate: threading.Event) -> Iterator[Desk]:
    found = Desk(lambda step: None if step < 3 else assert_true(gate.wait(60)))
    yield found
    gate.set()
    found.studio.close()


def assert_true(value: bool) -> None:
    assert value


def give(client: Client, path: Path) -> None:
    """Upload a file."""
    file = SimpleNamespace(name=path.name, content=path.read_bytes())
    client.gui.controls["Choose a picture"].use(value=file)


def status(client: Client) -> str:
    return client.gui.controls["status"].content


def test_bad_pictures_are_told_by_their_own_names(desk: Desk, tmp_path: Path) -> None:
    client, _, _ = desk.come()
    for name, (path, reason) in bad_pictures(tmp_path).items():
        if path.is_file():
            give(client, path)
            assert name in client.messages[-1] and reason in client.messages[-1]
            assert "/tmp" not in client.messages[-1] and reason in status(client)
            assert client.gui.controls["Sample"].disabled
    give(client, save_plate(tmp_path / "plate.png"))
    assert "what the model sees" in status(client)
    assert not client.gui.controls["Sample"].disabled


def test_every_step_is_shown_and_the_samples_are_kept_or_not(
    desk: Desk, gate: threading.Event, tmp_path: Path
) -> None:
    client, view, _ = desk.come()
    controls = client.gui.controls
    give(client, save_plate(tmp_path / "plate.png"))
    controls["Scenes"].value, controls["Seed"].value = 3, 7
    controls["Sample"].use()
    wait_until(lambda: status(client) == "Step 2 of 8.")
    # While the third step is being computed, two balls of the second are there.
    assert len(view.samples) == 2 and controls["Stop"].visible
    assert float(view.samples[0].scene.tensors()["radius"]) == pytest.approx(0.45)
    wait_until(lambda: client.scene.has("/cell0/gaussians0"))
    gate.set()
    wait_until(lambda: not controls["Stop"].visible)
    assert [s.name for s in view.samples] == [f"plate, seed 7, {i}" for i in range(3)]
    assert [s.provenance["seed"] for s in view.samples] == [7, 7, 7]
    # The second is kept, and stays when others are sampled.
    kept = view.samples[1]
    controls["Chosen"].use(value=kept.name)
    controls["Keep"].use()
    assert desk.studio.samples == [kept]
    view._discard.use()
    assert kept not in view.samples and desk.studio.samples == []


def test_the_same_order_twice_gives_other_names(
    desk: Desk, gate: threading.Event, tmp_path: Path
) -> None:
    gate.set()
    client, view, sampling = desk.come()
    give(client, save_plate(tmp_path / "plate.png"))
    sampling._start.use()
    wait_until(lambda: sampling._job is None and len(view.samples) == 4)
    view._keep.use()
    sampling._start.use()
    wait_until(lambda: sampling._job is None and len(view.samples) == 5)
    names = [sample.name for sample in view.samples]
    assert len(names) == len(set(names)) == 5
    assert view.kept[0].name == "plate, seed 0, 0"


def test_a_client_that_leaves_does_not_block_the_next(
    desk: Desk, gate: threading.Event, tmp_path: Path
) -> None:
    picture = save_plate(tmp_path / "plate.png")
    (first, view, sampling), (second, _, other) = desk.come(), desk.come()
    for client, panel in ((first, sampling), (second, other)):
        give(client, picture)
        panel._start.use()
    wait_until(lambda: status(first) == "Step 2 of 8.")
    assert status(second) == "Waiting for another sampling job."
    # As the server does when a connection ends.
    sampling.stop()
    view.close()
    gate.set()
    wait_until(lambda: status(second).startswith("4 scenes."))
    assert status(first) == "Stopped." and len(view.samples) == 2


def test_downloads(desk: Desk) -> None:
    desk.studio.keep(ball_samples(given=given_view())[0])
    client, view, _ = desk.come()
    for suffix, start in (("glb", b"glTF"), ("ply", b"ply\n")):
        view._download.use(value=suffix)
        assert client.files[f"ball-0.{suffix}"].startswith(start)
    view._download.use(value="safetensors")
    assert b"unseen_scene" in client.files["ball-0.safetensors"]


def test_a_download_has_the_bytes_of_the_command_line(
    desk: Desk, gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.set()
    picture = save_plate(tmp_path / "plate.png")
    client, view, sampling = desk.come()
    give(client, picture)
    controls = client.gui.controls
    controls["Scenes"].value, controls["Seed"].value = 1, 7
    controls["Steps"].value = 3
    sampling._start.use()
    wait_until(lambda: sampling._job is None and len(view.samples) == 1)
    view._download.use(value="safetensors")
    monkeypatch.setattr(unseen, "load", lambda name, *more: desk.model)
    words = ["--model", "m/balls", "--num", "1", "--seed", "7", "--steps", "3"]
    words += ["--size", "16", "--frames", "2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["unseen", "sample", str(picture), *words])
    main()
    path = tmp_path / "out" / "scene_00" / "scene.safetensors"
    assert client.files["plate-seed-7-0.safetensors"] == path.read_bytes()
    assert scene_provenance(path)["unseen"] == unseen.__version__


def test_modes_and_views_reach_the_display(desk: Desk) -> None:
    for sample in ball_samples(0.6, 0.5, given=given_view()):
        desk.studio.keep(sample)
    client, view, _ = desk.come()
    controls = client.gui.controls
    assert controls["Show"].options == [mode.value for mode in Mode]
    controls["Show"].use(value=Mode.SEEN.value)
    assert view._session.display.mode == Mode.SEEN
    wait_until(lambda: len(client.scene.backgrounds) > 1)
    controls["Side by side"].use(value=False)
    assert len(view._session.display.cells()) == 1
    wait_until(lambda: client.scene.has("/cell0/input"))
    controls["Look from"].use(value="back")
    assert client.camera.position[0] < 0
    controls["Look from"].use(value="front")
    assert client.camera.position[0] > 0 and abs(client.camera.position[1]) < 1e-3
    # Discarding down to one leaves no spread to show.
    controls["Show"].use(value=Mode.SPREAD.value)
    view._discard.use()
    assert view._session.display.mode == Mode.COLOR
    assert Mode.SPREAD.value not in controls["Show"].options


def test_an_option_that_the_model_lacks_is_not_offered(desk: Desk) -> None:
    controls = desk.come()[0].gui.controls
    assert controls["Steps"].visible and not controls["Guidance"].visible
    assert SampleOptions(num_steps=controls["Steps"].value or None).num_steps is None


def test_a_model_of_objects_needs_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BallMethod, "min_context", 0)
    monkeypatch.setattr(BallMethod, "max_context", 0)
    desk = Desk(lambda step: None)
    client, view, _ = desk.come()
    controls = client.gui.controls
    assert not controls["Choose a picture"].visible
    assert not controls["Sample"].disabled
    controls["Scenes"].value, controls["Seed"].value = 2, 3
    controls["Sample"].use()
    wait_until(lambda: len(view.samples) == 2 and not controls["Stop"].visible)
    assert [s.name for s in view.samples] == [
        f"no picture, seed 3, {i}" for i in (0, 1)
    ]
    assert view.samples[0].given is None
    assert "image_sha256" not in view.samples[0].provenance
    assert not controls["Sample"].disabled
    desk.studio.close()


ENDS_WHILE_IT_DRAWS = """
    from tests.viewer.balls import ball_samples
    from tests.viewer.client import Client
    from unseen.viewer.session import Session
    from unseen.viewer.studio import Exhibition, Studio
    import atexit

    session = Session(Client(), Studio(Exhibition("balls", ball_samples())))
    session.start()
    # What was registered last is called first: the thread has ended by now.
    atexit._run_exitfuncs()
    print("drawing" if session._thread.is_alive() else "ended", session._closed)
"""


def test_the_end_of_the_process_waits_for_the_drawing() -> None:
    # A thread that is inside of torch when Python ends aborts the process.
    command = [sys.executable, "-c", textwrap.dedent(ENDS_WHILE_IT_DRAWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, ["ended", "True"])
