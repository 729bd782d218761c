"""tests/cases/<pass>/<fact>.txt: what a pass makes of a text, and what it must leave alone.

A file is `pass: NAME option=value ...`, the input, `---`, what is expected. `pytest --bless`
writes what the passes give now, to be read in the diff. Passes that keep every bit are proved
and run besides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from modules import evaluate

from ncc.errors import Source
from ncc.ir.equivalence import prove
from ncc.ir.ssa import Module
from ncc.ir.ssa_text import read
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.expand import expand
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split

PASSES: dict[str, Callable[..., Module]] = {
    "fold": fold, "cse": cse, "dce": dce, "expand": expand, "split": split,
}
CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(f for name in PASSES for f in (CASES / name).glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_case(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    given, _, expected = text.partition("---\n")
    head = given.split("\n", 1)[0].removeprefix("pass: ").split()
    assert head[0] == path.parent.name
    options = {k: int(v) for k, v in (word.split("=") for word in head[1:])}
    # The header stays as a line without words, so that places in messages are those of the file.
    before = read(Source(str(path), "\n" + given.split("\n", 1)[1]))
    after = PASSES[head[0]](before, **options)
    after.verify()
    if head[0] != "expand":
        prove(before, after)
    written, now = evaluate(before), evaluate(after)
    assert written.keys() == now.keys()
    for name, held in written.items():
        np.testing.assert_array_equal(held, now[name], name)
    if request.config.getoption("--bless"):
        path.write_text(f"{given}---\n{after}")
    assert str(after) == path.read_text().partition("---\n")[2]


def test_every_pass_has_cases() -> None:
    assert {f.parent.name for f in FILES} == set(PASSES)
