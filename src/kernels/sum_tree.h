// The fixed order in which float32 partial sums are added, whoever holds them.
//
// Row-parallel sums are cut into C chunks. The chunks are the leaves of one binary tree in which a
// node over n > 1 leaves gives its left child the largest power of two below n. A rank owns
// contiguous chunks and adds its maximal complete subtrees; the tree is finished by the receiver.
// Every cut of the chunks into ranks then performs the same additions: the same bits.
//
// An order of additions is written as `merges`: one count per leaf. Push the leaf on a stack, then
// merges[leaf] times replace the two topmost entries (a below b) by a + b.
#pragma once

#include <cstdint>
#include <vector>

namespace trireme {

struct ChunkRange {
  int begin = 0;
  int end = 0;
  bool operator==(const ChunkRange&) const = default;
};

class SumTree {
 public:
  explicit SumTree(int n_chunks);

  int n_chunks() const { return n_chunks_; }

  // The maximal complete subtrees inside `range`, left to right; they cover it.
  std::vector<ChunkRange> Cover(ChunkRange range) const;

  // How to add the chunks of `range`: after the last one, the stack holds one entry per Cover().
  std::vector<uint8_t> Merges(ChunkRange range) const;

  // How to add `parts`, which are subtrees that cover all chunks, left to right, to the one root.
  std::vector<uint8_t> Finish(const std::vector<ChunkRange>& parts) const;

 private:
  int n_chunks_;
};

// Stack entries that any `merges` of at most 2^kMaxSumDepth chunks can need.
inline constexpr int kMaxSumDepth = 12;

}  // namespace trireme
