"""README.md and the pages for people: their links lead somewhere, their commands are understood."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from segadv_jax import cli, configuration

ROOT = Path(__file__).resolve().parent.parent
# Pages of results show commands as they were when the results were made.
GUIDES = ("own_images", "predicting", "export", "runs", "configuration", "voc", "seeds", "figures")
GUIDES += ("pods", "scale", "library")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = ("segadv_jax ", "python main.py ", "python -m tools.")


def commands(page):
    """The commands in a page's blocks of code, as lists of words."""
    blocks = [code for language, code in BLOCK.findall(page.read_text()) if language in ("", "sh")]
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        if line.startswith(OURS):
            words = shlex.split(line, comments=True)
            yield words[1:] if words[0] == "segadv_jax" else words[2:]


def parse(words):
    """Raises an error unless the command and its arguments are known."""
    if words[0].startswith("--"):  # Of main.py.
        mode = next((x.removeprefix("--mode=") for x in words if x.startswith("--mode=")), "train")
        words = [mode, *(word for word in words if not word.startswith("--mode="))]
    name, *words = words
    assert name.startswith("tools.") or name in cli.COMMANDS
    module = name if name.startswith("tools.") else f"segadv_jax.commands.{name}"
    words = words[: words.index("--")] if "--" in words else words
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    importlib.import_module(module).add_arguments(parser)
    fields = [word for word in words if word.startswith("--config.")]
    options = parser.parse_args([word for word in words if word not in fields])
    config = getattr(options, "config", None)
    if isinstance(config, str) and config != "...":
        configuration.load(config, fields)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", BLOCK.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["README", *GUIDES])
def test_commands_are_understood(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = ROOT / "README.md" if name == "README" else ROOT / "docs" / f"{name}.md"
    found = list(commands(page))
    assert found or name in ("configuration", "library", "runs", "pods", "own_images")
    for words in found:
        parse(words)
