"""Help texts, error messages and guides use the words of the field, not the compiler's old ones."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

import pytest

from ncc.cli import parser
from ncc.errors import ERRORS

ROOT = Path(__file__).parents[2]
GUIDES = sorted(path for path in ROOT.glob("**/*.md") if not path.is_symlink()
                and not {"ncc/grammar", "ncc/passes"} & {path.parent.relative_to(ROOT).as_posix()})
SOURCES = sorted([*ROOT.glob("ncc/**/*.py"), *ROOT.glob("passes/**/*.py")])
# Of the left column of the glossary in ncc/README.md, the words that are never plain English beside
# it, nor typed by users. (A `run`, a `table` or a `window` may be just that.)
PRIVATE = ("road", "sweep", "sweeps", "sweep back", "swept", "slope", "slopes", "desk", "pen",
           "abreast", "take turns", "takes turns", "lanes that repeat", "parts of lanes",
           "dead samples", "dead sample", "crew", "walk", "walks")


def private(text: str) -> list[str]:
    return [word for word in PRIVATE if re.search(rf"\b{word}\b", text, re.IGNORECASE)]


def prose(guide: str) -> str:
    """Without blocks, code words, the change log, and the glossary itself."""
    guide = re.sub(r"^```.*?^```", "", guide, flags=re.MULTILINE | re.DOTALL)
    guide = re.sub(r"^## (Glossary|Change log)\n.*?(?=^## |\Z)", "", guide,
                   flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", guide)


def helps(command: argparse.ArgumentParser) -> list[str]:
    """Each help text of a parser and of those below it."""
    texts = []
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts += [command.help or "" for command in action._choices_actions]
            for below in action.choices.values():
                texts += helps(below)
        else:
            texts.append(action.help or "")
    return texts


def messages(source: str) -> list[str]:
    """The constant parts of all that is given to NccError."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NccError":
            texts += [part.value for part in ast.walk(node)
                      if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return texts


def test_the_glossary_has_each_private_word():
    glossary = (ROOT / "ncc/README.md").read_text().split("## Glossary\n")[1].split("\n## ")[0]
    left = " ".join(row.split("|")[1] for row in glossary.split("\n") if row.startswith("| "))
    for word in ("road", "walk", "sweep back", "slope", "desk", "pen", "abreast", "take turns",
                 "dead samples", "parts of lanes", "lanes that repeat"):
        assert word in left, word


@pytest.mark.parametrize("text, found", [
    ("the whole road", ["road"]), ("The Sweep back", ["sweep", "sweep back"]), ("broadly", []),
    ("a pencil on a desktop", []), ("lanes that repeat the last sample", ["lanes that repeat"]),
])
def test_private_words_are_found(text, found):
    assert private(text) == found


def test_blocks_and_code_words_are_no_prose():
    assert private(prose("a road\n```\nslope\n```\n`desk` ## x\n")) == ["road"]
    assert private(prose("## Glossary\n| road | x |\n## Next\na sweep\n")) == ["sweep"]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guides_use_the_words_of_the_field(path):
    assert not private(prose(path.read_text()))


def test_help_texts_use_the_words_of_the_field():
    texts = helps(parser())
    assert len(texts) > 100 and "compile a net" in texts
    assert [text for text in texts if private(text)] == []
    assert all(texts), "an option without a help text"


def test_errors_use_the_words_of_the_field():
    assert [fault.title for fault in ERRORS.values() if private(fault.title)] == []
    found = {path.name: text for path in SOURCES for text in messages(path.read_text())
             if private(text)}
    assert found == {}
