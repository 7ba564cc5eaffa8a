// KvBlockPool: reference-counted KV block ids and the prefix tree over full blocks. Host only; the
// ranks hold the pages.
//
// A full block is known by its chain: the chain of the block before it and the ids in it. The first
// block of a chain has a root instead: text that stands for all else that the contents depend on
// (cache salt, dropout). Blocks that no sequence holds stay in the tree until they are needed,
// least recently used first; because a sequence releases its last block first, a block goes before
// the one it extends.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace trireme {

class KvBlockPool {
 public:
  using Chain = int64_t;  // names a chain of full blocks; 0 is the empty one

  KvBlockPool(int64_t n_blocks, int64_t block_size);

  int64_t n_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t block_size() const { return block_size_; }
  int64_t n_free() const { return static_cast<int64_t>(free_.size() + lru_.size()); }
  int64_t n_used() const { return n_blocks() - n_free(); }                // held by sequences
  int64_t n_cached() const { return static_cast<int64_t>(lru_.size()); }  // by the tree alone

  struct Match {
    std::vector<int32_t> blocks;  // each with one more reference
    Chain chain = 0;
  };
  // The longest chain of full blocks in the tree that `ids` begin with, at most max_blocks of them.
  Match Acquire(const std::string& root, std::span<const int32_t> ids, int64_t max_blocks);

  // A block with one reference; the least recently used cached one gives way. -1 if all are held.
  int32_t Allocate();

  // Enters a full block, held by the caller, after `before` (root: of the whole chain); returns the
  // chain that ends with it.
  // If an equal block is there already, that one stays and this one is forgotten when released.
  Chain Insert(const std::string& root, Chain before, std::span<const int32_t> ids, int32_t block);

  // Gives one reference of each back, last block first.
  void Release(std::span<const int32_t> blocks);
  // One more reference for each (copy-on-write forks).
  void Retain(std::span<const int32_t> blocks);

  int32_t references(int32_t block) const { return blocks_[block].references; }

 private:
  struct Key {
    Chain before;
    std::string root;  // empty unless before is 0
    std::vector<int32_t> ids;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Entry {
    Chain chain;
    int32_t block;
  };
  using Tree = std::unordered_map<Key, Entry, KeyHash>;
  struct Block {
    int32_t references = 0;
    const Key* key = nullptr;          // in the tree
    std::list<int32_t>::iterator lru;  // valid where references == 0 and key
  };

  int64_t block_size_;
  std::vector<Block> blocks_;
  std::vector<int32_t> free_;  // neither held nor cached
  std::list<int32_t> lru_;     // cached and not held, least recently used first
  Tree tree_;
  Chain next_chain_ = 1;
};

}  // namespace trireme
