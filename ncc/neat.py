"""Genomes of neat-python, evaluated by machine code: a population at once, or one net by one.

    def eval_genomes(genomes, config):
        pop = ncc.neat.population(genomes, config)
        for (_, genome), y in zip(genomes, pop(x)):    # (genomes, n, outputs) of x (n, inputs)
            genome.fitness = -((y - target) ** 2).sum()

    net = ncc.neat.FeedForwardNetwork.create(genome, config)    # in the place of neat.nn's
    net.activate([0.0, 1.0])

The outputs are neat-python's, but for the order in which a sum is rounded: within 1e-12 of them,
relative, in float64, where the net itself does not enlarge the last bits of its values. Where
Python raises OverflowError, as `z ** 2` does, they are infinite.

What is evaluated are neat-python's own objects, by its rules (those of 2.0.0); nothing is imported
from it (`pip install 'ncc-compiler[neat]'` brings it along).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ncc.images.blocks import blocks
from ncc.images.image import images
from ncc.images.kinds import Kinds
from ncc.images.union import Union, packed, unpacked
from ncc.machine.native import aligned, placed
from ncc.nets.genomes import kinds, union
from ncc.runtime.kernel import head, kernel
from ncc.runtime.population import Population

__all__ = ["FeedForwardNetwork", "RecurrentNetwork", "population"]
DTYPE: Final = "f64"  # Python's own
NUMERICS: Final = "strict"  # and so are these


def population(genomes: Iterable[tuple[Any, Any]], config: Any, *, dtype: Any = DTYPE,
               threads: int = 1, recurrent: bool = False, numerics: str = NUMERICS,
               cache: bool = True) -> Population:
    """A population of `genomes`, pairs (id, genome) as `eval_genomes` gets, under neat-python's
    `config`. Net k is genome k, its inputs and outputs in the order of the configuration's keys.

    dtype      "f64" or "f32" (or numpy's name or type of either): what is computed in
    threads    over the nets; 0 is one a core
    recurrent  as neat.nn.RecurrentNetwork: a step reads the values of the step before
    numerics   "strict" or "fused": whether products are rounded before they are added, as Python
               does it, so that equal ones cancel
    cache      whether the engine may come from the cache on disk, and be kept there

    The engine is for all functions among the configuration's options, so that one serves all
    generations. The parameters are, of each node that an output depends on, in the genome's order,
    the weights in the order of the connections and the bias, where a weight into a sum is times the
    response, and one into another aggregation as it is, with the response behind it as the weight
    of a neuron of its own.

    NccError, with the genome and the gene: E801 where a genome is malformed, or a number not
    finite; E811 for the aggregation median and functions of the user's; E812 for a cycle, unless
    `recurrent`. E650 without genomes.
    """
    made = union(list(genomes), config, recurrent)
    return Population(made, dtype=dtype, threads=threads, recurrent=recurrent, numerics=numerics,
                      kinds=kinds(config, made, recurrent), cache=cache)


class _Network:
    """A net as neat-python's are called, in float64. `population` is one of this net alone, for
    batches; it has a state of its own. Not for several threads at once, as neat-python's are not.
    """

    recurrent = False

    def __init__(self, made: Union, of: Kinds, input_nodes: list[int], output_nodes: list[int]
                 ) -> None:
        self.input_nodes = input_nodes
        self.output_nodes = output_nodes
        self._made, self._of = made, of
        self._engine = kernel(of, DTYPE, NUMERICS)
        self._x, self._y = np.zeros(made.n_inputs), np.zeros(made.n_outputs)
        self._batch: Population | None = None
        self._link()

    @classmethod
    def create(cls, genome: Any, config: Any) -> Self:
        """The net of a genome under neat-python's `config`. NccError as of `population`."""
        made = union([(getattr(genome, "key", 0), genome)], config, cls.recurrent)
        held = config.genome_config
        return cls(made, kinds(config, made, cls.recurrent), held.input_keys, held.output_keys)

    def activate(self, inputs: Sequence[float]) -> list[float]:
        """The outputs (n_outputs) of inputs (n_inputs). RuntimeError for another number of them,
        in neat-python's words."""
        if len(inputs) != len(self._x):
            raise RuntimeError(f"Expected {len(self._x):n} inputs, got {len(inputs):n}")
        self._x[:] = inputs
        self._call(*self._arguments)
        y: list[float] = self._y.tolist()
        return y

    @property
    def population(self) -> Population:
        return Population(self._made, dtype=DTYPE, numerics=NUMERICS, recurrent=self.recurrent,
                          kinds=self._of)

    def _link(self) -> None:
        raise NotImplementedError

    def _enter(self, name: str, *arrays: Any) -> None:
        """`activate` calls this function of the engine, with these arrays, which are kept."""
        self._held = arrays
        self._call = self._engine.library.calls[name]
        self._arguments = [array.ctypes.data for array in arrays]

    @classmethod
    def _opened(cls, made: dict[str, Any], of: Any, *nodes: list[int]) -> Self:
        return cls(unpacked(made, cls.recurrent), Kinds.of_plain(of), *nodes)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._opened, (packed(self._made), self._of.plain, self.input_nodes,
                              self.output_nodes)


class FeedForwardNetwork(_Network):
    """neat.nn.FeedForwardNetwork, as far as `create` and `activate`; and many samples at once."""

    def activate_batch(self, x: Any) -> NDArray[np.float64]:
        """The outputs (n, n_outputs) of samples x (n, n_inputs). ValueError for another shape."""
        if self._batch is None:
            self._batch = self.population
        y: NDArray[np.float64] = self._batch(np.atleast_2d(x))[0]
        return y

    def _link(self) -> None:
        made = self._made
        held = images(made, self._engine.kinds, DTYPE)
        held.parameters.put(held.block, made.graph.values)
        block, work = placed(held.block), aligned(made.graph.n_neurons, np.float64)
        self._enter("forward", head(held.places, made.n_inputs, made.n_outputs), block, block,
                    self._x, self._y, work)


class RecurrentNetwork(_Network):
    """neat.nn.RecurrentNetwork, as far as `create`, `activate` and `reset`: a step reads the values
    of the step before, which are 0 at first."""

    recurrent = True

    def _link(self) -> None:
        made = self._made
        held = blocks(made, self._engine.kinds, DTYPE, recurrent=True)
        held.parameters.put(held.block, made.graph.values)
        block, work = placed(held.block), aligned(held.values, np.float64)
        self._state = work[held.before : held.before + held.state]
        self.reset()
        self._enter("step", block, block, self._x, self._y, work)

    def reset(self) -> None:
        """The values of the step before are 0 again."""
        self._state[:] = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self._state.copy())

    def __setstate__(self, state: Any) -> None:
        self._state[:] = state
