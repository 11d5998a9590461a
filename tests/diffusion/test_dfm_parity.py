"""The numbers of DFM's published sampler (see tests/fixtures/dfm_sampler)."""

from __future__ import annotations

import pytest
import torch

from tests.parity.synthetic import fixture_folder, load_arrays, load_meta
from unseen.diffusion import samplers
from unseen.diffusion.guidance import classifier_free, dynamic_threshold
from unseen.diffusion.prediction import eps_from_x0
from unseen.diffusion.schedules import CosineSchedule, unsqueeze_like

SCHEDULE = CosineSchedule()


@pytest.fixture(scope="module")
def case():
    folder = fixture_folder("dfm_sampler")
    inputs = load_arrays(folder / "inputs.npz")
    outputs = load_arrays(folder / "outputs.npz")
    return inputs, outputs, load_meta(folder)["tolerance"]["suggested_atol"]


def guided(inputs) -> torch.Tensor:
    scale = inputs["guidance"].item()
    x_0 = classifier_free(inputs["cond_x0"], inputs["uncond_x0"], scale)
    return dynamic_threshold(x_0, percentile=0.95)


def check(case, key: str, value: torch.Tensor) -> None:
    _, outputs, tolerance = case
    torch.testing.assert_close(
        value.to(outputs[key].dtype), outputs[key], rtol=0, atol=tolerance[key]
    )


def test_table_of_the_cosine_schedule(case) -> None:
    table = SCHEDULE.discrete_alphas_cumprod()
    check(case, "buffer/alphas_cumprod", table)
    previous = torch.cat([torch.ones(1).double(), table[:-1]])
    check(case, "buffer/betas", 1 - table / previous)


def test_times_are_the_sampling_table(case) -> None:
    _, outputs, _ = case
    steps = len(outputs["ddim_timesteps"]) - 1
    times = samplers.times_uniform(steps)
    torch.testing.assert_close(
        times.float(), SCHEDULE.t_of_step(outputs["ddim_timesteps"])
    )


def test_forward_noising(case) -> None:
    inputs, _, _ = case
    t = SCHEDULE.t_of_step(inputs["t"])
    check(case, "q_sample", SCHEDULE.add_noise(inputs["cond_x0"], inputs["x_t"], t))


def test_guidance_and_thresholding(case) -> None:
    check(case, "x_start_thresholded", guided(case[0]))


def test_implied_noise(case) -> None:
    inputs, _, _ = case
    t = SCHEDULE.t_of_step(inputs["t"])
    alpha, sigma = (unsqueeze_like(s, inputs["x_t"]) for s in SCHEDULE.alpha_sigma(t))
    check(case, "pred_noise", eps_from_x0(inputs["x_t"], guided(inputs), alpha, sigma))


@pytest.mark.parametrize("sampler", [samplers.ddim, samplers.euler])
def test_one_step(case, sampler) -> None:
    inputs, outputs, _ = case
    table = outputs["ddim_timesteps"].tolist()
    rows = []
    # Samplers give all samples of a batch one level; the fixture has one for each.
    for row, step in enumerate(inputs["t"].tolist()):
        following = table[table.index(step) + 1]
        times = SCHEDULE.t_of_step(torch.tensor([step, following]))
        x_0 = guided(inputs)[row : row + 1]
        x_t = inputs["x_t"][row : row + 1]
        rows.append(sampler(lambda x_t, t, x_0=x_0: x_0, x_t, SCHEDULE, times))
    check(case, "ddim_next", torch.cat(rows))
