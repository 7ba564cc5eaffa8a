#!/usr/bin/env python3
"""Who may include whom (the order in which the parts stand on each other), kept so."""
import pathlib
import re
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]

# A part, and what it may include beside itself and base.
LAYERS = {
    "base": set(),
    "kernels": set(),
    "comm": {"kernels"},
    "parallel": {"kernels", "comm"},
    "runtime": {"kernels", "comm", "parallel"},
    "text": set(),
    "server": {"runtime", "text"},
    "bench": {"kernels", "comm", "parallel", "runtime", "server"},
    "launcher": {"kernels", "comm", "parallel", "runtime", "text", "server", "bench"},
}
# The library `checkpoint` lives in runtime/ and stands below parallel/.
CHECKPOINT = {"runtime/config.h", "runtime/rope.h", "runtime/tensor_store.h"}

# A library's headers, and the only files that may include them.
LIBRARIES = {
    r"mpi\.h": r"src/(comm|bench)/mpi_.*|launcher/.*",
    r"grpc(pp)?/.*|.*\.grpc\.pb\.h": r"src/server/.*|launcher/ctl\.cc",
    r"(?!.*\.grpc\.).*\.pb\.h|google/protobuf/.*": r"src/server/.*",
    r"cuda.*|nccl\.h|cublas.*": r"src/kernels/cuda/.*|src/comm/nccl_.*",
    r"hwy/.*|.*intrin\.h": r"src/kernels/.*|src/bench/machine_probe\.cc",
    r"boost/.*": r"src/server/((grpc_listener|http_post|http_server|ledger_file|tls_engine)\.cc|(http_stream|tls_engine)\.h)|src/bench/http_target\.cc",
    r"openssl/.*": r"src/server/((keys|tls|tls_engine)\.cc|tls_engine\.h)",
    r"prometheus/.*": r"src/server/(metrics\.cc|metric_families\.(h|cc))",
    r"CLI/.*": r"launcher/.*",
    r"pcre2\.h|utf8proc\.h": r"src/text/.*",
}


def part_of(path):
    return path.parts[1] if path.parts[0] == "src" else path.parts[0]


def violations(path):
    part = part_of(path)
    allowed = LAYERS[part] | {part, "base"}
    for number, line in enumerate((SOURCE / path).read_text().splitlines(), 1):
        include = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if not include:
            continue
        header = include[1]
        for library, files in LIBRARIES.items():
            if re.fullmatch(library, header) and not re.fullmatch(files, str(path)):
                yield f"{path}:{number}: {header} is only for {files}"
        target = header.split("/")[0]
        below = part == "parallel" and header in CHECKPOINT
        if target in LAYERS and target not in allowed and not below:
            yield f"{path}:{number}: {part} does not stand on {target} ({header})"


def main():
    files = [p.relative_to(SOURCE)
             for folder in ("src", "launcher")
             for p in (SOURCE / folder).rglob("*") if p.suffix in (".h", ".cc", ".cu", ".cuh")]
    unknown = sorted({part_of(p) for p in files} - LAYERS.keys())
    found = [f"src/{part} is not in the list of layers" for part in unknown]
    for path in sorted(files):
        if part_of(path) in LAYERS:
            found += violations(path)
    print("\n".join(found) or f"{len(files)} files keep the layers")
    sys.exit(1 if found else 0)


main()
