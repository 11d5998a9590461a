"""`unseen sample`: one image in, several 3D scenes out."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from unseen.cli.checks import check_ranges
from unseen.cli.progress import Bar, one_line_warnings, progress_bars
from unseen.errors import UserError

if TYPE_CHECKING:
    import rich.progress
    from jaxtyping import Float
    from torch import Tensor

    from unseen.export.result import Origin
    from unseen.model import Model

MODEL = "vehicles-64"
_NOT_REPEATED = ("image", "out", "overwrite", "device", "offload")
"""Arguments that a command does not need to make the same results again."""
INPUT_SIZE = 256
"""Pixels: the input as the contact sheet and the page show it."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Sample several 3D scenes that an image of an object could belong to.

    The image may be of any usual format. The object should stand on a transparent or
    a plain background. Writes a folder with a page (index.html), a contact sheet, and
    for every scene an orbit video, the scene itself and, where the model's scenes have
    them, a video of depth, a coloured mesh (GLB) and splats (PLY).

    A model that samples views and no scenes (3DiM, GeNVS, SparseFusion, Zero-1-to-3)
    gives views around the object instead, as a video and as pictures with their
    cameras. Interrupted, it goes on with the next view when the same command is run
    again. A model of text (MVDream) takes a prompt and no image; a model of objects
    themselves (RenderDiffusion, HoloDiffusion, DiffRF) can do without.
    """

    image: tyro.conf.Positional[Path | None] = None
    """Picture of an object; left out for models that sample objects by themselves."""
    model: str = MODEL
    """Name of a bundled model, or a model's folder."""
    num: int | None = None
    """Number of scenes; the first ones do not depend on it. By default 4, or 1 of a
    model that is deterministic."""
    seed: int = 0
    """Other seeds give other scenes."""
    steps: int | None = None
    """Denoising steps, or steps of fitting the codes of SRN, CodeNeRF and LFN; by
    default the model's own number."""
    guidance: float | None = None
    """Strength of classifier-free guidance, 1 for none; by default the model's own.
    Only diffusion models have it."""
    noise_level: float | None = None
    """How much noise, from 0 to 1, RenderDiffusion adds to the image before it denoises
    it: little keeps the image, much replaces it by what the model knows."""
    hidden: Path | None = None
    """Picture of the same shape as the image, white where the image is unknown and
    shall be sampled; for RenderDiffusion."""
    prompt: str | None = None
    """What is wanted, in words, of models that take text and no image."""
    fov: float = 40.0
    """Full field of view, in degrees, that the image was taken with, or, without an
    image, that scenes are shown with."""
    elevation: float = 20.0
    """Degrees by which the camera looked, or looks, down on the object."""
    azimuth: float | None = None
    """Degrees from which the first view is seen, of models that take no image; by
    default 0."""
    out: Path | None = None
    """Folder to write; by default `unseen-` and the image's or the model's name."""
    overwrite: bool = False
    """Replace the results of an earlier run."""
    size: int = 128
    """Side of the orbit videos in pixels."""
    frames: int = 48
    """Frames of the orbit videos."""
    views: int | None = None
    """Views around the object, besides the image, of models that sample no scenes; by
    default 5, or 4 of models that take no image. Their size is the model's."""
    path: Path | None = None
    """Cameras of the views instead, in the order in which they are sampled: a
    transforms.json, such as `unseen export --format cameras` writes. The object stands
    in the unit sphere at the origin, z up, and the image is seen from azimuth 0. DFM of
    RealEstate10K and CO3D needs it, and completes its scenes at the last camera."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU where there is one."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the large networks of Zero-1-to-3 and MVDream; the others halve their
    memory."""
    offload: bool = False
    """Keep those networks in the CPU's memory, and move each to the GPU when it is
    needed: slower, for a GPU that cannot hold them all."""

    def run(self) -> None:
        """Sample, write, and print the paths of what was written."""
        self._check()
        # PyTorch takes seconds to import: `--help` and bad arguments need not wait.
        import unseen
        from unseen.cli.sample_views import write_views
        from unseen.data.image_input import load_object_image
        from unseen.export.result_folder import check_out
        from unseen.methods.method import SampleOptions
        from unseen.training.trainer import choose_device

        out = Path(f"unseen-{self._stem}") if self.out is None else self.out
        check_out(out, self.overwrite)
        with progress_bars() as progress, one_line_warnings(progress):
            shown = None
            if self.image is not None:
                shown = load_object_image(self.image, INPUT_SIZE).image
            device = choose_device(self.device)
            model = unseen.load(self.model, device, self.precision, self.offload)
            if self.prompt is not None:
                SampleOptions(prompt=self.prompt).check(model.method)
            if not model.makes_scenes:
                if shown is None and model.method.min_context > 0:
                    raise UserError(
                        f"{self.model} samples views of an object in an image: name a "
                        "picture of an object."
                    )
                if self.noise_level is not None or self.hidden is not None:
                    raise UserError(
                        f"{self.model} samples views, of whole images: leave out "
                        "--noise-level and --hidden."
                    )
                written = write_views(self, model, shown, out, progress)
            elif self.views is not None:
                raise UserError(
                    f"{self.model} samples scenes, which can be seen from anywhere: "
                    "leave out --views, or choose the --frames of the videos."
                )
            elif self.path is not None and not model.needs_cameras:
                raise UserError(
                    f"{self.model} completes its scenes by itself: leave out --path "
                    "(`unseen export` renders scenes along one)."
                )
            else:
                written = self._write_scenes(model, shown, out, progress)
        for path in written:
            print(path)
        print(f"\nOpen {out / 'index.html'} in a browser.")

    def _write_scenes(
        self,
        model: Model,
        shown: Float[Tensor, "3 height width"] | None,
        out: Path,
        progress: rich.progress.Progress,
    ) -> list[Path]:
        """Sample scenes, write them, and return what was written."""
        from unseen.cli.sample_views import hash_cameras
        from unseen.export.camera_paths import read_cameras
        from unseen.export.result import ResultOptions, write_results

        cameras = None if self.path is None else read_cameras(self.path)
        scenes = model.sample_scenes(
            self.image,
            num=self.num,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            fov=self.fov,
            elevation=self.elevation,
            progress=Bar(progress, "Sampling scenes").report,
            noise_level=self.noise_level,
            hidden=self.hidden,
            cameras=cameras,
        )
        noun = "scene" if len(scenes) == 1 else "scenes"
        title = f"{self.subject}: {len(scenes)} {noun}"
        given = {} if cameras is None else {"cameras_sha256": hash_cameras(cameras)}
        origin = self.origin(out, title, {"num": len(scenes), **given})
        origin = dataclasses.replace(origin, provenance={**origin.provenance, **given})
        return write_results(
            out,
            scenes,
            shown,
            origin,
            ResultOptions(
                self.size, self.frames, fov=self.fov, elevation=self.elevation
            ),
            self.overwrite,
            Bar(progress, "Writing results").report,
        )

    @property
    def subject(self) -> str:
        """What results are of, for people."""
        if self.image is not None:
            return self.image.name
        return self.prompt or self._stem

    @property
    def _stem(self) -> str:
        """What results are called: by the image, or else by the model."""
        if self.image is not None:
            return self.image.stem
        path = Path(self.model).resolve()
        # The weights of a training run lie in its folder `model`.
        return path.parent.name if path.name == "model" else path.name

    def _check(self) -> None:
        """Refuse what makes no sense, before anything slow happens."""
        if self.views is not None and self.path is not None:
            raise UserError(
                "--views are evenly around the object and --path says where they are: "
                "leave one out."
            )
        ranges = {
            "num": (1, 1000),
            "seed": (0, 2**62),
            "steps": (1, 10_000),
            "guidance": (0, 100),
            "noise_level": (0, 1),
            "fov": (1, 150),
            "elevation": (-89, 89),
            "azimuth": (-360, 360),
            "size": (16, 2048),
            "frames": (2, 2000),
            "views": (1, 1000),
        }
        check_ranges(self, ranges)
        if self.prompt is not None and not self.prompt.strip():
            raise UserError("the --prompt is empty: say what is wanted in it.")
        if self.image is not None and self.azimuth is not None:
            raise UserError(
                "the image is what is seen from azimuth 0: leave out --azimuth."
            )

    def origin(self, out: Path, title: str, settings: dict[str, Any]) -> Origin:
        """Where results come from; `settings` belong to the kind of model."""
        import unseen
        from unseen.export.result import Origin

        files = {"image": self.image, "hidden": self.hidden}
        named = {name: path for name, path in files.items() if path is not None}
        image = {name: str(path) for name, path in named.items()}
        given: dict[str, Any] = {
            f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in named.items()
        }
        for name in ("noise_level", "prompt", "azimuth"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        if self.precision != "float32":
            given["precision"] = self.precision
        determining = {
            "model": self.model,
            **given,
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            "fov": self.fov,
            "elevation": self.elevation,
            "unseen": unseen.__version__,
        }
        shown = {**image, **settings, **determining}
        shown = {k: "the model's own" if v is None else v for k, v in shown.items()}
        return Origin(
            title=title,
            settings=shown,
            command=self._command(out),
            provenance=determining,
        )

    def _command(self, out: Path) -> str:
        """The command that makes the same results again."""
        words = ["unseen", "sample"]
        if self.image is not None:
            words.append(str(self.image))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _NOT_REPEATED and value is not None:
                words += [f"--{field.name.replace('_', '-')}", str(value)]
        return shlex.join([*words, "--out", str(out)])
