#!/usr/bin/env python3
"""Mean negative log-likelihood of a `zeros` export, by transformers.

Run by hand; no test depends on it. Written with torch 2.15.0 and transformers 5.23.0; prints the versions it ran with.

    pollard export RUN --format zeros --out DIR
    python tests/golden/zeros_in_transformers.py DIR --text FILE [--seq-len 128] [--limit N] [--bos]
    pollard eval DIR --text FILE --seq-len 128 --json

Protocol: one tokenisation of the whole text without special tokens, BOS once in front with --bos, chunks of seq-len
tokens without overlap, the remainder dropped, seq-len - 1 targets a chunk, mean over all targets; f32. `zero_share` is
the share of the decoder blocks' values that are exactly 0. Tensors that transformers misses, ignores or resizes are an
error.

With --ids FILE the token ids come from a file of whitespace-separated integers, for a folder whose tokenizer is not the
subject.
"""
import argparse
import json
import pathlib

import torch
import transformers


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", type=pathlib.Path)
    what.add_argument("--ids", type=pathlib.Path)
    p.add_argument("--seq-len", type=int, default=128)
    p.add_argument("--limit", type=int, default=0, help="chunks; 0 = all")
    p.add_argument("--bos", action="store_true")
    return p.parse_args()


def token_ids(a):
    if a.ids:
        return [int(x) for x in a.ids.read_text().split()]
    tok = transformers.AutoTokenizer.from_pretrained(a.folder)
    ids = tok(a.text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    if a.bos:
        if tok.bos_token_id is None:
            raise SystemExit(f"{a.folder}: the tokenizer names no BOS token")
        ids = [tok.bos_token_id] + ids
    return ids


def main():
    a = parse_arguments()
    ids = token_ids(a)
    n = len(ids) // a.seq_len
    n = min(n, a.limit) if a.limit else n
    if n == 0:
        raise SystemExit(f"{len(ids)} tokens give no chunk of {a.seq_len}")
    chunks = torch.tensor(ids[: n * a.seq_len]).view(n, a.seq_len)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        a.folder, dtype=torch.float32, output_loading_info=True
    )
    odd = {k: info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]}
    if odd:
        raise SystemExit(f"{a.folder}: transformers did not take the tensors as they are: {odd}")
    model.eval()
    zero = total = 0
    for name, w in model.named_parameters():
        if ".self_attn." in name or ".mlp." in name:
            zero += int((w == 0).sum())
            total += w.numel()
    nll = 0.0
    with torch.no_grad():
        for c in chunks.split(8):
            logits = model(c).logits[:, :-1].double()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), c[:, 1:].flatten(), reduction="sum")
            nll += float(loss)
    targets = n * (a.seq_len - 1)
    result = {"nll": nll / targets, "tokens": targets, "seq_len": a.seq_len, "zero_share": zero / total}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**result, **versions}))


if __name__ == "__main__":
    main()
