"""The text svg: a net as a picture, inputs on the left, outputs on the right.

One file that needs nothing else: no script, no font, no id that another picture on the same page
could have, too. The width of an edge is the absolute value of its weight, or how many edges it
stands for; its colour is the sign, blue and orange, which the colour-blind tell apart. What it says
of a node or an edge is in its tooltip. Text and borders have the colour of the text around it; as a
file of its own it is dark where the reader's screen is (`prefers-color-scheme`).

`data-n` of a node is the index of its neuron, for scripts of a page around it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from math import log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.graph import Longs
from ncc.report.layout import Layout, layout
from ncc.report.picture import Node, Picture, clipped

TALL = 24  # nodes in a column; of more, neurons are dots
TOLD = 400  # edges; of more, there is one path for all of a width and sign, without a tooltip
WIDTHS = 6
NAME, WORDS, TIP = 24, 30, 400  # characters
MARGIN = 14
DOT = 13  # from a dot to the next
SIGNS = "gpnz"  # classes of edges: grey, positive, negative, without a value or several

STYLE = """
svg.ncc{font:12px system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
svg.ncc:root{color:#1f2328;background:#fff}
@media (prefers-color-scheme:dark){svg.ncc:root{color:#e6edf3;background:#0d1117}}
.ncc text{fill:currentColor;text-anchor:middle}
.ncc .s{font-size:10px;opacity:.75}
.ncc .i{text-anchor:end}
.ncc .o{text-anchor:start}
.ncc path{fill:none;stroke:currentColor;stroke-opacity:.5}
.ncc path.p{stroke:#2f7fd0;stroke-opacity:.85}
.ncc path.n{stroke:#dd6b10;stroke-opacity:.85}
.ncc path.g{stroke:currentColor;stroke-opacity:.25}
.ncc .eg{opacity:.25}
.ncc .ez{opacity:.5}
.ncc .eg path,.ncc .ez path{stroke-opacity:1}
.ncc path.t{stroke-dasharray:5 4}
.ncc rect,.ncc circle{fill:currentColor;fill-opacity:.06;stroke:currentColor}
.ncc .x{fill-opacity:0}
.ncc path.b{stroke-opacity:1}
.ncc .g rect,.ncc .g circle{stroke-dasharray:2 2;stroke-opacity:.5}
.ncc .g text{opacity:.5}
""".strip()


class _Place(NamedTuple):
    """The middle of a node, half of its width and height."""

    x: float
    y: float
    w: float
    h: float


def svg(drawn: Picture, title: str) -> str:
    """The picture as SVG, which has this title."""
    dots = _dotted(drawn)
    drawn = drawn._replace(nodes=list(_told_inside(drawn)))
    order = _order(drawn)
    straight = _straight(drawn)
    sizes = [_size(node, dots) for node in drawn.nodes]
    heights = np.array([h + (4 if dots else 16) for _, h in sizes], np.float64)
    heights[:] = DOT if dots else heights
    trunks = drawn.edges.sources * len(SIGNS) + np.array([SIGNS.index(m) for m in _sign(drawn)],
                                                         np.int64)
    placed = layout(drawn.columns, heights, drawn.edges.sources[straight],
                    drawn.edges.targets[straight], trunks[straight], order)
    left, top = _margin(drawn, first=True), MARGIN + (22.0 if dots else 0.0)
    places, bends, width, height = _places(drawn, sizes, placed, dots, left, top)
    arcs = list(_arcs(drawn, places, height))
    below = max([height, *[low for _, low in arcs]])
    legend, wide = _legend(drawn, left, below + 24)
    whole = max(width + _margin(drawn, first=False), wide + MARGIN)
    total = below + 24 + (12 if legend else 0)
    paths = _paths(drawn, places, [bends.get(k, {}) for k in trunks.tolist()], straight, dots)
    body = [*paths, *(text for text, _ in arcs), *_headers(drawn, places, dots),
            *(line for k, node in enumerate(drawn.nodes)
              for line in _node(node, places[k], int(drawn.columns[k]), drawn, dots)), *legend]
    size = f"{whole:.0f} {total:.0f}"
    wide_, high_ = size.split()
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="ncc" role="img" viewBox="0 0 {size}" '
            f'width="{wide_}" height="{high_}">\n<title>{escaped(clipped(title, 200))}</title>\n'
            f"<desc>{escaped(_description(drawn))}</desc>\n<style>{STYLE}</style>\n"
            + "\n".join(body) + "\n</svg>\n")


def escaped(text: str) -> str:
    """A text as XML has it, in an element or in an attribute."""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, entity)
    return text


def _description(drawn: Picture) -> str:
    neurons = sum(node.size for node in drawn.nodes)
    edges = int(drawn.edges.counts.sum())
    parts = [f"{neurons:,} neurons in {int(drawn.columns.max(initial=0)) + 1} columns",
             f"{edges:,} edges between them"]
    boxes = sum(node.size > 1 for node in drawn.nodes)
    parts += [f"{boxes} boxes of several neurons"] if boxes else []
    grey = sum(node.size for node in drawn.nodes if node.grey)
    parts += [f"{grey} grey neurons that no code is made of"] if grey else []
    return ", ".join(parts)


# ---- where things stand


def _dotted(drawn: Picture) -> bool:
    return int(np.bincount(drawn.columns).max(initial=0)) > TALL \
        and all(node.size == 1 for node in drawn.nodes)


def _told_inside(drawn: Picture) -> Iterator[Node]:
    """The nodes; of outputs that have no room beside them, since other columns follow, their words
    say which they are."""
    last = int(drawn.columns.max(initial=0))
    for node, c in zip(drawn.nodes, drawn.columns.tolist(), strict=True):
        inside = node.output and c != last
        yield node._replace(words=f"{node.words} \u2192 {node.output}") if inside else node


def _straight(drawn: Picture) -> NDArray[np.bool_]:
    """The edges that go from a column to a later one."""
    made: NDArray[np.bool_] = drawn.columns[drawn.edges.sources] \
        < drawn.columns[drawn.edges.targets]
    return made & ~drawn.edges.late


def _order(drawn: Picture) -> Longs:
    """The columns that keep the caller's order: that of the inputs, and the last one where it has
    but outputs."""
    last = int(drawn.columns.max(initial=0))
    tail = [node.output for node, c in zip(drawn.nodes, drawn.columns, strict=True) if c == last]
    return np.array([0, last] if all(tail) else [0], np.int64)


def _width(text: str, size: float) -> float:
    """About the width of a text: 0.58 of the size a character, 1 of those that are wide."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return size * (0.58 * (len(text) - wide) + wide)


def _label(node: Node) -> tuple[str, str]:
    """Both lines of a node."""
    return clipped(node.name, NAME), clipped(node.words, WORDS)


def _size(node: Node, dots: bool) -> tuple[float, float]:
    """Width and height of a node."""
    if dots:
        return 9.0, 9.0
    name, words = _label(node)
    wide = max(34.0, _width(name, 12) + 16, _width(words, 10) + 16)
    if node.size > 1:
        return max(72.0, wide), 40.0 + 8 * log10(node.size)
    return wide, 34.0 if words else 24.0


def _margin(drawn: Picture, first: bool) -> float:
    """The room for the names of inputs or outputs beside the picture."""
    column = 0 if first else int(drawn.columns.max(initial=0))
    tags = [node.input if first else node.output
            for node, c in zip(drawn.nodes, drawn.columns, strict=True) if c == column]
    return MARGIN + max([_width(clipped(tag, NAME), 10) + 14 for tag in tags if tag], default=0.0)


def _places(drawn: Picture, sizes: list[tuple[float, float]], placed: Layout, dots: bool,
            left: float, top: float
            ) -> tuple[list[_Place], dict[int, dict[int, float]], float, float]:
    """The places of the nodes, and the heights of the bends; where on the right and below they
    end."""
    columns = drawn.columns.tolist()
    widest = [0.0] * (max(columns, default=0) + 1)
    for c, (wide, _) in zip(columns, sizes, strict=True):
        widest[c] = max(widest[c], wide)
    turns = [y for at in placed.bends.values() for y in at.values()]
    middles = placed.y.tolist()
    low = max([*turns, *(y + h / 2 for y, (_, h) in zip(middles, sizes, strict=True))])
    high = min([*turns, *(y - h / 2 for y, (_, h) in zip(middles, sizes, strict=True))])
    gap = min(320.0, max(90.0, 0.36 * (low - high))) if dots or len(widest) < 6 \
        else min(120.0, max(36.0 if len(widest) > 30 else 56.0, 0.2 * (low - high)))
    x, middle = left, []
    for wide in widest:
        middle.append(x + wide / 2)
        x += wide + gap
    made = [_Place(middle[c], y - high + top, w / 2, h / 2)
            for c, y, (w, h) in zip(columns, middles, sizes, strict=True)]
    bends = {k: {c: y - high + top for c, y in at.items()} for k, at in placed.bends.items()}
    return made, bends, x - gap, low - high + top


# ---- edges


def _scale(drawn: Picture) -> Longs:
    """The width of each edge, 0 .. WIDTHS-1: of its weight beside the largest but outliers, or of
    its count."""
    edges = drawn.edges
    if (edges.counts > 1).any():
        part = np.log10(edges.counts) / max(1.0, float(np.log10(edges.counts.max())))
    else:
        size = np.abs(edges.weights)
        known = np.sort(size[size > 0])
        if not len(known):
            return np.ones(len(size), np.int64)
        part = np.nan_to_num(size / known[(len(known) - 1) * 98 // 100], nan=0.3)
    return np.asarray(np.clip(np.ceil(part * WIDTHS) - 1, 0, WIDTHS - 1), np.int64)


def _stroke(scale: int, dots: bool) -> str:
    """Of dense pictures the weak edges are pale, so that the strong ones are seen."""
    if dots:
        return f' stroke-width="{(0.4, 0.6, 0.9, 1.3, 1.8, 2.4)[scale]}" ' \
               f'opacity="{(0.25, 0.4, 0.55, 0.7, 0.85, 1)[scale]}"'
    return f' stroke-width="{(0.75, 1.25, 2, 2.75, 3.5, 4.5)[scale]}"'


def _sign(drawn: Picture) -> list[str]:
    """The class of each edge, of SIGNS."""
    edges = drawn.edges
    which = np.select([edges.grey, edges.weights > 0, edges.weights < 0], [0, 1, 2], 3)
    return [SIGNS[k] for k in which.tolist()]


def _paths(drawn: Picture, places: list[_Place], bends: list[dict[int, float]],
           straight: NDArray[np.bool_], dots: bool) -> Iterator[str]:
    """The edges that go to the right, weak ones first: a path each, or one for all alike. What is
    grey or has no sign is in a group each, so that what lies upon another is no darker."""
    edges = drawn.edges
    scale, sign = _scale(drawn).tolist(), _sign(drawn)
    sources, targets = edges.sources.tolist(), edges.targets.tolist()
    columns = _borders(drawn, places)
    told = straight.sum() <= TOLD
    alike: dict[tuple[int, str], list[str]] = {}
    made: dict[str, list[str]] = {"g": [], "z": [], "pn": []}

    def add(mark: str, path: str) -> None:
        made["pn" if mark in "pn" else mark].append(path)

    for k in sorted(np.flatnonzero(straight).tolist(), key=lambda k: (scale[k], sign[k], k)):
        s, t = sources[k], targets[k]
        line = _line(places[s], places[t], columns, bends[k],
                     range(int(drawn.columns[s]) + 1, int(drawn.columns[t])), dots)
        if told:
            add(sign[k], _told(drawn, k, line, f'class="{sign[k]}"{_stroke(scale[k], dots)}'))
        else:
            alike.setdefault((scale[k], sign[k]), []).append(line)
    for (width, mark), lines in alike.items():
        add(mark, f'<path class="{mark}"{_stroke(width, dots)} d="{"".join(lines)}"/>')
    for mark, paths in made.items():
        yield from paths if mark == "pn" or not paths else (
            f'<g class="e{mark}">', *paths, "</g>")
    yield from _counts(drawn, places, columns, straight, bends)


def _told(drawn: Picture, k: int, line: str, how: str) -> str:
    """An edge with its tooltip."""
    edges = drawn.edges
    ends = [drawn.nodes[k] for k in (int(edges.sources[k]), int(edges.targets[k]))]
    names = ["n" + node.neuron if node.neuron else clipped(node.name, NAME) for node in ends]
    late = " of the last call" if edges.late[k] else ""
    tip = f"{names[0]}{late} \u2192 {names[1]}: {edges.tips[k]}"
    return f'<path {how} d="{line}"><title>{escaped(tip)}</title></path>'


def _borders(drawn: Picture, places: list[_Place]) -> list[tuple[float, float]]:
    """Where each column begins and ends."""
    made = [(np.inf, -np.inf)] * (int(drawn.columns.max(initial=0)) + 1)
    for c, at in zip(drawn.columns.tolist(), places, strict=True):
        made[c] = min(made[c][0], at.x - at.w), max(made[c][1], at.x + at.w)
    return made


def _line(source: _Place, target: _Place, columns: list[tuple[float, float]],
          bends: dict[int, float], over: range, dots: bool) -> str:
    """From the right of a node to the left of another, through the bends on its way."""
    x, y = source.x + source.w, source.y
    parts = [f"M{x:.0f} {y:.0f}"]

    def to(nx: float, ny: float) -> None:
        middle = (x + nx) / 2
        if dots or abs(ny - y) < 0.5:
            parts.append(f"L{nx:.0f} {ny:.0f}")
        else:
            parts.append(f"C{middle:.0f} {y:.0f} {middle:.0f} {ny:.0f} {nx:.0f} {ny:.0f}")

    for c in over:
        if c in bends:
            begin, end = columns[c]
            to(begin, bends[c])
            parts.append(f"H{end:.0f}")
            x, y = end, bends[c]
    to(target.x - target.w, target.y)
    return "".join(parts)


def _arcs(drawn: Picture, places: list[_Place], low: float) -> Iterator[tuple[str, float]]:
    """The edges that read the last call, dashed: from the right of a node down, back below all
    nodes, up and to the left of the reader; a loop above a node that reads itself. Each with its
    lowest point. Where they are too many for that, they are straight."""
    scale, sign = _scale(drawn).tolist(), _sign(drawn)
    columns = _borders(drawn, places)
    late = np.flatnonzero(drawn.edges.late).tolist()
    if len(late) > TOLD:
        alike: dict[str, list[str]] = {}
        for k in late:
            a, b = places[drawn.edges.sources[k]], places[drawn.edges.targets[k]]
            alike.setdefault(sign[k], []).append(f"M{a.x:.0f} {a.y:.0f}L{b.x:.0f} {b.y:.0f}")
        for mark, lines in sorted(alike.items()):
            yield f'<path class="t {mark}" stroke-width=".5" d="{"".join(lines)}"/>', 0.0
        return
    for turn, k in enumerate(late):
        s, t = int(drawn.edges.sources[k]), int(drawn.edges.targets[k])
        a, b = places[s], places[t]
        lane, aside = 0.0, 12 + 5 * (turn % 6)
        if s == t:
            y = a.y - a.h
            line = (f"M{a.x + 7:.0f} {y:.0f}C{a.x + 22:.0f} {y - 18:.0f} {a.x - 22:.0f} "
                    f"{y - 18:.0f} {a.x - 7:.0f} {y:.0f}m-5 -4l5 4l1 -7")
        else:
            lane = low + 10 + 7 * (turn % 12)
            right = columns[int(drawn.columns[s])][1] + aside
            left = columns[int(drawn.columns[t])][0] - aside
            end = b.x - b.w
            line = (f"M{a.x + a.w:.0f} {a.y:.0f}H{right - 6:.0f}q6 0 6 6V{lane - 6:.0f}q0 6 -6 6"
                    f"H{left + 6:.0f}q-6 0 -6 -6V{b.y + 6:.0f}q0 -6 6 -6H{end:.0f}m-6 -4l6 4l-6 4")
        how = f'class="t {sign[k]}"{_stroke(min(3, scale[k]), False)}'
        yield _told(drawn, k, line, how), lane


def _counts(drawn: Picture, places: list[_Place], columns: list[tuple[float, float]],
            straight: NDArray[np.bool_], bends: list[dict[int, float]]) -> Iterator[str]:
    """How many edges a line between boxes stands for, written on it, half of its last piece."""
    if straight.sum() > 60:
        return
    for k in np.flatnonzero(straight & (drawn.edges.counts > 1)).tolist():
        s, t = int(drawn.edges.sources[k]), int(drawn.edges.targets[k])
        a, b = places[s], places[t]
        before = int(drawn.columns[t]) - 1
        x, y = (columns[before][1], bends[k][before]) if before in bends[k] \
            else (a.x + a.w, a.y)
        yield f'<text class="s" x="{(x + b.x - b.w) / 2:.0f}" y="{(y + b.y) / 2 - 5:.0f}">' \
              f"{int(drawn.edges.counts[k]):,}</text>"


# ---- nodes and words


def _node(node: Node, at: _Place, column: int, drawn: Picture, dots: bool) -> Iterator[str]:
    """A node: its border, twice that of an output, thrice that of a box; its lines; the places of
    inputs and outputs beside it."""
    last = column == int(drawn.columns.max(initial=0))
    name, words = _label(node)
    mark = f' data-n="{node.neuron}"' if node.neuron else ""
    yield f'<g{" class=" + chr(34) + "g" + chr(34) if node.grey else ""}{mark}>' \
          f"<title>{escaped(clipped(_tip(node), TIP))}</title>"
    if dots:
        yield f'<circle cx="{at.x:.0f}" cy="{at.y:.0f}" r="{at.w:.1f}"/>'
        if node.output:
            yield f'<circle class="x" cx="{at.x:.0f}" cy="{at.y:.0f}" r="{at.w - 2:.1f}"/>'
    else:
        round_ = 3 if node.input or node.size > 1 else min(17.0, at.h)
        for shift in (0, 4) if node.size > 1 else ():
            yield (f'<path class="b" d="M{at.x + at.w + shift:.1f} {at.y - at.h + shift + 4:.1f}h4'
                   f'v{2 * at.h:.1f}h-{2 * at.w:.1f}v-4"/>')
        yield _rect(at, 0, round_)
        if node.output:
            yield _rect(at, 3, round_)
        down = 4 if not words else -2
        yield f'<text x="{at.x:.0f}" y="{at.y + down:.0f}">{escaped(name)}</text>'
        if words:
            yield f'<text class="s" x="{at.x:.0f}" y="{at.y + 11:.0f}">{escaped(words)}</text>'
    if node.input and column == 0:
        yield f'<text class="s i" x="{at.x - at.w - 5:.0f}" y="{at.y + 3.5:.1f}">' \
              f"{clipped(node.input, NAME)}</text>"
    if node.output and last:
        aside, up = 14 if node.size > 1 else 8, 9 if drawn.edges.late.any() else -3.5
        yield f'<text class="s o" x="{at.x + at.w + aside:.0f}" y="{at.y - up:.1f}">' \
              f"{clipped(node.output, NAME)}</text>"
    yield "</g>"


def _tip(node: Node) -> str:
    lines = [node.tip]
    lines += [f"input {node.input}"] if node.input else []
    lines += [f"output {node.output}"] if node.output else []
    return "\n".join(lines)


def _rect(at: _Place, grown: float, round_: float) -> str:
    """The border of a node, or another around it."""
    empty = ' class="x"' if grown else ""
    return (f'<rect{empty} x="{at.x - at.w - grown:.1f}" y="{at.y - at.h - grown:.1f}" '
            f'width="{2 * (at.w + grown):.1f}" height="{2 * (at.h + grown):.1f}" '
            f'rx="{round_ + grown:.0f}"/>')


def _headers(drawn: Picture, places: list[_Place], dots: bool) -> Iterator[str]:
    """Above each column of dots, what its neurons compute."""
    if not dots:
        return
    for c in range(int(drawn.columns.max(initial=0)) + 1):
        mine = np.flatnonzero(drawn.columns == c).tolist()
        found = Counter(drawn.nodes[k].words.partition(" \u2192")[0] or "input" for k in mine)
        words = ", ".join(f"{n} {word}" for word, n in found.most_common(3))
        top = min(places[k].y - places[k].h for k in mine)
        yield f'<text class="s" x="{places[mine[0]].x:.0f}" y="{top - 8:.0f}">' \
              f"{escaped(clipped(words, WORDS))}</text>"


def _legend(drawn: Picture, x: float, y: float) -> tuple[list[str], float]:
    """What lines and grey mean, of what occurs; and where it ends."""
    edges = drawn.edges
    live = ~edges.grey
    items = [('class="p" stroke-width="2"', "positive", (live & (edges.weights > 0)).any()),
             ('class="n" stroke-width="2"', "negative", (live & (edges.weights < 0)).any()),
             ('class="z" stroke-width="3"', "several edges", (edges.counts > 1).any()),
             ('class="t"', "of the last call", edges.late.any()),
             ('class="g"', "grey: no code is made of it", any(n.grey for n in drawn.nodes))]
    made = []
    for how, words, there in items:
        if there:
            made.append(f'<path {how} d="M{x:.0f} {y:.0f}h22"/><text class="s o" x="{x + 27:.0f}" '
                        f'y="{y + 3.5:.1f}">{words}</text>')
            x += 27 + _width(words, 10) + 16
    return made, x
