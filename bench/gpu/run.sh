#!/usr/bin/env bash
# Runs the GPU tests and every bench of a bundle (make bundle) on the GPU of this machine, within 8
# minutes: prints one table in which each figure stands beside the ceiling measured in the same run,
# and writes it as JSON. Exits with 1 where a test or a bench failed or was cut.
#
#   bench/gpu/run.sh [--json FILE] [--seconds N] [--quick] BUNDLE
#
# --seconds: of all of it. --quick: tries everything with tiny shapes; no figure counts then. What the
# steps say goes to FILE's name with .log.
# PYTHON names the Python that has PyTorch and transformers, if any has; a plain one does the rest.
set -u
here=$(cd "$(dirname "$0")" && pwd)
json=gpu-bench.json
seconds=470
quick=
python=${PYTHON:-python3}

usage() {
  echo "run.sh: $1; usage: run.sh [--json FILE] [--seconds N] [--quick] BUNDLE" >&2
  exit 2
}
bundle=
while [ $# -gt 0 ]; do
  case $1 in
    --json) json=${2:?a file}; shift ;;
    --seconds) seconds=${2:?a number}; shift ;;
    --quick) quick=--quick ;;
    -*) usage "unknown option $1" ;;
    *) [ -z "$bundle" ] || usage "expected one BUNDLE"; bundle=$1 ;;
  esac
  shift
done
[[ $seconds =~ ^[0-9]+$ ]] || usage "--seconds: expected a whole number, not $seconds"
[ -n "$bundle" ] || usage "expected BUNDLE, what make bundle left"
[ -x "$bundle/bin/trireme" ] || usage "no $bundle/bin/trireme"
command -v "$python" >/dev/null || usage "no $python"
bundle=$(cd "$bundle" && pwd)
trireme=$bundle/bin/trireme
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step NAME SECONDS COMMAND…: runs it within its limit and what is left of all. steps: a line each of
# name, state, seconds, what there is to say of it.
step() {
  local name=$1 limit=$2 begin=$SECONDS state=ok said='' left=$((seconds - SECONDS))
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 1 ]; then
    skip "$name" cut "no time was left"
    return 1
  fi
  printf '%s … ' "$name"
  timeout -k 5 "$limit" "$@" >"$work/$name.log" 2>&1
  case $? in
    0) ;;
    124 | 137) state=cut said="stopped after $limit s" ;;
    *) state=failed said=$(grep -v '^ *$' "$work/$name.log" | tail -n 1) ;;
  esac
  if [[ $name = test.* && $state != cut ]]; then
    local counts
    counts=$(grep -oE '(PASSED|FAILED)  \] [0-9]+ test' "$work/$name.log" | tr -d ']' | xargs)
    said=${counts:-$said}
    [[ $state != ok || $counts =~ PASSED\ [1-9] ]] || state=failed said="no test ran"
  fi
  record "$name" $state $((SECONDS - begin)) "$said"
  echo "$state, $((SECONDS - begin)) s${said:+, $said}"
  [ $state != failed ] || tail -n 15 "$work/$name.log" | sed 's/^/    /'
  [ $state = ok ]
}
skip() {
  record "$1" "$2" 0 "$3"
  echo "$1: $3"
}
record() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$work/steps"; }

# Under the bundle's environment, as its wrappers do.
within() {
  # shellcheck disable=SC2016
  echo 'here=$0; [ ! -f "$here/env.sh" ] || . "$here/env.sh"; exec "$@"'
}
test_of() { # NAME SECONDS BINARY ARG…
  local name=$1 limit=$2 binary=$bundle/libexec/tests/$3
  shift 3
  if [ -x "$binary" ]; then
    step "$name" "$limit" bash -c "$(within)" "$bundle" "$binary" --gtest_brief=1 "$@"
  else
    skip "$name" failed "no $binary"
    return 1
  fi
}

shape=(--shape llama3-8b) engine_shape=(--max-batch-tokens 4096 --kv-cache-bytes 16G)
rows=1,2,4,8,16,64,4096 contexts=1024,8192,32768 batches=1,16,64
decode=(--prompt-tokens 4096 --decode-context 1024 --decode-steps 128)
exact_rows=1,64,4096 exact_contexts=8192
exact_decode=(--prompt-tokens 4096 --decode-context 1024 --decode-steps 32)
rounds=3 max_bytes=64M
if [ -n "$quick" ]; then
  shape=(--shape tiny --quick) engine_shape=(--kv-cache-bytes 8M)
  rows=1,2,64 contexts=64 batches=1,64
  decode=(--prompt-tokens 64 --decode-context 4 --decode-steps 1)
  exact_rows=1 exact_contexts=64 exact_decode=("${decode[@]}")
  rounds=1 max_bytes=64K
fi
kernels=(bench kernels --device cuda "${shape[@]}" --dtype bf16 --activations bf16)
engine=(bench engine --device cuda "${shape[@]}" "${engine_shape[@]}" --dtype bf16)

fact() { printf '%s\t%s\n' "$1" "$2" >>"$work/facts"; }
fact date "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
fact commit "$(cat "$bundle/COMMIT" 2>/dev/null)"
fact version "$("$trireme" version 2>&1 | head -n 1)"
fact driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
gpus=$(nvidia-smi -L 2>/dev/null | wc -l)

# All else stands on the wrappers of mma.sync, so these come first.
if test_of test.mma 60 cuda_attention_test \
  --gtest_filter='Mma.*:LoadMatrices.*:CopyAsync.*:PackPair.*:Exp2.*'; then
  test_of test.linear 60 cuda_linear_test
  test_of test.attention 60 cuda_attention_test
  test_of test.ops 60 cuda_ops_test
  step kernels 100 "$trireme" "${kernels[@]}" --rows $rows --contexts $contexts \
    --rounds $rounds --json-file "$work/kernels.json"
  step engine 120 "$trireme" "${engine[@]}" --batches $batches "${decode[@]}" \
    --rounds $rounds --json-file "$work/engine.json"
  step kernels.exact 40 "$trireme" "${kernels[@]}" --exact --rows $exact_rows \
    --contexts $exact_contexts --rounds $rounds --json-file "$work/kernels.exact.json"
  step engine.exact 50 "$trireme" "${engine[@]}" --exact --batches 1 "${exact_decode[@]}" \
    --rounds 1 --json-file "$work/engine.exact.json"
  if [ "$gpus" -gt 1 ]; then
    step comm 30 "$bundle/bin/mpirun" --allow-run-as-root --oversubscribe --bind-to none -n "$gpus" \
      "$trireme" bench comm --device cuda --max-bytes $max_bytes --rounds 20 \
      --json-file "$work/comm.json"
  else
    skip comm skipped "it takes several GPUs"
  fi
  left=$((seconds - SECONDS - 5))
  step peers $left "$python" -u "$here/peers.py" $quick --seconds $((left - 10)) \
    --json "$work/peers.json"
else
  skip benches failed "not run: the wrappers of mma.sync fail their test"
fi
tail -n +1 "$work"/*.log >"${json%.json}.log"
"$python" "$here/report.py" "$work" ${quick:+--quick} --json "$json"
