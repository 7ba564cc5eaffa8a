#include "server/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace trireme {
namespace {

// The fields of /proc/self/stat from the fourth on (proc(5)); the program's name may hold spaces.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  constexpr size_t kToFourth = 4;  // ") S "
  std::istringstream fields(line.substr(std::min(line.rfind(')') + kToFourth, line.size())));
  return {std::istream_iterator<double>(fields), {}};
}

// Seconds since 1970 at which the host was started.
double BootTime() {
  std::ifstream file("/proc/stat");
  double seconds = 0;
  for (std::string word; file >> word;) {
    if (word == "btime") file >> seconds;
  }
  return seconds;
}

}  // namespace

void AddProcess(Families& families) {
  constexpr size_t kUserTime = 14, kSystemTime = 15, kStartTime = 22, kVirtual = 23, kResident = 24;
  constexpr size_t kFirst = 4;  // the third is a letter
  static const double boot_time = BootTime();
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (const std::vector<double> fields = StatFields(); fields.size() > kResident - kFirst) {
    const auto field = [&](size_t number) { return fields[number - kFirst]; };
    families.Counter("process_cpu_seconds", "Processor time of this process.", {},
                     (field(kUserTime) + field(kSystemTime)) / ticks);
    families.Gauge("process_start_time_seconds", "When this process began, since 1970.", {},
                   boot_time + field(kStartTime) / ticks);
    families.Gauge("process_virtual_memory_bytes", "Address space of this process.", {},
                   field(kVirtual));
    families.Gauge("process_resident_memory_bytes", "Memory of this process.", {},
                   field(kResident) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  std::error_code error;
  const std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (!error) {
    families.Gauge("process_open_fds", "Open file descriptors of this process.", {},
                   static_cast<double>(std::distance(begin(fds), end(fds))));
  }
  if (rlimit limit; getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.Gauge("process_max_fds", "File descriptors that this process may have.", {},
                   static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace trireme
