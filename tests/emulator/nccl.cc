// NCCL on the emulated device: ranks are processes of one host, each pair joined by a Unix socket.
// A collective sends to every other rank what it needs and takes theirs; nothing waits, so the
// stream stays where it is until that is done. A peer that ends is noticed as NCCL notices it.
//
// It is stricter than NCCL: a call before the last one has left ncclInProgress, and ranks whose
// calls or sizes differ, are errors.
//
// TRIREME_EMULATED_NCCL=hang:R:N or error:R:N: from its N-th piece of work on (of the process),
// rank R of a group does nothing, or has an asynchronous error.
#include "nccl.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "comm/nccl_library.h"
#include "kernels/dtype.h"

struct ncclComm {
  int rank = 0, size = 0;
  std::string id;
  int listener = -1;
  std::vector<int> sockets;  // by rank; -1: not connected
  std::atomic<ncclResult_t> error{ncclSuccess};
  std::atomic<bool> aborted{false};
  bool ready = false;        // connected
  bool in_progress = false;  // a call that the host has not asked after
};

namespace trireme::emulator {
namespace {

size_t SizeOf(ncclDataType_t type) { return type == ncclFloat16 || type == ncclBfloat16 ? 2 : 4; }

// ---- the ranks find each other ----

// In the abstract namespace: nothing is left behind.
std::pair<sockaddr_un, socklen_t> Address(const std::string& id, int rank) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = id + "/" + std::to_string(rank);
  name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())};
}

// A rank dials the lower ones and listens to the higher ones.
void Connect(ncclComm& comm) {
  for (int q = 0; q < comm.rank; ++q) {
    if (comm.sockets[q] >= 0) continue;
    const int dialled = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto [address, bytes] = Address(comm.id, q);
    if (connect(dialled, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
        write(dialled, &comm.rank, sizeof comm.rank) != sizeof comm.rank) {
      close(dialled);  // not there yet
      continue;
    }
    comm.sockets[q] = dialled;
  }
  for (int accepted; (accepted = accept4(comm.listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    int from = 0;
    if (read(accepted, &from, sizeof from) == sizeof from) comm.sockets[from] = accepted;
  }
  for (int q = 0; q < comm.size; ++q) {
    if (q != comm.rank && comm.sockets[q] < 0) return;
  }
  comm.ready = true;
  close(comm.listener);
  for (const int connected : comm.sockets) {
    if (connected >= 0) fcntl(connected, F_SETFL, O_NONBLOCK);
  }
}

// ---- one piece of a stream's work ----

// What goes before each message, so that ranks that call differently are noticed.
struct Header {
  char verb[16] = {};
  uint64_t bytes = 0;
  bool operator==(const Header&) const = default;
};

struct Transfer {
  int peer;
  bool sends;
  std::byte* data;
  Header header;
  Header found = {};  // what came
  size_t done = 0;    // of header and data

  size_t total() const { return sizeof header + header.bytes; }
};

// Moves what can be moved; false once the communicator has failed.
bool Move(ncclComm& comm, Transfer& transfer) {
  while (transfer.done < transfer.total()) {
    const bool in_header = transfer.done < sizeof(Header);
    auto* header =
        reinterpret_cast<std::byte*>(transfer.sends ? &transfer.header : &transfer.found);
    std::byte* at =
        in_header ? header + transfer.done : transfer.data + (transfer.done - sizeof(Header));
    const size_t bytes = (in_header ? sizeof(Header) : transfer.total()) - transfer.done;
    const int socket = comm.sockets[transfer.peer];
    const ssize_t moved =
        transfer.sends ? send(socket, at, bytes, MSG_NOSIGNAL) : recv(socket, at, bytes, 0);
    if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (moved <= 0) {
      comm.error = ncclRemoteError;
      return false;
    }
    transfer.done += static_cast<size_t>(moved);
    if (!transfer.sends && transfer.done == sizeof(Header) && transfer.found != transfer.header) {
      comm.error = ncclInvalidUsage;
      return false;
    }
  }
  return true;
}

struct Call {
  const char* verb;
  const void* from;
  void* to;
  size_t bytes;  // that a rank sends to one other
  ncclDataType_t type;
  int peer = -1;  // of Send and Recv
};

// A call as it runs.
class Operation {
 public:
  Operation(ncclComm& comm, const Call& call) : comm_(comm), call_(call) {
    Header header = {.bytes = call.bytes};
    const std::string verb = call.peer >= 0 ? "point to point" : call.verb;
    verb.copy(header.verb, sizeof header.verb - 1);
    auto* from = static_cast<std::byte*>(const_cast<void*>(call.from));
    auto* to = static_cast<std::byte*>(call.to);
    if (call.peer >= 0) {
      const bool sends = from != nullptr;
      transfers_.push_back({call.peer, sends, sends ? from : to, header});
      return;
    }
    const bool gathers = verb == "AllGather", scatters = verb == "ReduceScatter";
    received_.resize(static_cast<size_t>(comm.size));
    for (int q = 0; q < comm.size; ++q) {
      std::byte* block = scatters ? from + q * call.bytes : from;
      if (!gathers) received_[q].resize(call.bytes);
      std::byte* taken = gathers ? to + q * call.bytes : received_[q].data();
      if (q == comm.rank) {
        if (taken != block) std::memmove(taken, block, call.bytes);
        continue;
      }
      transfers_.push_back({q, true, block, header});
      transfers_.push_back({q, false, taken, header});
    }
  }

  // True when all is done.
  bool Step(std::vector<bool>& busy) {
    bool done = true;
    for (Transfer& transfer : transfers_) {
      // Messages to, and from, one rank go one after the other.
      const size_t lane = static_cast<size_t>(2 * transfer.peer + transfer.sends);
      if (!busy[lane]) {
        if (!Move(comm_, transfer)) return false;
        busy[lane] = transfer.done < transfer.total();
      }
      done = done && !busy[lane];
    }
    if (done && !finished_) Finish();
    return done;
  }

 private:
  // Adds in the order of the ranks; a 16-bit sum is rounded at each, as on its way round a ring.
  void Finish() {
    finished_ = true;
    const size_t n =
        received_.empty() || received_[0].empty() ? 0 : call_.bytes / SizeOf(call_.type);
    for (size_t i = 0; i < n; ++i) {
      float sum = Element(0, i);
      for (int q = 1; q < comm_.size; ++q) sum = Rounded(sum + Element(q, i));
      if (call_.type == ncclFloat32) {
        static_cast<float*>(call_.to)[i] = sum;
      } else {
        static_cast<uint16_t*>(call_.to)[i] = Bf16FromFloat(sum);
      }
    }
  }
  float Element(int rank, size_t i) const {
    const std::byte* values = received_[static_cast<size_t>(rank)].data();
    return call_.type == ncclFloat32 ? reinterpret_cast<const float*>(values)[i]
                                     : FloatFromBf16(reinterpret_cast<const uint16_t*>(values)[i]);
  }
  float Rounded(float x) const {
    return call_.type == ncclFloat32 ? x : FloatFromBf16(Bf16FromFloat(x));
  }

  ncclComm& comm_;
  Call call_;
  std::vector<Transfer> transfers_;
  std::vector<std::vector<std::byte>> received_;  // by rank: what is to be added
  bool finished_ = false;
};

// What TRIREME_EMULATED_NCCL asks for.
bool Faulty(ncclComm& comm) {
  static int n_run = 0;
  static const char* fault = std::getenv("TRIREME_EMULATED_NCCL");
  char what[16] = {};
  int rank = 0, from = 0;
  ++n_run;
  if (fault == nullptr || std::sscanf(fault, "%15[a-z]:%d:%d", what, &rank, &from) != 3 ||
      rank != comm.rank || n_run < from) {
    return false;
  }
  if (std::string(what) == "error") comm.error = ncclSystemError;
  return true;
}

// The calls of a group, together. Copied with the graph that captured it, so it begins anew in each
// run.
class Group {
 public:
  Group(ncclComm* comm, std::vector<Call> calls) : comm_(comm), calls_(std::move(calls)) {}

  bool operator()() {
    if (comm_->aborted) return true;
    if (comm_->error != ncclSuccess || faulty_) return false;
    if (operations_.empty()) {
      if (faulty_ = Faulty(*comm_); faulty_) return false;
      for (const Call& call : calls_) operations_.emplace_back(*comm_, call);
    }
    std::vector<bool> busy(static_cast<size_t>(2 * comm_->size));
    bool done = true;
    for (Operation& operation : operations_) done = operation.Step(busy) && done;
    return done;
  }

 private:
  ncclComm* comm_;
  std::vector<Call> calls_;
  std::vector<Operation> operations_;
  bool faulty_ = false;
};

// ---- what the host calls ----

struct Open {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Call> calls;
  ncclResult_t error = ncclSuccess;
} group;

ncclResult_t EndGroup() {
  const Open ended = std::exchange(group, {});
  if (ended.error != ncclSuccess || ended.calls.empty()) return ended.error;
  if (EnqueueWork(ended.stream, Group(ended.comm, ended.calls)) != cudaSuccess) {
    return ncclUnhandledCudaError;
  }
  ended.comm->in_progress = true;
  return ncclInProgress;
}

ncclResult_t Add(const Call& call, ncclComm_t comm, cudaStream_t stream) {
  ncclResult_t error = ncclSuccess;
  if (!comm->ready || comm->in_progress) error = ncclInvalidUsage;
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream)) {
    error = ncclInvalidUsage;  // NCCL allows it; nobody here does it
  }
  const bool sums =
      call.verb == std::string("AllReduce") || call.verb == std::string("ReduceScatter");
  if (sums && call.type != ncclFloat32 && call.type != ncclBfloat16) error = ncclInvalidArgument;
  if (call.peer >= comm->size || call.peer == comm->rank) error = ncclInvalidArgument;
  group.comm = comm;
  group.stream = stream;
  if (error == ncclSuccess) {
    group.calls.push_back(call);
  } else {
    group.error = error;
  }
  return group.depth > 0 ? error : EndGroup();
}

}  // namespace
}  // namespace trireme::emulator

using namespace trireme::emulator;

ncclResult_t ncclGetVersion(int* version) {
  *version = 22803;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  std::random_device random;
  std::snprintf(id->internal, sizeof id->internal, "emulated-nccl-%d-%08x%08x", getpid(), random(),
                random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int n_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;  // not emulated
  if (rank < 0 || rank >= n_ranks) return ncclInvalidArgument;
  auto made = std::make_unique<ncclComm>();
  made->rank = rank;
  made->size = n_ranks;
  made->id = id.internal;
  made->sockets.assign(static_cast<size_t>(n_ranks), -1);
  made->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const auto [address, bytes] = Address(made->id, rank);
  if (bind(made->listener, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
      listen(made->listener, n_ranks) != 0) {
    return ncclSystemError;
  }
  SetSelfRunning(true);
  *comm = made.release();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->error;
  if (*error != ncclSuccess) return ncclSuccess;
  if (!comm->ready) Connect(*comm);
  if (!comm->ready || std::exchange(comm->in_progress, false)) *error = ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  comm->in_progress = true;
  return ncclInProgress;
}

// After its work is done: the host has waited for the stream.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  SetSelfRunning(false);
  for (const int connected : comm->sockets) {
    if (connected >= 0) close(connected);
  }
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->aborted = true;
  for (const int connected : comm->sockets) {
    if (connected >= 0) shutdown(connected, SHUT_RDWR);
  }
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  return --group.depth == 0 ? EndGroup() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
  return Add({"AllReduce", from, to, count * SizeOf(type), type}, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count_each, ncclDataType_t type,
                               ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
  return Add({"ReduceScatter", from, to, count_each * SizeOf(type), type}, comm, stream);
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count_each, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Add({"AllGather", from, to, count_each * SizeOf(type), type}, comm, stream);
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Add({"Send", from, nullptr, count * SizeOf(type), type, peer}, comm, stream);
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Add({"Recv", nullptr, to, count * SizeOf(type), type, peer}, comm, stream);
}

namespace trireme {

absl::StatusOr<const NcclLibrary*> LoadNccl() {
  static constexpr NcclLibrary kLibrary = {
      ncclGetVersion,        ncclGetErrorString, ncclGetUniqueId, ncclCommInitRankConfig,
      ncclCommGetAsyncError, ncclCommFinalize,   ncclCommDestroy, ncclCommAbort,
      ncclGroupStart,        ncclGroupEnd,       ncclAllReduce,   ncclReduceScatter,
      ncclAllGather,         ncclSend,           ncclRecv};
  return &kLibrary;
}

}  // namespace trireme
