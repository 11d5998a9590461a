"""The noise process, ignorant of 3D: schedules, prediction, samplers, guidance.

A noise level t lies in [0, 1], 0 is data: `x_t = alpha(t) x_0 + sigma(t) eps`. Every
denoiser is a function `denoise(x_t, t) -> x_0`; eps, v and sigma forms are derived.
"""
