// Norms, sums, dropout and activations: row by row, each element in float32.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/kernels.h"

#if TRIREME_SIMD
#include <cmath>
#include <type_traits>

#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/philox.h"
#include "kernels/sum_tree.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {
namespace {

// Calls f(i, n) for the vectors of a row of h elements: n = 16, and fewer at its end.
template <class F>
HWY_INLINE void ForVectors(int64_t h, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= h; i += kLanes) f(i, kLanes);
  if (i < h) f(i, h - i);
}
template <class T>
HWY_INLINE F32x16 LoadN(const T* p, int64_t n) {
  return n == kLanes ? Load16(p) : LoadFirst(p, n);
}
template <class T>
HWY_INLINE void StoreN(F32x16 v, T* p, int64_t n) {
  n == kLanes ? Store16(v, p) : StoreFirst(v, p, n);
}

template <class T>
void SumPartsAs(T* y, std::span<const float* const> parts, std::span<const uint8_t> merges,
                const float* bias, int64_t begin, int64_t end, int64_t h) {
  for (int64_t t = begin; t < end; ++t) {
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR {
      F32x16 stack[kMaxSumDepth];
      int top = 0;
      for (size_t p = 0; p < parts.size(); ++p) {
        stack[top++] = LoadN(parts[p] + t * h + i, n);
        for (int m = 0; m < merges[p]; ++m, --top)
          stack[top - 2] = Add(stack[top - 2], stack[top - 1]);
      }
      F32x16 v = stack[0];
      if (bias != nullptr) v = Add(v, LoadN(bias + i, n));
      StoreN(v, y + t * h + i, n);
    });
  }
}
void SumParts(void* y, DType type, std::span<const float* const> parts,
              std::span<const uint8_t> merges, const float* bias, int64_t begin, int64_t end,
              int64_t h) {
  ForElement(type, [&]<class T>(T) {
    SumPartsAs(static_cast<T*>(y), parts, merges, bias, begin, end, h);
  });
}

// Squares are summed in 16 lanes (column i in lane i mod 16), then across them.
template <class T>
void RmsNormAs(T* y, const T* x, const float* w, float eps, int64_t rows, int64_t h) {
  for (int64_t t = 0; t < rows; ++t, x += h, y += h) {
    F32x16 sum = Zero16();
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR {
      const F32x16 v = LoadN(x + i, n);
      sum = MulAdd(v, v, sum);
    });
    const float mean = SumLanes(sum) / static_cast<float>(h);
    const F32x16 r = Set16(1.0f / std::sqrt(mean + eps));
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR {
      StoreN(Mul(Mul(LoadN(x + i, n), r), LoadN(w + i, n)), y + i, n);
    });
  }
}
void RmsNorm(void* y, const void* x, DType type, const float* w, float eps, int64_t rows,
             int64_t h) {
  ForElement(type, [&]<class T>(T) {
    RmsNormAs(static_cast<T*>(y), static_cast<const T*>(x), w, eps, rows, h);
  });
}

// Sums as above; the second is of what the first leaves of each element.
template <class T>
void LayerNormAs(T* y, const T* x, const float* w, const float* b, float eps, int64_t rows,
                 int64_t h) {
  for (int64_t t = 0; t < rows; ++t, x += h, y += h) {
    F32x16 sum = Zero16();
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR { sum = Add(sum, LoadN(x + i, n)); });
    const F32x16 mean = Set16(SumLanes(sum) / static_cast<float>(h));
    F32x16 squares = Zero16();
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR {
      const F32x16 v = IfThenElseZero(FirstN16(n), Sub(LoadN(x + i, n), mean));
      squares = MulAdd(v, v, squares);
    });
    const float variance = SumLanes(squares) / static_cast<float>(h);
    const F32x16 r = Set16(1.0f / std::sqrt(variance + eps));
    ForVectors(h, [&](int64_t i, int64_t n) HWY_ATTR {
      const F32x16 v = Mul(Sub(LoadN(x + i, n), mean), r);
      const F32x16 scale = LoadN(w + i, n);
      StoreN(b == nullptr ? Mul(v, scale) : MulAdd(v, scale, LoadN(b + i, n)), y + i, n);
    });
  }
}
void LayerNorm(void* y, const void* x, DType type, const float* w, const float* b, float eps,
               int64_t rows, int64_t h) {
  ForElement(type, [&]<class T>(T) {
    LayerNormAs(static_cast<T*>(y), static_cast<const T*>(x), w, b, eps, rows, h);
  });
}

template <class T>
void AddAs(T* r, const T* x, int64_t size) {
  ForVectors(size, [&](int64_t i, int64_t n)
                       HWY_ATTR { StoreN(Add(LoadN(r + i, n), LoadN(x + i, n)), r + i, n); });
}
void AddInto(void* r, const void* x, DType type, int64_t n) {
  ForElement(type, [&]<class T>(T) { AddAs(static_cast<T*>(r), static_cast<const T*>(x), n); });
}

template <class T>
void DropoutAs(T* x, const DropoutRow& row, int32_t site, int64_t h) {
  // kept iff the 32-bit draw is >= p * 2^32, exactly
  const double limit = std::ceil(static_cast<double>(row.p) * 0x1p32);
  const bool keeps_any = limit < 0x1p32;
  const uint32_t threshold = keeps_any ? static_cast<uint32_t>(limit) : 0;
  const F32x16 kept = Set16(1.0f - row.p);
  alignas(64) uint32_t draws[4 * kLanes];
  alignas(64) float keep[4 * kLanes];
  for (int64_t c = 0; c < h; c += 4 * kLanes) {
    Philox16(row.seed, static_cast<uint32_t>(c / 4), static_cast<uint32_t>(row.position),
             static_cast<uint32_t>(site), kDropoutPurpose, draws);
    for (int64_t j = 0; j < 4 * kLanes; ++j) {
      keep[j] = keeps_any && draws[j] >= threshold ? 1.0f : 0.0f;
    }
    ForVectors(h - c < 4 * kLanes ? h - c : 4 * kLanes, [&](int64_t i, int64_t n) HWY_ATTR {
      const F32x16 v = Div(LoadN(x + c + i, n), kept);
      StoreN(IfThenElseZero(Gt(Load16(keep + i), Zero16()), v), x + c + i, n);
    });
  }
}
void Dropout(void* x, DType type, const DropoutRow& row, int32_t site, int64_t h) {
  ForElement(type, [&]<class T>(T) { DropoutAs(static_cast<T*>(x), row, site, h); });
}

// Formulas: Activation in kernels/ops.h.
template <Activation kAct>
HWY_INLINE F32x16 ActOf(F32x16 a) {
  if constexpr (kAct == Activation::kSilu) {
    return Div(a, Add(Set16(1.0f), Exp(Neg(a))));
  } else if constexpr (kAct == Activation::kGeluTanh) {
    constexpr float kTwice = 1.5957691216f;  // 2 sqrt(2 / pi)
    const F32x16 cubic = MulAdd(Mul(a, a), Set16(0.044715f * kTwice), Set16(kTwice));
    return Div(a, Add(Set16(1.0f), Exp(Neg(Mul(a, cubic)))));
  } else {
    alignas(64) float x[kLanes];
    Store16(a, x);
    for (float& v : x) v = 0.5f * v * std::erfc(v * -0.70710678f);
    return Load16(x);
  }
}
// f(integral_constant) of the activation.
template <class F>
void ForAct(Activation act, const F& f) {
  switch (act) {
    case Activation::kSilu:
      return f(std::integral_constant<Activation, Activation::kSilu>());
    case Activation::kGelu:
      return f(std::integral_constant<Activation, Activation::kGelu>());
    case Activation::kGeluTanh:
      return f(std::integral_constant<Activation, Activation::kGeluTanh>());
  }
}

template <class T, Activation kAct>
void GatedActAs(T* y, const T* x, int64_t rows, int64_t f) {
  for (int64_t t = 0; t < rows; ++t, x += 2 * f, y += f) {
    ForVectors(f, [&](int64_t i, int64_t n) HWY_ATTR {
      StoreN(Mul(ActOf<kAct>(LoadN(x + i, n)), LoadN(x + f + i, n)), y + i, n);
    });
  }
}
void GatedAct(void* y, const void* x, DType type, Activation act, int64_t rows, int64_t f) {
  ForElement(type, [&]<class T>(T) {
    ForAct(act, [&](auto a) {
      GatedActAs<T, a.value>(static_cast<T*>(y), static_cast<const T*>(x), rows, f);
    });
  });
}

template <class T, Activation kAct>
void ActAs(T* y, const T* x, int64_t size) {
  ForVectors(
      size, [&](int64_t i, int64_t n) HWY_ATTR { StoreN(ActOf<kAct>(LoadN(x + i, n)), y + i, n); });
}
void Act(void* y, const void* x, DType type, Activation act, int64_t n) {
  ForElement(type, [&]<class T>(T) {
    ForAct(act,
           [&](auto a) { ActAs<T, a.value>(static_cast<T*>(y), static_cast<const T*>(x), n); });
  });
}

}  // namespace

RowKernels MakeRowKernels() {
  return {.sum_parts = SumParts,
          .rms_norm = RmsNorm,
          .layer_norm = LayerNorm,
          .add = AddInto,
          .dropout = Dropout,
          .gated_act = GatedAct,
          .act = Act};
}

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // TRIREME_SIMD

#if HWY_ONCE
namespace trireme::cpu {

RowKernels RowKernelsFor(bool avx512) {
  return avx512 ? N_AVX3::MakeRowKernels() : N_AVX2::MakeRowKernels();
}

}  // namespace trireme::cpu
#endif
