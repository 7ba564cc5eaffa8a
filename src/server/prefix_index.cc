#include "server/prefix_index.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

namespace trireme {
namespace {

// The finaliser of MurmurHash3 (Appleby, public domain): each bit of the input counts.
uint64_t Mix(uint64_t h) {
  h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
  h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
  return h ^ h >> 33;
}

}  // namespace

std::vector<uint64_t> PrefixIndex::Chain(const SequenceRequest& sequence) {
  uint64_t h = std::hash<std::string>()(sequence.cache_salt);
  if (sequence.dropout > 0) {
    h = Mix(h ^ std::bit_cast<uint32_t>(sequence.dropout)) ^ sequence.dropout_seed;
  }
  const size_t n = std::min(sequence.prompt_ids.size() / kBlockTokens, kMostBlocks);
  std::vector<uint64_t> chain;
  chain.reserve(n);
  for (size_t i = 0; i < n * kBlockTokens; ++i) {
    h = Mix(h + static_cast<uint32_t>(sequence.prompt_ids[i]) + 1);
    if ((i + 1) % kBlockTokens == 0) chain.push_back(h);
  }
  return chain;
}

void PrefixIndex::Add(std::span<const uint64_t> chain) {
  if (young_.size() + chain.size() > n_blocks_) old_ = std::exchange(young_, {});
  young_.insert(chain.begin(), chain.end());
}

int64_t PrefixIndex::Match(std::span<const uint64_t> chain) const {
  size_t n = 0;
  while (n < chain.size() && (young_.contains(chain[n]) || old_.contains(chain[n]))) ++n;
  return static_cast<int64_t>(n * kBlockTokens);
}

}  // namespace trireme
