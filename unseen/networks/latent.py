"""Stable Diffusion's autoencoder and U-Net: the one door to diffusers.

The modules are those of diffusers, so that its files and all that is converted for it
can be loaded by name. What they are asked for, and in which units, is said here.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.errors import UserError


def import_diffusers() -> Any:
    """The package diffusers.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise UserError(
            "models of latent diffusion need the package diffusers: run `pip install "
            "'unseen[diffusion]'`."
        ) from error


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of the autoencoder; the defaults are Stable Diffusion's."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    """At each resolution, finest first; each halves the one before."""
    blocks: int = 2
    """Residual blocks per resolution (the decoder has one more)."""
    latent_channels: int = 4
    groups: int = 32
    """Of group normalisation."""
    scale: float = 0.18215
    """Latents that are diffused are the encoder's, times this: about unit variance."""

    @property
    def factor(self) -> int:
        """By which latents are smaller than images, along each side."""
        return 2 ** (len(self.channels) - 1)


class Autoencoder(nn.Module):
    """Images to latents and back (Rombach et al. 2022, "AutoencoderKL").

    Images are in [-1, 1]. Latents are as the encoder has them, without the scale.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.channels)
        self.model: Any = import_diffusers().AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.channels,
            layers_per_block=config.blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=config.groups,
        )

    def large_networks(self) -> list[nn.Module]:
        """See `Method.large_networks`."""
        return [self.model.encoder, self.model.decoder]

    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[
        Float[Tensor, "batch channel latent_height latent_width"],
        Float[Tensor, "batch channel latent_height latent_width"],
    ]:
        """Mean (which is also the mode) and standard deviation of the latents."""
        latents = self.model.encode(images).latent_dist
        return latents.mean, latents.std

    def draw(
        self, images: Float[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> Float[Tensor, "batch channel latent_height latent_width"]:
        """Latents to diffuse: drawn from the encoder's distribution, and scaled."""
        mean, std = self.encode(images)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        noise = noise.to(mean)
        return self.config.scale * (mean + std * noise)

    def decode(
        self, latents: Float[Tensor, "batch channel latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images, about in [-1, 1] and not clamped.

        Where no gradients are recorded they are decoded one by one: the decoder's
        feature maps at full resolution are what needs most memory in all of sampling.
        """
        if torch.is_grad_enabled():
            return self.model.decode(latents).sample
        return torch.cat([self.model.decode(x[None]).sample for x in latents])


@dataclasses.dataclass(frozen=True)
class LatentUNetConfig:
    """Settings of the U-Net; the defaults are those of Stable Diffusion 1."""

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    """At each resolution, finest first."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Which resolutions have transformer blocks; the middle always has one."""
    blocks: int = 2
    """Residual blocks per resolution on the way down; one more on the way up."""
    context: int = 768
    """Channels of the tokens that cross-attention reads."""
    heads: tuple[int, ...] = (8, 8, 8, 8)
    """Of attention, at each resolution."""
    linear_projection: bool = False
    """Whether transformers are entered and left by linear layers (Stable Diffusion 2)
    or by 1x1 convolutions; the same map, in other shapes."""
    groups: int = 32
    """Of group normalisation."""

    @property
    def embedding(self) -> int:
        """Channels of the embedding of the step."""
        return 4 * self.channels[0]


class LatentUNet(nn.Module):
    """The noise in latents, given tokens; several views of one scene can attend to
    each other."""

    def __init__(self, config: LatentUNetConfig) -> None:
        super().__init__()
        self.config = config
        down = [
            "CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attention
        ]
        up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in config.attention]
        self.model: Any = import_diffusers().UNet2DConditionModel(
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            down_block_types=tuple(down),
            up_block_types=tuple(reversed(up)),
            block_out_channels=config.channels,
            layers_per_block=config.blocks,
            cross_attention_dim=config.context,
            # This is what diffusers calls the number of heads.
            attention_head_dim=config.heads,
            use_linear_projection=config.linear_projection,
            norm_num_groups=config.groups,
            # No weights: adds to the embedding of the step what is handed over.
            class_embed_type="identity",
        )
        self._attend = ViewAttention()
        processors = {
            name: self._attend if ".attn1." in name else TokenAttention()
            for name in self.model.attn_processors
        }
        self.model.set_attn_processor(processors)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        step: Float[Tensor, "batch"],
        tokens: Float[Tensor, "batch token context"],
        added: Float[Tensor, "batch embedding"] | None = None,
        num_views: int = 1,
    ) -> Float[Tensor, "batch out_channel height width"]:
        """The noise, in the latents' units.

        Args:
            x: Noisy latents, and what is concatenated with them.
            step: Of the schedule, 0 (least noise) to 999; whole numbers.
            tokens: What cross-attention reads.
            added: Added to the embedding of the step; nothing by default.
            num_views: Consecutive entries of the batch that are views of one scene.
        """
        if added is None:
            added = x.new_zeros(len(x), self.config.embedding)
        self._attend.num_views = num_views
        # Whole steps, so that half precision does not round them.
        return self.model(x, step.long(), tokens, class_labels=added).sample


class ViewAttention:
    """Self-attention in which all pixels of all views of a scene see each other.

    MVDream, Shi et al. 2023, section 3.1. With one view it is the usual attention.
    """

    num_views = 1

    def __init__(self) -> None:
        self._plain = _plain_attention()

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "entry token channel"],
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        temb: None = None,
    ) -> Float[Tensor, "entry token channel"]:
        """The arguments are those by which diffusers calls an attention processor."""
        entries, count, channels = hidden_states.shape
        joined = hidden_states.reshape(-1, self.num_views * count, channels)
        return self._plain(attn, joined).reshape(entries, count, channels)


class TokenAttention:
    """Cross-attention; of one token it is a linear map, and is computed as one.

    The weights of attention to a single token are 1 wherever one looks from, so the
    query, the key and the softmax have no influence (and no gradient).
    """

    def __init__(self) -> None:
        self._plain = _plain_attention()

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "entry token channel"],
        encoder_hidden_states: Float[Tensor, "entry word context"],
        attention_mask: None = None,
        temb: None = None,
    ) -> Float[Tensor, "entry token channel"]:
        """The arguments are those by which diffusers calls an attention processor."""
        if encoder_hidden_states.shape[1] != 1:
            return self._plain(attn, hidden_states, encoder_hidden_states)
        linear, dropout = attn.to_out
        value = linear(attn.to_v(encoder_hidden_states))
        return dropout(value.expand(-1, hidden_states.shape[1], -1))


def _plain_attention() -> Any:
    return importlib.import_module(
        "diffusers.models.attention_processor"
    ).AttnProcessor2_0()
