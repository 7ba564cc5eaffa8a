// Links: the controllers that a leader is linked to. Whose each sequence is, and what each
// controller may have here: all of the replica if it is the only one, else a share of it and of
// what is free beyond that.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "runtime/replica.h"
#include "runtime/request.h"

namespace trireme {

class Links {
 public:
  // `all`: what may be here at once.
  explicit Links(Credits all) : all_(all) {}

  void Open(uint64_t link, Replica::Sink sink);

  // Returns the numbers of its sequences, of which nothing is reported any more.
  std::vector<uint64_t> Close(uint64_t link);

  // Replaces the request's id, which is the link's own, by a number that is unique here. False if
  // the link is closed, or has a sequence of that id.
  bool Add(uint64_t link, SequenceRequest& request);

  // The number of a link's sequence; 0 if it has none of that id.
  uint64_t Find(uint64_t link, uint64_t id) const;

  // Tells each link what has come of its sequences, and how the replica is if that is news.
  // `free_kv_tokens` are left when all that are here have what they ask for; may be negative.
  void Report(StepReport report, bool stats_are_news, int64_t free_kv_tokens);

 private:
  struct Linked {
    Replica::Sink sink;
    std::unordered_map<uint64_t, uint64_t> sequences;  // number by id
    int64_t tokens = 0;                                // of its sequences
    Credits credits;                                   // that it was told last
  };
  struct Sequence {
    uint64_t link;
    uint64_t id;
    int64_t tokens;
  };

  Credits CreditsOf(const Linked& linked, int64_t free_kv_tokens) const;

  const Credits all_;
  std::map<uint64_t, Linked> links_;
  std::unordered_map<uint64_t, Sequence> sequences_;  // by number
  uint64_t last_number_ = 0;
};

}  // namespace trireme
