#!/usr/bin/env python3
"""Makes tests/golden/chat: what PyPI's `jinja2` renders, for tests/text/chat_template_parity_test.cc.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install jinja2==3.1.6
    /tmp/venv/bin/python tests/golden/make_chat_templates.py
    … --show qwen2.5 7                         # what conversation 7 gives by one template
    … --templates DIR --out DIR                # other templates; TRIREME_CHAT_GOLDENS=DIR text_test

Written: conversations.json (some by hand, some drawn by seed), TEMPLATE.golden for each
TEMPLATE.jinja (a line per conversation: the CRC-32 and the length of the result, or `error`), and
snippets.json (small templates by hand and drawn by seed: [source, result], null where jinja2
fails).
"""

import argparse
import copy
import datetime
import json
import pathlib
import random
import re
import warnings
import zlib

import jinja2
import jinja2.ext
import jinja2.sandbox
import jinja2.utils

import chat_snippets

HERE = pathlib.Path(__file__).resolve().parent / "chat"
NOW = datetime.datetime(2026, 3, 9, 14, 5, 6)  # the test's clock


# --- the environment, as transformers 5.23 makes it (utils/chat_template_utils.py)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, namespace=Namespace, dict=Dict(),
                               strftime_now=lambda format: NOW.strftime(format))
    return environment


ENVIRONMENT = make_environment()


def render(template, **variables):
    """The text, or None where jinja2 fails in any way."""
    try:
        return template.render(**variables)
    except Exception:  # noqa: BLE001: whatever a template can raise
        return None


# --- conversations

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather.\nBy city.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "unit": {"type": "string", "enum": ["°C", "°F"], "description": "The unit <b>&</b>"},
        "city": {"type": "string", "description": "City, \"quoted\" or 'not'"},
        "days": {"type": "integer", "minimum": 1, "maximum": 18446744073709551615}}}}}
NESTED = {"type": "function", "function": {
    "name": "create_order", "description": "Opens an order", "strict": True,
    "parameters": {"type": "object", "additionalProperties": False, "properties": {
        "items": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {
            "sku": {"type": ["string", "null"]}, "price": {"type": "number", "default": 1.5},
            "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["sku"]}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "gift": {"type": "boolean", "default": False}}}}}
EMPTY_TOOL = {"type": "function", "function": {
    "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}

TEXTS = ["Hello!", "How are you?", "", "  padded \n", "What is 2+2?", "naïve café 日本語 🙂",
         "line one\nline two\n\nline four", "<b>bold</b> & \"quotes\" 'single'", "{{ not }} {% jinja %}",
         "a\ttab \\ backslash", "<think>hm\nhm</think>\n\nThe answer is 4.", "</think>", "ΑΒΓ ß ﬁ Ǆ",
         "\u2028sep\u00a0nbsp\u200b", "x" * 300, "[INST] sneaky [/INST]", "<|im_end|>", "0", "None"]


def call(name, arguments, id="call_abc123", as_text=False):
    if as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversation(*messages, tools=None, add_generation_prompt=True, **variables):
    return {"messages": list(messages), "tools": tools,
            "add_generation_prompt": add_generation_prompt, "variables": variables}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def by_hand():
    user, system = message("user", "What is the weather in Paris?"), message("system", "Be brief.")
    answer = message("assistant", "It is sunny. ")
    yield conversation(user)
    yield conversation(system, user)
    yield conversation(system, user, add_generation_prompt=False)
    yield conversation(system, user, answer, message("user", " And tomorrow? "))
    yield conversation(user, answer, add_generation_prompt=False)
    yield conversation(user, user)
    yield conversation(system, answer, user)
    yield conversation(user, system, user)
    yield conversation()
    yield conversation(message("user", ""), message("assistant", ""), message("user", "  "))
    yield conversation(system, tools=[WEATHER])
    yield conversation(user, tools=[WEATHER])
    yield conversation(system, user, tools=[WEATHER, NESTED, EMPTY_TOOL])
    yield conversation(user, tools=[])
    for as_text in (False, True):
        weather = call("get_weather", {"city": "Paris", "unit": "°C", "days": 3}, as_text=as_text)
        order = call("create_order", {"items": [{"sku": None, "price": 1.0, "tags": []}],
                                      "gift": True, "note": "a\"b"}, "call_def456", as_text)
        result = message("tool", "{\"t\": 21.5}", tool_call_id="call_abc123", name="get_weather")
        calling = message("assistant", None, tool_calls=[weather])
        yield conversation(user, calling, result, tools=[WEATHER])
        yield conversation(system, user, calling, result, answer, user, tools=[WEATHER])
        yield conversation(user, message("assistant", "Let me see.", tool_calls=[weather, order]),
                           result, message("tool", "", tool_call_id="call_def456", name="create_order"),
                           tools=[WEATHER, NESTED])
        yield conversation(user, message("assistant", "", tool_calls=[order]),
                           message("tool", {"ok": True, "n": [1, 2.5, None]}, tool_call_id="call_def456"),
                           tools=[NESTED], add_generation_prompt=False)
        short = call("now", {}, "123456789", as_text)
        yield conversation(user, message("assistant", "", tool_calls=[short]),
                           message("tool", "12:00", tool_call_id="123456789", name="now"),
                           answer, user, tools=[EMPTY_TOOL])
    parts = [{"type": "text", "text": "Look: "}, {"type": "text", "text": "at this"}]
    image = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    yield conversation(message("user", parts))
    yield conversation(message("system", parts), message("user", image), answer, message("user", parts))
    yield conversation(message("user", image), tools=[WEATHER])
    yield conversation(message("user", []))
    yield conversation(message("user", None))
    yield conversation({"role": "user"})
    yield conversation({"content": "no role"})
    yield conversation(message("developer", "Be kind."), user)
    yield conversation(message("unknown", "?"), user)
    for thinking in (True, False):
        yield conversation(user, enable_thinking=thinking, thinking=thinking)
        yield conversation(system, user, message("assistant", "<think>\nr1\n</think>\n\nA1"), user,
                           message("assistant", "A2", reasoning_content="r2", thinking="r2"),
                           message("user", "go on"), enable_thinking=thinking, thinking=thinking)
    yield conversation(user, date_string="26 Jul 2024")
    yield conversation(system, user, tools=[WEATHER], tools_in_user_message=False,
                       date_string="01 Jan 2025")
    yield conversation(user, builtin_tools=["code_interpreter", "brave_search"])
    yield conversation(user, reasoning_effort="high", model_identity="You are Trireme.")
    yield conversation(user, bos_token="", eos_token=None)
    yield conversation(system, user, documents=[{"title": "T", "text": "body"}])
    for text in TEXTS:
        yield conversation(message("system", text), message("user", text), message("assistant", text),
                           message("user", text + " again"))


def draw_json(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([True, False, None])
    if kind == 1:
        return rng.choice([0, 1, -7, 2**53, 10**18, 12345678901234567890])
    if kind == 2:
        return rng.choice([0.5, -1.25, 1e22, 1e-7, 3.0, 123456.789])
    if kind < 6:
        return rng.choice(TEXTS[:14])
    if kind == 6:
        return [draw_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {f"{rng.choice('kéz')}{i}": draw_json(rng, depth + 1) for i in range(rng.randrange(4))}


def draw_schema(rng, depth=0):
    kind = rng.choice(["string", "integer", "number", "boolean", "array", "object"])
    schema = {"type": kind}
    if rng.randrange(2):
        schema["description"] = rng.choice(TEXTS[:10])
    if kind == "string" and rng.randrange(3) == 0:
        schema["enum"] = rng.sample(["a", "b", "c d", "é"], 2)
    if kind == "array" and rng.randrange(4):
        schema["items"] = draw_schema(rng, depth + 1) if depth < 2 else {"type": "string"}
    if kind == "object":
        schema["properties"] = {f"p{i}": draw_schema(rng, depth + 1)
                                for i in range(rng.randrange(3) if depth < 2 else 0)}
    if rng.randrange(6) == 0:
        schema["default"] = draw_json(rng, 2)
    return schema


def draw_tool(rng, i):
    properties = {f"arg_{j}": draw_schema(rng) for j in range(rng.randrange(4))}
    parameters = {"type": "object", "properties": properties,
                  "required": rng.sample(sorted(properties), rng.randrange(len(properties) + 1))}
    function = {"name": f"tool_{i}", "description": rng.choice(TEXTS[:8]), "parameters": parameters}
    return {"type": "function", "function": function}


def draw_content(rng):
    if rng.randrange(6) == 0:
        return [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(1 + rng.randrange(2))]
    return rng.choice(TEXTS)


def drawn(rng):
    """A conversation whose order most templates take."""
    tools = [draw_tool(rng, i) for i in range(1 + rng.randrange(2))] if rng.randrange(2) else None
    as_text = rng.randrange(2) == 1
    messages = []
    if rng.randrange(2):
        messages.append(message("system", rng.choice(TEXTS)))
    for turn in range(1 + rng.randrange(3)):
        messages.append(message("user", draw_content(rng)))
        if tools and rng.randrange(2):
            n = 1 + rng.randrange(2)
            ids = [f"call{turn}{i:04d}"[-9:].rjust(9, "x") for i in range(n)]
            calls = [call(f"tool_{rng.randrange(len(tools))}",
                          {f"arg_{j}": draw_json(rng) for j in range(rng.randrange(3))}, id, as_text)
                     for id in ids]
            messages.append(message("assistant", rng.choice(["", None, "So: "]), tool_calls=calls))
            messages += [message("tool", rng.choice(TEXTS[:8]), tool_call_id=c["id"],
                                 name=c["function"]["name"]) for c in calls]
        if turn < 2 or rng.randrange(2):
            more = {"reasoning_content": rng.choice(TEXTS[:8])} if rng.randrange(4) == 0 else {}
            messages.append(message("assistant", draw_content(rng), **more))
    if messages[-1]["role"] == "assistant" and rng.randrange(2):
        messages.append(message("user", rng.choice(TEXTS)))
    return conversation(*messages, tools=tools, add_generation_prompt=rng.randrange(4) > 0)


def conversations():
    rng = random.Random(20260309)
    return list(by_hand()) + [drawn(rng) for _ in range(80)]


SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def render_conversation(template, c):
    variables = {"documents": None, **SPECIAL_TOKENS, **c["variables"]}
    return render(template, messages=c["messages"], tools=c["tools"],
                  add_generation_prompt=c["add_generation_prompt"], **variables)


def golden_line(text):
    if text is None:
        return "error"
    data = text.encode()
    return f"{zlib.crc32(data):08x} {len(data)}"


# --- snippets

# Where the result names an address, or where ours is known to differ.
UNSTABLE = re.compile(r"object at 0x|<function|<bound method|<built-in|<Macro|<LoopContext|<jinja2|"
                      r"Undefined|\d{39}|&lt;generator|\dj\)")


def slices_constant(source):
    """jinja2 folds constants by other rules: `(1)[:2]` is undefined, `n[:2]` an error (as here)."""
    try:
        tree = ENVIRONMENT.parse(source)
    except jinja2.TemplateSyntaxError:
        return False
    variable = (jinja2.nodes.Name, jinja2.nodes.Call)
    return any(isinstance(item.arg, jinja2.nodes.Slice) and not isinstance(item.node, variable)
               and next(item.node.find_all(variable), None) is None
               for item in tree.find_all(jinja2.nodes.Getitem))


def is_utf8(text):
    return not any(0xD800 <= ord(c) < 0xE000 for c in text)


def snippets():
    found = []
    seen = set()
    for source in chat_snippets.all_snippets():
        if source in seen:
            continue
        seen.add(source)
        try:
            # A copy: `words|indent` makes jinja2 append to the list.
            variables = copy.deepcopy(chat_snippets.VARIABLES)
            text = render(ENVIRONMENT.from_string(source), **variables)
        except Exception:  # noqa: BLE001: a template that cannot be parsed
            text = None
        if slices_constant(source):
            continue
        if text is None or (not UNSTABLE.search(text) and len(text) < 2000 and is_utf8(text)):
            found.append([source, text])
    return found


def write_lines(path, header, items):
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    path.write_text(f"{header}[\n{lines}\n]{'}' if header else ''}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", type=pathlib.Path, default=HERE)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--show", nargs=2, metavar=("TEMPLATE", "CONVERSATION"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of Python about the code that jinja2 makes of a snippet
    drawn_conversations = conversations()
    if arguments.show:
        name, index = arguments.show
        template = ENVIRONMENT.from_string((arguments.templates / f"{name}.jinja").read_text())
        print(json.dumps(drawn_conversations[int(index)], ensure_ascii=False, indent=1))
        print(render_conversation(template, drawn_conversations[int(index)]))
        return
    write_lines(arguments.out / "conversations.json", "", drawn_conversations)
    for path in sorted(arguments.templates.glob("*.jinja")):
        template = ENVIRONMENT.from_string(path.read_text())
        texts = [render_conversation(template, c) for c in drawn_conversations]
        lines = "".join(golden_line(text) + "\n" for text in texts)
        (arguments.out / f"{path.stem}.golden").write_text(lines)
        print(f"{path.stem}: {len(texts)} conversations, {texts.count(None)} errors")
    found = snippets()
    variables = json.dumps(chat_snippets.VARIABLES, ensure_ascii=False)
    write_lines(arguments.out / "snippets.json", f'{{"variables":{variables},\n"snippets":', found)
    print(f"{len(found)} snippets, {sum(text is None for _, text in found)} errors")


main()
