// The ledger: every request that has been accepted and has not ended, with all that it takes to go
// on after its replica is lost.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "server/api.h"
#include "server/choice_text.h"
#include "server/model.h"

namespace trireme {

struct LedgerEntry {
  uint64_t key = 0;        // of the client's stream
  std::string request_id;  // unique among the entries
  ModelPtr model;

  // What a replica is given: `emitted_ids` are those the client has, or will have with what has
  // been sent. `id` names the present hand-over, 0 while there is none.
  SequenceRequest sequence;
  ChoiceText text;

  // The replicas that can go on: empty until an id has been generated, then those of this
  // fingerprint only.
  std::string fingerprint;
  std::optional<uint64_t> link;  // where it runs
  int64_t tokens_left = 0;       // that its replica has to compute for it, at most

  int32_t cached_tokens = 0;
  Time arrived;
  std::optional<Time> handed_over;  // first time
  std::optional<Time> first_id;
  std::optional<Time> last_id;
  std::optional<Time> deadline;
  std::optional<Time> next_waiting;  // while in the queue: when the client is told next
  std::optional<uint64_t> pause;     // the loss of a replica that it has not recovered from

  // Replicas that were lost while they had it, since it last got further than the loss before; and
  // those of them that had nothing else.
  int losses = 0;
  int losses_alone = 0;
  int32_t lost_at = 0;  // ids emitted at the last one

  // It may be what ends them: it goes on alone until it is past the point where they ended.
  bool suspect() const { return losses >= 2; }

  int32_t n_emitted() const { return static_cast<int32_t>(sequence.emitted_ids.size()); }
  Usage usage() const;
  Timings timings(Time now) const;
};

class Ledger {
 public:
  LedgerEntry& Add(std::unique_ptr<LedgerEntry> entry);  // key and request_id are new
  LedgerEntry* Find(uint64_t key);
  bool HasRequestId(const std::string& request_id) const {
    return by_request_id_.contains(request_id);
  }
  void Erase(uint64_t key);
  size_t size() const { return entries_.size(); }

  // In order of arrival.
  template <typename F>
  void ForEach(F&& f) {
    for (auto& [key, entry] : entries_) f(*entry);
  }

 private:
  std::map<uint64_t, std::unique_ptr<LedgerEntry>> entries_;
  std::unordered_map<std::string, uint64_t> by_request_id_;
};

}  // namespace trireme
