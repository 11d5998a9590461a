"""The rules of the package's architecture, as functions of its source text.

Each rule takes a `Module` and returns one sentence per violation, so that the tests
can hold it against the package and against a planted violation alike. Exceptions are
named where they are made: a comment `# length: why`, `# shape: why`, `# random: why`,
`# arrow: why` in the signature, call or import that it excuses (`length` also in the
first lines of a file).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "unseen"
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

# Modules at the top of the package that know nothing of it but each other.
FOUNDATION = frozenset({"errors", "files", "configuration"})

LEARNED = frozenset({"geometry", "networks", "diffusion", "rendering", "scenes"})
METHOD_INTERFACE = "methods.method"
# Losses that methods share; it knows the interface and no method.
METHOD_SHARED = "methods.photometric"
# A preset, in its method's file, says how it is trained: plain settings.
TRAINING_SETTINGS = frozenset({"training.preset", "training.config"})
OUTER = frozenset({"geometry", "scenes", "data", METHOD_INTERFACE})

# What each folder may import, besides itself and the foundation. A name with a dot
# is one module of a folder. The command line and the package's front may import all.
ARROWS: dict[str, frozenset[str]] = {
    "geometry": frozenset(),
    "networks": frozenset(),
    "diffusion": frozenset(),
    "rendering": frozenset({"geometry"}),
    "scenes": frozenset({"geometry", "networks", "rendering"}),
    "encoders": frozenset({"geometry", "networks", "scenes"}),
    "distillation": frozenset({"geometry", "diffusion", "scenes"}),
    "methods": LEARNED | {"encoders", "distillation"} | TRAINING_SETTINGS,
    "data": frozenset({"geometry"}),
    "training": OUTER,
    "evaluation": OUTER,
    "export": OUTER,
    # The viewer draws what is exported, drives what `unseen.load` returns, and shows
    # what the input saw.
    "viewer": OUTER
    | {"export", "model", "evaluation.visibility", "rendering.rendering"},
    # What `unseen.load` returns: a method with its weights, as people use it.
    "model": OUTER,
    # An importer fills in the whole configuration of a method, parts included.
    "checkpoints": LEARNED | {"encoders", "distillation", "methods"},
}
UNRESTRICTED = frozenset({"cli", "__init__", "__main__"})

# The one module of `methods` that knows them all: name -> class and configuration.
METHOD_REGISTRY = "methods.registry"

JAXTYPING = re.compile(
    r"(B?Float|Int|UInt|Complex)\d*|Integer|Bool|Num|Real|Inexact|Shaped|Scalar"
)
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "misc", "common"})
GLOBAL_RANDOM = re.compile(
    r"rand|randn|randint|rand_like|randn_like|randint_like|randperm|normal"
    r"|multinomial|bernoulli|poisson"
)
IN_PLACE_RANDOM = re.compile(r"(normal|uniform|random|bernoulli|exponential)_")


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file: its dotted name inside the package, and its text."""

    name: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @functools.cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def folder(self) -> str:
        return self.name.split(".")[0]

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def excused(self, rule: str, first: int, last: int) -> bool:
        """Whether lines `first` to `last` (from 1) hold a comment `# rule: reason`."""
        lines = self.lines[first - 1 : last]
        return any(re.search(rf"#\s*{rule}:\s*\S+", line) for line in lines)


def load_modules(folder: Path) -> list[Module]:
    """All modules of a package folder."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        modules.append(Module(".".join(parts), path.read_text(encoding="utf-8")))
    return modules


def _signature_end(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return max(node.lineno, node.body[0].lineno - 1)


# Import direction.


def _imported(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name (inside the package) of every import of the package."""
    package = module.name.split(".")[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = [PACKAGE, *package[: len(package) + 1 - node.level]]
                base = ".".join([*anchor, base] if base else anchor)
            # `from unseen.geometry import rays` may name a module.
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield node.lineno, ".".join(name.split(".")[1:])


def _allowed(module: Module, target: str) -> bool:
    folder = target.split(".")[0]
    if module.folder in UNRESTRICTED or folder in FOUNDATION | {"__version__"}:
        return True
    if module.folder == "methods" and folder == "methods":
        if module.name == METHOD_REGISTRY:
            return True
        # No method knows another; all know the interface.
        return target.startswith((METHOD_INTERFACE, METHOD_SHARED, module.name))
    if folder == module.folder:
        return True
    arrows = ARROWS.get(module.folder, frozenset())
    return any(f"{target}.".startswith(f"{arrow}.") for arrow in arrows)


def check_imports(module: Module) -> list[str]:
    """Imports follow the allowed arrows only."""
    return [
        f"{module.name}:{line} imports {PACKAGE}.{target}, against the arrows"
        for line, target in _imported(module)
        if not _allowed(module, target) and not module.excused("arrow", line, line)
    ]


def check_light_imports(module: Module, core: frozenset[str]) -> list[str]:
    """What is imported at the top of a file is a core dependency (or standard)."""
    found = []
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in core:
                found.append(
                    f"{module.name}:{node.lineno} imports {name} at the top of the "
                    "file, although it is not a core dependency"
                )
    return found


# Size.


def check_length(module: Module) -> list[str]:
    """No file over 300 lines, no function over 60, without a stated reason."""
    found = []
    if len(module.lines) > MAX_FILE_LINES and not module.excused("length", 1, 10):
        found.append(f"{module.name} has {len(module.lines)} lines")
    for node in module.functions():
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        excused = module.excused("length", node.lineno, _signature_end(node))
        if length > MAX_FUNCTION_LINES and not excused:
            found.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return found


# Shapes.


def _is_tensor(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name == "Tensor"


def _holds_bare_tensor(node: ast.AST) -> bool:
    """Whether an annotation mentions `Tensor` where a shape could have been said.

    Inside `Float[Tensor, ...]` it was said; a `dict[str, ...]` holds tensors by name,
    each of its own shape; and what a `Callable` takes is its own signature's affair.
    """
    if _is_tensor(node):
        return True
    if isinstance(node, ast.Subscript):
        base = node.value
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        if JAXTYPING.fullmatch(name) or name in {"dict", "Mapping", "Callable"}:
            return False
    return any(_holds_bare_tensor(child) for child in ast.iter_child_nodes(node))


def _public_functions(
    body: list[ast.stmt], prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods that a user can call; functions inside them are not."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not node.name.startswith("_") or node.name.endswith("__")
        ):
            yield f"{prefix}{node.name}", node


def check_shapes(module: Module) -> list[str]:
    """Tensors in public signatures say their shape."""
    found = []
    for name, node in _public_functions(module.tree.body):
        if module.excused("shape", node.lineno, _signature_end(node)):
            continue
        arguments = node.args
        for argument in [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, [arguments.vararg, arguments.kwarg]),
        ]:
            if argument.annotation and _holds_bare_tensor(argument.annotation):
                found.append(
                    f"{module.name}:{node.lineno} {name} takes `{argument.arg}`, a "
                    "tensor without a shape"
                )
        if node.returns and _holds_bare_tensor(node.returns):
            found.append(
                f"{module.name}:{node.lineno} {name} returns a tensor without a shape"
            )
    return found


# Safety, randomness, leftovers, names.


def _call_name(node: ast.Call) -> str:
    return ast.unparse(node.func)


def check_safe_loading(module: Module) -> list[str]:
    """No file that is read can run code: no pickle in any form."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names.append(getattr(node, "module", "") or "")
            for name in {"pickle", "cPickle", "dill", "joblib", "shelve"} & set(names):
                found.append(f"{module.name}:{node.lineno} imports {name}")
        elif isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            name = _call_name(node)
            if name == "torch.load" and keywords.get("weights_only") != "True":
                found.append(
                    f"{module.name}:{node.lineno} torch.load without weights_only=True"
                )
            if keywords.get("allow_pickle", "False") != "False":
                found.append(f"{module.name}:{node.lineno} {name} allows pickle")
    return found


def _draws_global_random(node: ast.Call, module: Module) -> bool:
    owner, _, function = _call_name(node).rpartition(".")
    seeded = "generator" in {keyword.arg for keyword in node.keywords}
    if owner == "torch" and function in {"manual_seed", "seed"}:
        return True
    if owner == "torch" and GLOBAL_RANDOM.fullmatch(function):
        return not seeded
    if IN_PLACE_RANDOM.fullmatch(function) and not owner.endswith("init"):
        return not seeded
    if owner in {"np.random", "numpy.random"}:
        return function[0].islower() and function != "default_rng"
    if owner == "random" and re.search(r"^import random$", module.text, re.MULTILINE):
        return function != "Random"
    return False


def check_randomness(module: Module) -> list[str]:
    """Random numbers come from a generator that was passed in, never a global one."""
    return [
        f"{module.name}:{node.lineno} {_call_name(node)} draws from a global generator"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and _draws_global_random(node, module)
        and not module.excused("random", node.lineno, node.end_lineno or node.lineno)
    ]


def check_leftovers(module: Module) -> list[str]:
    """Nothing is unfinished: no notes to self, no stubs."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT and re.search(
            r"\b(TODO|FIXME|XXX|HACK)\b", token.string
        ):
            found.append(f"{module.name}:{token.start[0]} {token.string.strip()}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Raise) and node.exc:
            error = ast.unparse(node.exc)
            if error.startswith("NotImplementedError"):
                found.append(f"{module.name}:{node.lineno} raises {error}")
    return found


def check_names(module: Module) -> list[str]:
    """No module's name says nothing."""
    vague = VAGUE_NAMES & set(module.name.split("."))
    return [f"{module.name} is called {name}" for name in sorted(vague)]


def _is_abstract(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("abstractmethod" in ast.unparse(d) for d in node.decorator_list)


def check_final(modules: list[Module]) -> list[str]:
    """Every class is abstract or final: what is subclassed has abstract methods.

    Classes are known by their name, which is unique enough within one package. A
    class without methods of its own may inherit its abstract ones.
    """
    classes: dict[str, tuple[str, ast.ClassDef]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name] = (module.name, node)

    def bases(node: ast.ClassDef) -> list[str]:
        return [ast.unparse(base).split(".")[-1] for base in node.bases]

    def open_methods(name: str) -> set[str]:
        """Abstract methods that class `name` leaves to its subclasses."""
        if name not in classes:
            return set()
        node = classes[name][1]
        inherited = set().union(*(open_methods(base) for base in bases(node)))
        own = [n for n in node.body if isinstance(n, ast.FunctionDef)]
        inherited -= {n.name for n in own if not _is_abstract(n)}
        return inherited | {n.name for n in own if _is_abstract(n)}

    found = []
    for name, (module_name, node) in classes.items():
        for base in bases(node):
            if base in classes and base != name and not open_methods(base):
                found.append(f"{module_name}:{node.lineno} {name} subclasses {base}")
    return found
