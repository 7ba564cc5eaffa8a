#!/usr/bin/env python3
"""Makes tests/golden/tokenizers: what PyPI's `tokenizers` gives, for tests/text/parity_test.cc.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/golden/make_tokenizers.py            # the goldens
    /tmp/venv/bin/python tests/golden/make_tokenizers.py --train    # the small tokenizers too

Written: KIND.json (small tokenizers, with --train), pools.json (what strings are drawn from),
components.json (normalizers, pre-tokenizers and decoders by themselves) and *.golden.

The strings are not stored: the test draws them again with the same generator (class Rng and
draw_* below are mirrored in tests/text/golden_strings.cc). A golden is a list of little-endian
u32, of which a CRC-32 (zlib's) stands for a list of ids or a text:
  strings.golden      n x crc(text)
  KIND.golden         crc(KIND's tokenizer.json), n, m,
                      n x (crc(ids with special tokens), crc(decoded, without then with specials)),
                      m x crc(random ids decoded, without then with specials)
  components.golden   for each component, COMPONENT_STRINGS x crc(result)
"""

import argparse
import collections
import json
import pathlib
import struct
import zlib

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizers"
ROOT = HERE.parents[2]
SHARED = ROOT.parent / "shared"

N_STRINGS = 12000
N_RANDOM_IDS = 2000
COMPONENT_STRINGS = 600

# Kinds whose tokenizer.json lives elsewhere; the test knows the same paths.
ELSEWHERE = {
    "gpt2": SHARED / "tokenizers/gpt2/tokenizer.json",
    "llama2": SHARED / "tokenizers/llama2/tokenizer.json",
    "stories260k": SHARED / "models/stories260k/tokenizer.json",
    "austen": ROOT / "examples/models/austen/tokenizer.json",
}

MASK = (1 << 64) - 1


class Rng:
    """SplitMix64 (Steele et al. 2014)."""

    def __init__(self, seed):
        self.state = seed & MASK

    def next(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


WORDS = """the of and to in he was that his it with as for had you not be her is at on by which have
or from this him but all she they were my are me one their so an said them we who would been will no
when there if more out up into do any your what has man could other than our some very time upon
about may its only now like little then can should made did us such great before must two these see
know over much down after first good men own never most old shall day where those came come himself
way work life without go make well through being long say might how am too even again many back here
think every people went same last thought away under take found hand eyes still place while just
Elizabeth Darcy understand international responsibility supercalifragilistic unbelievably tokenizer
don't can't won't I'll they're we've he'd it's I'm DON'T CAN'T THEY'LL WE'VE IT'S O'Brien y'all 'tis
rock'n'roll 'S 'Ll 'rE 'sam 'm 'D 'ſ""".split()

POOLS = [
    # name, weight, items
    ["words", 30, WORDS],
    ["spaced", 30, [" " + w for w in WORDS]],
    ["space", 14, [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n", "\n ", "\r", "      ",
                   "\u00a0", "\u3000", "\u2003", "\u2028", "\u200b", "\u0085", "\u180e", "\x0b",
                   "\x0c", "\u1680", "\u202f", "\t\t", " \t \n"]],
    ["digits", 8, ["0", "1", "7", "42", "007", "1234567890", "3.14159", "1,000,000", "2024-11-20",
                   "0x7f", "1e-5", "٣٤٥", "१२३", "½", "²", "Ⅷ", "①", "𝟘𝟙", "零", "〇", "১২"]],
    ["punctuation", 12, list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
     + ["...", "?!", "--", "—", "…", "“", "”", "‘", "’", "«", "»", "¿", "¡", "。", "、", "،", "؟",
        "।", "//", "/*", "*/", "::", "->", "=>", "==", "!=", "<=", "&&", "||", "###", "```", "~~~",
        "€", "£", "±", "×", "§", "™", "°", "\u2043", "\u2e43", "\u166d", "‿", "⁀", "$x^2$"]],
    ["latin", 6, ["café", "naïve", "Führer", "Straße", "STRASSE", "İstanbul", "ılık", "œuvre",
                  "Ærøskøbing", "smörgåsbord", "Łódź", "façade", "Ĳsselmeer", "ŉ", "ﬁn", "ﬆop",
                  "señor", "Žižek", "crème brûlée", "Việt Nam", "ﬀ", "ǅ", "K", "Å", "ſ"]],
    ["scripts", 10, ["Привет", "мир", "нещо на Български", "Ελλάδα", "ΣΊΣΥΦΟΣ", "ς", "שלום",
                     "עברית", "مرحبا", "العربية", "ال\u0640\u0640\u0640عربية", "नमस्ते", "हिन्दी",
                     "বাংলা", "தமிழ்", "ไทย", "ภาษา", "ខ្មែរ", "မြန်မာ", "བོད", "한국어", "안녕하세요",
                     "ᄀ\u1161\u11a8", "გამარჯობა", "Հայերեն", "አማርኛ", "ᏣᎳᎩ", "ᠮᠣᠩᠭᠣᠯ", "ꓒꓳ", "𐌰𐌱",
                     "\u202bRTL\u202c", "\u200fא\u200e", "ދިވެހި", "ଓଡ଼ିଆ"]],
    ["cjk", 8, ["你好", "世界", "日本語", "テキスト", "ひらがな", "カタカナ", "ｶﾞ", "漢字", "我想在apple工作",
                "中文，测试。", "豈", "𠮷野家", "㐂", "々", "～", "「」", "ー", "🈶", "㍿", "㎏", "ｆｕｌｌ"]],
    ["emoji", 6, ["😀", "🚀", "😶\u200d🌫️", "👨\u200d👩\u200d👧\u200d👦", "👍🏽", "🇫🇷", "🇺🇳", "1️⃣", "✅",
                  "❤️", "🏳️\u200d🌈", "🫨", "\U0001fae9", "🤷🏾\u200d♀️", "☃", "™️"]],
    ["marks", 5, ["e\u0301", "n\u0303", "a\u0323\u0307", "a\u0307\u0323", "\u0301", "q\u0307\u0323",
                  "o\u0302\u0301", "\u0344", "Z\u0351\u0352\u0363\u0324\u0332", "\u1e9b\u0323",
                  "\u0915\u094d\u0937", "\u0e33", "\u05e9\u05bc\u05c1", "\u05e9\u05c1\u05bc",
                  "\u1100\u1161", "\uac00\u11a8", "\u0f73", "\u212b", "A\u030a", "\u03d2\u0301"]],
    ["control", 4, ["\x00", "\x01", "\x1b[0m", "\x7f", "\x9f", "\x08", "\ufeff", "\ufffd", "\ue000",
                    "\uf8ff", "\U000f0000", "\U0010fffd", "\uffff", "\u200d", "\u200c", "\u00ad",
                    "\u2060", "\x1f", "\u0600", "\u061c", "\u070f", "\U000e0041"]],
    ["code", 5, ["def f(x):\n    return x", "int main() {\n\treturn 0;\n}", "<div class=\"a\">",
                 "https://example.com/?q=1&r=2", "user@example.org", "C:\\dir\\file.txt", "{\"k\":",
                 "SELECT * FROM t", "snake_case", "camelCaseWord", "HTTPServer", "__init__", "\\n",
                 "x+=1;", "    ", "        ", "#include <a>", "%d%s", "$HOME", "ABCdefGHIjkl"]],
    ["special", 8, ["<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>",
                    "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<tool_call>",
                    "</tool_call>", "[INST]", "[/INST]", "[MASK]", "<bos>", "<eos>", "<image>",
                    "<0x41>", "<0xE4>", "<0x0A>", "<mask>", "▁", "▁▁", "▁the", "Ġ", "Ġthe", "Ċ", "##ing",
                    "NewWord", "newword", "YESTERDAY", "<|", "|>", "<|endoftext", "<0x", "[INST",
                    "Über", "u\u0308ber", " [KEEP] ", "[KEEP]", "<sp>", " <sp>", "<sp>  ", "word_",
                    "⟨x⟩", "<|fim_prefix|>", "<n>", "<fake>", "<think>"]],
    ["letters", 6, list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")],
    # Any code point of a range, as "first-last"
    ["codepoint", 4, ["20-7e", "a0-24f", "250-5ff", "600-1fff", "2000-2bff", "2c00-d7ff",
                      "e000-fffd", "10000-1ffff", "20000-323af", "e0000-10ffff"]],
]

# Tokens as decoders see them.
TOKEN_POOL = ["▁the", "▁", "▁▁", "▁a", "b", "Ġthe", "Ġ", "Ċ", "Ã", "©", "ðŁĺ", "Ģ", " ", "  ", "   ", "",
              "x", " x", "x ", " x ", "▁x▁", "<0x41>", "<0xE4>", "<0xBD>", "<0xA0>", "<0xF0>", "<0x9F>",
              "<0x98>", "<0x80>", "<0x0a>", "<0xGG>", "<0x+A>", "<0x4>", "<0xé>", "H", "Hello", "H H",
              "HH", "▁H", "é", "日本", "\n", "\x00", "ab", "abab", "aba", "<s>", "Ġé", "ĠĠ", "âĸ", "ģ"]


def pick(rng, pools, total):
    at = rng.next(total)
    for name, weight, items in pools:
        if at < weight:
            break
        at -= weight
    item = items[rng.next(len(items))]
    if name != "codepoint":
        return item
    first, last = (int(x, 16) for x in item.split("-"))
    return chr(first + rng.next(last - first + 1))


def draw_string(index):
    rng = Rng(0xC0FFEE + index * 0x1000003)
    total = sum(weight for _, weight, _ in POOLS)
    shape = rng.next(100)
    if shape < 60:
        n = 1 + rng.next(12)
    elif shape < 90:
        n = rng.next(40)
    elif shape < 99:
        n = rng.next(120)
    else:
        n = 3
    parts = []
    for _ in range(n):
        part = pick(rng, POOLS, total)
        again = rng.next(12)
        if again == 0:
            part *= 1 + rng.next(9)
        parts.append(part)
    if shape == 99:  # one very long repetition
        parts.insert(1, pick(rng, POOLS, total) * (200 + rng.next(1500)))
    return "".join(parts)


def draw_ids(index, vocab_size, added):
    rng = Rng(0xD1CE + index * 0x1000003)
    ids = []
    for _ in range(rng.next(50)):
        kind = rng.next(8)
        if kind == 0 and added:
            ids.append(added[rng.next(len(added))])
        elif kind < 4:  # where byte tokens stand
            ids.append(rng.next(min(vocab_size, 300)))
        else:
            ids.append(rng.next(vocab_size + 2))
    return ids


def draw_tokens(index):
    rng = Rng(0xFACADE + index * 0x1000003)
    return [TOKEN_POOL[rng.next(len(TOKEN_POOL))] for _ in range(rng.next(14))]


def crc_text(*texts):
    crc = 0
    for text in texts:
        crc = zlib.crc32(text.encode() + b"\xff", crc)
    return crc


def crc_ids(ids):
    return zlib.crc32(struct.pack("<%dI" % len(ids), *ids))


# --- the small tokenizers -------------------------------------------------------------------------

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
          r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+|\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s+"

SENTENCES = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must "
    "be in want of a wife.", "She said: 'I don't know, but they'll tell us—won't they?'",
    "for (int i = 0; i < 10; ++i) {\n    printf(\"%d\\n\", i);\n}\n", "Привет, как дела? Всё хорошо.",
    "我今天想在北京吃午饭，因为天气很好。", "日本語のテキストを少し書きます。カタカナも。", "안녕하세요 세계 여러분",
    "مرحبا بالعالم كيف حالك اليوم", "L'été dernier, nous avons visité le château; c'était magnifique!",
    "Die Straße über den Fluß ist größer als früher.", "नमस्ते दुनिया, आप कैसे हैं?", "😀😃😄 🚀🚀 👍🏽 ❤️",
    "In 1984, 42 people paid $3.50 each; total: 147.00 (approx. 100%).", "HTTPServer getElementById XMLHttpRequest",
]


def corpus():
    rng = Rng(7)
    for _ in range(60):
        yield from SENTENCES
        yield " ".join(WORDS[rng.next(len(WORDS))] for _ in range(40))


def train(pre_tokenizer, vocab_size, alphabet=(), limit=None):
    """Tokens in the order of their ids, and merges. `limit` keeps the most frequent characters."""
    texts = list(corpus())
    if limit is not None:  # BpeTrainer's own limit_alphabet differs from run to run
        count = collections.Counter("".join(texts))
        kept = set(sorted(count, key=lambda c: (-count[c], c))[:limit])
        texts = ["".join(c for c in text if c in kept) for text in texts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=sorted(alphabet),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, model["merges"]


def token(content, special=True, normalized=False, single_word=False, lstrip=False, rstrip=False):
    return dict(content=content, special=special, normalized=normalized, single_word=single_word,
                lstrip=lstrip, rstrip=rstrip)


def template(*pieces):
    special = {p: {"id": p, "ids": [None], "tokens": [p]} for p in pieces if p != "$A"}
    single = [{"Sequence": {"id": "A", "type_id": 0}} if p == "$A" else
              {"SpecialToken": {"id": p, "type_id": 0}} for p in pieces]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}


def write(name, tokens, merges, added, string_merges=False, **parts):
    """`tokens` in the order of their ids; `added` in the order of theirs."""
    vocab = {t: i for i, t in enumerate(tokens)}
    added_ids = {}
    for t in added:
        added_ids[t["content"]] = vocab.get(t["content"], len(vocab) + sum(
            c not in vocab for c in added_ids))
    post_processor = parts.pop("post_processor", None)
    stack = [post_processor]
    while stack:
        p = stack.pop()
        if p and p["type"] == "Sequence":
            stack += p["processors"]
        elif p and p["type"] == "TemplateProcessing":
            for special in p["special_tokens"].values():
                special["ids"] = [added_ids[special["id"]]]
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                 end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    model.update(parts.pop("model", {}))
    model["vocab"] = vocab
    model["merges"] = [" ".join(m) for m in merges] if string_merges else merges
    whole = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [dict(id=added_ids[t["content"]], **t) for t in added],
        "normalizer": parts.pop("normalizer", None),
        "pre_tokenizer": parts.pop("pre_tokenizer", None),
        "post_processor": post_processor, "decoder": parts.pop("decoder", None), "model": model,
    }
    assert not parts
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    Tokenizer.from_str(text)
    (HERE / (name + ".json")).write_text(text)


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(key, *members):
    return {"type": "Sequence", key: list(members)}


def byte_level(add_prefix_space=False, use_regex=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True,
            "use_regex": use_regex}


def metaspace(scheme, split_it):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split_it}


def replace(pattern, content, kind="String"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


LLAMA_DECODER = sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0})


def train_all():
    alphabet = pre_tokenizers.ByteLevel.alphabet()

    def byte_bpe(pattern, size):
        return train(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                              pre_tokenizers.ByteLevel(False, use_regex=False)]),
                     size, alphabet)

    def cut(pattern):
        return sequence("pretokenizers", split(pattern), byte_level())

    tokens, merges = byte_bpe(LLAMA3, 1000)
    # With ignore_merges a whole token counts even where no merge makes it.
    write("llama3", tokens + ["Ġunbelievably", "responsibility"], merges,
          [token(c) for c in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                              "<|end_header_id|>", "<|eot_id|>")],
          string_merges=True, model={"ignore_merges": True}, pre_tokenizer=cut(LLAMA3),
          post_processor=sequence("processors", byte_level(True, True),
                                  template("<|begin_of_text|>", "$A")),
          decoder=byte_level(True, True))
    tokens, merges = byte_bpe(QWEN2, 1000)
    write("qwen2", tokens, merges,
          [token("<|endoftext|>"), token("<|im_start|>"), token("<|im_end|>"),
           token("<tool_call>", special=False), token("</tool_call>", special=False),
           token("<think>", special=False, normalized=True), token("Über", False, True)],
          normalizer={"type": "NFC"}, pre_tokenizer=cut(QWEN2), post_processor=byte_level(),
          decoder=byte_level())
    tokens, merges = byte_bpe(O200K, 800)
    write("o200k", tokens, merges, [token("<|endoftext|>"), token("<|fim_prefix|>")],
          pre_tokenizer=cut(O200K), decoder=byte_level())
    tokens, merges = byte_bpe(CL100K, 700)
    write("cl100k", tokens, merges, [token("<|endoftext|>"), token("<|im_start|>", lstrip=True),
                                     token("<|im_end|>", rstrip=True)],
          pre_tokenizer=cut(CL100K), decoder=byte_level())
    tokens, merges = byte_bpe(BLOOM, 700)
    write("bloom", ["<unk>", "<s>", "</s>", "<pad>"] + tokens, merges,
          [token("<unk>"), token("<s>"), token("</s>"), token("<pad>")],
          model={"unk_token": None}, pre_tokenizer=cut(BLOOM),
          post_processor=byte_level(), decoder=byte_level())
    tokens, merges = byte_bpe(KIMI, 700)
    write("kimi", tokens, merges, [token("[MASK]", single_word=True)], pre_tokenizer=cut(KIMI),
          decoder=byte_level(), post_processor=template("$A", "[MASK]"))
    tokens, merges = byte_bpe(DEEPSEEK, 900)
    write("deepseek", tokens, merges,
          [token("<|endoftext|>", normalized=True), token("<image>", special=False),
           token("[KEEP]", lstrip=True, rstrip=True), token("word_", False, True, single_word=True)],
          pre_tokenizer=sequence("pretokenizers", split(r"\p{N}{1,3}"),
                                 split(r"[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level()),
          post_processor=byte_level(True), decoder=byte_level(True, True))
    falcon = sequence("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"},
                      byte_level(True, True), {"type": "Digits", "individual_digits": False},
                      split("[0-9][0-9][0-9]"))
    tokens, merges = train(pre_tokenizers.ByteLevel(True), 800, alphabet)
    write("falcon", tokens, merges, [token("<|endoftext|>"), token("<n>", False, rstrip=True)],
          pre_tokenizer=falcon, decoder=byte_level(True, True))

    meta_tokens, meta_merges = train(pre_tokenizers.Metaspace("▁", "always", True), 900, limit=150)
    head = ["<unk>", "<s>", "</s>"]
    fallback = head + ["<0x%02X>" % b for b in range(256)]
    llama_model = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    write("mistral", fallback + meta_tokens, meta_merges,
          [token(c) for c in head] + [token("[INST]"), token("[/INST]", rstrip=True)],
          model=llama_model, pre_tokenizer=metaspace("first", False),
          post_processor=template("<s>", "$A"), decoder=LLAMA_DECODER)
    write("metaspace_split", head + meta_tokens, meta_merges,
          [token(c) for c in head] + [token("NewWord", False, True), token("<sp>", lstrip=True)],
          model={"unk_token": "<unk>"}, pre_tokenizer=metaspace("first", True),
          post_processor=template("<s>", "$A", "</s>"), decoder=metaspace("first", True))
    write("metaspace_always", head + meta_tokens, meta_merges,
          [token(c) for c in head] + [token("[MASK]", lstrip=True)],
          model={"unk_token": "<unk>", "fuse_unk": True},
          pre_tokenizer=sequence("pretokenizers", {"type": "WhitespaceSplit"},
                                 metaspace("always", True)), decoder=metaspace("always", True))
    write("gemma", ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n", "\n\n", "▁▁", "▁▁▁▁"]
          + fallback[3:] + [t for t in meta_tokens if t != "\n"], meta_merges,
          [token(c) for c in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")]
          + [token(c, False) for c in ("\n\n", "▁▁", "▁▁▁▁")],
          model=llama_model, normalizer=replace(" ", "▁"),
          pre_tokenizer=split(" ", "MergedWithPrevious", kind="String"),
          post_processor=template("<bos>", "$A"),
          decoder=sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}))
    # Older llama: the normalizer marks spaces; some bytes have no token; added tokens of every sort.
    write("llama_legacy", [t for t in fallback if t not in ("<0xF0>", "<0xC3>")] + meta_tokens,
          meta_merges,
          [token("<unk>", normalized=True), token("<s>"), token("</s>", normalized=True),
           token("<pad>", lstrip=True, rstrip=True), token("newword", False, True, single_word=True),
           token("<sp>", False, lstrip=True), token("[KEEP]", False, True, rstrip=True)],
          model=llama_model, normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"},
                                                 replace(" ", "▁")),
          post_processor=template("<s>", "$A"), decoder=LLAMA_DECODER)
    # Merges of byte tokens and of unk, which is also a character; few bytes.
    odd = [["<0xC3>", "<0xA9>"], ["?", "?"], ["a", "?"], ["?", "▁"], ["<0x98>", "▁"]]
    write("odd_merges", ["?"] + ["<0x%02X>" % b for b in b"\xc3\xa9\xa8\xe2\x98\x83\xf0\x9f\x80"]
          + [t for t in meta_tokens if t != "?"] + ["".join(m) for m in odd], odd + meta_merges,
          [token("<s>", False)], model={"unk_token": "?", "byte_fallback": True},
          normalizer=replace(" ", "▁"),
          decoder=sequence("decoders", {"type": "ByteFallback"}, {"type": "Fuse"}))
    write("no_unk", meta_tokens, meta_merges, [token("YESTERDAY", False, True)],
          normalizer=sequence("normalizers", {"type": "Lowercase"},
                              replace(r"\s+", " ", "Regex"),
                              {"type": "Strip", "strip_left": True, "strip_right": True}),
          pre_tokenizer=sequence("pretokenizers", {"type": "Whitespace"},
                                 {"type": "Digits", "individual_digits": True}))


# --- components by themselves ---------------------------------------------------------------------

COMPONENTS = {
    "normalizer": [
        {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"), replace("aa", "b"),
        replace(r" {2,}", " ", "Regex"), replace(r"\s", "", "Regex"), replace(r"(?i)the|e", "<>", "Regex"),
        replace("", "-"), replace(r"x*", "-", "Regex"), replace(r"^|$", "|", "Regex"),
        replace(r"\b", "|", "Regex"), replace(r"[^\p{L}\p{N}]+", "_", "Regex"),
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Strip", "strip_left": True, "strip_right": False},
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Lowercase"}, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"},
        sequence("normalizers"),
        sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"},
                 sequence("normalizers", replace(" ", "▁"), {"type": "Prepend", "prepend": "▁"})),
    ],
    "pre_tokenizer": [
        byte_level(False, True), byte_level(True, True), byte_level(True, False),
        {"type": "Whitespace"}, {"type": "WhitespaceSplit"},
        {"type": "Digits", "individual_digits": True}, {"type": "Digits", "individual_digits": False},
        {"type": "Punctuation", "behavior": "Isolated"}, {"type": "Punctuation", "behavior": "Removed"},
        {"type": "Punctuation", "behavior": "MergedWithPrevious"},
        {"type": "Punctuation", "behavior": "MergedWithNext"},
        {"type": "Punctuation", "behavior": "Contiguous"},
        metaspace("always", True), metaspace("first", True), metaspace("never", True),
        metaspace("always", False), metaspace("first", False), metaspace("never", False),
        sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace("first", True)),
        split(LLAMA3), split(QWEN2), split(O200K), split(CL100K), split(BLOOM), split(DEEPSEEK),
        split(KIMI), split(LLAMA3, "Removed", True), split(r"\p{L}+", "Removed", True),
        split(" ", "Isolated", kind="String"), split(" ", "Removed", kind="String"),
        split(" ", "MergedWithPrevious", kind="String"), split(" ", "MergedWithNext", kind="String"),
        split(" ", "Contiguous", kind="String"), split(" ", "Contiguous", True, "String"),
        split(" ", "MergedWithNext", True, "String"), split("", "Isolated", kind="String"),
        split("", "MergedWithPrevious", kind="String"), split("e", "MergedWithNext", kind="String"),
        # What Oniguruma and PCRE2 read differently.
        split(r"\w+"), split(r"\W+"), split(r"\s"), split(r"[^\S\n]+"), split(r"\d+"), split(r"\D+"),
        split(r"\h+"), split(r"\H+"), split(r"[\h\s]+"), split(r"\b"), split(r"\B"), split(r"\v+"),
        split(r"\R"), split(r"^"), split(r"$"), split(r"\A.|.\z"), split(r".\Z"), split(r"(?m:a.b|\n.)"),
        split(r"\p{N}{1,3}+"), split(r"\w{2}?"), split(r"\w{2,4}?"), split(r"\w{,2}"), split(r"o{2,}+"),
        split(r"(?:o|oo){2}e?"), split(r"[a-d&&[^b]]+"), split(r"[\w&&[^\d_]]+"), split(r"[^a-m&&\w]+"),
        split(r"[a[b-d]x[^\x00-\x7f]]+"), split(r"[^a[b-d]\s[^\x00-\x7f]]+"), split(r"[\p{^L}]+"),
        split(r"\P{L}+"), split(r"\p{^L}+"), split(r"[\P{Lu}&&\p{L}]+"), split(r"\p{Letter}+"),
        split(r"\p{Uppercase_Letter}\p{Ll}*"), split(r"\p{punctuation}+"), split(r"\p{S}+"),
        split(r"\p{M}+"), split(r"\p{C}"), split(r"\p{Han}+"), split(r"\p{Hiragana}|\p{Katakana}+"),
        split(r"\p{Latin}+"), split(r"\p{Cyrillic}+|\p{Greek}+|\p{Arabic}+|\p{Hebrew}+"),
        split(r"\p{Hangul}+|\p{Thai}+|\p{Devanagari}+"), split(r"(?i)THE|of"), split(r"x(?i)y|THE|E"),
        split(r"(?i:k|s)+"), split(r"(?i)[^k-s]+"), split(r"t(?!h)|(?<=t)h|(?<!s)e"), split(r"(?>a+|an)d?"),
        split(r"(?<name>the)|(o)(n)"), split(r"(?#comment)the"), split(r"[\u4e00-\u9fff]+|\x41|\x{1F600}"),
        split(r"a**|e+*"), split(r"{|}|o{|o{,}"), split(r"[]a]|[^]a-z]"), split(r"\-|\_|\/|\"|\e|\t|\0"),
        split(r"'(?i:[sdmt]|ll|ve|re)"), split(r"(?=[A-Z])"), split(r"|x"), split(r"(?<=\s)|(?=\d)"),
    ],
    "decoder": [
        None, byte_level(), metaspace("always", True), metaspace("never", True), metaspace("first", False),
        {"type": "ByteFallback"}, {"type": "Fuse"}, replace("▁", " "), replace("ab", "X"),
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        {"type": "Strip", "content": "H", "start": 2, "stop": 0},
        LLAMA_DECODER, sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
        sequence("decoders", {"type": "ByteFallback"}, metaspace("always", True)),
        sequence("decoders", {"type": "Fuse"}, replace("aba", "<aba>"), replace("▁▁", "_")),
        sequence("decoders", {"type": "Fuse"}, metaspace("always", True)),
        sequence("decoders", byte_level(), {"type": "Strip", "content": " ", "start": 2, "stop": 0}),
        sequence("decoders", byte_level(), replace("th", "TH")), sequence("decoders"),
        sequence("decoders", {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                 {"type": "ByteFallback"}),
    ],
}


def component_result(kind, component, index):
    if kind == "normalizer":
        return crc_text(component.normalize_str(draw_string(index)))
    if kind == "pre_tokenizer":
        return crc_text(*[piece for piece, _ in component.pre_tokenize_str(draw_string(index))])
    return crc_text(component(draw_tokens(index)))


def make_component(kind, config):
    whole = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
             "post_processor": None, "decoder": None,
             "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    whole[kind] = config
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    if kind != "decoder":
        return getattr(tokenizer, kind)
    return " ".join if config is None else tokenizer.decoder.decode


def write_golden(name, values):
    (HERE / (name + ".golden")).write_bytes(struct.pack("<%dI" % len(values), *values))


def write_kind(name, path):
    data = path.read_bytes()
    tokenizer = Tokenizer.from_str(data.decode())
    added = sorted(tokenizer.get_added_tokens_decoder())
    vocab_size = 1 + max(tokenizer.get_vocab().values())
    values = [zlib.crc32(data), N_STRINGS, N_RANDOM_IDS]

    def decoded(ids):
        return crc_text(tokenizer.decode(ids, skip_special_tokens=True),
                        tokenizer.decode(ids, skip_special_tokens=False))

    for i in range(N_STRINGS):
        ids = tokenizer.encode(draw_string(i), add_special_tokens=True).ids
        values += [crc_ids(ids), decoded(ids)]
    values += [decoded(draw_ids(i, vocab_size, added)) for i in range(N_RANDOM_IDS)]
    write_golden(name, values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="make the small tokenizers anew")
    parser.add_argument("--only", help="make the golden of this kind only")
    args = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    if args.train:
        train_all()
    kinds = {p.stem: p for p in sorted(HERE.glob("*.json")) if p.stem not in ("pools", "components")}
    kinds.update({name: path for name, path in ELSEWHERE.items() if path.exists()})
    if args.only:
        kinds = {args.only: kinds[args.only]}
    else:
        pools = {"strings": [{"name": n, "weight": w, "items": i} for n, w, i in POOLS],
                 "tokens": TOKEN_POOL}
        (HERE / "pools.json").write_text(json.dumps(pools, ensure_ascii=True, indent=0) + "\n")
        (HERE / "components.json").write_text(
            json.dumps([{"kind": k, "config": c} for k, cs in COMPONENTS.items() for c in cs],
                       ensure_ascii=True, indent=0) + "\n")
        write_golden("strings", [crc_text(draw_string(i)) for i in range(N_STRINGS)])
        write_golden("components", [
            component_result(kind, component, i)
            for kind, configs in COMPONENTS.items()
            for component in (make_component(kind, c) for c in configs)
            for i in range(COMPONENT_STRINGS)])
    for name, path in kinds.items():
        print(name, flush=True)
        write_kind(name, path)


if __name__ == "__main__":
    main()
