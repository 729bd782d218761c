"""Nets that are made: the seed's matrices, the shape of every kind, what is refused."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ncc
from ncc.errors import NccError
from ncc.formats.write import net_file
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, Graph
from ncc.nets.generate.drawing import distinct, drawn
from ncc.nets.generate.kinds import KINDS, new

SEED = Path(__file__).parents[1] / "seed"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "seed"
# The commands that make the seed's matrices, and the SHA-256 of these.
MATRICES = {
    "fcn_4_4_4_2": ("fcn 4 4 4 2 --labels letters",
                    "f81bd6dee7e2eff800ba416eddf9e69e50e41f90f086a4981197df64589f6f62"),
    "fcn_8_8_8_2": ("fcn 8 8 8 2 --labels layers",
                    "f415aafcfd7813f16325686a5f05e11c319bbc40f93d9dd8325168cfa9b91cda"),
    "conv_4x4_k3": ("conv 4x4 2k3p1 2k3p1g2 3 --labels indices",
                    "54fbba8c49eaaf7de31737d7f66ba2ad88e28654e7961bf25af03facf4ec3e32"),
    "rnn_2x3_h4": ("rnn 2x3 h4 --labels indices",
                    "23e4276c28c1e4432d94c96a554c354414e2c1a9af46030b10ce00744dcbc1fe"),
}
EXAMPLES = {name: kind.example for name, kind in KINDS.items()}


def cells(graph: Graph) -> set[tuple[int, int]]:
    """(source, target) of the edges."""
    return set(zip(graph.sources.tolist(), csr.owners(graph.starts).tolist(), strict=True))


@pytest.mark.parametrize("name", MATRICES)
def test_the_seeds_matrices_come_out_byte_for_byte(ncc_, name):
    words, digest = MATRICES[name]
    status, out, _ = ncc_("new", *words.split(), "--format", "nam")
    assert status == 0 and hashlib.sha256(out.encode()).hexdigest() == digest
    for folder in (SEED, SHARED):
        if (folder / f"{name}.nam").exists():
            assert out == (folder / f"{name}.nam").read_text()


def test_the_second_rnn():
    """`rnn 2x3 h4 l2`: the first one with a layer of states above."""
    one, two = (new("rnn", words, bias=False, free=True).graph for words in
                ("2x3 h4", "2x3 h4 l2"))
    states = set(range(6, 18))
    within = {edge for edge in cells(one) if edge[1] in states}
    assert {edge for edge in cells(two) if edge[1] in states} == within
    above = {(i, j) for i, j in cells(two) if j >= 18}
    wanted = {(6 + 4 * t + i, 18 + 4 * t + j) for t in range(3) for i in range(4) for j in range(4)}
    wanted |= {(14 + 4 * t + i, 18 + 4 * t + j) for t in (1, 2) for i in range(4)
               for j in range(4)}
    wanted |= {(26 + i, 30 + j) for i in range(4) for j in range(2)}
    assert above == wanted and two.n_neurons == 32 and two.outputs.tolist() == [30, 31]


def test_states_of_several_widths_and_shared_weights():
    net = new("rnn", "3x5", "h4", "h2", "o1")
    # Layer 1: 4 (3 + 4) weights and 4 biases; layer 2: 2 (4 + 2) and 2; the output 2 and 1.
    assert net.n_params == 4 * 7 + 4 + 2 * 6 + 2 + 3
    assert {"wx1_0_2", "wh1_3_3", "b1_0", "wx2_1_3", "wh2_0_1", "b2_1"} <= set(
        net.graph.names.values())
    x = np.random.default_rng(0).normal(size=(4, 15))
    p = np.random.default_rng(1).normal(size=net.n_params)
    slot = {name: p[k] for k, name in net.graph.names.items()}
    h1, h2 = np.zeros((4, 4)), np.zeros((4, 2))
    for t in range(5):
        below = x[:, 3 * t : 3 * t + 3]
        for layer, h, width in ((1, h1, 4), (2, h2, 2)):
            a = np.array([[slot[f"wx{layer}_{j}_{i}"] for i in range(below.shape[1])]
                          for j in range(width)])
            b = np.array([[slot[f"wh{layer}_{j}_{i}"] for i in range(width)]
                          for j in range(width)])
            bias = np.array([slot[f"b{layer}_{j}"] for j in range(width)])
            h[:] = np.tanh(below @ a.T + h @ b.T + bias)
            below = h
    y = h2 @ p[-3:-1] + p[-1]
    assert np.allclose(net.graph.run(x, p, "f64")[:, 0], y, rtol=1e-12)


@pytest.mark.parametrize("words", ["h4", "h4 l2 o1", "h3 h5 h2 o4"])
def test_a_stream_makes_the_steps_of_the_unrolled_net(words):
    stream, whole = new("rnn", "2", words, stream=True), new("rnn", "2x6", words)
    stream.graph.verify()
    assert sorted(stream.graph.names.values()) == sorted(whole.graph.names.values())
    p = np.random.default_rng(1).normal(size=whole.n_params)
    slot = {name: p[k] for k, name in whole.graph.names.items()}
    q = np.full(stream.n_params, np.nan)
    for k, name in stream.graph.names.items():
        q[k] = slot[name]
    free = len(p) - len(slot)  # the outputs' own
    q[len(q) - free :] = p[len(p) - free :]
    x = np.random.default_rng(2).normal(size=(6, 2))
    y = stream.graph.run_steps(x, q, "f64")
    assert np.allclose(y[-1], whole.graph.run(x.ravel(), p, "f64"), rtol=1e-12)


@pytest.mark.parametrize(("words", "shape"), [
    ("2x7x6 6k3x2s2p1g2 3", (2, 7, 6)), ("5x5 2k2 mean2s1 max2 4", (1, 5, 5)),
    ("4x6x6 8k3g4", (4, 6, 6)), ("1x9x9 3k4s3p2", (1, 9, 9))])
@pytest.mark.parametrize("free", [False, True])
def test_conv_is_what_numpy_computes(words, shape, free):
    net = new("conv", words, free=free)
    net.graph.verify()
    rng = np.random.default_rng(2)
    x, p = rng.normal(size=(3, math.prod(shape))), rng.normal(size=net.n_params)
    expected = convolved(net.graph, words.split()[1:], x.reshape(3, *shape), p, free)
    assert np.allclose(net.graph.run(x, p, "f64"), expected, rtol=1e-12, atol=1e-12)


def convolved(graph, layers, x, p, free):
    """The net of `layers` by loops over places; parameters are taken by tie, or in order."""
    slot, k = {name: p[s] for s, name in graph.names.items()}, 0
    taken = iter(p)
    for number, word in enumerate(layers, 1):
        last = number == len(layers)
        if word.isdigit():
            flat = x.reshape(len(x), -1)
            ws = [[p[s] for s in graph.weights[graph.starts[j] : graph.starts[j + 1]]]
                  for j in graph.outputs]
            return flat @ np.array(ws).T + p[graph.biases[graph.outputs]]
        if word[0] == "m":
            size, stride = int(word.removeprefix("max").removeprefix("mean")[0]), None
            stride = int(word.split("s")[1]) if "s" in word else size
            fold = np.max if word.startswith("max") else np.mean
            h, w = ((side - size) // stride + 1 for side in x.shape[2:])
            x = np.stack([np.stack([fold(x[:, :, stride * a : stride * a + size,
                                           stride * b : stride * b + size], axis=(2, 3))
                                    for b in range(w)], -1) for a in range(h)], -2)
            continue
        k = number
        count, rest = word.split("k")
        options = {c: int(rest[rest.index(c) + 1]) for c in "spg" if c in rest}
        kernel = rest.split("s")[0].split("p")[0].split("g")[0].split("x")
        kh, kw = int(kernel[0]), int(kernel[-1])
        s, pad, g = options.get("s", 1), options.get("p", 0), options.get("g", 1)
        n, c, height, width = x.shape
        mine, f_per = c // g, int(count) // g
        h, w = (height + 2 * pad - kh) // s + 1, (width + 2 * pad - kw) // s + 1
        y = np.zeros((n, int(count), h, w))
        for f in range(int(count)):
            for a in range(h):
                for b in range(w):
                    total = np.zeros(n)
                    for ch in range(mine):
                        for dy in range(kh):
                            for dx in range(kw):
                                v, u = a * s - pad + dy, b * s - pad + dx
                                if 0 <= v < height and 0 <= u < width:
                                    weight = (next(taken) if free
                                              else slot[f"c{k}_{f}_{ch}_{dy}{dx}"])
                                    total += weight * x[:, f // f_per * mine + ch, v, u]
                    y[:, f, a, b] = total + (next(taken) if free else slot[f"c{k}_{f}_b"])
        x = y if last else np.maximum(y, 0)
    return x.reshape(len(x), -1)


def test_pictures_layers_and_states_are_labelled():
    conv = new("conv", "2x6x5 3k3 max2 4")
    assert {name: found.shape for name, found in conv.labels.items()} == {
        "picture": (2, 6, 5), "conv1": (3, 4, 3), "max2": (3, 2, 1), "dense3": (4,)}
    # The neuron of filter 2, row 3, column 1 reads rows 3 .. 5 and columns 1 .. 3 of the picture.
    g, j = conv.graph, int(conv.labels["conv1"][2, 3, 1])
    assert g.sources[g.starts[j] : g.starts[j + 1]].tolist() == conv.labels["picture"][
        :, 3:6, 1:4].ravel().tolist()
    rnn = new("rnn", "2x3 h4 h5")
    assert {name: found.shape for name, found in rnn.labels.items()} == {
        "x": (3, 2), "h1": (3, 4), "h2": (3, 5), "y": (2,)}
    assert rnn.labels["y"].tolist() == rnn.outputs


def test_a_pool_has_no_parameters():
    graph = new("conv", "4x4 max2").graph
    assert graph.n_params == 0 and graph.constants.tolist() == [1.0]
    assert {AGGREGATIONS[a] for a in graph.aggregations[16:]} == {"max"}


def test_radix_joins_every_input_to_every_output_by_one_path():
    """The mixed-radix topology's own property: N' paths through a system are one a pair."""
    graph = new("radix", "2x3x2", bias=False).graph
    paths = np.eye(12, dtype=int)
    for layer in range(3):
        step = np.zeros((12, 12), int)
        for i, j in cells(graph):
            if j // 12 == layer + 1:
                step[i - 12 * layer, j % 12] = 1
        assert step.sum(axis=0).tolist() == [(2, 3, 2)[layer]] * 12
        paths = paths @ step
    assert (paths == 1).all()
    reads = [set(graph.sources[graph.starts[12 * k] :][: (2, 3, 2)[k - 1]].tolist())
             for k in (1, 2, 3)]  # of place 0 in each layer
    assert reads == [{0, 11}, {12, 12 + 10, 12 + 8}, {24, 24 + 6}]
    wide = new("radix", "2x3x2", "6", repeat=1, factor=3).graph
    assert wide.n_neurons == 5 * 36 and wide.n_edges == 36 * 3 * (2 + 3 + 2 + 6)
    assert new("radix", "32x32", repeat=3).n_edges == 6 * 1024 * 32


def test_random_layers_have_their_density():
    graph = new("random", 40, 50, 30, density=0.2, seed=3).graph
    graph.verify()
    by_layer = np.bincount(graph.levels[csr.owners(graph.starts)])
    assert by_layer.tolist() == [0, 400, 300]
    assert cells(graph) != cells(new("random", 40, 50, 30, density=0.2, seed=4).graph)
    assert str(graph) == str(new("random", 40, 50, 30, density=0.2, seed=3).graph)


def test_erk_gives_small_layers_more():
    widths = (100, 400, 10)
    graph = new("random", *widths, density=0.05, distribution="erk").graph
    target = csr.owners(graph.starts)
    counts = [int(((target >= a) & (target < b)).sum()) for a, b in ((100, 500), (500, 510))]
    assert abs(sum(counts) - 0.05 * (40_000 + 4_000)) < 2
    # In proportion to n_in + n_out edges: 500 and 410.
    assert abs(counts[0] / counts[1] - 500 / 410) < 0.01
    # A layer of which the rule asks more than there are is dense, and the others share the rest.
    dense = new("random", 10, 100, 2, density=0.9, distribution="erk").graph
    assert abs(dense.n_edges - round(0.9 * 1200)) <= 1
    assert (np.diff(dense.starts)[110:] == 100).all()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 100),
       st.integers(0, 5))
def test_drawn_edges_are_distinct_and_reach_every_row(choices, count, seed):
    fans, sources = drawn(np.random.default_rng(seed), np.array(choices), count)
    assert fans.sum() == len(sources) == min(max(count, len(choices)), sum(choices))
    assert fans.min() >= 1
    for row, mine in enumerate(np.split(sources, np.cumsum(fans)[:-1])):
        assert (np.diff(mine) > 0).all() and mine[0] >= 0 and mine[-1] < choices[row]


def test_every_set_of_edges_is_as_likely():
    """2 of 5 in 10 ways, 4,000 times: by the chi-square test at 10^-4 (9 degrees of freedom)."""
    rng = np.random.default_rng(7)
    for count in (2, 3):
        seen: dict[tuple[int, ...], int] = {}
        for _ in range(4000):
            key = tuple(distinct(rng, 5, count).tolist())
            seen[key] = seen.get(key, 0) + 1
        assert len(seen) == 10
        assert sum((n - 400) ** 2 / 400 for n in seen.values()) < 33.7


def test_a_random_graph_reads_only_what_is_before():
    graph = new("dag", 5, 20, 3, edges=90, seed=1).graph
    graph.verify()
    assert graph.n_edges == 90 and all(i < min(j, 25) for i, j in cells(graph))
    full = new("dag", 2, 3, 2, density=1.0).graph
    assert cells(full) == {(i, j) for j in range(2, 7) for i in range(min(j, 5))}


def test_the_seed_of_a_weight_agnostic_search():
    graph = new("wann", 6, 50, probability=0.3, seed=2).graph
    graph.verify()
    assert graph.n_params == 1 and graph.names == {0: "w"}
    biases = int((graph.biases >= 0).sum())
    assert 0.2 * 350 < graph.n_edges + biases < 0.4 * 350 and 5 < biases < 25
    one = new("wann", 2, 3, probability=0.0).graph
    assert np.diff(one.starts).tolist() == [0, 0, 1, 1, 1]
    full = new("wann", 2, 3, probability=1.0, init="shared:0.5").graph
    assert full.run([1.0, 2.0]).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_written_and_read_again(name):
    words = EXAMPLES[name].split(" --")[0]
    graph = new(name, words, init="he", seed=3).graph
    graph.verify()
    for format in ("nal", "nel", "graph"):
        again = ncc.parse(net_file(graph, format), format).graph
        assert str(again) == str(graph)


@pytest.mark.parametrize("name", KINDS)
def test_the_help_shows_every_kind_with_an_example_that_runs(ncc_, name):
    status, out, _ = ncc_("new", "--help")
    assert status == 0 and f"ncc new {name} {EXAMPLES[name]}" in out
    status, out, _ = ncc_("new", name, *EXAMPLES[name].split())
    assert status == 0 and out.startswith("N ")


REFUSED = [
    ("cnn 3 3", "E651", 2), ("wann 2 2 --free", "E651", 2), ("fcn 3", "E652", 2),
    ("fcn 3 x", "E652", 2), ("fcn 3 0", "E652", 2), ("fcn", "E652", 2),
    ("fcn 3 99999999999", "E652", 2),
    ("conv 4x4", "E652", 2), ("conv 4 k3", "E652", 2), ("conv 4x4 3k", "E652", 2),
    ("conv 4x4 k3s1s2", "E652", 2), ("conv 4x4 max2p1", "E652", 2), ("conv 4x4 0k3", "E652", 2),
    ("conv 4x4 k3s0", "E652", 2), ("conv 4x4 3 k3", "E652", 2),
    (f"conv 4x4 k{'9' * 5000}", "E652", 2), ("conv 4x4 k5", "E654", 2),
    ("conv 4x4 k3p3", "E654", 2), ("conv 2x4x4 3k3g2", "E654", 2), ("conv 3x4x4 2k3g2", "E654", 2),
    ("rnn 2 h4", "E652", 2), ("rnn 2x3", "E652", 2), ("rnn 2x3 h4 h4 l3", "E652", 2),
    ("rnn 2x3 h4 l2 l2", "E652", 2), ("rnn 2x3 x4", "E652", 2),
    ("rnn 2x3 h4 --stream", "E652", 2), ("fcn 2 3 --stream", "E651", 2),
    ("rnn 2 h4 --stream --format nam", "E401", 1), ("radix", "E652", 2),
    ("radix 2x1", "E652", 2), ("radix 2x2 2x3", "E654", 2), ("radix 2x2 3x2 2x2", "E654", 2),
    ("radix 2x2 --repeat 0", "E653", 2),
    ("radix 2x2 --repeat 2000000000", "E655", 4), ("random 4 4 --density 0", "E653", 2),
    ("random 4 4 --density nan", "E653", 2), ("random 4 4 --distribution x", "E653", 2),
    ("dag 1 2", "E652", 2), ("dag 1 2 3 4", "E652", 2), ("dag 1 2 3 --edges 99", "E653", 2),
    ("dag 1 2 3 --edges 5 --density 0.5", "E653", 2), ("wann 3", "E652", 2),
    ("wann 3 2 --probability 1.5", "E653", 2), ("fcn 3 2 --activation rellu", "E118", 2),
    ("fcn 100000 100000", "E655", 4), ("conv 99999x99999 k1s99999", "E655", 4),
    ("dag 2000000000 1 1 --edges 4", "E655", 4), ("radix " + "x".join(["2"] * 31), "E655", 4),
    ("fcn 3 2 --seed -1", "E144", 2), ("fcn 3 2 --init hi", "E144", 2),
    ("fcn 3 2 --labels letters", "E609", 2), ("fcn 3 2 --format nam --init he", "E609", 2),
    ("fcn 3 2 --format nam --activation relu", "E609", 2),
    ("fcn 3 2 --format nam --bias", "E609", 2),
    ("fcn 30 2 --format nam --labels letters", "E653", 2), ("fcn 3 2 -o net.txt", "E102", 2),
    ("wann 2 9 --probability 0.1 --seed 3 --format nam", "E401", 1),
]


@pytest.mark.parametrize(("words", "code", "status"), REFUSED,
                         ids=[words[:60] for words, _, _ in REFUSED])
def test_what_is_refused(ncc_, words, code, status):
    got, out, err = ncc_("new", *words.split())
    assert (got, out) == (status, "") and f"error[{code}]" in err, err
    assert "help: ncc new" in err or code != "E652"


def test_the_file_and_its_counts(ncc_, tmp_path):
    path = tmp_path / "net.graph"
    status, out, err = ncc_("new", "random", "8", "16", "4", "--density", "0.5", "--init", "xavier",
                            "--seed", "5", "-o", str(path))
    assert (status, out) == (0, "")
    assert err == f"{path}: 28 neurons, 96 edges, 116 parameters, 8 inputs, 4 outputs\n"
    made = ncc.new("random", 8, 16, 4, density=0.5, init="xavier", seed=5)
    assert str(ncc.load(path).graph) == str(made.graph)


def test_options_of_python_are_those_of_the_command():
    with pytest.raises(NccError, match="no kind 'mlp'"):
        ncc.new("mlp", 3)
    with pytest.raises(NccError, match="takes no width"):
        ncc.new("fcn", 3, 2, width=4)
    net = ncc.new("fcn", 3, 2, output_activation="sigmoid", bias=False)
    assert net.n_params == 6 and (net.graph.activations[3:] == 1).all()
