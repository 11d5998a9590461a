"""`unseen train` and `unseen models`, with a method that needs no time."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny_auto_decoder import SkyConfig, SkyDecoder
from tests.training.tiny_method import TinyMethod, tiny_example
from unseen.checkpoints.model_folder import load_model
from unseen.cli.main import main
from unseen.data.manifest import ManifestWriter, ObjectRecord
from unseen.data.srn_files import write_object
from unseen.geometry.views import Example, Views
from unseen.methods import registry
from unseen.methods.method import Losses, Method
from unseen.training.checkpoint import list_checkpoints
from unseen.training.config import TrainConfig
from unseen.training.preset import Preset
from unseen.training.run_log import read_log


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    image_size: int = 8
    noise: float = 0.1
    interrupt_at: int = 0


class Tiny(Method):
    """The tiny method with a configuration; can press Ctrl-C."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.inner = TinyMethod(config.noise)
        self.losses = 0

    def loss(self, example: Example, generator: torch.Generator) -> Losses:
        assert example.context.size == (self.config.image_size,) * 2
        self.losses += 1
        if self.losses == self.config.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.inner.loss(example, generator)

    def sample(self, context, cameras, generator):
        return self.inner.sample(context, cameras, generator)


TRAIN = TrainConfig(steps=4, batch_size=2, log_every=1, num_workers=0, device="cpu")


@pytest.fixture(autouse=True)
def _tiny_is_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.METHODS, "Tiny", (Tiny, TinyConfig))
    monkeypatch.setitem(registry.PRESETS, "tiny", Preset(TinyConfig(), TRAIN))
    monkeypatch.setitem(registry.METHODS, "Sky", (SkyDecoder, SkyConfig))
    monkeypatch.setitem(registry.PRESETS, "sky", Preset(SkyConfig(), TRAIN))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def _write_data(
    folder: Path,
    splits: tuple[str, ...],
    size: int = 16,
    few: tuple[int, ...] = (),
) -> Path:
    """Three random views of as many objects as there are splits, two of the `few`."""
    writer = ManifestWriter(folder, {"size": size})
    for index, split in enumerate(splits):
        example = tiny_example(index, batch=1, size=size)
        context, target = example.context[0], example.target[0]
        views = Views.cat([context, target])[: 2 if index in few else 3]
        write_object(folder, f"object-{index}", views)
        record = ObjectRecord(
            f"object-{index}", "made up", "0", "noise", split, len(views)
        )
        writer.add(record)
    writer.finish()
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _write_data(tmp_path / "data", ("train", "train", "test"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `unseen ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["unseen", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refusal(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: object) -> str:
    """The one sentence with which `unseen ARGUMENTS` ends."""
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("unseen: ")
    assert error.endswith(".")
    assert "\n" not in error
    return error


def test_run_writes_a_model_and_resumes_with_its_settings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "run"
    start = ["train", "tiny", "--data", data, "--out", out]
    assert run(monkeypatch, *start, "--method.noise", 0.5, "--warmup-steps", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "model")
    method = load_model(out)
    assert isinstance(method, Tiny)
    assert method.config.noise == 0.5
    settings = json.loads((out / "config.json").read_text())
    assert settings["preset"] == "tiny"
    assert settings["settings"]["train"]["warmup_steps"] == 1
    assert settings["settings"]["train"]["seed"] == 0
    assert settings["data"] == [str(data)]
    assert (out / "samples").is_dir()
    provenance = json.loads((out / "model" / "config.json").read_text())["provenance"]
    assert provenance["step"] == 4
    assert str(tmp_path) not in json.dumps(provenance)

    again = ["train", "tiny", "--out", out, "--resume", "--steps", 6]
    assert run(monkeypatch, *again) == 0
    steps = [entry["step"] for entry in read_log(out / "log.jsonl")]
    assert steps == [1, 2, 3, 4, 5, 6]
    resumed = json.loads((out / "config.json").read_text())["settings"]
    assert (resumed["train"]["steps"], resumed["method"]["noise"]) == (6, 0.5)


def test_initial_weights_from_a_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(monkeypatch, "train", "tiny", "--data", data, "--out", first) == 0
    quiet = ["--learning-rate", 1e-20, "--steps", 1, "--init", first]
    assert (
        run(monkeypatch, "train", "tiny", "--data", data, "--out", second, *quiet) == 0
    )
    weights = [dict(load_model(f).named_parameters()) for f in (first, second)]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_ctrl_c_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "run"
    start = ["train", "tiny", "--data", data, "--out", out]
    assert run(monkeypatch, *start, "--method.interrupt-at", 2) == 130
    error = capsys.readouterr().err.strip()
    assert error.startswith("unseen: stopped after step 2 of 4")
    assert "--resume" in error
    assert list_checkpoints(out / "checkpoints")[-1].stem == "step-00000002"
    assert run(monkeypatch, "train", "tiny", "--out", out, "--resume") == 0


NEW = ("tiny", "--out", "new", "--data", "data")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing", "--out", "new", "--data", "data"], "presets are"),
        (["tiny", "--out", "new"], "add --data"),
        (["tiny", "--out", "new", "--data", "missing"], "missing"),
        (["tiny", "--out", "data", "--data", "data"], "--resume"),
        (["tiny", "--out", "new", "--resume"], "no run to resume"),
        ([*NEW, "--steps", "0"], "steps must be"),
        (
            ["tiny", "--out", "new", "--data", "data", "--method.image-size", "32"],
            "16x16",
        ),
        ([*NEW, "--init", "nothing"], "'nothing'"),
        ([*NEW, "--device", "abacus"], "abacus"),
    ],
)
def test_refused(
    arguments: list[str],
    reason: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    monkeypatch.chdir(data.parent)
    assert reason in refusal(monkeypatch, capsys, "train", *arguments)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["objects-64", "--resume"], "'tiny'"),
        (["tiny", "--resume", "--seed", "1"], "'seed'"),
        (["tiny", "--resume", "--method.noise", "1.0"], "'method'"),
        (["tiny", "--data", "data"], "--resume"),
    ],
)
def test_refused_for_a_run_that_exists(
    arguments: list[str],
    reason: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    monkeypatch.chdir(data.parent)
    assert run(monkeypatch, "train", "tiny", "--out", "run", "--data", "data") == 0
    before = (data.parent / "run" / "config.json").read_bytes()
    capsys.readouterr()
    name, *rest = arguments
    refused = refusal(monkeypatch, capsys, "train", name, "--out", "run", *rest)
    assert reason in refused
    assert (data.parent / "run" / "config.json").read_bytes() == before


def test_unknown_setting_is_refused_with_the_known_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "run"
    start = ["train", "tiny", "--data", data, "--out", out]
    assert run(monkeypatch, *start, "--stepps", 5) == 2
    assert "--steps" in capsys.readouterr().err
    assert not out.exists()


def test_help_lists_the_settings_of_the_preset(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert run(monkeypatch, "train", "tiny", "--help") == 0
    printed = capsys.readouterr().out
    assert "--learning-rate" in printed
    assert "--method.noise" in printed


def test_data_without_test_objects_still_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _write_data(tmp_path / "data", ("train",))
    out = tmp_path / "run"
    assert run(monkeypatch, "train", "tiny", "--data", data, "--out", out) == 0
    (data / "manifest.json").unlink()
    out = tmp_path / "bare"
    assert run(monkeypatch, "train", "tiny", "--data", data, "--out", out) == 0


def test_methods_with_a_code_per_object(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The number of codes is that of the training objects, and stays so."""
    out = tmp_path / "run"
    start = ["train", "sky", "--data", data, "--out", out, "--sample-every", 2]
    assert run(monkeypatch, *start) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["method"]["num_objects"] == 2
    method = load_model(out)
    assert isinstance(method, SkyDecoder) and len(method.codes.weight) == 2
    assert len(list((out / "samples").iterdir())) == 2

    again = ["train", "sky", "--out", out, "--resume", "--steps", 6]
    assert run(monkeypatch, *again) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["method"]["num_objects"] == 2
    capsys.readouterr()
    more = _write_data(tmp_path / "more", ("train", "train", "train", "test"))
    wrong = refusal(monkeypatch, capsys, *again, "--data", more)
    assert "codes for 2 objects and the data has 3" in wrong
    other = ["train", "sky", "--data", data, "--out", tmp_path / "new"]
    wrong = refusal(monkeypatch, capsys, *other, "--method.num-objects", 7)
    assert "codes for 7 objects and the data has 2" in wrong
    assert not (tmp_path / "new").exists()


def test_objects_with_too_few_views_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    splits = ("train", "train", "train", "test", "test")
    data = _write_data(tmp_path / "data", splits, few=(1, 3))
    out = tmp_path / "run"
    start = ["train", "sky", "--data", data, "--out"]
    line = "1 of 3 scenes has fewer than 3 views and is left out: object-1"
    assert run(monkeypatch, *start, out, "--num-target", 2) == 0
    assert capsys.readouterr().err.splitlines().count(line) == 1
    method = load_model(out)
    # The codes are numbered as if it were there.
    assert isinstance(method, SkyDecoder) and len(method.codes.weight) == 3
    assert run(monkeypatch, *start[:2], "--out", out, "--resume", "--steps", 5) == 0
    assert capsys.readouterr().err.splitlines().count(line) == 1
    wrong = refusal(monkeypatch, capsys, *start, tmp_path / "no", "--num-target", 3)
    assert wrong == (
        f"unseen: no scene of {data} has the 4 views that an example takes (the most "
        "is 3): lower --num-target, or give data with more views."
    )
    assert not (tmp_path / "no").exists()


def test_models_lists_methods_and_presets(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert run(monkeypatch, "models", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert {"DFM", "Tiny"} <= {method["name"] for method in listing["methods"]}
    tiny = next(entry for entry in listing["presets"] if entry["name"] == "tiny")
    assert (tiny["method"], tiny["steps"], tiny["batch_size"]) == ("Tiny", 4, 2)
    assert (tiny["image_size"], tiny["bundled"]) == (8, False)
    methods = {method["name"]: method for method in listing["methods"]}
    assert methods["DFM"]["importers"] == {"dfm": {"licence": "none stated"}}
    assert methods["DFM"]["stochastic"]
    assert listing["models"][0]["licence"] == "Apache-2.0"
    assert methods["Sky"]["importers"] == {} and not methods["Sky"]["stochastic"]
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, "models") == 0
    lines = capsys.readouterr().out.splitlines()
    # Names are whole, however narrow the terminal is.
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert "import dfm" in rows["DFM"] and "one" in rows["SkyDecoder"].split()
    assert not [line for line in lines if "…" in line]
    assert "of a text" in "".join(lines)
    assert max(len(line.rstrip()) for line in lines) <= 80
