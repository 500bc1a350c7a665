#!/usr/bin/env python3
"""FLAP and its Wanda-sp, by their own code (github.com/CASIA-LMC-Lab/FLAP): a mask for Pollard, and the perplexity of what they leave.

flap.py CLONE MODEL TEXT wanda_sp|flap RATIO --mask FILE [--seed N] [--judge BASE WIKITEXT C4]

The published code knows heads of 128 and no groups. The unit here is a KV group, so its 128 columns of the output matrix become those
of a group's query heads, and keys and values are masked by their own, shorter, stretch. All else is as it is, called as its script
does: WIFV, AL-AM and 1,024 samples of 128 tokens for FLAP, 128 samples for Wanda-sp; masked, not cut out.
"""
import argparse
import re
import sys
import types

import torch

import common


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("clone")
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("method", choices=["wanda_sp", "flap"])
    p.add_argument("ratio", type=float)
    p.add_argument("--mask", required=True)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--judge", nargs=3)
    return p.parse_args()


def load_prune(clone, queries, keys):
    """Its lib.prune, with the columns of a unit in place of 128 and half precision left out."""
    sys.path.insert(0, clone)
    with open(f"{clone}/lib/prune.py", encoding="utf-8") as f:
        source = f.read()
    source = re.sub(r"\b128\b(?=\))", str(queries), source)  # of a head: always the last of its brackets
    source = re.sub(r"nsamples=%d(?=,)" % queries, "nsamples=128", source)
    source = re.sub(r"torch\.half\b", "torch.float", source)
    for name in ("k_proj", "v_proj"):
        source = re.sub(r"(%s\.weight\.data \*= )attn_mask\." % name, r"\1attn_mask[::%d]." % (queries // keys), source)
    module = types.ModuleType("lib.prune")
    module.__package__ = "lib"
    exec(compile(source, f"{clone}/lib/prune.py", "exec"), module.__dict__)
    return module


def main():
    a = parse()
    common.stand_in_for_datasets(a.text)
    common.without_gpu()
    import numpy as np
    from transformers import AutoTokenizer, LlamaForCausalLM

    np.random.seed(a.seed)
    torch.manual_seed(a.seed)
    model = LlamaForCausalLM.from_pretrained(a.model, torch_dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    c = model.config
    head = c.hidden_size // c.num_attention_heads
    for layer in model.model.layers:  # its own model has biases there
        for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
            matrix.bias = torch.nn.Parameter(torch.zeros(c.hidden_size))
    prune = load_prune(a.clone, head * (c.num_attention_heads // c.num_key_value_heads), head)
    model.seqlen = 128
    samples = 1024 if a.method == "flap" else 128
    args = types.SimpleNamespace(nsamples=samples, seed=a.seed, pruning_ratio=a.ratio, remove_heads=-1, metrics="WIFV", structure="AL-AM",
                                 unstr=True)
    if a.method == "wanda_sp":  # it counts heads by the attention's own number: groups are what it prunes here
        for layer in model.model.layers:
            layer.self_attn.register_forward_pre_hook(lambda m, _: setattr(m, "num_heads", c.num_attention_heads))
            layer.self_attn.register_forward_hook(lambda m, *_: setattr(m, "num_heads", c.num_key_value_heads))
    cost = common.Cost()
    getattr(prune, f"prune_{a.method}")(args, model, tokenizer, torch.device("cpu"))
    passes = samples * (2 if a.method == "wanda_sp" else 1)  # dense, and pruned for the layer behind
    cost = cost.stop(passes, model.seqlen)
    groups, channels = common.kept_units(model)
    if a.judge:
        for layer in model.model.layers:
            layer.self_attn.num_heads = c.num_attention_heads
        common.judge(model, tokenizer, *a.judge)
    # Last: a mask that is there says that all is done.
    common.write_mask(a.mask, c, groups, channels, cost, f"{a.method} {a.ratio}")


main()
