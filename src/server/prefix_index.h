// Which beginnings of prompts a replica was given lately, and so may still have in its prefix
// cache.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

#include "runtime/request.h"

namespace trireme {

class PrefixIndex {
 public:
  static constexpr size_t kBlockTokens = 64;
  static constexpr size_t kMostBlocks = 256;  // of one prompt that are looked at

  PrefixIndex() : PrefixIndex(8192) {}
  // Remembers at least so many blocks, and at most twice as many.
  explicit PrefixIndex(size_t n_blocks) : n_blocks_(n_blocks) {}

  // A hash for each beginning of the prompt that is whole blocks, the shortest first. With the ids
  // goes all else that keys and values depend on.
  static std::vector<uint64_t> Chain(const SequenceRequest& sequence);

  void Add(std::span<const uint64_t> chain);

  // Tokens of the longest beginning that it remembers.
  int64_t Match(std::span<const uint64_t> chain) const;

 private:
  size_t n_blocks_;
  std::unordered_set<uint64_t> young_, old_;  // what is not asked for again goes with `old_`
};

}  // namespace trireme
