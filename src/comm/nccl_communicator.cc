#include "comm/nccl_communicator.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "base/str.h"
#include "comm/all_reduce.h"
#include "comm/nccl_library.h"
#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"

namespace trireme {
namespace {

// Exact sums of at most so many bytes of parts, all ranks' together, are gathered: there an
// exchange takes as long as moving them.
constexpr int64_t kGatheredBytes = int64_t{1} << 20;

ncclDataType_t TypeOf(Tensor x) {
  switch (x.dtype()) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF16:
      return ncclFloat16;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
  }
  CHECK(false) << Name(x.dtype());
  return ncclFloat32;
}

size_t Count(Tensor x) { return static_cast<size_t>(x.size()); }

class NcclCommunicator : public Communicator, private cuda::DeviceWait::Watcher {
 public:
  NcclCommunicator(const NcclLibrary& nccl, const ncclUniqueId& id, std::vector<int> ranks,
                   const WorldOptions& options, Ops& ops, std::unique_ptr<Communicator> host,
                   bool exact)
      : nccl_(nccl),
        ranks_(std::move(ranks)),
        timeout_(options.timeout),
        stage_timeout_(options.stage_timeout),
        ops_(ops),
        wait_(cuda::DeviceWaitOf(ops)),
        host_(std::move(host)),
        exact_(exact),
        parts_(ops.Allocate(options.max_parts_bytes)),
        received_(ops.Allocate(exact ? 2 * options.max_parts_bytes + kGatheredBytes
                                     : options.max_parts_bytes)) {
    wait_.Add(this);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    verb_ = "initialisation";
    Complete(nccl_.CommInitRankConfig(&comm_, size(), id, rank(), &config));
  }

  // Waits for the peers to be done with what was exchanged, too.
  ~NcclCommunicator() override {
    verb_ = "finalisation";
    Complete(nccl_.CommFinalize(comm_));
    wait_.Remove(this);
    nccl_.CommDestroy(comm_);
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  bool on_stream() const override { return true; }
  const Traffic& traffic() const override { return traffic_; }
  Communicator& host() override { return *host_; }

  Tensor Parts(int64_t n_parts, int64_t T, int64_t H) override {
    const Tensor parts(parts_.data(), DType::kF32, {n_parts, T, H});
    CHECK_LE(parts.bytes(), parts_.bytes()) << "beyond WorldOptions::max_parts_bytes";
    return parts;
  }

  void AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override {
    const int64_t T = y.dim(0);
    CheckReduce(y, parts, sum, rank(), size(), T);
    if (y.size() == 0) return;
    if (!exact_) {
      SumOwn(y, parts, sum, bias);
      Call("AllReduce", [&] {
        return nccl_.AllReduce(y.raw(), y.raw(), Count(y), TypeOf(y), ncclSum, comm_, stream());
      });
      traffic_.reduce_bytes += 2 * (size() - 1) * static_cast<int64_t>(y.bytes()) / size();
      return;
    }
    const int64_t all_bytes = TotalParts(sum) * y.size() * static_cast<int64_t>(sizeof(float));
    if (all_bytes <= kGatheredBytes) return SumGathered(y, parts, sum, bias);
    const auto slice = [&](int of) { return RowSlice(T, of, size()); };
    const RowRange mine = slice(rank());
    ExchangeParts("AllReduce", parts, sum, slice);
    SumRows(y.Rows(mine.begin, mine.end), parts, sum, mine, bias);
    ExchangeRows("AllReduce", y, slice);
  }

  void ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) override {
    const int64_t rows = y.dim(0), T = rows * size();
    CheckReduce(y, parts, sum, rank(), size(), T);
    if (y.size() == 0) return;
    if (!exact_) {
      const Tensor summed(received_.data(), y.dtype(), {T, y.dim(1)});
      SumOwn(summed, parts, sum, bias);
      Call("ReduceScatter", [&] {
        return nccl_.ReduceScatter(summed.raw(), y.raw(), Count(y), TypeOf(y), ncclSum, comm_,
                                   stream());
      });
      traffic_.reduce_bytes += (size() - 1) * static_cast<int64_t>(y.bytes());
      return;
    }
    const auto slice = [&](int of) { return RowRange{of * rows, (of + 1) * rows}; };
    ExchangeParts("ReduceScatter", parts, sum, slice);
    SumRows(y, parts, sum, slice(rank()), bias);
  }

  void AllGather(Tensor y, Tensor x) override {
    CHECK_EQ(y.bytes(), x.bytes() * ranks_.size());
    if (x.empty()) return;
    Call("AllGather",
         [&] { return nccl_.AllGather(x.raw(), y.raw(), Count(x), TypeOf(x), comm_, stream()); });
    traffic_.gather_bytes += (size() - 1) * static_cast<int64_t>(x.bytes());
  }

  void Send(Tensor x, int to) override {
    CHECK(0 <= to && to < size() && to != rank()) << to;
    if (x.empty()) return;
    between_stages_ = true;
    Call("Send", [&] { return nccl_.Send(x.raw(), Count(x), TypeOf(x), to, comm_, stream()); });
    traffic_.point_to_point_bytes += static_cast<int64_t>(x.bytes());
  }

  void Recv(Tensor x, int from) override {
    CHECK(0 <= from && from < size() && from != rank()) << from;
    if (x.empty()) return;
    between_stages_ = true;
    Call("Recv", [&] { return nccl_.Recv(x.raw(), Count(x), TypeOf(x), from, comm_, stream()); });
  }

 private:
  cudaStream_t stream() const { return wait_.stream(); }

  // Watcher
  std::string Failure() override {
    const ncclResult_t state = State();
    return state == ncclSuccess || state == ncclInProgress ? "" : FailureLine(state);
  }
  std::string Last() const override {
    return StrCat(verb_, " ", n_calls_, " of ranks ", Join(ranks_, ","));
  }
  std::chrono::milliseconds timeout() const override {
    return between_stages_ ? stage_timeout_ : timeout_;
  }
  void Abort() override {
    if (comm_ != nullptr) nccl_.CommAbort(comm_);
  }

  std::string FailureLine(ncclResult_t result) const {
    return StrCat("NCCL: ", nccl_.GetErrorString(result), "; enqueued last: ", Last());
  }
  ncclResult_t State() {
    ncclResult_t state = ncclSuccess;
    if (comm_ == nullptr) return state;
    const ncclResult_t result = nccl_.CommGetAsyncError(comm_, &state);
    return result == ncclSuccess ? state : result;
  }

  // One call or group.
  template <typename F>
  void Call(const char* verb, const F& call) {
    verb_ = verb;
    ++n_calls_;
    Complete(call());
  }

  // A non-blocking communicator may leave a call to a thread of its own. What comes next on the
  // stream must wait until that has enqueued it, which needs no peer once the ranks are connected.
  void Complete(ncclResult_t result) {
    if (result == ncclInProgress) {
      wait_.Until([&] { return (result = State()) != ncclInProgress; }, "NCCL");
    }
    if (result != ncclSuccess) cuda::Fault(FailureLine(result));
  }

  // y = the sum of this rank's parts, with the bias on the first rank that has any part.
  void SumOwn(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
    const int64_t n = parts.dim(0);
    if (n == 0) {
      cuda::Check(cudaMemsetAsync(y.raw(), 0, y.bytes(), stream()), "cudaMemsetAsync");
      return;
    }
    pointers_.clear();
    for (int64_t p = 0; p < n; ++p) pointers_.push_back(parts.f32() + p * y.size());
    merges_.assign(static_cast<size_t>(n), 1);
    merges_[0] = 0;
    const auto first =
        std::find_if(sum.n_parts.begin(), sum.n_parts.end(), [](int parts) { return parts > 0; });
    const bool adds_bias = first - sum.n_parts.begin() == rank();
    ops_.SumParts(y, pointers_, merges_, adds_bias ? bias : nullptr);
  }

  // y = the sum of all ranks' parts, which every rank takes from all others.
  void SumGathered(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
    const std::vector<int>& n = sum.n_parts;
    if (std::adjacent_find(n.begin(), n.end(), std::not_equal_to<>()) != n.end()) {
      const RowRange all = {0, y.dim(0)};
      ExchangeParts("AllReduce", parts, sum, [&](int) { return all; });
      return SumRows(y, parts, sum, all, bias);
    }
    Call("AllReduce", [&] {
      return nccl_.AllGather(parts.raw(), received(), Count(parts), ncclFloat32, comm_, stream());
    });
    traffic_.reduce_bytes += (size() - 1) * static_cast<int64_t>(parts.bytes());
    pointers_.clear();
    for (int i = 0; i < TotalParts(sum); ++i) pointers_.push_back(received() + i * y.size());
    ops_.SumParts(y, pointers_, sum.merges, bias);
  }

  // Gives each rank the rows(rank) of this rank's parts, and takes the others' rows(this rank) into
  // received_, by rank, then by part.
  template <typename Rows>
  void ExchangeParts(const char* verb, Tensor parts, const GroupSum& sum, const Rows& rows) {
    const int64_t T = parts.dim(1), H = parts.dim(2);
    const RowRange mine = rows(rank());
    float* to = received();
    CHECK_LE(
        static_cast<size_t>((TotalParts(sum) - parts.dim(0)) * mine.size() * H) * sizeof(float),
        received_.bytes());
    Call(verb, [&] {
      nccl_.GroupStart();  // GroupEnd() returns what goes wrong inside
      for (int q = 0; q < size(); ++q) {
        if (q == rank()) continue;
        for (int64_t p = 0; p < parts.dim(0) && rows(q).size() > 0; ++p) {
          const float* from = parts.f32() + (p * T + rows(q).begin) * H;
          nccl_.Send(from, static_cast<size_t>(rows(q).size() * H), ncclFloat32, q, comm_,
                     stream());
          traffic_.reduce_bytes += rows(q).size() * H * static_cast<int64_t>(sizeof(float));
        }
        const int64_t n = mine.size() * H;
        for (int p = 0; p < sum.n_parts[static_cast<size_t>(q)] && n > 0; ++p, to += n) {
          nccl_.Recv(to, static_cast<size_t>(n), ncclFloat32, q, comm_, stream());
        }
      }
      return nccl_.GroupEnd();
    });
  }

  // y = `rows` of the sum, of this rank's parts and of what ExchangeParts() took.
  void SumRows(Tensor y, Tensor parts, const GroupSum& sum, RowRange rows, const float* bias) {
    if (y.size() == 0) return;
    const int64_t T = parts.dim(1), H = parts.dim(2);
    const float* from = received();
    pointers_.clear();
    for (int q = 0; q < size(); ++q) {
      for (int p = 0; p < sum.n_parts[static_cast<size_t>(q)]; ++p) {
        if (q == rank()) {
          pointers_.push_back(parts.f32() + (p * T + rows.begin) * H);
        } else {
          pointers_.push_back(from);
          from += y.size();
        }
      }
    }
    ops_.SumParts(y, pointers_, sum.merges, bias);
  }

  // Gives every rank this rank's rows of y, and takes theirs.
  template <typename Rows>
  void ExchangeRows(const char* verb, Tensor y, const Rows& rows) {
    const auto part = [&](int of) { return y.Rows(rows(of).begin, rows(of).end); };
    const Tensor mine = part(rank());
    Call(verb, [&] {
      nccl_.GroupStart();
      for (int q = 0; q < size(); ++q) {
        if (q == rank()) continue;
        const Tensor theirs = part(q);
        if (!mine.empty()) nccl_.Send(mine.raw(), Count(mine), TypeOf(y), q, comm_, stream());
        if (!theirs.empty()) nccl_.Recv(theirs.raw(), Count(theirs), TypeOf(y), q, comm_, stream());
      }
      return nccl_.GroupEnd();
    });
    traffic_.reduce_bytes += (size() - 1) * static_cast<int64_t>(mine.bytes());
  }

  float* received() const { return reinterpret_cast<float*>(received_.data()); }

  const NcclLibrary& nccl_;
  const std::vector<int> ranks_;
  const std::chrono::milliseconds timeout_, stage_timeout_;
  Ops& ops_;
  cuda::DeviceWait& wait_;
  std::unique_ptr<Communicator> host_;
  const bool exact_;
  Buffer parts_;
  Buffer received_;  // other ranks' parts; where sums are not exact, this rank's sum
  ncclComm_t comm_ = nullptr;
  const char* verb_ = "";
  int64_t n_calls_ = 0;  // of this group, the same on every rank that calls alike
  bool between_stages_ = false;
  std::vector<const float*> pointers_;
  std::vector<uint8_t> merges_;
  Traffic traffic_;
};

// Where the rank's device is, as NCCL tells devices apart: "0000:1b:00.0".
std::string BusId() {
  int device = 0;
  char id[32] = {};
  cuda::Check(cudaGetDevice(&device), "cudaGetDevice");
  cuda::Check(cudaDeviceGetPCIBusId(id, sizeof id, device), "cudaDeviceGetPCIBusId");
  return id;
}

}  // namespace

absl::StatusOr<std::string> FindNccl(World& world) {
  const absl::StatusOr<const NcclLibrary*> nccl = LoadNccl();
  const std::vector<std::string> hosts = world.Exchange(world.host());
  const std::vector<std::string> errors = world.Exchange(nccl.ok() ? "" : Message(nccl.status()));
  const std::vector<std::string> devices = world.Exchange(BusId());
  for (size_t r = 0; r < errors.size(); ++r) {
    if (!errors[r].empty()) {
      return FailedPrecondition("rank ", r, " on ", hosts[r], ": ", errors[r]);
    }
    for (size_t s = 0; s < r; ++s) {
      if (hosts[s] != hosts[r] || devices[s] != devices[r]) continue;
      return FailedPrecondition("ranks ", s, " and ", r, " share device ", devices[r], " of ",
                                hosts[r]);
    }
  }
  int version = 0;
  (*nccl)->GetVersion(&version);
  return StrCat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

std::unique_ptr<Communicator> MakeNcclCommunicator(World& world, std::span<const int> ranks,
                                                   Ops& ops, std::unique_ptr<Communicator> host,
                                                   bool exact) {
  const absl::StatusOr<const NcclLibrary*> nccl = LoadNccl();
  CHECK(nccl.ok()) << Message(nccl.status());
  ncclUniqueId id = {};
  if (host->rank() == 0) {
    const ncclResult_t result = (*nccl)->GetUniqueId(&id);
    if (result != ncclSuccess) {
      cuda::Fault(StrCat("NCCL: ncclGetUniqueId: ", (*nccl)->GetErrorString(result)));
    }
  }
  const std::string given =
      world.Exchange(std::string(id.internal, sizeof id.internal))[static_cast<size_t>(ranks[0])];
  std::memcpy(id.internal, given.data(), sizeof id.internal);
  return std::make_unique<NcclCommunicator>(**nccl, id, std::vector(ranks.begin(), ranks.end()),
                                            world.options(), ops, std::move(host), exact);
}

}  // namespace trireme
