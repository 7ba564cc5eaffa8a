// The replicas that are linked, what each has to do, and which one is given the next request.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "server/ledger.h"
#include "server/prefix_index.h"

namespace trireme {

struct LinkedReplica {
  uint64_t link = 0;      // number of the connection, never reused
  uint64_t instance = 0;  // of the leader process
  ReplicaInfo info;
  ModelPtr model;
  Time last_heard;
  ReplicaStats stats;

  std::unordered_map<uint64_t, uint64_t> running;  // sequence id -> the ledger entry's
  std::unordered_set<uint64_t> cancelling;         // cancelled, its last delta still to come
  int64_t tokens_left = 0;                         // sum over `running`
  Credits credits;                                 // as granted last
  int64_t kv_tokens = 0;                           // sum over `running`
  PrefixIndex prefixes;
  bool isolating = false;  // for suspects alone, one at a time
  bool reserved = false;   // while entries are offered: for one that waits for more room here
  bool draining = false;   // it is given nothing new
  bool sent_home = false;  // it leaves, and its link ends with it

  // Tokens that a sequence may have here, prompt included.
  int32_t context_length() const;

  // For one more sequence, and for this one, within the credits: the rest waits in the controller,
  // where tenants are treated fairly.
  bool HasRoom() const;
  bool HasRoomFor(const LedgerEntry& entry) const;
  bool IsEmpty() const { return running.empty() && cancelling.empty(); }

  // Whether the entry would get the same tokens here as where it was, and fits.
  bool Serves(const LedgerEntry& entry) const;
};

class Router {
 public:
  LinkedReplica& Add(LinkedReplica replica);  // its link is new
  LinkedReplica* Find(uint64_t link);
  LinkedReplica* FindInstance(uint64_t instance);
  void Erase(uint64_t link);

  // The replica with room that serves the entry and would have the fewest tokens left to compute
  // with it, where those of a prefix that it was given before count as done; of equal ones the one
  // with the fewest sequences, then the oldest link. Null if there is none.
  LinkedReplica* Pick(const LedgerEntry& entry);

  // The replica that serves the entry alone, or is to do so: one that does it for others, else the
  // one with the fewest tokens left. Null if none serves it.
  LinkedReplica* PickAlone(const LedgerEntry& entry);

  bool AnyServes(const LedgerEntry& entry) const;
  bool AnyTakes(const LedgerEntry& entry) const;  // serves it, and is not being drained
  bool AnyHasRoom(const ServedModel& model) const;
  bool AnyOf(const ServedModel& model) const;

  // Keeps the room of those that serve the entry from smaller ones behind it, until ReleaseAll.
  void Reserve(const LedgerEntry& entry);
  void ReleaseAll();

  // What each replica of the model can hold; the model's own if there is none.
  int32_t ContextLength(const ServedModel& model) const;

  // Puts the entry's sequence on a replica, and takes it off again.
  void Assign(LedgerEntry& entry, LinkedReplica& replica);
  void Release(LedgerEntry& entry, bool cancelled);

  // Counts anew what the entry has and what its replica has to compute for it: at most the ids up
  // to max_tokens and, until its first id of this hand-over has come, the prefill.
  void Charge(LedgerEntry& entry, bool prefilled);

  const std::map<uint64_t, LinkedReplica>& replicas() const { return replicas_; }
  std::map<uint64_t, LinkedReplica>& replicas() { return replicas_; }

 private:
  std::map<uint64_t, LinkedReplica> replicas_;
};

}  // namespace trireme
