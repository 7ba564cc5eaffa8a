// What the bench of kernels measures: the verbs of a decoder's layer and of its vocabulary.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "bench/device_probe.h"
#include "runtime/config.h"

namespace trireme {

struct KernelCase {
  int64_t rows = 0;
  int64_t context = 0;  // tokens in the cache of each sequence; 0: none is read
  double bytes = 0;     // that have to move, from or to memory
  double flops = 0;     // 0: bandwidth alone bounds it
  std::string name;
  TimedWork work;
};

struct KernelCaseOptions {
  DType weights = DType::kBF16;
  DType activations = DType::kF32;
  std::vector<int> rows, contexts;
  std::string only;       // cases whose name contains this; empty: all
  bool chunks = true;     // the O and down projections' columns in chunks, as exact sums are
  size_t cold_bytes = 0;  // weights and pages in turn, so that none comes from a cache
};

// The cases, and the memory that they work on.
class KernelCases {
 public:
  KernelCases(const ModelConfig& shape, const KernelCaseOptions& options, Ops& ops,
              DeviceProbe& probe)
      : shape_(shape), options_(options), ops_(ops), probe_(probe) {}

  // INVALID_ARGUMENT if there is none.
  absl::StatusOr<std::vector<KernelCase>> Make();

 private:
  bool Wanted(const std::string& name) const;
  int64_t QkvColumns() const { return (shape_.n_heads + 2 * shape_.n_kv_heads) * shape_.head_dim; }
  Tensor New(DType dtype, std::initializer_list<int64_t> shape);
  Tensor Random(DType dtype, std::initializer_list<int64_t> shape);
  Tensor Activations(int64_t rows, int64_t cols) {
    return Random(options_.activations, {rows, cols});
  }
  Tensor Integers(const std::vector<int32_t>& values);
  void Add(const std::string& name, int64_t rows, double bytes, double flops,
           std::function<void(int)> call);

  absl::Status AddLinear(const std::string& name, int64_t n, int64_t k, bool row_parallel,
                         int64_t max_rows);
  absl::Status AddEmbed();
  void AddRowVerbs();
  void AddRope();
  void AddAttention(const std::string& name, int64_t n_sequences, int64_t rows, int64_t length);
  void AddAttentions();
  void AddVocabulary();

  const ModelConfig shape_;
  const KernelCaseOptions options_;
  Ops& ops_;
  DeviceProbe& probe_;
  std::vector<Buffer> buffers_;
  std::vector<KernelCase> cases_;
  KvLayer kv_;  // of all cases of attention, which read its blocks in turn
};

}  // namespace trireme
