"""torch as what a net is verified against: an exported program, operation by operation, with what
each makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from ncc.errors import NccError, optional
from ncc.formats.importers.torch.modules import is_module, is_program, traced
from ncc.formats.importers.torch.program import flat, path_of, tensor_name
from ncc.report.comparison import Other, Reals
from ncc.report.oracles.asked import Asked, first_line

__all__ = ["is_module", "is_program", "of_file", "of_object"]


def of_file(asked: Asked) -> Other:
    """The program of a .pt2, as torch computes it in the net's dtype. NccError E637, E801."""
    torch = optional("torch", "torch")
    assert asked.path is not None
    try:
        program = torch.export.load(asked.path)
    except Exception as error:  # of torch's reader, of whatever kind
        raise NccError("E801", f"{asked.path}: torch.export.load does not read it: "
                       f"{first_line(error)}") from None
    return _of_program(program, asked, torch)


def of_object(value: Any, asked: Asked) -> Other:
    """An exported program; or a module, traced with inputs of the shapes that the net's have.
    NccError E810 for one that torch.export cannot trace."""
    torch = optional("torch", "torch")
    if is_program(value):
        return _of_program(value, asked, torch)
    real = next((held.dtype for held in value.parameters()), torch.float32)
    shapes = [label.shape for label in asked.graph.labels if label.first < asked.graph.n_inputs]
    if sum(map(prod, shapes)) != asked.graph.n_inputs:
        shapes = [(1, asked.graph.n_inputs)]
    given = tuple(torch.zeros(shape, dtype=real) for shape in shapes)
    was = value.training
    value.eval()
    try:
        return _of_program(traced(value, given, torch), asked, torch)
    finally:
        value.train(was)


def _of_program(program: Any, asked: Asked, torch: Any) -> Other:
    run = _Run(program, torch.float64 if asked.dtype == "f64" else torch.float32, torch)
    return Other(f"torch {torch.__version__}", run.outputs,
                 lambda x, sample: dict(run.named(x[sample])), run.formulas, asked.places)


class _Run:
    """An exported program at work in a dtype, whatever its own: a row of x is the elements of all
    inputs, a row of y those of all outputs."""

    def __init__(self, program: Any, real: Any, torch: Any) -> None:
        self.program, self.real, self.torch = program, real, torch
        self.nodes = list(program.graph_module.graph.nodes)
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs
                 if hasattr(spec.arg, "name")}
        self.held: dict[Any, Any] = {}  # what is no input, by placeholder
        self.inputs: list[tuple[Any, tuple[int, ...]]] = []
        for node in self.nodes:
            if node.op != "placeholder":
                continue
            spec, value = specs[node.name], node.meta.get("val")
            if spec.kind.name != "USER_INPUT":
                of = program.state_dict if spec.target in program.state_dict else program.constants
                self.held[node] = self.wide(of[spec.target])
            elif hasattr(value, "shape"):
                self.inputs.append((node, tuple(value.shape)))
            else:
                self.held[node] = value

    def wide(self, held: Any) -> Any:
        """A tensor, or the name of a dtype, of reals in this one."""
        torch = self.torch
        if isinstance(held, torch.Tensor):
            return held.detach().to(self.real) if held.is_floating_point() else held
        if isinstance(held, torch.dtype) and held.is_floating_point:
            return self.real
        return held

    def values(self, row: Reals) -> Iterator[tuple[Any, Any]]:
        """Each node with what it makes, which a later one may write to."""
        env, at = dict(self.held), 0
        given = self.torch.as_tensor(np.ascontiguousarray(row)).to(self.real)
        for node, shape in self.inputs:
            env[node] = given[at : at + prod(shape)].reshape(shape).clone()
            at += prod(shape)
        with self.torch.no_grad():
            for node in self.nodes:
                if node.op == "get_attr":
                    env[node] = self.wide(getattr(self.program.graph_module, node.target))
                elif node.op == "call_function":
                    args = self.torch.fx.node.map_arg((node.args, node.kwargs),
                                                      lambda of: env[of])
                    args, kwargs = self.torch.utils._pytree.tree_map(self.wide, args)
                    env[node] = node.target(*args, **kwargs)
                elif node.op == "output":
                    env[node] = [env[of] for of in flat(node.args[0]) if of is not None]
                yield node, env[node]

    def outputs(self, x: Reals) -> Reals:
        rows = []
        for row in x:
            *_, (_, made) = self.values(row)
            rows.append(np.concatenate([held.numpy().ravel() for held in made]))
        return np.array(rows)

    def named(self, row: Reals) -> Iterator[tuple[str | int, Any]]:
        """What operations make, by the names of the importer."""
        for node, made in self.values(row):
            if node.op == "call_function" and isinstance(made, self.torch.Tensor):
                yield tensor_name(node), made.numpy().copy()

    def formulas(self) -> Mapping[str | int, str]:
        """The operation of each tensor, what it reads, the module and its class."""
        found: dict[str | int, str] = {}
        for node in self.nodes:
            if node.op != "call_function":
                continue
            path = path_of(node)
            reads = ", ".join([tensor_name(of) for of in node.all_input_nodes])
            kinds = [entry[1] for entry in (node.meta.get("nn_module_stack") or {}).values()]
            kind = str(getattr(kinds[-1], "__name__", kinds[-1])).split(".")[-1] if kinds else ""
            found[tensor_name(node)] = f"{node.target} of {reads}" + (
                f", module {path} ({kind})" if path else "")
        return found
