"""The architecture holds, and each of its checks catches a planted violation."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import unseen
from tests import architecture
from tests.architecture import Module

PACKAGE = Path(unseen.__file__).parent
MODULES = architecture.load_modules(PACKAGE)
RULES = {
    "imports": architecture.check_imports,
    "length": architecture.check_length,
    "shapes": architecture.check_shapes,
    "safe_loading": architecture.check_safe_loading,
    "randomness": architecture.check_randomness,
    "leftovers": architecture.check_leftovers,
    "names": architecture.check_names,
}


def _module(text: str, name: str = "methods.dfm") -> Module:
    return Module(name, textwrap.dedent(text))


@pytest.mark.parametrize("rule", RULES)
def test_package_obeys(rule: str) -> None:
    assert len(MODULES) > 20
    violations = [text for module in MODULES for text in RULES[rule](module)]
    assert not violations, "\n".join(violations)


def test_every_folder_has_its_arrows() -> None:
    folders = {
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    }
    files = {path.stem for path in PACKAGE.glob("*.py")}
    known = set(architecture.ARROWS) | architecture.UNRESTRICTED
    assert folders <= known
    assert files <= known | architecture.FOUNDATION


def test_classes_are_abstract_or_final() -> None:
    violations = architecture.check_final(MODULES)
    assert not violations, "\n".join(violations)


PLANTED = [
    ("imports", "geometry.rays", "import unseen.networks.unet2d"),
    ("imports", "geometry.rays", "from unseen.networks import unet2d"),
    ("imports", "geometry.rays", "from ..networks.unet2d import UNet"),
    ("imports", "diffusion.samplers", "from unseen import geometry"),
    ("imports", "rendering.volume", "from unseen.scenes.scene import Scene"),
    ("imports", "methods.dfm", "from unseen.methods.pixelnerf import PixelNerf"),
    ("imports", "training.trainer", "from unseen.methods.dfm import Dfm"),
    ("imports", "methods.dfm", "from unseen.methods import registry"),
    ("imports", "training.trainer", "def f():\n    import unseen.cli.main"),
    ("imports", "errors", "from unseen.geometry.cameras import Cameras"),
    ("length", "methods.dfm", "x = 0\n" * 301),
    ("length", "methods.dfm", "def f():\n" + "    x = 0\n" * 60),
    ("shapes", "methods.dfm", "def f(x: Tensor): pass"),
    ("shapes", "methods.dfm", "def f(*, x: torch.Tensor | None = None): pass"),
    ("shapes", "methods.dfm", "def f() -> tuple[Tensor, int]: pass"),
    ("shapes", "methods.dfm", "class A:\n    def forward(self, x: Tensor): pass"),
    ("safe_loading", "methods.dfm", "import pickle"),
    ("safe_loading", "methods.dfm", "from pickle import loads"),
    ("safe_loading", "methods.dfm", "torch.load(path)"),
    ("safe_loading", "methods.dfm", "torch.load(path, weights_only=False)"),
    ("safe_loading", "methods.dfm", "np.load(path, allow_pickle=True)"),
    ("randomness", "methods.dfm", "torch.randn(3)"),
    ("randomness", "methods.dfm", "x.normal_()"),
    ("randomness", "methods.dfm", "torch.manual_seed(0)"),
    ("randomness", "methods.dfm", "np.random.rand(3)"),
    ("randomness", "methods.dfm", "import random\nrandom.shuffle(x)"),
    ("leftovers", "methods.dfm", "x = 0  # TODO: finish"),
    ("leftovers", "methods.dfm", "def f():\n    raise NotImplementedError"),
    ("leftovers", "methods.dfm", "def f():\n    raise NotImplementedError('x')"),
    ("names", "data.utils", ""),
    ("names", "helpers.data", ""),
]


@pytest.mark.parametrize(("rule", "name", "text"), PLANTED)
def test_planted_violation_is_found(rule: str, name: str, text: str) -> None:
    assert RULES[rule](Module(name, text))


GOOD = [
    ("imports", "scenes.scene", "from unseen.rendering.rendering import Rendering"),
    ("imports", "methods.dfm", "from unseen.methods.method import Method"),
    ("imports", "training.trainer", "from unseen.methods.method import Method"),
    ("imports", "geometry.rays", "from unseen.errors import UserError"),
    ("imports", "geometry.rays", "from unseen.geometry import cameras"),
    ("imports", "geometry.rays", "import unseen_other.networks"),
    ("imports", "cli.sample", "from unseen.methods.dfm import Dfm"),
    ("imports", "scenes.scene", "from unseen.export import save  # arrow: by suffix"),
    ("length", "methods.dfm", "# length: one table\n" + "x = 0\n" * 301),
    ("length", "methods.dfm", "def f():  # length: one loop\n" + "    x = 0\n" * 60),
    ("shapes", "methods.dfm", "def f(x: Float[Tensor, '*batch 3']): pass"),
    ("shapes", "methods.dfm", "def f(x: list[Float[Tensor, 'a']] | None): pass"),
    ("shapes", "methods.dfm", "def f(x: dict[str, Tensor]): pass"),
    ("shapes", "methods.dfm", "def f(\n    x: Tensor,  # shape: any\n): pass"),
    ("safe_loading", "methods.dfm", "torch.load(path, weights_only=True)"),
    ("randomness", "methods.dfm", "torch.randn(3, generator=generator)"),
    ("randomness", "methods.dfm", "torch.nn.init.normal_(x)"),
    ("randomness", "methods.dfm", "np.random.default_rng(0).normal(size=3)"),
    (
        "randomness",
        "methods.dfm",
        "random = np.random.default_rng(0)\nrandom.choice(x)",
    ),
    ("leftovers", "methods.dfm", "x = 'TODO'"),
]


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_good_code_passes(rule: str, name: str, text: str) -> None:
    assert not RULES[rule](Module(name, text))


def test_subclass_of_a_concrete_class_is_found() -> None:
    concrete = _module("class A:\n    def f(self): pass\nclass B(A): pass")
    abstract = _module(
        """
        class A(abc.ABC):
            @abc.abstractmethod
            def f(self): pass
        class B(A):
            @abc.abstractmethod
            def g(self): pass
        class C(B):
            def f(self): pass
            def g(self): pass
        """
    )
    assert architecture.check_final([concrete])
    assert not architecture.check_final([abstract])


# Dependencies.


def _requirements(name: str, extras: set[str]) -> list[Requirement]:
    """The requirements of an installed distribution that hold here."""
    requirements = map(Requirement, importlib.metadata.requires(name) or [])
    environments = [{"extra": extra} for extra in extras | {""}]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None
        or any(requirement.marker.evaluate(e) for e in environments)
    ]


def _closure(name: str, extras: set[str]) -> set[str]:
    """Everything that installing `name[extras]` brings along."""
    seen: dict[str, set[str]] = {}
    queue = [(canonicalize_name(name), extras)]
    while queue:
        name, extras = queue.pop()
        if name in seen and extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | extras
        try:
            requirements = _requirements(name, seen[name])
        except importlib.metadata.PackageNotFoundError:
            continue  # Asked for on another platform, or by an extra not installed.
        queue += [(canonicalize_name(r.name), set(r.extras)) for r in requirements]
    return set(seen)


def _all_extras() -> set[str]:
    return set(importlib.metadata.metadata("unseen").get_all("Provides-Extra") or [])


def test_torchvision_is_never_brought_in() -> None:
    # Its wheel cannot be imported beside the CPU build of torch, and its presence
    # alone breaks other packages.
    closure = _closure("unseen", _all_extras())
    assert {"torch", "numpy", "pytest", "jinja2"} <= closure
    assert "torchvision" not in closure


# Distributions whose import name is another one.
IMPORT_NAMES = {"pillow": "PIL", "scikit-image": "skimage"}


def test_only_core_dependencies_are_imported_eagerly() -> None:
    names = {canonicalize_name(r.name) for r in _requirements("unseen", set())}
    core = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}
    allowed = frozenset(core | set(sys.stdlib_module_names) | {"unseen"})
    violations = [
        text
        for module in MODULES
        for text in architecture.check_light_imports(module, allowed)
    ]
    assert not violations, "\n".join(violations)
    planted = Module("data.meshes", "import mitsuba as mi")
    assert architecture.check_light_imports(planted, allowed)


def test_import_stays_light() -> None:
    heavy = {"mitsuba", "diffusers", "tensorboard", "torchvision", "matplotlib"}
    script = f"import sys, unseen; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
