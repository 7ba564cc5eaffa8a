// Cuts Linear into tiles of rows and panels of columns, and gives them to the threads.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"

namespace trireme::cpu {

class LinearDriver {
 public:
  LinearDriver(const LinearKernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  void Run(Tensor y, Tensor x, const PackedWeight& w);

  // So that Run() allocates nothing for so many rows.
  void Reserve(int64_t rows, const PackedWeight& w);

 private:
  float* PackedX(int64_t rows, const PackedWeight& w) { return x_.Get<float>(rows * w.n_in()); }
  int64_t StackFloats(const PackedWeight& w) const;  // of a thread
  struct Call;
  void PackX(const Call& call);
  void RunPanel(const Call& call, int64_t panel, int64_t first_tile, int64_t end_tile,
                float* scratch);
  void Finish(const Call& call, int64_t panel, int64_t tile, const float* stack);

  const LinearKernels& kernels_;
  ThreadPool& pool_;
  Scratch x_;        // [tiles][K][rows of the tile]
  Scratch threads_;  // per thread: stacks of a group of tiles
};

}  // namespace trireme::cpu
