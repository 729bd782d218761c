"""Nets whose rows share in-lists: dense layers, convolutions, RadiX-Nets, and a mixture."""

from __future__ import annotations

import numpy as np

import ncc
from ncc.ir.graph import AGGREGATIONS


def net_of(lines, inputs, seed=0):
    """A net of `lines` behind its inputs, with weights where they have none."""
    n = inputs + len(lines)
    net = ncc.parse("\n".join([f"N {n:x}", *[f"{i:x}" for i in range(inputs)], *lines]) + "\n")
    values = np.random.default_rng(seed).standard_normal(net.graph.n_params)
    held = net.graph.values
    return ncc.Net(net.graph.with_(values=np.where(np.isnan(held), values, held)))


def sources(indices):
    return ",".join([f"{i:x}" for i in indices])


def dense(*widths, how="tanh", bias=" +"):
    lines, base, at = [], 0, widths[0]
    for before, width in zip(widths, widths[1:], strict=False):
        read = sources(range(base, base + before))
        lines += [f"{j:x} {how} {read}{bias}" for j in range(at, at + width)]
        base, at = base + before, at + width
    return net_of(lines, widths[0])


def patches(filters=5, side=6, tied=False):
    """A convolution of 3x3 without padding, by `filters` filters, and a dense layer behind it."""
    lines, at = [], side * side
    for y in range(side - 2):
        for x in range(side - 2):
            patch = [(y + a) * side + x + b for a in range(3) for b in range(3)]
            for f in range(filters):
                read = ",".join([f"{i:x}" + (f"@k{f}_{k}" if tied else "")
                                 for k, i in enumerate(patch)])
                lines.append(f"{at:x} relu {read} +" + (f"@b{f}" if tied else ""))
                at += 1
    last = range(side * side, at)
    lines += [f"{at + k:x} 0 {sources(last)} +0.5" for k in range(3)]
    return net_of(lines, side * side)


def radix(width=64, depth=3, copies=4):
    """The sources of RadiX-Net: `copies` neurons read the same ones."""
    n, lines, at = width // copies, [], width
    for level in range(depth):
        base = at - width
        for j in range(width):
            i = j % n
            read = sorted({(i + (k << level)) % n + c * n for k in range(2) for c in range(copies)})
            lines.append(f"{at:x} relu {sources(base + s for s in read)} +-0.1")
            at += 1
    return net_of(lines, width)


def mixed():
    """Rows that share, rows that do not, all aggregations, some biases, skips and ties."""
    rng = np.random.default_rng(5)
    lines, at = [], 12
    for level in range(4):
        base = max(0, at - 40)
        for agg in AGGREGATIONS:
            read = sorted(rng.choice(np.arange(base, at if level else 12), 7, replace=False))
            word = "" if agg == "sum" else f"{agg} "
            edges = sources(read)
            if agg == "dot":  # and a square
                edges = ",".join([f"{a:x}*{b:x}" for a, b in zip(read, read[3:] + read[-1:] * 3,
                                                                 strict=True)])
            for k in range(3 + level * 2):
                bias = ("", " +", " +=0.25")[k % 3]
                lines.append(f"{{}} {('tanh', 'relu')[level % 2]} {word}{edges}{bias}")
        for _ in range(5):
            read = sorted(rng.choice(np.arange(base, at if level else 12), 4, replace=False))
            lines.append("{} sigmoid " + ",".join(f"{i:x}@t" for i in read))
        lines[at - 12 :] = [line.format(f"{at + k:x}") for k, line in enumerate(lines[at - 12 :])]
        at = 12 + len(lines)
    return net_of(lines, 12)
