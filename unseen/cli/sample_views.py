"""`unseen sample` with a model that samples views and no scenes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.progress
    from jaxtyping import Float
    from torch import Tensor

    from unseen.cli.sample import Sample
    from unseen.geometry.cameras import Cameras
    from unseen.geometry.views import Views
    from unseen.model import Model


def write_views(
    sample: Sample,
    model: Model,
    shown: Float[Tensor, "3 height width"] | None,
    out: Path,
    progress: rich.progress.Progress,
) -> list[Path]:
    """Sample, write, and return what was written.

    A run that was interrupted leaves its finished views beside `out`, and the same
    command goes on after them.
    """
    from unseen.cli.progress import Bar
    from unseen.export.kept_views import KeptViews
    from unseen.export.view_result import write_view_results

    given = model.context(sample.image, sample.fov, sample.elevation)
    cameras = _choose_cameras(sample, model, given)
    determining = {
        "views": len(cameras),
        "cameras_sha256": hash_cameras(cameras),
        "weights_sha256": _hash_weights(model),
    }
    asked = sample.origin(out, "", {}).provenance
    kept = KeptViews(out, {**asked, **determining})
    if len(kept):
        _note(progress, f"going on after what an interrupted run left in {kept.folder}")
    sampling = Bar(progress, "Sampling views")
    try:
        samples = model.generate(
            given,
            cameras,
            num=sample.num,
            seed=sample.seed,
            steps=sample.steps,
            guidance=sample.guidance,
            progress=sampling.report,
            keep=kept,
            prompt=sample.prompt,
        )
        title = f"{sample.subject}: {len(samples)} x {len(cameras)} views"
        origin = sample.origin(out, title, {"num": len(samples), **determining})
        written = write_view_results(
            out,
            given,
            samples,
            shown,
            origin,
            sample.overwrite,
            Bar(progress, "Writing results").report,
            turn=sample.path is None,
        )
    except BaseException:
        if len(kept):
            text = f"the finished views are kept in {kept.folder}: the same command "
            _note(progress, f"{text}goes on after them")
        raise
    kept.remove()
    return written


def _choose_cameras(sample: Sample, model: Model, given: Views) -> Cameras:
    """Where views are sampled (view,), given the image's view (1,) or none (0,)."""
    from unseen.export.camera_paths import read_cameras

    if sample.path is not None:
        return read_cameras(sample.path)
    return model.cameras_around(
        given, sample.views, sample.fov, sample.elevation, sample.azimuth or 0.0
    )


def _hash_weights(model: Model) -> str:
    """Which weights sampled: a model's folder may be trained on meanwhile."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.method.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_cameras(cameras: Cameras) -> str:
    """Where views (view,) are: a path's file may change meanwhile."""
    parts = (cameras.extrinsics, cameras.intrinsics, cameras.near, cameras.far)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _note(progress: rich.progress.Progress, text: Any) -> None:
    progress.console.print(
        f"unseen: note: {text}", markup=False, highlight=False, soft_wrap=True
    )
