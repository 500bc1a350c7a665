#!/usr/bin/env python3
"""The method that `reference` is, by its own code (github.com/ethanygao/backprop-free_LLM_pruning): a mask for Pollard.

reference.py CLONE MODEL TEXT KEEP PASSES LR --mask FILE [--seed N]

Settings of its LLaMA script: Wanda-sp on 128 samples of 1,024 tokens, sigmap, K = 2, batches of 8 samples of 128 tokens, window of 5,
global hard mask. PASSES counts both masks of a step. The published code adds up columns of heads of 128: here of the model's own. Samples
are its: documents one after the other, cut, shuffled; without the cache that it keeps and its 32 processes.
"""
import argparse
import itertools
import logging
import random
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
    p.add_argument("keep", type=float)
    p.add_argument("passes", type=int)
    p.add_argument("lr", type=float)
    p.add_argument("--mask", required=True)
    p.add_argument("--seed", type=int, default=42)
    return p.parse_args()


def samples(rows, tokenizer, length, seed):
    ids = list(itertools.chain.from_iterable(tokenizer(row).input_ids for row in rows))
    chunks = [torch.tensor(ids[i:i + length]) for i in range(0, len(ids) - length + 1, length)]
    random.Random(seed).shuffle(chunks)
    return chunks


def batches(chunks, size, count):
    """Epoch after epoch, since the text is shorter than a run may be."""
    endless = itertools.cycle(chunks)
    for _ in range(count):
        x = torch.stack([next(endless) for _ in range(size)])
        yield {"input_ids": x, "attention_mask": torch.ones_like(x), "labels": x.clone()}


def load_init(clone, head):
    with open(f"{clone}/prune_channel/init.py", encoding="utf-8") as f:
        source = re.sub(r"reshape\(-1, 128\)", f"reshape(-1, {head})", f.read())
    module = types.ModuleType("init")
    exec(compile(source, "init.py", "exec"), module.__dict__)
    return module


def main():
    a = parse()
    common.without_gpu()
    plot = types.ModuleType("matplotlib.pyplot")
    sys.modules.update({"matplotlib": types.ModuleType("matplotlib"), "matplotlib.pyplot": plot})
    sys.path.insert(0, f"{a.clone}/prune_channel")
    from transformers import AutoTokenizer
    import modelutils
    import pgpruning

    random.seed(a.seed)
    torch.manual_seed(a.seed)
    model = modelutils.LlamaForCausalLM.from_pretrained(a.model, torch_dtype=torch.float32).eval()
    model.hf_device_map = {}
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    c = model.config
    rows = common.load_texts(a.text)
    K, size = 2, 8
    steps = a.passes // (K * size)
    args = types.SimpleNamespace(init_rate=a.keep, score_init_constant=1.0, score_from_metric="sigmap", nsamples=128, K=K)
    cost = common.Cost()
    model.seqlen = 1024
    init = load_init(a.clone, c.hidden_size // c.num_attention_heads)
    first = samples(rows, tokenizer, model.seqlen, a.seed)[:args.nsamples]
    init.wanda_sp_init(args, model, [{"input_ids": x[None]} for x in first], device=torch.device("cpu"))
    model.seqlen = 128
    logging.basicConfig(level=logging.INFO)
    pruner = pgpruning.ChannelPGPruner(
        model, tokenizer, steps, logging.getLogger("pruner"), "c4", prune_rate_start=a.keep, prune_rate_target=a.keep,
        criterion=torch.nn.CrossEntropyLoss(), K=K, mode="train", lr_policy="cosine", attn_score_lr=a.lr, mlp_score_lr=a.lr,
        ma_window_size=5, penalty_lamda_init=-1.0, penalty_lamda_final=0.0, global_hard_mask=True)
    pruner.set_score_no_grad()
    pruner.set_mode("train")
    for batch in batches(samples(rows, tokenizer, model.seqlen, a.seed), size, steps):
        pruner.prune_pg(batch)
    info = pruner.get_prune_info()
    kept = [info[f"layer_{i}"] for i in range(c.num_hidden_layers)]
    learning, init_passes = steps * K * size, 2 * len(first)
    cost = cost.stop(learning + init_passes, 128, learning)
    cost["tokens"] += init_passes * (1024 - 128)
    common.write_mask(a.mask, c, [[bool(x) for x in k["hard_attn_mask"]] for k in kept], [[bool(x) for x in k["hard_mlp_mask"]] for k in kept],
                      cost, f"reference, {a.passes} passes, lr {a.lr}")


main()
