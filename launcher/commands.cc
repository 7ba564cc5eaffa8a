#include "launcher/commands.h"

namespace trireme {

const std::vector<CommandEntry>& Commands() {
  static const std::vector<CommandEntry> kCommands = {
      {"generate", "one completion, in this process or by a server",
       "  trireme generate --model DIR --prompt 'Once upon a time' --temperature 0\n"
       "  trireme generate --model DIR --prompt-ids 1,403,407 --max-tokens 60 --seed 7 --json\n"
       "  mpirun -n 4 trireme generate --model DIR --tp 2 --pp 2 --prompt 'Once upon a time'\n"
       "  trireme generate --server localhost:8070 --prompt 'Once upon a time'\n"
       "  trireme generate --server llm.example:8070 --tls-ca ca.pem --prompt 'Once upon a time'",
       MakeGenerate},
      {"serve", "controller, supervisor and replicas",
       "  trireme serve --model DIR --tp 2 --replicas 2 --http-addr 127.0.0.1:8000\n"
       "  trireme serve --model DIR --tp 4 --pp 2 --launch-args '-H node1:4,node2:4'\n"
       "  trireme serve --model DIR --tp 8 --launch srun --launch-args '--nodes=1'\n"
       "  trireme serve --model DIR --tp 2 --launch none    # prints what to start by hand",
       MakeServe},
      {"controller", "the front door alone; replicas dial in",
       "  trireme controller --grpc-addr 0.0.0.0:8070 --tls-cert cert.pem --tls-key key.pem",
       MakeController},
      {"worker", "one rank of a replica",
       "  mpirun -n 4 trireme worker --controller HOST:8070 --model DIR --tp 2 --pp 2\n"
       "  srun --ntasks=8 --mpi=pmix --kill-on-bad-exit=1 trireme worker --controller HOST:8070 "
       "--model DIR --tp 8",
       MakeWorker},
      {"tokenize", "what a model's tokenizer makes of a text",
       "  trireme tokenize --model DIR 'Once upon a time'\n"
       "  trireme tokenize --model DIR --ids < prompt.txt",
       MakeTokenize},
      {"ctl stats", "what a server does at the moment, as JSON",
       "  trireme ctl stats --server localhost:8070", MakeCtlStats},
      {"ctl models", "the models that a server's requests may name",
       "  trireme ctl models --server localhost:8070", MakeCtlModels},
      {"ctl drain", "has a replica finish what it has and leave; returns when it does",
       "  trireme ctl drain --server localhost:8070 --link 3", MakeCtlDrain},
      {"ctl abort", "ends a request",
       "  trireme ctl abort --server localhost:8070 --request-id gen-1f", MakeCtlAbort},
      {"key", "a new API key, and its line for --api-keys",
       "  trireme key team-a >> keys.txt    # the key itself comes on stderr", MakeKey},
      {"bench kernels", "how fast each kernel runs, beside the machine's bounds",
       "  trireme bench kernels --rows 1,16,512\n"
       "  trireme bench kernels --shape llama3-8b --activations bf16 --contexts 1024,32768",
       MakeBenchKernels},
      {"bench comm", "how long the ranks take to exchange tensors",
       "  mpirun -n 2 trireme bench comm", MakeBenchComm},
      {"bench engine", "prefill and decode tokens per second, beside the machine's bounds",
       "  trireme bench engine --shape tinyllama-1.1b --dtype bf16\n"
       "  mpirun -n 2 trireme bench engine --shape tinyllama-1.1b --dtype bf16 --tp 2",
       MakeBenchEngine},
      {"bench serve", "latencies, throughput and goodput of a server under load",
       "  trireme bench serve --server localhost:8070 --rate 1,2,4 --goodput ttft:200ms,tbt:50ms\n"
       "  trireme bench serve --server localhost:8000 --protocol http --concurrency 16 "
       "--prompt-tokens 64..256",
       MakeBenchServe},
      {"version", "the version", "  trireme version", MakeVersion},
  };
  return kCommands;
}

}  // namespace trireme
