#include "kernels/sum_tree.h"

#include <bit>

#include "base/check.h"

namespace trireme {
namespace {

int LeftSize(int n) { return static_cast<int>(std::bit_floor(static_cast<unsigned>(n - 1))); }

// Calls node(begin, end) for each node of the tree over [begin, end), children before parents.
template <typename Node>
void PostOrder(int begin, int end, const Node& node) {
  if (end - begin > 1) {
    const int middle = begin + LeftSize(end - begin);
    PostOrder(begin, middle, node);
    PostOrder(middle, end, node);
  }
  node(begin, end);
}

void CoverNode(int begin, int end, ChunkRange range, std::vector<ChunkRange>* cover) {
  if (range.end <= begin || end <= range.begin) return;
  if (range.begin <= begin && end <= range.end) {
    cover->push_back({begin, end});
    return;
  }
  const int middle = begin + LeftSize(end - begin);
  CoverNode(begin, middle, range, cover);
  CoverNode(middle, end, range, cover);
}

}  // namespace

SumTree::SumTree(int n_chunks) : n_chunks_(n_chunks) {
  CHECK(0 < n_chunks && n_chunks <= 1 << (kMaxSumDepth - 1)) << n_chunks;
}

std::vector<ChunkRange> SumTree::Cover(ChunkRange range) const {
  std::vector<ChunkRange> cover;
  CoverNode(0, n_chunks_, range, &cover);
  return cover;
}

std::vector<uint8_t> SumTree::Merges(ChunkRange range) const {
  std::vector<uint8_t> merges(static_cast<size_t>(range.end - range.begin), 0);
  PostOrder(0, n_chunks_, [&](int begin, int end) {
    if (end - begin > 1 && range.begin <= begin && end <= range.end) {
      ++merges[static_cast<size_t>(end - 1 - range.begin)];
    }
  });
  return merges;
}

std::vector<uint8_t> SumTree::Finish(const std::vector<ChunkRange>& parts) const {
  std::vector<uint8_t> merges(parts.size(), 0);
  PostOrder(0, n_chunks_, [&](int begin, int end) {
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].end == end && begin < parts[i].begin) ++merges[i];
    }
  });
  return merges;
}

}  // namespace trireme
