// What this process really reads, as the kernel counts it (/proc/self/io: rchar, syscr).
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <ostream>

#include "base/check.h"

namespace trireme {

struct Reads {
  int64_t bytes = 0;
  int64_t calls = 0;
  bool operator==(const Reads&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const Reads& reads) {
  return out << reads.calls << " reads of " << reads.bytes << " bytes";
}

// Counts from its construction to Take(), its own read of the counters excluded.
class ReadCounter {
 public:
  ReadCounter() { start_ = Now(&own_bytes_); }

  Reads Take() {
    int64_t unused;
    const Reads now = Now(&unused);
    return {now.bytes - start_.bytes - own_bytes_, now.calls - start_.calls - 1};
  }

 private:
  // The counters without the read that fetches them, and that read's length.
  static Reads Now(int64_t* own_bytes) {
    char text[512];
    const int fd = ::open("/proc/self/io", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    *own_bytes = ::read(fd, text, sizeof(text) - 1);
    ::close(fd);
    CHECK(*own_bytes > 0);
    text[*own_bytes] = '\0';
    long bytes = 0, written = 0, calls = 0;
    CHECK(std::sscanf(text, "rchar: %ld wchar: %ld syscr: %ld", &bytes, &written, &calls) == 3);
    return {bytes, calls};
  }

  int64_t own_bytes_ = 0;
  Reads start_;
};

}  // namespace trireme
