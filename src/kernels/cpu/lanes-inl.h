// Sixteen virtual lanes: one AVX-512 vector, or two AVX2 vectors, with the same bits.
//
// All is lane-wise, so both forms agree; what crosses lanes (SumLanes, MaxLanes) does so in one
// order: lane i with i+8, then i+4, i+2, i+1.

#if defined(TRIREME_KERNELS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TRIREME_KERNELS_CPU_LANES_INL_H_
#undef TRIREME_KERNELS_CPU_LANES_INL_H_
#else
#define TRIREME_KERNELS_CPU_LANES_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu {

#ifndef TRIREME_KERNELS_CPU_ELEMENTS_
#define TRIREME_KERNELS_CPU_ELEMENTS_
// Elements that are only stored: arithmetic is float32.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
inline constexpr int64_t kLanes = 16;
#endif

namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// V is one hardware vector; `hi` exists where 16 lanes need two.
#if HWY_TARGET == HWY_AVX3
#define TRIREME_HI(...)
template <class V>
struct Lanes {
  V lo;
};
#else
#define TRIREME_HI(...) , __VA_ARGS__
template <class V>
struct Lanes {
  V lo;
  V hi;
};
#endif

using DF = hn::ScalableTag<float>;
using DI = hn::ScalableTag<int32_t>;
using DU = hn::ScalableTag<uint32_t>;
using DU64 = hn::ScalableTag<uint64_t>;
using DI16 = hn::Rebind<int16_t, DF>;
using DU16 = hn::Rebind<uint16_t, DF>;
using DF16 = hn::Rebind<hwy::float16_t, DF>;
inline constexpr int64_t kHalf = HWY_TARGET == HWY_AVX3 ? 16 : 8;  // lanes of one V

using F32x16 = Lanes<hn::Vec<DF>>;
using I32x16 = Lanes<hn::Vec<DI>>;
using U32x16 = Lanes<hn::Vec<DU>>;
using Mask16 = Lanes<hn::Mask<DF>>;

#define TRIREME_UNARY(name)                             \
  template <class V>                                    \
  HWY_INLINE Lanes<V> name(Lanes<V> a) {                \
    return {hn::name(a.lo) TRIREME_HI(hn::name(a.hi))}; \
  }
#define TRIREME_BINARY(name)                                        \
  template <class V>                                                \
  HWY_INLINE Lanes<V> name(Lanes<V> a, Lanes<V> b) {                \
    return {hn::name(a.lo, b.lo) TRIREME_HI(hn::name(a.hi, b.hi))}; \
  }
#define TRIREME_COMPARE(name)                                       \
  HWY_INLINE Mask16 name(F32x16 a, F32x16 b) {                      \
    return {hn::name(a.lo, b.lo) TRIREME_HI(hn::name(a.hi, b.hi))}; \
  }
TRIREME_UNARY(Neg)
TRIREME_UNARY(Round)
TRIREME_BINARY(Add)
TRIREME_BINARY(Sub)
TRIREME_BINARY(Mul)
TRIREME_BINARY(Div)
TRIREME_BINARY(Max)
TRIREME_BINARY(Min)
TRIREME_BINARY(And)
TRIREME_BINARY(AndNot)
TRIREME_BINARY(Or)
TRIREME_BINARY(Xor)
TRIREME_COMPARE(Lt)
TRIREME_COMPARE(Gt)
TRIREME_COMPARE(Ge)
TRIREME_COMPARE(Eq)
#undef TRIREME_UNARY
#undef TRIREME_BINARY
#undef TRIREME_COMPARE

// a * b + c, a * b - c and c - a * b, each rounded once.
HWY_INLINE F32x16 MulAdd(F32x16 a, F32x16 b, F32x16 c) {
  return {hn::MulAdd(a.lo, b.lo, c.lo) TRIREME_HI(hn::MulAdd(a.hi, b.hi, c.hi))};
}
HWY_INLINE F32x16 MulSub(F32x16 a, F32x16 b, F32x16 c) {
  return {hn::MulSub(a.lo, b.lo, c.lo) TRIREME_HI(hn::MulSub(a.hi, b.hi, c.hi))};
}
HWY_INLINE F32x16 NegMulAdd(F32x16 a, F32x16 b, F32x16 c) {
  return {hn::NegMulAdd(a.lo, b.lo, c.lo) TRIREME_HI(hn::NegMulAdd(a.hi, b.hi, c.hi))};
}

HWY_INLINE F32x16 Set16(float value) {
  const auto v = hn::Set(DF(), value);
  return {v TRIREME_HI(v)};
}
HWY_INLINE I32x16 Set16(int32_t value) {
  const auto v = hn::Set(DI(), value);
  return {v TRIREME_HI(v)};
}
HWY_INLINE U32x16 Set16(uint32_t value) {
  const auto v = hn::Set(DU(), value);
  return {v TRIREME_HI(v)};
}
HWY_INLINE F32x16 Zero16() { return Set16(0.0f); }
HWY_INLINE I32x16 Iota16(int32_t first) {
  return {hn::Iota(DI(), first) TRIREME_HI(hn::Iota(DI(), first + 8))};
}

template <int kBits>
HWY_INLINE U32x16 ShiftLeft16(U32x16 a) {
  return {hn::ShiftLeft<kBits>(a.lo) TRIREME_HI(hn::ShiftLeft<kBits>(a.hi))};
}
template <int kBits>
HWY_INLINE U32x16 ShiftRight16(U32x16 a) {
  return {hn::ShiftRight<kBits>(a.lo) TRIREME_HI(hn::ShiftRight<kBits>(a.hi))};
}

HWY_INLINE F32x16 AsFloat(U32x16 a) {
  return {hn::BitCast(DF(), a.lo) TRIREME_HI(hn::BitCast(DF(), a.hi))};
}
HWY_INLINE F32x16 AsFloat(I32x16 a) {
  return {hn::BitCast(DF(), a.lo) TRIREME_HI(hn::BitCast(DF(), a.hi))};
}
HWY_INLINE U32x16 AsUnsigned(F32x16 a) {
  return {hn::BitCast(DU(), a.lo) TRIREME_HI(hn::BitCast(DU(), a.hi))};
}
HWY_INLINE U32x16 AsUnsigned(I32x16 a) {
  return {hn::BitCast(DU(), a.lo) TRIREME_HI(hn::BitCast(DU(), a.hi))};
}
HWY_INLINE I32x16 AsSigned(U32x16 a) {
  return {hn::BitCast(DI(), a.lo) TRIREME_HI(hn::BitCast(DI(), a.hi))};
}
// The value of each lane; the floats have to be integers that fit.
HWY_INLINE F32x16 ToFloat(I32x16 a) {
  return {hn::ConvertTo(DF(), a.lo) TRIREME_HI(hn::ConvertTo(DF(), a.hi))};
}
HWY_INLINE I32x16 ToInt(F32x16 a) {
  return {hn::ConvertTo(DI(), a.lo) TRIREME_HI(hn::ConvertTo(DI(), a.hi))};
}

HWY_INLINE F32x16 IfThenElse(Mask16 m, F32x16 yes, F32x16 no) {
  return {hn::IfThenElse(m.lo, yes.lo, no.lo) TRIREME_HI(hn::IfThenElse(m.hi, yes.hi, no.hi))};
}
HWY_INLINE I32x16 IfThenElse(Mask16 m, I32x16 yes, I32x16 no) {
  return {hn::IfThenElse(hn::RebindMask(DI(), m.lo), yes.lo, no.lo)
              TRIREME_HI(hn::IfThenElse(hn::RebindMask(DI(), m.hi), yes.hi, no.hi))};
}
HWY_INLINE F32x16 IfThenElseZero(Mask16 m, F32x16 yes) {
  return {hn::IfThenElseZero(m.lo, yes.lo) TRIREME_HI(hn::IfThenElseZero(m.hi, yes.hi))};
}
HWY_INLINE bool AnyTrue(Mask16 m) {
#if HWY_TARGET == HWY_AVX3
  return !hn::AllFalse(DF(), m.lo);
#else
  return !hn::AllFalse(DF(), hn::Or(m.lo, m.hi));
#endif
}
HWY_INLINE Mask16 IsNaN(F32x16 a) { return {hn::IsNaN(a.lo) TRIREME_HI(hn::IsNaN(a.hi))}; }
// Lanes 0 .. n-1.
HWY_INLINE Mask16 FirstN16(int64_t n) {
  return {hn::FirstN(DF(), static_cast<size_t>(n))
              TRIREME_HI(hn::FirstN(DF(), static_cast<size_t>(n > 8 ? n - 8 : 0)))};
}

// ---- memory: unaligned; float32 in registers whatever the element ----

HWY_INLINE F32x16 Load16(const float* p) {
  return {hn::LoadU(DF(), p) TRIREME_HI(hn::LoadU(DF(), p + 8))};
}
HWY_INLINE F32x16 Load16(const Bf16* p) {
  const auto* u = reinterpret_cast<const uint16_t*>(p);
  const U32x16 wide = {hn::PromoteTo(DU(), hn::LoadU(DU16(), u))
                           TRIREME_HI(hn::PromoteTo(DU(), hn::LoadU(DU16(), u + 8)))};
  return AsFloat(ShiftLeft16<16>(wide));
}
HWY_INLINE F32x16 Load16(const F16* p) {
  const auto* h = reinterpret_cast<const hwy::float16_t*>(p);
  return {hn::PromoteTo(DF(), hn::LoadU(DF16(), h))
              TRIREME_HI(hn::PromoteTo(DF(), hn::LoadU(DF16(), h + 8)))};
}
HWY_INLINE U32x16 LoadUnsigned(const void* p) {
  const auto* u = static_cast<const uint32_t*>(p);
  return {hn::LoadU(DU(), u) TRIREME_HI(hn::LoadU(DU(), u + 8))};
}

HWY_INLINE void Store16(F32x16 a, float* p) {
  hn::StoreU(a.lo, DF(), p);
#if HWY_TARGET != HWY_AVX3
  hn::StoreU(a.hi, DF(), p + 8);
#endif
}
HWY_INLINE void Store16(U32x16 a, uint32_t* p) {
  hn::StoreU(a.lo, DU(), p);
#if HWY_TARGET != HWY_AVX3
  hn::StoreU(a.hi, DU(), p + 8);
#endif
}
HWY_INLINE void Store16(I32x16 a, int32_t* p) {
  hn::StoreU(a.lo, DI(), p);
#if HWY_TARGET != HWY_AVX3
  hn::StoreU(a.hi, DI(), p + 8);
#endif
}
// The bits that Bf16FromFloat gives, in the lower half of each lane.
HWY_INLINE U32x16 RoundToBf16(F32x16 a) {
  const U32x16 bits = AsUnsigned(a);
  const U32x16 odd = And(ShiftRight16<16>(bits), Set16(1u));
  const U32x16 rounded = ShiftRight16<16>(Add(Add(bits, Set16(0x7fffu)), odd));
  const U32x16 nan = Or(ShiftRight16<16>(bits), Set16(0x40u));
  return AsUnsigned(IfThenElse(IsNaN(a), AsFloat(nan), AsFloat(rounded)));
}
HWY_INLINE void Store16(F32x16 a, F16* p) {
  auto* h = reinterpret_cast<hwy::float16_t*>(p);
  hn::StoreU(hn::DemoteTo(DF16(), a.lo), DF16(), h);
#if HWY_TARGET != HWY_AVX3
  hn::StoreU(hn::DemoteTo(DF16(), a.hi), DF16(), h + 8);
#endif
}
HWY_INLINE void Store16(F32x16 a, Bf16* p) {
  const I32x16 bits = AsSigned(RoundToBf16(a));
  auto* u = reinterpret_cast<uint16_t*>(p);
  hn::StoreU(hn::DemoteTo(DU16(), bits.lo), DU16(), u);
#if HWY_TARGET != HWY_AVX3
  hn::StoreU(hn::DemoteTo(DU16(), bits.hi), DU16(), u + 8);
#endif
}

// The first n < 16 lanes; the others read as 0 and are not written.
template <class T>
HWY_INLINE F32x16 LoadFirst(const T* p, int64_t n) {
  T padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(n) * sizeof(T));
  return Load16(padded);
}
template <class T>
HWY_INLINE void StoreFirst(F32x16 a, T* p, int64_t n) {
  T padded[kLanes];
  Store16(a, padded);
  std::memcpy(p, padded, static_cast<size_t>(n) * sizeof(T));
}

HWY_INLINE float ToFloat32(float v) { return v; }
HWY_INLINE float ToFloat32(Bf16 v) { return FloatFromBf16(v.bits); }
HWY_INLINE float ToFloat32(F16 v) { return FloatFromF16(v.bits); }
HWY_INLINE void FromFloat32(float v, float* to) { *to = v; }
HWY_INLINE void FromFloat32(float v, Bf16* to) { to->bits = Bf16FromFloat(v); }
HWY_INLINE void FromFloat32(float v, F16* to) { to->bits = F16FromFloat(v); }

// f(T()) for the T that `type` names.
template <class F>
HWY_INLINE void ForElement(DType type, const F& f) {
  switch (type) {
    case DType::kBF16:
      return f(Bf16());
    case DType::kF16:
      return f(F16());
    default:
      return f(0.0f);
  }
}

// ---- across lanes ----

#define TRIREME_REDUCE(name, op)                                            \
  HWY_INLINE float name(F32x16 a) {                                         \
    const hn::Full128<float> d4;                                            \
    const hn::Full256<float> d8;                                            \
    (void)d8;                                                               \
    const auto eight = TRIREME_FOLD(op, a);                                 \
    auto four = hn::op(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight)); \
    four = hn::op(four, hn::Shuffle1032(four));                             \
    return hn::GetLane(hn::op(four, hn::Shuffle2301(four)));                \
  }
#if HWY_TARGET == HWY_AVX3
#define TRIREME_FOLD(op, a) hn::op(hn::LowerHalf(d8, a.lo), hn::UpperHalf(d8, a.lo))
#else
#define TRIREME_FOLD(op, a) hn::op(a.lo, a.hi)
#endif
TRIREME_REDUCE(SumLanes, Add)
TRIREME_REDUCE(MaxLanes, Max)
#undef TRIREME_REDUCE
#undef TRIREME_FOLD

}  // namespace HWY_NAMESPACE
}  // namespace trireme::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard
