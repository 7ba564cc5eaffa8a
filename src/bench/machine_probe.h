// What this machine gives at best: the bounds that kernels are held against.
#pragma once

#include <cstddef>
#include <span>

namespace trireme {

// Reads all of `data` once, with `n_threads` threads on contiguous shares. Bytes per second.
double ReadBandwidth(std::span<const std::byte> data, int n_threads);

// Independent float32 multiply-adds in registers on `n_threads` threads. FLOP per second (a
// multiply-add is two).
double FmaPeak(int n_threads, bool avx512);

}  // namespace trireme
