"""What a fitted estimator of scikit-learn says: its class, its steps, its arrays, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign

SEARCHES: Final = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV",
                   "HalvingRandomSearchCV")


@dataclass(frozen=True)
class Fitted:
    """An estimator; `at` is where it stands in a pipeline, "" for the whole."""

    file: Foreign
    value: Any
    at: str = ""

    @property
    def name(self) -> str:
        """Of its class, which is scikit-learn's own: one derived from it may do anything."""
        kind = type(self.value)
        if kind.__module__.split(".")[0] != "sklearn":
            raise self.fault("E810", f"{kind.__module__}.{kind.__qualname__} is no class of "
                                     "scikit-learn's own")
        return kind.__name__

    def fault(self, code: str, message: str, help: str = "") -> NccError:
        return self.file.fault(code, message, self.at, help=help)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self.value, name, default)

    def array(self, name: str, *shape: int | None, of: Any = None) -> NDArray[Any]:
        """An attribute (or `of`, which is part of it) as finite float64; a size None may be any.

        NccErrors E801 (not fitted, not finite), E816 (shape), E817.
        """
        value = self.get(name) if of is None else of
        if value is None:
            raise self.fault("E801", f"{self.name} has no {name}: it is not fitted")
        if hasattr(value, "toarray"):  # coef_ after sparsify()
            value = value.toarray()
        try:
            found = np.asarray(value)
            made = found.astype(np.float64)
        except (TypeError, ValueError):
            raise self.fault("E817", f"{name} is no array of real numbers") from None
        if found.dtype.kind not in "fiu":
            raise self.fault("E817", f"{name} has values of {found.dtype}, no real numbers")
        if len(made.shape) != len(shape) or any(
                want not in (None, has) for want, has in zip(shape, made.shape, strict=True)):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise self.fault("E816", f"{name} has shape {made.shape}, not ({wanted})")
        if not np.isfinite(made).all():
            raise self.fault("E801", f"{name} has a value that is not finite")
        return made

    def single(self, name: str) -> bool:
        """Whether an attribute is an array of float32, so that the tool computes in that."""
        value = self.get(name)
        value = value[0] if isinstance(value, list) and value else value
        return getattr(value, "dtype", None) == np.float32

    def steps(self) -> Iterator[Fitted]:
        """The estimators of a pipeline, one after another; what a search has found to be best."""
        if self.name in SEARCHES:
            best = self.get("best_estimator_")
            if best is None:
                raise self.fault("E801", f"{self.name} has no best_estimator_: is it fitted, and "
                                         "refit not False?")
            yield from Fitted(self.file, best, f"{self.at}/best_estimator_").steps()
        elif self.name == "Pipeline":
            for name, value in self.get("steps", ()):
                if value is not None and value != "passthrough":
                    yield from Fitted(self.file, value, f"{self.at}/{name}").steps()
        else:
            yield self
