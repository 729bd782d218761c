"""The pictures in the docstrings of passes are true: the text on the left becomes the right one.

A picture is an indented block with a `=>` in it, beside two columns of text or on a line of its
own between two texts. A first line `// name=value ...` gives options; what follows `//` elsewhere
is a comment. `...` stands for what the picture leaves out; an ssa text may leave out its head.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import pytest
from texts import PASSES, level, matches, options

from ncc.driver.pipeline import departs
from ncc.errors import NccError, Source
from ncc.ir.graph_text import read
from ncc.ir.plan import Plan
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place

HEAD = "module net f32 fused\n\n"

# Plans of these are what pictures that start from a plan show, which leave out most of a text.
GRAPHS = """\
graph 04
inputs 00
outputs 03
values 1.0 1.0 1.0
constants
00 @0 input
01 @1 tanh sum 00*p0
02 @2 tanh sum 01*p1
03 @3 tanh sum 02*p2

graph 03
inputs 00 01
outputs 02
values 1.0 1.0
constants
00 @0 input
01 @0 input
02 @1 relu sum 00*p0 01*p1
""".split("\n\n")


class Picture(NamedTuple):
    options: dict[str, Any]
    before: str
    after: str


def pictures(doc: str) -> list[Picture]:
    """The pictures of a docstring, its indentation taken off."""
    found = []
    for block in re.findall(r"(?:^    .*\n(?:\n+(?=    ))?)+", doc, re.MULTILINE):
        lines = [line[4:] for line in block.rstrip("\n").split("\n")]
        chosen = options(lines.pop(0)[2:].split()) if lines[0].startswith("//") else {}
        arrows = [k for k, line in enumerate(lines) if "=>" in line]
        if not arrows:
            continue
        found.append(_picture(chosen, lines, arrows))
    return found


def _picture(chosen: dict[str, Any], lines: list[str], arrows: list[int]) -> Picture:
    (at,) = arrows
    if lines[at] == "=>":
        left, right = lines[:at], lines[at + 1 :]
    else:
        column = lines[at].index("=>")
        assert all(line[column - 1 : column + 2].strip() in ("", "=>") for line in lines)
        left = [line[:column] for line in lines]
        indent = min(len(line) - len(line[column + 2 :].lstrip()) for line in lines
                     if line[column + 2 :].strip())
        right = [line[indent:] for line in lines]
    before, after = ("\n".join(re.sub("//.*", "", line).rstrip() for line in side).strip("\n")
                     + "\n" for side in (left, right))
    return Picture(chosen, before, after)


ALL = [pytest.param(name, picture, id=f"{name}-{k}") for name, call in PASSES.items()
       for k, picture in enumerate(pictures(inspect.cleandoc(call.__doc__ or "") + "\n"))]


@pytest.mark.parametrize(("name", "picture"), ALL)
def test_a_picture_is_true(name: str, picture: Picture) -> None:
    before = picture.before
    headless = re.match("(func|internal|pure) ", before) is not None
    if departs(PASSES[name]) is Plan:
        plans = [group(read(Source("g", g)), form="straight", batch_form="straight",
                       backward_form="straight", gradient=True) for g in GRAPHS]
        start = next(p for p in [*map(place, plans), *plans] if matches(before, str(p)))
    else:
        start = level(name, Source("picture", HEAD * headless + before))
    try:
        after = str(PASSES[name](start, **picture.options))
    except NccError as error:
        after = f"{error}\n"
    assert matches(picture.after, after.removeprefix(HEAD).rstrip("\n") + "\n"), after


def test_every_pass_shows_a_picture() -> None:
    assert {param.values[0] for param in ALL} == set(PASSES)


def test_a_picture_can_be_untrue() -> None:
    (side,) = pictures("Text.\n\n    // limit=3 x=1.0,2.0\n    a %1 {    =>    b // why\n"
                       "      c\n    }               ...\n\nMore.\n")
    assert side == Picture({"limit": 3, "x": [1.0, 2.0]}, "a %1 {\n  c\n}\n", "b\n\n...\n")
    (above,) = pictures("Text.\n\n    a\n\n    b\n    =>\n    c\n")
    assert above == Picture({}, "a\n\nb\n", "c\n")
    assert matches("a\n  ...\nb...\n", "a\n1\n2\nbc\n") and not matches("a\n...\nb\n", "a\nc\n")
