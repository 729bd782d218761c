"""Builds whose ops carry their neurons, for tests of that."""

from __future__ import annotations

from nets import some_net, to_nal

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import Settings
from ncc.ir.ssa import UNLINKED, Func
from ncc.machine.llvm import target

STRAIGHT = {"form": "straight", "batch_form": "straight", "backward_form": "straight"}
TINY = "N 04\n00\n01\n02 relu 00:2,01:-1 +0.5\n03 00 02:3,00\n"


def build_of(text: str, aim: str = "x86-64-v3", numerics: str | None = None, **more) -> Build:
    graph = ncc.parse(text).graph
    return Build.of(graph, target(aim), Settings(cache=False, numerics=numerics), limit=False,
                    **{**STRAIGHT, **more})


def random_build(seed: int, aim: str = "x86-64-v3", size: int = 30, **more) -> Build:
    return build_of(to_nal(some_net(seed, max_neurons=size)), aim, "strict", **more)


def linked_ops(func: Func) -> tuple[int, int]:
    """Of a function how many ops have a neuron, and how many there are."""
    assert func.neurons is not None and len(func.neurons) == len(func.ops)
    return sum(n != UNLINKED for n in func.neurons), len(func.ops)
