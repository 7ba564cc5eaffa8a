#include "server/trace_context.h"

#include <cstdint>
#include <random>

#include "base/str.h"

namespace trireme {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16, kHeaderSize = 55;

bool IsHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsId(std::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

std::string RandomDigits(size_t n) {
  thread_local std::mt19937_64 bits{[] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }()};
  std::string digits;
  do {
    digits.clear();
    while (digits.size() < n) digits += "0123456789abcdef"[bits() >> 60];
  } while (!IsId(digits));
  return digits;
}

}  // namespace

std::string TraceContext::Header() const {
  return StrCat("00-", trace_id, "-", span_id, sampled ? "-01" : "-00");
}

// version "-" trace-id "-" parent-id "-" flags; a later version may say more behind another "-".
TraceContext ContinueTrace(std::string_view header) {
  TraceContext trace{.span_id = NewSpanId()};
  const std::string_view version = header.substr(0, 2);
  const bool fits = header.size() == kHeaderSize ||
                    (header.size() > kHeaderSize && version != "00" && header[kHeaderSize] == '-');
  if (fits && IsHex(version) && version != "ff" && header[2] == '-' && header[35] == '-' &&
      header[52] == '-') {
    const std::string_view trace_id = header.substr(3, kTraceDigits);
    const std::string_view parent_id = header.substr(36, kSpanDigits);
    const std::string_view flags = header.substr(53, 2);
    if (IsId(trace_id) && IsId(parent_id) && IsHex(flags)) {
      trace.trace_id = trace_id;
      trace.parent_id = parent_id;
      trace.sampled = std::string_view("13579bdf").find(flags[1]) != std::string_view::npos;
      return trace;
    }
  }
  trace.trace_id = RandomDigits(kTraceDigits);
  return trace;
}

std::string NewSpanId() { return RandomDigits(kSpanDigits); }

}  // namespace trireme
