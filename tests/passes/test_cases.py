"""tests/cases/<pass>/<fact>.txt: what a pass makes of a text, and what it must leave alone.

A file is `pass: NAME option=value ...`, the input, `---`, what is expected: a text of the level, or
an error. `pytest --bless` writes what the passes give now, to be read in the diff. What comes out
is verified, reads back, and computes the same, gradients too where it has them; ssa passes that
keep every bit are proved besides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modules import evaluate
from texts import PASSES, READ, level, options

from ncc.driver.compare import answers, gradients, same_steps
from ncc.driver.observe import PROVED
from ncc.driver.pipeline import arrives, departs
from ncc.errors import NccError, Source
from ncc.ir.equivalence import prove
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module

CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(CASES.glob("*/*.txt"))


def bits(y: Any) -> Any:
    """The bits of reals, NaNs all alike."""
    return np.where(np.isnan(y), -1, y.view(np.int32))


def same_function(before: Graph, after: Graph, *, numerics: str = "fused",
                  params: list[float] | None = None) -> bool:
    """Whether two graphs compute the same of samples with all that is special: the same bits, but
    for `fast`, where infinities and NaNs are the caller's business."""
    rng = np.random.default_rng(7)
    special = [] if numerics == "fast" else [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38]
    x = rng.choice(np.array([*special, 1.0, -1.0, 0.5, 3.0, -0.75], np.float32),
                   (4, 64, before.n_inputs) if len(before.states) else (64, before.n_inputs))
    values = rng.choice([0.5, -1.0, 2.0, 0.25], before.n_params) if params is None else params
    with np.errstate(all="ignore"):
        y, again = (g.run_steps(x, values, numerics=numerics) if len(before.states)
                    else g.run(x, values, numerics=numerics) for g in (before, after))
    if numerics == "fast":
        return bool(np.allclose(y, again, rtol=1e-5))
    return bool((bits(y) == bits(again)).all())


def same_answers(before: Any, after: Any, numerics: str) -> None:
    """Two levels compute the same, to the bit; gradients too, where the second has them."""
    values = (before if isinstance(before, Graph) else before.graph).values
    both = [answers(level, values, "f32", numerics) for level in (before, after)]
    if None not in both:
        for a, b in zip(*both, strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))
    both = [gradients(level, values, "f32", numerics) for level in (before, after)]
    if None not in both:
        for (what, a), (_, b) in zip(*both, strict=True):
            np.testing.assert_array_equal(a, b, what)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_case(path: Path, request: pytest.FixtureRequest) -> None:
    given, _, _ = path.read_text().partition("---\n")
    head = given.split("\n", 1)[0].removeprefix("pass: ").split()
    name, chosen = head[0], options(head[1:])
    assert name == path.parent.name
    # The header stays as a line without words, so that places in messages are those of the file.
    source = Source("case", "\n" + given.split("\n", 1)[1])
    before = level(name, source, **{k: chosen.pop(k) for k in ["format"] if k in chosen})
    try:
        after = PASSES[name](before, **chosen)
        result = str(after)
    except NccError as error:
        after, result = None, f"{error}\n"
    if request.config.getoption("--bless"):
        path.write_text(f"{given}---\n{result}")
    assert result == path.read_text().partition("---\n")[2]
    if after is None:
        return
    after.verify()
    assert str(READ[arrives(PASSES[name])](Source("again", result))) == result
    if name == "unroll" and chosen:
        same_steps(name, before, after, None, "f32", "fused")
    elif isinstance(before, Graph) and isinstance(after, Graph):
        assert same_function(before, after, **chosen)
    if isinstance(before, Plan) or isinstance(after, Plan):
        same_answers(before, after, chosen.get("numerics", "fused"))
    if isinstance(before, Module):
        if name in PROVED:
            prove(before, after)
        written, now = evaluate(before), evaluate(after)
        assert written.keys() == now.keys()
        for buffer, held in written.items():
            np.testing.assert_array_equal(held, now[buffer], buffer)


def test_every_pass_has_cases() -> None:
    """Every pass between levels whose texts read back, and four facts at least of each."""
    wanted = {name for name, call in PASSES.items()
              if departs(call) in READ and arrives(call) in READ}
    assert {f.parent.name for f in FILES} == wanted
    for name in wanted:
        assert len(list((CASES / name).glob("*.txt"))) >= 4, name
