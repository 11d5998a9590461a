"""`unseen distill`, with text-to-image models and models of views of random weights."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import save_plate
from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from unseen.checkpoints.model_folder import save_model
from unseen.cli import distill_run
from unseen.cli.main import main
from unseen.cli.view import open_target
from unseen.distillation.config import RegularizerConfig
from unseen.distillation.distiller import Distiller
from unseen.distillation.presets import DISTILL_PRESETS
from unseen.distillation.representations import GaussianCloud
from unseen.methods import registry
from unseen.methods.mvdream import MVDream, MVDreamConfig
from unseen.methods.threedim import ThreeDiM, ThreeDiMConfig
from unseen.methods.zero123 import Zero123, Zero123Config
from unseen.networks.conv_encoder import ConvEncoderConfig
from unseen.networks.latent import AutoencoderConfig, LatentUNetConfig
from unseen.networks.text import WordConfig
from unseen.networks.xunet import XUNetConfig
from unseen.scenes.gaussians import GaussianScene
from unseen.scenes.io import load_scene, scene_provenance
from unseen.scenes.value_grid import ValueGridScene

QUICK = ["--size", "16", "--frames", "2", "--preset", "small-gaussians"]
QUICK += ["--log-every", "2", "--checkpoint-every", "2", "--preview-every", "3"]


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit status of `unseen distill ARGUMENTS`."""
    words = ["unseen", "distill", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_scene_of_a_text(stable_diffusion, monkeypatch, capsys) -> None:
    words = ["--prior", stable_diffusion, "--prompt", "a cup", "--out", "cup"]
    assert run(monkeypatch, *words, *QUICK, "--steps", "4", "--perpendicular") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"Open {Path('cup/index.html')} in a browser."
    names = {str(p.relative_to("cup")) for p in Path("cup").rglob("*.*")}
    per_scene = ["orbit.mp4", "orbit_depth.mp4", "scene.safetensors", "splats.ply"]
    wanted = {"contact_sheet.png", "index.html", "settings.json"}
    assert names == wanted | {f"scene_00/{name}" for name in per_scene}
    assert sorted(lines[:-2]) == sorted(f"cup/{name}" for name in names)
    path = Path("cup/scene_00/scene.safetensors")
    assert isinstance(load_scene(path), GaussianScene)
    provenance = scene_provenance(path)
    assert provenance["prompt"] == "a cup" and provenance["settings"]["steps"] == 4
    page = Path("cup/index.html").read_text()
    assert "One scene whose views" in page and "<h1>a cup</h1>" in page
    # The noted command is the one that was given.
    command = json.loads(Path("cup/settings.json").read_text())["command"]
    assert "--perpendicular" in command and "--prompt 'a cup'" in command

    entries = [
        json.loads(x) for x in Path("cup.run/log.jsonl").read_text().split("\n") if x
    ]
    assert [entry["step"] for entry in entries] == [2, 4]
    for name in ("loss/prior", "gradient/prior", "loss/opacity", "opacity", "t"):
        assert entries[0][name] > 0, name
    previews = sorted(p.name for p in Path("cup.run/previews").iterdir())
    assert previews == ["step-000003.png", "step-000004.png"]
    picture = np.array(Image.open("cup.run/previews/step-000004.png"))
    assert picture.shape == (192, 384, 3) and picture.std() > 1


def test_latents_get_the_colours_of_the_decoder(stable_diffusion, monkeypatch) -> None:
    words = ["--prior", stable_diffusion, "--prompt", "a cup", "--out", "cup"]
    quick = ["--preset", "small-latents", "--size", "16", "--frames", "2"]
    assert run(monkeypatch, *words, *quick, "--steps", "2") == 0
    scene = load_scene("cup/scene_00/scene.safetensors")
    assert isinstance(scene, ValueGridScene) and scene.holds_latents
    # The viewer, which has no decoder, shows the run as the result.
    seen = open_target("cup.run").samples[0].scene
    assert torch.equal(seen.tensors()["to_color"], scene.to_color)
    assert torch.equal(seen.tensors()["values"], scene.values)
    assert not torch.equal(scene.to_color[:, :3], torch.eye(3))


def test_a_killed_run_goes_on_to_the_same_bytes(
    stable_diffusion, monkeypatch, capsys
) -> None:
    words = ["--prior", stable_diffusion, "--prompt", "a cup", *QUICK, "--steps", "6"]
    assert run(monkeypatch, *words, "--out", "whole") == 0
    original = Distiller.step

    def killed(self, index, with_norms=False):
        if index == 5:
            raise MemoryError("killed")
        return original(self, index, with_norms)

    monkeypatch.setattr(Distiller, "step", killed)
    with pytest.raises(MemoryError):
        run(monkeypatch, *words, "--out", "again")
    assert not Path("again").exists()
    # What a kill in the middle of a line leaves.
    with Path("again.run/log.jsonl").open("a") as file:
        file.write('{"step": 5, "loss')
    monkeypatch.setattr(Distiller, "step", original)
    capsys.readouterr()
    assert run(monkeypatch, *words, "--out", "again") == 0
    assert "going on after step 4" in capsys.readouterr().err
    for name in ("scene.safetensors", "splats.ply"):
        first, second = (Path(f, "scene_00", name) for f in ("whole", "again"))
        assert first.read_bytes() == second.read_bytes()
    logs = [Path(f"{name}.run/log.jsonl").read_text() for name in ("whole", "again")]
    whole, again = ([json.loads(x) for x in log.splitlines()] for log in logs)
    for entry in [*whole, *again]:
        del entry["seconds"]
    assert whole == again and [e["step"] for e in again] == [2, 4, 6]


def test_ctrl_c_keeps_what_is_done(stable_diffusion, monkeypatch, capsys) -> None:
    words = ["--prior", stable_diffusion, "--prompt", "a cup", *QUICK, "--out", "cup"]
    original = Distiller.step

    def interrupted(self, index, with_norms=False):
        if index == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, index, with_norms)

    monkeypatch.setattr(Distiller, "step", interrupted)
    assert run(monkeypatch, *words, "--steps", "5") == 130
    assert "stopped after step 3: the same command goes on." in capsys.readouterr().err
    monkeypatch.setattr(Distiller, "step", original)
    assert run(monkeypatch, *words, "--steps", "5") == 0
    assert "going on after step 3" in capsys.readouterr().err
    # Other settings are another scene; with --overwrite it starts anew.
    status = run(monkeypatch, *words, "--steps", "5", "--seed", "1")
    assert status == 2 and "--overwrite" in capsys.readouterr().err
    other = [*words[:-1], "cup2"]
    Path("cup.run").rename("cup2.run")
    assert run(monkeypatch, *other, "--steps", "5", "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "other settings (seed: 0 there, 1 now)" in error
    assert run(monkeypatch, *other, "--steps", "1", "--seed", "1", "--overwrite") == 0
    assert json.loads(Path("cup2.run/settings.json").read_text())["seed"] == 1
    Path("cup3.run").mkdir()
    Path("cup3.run/mine.txt").write_text("precious")
    third = [*words[:-1], "cup3", "--overwrite"]
    assert run(monkeypatch, *third, "--steps", "1") == 2
    assert "no run of unseen" in capsys.readouterr().err
    assert Path("cup3.run/mine.txt").exists()


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(stable_diffusion, monkeypatch, capsys):
    """Ramps count steps from the start: a longer run begins as a shorter one."""
    words = ["--prior", stable_diffusion, "--prompt", "a cup", *QUICK]
    assert run(monkeypatch, *words, "--steps", "4", "--out", "whole") == 0
    assert run(monkeypatch, *words, "--steps", "2", "--out", "longer") == 0
    words += ["--out", "longer", "--overwrite"]
    assert run(monkeypatch, *words, "--steps", "4") == 0
    assert "going on after step 2" in capsys.readouterr().err
    first, second = (Path(f, "scene_00/splats.ply") for f in ("whole", "longer"))
    assert first.read_bytes() == second.read_bytes()


def save_3dim(folder: Path) -> Path:
    network = XUNetConfig(
        channels=8, multipliers=(1, 2), num_blocks=1, attention=(False, True),
        embedding=16, num_groups=4, dropout=0.0, position_octaves=2,
        direction_octaves=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(ThreeDiM(ThreeDiMConfig(network, 16)), folder, {})
    return folder


def test_a_scene_of_an_image(work: Path, monkeypatch) -> None:
    image, folder = save_plate(work / "plate.png"), save_3dim(work / "3dim")
    words = ["--prior", folder, "--image", image, *QUICK, "--steps", "2"]
    assert run(monkeypatch, *words, "--out", "plate") == 0
    assert Path("plate/input.png").exists()
    log = json.loads(Path("plate.run/log.jsonl").read_text())
    assert {"loss/reference_color", "loss/reference_mask"} < set(log)
    assert "image_sha256" in scene_provenance("plate/scene_00/scene.safetensors")


def save_latent(folder: Path, kind: str) -> Path:
    """A Zero-1-to-3 or an MVDream of random small weights."""
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    autoencoder = AutoencoderConfig((8, 8), 1, groups=4, scale=1.0)
    unet = LatentUNetConfig(4, 4, (8, 16), (True, False), 1, 12, (1, 2), False, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "mvdream":
            text = WordConfig(32, 4, 12)
            config = MVDreamConfig(unet, autoencoder, text, image_size=16)
            method = MVDream(config)
        else:
            unet = dataclasses.replace(unet, in_channels=8)
            encoder = ConvEncoderConfig((8,), 12, 4)
            config = Zero123Config(unet, autoencoder, encoder, image_size=16)
            method = Zero123(config)
        save_model(method, folder, {})
    return folder


def make_tiny(monkeypatch: pytest.MonkeyPatch, preset: str, **changes) -> None:
    """Give a preset a few Gaussians and small pictures."""
    changes |= {"representation": GaussianCloud(60), "size": 16}
    tiny = dataclasses.replace(DISTILL_PRESETS[preset], **changes)
    monkeypatch.setitem(DISTILL_PRESETS, preset, tiny)


def test_a_scene_of_an_image_by_zero123(work: Path, monkeypatch) -> None:
    make_tiny(monkeypatch, "small-gaussians")
    folder = save_latent(work / "zero123", "zero123")
    words = ["--prior", folder, "--image", save_plate(work / "plate.png"), *QUICK]
    assert run(monkeypatch, *words, "--steps", "2", "--out", "plate") == 0
    log = json.loads(Path("plate.run/log.jsonl").read_text())
    assert log["gradient/prior"] > 0 and log["loss/reference_mask"] > 0
    assert isinstance(load_scene("plate/scene_00/scene.safetensors"), GaussianScene)


def test_a_scene_of_a_text_by_mvdream(work: Path, monkeypatch) -> None:
    make_tiny(monkeypatch, "small-mvdream", regularizers=RegularizerConfig())
    folder = save_latent(work / "mvdream", "mvdream")
    words = ["--prior", folder, "--prompt", "a cup", "--size", "16", "--frames", "2"]
    # On a CPU this is the preset by default.
    more = ["--device", "cpu", "--steps", "2", "--out", "cup"]
    assert run(monkeypatch, *words, *more) == 0
    assert not Path("cup/input.png").exists()
    provenance = scene_provenance("cup/scene_00/scene.safetensors")
    assert provenance["prompt"] == "a cup"
    assert provenance["settings"]["cameras"]["group"] == 4
    log = json.loads(Path("cup.run/log.jsonl").read_text())
    assert log["gradient/prior"] > 0


FAULTS = [
    (["{sd}", "--image", "{plate}"], "told in words what to make"),
    (["{sd}"], "say it with --prompt"),
    (["{sd}", "--prompt", " "], "is empty"),
    (["{sd}", "--prompt", "a", "--image", "{plate}"], "not both"),
    (["{sd}", "--prompt", "a", "--preset", "mvdream"], "told the cameras"),
    (["{sd}", "--prompt", "a", "--steps", "0"], "--steps must lie in 1"),
    (["{3dim}", "--prompt", "a"], "takes no text"),
    (["{3dim}"], "needs a picture"),
    (["{3dim}", "--image", "{plate}", "--preset", "sjc"], "optimise latents"),
    (["{3dim}", "--image", "{plate}", "--negative", "b"], "leave out --negative"),
    (["{3dim}", "--image", "{plate}", "--perpendicular"], "leave it out"),
    (["{sky}", "--image", "{plate}"], "use `unseen sample`"),
    (["{mvdream}", "--image", "{plate}"], "MVDream is told in words"),
    (["{mvdream}"], "say it with --prompt"),
    (["{mvdream}", "--prompt", "a", "--preset", "small"], "--preset mvdream"),
    (["{mvdream}", "--prompt", "a", "--perpendicular"], "leave it out"),
    (["nowhere", "--prompt", "a"], "there is no model 'nowhere'"),
    (["nowhere", "--prompt", "a", "--preset", "best"], "no preset 'best'"),
]


def test_a_gpu_that_is_not_there(work: Path, monkeypatch, capsys) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    words = ("--prior", "vehicles-64", "--prompt", "a", "--out", "out")
    assert run(monkeypatch, *words, "--device", "cuda") == 2
    assert "the device 'cuda' is not available" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "reason"), FAULTS)
def test_faults(
    arguments, reason, work: Path, stable_diffusion, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(registry.METHODS, "SkyDecoder", (SkyDecoder, SkyConfig))
    places = {"sd": stable_diffusion, "plate": save_plate(work / "plate.png")}
    places["3dim"] = save_3dim(work / "3dim")
    save_model(SkyDecoder(SkyConfig()), work / "sky", {})
    places["sky"] = work / "sky"
    if "{mvdream}" in arguments:
        places["mvdream"] = save_latent(work / "mvdream", "mvdream")
    words = [word.format(**places) for word in arguments]
    assert run(monkeypatch, "--prior", *words, "--out", "out") == 2
    captured = capsys.readouterr()
    lines = [x for x in captured.err.splitlines() if x.startswith("unseen: ")]
    assert len(lines) == 1 and reason in lines[0] and lines[0].endswith(".")
    assert "Traceback" not in captured.err and captured.out == ""
    assert os.listdir() == []


def test_a_checkpoint_of_another_run_is_refused(
    stable_diffusion, monkeypatch, capsys
) -> None:
    words = ["--prior", stable_diffusion, "--prompt", "a cup", *QUICK, "--steps", "2"]
    monkeypatch.setattr(distill_run, "write_results", lambda *_: [])
    assert run(monkeypatch, *words, "--out", "cup") == 0
    path = Path("cup.run/checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    assert run(monkeypatch, *words, "--out", "cup") == 2
    assert "checkpoint.safetensors" in capsys.readouterr().err
