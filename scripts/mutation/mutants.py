"""What can be broken in a kernel's source: barriers left out, bounds shifted, lanes swapped.

An edit is (begin, end, new text). A mutant has the edits that make it, and `switch`: those that add it to
the source as one of many, taken when its id is chosen (switch.h). They nest, and never overlap."""
import dataclasses
import re

OTHER = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "/": "%", "%": "/"}
# what is divided where threads share out work
SHARED_OUT = (r"(?:\b(?:lane|warp|thread|item|group|round|token|slot|pair|i|j|k|m|c|n(?= \* 4))"
              r"|(?:thread|block)(?:Idx|Dim)\.\w\)?|\bn_rotated\)|\bp\))(?: [/%] \w+)*?")


@dataclasses.dataclass
class Mutant:
    file: str
    line: int
    place: str  # the function it is in
    what: str  # the line -> the line as it is then
    edits: list
    switch: list  # for the id {id}; none: only the compiler can choose it
    id: int = 0

    @property
    def name(self):
        return f"{self.file}, {self.place}: {self.what}"


def applied(text, edits):
    parts, at = [], 0
    for begin, end, new in sorted(edits, key=lambda edit: edit[:2]):
        parts += text[at:begin], new
        at = end
    return "".join(parts) + text[at:]


def arguments(code, begin):
    """Where the arguments of the call whose parenthesis is at `begin` lie."""
    depth, spans, start = 0, [], begin + 1
    for i in range(begin, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0 or (depth == 1 and code[i] == ","):
            spans.append((start + len(code[start:i]) - len(code[start:i].lstrip()), i))
            start = i + 1
        if depth == 0:
            return spans
    return []


# ---- each yields (edits, switch) ----

def barriers(code):
    for m in re.finditer(r"(?<!:)(__syncthreads|__syncwarp|CommitCopies|AwaitCopies<([^;]*)>)\(\);", code):
        at = m.start()
        yield [(at, m.end() - 1, "")], [(at, at, "mutation::Is({id}) ? void() : ")]
        if m[2]:
            later = f"AwaitCopies<({m[2]}) + 1>()"
            yield [(at, m.end() - 1, later)], [(at, at, f"mutation::Is({{id}}) ? {later} : ")]


def bounds(code):
    for m in re.finditer(r"\s(<=|>=|<|>)\s", code):
        yield ([(m.start(1), m.end(1), OTHER[m[1]])],
               [(m.end(1), m.end(1), f" mutation::Bound({{id}}) {m[1]}")])
    for m in re.finditer(r"\bfor \(\w+ \w+ = ([^;:]+);", code):
        begin, end = m.span(1)
        yield ([(begin, begin, "("), (end, end, ") + 1")],
               [(begin, begin, "("), (end, end, ") + mutation::Is({id})")])
    for m in re.finditer(r" \+ (?:([\w<>:]+) - 1\) / \1(?![\w<])|(\d+)\) / (\d+))", code):
        if m[2] and int(m[2]) + 1 != int(m[3]):
            continue
        begin, end = m.start() + 3, code.index(")", m.start())
        yield ([(m.start(), end, "")],
               [(begin, begin, "mutation::OrZero({id}, "), (end, end, ")")])
    for m in re.finditer(r"\bDivideUp\(", code):
        spans = arguments(code, m.end() - 1)
        if len(spans) == 2:
            (a, b), (c, d) = spans
            yield ([(m.start(), m.end(), "(("), (b, c, ") / ("), (d, d, ")")],
                   [(m.start(), m.end(), "mutation::DivideUp({id}, ")])


def lanes(code):
    for m in re.finditer(SHARED_OUT + r" ([/%])(?= [\w(])", code):
        yield ([(m.start(1), m.end(1), OTHER[m[1]])],
               [(m.end(1), m.end(1), f" mutation::Swap({{id}}) {m[1]}")])
    for m in re.finditer(r"__shfl(_xor|_down|_up)?_sync\(", code):
        spans = arguments(code, m.end() - 1)
        if len(spans) == 3:
            begin, end = spans[2]
            change, call = (") / 2", "OrHalf") if m[1] else (") ^ 1", "OrNeighbour")
            yield ([(begin, begin, "("), (end, end, change)],
                   [(begin, begin, f"mutation::{call}({{id}}, "), (end, end, ")")])


# ---- a file ----

def code_of(text):
    """The text without comments and what is no code of ours to break, all else where it was."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m[0])
    code = re.sub(r"//[^\n]*", blank, text)
    code = re.sub(r"^#ifdef __CUDACC__.*?^#(else|endif)", blank, code, flags=re.S | re.M)  # the real machine
    code = re.sub(r"^ *(#|static_assert|inline int64_t DivideUp)[^\n]*", blank, code, flags=re.M)
    return re.sub(r"\btemplate <[^\n]*>$", blank, code, flags=re.M)


def place_of(text, at):
    """The function at column 0 that `at` is in."""
    for m in reversed(list(re.finditer(r"^[A-Za-z_].*$", text[:at], re.M))):
        name = re.match(r"[^;={]*?\b([A-Z]\w*)(\(| \{|;)", text[m.start():])
        if name and not m[0].startswith(("namespace", "using")):
            return name[1]
    return "the file"


def mutants_of(file, text):
    code = code_of(text)
    found = []
    for finder in (barriers, bounds, lanes):
        for edits, switch in finder(code):
            begin, end = edits[0][0], edits[-1][1]
            first, last = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
            line = code[first:last]
            changed = applied(code, edits)[first:last + len(applied(code, edits)) - len(code)]
            what = " ".join(line.split()) + " -> " + " ".join(changed.split())
            if finder is barriers:
                what += " before " + code[last:].lstrip().split("\n")[0].rstrip()
            statement = code[max(code.rfind(c, 0, begin) for c in ";{}") + 1:begin]
            fixed = re.search(r"\bconstexpr\b", statement)
            found.append(Mutant(file, text.count("\n", 0, begin) + 1, place_of(code, begin), what, edits,
                                [] if fixed else switch))
    found.sort(key=lambda mutant: mutant.edits)
    return found
