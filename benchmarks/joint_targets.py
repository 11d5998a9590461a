"""Target views denoised jointly, against one after the other.

    python benchmarks/joint_targets.py DATA [OBJECTS]

Completes each of the last OBJECTS (4) objects of a data set from its first view, twice,
with the bundled model, and prints means: PSNR of the input view, of up to seven other
views, and between the two samples (the lower, the more they differ), in dB; and seconds
of processor time per scene.
"""

import dataclasses
import sys
import time

import torch

import unseen
from unseen.data.formats import open_dataset
from unseen.geometry.views import Views
from unseen.methods.dfm import DFM

SIZE = (64, 64)


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """The mean over images, in dB."""
    errors = (first - second).square().mean(dim=(-1, -2, -3))
    return float((-10 * errors.log10()).mean())


def measure(method: DFM, views: Views, joint: bool) -> list[float]:
    context = Views.stack([views[:1]] * 2)
    options = dataclasses.replace(method.config.sampling, joint=joint)
    cameras = method.completion_cameras(context)
    started = time.process_time()
    scenes = method.complete(context, cameras, [1, 2], options)
    seconds = (time.process_time() - started) / 2
    pair = [scenes[i].render(views.cameras, SIZE).color for i in range(2)]
    rendered = torch.stack(pair)
    return [
        psnr(rendered[:, :1], views.images[:1]),
        psnr(rendered[:, 1:], views.images[1:]),
        psnr(rendered[0, 1:], rendered[1, 1:]),
        seconds,
    ]


def main() -> None:
    data = open_dataset(sys.argv[1], side=SIZE[0])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    method = unseen.load("vehicles-64").method
    assert isinstance(method, DFM)
    rows: dict[bool, list[list[float]]] = {False: [], True: []}
    for index in range(len(data) - count, len(data)):
        found = data.load(index)
        views = Views(found.images, found.cameras)[:8]
        for joint, measured in rows.items():
            measured.append(measure(method, views, joint))
    print("                  input  other  between  seconds")
    for joint, measured in rows.items():
        name = "jointly" if joint else "one by one"
        numbers = torch.tensor(measured).mean(dim=0).tolist()
        print(f"{name:16}" + "  ".join(f"{x:6.2f}" for x in numbers))


if __name__ == "__main__":
    main()
