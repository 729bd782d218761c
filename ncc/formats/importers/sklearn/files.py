"""Pickles of estimators of scikit-learn, which are read only where the user says so."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options
from ncc.formats.importers.sklearn import estimators

HEAD: Final = 1 << 16  # bytes in which the class of an estimator stands
# Protocols 2 to 5, and what joblib packs with: zlib, gzip, bz2, xz, lz4.
_PICKLES: Final = tuple(b"\x80%c" % protocol for protocol in range(2, 6))
_PACKED: Final = (b"x", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\0", b"\x04\x22\x4d\x18", b"ZF")


def recognises(file: Foreign) -> bool:
    if file.data.startswith(_PICKLES):
        return b"sklearn" in file.data[:HEAD]
    return file.name.lower().endswith(".joblib") and file.data.startswith(_PACKED)


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of an estimator that pickle or joblib has written. NccErrors E637, E801, E818."""
    (file,) = files
    if not options.allow_pickle:
        raise file.fault(
            "E818", "a pickle may run any code as it is read, and that of an estimator asks for "
            "classes of scikit-learn and numpy", help="--allow-pickle, if you trust whoever wrote "
            "it; in Python, ncc.from_sklearn(estimator)")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # of another version of scikit-learn
        value = unpickled(file)
    if not estimators.recognises(value):
        raise file.fault("E800", f"it holds an object of {type(value).__module__}."
                                 f"{type(value).__qualname__}, no estimator of scikit-learn")
    made = estimators.built(file, value, options)
    lines = dict.fromkeys(str(each.message).partition("\n")[0] for each in said)
    return replace(made, notes=(*list(lines)[:4], *made.notes))


def unpickled(file: Foreign) -> Any:
    """The object in a file that is trusted. NccErrors E637, E801."""
    try:
        if file.name.lower().endswith(".joblib"):
            return import_module("joblib").load(io.BytesIO(file.data))
        return pickle.loads(file.data)
    except ImportError as error:
        raise NccError("E637", f"{file.name} wants a library that is missing: {error}",
                       help="pip install 'ncc-compiler[sklearn]'") from None
    except Exception as error:  # the file's own code may raise anything
        raise file.fault("E801", f"it cannot be unpickled: {type(error).__name__}: {error}"
                         ) from None


IMPORTER = Importer("sklearn", "an estimator of scikit-learn, live or as a pickle",
                    (".pkl", ".pickle", ".joblib"), recognises, read,
                    ("allow_pickle", "logits", "drop_zeros"), estimators.recognises,
                    estimators.from_object)
