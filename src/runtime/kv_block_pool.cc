#include "runtime/kv_block_pool.h"

#include "base/check.h"

namespace trireme {

KvBlockPool::KvBlockPool(int64_t n_blocks, int64_t block_size)
    : block_size_(block_size), blocks_(static_cast<size_t>(n_blocks)) {
  for (int64_t i = n_blocks - 1; i >= 0; --i) free_.push_back(static_cast<int32_t>(i));
}

size_t KvBlockPool::KeyHash::operator()(const Key& key) const {
  uint64_t hash =
      static_cast<uint64_t>(key.before) * 0x9E3779B97F4A7C15u + std::hash<std::string>()(key.root);
  for (int32_t id : key.ids) {
    hash = (hash ^ static_cast<uint32_t>(id)) * 0xFF51AFD7ED558CCDu;
    hash ^= hash >> 32;
  }
  return hash;
}

KvBlockPool::Match KvBlockPool::Acquire(const std::string& root, std::span<const int32_t> ids,
                                        int64_t max_blocks) {
  Match match;
  while (static_cast<int64_t>(match.blocks.size()) < max_blocks &&
         static_cast<int64_t>(ids.size()) >= block_size_) {
    auto it = tree_.find(Key{match.chain,
                             match.chain == 0 ? root : std::string(),
                             {ids.begin(), ids.begin() + block_size_}});
    if (it == tree_.end()) break;
    match.blocks.push_back(it->second.block);
    match.chain = it->second.chain;
    ids = ids.subspan(static_cast<size_t>(block_size_));
  }
  Retain(match.blocks);
  return match;
}

int32_t KvBlockPool::Allocate() {
  int32_t id;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else if (!lru_.empty()) {
    id = lru_.front();
    lru_.pop_front();
    // A copy: the key that the block points to dies with the entry.
    const Key key = *blocks_[id].key;
    blocks_[id].key = nullptr;
    tree_.erase(key);
  } else {
    return -1;
  }
  blocks_[id].references = 1;
  return id;
}

KvBlockPool::Chain KvBlockPool::Insert(const std::string& root, Chain before,
                                       std::span<const int32_t> ids, int32_t block) {
  CHECK_EQ(static_cast<int64_t>(ids.size()), block_size_);
  CHECK_GT(blocks_[block].references, 0);
  auto [it, added] =
      tree_.try_emplace(Key{before, before == 0 ? root : std::string(), {ids.begin(), ids.end()}},
                        Entry{next_chain_, block});
  if (added) {
    ++next_chain_;
    CHECK(blocks_[block].key == nullptr) << "block " << block << " entered twice";
    blocks_[block].key = &it->first;
  }
  return it->second.chain;
}

void KvBlockPool::Retain(std::span<const int32_t> blocks) {
  for (int32_t id : blocks) {
    Block& block = blocks_[id];
    if (block.references == 0) lru_.erase(block.lru);
    ++block.references;
  }
}

void KvBlockPool::Release(std::span<const int32_t> blocks) {
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) {
    Block& block = blocks_[*it];
    CHECK_GT(block.references, 0) << "block " << *it;
    if (--block.references > 0) continue;
    if (block.key != nullptr) {
      block.lru = lru_.insert(lru_.end(), *it);
    } else {
      free_.push_back(*it);
    }
  }
}

}  // namespace trireme
