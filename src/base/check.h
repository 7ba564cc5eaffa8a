// CHECK: for our own bugs. Prints one line that names file, line and condition, and aborts.
#pragma once

#include <sstream>
#include <utility>

namespace trireme {

class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return message_; }

 private:
  std::ostringstream message_;
};

namespace internal {
template <typename A, typename B>
std::pair<A, B> Pair(const A& a, const B& b) {
  return {a, b};
}
}  // namespace internal

}  // namespace trireme

#define CHECK(condition)                    \
  if (__builtin_expect(!!(condition), 1)) { \
  } else                                    \
    ::trireme::CheckFailure(__FILE__, __LINE__, #condition).stream()

// A loop that runs at most once, so that both operands can be named and printed.
#define TRIREME_CHECK_OP(a, op, b)                                        \
  for (auto check_ = ::trireme::internal::Pair(a, b);                     \
       __builtin_expect(!(check_.first op check_.second), 0);)            \
  ::trireme::CheckFailure(__FILE__, __LINE__, #a " " #op " " #b).stream() \
      << check_.first << " vs " << check_.second << " "

#define CHECK_EQ(a, b) TRIREME_CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) TRIREME_CHECK_OP(a, !=, b)
#define CHECK_LT(a, b) TRIREME_CHECK_OP(a, <, b)
#define CHECK_LE(a, b) TRIREME_CHECK_OP(a, <=, b)
#define CHECK_GT(a, b) TRIREME_CHECK_OP(a, >, b)
#define CHECK_GE(a, b) TRIREME_CHECK_OP(a, >=, b)
