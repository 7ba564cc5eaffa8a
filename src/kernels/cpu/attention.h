// Cuts attention into (sequence, KV head, query rows) and gives the pieces to the threads.
#pragma once

#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/thread_pool.h"

namespace trireme::cpu {

class AttentionDriver {
 public:
  AttentionDriver(const AttentionKernels& kernels, ThreadPool& pool)
      : kernels_(kernels), pool_(pool) {}

  void RopeStoreKv(Tensor q, KvLayer kv, Tensor qkv, Tensor cos, Tensor sin, Tensor slots,
                   const HeadMap& heads);
  void Run(Tensor y, Tensor q, KvLayer kv, const AttentionPlan& plan, float scale,
           const HeadMap& heads);

 private:
  // (row, head) pairs of a sequence against one KV head, counted row by row.
  struct Item {
    int32_t sequence;
    int32_t kv_head;
    int64_t first_pair;
    int n_pairs;
  };

  struct Call;

  // Fills items_ with pieces of at most `rows` pairs.
  void CutItems(const int32_t* starts, int64_t n_sequences, const HeadMap& heads, int64_t rows);
  void AttendItem(const Call& call, const Item& item, float* scratch);

  const AttentionKernels& kernels_;
  ThreadPool& pool_;
  std::vector<Item> items_;
  Scratch threads_;
};

}  // namespace trireme::cpu
