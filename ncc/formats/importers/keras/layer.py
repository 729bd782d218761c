"""A layer of Keras's: its configuration, read with places, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Json
from ncc.formats.importers.keras import activations
from ncc.formats.importers.keras.tables import LAYERS
from ncc.formats.importers.tensors import elementwise
from ncc.formats.importers.tensors.net import Tensor, TensorNet, Weights


@dataclass(frozen=True)
class Layer:
    """A layer: its name, its class, its configuration, the place of its weights."""

    reader: Any  # model.Reader
    name: str
    kind: str
    config: Json
    place: Any

    @property
    def net(self) -> TensorNet:
        held: TensorNet = self.reader.net
        return held

    def fault(self, code: str, message: str, help: str = "") -> NccError:
        return self.config.fault(code, f"layer {self.name!r} ({self.kind}): {message}", help=help)

    def has(self, key: str) -> bool:
        return self.config.has(key) and self.config.value[key] is not None

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        if default is not None and not self.has(key):
            return default
        found = self.config[key].integer()
        if not least <= found < 2**31:
            raise self.config[key].fault("E813", f"layer {self.name!r}: {key} is {found}")
        return found

    def real(self, key: str, default: float) -> float:
        return self.config[key].real() if self.has(key) else default

    def flag(self, key: str, default: bool) -> bool:
        return self.config[key].flag() if self.has(key) else default

    def word(self, key: str, default: str, known: Sequence[str]) -> str:
        """One of some words. NccError E813 for another."""
        found = self.config[key].text() if self.has(key) else default
        if found not in known:
            raise self.fault("E813", f"{key} is {found[:40]!r}, not {' or '.join(known)}")
        return found

    def sizes(self, key: str, dims: int, default: int | None = None) -> list[int]:
        """A size an axis, which may be given once for all."""
        if default is not None and not self.has(key):
            return [default] * dims
        held = self.config[key]
        found = [each.integer() for each in held] if isinstance(held.value, list) else [
            held.integer()] * dims
        if len(found) == 1:
            found *= dims
        if len(found) != dims or not all(1 <= size < 2**31 for size in found):
            raise self.fault("E813", f"{key} is {str(held.value)[:40]}, not {dims} sizes")
        return found

    def axes(self, key: str, rank: int, default: Any = -1) -> list[int]:
        """Axes of a tensor of `rank`, whose configuration counts the batch, too."""
        held = self.config[key].value if self.has(key) else default
        found = held if isinstance(held, list) else [held]
        made = []
        for axis in found:
            if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis <= rank:
                raise self.fault("E813", f"{key} is {str(held)[:40]}")
            if axis == 0:
                raise self.fault("E814", f"{key} is 0, which is the batch")
            made.append(axis - 1 if axis > 0 else axis + rank)
        return made

    def channels_last(self) -> None:
        self.word("data_format", "channels_last", ("channels_last",))

    def weights(self, shapes: dict[str, tuple[int, ...]], group: str = "", name: str = "",
                instead: dict[str, NDArray[np.float64]] | None = None) -> list[Weights]:
        """Parameters by name, of these shapes; of other values where these are given `instead`.
        NccError E816 where they are of other shapes."""
        found = zip(shapes, self.values(shapes, group, name), strict=True)
        names = self._place(group, name).names
        return [self.reader.parameter("/".join((*names, key.split("|")[0])),
                                      (instead or {}).get(key, values)) for key, values in found]

    def computed(self, name: str, values: NDArray[np.float64]) -> Weights:
        """A parameter that is computed of several of the layer's."""
        held: Weights = self.reader.parameter("/".join((*self.place.names, name)), values, False)
        return held

    def values(self, shapes: dict[str, tuple[int, ...]], group: str = "", name: str = ""
               ) -> list[NDArray[np.float64]]:
        """The same as numbers."""
        found: list[NDArray[np.float64]] = self.reader.source.read(
            self._place(group, name), list(shapes))
        for (key, shape), values in zip(shapes.items(), found, strict=True):
            if values.shape != shape:
                raise self.fault("E816", f"{key.split('|')[0]} has the shape {values.shape}, and "
                                 f"{shape} is wanted")
        return found

    def _place(self, group: str, name: str) -> Any:
        return self.place.inside(group, name) if group else self.place

    def activated(self, x: Tensor, key: str = "activation") -> Tensor:
        """The layer's own activation."""
        if not self.has(key):
            return x
        held = self.config[key]
        if isinstance(held.value, dict) and held.has("class_name") and (
                held["class_name"].value in LAYERS):  # a layer in the place of a function
            inner = self.reader.layer(held, self.place, self.name)
            made: Tensor = self.reader.sized(inner, self.reader.called(inner, [x], {}))
            return made
        name = activations.name_of(held)
        if name in activations.OVER_AN_AXIS:
            return elementwise.softmax(self.net, self.net.neurons(x), -1, name == "log_softmax")
        text = self.text(key)
        return x if text == "identity" else elementwise.unary(self.net, x, text)

    def text(self, key: str, default: str = "linear") -> str:
        """An activation as ncc has it. NccError E811."""
        if not self.has(key):
            return activations.TEXTS[default]
        return activations.text_of(self.config[key], self.reader.keras)

    def fits(self, edges: int) -> None:
        """NccError E819 where a layer would have more edges than may be."""
        if edges > self.reader.options.max_edges:
            raise self.fault("E819", f"{edges} edges, and {self.reader.options.max_edges} are the "
                             "most", help="--max-edges gives another limit")
