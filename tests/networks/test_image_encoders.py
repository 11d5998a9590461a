"""ResNet-34, ViT and their fusion: sizes, names, statistics."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from tests.aligned_scenes import VISIONNERF
from unseen.networks.aligned_mlp import AlignedMLP, AlignedMLPConfig
from unseen.networks.fused_features import CurrentNorm, FusedFeatures
from unseen.networks.resnet34 import ResNetConfig, ResNetPyramid
from unseen.networks.vision_transformer import resize_positions


def test_resnet34_has_the_published_size_and_names() -> None:
    with torch.device("meta"):
        trunk = ResNetPyramid(ResNetConfig())
    # ResNet-34 without its last stage and classifier: 8,170,304 weights.
    assert sum(p.numel() for p in trunk.parameters()) == 8_170_304
    names = trunk.state_dict()
    assert names["layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)
    assert names["layer1.2.bn2.running_var"].shape == (64,)
    assert "layer1.0.downsample.0.weight" not in names
    assert ResNetConfig().features == 512


@pytest.mark.parametrize("first_pool", [True, False])
def test_the_pyramid_stacks_what_four_scales_say(first_pool: bool) -> None:
    config = ResNetConfig(width=4, blocks=(1, 2, 1), first_pool=first_pool)
    torch.manual_seed(0)
    pyramid = ResNetPyramid(config).eval()
    sizes = []
    for name in ("layer1", "layer2", "layer3"):
        pyramid.get_submodule(name).register_forward_hook(
            lambda module, args, out: sizes.append(out.shape[-1])
        )
    with torch.no_grad():
        found = pyramid(torch.randn(2, 3, 32, 24))
    assert found.shape == (2, 4 + 4 + 8 + 16, 16, 12)
    assert sizes == ([6, 3, 2] if first_pool else [12, 6, 3])


def test_batch_statistics_also_in_evaluation() -> None:
    """There are no running statistics; in evaluation every image has its own."""
    x = torch.randn(3, 4, 5, 5) * 2 + 1
    norm = CurrentNorm(4, "batch")
    with torch.no_grad():
        norm.weight.copy_(torch.rand(4))
        norm.bias.copy_(torch.rand(4))
    assert norm.state_dict().keys() == {"weight", "bias"}
    reference = torch.nn.BatchNorm2d(4, track_running_stats=False)
    reference.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm.train()(x), reference(x))
    one_by_one = torch.cat([reference.eval()(image[None]) for image in x])
    torch.testing.assert_close(norm.eval()(x), one_by_one)
    assert (norm(x) - reference(x)).abs().max() > 1e-2
    by_image = CurrentNorm(4, "image")
    by_image.load_state_dict(norm.state_dict())
    torch.testing.assert_close(by_image.train()(x), one_by_one)


def test_fused_features_see_the_whole_image_and_its_details() -> None:
    torch.manual_seed(0)
    network = FusedFeatures(VISIONNERF.encoder).eval()
    image = torch.rand(1, 3, 16, 16)
    other = image.clone()
    other[..., 0, 0] = 1 - other[..., 0, 0]
    with torch.no_grad():
        difference = (network(image) - network(other))[0].abs()
    assert difference.shape == (16, 8, 8)
    # The transformer's half changes far away as well.
    assert difference[:8, 7, 7].max() > 1e-7
    assert difference[8:, 0, 0].max() > 10 * difference[8:, 7, 7].max()


def test_other_image_sizes_resize_the_position_embedding() -> None:
    torch.manual_seed(0)
    transformer = FusedFeatures(VISIONNERF.encoder).transformer.eval()
    with torch.no_grad():
        tokens = transformer(torch.rand(1, 3, 24, 16), (0, 3))
    assert [t.shape for t in tokens] == [(1, 1 + 6 * 4, 16)] * 2
    positions = torch.arange(1 + 4.0).view(1, 5, 1).expand(1, 5, 2)
    resized = resize_positions(positions, (4, 2))
    assert torch.equal(resized[:, 0], positions[:, 0])
    expected = functional.interpolate(
        positions[:, 1:].mT.unflatten(-1, (2, 2)), (4, 2), mode="bilinear"
    )
    assert torch.equal(resized[:, 1:].mT.unflatten(-1, (4, 2)), expected)
    assert resize_positions(positions, (2, 2)) is positions


def mlp(**changes) -> AlignedMLP:
    config = AlignedMLPConfig(place=5, features=6, width=8, blocks=3, injections=2)
    torch.manual_seed(0)
    network = AlignedMLP(dataclasses.replace(config, **{"view_blocks": 2, **changes}))
    for block in network.blocks:
        torch.nn.init.normal_(block.fc_1.weight)
    return network


def test_views_are_averaged_after_their_blocks() -> None:
    """By hand, in the order of the paper."""
    for rectified in (False, True):
        network = mlp(rectified_shortcut=rectified)
        place, features = torch.randn(2, 7, 5), torch.randn(2, 7, 6)
        x = network.point_in(place)
        for index, block in enumerate(network.blocks):
            if index < 2:
                x = x + network.feature_in[index](features)
            if index == 2:
                x = x.mean(dim=0)
            hidden = block.fc_1(block.fc_0(x.relu()).relu())
            x = (x.relu() if rectified else x) + hidden
        expected = network.out(x.relu())
        torch.testing.assert_close(network(place, features), expected)


def test_projected_maps_hold_what_the_blocks_are_told() -> None:
    network, maps = mlp(), torch.randn(2, 6, 3, 4)
    projected = network.project_features(maps)
    at = maps[1, :, 2, 3]
    expected = torch.cat([layer(at) for layer in network.feature_in])
    torch.testing.assert_close(projected[1, :, 2, 3], expected)


def test_features_must_enter_before_the_mean() -> None:
    with pytest.raises(ValueError, match="features enter before"):
        AlignedMLPConfig(injections=4)
