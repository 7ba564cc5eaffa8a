#include "comm/mpi_port.h"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <deque>

#include "base/check.h"
#include "comm/end_job.h"
#include "comm/launch.h"
#include "kernels/device.h"

namespace trireme {
namespace {

constexpr std::chrono::minutes kStartTimeout{10};  // ranks may load weights at different speeds

void Check(int error, std::string_view call) {
  if (error == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(error, text, &length);
  EndJob(StrCat(call.substr(0, call.find('(')), ": ", text));
}
#define CHECK_MPI(call) Check(call, #call)

void AbortJob() {
  int is_main = 0;
  MPI_Is_thread_main(&is_main);
  // Another thread must not call MPI; that this process dies is enough for mpirun.
  if (is_main) MPI_Abort(MPI_COMM_WORLD, 1);
}

int Count(size_t bytes) {
  CHECK_LE(bytes, static_cast<size_t>(INT_MAX)) << "in one message";
  return static_cast<int>(bytes);
}

}  // namespace

struct MpiPort::Requests {
  struct Sent {
    uint64_t number;
    int to;
    std::vector<std::byte> copy;
  };

  MPI_Comm world = MPI_COMM_NULL;
  MPI_Comm host = MPI_COMM_NULL;
  std::vector<MPI_Win> windows;

  uint64_t n_sends = 0;
  std::vector<MPI_Request> sends;  // under way, ascending by number
  std::vector<Sent> sent;          // the same
  std::vector<int> done;           // for MPI_Testsome
  std::vector<MPI_Request> receives;
  std::vector<int> senders;
};

MpiPort::MpiPort() : requests_(std::make_unique<Requests>()), host_(HostName()) {
  CHECK_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &requests_->world));
  CHECK_MPI(MPI_Comm_set_errhandler(requests_->world, MPI_ERRORS_RETURN));
  CHECK_MPI(MPI_Comm_rank(requests_->world, &rank_));
  CHECK_MPI(MPI_Comm_size(requests_->world, &size_));
  FindHost();
}

absl::StatusOr<std::unique_ptr<MpiPort>> MpiPort::Start() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    return FailedPrecondition("MPI_Init_thread failed");
  }
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  SetJobIdentity(rank, HostName(), AbortJob);
  if (provided < MPI_THREAD_FUNNELED) {
    MPI_Finalize();
    return FailedPrecondition("this MPI library gives no thread support (MPI_THREAD_FUNNELED)");
  }
  if (size != LaunchedRanks()) {
    MPI_Finalize();
    return FailedPrecondition("the launcher started ", LaunchedRanks(), " ranks but MPI sees ",
                              size,
                              ": use the mpirun of the MPI library that trireme is built with, or "
                              "srun --mpi=pmix");
  }
  return std::unique_ptr<MpiPort>(new MpiPort);
}

// MPI may take two hosts on one machine (containers) for one; their names tell.
void MpiPort::FindHost() {
  MPI_Comm sharing = MPI_COMM_NULL;
  CHECK_MPI(
      MPI_Comm_split_type(requests_->world, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &sharing));
  int n = 0;
  CHECK_MPI(MPI_Comm_size(sharing, &n));
  constexpr int kNameBytes = 256;
  std::vector<char> names(static_cast<size_t>(n * kNameBytes));
  std::array<char, kNameBytes> mine = {};
  host_.copy(mine.data(), kNameBytes - 1);
  CHECK_MPI(MPI_Allgather(mine.data(), kNameBytes, MPI_CHAR, names.data(), kNameBytes, MPI_CHAR,
                          sharing));
  int color = 0;
  while (std::strcmp(names.data() + color * kNameBytes, mine.data()) != 0) ++color;
  CHECK_MPI(MPI_Comm_split(sharing, color, rank_, &requests_->host));
  CHECK_MPI(MPI_Comm_free(&sharing));
  CHECK_MPI(MPI_Comm_set_errhandler(requests_->host, MPI_ERRORS_RETURN));

  int local_size = 0;
  CHECK_MPI(MPI_Comm_size(requests_->host, &local_size));
  CHECK_MPI(MPI_Comm_rank(requests_->host, &local_rank_));
  locals_.resize(static_cast<size_t>(local_size));
  CHECK_MPI(MPI_Allgather(&rank_, 1, MPI_INT, locals_.data(), 1, MPI_INT, requests_->host));
  first_ranks_.resize(static_cast<size_t>(size_));
  CHECK_MPI(MPI_Allgather(&locals_.front(), 1, MPI_INT, first_ranks_.data(), 1, MPI_INT,
                          requests_->world));
  std::sort(first_ranks_.begin(), first_ranks_.end());
  first_ranks_.erase(std::unique(first_ranks_.begin(), first_ranks_.end()), first_ranks_.end());

  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof(cpus), &cpus);
  CHECK_MPI(MPI_Allreduce(MPI_IN_PLACE, &cpus, sizeof(cpus), MPI_BYTE, MPI_BOR, requests_->host));
  host_cpus_ = CPU_COUNT(&cpus);
}

MpiPort::~MpiPort() {
  AwaitSent(requests_->n_sends, "end of the job", waiter_->timeout());
  Barrier("end of the job", waiter_->timeout());
  for (MPI_Win& window : requests_->windows) {
    MPI_Win_unlock_all(window);
    MPI_Win_free(&window);
  }
  MPI_Comm_free(&requests_->host);
  MPI_Comm_free(&requests_->world);
  SetJobIdentity(rank_, host_, nullptr);
  MPI_Finalize();
}

// A collective over the world. `request`: an MPI_Request.
void MpiPort::AwaitAll(void* request, const char* what, std::chrono::milliseconds timeout) {
  const auto done = [&] {
    int flag = 0;
    CHECK_MPI(MPI_Test(static_cast<MPI_Request*>(request), &flag, MPI_STATUS_IGNORE));
    return flag != 0;
  };
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  if (!waiter_->Until(unrung_, done, deadline, Waiter::kIdlePoll)) {
    EndJob(StrCat(what, ": some rank did not come (waited ", timeout.count(), " ms)"));
  }
}

void MpiPort::Barrier(const char* what, std::chrono::milliseconds timeout) {
  MPI_Request request;
  CHECK_MPI(MPI_Ibarrier(requests_->world, &request));
  AwaitAll(&request, what, timeout);
}

std::vector<std::string> MpiPort::Exchange(const std::string& mine) {
  const size_t n = static_cast<size_t>(size_);
  const int length = Count(mine.size());
  std::vector<int> lengths(n);
  MPI_Request request;
  CHECK_MPI(
      MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, requests_->world, &request));
  AwaitAll(&request, "Exchange", kStartTimeout);
  std::vector<int> begins(n);
  for (size_t i = 1; i < n; ++i) begins[i] = begins[i - 1] + lengths[i - 1];
  std::string all(static_cast<size_t>(begins.back() + lengths.back()), '\0');
  CHECK_MPI(MPI_Iallgatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(),
                            begins.data(), MPI_CHAR, requests_->world, &request));
  AwaitAll(&request, "Exchange", kStartTimeout);
  std::vector<std::string> texts;
  for (size_t i = 0; i < n; ++i) {
    texts.push_back(all.substr(static_cast<size_t>(begins[i]), static_cast<size_t>(lengths[i])));
  }
  return texts;
}

std::vector<std::byte*> MpiPort::Share(size_t bytes) {
  Barrier("Group", kStartTimeout);  // so that nobody waits long in the calls below, which block
  std::vector<std::byte*> parts(locals_.size(), nullptr);
  uint64_t largest = bytes;
  CHECK_MPI(MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPI_UINT64_T, MPI_MAX, requests_->host));
  if (largest == 0) return parts;

  MPI_Info info;
  CHECK_MPI(MPI_Info_create(&info));
  CHECK_MPI(MPI_Info_set(info, "alloc_shared_noncontig", "true"));  // pages near their writer
  void* mine = nullptr;
  MPI_Win window;
  CHECK_MPI(MPI_Win_allocate_shared(static_cast<MPI_Aint>(bytes + Arena::kAlignment), 1, info,
                                    requests_->host, &mine, &window));
  CHECK_MPI(MPI_Info_free(&info));
  CHECK_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, window));
  requests_->windows.push_back(window);
  for (size_t i = 0; i < parts.size(); ++i) {
    MPI_Aint part_bytes = 0;
    int unit = 0;
    CHECK_MPI(MPI_Win_shared_query(window, static_cast<int>(i), &part_bytes, &unit, &parts[i]));
    // The same place in every process, as each maps the window at a page's begin.
    parts[i] += -reinterpret_cast<uintptr_t>(parts[i]) % Arena::kAlignment;
  }
  return parts;
}

void MpiPort::Connect(std::span<const int> ranks, int tag) {
  std::vector<std::byte> hellos(ranks.size());
  const std::byte hello{};
  for (size_t i = 0; i < ranks.size(); ++i) {
    Receive(&hellos[i], 1, ranks[i], tag);
    SendCopy(std::span(&hello, 1), ranks[i], tag);
  }
  AwaitReceived("connecting", waiter_->timeout());
}

uint64_t MpiPort::Send(const void* data, size_t bytes, int to, int tag) {
  Requests& r = *requests_;
  MPI_Request request;
  CHECK_MPI(MPI_Issend(data, Count(bytes), MPI_BYTE, to, tag, r.world, &request));
  r.sends.push_back(request);
  r.sent.push_back({++r.n_sends, to, {}});
  return r.n_sends;
}

uint64_t MpiPort::SendCopy(std::span<const std::byte> message, int to, int tag) {
  std::vector<std::byte> copy(message.begin(), message.end());
  const uint64_t number = Send(copy.data(), copy.size(), to, tag);
  requests_->sent.back().copy = std::move(copy);  // moving a vector leaves its bytes in place
  return number;
}

bool MpiPort::Progress() {
  Requests& r = *requests_;
  if (r.sends.empty()) return false;
  r.done.resize(r.sends.size());
  int n_done = 0;
  CHECK_MPI(MPI_Testsome(Count(r.sends.size()), r.sends.data(), &n_done, r.done.data(),
                         MPI_STATUSES_IGNORE));
  if (n_done > 0) {
    size_t kept = 0;
    for (size_t i = 0; i < r.sends.size(); ++i) {
      if (r.sends[i] == MPI_REQUEST_NULL) continue;
      if (kept != i) {
        r.sends[kept] = r.sends[i];
        r.sent[kept] = std::move(r.sent[i]);
      }
      ++kept;
    }
    r.sends.resize(kept);
    r.sent.resize(kept);
  }
  return !r.sends.empty();
}

void MpiPort::AwaitSent(uint64_t last, const char* what, std::chrono::milliseconds timeout) {
  const std::vector<Requests::Sent>& sent = requests_->sent;
  const auto none_left = [&] { return sent.empty() || sent.front().number > last; };
  const auto done = [&] { return none_left() || !Progress() || none_left(); };
  const auto describe = [&] { return StrCat(what, ": rank ", sent.front().to, " takes nothing"); };
  waiter_->Await(unrung_, done, timeout, describe, Waiter::kBusyPoll);
}

void MpiPort::Receive(void* data, size_t bytes, int from, int tag) {
  Requests& r = *requests_;
  MPI_Request request;
  CHECK_MPI(MPI_Irecv(data, Count(bytes), MPI_BYTE, from, tag, r.world, &request));
  r.receives.push_back(request);
  r.senders.push_back(from);
}

void MpiPort::AwaitReceived(const char* what, std::chrono::milliseconds timeout) {
  Requests& r = *requests_;
  const auto done = [&] {
    int flag = 0;
    CHECK_MPI(MPI_Testall(Count(r.receives.size()), r.receives.data(), &flag, MPI_STATUSES_IGNORE));
    return flag != 0;
  };
  const auto describe = [&] {
    size_t late = 0;
    for (int flag = 1; late + 1 < r.receives.size(); ++late) {
      MPI_Test(&r.receives[late], &flag, MPI_STATUS_IGNORE);
      if (!flag) break;
    }
    return StrCat(what, ": nothing from rank ", r.senders[late]);
  };
  waiter_->Await(unrung_, done, timeout, describe, Waiter::kBusyPoll);
  r.receives.clear();
  r.senders.clear();
}

bool MpiPort::Take(int from, int tag, std::vector<std::byte>* message) {
  int arrived = 0;
  MPI_Status status;
  // Open MPI looks first and makes progress then: what comes meanwhile is seen by the second look.
  for (int look = 0; look < 2 && !arrived; ++look) {
    CHECK_MPI(MPI_Iprobe(from == kAnyRank ? MPI_ANY_SOURCE : from, tag, requests_->world, &arrived,
                         &status));
  }
  if (!arrived) return false;
  int bytes = 0;
  CHECK_MPI(MPI_Get_count(&status, MPI_BYTE, &bytes));
  message->resize(static_cast<size_t>(bytes));
  Receive(message->data(), message->size(), status.MPI_SOURCE, tag);
  AwaitReceived(tag == MpiTag::kPlan ? "NextPublished" : "PollReport", waiter_->timeout());
  return true;
}

}  // namespace trireme
