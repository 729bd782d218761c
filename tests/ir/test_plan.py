"""The plan level: its text reads back to the identical plan, its rules, and texts that are none."""

from __future__ import annotations

import random
import re
from dataclasses import fields, is_dataclass, replace
from typing import Any

import nets
import numpy as np
import pytest
from shared_nets import dense, patches, radix

import ncc
from ncc.errors import NccError, Source
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.plan_text import read
from ncc.passes.graph.embed import embed
from ncc.passes.graph.merge import merge
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place
from ncc.passes.plan.train import train

SMALL = """N 08
00
01
02
03 relu 00,01 +0.5
04 relu 00,01 +
05 tanh 02,03 +
06 tanh max 03,04
07 0 05:=1,06
"""
FORMS = [("straight", "straight"), ("table", "table"), ("shared", "shared"), ("straight", "shared"),
         ("table", "straight")]
NETS = {
    "small": lambda: ncc.parse(SMALL),
    "inputs": lambda: ncc.parse("N 03\n00\n01\n02\nout 01,00\n"),
    "constants": lambda: ncc.parse("N 03\n00 00 +=1\n01 tanh +0.5\n02 relu 00,01\n"),
    "dense": lambda: dense(5, 36, 19, 2),
    "patches": lambda: patches(tied=True),
    "radix": radix,
    **{f"random{seed}": lambda seed=seed: ncc.parse(nets.to_nal(nets.some_net(seed)))
       for seed in range(6)},
}


def graph_of(name: str) -> Graph:
    return NETS[name]().graph


def planned(graph: Graph, form: str = "table", batch_form: str = "table", native: int = 4,
            **more: Any) -> Plan:
    return place(group(graph, form=form, batch_form=batch_form, native=native, **more))


def identical(a: Any, b: Any) -> bool:
    """Whether two plans, or parts of them, are the same: type by type, bit by bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return all(identical(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return bool(a == b)


def reads_back(plan: Plan) -> None:
    plan.verify()
    text = str(plan)
    again = read(Source("again", text))
    assert identical(again, plan) and str(again) == text


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form, batch_form", FORMS)
def test_the_text_of_a_plan_reads_back(name, form, batch_form):
    graph = graph_of(name)
    for native in (1, 16):
        plan = group(graph, form=form, batch_form=batch_form, gradient=True, native=native)
        reads_back(plan)
        plan = differentiate(place(plan), kept=1 << 20)
        reads_back(plan)
        reads_back(train(plan, loss="huber:delta=2", optimizer="adam", recompute=64))
        reads_back(train(plan, loss="mse", optimizer="sgd:momentum=0.9", apart=True))


@pytest.mark.parametrize("form", ["straight", "shared"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.each_choice
def test_gradients_over_the_rows_are_the_graphs(name, form):
    graph, rng = graph_of(name), np.random.default_rng(0)
    plan = group(graph, form=form, batch_form=form, gradient=True, native=16)
    params = rng.uniform(-1, 1, graph.n_params)
    x, dy = (rng.standard_normal((37, n)).astype(np.float32)
             for n in (len(graph.inputs), len(graph.outputs)))
    with np.errstate(all="ignore"):
        for rows in (slice(None), 5):
            for a, b in zip(plan.gradient(x[rows], dy[rows], params),
                            graph.gradient(x[rows], dy[rows], params), strict=True):
                assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", NETS)
def test_plans_of_changed_graphs_read_back(name):
    """Neurons that passes removed, parameters that became constants, forms that ncc chose."""
    graph = prune(merge(graph_of(name), numerics="fast"), numerics="fast")
    fixed = embed(graph, params=np.where(np.isnan(graph.values), -0.5, graph.values))
    for each, embedded in ((graph, False), (fixed, True)):
        for native in (1, 8):
            reads_back(place(group(each, native=native, embedded=embedded)))


def test_a_plan_of_phases_reads_back():
    """Many pairs of activation and aggregation: loops compute the rows of a depth in any order."""
    hows = [f"{act} {agg}" for act in ("relu", "tanh", "sin")
            for agg in ("sum", "max", "min", "mul")]
    lines = [f"{4 + k:02x} {hows[k % 12]} " + ",".join(f"{i:02x}" for i in range(4 * (k // 20),
             4 * (k // 20) + 4)) for k in range(40)]
    graph = ncc.parse("N 2c\n00\n01\n02\n03\n" + "\n".join(lines) + "\n").graph
    plan = planned(graph)
    assert plan.phased
    reads_back(plan)
    slots = plan.single.slots.copy()
    slots[plan.rows[1]] = slots[plan.rows[0]]  # of one depth, both are live
    with pytest.raises(NccError, match="written before its last reader"):
        plan.with_(single=replace(plan.single, slots=slots)).verify()


def breaches() -> dict[str, tuple[Plan, str]]:
    """Plans that break a rule each, and what is said of them."""
    plan = differentiate(planned(graph_of("small"), gradient=True, backward_form="table"))
    tiled = planned(graph_of("dense"), "shared", "shared")
    swapped = plan.rows.copy()
    swapped[:2] = swapped[1::-1]
    twice = plan.rows.copy()
    twice[1] = twice[0]
    edges = plan.edges.copy()
    edges[0] = edges[1]
    packed = plan.packed.copy()
    packed[0] = packed[1]
    inputs = plan.single.slots.copy()
    inputs[[0, 1]] = [1, 0]
    unread = planned(graph_of("small"), "straight", "straight").single.slots.copy()
    unread[plan.rows[0]] = -1
    straight = planned(graph_of("small"), "straight", "straight")
    run, segment, tile = plan.runs[0], plan.segments[0], tiled.segments[0]
    return {
        "rows of floats": (plan.with_(rows=plan.rows.astype(float)), "no vector of int32"),
        "rows out of order": (plan.with_(rows=swapped), "row 0 (04): it is out of order"),
        "a row twice": (plan.with_(rows=twice), "two rows"),
        "a row that is missing": (plan.with_(rows=plan.rows[:-1]), "neuron 07 has no row"),
        "an input as a row": (plan.with_(rows=np.append(plan.rows, np.int32(0))), "is no row"),
        "an edge too few": (plan.with_(edges=edges[:-1]), "other numbers of edges"),
        "edges of another": (plan.with_(edges=edges), "its edges are not its in-list"),
        "a run too long": (plan.with_(runs=(run._replace(last=run.last + 1), *plan.runs[1:])),
                           "a run is mixed"),
        "a run in two": (plan.with_(runs=(run._replace(last=1), run._replace(first=1),
                                          *plan.runs[1:])), "of one kind"),
        "a run without its bias": (plan.with_(runs=(run._replace(biased=False), *plan.runs[1:])),
                                   "biased"),
        "no runs": (plan.with_(runs=()), "do not cover"),
        "a segment in two": (plan.with_(segments=(
            segment._replace(last=1), segment._replace(first=1), *plan.segments[1:])),
            "of one shape"),
        "another fan-in": (plan.with_(segments=(segment._replace(fan_in=3), *plan.segments[1:])),
                           "other fan-ins"),
        "tiles that are too small": (tiled.with_(segments=(tile._replace(rows=2),
                                                           *tiled.segments[1:])), "more rows"),
        "tiles of too many": (tiled.with_(segments=(tile._replace(rows=1 << 40),
                                                    *tiled.segments[1:])), "the tiles take"),
        "sides that are not whole": (tiled.with_(segments=(tile._replace(side=3),
                                                           *tiled.segments[1:])), "whole groups"),
        "another weight": (plan.with_(packed=packed), "not where its tile has it"),
        "weights elsewhere": (plan.with_(weights=plan.weights + 1), "behind those of the tile"),
        "blocks of weights of unrolled code": (straight.with_(weights=plan.weights), "no blocks"),
        "a form that is none": (plan.with_(single=replace(plan.single, form="round")), "no form"),
        "two layouts": (plan.with_(batch=replace(plan.batch, form="shared")), "another order"),
        "tiles in a table": (tiled.with_(single=replace(tiled.single, form="table"),
                                         batch=replace(tiled.batch, form="table")), "no tiles"),
        "one is placed": (plan.with_(batch=replace(plan.batch, slots=None, work=0)), "is not"),
        "inputs elsewhere": (plan.with_(single=replace(plan.single, slots=inputs)),
                             "one after another"),
        "a value without a slot": (straight.with_(single=replace(straight.single, slots=unread)),
                                   "has no slot"),
        "more work than slots": (plan.with_(single=replace(plan.single, work=999)), "outside work"),
        "one backward form": (plan.with_(backward=None), "the other way"),
        "backward functions that are placed": (
            plan.with_(backward=replace(plan.backward, work=3)), "no slots of work"),
        "forward computes again": (plan.with_(functions=(
            plan.functions[0]._replace(recompute=4),)), "computes nothing again"),
    }


BREACHES = breaches()


@pytest.mark.parametrize("name", BREACHES)
def test_a_plan_that_breaks_a_rule_is_caught(name):
    plan, why = BREACHES[name]
    with pytest.raises(NccError) as caught:
        plan.verify()
    assert (caught.value.code, caught.value.status) == ("E304", 3)
    assert why in str(caught.value)


# What is changed in the text below, the error, and where it is marked.
TEXT = str(differentiate(planned(ncc.parse(SMALL).graph, "shared", "shared", gradient=True)))
FAULTS = [
    ("plan 8 neurons", "plan 9 neurons", "E313", "the text has 8 neurons, not 9", "plan 9"),
    ("5 rows", "6 rows", "E313", "the text has 5 rows, not 6", "plan 8"),
    ("functions pack", "functions pock", "E304", "no function pock", "functions"),
    ("backward_batch\n", "train_step{loss=mse}\n", "E313", "no function train_step",
     "train_step{loss=mse}"),
    ("backward_batch\n", "train_step{loss=me,optimizer=sgd}\n", "E313", "no loss 'me'",
     "train_step{loss=me"),
    ("backward_batch\n", "train_step{loss=mse,optimizer=sgd}\n", "E313", "options are all said",
     "train_step{loss=mse"),
    ("backward, backward_batch\n", "backward, backward\n", "E304", "wanted twice", "functions"),
    ("single: shared", "double: shared", "E313", "no form of double here", "double"),
    ("single: shared", "single: square", "E313", "no form square", "square"),
    ("batch: shared, 5 slots of work", "batch: shared, unplaced", "E313", "batch is unplaced",
     "unplaced"),
    ("5 slots of work", "6 slots of work", "E304", "lies outside work", "single: shared, 6"),
    ("00  single[0] batch[0]", "00  single[0] batch[0] batch[1]", "E313", "batch already",
     "batch[1]"),
    ("00  single[0] batch[0]", "00  single batch[0]", "E313", "no line of an input", "00  sin"),
    ("segment of 2 edges", "segment of 3 edges", "E304", "other fan-ins", "segment of 3"),
    ("tiles of 2 rows", "tiles of 1 rows", "E313", "a tile stands in a segment of tiles",
     "tile of 2"),
    ("tile of 2 rows", "tile of 3 rows", "E313", "lacks 1 of its rows", "tile of 3"),
    ("  tile of 2 rows\n", "", "E304", "do not cover", "segment of 2"),
    ("03 <- 00 01", "03 <- 01 00", "E313", "neuron 03 has another in-list", "03 <- 01 00"),
    ("03 <- 00 01", "0f <- 00 01", "E313", "no neuron 0f", "0f"),
    ("03 <- 00 01", "03 -> 00 01", "E313", "no line of a row", "03 -> 00 01"),
    ("03 <- 00 01  single[3]", "03 <- 00 01  single[0]", "E304", "written before", "single: sh"),
    ("sum bias {", "sum {", "E304", "a run is biased where", "run activation 03 sum {"),
    ("run activation 03", "run activation 04", "E304", "a run is mixed", "run activation 04"),
    ("sum bias {", "some bias {", "E313", "no aggregation some", "some"),
    ("packed p0 p3", "packed p0 p4", "E304", "not where its tile has it", "packed p0 p4"),
    ("packed p0 p3", "packed p0 pffffffff", "E313", "no parameter pffffffff", "pffffffff"),
    ("weights 0 4", "weights 0 5", "E304", "behind those of the tile before", "weights 0 5"),
    ("graph 08", "graph 8x", "E001", "unexpected character", "x"),
    ("03 @1", "03 @0", "E312", "an edge into it does not rise", "03 @0"),
    ("@0 input", "input", "E312", "some neurons have a level", "00 input"),
    ("biases", "basis", "E001", "no line of a plan text", "basis"),
    ("}\npacked", "packed", "E001", "no line of a plan text", "packed"),
]


@pytest.mark.parametrize("old, new, code, why, mark", FAULTS)
def test_a_broken_text_is_an_error_with_its_place(old, new, code, why, mark):
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(NccError) as caught:
        read(Source("x.plan", text))
    error = caught.value
    assert (error.code, error.status, error.file) == (code, 1, "x.plan"), error
    assert why in error.message
    line = text.split("\n")[error.line - 1]
    assert line[error.column - 1 :].startswith(mark), error


def test_depths_are_wanted():
    text = re.sub(r"(?m)^(0\d) @\d", r"\1", TEXT)
    with pytest.raises(NccError, match="its neurons have no depths"):
        read(Source("x.plan", text))


def test_comments_blank_lines_and_line_ends_are_free():
    plan = read(Source("t", TEXT))
    commented = "// a plan\n\n" + TEXT.replace("{\n", "{  // begins\n\n  // here\n")
    for text in (commented, TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT, TEXT.rstrip("\n")):
        assert identical(read(Source("t", text)), plan)


def mutated(text: str, rng: random.Random) -> str:
    """A text with a fault or three: cut off, lines moved, numbers forged, characters in between."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        lines, kind = text.split("\n"), rng.randrange(6)
        i, j = (rng.randrange(len(lines)) for _ in "ij")
        if kind == 0:
            lines = [text[: rng.randrange(len(text) + 1)]]
        elif kind == 1:
            lines[i], lines[j] = lines[j], lines[i]
        elif kind == 2:
            lines[i : i + rng.randrange(2)] = [lines[j]] * rng.randrange(2)
        elif kind == 3:
            k = rng.randrange(len(text) + 1)
            lines = [text[:k] + rng.choice("{}[](),:<-/\t\0\u00e9 \n") + text[k:]]
        elif numbers := list(re.finditer(r"[0-9a-f]+", text)):
            at = rng.choice(numbers)
            forged = rng.choice(["0", "1", "2", "7", "ff", "-1", "-", "99999999", "9" * 30])
            lines = [text[: at.start()] + forged + text[at.end() :]]
        text = "\n".join(lines)
    return text


@pytest.mark.parametrize("seed", range(8))
def test_no_text_is_the_end_of_the_reader(seed):
    """Whatever a text is: a plan that keeps all rules, and becomes code, or an error of ours."""
    rng = random.Random(seed)
    name = rng.choice(sorted(NETS))
    form, batch_form = rng.choice(FORMS)
    plan = planned(graph_of(name), form, batch_form, gradient=True)
    text = str(train(differentiate(plan), loss="mse", optimizer="sgd"))
    for _ in range(60):
        try:
            plan = read(Source("x.plan", mutated(text, rng)))
        except NccError as error:
            assert error.status == 1 and error.line is not None, error
            continue
        plan.verify()
        lower(plan if plan.single.slots is not None else place(plan)).verify()


def test_an_unordered_graph_has_no_plan():
    graph = ncc.parse(SMALL).graph
    plan = planned(graph)
    with pytest.raises(NccError, match="no depths"):
        plan.with_(graph=graph.with_(levels=None)).verify()
    assert identical(plan.with_(graph=order(graph.with_(levels=None))), plan)
