// The client's side of Inference.Generate: `trireme generate --server`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/channel.h"
#include "server/api.h"

namespace trireme {

// Any number of requests at once over one connection. Thread-safe.
class GenerateClient {
 public:
  struct Options {
    std::shared_ptr<grpc::Channel> channel;  // connects with the first request: Dial
    std::string api_key;                     // empty if the server asks for none
    // A stream that breaks after Accepted is resumed, for so long. 0: it ends UNAVAILABLE, as a
    // request to where nobody answers.
    Duration reconnect{};
  };
  explicit GenerateClient(Options options);
  ~GenerateClient();  // cancels what runs and waits for its end

  // Events come until one that IsLast, on gRPC's threads, one at a time; they are not read from the
  // network while `on_event` runs. Returns the key to cancel by.
  uint64_t Generate(const GenerateRequest& request, EventCallback on_event);
  void Cancel(uint64_t key);

  // The ids of a text, without special tokens. Blocks.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& model, const std::string& text);

 private:
  class Call;
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace trireme
