"""neat-python, scikit-learn and libfann as what nets that come from them are verified against."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import pickle
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncc.errors import NccError, optional
from ncc.formats.importers.foreign import opened
from ncc.formats.importers.sklearn.files import unpickled
from ncc.report.comparison import Other, Reals
from ncc.report.oracles.asked import Asked


def neat_python(asked: Asked) -> Other:
    """neat-python's own network, of its JSON, or of a pickled genome and its configuration."""
    neat = optional("neat", "neat")
    title = f"neat-python {neat.__version__}, Python {platform.python_version()}"
    path, config = str(asked.path), asked.config
    data = Path(path).read_bytes()
    if not data.lstrip()[:1] == b"{":
        if not asked.allow_pickle or config is None:
            raise NccError("E818", f"{path}: neat-python unpickles it, which may run code",
                           help="--allow-pickle, with --config, if you trust the file")
        held = neat.Config(neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet,
                           neat.DefaultStagnation, config)
        kind = (neat.nn.FeedForwardNetwork if held.genome_config.feed_forward
                else neat.nn.RecurrentNetwork)
        return neat_network(kind.create(pickle.loads(data), held), title)
    return neat_network(_neat_json(json.loads(data), neat), title)


def _neat_json(top: Any, neat: Any) -> Any:
    """The network of an exported file, by neat-python's functions and its order of nodes. Which
    function a user's own is, neat-python's file does not say: NccError E811."""
    if top["network_type"] not in ("feedforward", "recurrent"):
        raise NccError("E812", f"a {top['network_type']} network is not verified against "
                       "neat-python, only feed-forward and recurrent ones")
    activations = neat.activations.ActivationFunctionSet()
    aggregations = neat.aggregations.AggregationFunctionSet()
    inputs, outputs = top["topology"]["input_keys"], top["topology"]["output_keys"]
    nodes = {node["id"]: node for node in top["nodes"] if node["id"] not in inputs}
    for key, node in nodes.items():
        for what in ("activation", "aggregation"):
            if node[what].get("custom"):
                raise NccError("E811", f"the {what} of node {key}, {node[what]['name']}, is the "
                               "user's own: neat-python has no such function")
    links: dict[int, list[tuple[int, float]]] = {key: [] for key in nodes}
    for edge in top["connections"]:
        if edge["enabled"]:
            links[edge["to"]].append((edge["from"], edge["weight"]))
    order = [] if top["network_type"] == "recurrent" else neat.graphs.feed_forward_layers(
        inputs, outputs, [(i, j) for j in links for i, _ in links[j]])[0]
    placed = [key for layer in order for key in sorted(layer)]
    evals = [(key, activations.get(nodes[key]["activation"]["name"]),
              aggregations.get(nodes[key]["aggregation"]["name"]), nodes[key]["bias"],
              nodes[key]["response"], links[key])
             for key in (placed or nodes)]
    kind = (neat.nn.RecurrentNetwork if top["network_type"] == "recurrent"
            else neat.nn.FeedForwardNetwork)
    return kind(inputs, outputs, evals)


def neat_network(network: Any, title: str = "neat-python") -> Other:
    """A live network of neat-python's."""
    def outputs(x: Reals) -> Reals:
        if hasattr(network, "reset"):
            network.reset()
        return np.array([network.activate(row) for row in x.astype(np.float64).tolist()])

    def values(x: Reals, sample: int) -> Mapping[str | int, float]:
        network.activate(x[sample].astype(np.float64).tolist())
        return {str(key): value for key, value in network.values.items()}

    return Other(title, outputs, None if hasattr(network, "reset") else values)


def sklearn(asked: Asked) -> Other:
    """scikit-learn's own estimator, unpickled."""
    library = optional("sklearn", "sklearn")
    path = str(asked.path)
    if not asked.allow_pickle:
        raise NccError("E818", f"{path}: scikit-learn unpickles it, which may run code",
                       help="--allow-pickle, if you trust the file")
    estimator = unpickled(opened(path))
    return sklearn_estimator(estimator, f"scikit-learn {library.__version__}")


def sklearn_estimator(estimator: Any, title: str = "scikit-learn") -> Other:
    """A live estimator, with the outputs that ncc's net of it has: `predict_proba`, where there is
    one, else `decision_function`, else `predict`."""
    def outputs(x: Reals) -> Reals:
        for name in ("predict_proba", "decision_function", "predict"):
            if hasattr(estimator, name):
                return np.asarray(getattr(estimator, name)(x)).reshape(len(x), -1)
        return np.asarray(estimator.transform(x))

    return Other(title, outputs)


def fann(asked: Asked) -> Other:
    """libfann's own net, in float, or libdoublefann's of a net in f64."""
    name, real, kind = (("doublefann", ctypes.c_double, np.float64) if asked.dtype == "f64"
                        else ("fann", ctypes.c_float, np.float32))
    found = ctypes.util.find_library(name)
    if found is None:
        raise NccError("E637", f"lib{name} is not installed", help="apt-get install libfann2")
    library = ctypes.CDLL(found)
    reals = ctypes.POINTER(real)
    library.fann_create_from_file.restype = ctypes.c_void_p
    library.fann_create_from_file.argtypes = [ctypes.c_char_p]
    library.fann_run.restype, library.fann_run.argtypes = reals, [ctypes.c_void_p, reals]
    for count in (library.fann_get_num_input, library.fann_get_num_output):
        count.restype, count.argtypes = ctypes.c_uint, [ctypes.c_void_p]
    net = library.fann_create_from_file(os.fsencode(str(asked.path)))
    if not net:
        raise NccError("E801", f"{asked.path}: lib{name} does not read it")
    n_outputs = library.fann_get_num_output(net)

    def outputs(x: Reals) -> Reals:
        rows = np.ascontiguousarray(x, kind)
        made = [np.ctypeslib.as_array(library.fann_run(net, row.ctypes.data_as(reals)),
                                      (n_outputs,)).copy() for row in rows]
        return np.array(made).reshape(len(rows), n_outputs)

    return Other(f"lib{name}", outputs)
