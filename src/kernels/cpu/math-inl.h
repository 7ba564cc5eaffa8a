// exp, log and Philox over sixteen lanes: polynomials with explicit multiply-adds, the same bits on
// every instruction set. Coefficients are minimax fits, rounded to float32.

#if defined(TRIREME_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TRIREME_KERNELS_CPU_MATH_INL_H_
#undef TRIREME_KERNELS_CPU_MATH_INL_H_
#else
#define TRIREME_KERNELS_CPU_MATH_INL_H_
#endif

#include <array>

#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::cpu::HWY_NAMESPACE {

// ln 2 in two pieces: n * kLn2High is exact for |n| < 2^15.
inline constexpr float kLn2High = 0x1.63p-1f;
inline constexpr float kLn2Low = -0x1.bd0106p-13f;

// e^x within 1.02 ulp. Results below 2^-126 are 0; above the largest float, inf; NaN stays NaN.
HWY_INLINE F32x16 Exp(F32x16 x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2
  const F32x16 clamped = Min(Max(x, Set16(-88.0f)), Set16(89.0f));
  const F32x16 n = Round(Mul(clamped, Set16(0x1.715476p+0f)));
  F32x16 r = NegMulAdd(n, Set16(kLn2High), clamped);
  r = NegMulAdd(n, Set16(kLn2Low), r);
  // e^r = 1 + r + r^2 P(r)
  F32x16 p = Set16(0x1.6db45ep-10f);
  p = MulAdd(p, r, Set16(0x1.123b7ep-7f));
  p = MulAdd(p, r, Set16(0x1.55545ep-5f));
  p = MulAdd(p, r, Set16(0x1.55548ep-3f));
  p = MulAdd(p, r, Set16(0.5f));
  p = Add(MulAdd(Mul(r, r), p, r), Set16(1.0f));
  // times 2^n by adding n to the exponent; n = 128 only with p < 1, or as an overflow to inf
  const U32x16 bits = Add(AsUnsigned(p), ShiftLeft16<23>(AsUnsigned(ToInt(n))));
  F32x16 y = AsFloat(bits);
  y = IfThenElse(Gt(x, Set16(0x1.62e42ep+6f)), Set16(HUGE_VALF), y);
  y = IfThenElse(Lt(x, Set16(-0x1.5d589ep+6f)), Zero16(), y);
  return IfThenElse(IsNaN(x), x, y);
}

// log(1 + f) = f - f^2/2 + f^3 P(f) for 1 + f in [sqrt(1/2), sqrt(2)]; plus e ln 2.
HWY_INLINE F32x16 LogParts(F32x16 f, F32x16 e) {
  F32x16 p = Set16(0x1.1b40e4p-4f);
  p = MulAdd(p, f, Set16(-0x1.e2e918p-4f));
  p = MulAdd(p, f, Set16(0x1.e6512ep-4f));
  p = MulAdd(p, f, Set16(-0x1.fb434ep-4f));
  p = MulAdd(p, f, Set16(0x1.2332b8p-3f));
  p = MulAdd(p, f, Set16(-0x1.5562e2p-3f));
  p = MulAdd(p, f, Set16(0x1.99a546p-3f));
  p = MulAdd(p, f, Set16(-0x1.ffffeep-3f));
  p = MulAdd(p, f, Set16(0x1.555546p-2f));
  const F32x16 f2 = Mul(f, f);
  F32x16 y = Mul(Mul(f2, f), p);
  y = MulAdd(e, Set16(kLn2Low), y);
  y = NegMulAdd(f2, Set16(0.5f), y);
  return MulAdd(e, Set16(kLn2High), Add(f, y));
}

// v = m * 2^e with m in [sqrt(1/2), sqrt(2)); v positive and normal.
HWY_INLINE void SplitExponent(F32x16 v, F32x16* m, F32x16* e) {
  constexpr uint32_t kSqrtHalf = 0x3f3504f3u;
  const U32x16 offset = Sub(AsUnsigned(v), Set16(kSqrtHalf));
  const U32x16 exponent = And(offset, Set16(0xff800000u));  // e << 23
  *m = AsFloat(Sub(AsUnsigned(v), exponent));
  *e = Mul(ToFloat(AsSigned(exponent)), Set16(0x1p-23f));
}

// log v within 1 ulp, for positive normal v.
HWY_INLINE F32x16 Log(F32x16 v) {
  F32x16 m, e;
  SplitExponent(v, &m, &e);
  return LogParts(Sub(m, Set16(1.0f)), e);
}

// (r + 0.5) * 2^-32, rounded once.
HWY_INLINE F32x16 Uniform(U32x16 r) {
  const F32x16 high = ToFloat(AsSigned(ShiftRight16<16>(r)));
  const F32x16 low = ToFloat(AsSigned(And(r, Set16(0xffffu))));
  const F32x16 sum = MulAdd(high, Set16(65536.0f), Add(low, Set16(0.5f)));
  return Mul(sum, Set16(0x1p-32f));
}

// -log(-log1p(-u)) for u = (r + 0.5) * 2^-32: both u and 1-u are known to full precision from r.
HWY_INLINE F32x16 Gumbel(U32x16 r) {
  const F32x16 u = Uniform(r);
  const F32x16 v = Uniform(Xor(r, Set16(0xffffffffu)));  // 1 - u
  F32x16 m, e;
  SplitExponent(v, &m, &e);
  const F32x16 f = IfThenElse(Eq(e, Zero16()), Neg(u), Sub(m, Set16(1.0f)));
  return Neg(Log(Neg(LogParts(f, e))));
}

// High and low words of the 64-bit product.
HWY_INLINE void MulWide(U32x16 a, uint32_t b, U32x16* high, U32x16* low) {
  const auto vb = hn::Set(DU(), b);
  const auto one = [&](auto v, auto* h, auto* l) HWY_ATTR {
    const auto even = hn::MulEven(v, vb);
    const auto odd = hn::MulEven(hn::BitCast(DU(), hn::ShiftRight<32>(hn::BitCast(DU64(), v))), vb);
    *h = hn::OddEven(hn::BitCast(DU(), odd), hn::BitCast(DU(), hn::ShiftRight<32>(even)));
    *l = hn::OddEven(hn::BitCast(DU(), hn::ShiftLeft<32>(odd)), hn::BitCast(DU(), even));
  };
  one(a.lo, &high->lo, &low->lo);
#if HWY_TARGET != HWY_AVX3
  one(a.hi, &high->hi, &low->hi);
#endif
}

// Philox (philox.h) of sixteen counters {first + lane, c1, c2, c3}; out[4 * lane + word].
HWY_INLINE void Philox16(uint64_t seed, uint32_t first, uint32_t c1, uint32_t c2, uint32_t c3,
                         uint32_t* out) {
  U32x16 x0 = AsUnsigned(Iota16(static_cast<int32_t>(first)));
  U32x16 x1 = Set16(c1), x2 = Set16(c2), x3 = Set16(c3);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    U32x16 h0, l0, h1, l1;
    MulWide(x0, 0xD2511F53u, &h0, &l0);
    MulWide(x2, 0xCD9E8D57u, &h1, &l1);
    x0 = Xor(Xor(h1, x1), Set16(k0));
    x1 = l1;
    x2 = Xor(Xor(h0, x3), Set16(k1));
    x3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  hn::StoreInterleaved4(x0.lo, x1.lo, x2.lo, x3.lo, DU(), out);
#if HWY_TARGET != HWY_AVX3
  hn::StoreInterleaved4(x0.hi, x1.hi, x2.hi, x3.hi, DU(), out + 32);
#endif
}

}  // namespace trireme::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
