"""The functions of an engine, which evaluates the images of nets, as functions of scalar ops."""

from __future__ import annotations

from ncc.ir.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.passes.lower.data.forward import Engine


def engine(kinds: Kinds, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
           lanes_data: int = 64) -> Module:
    """Write functions over images (ncc/ir/image.py) of rows of these kinds.

        sum relu(x)
        =>
        func forward(nets indices *, image indices *, reals in *, x in *, y out *, work work *) {
          ...
        }

        func forward_batch(count, nets indices *, image indices *, reals in *, x in *, y out *, ...
          ...
        }

    The code depends on the kinds alone: what differs from net to net is read from the image.
    """
    made = Engine(kinds, dtype, numerics != "strict")
    return Module(name, dtype, numerics, (made.forward("forward", 0),
                                          made.forward("forward_batch", lanes_data)))
