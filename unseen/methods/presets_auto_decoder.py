"""Presets of the auto-decoders: SRN, LFN and CodeNeRF."""

from __future__ import annotations

import dataclasses

from unseen.encoders.auto_decoder import FitConfig
from unseen.methods.codenerf import CodeNeRFConfig  # arrow: a list of presets
from unseen.methods.codenerf_pose import PoseConfig  # arrow: a list of presets
from unseen.methods.lfn import LFNConfig  # arrow: a list of presets
from unseen.methods.srn import SRNConfig  # arrow: a list of presets
from unseen.networks.coded_mlp import CodedMLPConfig
from unseen.networks.hypernetwork import HyperNetworkConfig
from unseen.networks.ray_marcher import RayMarcherConfig
from unseen.scenes.coded_sampling import AUTHORS_SAMPLING, CodedSampling
from unseen.scenes.ray_marched import Marching
from unseen.training.preset import MINUTES, PLAIN_ADAM, Preset

_PAPER_TRAINING = dataclasses.replace(PLAIN_ADAM, batch_size=8, learning_rate=5e-5)
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
        MINUTES,
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
        MINUTES,
        num_target=1,
        description="A thin LFN at 64x64, for two processor cores.",
    ),
    # The authors halve the rate four times, look at one object's full images in a
    # step, and train on the middle 64x64 pixels (`crop`) for most of it.
    "codenerf-srn": Preset(
        CodeNeRFConfig(
            sampling=AUTHORS_SAMPLING,
            extent=0.75,
            rays=2048,
            chunk_rays=2048,
            pose=PoseConfig(radius=1.3),
        ),
        dataclasses.replace(
            PLAIN_ADAM,
            steps=1_200_000,
            batch_size=1,
            decay="cosine",
            weight_decay=1e-2,
        ),
        num_target=1,
        description="CodeNeRF as published, ShapeNet-SRN at 128x128.",
    ),
    "codenerf-small": Preset(
        CodeNeRFConfig(
            image_size=64,
            network=CodedMLPConfig(64, 64, shape_blocks=2, point_octaves=6),
            sampling=CodedSampling(num_samples=32),
            rays=128,
            code_rate=5.0,
            fit=FitConfig(
                num_steps=150,
                learning_rate=2e-2,
                optimizer="adamw",
                weight_decay=1e-2,
                halve_every=50,
                rays=256,
            ),
        ),
        dataclasses.replace(MINUTES, steps=3_000, batch_size=4),
        description="CodeNeRF at 64x64, for a CPU.",
    ),
}
"""Batches of SRN and LFN count objects; each brings two views, so that they hold as
many images as the authors'."""
