"""Which layers of Keras are read, and by what; which are refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from ncc.formats.importers.keras import attention, convolution, dense, moving, recurrent


class Row(NamedTuple):
    """make: (layer, what it is called with) to a tensor or a list of tensors; `keywords` are those
    that it may be called with."""

    make: Callable[..., Any]
    keywords: tuple[str, ...] = ()


MODELS: Final = ("Sequential", "Functional", "Model")
REFUSED: Final = {
    "Lambda": "a function of Python, which its file does not say",
    "TFOpLambda": "an operation of TensorFlow's", "SlicingOpLambda": "an operation of TensorFlow's",
    "Embedding": "its inputs are numbers of classes; one-hot rows and a Dense layer without a bias "
                 "are the same",
    "Masking": "a mask that depends on the input",
}
_DIMS: Final = (1, 2, 3)
LAYERS: Final[dict[str, Row]] = {
    "Dense": Row(dense.dense),
    "EinsumDense": Row(attention.einsum_dense),
    "Activation": Row(dense.activation),
    "ReLU": Row(dense.relu), "LeakyReLU": Row(dense.leaky_relu), "ELU": Row(dense.elu),
    "PReLU": Row(dense.prelu), "Softmax": Row(dense.softmax),
    "ThresholdedReLU": Row(dense.thresholded_relu),
    "BatchNormalization": Row(dense.batch_normalization),
    "LayerNormalization": Row(dense.layer_normalization),
    "RMSNormalization": Row(dense.rms_normalization),
    "GroupNormalization": Row(dense.group_normalization),
    "UnitNormalization": Row(dense.unit_normalization),
    "Normalization": Row(dense.normalization), "Rescaling": Row(dense.rescaling),
    "Flatten": Row(moving.flatten), "Reshape": Row(moving.reshape), "Permute": Row(moving.permute),
    "RepeatVector": Row(moving.repeat_vector),
    "Concatenate": Row(moving.concatenate), "Dot": Row(moving.dot),
    "Add": Row(partial(moving.merged, "add")), "Multiply": Row(partial(moving.merged, "mul")),
    "Subtract": Row(partial(moving.merged, "sub")), "Maximum": Row(partial(moving.merged, "max")),
    "Minimum": Row(partial(moving.merged, "min")), "Average": Row(moving.average),
    "SimpleRNN": Row(recurrent.layer, ("initial_state",)),
    "LSTM": Row(recurrent.layer, ("initial_state",)),
    "GRU": Row(recurrent.layer, ("initial_state",)),
    "RNN": Row(recurrent.of_cell, ("initial_state",)),
    "Bidirectional": Row(recurrent.bidirectional, ("initial_state",)),
    "TimeDistributed": Row(recurrent.time_distributed),
    "MultiHeadAttention": Row(attention.multi_head, ("value", "key", "use_causal_mask")),
    "Attention": Row(attention.attention, ("use_causal_mask",)),
    "AdditiveAttention": Row(attention.additive, ("use_causal_mask",)),
    **{name: Row(moving.unchanged) for name in (
        "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout",
        "GaussianNoise", "AlphaDropout", "ActivityRegularization", "Identity")},
    **{f"Conv{n}D": Row(partial(convolution.conv, n)) for n in _DIMS},
    **{f"Conv{n}DTranspose": Row(partial(convolution.transposed, n)) for n in _DIMS},
    **{f"DepthwiseConv{n}D": Row(partial(convolution.depthwise, n)) for n in (1, 2)},
    **{f"SeparableConv{n}D": Row(partial(convolution.separable, n)) for n in (1, 2)},
    **{f"MaxPooling{n}D": Row(partial(convolution.pool, n, "max")) for n in _DIMS},
    **{f"AveragePooling{n}D": Row(partial(convolution.pool, n, "mean")) for n in _DIMS},
    **{f"GlobalMaxPooling{n}D": Row(partial(convolution.global_pool, n, "max")) for n in _DIMS},
    **{f"GlobalAveragePooling{n}D": Row(partial(convolution.global_pool, n, "mean"))
       for n in _DIMS},
    **{f"ZeroPadding{n}D": Row(partial(moving.padded, n)) for n in _DIMS},
    **{f"Cropping{n}D": Row(partial(moving.cropped, n)) for n in _DIMS},
    **{f"UpSampling{n}D": Row(partial(moving.up_sampled, n)) for n in _DIMS},
}
