// The controller and a replica in one process, without sockets: `trireme generate --model`.
#pragma once

#include <memory>

#include "runtime/replica.h"
#include "server/controller_loop.h"

namespace trireme {

// The engine behind `replica` runs on another thread, that of Replica's Run().
class LocalController {
 public:
  // Links the replica; the error says why it cannot be (its tokenizer.json is malformed, …).
  static absl::StatusOr<std::unique_ptr<LocalController>> Start(
      Replica& replica, ControllerLoop::Options options = {});

  // Drops what runs; nothing is called back any more.
  ~LocalController();

  // As ControllerLoop's. Callbacks run on a thread of the controller's and must not block.
  uint64_t Generate(GenerateRequest request, EventCallback on_event) {
    return loop_->Generate(std::move(request), std::move(on_event));
  }
  void Cancel(uint64_t key) { loop_->Cancel(key); }

 private:
  class Link;

  LocalController(Replica& replica, ControllerLoop::Options options);

  std::shared_ptr<Link> link_;
  std::unique_ptr<ControllerLoop> loop_;
};

}  // namespace trireme
