"""Tiny models whose tensors are stored in every type that is read, and the losses that transformers gives for their values.

Writes tests/data/models/quantised.gguf with quantised.golden.json, and tests/data/models/sharded-mix: a folder of several shards
with f32, f16 and bf16 side by side. The values of quantised blocks are those of the Python package gguf.

    python tests/golden/stored_types.py tests/data/models

Made with gguf 0.19.0, safetensors 0.8.0; golden.json has the other versions.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFWriter, dequantize, quantize
from models import golden
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(sys.argv[1])
# The package cannot quantise to these: random blocks, their 16-bit scales at these places and of these sizes.
SCALES = {T.Q4_K: {0: 2e-4, 2: 1.5e-3}, T.Q5_K: {0: 1e-4, 2: 1.5e-3}, T.Q6_K: {208: 5e-5}}
ROWS_OF_256 = [T.Q4_K, T.Q5_K, T.Q6_K, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.F16, T.BF16, T.F32]
SHORT_ROWS = ROWS_OF_256[3:]
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
rng = np.random.default_rng(12)


def encode(x, kind):
    if kind not in SCALES:
        return quantize(x, kind)
    values, size = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (x.size // values, size), dtype=np.uint8)
    for at, scale in SCALES[kind].items():
        raw[:, at : at + 2] = (scale * (0.5 + rng.random(len(raw)))).astype(np.float16).view(np.uint8).reshape(-1, 2)
    return raw.reshape(len(x), -1)


def adjacent(x, heads):
    """Rows of q and k from half-split order into adjacent pairs, as GGUF has them."""
    return x.reshape(heads, 2, len(x) // heads // 2, -1).swapaxes(1, 2).reshape(x.shape)


def half_split(x, heads):
    return x.reshape(heads, len(x) // heads // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)


def quantised():
    c = LlamaConfig(vocab_size=32, hidden_size=256, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                    head_dim=16, max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.06)
    torch.manual_seed(3)
    model = LlamaForCausalLM(c).eval()
    w = GGUFWriter(str(ROOT / "quantised.gguf"), "llama")
    w.add_block_count(c.num_hidden_layers)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_context_length(c.max_position_embeddings)
    names = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
    names |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for i in range(c.num_hidden_layers) for a, b in PARTS.items()}
    turn = {256: 0, 0: 0}
    for hf, name in names.items():
        p = model.get_parameter(hf + ".weight")
        x = p.detach().numpy().copy()
        if x.ndim == 1:
            back = 1 + 0.2 * rng.standard_normal(x.shape).astype(np.float32)
            w.add_tensor(name + ".weight", back)
        else:
            long = x.shape[1] % 256 == 0
            kinds = ROWS_OF_256 if long else SHORT_ROWS
            kind = kinds[turn[256 if long else 0] % len(kinds)]
            turn[256 if long else 0] += 1
            heads = c.num_attention_heads if "q_proj" in hf else c.num_key_value_heads if "k_proj" in hf else 0
            raw = encode(adjacent(x, heads) if heads else x, kind)
            w.add_tensor(name + ".weight", raw, raw_dtype=kind)
            back = dequantize(raw, kind).reshape(x.shape)
            back = half_split(back, heads) if heads else back
        with torch.no_grad():
            p.copy_(torch.from_numpy(np.ascontiguousarray(back)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    golden(model, c.vocab_size, ROOT / "quantised.golden.json")


def sharded_mix():
    folder = ROOT / "sharded-mix"
    c = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                    head_dim=6, max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.3, tie_word_embeddings=False)
    torch.manual_seed(4)
    LlamaForCausalLM(c).save_pretrained(folder, max_shard_size="12KB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    types, n = [torch.float32, torch.float16, torch.bfloat16], 0
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        for name in tensors:
            tensors[name] = tensors[name].to(types[n % 3])
            n += 1
        save_file(tensors, path, metadata={"format": "pt"})
    golden(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), c.vocab_size, folder / "golden.json")


quantised()
sharded_mix()
