"""Attention of latent U-Nets against the plain ones of diffusers; CLIP's encoders
against those of transformers; what is said where a package is missing."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch

from unseen.checkpoints.clip_keys import convert_image_encoder, convert_text_encoder
from unseen.errors import UserError
from unseen.networks.clip import (
    ClipImageConfig,
    ClipImageEncoder,
    ClipTextConfig,
    ClipTextEncoder,
)
from unseen.networks.latent import (
    Autoencoder,
    AutoencoderConfig,
    LatentUNet,
    LatentUNetConfig,
)

pytest.importorskip("diffusers", reason="diffusers is not installed")

SMALL = LatentUNetConfig(
    channels=(16, 32),
    attention=(True, True),
    blocks=1,
    context=24,
    heads=(2, 4),
    groups=8,
)


def small_unet() -> LatentUNet:
    torch.manual_seed(0)
    return LatentUNet(SMALL).eval()


@pytest.mark.parametrize("words", [1, 3])
def test_attention_to_one_token_is_linear(words: int) -> None:
    unet = small_unet()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 8, 8, generator=generator, requires_grad=True)
    tokens = torch.randn(2, words, 24, generator=generator, requires_grad=True)
    step = torch.tensor([3.0, 700.0])
    names = importlib.import_module("diffusers.models.attention_processor")
    own = dict(unet.model.attn_processors)
    unet.model.set_attn_processor(names.AttnProcessor())
    slow = unet.model(
        x, step, tokens, class_labels=torch.zeros(2, SMALL.embedding)
    ).sample
    unet.model.set_attn_processor(own)
    fast = unet(x, step, tokens)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    cotangent = torch.randn(fast.shape, generator=generator)
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight"
    inputs = [x, tokens, unet.model.get_parameter(key)]
    for a, b in zip(
        torch.autograd.grad(fast, inputs, cotangent),
        torch.autograd.grad(slow, inputs, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_views_of_a_scene_see_each_other() -> None:
    unet = small_unet()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 4, 8, 8, generator=generator)
    tokens = torch.randn(4, 3, 24, generator=generator)
    step = torch.full((4,), 500.0)
    alone = unet(x, step, tokens)
    joint = unet(x, step, tokens, num_views=2)
    assert (joint - alone).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    # Scenes do not see each other, and the order of views means nothing.
    torch.testing.assert_close(
        unet(x[:2], step[:2], tokens[:2], num_views=2), joint[:2], rtol=0, atol=1e-5
    )
    swap = [1, 0, 3, 2]
    swapped = unet(x[swap], step, tokens[swap], num_views=2)
    torch.testing.assert_close(swapped, joint[swap], rtol=0, atol=1e-5)
    # Views that are all the same see what each sees alone.
    same = [0, 0, 1, 1]
    torch.testing.assert_close(
        unet(x[same], step, tokens[same], num_views=2),
        alone[same],
        rtol=0,
        atol=1e-5,
    )


@torch.no_grad()
def test_decoding_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderConfig((8, 16), 1, groups=4)).eval()
    latents = torch.randn(3, 4, 4, 4)
    one_by_one = autoencoder.decode(latents)
    with torch.enable_grad():
        together = autoencoder.decode(latents)
    torch.testing.assert_close(one_by_one, together, rtol=0, atol=1e-5)
    assert one_by_one.shape == (3, 3, 8, 8) and autoencoder.config.factor == 2


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'unseen\[diffusion\]'"):
        Autoencoder(AutoencoderConfig())


def randomised(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in module.parameters():
            x.add_(0.2 * torch.randn(x.shape, generator=generator))
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_image_encoder_of_clip(activation: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = ClipImageConfig(16, 4, 32, 2, 4, 48, 12, activation)
    settings = transformers.CLIPVisionConfig(
        image_size=16,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        projection_dim=12,
        hidden_act=activation,
    )
    theirs = randomised(transformers.CLIPVisionModelWithProjection(settings))
    ours = ClipImageEncoder(config).eval()
    ours.load_state_dict(convert_image_encoder(theirs.state_dict()))
    images = 2 * torch.rand(3, 3, 16, 16) - 1
    # At its own size nothing is resized, and theirs takes normalised pixels.
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    expected = theirs((0.5 * (images + 1) - mean) / std).image_embeds
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)
    # Others are resized so that the corners stay.
    large = torch.nn.functional.interpolate(
        images, (31, 31), mode="bilinear", align_corners=True
    )
    assert ours(large).shape == (3, 12)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_text_encoder_of_clip(activation: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = ClipTextConfig(50, 8, 32, 2, 4, 48, activation)
    settings = transformers.CLIPTextConfig(
        vocab_size=50,
        max_position_embeddings=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        hidden_act=activation,
    )
    theirs = randomised(transformers.CLIPTextModel(settings))
    ours = ClipTextEncoder(config).eval()
    ours.load_state_dict(convert_text_encoder(theirs.state_dict()))
    tokens = torch.randint(50, (3, 8))
    expected = theirs(tokens).last_hidden_state
    torch.testing.assert_close(ours(tokens), expected, rtol=1e-4, atol=1e-4)
