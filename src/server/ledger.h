// The ledger: every request that has been accepted and has not ended, with all that it takes to go
// on after its replica is lost; and those that have ended, for as long as their clients may come
// back. A request is one stream to its client; each of its choices is a sequence of its own, that
// waits, runs and is replayed by itself.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/api.h"
#include "server/choice_text.h"
#include "server/model.h"

namespace trireme {

struct LedgerEntry;

struct LedgerRequest {
  uint64_t key = 0;     // of the stream that brought it
  uint64_t client = 0;  // of the stream that is told of it; 0: none
  std::string tenant;
  double weight = 1;
  std::string request_id;  // unique among the tenant's requests
  std::string digest;      // of what the client sent
  ModelPtr model;
  std::vector<std::string> stops;
  Time arrived;
  std::optional<Time> deadline;
  bool detach = false;          // it goes on without a client
  Duration keep{};              // how long it waits for one that comes back
  std::optional<Time> expires;  // it waits until then
  std::vector<LedgerEntry*> choices;
  std::vector<LedgerEntry*> open;     // of them, those that have not ended; ascending
  std::optional<absl::Status> error;  // with which it ended
  bool any_id = false;                // a choice has emitted an id
};

// One choice of a request.
struct LedgerEntry {
  uint64_t id = 0;  // in order of arrival, never reused
  LedgerRequest* request = nullptr;

  // What a replica is given: `emitted_ids` are those the client has, or will have with what has
  // been sent. `sequence.id` names the present hand-over, 0 while there is none.
  SequenceRequest sequence;
  ChoiceText text;

  // The replicas that can go on: empty until an id has been generated, then those of this
  // fingerprint only.
  std::string fingerprint;
  std::vector<TokenLogprobs> logprobs;         // of emitted_ids, where they were asked for
  std::vector<TokenLogprobs> prompt_logprobs;  // told with the first id, or at the end
  std::optional<uint64_t> link;                // where it runs
  int64_t tokens_left = 0;                     // that its replica has to compute for it, at most
  int64_t kv_tokens = 0;                       // that it counts for there
  bool in_service = false;                     // for its tenant's account (FairQueue)
  double charged = 0;                          // tokens, to its tenant
  std::vector<uint64_t> prefix;                // PrefixIndex::Chain of its prompt
  size_t bytes = 0;                            // as counted in the ledger's

  int32_t cached_tokens = 0;
  std::optional<Time> handed_over;  // first time
  std::optional<Time> first_id;
  std::optional<Time> last_id;
  std::optional<Time> next_waiting;  // while in the queue: when the client is told next
  std::optional<uint64_t> pause;     // the loss of a replica that it has not recovered from
  std::optional<Finished> finished;  // how it ended

  // Replicas that were lost while they had it, since it last got further than the loss before; and
  // those of them that had nothing else.
  int losses = 0;
  int losses_alone = 0;
  int32_t lost_at = 0;  // ids emitted at the last one
  struct Loss {
    uint64_t instance;  // the process
    bool alone;         // it had nothing else
  };
  std::optional<Loss> last_loss;  // unless it is known to be none
  bool alone = false;             // its replica runs nothing else, not even of other controllers

  // It may be what ends them: it goes on alone until it is past the point where they ended.
  bool suspect() const { return losses >= 2; }

  bool ended() const { return finished.has_value() || request->error.has_value(); }

  const ModelPtr& model() const { return request->model; }
  int32_t n_emitted() const { return static_cast<int32_t>(sequence.emitted_ids.size()); }
  int64_t n_tokens() const {
    return static_cast<int64_t>(sequence.prompt_ids.size() + sequence.emitted_ids.size());
  }
  Usage usage() const;
  Timings timings(Time now) const;
};

class Ledger {
 public:
  LedgerRequest& Add(LedgerRequest request);  // key, and request_id of the tenant, are new
  LedgerEntry& AddChoice(LedgerRequest& request, SequenceRequest sequence);
  LedgerRequest* FindRequest(uint64_t key);
  const LedgerRequest* FindRequest(uint64_t key) const {
    return const_cast<Ledger*>(this)->FindRequest(key);
  }
  LedgerRequest* FindRequest(const std::string& tenant, const std::string& request_id);

  // The stream that is told of the request from now on; 0: none.
  void SetClient(LedgerRequest& request, uint64_t client);
  LedgerRequest* FindClient(uint64_t client);

  LedgerEntry* Find(uint64_t id);
  const LedgerEntry* Find(uint64_t id) const { return const_cast<Ledger*>(this)->Find(id); }

  void Close(LedgerEntry& entry);  // it has ended
  void Erase(LedgerRequest& request);

  size_t n_requests() const { return requests_.size(); }
  size_t n_open() const { return n_open_; }  // choices that have not ended
  size_t n_open(const std::string& tenant) const;
  size_t bytes() const { return bytes_; }
  void Measure(LedgerEntry& entry);  // it has grown

  // In order of arrival.
  std::vector<uint64_t> Keys() const;
  std::vector<uint64_t> KeysOf(const std::string& request_id) const;  // of any tenant

 private:
  std::map<uint64_t, LedgerRequest> requests_;                             // by key
  std::unordered_map<uint64_t, std::unique_ptr<LedgerEntry>> entries_;     // by id
  std::map<std::pair<std::string, std::string>, uint64_t> by_request_id_;  // tenant, id: the key
  std::unordered_map<uint64_t, uint64_t> by_client_;                       // the key
  uint64_t last_id_ = 0;
  size_t n_open_ = 0;
  std::map<std::string, size_t> n_open_by_tenant_;  // none is 0
  size_t bytes_ = 0;
};

}  // namespace trireme
