"""What choices of the bundled model are worth: trust, steps, and low noise.

    python -m benchmarks.posterior --data data/trucks data/cars [--objects 4]

The first tables sample held-out objects with several values of one setting, and measure
them as `unseen eval` does. The last says how well a noisy view is
denoised: the mean squared error, in [-1, 1], on the object, beside that of the noisy
view itself (divided by alpha). A denoiser that is worse than that spoils what little
noise leaves.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import rich
import torch
import tyro
from rich.table import Table

import unseen
from unseen.data.dataset import PosedDataset
from unseen.data.formats import open_dataset
from unseen.diffusion.schedules import unsqueeze_like
from unseen.encoders.frustum import FrustumSceneModel
from unseen.evaluation.held_out import PosteriorSettings, Subject, observe
from unseen.evaluation.posterior import measure
from unseen.geometry.views import Views
from unseen.methods.dfm import DFM
from unseen.methods.method import SampleOptions


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Measure the bundled model, or another one with frustum volumes."""

    data: tuple[Path, ...]
    """Data set folders; their test splits are used."""
    model: str = "vehicles-64"
    objects: int = 4
    """Objects of each data set."""
    samples: int = 4
    """Scenes per object."""
    trust: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Values of `FrustumConfig.trust` to compare; none leaves the table out."""
    steps: tuple[int, ...] = (30, 12, 6)
    """Values of `SampleConfig.num_steps` to compare."""
    times: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 0.8)
    """Noise levels to compare."""

    def run(self) -> None:
        method = unseen.load(self.model).method
        assert isinstance(method, DFM)
        datasets = [open_dataset(path, "test") for path in self.data]
        for name in ("trust", "steps"):
            if getattr(self, name):
                rich.print(self._sampled(method, datasets, name))
        with torch.no_grad():
            rich.print(self._denoised(method, datasets))

    def _sampled(self, method: DFM, datasets: list[PosedDataset], what: str) -> Table:
        names = (
            "input_psnr",
            "novel_psnr_best",
            "novel_psnr_deterministic",
            "sharpness",
            "spread_ratio",
            "frechet",
        )
        table = Table(what, *names, title=f"{self.model}, {self.samples} samples")
        network = method.model
        assert isinstance(network, FrustumSceneModel)
        scene, config = network.config, method.config
        subject = Subject(
            method, method.reconstruct, config.image_size, SampleOptions()
        )
        settings = PosteriorSettings(self.objects, self.samples)
        for value in getattr(self, what):
            if what == "trust":
                network.config = dataclasses.replace(scene, trust=value)
            else:
                sampling = dataclasses.replace(config.sampling, num_steps=value)
                method.config = dataclasses.replace(config, sampling=sampling)
            found = measure(observe(subject, datasets, settings))
            table.add_row(f"{value:g}", *(f"{getattr(found, n):.2f}" for n in names))
        network.config, method.config = scene, config
        return table

    def _denoised(self, method: DFM, datasets: list[PosedDataset]) -> Table:
        table = Table("t", "error", "of the noisy view", title="denoising one view")
        views = Views.stack(
            [
                dataclasses.replace(dataset.load(index, [0, 5]), depths=None)
                for dataset in datasets
                for index in range(min(self.objects, len(dataset)))
            ]
        )
        signed = dataclasses.replace(views, images=2 * views.images - 1)
        given, target = signed[:, :1], signed[:, 1:]
        state = method.model.encode_context(given)
        condition = method.model.condition(state, target.cameras, target.size)
        denoise = method.model.denoiser(state, condition, target.cameras, target.size)
        x_0 = target.images
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(x_0.shape, generator=generator)
        assert target.masks is not None
        share = (target.masks > 0.5).to(x_0)[:, :, None].expand_as(x_0)

        def error(images: torch.Tensor) -> str:
            return f"{float(((images - x_0).square() * share).sum() / share.sum()):.4f}"

        for t in self.times:
            level = torch.full((len(x_0),), t)
            x_t = method.schedule.add_noise(x_0, noise, level)
            alpha = unsqueeze_like(method.schedule.alpha(level), x_0)
            table.add_row(f"{t:g}", error(denoise(x_t, level)[0]), error(x_t / alpha))
        return table


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
