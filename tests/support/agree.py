"""An observer of the pipeline that interprets every level on the way."""

from __future__ import annotations

from objects import same

from ncc.driver.net_module import interpret
from ncc.driver.observe import Watcher
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module


class Every:
    """Interprets the level after every pass, and compares with the graph's own answer."""

    def __init__(self, x, params, dtype, numerics):
        self.x, self.params, self.dtype, self.numerics = x, params, dtype, numerics
        self.y = None
        self.prover = Watcher(verify_each=True)

    def before(self, step, level, params):
        self.prover.before(step, level)

    def after(self, step, old, new, seconds, params):
        self.prover.after(step, old, new, seconds)
        if isinstance(new, Module):
            y = interpret(new, self.x, self.params)
            if step.name in ("lower", "split"):
                same(interpret(new, self.x, self.params, batch=True), y)
        elif hasattr(new, "run"):
            y = new.run(self.x, self.params, dtype=self.dtype, numerics=self.numerics)
            if isinstance(new, Plan):
                same(new.run(self.x[0], self.params, self.dtype, self.numerics), y[0])
        else:
            return
        if self.y is None:
            self.y = y
        try:
            same(y, self.y)
        except AssertionError as error:
            raise AssertionError(f"after {step.name}: {error}") from None
