"""The graph level: its text, verifier and meaning, and the passes merge, prune and embed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from nets import inputs_for, nets, to_nal
from reference import Net

from ncc.errors import NccError, Source
from ncc.formats.read import net as syntax_of
from ncc.ir import csr
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Label
from ncc.ir.graph_text import read
from ncc.passes.graph.embed import embed
from ncc.passes.graph.merge import merge
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.passes.graph.resolve import resolve


def graph_of(text: str, format: str = "nal") -> Graph:
    return order(resolve(syntax_of(Source(f"net.{format}", text), format)))


def same(a: Graph, b: Graph) -> bool:
    """Identical, field by field and bit by bit."""
    for name in ("starts", "sources", "weights", "biases", "activations", "aggregations",
                 "inputs", "outputs", "values", "constants", "levels"):
        one, two = getattr(a, name), getattr(b, name)
        if one is None or two is None:
            if one is not two:
                return False
        elif one.dtype != two.dtype or one.tobytes() != two.tobytes():
            return False
    return all(getattr(a, name) == getattr(b, name) for name in (
        "names", "functions", "shows_inputs", "labels", "numerics", "dtype")) and (
        list(a.functions) == list(b.functions))


def bits(a: Any) -> bytes:
    """NaN payloads aside."""
    array = np.asarray(a)
    return bytes(np.where(np.isnan(array), np.array(np.nan, array.dtype), array).tobytes())


FULL = """N 0c
fn 20 1/(1+exp(-4.9*x))
fn 2a x^2
out 0b,08
00
01
02
03 relu 00:0.1,01:-0.0 +=0.5
04 tanh 00@k:0.25,02@k +@b
05 20 mean 03,04:1e-300,00:=2
06 2a maxabs 05:=-0.0,03:=0.0 +0.3
07 silu min 06,05
08 gelu mul 07,06 +@k
09 identity +=3
0a exp max 09:0.5,08:-1.5
0b identity 0a,07,08
"""


def test_the_text_reads_back_to_the_identical_graph() -> None:
    graph = graph_of(FULL)
    graph.verify()
    text = str(graph)
    again = read(Source("g", text))
    assert same(graph, again) and str(again) == text
    assert "0.1" in text and "1e-300" in text and "name p3 b" in text
    names = (Label(1, "left-eye"), Label(2, "8x8"), Label(2, "conv.1", (2, 3)),
             Label(0, "a b\\\" %//é"))
    for other in (graph.with_(levels=None), graph.with_(labels=names, dtype="f64"),
                  graph.with_(numerics="strict"), graph.with_(shows_inputs=True),
                  prune(graph.with_(outputs=graph.outputs[1:])), merge(graph),
                  embed(graph, params=np.linspace(-1, 1, graph.n_params))):
        assert same(other, read(Source("g", str(other))))
    spaced = text.replace("inputs", "// ---- after order\n\ninputs").replace(" sum ", "  sum ")
    assert same(graph, read(Source("g", spaced)))


@given(nets())
def test_texts_of_random_nets_read_back(net: Net) -> None:
    graph = graph_of(to_nal(net))
    graph.verify()
    assert same(graph, read(Source("g", str(graph))))


SMALL = """graph 04
inputs 00 01
outputs 03
values 0.5 - 2.0
constants 1.0
name p1 k
00 @0 input
01 @0 input
02 @1 relu sum +c0 00*p0 01*p1
03 @2 tanh max 02*p2
"""


@pytest.mark.parametrize(("old", "new", "code", "line"), [
    ("graph 04", "graph 05", "E312", 1),
    ("graph 04", "graf 04", "E001", 1),
    ("graph 04", "graph 0g", "E001", 1),
    ("inputs 00 01", "inputs 00 zz", "E311", 2),
    ("inputs 00 01", "inputs 00", "E312", 1),
    ("outputs 03", "outputs", "E312", 1),
    ("outputs 03", "outputs 07", "E312", 1),
    ("outputs 03", "outputs ffffffff", "E311", 3),
    ("0.5 -", "0.5 1.2.3", "E311", 4),
    ("0.5 -", "0.5 1e999", "E312", 1),
    ("constants 1.0", "constants -", "E312", 1),
    ("constants 1.0", "constants x", "E311", 5),
    ("name p1 k", "name p9 k", "E312", 1),
    ("name p1 k", "name p1 9", "E312", 1),
    ("name p1 k", "name p1 k\nname p1 j", "E312", 7),
    ("name p1 k", "name p1 k\nname p0 k", "E312", 1),
    ("name p1 k", "name p1 k\nlabel 00 a\nlabel 01 b 2y2", "E311", 8),
    ("name p1 k", "name p1 k\nlabel 00 a b c", "E311", 7),
    ("name p1 k", "name p1 k\nlabel 00 \"\\q\"", "E311", 7),
    ("name p1 k", "name p1 k\nlabel 00 \"\"", "E312", 7),
    ("name p1 k", "name p1 k\nlabel 00 \"\\n\"", "E312", 7),
    ("name p1 k", "name p1 k\nlabel 00 a\nlabel 01 a", "E312", 8),
    ("name p1 k", "name p1 k\nlabel 00 a\nlabel 02 b 3", "E312", 8),
    ("inputs 00 01", "numerics exact\ninputs 00 01", "E312", 1),
    ("inputs 00 01", "dtype f16\ninputs 00 01", "E312", 1),
    ("outputs 03", "outputs 03\nfn 10 x", "E312", 4),
    ("outputs 03", "outputs 03\nfn 20 x+", "E312", 1),
    ("01 @0 input", "01 input", "E312", 8),
    ("01 @0 input", "02 @0 input", "E312", 8),
    ("02 @1 relu", "02 @1 rely", "E311", 9),
    ("02 @1 relu", "02 @1 20", "E312", 9),
    ("02 @1 relu", "02 @0 relu", "E312", 9),
    ("relu sum", "relu avg", "E310", 9),
    ("+c0", "+c1", "E312", 9),
    ("00*p0", "04*p0", "E312", 9),
    ("00*p0", "00*p3", "E312", 9),
    ("00*p0", "00", "E310", 9),
    ("tanh max 02*p2", "tanh max", "E312", 10),
    ("03 @2 tanh max 02*p2", "03 @2 absent", "E312", 10),
])
def test_bad_texts_are_refused_with_a_place(old: str, new: str, code: str, line: int) -> None:
    read(Source("g", SMALL))
    assert SMALL.count(old) == 1
    with pytest.raises(NccError) as caught:
        read(Source("g", SMALL.replace(old, new)))
    assert (caught.value.code, caught.value.line, caught.value.status) == (code, line, 1)


def _dot(nal: str, neuron: int):
    """A graph of sums, with one of them made a dot."""
    def made(_: Graph) -> Graph:
        graph = graph_of(nal + "\n")
        return graph.with_(aggregations=np.where(np.arange(graph.n_neurons) == neuron,
                                                 AGGREGATIONS.index("dot"), 0).astype(np.int8))
    return made


def _set(name: str, index: int, value: Any) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        array = getattr(graph, name).copy()
        array[index] = value
        return graph.with_(**{name: array})

    return change


BREACHES: list[tuple[str, Callable[[Graph], Graph]]] = [
    ("no vector of int32", lambda g: g.with_(sources=g.sources.astype(np.int64))),
    ("no vector of float64", lambda g: g.with_(values=g.values[None])),
    ("weights has 3 entries, not 18", lambda g: g.with_(weights=g.weights[:3])),
    ("biases has 11 entries", lambda g: g.with_(biases=g.biases[:-1])),
    ("levels is no vector", lambda g: g.with_(levels=np.zeros(3, np.int32))),
    ("no outputs", lambda g: g.with_(outputs=g.outputs[:0])),
    ("starts do not cut", _set("starts", 0, 1)),
    ("starts do not cut", _set("starts", 5, 90)),
    ("starts do not cut", _set("starts", -1, 17)),
    ("in-list names no neuron", _set("sources", 4, 12)),
    ("in-list names no neuron", _set("sources", 4, -1)),
    ("an output is no neuron", _set("outputs", 0, 12)),
    ("a weight is no slot", _set("weights", 0, 99)),
    ("a weight is no slot", _set("weights", 0, -99)),
    ("a weight is no slot", _set("weights", 0, NONE)),
    ("bias is no slot", _set("biases", 3, 99)),
    ("a value is infinite", _set("values", 0, math.inf)),
    ("a constant is not finite", _set("constants", 0, math.nan)),
    ("do not ascend", lambda g: g.with_(functions={0x2A: "x^2", 0x20: "x"})),
    ("do not ascend", lambda g: g.with_(functions={0x1F: "x^2", **g.functions})),
    ("function 20", lambda g: g.with_(functions={**g.functions, 0x20: "x+"})),
    ("name belongs to no slot", lambda g: g.with_(names={99: "k"})),
    ("two slots have one name", lambda g: g.with_(names={0: "k", 1: "k"})),
    ("no identifier", lambda g: g.with_(names={0: "k k"})),
    ("activation is unknown", _set("activations", 3, 0x21)),
    ("activation is unknown", _set("activations", 3, -3)),
    ("aggregation is unknown", _set("aggregations", 3, len(AGGREGATIONS))),
    ("inputs are not the neurons", _set("inputs", 0, 1)),
    ("inputs are not the neurons", _set("activations", 0, 3)),
    ("input or absent neuron has a sum", _set("biases", 0, 0)),
    ("input or absent neuron has a sum", _set("activations", 0xB, ABSENT)),
    ("reads an absent neuron", _set("activations", 9, ABSENT)),
    ("an output is absent", _set("activations", 0xB, ABSENT)),
    ("neither in-list nor bias", _set("biases", 9, NONE)),
    ("aggregation has no in-list", _set("aggregations", 9, 3)),
    ("no pairs of edges", _dot("N 04\n00\n01\n02\n03 00 00,01:=1,02", 3)),
    ("no constant 1", _dot("N 03\n00\n01\n02 00 00,01:1", 2)),
    ("no constant 1", _dot("N 03\n00\n01\n02 00 00:=1,01:=2", 2)),
    ("no printable text", lambda g: g.with_(labels=(Label(0, "a\n"),))),
    ("no printable text", lambda g: g.with_(labels=(Label(0, ""),))),
    ("label eyes has no shape", lambda g: g.with_(labels=(Label(0, "eyes", (2, 0)),))),
    ("names 4 neurons from 09 on", lambda g: g.with_(labels=(Label(9, "eyes", (2, 2)),))),
    ("names 1 neurons from -1 on", lambda g: g.with_(labels=(Label(-1, "eye"),))),
    ("second label eye", lambda g: g.with_(labels=(Label(1, "eye"), Label(2, "eye")))),
    ("numerics exact", lambda g: g.with_(numerics="exact")),
    ("dtype f16", lambda g: g.with_(dtype="f16")),
    ("level is negative", _set("levels", 0, -1)),
    ("does not rise", _set("levels", 3, 0)),
]


@pytest.mark.parametrize("k", range(len(BREACHES)))
def test_every_invariant_is_caught(k: int) -> None:
    message, breach = BREACHES[k]
    graph = graph_of(FULL)
    graph.verify()
    if message in ("an output is absent", "reads an absent neuron"):  # else caught before
        j = 0xB if "output" in message else 9
        lengths = np.diff(graph.starts)
        kept = np.repeat(np.arange(12) != j, lengths)
        lengths[j] = 0
        graph = _set("biases", j, NONE)(graph).with_(
            starts=np.concatenate([[0], np.cumsum(lengths)]),
            sources=graph.sources[kept], weights=graph.weights[kept])
    with pytest.raises(NccError, match=message) as caught:
        breach(graph).verify()
    assert caught.value.status == 3


# What a graph means --------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_the_sum_starts_from_the_bias_in_order(numerics: str) -> None:
    third, big = np.float32(1) / np.float32(3), np.float32(1e8)
    graph = graph_of("N 05\n00\n01\n02\n03 00 00,01,02 +\n04 00 00,01,02\n")
    w = np.array([third, third, -third, big, third, third, -third], np.float64)
    x = np.array([0.1, 3e8, 3e8], np.float32)

    def mac(acc: np.float32, n: np.float32, w: np.float32) -> np.float32:
        exact = float(n) * float(w)  # exact in float64
        return np.float32(exact + float(acc)) if numerics == "fused" else acc + n * w

    sums = []
    for acc, terms in ((big, zip(x, [third, third, -third], strict=True)),
                       (x[0] * third, zip(x[1:], [third, -third], strict=True))):
        for n, weight in terms:
            acc = mac(acc, n, np.float32(weight))
        sums.append(acc)
    assert graph.run(x, w, "f32", numerics).tolist() == [float(s) for s in sums]


@pytest.mark.parametrize(("agg", "expected"), [
    ("sum", 2 - 6 + 6 + 0.5), ("mean", 2 / 3 + 0.5), ("mul", -72 + 0.5), ("max", 6.5),
    ("min", -5.5), ("maxabs", -5.5), ("sumbias", 2 - 6 + 6 + 0.5), ("maximum", 6.5),
    ("minimum", -5.5), ("div", 2 / -6 / 6 + 0.5)])
def test_aggregations(agg: str, expected: float) -> None:
    graph = graph_of("N 04\n00\n01\n02\n03 00 sum 00:=1,01:=-2,02:=1.5 +=0.5\n")
    graph = graph.with_(aggregations=np.array([0, 0, 0, AGGREGATIONS.index(agg)], np.int8))
    graph.verify()
    assert graph.run([2, 3, 4], dtype="f64")[0] == pytest.approx(expected, rel=1e-15)


def test_a_dot_is_a_sum_of_products_of_two_sources() -> None:
    graph = graph_of("N 04\n00\n01\n02\n03 00 dot 00*01:0.5,02*02:=-3,01*00@k:2 +0.25\n")
    assert graph.sources.tolist() == [0, 1, 2, 2, 1, 0]
    assert graph.run([2, 3, 4], dtype="f64")[0] == 0.25 + 3 - 48 + 12
    dx, dparams = graph.gradient([2, 3, 4], [1], dtype="f64")
    assert dx.tolist() == [3 * 0.5 + 2 * 3, 2 * 0.5 + 2 * 2, -6 * 4]
    assert dparams.tolist() == [6, 6, 1]
    big = 1 + 2.0**-12  # a product of which is rounded, but not the last
    one = graph_of("N 03\n00\n01\n02 00 dot 00*01:=1.000244140625 +=-1\n")
    for numerics, expected in (("fused", np.float64(np.float32(big * big)) * big - 1),
                               ("strict", np.float32(np.float32(big * big) * np.float32(big)) - 1)):
        assert one.run([big, big], dtype="f32", numerics=numerics)[0] == np.float32(expected)


def test_ties_and_nans_of_extremes() -> None:
    graph = graph_of("N 06\n00\n01\n02 00 max 00:=1,01:=1\n03 00 min 00:=1,01:=1\n"
                     "04 00 maxabs 00:=1,01:=1\n05 00 00:=1,01:=-1\n")
    y = graph.run([[0.0, -0.0], [-2.0, 2.0], [np.nan, 1.0], [1.0, np.nan]])
    assert bits(y[0, :3]) == bits(np.array([0.0, 0.0, 0.0], np.float32))
    assert y[1, :3].tolist() == [2, -2, -2]
    assert np.isnan(y[2, :3]).all()  # a NaN that is first stays
    assert y[3, :3].tolist() == [1, 1, 1]  # a later one is not greater
    assert np.isnan(y[2:, 3]).all()


@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_a_bias_after_the_sum_is_an_addition_of_its_own(numerics: str) -> None:
    graph = graph_of("N 03\n00\n01\n02 00 00:=0.1,01:=0.3 +=1e8\n")
    after = graph.with_(aggregations=np.array([0, 0, AGGREGATIONS.index("sumbias")], np.int8))
    x = [np.float32(1e7), np.float32(-3e6)]
    acc = x[0] * np.float32(0.1)
    if numerics == "fused":
        acc = np.float32(float(acc) + float(x[1]) * float(np.float32(0.3)))
    else:
        acc = acc + x[1] * np.float32(0.3)
    assert after.run(x, [], numerics=numerics)[0] == acc + np.float32(1e8)
    # Of no edges, it is the bias; and the gradient is the sum's.
    bare = graph_of("N 02\n00\n01 tanh +0.5\n")
    lone = bare.with_(aggregations=np.array([0, AGGREGATIONS.index("sumbias")], np.int8),
                      levels=None)
    lone.verify()
    assert lone.run([2])[0] == bare.run([2])[0]
    assert same(order(lone), bare)
    with pytest.raises(NccError, match="no in-list"):
        lone.with_(levels=bare.levels).verify()
    for a, b in zip(after.gradient(x, [1], [], "f64"), graph.gradient(x, [1], [], "f64"),
                    strict=True):
        assert a.tolist() == b.tolist()


def test_a_nan_anywhere_is_the_maximum_and_the_minimum() -> None:
    graph = graph_of("N 05\n00\n01\n02\n03 00 max 00:=1,01:=1,02:=1\n"
                     "04 00 min 00:=1,01:=1,02:=1\n")
    aggregations = [0, 0, 0, *map(AGGREGATIONS.index, ("maximum", "minimum"))]
    graph = graph.with_(aggregations=np.array(aggregations, np.int8))
    for k in range(3):
        x = np.array([3.0, -2.0, 5.0])
        x[k] = np.nan
        assert np.isnan(graph.run(x)).all()
    # The first of equals, of zeros too; without NaN they are max and min, and so are gradients.
    assert bits(graph.run([0.0, -0.0, -0.0])) == bits(np.float32([0.0, 0.0]))
    assert bits(graph.run([-0.0, 0.0, 0.0])) == bits(np.float32([-0.0, -0.0]))
    assert graph.gradient([3.0, -2.0, 5.0], [1, 10])[0].tolist() == [0, 10, 1]


def test_shapes_and_missing_values() -> None:
    graph = graph_of("N 03\n00\n01\n02 relu 00:1,01\n")
    assert graph.run([1, 2], [1, 3]).shape == (1,)
    assert graph.run(np.ones((7, 2)), [1, 3]).shape == (7, 1)
    assert graph.run(np.ones((0, 2)), [1, 3]).shape == (0, 1)
    for bad in (np.ones(3), np.ones((2, 3)), np.ones((1, 1, 2)), 1.0):
        with pytest.raises(ValueError, match="2 inputs"):
            graph.run(bad, [1, 3])
    with pytest.raises(ValueError, match="has 2"):
        graph.run([1, 2], [1, 3, 4])
    with pytest.raises(NccError, match="1 of 2 parameters"):
        graph.run([1, 2])
    with pytest.raises(NccError, match="overflows f32"):
        graph_of("N 02\n00\n01 relu 00:1e39\n").run([1])
    with pytest.raises(NccError, match="cycle"):
        resolve(syntax_of(Source("n", "N 03\nout 01\n00\n01 00 00:1,02:1\n02 00 01:1\n"),
                            "nal")).run([1])


def test_an_unordered_graph_means_the_same_and_outputs_may_be_inputs() -> None:
    text = "N 05\nout 00,02,04\n00\n01\n02 tanh 04:0.5,00:1\n03 relu 01:2\n04 00 03:1 +=1\n"
    graph = resolve(syntax_of(Source("n", text), "nal"))
    y = graph.run([3, 4], dtype="f64")
    assert y.tolist() == order(graph).run([3, 4], dtype="f64").tolist()
    assert y[0] == 3 and y[2] == 9 and y[1] == pytest.approx(math.tanh(7.5))


# Passes --------------------------------------------------------------------------------------


def living(graph: Graph) -> int:
    return int((graph.activations >= 0).sum())


@given(nets().flatmap(lambda net: inputs_for(net, wild=True).map(lambda x: (net, x))))
def test_passes_keep_every_bit(drawn: tuple[Net, Any]) -> None:
    net, x = drawn
    graph = graph_of(to_nal(net))
    params = np.random.default_rng(1).normal(size=graph.n_params)
    small = prune(merge(embed(graph, params=params)))
    tied = prune(merge(graph))
    for g in (small, tied):
        g.verify()
    assert small.n_params == graph.n_params and living(small) <= living(tied) <= living(graph)
    for dtype in ("f32", "f64"):
        for numerics in ("strict", "fused"):
            y = bits(graph.run(x, params, dtype, numerics))
            assert y == bits(tied.run(x, params, dtype, numerics))
            assert y == bits(small.run(x, params, dtype, numerics))


def test_merge_collapses_chains_of_equal_neurons() -> None:
    graph = graph_of("N 08\n00\n01\n02 tanh 00@a,01@b\n03 tanh 00@a,01@b\n04 relu 02@c +@d\n"
                     "05 relu 03@c +@d\n06 00 04:=1,05:=1\n07 00 04:=2,05\n")
    merged = merge(graph)
    merged.verify()
    assert np.flatnonzero(merged.activations == ABSENT).tolist() == [3, 5]
    assert merged.sources[merged.starts[6] : merged.starts[7]].tolist() == [4, 4]
    assert merged.n_params == graph.n_params and same(merge(merged), merged)


@pytest.mark.parametrize("numerics", ["fused", "fast"])
def test_merge_a_part_of_a_level_at_a_time(numerics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal neurons of one wide level, in whatever parts it is looked at."""
    rng = random.Random(1)
    kinds = [",".join(f"{i:02x}:={rng.choice('12')}" for i in rng.sample(range(8), k))
             for k in (1, 2, 2, 3, 5, 8, 8)]
    lines = [f"{j:02x}" for j in range(8)]
    lines += [f"{j:02x} relu {rng.choice(kinds)}" for j in range(8, 160)]
    graph = graph_of("\n".join([f"N {len(lines):x}", *lines, ""]))
    whole = merge(graph, numerics=numerics)
    assert living(whole) == len({line[3:] for line in lines[8:]})
    for size in (1, 7, 64):
        monkeypatch.setattr(csr, "PART", size)
        assert same(merge(graph, numerics=numerics), whole)


def test_merge_redirects_outputs() -> None:
    graph = graph_of("N 04\n00\n01 relu 00:=2\n02 relu 00:=2\n03 tanh 00:=2\n")
    assert merge(graph).outputs.tolist() == [1, 1, 3]


@pytest.mark.parametrize(("one", "two"), [
    ("relu 00:=2,01:=2", "relu 00:=2.0,01:=2e0"),  # constants by value, not by entry
    ("silu 00:=2", "swish 00:=2"),  # one formula
    ("20 00:=2", "21 00:=2"),
    ("relu 00@a +@b", "relu 00@a +@b"),
    ("relu max 00@a,01@b", "relu max 00@a,01@b"),
    ("relu +=1", "relu +=1"),
    ("relu 00:=-0.0", "relu 00:=-0.0"),
])
def test_what_merges(one: str, two: str) -> None:
    assert living(merge(graph_of(_pair(one, two)))) == 1


@pytest.mark.parametrize(("one", "two"), [
    ("relu 00:=0.0", "relu 00:=-0.0"),  # n*0 and n*-0 differ in their sign
    ("relu 00:=1 +=0.0", "relu 00:=1 +=-0.0"),
    ("relu 00:1", "relu 00:1"),  # two parameters that happen to be equal now
    ("relu 00", "relu 00"),
    ("relu 00@a +", "relu 00@a +"),
    ("relu 00@a", "relu 00@b"),
    ("relu 00@a", "relu 00@a +=0"),
    ("relu 00@a,01@b", "relu 01@b,00@a"),  # the order of a sum counts
    ("relu 00@a,01@b", "relu 00@a"),
    ("relu 00@a,01@b", "relu max 00@a,01@b"),
    ("relu 00@a", "tanh 00@a"),
    ("20 00@a", "22 00@a"),
    ("relu 00@a", "relu 01@a"),
    ("relu 00:=1", "relu 00:=1.0000000000000002"),
])
def test_what_must_not_merge(one: str, two: str) -> None:
    graph = graph_of(_pair(one, two))
    assert same(merge(graph), graph)


def _pair(one: str, two: str) -> str:
    return f"N 04\nfn 20 x*x\nfn 21 x*x\nfn 22 x*x*1\n00\n01\n02 {one}\n03 {two}\n"


@pytest.mark.parametrize(("one", "two"), [
    ("relu 00@a,01@b", "relu 01@b,00@a"),
    ("relu 00:=1,01:=2 +@c", "relu 01:=2,00:=1 +@c"),
])
def test_fast_merges_sums_in_any_order(one: str, two: str) -> None:
    graph = graph_of(_pair(one, two))
    assert living(merge(graph, numerics="fast")) == 1 and living(merge(graph)) == 2
    # However wide the level: of a few neurons, of many alike, of many of several lengths.
    for more in ("relu 00:=3,01:=2", "relu 00:=3"):
        lines = [f"{k:02x} {(one, two)[k % 2]}" for k in range(2, 60)]
        lines += [f"{k:02x} {more}" for k in range(60, 64)]
        wide = graph_of("N 40\n00\n01\n" + "\n".join(lines) + "\n")
        assert living(merge(wide, numerics="fast")) == 2 and living(merge(wide)) == 3


def test_fast_keeps_the_order_of_other_aggregations() -> None:
    graph = graph_of(_pair("relu mul 00:=2,01:=3", "relu mul 01:=3,00:=2"))
    assert same(merge(graph, numerics="fast"), graph)


def test_fast_joins_constant_edges_of_one_source() -> None:
    text = ("N 08\n00\n01\n02 relu 00:=2\n03 relu 00:=2\n04 relu 00:=2\n"
            "05 00 02:=0.5,01:=1,03:=0.25,04:=-2 +=1\n06 00 02:3,03:=4,04:5\n"
            "07 00 max 02:=1,03:=1\n")
    graph = graph_of(text)
    joined = merge(graph, numerics="fast")
    joined.verify()
    assert str(joined).splitlines()[-3:] == [
        "05 @2 identity sum +c2 02*c6 01*c2", "06 @2 identity sum 02*p0 02*c5 02*p1",
        "07 @2 identity max 02*c2 02*c2"]
    assert joined.constants[6] == -1.25
    assert merge(graph).n_edges == joined.n_edges + 2
    x = [[3.0, -1.0], [-2.0, 5.0]]
    assert joined.run(x).tolist() == graph.run(x).tolist()


def test_fast_joins_no_weights_whose_sum_overflows() -> None:
    graph = graph_of("N 04\n00\n01 relu 00:=1\n02 relu 00:=1\n03 00 01:=3e38,02:=3e38\n")
    joined = merge(graph, numerics="fast")
    assert living(joined) == 2 and joined.n_edges == 3


def test_merge_numbers_narrow_levels_as_it_does_wide_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    lines = []
    for j in range(1, 121):
        below = range(max(0, (j - 1) // 5 * 5 - 4), (j - 1) // 5 * 5 + 1)
        edges = [f"{i:02x}:={draw.randrange(1, 3)}" for i in draw.sample(below, min(2, len(below)))]
        lines.append(f"{j:02x} {draw.choice(['relu', 'tanh', 'relu max'])} {','.join(edges)}")
    graph = graph_of("N 79\n00\n" + "\n".join(lines) + "\n")
    for numerics in ("fused", "fast"):
        expected = merge(graph, numerics=numerics)
        assert living(expected) < 120
        with monkeypatch.context() as patch:
            patch.setitem(merge.__globals__, "NARROW", 0)
            assert same(merge(graph, numerics=numerics), expected)


def test_inputs_never_merge_and_stay() -> None:
    graph = graph_of("N 03\n00\n01\n02 relu 00:=1\n")
    small = prune(merge(graph))
    assert small.inputs.tolist() == [0, 1] and (small.activations[:2] == INPUT).all()


def test_a_tree_of_repeated_sums_comes_back_to_a_chain() -> None:
    depth, lines = 10, ["00"]
    size = 2 ** (depth + 1) - 2
    level = [0] * 2**depth
    for k in range(depth):
        made = []
        for j in range(len(level) // 2):
            lines.append(f"{len(lines):02x} tanh {level[2 * j]:x}:={k + 1}"
                         + ("" if level[2 * j] == level[2 * j + 1] else
                            f",{level[2 * j + 1]:x}:=0.5"))
            made.append(len(lines) - 1)
        level = made
    graph = graph_of(f"N {len(lines):02x}\n" + "\n".join(lines) + "\n")
    small = prune(merge(graph))
    assert size > 2000 and living(small) == depth and small.n_edges == 2 * depth - 1
    assert bits(small.run([0.3])) == bits(graph.run([0.3]))


def test_merge_survives_chance_equal_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every hash the same, the comparisons alone must find the same classes."""
    random_lines = random.Random(7)
    lines = [f"{j:02x} {random_lines.choice(['relu', 'tanh'])} "
             f"0{random_lines.randrange(2)}:={random_lines.randrange(3)}" for j in range(2, 60)]
    graph = graph_of("N 3c\n00\n01\n" + "\n".join(lines) + "\n")
    expected = merge(graph)
    assert living(expected) <= 12
    monkeypatch.setitem(merge.__globals__, "_hashes",
                        lambda keys, rows, *rest: np.zeros(len(rows), np.uint64))
    assert same(merge(graph), expected)


def test_prune_removes_what_no_output_sees_and_keeps_slots() -> None:
    graph = graph_of("N 07\nout 04\n00\n01\n02 relu 00:1\n03 relu 00:2\n04 tanh 02:3 +4\n"
                     "05 tanh 03:5,04:6\n06 00 max 05:7,02:8 +9\n")
    small = prune(graph)
    small.verify()
    assert np.flatnonzero(small.activations == ABSENT).tolist() == [3, 5, 6]
    assert small.values.tolist() == graph.values.tolist() and small.n_edges == 2
    assert bits(small.run([2, 3])) == bits(graph.run([2, 3]))
    assert prune(small) is small


def test_prune_drops_constant_zeros_under_fast_alone() -> None:
    graph = graph_of("N 06\n00\n01\n02 relu 00:=0,01:=1\n03 relu 00:=0,01:=-0.0\n"
                     "04 relu max 00:=0,01:=1\n05 relu 00:=0 +=1\n")
    assert prune(graph) is graph and prune(graph, numerics="strict") is graph
    fast = prune(graph, numerics="fast")
    fast.verify()
    assert np.diff(fast.starts).tolist() == [0, 0, 1, 1, 2, 0]
    assert fast.run([3, 4]).tolist() == graph.run([3, 4]).tolist()
    seen = prune(graph_of("N 04\n00\n01 relu 00:=1\n02 relu 00:=1\n03 relu 01:=0,02:=1\n"),
                 numerics="fast")
    assert seen.activations[1] == ABSENT


def test_embed_keeps_the_interface() -> None:
    graph = graph_of("N 04\n00\n01\n02 relu 00@k,01@k +=0.5\n03 tanh 02 +\n")
    params = np.array([0.3, -1.5, 0.25])
    fixed = embed(graph, params=params)
    fixed.verify()
    assert fixed.n_params == 3 and fixed.values.tolist() == params.tolist()
    assert (fixed.weights < 0).all() and fixed.biases.tolist() == [NONE, NONE, -1, -4]
    x = [[1.0, 2.0], [-3.0, 0.1]]
    assert bits(fixed.run(x)) == bits(graph.run(x, params))
    assert embed(graph) is graph
    with pytest.raises(ValueError, match="has 3"):
        embed(graph, params=params[:2])
    with pytest.raises(ValueError, match="finite"):
        embed(graph, params=np.array([1, np.nan, 2]))


def test_passes_want_levels() -> None:
    graph = graph_of("N 02\n00\n01 relu 00\n").with_(levels=None)
    for call in (merge, prune):
        with pytest.raises(ValueError, match="levels"):
            call(graph)


def test_four_million_edges_merge() -> None:
    """In seconds: it would not end if the work grew with the square. Of the last layer's neurons,
    each odd one computes what the one before does."""
    n, layers, fan = 12_500, 10, 32
    rng = np.random.default_rng(0)
    sources = np.concatenate([rng.integers(0, n, n * fan) + k * n for k in range(layers)])
    weights = -1 - rng.integers(0, 2, len(sources))
    for of_edges in (sources, weights):
        last = of_edges[-n * fan :].reshape(n, fan)
        last[1::2] = last[::2]
    lengths = np.repeat([0, fan], [n, n * layers])
    graph = Graph(
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sources=sources.astype(np.int32), weights=weights.astype(np.int32),
        biases=np.full(n * (layers + 1), NONE, np.int32),
        activations=np.repeat(np.array([INPUT, 3], np.int32), [n, n * layers]),
        aggregations=np.zeros(n * (layers + 1), np.int8), inputs=np.arange(n, dtype=np.int32),
        outputs=np.arange(n * layers, n * (layers + 1), dtype=np.int32),
        values=np.zeros(0), constants=np.array([0.5, -0.5]),
        levels=np.repeat(np.arange(layers + 1, dtype=np.int32), n))
    small = prune(merge(graph))
    assert len(set(small.outputs.tolist())) == n // 2
    assert small.n_edges <= graph.n_edges - n // 2 * fan
