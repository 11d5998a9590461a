"""What `unseen eval` measures: models with labels, data sets, and their settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import unseen
from unseen.checkpoints.model_folder import find_model
from unseen.configuration import read_json, to_json
from unseen.data.dataset import PosedDataset
from unseen.errors import UserError
from unseen.evaluation.candidates import Candidate
from unseen.evaluation.inception import load_inception
from unseen.evaluation.learned_scores import (
    ExtraName,
    extra_metrics,
    learned_metrics,
)
from unseen.evaluation.lpips import load_lpips
from unseen.evaluation.novel_views import BASELINES
from unseen.evaluation.scores import AnyMetric, standard_metrics
from unseen.methods.method import (
    JointViewMethod,
    SampleOptions,
    SceneMethod,
    ViewMethod,
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method that is measured, and what is known of its model; JSON values."""

    candidate: Candidate
    facts: dict[str, Any]


def split_label(text: str) -> tuple[str, str]:
    """Label and model of "label=model"; a model alone is labelled by its name."""
    label, separator, model = text.partition("=")
    if not separator or not label or Path(text).exists():
        path = Path(text)
        # The weights of a training run lie in its folder `model`.
        own = path.resolve()
        named = own.parent.name if own.name == "model" else own.name
        return (named if path.is_dir() else text), text
    return label, model


def load_entries(
    texts: Sequence[str], steps: int | None, guidance: float | None, device: str
) -> list[Entry]:
    """The methods, loaded.

    Raises:
        UserError: there is none, or no such model, two have one label, or no method
            takes an option that was given.
    """
    named = [split_label(text) for text in texts]
    labels = [label for label, _ in named]
    if not named:
        raise UserError("name at least one model: a bundled one, or a model's folder.")
    twice = [x for x in labels if labels.count(x) > 1 or x in BASELINES]
    if twice:
        raise UserError(
            f"two methods would be called '{twice[0]}': give them labels, "
            f"such as mine={named[labels.index(twice[0])][1]}."
        )
    options = SampleOptions(steps, guidance)
    entries = [_load(label, model, options, device) for label, model in named]
    for name, value in vars(options).items():
        if value is not None and all(
            getattr(entry.candidate.options, name) is None for entry in entries
        ):
            # Says which option it is that none of the methods has.
            options.check(entries[0].candidate.method)
    return entries


def _load(label: str, model: str, options: SampleOptions, device: str) -> Entry:
    folder = find_model(model)
    method = unseen.load(model, device).method
    assert isinstance(method, SceneMethod | ViewMethod | JointViewMethod)
    known = {
        name: value
        for name, value in vars(options).items()
        if name in method.sample_options
    }
    config = read_json(folder / "config.json")
    size: int = method.config.image_size  # type: ignore[union-attr,assignment]
    facts = {
        "label": label,
        "method": config["method"],
        "image_size": size,
        "parameters": sum(p.numel() for p in method.parameters()),
        "provenance": config.get("provenance", {}),
        "digest": _digest(folder, config["config"]),
        "options": known,
    }
    return Entry(Candidate(label, method, size, SampleOptions(**known)), facts)


def _digest(folder: Path, config: Any) -> str:
    """Changes if weights or configuration do."""
    with open(folder / "model.safetensors", "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps([weights, to_json(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe_dataset(name: str, dataset: PosedDataset) -> dict[str, Any]:
    """Name, number of scenes, and a digest that changes if scenes or views do."""
    content = [
        (scene, dataset.num_views(i)) for i, scene in enumerate(dataset.scene_ids)
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return {"name": name, "scenes": len(dataset), "digest": digest}


def digest_file(path: Path | None) -> str | None:
    """Of a file that numbers depend on; None where there is none."""
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path} cannot be read: name another file.") from error


def load_metrics(
    lpips: tuple[str, str] | None,
    network: Literal["vgg", "alex"],
    inception: str | None,
    also: Sequence[ExtraName],
    device: str,
) -> list[AnyMetric]:
    """The metrics of novel views, with the networks that were given.

    Raises:
        UserError: weights are missing or are not what they should be.
    """
    distance = None if lpips is None else load_lpips(network, *lpips).to(device)
    features = None if inception is None else load_inception(inception).to(device)
    return [
        *standard_metrics(),
        *learned_metrics(distance, features),
        *extra_metrics(also),
    ]


def digest_weights(source: str | None) -> str | None:
    """Of a file of weights; a name on the hub stands for itself."""
    if source is None or not Path(source).is_file():
        return source
    return digest_file(Path(source))
