"""Sums per tensor of a model, as the Python packages gguf and safetensors read it, for tests/unit/test_source.c.

Lines: Hugging Face tensor name, sum of all values, sum of values times (row number from 1). Rows of q and k in a GGUF file are put
back into half-split order first. Made with gguf 0.19.0, safetensors 0.8.0, numpy 2.4.6.

    python tests/golden/source_sums.py stories260K.gguf             > tests/data/sums-stories260K.txt
    python tests/golden/source_sums.py tinystories-656K             > tests/data/sums-tinystories-656K.txt
    python tests/golden/source_sums.py SmolLM2-135M-Instruct.Q4_1.gguf > tests/data/sums-smollm2-135M-q4_1.txt
"""

import os
import sys
from importlib.metadata import version

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors import safe_open

NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
GLOBAL = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight", "output_norm.weight": "model.norm.weight"}


def from_gguf(path):
    reader = GGUFReader(path)
    hidden, heads = (reader.get_field(f"llama.{k}").contents() for k in ("embedding_length", "attention.head_count"))
    d = hidden // heads
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type)
        if t.name in GLOBAL:
            yield GLOBAL[t.name], w
            continue
        _, layer, part, kind = t.name.split(".")
        if part in ("attn_q", "attn_k"):  # rows 2i, 2i + 1 of a head are i, i + d/2
            w = w.reshape(-1, d // 2, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)
        yield f"model.layers.{layer}.{NAMES[part]}.{kind}", w


def from_folder(path):
    with safe_open(os.path.join(path, "model.safetensors"), "np") as f:
        names = set(f.keys())
        for name in names:  # of two tied matrices the file may hold only the output
            yield name if "model.embed_tokens.weight" in names else name.replace("lm_head", "model.embed_tokens"), f.get_tensor(name)


path = sys.argv[1]
print(f"# {os.path.basename(path)}: gguf {version('gguf')}, safetensors {version('safetensors')}, numpy {np.__version__}")
for name, w in sorted((from_folder if os.path.isdir(path) else from_gguf)(path)):
    w = w.astype(np.float64).reshape(-1, w.shape[-1]) if w.ndim > 1 else w.astype(np.float64)[None]
    print(f"{name} {w.sum():.12g} {(w.sum(1) * np.arange(1, len(w) + 1)).sum():.12g}")
