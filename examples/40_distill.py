"""Distillation: a scene whose views a frozen prior over images finds likely.

    python 40_distill.py [STEPS]

The prior is written here: what it finds likely are pictures near those of one crate, so
its denoiser is exact and the scene that must come out is known. A diffusion model takes
its place with `unseen distill`. The default of 15 steps shows a cloud; give 300 to see
the crate. Writes distilled.png: the crate above the distilled scene; and distilled.ply.
"""

import sys

import torch
from PIL import Image

from unseen.data.procedural import make_object
from unseen.diffusion.schedules import ScaledLinearSchedule, unsqueeze_like
from unseen.distillation.cameras import CameraPrior
from unseen.distillation.config import DistillConfig, GuidanceConfig
from unseen.distillation.distiller import Distiller
from unseen.distillation.prior import Abilities, ViewPrior
from unseen.distillation.prompts import PromptConfig
from unseen.distillation.representations import GaussianCloud
from unseen.export.colormap import to_bytes
from unseen.export.video import orbit_cameras

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
SIZE, SPREAD = 32, 0.1
crate = make_object("crate", 0)


class CratePrior(ViewPrior):
    """One Gaussian around the picture of the crate that each camera sees."""

    schedule = ScaledLinearSchedule()
    abilities = Abilities("crate", (3, SIZE, SIZE), SIZE, image=True, poses=True)
    device = torch.device("cpu")

    def encode(self, images, generator):
        return 2 * images - 1

    def decode(self, clean):
        return 0.5 * (clean + 1)

    def predict_noise(self, x_t, t, cameras, branches, generator):
        mean = 2 * crate.render(cameras, SIZE).images - 1
        scales = self.schedule.alpha_sigma(t)
        alpha, sigma = (unsqueeze_like(scale, x_t) for scale in scales)
        # x_t is normal around alpha mean: its score is exact, and so is the noise.
        variance = sigma**2 + (alpha * SPREAD) ** 2
        eps = sigma * (x_t - alpha * mean) / variance
        return eps.expand(len(branches), *eps.shape)


config = DistillConfig(
    GaussianCloud(count=2000, rate=2e-3),
    cameras=CameraPrior(fov=(40.0, 40.0), distance=(1.05, 1.05), distance_unit="sine"),
    prompts=PromptConfig(views="none"),
    guidance=GuidanceConfig(1.0),
    views=2,
    size=SIZE,
)
distiller = Distiller(
    CratePrior(), config, lambda i: torch.Generator().manual_seed(i + 1)
)
for step in range(STEPS):
    report = distiller.step(step)
    if step % 50 == 0 or step == STEPS - 1:
        print(f"step {step:4d}  {report.terms}  opacity {report.opacity:.3f}")

cameras, scene = orbit_cameras(4, 40.0, 20.0), distiller.scene(STEPS)
rows = [crate.render(cameras, 96).images, scene.render(cameras, (96, 96)).color]
picture = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
Image.fromarray(to_bytes(picture).permute(1, 2, 0).numpy()).save("distilled.png")
scene.save("distilled.ply")
print("distilled.png: above the crate, below what was distilled; and distilled.ply")
