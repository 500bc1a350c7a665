"""Tokenizers for the tests, and what the original libraries make of texts with them.

Writes into tests/data/tokenizers: tiny tokenizers trained here on text written here (tokenizer.json, SentencePiece and tiktoken
models, GGUF vocabularies), vectors.json with the ids of short texts under each of them, and large.json with token counts and
the XXH3-128 of the id stream (int32, little-endian) of a thousand lines of C4 and of WikiText-2 under published tokenizers.

    python tests/golden/tokenizer_vectors.py tests/data/tokenizers SHARED_DATA [SMOLLM2.gguf]

Made with tokenizers 0.23.3, sentencepiece 0.2.3, tiktoken 0.14.0, gguf 0.19.0; libxxhash.so.0 hashes.
"""
import base64
import ctypes
import io
import json
import struct
import sys
from pathlib import Path

import gguf
import sentencepiece
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers as N, pre_tokenizers as P, processors, trainers

OUT, SHARED = Path(sys.argv[1]), Path(sys.argv[2])
SMOLLM2 = sys.argv[3] if len(sys.argv) > 3 else None
MARK = "\u2581"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")

PROSE = """The old mill stands where two rivers meet. In spring the water rises to the third step, and the miller's daughter
counts the boats: one, two, three, twelve. "Don't lean out," he'd say, "they're faster than you think." She didn't listen; who does?
A hedge that is pruned in winter grows thicker in summer. Take the weak shoots first, then those that cross, then look again.
Whatever remains carries the light. We'll measure it: 12 branches, 347 leaves, 1,024 buds, and 3.5 metres from end to end.
Größe und Länge; café, naïve, coöperate; Ångström. Книга лежит на столе, и никто её не читает. 小さな木の枝を切る。
for i in range(10):
    print(i, i ** 2)      # squares
aaah, aaaah, zzz, zzzz; नमस्ते, नमस्ते, नमस्ते; กำลัง กำลัง กำลัง
"""
TEXTS = [
    "The miller's daughter counts the boats.", " leading", "trailing  ", "  two  spaces   three", "\t\n\n x\r\n", "don't we'LL I'VE they'Re",
    "12345 1,234.5 \u00bd \u2167", "Gr\u00f6\u00dfe caf\u00e9 cafe\u0301 na\u00efve", "\u041a\u043d\u0438\u0433\u0430 \u0438 \u0441\u0442\u043e\u043b",
    "\u5c0f\u3055\u306a\u6728\u306e\u679d\u3092\u5207\u308b\u3002", "\U0001f999 \U0001f469\u200d\U0001f469\u200d\U0001f466", "a\u00a0b\u3000c \u180e\u2028d", "\ufb01n \u2460\u2461 \u0130I\u017f '\u017f", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "\u2581\u2581 \u2581a\u2581b", "<s>x</s> <unk> <0x0A>", "<end>the end<end> of<end>", "a<mask> b <mask>c < mask>", "word <one> w<one>d <one>", "$5+3=8 ^_^ `~|",
    "----====....!!!!", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e01\u0e33\u0e25\u0e31\u0e07", "for i in range(10):\n    print(i)\n", "e\u0301\u0323 \u1e69 \uac00\u1100\u1161", "the the thethe Thethe THE", "\x01\x7f\u0085x",
    "x\u4e00\u4e01y\u4e00", "<pad><end>", "zebra quiz", "1 22 333 4444",
    "aaaaaaa aaaaa zzzzzzz", "a<mask>s <mask>", "thes then the,, the. \u00ad", "<end> <end end>",
]


def train_json(pre, norm=None, size=420, special=("<end>",), byte_level=True, **model):
    t = Tokenizer(models.BPE(**model))
    if pre is not None:
        t.pre_tokenizer = pre
    if norm is not None:
        t.normalizer = norm
    kw = dict(vocab_size=size, special_tokens=list(special), show_progress=False)
    kw |= dict(initial_alphabet=P.ByteLevel.alphabet()) if byte_level else dict(limit_alphabet=48)
    t.train_from_iterator(PROSE.split("\n"), trainers.BpeTrainer(**kw))
    return t


def whole_lines(size=620):
    """Tokens that cross every boundary, so that it shows where a pre-tokenizer cuts."""
    return train_json(P.ByteLevel(add_prefix_space=False, use_regex=False), size=size)


def with_pre(t, pre):
    t.pre_tokenizer = pre
    return t


def edited(t, edit):
    j = json.loads(t.to_str())
    edit(j)
    return Tokenizer.from_str(json.dumps(j))


def tokenizer_jsons():
    byte = P.ByteLevel(add_prefix_space=False)
    bare = P.ByteLevel(add_prefix_space=False, use_regex=False)
    yield "gpt2-prefix", train_json(P.ByteLevel(add_prefix_space=True))
    t = train_json(P.Sequence([P.Split(Regex(LLAMA3), "isolated"), bare]))
    t.post_processor = processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", t.token_to_id("<end>"))])
    
    def whole_words(j):  # "\u0120the" is now reached only as a whole word
        m = j["model"]
        m.update(ignore_merges=True, merges=[x for x in m["merges"] if "".join(x) != "\u0120the"])

    yield "llama3-bos", edited(t, whole_words)
    pairs = train_json(P.Sequence([P.Digits(True), byte]))
    yield "digits-string-merges", pairs
    t = train_json(byte, N.Lowercase())
    t.add_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False), AddedToken("<one>", single_word=True, normalized=False),
                  AddedToken("Quiz", normalized=True), AddedToken("the", rstrip=True, normalized=False), AddedToken("<mask>s", normalized=False)])
    yield "added-tokens", t
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", with_pre(whole_lines(), P.Sequence([P.Split(Regex(r"[\s,.]"), behavior, invert), bare]))
    yield "whitespace-punctuation", with_pre(whole_lines(), P.Sequence([P.Whitespace(), P.Punctuation("merged_with_next"), bare]))
    yield "nfkc-strip-replace", train_json(byte, N.Sequence([N.NFKC(), N.Strip(), N.Replace(Regex(r"\s+"), " "), N.Replace("e", "ee")]), size=320)
    yield "nfd", train_json(byte, N.NFD(), size=320)
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    llama = dict(byte_level=False, unk_token="<unk>", fuse_unk=True, byte_fallback=True, special=["<unk>", "<s>", "</s>", *bytes_])

    def forget_added_bytes(j):
        j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < 3]

    def no_pre(j):
        forget_added_bytes(j)
        j["pre_tokenizer"] = None

    t = train_json(P.Metaspace(), N.Sequence([N.Prepend(MARK), N.Replace(" ", MARK)]), size=520, **llama)
    yield "llama-normalizer", edited(t, no_pre)
    yield "metaspace-first", edited(train_json(P.Metaspace(prepend_scheme="first"), size=520, **llama), forget_added_bytes)
    yield "metaspace-whole", edited(train_json(P.Metaspace(prepend_scheme="never", split=False), size=520, **llama), forget_added_bytes)

    def lose_a_byte(j):
        forget_added_bytes(j)
        del j["model"]["vocab"]["<0xB8>"]

    yield "bytes-incomplete", edited(train_json(P.Metaspace(), size=520, **llama), lose_a_byte)
    for fuse in (False, True):
        yield f"unknown-fuse-{fuse}", train_json(P.Metaspace(), size=200, byte_level=False, unk_token="<unk>", fuse_unk=fuse, special=["<unk>"])


def sentencepieces():
    base = dict(model_type="bpe", normalization_rule_name="identity", character_coverage=0.98, minloglevel=2, hard_vocab_limit=False)
    cases = {
        "llama": dict(vocab_size=400, byte_fallback=True, remove_extra_whitespaces=False),
        "unknown": dict(vocab_size=160),
        "user": dict(vocab_size=420, byte_fallback=True, control_symbols=["<end>"], user_defined_symbols=["<one>", "the", MARK * 2, "  t", "z"]),
        "no-prefix": dict(vocab_size=160, add_dummy_prefix=False, remove_extra_whitespaces=False, user_defined_symbols=["<one>", "  "]),
        "across-spaces": dict(vocab_size=200, split_by_whitespace=False, remove_extra_whitespaces=False),
    }
    for name, kw in cases.items():
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(PROSE.split("\n")), model_writer=out, **(base | kw))
        yield name, out.getvalue() + (tempting_pieces() if name == "user" else b"")


def tempting_pieces():
    """Pieces that would swallow user-defined ones, or grow into a control symbol. Repeated fields may simply be appended."""
    def field(number, body):
        return bytes([number << 3 | 2, len(body)]) + body

    pieces = ["thes", "zz", "<", ">", "<e", "nd", "<end"]
    return b"".join(field(1, field(1, x.encode()) + b"\x15" + struct.pack("<f", 0.5 - i)) for i, x in enumerate(pieces))


def llama3_special(first):
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
             "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"]
    names += [f"<|reserved_special_token_{2 + i}|>" for i in range(256 - len(names))]
    return {name: first + i for i, name in enumerate(names)}


def tiktoken_of(text):
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in text.splitlines() if line}
    return tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=llama3_special(len(ranks)))


def byte_of():
    """The characters of the byte-level alphabet and the bytes that they stand for."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def tiktoken_model(t):
    """A byte-level vocabulary in the order of its ids as ranks."""
    table, lines = byte_of(), []
    tokens = [tok for tok, _ in sorted(t.get_vocab().items(), key=lambda kv: kv[1]) if tok != "<end>"]
    for rank, tok in enumerate(tokens):
        lines.append(f"{base64.b64encode(bytes(table[c] for c in tok)).decode()} {rank}")
    return "\n".join(lines) + "\n"


def write_gguf(path, model, tokens, types, scores=None, merges=None, pre=None, **flags):
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    if scores:
        w.add_token_scores(scores)
    if merges:
        w.add_token_merges(merges)
    w.add_bos_token_id(flags.get("bos", 0))
    w.add_eos_token_id(flags.get("eos", 0))
    if "add_bos" in flags:
        w.add_add_bos_token(flags["add_bos"])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def gguf_of_json(path, t, pre, **flags):
    j = json.loads(t.to_str())
    order = sorted(j["model"]["vocab"].items(), key=lambda kv: kv[1])
    special = {a["content"] for a in j["added_tokens"]}
    write_gguf(path, "gpt2", [tok for tok, _ in order], [3 if tok in special else 1 for tok, _ in order],
               merges=[" ".join(m) for m in j["model"]["merges"]], pre=pre, **flags)


def gguf_of_sentencepiece(path, sp):
    n = sp.get_piece_size()
    kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1
    write_gguf(path, "llama", [sp.id_to_piece(i) for i in range(n)], [kind(i) for i in range(n)],
               scores=[sp.get_score(i) for i in range(n)], bos=1, eos=2)


class Xxh128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3(data):
    lib = ctypes.CDLL("libxxhash.so.0")
    lib.XXH3_128bits.restype = Xxh128
    lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    h = lib.XXH3_128bits(data, len(data))
    return f"{h.high:016x}{h.low:016x}"


def of_json(t):
    def encode(text, special):
        t.encode_special_tokens = not special
        return t.encode(text, add_special_tokens=False).ids
    return encode


def of_tiktoken(e):
    return lambda text, special: e.encode(text, allowed_special="all" if special else set(), disallowed_special=())


def vectors():
    out = {"texts": TEXTS, "files": {}}

    def add(name, encode, both):
        out["files"][name] = {"plain": [encode(x, False) for x in TEXTS]} | ({"special": [encode(x, True) for x in TEXTS]} if both else {})

    kept = {}
    for name, t in tokenizer_jsons():
        kept[name] = t
        text = t.to_str()
        if name == "digits-string-merges":
            j = json.loads(text)
            j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]
            text = json.dumps(j)
        (OUT / f"{name}.json").write_text(text)
        add(f"{name}.json", of_json(t), True)
    for name, data in sentencepieces():
        (OUT / f"{name}.model").write_bytes(data)
        sp = sentencepiece.SentencePieceProcessor(model_proto=data)
        add(f"{name}.model", lambda text, special: sp.encode(text), False)
        if name == "llama":
            gguf_of_sentencepiece(OUT / "llama.gguf", sp)
            add("llama.gguf", lambda text, special: sp.encode(text), False)
    text = tiktoken_model(kept["llama3-bos"])
    (OUT / "tiktoken.model").write_text(text)
    add("tiktoken.model", of_tiktoken(tiktoken_of(text)), True)
    gguf_of_json(OUT / "smollm.gguf", kept["digits-string-merges"], "smollm", add_bos=False)
    add("smollm.gguf", of_json(kept["digits-string-merges"]), True)
    gguf_of_json(OUT / "llama-bpe.gguf", kept["llama3-bos"], "llama-bpe")
    add("llama-bpe.gguf", of_json(kept["llama3-bos"]), True)
    (OUT / "vectors.json").write_text(json.dumps(out, indent=None, separators=(",", ":")) + "\n")


def lines(n=1000):
    """The first n lines that are not empty, of each file; the test takes the same."""
    c4 = []
    for row in open(SHARED / "text/c4/c4-sample-900docs.jsonl", encoding="utf-8"):
        c4 += [x for x in json.loads(row)["text"].split("\n") if x]
    wiki = (SHARED / "text/wikitext2/wiki.test.raw").read_text(encoding="utf-8").split("\n")
    return {"c4": c4[:n], "wikitext2": [x for x in wiki if x][:n]}


def smollm2():
    f = gguf.GGUFReader(SMOLLM2).fields
    tokens, merges, types = (f[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "merges", "token_type"))
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)])
    t.add_special_tokens([AddedToken(x, normalized=False, special=True) for x, k in zip(tokens, types) if k == 3])
    return of_json(t)


def large():
    rows = []
    published = {}
    for name in ("llama2/tokenizer.model", "mistral/tokenizer.model.v1"):
        sp = sentencepiece.SentencePieceProcessor(model_file=str(SHARED / "tokenizers" / name))
        published["tokenizers/" + name] = lambda text, special, sp=sp: sp.encode(text)
    published["tokenizers/llama3/tokenizer.model"] = of_tiktoken(tiktoken_of((SHARED / "tokenizers/llama3/tokenizer.model").read_text()))
    published["models/tinystories-656K/tokenizer.json"] = of_json(Tokenizer.from_file(str(SHARED / "models/tinystories-656K/tokenizer.json")))
    if SMOLLM2:
        published["smollm2"] = smollm2()
    for name, encode in published.items():
        for text, rows_of in lines().items():
            ids = [i for x in rows_of for i in encode(x, False)]
            rows.append(dict(tokenizer=name, text=text, lines=len(rows_of), tokens=len(ids), hash=xxh3(struct.pack(f"<{len(ids)}i", *ids))))
    (OUT / "large.json").write_text(json.dumps(rows, indent=1) + "\n")


OUT.mkdir(parents=True, exist_ok=True)
vectors()
large()
