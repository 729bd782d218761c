"""Pictures: everything is there once, text is text, large nets become boxes, sizes are bounded."""

from __future__ import annotations

import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.driver.kinds import drawn
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune
from ncc.report.layout import _spread, layout

TOP = Path(__file__).parents[2]
NS = "{http://www.w3.org/2000/svg}"
TWINS = """N 07
out 05
00
01
02 02 00@a:0.5,01@b:-1
03 02 00@a,01@b
04 03 02:1,03:-2
05 sigmoid max 04:1,02:0.5,00:-3
06 tanh 04:2
"""


def parsed(text):
    """The elements of a picture, which names itself, and has no id that a page could have, too."""
    root = ET.fromstring(text)
    assert root.tag == NS + "svg" and root.get("role") == "img"
    assert [child.tag for child in root][:2] == [NS + "title", NS + "desc"]
    assert all(element.get("id") is None for element in root.iter())
    box = [float(word) for word in root.get("viewBox").split()]
    for rect in root.iter(NS + "rect"):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= box[2] and 0 <= y and y + h <= box[3]
    return root


def nodes(root):
    return [g for g in root.iter(NS + "g") if g.find(NS + "title") is not None]


def tips(root, tag):
    """The tooltips of elements."""
    return [element.find(NS + "title").text for element in root.iter(NS + tag)
            if element.find(NS + "title") is not None]


def random_net(seed, n=30, state=False):
    draw = random.Random(seed)
    lines = [f"N {n:02x}", f"out {n - 2:02x},{n - 1:02x},05"]
    for j in range(n):
        if j < 4:
            lines.append(f"{j:02x}")
            continue
        edges = [f"{i:02x}:{draw.gauss(0, 1):.3f}" for i in sorted(draw.sample(range(j), 3))]
        edges += [f"~{draw.randrange(n):02x}:1"] if state and draw.random() < 0.4 else []
        lines.append(f"{j:02x} {draw.choice(['tanh', 'relu'])} {','.join(edges)} +0.5")
    return ncc.parse("\n".join(lines) + "\n")


def chain(n):
    return ncc.parse(f"N {n:04x}\n0000\n"
                     + "".join(f"{j:04x} tanh {j - 1:04x}:1\n" for j in range(1, n)))


# ---- what is drawn


@pytest.mark.parametrize("seed", range(6))
def test_every_neuron_and_edge_is_there_once(seed):
    net = random_net(seed, state=seed % 2 == 1)
    graph, root = net.graph, parsed(net.to_svg())
    assert sorted(g.get("data-n") for g in nodes(root)) \
        == [f"{j:02x}" for j in range(net.n_neurons)]
    of = dict(zip(graph.inputs[graph.n_inputs :].tolist(), graph.states.tolist(), strict=True))
    edges = Counter()
    for j in range(net.n_neurons):
        for e in range(graph.starts[j], graph.starts[j + 1]):
            i, value = int(graph.sources[e]), graph.values[graph.weights[e]]
            late = " of the last call" if i in of else ""
            edges[f"n{of.get(i, i):02x}{late} \u2192 n{j:02x}: {value:.5g}"] += 1
    assert Counter(tips(root, "path")) == edges
    dashed = [p for p in root.iter(NS + "path") if p.get("class").split()[0] == "t"
              and p.find(NS + "title") is not None]
    assert len(dashed) == sum(n for tip, n in edges.items() if "last call" in tip)
    grey = {int(g.get("data-n"), 16) for g in nodes(root) if g.get("class") == "g"}
    left = merge(prune(graph)).activations
    unseen = {int(i) for i in graph.inputs if not (graph.sources == i).any()}
    assert grey - unseen == {j for j in range(net.n_neurons) if left[j] == -2} - unseen


def test_dense_pictures_have_a_path_for_all_edges_alike():
    net = ncc.load(TOP / "examples/digits.nal")
    root = parsed(net.to_svg())
    lines = "".join(p.get("d") for p in root.iter(NS + "path") if "L" in p.get("d"))
    assert lines.count("M") == lines.count("L") == net.n_edges
    assert len(nodes(root)) == len(list(root.iter(NS + "circle"))) - 10 == net.n_neurons
    assert {"64 input", "32 relu", "16 relu", "10 identity"} \
        <= {text.text for text in root.iter(NS + "text")}


def test_what_is_said_of_neurons():
    root = parsed(ncc.parse(TWINS).to_svg())
    tip = dict(zip([g.get("data-n") for g in nodes(root)], tips(root, "g"), strict=True))
    assert tip["00"] == "n00\ninput x[0]"
    assert tip["03"] == tip["02"].replace("n02", "n03") + "\nequal to n02, computed once"
    assert tip["05"] == "n05\nsigmoid(max(1*n04, 0.5*n02, -3*n00))\noutput y[0]"
    assert tip["06"] == "n06\ntanh(2*n04)\nno output sees it"
    assert [g.get("data-n") for g in nodes(root) if g.get("class") == "g"] == ["03", "06"]
    assert "sigmoid max" in [text.text for text in root.iter(NS + "text")]
    assert "x[0]" in [text.text for text in root.iter(NS + "text")]


@pytest.mark.parametrize("text", [
    "N 01\n00 tanh +1\n", "N 02\nout 00,01\n00\n01\n", "N 02\n00\n01 tanh 00\n",
    "N 03\n00\n01 tanh +2\n02 identity mul 00:1,01:0\n", "N 02\n00\n01 tanh 00:1,~01:2\n"])
def test_small_nets(text):
    net = ncc.parse(text)
    assert len(nodes(parsed(net.to_svg()))) == net.n_neurons


def test_graphs_of_passes_and_without_levels():
    graph = merge(prune(ncc.parse(TWINS).graph))
    root = parsed(drawn(graph))
    assert [g.get("data-n") for g in nodes(root)] == ["00", "01", "02", "04", "05"]
    assert drawn(graph.with_(levels=None)) == drawn(graph)


def test_labels_are_text():
    draw = random.Random(4)
    hostile = ["<script>", "a & b", 'say "so"', "]]>", "&amp;", "-->", "'", "\u4e2d\u6587" * 40,
               "x" * 5000]
    for _ in range(60):
        name = draw.choice(hostile) + "".join(
            c for c in (chr(draw.randrange(32, 0x2FFFF)) for _ in range(4)) if c.isprintable())
        net = ncc.parse("N 02\n00\n01 tanh 00:1\n")
        graph = net.graph.with_(labels=(ncc.ir.labels.Label(0, name),))
        root = parsed(drawn(graph))
        assert [e.tag for e in root.iter()].count(NS + "script") == 0
        shown = [text.text for text in root.iter(NS + "text")]
        assert (name if len(name) <= 24 else name[:23] + "\u2026") in shown


# ---- large nets


def layered(*sizes):
    return ncc.load([np.ones(pair) for pair in zip(sizes, sizes[1:], strict=False)],
                    activation="relu")


def test_large_nets_are_boxes():
    net = layered(300, 5408, 40)
    conv = ncc.ir.labels.Label(300, "conv1", (8, 26, 26))
    root = parsed(drawn(net.graph.with_(labels=(conv,))))
    shown = [text.text for text in root.iter(NS + "text")]
    assert {"conv1 8x26x26", "relu", "300 inputs", "40 neurons", "1,622,400", "216,320"} \
        <= set(shown)
    assert tips(root, "path") == [
        "300 inputs \u2192 conv1 8x26x26: 1,622,400 edges, weights 1 .. 1",
        "conv1 8x26x26 \u2192 40 neurons: 216,320 edges, weights 1 .. 1"]
    assert len(nodes(root)) == 3
    assert root.find(NS + "desc").text.startswith("5,748 neurons in 3 columns, 1,838,720 edges")


def test_arrays_that_wait_for_each_other_are_cut_by_depth():
    """The second half of a reads b, which reads the first half of a."""
    lines = [f"{j:03x} tanh {0 if j <= 150 else j + 150:03x}:1" for j in range(1, 301)]
    lines += [f"{j:03x} tanh {1 + (j - 301) % 150:03x}:1" for j in range(301, 601)]
    text = "N 259\nlabel 001 a 300\nlabel 12d b 300\n000\n" + "\n".join(lines) + "\n"
    root = parsed(ncc.parse(text).to_svg())
    shown = [text.text for text in root.iter(NS + "text")]
    assert shown.count("a: 150 of 300") == 2 and "b 300" in shown
    assert len(nodes(root)) == 4


@pytest.mark.parametrize("make", [
    lambda: chain(200), lambda: chain(3000), lambda: layered(2, 1000), lambda: layered(1000, 1000),
    lambda: ncc.parse("N c8\n00\n" + "".join(  # each neuron reads the one before, and the first
        f"{j:02x} tanh {j - 1:02x}:1{',00:-1' if j > 1 else ''}\n" for j in range(1, 200))),
    lambda: ncc.parse("N 59\n00\n" + "".join(  # each reads all before
        f"{j:02x} tanh {','.join(f'{i:02x}:{i - 3}' for i in range(j))}\n" for j in range(1, 89))),
    lambda: random_net(1, 200, state=True),
    lambda: ncc.parse("N c8\n00\n" + "".join(  # each reads the last call of 19
        f"{j:02x} tanh {','.join(f'~{i:02x}:{i - 99.25}' for i in range(j % 9, 200, 11))}\n"
        for j in range(1, 200))),
    lambda: random_net(1, 255, state=True),
    lambda: ncc.parse("N c8\n" + "".join(
        f"label {j:02x} \"{'&' * 3000}{j}\"\n" for j in range(200)) + "00\n" + "".join(
        f"{j:02x} tanh 00:1\n" for j in range(1, 200)))])
def test_sizes_are_bounded(make):
    net = make()
    text = net.to_svg()
    assert len(text.encode()) < 300_000
    assert sum(g.get("data-n") is not None for g in nodes(parsed(text))) \
        == net.n_neurons or net.n_neurons > 200


# ---- the layout


def test_crossings_are_undone():
    """Pairs upside down, of a column that may be put in order."""
    columns = np.array([0] * 5 + [1] * 5 + [2])
    sources = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    targets = np.array([9, 8, 7, 6, 5, 10, 10, 10, 10, 10])
    y = layout(columns, np.full(11, 10.0), sources, targets, sources, np.array([0])).y
    assert (np.diff(y[:5]) >= 10).all() and (np.diff(y[5:10]) <= -10).all()


def test_spread_is_the_nearest_ascending():
    assert _spread(np.array([3.0, 1.0, 2.0, 5.0])).tolist() == [2.0, 2.0, 2.0, 5.0]


# ---- the same bytes


def test_pictures_are_the_same_in_each_process():
    program = ("import hashlib, ncc, sys; sys.path.insert(0, sys.argv[1]); import test_svg as t;"
               "print(hashlib.sha256(t.random_net(3, 60, True).to_svg().encode()).hexdigest())")
    here = sha256(random_net(3, 60, True).to_svg().encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], cwd=TOP,
                          capture_output=True, text=True, check=True,
                          env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(TOP), "PATH": ""})
    assert done.stdout.strip() == here


@pytest.mark.parametrize("name", ["xor", "digits"])
def test_the_pictures_of_the_guide(name):
    net = ncc.load(TOP / f"examples/{name}.nal")
    text = (TOP / f"examples/pictures/{name}.svg").read_text()
    assert text == net.to_svg() == net._repr_svg_()
    assert f"examples/pictures/{name}.svg" in (TOP / "README.md").read_text()
