"""Who may import whom: cli -> commands -> train, evaluate -> train_step -> losses -> models."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "segadv_jax"

# What each part may import of the package, itself, the parts that all may import and VOID aside. A
# new part needs a line here, which is where its place in the house is decided.
FOR_ALL = {"configs", "errors", "files", "limits", "shapes"}
STEPS = {"alternation", "augment", "devices", "encodings", "eval_step", "losses", "metrics"}
STEPS |= {"controls", "game", "scene", "soundness"}
STEPS |= {"models", "optimizers", "prediction", "resampling", "train_state", "train_step"}
PARTS = {"checkpoints", "configuration", "data", "experiment", "initialize", "weights"}
PARTS |= {"class_balance", "drawing", "feature_cache", "progress", "visualize", "workdir"}
LOOPS = (
    STEPS
    | PARTS
    | {
        "conditions",
        "corrections",
        "environment",
        "evaluate",
        "health",
        "hosts",
        "journal",
        "predicted",
        "predictor",
        "signals",
        "streams",
        "preparation",
        "training_run",
        "validation",
        "watcher",
    }
)
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "shapes": set(),
    "limits": set(),
    "signals": set(),
    "compilation": set(),
    "models": set(),
    "encodings": set(),
    "resampling": {"models"},
    "colour": set(),
    "augment": {"colour", "resampling"},
    "controls": set(),
    "losses": {"controls"},
    "alternation": set(),
    "optimizers": {"alternation"},
    "soundness": {"alternation"},
    "conditions": {"workdir"},
    "health": {"conditions", "metrics", "workdir"},
    "watcher": {"health", "workdir"},
    "train_state": set(),
    "metrics": set(),
    "drawing": set(),
    "visualize": {"drawing"},
    "data": {"progress"},
    "devices": set(),
    "prediction": {"models", "resampling"},
    "scene": STEPS - {"eval_step", "game", "metrics", "scene", "train_step"},
    "game": STEPS - {"eval_step", "game", "metrics", "train_step"},
    "train_step": STEPS - {"eval_step", "metrics", "train_step"},
    "eval_step": STEPS - {"eval_step", "train_step", "augment", "game", "optimizers", "scene"},
    "weights": {"models"},
    "environment": set(),
    "hosts": {"last_words", "signals"},
    "last_words": set(),
    "workdir": {"metrics"},
    "checkpoints": {"last_words", "metrics", "train_state", "workdir"},
    "configuration": {"models", "workdir"},
    "class_balance": {"data", "models"},
    "feature_cache": {"augment", "data", "models", "prediction", "resampling"},
    "experiment": STEPS | {"configuration", "data"},
    "initialize": STEPS | {"checkpoints", "weights", "workdir"},
    "predictor": STEPS | PARTS,
    "predicted": {"data", "visualize"},
    "export": {"models", "prediction"},
    "evaluate": STEPS | PARTS | {"predictor"},
    "corrections": STEPS | PARTS | {"evaluate", "predictor"},
    "validation": STEPS | PARTS | {"evaluate"},
    "journal": {"alternation", "metrics", "progress", "soundness", "workdir"},
    "progress": set(),
    "streams": STEPS | PARTS,
    "training_run": LOOPS - {"preparation", "training_run"},
    "preparation": LOOPS - {"preparation"},
    "train": LOOPS,
    "campaign": {"configuration", "metrics", "signals", "workdir"},
    "report": LOOPS | {"campaign"},
    "benchmark": STEPS | {"data"},
    "commands": LOOPS | {"campaign", "compilation", "export", "report", "train"},
    "cli": {"compilation", "hosts", "last_words", "signals"},
    "__main__": {"cli"},
}
# Third-party packages that only some parts may import: the numerics run without them.
ONLY_IN = {
    "tensorflow": {"data"},
    "tensorflow_datasets": {"data"},
    "clu": {"journal"},
    "orbax": {"checkpoints"},
    "etils": {"files"},
    "jax2onnx": {"export"},
    "onnxruntime": {"export"},
}
WITHOUT_TENSORFLOW = ("alternation", "augment", "devices", "encodings", "errors", "files")
WITHOUT_TENSORFLOW += ("eval_step", "losses", "metrics", "models", "optimizers", "prediction")
WITHOUT_TENSORFLOW += ("drawing", "train_state", "train_step", "visualize", "weights", "workdir")
WITHOUT_TENSORFLOW += (
    "class_balance",
    "colour",
    "data",
    "data.arrays",
    "data.order",
    "data.photographs",
    "data.scenes",
    "data.unlabelled",
    "feature_cache",
)
WITHOUT_TENSORFLOW += ("benchmark", "benchmark.contenders", "benchmark.measure")
# Below them: plain values.
SEE_THE_CONFIG = {
    "health",
    "train",
    "streams",
    "preparation",
    "training_run",
    "validation",
    "corrections",
    "evaluate",
    "predictor",
    "experiment",
}
SEE_THE_CONFIG |= {"configuration", "workdir", "campaign", "report", "commands"}
BLOCKED = ("tensorflow", "tensorflow_datasets", "clu", "ml_collections")

BLOCKER = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(name + " is not to be imported here", name=name)

sys.meta_path.insert(0, Blocker())
for name in {blocked}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(name + " was not blocked")
for name in {modules}:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        if name not in ("segadv_jax.data", "segadv_jax.benchmark"):  # Parts of them need more.
            importlib.import_module(found.name)
"""


def imports(source, module, is_package=False):
    """Absolute dotted names that a module imports, anywhere in it, `from` names included."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") + ["__init__"] * is_package
            base = ".".join([*parts[: -node.level or None], *filter(None, [node.module])])
            base = base if node.level else node.module
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def within(name, prefixes):
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


def within_any(names, library):
    return any(within(name, {library}) for name in names)


def dotted(path):
    """segadv_jax/data/order.py -> segadv_jax.data.order; an __init__.py -> its folder's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_imports():
    """(module below the package, names that it imports) of every module; the root file aside."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        module = dotted(path)
        if module != PACKAGE:
            yield (
                module.removeprefix(f"{PACKAGE}."),
                imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"),
            )


@pytest.mark.parametrize(
    ("statement", "is_package", "expected"),
    [
        ("import tensorflow.io as tf, numpy", False, {"tensorflow.io", "numpy"}),
        ("from segadv_jax import files, losses", False, {"segadv_jax.files", "segadv_jax.losses"}),
        ("def f():\n  from segadv_jax.losses import a", False, {"segadv_jax.losses.a"}),
        ("from . import order", False, {"segadv_jax.data.order"}),
        ("from .order import permutation", True, {"segadv_jax.data.pipeline.order.permutation"}),
        ("from ..losses import a as b", False, {"segadv_jax.losses.a"}),
        ("if x:\n  try:\n    import clu\n  except ImportError:\n    pass", False, {"clu"}),
    ],
)
def test_imports_are_found(statement, is_package, expected):
    assert imports(statement, "segadv_jax.data.pipeline", is_package) == expected


def test_every_part_has_its_place():
    parts = {module.partition(".")[0] for module, _ in package_imports()}
    assert parts == set(MAY_IMPORT)


def test_parts_import_only_what_lies_below_them():
    for module, names in package_imports():
        part = module.partition(".")[0]
        allowed = {f"{PACKAGE}.{name}" for name in MAY_IMPORT[part] | FOR_ALL | {part}}
        own = {name for name in names if within(name, {PACKAGE})} - {f"{PACKAGE}.VOID"}
        wrong = sorted(name for name in own if not within(name, allowed))
        assert not wrong, f"{PACKAGE}.{module} must not import {', '.join(wrong)}"


def test_no_part_imports_one_that_imports_it():
    for part, allowed in MAY_IMPORT.items():
        for other in allowed:
            other = other.partition(".")[0]
            assert part not in MAY_IMPORT[other], f"{part} and {other} may import each other"


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_library_is_imported_only_where_it_belongs(library):
    users = {module for module, names in package_imports() if within_any(names, library)}
    assert users, f"nothing imports {library}; is the rule out of date?"
    assert not sorted(user for user in users if not within(user, ONLY_IN[library]))


def test_only_the_loops_and_the_factories_see_the_config():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        takes_config = any(
            # A builder's config, in data/, is TFDS's: what it prepares.
            isinstance(n, ast.arg) and n.arg == "config" and "Config |" not in ast.unparse(n)
            for n in ast.walk(tree)
        )
        part = path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]
        assert not takes_config or part in SEE_THE_CONFIG, f"{path.name} takes the config"


def test_the_root_of_the_package_imports_nothing_but_for_type_checkers():
    tree = ast.parse((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]  # TYPE_CHECKING, not.
    assert imports(ast.unparse(tree), PACKAGE) == {"typing.TYPE_CHECKING"}


def test_configs_import_nothing_heavy():
    paths = sorted((ROOT / "configs").glob("*.py"))
    assert paths
    light = {"ml_collections", *sys.stdlib_module_names}
    for path in paths:
        names = imports(path.read_text(encoding="utf-8"), dotted(path), path.stem == "__init__")
        heavy = sorted(
            name
            for name in names
            if name.partition(".")[0] not in light and not within(name, {f"{PACKAGE}.configs"})
        )
        assert not heavy, f"{path.name} imports {', '.join(heavy)}"


def test_main_only_hands_over():
    names = imports((ROOT / "main.py").read_text(encoding="utf-8"), "main")
    assert names == {f"{PACKAGE}.cli"}


def test_programs_do_not_import_programs():
    programs = [*(ROOT / "tools").glob("*.py"), *(ROOT / PACKAGE / "commands").glob("*.py")]
    for path in programs:
        names = imports(path.read_text(encoding="utf-8"), dotted(path), path.stem == "__init__")
        others = {f"{PACKAGE}.commands.{other.stem}" for other in programs}
        wrong = sorted(name for name in names if within(name, others | {"tools"}))
        assert not wrong, f"{path} imports {', '.join(wrong)}"


def test_numerics_run_without_tensorflow():
    modules = [f"{PACKAGE}.{name}" for name in WITHOUT_TENSORFLOW]
    code = BLOCKER.format(blocked=BLOCKED, modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
