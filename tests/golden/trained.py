"""A tiny model that has really learnt something, with its tokenizer and text, for tests that run the whole program.

Writes tests/data/models/trained/{config.json,model.safetensors,tokenizer.json,tokenizer_config.json} and tests/data/text/{calibration,held-out}.txt.
The text comes from a small grammar written for this purpose. Run by hand: python tests/golden/trained.py tests/data
Made with torch, transformers and tokenizers of the versions in config.json.
"""
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

NAMES = "Ada Ben Clara Dan Eva Finn Gita Hugo Ida Jon".split()
ANIMALS = "cat dog hen fox owl goat mouse duck".split()
PLACES = "garden river barn hill forest market bridge kitchen".split()
THINGS = "apple rope lantern basket kettle ribbon hammer letter".split()
FEELINGS = "happy tired proud cold hungry curious".split()


def sentence(r):
    a, b = r.sample(NAMES, 2)
    animal, place, thing, feeling = r.choice(ANIMALS), r.choice(PLACES), r.choice(THINGS), r.choice(FEELINGS)
    return r.choice([
        f"{a} found a {thing} in the {place} and gave it to {b}.",
        f"The {animal} ran to the {place} because {a} was {feeling}.",
        f"{a} and {b} looked for the {thing}, but the {animal} had hidden it near the {place}.",
        f"When the {animal} saw {a}, it was {feeling}, so {a} brought it the {thing}.",
        f"{b} asked {a}: \"Is the {thing} in the {place}?\" {a} said: \"No, the {animal} has it.\"",
    ])


def text(seed, n):
    r = random.Random(seed)
    lines = []
    while sum(map(len, lines)) < n:
        lines.append(" ".join(sentence(r) for _ in range(r.randint(3, 6))))
    return "\n\n".join(lines) + "\n"


def main():
    root = Path(sys.argv[1])
    train, calibration, held_out = text(1, 400000), text(2, 120000), text(3, 24000)
    (root / "text").mkdir(parents=True, exist_ok=True)
    (root / "text/calibration.txt").write_text(calibration)
    (root / "text/held-out.txt").write_text(held_out)
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([train], trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"],
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    folder = root / "models/trained"
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    for extra in ("special_tokens_map.json",):
        (folder / extra).unlink(missing_ok=True)

    torch.set_num_threads(1)
    torch.manual_seed(5)
    config = LlamaConfig(vocab_size=tok.get_vocab_size(), hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8,
                         num_key_value_heads=4, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1,
                         tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    ids = torch.tensor(tok.encode(train).ids)
    n = len(ids) // 64
    ids = ids[:n * 64].view(n, 64)
    steps = 600
    opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 6e-3, total_steps=steps)
    for step in range(steps):
        batch = ids[torch.randint(0, n, (16,))]
        loss = model(batch, labels=batch).loss
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        if step % 100 == 99:
            print(step + 1, loss.item(), flush=True)
    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)


main()
