#include "bench/comm_bench.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <iomanip>
#include <numeric>
#include <ostream>
#include <vector>

#include "base/file.h"
#include "base/str.h"
#include "bench/mpi_baseline.h"
#include "comm/nccl_communicator.h"
#include "comm/staged_communicator.h"
#include "kernels/sum_tree.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

constexpr int64_t kHidden = 1024;
constexpr int64_t kRowBytes = kHidden * static_cast<int64_t>(sizeof(float));
constexpr int64_t kMeasuredBytes = int64_t{2} << 20;  // in one measurement, roughly: a millisecond

struct CommCase {
  std::string name;
  int64_t bytes;                // that nccl-tests count
  double bus_factor;            // bus bandwidth by algorithm bandwidth; 0: nothing is exchanged
  std::function<void()> run;    // on every rank
  std::vector<double> seconds;  // of one call, by round

  int Calls() const {
    return static_cast<int>(std::clamp<int64_t>(kMeasuredBytes / bytes, 4, 100));
  }
  double Best() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double Median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
  double AlgorithmGbps() const { return static_cast<double>(bytes) / Median() * 1e-9; }
  double BusGbps() const { return bus_factor * AlgorithmGbps(); }
};

// One communicator's cases.
class CommBench {
 public:
  CommBench(std::string name, Communicator& comm, Ops& ops, const CommBenchOptions& options)
      : name_(std::move(name)),
        comm_(comm),
        ops_(ops),
        on_host_(&comm.host() == &comm),
        x_(ops.Allocate(static_cast<size_t>(options.max_bytes))),
        y_(ops.Allocate(static_cast<size_t>(options.max_bytes))) {
    std::vector<ChunkRange> parts;
    for (int i = 0; i < comm.size(); ++i) parts.push_back({i, i + 1});
    sum_ = {std::vector<int>(parts.size(), 1), SumTree(comm.size()).Finish(parts)};
    for (int64_t rows = 1; rows * kRowBytes <= options.max_bytes; rows *= 4) {
      AddReductions(rows);
      AddOthers(rows);
    }
    for (int round = 0; round < options.rounds; ++round) {
      for (CommCase& c : cases_) Measure(c);
    }
  }

  void Print(std::ostream& out) const {
    out << name_ << "\n"
        << std::left << std::setw(26) << "verb" << std::right << std::setw(10) << "bytes"
        << std::setw(12) << "best us" << std::setw(12) << "median us" << std::setw(12)
        << "algbw GB/s" << std::setw(12) << "busbw GB/s"
        << "\n"
        << std::fixed << std::setprecision(2);
    for (const CommCase& c : cases_) {
      out << std::left << std::setw(26) << c.name << std::right << std::setw(10) << c.bytes
          << std::setw(12) << c.Best() * 1e6 << std::setw(12) << c.Median() * 1e6;
      if (c.bus_factor > 0) {
        out << std::setw(12) << c.AlgorithmGbps() << std::setw(12) << c.BusGbps();
      }
      out << "\n";
    }
  }

  nlohmann::json Json() const {
    nlohmann::json json = {{"communicator", name_}, {"verbs", nlohmann::json::array()}};
    for (const CommCase& c : cases_) {
      json["verbs"].push_back({{"verb", c.name},
                               {"bytes", c.bytes},
                               {"best_seconds", c.Best()},
                               {"median_seconds", c.Median()}});
      if (c.bus_factor == 0) continue;
      json["verbs"].back()["algorithm_gbps"] = c.AlgorithmGbps();
      json["verbs"].back()["bus_gbps"] = c.BusGbps();
    }
    return json;
  }

 private:
  void Add(const std::string& name, int64_t bytes, double bus_factor, std::function<void()> run) {
    cases_.push_back({name, bytes, bus_factor, std::move(run), {}});
  }

  void Write(Tensor x) const {
    if (on_host_) std::fill_n(x.f32(), x.size(), 1.0f);
  }

  void Reduce(Tensor y, bool write) {
    const Tensor parts = comm_.Parts(1, y.dim(0), y.dim(1));
    if (write) Write(parts);
    comm_.AllReduce(y, parts, sum_, nullptr);
  }

  void AddReductions(int64_t rows) {
    const Tensor x(x_.data(), DType::kF32, {rows, kHidden});
    const Tensor y(y_.data(), DType::kF32, {rows, kHidden});
    const Tensor y_bf16(y_.data(), DType::kBF16, {rows, kHidden});
    const double factor = 2.0 * (comm_.size() - 1) / comm_.size();
    const auto bytes = static_cast<int64_t>(y.bytes());
    if (on_host_) Add("write alone", bytes, 0, [=, this] { Write(x); });
    Add("AllReduce", bytes, factor, [=, this] { Reduce(y, true); });
    Add("AllReduce to bf16", bytes / 2, factor, [=, this] { Reduce(y_bf16, true); });
    if (!on_host_) return;
    Add("AllReduce, same data", bytes, factor, [=, this] { Reduce(y, false); });
    if (!MpiIsRunning()) return;
    const size_t n = static_cast<size_t>(x.size());
    Add("MPI_Allreduce", bytes, factor, [=, this] {
      Write(x);
      MpiAllReduce(x.f32(), y.f32(), n);
    });
    Add("MPI_Allreduce, same data", bytes, factor, [=] { MpiAllReduce(x.f32(), y.f32(), n); });
  }

  void AddOthers(int64_t rows) {
    const int n = comm_.size();
    const Tensor all(y_.data(), DType::kF32, {rows / n * n, kHidden});
    const Tensor mine(x_.data(), DType::kF32, {rows / n, kHidden});
    if (mine.size() == 0 || n == 1) return;
    const double factor = (n - 1.0) / n;
    const auto bytes = static_cast<int64_t>(all.bytes());
    Add("ReduceScatter", bytes, factor, [=, this] {
      const Tensor parts = comm_.Parts(1, all.dim(0), kHidden);
      Write(parts);
      comm_.ReduceScatter(mine, parts, sum_, nullptr);
    });
    Add("AllGather", bytes, factor, [=, this] {
      Write(mine);
      comm_.AllGather(all, mine);
    });
    // The bytes of both ways: one is on its way at a time.
    Add("Send + Recv, and back", 2 * bytes, 1, [=, this] {
      if (comm_.rank() == 0) {
        Write(all);
        comm_.Send(all, 1);
        comm_.Recv(all, 1);
      } else if (comm_.rank() == 1) {
        comm_.Recv(all, 0);
        comm_.Send(all, 0);
      }
    });
  }

  void Measure(CommCase& c) {
    const int n_calls = c.Calls();
    Meet();
    for (int i = 0; i < 2; ++i) c.run();
    ops_.Synchronize();
    Meet();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < n_calls; ++i) c.run();
    ops_.Synchronize();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    c.seconds.push_back(seconds.count() / n_calls);
  }

  // Returns when all ranks are here.
  void Meet() {
    float y = 0;
    const Tensor parts = comm_.host().Parts(1, 1, 1);
    *parts.f32() = 0;
    comm_.host().AllReduce(Tensor(&y, DType::kF32, {1, 1}), parts, sum_, nullptr);
  }

  std::string name_;
  Communicator& comm_;
  Ops& ops_;
  bool on_host_;
  Buffer x_, y_;
  GroupSum sum_;
  std::vector<CommCase> cases_;
};

}  // namespace

absl::Status RunCommBench(World& world, Ops& host, Ops* device, const CommBenchOptions& options,
                          std::ostream& out) {
  WorldOptions world_options;
  world_options.max_parts_bytes = static_cast<size_t>(options.max_bytes);
  world_options.max_tensor_bytes = world_options.max_parts_bytes;
  world_options.shared_memory = options.shared_memory;
  world.Reserve(world_options);
  std::vector<int> all(static_cast<size_t>(world.size()));
  std::iota(all.begin(), all.end(), 0);

  if (world.rank() == 0) {
    out << world.size() << " ranks, " << world.local_size() << " on this host\n";
  }
  nlohmann::json json = {{"ranks", world.size()},
                         {"local_ranks", world.local_size()},
                         {"communicators", nlohmann::json::array()}};
  const auto run = [&](const std::string& name, std::unique_ptr<Communicator> comm, Ops& ops) {
    const CommBench bench(name, *comm, ops, options);
    if (world.rank() != 0) return;
    bench.Print(out << "\n");
    json["communicators"].push_back(bench.Json());
  };
  run(options.shared_memory ? "host memory: shared memory" : "host memory: MPI messages",
      world.Group(all, host), host);
  if (device != nullptr && world.size() > 1) {
    run("CUDA: by way of the host",
        MakeStagedCommunicator(world.Group(all, host), *device, host, world_options), *device);
    const absl::StatusOr<std::string> nccl = FindNccl(world);
    for (const bool exact : {false, true}) {
      if (!nccl.ok()) break;
      run(StrCat("CUDA: ", *nccl, exact ? ", exact sums" : ""),
          MakeNcclCommunicator(world, all, *device, world.Group(all, host), exact), *device);
    }
    if (!nccl.ok() && world.rank() == 0) out << "\nno NCCL: " << Message(nccl.status()) << "\n";
  }
  if (world.rank() != 0 || options.json.empty()) return absl::OkStatus();
  return WriteFile(options.json, json.dump(2) + "\n");
}

}  // namespace trireme
