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
#include "server/fair_queue.h"
#include "server/ledger.h"
#include "server/router.h"

namespace trireme {

struct ControllerOptions {
  size_t max_requests = 4096;  // choices accepted and not ended; beyond: RESOURCE_EXHAUSTED
  size_t max_ledger_bytes = size_t{1} << 30;  // of requests in memory; beyond: likewise
  Duration heartbeat_interval = std::chrono::seconds(1);
  Duration replica_timeout = std::chrono::seconds(10);   // a link silent for so long is closed
  Duration waiting_interval = std::chrono::seconds(10);  // between Waiting events
  bool records = false;  // AppendRecord actions tell what a next controller is to know
  // With them: how long a request, or what came of it, waits for a client that lost its stream.
  Duration comeback = std::chrono::seconds(60);
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

  // One that was told so elsewhere.
  void CountRefusal(const absl::Status& status, Actions& out);

  // The client does not want the request any more; it is told CANCELLED. Unknown keys are ignored:
  // the request may just have ended.
  void Cancel(Time now, uint64_t key, Actions& out);

  // The client's stream broke: its request is cancelled, or goes on without it.
  void Gone(Time now, uint64_t key, Actions& out);

  // What an earlier controller knew, before anything else: its models, then its requests. `key` is
  // new. A request waits for its client, and unless it was to go on without one also to be run.
  void Know(ModelPtr model);
  void Restore(Time now, uint64_t key, RestoredRequest restored, Actions& out);

  // All that a next controller is to know: what the records so far amount to.
  std::vector<LedgerRecord> Records() const;

  // A replica has registered on a new link. `instance` is its leader process: an older link of it
  // is over. Answered by SendRegistered or CloseLink.
  void ReplicaUp(Time now, uint64_t link, uint64_t instance, ReplicaInfo info, ModelPtr model,
                 Actions& out);

  // The link broke. Unknown links are ignored, here and below: the core may have closed it.
  void ReplicaDown(Time now, uint64_t link, const std::string& reason, Actions& out);

  // No replica will come soon: whoever starts them has failed at it, which `why` says. Requests
  // that none serves end with UNAVAILABLE, new ones are refused with it, until one registers.
  void Outage(Time now, const std::string& why, Actions& out);

  // The replica finishes what it has, is given nothing new, and is sent home. NOT_FOUND.
  absl::Status Drain(Time now, uint64_t link, Actions& out);

  // Ends the requests of that id with CANCELLED; of one tenant, or of whichever has one. How many.
  int Abort(Time now, const std::string& request_id, const std::optional<std::string>& tenant,
            Actions& out);

  void Report(Time now, uint64_t link, StepReport report, Actions& out);
  void Heartbeat(Time now, uint64_t link);

  // Time has passed. To be called at NextTick(), which each event may change.
  void Tick(Time now, Actions& out);
  Time NextTick() const;  // Time::max(): nothing to wait for

  // Refuses new requests from now on; those that are known go on.
  void Close() { closed_ = true; }

  // Ends every request with UNAVAILABLE and refuses new ones. Replicas are sent home if
  // `stop_replicas`, else their links are closed so that they dial again.
  void Shutdown(Time now, bool stop_replicas, Actions& out);

  const ControllerOptions& options() const { return options_; }
  const RequestCounters& counters() const { return counters_; }
  const std::map<std::string, ModelPtr>& models() const { return models_; }  // by name
  const std::map<uint64_t, LinkedReplica>& replicas() const { return router_.replicas(); }
  // By model: those that new requests may be given to; none once closed.
  std::map<std::string, size_t> ReadyReplicas() const;
  int32_t ContextLength(const ServedModel& model) const { return router_.ContextLength(model); }
  size_t n_requests() const { return ledger_.n_requests(); }
  size_t n_open() const { return ledger_.n_open(); }  // choices that have not ended
  size_t ledger_bytes() const { return ledger_.bytes(); }
  size_t n_running() const;  // choices that a replica has
  size_t n_waiting() const;  // choices that wait for one
  std::map<std::string, size_t> n_waiting_by_model() const;
  // Choices of tenants that have a name, and have any.
  using TenantOf = std::pair<std::string, std::string>;  // model, tenant
  struct TenantLoad {
    size_t running = 0;
    size_t waiting = 0;
  };
  std::map<TenantOf, TenantLoad> ByTenant() const;
  // Ids of the requests that the replica has choices of, in order of arrival.
  std::vector<std::string> RequestsOn(const LinkedReplica& replica) const;

 private:
  // The requests that a lost replica left behind, until each has gone on or ended.
  struct Pause {
    Time since;
    std::string what;  // "replica 3 (host:pid) lost: reason"
    size_t left = 0;
    size_t resumed = 0;
    Duration longest{};
  };
  absl::Status Admit(Time now, uint64_t key, Time arrived, ModelPtr model, GenerateRequest& request,
                     Actions& out);

  LedgerEntry& AddChoice(LedgerRequest& to, SequenceRequest sequence, int32_t choice);
  static void TellPrompt(const ServedModel& model, const std::vector<int32_t>& ids,
                         const GenerateRequest& request, Accepted& accepted);

  // Clients that come back, and earlier controllers (controller_attach.cc).
  void Expect(Time now, LedgerRequest& request);
  void Expected(LedgerRequest& request);
  void Release(LedgerRequest& request, Actions& out);
  static absl::Status CheckHeld(const LedgerRequest& request, const GenerateRequest& again);
  absl::Status Attach(Time now, uint64_t client, LedgerRequest& request, GenerateRequest& again,
                      Actions& out);
  static void TellRest(LedgerEntry& entry, const Held& held, Actions& out);
  void RestoreChoice(Time now, LedgerEntry& entry, RestoredRequest::Choice& was);
  void Record(LedgerRecord record, Actions& out) const;
  static RequestRecord RecordOf(const LedgerRequest& request);

  // The queue (controller_queue.cc).
  void Enqueue(Time now, LedgerEntry& entry);
  void Dequeue(LedgerEntry& entry);
  void Dispatch(Time now, const ModelPtr& model, Actions& out);
  void DispatchNew(Time now, const LedgerRequest& request, Actions& out);
  void TellWaiting(Time now, LedgerEntry& entry, Actions& out);
  std::string WhyWaiting(const LedgerEntry& entry) const;
  void HandOver(Time now, LedgerEntry& entry, LinkedReplica& replica, Actions& out);
  void LeaveService(LedgerEntry& entry);
  void ChargeTenant(LedgerEntry& entry, double tokens);
  absl::Status CheckRoom(const GenerateRequest& request, Actions& out);

  // Requests that may be what ends their replicas (controller_suspects.cc).
  static void CountLoss(LedgerEntry& entry, uint64_t instance, bool alone);
  void Acquit(const ModelPtr& model, uint64_t instance);
  static void CountProgress(LedgerEntry& entry);
  static int32_t AloneIds(const LedgerEntry& entry);
  void FailPoison(Time now, LedgerEntry& entry, const std::string& what, Actions& out);
  void Isolate(Time now, const ModelPtr& model, Actions& out);
  void WithdrawOthers(Time now, LinkedReplica& replica, Actions& out);

  // Replicas that come and go (controller_replicas.cc).
  enum class Loss {
    kDied,       // as far as the controller knows; what ran there may have been why
    kSilent,     // likewise, but its processes may live
    kRedialled,  // it lives, on a new link
  };
  void Lose(Time now, LinkedReplica& replica, const std::string& reason, Loss loss, Actions& out);
  void AbortUnservable(Time now, const LinkedReplica& newcomer, Actions& out);
  void EndPause(Time now, LedgerEntry& entry, bool resumed, Actions& out);
  void SendHome(const ModelPtr& model, Actions& out);
  void Beat(Time now, Actions& out);

  // What replicas report. A fault is one of the replica's, for which its link is closed.
  absl::Status Apply(Time now, LinkedReplica& replica, SequenceDelta& delta, Actions& out);
  bool Emit(Time now, LedgerEntry& entry, std::span<const int32_t> ids,
            std::span<const TokenLogprobs> logprobs, bool replica_ended, Actions& out);
  static void MeasureIds(Time now, LedgerEntry& entry, size_t n, Actions& out);
  void EndAsReplicaSays(Time now, LedgerEntry& entry, const SequenceDelta& delta, Actions& out);

  static void Tell(const LedgerRequest& request, Event event, Actions& out);
  static void Note(const LedgerEntry& entry, Progress::Kind kind, uint64_t link, Actions& out);

  // The end of a choice, and with the last one of its request, which may be gone afterwards. Unless
  // `replica_ended` it is taken from its replica, if it is on one.
  void Finish(Time now, LedgerEntry& entry, Finished finished, bool replica_ended, Actions& out);
  // The end of a request with all of its choices.
  void Fail(Time now, LedgerRequest& request, absl::Status status, Actions& out,
            const LedgerEntry* ended_by_replica = nullptr);
  void Expire(Time now, LedgerRequest& request, Actions& out);
  void TellFlush(LedgerEntry& entry, Finished& finished, Actions& out);
  void Withdraw(Time now, LedgerEntry& entry, bool replica_ended, Actions& out);
  void EndRequest(Time now, LedgerRequest& request, Actions& out);

  const ControllerOptions options_;
  const std::function<uint64_t()> random_;
  bool closed_ = false;                // to new requests
  bool shut_down_ = false;             // no request is left
  std::optional<std::string> outage_;  // why no replica will come soon

  Ledger ledger_;
  Router router_;
  std::map<std::string, ModelPtr> models_;  // by name, as last registered
  std::map<ModelPtr, FairQueue> queues_;    // none is idle
  std::map<uint64_t, Pause> pauses_;        // by the lost link
  std::set<std::pair<Time, uint64_t>> deadlines_;
  std::set<std::pair<Time, uint64_t>> waits_;     // when a waiting client is told next
  std::set<std::pair<Time, uint64_t>> expiries_;  // of requests without a client
  Time next_beat_ = Time::max();                  // while there are links
  uint64_t last_sequence_id_ = 0;
  RequestCounters counters_;
};

}  // namespace trireme
