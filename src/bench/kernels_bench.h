// How fast each kernel runs on a device, beside what the device gives at best, probed in the same
// run.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/dtype.h"
#include "runtime/device.h"

namespace trireme {

struct KernelsBenchOptions {
  DeviceKind device = DeviceKind::kCpu;
  bool exact = false;  // on CUDA; the CPU always is
  int n_threads = 2;
  bool avx512 = true;                    // false: AVX2
  std::string shape = "tinyllama-1.1b";  // runtime/config.h's NamedShape
  DType weights = DType::kBF16;
  DType activations = DType::kF32;
  std::vector<int> rows = {1, 4, 16, 64, 512};  // T
  std::vector<int> contexts = {1024};           // tokens in the cache of a decoding sequence
  int rounds = 5;      // every case once a round, so that a neighbour hits all alike
  std::string only;    // cases whose name contains this; empty: all
  bool quick = false;  // little memory, which caches hold: tries the bench, measures nothing
  std::string json;    // also write the figures to this file
};

// Prints one line per kernel and shape, medians over the rounds: the time, GB/s, GFLOP/s, and the
// share of the bound, max(bytes / bandwidth, FLOP / rate), as probed just before and after. Bytes
// are those that a call has to move: weights and pages once, activations in and out.
absl::Status RunKernelsBench(const KernelsBenchOptions& options, std::ostream& out);

}  // namespace trireme
