// A server under load, by either of its protocols.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/load.h"
#include "bench/serve_summary.h"
#include "server/grpc_tls.h"

namespace trireme {

struct TargetOptions {
  std::string address;  // HOST:PORT
  ClientTls tls;
  std::string api_key;
  std::string model;      // empty: the only one
  float temperature = 0;  // of all requests
};

class Target {
 public:
  virtual ~Target() =
      default;  // waits for the last call back; requests still running are cancelled

  // Ids that the server's tokenizer makes of a text. Blocks.
  virtual absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text) = 0;

  // Sends a request that runs to its last output token, and writes down how it goes; `done` is the
  // last that happens to `timeline`, on a thread of the target's. Does not block.
  virtual void Send(LoadRequest request, Timeline* timeline, std::function<void()> done) = 0;
};

// INVALID_ARGUMENT or NOT_FOUND of the files of TLS.
absl::StatusOr<std::unique_ptr<Target>> MakeGrpcTarget(const TargetOptions& options);

// OpenAI's API, streamed; /tokenize beside it, as vLLM has it. One connection for each request that
// runs, all on one thread. A text's tokens are counted by the usage at its end, its gaps by the
// chunks that come. UNAVAILABLE: the address is none, or nobody answers; as above, of TLS.
absl::StatusOr<std::unique_ptr<Target>> MakeHttpTarget(TargetOptions options);

}  // namespace trireme
