// Included first by every file that holds SIMD code: which instruction sets are compiled.
#pragma once

// AVX2 (with FMA and F16C) and AVX-512; the oldest one that Highway insists on stays empty.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)

#include "hwy/detect_targets.h"

// True while a file is compiled for a set that has kernels.
#define TRIREME_SIMD (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)

#if defined(__clang__)
#define TRIREME_UNROLL _Pragma("unroll")
#else
#define TRIREME_UNROLL _Pragma("GCC unroll 32")
#endif
