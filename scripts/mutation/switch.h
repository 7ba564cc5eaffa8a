// Put before each kernel's source by scripts/mutate-kernels: mutants that are in the program and
// chosen at run time. Where the compiler itself evaluates an expression, it stays as it was.
#pragma once

#include <cstdint>
#include <type_traits>

namespace mutation {

extern const int chosen;         // TRIREME_MUTANT; 0: none
extern unsigned char reached[];  // [id]: its place has been run

inline bool IsChosen(int id) {
  reached[id] = 1;
  return id == chosen;
}
constexpr bool Is(int id) { return !std::is_constant_evaluated() && IsChosen(id); }

template <typename T>
constexpr T OrZero(int id, T x) {
  return Is(id) ? T(0) : x;
}
template <typename T>
constexpr T OrHalf(int id, T x) {
  return Is(id) ? T(x / 2) : x;
}
template <typename T>
constexpr T OrNeighbour(int id, T x) {
  return Is(id) ? T(x ^ 1) : x;
}
inline int64_t DivideUp(int id, int64_t n, int64_t by) {
  return Is(id) ? n / by : (n + by - 1) / by;
}

// `a < Bound(id) < b`: a < b, or a <= b; the same for the other three.
struct Bound {
  int id;
  constexpr explicit Bound(int of) : id(of) {}
};
template <typename A>
struct BoundOf {
  int id;
  A a;
};
// `a / Swap(id) / b`: a / b, or a % b; and a % Swap(id) % b.
struct Swap {
  int id;
  constexpr explicit Swap(int of) : id(of) {}
};
template <typename A>
struct SwapOf {
  int id;
  A a;
};

#define MUTATION_OPERATOR(Kind, op, other)             \
  template <typename A>                                \
  constexpr Kind##Of<A> operator op(A a, Kind kind) {  \
    return {kind.id, a};                               \
  }                                                    \
  template <typename A, typename B>                    \
  constexpr auto operator op(Kind##Of<A> left, B b) {  \
    return Is(left.id) ? left.a other b : left.a op b; \
  }
MUTATION_OPERATOR(Bound, <, <=)
MUTATION_OPERATOR(Bound, <=, <)
MUTATION_OPERATOR(Bound, >, >=)
MUTATION_OPERATOR(Bound, >=, >)
MUTATION_OPERATOR(Swap, /, %)
MUTATION_OPERATOR(Swap, %, /)
#undef MUTATION_OPERATOR

}  // namespace mutation
