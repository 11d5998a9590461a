"""Files of Zero-1-to-3: both layouts, what is kept of them, what is refused."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.latent_models import (
    AUTOENCODER,
    IMAGE_ENCODER,
    UNET,
    ldm_names,
    openai_image_encoder,
    transformers_image_encoder,
    write_part,
)
from unseen.checkpoints.importers import IMPORTERS
from unseen.checkpoints.zero123_authors import read_zero123
from unseen.errors import UserError
from unseen.methods.zero123 import Zero123, Zero123Config

pytest.importorskip("diffusers", reason="diffusers is not installed")

CONFIG = Zero123Config(UNET, AUTOENCODER, IMAGE_ENCODER)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": x for key, x in tensors.items()}


def randomised(config: Zero123Config) -> Zero123:
    torch.manual_seed(0)
    found = Zero123(config)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return found


def authors_names(method: Zero123) -> dict[str, Tensor]:
    """The state dict of the authors' checkpoint, with much that is not needed."""
    unet = ldm_names(method.unet.model.state_dict(), "unet")
    unet = prefixed("model.diffusion_model.", unet)
    average = {
        f"model_ema.{key.removeprefix('model.').replace('.', '')}": x + 1
        for key, x in unet.items()
    }
    autoencoder = ldm_names(method.autoencoder.model.state_dict(), "autoencoder")
    encoder = openai_image_encoder(method.image_encoder.state_dict())
    return {
        **unet,
        **average,
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7),
        "betas": torch.zeros(1000),
        **prefixed("first_stage_model.", autoencoder),
        "first_stage_model.loss.logvar": torch.zeros(()),
        **prefixed("cond_stage_model.model.visual.", encoder),
        "cond_stage_model.model.token_embedding.weight": torch.zeros(5, 4),
        **prefixed("cc_projection.", method.projection.state_dict()),
    }


@pytest.fixture(scope="module")
def method() -> Zero123:
    return randomised(CONFIG)


@pytest.fixture(scope="module")
def official(method: Zero123) -> dict[str, Tensor]:
    return authors_names(method)


class ModelCheckpoint:
    """What PyTorch Lightning leaves in its files: the class is not ours to import."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


def save(path: Path, tensors: dict, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As Lightning does it; its package is there only while the file is written."""
    package = ModelCheckpoint.__module__
    parts = package.split(".")
    with monkeypatch.context() as patch:
        for end in range(1, len(parts) + 1):
            module = type(sys)(".".join(parts[:end]))
            module.ModelCheckpoint = ModelCheckpoint
            patch.setitem(sys.modules, ".".join(parts[:end]), module)
        callbacks = {ModelCheckpoint: {"best_model_path": "a.ckpt"}}
        torch.save(
            {"global_step": 1, "callbacks": callbacks, "state_dict": tensors}, path
        )
    return path


def check_same(found: Zero123, expected: Zero123, unet_offset: float = 0.0) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        offset = unet_offset if name.startswith("unet.") else 0.0
        assert torch.equal(value, theirs[name] + offset), name
        assert value.dtype == torch.float32


def test_the_checkpoint(method, official, tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "105000.ckpt", official, monkeypatch)
    state = torch.get_rng_state()
    found = IMPORTERS["zero123"].read(path)
    assert torch.equal(state, torch.get_rng_state())
    assert isinstance(found, Zero123) and not found.training
    assert found.config == CONFIG
    # As in the authors' demo, the average is what is used where there is one.
    check_same(found, method, 1.0)
    check_same(read_zero123(path, weights="average"), method, 1.0)
    check_same(read_zero123(path, weights="plain"), method)
    stable = read_zero123(path, release="stable-zero123")
    assert stable.config.pose == "stable"


def test_a_checkpoint_without_an_average(
    method, official, tmp_path: Path, monkeypatch
) -> None:
    plain = {k: x for k, x in official.items() if not k.startswith("model_ema.")}
    path = save(tmp_path / "a.ckpt", plain, monkeypatch)
    check_same(read_zero123(path), method)
    with pytest.raises(UserError, match="no moving average"):
        read_zero123(path, weights="average")
    torch.save(plain, tmp_path / "bare.pt")
    check_same(read_zero123(tmp_path / "bare.pt"), method)


def write_folder(root: Path, method: Zero123, kind: str) -> Path:
    """Either layout of diffusers: kxic's, or threestudio's in half precision."""
    unet, autoencoder = (
        part.model.state_dict() for part in (method.unet, method.autoencoder)
    )
    encoder = transformers_image_encoder(method.image_encoder.state_dict())
    first = kind == "cc_projection"
    if first:
        # Old versions of diffusers had other names for the autoencoder's attention.
        olds = {
            "to_q": "query",
            "to_k": "key",
            "to_v": "value",
            "to_out.0": "proj_attn",
        }
        for new, old in olds.items():
            autoencoder = {
                k.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): x
                for k, x in autoencoder.items()
            }
    suffix = "bin" if first else "fp16.safetensors"
    parts = {
        "unet": (unet, {"attention_head_dim": 8, "norm_num_groups": 32}, "diffusion_"),
        "vae": (autoencoder, {"block_out_channels": [32, 64]}, "diffusion_"),
        "image_encoder": (
            encoder,
            {"num_attention_heads": 1, "hidden_act": "quick_gelu"},
            "",
        ),
        kind: (
            prefixed(
                "projection." if first else "proj.", method.projection.state_dict()
            ),
            {},
            "diffusion_",
        ),
    }
    for name, (tensors, settings, begin) in parts.items():
        if not first:
            tensors = {k: x.half() for k, x in tensors.items() if "_ids" not in k}
        stem = "pytorch_model" if first or begin else "model"
        write_part(
            root / name,
            tensors,
            settings,
            f"{begin}{stem}.{suffix}".replace(
                "diffusion_model", "diffusion_pytorch_model"
            ),
        )
    # Says classes that do not exist: it is not read.
    (root / "model_index.json").write_text("not even JSON")
    return root


@pytest.mark.parametrize("kind", ["cc_projection", "clip_camera_projection"])
def test_folders(kind: str, method: Zero123, tmp_path: Path) -> None:
    found = read_zero123(write_folder(tmp_path / "model", method, kind))
    assert found.config == CONFIG
    if kind == "cc_projection":
        check_same(found, method)
    else:
        for a, b in zip(
            found.state_dict().values(), method.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b.half().float())


def test_folders_that_are_not_whole(method: Zero123, tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "model", method, "cc_projection")
    with pytest.raises(UserError, match="no average"):
        read_zero123(whole, weights="average")
    for name, said in (
        ("vae", "'vae'"),
        ("unet", "'unet'"),
        ("cc_projection", "'cc_projection' or 'clip_camera_projection'"),
    ):
        (whole / name).rename(tmp_path / name)
        with pytest.raises(UserError, match="has no sub-folder") as caught:
            read_zero123(whole)
        assert said in str(caught.value)
        (tmp_path / name).rename(whole / name)
    shutil.rmtree(whole / "unet")
    write_part(whole / "unet", {"a": torch.ones(1)}, {}, "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="does not hold the weights"):
        read_zero123(whole)


KEY = "model.diffusion_model.middle_block.0.in_layers.2.weight"
INPUT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop(KEY), "lacks tensor"),
        (lambda d: d.update({KEY: torch.zeros(3, 3)}), "shape"),
        (lambda d: d.update({KEY: torch.full((64, 64, 3, 3), torch.nan)}), "finite"),
        (
            lambda d: d.update({"model.diffusion_model.extra": torch.ones(1)}),
            "unknown tensor 'unet.model.extra'",
        ),
        (lambda d: d.update({INPUT: torch.zeros(32, 4, 3, 3)}), "takes 4 channels"),
        (lambda d: d.pop("cc_projection.weight"), "lacks tensor"),
        (lambda d: d.update({KEY: "text"}), "not only tensors"),
        (lambda d: d.clear(), "does not hold the weights"),
    ],
)
def test_damaged_checkpoints(
    damage, message: str, official, tmp_path: Path, monkeypatch
) -> None:
    tensors = {k: x for k, x in official.items() if not k.startswith("model_ema.")}
    damage(tensors)
    path = save(tmp_path / "a.ckpt", tensors, monkeypatch)
    with pytest.raises(UserError, match=message) as caught:
        read_zero123(path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_options_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of zero123, stable-zero123"):
        read_zero123(tmp_path, release="zero124")
    with pytest.raises(UserError, match="choose one of average, plain"):
        read_zero123(tmp_path, weights="ema")
    with pytest.raises(UserError, match="There is no file"):
        read_zero123(tmp_path / "missing.ckpt")


MEASURE = """
import re, sys
from pathlib import Path
import diffusers.models.unets.unet_2d_condition
from unseen.checkpoints.zero123_authors import read_zero123
from unseen.checkpoints.model_folder import save_model

def memory(what):
    status = Path("/proc/self/status").read_text()
    return int(re.search(what + r":\\s+(\\d+)", status)[1]) / 1024

before = memory("VmRSS")
method = read_zero123(sys.argv[1])
save_model(method, sys.argv[2], {})
kept = sum(x.numel() for x in method.parameters()) * 4 / 2**20
print(memory("VmHWM") - before, kept)
"""


@pytest.mark.slow
def test_what_is_not_needed_is_not_read(tmp_path: Path, monkeypatch) -> None:
    """Memory for what is kept, once, not for a file that is mostly something else."""
    wide = dataclasses.replace(UNET, channels=(256, 512))
    official = authors_names(randomised(dataclasses.replace(CONFIG, unet=wide)))
    waste = {f"optimizer.{i}": torch.zeros(2**24) for i in range(4)}  # 256 MiB
    path = save(tmp_path / "a.ckpt", {**official, **waste}, monkeypatch)
    size = path.stat().st_size / 2**20
    command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "model")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, kept = map(float, result.stdout.split())
    print(f"{grown:.0f} MiB for {kept:.0f} MiB that are kept of {size:.0f} MiB")
    path.unlink()
    assert kept > 100 and size > kept + 350
    assert grown < kept + 100
