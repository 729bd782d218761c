"""The functions of an engine, which evaluates the images of nets, as functions of scalar ops."""

from __future__ import annotations

from ncc.images.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.passes.lower.data.forward import Forward
from ncc.passes.lower.data.rows import Rows
from ncc.passes.lower.data.step import step_of


def engine(kinds: Kinds, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
           lanes_data: int = 64) -> Module:
    """Write functions over images (ncc/images/image.py) of rows of these kinds.

        sum relu(x)
        =>
        func forward(nets indices *, image indices *, reals in *, x in *, y out *, work work *) {
          ...
        }

        func forward_batch(count, nets indices *, image indices *, reals in *, x in *, y out *, ...
          ...
        }

        func step(blocks indices *, reals in *, x in *, y out *, work work *) {
          ...
        }

    The code depends on the kinds alone: what differs from net to net is read from the image.
    """
    rows = Rows(kinds, dtype, numerics != "strict")
    made = Forward(rows)
    return Module(name, dtype, numerics, (
        made.forward("forward", 0), made.forward("forward_batch", lanes_data), step_of(rows)))
