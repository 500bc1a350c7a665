#!/usr/bin/env python3
"""How fast PyTorch looks at a mask when the dense model is multiplied by it: what Pollard's masked pass is compared with.

A decoder of LLaMA's shape with random weights in bf16. As the method's published code does it, every matrix stays whole;
what comes out of each head and each MLP channel is multiplied by 0 or 1. Heads of a group share a mask. A round draws a
mask, runs one batch through the model and gives a loss per sequence; the median over the rounds is printed.

    dense_masked.py [--shape 7b|13b|llama3-8b] [--layers N] [--batch 8] [--seq-len 128] [--keep 0.5] [--rounds 20]
                    [--device cuda] [--compile] [--json FILE]

Needs torch. Any of --hidden, --ffn, --heads, --groups, --vocab replaces a size of the shape.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = {
    "7b": {"layers": 32, "hidden": 4096, "ffn": 11008, "heads": 32, "groups": 32, "vocab": 32000},
    "13b": {"layers": 40, "hidden": 5120, "ffn": 13824, "heads": 40, "groups": 40, "vocab": 32000},
    "llama3-8b": {"layers": 32, "hidden": 4096, "ffn": 14336, "heads": 32, "groups": 8, "vocab": 128256},
}
EPS = 1e-5
ROPE_THETA = 10000.0


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shape", choices=SHAPES, default="7b")
    for size in SHAPES["7b"]:
        p.add_argument(f"--{size}", type=int)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seq-len", type=int, default=128)
    p.add_argument("--keep", type=float, default=0.5)
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--device", default="cuda")
    p.add_argument("--compile", action="store_true", help="through torch.compile; the published code does not")
    p.add_argument("--json", metavar="FILE")
    o = p.parse_args()
    for size, value in SHAPES[o.shape].items():
        if getattr(o, size) is None:
            setattr(o, size, value)
    if o.hidden % o.heads or o.heads % o.groups:
        p.error(f"hidden size {o.hidden} does not divide into {o.heads} heads, or those not into {o.groups} groups")
    return o


def random_matrix(rows, cols, device):
    return torch.randn(rows, cols, device=device, dtype=torch.bfloat16) * cols**-0.5


def rms_norm(x, gain):
    wide = x.float()
    return gain * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Layer(torch.nn.Module):
    def __init__(self, o):
        super().__init__()
        head = o.hidden // o.heads
        self.heads, self.groups, self.head = o.heads, o.groups, head
        sizes = {
            "q": (o.hidden, o.hidden),
            "k": (o.groups * head, o.hidden),
            "v": (o.groups * head, o.hidden),
            "o": (o.hidden, o.hidden),
            "gate": (o.ffn, o.hidden),
            "up": (o.ffn, o.hidden),
            "down": (o.hidden, o.ffn),
        }
        for name, (rows, cols) in sizes.items():
            self.register_buffer(name, random_matrix(rows, cols, o.device))
        for name in ("attention_norm", "mlp_norm"):
            self.register_buffer(name, torch.ones(o.hidden, device=o.device, dtype=torch.bfloat16))

    def split(self, x, n):
        batch, positions, _ = x.shape
        return x.view(batch, positions, n, self.head).transpose(1, 2)

    def attend(self, x, cos, sin, group_mask):
        q = rotate(self.split(F.linear(x, self.q), self.heads), cos, sin)
        k = rotate(self.split(F.linear(x, self.k), self.groups), cos, sin)
        v = self.split(F.linear(x, self.v), self.groups)
        share = self.heads // self.groups
        if share > 1:
            k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out * group_mask.repeat_interleave(share).view(1, -1, 1, 1)
        return F.linear(out.transpose(1, 2).reshape(x.shape), self.o)

    def forward(self, x, cos, sin, group_mask, channel_mask):
        x = x + self.attend(rms_norm(x, self.attention_norm), cos, sin, group_mask)
        y = rms_norm(x, self.mlp_norm)
        h = F.silu(F.linear(y, self.gate)) * F.linear(y, self.up) * channel_mask
        return x + F.linear(h, self.down)


class Model(torch.nn.Module):
    def __init__(self, o):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer(o) for _ in range(o.layers))
        self.register_buffer("embed", random_matrix(o.vocab, o.hidden, o.device))
        self.register_buffer("output", random_matrix(o.vocab, o.hidden, o.device))
        self.register_buffer("norm", torch.ones(o.hidden, device=o.device, dtype=torch.bfloat16))
        head = o.hidden // o.heads
        rate = ROPE_THETA ** (-torch.arange(0, head, 2, device=o.device, dtype=torch.float32) / head)
        angle = torch.outer(torch.arange(o.seq_len, device=o.device, dtype=torch.float32), rate)
        self.register_buffer("cos", angle.cos().bfloat16())
        self.register_buffer("sin", angle.sin().bfloat16())

    def forward(self, ids, group_masks, channel_masks):
        """The mean loss of each sequence."""
        x = F.embedding(ids, self.embed)
        for i, layer in enumerate(self.layers):
            x = layer(x, self.cos, self.sin, group_masks[i], channel_masks[i])
        logits = F.linear(rms_norm(x, self.norm), self.output)[:, :-1].float()
        nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return nll.view(ids.shape[0], -1).mean(dim=1)


def draw(o, n):
    return (torch.rand(o.layers, n, device=o.device) < o.keep).bfloat16()


def measure(o):
    model = Model(o)
    call = torch.compile(model) if o.compile else model
    ids = torch.randint(o.vocab, (o.batch, o.seq_len), device=o.device)
    seconds = []
    with torch.inference_mode():
        for i in range(o.rounds + 3):  # the first three warm up
            start = time.perf_counter()
            losses = call(ids, draw(o, o.groups), draw(o, o.ffn)).tolist()  # waits
            if i >= 3:
                seconds.append(time.perf_counter() - start)
    if not all(map(torch.isfinite, torch.tensor(losses))):
        raise SystemExit("a loss is not a finite number")
    return statistics.median(seconds)


def main():
    o = parse()
    torch.manual_seed(1)
    seconds = measure(o)
    device = torch.cuda.get_device_name() if o.device.startswith("cuda") else o.device
    tokens = o.batch * o.seq_len
    print(f"{device}, torch {torch.__version__}{', compiled' if o.compile else ''}")
    print(f"{o.layers} layers, {o.batch} sequences of {o.seq_len} tokens, median of {o.rounds} rounds")
    print(f"dense model times a mask  {1e3 * seconds:.2f} ms  {tokens / seconds:.0f} tokens/s")
    if o.json:
        with open(o.json, "w", encoding="utf-8") as f:
            json.dump({"device": device, "torch": torch.__version__, "compiled": o.compile, "layers": o.layers,
                       "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}, f, indent=2)
            f.write("\n")


if __name__ == "__main__":
    main()
