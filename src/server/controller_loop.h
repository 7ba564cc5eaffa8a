// The controller core with a thread, a clock and a mailbox around it. Transports (gRPC, in process)
// bring requests and replica links; a short text is tokenized by whoever brings it, longer ones on
// a small pool, and long ones on another whose threads stand back, so that they hold up nobody
// else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "nlohmann/json_fwd.hpp"
#include "server/controller.h"
#include "server/ledger_store.h"
#include "server/worker_pool.h"

namespace trireme {

// Controller to one replica. Called on the loop's thread; no call may block.
class ReplicaLink {
 public:
  virtual ~ReplicaLink() = default;
  virtual void Registered(uint64_t link, const ControllerOptions& options) = 0;
  virtual void Submit(SequenceRequest sequence) = 0;
  virtual void Cancel(uint64_t sequence_id) = 0;
  virtual void Heartbeat() = 0;
  virtual void Shutdown() = 0;

  // The last call. `rejected`: the replica should not dial again.
  virtual void Close(const std::string& reason, bool rejected) = 0;
};

// For a line of the log about it.
nlohmann::ordered_json LossFields(const TellLost& lost);

class ControllerLoop {
 public:
  struct Options {
    ControllerOptions core;
    int tokenizer_threads = 2;
    size_t max_prompt_bytes = 16u << 20;  // of text; beyond: INVALID_ARGUMENT
    // Where the ledger is written, with what an earlier controller left; none: in memory alone.
    std::function<absl::StatusOr<std::unique_ptr<LedgerStore>>(const ModelRegistry&)> open_ledger;
    // Who watches a request: its events go through there on their way to the client; `model`: its
    // name.
    std::function<RequestWatch(const GenerateRequest&, const std::string& model, EventCallback)>
        watch;
    // All of these are called on the loop's thread.
    std::function<void(const Observe&)> on_observe;
    // A replica has reported; it is one of the controller's.
    std::function<void(const Controller&, const LinkedReplica&)> on_report;
    // How many replicas are ready, by model (Controller::ReadyReplicas), has changed.
    std::function<void(const std::map<std::string, size_t>&)> on_ready;
    // For whoever started a replica (ReplicaInfo::number): it is linked; it is lost.
    std::function<void(int32_t number, uint64_t link)> on_linked;
    std::function<void(const TellLost&)> on_lost;
  };

  explicit ControllerLoop(Options options);
  ~ControllerLoop();  // Stop()

  // Before anything else, where `open_ledger` is given: opens it and takes its requests over. Its
  // error is the store's.
  absl::Status Restore();

  // Every call below comes from any thread and returns at once; callbacks run on the loop's thread
  // or the pool's and must not block.

  // Events come until one that IsLast. Returns the key to cancel it by.
  uint64_t Generate(GenerateRequest request, EventCallback on_event);
  void Cancel(uint64_t key);
  void Gone(uint64_t key);  // the client's stream broke: see Controller::Gone

  // A request that did not come as far as Generate.
  void CountRefusal(absl::Status status);

  // What takes time with so many bytes: at once if they are few, else beside the loop. False: too
  // much is waiting there.
  bool RunAside(size_t n_bytes, std::function<void()> job);

  // Beside the loop, before all texts.
  void RunSoon(const std::function<void()>& job);

  using IdsCallback = std::function<void(absl::StatusOr<std::vector<int32_t>>)>;
  using TextCallback = std::function<void(absl::StatusOr<std::string>)>;
  void Tokenize(std::string model, std::string text, bool add_special_tokens, IdsCallback done);
  void Detokenize(std::string model, std::vector<int32_t> ids, bool skip_special_tokens,
                  TextCallback done);

  // A replica that says of itself `info`. Answered by Registered or Close on `link`; returns the
  // number of the link for the calls below.
  uint64_t AddReplica(uint64_t instance, ReplicaInfo info, std::shared_ptr<ReplicaLink> link);
  void LinkDown(uint64_t link, std::string reason);  // its ReplicaLink is not called any more
  void Report(uint64_t link, StepReport report, std::function<void()> done);
  void Heartbeat(uint64_t link);

  // See Controller::Drain; `done` once the replica is sent home, or why it is not.
  void Drain(uint64_t link, std::function<void(absl::Status)> done);
  void Abort(std::string request_id, std::optional<std::string> tenant,
             std::function<void(int n)> done);

  // No replica will come soon: see Controller::Outage.
  void Outage(std::string why);

  // Runs `look` on the loop's thread.
  void Look(std::function<void(const Controller&)> look);
  const ModelRegistry& models() const { return models_; }

  // Refuses new requests; `done` once no other is under way.
  void Close(std::function<void()> done);

  // Ends every request, refuses new ones, and sends the replicas home or leaves them to redial.
  void Shutdown(bool stop_replicas);

  // Returns when all that was posted is done; nothing is called back any more.
  void Stop();

 private:
  using Mail = std::function<void(Time now, Actions& out)>;

  void Post(Mail mail);
  void Run();
  void Perform(Actions& actions);
  void Do(SendRegistered& a);
  void Do(SendSubmit& a);
  void Do(SendCancel& a);
  void Do(SendHeartbeat& a);
  void Do(SendShutdown& a);
  void Do(CloseLink& a);
  void Do(TellClient& a);
  void Do(TellProgress& a);
  void Do(TellLost& a);
  void Do(Observe& a);
  void Do(AppendRecord&) {}  // done before the others
  void Do(WriteLog& a);
  void Write(Actions& actions);
  absl::Status LedgerRoom(Time now);
  void TellDisk(bool full);
  void TellDrained(uint64_t link, const absl::Status& status);
  ReplicaLink* FindLink(uint64_t link);
  void Admit(uint64_t key, Time arrived, GenerateRequest request, absl::StatusOr<ModelPtr> model);
  WorkerPool& PoolFor(size_t n_bytes);

  const Options options_;
  ModelRegistry models_;
  std::atomic<uint64_t> last_key_{0};
  std::atomic<uint64_t> last_link_{0};

  // The loop's thread alone:
  Controller core_;
  std::shared_ptr<LedgerStore> store_;  // or null
  std::optional<bool> disk_full_;       // as told last
  std::unordered_map<uint64_t, RequestWatch> clients_;
  std::unordered_map<uint64_t, std::shared_ptr<ReplicaLink>> links_;
  std::unordered_multimap<uint64_t, std::function<void(absl::Status)>> draining_;  // by link
  std::map<std::string, size_t> ready_;                                            // as last told
  std::function<void()> closed_;  // to be called once no request is open
  Time next_compaction_;          // of a ledger that is full

  std::mutex mutex_;
  std::condition_variable news_;  // of the mailbox or `stopping_`
  std::deque<Mail> mailbox_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  WorkerPool pool_;
  WorkerPool large_pool_;
  std::thread thread_;
};

}  // namespace trireme
