// What a bench asks of a CUDA device beyond its verbs: its ceilings, time by its own clock, and
// each of the ways that Linear chooses from.
#pragma once

#include <functional>
#include <memory>

#include "kernels/ops.h"

namespace trireme {

struct CudaProbeOptions {
  size_t copy_bytes = size_t{2} << 30;  // of each of the two copied between; less where memory is
  int64_t matmul_size = 8192;           // rows and columns of all three matrices
};

class CudaProbe {
 public:
  virtual ~CudaProbe() = default;

  // Of a copy within device memory: bytes read and written per second.
  virtual double CopyBandwidth() = 0;
  // FLOP per second of cuBLASLt, bf16 matrices of random values.
  virtual double MatmulRate() = 0;

  // Seconds, by the device's clock, of what `work` enqueues. The device is kept busy until all of
  // it is enqueued, for some milliseconds: it does not wait for the host.
  virtual double Seconds(const std::function<void()>& work) = 0;

  // Random values in (-1, 1).   t: of 16 bits, bf16, or f32
  virtual void FillRandom(Tensor t) = 0;

  // As Ops::Linear, always by our GEMV; always by cuBLASLt, false where that cannot.
  virtual void Gemv(Tensor y, Tensor x, const Weight& w) = 0;
  virtual bool Gemm(Tensor y, Tensor x, const Weight& w) = 0;
};

// Of Ops that MakeCudaOps() made, on their stream.
std::unique_ptr<CudaProbe> MakeCudaProbe(Ops& ops, const CudaProbeOptions& options);

}  // namespace trireme
