"""`unseen train`: train a preset on rendered data."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from unseen.cli.help_text import help_texts
from unseen.errors import UserError

if TYPE_CHECKING:
    from unseen.data.manifest import Split
    from unseen.data.streaming import ExampleStream
    from unseen.geometry.views import Example
    from unseen.training.preset import Preset
    from unseen.training.run_folder import Run
    from unseen.training.trainer import Trainer

GRID_SCENES = 4
"""Held-out objects in the sample grids."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a preset, or continue a run that was stopped.

    Every setting of a preset can be overridden: `unseen train PRESET --help` lists
    them with their values. `unseen models` lists the presets.
    """

    preset: tyro.conf.Positional[str]
    """Name of the preset."""
    out: Path
    """Run folder to write."""
    data: tuple[Path, ...] = ()
    """Data set folders; a resumed run remembers them."""
    weights: tuple[float, ...] = ()
    """Share of each data set in the examples; by default that of its objects."""
    init: str | None = None
    """Model (folder or name) of the same shape whose weights the run starts from."""
    encoder: str | None = None
    """ImageNet weights (.pth or .safetensors file, or a model on the Hugging Face hub)
    that the image encoder of pixelNeRF, VisionNeRF or HoloDiffusion starts from."""
    prepared: Path | None = None
    """Folder for what the method makes of the data before the first step (DiffRF fits a
    grid to every object), to share it among runs; by default `prepared` in `out`."""
    resume: bool = False
    """Continue the run in `out` from its newest checkpoint."""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> None:
        """Train to the end and write the `model` folder."""
        from unseen.cli.prepare import prepare
        from unseen.training import distributed
        from unseen.training.run_folder import write_run

        run = _with_codes(self._read() if self.resume else self._new())
        device = distributed.start(run.settings.train.device)
        try:
            stream = _open_stream(run, "train")
            trainer = _build_trainer(run, stream, self.out, device, self.resume)
            if self.resume:
                trainer.resume()
            if distributed.rank() == 0:
                write_run(self.out, run, trainer.step)
            prepare(run, stream, trainer.method, self.out)
            trainer.train()
        finally:
            distributed.stop()
        print(self.out / "model")

    def _new(self) -> Run:
        from unseen.methods.registry import PRESETS, method_name
        from unseen.training.run_folder import Run, check_new

        if not self.data:
            raise UserError("no data was named: add --data and at least one folder.")
        if self.init is not None and self.encoder is not None:
            raise UserError("--init brings an encoder of its own: leave out --encoder.")
        check_new(self.out)
        settings = _override(self.preset, PRESETS[self.preset], self.overrides)
        data = tuple(str(path.absolute()) for path in self.data)
        name = method_name(settings.method)
        prepared = None if self.prepared is None else str(self.prepared.absolute())
        return Run(
            self.preset,
            name,
            settings,
            data,
            self.weights,
            self.init,
            self.encoder,
            prepared,
        )

    def _read(self) -> Run:
        from unseen.methods.registry import METHODS
        from unseen.training.run_folder import check_resumable, read_run

        configs = {name: config for name, (_, config) in METHODS.items()}
        run = read_run(self.out, configs)
        if run.preset != self.preset:
            raise UserError(
                f"the run in {self.out} is one of '{run.preset}', not of "
                f"'{self.preset}': resume it under its own name."
            )
        settings = _override(self.preset, run.settings, self.overrides)
        check_resumable(run.settings, settings)
        # The same data may lie elsewhere by now.
        data = tuple(str(path.absolute()) for path in self.data) or run.data
        weights = self.weights or run.weights
        prepared = run.prepared if self.prepared is None else str(self.prepared)
        return dataclasses.replace(
            run, settings=settings, data=data, weights=weights, prepared=prepared
        )


def parse_train(arguments: list[str]) -> Train:
    """Parse what follows `unseen train`.

    What is not an argument of `Train` must be a setting of the preset. Those are
    known only after the preset is, so they are parsed in a second pass.

    Raises:
        UserError: unknown preset.
    """
    from unseen.methods.registry import PRESETS

    names = [a for a in arguments[:1] if not a.startswith("-")]
    if names and names[0] not in PRESETS:
        raise UserError(
            f"there is no preset '{names[0]}': presets are {', '.join(PRESETS)}."
        )
    if names and {"-h", "--help"} & set(arguments):
        _override(names[0], PRESETS[names[0]], ("--help",))
    config = (tyro.conf.OmitArgPrefixes,)
    train, rest = tyro.cli(
        Train,
        args=arguments,
        prog="unseen train",
        config=config,
        return_unknown_args=True,
        registry=help_texts(),
    )
    if train.preset not in PRESETS:
        raise UserError(
            f"there is no preset '{train.preset}': presets are {', '.join(PRESETS)}."
        )
    return dataclasses.replace(train, overrides=tuple(rest))


def _override(name: str, preset: Preset, overrides: tuple[str, ...]) -> Preset:
    """A preset with settings from the command line."""
    from unseen.training.config import TrainConfig

    fields: list[tuple[str, Any, Any]] = [
        ("train", Annotated[TrainConfig, tyro.conf.arg(name="")], preset.train),
        ("method", type(preset.method), preset.method),
        ("num_context", int, preset.num_context),
        ("num_target", int, preset.num_target),
    ]
    settings_class = dataclasses.make_dataclass("Settings", fields, frozen=True)
    try:
        settings: Any = tyro.cli(
            settings_class,
            args=list(overrides),
            prog=f"unseen train {name} --data FOLDER --out RUN [--resume]",
            description=f"Settings of the preset {name} that can be overridden.",
            registry=help_texts(),
        )
    except ValueError as error:
        raise UserError(f"{error}.") from error
    return dataclasses.replace(
        preset, **{field: getattr(settings, field) for field, _, _ in fields}
    )


def _with_codes(run: Run) -> Run:
    """The run, with a code for every training object if its method learns such codes.

    Raises:
        UserError: another number of codes was asked for, or a resumed run has it.
    """
    method = run.settings.method
    wanted = getattr(method, "num_objects", None)
    if wanted is None:
        return run
    found = len(_open_stream(run, "train"))
    if wanted not in (0, found):
        raise UserError(
            f"the method has codes for {wanted} objects and the data has {found} for "
            "training: name the data that it began with, or leave num_objects at 0."
        )
    method = dataclasses.replace(method, num_objects=found)
    settings = dataclasses.replace(run.settings, method=method)
    return dataclasses.replace(run, settings=settings)


def _build_trainer(
    run: Run, stream: ExampleStream, folder: Path, device: str, resumed: bool
) -> Trainer:
    """The method with initial weights from the seed, the data, the trainer."""
    import torch

    from unseen.checkpoints.model_folder import load_weights, save_model
    from unseen.checkpoints.pretrained_encoders import start_encoder
    from unseen.methods.registry import build_method
    from unseen.training import distributed
    from unseen.training.trainer import Trainer

    config = dataclasses.replace(run.settings.train, device=device)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # random: modules initialise themselves
        method = build_method(run.settings.method)
    if run.init is not None:
        load_weights(method, run.init)
    elif not resumed and (started := start_encoder(method, run.encoder)) is not None:
        print(started, file=sys.stderr)

    def batches(first: int) -> Iterator[Example]:
        return stream.loader(first, config.num_workers, config.batch_size)

    def publish(trainer: Trainer) -> None:
        # At every checkpoint, so that a model can be looked at while it trains.
        save_model(trainer.method, folder / "model", _provenance(run, trainer))

    if distributed.rank() == 0:
        _report_problems(stream)
    held_out = _open_stream(run, "test").batch(0, GRID_SCENES)
    return Trainer(method, config, batches, folder, held_out, publish)


def _open_stream(run: Run, split: Split) -> ExampleStream:
    """Random views of the objects of one split.

    Data sets without a manifest have no splits, and small ones nothing to test on:
    the sample grids then show objects that are trained on.
    """
    from unseen.data.formats import has_split, open_dataset
    from unseen.data.streaming import ExampleStream
    from unseen.training.distributed import rank, world_size

    settings = run.settings
    cache = settings.train.cache_data and split == "train"
    side = settings.method.image_size
    datasets = []
    for path in run.data:
        chosen = None if split == "test" and not has_split(path, "test") else split
        datasets.append(open_dataset(path, chosen, cache, False, side))
    return ExampleStream(
        datasets,
        settings.num_context,
        settings.num_target,
        settings.train.seed,
        rank(),
        world_size(),
        run.weights or None,
        settings.train.shuffle_buffer,
    )


def _report_problems(stream: ExampleStream) -> None:
    """Lines on the error stream: what is wrong with the data, and what is left out."""
    from unseen.data.inspection import summarize_problems

    for dataset in stream.datasets:
        if dataset.problems:
            print(
                f"{dataset.root}: {summarize_problems(dataset.problems)} (unseen data "
                f"inspect {dataset.root} says all)",
                file=sys.stderr,
            )
    if stream.left_out is not None:
        print(stream.left_out, file=sys.stderr)


def _provenance(run: Run, trainer: Trainer) -> dict[str, Any]:
    """What a model's `config.json` says about its training."""
    from unseen.configuration import to_json
    from unseen.training.run_folder import versions

    return {
        "preset": run.preset,
        "data": [Path(path).name for path in run.data],
        "weights": list(run.weights),
        "init": None if run.init is None else Path(run.init).name,
        "encoder": None if run.encoder is None else Path(run.encoder).name,
        "step": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "train": to_json(trainer.config),
        # The command names folders of one machine; the run folder keeps it.
        "versions": {k: v for k, v in versions().items() if k != "command"},
    }
