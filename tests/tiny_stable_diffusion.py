"""Text-to-image models with random small weights, in diffusers' folder layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def save_stable_diffusion(
    folder: Path, side: int = 8, latent: bool = True, prediction: str = "epsilon"
) -> Path:
    """A Stable Diffusion of side 8 `side` in pixels, or a DeepFloyd of side `side`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels = 4 if latent else 3
        UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels if latent else 6,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=8,
        ).save_pretrained(folder / "unet")
        if latent:
            AutoencoderKL(
                block_out_channels=(8, 8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                norm_num_groups=8,
                sample_size=8 * side,
            ).save_pretrained(folder / "vae")
        save_text_encoder(folder)
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")
    return folder


def save_text_encoder(folder: Path) -> None:
    """CLIP's text encoder with one layer, and a tokenizer that knows letters."""
    from transformers import CLIPTextConfig, CLIPTextModel

    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)] + [",", "."]
    tokens = [*letters, *(f"{x}</w>" for x in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": tokens[-2], "eos_token": tokens[-1]}
    special |= {"unk_token": tokens[-1], "pad_token": tokens[-1]}
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
        )
    )
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=len(tokens) - 2,
            eos_token_id=len(tokens) - 1,
            pad_token_id=len(tokens) - 1,
        )
    ).save_pretrained(folder / "text_encoder")
