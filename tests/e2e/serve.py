#!/usr/bin/env python3
"""64 concurrent requests to `serve --tp 2 --pp 2 --replicas 2` get the ids of one process."""
import concurrent.futures

from harness import Server, check, check_equal, generate, model

directory = model("austen")
PROMPTS = ["It was", "She could not", "Mr. Darcy", "In the morning", "I am"]


def request(i):
    temperature = "0" if i % 4 == 0 else "0.8"
    return ["--prompt", PROMPTS[i % len(PROMPTS)], "--max-tokens", str(8 + i % 25),
            "--temperature", temperature, "--seed", str(i)]


server = Server("--model", directory, "--tp", "2", "--pp", "2", "--replicas", "2")
server.await_stats(lambda s: len(s["replicas"]) == 2, "two replicas")
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    answers = list(pool.map(lambda i: server.generate(*request(i)), range(64)))

for i, answer in enumerate(answers):
    if i % 7 == 0:  # one process each: a sample of them
        alone = generate("--model", directory, *request(i))
        check_equal(answer["token_ids"], alone["token_ids"], f"ids of request {i}")
        check_equal(answer["text"], alone["text"], f"text of request {i}")
stats = server.stats()
for replica in stats["replicas"]:
    check(replica["generated_tokens"] > 0, f"a replica did nothing: {stats}")
    check_equal((replica["tp"], replica["pp"]), (2, 2), "the layout")
check_equal(stats["requests"]["finished"], 64, "finished requests")
server.stop()
