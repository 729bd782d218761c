"""What of neat-python's is refused, with its code and its place; hostile pickles; mutated files."""

from __future__ import annotations

import json
import pickle
import time
from types import SimpleNamespace

import neat
import numpy as np
import pytest
from genomes import config, genomes
from oracles import mutants

import ncc
from ncc.errors import NccError
from ncc.formats.importers import pickles, registry
from ncc.formats.importers.foreign import Foreign, Options

MADE = config(2, 1, ("tanh",), ("sum",))
CONFIG = "[DefaultGenome]\nnum_inputs = 2\nnum_outputs = 1\nfeed_forward = {}\n"


def net(**changes):
    """A file of neat-python's JSON as Python's objects."""
    plain = {"custom": False}
    return {"format_version": "1.0", "network_type": "feedforward",
            "metadata": {"neat_python_version": "2.0.0"},
            "topology": {"num_inputs": 2, "num_outputs": 1, "input_keys": [-1, -2],
                         "output_keys": [0]},
            "nodes": [{"id": key, "type": word, "activation": {"name": "tanh", **plain},
                       "aggregation": {"name": "sum", **plain}, "bias": 0.5, "response": 1.0}
                      for key, word in ((0, "output"), (3, "hidden"), (-1, "input"))],
            "connections": [{"from": a, "to": b, "weight": 1.5, "enabled": True}
                            for a, b in ((-1, 0), (3, 0), (-2, 3))]} | changes


def changed(path, value):
    """The file with another value at a path, such as nodes.0.bias; `...` takes it away."""
    top = held = net()
    *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    for word in way:
        held = held[word]
    if value is ...:
        del held[last]
    elif isinstance(held, list) and last == len(held):
        held.append(value)
    else:
        held[last] = value
    return top


def fault_of(top, **options):
    file = Foreign("net.json", "", json.dumps(top).encode())
    with pytest.raises(NccError) as caught:
        registry.read([file], "neat", Options(**options))
    return caught.value


def test_the_file_that_is_changed_below_is_read():
    made = registry.read([Foreign("net.json", "", json.dumps(net()).encode())])
    assert made.graph.n_edges == 3 and not made.notes


EDGE = {"from": -1, "to": 3, "weight": 1.0, "enabled": True}


@pytest.mark.parametrize("path, value, code, place", [
    *((word, ..., "E801", "net.json:/: ") for word in (
        "format_version", "network_type", "metadata", "topology", "nodes", "connections")),
    *((f"nodes.0.{word}", ..., "E801", "/nodes/0: ") for word in (
        "id", "type", "activation", "aggregation", "bias", "response")),
    *((f"connections.1.{word}", ..., "E801", "/connections/1: ") for word in (
        "from", "to", "weight", "enabled")),
    ("nodes.0.activation.custom", ..., "E801", "/nodes/0/activation: "),
    ("format_version", "2.0", "E802", "/format_version: "),
    ("format_version", "1.0-rc", "E802", "/format_version: "),
    ("format_version", 1.0, "E801", "/format_version: "),
    ("network_type", "ctrnn", "E812", "/network_type: "),  # without a time step
    ("network_type", "iznn", "E812", "/network_type: "),
    ("network_type", "lstm", "E810", "/network_type: "),
    ("topology.num_inputs", 3, "E801", "/topology/num_inputs: "),
    ("topology.input_keys", [-1, -2, -2], "E801", "/topology/input_keys/2: "),
    ("topology.output_keys", [0, 0], "E801", "/topology/output_keys/1: "),
    ("topology.output_keys", [-1], "E801", "/topology/output_keys/0: "),
    ("topology.output_keys", [4], "E801", "/topology/output_keys/0: "),
    ("topology.output_keys", [], "E801", "/topology/num_outputs: "),
    ("topology.input_keys", [0.5, -2], "E801", "/topology/input_keys/0: "),
    ("nodes.0.id", 3, "E801", "/nodes/1/id: "),
    ("nodes.0.id", 2**60, "E801", "/nodes/0/id: "),
    ("nodes.0.id", True, "E801", "/nodes/0/id: "),
    ("nodes.0.type", "gate", "E810", "/nodes/0/type: "),
    ("nodes.0.type", "input", "E801", "/nodes/0/type: "),
    ("nodes.2.type", "hidden", "E801", "/nodes/2/type: "),
    ("nodes.0.bias", "0.5", "E801", "/nodes/0/bias: "),
    ("nodes.0.bias", 10**400, "E801", "/nodes/0/bias: "),
    ("nodes.0.response", None, "E801", "/nodes/0/response: "),
    ("nodes.1.activation", {"name": "tanh", "custom": True}, "E811", "/nodes/1/activation: "),
    ("nodes.1.activation", {"name": "swish", "custom": False}, "E811", "/nodes/1/activation: "),
    ("nodes.1.aggregation", {"name": "sum", "custom": True}, "E811", "/nodes/1/aggregation: "),
    ("nodes.1.aggregation", {"name": "none", "custom": False}, "E811", "/nodes/1/aggregation: "),
    ("connections.1.from", 4, "E801", "/connections/1/from: "),
    ("connections.1.to", 4, "E801", "/connections/1/to: "),
    ("connections.1.to", -1, "E801", "/connections/1/to: "),
    ("connections.1.weight", False, "E801", "/connections/1/weight: "),
    ("connections.1.enabled", 1, "E801", "/connections/1/enabled: "),
    ("connections.3", {**EDGE, "to": 0, "from": 3}, "E801", "/connections/3: "),
    ("connections.3", {**EDGE, "to": 0, "from": 3, "enabled": False}, "E801", "/connections/3: "),
    ("connections.3", {**EDGE, "from": 0}, "E812", "0 -> 3 -> 0"),
    ("connections.3", {**EDGE, "from": 3}, "E812", "3 -> 3"),
])
def test_json_is_refused_with_code_and_place(path, value, code, place):
    fault = fault_of(changed(path, value))
    assert fault.code == code and place in str(fault)


def test_a_custom_function_needs_its_formula_whatever_its_name():
    top = changed("nodes.1.activation", {"name": "tanh", "custom": True})
    assert "--fn 'tanh=x*sigmoid(x)'" in str(fault_of(top).help)
    read = registry.read([Foreign("net.json", "", json.dumps(top).encode())], "neat",
                         Options(fn=("tanh=2*x",)))
    assert read.exactness == "B" and "2*x" in read.graph.functions.values()
    assert fault_of(top, fn=("tanh=foo(x)",)).code == "E801"


def test_a_node_without_connections_of_an_old_neat_python_is_ambiguous():
    top = changed("connections.2", ...)
    top["metadata"]["neat_python_version"] = "1.0.3"
    fault = fault_of(top)
    assert fault.code == "E815" and "/metadata/neat_python_version: " in str(fault)
    for version in ("1.1", "2.0.0", "dev"):
        top["metadata"]["neat_python_version"] = version
        assert registry.read([Foreign("n.json", "", json.dumps(top).encode())]).graph.n_edges == 2


def test_a_median_of_more_than_sixteen():
    keys = [-1 - k for k in range(17)]
    top = net(topology={"input_keys": keys, "output_keys": [0]})
    top["nodes"] = [dict(top["nodes"][0], aggregation={"name": "median", "custom": False})]
    top["connections"] = [dict(EDGE, **{"from": key, "to": 0}) for key in keys]
    fault = fault_of(top)
    assert fault.code == "E819" and "/nodes/0: " in str(fault)
    top["connections"].pop()
    assert registry.read([Foreign("n.json", "", json.dumps(top).encode())]).graph.n_edges > 16


def test_a_long_cycle_is_told_in_part():
    top = net()
    top["nodes"] += [dict(top["nodes"][1], id=k) for k in range(4, 40)]
    top["connections"] += [dict(EDGE, **{"from": k, "to": 3 if k == 39 else k + 1})
                           for k in range(3, 40)]
    assert "3 -> 4 -> 5 -> 6 -> 7 -> 8 -> 9 -> 10 -> 11 -> 12 -> ... -> 39 -> 3" in str(
        fault_of(top))


def genome_of(**connections):
    (_, genome), = genomes(MADE, 1, 0, mutations=0)
    return genome


def broken(change):
    genome = genome_of()
    change(genome)
    return genome


def loop(genome):
    for ends in ((0, 5), (5, 0)):
        genome.nodes[5] = genome.nodes[0].copy()
        gene = genome.connections[ends] = genome.connections[-1, 0].copy()
        gene.key = ends


@pytest.mark.parametrize("change, code, place", [
    (lambda g: setattr(g.nodes[0], "bias", float("nan")), "E801", "/nodes/0/bias: "),
    (lambda g: setattr(g.nodes[0], "bias", "1"), "E801", "/nodes/0/bias: "),
    (lambda g: setattr(g.nodes[0], "response", 10**400), "E801", "/nodes/0/response: "),
    (lambda g: setattr(g.nodes[0], "activation", 3), "E801", "/nodes/0/activation: "),
    (lambda g: setattr(g.nodes[0], "aggregation", "sun"), "E811", "/nodes/0/aggregation: "),
    (lambda g: setattr(g.nodes[0], "leak", 0.1), "E810", "/nodes/0: "),
    (lambda g: setattr(g.connections[-1, 0], "delay", 1), "E810", "/connections/(-1, 0): "),
    (lambda g: setattr(g.connections[-1, 0], "weight", None), "E801", "/connections/(-1, 0)/wei"),
    (lambda g: setattr(g.connections[-1, 0], "enabled", "x"), "E801", "/connections/(-1, 0)/ena"),
    (lambda g: g.connections.update({(7, 0): g.connections[-1, 0]}), "E801", "(7, 0): "),
    (lambda g: g.connections.update({(0, -1): g.connections[-1, 0]}), "E801", "(0, -1): "),
    (lambda g: g.connections.update({7: g.connections[-1, 0]}), "E801", "/connections/7: "),
    (lambda g: g.nodes.pop(0), "E801", "output 0 is no node"),
    (lambda g: delattr(g, "connections"), "E801", "without connections"),
    (loop, "E812", "0 -> 5 -> 0"),
])
def test_a_genome_is_refused_with_code_and_place(change, code, place):
    genome = broken(change)
    with pytest.raises(NccError) as caught:
        ncc.from_neat(genome, MADE)
    assert caught.value.code == code and place in str(caught.value), caught.value


def test_of_live_objects_only_networks_and_pairs_are_read():
    genome = genome_of()
    made = neat.nn.FeedForwardNetwork.create(genome, MADE)

    class Own(neat.nn.FeedForwardNetwork):
        def activate(self, inputs):
            return [0.0]

    class Renamed(neat.nn.FeedForwardNetwork):
        pass

    evals = (made.input_nodes, made.output_nodes, made.node_evals)
    assert ncc.from_neat(Renamed(*evals)).n_params == 4
    cases = [(neat.iznn.IZNN({}, [-1], [0]), "E812"), (genome, "E815"),
             (Own(*evals), "E810"), (object(), "E800"), ((1, 2), "E800"),
             (neat.ctrnn.CTRNN.create(genome, MADE), "E812"),
             (neat.nn.FeedForwardNetwork([-1], [0], []), "E812"),
             (neat.nn.FeedForwardNetwork([-1], [0], [(0, *made.node_evals[0][1:5], [(9, 1.0)])]),
              "E801"),
             (neat.nn.FeedForwardNetwork([-1], [0], [made.node_evals[0]] * 2), "E801"),
             (neat.nn.FeedForwardNetwork([-1, -1], [0], made.node_evals), "E801")]
    for value, code in cases:
        with pytest.raises(NccError) as caught:
            ncc.load(value)
        assert caught.value.code == code, value


# Pickled genomes.

def read_pickle(data, cfg):
    """The net of a pickled genome under a configuration."""
    return registry.read([Foreign("genome.pickle", "", data)], "neat-genome", Options(config=cfg))


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "neat.cfg"
    path.write_text(CONFIG.format("True"))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_genome_in_each_protocol(protocol, cfg):
    genome = genome_of()
    genome.fitness = np.float64(1.5) if protocol > 2 else 1.5
    genome.connections[-1, 0].weight = np.float32(0.75) if protocol > 2 else 0.75
    made = read_pickle(pickle.dumps(genome, protocol), cfg)
    assert str(made.graph) == str(registry.of_object((genome, MADE)).graph)


def test_a_configuration_says_whether_a_genome_feeds_forward(tmp_path):
    path = tmp_path / "loops.cfg"
    path.write_text(CONFIG.format("false"))
    data = pickle.dumps(broken(loop))
    graph = read_pickle(data, path).graph
    assert graph.n_inputs == 2 and len(graph.states) == 2
    path.write_text(CONFIG.format("True"))
    with pytest.raises(NccError, match="E812.*0 -> 5 -> 0"):
        read_pickle(data, path)
    with pytest.raises(NccError, match="--config") as caught:
        registry.read([Foreign("genome.pickle", "", data)], "neat-genome")
    assert caught.value.code == "E815"


@pytest.mark.parametrize("text, code", [
    ("num_inputs = 2", "E801"), ("[NEAT]\nnum_inputs = 2\n", "E801"), ("[a]\n[a]\n", "E801"),
    ("\0" * 50, "E801"), ("[DefaultGenome]\nnum_inputs = 2\nfeed_forward = True\n", "E815"),
    (CONFIG.format("maybe"), "E801"), (CONFIG.format("True").replace("2", "-2"), "E801"),
    (CONFIG.format("True").replace("2", "1" * 9), "E819"),
    (CONFIG.format("True").replace("2", "1" * 9000), "E801"),
    (CONFIG.format("True").replace("2", "٢"), "E801"),
    ("[DefaultGenome]\n" + "a" * 2**20, "E819"),
])
def test_a_configuration_that_says_something_else(tmp_path, text, code):
    path = tmp_path / "bad.cfg"
    path.write_text(text)
    with pytest.raises(NccError) as caught:
        read_pickle(pickle.dumps(genome_of()), path)
    assert caught.value.code == code


class Runs:
    """Pickled, a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile():
    """(what, data, code) of pickles that run something, or blow up."""
    import os
    import shutil
    yield "a call of os.system", pickle.dumps(Runs(os.system, "touch hacked")), "E818"
    genome = genome_of()
    genome.fitness = Runs(shutil.rmtree, "nowhere")
    yield "a call inside a genome", pickle.dumps(genome), "E818"
    yield "eval", pickle.dumps(Runs(eval, "1")), "E818"
    yield "getattr", pickle.dumps(Runs(getattr, neat.genes.DefaultNodeGene, "mutate")), "E818"
    yield "by INST", b"(S'touch hacked'\nios\nsystem\n.", "E818"
    yield "by OBJ", b"(cos\nsystem\nS'touch hacked'\no.", "E818"
    yield "a dotted name", b"\x80\x04\x8c\x0bneat.genome\x8c\x1aDefaultGenome.mutate.clear\x93.", \
        "E818"
    yield "a name within a module on the list", b"\x80\x02cneat.genome\nsys\n.", "E818"
    yield "another class of neat-python", pickle.dumps(MADE), "E818"
    yield "a subclass", pickle.dumps(neat.iznn.IZGenome(1)), "E818"
    yield "a persistent id", b"\x80\x04Pid\n.", "E818"
    yield "an extension", b"\x80\x02\x82\x01.", "E818"
    yield "protocol 0", pickle.dumps(genome_of(), 0), "E818"
    yield "a call of what is no class", b"\x80\x04N)R.", "E818"
    yield "no pickle", b"\x80\x04hello", "E801"
    yield "nothing", b"\x80", "E801"
    yield "no end", pickle.dumps(genome_of())[:-1], "E801"
    yield "more behind the end", pickle.dumps(genome_of()) + b".", "E801"
    yield "another object", pickle.dumps([1, 2]), "E801"
    yield "a gene", pickle.dumps(genome_of().nodes[0]), "E801"
    yield "an empty stack", b"\x80\x040.", "E801"
    yield "no mark", b"\x80\x04Nt.", "E801"
    yield "a memo that is not there", b"\x80\x04j\xff\xff\xff\xff.", "E801"
    yield "a huge index of the memo", b"\x80\x04Nr\xff\xff\xff\xff.", "E801"
    yield "a huge string", b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", "E801"
    yield "huge bytes", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "E801"
    yield "a bytearray of terabytes", b"\x80\x05\x96" + b"\xff" * 5 + b"\0\0\0.", "E801"
    yield "a huge frame", b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "E801"
    yield "a huge integer", b"\x80\x04\x8b\xff\xff\xff\x7f.", "E801"
    yield "an integer of many digits", b"\x80\x04L" + b"9" * 5000 + b"L\n.", "E801"
    yield "too many operations", b"\x80\x04" + b"N0" * 700_000 + b"N.", "E819"
    laughs = b"".join(b"h%ch%c\x86\x940" % (k, k) for k in range(60))
    yield "a key of 2^60 parts", b"\x80\x04)\x940" + laughs + b"}h\x3cNs.", "E801"
    crowd = b"".join(b"\x8a\x0f" + (k * (2**61 - 1)).to_bytes(15, "little") + b"N"
                     for k in range(1, 40_000))
    yield "keys of one hash", b"\x80\x04}(" + crowd + b"u.", "E801"
    copies = b"\x80\x04](" + b"N" * 100_000 + b"e\x94" + b"cbuiltins\ntuple\n\x94" \
        + b"h\x01h\x00\x85R0" * 100_000 + b"N."
    yield "a list that is copied again and again", copies, "E819"
    states = b"\x80\x04cneat.genome\nDefaultGenome\n)\x81\x94}(" + b"".join(
        b"X\x05\0\0\0%05dN" % k for k in range(20_000)) + b"u\x94" + b"h\x00h\x01b0" * 1000 + b"N."
    yield "attributes again and again", states, "E819"


@pytest.mark.parametrize("what, data, code", [pytest.param(*case, id=case[0])
                                              for case in hostile()])
def test_a_hostile_pickle_is_refused_soon_and_runs_nothing(what, data, code, cfg, tmp_path,
                                                           monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(NccError) as caught:
        read_pickle(data, cfg)
    assert caught.value.code == code, caught.value
    assert time.process_time() - began < 60  # a blow-up, not a speed
    assert not (tmp_path / "hacked").exists()
    assert len(str(caught.value)) < 1000


def test_a_class_outside_the_list_is_named():
    with pytest.raises(NccError) as caught:
        pickles.read(Foreign("a.pickle", "", pickle.dumps(SimpleNamespace(a=1))), ["x.Y"])
    assert "types.SimpleNamespace" in str(caught.value) and "x.Y" in caught.value.note


def test_what_data_is_made_of_comes_back():
    data = {"a": [1, -2.5, None, True], (1, 2): ("x", b"y"), 3: {"z": (1, 2, 3, 4)}}
    for protocol in range(2, 6):
        if protocol > 2:  # bytes are a call in older ones
            assert pickles.read(Foreign("a", "", pickle.dumps(data, protocol)), []) == data
        assert pickles.read(Foreign("a", "", pickle.dumps({3}, protocol)), []) == [3]
    for number in (np.float64(0.1), np.float32(0.5), np.int64(-7), np.bool_(True),
                   np.array([2.5], ">f8")[0]):
        assert pickles.read(Foreign("a", "", pickle.dumps(number)), []) == number
    with pytest.raises(NccError, match="E817"):
        pickles.read(Foreign("a", "", pickle.dumps(np.complex128(1j))), [])


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_are_read_or_refused(count, cfg):
    read = 0
    pickled = pickle.dumps(genome_of())
    for name, data, options in (("net.json", json.dumps(net()).encode(), Options()),
                                ("genome.pickle", pickled, Options(config=cfg))):
        for seed, bad in enumerate(mutants(data, 0, count // 2)):
            file = Foreign(name, "", bad)
            source = "neat" if name == "net.json" else "neat-genome"
            try:
                read += registry.read([file], source, options).graph.n_neurons > 0
            except NccError as error:
                assert error.code[:2] == "E8", (seed, error)
    assert read
