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
from typing import Any

import numpy as np

from ncc.nets.genomes import kinds, union
from ncc.runtime.population import Population

__all__ = ["FeedForwardNetwork", "RecurrentNetwork", "population"]


def population(genomes: Iterable[tuple[Any, Any]], config: Any, *, dtype: Any = "f64",
               threads: int = 1, recurrent: bool = False, numerics: str | None = None,
               cache: bool = True) -> Population:
    """A population of `genomes`, pairs (id, genome) as `eval_genomes` gets them, under neat-python's
    `config`. Net k is genome k, its inputs and outputs in the order of the configuration's keys.

    dtype      "f64" or "f32" (or numpy's name or type of either): what is computed in
    threads    over the nets; 0 is one a core
    recurrent  as neat.nn.RecurrentNetwork: a step reads the values of the step before
    numerics   "strict" or "fused"; the default is that of `ncc.compile`
    cache      whether the engine may come from the cache on disk, and be kept there

    The engine is for all functions among the configuration's options, so that one serves all
    generations. The parameters are, of each node that an output depends on, in the genome's order,
    the weights in the order of the connections and the bias, where a weight into a sum is times the
    response, and one into another aggregation as it is, with the response behind it as the weight
    of a neuron of its own; `recurrent`, all are times the response.

    NccError, with the genome and the gene: E801 where a genome is malformed, or a number not
    finite; E811 for the aggregation median and functions of the user's; E812 for a cycle, unless
    `recurrent`. E650 without genomes.
    """
    made = union(list(genomes), config, recurrent)
    return Population(made, dtype=dtype, threads=threads, recurrent=recurrent, numerics=numerics,
                      kinds=kinds(config, made, recurrent), cache=cache)


class _Network:
    """A net as neat-python's are called."""

    def __init__(self, nets: Population, config: Any) -> None:
        self.input_nodes: list[int] = config.genome_config.input_keys
        self.output_nodes: list[int] = config.genome_config.output_keys
        self.population = nets

    def _samples(self, inputs: Sequence[float]) -> Any:
        if len(inputs) != len(self.input_nodes):  # in neat-python's words
            raise RuntimeError(f"Expected {len(self.input_nodes):n} inputs, got {len(inputs):n}")
        return np.array(inputs, np.float64)


class FeedForwardNetwork(_Network):
    """neat.nn.FeedForwardNetwork, as far as `create` and `activate`; `population` is the population
    of this one net, for batches: `net.population(x)[0]`."""

    @classmethod
    def create(cls, genome: Any, config: Any) -> FeedForwardNetwork:
        """The net of a genome, in float64. NccError as of `population`."""
        return cls(population([(getattr(genome, "key", 0), genome)], config), config)

    def activate(self, inputs: Sequence[float]) -> list[float]:
        """The outputs (n_outputs) of inputs (n_inputs). RuntimeError for another number of them."""
        y: list[float] = self.population(self._samples(inputs))[0].tolist()
        return y


class RecurrentNetwork(_Network):
    """neat.nn.RecurrentNetwork, as far as `create`, `activate` and `reset`."""

    @classmethod
    def create(cls, genome: Any, config: Any) -> RecurrentNetwork:
        """The net of a genome, in float64. NccError as of `population`."""
        return cls(population([(getattr(genome, "key", 0), genome)], config, recurrent=True),
                   config)

    def activate(self, inputs: Sequence[float]) -> list[float]:
        """The outputs (n_outputs) after a step with inputs (n_inputs), which reads the values of
        the step before. RuntimeError for another number of inputs."""
        y: list[float] = self.population.step(self._samples(inputs)[None])[0].tolist()
        return y

    def reset(self) -> None:
        """The values of the step before are 0 again."""
        self.population.reset()
