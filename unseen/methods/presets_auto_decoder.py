"""Presets of the auto-decoders with hypernetworks, SRN and LFN."""

from __future__ import annotations

import dataclasses

from unseen.encoders.auto_decoder import FitConfig
from unseen.methods.lfn import LFNConfig  # arrow: presets of two methods of one family
from unseen.methods.srn import SRNConfig  # arrow: presets of two methods of one family
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.ray_marcher import RayMarcherConfig
from unseen.scenes.ray_marched import Marching
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset

# Adam without warm-up, clipping or averaging.
_PAPER_TRAINING = TrainConfig(
    steps=175_000,
    batch_size=8,
    learning_rate=5e-5,
    warmup_steps=0,
    betas=(0.9, 0.999),
    clip_norm=0.0,
    ema_decay=0.0,
)
_SRN = SRNConfig(
    # Of the authors' re-training on the test objects; it stops where nothing happens.
    fit=FitConfig(num_steps=100_000, learning_rate=5e-5, patience=2_000),
)
_LFN = LFNConfig(
    fit=FitConfig(num_steps=500_000, learning_rate=1e-4, patience=2_000),
)

# The world of our procedural objects is the unit sphere, seen from a distance of about
# three: rays start at its near side.
_SRN_SMALL = SRNConfig(
    image_size=64,
    hyper=HyperNetworkConfig(
        code_width=64,
        width=64,
        num_hidden=1,
        sizes=(3, 64, 64, 64, 64),
        plain_last=False,
        split="layer",
    ),
    marcher=RayMarcherConfig(features=64, color_layers=2),
    marching=Marching(start_depth=None),
    rays=512,
    fit=FitConfig(num_steps=200, learning_rate=1e-2, rays=1024),
)
_LFN_SMALL = LFNConfig(
    image_size=64,
    hyper=HyperNetworkConfig(
        code_width=64, width=64, num_hidden=1, sizes=(6, 64, 64, 64, 64, 64, 3)
    ),
    rays=1024,
    fit=FitConfig(num_steps=200, learning_rate=1e-2),
)
_SMALL_TRAINING = TrainConfig(
    steps=2_000,
    batch_size=8,
    learning_rate=1e-3,
    warmup_steps=50,
    decay="cosine",
    ema_decay=0.99,
    checkpoint_every=500,
    sample_every=500,
    num_workers=0,
)

AUTO_DECODER_PRESETS: dict[str, Preset] = {
    "srn-cars-64": Preset(
        dataclasses.replace(_SRN, image_size=64),
        dataclasses.replace(_PAPER_TRAINING, steps=5_000, batch_size=32),
        num_target=1,
        description="SRN as published, first stage: cars at 64x64 (52 M weights).",
    ),
    "srn-cars": Preset(
        _SRN,
        dataclasses.replace(_PAPER_TRAINING, steps=170_000),
        num_target=1,
        description="SRN as published, cars at 128x128; starts from srn-cars-64.",
    ),
    "srn-chairs-64": Preset(
        dataclasses.replace(_SRN, image_size=64),
        dataclasses.replace(_PAPER_TRAINING, steps=20_000, batch_size=32),
        num_target=1,
        description="SRN as published, first stage: chairs at 64x64.",
    ),
    "srn-chairs": Preset(
        _SRN,
        dataclasses.replace(_PAPER_TRAINING, steps=554_000),
        num_target=1,
        description="SRN as published, chairs at 128x128; starts from srn-chairs-64.",
    ),
    "srn-small": Preset(
        _SRN_SMALL,
        _SMALL_TRAINING,
        num_target=1,
        description="A thin SRN at 64x64, for two processor cores.",
    ),
    "lfn-single-64": Preset(
        dataclasses.replace(_LFN, image_size=64),
        dataclasses.replace(
            _PAPER_TRAINING, steps=10_000, batch_size=128, learning_rate=1e-4
        ),
        num_target=1,
        description="LFN as published, first stage: one class at 64x64.",
    ),
    "lfn-single": Preset(
        _LFN,
        dataclasses.replace(
            _PAPER_TRAINING, steps=500_000, batch_size=25, learning_rate=1e-4
        ),
        num_target=1,
        description="LFN as published, one class at 128x128; starts from "
        "lfn-single-64 (105 M weights).",
    ),
    "lfn-nmr": Preset(
        dataclasses.replace(_LFN, image_size=64, code_weight=100.0),
        dataclasses.replace(
            _PAPER_TRAINING, steps=1_000_000, batch_size=64, learning_rate=1e-4
        ),
        num_target=1,
        description="LFN as published, thirteen classes at 64x64.",
    ),
    "lfn-small": Preset(
        _LFN_SMALL,
        _SMALL_TRAINING,
        num_target=1,
        description="A thin LFN at 64x64, for two processor cores.",
    ),
}
"""Batches count objects; each brings two views, so that they hold as many images as
the authors'."""
