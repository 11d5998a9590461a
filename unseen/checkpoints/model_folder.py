"""Models on disk: a folder of `config.json` and `model.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unseen.checkpoints.hub import fetch, is_hub_name
from unseen.configuration import from_json, read_json, to_json, write_json
from unseen.errors import UserError
from unseen.files import check_tensors, read_tensors, write_tensors
from unseen.methods.method import Method
from unseen.methods.registry import METHODS, method_name
from unseen.networks.large import Precision, reduce_precision, take_turns

FORMAT_VERSION = 1
BUNDLED_FOLDER = Path(__file__).parent.parent / "assets" / "models"

_STORED_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in BUNDLED_FOLDER.glob("*/config.json"))


def save_model(
    method: Method,
    folder: Path | str,
    provenance: Mapping[str, Any],
    stored_type: str = "float32",
) -> None:
    """Write a method that `load_model` rebuilds.

    Args:
        method: Carries its configuration as `method.config`.
        folder: Made where it is missing; a model that is in it is replaced.
        provenance: Where the weights come from (JSON values).
        stored_type: 'float32', 'float16' or 'bfloat16': the type on disk. Loading
            always gives the type the method was built with.

    Raises:
        UserError: the folder is not writable, a weight is not finite (or too large
            for the stored type), or the method is not a known one.
    """
    if stored_type not in _STORED_TYPES:
        raise UserError(
            f"weights cannot be stored as '{stored_type}': use one of "
            f"{', '.join(_STORED_TYPES)}."
        )
    folder = Path(folder)
    tensors = {
        name: tensor.to(_STORED_TYPES[stored_type])
        if tensor.is_floating_point()
        else tensor
        for name, tensor in method.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"the tensor '{name}' holds values that are not finite as "
                f"{stored_type}: train again or store float32."
            )
    config = {
        "format_version": FORMAT_VERSION,
        "method": method_name(method.config),
        "config": to_json(method.config),
        "provenance": dict(provenance),
    }
    write_tensors(folder / "model.safetensors", tensors, {})
    write_json(folder / "config.json", config)


def load_model(
    model: str | Path,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    offload: bool = False,
) -> Method:
    """A trained method in evaluation mode.

    Args:
        model: The name of a bundled model ('vehicles-64'), a folder that `save_model`
            wrote, the folder of a training run, or an 'organisation/name' on the
            Hugging Face hub, which needs the package huggingface_hub.
        device: Where to put the weights.
        precision: Of large networks (`Method.large_networks`): "bfloat16" and "float16"
            halve their memory.
        offload: Whether large networks stay in the CPU's memory and visit the device,
            one at a time, when they are called. All else is computed on the CPU.

    Raises:
        UserError: there is no such model, its files are damaged, or it needs a newer
            version; or it has no large networks, or there is no GPU to visit.
    """
    folder = find_model(model)
    config = read_json(folder / "config.json")
    method = _build(config, folder / "config.json")
    networks = method.large_networks()
    if not networks and (offload or precision != "float32"):
        raise UserError(
            f"{method.title} has no networks of latent diffusion, which alone can "
            "have another precision or be offloaded: leave out both."
        )
    if offload and torch.device(device).type == "cpu":
        raise UserError(
            "offloading needs a GPU, whose memory it spares: leave it out on a CPU."
        )
    # Before they are loaded: there may be no room for them in float32.
    reduce_precision(networks, precision)
    load_weights(method, folder)
    if offload:
        take_turns(networks, device)
        return method.eval()
    return method.to(device).eval()


def load_weights(method: Method, model: str | Path) -> None:
    """Fill a method with the weights of a model whose tensors have the same shapes.

    Raises:
        UserError: there is no such model, or its tensors are other ones.
    """
    path = find_model(model) / "model.safetensors"
    tensors, _ = read_tensors(path)
    expected = method.state_dict()
    check_tensors(expected, tensors, path)
    if method.made_empty:
        # One after the other: there may be no room for two sets of weights. They are
        # copied, because the file's are not aligned, and sums of those round otherwise.
        for name in tensors:
            tensors[name] = tensors[name].to(expected[name].dtype, copy=True)
        method.load_state_dict(tensors, assign=True)
    else:
        method.load_state_dict(tensors)


def describe_model(model: str | Path) -> dict[str, Any]:
    """What is known of a model without loading it.

    Returns 'method', 'parameters' (their number), 'megabytes' on disk, 'step' of its
    training and its 'licence' (None where they are not known) and 'metrics': the
    numbers of its card, from `metrics.json` beside its weights.

    Raises:
        UserError: there is no such model or its files are damaged.
    """
    folder = find_model(model)
    config = read_json(folder / "config.json")
    path = folder / "model.safetensors"
    tensors, _ = read_tensors(path)
    metrics = folder / "metrics.json"
    return {
        "method": config.get("method"),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "step": config.get("provenance", {}).get("step"),
        "licence": config.get("provenance", {}).get("licence"),
        "metrics": read_json(metrics) if metrics.is_file() else {},
    }


def find_model(model: str | Path) -> Path:
    """The local folder of a model; fetches it where it is on the hub."""
    folder = Path(model)
    if folder.is_dir():
        if (folder / "model" / "config.json").is_file():
            return folder / "model"
        if not (folder / "config.json").is_file():
            raise UserError(
                f"the folder {folder} holds no config.json: give the `model` folder "
                "of a training run."
            )
        return folder
    if str(model) in bundled_models():
        return BUNDLED_FOLDER / str(model)
    if is_hub_name(model):
        return fetch(str(model), ["config.json", "model.safetensors"])
    raise UserError(
        f"there is no model '{model}': bundled models are "
        f"{', '.join(bundled_models()) or '(none)'}; a folder or a hub name "
        "'organisation/name' works as well."
    )


def _build(config: dict[str, Any], path: Path) -> Method:
    """The method that `config.json` describes, with random weights."""
    version = config.get("format_version")
    if not isinstance(version, int) or not isinstance(config.get("method"), str):
        raise UserError(f"{path} does not describe a model of unseen: wrong file.")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of unseen (model format {version}, "
            f"this one reads {FORMAT_VERSION}): update unseen."
        )
    if config["method"] not in METHODS:
        raise UserError(
            f"{path} asks for the method '{config['method']}', which this version does "
            f"not have (it has {', '.join(METHODS)}): update unseen."
        )
    method_class, config_class = METHODS[config["method"]]
    settings = from_json(config_class, config.get("config"), str(path))
    # The weights are about to be replaced, so the caller's generator stays untouched.
    device = "meta" if method_class.made_empty else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return method_class(settings)  # type: ignore[call-arg]
