// A replica as its leader process sees it: controllers link to it, post sequences in, get reports
// out. The engine behind it runs on the main thread (Leader::Run); these calls come from any
// thread.
#pragma once

#include <functional>
#include <memory>

#include "runtime/request.h"

namespace trireme {

class Replica {
 public:
  // Called on the engine's thread, once per committed step with news; must not block.
  using Sink = std::function<void(StepReport&&)>;

  // One controller's. Ids are its own: those of other links may be the same. Its end drops its
  // sequences as if cancelled; a last report may be on its way to the sink then.
  class Link {
   public:
    virtual ~Link() = default;

    // Queues a sequence. It ends with exactly one delta that has `finish`.
    virtual void Submit(SequenceRequest request) = 0;

    // Ends a sequence with kCancelled; its KV blocks are free once the last plan that names it has
    // committed. Unknown ids are ignored: it may have ended meanwhile.
    virtual void Cancel(uint64_t id) = 0;
  };

  virtual ~Replica() = default;

  virtual const ReplicaInfo& info() const = 0;

  // Must not outlive the replica.
  virtual std::unique_ptr<Link> Connect(Sink sink) = 0;

  // Run() returns once what runs now has been dropped.
  virtual void Stop() = 0;
};

}  // namespace trireme
