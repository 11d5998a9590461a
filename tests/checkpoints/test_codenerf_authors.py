"""Files of CodeNeRF: what is read, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unseen.checkpoints.codenerf_authors import read_codenerf, rename
from unseen.errors import UserError
from unseen.methods.codenerf import CodeNeRF, CodeNeRFConfig
from unseen.networks.coded_mlp import CodedMLPConfig
from unseen.scenes.coded_sampling import AUTHORS_SAMPLING

NETWORK = CodedMLPConfig(16, 8, 2, 1, 3, 2)
OFFICIAL = {
    "point_in": "encoding_xyz.0",
    "shape_in.0": "shape_latent_layer_1.0",
    "shape_in.1": "shape_latent_layer_2.0",
    "shape_layers.0": "shape_layer_1.0",
    "shape_layers.1": "shape_layer_2.0",
    "shape_out": "encoding_shape",
    "density": "sigma.0",
    "view_in": "encoding_viewdir.0",
    "texture_in.0": "texture_latent_layer_1.0",
    "texture_layers.0": "texture_layer_1.0",
    "color.0": "rgb.0",
    "color.2": "rgb.2",
}


def make() -> tuple[CodeNeRF, dict[str, dict[str, Tensor]]]:
    torch.manual_seed(0)
    method = CodeNeRF(CodeNeRFConfig(num_objects=5, network=NETWORK, code_rate=1.0))
    params = {}
    for name, value in method.network.state_dict().items():
        stem, _, kind = name.rpartition(".")
        params[f"{OFFICIAL[stem]}.{kind}"] = value.clone()
    return method, {
        "model_params": params,
        "shape_code_params": {"weight": method.shapes.weight.detach().clone()},
        "texture_code_params": {"weight": method.textures.weight.detach().clone()},
    }


def save(path: Path, content: dict) -> Path:
    torch.save({**content, "niter": 100, "nepoch": 3}, path)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    method, content = make()
    state = torch.get_rng_state()
    found = read_codenerf(save(tmp_path / "models.pth", content), 64, 0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert found.config.network == NETWORK and found.config.num_objects == 5
    assert found.config.sampling == AUTHORS_SAMPLING
    assert (found.config.image_size, found.config.extent) == (64, 0.5)
    assert not found.training
    expected = method.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in found.state_dict().items())
    scene = found.object_scene(torch.tensor([4]))
    assert torch.equal(scene.shapes[0], content["shape_code_params"]["weight"][4])


def test_names() -> None:
    assert rename("shape_layer_3.0.weight") == "shape_layers.2.weight"
    assert rename("rgb.2.bias") == "color.2.bias"
    assert rename("rgb.1.bias") is None and rename("shape_layer_0.0.bias") is None


SIGMA = "sigma.0.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c["model_params"].pop(SIGMA), "lacks tensor"),
        (lambda c: c["model_params"].update(extra=torch.zeros(1)), "unknown tensor"),
        (lambda c: c["model_params"].update({SIGMA: torch.zeros(3)}), "shape"),
        (lambda c: c["model_params"][SIGMA].fill_(torch.inf), "not finite"),
        (lambda c: c["model_params"].pop("encoding_xyz.0.weight"), "does not hold"),
        (lambda c: c["model_params"].pop("shape_layer_2.0.weight"), "unknown tensor"),
        (lambda c: c["shape_code_params"].clear(), "does not hold"),
        (lambda c: c["shape_code_params"].update(weight=torch.zeros(4, 8)), "shape"),
        (lambda c: c.pop("texture_code_params"), "texture_code_params"),
        (lambda c: c.pop("model_params"), "model_params"),
    ],
)
def test_damaged_files(damage, message: str, tmp_path: Path) -> None:
    _, content = make()
    damage(content)
    with pytest.raises(UserError, match=message) as caught:
        read_codenerf(save(tmp_path / "models.pth", content))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


class Payload:
    """What unpickling would execute."""

    def __reduce__(self):
        return (pytest.fail, ("the checkpoint was executed",))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "models.pth"
    with pytest.raises(UserError, match="There is no file"):
        read_codenerf(path)
    torch.save({"model_params": Payload()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        read_codenerf(path)
    save(path, make()[1])
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot be read"):
        read_codenerf(path)
