"""Tiny random-weight models and the losses that transformers gives for them, dense and with the weights of masked units zeroed.

Writes tests/data/models/NAME/{config.json,model.safetensors,golden.json}. Run by hand where the set of cases changes:
    python tests/golden/models.py tests/data/models [--shared NAME=FOLDER|FILE.gguf ...]
--shared adds only golden.json for a model that is not in the repository (tests skip it where the model is absent).
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

BASE = dict(vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
            head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, initializer_range=0.3,
            bos_token_id=1, eos_token_id=2)
CASES = {
    "llama-gqa-tied": (LlamaConfig, LlamaForCausalLM, dict(tie_word_embeddings=True), torch.float32),
    "llama-mha-bf16": (LlamaConfig, LlamaForCausalLM, dict(num_key_value_heads=6, tie_word_embeddings=False), torch.bfloat16),
    "llama3-scaled": (LlamaConfig, LlamaForCausalLM,
                      dict(rope_theta=500000.0, tie_word_embeddings=False,
                           rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                             original_max_position_embeddings=16)), torch.float32),
    "llama-linear-bias": (LlamaConfig, LlamaForCausalLM,
                          dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                               rope_scaling=dict(rope_type="linear", factor=4.0)), torch.float32),
    "mistral-window": (MistralConfig, MistralForCausalLM, dict(sliding_window=7, tie_word_embeddings=False), torch.float32),
}


def losses(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.float()
    logp = torch.log_softmax(logits[:, :-1], -1)
    target = torch.tensor(ids)[:, 1:]
    return (-logp.gather(-1, target[..., None])[..., 0]).double().mean(1).tolist()


def random_mask(c, seed):
    g = torch.Generator().manual_seed(seed)
    layers = []
    for _ in range(c.num_hidden_layers):
        groups = [i for i in range(c.num_key_value_heads) if torch.rand(1, generator=g).item() < 0.6]
        channels = [i for i in range(c.intermediate_size) if torch.rand(1, generator=g).item() < 0.6]
        layers.append(dict(groups=groups, channels=channels))
    layers[0]["channels"] = []  # an empty block is its residual path
    layers[-1]["groups"] = []
    return layers


def zero_units(model, layers):
    """Zeroes what leaves the masked units: columns of o_proj and down_proj. Their biases stay, except of empty blocks."""
    c = model.config
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    per = c.num_attention_heads // c.num_key_value_heads * head
    with torch.no_grad():
        for block, keep in zip(model.model.layers, layers):
            for i in set(range(c.num_key_value_heads)) - set(keep["groups"]):
                block.self_attn.o_proj.weight[:, i * per:(i + 1) * per] = 0
            gone = sorted(set(range(c.intermediate_size)) - set(keep["channels"]))
            block.mlp.down_proj.weight[:, gone] = 0
            if not keep["groups"] and block.self_attn.o_proj.bias is not None:
                block.self_attn.o_proj.bias.zero_()
            if not keep["channels"] and block.mlp.down_proj.bias is not None:
                block.mlp.down_proj.bias.zero_()


def golden(model, vocab, out, seq=48, n=3):
    g = torch.Generator().manual_seed(7)
    ids = torch.randint(0, vocab, (n, seq), generator=g).tolist()
    masks = []
    state = {k: v.clone() for k, v in model.state_dict().items()}
    dense = losses(model, ids)
    for seed in (1, 2):
        layers = random_mask(model.config, seed)
        zero_units(model, layers)
        masks.append(dict(layers=layers, loss=losses(model, ids)))
        model.load_state_dict(state)
    doc = dict(made_by="tests/golden/models.py", torch=torch.__version__, transformers=transformers.__version__, ids=ids, dense=dense, masks=masks)
    out.write_text(json.dumps(doc) + "\n")
    print(out, dense, [m["loss"] for m in masks])


def main():
    root = Path(sys.argv[1])
    if len(sys.argv) > 3 and sys.argv[2] == "--shared":
        for item in sys.argv[3:]:
            name, folder = item.split("=", 1)
            path = Path(folder)
            where, kw = (path.parent, dict(gguf_file=path.name)) if path.suffix == ".gguf" else (path, {})
            model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **kw).eval()
            golden(model, model.config.vocab_size, root / f"{name}.golden.json")
        return
    for i, (name, (config, cls, change, dtype)) in enumerate(CASES.items()):
        torch.manual_seed(100 + i)
        c = config(**{**BASE, **change})
        model = cls(c)
        with torch.no_grad():
            for n, p in model.named_parameters():
                if "norm" in n:
                    p.copy_(1 + 0.2 * torch.randn_like(p))
                elif n.endswith("bias"):
                    p.copy_(0.3 * torch.randn_like(p))
        model = model.to(dtype)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        model = cls.from_pretrained(folder, dtype=torch.float32).eval()
        golden(model, c.vocab_size, folder / "golden.json")


if __name__ == "__main__":
    main()
