"""Text-to-image models on disk, in diffusers' folder layout, as priors over views.

A folder with `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler` is a Stable
Diffusion; without `vae` it works on pixels, as the first stage of DeepFloyd IF does.
Weights are read from safetensors files; nothing in the folder is executed, and
`model_index.json`, which names classes, is not looked at.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unseen.checkpoints.hub import fetch, is_hub_name
from unseen.configuration import read_json
from unseen.diffusion.noise import normal_like
from unseen.diffusion.prediction import eps_from_v, eps_from_x0
from unseen.diffusion.schedules import DiscreteSchedule, unsqueeze_like
from unseen.distillation.prior import Abilities, Branch, ViewPrior, resize
from unseen.errors import UserError
from unseen.geometry.cameras import Cameras

PREDICTIONS = ("epsilon", "v_prediction", "sample")
TOKENS = 77
"""Tokens of a text, for both kinds of text encoder."""

Loaded = TypeVar("Loaded")


_FILES = ("unet/*", "vae/*", "text_encoder/*", "tokenizer/*", "scheduler/*")
# Weights that are pickled, of half precision, or for going on with training.
_OTHER_FILES = ("*.bin", "*.ckpt", "*.fp16.*", "*non_ema*", "*.msgpack", "*.h5")


def is_diffusers_folder(folder: str | Path) -> bool:
    """Whether a folder is laid out as diffusers does."""
    return (Path(folder) / "unet" / "config.json").is_file()


def find_diffusers_folder(name: str) -> Path | None:
    """A folder in diffusers' layout, by its path or its name on the hub, which is
    fetched; None where there is another thing of this name.

    Raises:
        UserError: see `fetch`.
    """
    if not is_hub_name(name):
        return Path(name) if is_diffusers_folder(name) else None
    # First a look at what it is: the weights of another model are not fetched in vain.
    if not is_diffusers_folder(fetch(name, ["unet/config.json"])):
        return None
    return fetch(name, _FILES, _OTHER_FILES)


@final
class DiffusersPrior(ViewPrior):
    """A text-to-image model; it is told the view in words only.

    Args:
        unet: The network of the noise (a `UNet2DConditionModel`).
        vae: The autoencoder (an `AutoencoderKL`), or None for pixels.
        encode_text: Texts to embeddings (text, token, channel).
        alphas_cumprod: The schedule's table.
        prediction: What the network predicts, in diffusers' words.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        encode_text: Callable[[Sequence[str]], Tensor],
        alphas_cumprod: Float[Tensor, "step"],
        prediction: str = "epsilon",
    ) -> None:
        self._unet, self._vae, self._encode_text = unet, vae, encode_text
        self._prediction, self.device = prediction, unet.device
        self.schedule: DiscreteSchedule = DiscreteSchedule.from_tensor(alphas_cumprod)
        side, channels = unet.config.sample_size, unet.config.in_channels
        factor = 1
        if vae is not None:
            factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.abilities = Abilities(
            name="the text-to-image model",
            shape=(channels, side, side),
            image_size=side * factor,
            latent=vae is not None,
            text=True,
        )

    def encode(
        self,
        images: Float[Tensor, "view 3 height width"],
        generator: torch.Generator,
    ) -> Float[Tensor, "view channel diffused_height diffused_width"]:
        images = resize(images, self.abilities.image_size)
        if self._vae is None:
            return 2 * images - 1
        found = self._vae.encode((2 * images - 1).to(self._vae.dtype)).latent_dist
        drawn = found.mean + found.std * normal_like(found.mean, generator)
        return (drawn * self._vae.config.scaling_factor).to(images.dtype)

    @torch.no_grad()
    def decode(
        self, clean: Float[Tensor, "view channel height width"]
    ) -> Float[Tensor, "view 3 image_height image_width"]:
        images = clean
        if self._vae is not None:
            scaled = clean.to(self._vae.dtype) / self._vae.config.scaling_factor
            images = self._vae.decode(scaled).sample.to(clean.dtype)
        return (0.5 * (images + 1)).clamp(0, 1)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "text token channel"]:
        return self._encode_text(texts)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        t: Float[Tensor, "view"],
        cameras: Cameras,
        branches: Sequence[Branch],
        generator: torch.Generator,
    ) -> Float[Tensor, "branch view channel height width"]:
        texts = [branch.text for branch in branches if branch.text is not None]
        count, dtype = len(branches), self._unet.dtype
        step = self.schedule.step_of_t(t).round().long()
        found = self._unet(
            x_t.repeat(count, 1, 1, 1).to(dtype),
            step.repeat(count),
            encoder_hidden_states=torch.cat(texts).to(dtype),
        ).sample.to(x_t.dtype)
        # Models that also learn the variance give it in the second half.
        found = found[:, : x_t.shape[1]].unflatten(0, (count, -1))
        return self._to_noise(x_t, found, t)

    def _to_noise(
        self,
        x_t: Float[Tensor, "view channel height width"],
        found: Float[Tensor, "branch view channel height width"],
        t: Float[Tensor, "view"],
    ) -> Float[Tensor, "branch view channel height width"]:
        if self._prediction == "epsilon":
            return found
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(x, x_t).to(x_t) for x in scales)
        convert = eps_from_v if self._prediction == "v_prediction" else eps_from_x0
        return torch.stack([convert(x_t, part, alpha, sigma) for part in found])


def read_diffusers_prior(
    folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DiffusersPrior:
    """Read a text-to-image model from a local folder.

    `dtype` is that of the network of the noise; the autoencoder stays in float32.

    Raises:
        UserError: diffusers or transformers are not installed, or the folder lacks
            something, is damaged, or holds another kind of model.
    """
    folder = Path(folder)
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"reading {folder} needs the package {package}: run "
                "`pip install diffusers transformers`."
            )
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    settings = read_json(folder / "scheduler" / "scheduler_config.json")
    prediction = settings.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise UserError(
            f"{folder} predicts {prediction!r}: models that predict "
            f"{', '.join(PREDICTIONS)} can be used."
        )
    kinds = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
    betas = {name: settings[name] for name in kinds if name in settings}
    betas["trained_betas"] = settings.get("trained_betas")
    table = _read(folder, lambda: DDPMScheduler(**betas).alphas_cumprod)
    unet = _read_network(UNet2DConditionModel, folder / "unet", torch_dtype=dtype)
    if unet.config.in_channels not in (unet.config.out_channels, _half(unet)):
        raise UserError(
            f"{folder} is given more than a noisy image and a text: import it as a "
            "method of its own, if there is one."
        )
    vae = None
    if (folder / "vae" / "config.json").is_file():
        vae = _read_network(AutoencoderKL, folder / "vae").to(device)
    return DiffusersPrior(
        unet.to(device), vae, _text_encoder(folder, device), table, prediction
    )


def _half(unet: Any) -> int:
    return unet.config.out_channels // 2


def _read(folder: Path, read: Callable[[], Loaded]) -> Loaded:
    """What `read` makes, its refusals as one sentence."""
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{folder} cannot be read as a model of diffusers ({lines[0]}): fetch the "
            "whole folder again, with its safetensors files."
        ) from error


def _read_network(kind: Any, folder: Path, **options: Any) -> Any:
    """A frozen network of a class that is known here."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} holds no safetensors file: fetch it in that form (files that "
            "are pickled are not read)."
        )
    network: nn.Module = _read(
        folder,
        lambda: kind.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, **options
        ),
    )
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Without transformers' own bar, which would break the line of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _text_encoder(
    folder: Path, device: torch.device | str
) -> Callable[[Sequence[str]], Tensor]:
    """Texts to embeddings, by CLIP's or T5's encoder."""
    from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

    kinds = {"CLIPTextModel": CLIPTextModel, "T5EncoderModel": T5EncoderModel}
    path = folder / "text_encoder"
    named = read_json(path / "config.json").get("architectures") or ["nothing"]
    if named[0] not in kinds:
        raise UserError(
            f"{path} is a {named[0]}: text encoders of the kinds {', '.join(kinds)} "
            "can be used."
        )
    with _no_progress_bar():
        encoder = _read_network(kinds[named[0]], path, dtype=torch.float32).to(device)
    tokenizer = _read(
        folder / "tokenizer",
        lambda: AutoTokenizer.from_pretrained(
            str(folder / "tokenizer"), local_files_only=True
        ),
    )

    def embed(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(texts),
            padding="max_length",
            max_length=TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(device)
        # T5 must not see the padding; CLIP was trained with it.
        seen = tokens.attention_mask if named[0] == "T5EncoderModel" else None
        return encoder(tokens.input_ids, attention_mask=seen).last_hidden_state.float()

    return embed
