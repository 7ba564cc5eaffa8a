// The controller core: a state machine, events in and actions out. It has no thread, no I/O, no
// clock and no randomness of its own, so that a test can run any schedule of events.
//
// A request is accepted, waits in a queue, and is handed over to a replica; what the replica
// reports goes into the ledger and on to the client. When a replica is lost, its requests go back
// to the queue and on to a replica of equal fingerprint, with the ids already emitted: nothing is
// lost and nothing is repeated. A request that two lost replicas in a row had goes on alone, so
// that one that ends every replica it meets is found and failed while the others live. Stop strings
// are found here; the replica is then told to stop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/actions.h"
#include "server/ledger.h"
#include "server/router.h"

namespace trireme {

struct ControllerOptions {
  size_t max_requests = 4096;  // choices accepted and not ended; beyond: RESOURCE_EXHAUSTED
  Duration heartbeat_interval = std::chrono::seconds(1);
  Duration replica_timeout = std::chrono::seconds(10);   // a link silent for so long is closed
  Duration waiting_interval = std::chrono::seconds(10);  // between Waiting events
};

struct RequestCounters {
  int64_t accepted = 0;
  int64_t refused = 0;
  int64_t finished = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t replayed = 0;
  int64_t replicas_lost = 0;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

class Controller {
 public:
  // `random` gives 64 random bits: the seeds and ids of requests that bring none.
  Controller(ControllerOptions options, std::function<uint64_t()> random);

  // A request whose prompt is in `request.ids`. `key` names the client's stream and is never
  // reused. The client is told Accepted, or the error of which nothing remains.
  void Generate(Time now, uint64_t key, Time arrived, ModelPtr model, GenerateRequest request,
                Actions& out);

  // A request that is turned away before it comes to the core.
  void Refuse(uint64_t key, absl::Status status, Actions& out);

  // The client does not want the request any more; it is told CANCELLED. Unknown keys are ignored:
  // the request may just have ended.
  void Cancel(Time now, uint64_t key, Actions& out);

  // A replica has registered on a new link. `instance` is its leader process: an older link of it
  // is over. Answered by SendRegistered or CloseLink.
  void ReplicaUp(Time now, uint64_t link, uint64_t instance, ReplicaInfo info, ModelPtr model,
                 Actions& out);

  // The link broke. Unknown links are ignored, here and below: the core may have closed it.
  void ReplicaDown(Time now, uint64_t link, const std::string& reason, Actions& out);

  // No replica will come soon: whoever starts them has failed at it, which `why` says. Requests
  // that none serves end with UNAVAILABLE, new ones are refused with it, until one registers.
  void Outage(Time now, const std::string& why, Actions& out);

  void Report(Time now, uint64_t link, StepReport report, Actions& out);
  void Heartbeat(Time now, uint64_t link);

  // Time has passed. To be called at NextTick(), which each event may change.
  void Tick(Time now, Actions& out);
  Time NextTick() const;  // Time::max(): nothing to wait for

  // Ends every request with UNAVAILABLE and refuses new ones. Replicas are sent home if
  // `stop_replicas`, else their links are closed so that they dial again.
  void Shutdown(Time now, bool stop_replicas, Actions& out);

  const RequestCounters& counters() const { return counters_; }
  const std::map<uint64_t, LinkedReplica>& replicas() const { return router_.replicas(); }
  int32_t ContextLength(const ServedModel& model) const { return router_.ContextLength(model); }
  size_t n_requests() const { return ledger_.n_requests(); }
  size_t n_waiting() const;
  std::map<std::string, size_t> n_waiting_by_model() const;
  // Keys of the requests that the replica has choices of; ascending.
  std::vector<uint64_t> RequestsOn(const LinkedReplica& replica) const;

 private:
  // The requests that a lost replica left behind, until each has gone on or ended.
  struct Pause {
    Time since;
    std::string what;  // "replica 3 (host:pid) lost: reason"
    size_t left = 0;
    size_t resumed = 0;
    Duration longest{};
  };
  using QueueKey =
      std::tuple<bool, int64_t, uint64_t>;  // (!suspect, -priority, entry): the first first

  absl::Status Admit(Time now, uint64_t key, Time arrived, ModelPtr model, GenerateRequest& request,
                     Actions& out);

  void AddChoice(Time now, LedgerRequest& to, const GenerateRequest& request,
                 SequenceRequest sequence, int32_t choice);

  // The queue (controller_queue.cc).
  void Enqueue(Time now, LedgerEntry& entry);
  void Dequeue(LedgerEntry& entry);
  void Dispatch(Time now, const ModelPtr& model, Actions& out);
  void TellWaiting(Time now, LedgerEntry& entry, Actions& out);
  std::string WhyWaiting(const LedgerEntry& entry) const;
  void HandOver(Time now, LedgerEntry& entry, LinkedReplica& replica, Actions& out);

  // Requests that may be what ends their replicas (controller_suspects.cc).
  static void CountLoss(LedgerEntry& entry, bool alone);
  static void CountProgress(LedgerEntry& entry);
  void FailPoison(Time now, LedgerEntry& entry, const std::string& what, Actions& out);
  void Isolate(Time now, const ModelPtr& model, Actions& out);
  void WithdrawOthers(Time now, LinkedReplica& replica, Actions& out);

  // Replicas that come and go (controller_replicas.cc).
  // `died`: as far as the controller knows; what ran there may have been why.
  void Lose(Time now, LinkedReplica& replica, const std::string& reason, bool died, Actions& out);
  void AbortUnservable(Time now, const LinkedReplica& newcomer, Actions& out);
  std::string Names(const std::vector<uint64_t>& keys);
  void EndPause(Time now, LedgerEntry& entry, bool resumed, Actions& out);
  void Beat(Time now, Actions& out);

  // What replicas report. A fault is one of the replica's, for which its link is closed.
  absl::Status Apply(Time now, LinkedReplica& replica, SequenceDelta& delta, Actions& out);
  bool Emit(Time now, LedgerEntry& entry, std::span<const int32_t> ids, bool replica_ended,
            Actions& out);
  static void MeasureIds(Time now, LedgerEntry& entry, size_t n, Actions& out);
  void EndAsReplicaSays(Time now, LedgerEntry& entry, const SequenceDelta& delta, Actions& out);

  // The end of a choice, and with the last one of its request; `entry` is gone afterwards. Unless
  // `replica_ended` it is taken from its replica, if it is on one.
  void Finish(Time now, LedgerEntry& entry, Finished finished, bool replica_ended, Actions& out);
  // The end of a request with all of its choices.
  void Fail(Time now, LedgerRequest& request, absl::Status status, Actions& out,
            const LedgerEntry* ended_by_replica = nullptr);
  void Expire(Time now, LedgerRequest& request, Actions& out);
  void TellFlush(LedgerEntry& entry, Finished& finished, Actions& out);
  void Remove(Time now, LedgerEntry& entry, bool replica_ended, Actions& out);

  const ControllerOptions options_;
  const std::function<uint64_t()> random_;
  bool shut_down_ = false;
  std::optional<std::string> outage_;  // why no replica will come soon

  Ledger ledger_;
  Router router_;
  std::map<std::string, ModelPtr> models_;         // by name, as last registered
  std::map<ModelPtr, std::set<QueueKey>> queues_;  // none is empty
  std::map<uint64_t, Pause> pauses_;               // by the lost link
  std::set<std::pair<Time, uint64_t>> deadlines_;
  std::set<std::pair<Time, uint64_t>> waits_;  // when a waiting client is told next
  Time next_beat_ = Time::max();               // while there are links
  uint64_t last_sequence_id_ = 0;
  RequestCounters counters_;
};

}  // namespace trireme
