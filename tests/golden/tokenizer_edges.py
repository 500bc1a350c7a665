"""Nasty texts under the tokenizer.json files of the tests, and what the tokenizers library makes of them.

Writes tests/data/tokenizers/edges.json (in the form of vectors.json) and the three tokenizers that only it needs, each an edit of one
that tokenizer_vectors.py made: added tokens that overlap in the white space they take, and the two meanings of \\w.

    python tests/golden/tokenizer_edges.py tests/data/tokenizers

Made with tokenizers 0.23.3.
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer

OUT = Path(sys.argv[1])
TEXTS = [
    "\r\n\r\nx\r\n y\r", "\t\ttab\t the\t", "a" + " " * 70 + "b", "\U0001f481\U0001f3fd\u200d\u2640\ufe0f \U0001f1e9\U0001f1ea e\u0301\u0323 \u1e69",
    "x" * 300, "the" * 60 + " " + "mill" * 30, "123456789 1,234.567e-10 \u0661\u0662\u0663 \u00bd\u2167\u00b2", "don't WE'LL i'Ve 's 'S'T ' 't",
    "<s>a</s> <unk>b<s> <s>", "<end>hi<end>\n <end>", "\u2581a \u2581\u2581 b\u2581", "\u200b\u200d\ufeffx\ufeff\u00ad\u2028\u2029\u0085\x1c\x1f\x0b\x0c.",
    "\ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e \u0e44\u0e17\u0e22 \u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u1100\u1161\u11a8 \ufb03 \u0130 \u017f \u212a",
    "a\u0300\u0301\u0302\u0303" * 8, "\x7f\x01\x02\x1b[31m", "\ud7ff\ue000\ufffd\U0010ffff", "=====-----.....####\n\n\n\nx\n \n  \n\t\n", " \n \r\n\n\r  x\n  y",
    "aa\u200daa\u200caa \u00b2aa\u00bdaa", "mill\u200d mill\u200c mill. (mill) amill 'mill'", "  the  the mill  the", "[INST] the [/INST] <|im_end|> x <|im_end|>\n y",
    "the    the \t the      x the", "<0x0A><0xE2>",
]


def edited(name, edit):
    j = json.loads((OUT / f"{name}.json").read_text())
    edit(j)
    return j


def strips(j):
    first = max(j["model"]["vocab"].values()) + 1
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    added = [dict(content="<|im_end|>", lstrip=True, rstrip=True, special=True), dict(content="  "), dict(content="\t\t"),
             dict(content="[/INST]", rstrip=True), dict(content="mill", single_word=True), dict(content="the", single_word=True, lstrip=True, rstrip=True)]
    j["added_tokens"] += [plain | a | dict(id=j["model"]["vocab"].get(a["content"], first + i)) for i, a in enumerate(added)]


def cut_by(*steps):
    def edit(j):
        bytes_ = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
        j["pre_tokenizer"] = dict(type="Sequence", pretokenizers=[*steps, bytes_])
    return edit


new = {
    "edges-strips": edited("gpt2-prefix", strips),
    "edges-whitespace": edited("split-removed-False", cut_by(dict(type="Whitespace"))),
    "edges-word": edited("split-removed-False", cut_by(dict(type="Split", pattern=dict(Regex=r"\w+"), behavior="Removed", invert=False))),
}
for name, j in new.items():
    (OUT / f"{name}.json").write_text(json.dumps(j))

random.seed(8)
parts = [*"abthe milTHE'\u2019.,!?0123456789 \n\r\t\u00a0\u3000\u00e9\u00df\u041a\u043d\u5c0f\u0928\u0e21\u0301\u200d<>[]/|_-", "the ", " mill", "<s>", "<|im_end|>",
         "  ", "\r\n", "'s", "'LL", " \n", "\n\n"]
texts = TEXTS + ["".join(random.choices(parts, k=random.randint(5, 40))) for _ in range(25)]
files = {}
for path in sorted(OUT.glob("*.json")):
    if "model" not in (j := json.loads(path.read_text())):
        continue
    t = Tokenizer.from_str(json.dumps(j))
    both = {}
    for key, special in (("plain", False), ("special", True)):
        t.encode_special_tokens = not special
        both[key] = [t.encode(x, add_special_tokens=False).ids for x in texts]
    files[path.name] = both
(OUT / "edges.json").write_text(json.dumps(dict(texts=texts, files=files), separators=(",", ":")) + "\n")
