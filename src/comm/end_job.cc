#include "comm/end_job.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <new>
#include <string_view>
#include <utility>

#include "base/str.h"
#include "comm/world.h"

namespace trireme {
namespace {

constexpr unsigned kEndSeconds =
    5;  // after that, the job's launcher notices that this process died

struct Identity {
  int rank = 0;
  std::string host = HostName();
  void (*end_others)() = nullptr;
};

Identity& ThisProcess() {
  static Identity* identity = new Identity;  // never destroyed: other threads may end the job late
  return *identity;
}

struct {
  std::atomic<int64_t> plan_id = -1, n_sequences = 0, n_tokens = 0;
  std::atomic<bool> done = false;
} work_in_hand;

// A line on the stack: a signal's handler may not allocate.
class Line {
 public:
  Line& operator<<(std::string_view text) {
    const size_t n = std::min(text.size(), sizeof(bytes_) - size_);
    std::memcpy(bytes_ + size_, text.data(), n);
    size_ += n;
    return *this;
  }
  Line& operator<<(int64_t number) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof(digits), number);
    return *this << std::string_view(digits, end.ptr - digits);
  }
  // One write, so that lines of several ranks do not mix.
  void Print() {
    if (size_ == sizeof(bytes_)) --size_;
    bytes_[size_++] = '\n';
    if (write(STDERR_FILENO, bytes_, size_) < 0) return;
  }

 private:
  char bytes_[2048];
  size_t size_ = 0;
};

void PrintLine(int rank, const std::string& host, std::string_view what) {
  Line line;
  line << "rank " << int64_t{rank} << " on " << host << ": " << what;
  if (const int64_t plan = work_in_hand.plan_id; plan >= 0) {
    line << (work_in_hand.done ? " (after plan " : " (plan ") << plan << ": sequences "
         << work_in_hand.n_sequences << ", tokens " << work_in_hand.n_tokens << ")";
  }
  line.Print();
}

constexpr std::pair<int, std::string_view> kCrashes[] = {{SIGSEGV, "SIGSEGV"},
                                                         {SIGBUS, "SIGBUS"},
                                                         {SIGFPE, "SIGFPE"},
                                                         {SIGILL, "SIGILL"},
                                                         {SIGABRT, "SIGABRT"}};
struct sigaction before_us[std::size(kCrashes)];

void TellOfCrash(int signal) {
  for (size_t i = 0; i < std::size(kCrashes); ++i) {
    if (kCrashes[i].first != signal) continue;
    PrintLine(ThisProcess().rank, ThisProcess().host, kCrashes[i].second);
    sigaction(signal, &before_us[i], nullptr);
    raise(signal);  // taken when this handler is left
  }
}

[[noreturn]] void EndProcesses(void (*end_others)()) {
  signal(SIGALRM, SIG_DFL);  // ends this process if end_others() hangs
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(kEndSeconds);
  end_others();
  _exit(1);
}

[[noreturn]] void End(std::string_view what) {
  const Identity& self = ThisProcess();
  PrintLine(self.rank, self.host, what);
  if (self.end_others != nullptr) EndProcesses(self.end_others);
  _exit(1);
}

// Without a byte from the heap.
[[noreturn]] void EndByException() {
  try {
    if (std::current_exception() != nullptr) throw;
  } catch (const std::bad_alloc&) {
    End("out of memory: use more ranks, or a smaller --kv-cache-bytes or --max-batch-tokens");
  } catch (const std::exception& exception) {
    End(exception.what());
  } catch (...) {
  }
  std::abort();
}

}  // namespace

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return "unknown-host";
  return name;
}

void SetJobIdentity(int rank, const std::string& host, void (*end_others)()) {
  ThisProcess() = {rank, host, end_others};
}

void NoteWork(const WorkInHand& work) {
  work_in_hand.plan_id = work.plan_id;
  work_in_hand.n_sequences = work.n_sequences;
  work_in_hand.n_tokens = work.n_tokens;
  work_in_hand.done = false;
}

void NoteWorkDone() { work_in_hand.done = true; }

void TellOfCrashes() {
  ThisProcess();
  struct sigaction tell = {};
  tell.sa_handler = TellOfCrash;
  for (size_t i = 0; i < std::size(kCrashes); ++i) {
    sigaction(kCrashes[i].first, &tell, &before_us[i]);
  }
  std::set_terminate(EndByException);
}

void EndJobAs(int rank, const std::string& host, const std::string& what) {
  PrintLine(rank, host, what);
  if (ThisProcess().end_others != nullptr) EndProcesses(ThisProcess().end_others);
  std::abort();
}

void EndJob(const std::string& what) { End(what); }

}  // namespace trireme
