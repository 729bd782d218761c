"""The way back over images, as a function of scalar ops."""

from __future__ import annotations

from ncc.images.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.passes.lower.data.backward import Back


def gradients(kinds: Kinds, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
              lanes_back: int = 64, unroll: int = 8, native: int = 16) -> Module:
    """Write the backward pass over the image of one net (ncc/images/image.py) with rows of these
    kinds, and that of its way back (ncc/images/image_back.py), made for the same `unroll`.

        sum relu(x)
        =>
        func backward_batch(count, image indices *, back indices *, reals in *, x in *, dy in *, ...
          ...
        }
    """
    made = Back(kinds, dtype, numerics != "strict", lanes_back, unroll, max(4, native))
    return Module(name, dtype, numerics, (made.function(),))
