"""The package as a library: the example of docs/library.md, and what is at the package's top."""

import ast
import importlib
import re
import subprocess
import sys

import equations
import jax
import numpy as np
import optax
import pytest
from small_runs import ROOT

import segadv_jax

PAGE = ROOT / "docs" / "library.md"
INIT = ROOT / "segadv_jax" / "__init__.py"


@pytest.fixture(scope="module")
def example():
    """The variables of the example's program, after it has run."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for line in code.splitlines() if line]
    assert len(lines) < 40, "it is to be read at a glance"
    variables = {"__name__": "example"}
    exec(code, variables)
    return variables


def by_equations(example):
    """Eqs. 3 and 2 written out, as functions of the parameters of both players, on its batch."""
    image, label, size = (example[name] for name in ("image", "label", "size"))
    cells = equations.cell_labels(np.asarray(label))

    def judge(a):
        return lambda label_map: example["adversary"].apply(a, label_map, image, size)

    def eq_3(s, a):
        logits = example["segmenter"].apply(s, image)
        term = equations.adversarial_term(judge(a), logits, cells)
        return equations.mce(logits, cells) + 0.1 * term

    def eq_2(s, a):
        logits = example["segmenter"].apply(s, image)
        return equations.adversary_loss(judge(a), logits, cells)

    return eq_3, eq_2


def test_the_examples_losses_are_those_of_the_paper(example):
    s, a = example["params"]["s"], example["params"]["a"]
    batch = [example[name] for name in ("image", "label", "size")]
    found = example["both_losses"](s, a, *batch)
    expected = [jax.jit(equation)(s, a) for equation in by_equations(example)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[0] < 0.8  # It has learned: the three classes are equally frequent, ln 3 is 1.1.


def test_the_examples_players_follow_their_own_losses_alone(example):
    params, state = example["params"], example["state"]
    s, a = params["s"], params["a"]
    eq_3, eq_2 = by_equations(example)

    @jax.jit
    def expect(s, a):
        grads = {"s": jax.grad(eq_3)(s, a), "a": jax.grad(eq_2, 1)(s, a)}
        changes, _ = example["optimizer"].update(grads, state)
        return optax.apply_updates(params, changes)

    expected = expect(s, a)
    batch = [example[name] for name in ("image", "label", "size")]
    found, _ = example["step"](params, state, *batch)
    for player in ("s", "a"):
        moved = optax.tree.norm(optax.tree.sub(expected[player], params[player]))
        apart = optax.tree.norm(optax.tree.sub(expected[player], found[player]))
        assert moved > 0 and apart < 1e-3 * moved, player


def typed_names():
    """{name: (module, name there)} of what type checkers are shown."""
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    return {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }


def test_what_type_checkers_see_is_what_programs_get():
    names = typed_names()
    assert sorted(names) == sorted(set(segadv_jax.__all__) - {"VOID"})
    for name, (module, original) in names.items():
        if module == "segadv_jax":
            expected = importlib.import_module(f"{module}.{original}")
        else:
            expected = getattr(importlib.import_module(module), original)
        assert getattr(segadv_jax, name) is expected, name


def test_names_are_listed_and_others_are_unknown():
    assert set(segadv_jax.__all__) <= set(dir(segadv_jax))
    with pytest.raises(AttributeError, match="module 'segadv_jax' has no attribute 'nonsense'"):
        segadv_jax.nonsense  # noqa: B018


def test_importing_the_package_costs_nothing_and_using_it_needs_no_tensorflow():
    code = """
import sys
import segadv_jax
heavy = {"flax", "jax", "numpy", "optax"} & set(sys.modules)
assert not heavy, heavy
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None  # Cannot be imported.
from segadv_jax import *
assert callable(downsample_labels) and callable(predictor.from_weights), dir()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
