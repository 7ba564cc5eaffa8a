// Which trace a request belongs to (W3C Trace Context, www.w3.org/TR/trace-context).
#pragma once

#include <string>
#include <string_view>

namespace trireme {

inline constexpr char kTraceHeader[] = "traceparent";

struct TraceContext {
  std::string trace_id;   // 32 hexadecimal digits, as all ids in lower case
  std::string span_id;    // 16, of what this server does
  std::string parent_id;  // 16, of what the caller does; empty: it did not say
  bool sampled = true;    // somebody records it
  std::string authority;  // HOST:PORT that the caller asked, as it says; empty: it did not

  // The header that tells others of it.
  std::string Header() const;
};

// A span within the trace that the caller's header names; within a new one where it names none.
TraceContext ContinueTrace(std::string_view header);

std::string NewSpanId();

}  // namespace trireme
