"""Text-to-image folders as priors: parity with diffusers, and their faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.tiny_stable_diffusion import save_stable_diffusion
from unseen.checkpoints.diffusers_prior import (
    DiffusersPrior,
    find_diffusers_folder,
    is_diffusers_folder,
    read_diffusers_prior,
)
from unseen.diffusion.schedules import ScaledLinearSchedule
from unseen.distillation.prior import Branch
from unseen.errors import UserError
from unseen.export.video import orbit_cameras

CAMERAS = orbit_cameras(2, 40.0, 20.0)


@pytest.fixture(scope="module")
def prior(stable_diffusion: Path) -> DiffusersPrior:
    return read_diffusers_prior(stable_diffusion)


def test_what_it_is(prior: DiffusersPrior, stable_diffusion: Path) -> None:
    assert is_diffusers_folder(stable_diffusion)
    can = prior.abilities
    assert can.shape == (4, 8, 8) and can.image_size == 64
    assert can.latent and can.text and not can.poses and not can.image
    t = torch.linspace(0.05, 1, 20)
    torch.testing.assert_close(
        prior.schedule.alpha(t), ScaledLinearSchedule().alpha(t), rtol=1e-4, atol=1e-6
    )


def test_the_noise_is_that_of_the_network(prior: DiffusersPrior, generator) -> None:
    """Branches are one batch, and t is the network's own integer step."""
    x_t = torch.randn(2, 4, 8, 8, generator=generator)
    step = torch.tensor([17, 921])
    texts = prior.embed(["a cup", "a hat", ""])
    assert texts.shape == (3, 77, 16) and not torch.equal(texts[0], texts[1])
    branches = [Branch(True, texts[:2]), Branch(False, texts[2:].expand(2, -1, -1))]
    t = prior.schedule.t_of_step(step)
    found = prior.predict_noise(x_t, t, CAMERAS, branches, generator)
    for branch, noise in zip(branches, found, strict=True):
        for i in range(2):
            assert branch.text is not None
            alone = prior._unet(
                x_t[i : i + 1], step[i], encoder_hidden_states=branch.text[i : i + 1]
            ).sample
            torch.testing.assert_close(noise[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_latents_are_the_autoencoders(prior: DiffusersPrior, generator) -> None:
    images = torch.rand(2, 3, 64, 64, generator=generator, requires_grad=True)
    seeded = torch.Generator().manual_seed(3)
    latents = prior.encode(images, seeded)
    moments = prior._vae.encode(2 * images - 1).latent_dist
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    wanted = 0.18215 * (moments.mean + moments.std * drawn)
    torch.testing.assert_close(latents, wanted)
    (gradient,) = torch.autograd.grad(latents.sum(), images)
    assert gradient.abs().sum() > 0
    # Renderings of any size are resized.
    assert prior.encode(images[..., :20, :20].detach(), seeded).shape == (2, 4, 8, 8)
    decoded = prior.decode(latents.detach())
    assert decoded.shape == (2, 3, 64, 64)
    assert decoded.min() >= 0 and decoded.max() <= 1
    assert all(not p.requires_grad for p in prior._unet.parameters())


def test_pixels_and_velocities(tmp_path: Path, generator) -> None:
    """DeepFloyd's kind: pixels, a variance beside the noise, another prediction."""
    folder = save_stable_diffusion(
        tmp_path, 16, latent=False, prediction="v_prediction"
    )
    prior = read_diffusers_prior(folder)
    can = prior.abilities
    assert can.shape == (3, 16, 16) and can.image_size == 16 and not can.latent
    images = torch.rand(1, 3, 16, 16, generator=generator)
    x_0 = prior.encode(images, generator)
    torch.testing.assert_close(x_0, 2 * images - 1)
    torch.testing.assert_close(prior.decode(x_0), images)
    t = torch.tensor([0.4])
    text = prior.embed(["a cup"])
    found = prior.predict_noise(x_0, t, CAMERAS[:1], [Branch(True, text)], generator)
    v = prior._unet(x_0, torch.tensor([399]), encoder_hidden_states=text).sample[:, :3]
    alpha, sigma = prior.schedule.alpha_sigma(t)
    torch.testing.assert_close(found[0], sigma * x_0 + alpha * v, rtol=1e-4, atol=1e-5)


def edit(path: Path, **settings) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def pickled(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def truncated(folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def no_scheduler(folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")


def another_prediction(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="flow")


def another_encoder(folder: Path) -> None:
    edit(folder / "text_encoder" / "config.json", architectures=["LlamaModel"])


def more_channels(folder: Path) -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    settings = json.loads((folder / "unet" / "config.json").read_text())
    changed = UNet2DConditionModel.from_config(settings | {"in_channels": 8})
    changed.save_pretrained(folder / "unet")


FAULTS = {
    pickled: "pickled",
    truncated: "cannot be read",
    no_scheduler: "cannot be read",
    another_prediction: "predicts 'flow'",
    another_encoder: "is a LlamaModel",
    more_channels: "given more than a noisy image",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault, stable_diffusion: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(stable_diffusion, folder)
    fault(folder)
    with pytest.raises(UserError, match=FAULTS[fault]) as found:
        read_diffusers_prior(folder)
    assert "\n" not in str(found.value) and str(found.value).endswith(".")


def test_folders_of_the_hub(
    stable_diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []

    def fetch(name: str, patterns, ignored=()) -> Path:
        asked.append((name, tuple(patterns)))
        return stable_diffusion if name == "organisation/diffusion" else tmp_path

    monkeypatch.setattr("unseen.checkpoints.diffusers_prior.fetch", fetch)
    assert find_diffusers_folder("organisation/diffusion") == stable_diffusion
    assert [patterns[0] for _, patterns in asked] == ["unet/config.json", "unet/*"]
    # Of another kind of model nothing but that one file is asked for.
    assert find_diffusers_folder("organisation/other") is None
    assert asked[2:] == [("organisation/other", ("unet/config.json",))]
    assert find_diffusers_folder(str(stable_diffusion)) == stable_diffusion
    assert find_diffusers_folder(str(tmp_path)) is None
    assert len(asked) == 3
