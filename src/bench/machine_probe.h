// What this machine gives at best: the bounds that kernels are held against.
#pragma once

#include <cstddef>
#include <span>

namespace trireme {

// Reads all of `data` with `n_threads` threads on contiguous shares, in 1, 2 and 4 streams a
// thread: bytes per second of the fastest way. The data should exceed the caches and lie in huge
// pages, as weights do.
double ReadBandwidth(std::span<const std::byte> data, int n_threads);

// Independent float32 multiply-adds in registers on `n_threads` threads. FLOP per second (a
// multiply-add is two).
double FmaPeak(int n_threads, bool avx512);

}  // namespace trireme
