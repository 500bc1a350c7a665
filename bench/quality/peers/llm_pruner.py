#!/usr/bin/env python3
"""LLM-Pruner without tuning, by its own code (github.com/horseee/LLM-Pruner): a mask for Pollard.

llm_pruner.py CLONE MODEL TEXT RATIO --mask FILE [--seed N]

As its llama3.py, which knows grouped heads, goes about it: block-wise, first-order Taylor terms of parameters, summed, of 10 samples of 64
tokens, one step, all blocks but the first four and the last two. It takes back-propagation. Its samples are of BookCorpus; here of TEXT.
What is left has weights as they were, so it is a mask: of each block the rows that are left are found again in the model.
"""
import argparse
import random
import sys

import numpy as np
import torch

import common

FIRST, LAST = 4, 2  # blocks at either end that stay whole


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("clone")
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("ratio", type=float)
    p.add_argument("--mask", required=True)
    p.add_argument("--seed", type=int, default=42)
    return p.parse_args()


def found_again(left, whole, size, name):
    """Which of the stretches of `size` rows of `whole` are in `left`, in order."""
    at, flags = 0, []
    for i in range(0, whole.shape[0], size):
        same = at + size <= left.shape[0] and torch.equal(left[at:at + size], whole[i:i + size])
        flags.append(same)
        at += size * same
    if at != left.shape[0]:
        raise SystemExit(f"{name}: rows that the model does not have, or in another order")
    return flags


def main():
    a = parse()
    common.stand_in_for_datasets(a.text)
    common.without_gpu()
    sys.path.insert(0, a.clone)
    from transformers import AutoTokenizer, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    import LLMPruner.torch_pruning as tp
    from LLMPruner.datasets.example_samples import get_examples
    from LLMPruner.pruner import hf_llama_pruner as llama_pruner

    random.seed(a.seed)
    np.random.seed(a.seed)
    torch.manual_seed(a.seed)
    model = LlamaForCausalLM.from_pretrained(a.model, torch_dtype=torch.float32, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    c, layers = model.config, model.model.layers
    head = c.hidden_size // c.num_attention_heads
    before = [(l.self_attn.v_proj.weight.data.clone(), l.mlp.up_proj.weight.data.clone()) for l in layers]
    for p in model.parameters():
        p.requires_grad_(True)
    cost = common.Cost()
    pruned = layers[FIRST:len(layers) - LAST]
    pruner = tp.pruner.MetaPruner(
        model, torch.arange(1, 17).reshape(2, 8), importance=llama_pruner.TaylorImportance(group_reduction="sum", taylor="param_first"),
        global_pruning=False, iterative_steps=1, ch_sparsity=a.ratio, ignored_layers=[], channel_groups={},
        consecutive_groups={l.self_attn.k_proj: head for l in layers}, customized_pruners={LlamaRMSNorm: llama_pruner.hf_rmsnorm_pruner},
        root_module_types=None, root_instances=[l.self_attn.k_proj for l in pruned] + [l.mlp.gate_proj for l in pruned])
    model.zero_grad()
    examples = get_examples("bookcorpus", tokenizer, 10, seq_len=64)
    model(examples, labels=examples).loss.backward()
    pruner.step()
    cost = cost.stop(len(examples), 64)
    after = [(l.self_attn.v_proj.weight.data, l.mlp.up_proj.weight.data) for l in layers]
    groups = [found_again(x[0], y[0], head, f"layer {i}: v_proj") for i, (x, y) in enumerate(zip(after, before))]
    channels = [found_again(x[1], y[1], 1, f"layer {i}: up_proj") for i, (x, y) in enumerate(zip(after, before))]
    common.write_mask(a.mask, c, groups, channels, cost, f"LLM-Pruner, ratio {a.ratio}")


main()
