"""A pixelNeRF frame: the fast path against the plain one, in speed and in pixels.

    python -m benchmarks.pixelnerf [MODEL] [--threads 1] [--device cuda]

The field has the paper's size. So that space is as empty as a trained field leaves it,
it is a thin field inside of the large one, all other weights zero: it computes what the
thin one does at the full cost. The thin field is that of a trained model (a folder of
`unseen train pixelnerf-small`), or else one that is fitted here, in some seconds, to
the inside and the colours of a chair. Seconds on a CPU are those of the processor, so
that other work on the machine does not count for much; compare ratios. Every ray costs
the plain path the same, so it is timed on a few of them.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import rich
import torch
import tyro
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from unseen.checkpoints.model_folder import load_model
from unseen.data.cameras import sphere_cameras
from unseen.data.procedural import make_object
from unseen.geometry.views import Views
from unseen.methods.pixelnerf import PixelNeRF
from unseen.networks.aligned_mlp import AlignedMLP, AlignedMLPConfig
from unseen.rendering.coarse_fine import CoarseFineSampling
from unseen.scenes.aligned_radiance import AlignedReading, SourceViews
from unseen.scenes.aligned_scene import AlignedRadianceScene
from unseen.scenes.sparse_frame import SparseRendering

THIN = AlignedMLPConfig(features=16, width=64)
PAPER = AlignedMLPConfig()
MAP = 64
"""Side of the feature map of an image of 128x128 pixels."""

FOV, ELEVATION = math.radians(40.0), 0.35

# A chair in the unit sphere: (centre, half sides) of its boxes, z up.
BOXES = [
    ((0.0, 0.0, -0.05), (0.4, 0.4, 0.05)),
    ((-0.36, 0.0, 0.4), (0.04, 0.4, 0.45)),
    *[((x, y, -0.45), (0.04, 0.04, 0.4)) for x in (-0.36, 0.36) for y in (-0.36, 0.36)],
]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time a 128x128 frame and say how far it is from the plain one."""

    model: tyro.conf.Positional[str | None] = None
    """Folder of a trained pixelNeRF with thin networks; a fit if not given."""
    threads: int = 1
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    frame: int = 128
    """Side of the frame in pixels."""
    plain_rays: int = 128
    """Rays that the plain path is timed on."""
    thin_only: bool = False
    """Leave out the large field: only how the frames differ."""
    strides: tuple[int, ...] = (4,)
    """Strides of the search to compare."""

    def run(self) -> None:
        torch.set_num_threads(self.threads)
        thin = fitted_scene() if self.model is None else trained_scene(self.model)
        with torch.no_grad():
            self._report(move(thin, self.device))

    def _report(self, thin: AlignedRadianceScene) -> None:
        camera = sphere_cameras(
            torch.tensor([1.0]), torch.tensor([ELEVATION]), torch.tensor(FOV)
        ).to(self.device)
        size = (self.frame, self.frame)
        truth = thin.render_plain(camera, size).color
        large = embed(thin)
        pixels = torch.arange(self.frame**2, device=self.device).expand(1, -1)
        some = pixels[:, :: self.frame**2 // self.plain_rays]
        table = Table(title=f"pixelNeRF, {self.frame}x{self.frame}, one source view")
        names = ("what", "samples", "seconds", "faster", "PSNR to plain")
        for name in names:
            table.add_column(name, justify="left" if name == "what" else "right")
        plain, share = 0.0, some.shape[1] / pixels.shape[1]
        if not self.thin_only:

            def render_some() -> Tensor:
                return large.render_pixels(camera, size, some, plain=True).color

            plain = _seconds(render_some, self.device) / share
            error = (render_some()[0] - truth[0].flatten(1).T[some[0]]).abs().max()
            rich.print(f"Large and thin field differ by at most {error:.1e}.")
        samples = self.frame**2 * (thin.sampling.num_coarse + thin.sampling.num_samples)
        table.add_row("plain", f"{samples:,}", f"{plain:.3g}", "1.0x", "")

        def add(what: str, sparse: SparseRendering) -> None:
            scene = dataclasses.replace(thin, sparse=sparse)
            asked = count_samples(scene)
            found = [scene.render(camera, size).color]
            seconds = 0.0
            if not self.thin_only:
                whole = dataclasses.replace(large, sparse=sparse)
                seconds = _seconds(
                    lambda: found.append(whole.render(camera, size).color),
                    self.device,
                )
            color = found[-1]
            error = (color - truth).square().mean()
            faster = plain / seconds if seconds else math.nan
            psnr = -10 * error.log10()
            row = (
                f"{asked[0]:,}",
                f"{seconds:.3g}",
                f"{faster:.1f}x",
                f"{psnr:.1f} dB",
            )
            table.add_row(what, *row)

        for stride in self.strides:
            for precision in ("float32", "bfloat16"):
                add(
                    f"every {stride}th row searched, {precision}",
                    SparseRendering(stride=stride, precision=precision),
                )
        rich.print(table)


def move(scene: AlignedRadianceScene, device: str) -> AlignedRadianceScene:
    """A scene on another device."""
    sources = scene.sources
    return dataclasses.replace(
        scene,
        sources=SourceViews(
            sources.maps.to(device),
            sources.images.to(device),
            sources.cameras.to(device),
        ),
        coarse_network=scene.coarse_network.to(device),
        fine_network=scene.fine_network.to(device),
        background=scene.background.to(device),
    )


def count_samples(scene: AlignedRadianceScene) -> list[int]:
    """A number that grows as the scene's networks are asked for samples."""
    count = [0]

    def add(module: torch.nn.Module, args: object, out: Tensor) -> None:
        count[0] += out[..., 0].numel()

    for network in (scene.coarse_network, scene.fine_network):
        network.out.register_forward_hook(add)
    return count


def trained_scene(model: str) -> AlignedRadianceScene:
    """The scene that a trained thin pixelNeRF makes of a chair's picture."""
    method = load_model(model)
    assert isinstance(method, PixelNeRF)
    source = sphere_cameras(
        torch.zeros(1), torch.tensor([ELEVATION]), torch.tensor(FOV)
    )
    picture = make_object("chair", seed=5).render(source, method.config.image_size)
    context = Views(picture.images[None], picture.cameras[None])
    scene = method.sample_scene(context, [0])[0]
    return dataclasses.replace(scene, sampling=CoarseFineSampling())


def fitted_scene() -> AlignedRadianceScene:
    """A thin field that was fitted to a chair of boxes, with the paper's reading."""
    generator = torch.Generator().manual_seed(0)
    source = sphere_cameras(
        torch.zeros(1), torch.tensor([ELEVATION]), torch.tensor(FOV)
    )
    coarse_map = torch.randn(1, THIN.features, 8, 8, generator=generator)
    maps = functional.interpolate(coarse_map, (MAP, MAP), mode="bilinear")
    images = torch.zeros(1, 3, 2 * MAP, 2 * MAP)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        coarse, fine = AlignedMLP(THIN), AlignedMLP(THIN)
    scene = AlignedRadianceScene(
        SourceViews(maps, images, source),
        coarse,
        fine,
        AlignedReading(),
        CoarseFineSampling(),
        torch.ones(3),
    )
    batch = dataclasses.replace(
        scene, sources=SourceViews(maps[None], images[None], source[None])
    )
    for network in (coarse, fine):
        fit(dataclasses.replace(batch, fine_network=network), generator)
    return scene


def fit(
    scene: AlignedRadianceScene, generator: torch.Generator, steps: int = 300
) -> None:
    """Fit the scene's fine network to the chair, seen from anywhere."""
    network = scene.fine_network
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    low = torch.tensor([box[0] for box in BOXES])
    half = torch.tensor([box[1] for box in BOXES])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        anywhere = 3 * torch.rand(2048, 3, generator=generator) - 1.5
        which = torch.randint(len(BOXES), (2048,), generator=generator)
        around = 2.6 * torch.rand(2048, 3, generator=generator) - 1.3
        points = torch.cat([anywhere, low[which] + around * half[which]])
        directions = torch.randn(points.shape, generator=generator)
        inside = ((points[:, None] - low).abs() < half).all(dim=-1).any(dim=-1)
        color = 0.5 + 0.5 * torch.sin(3 * points)
        field = dataclasses.replace(scene).fine
        place, xy = field.place(points[None], directions[None])
        maps = scene.sources.maps[0]
        found = functional.grid_sample(maps, 2 * xy - 1, align_corners=False)
        out = network(place, found.movedim(1, -1))[0]
        error = functional.binary_cross_entropy_with_logits(out[:, 3], inside.float())
        shade = (out[:, :3].sigmoid() - color).square().mean(dim=-1)
        loss = error + (shade * inside).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        # From logits to a density that is opaque within a few hundredths.
        network.out.weight[3] *= 8
        network.out.bias[3] *= 8


def embed(scene: AlignedRadianceScene) -> AlignedRadianceScene:
    """The same function at the paper's size: the rest of the large field is zero."""
    thin = scene.coarse_network.config
    config = dataclasses.replace(
        PAPER,
        place=thin.place,
        blocks=max(PAPER.blocks, thin.blocks),
        view_blocks=max(PAPER.view_blocks, thin.view_blocks),
    )

    def enlarge(small: AlignedMLP) -> AlignedMLP:
        large = AlignedMLP(config).to(scene.background.device)
        for parameter in large.parameters():
            parameter.zero_()
        for name, value in small.state_dict().items():
            place = tuple(slice(n) for n in value.shape)
            large.get_parameter(name)[place] = value
        return large

    maps = scene.sources.maps
    maps = functional.interpolate(maps, (MAP, MAP), mode="bilinear", align_corners=True)
    padded = maps.new_zeros(*maps.shape[:-3], PAPER.features, MAP, MAP)
    padded[..., : maps.shape[-3], :, :] = maps
    return dataclasses.replace(
        scene,
        sources=dataclasses.replace(scene.sources, maps=padded),
        coarse_network=enlarge(scene.coarse_network),
        fine_network=enlarge(scene.fine_network),
    )


def _seconds(call: Callable[[], object], device: str) -> float:
    """Seconds of one call: of the processor, or of the clock on a GPU."""
    if device == "cpu":
        started = time.process_time()
        call()
        return time.process_time() - started
    call()  # The first one also compiles and allocates.
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
