#!/usr/bin/env python3
"""scripts/demo: exit code 0, what it promises to print, nothing left running."""
import re

from harness import BINARY, SOURCE, check, check_no_leftovers, run

done = run([str(SOURCE / "scripts" / "demo")], env={"TRIREME_BINARY": BINARY})
for where, text, pattern in (
        ("the layout", done.stdout, r"ready after \d+\.\d\d s at 127\.0\.0\.1:\d+: tp=2 pp=1 replicas=1"),
        ("the text", done.stdout, r"It is a truth universally acknowledged, that\s+\S+\s+\S+"),
        ("TTFT and speed", done.stderr, r"120 tokens, the first after [\d.]+ ms, then \d+ tokens/s")):
    check(re.search(pattern, text), f"{where} is missing:\n{done.stdout}{done.stderr}")
check_no_leftovers()
