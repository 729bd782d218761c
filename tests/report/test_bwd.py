"""The text bwd, evaluated as it reads and compared with finite differences of the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nets import AGGREGATIONS, random_layers, some_net, to_nal
from reference import CODES, Net, Weight, evaluate, inputs, meaning, outputs, parameters, slots

from ncc.cli import main
from ncc.ir.graph import Graph
from ncc.nets.net import parse
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune
from ncc.report import formulas
from ncc.report.formulas import bwd, fwd

SEED = Path(__file__).parents[1] / "seed"
NAME = re.compile(r"@?[A-Za-z_][A-Za-z0-9_]*|DLY_@\w+")
STEP = 2e-4
SMOOTH = [CODES[name] for name in "sigmoid tanh silu gelu softplus sin gauss identity".split()]


# A reader of the text that knows nothing of nets ------------------------------------------------


def lines(text: str) -> Iterator[tuple[str, list[list[str]], int | str]]:
    """(name, terms as lists of factors, divisor) of each line, where a `-` before a term is a
    factor; any other line fails."""
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        name, right = line.split(" = ")
        assert NAME.fullmatch(name), line
        right, _, divisor = right.partition("/")
        terms = [] if right == "0" else right.split(" ")
        assert all(term[0] in "+-" for term in terms) and (terms or right == "0"), line
        factors = [term[1:].split("*") for term in terms]
        assert all(NAME.fullmatch(f) for term in factors for f in term), line
        factors = [["-"] * (term[0] == "-") + held for term, held in zip(
            terms, factors, strict=True)]
        yield name, factors, divisor if NAME.fullmatch(divisor) else int(divisor or 1)


def evaluated(text: str, given: dict[str, float]) -> dict[str, float]:
    """Every name's value; a name that is used before its line, or defined twice, fails."""
    known = given | {"-": -1.0}
    for name, terms, divisor in lines(text):
        assert name not in known, f"{name} is defined twice, or given"
        known[name] = (sum(np.prod([known[f] for f in term]) for term in terms)
                       / (known[divisor] if isinstance(divisor, str) else divisor))
    return known


def count(text: str) -> int:
    """Operations: multiplications, divisions, and additions (the first of a line too)."""
    return sum(len(terms) + sum(len(t) - 1 for t in terms) + (divisor != 1)
               for _, terms, divisor in lines(text))


# The forward pass's values, from the reference --------------------------------------------------


def numbers(net: Net, params: np.ndarray) -> tuple[list[list[float]], list[float | None]]:
    """Edge weights and biases by neuron."""
    dealt, ties = iter(params.tolist()), {}

    def number(w: Weight) -> float:
        if w.kind == "const":
            return float(w.value)
        if w.kind == "tie":
            if w.name not in ties:
                ties[w.name] = next(dealt)
            return ties[w.name]
        return next(dealt)

    found = [([number(w) for _, w in net.in_lists[j]],
              None if net.biases[j] is None else number(net.biases[j])) for j in range(net.n)]
    return [w for w, _ in found], [b for _, b in found]


def forward(net: Net, x: np.ndarray, params: np.ndarray, dy: np.ndarray) -> dict[str, float]:
    """What the text is given: values, slopes, selectors, seeds."""
    name = [f"{j:02x}" for j in range(net.n)]
    n = evaluate(net._replace(outputs=tuple(range(net.n))), x[None], params)[0]
    edges, biases = numbers(net, params)
    given = {f"n{name[j]}": n[j] for j in range(net.n)}
    for j in range(net.n):
        sources = [i for i, _ in net.in_lists[j]]
        given |= {f"w{name[i]}{name[j]}": w for i, w in zip(sources, edges[j], strict=True)}
        products = [n[i] * w for i, w in zip(sources, edges[j], strict=True)]
        kind = net.aggregations[j]
        kind = {"sumbias": "sum", "maximum": "max", "minimum": "min"}.get(kind, kind)  # no NaN
        if kind in ("max", "min", "maxabs"):
            rank = {"max": lambda p: p, "min": lambda p: -p, "maxabs": abs}[kind]
            best = max(range(len(products)), key=lambda e: rank(products[e]))  # noqa: B023
            given |= {f"s{name[i]}{name[j]}": float(e == best) for e, i in enumerate(sources)}
        if kind == "dot":
            products = [a * b for a, b in zip(products[::2], products[1::2], strict=True)]
        if net.activations[j] >= 0:
            total = {"sum": sum, "dot": sum, "mul": np.prod, "mean": np.mean, "max": max,
                     "min": min, "div": lambda p: p[0] / np.prod(p[1:]),
                     "maxabs": lambda p: max(p, key=abs)}[kind](products) if products else 0.0
            total += biases[j] or 0.0
            given[f"Df{name[j]}"] = slope(meaning(net, net.activations[j]), float(total))
    read = {i for in_list in net.in_lists for i, _ in in_list}
    for j, seed in zip(outputs(net), dy, strict=True):
        given[f"DLY_{'y' if j in read else 'n'}{name[j]}"] = float(seed)
    return given


def slope(f, x: float) -> float:
    with np.errstate(all="ignore"):
        h = 1e-4 * max(1.0, abs(x))
        d = [(f(np.array(x + s)) - f(np.array(x - s))) / (2 * s) for s in (h, h / 2)]
    return float(4 * d[1] - d[0]) / 3


# Finite differences ------------------------------------------------------------------------------


def difference(at: list[float]) -> tuple[float, float] | None:
    """f'(0) of f at -2 STEP .. 2 STEP, and how far it may be off; None near a kink, or where f is
    no number."""
    if not np.isfinite(at).all():
        return None
    one, two = (at[3] - at[1]) / (2 * STEP), (at[4] - at[0]) / (4 * STEP)
    left, right = (at[2] - at[1]) / STEP, (at[3] - at[2]) / STEP
    size = 1 + abs(one)
    if abs(one - two) > 1e-4 * size or abs(left - right) > 1e-1 * size:
        return None
    return (4 * one - two) / 3, abs(one - two) + 1e-5 * size


def judged(net: Net, rng: np.random.Generator) -> tuple[int, int]:
    """(compared, skipped) derivatives of a net at a random point near its own values."""
    text = bwd(parse(to_nal(net)).graph)
    params = parameters(net) + rng.uniform(-0.04, 0.04, len(slots(net)))
    x = rng.uniform(-1, 1, len(inputs(net)))
    dy = rng.uniform(0.5, 1.5, len(outputs(net)))
    given = forward(net, x, params, dy)
    if not np.isfinite(list(given.values())).all():
        return 0, 1
    found = evaluated(text, given)
    compared = skipped = 0

    def check(name: str, at: list[float]) -> None:
        nonlocal compared, skipped
        expected = difference(at)
        if expected is None:
            skipped += 1
            return
        compared += 1
        assert abs(found[name] - expected[0]) <= expected[1], (name, found[name], expected, text)

    def check_slots(net: Net, params: np.ndarray) -> None:
        for name, unit in zip(slot_names(net), np.eye(len(params)), strict=True):
            moved = [params + t * STEP * unit for t in range(-2, 3)]
            check(name, [float(evaluate(net, x[None], p)[0] @ dy) for p in moved])

    free, values = untied(net._replace(outputs=tuple(outputs(net))), params)
    check_slots(net, params)
    if len(values) > len(params):
        check_slots(free, values)
    for j in range(net.n):  # moved by making it an input that holds its value
        cut = free._replace(
            in_lists=tuple(() if i == j else e for i, e in enumerate(free.in_lists)),
            biases=tuple(None if i == j else b for i, b in enumerate(free.biases)),
            activations=tuple(-1 if i == j else a for i, a in enumerate(free.activations)),
            aggregations=tuple("sum" if i == j else a for i, a in enumerate(free.aggregations)))
        here = [i == j for i in inputs(cut)]
        row = np.array([given[f"n{i:02x}"] for i in inputs(cut)])
        rows = row + np.arange(-2, 3)[:, None] * STEP * np.array(here)
        left = [v for v, name in zip(values, slot_names(free), strict=True)
                if not name.endswith(f"{j:02x}")]
        check(f"DLY_n{j:02x}", (evaluate(cut, rows, left) @ dy).tolist())
    return compared, skipped


def slot_names(net: Net) -> list[str]:
    """The text's name of each canonical slot."""
    found: list[str] = []
    for j in range(net.n):
        weights = [(f"w{i:02x}{j:02x}", w) for i, w in net.in_lists[j]]
        weights += [(f"b{j:02x}", net.biases[j])] if net.biases[j] is not None else []
        for name, w in weights:
            label = "DLY_" + (w.name if w.kind == "tie" else name)
            if w.kind != "const" and label not in found:
                found.append(label)
    return found


def untied(net: Net, params: np.ndarray) -> tuple[Net, np.ndarray]:
    """The net with each appearance of a tie a parameter of its own."""
    edges, biases = numbers(net, params)
    values: list[float] = []

    def freed(w: Weight | None, value: float | None) -> Weight | None:
        if w is None or w.kind == "const":
            return w
        values.append(value)
        return Weight("weight", "", value)

    in_lists, free = [], []
    for j in range(net.n):
        in_lists.append(tuple((i, freed(w, v)) for (i, w), v
                              in zip(net.in_lists[j], edges[j], strict=True)))
        free.append(freed(net.biases[j], biases[j]))
    return net._replace(in_lists=tuple(in_lists), biases=tuple(free)), np.array(values)


@pytest.mark.parametrize("aggregation", [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("sum", "mul")))
    for name in AGGREGATIONS])
def test_smooth_nets_by_finite_differences(aggregation: str) -> None:
    rng = np.random.default_rng(3)
    compared = skipped = 0
    for seed in range(8):
        net = some_net(seed, activations=SMOOTH, aggregations=(aggregation,), max_neurons=12)
        done = judged(net, rng)
        compared, skipped = compared + done[0], skipped + done[1]
    least = 100 if aggregation == "dot" else 150  # a weight for each two sources
    assert compared > least and skipped < compared / 20, (compared, skipped)


@pytest.mark.parametrize("nets", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_nets_of_everything_by_finite_differences(nets: int) -> None:
    rng = np.random.default_rng(4)
    compared = skipped = 0
    for seed in range(nets):
        done = judged(some_net(1000 + seed, max_neurons=10), rng)
        compared, skipped = compared + done[0], skipped + done[1]
    assert compared > 15 * nets and skipped < compared / 5, (compared, skipped)


def test_a_product_of_zeros_is_not_divided() -> None:
    text = text_of("N 04\n00\n01\n02\n03 00 mul 00,01,02\n")
    given = {f"w0{i}03": 2.0 for i in range(3)} | {"Df03": 1.0, "DLY_n03": 1.0}
    one = evaluated(text, given | {"n00": 3.0, "n01": 0.0, "n02": 5.0})
    assert [one[f"DLY_n0{i}"] for i in range(3)] == [0, 120, 0]
    two = evaluated(text, given | {"n00": 0.0, "n01": 0.0, "n02": 5.0})
    assert [two[f"DLY_n0{i}"] for i in range(3)] == [0, 0, 0]


# Whole texts -------------------------------------------------------------------------------------


def text_of(nal: str, format: str = "nal") -> str:
    return bwd(parse(nal, format).graph)


def test_the_seed_net() -> None:
    text = (SEED / "nn00.nal.bwd").read_text()
    assert text_of((SEED / "nn00.nal").read_text()) == text
    assert text.count("\n") == 3 * 28 + 12  # a bare edge has three lines, a read neuron one
    for line in ("Dn0c_n08 = +Df0c*w080c", "Dn0c_w080c = +Df0c*n08",  # the contract's own
                 "DLY_n08 = +DLY_n0c*Dn0c_n08 +DLY_n0d*Dn0d_n08",
                 "DLY_w080c = +DLY_n0c*Dn0c_w080c"):
        assert f"{line}\n" in text


def test_biases_ties_and_constants() -> None:
    assert text_of("N 04\n00\n01\n02 relu 00@k0,01:=3 +@k0\n03 tanh 02@k0,01 +\n") == (
        "Dn03_n02 = +Df03*w0203\nDn03_w0203 = +Df03*n02\nDLY_w0203 = +DLY_n03*Dn03_w0203\n"
        "Dn03_n01 = +Df03*w0103\nDn03_w0103 = +Df03*n01\nDLY_w0103 = +DLY_n03*Dn03_w0103\n"
        "DLY_b03 = +DLY_n03*Df03\n"
        "DLY_n02 = +DLY_n03*Dn03_n02\n"
        "Dn02_n00 = +Df02*w0002\nDn02_w0002 = +Df02*n00\nDLY_w0002 = +DLY_n02*Dn02_w0002\n"
        "Dn02_n01 = +Df02*w0102\n"  # the constant edge: how n01 moves it, and no gradient
        "DLY_b02 = +DLY_n02*Df02\n"
        "DLY_n00 = +DLY_n02*Dn02_n00\nDLY_n01 = +DLY_n02*Dn02_n01 +DLY_n03*Dn03_n01\n"
        "DLY_k0 = +DLY_w0002 +DLY_b02 +DLY_w0203\n")
    assert text_of("N 02\n00\n01 00 +=1\n") == "DLY_n00 = 0\n"


def test_what_reaches_no_output_is_zero() -> None:
    text = text_of("N 05\nout 03\n00\n01\n02 relu 00@k,01:=1 +\n03 relu 00@k\n04 00 +@k\n")
    assert text == (
        "DLY_n02 = 0\nDLY_w0002 = 0\nDLY_b02 = 0\n"
        "Dn03_n00 = +Df03*w0003\nDn03_w0003 = +Df03*n00\nDLY_w0003 = +DLY_n03*Dn03_w0003\n"
        "DLY_n00 = +DLY_n03*Dn03_n00\nDLY_n01 = 0\nDLY_n04 = 0\nDLY_b04 = 0\n"
        "DLY_k = +DLY_w0002 +DLY_w0003 +DLY_b04\n")


def test_seeds_of_outputs_that_are_read_and_of_inputs() -> None:
    text = text_of("N 05\nout 04,03,00,02\n00\n01\n02\n03 relu 00,01\n04 relu 03\n")
    read = {name: terms for name, terms, _ in lines(text)}
    assert read["DLY_n03"] == [["DLY_y03"], ["DLY_n04", "Dn04_n03"]]
    assert read["DLY_n00"] == [["DLY_y00"], ["DLY_n03", "Dn03_n00"]]
    assert not {"DLY_n04", "DLY_n02"} & read.keys()  # unread outputs: the caller's seeds
    # Read, but only by what reaches no output.
    text = text_of("N 03\nout 01\n00\n01 00 00\n02 00 01\n")
    assert "DLY_n01 = +DLY_y01\n" in text


def test_aggregations_are_written_as_the_docstring_says() -> None:
    edges = "00:=1,01:=1,02:=1"
    assert text_of(f"N 04\n00\n01\n02\n03 00 mean {edges}\n").startswith(
        "Dm03 = +Df03/3\nDn03_n00 = +Dm03*w0003\n")
    for name in ("max", "min", "maxabs"):
        assert text_of(f"N 04\n00\n01\n02\n03 00 {name} {edges}\n").startswith(
            "Dn03_p0003 = +Df03*s0003\nDn03_n00 = +Dn03_p0003*w0003\n")
    assert text_of(f"N 04\n00\n01\n02\n03 00 mul {edges}\n").startswith(
        "p0003 = +n00*w0003\np0103 = +n01*w0103\np0203 = +n02*w0203\n"
        "l0103 = +p0003\nl0203 = +l0103*p0103\nr0103 = +p0203\nr0003 = +p0103*r0103\n"
        "Dn03_p0003 = +Df03*r0003\nDn03_n00 = +Dn03_p0003*w0003\n"
        "Dn03_p0103 = +Df03*l0103*r0103\n")
    assert text_of("N 04\n00\n01\n02\n03 00 div 00:=1,01:2,02\n").startswith(
        "p0003 = +n00*w0003\np0103 = +n01*w0103\np0203 = +n02*w0203\n"
        "q0103 = +p0003/p0103\nq0203 = +q0103/p0203\nu0203 = +Df03/p0203\n"
        "u0103 = +u0203/p0103\nDn03_p0003 = +u0103\nDn03_n00 = +Dn03_p0003*w0003\n"
        "Dn03_p0103 = -u0103*q0103\nDn03_n01 = +Dn03_p0103*w0103\n"
        "Dn03_w0103 = +Dn03_p0103*n01\nDLY_w0103 = +DLY_n03*Dn03_w0103\n")
    assert text_of("N 03\n00\n01\n02 00 dot 00*01@k,01*01:=1\n") == (
        "p0002 = +n00*w0002\nDn02_p0002 = +Df02*n01\nDn02_n00 = +Dn02_p0002*w0002\n"
        "Dn02_w0002 = +Dn02_p0002*n00\nDLY_w0002 = +DLY_n02*Dn02_w0002\n"
        "Dn02_n01 = +Df02*p0002\n"
        "p0102_2 = +n01*w0102_2\nDn02_p0102_2 = +Df02*n01\nDn02_n01_2 = +Dn02_p0102_2*w0102_2\n"
        "Dn02_n01_3 = +Df02*p0102_2\n"
        "DLY_n00 = +DLY_n02*Dn02_n00\n"
        "DLY_n01 = +DLY_n02*Dn02_n01 +DLY_n02*Dn02_n01_2 +DLY_n02*Dn02_n01_3\n"
        "DLY_k = +DLY_w0002\n")
    assert fwd(parse("N 03\n00\n01\n02 00 dot 00*01@k,01*01:=1 +\n").graph) == (
        "n02 = f02( dot +n00*w0002*n01 +n01*w0102_2*n01 +b02)\n")
    assert text_of("N 02\n00\n01 00 mul 00\n").startswith(
        "Dn01_p0001 = +Df01\nDn01_n00 = +Dn01_p0001*w0001\n")


def test_a_tie_named_like_a_neuron() -> None:
    text = text_of("N 03\n00\n01\n02 00 00@n00,01@w0102 +@b02\n")
    assert text.endswith("DLY_@n00 = +DLY_w0002\nDLY_@w0102 = +DLY_w0102\nDLY_@b02 = +DLY_b02\n")
    names = [name for name, _, _ in lines(text)]
    assert len(set(names)) == len(names)
    assert "DLY_b0 = " in text_of("N 02\n00\n01 00 00 +@b0\n")  # no neuron 0: it has two digits


def test_what_only_passes_make() -> None:
    graph = parse("N 05\nout 04,02,03\n00\n01\n02 relu 00@a,01@b\n03 relu 00@a,01@b\n"
                  "04 tanh 02:0.5,03:0.25,01\n").graph
    text = bwd(merge(graph))  # 04 reads 02 twice, and 02 is an output twice
    read = {name: terms for name, terms, _ in lines(text)}
    assert read["DLY_n02"] == [["DLY_y02"], ["DLY_n04", "Dn04_n02"], ["DLY_n04", "Dn04_n02_2"]]
    assert read["Dn04_n02_2"] == [["Df04", "w0204_2"]]
    assert read["DLY_w0204_2"] == [["DLY_n04", "Dn04_w0204_2"]]
    evaluated(text, {name: 1.0 for name in used(text) - read.keys()})
    # A pruned neuron has no line; a shared slot without a name has one.
    small = prune(parse("N 04\nout 02\n00\n01\n02 00 00@k\n03 00 01@k,02\n").graph)
    assert bwd(small.with_(names={}, weights=np.zeros(1, np.int32))) == (
        "Dn02_n00 = +Df02*w0002\nDn02_w0002 = +Df02*n00\nDLY_w0002 = +DLY_n02*Dn02_w0002\n"
        "DLY_n00 = +DLY_n02*Dn02_n00\nDLY_n01 = 0\n")
    twice = parse("N 03\n00\n01\n02 00 00,01\n").graph.with_(weights=np.zeros(2, np.int32))
    assert bwd(twice).endswith("DLY_@p0 = +DLY_w0002 +DLY_w0102\n")


def test_a_source_that_stands_three_times() -> None:
    graph = parse("N 05\n00\n01\n02\n03\n04 00 00,01,02,03\n").graph
    text = bwd(graph.with_(sources=np.array([1, 0, 1, 1], np.int32)))
    assert "DLY_n01 = +DLY_n04*Dn04_n01 +DLY_n04*Dn04_n01_2 +DLY_n04*Dn04_n01_3\n" in text
    assert "DLY_w0104_3 = +DLY_n04*Dn04_w0104_3\n" in text


def test_the_docstring_shows_what_is_written() -> None:
    blocks = [block.replace("\n    ", "\n")[4:] + "\n"
              for block in (formulas.__doc__ or "").split("\n\n")[:7] if block.startswith("    ")]
    assert len(blocks) == 3
    graph = parse(blocks[0]).graph
    assert [fwd(graph), bwd(graph)] == blocks[1:]


def used(text: str) -> set[str]:
    return {f for _, terms, _ in lines(text) for term in terms for f in term}


def test_an_unordered_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="ordered"):
        bwd(parse("N 02\n00\n01 00 00\n").graph.with_(levels=None))


# O(W + N) ----------------------------------------------------------------------------------------


def chain(n: int, aggregation: str = "sum") -> str:
    digits = max(2, len(f"{n - 1:x}"))
    rows = [f"{j:0{digits}x} relu {aggregation} {j - 1:0{digits}x} +" for j in range(1, n)]
    return f"N {n:x}\n{0:0{digits}x}\n" + "\n".join(rows).replace(" sum ", " ") + "\n"


def skips(n: int, reach: int, aggregation: str = "sum") -> str:
    """Each neuron reads the `reach` before it."""
    digits = max(2, len(f"{n - 1:x}"))
    rows = [f"{j:0{digits}x} relu {aggregation} "
            + ",".join(f"{i:0{digits}x}" for i in range(max(0, j - reach), j))
            for j in range(1, n)]
    return f"N {n:x}\n{0:0{digits}x}\n" + "\n".join(rows).replace(" sum ", " ") + "\n"


SHAPES = {
    "chain": lambda agg: chain(400, agg),
    "layers": lambda agg: random_layers([32] * 5, 32).replace(" relu ", f" relu {agg} "
                                                              if agg != "sum" else " relu "),
    "skips": lambda agg: skips(200, 20, agg),
    "all skips": lambda agg: skips(60, 60, agg),
    "star": lambda agg: "N 41\n" + "".join(f"{j:02x}\n" for j in range(64))
            + f"40 relu {agg} ".replace(" sum ", " ") + ",".join(f"{j:02x}" for j in range(64))
            + "\n",
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_operations_grow_with_edges_and_neurons(shape: str, aggregation: str) -> None:
    """A term is an addition and its multiplications: under a sum 4 terms an edge and 1 a bias, of
    2 operations each."""
    nal = SHAPES[shape](aggregation)
    if aggregation == "dot":  # each source with itself
        nal = re.sub(r"(?<= dot )\S+", lambda edges: re.sub(
            r"(?<![^,])[0-9a-f]+", r"\g<0>*\g<0>", edges[0]), nal)
    graph = parse(nal).graph
    text = bwd(graph)
    size = graph.n_edges + graph.n_neurons
    terms = sum(len(terms) for _, terms, _ in lines(text))
    biases = int((graph.biases >= 0).sum())
    assert (terms <= 4 * size) if aggregation == "sum" else (terms <= 8 * size)
    assert count(text) <= (8 if aggregation == "sum" else 17) * size
    if aggregation == "sum":
        assert terms == 4 * graph.n_edges + biases
        assert count(text) == 8 * graph.n_edges + 2 * biases


def test_a_tie_adds_a_term_for_each_appearance() -> None:
    n = 100
    plain = chain(n)
    tied = re.sub(r"relu (\w\w) \+", r"relu \1@k +@k", plain)
    assert tied != plain
    assert count(text_of(tied)) == count(text_of(plain)) + 2 * (n - 1)


def test_deep_and_wide_nets_are_written() -> None:
    """Without recursion, and in half a second where this was written."""
    for text in (chain(100_000), random_layers([2048] * 5, 24)):
        graph = parse(text).graph
        assert bwd(graph).count("\n") >= 3 * graph.n_edges


# The command -------------------------------------------------------------------------------------


def test_the_command_writes_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    expected = (SEED / "nn00.nal.bwd").read_text()
    assert main(["build", str(SEED / "nn00.nal"), "--emit=bwd"]) == 0
    assert capsys.readouterr().out == expected
    assert main(["build", str(SEED / "nn00.nal"), "--emit", "bwd,fwd", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "nn00.bwd").read_text() == expected
    assert (tmp_path / "nn00.fwd").read_text() == (SEED / "nn00.nal.fwd").read_text()


def test_a_graph_text_without_levels_is_ordered_first(capsys: pytest.CaptureFixture[str],
                                                      tmp_path: Path) -> None:
    graph: Graph = parse((SEED / "nn00.nal").read_text()).graph
    (tmp_path / "nn00.graph").write_text(str(graph.with_(levels=None)))
    assert main(["build", str(tmp_path / "nn00.graph"), "--emit=bwd"]) == 0
    assert capsys.readouterr().out == (SEED / "nn00.nal.bwd").read_text()
