"""The three net formats, rule by rule; and the order of what they say."""

from __future__ import annotations

import random
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ncc.errors import NccError, Source
from ncc.formats import fields
from ncc.formats.read import decode, net
from ncc.ir.graph import INPUT, NONE, Graph
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve, unused_inputs

ROOT = Path(__file__).parents[2]
SEED = Path(__file__).parents[1] / "seed"

NAL = """N 08
fn 20 1/(1+exp(-4.9*x))
out 07,06
00
01
02 relu 00,01
03 3 00:0.5, 01:-1.25
04 20 00@k0,01@k1:0.5
05 00 02:=1,03:=-1 +
06 tanh 04,05@k0 +0.1
07 00 maxabs 04,05 +=0.1
"""


def graph_of(text: str, format: str = "nal", activation: int | str = 0,
             outputs: str | None = None) -> Graph:
    syntax = net(Source("net", text), format)
    return order(resolve(syntax, activation=activation, outputs=outputs), syntax=syntax)


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same net with the same parameters."""
    arrays = ("starts", "sources", "weights", "biases", "activations", "aggregations", "inputs",
              "outputs", "levels")
    return (all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)
            and a.values.tobytes() == b.values.tobytes()
            and a.constants.tobytes() == b.constants.tobytes()
            and a.names == b.names and a.functions == b.functions)


def in_lists(graph: Graph) -> list[list[int]]:
    return [graph.sources[a:b].tolist()
            for a, b in zip(graph.starts[:-1], graph.starts[1:], strict=True)]


# .nal -------------------------------------------------------------------------------------------


def test_the_graph_of_every_extension() -> None:
    g = graph_of(NAL)
    assert in_lists(g) == [[], [], [0, 1], [0, 1], [0, 1], [2, 3], [4, 5], [4, 5]]
    assert g.activations.tolist() == [INPUT, INPUT, 3, 3, 0x20, 0, 2, 0]
    assert g.aggregations.tolist() == [0, 0, 0, 0, 0, 0, 0, 5]
    assert g.inputs.tolist() == [0, 1] and g.outputs.tolist() == [7, 6]
    # slots: 02's 0 1, 03's 2 3, k0 4, k1 5, 05's bias 6, 04->06 7, (k0), 06's bias 8, 07's 9 10
    assert g.weights.tolist() == [0, 1, 2, 3, 4, 5, -1, -2, 7, 4, 9, 10]
    assert g.biases.tolist() == [NONE] * 5 + [6, 8, -3]
    nan = np.nan
    assert np.array_equal(g.values, [nan, nan, 0.5, -1.25, nan, 0.5, nan, nan, 0.1, nan, nan],
                          equal_nan=True)
    assert g.constants.tolist() == [1.0, -1.0, 0.1]
    assert g.names == {4: "k0", 5: "k1"}
    assert g.functions == {0x20: "1/(1+exp(-4.9*x))"}
    assert g.levels is not None and g.levels.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    for array, dtype in ((g.starts, np.int64), (g.sources, np.int32), (g.weights, np.int32),
                         (g.biases, np.int32), (g.activations, np.int32), (g.inputs, np.int32),
                         (g.aggregations, np.int8), (g.outputs, np.int32), (g.levels, np.int32),
                         (g.values, np.float64), (g.constants, np.float64)):
        assert array.dtype == dtype


@pytest.mark.parametrize("spelling", [
    NAL.replace("\n", "\r\n"),
    "\ufeff" + NAL,
    NAL.rstrip("\n"),
    NAL.replace("N 08", "n 8"),
    NAL.replace("N 08", "% a comment\n\n  # another \u00e9\n\tN\t0008  % count"),
    NAL.replace("\n", " % comment, with 00:1\n"),
    NAL.replace("\n", "#\n\n  \n%\n"),
    NAL.replace(",", " \t,  "),
    NAL.replace("00,01\n", "000000000000000000000,1\n"),
    NAL.replace("\n0", "\n \t0").replace(" 0", "   0"),
    NAL.replace("fn 20 1/(1+exp(-4.9*x))\n", "") + "fn 20 1/(1+exp(-4.9*x))\n",
    NAL.replace("0.5", "+.5").replace("-1.25", "-0X1.4p0").replace("+=0.1", "+=1e-1"),
    NAL.replace("relu", "03").replace(" tanh ", " 2 "),
])
def test_spellings_of_the_same_net(spelling: str) -> None:
    assert spelling != NAL and same(graph_of(spelling), graph_of(NAL))


def test_hex_digits_in_either_case() -> None:
    lines = "\n".join(f"{i:x}" for i in range(11))
    assert same(graph_of(f"N C\n{lines}\nB 1D 0A,9"), graph_of(f"N 0c\n{lines}\n0b 1d 0a,09"))


@pytest.mark.parametrize("text, value", [
    ("0.5", 0.5), ("-1.25", -1.25), ("+2", 2.0), ("5.", 5.0), (".5", 0.5), ("1e3", 1000.0),
    ("1.5E-2", 0.015), ("0x1.8p3", 12.0), ("-0X.8P-1", -0.25), ("0xff", 255.0), ("0x1.", 1.0),
    ("1e-999", 0.0), ("-0", -0.0), ("0.1000000000000000055511151231257827", 0.1),
])
def test_numbers_as_strtod_reads_them(text: str, value: float) -> None:
    for line in (f"01 03 00:{text} +{text}", f"01 03 00@a:{text} +@b:{text}"):
        assert graph_of(f"N 02\n00\n{line}").values.tobytes() == np.array([value] * 2).tobytes()
    graph = graph_of(f"N 02\n00\n01 03 00:={text} +={text}")
    assert graph.constants.tobytes() == np.array([value]).tobytes()
    assert graph.values.size == 0 and graph.weights[0] == graph.biases[1] == -1


def test_constants_are_told_apart_by_bits() -> None:
    graph = graph_of("N 03\n00\n01 03 00:=-0\n02 03 00:=0,01:=-0")
    assert np.signbit(graph.constants).tolist() == [True, False]
    assert graph.weights.tolist() == [-1, -2, -1]


def test_ties_of_weights_and_biases_share_one_namespace() -> None:
    graph = graph_of("N 04\n00\n01 03 00 +@k\n02 03 00@k,01\n03 03 02 +@k:7")
    assert graph.weights.tolist() == [0, 1, 2, 3]
    assert graph.biases.tolist() == [NONE, 1, NONE, 1]
    assert graph.names == {1: "k"} and graph.values[1] == 7


def test_bias_alone_is_a_constant_neuron() -> None:
    graph = graph_of("N 02\n00 00 +=1\n01 03 00")
    assert graph.inputs.size == 0 and graph.outputs.tolist() == [1]
    assert graph.activations.tolist() == [0, 3]


@pytest.mark.parametrize("name, code",
                         [(n, k) for k, n in enumerate(("sum", "mul", "mean", "max", "min",
                                                         "maxabs"))])
def test_aggregations(name: str, code: int) -> None:
    assert graph_of(f"N 02\n00\n01 03 {name} 00").aggregations[1] == code
    assert graph_of(f"N 02\nagg 01 {name}\n00 01", "nel").aggregations[1] == code


def test_in_lists_keep_their_order() -> None:
    assert in_lists(graph_of("N 04\n00\n01\n02\n03 03 02,00,01"))[3] == [2, 0, 1]


def test_edges_may_come_from_above() -> None:
    graph = graph_of("N 03\n00 03 02\n01 03 00\n02")
    assert graph.levels is not None and graph.levels.tolist() == [1, 2, 0]
    assert graph.inputs.tolist() == [2] and graph.outputs.tolist() == [1]


def test_outputs() -> None:
    text = "N 04\n00\n01 03 00\n02 03 00\n03 03 00"
    assert graph_of(text).outputs.tolist() == [1, 2, 3]
    assert graph_of(text + "\nout 3 , 00").outputs.tolist() == [3, 0]
    assert graph_of(text + "\nout 03", outputs="02, 1").outputs.tolist() == [2, 1]


def test_inputs_that_nobody_reads() -> None:
    assert unused_inputs(graph_of("N 04\n00\n01\n02\n03 03 01\nout 02,03")).tolist() == [0]


@pytest.mark.parametrize("width", range(1, 12))
def test_indices_of_any_width(width: int) -> None:
    lines = ["N 41", *(f"{i:0{width}x}" for i in range(64)),
             "40 03 " + ",".join(f"{i:0{width}X}" for i in range(0, 64, 3))]
    assert in_lists(graph_of("\n".join(lines)))[64] == list(range(0, 64, 3))


def test_plain_and_rich_edges_in_one_list() -> None:
    graph = graph_of("N 06\n00\n01\n02\n03\n04\n05 03 04@k,00,1:=2,03@k:3,00002:0.5")
    assert in_lists(graph)[5] == [4, 0, 1, 3, 2]
    assert graph.weights.tolist() == [0, 1, -1, 0, 2]
    assert np.array_equal(graph.values, [3, np.nan, 0.5], equal_nan=True)


def test_runs_longer_than_a_token() -> None:
    # 5,000 lines are more than one NEURONS token holds; the pieces must meet without a seam.
    kinds = ["{0:x} 03 {1:x}", "{0:x} relu {1:x}:0.5 +1", "{0:x} 1 mul {1:x}@k # x"]
    lines = ["N 1388", "0", *(kinds[j % 3].format(j, j - 1) for j in range(1, 5000))]
    graph = graph_of("\n".join(lines))
    assert graph.sources.tolist() == list(range(4999))
    kind = np.arange(1, 5000) % 3
    assert np.array_equal(graph.aggregations[1:], np.where(kind == 2, 1, 0))
    assert np.array_equal(graph.activations[1:], np.choose(kind, [3, 3, 1]))
    assert np.array_equal(graph.biases[1:] >= 0, kind == 1)
    assert len(set(graph.weights[kind == 2].tolist())) == 1
    assert np.array_equal(graph.values[graph.weights[kind == 1]], np.full(np.sum(kind == 1), 0.5))


@pytest.mark.parametrize("size", [0, 1, 7, 40])
def test_pieces_of_a_token_meet_without_a_seam(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [NAL, "N 05\n00\n01 # a, b\n\n02 relu 00,~02 ,\t01:0.5 +1\n03 tanh dot 00*02,01*~03:2\n"
             "04 relu 00@k:1,  01 , 02@k , 03:=1"]
    whole = [net(Source("net", text), "nal") for text in texts]
    monkeypatch.setattr(fields, "PIECE", size)
    for text, other in zip(texts, whole, strict=True):
        syntax = net(Source("net", text), "nal")
        assert str(syntax) == str(other) and np.array_equal(syntax.lines, other.lines)
        assert same(order(resolve(syntax)), order(resolve(other)))


def test_dense_lines_take_little_memory() -> None:
    """Some 64 bytes an edge, of which 40 are the text, its lists and what is kept of them."""
    count = 600
    lists = ",".join([f"{j:03x}:0.25" for j in range(count)])
    text = "\n".join([f"N {2 * count:x}", *(f"{j:x}" for j in range(count)),
                      *(f"{j:x} relu {lists}" for j in range(count, 2 * count)), ""])
    tracemalloc.start()
    net(Source("net", text), "nal")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * count**2


# .nel -------------------------------------------------------------------------------------------

NEL = """N 05
fn 20 x*x
act relu
act 03-04 tanh
act 04 20
bias 04 +0.1
bias 02 +@k0
agg 02 max
00 02
01 04 0.5
01 02 -0.5
02 03 @k0
00 03 @k1:2
02 04 =1
"""


def test_the_graph_of_an_edge_list() -> None:
    g = graph_of(NEL, "nel", activation="sigmoid")
    assert in_lists(g) == [[], [], [0, 1], [2, 0], [1, 2]]
    assert g.activations.tolist() == [INPUT, INPUT, 3, 2, 0x20]
    assert g.aggregations.tolist() == [0, 0, 3, 0, 0]
    assert g.weights.tolist() == [0, 1, 2, 3, 4, -1] and g.biases.tolist()[2:] == [2, NONE, 5]
    assert np.array_equal(g.values, [np.nan, -0.5, np.nan, 2, 0.5, 0.1], equal_nan=True)
    assert g.outputs.tolist() == [3, 4] and g.names == {2: "k0", 3: "k1"}


def test_an_edge_list_says_what_an_adjacency_list_says() -> None:
    nal = ("N 05\nfn 20 x*x\n00\n01\n02 relu max 00,01:-0.5 +@k0\n03 tanh 02@k0,00@k1:2\n"
           "04 20 01:0.5,02:=1 +0.1")
    assert same(graph_of(NEL, "nel"), graph_of(nal))
    for text in (NEL.replace("\n", "\r\n"), NEL.replace("\n", " # c\n\n"), "\ufeff" + NEL.rstrip(),
                 NEL.replace(" ", " \t ")):
        assert text != NEL and same(graph_of(text, "nel"), graph_of(nal))


def test_activations_of_edge_lists() -> None:
    text = "N 04\n00 01\n00 02\n00 03"
    assert graph_of(text, "nel").activations.tolist() == [INPUT, 0, 0, 0]
    assert graph_of(text, "nel", "relu").activations.tolist() == [INPUT, 3, 3, 3]
    assert graph_of(text + "\nact 2 1f", "nel", 3).activations.tolist() == [INPUT, 3, 0x1F, 3]
    assert graph_of("N 02\nbias 01 +1", "nel", 3).activations.tolist() == [INPUT, 3]


def test_edge_runs_longer_than_a_token() -> None:
    lines = [f"{j:x} {j + 1:x}" + ("", " 0.5", " @k", " =2 % x")[j % 4] for j in range(20_000)]
    graph = graph_of("\n".join(["N 4e21", *lines]), "nel")
    assert graph.sources.tolist() == list(range(20_000))
    assert np.array_equal(graph.weights < 0, np.arange(20_000) % 4 == 3)
    with pytest.raises(NccError) as caught:
        graph_of("\n".join(["N 4e20", *lines]), "nel")
    assert caught.value.line == 20_001


# .nam -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, neurons, edges, inputs, outputs, depth", [
    ("nn00", 14, 28, 4, 2, 3), ("fcn_4_4_4_2", 14, 40, 4, 2, 3), ("fcn_8_8_8_2", 26, 144, 8, 2, 3),
    ("conv_4x4_k3", 83, 496, 16, 3, 3), ("rnn_2x3_h4", 20, 64, 6, 2, 4),
])
def test_seed_matrices(name: str, neurons: int, edges: int, inputs: int, outputs: int,
                       depth: int) -> None:
    graph = graph_of((SEED / f"{name}.nam").read_text(), "nam", "relu")
    assert (graph.n_neurons, graph.n_edges) == (neurons, edges)
    assert (len(graph.inputs), len(graph.outputs)) == (inputs, outputs)
    assert graph.levels is not None and graph.levels.max() == depth and graph.shows_inputs
    assert set(graph.activations.tolist()) == {INPUT, 3}


def test_the_seed_list_is_the_seed_matrix() -> None:
    matrix = graph_of((SEED / "nn00.nam").read_text(), "nam", activation=3)
    assert same(graph_of((SEED / "nn00.nal").read_text()), matrix)


@pytest.mark.parametrize("text", [
    "abc\na011\nb001\nc000\n",
    "  abc\n  ---\n  a|011\n  b|001\n  c|000",
    "nnn\ni:000\nj:012\n---\nn00|011\nn01|001\nn02|000\n",
    " 011 % row\r\n 001\r\n# c\r\n\r\n 000",
    "a 011\nb 001\nc 000",
    "|011\n|001\n|000\n---",
])
def test_labels_and_rules_are_for_the_eye(text: str) -> None:
    assert same(graph_of(text, "nam"), graph_of("011\n001\n000", "nam"))


def test_large_matrices() -> None:
    # More rows than one ROWS token holds.
    bits = np.triu(np.random.default_rng(0).integers(0, 2, (700, 700)), 1)
    text = "\n".join("".join(map(str, row)) for row in bits.tolist())
    graph = graph_of(text, "nam")
    targets = np.repeat(np.arange(700), np.diff(graph.starts))
    matrix = np.zeros((700, 700), int)
    matrix[graph.sources, targets] = 1
    assert np.array_equal(matrix, bits)
    assert all(row == sorted(row) for row in in_lists(graph))


# The text of syntax ------------------------------------------------------------------------------


@pytest.mark.parametrize("text, format", [(NAL, "nal"), (NEL, "nel"),
                                          ("a|011\nb|001\nc|000", "nam")])
def test_the_text_of_a_syntax_reads_back(text: str, format: str) -> None:
    syntax = net(Source("net", text), format)
    again = net(Source("net", str(syntax)), format)
    assert str(again) == str(syntax) and same(resolve(again), resolve(syntax))


def test_examples_of_the_guide() -> None:
    guide = (ROOT / "grammar" / "README.md").read_text()
    for format in ("nal", "nel", "nam"):
        block = re.search(rf"## `\.{format}`.*?\n\n((?:    .*\n)+)", guide)
        assert block, format
        assert graph_of(block[1], format).n_edges >= 4


def test_decode() -> None:
    assert decode("x", b"\xef\xbb\xbfN 01\r\n").text == "N 01\n"


# order ------------------------------------------------------------------------------------------


def slow_levels(graph: Graph) -> list[int]:
    """Longest paths by relaxing every edge until nothing moves."""
    levels = [0] * graph.n_neurons
    moved = True
    while moved:
        moved = False
        for j, sources in enumerate(in_lists(graph)):
            level = max((levels[i] + 1 for i in sources), default=0)
            moved |= level != levels[j]
            levels[j] = level
    return levels


@pytest.mark.parametrize("seed", range(12))
def test_levels_are_longest_paths(seed: int) -> None:
    # Widths around the border between loop and arrays, in shuffled index order.
    random = np.random.default_rng(seed)
    count = int(random.integers(30, 400))
    name = random.permutation(count)
    lists: list[list[int]] = [[] for _ in range(count)]
    first = int(random.integers(1, 60))
    for k in range(first, count):
        low = max(0, k - int(random.integers(1, 90)))
        chosen = random.choice(np.arange(low, k), min(3, k - low), replace=False)
        lists[name[k]] = [int(name[i]) for i in chosen]
    text = "\n".join([f"N {count:x}", *(
        f"{j:x} 03 " + ",".join(f"{i:x}" for i in row) if row else f"{j:x}"
        for j, row in enumerate(lists))])
    graph = graph_of(text)
    assert graph.levels is not None and graph.levels.tolist() == slow_levels(graph)


def test_a_chain_of_a_hundred_thousand_neurons() -> None:
    count = 100_000
    text = "\n".join([f"N {count:x}", "0", *(f"{j:x} 3 {j - 1:x}" for j in range(1, count))])
    graph = graph_of(text)
    assert graph.levels is not None and np.array_equal(graph.levels, np.arange(count))


def test_a_great_count_takes_no_memory() -> None:
    syntax = net(Source("net", "N e8d4a51000\n00 01\n"), "nel")
    tracemalloc.start()
    with pytest.raises(NccError):
        resolve(syntax)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def spelt(rng: random.Random) -> str:
    """A number in one of C's spellings, from one digit to forty."""
    few, many = rng.randrange(1, 17), rng.randrange(1, 25)
    figures = "".join(rng.choices("0123456789", k=many))
    return rng.choice(["", "-", "+"]) + rng.choice([
        figures, figures + ".", "." + figures, f"{'0' * many}.{rng.randrange(10**9)}",
        f"{rng.random():.4f}", f"{100 * rng.random():.{few}f}", "0", "0.0", "0x1.8p3",
        repr(rng.random() * 10.0 ** rng.randrange(-30, 30))])


@pytest.mark.parametrize("format", ["nal", "nel"])
@pytest.mark.parametrize("dots", [True, False])
def test_numbers_are_rounded_as_strtod_does(format: str, dots: bool) -> None:
    """Bit for bit; with a point in every number, and where some have none or no weight stands."""
    rng = random.Random(dots)
    numbers = [spelt(rng) for _ in range(3000)]
    if dots:
        numbers = [n for n in numbers if "." in n]
    else:
        numbers[::7] = [""] * len(numbers[::7])
    count = len(numbers)
    if format == "nal":
        items = [f"{k:x}:{n}" if n else f"{k:x}" for k, n in enumerate(numbers)]
        lines = [*[f"{k:x}" for k in range(count)], f"{count:x} 0 {','.join(items)}"]
    else:
        lines = [f"{k:x} {count:x} {n}" for k, n in enumerate(numbers)]
    values = graph_of("\n".join([f"N {count + 1:x}", *lines, ""]), format).values
    told = [float.fromhex(n) if "x" in n else float(n or "nan") for n in numbers]
    assert [v.hex() for v in values.tolist()] == [v.hex() for v in told]
