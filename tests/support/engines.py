"""Engines and images of random nets; images that were tampered with."""

from __future__ import annotations

import subprocess

import numpy as np
from nets import some_net, to_nal

import ncc
from ncc.driver.engine import Emitted
from ncc.driver.settings import options
from ncc.images.image import AT, HEAD, Head, image, sealed
from ncc.images.kinds import kinds_of
from ncc.ir.graph import AGGREGATIONS
from ncc.machine.llvm import host

FULL = (1 << 32) - 1
SUM, MEAN = AGGREGATIONS.index("sum"), AGGREGATIONS.index("mean")


def nets(seeds, max_neurons=24):
    """Graphs of random nets whose rows are of few kinds, since an engine's compile takes as long as
    it has kinds: sums of three activations, and what are no sums as two of them."""
    made = []
    for seed in seeds:
        g = ncc.parse(to_nal(some_net(seed, max_neurons=max_neurons))).graph
        sums = g.aggregations == SUM
        acts = np.where(sums, 1 + g.activations % 3, 3).astype(g.activations.dtype)
        made.append(g.with_(
            activations=np.where(g.activations < 0, g.activations, acts), functions={},
            aggregations=np.where(sums, SUM, MEAN + g.aggregations % 2).astype(np.int8)))
    return made


def emitted(kinds, dtype="f32", target=None, numerics=None, **more):
    aim = target or host()
    return Emitted(kinds, aim, options(aim, dtype=dtype, numerics=numerics, name="net", **more))


def written(folder, made):
    """The object and the header of an engine, as net.o and net.h; the object."""
    (folder / "net.o").write_bytes(made.made.code)
    (folder / "net.h").write_text(made.header())
    return folder / "net.o"


def images(graphs, dtype):
    """The kinds of the nets, and the image of each for an engine of all these kinds."""
    kinds = kinds_of(graphs)
    return kinds, [image(g, kinds, dtype, g.values) for g in graphs]


def aligned(data):
    """The bytes at an address that 64 divides, with nothing behind them."""
    room = np.empty(len(data) + 64, np.uint8)
    first = -room.ctypes.data % 64
    block = room[first : first + len(data)]
    block[:] = data
    return block


def resealed(block):
    """With the checksum of the bytes that it says to have, where it has them."""
    words = block[: len(block) // 4 * 4].view(np.uint32)
    size = int(words[AT["size"]])
    if 4 * HEAD <= size <= len(block) and size % 4 == 0:
        sealed(block[:size])
    return block


def tampered(block, rng):
    """An image after one of many accidents and attacks; most of them with a new checksum."""
    block = aligned(block)
    words = block.view(np.uint32)
    how = rng.integers(8)
    if how == 0:  # bits flip
        for at in rng.integers(len(block), size=rng.integers(1, 4)):
            block[at] ^= 1 << rng.integers(8)
        return block
    if how == 1:  # the end is missing
        return aligned(block[: rng.integers(1, len(block))])
    if how == 2:  # bytes follow
        return aligned(np.concatenate([block, rng.integers(256, size=100).astype(np.uint8)]))
    if how == 3:  # two words of the head change places
        a, b = rng.integers(len(Head._fields), size=2)
        words[[a, b]] = words[[b, a]]
    else:  # one word, or a few, are another number
        for _ in range(rng.integers(1, 3)):
            at = rng.integers(len(Head._fields) if how < 6 else len(words))
            old = int(words[at])
            new = rng.choice(np.array([
                0, 1, FULL, FULL - 1, 1 << 31, 1 << 30, (1 << 30) - 1, old + 1, old - 1, old + 64,
                old - 64, 2 * old, rng.integers(64), rng.integers(FULL), len(words),
                len(words) - old, words[at - 1], words[(at + 1) % len(words)]]))
            words[at] = int(new) & FULL
    return resealed(block)


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, **more)
    assert done.returncode == 0, (command, done.returncode, done.stdout[-2000:],
                                  done.stderr[-4000:])
    return done.stdout
