"""Makes tests/data/dequant.gguf: random blocks of every weight type, and what they decode to.

For each type T a tensor "T" with the raw blocks and a tensor "T.f32" with the values that the Python package gguf's
dequantize() gives for them. Made with gguf 0.19.0 and numpy 2.4.6; the file also carries their versions.

    python tests/golden/dequant.py tests/data/dequant.gguf
"""

import sys
from importlib.metadata import version

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFWriter, dequantize

ROWS, COLS = 2, 512
# Byte offsets of the 16-bit scales in a block: random bits there could be infinite or not a number.
HALVES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}

rng = np.random.default_rng(20240)


def finite_halves(shape):
    """Any finite binary16: normal, subnormal, zero, both signs; exponents small enough that products stay finite."""
    return (rng.integers(0, 2, shape) << 15 | rng.integers(0, 0x5800, shape)).astype(np.uint16)


def blocks(kind):
    values, size = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (ROWS * COLS // values, size), dtype=np.uint8)
    for at in HALVES[kind]:
        raw[:, at : at + 2] = finite_halves(len(raw)).view(np.uint8).reshape(-1, 2)
    return raw.reshape(ROWS, -1)


out = GGUFWriter(sys.argv[1], "test")
out.add_string("test.made_with", f"gguf {version('gguf')}, numpy {np.__version__}")
for kind in [T.F32, T.F16, T.BF16, *HALVES]:
    if kind == T.F32:
        data = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    elif kind == T.F16:
        data = finite_halves((ROWS, COLS)).view(np.float16)
    elif kind == T.BF16:
        data = (rng.standard_normal((ROWS, COLS)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    else:
        data = blocks(kind)
    name = kind.name.lower()
    out.add_tensor(name, data, raw_dtype=kind)
    values = dequantize(data, kind)
    assert np.isfinite(values).all()
    out.add_tensor(name + ".f32", values.astype(np.float32))
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()
