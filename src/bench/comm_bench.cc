#include "bench/comm_bench.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <iomanip>
#include <ostream>
#include <vector>

#include "base/file.h"
#include "bench/mpi_baseline.h"
#include "kernels/sum_tree.h"
#include "nlohmann/json.hpp"

namespace trireme {
namespace {

constexpr int64_t kHidden = 1024;  // 4 KiB of float32 in a row
constexpr int64_t kMaxRows = 256;
constexpr size_t kMeasuredBytes = size_t{2} << 20;  // in one measurement, roughly: a millisecond

struct CommCase {
  std::string name;
  size_t bytes;
  std::function<void()> run;    // on every rank
  std::vector<double> seconds;  // of one call, by round

  int Calls() const { return static_cast<int>(std::clamp<size_t>(kMeasuredBytes / bytes, 4, 100)); }
  double Best() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double Median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

class CommBench {
 public:
  CommBench(World& world, Ops& ops, const CommBenchOptions& options)
      : world_(world),

        options_(options),
        x_(ops.Allocate(kMaxRows * kHidden * sizeof(float))),
        y_(ops.Allocate(kMaxRows * kHidden * sizeof(float))) {
    WorldOptions world_options;
    world_options.max_parts_bytes = x_.bytes();
    world_options.max_tensor_bytes = x_.bytes();
    world_options.shared_memory = options.shared_memory;
    world.Reserve(world_options);
    std::vector<int> all;
    for (int i = 0; i < world.size(); ++i) all.push_back(i);
    comm_ = world.Group(all, ops);
    std::vector<ChunkRange> parts;
    for (int i = 0; i < world.size(); ++i) parts.push_back({i, i + 1});
    sum_ = {std::vector<int>(parts.size(), 1), SumTree(world.size()).Finish(parts)};
  }

  void Run() {
    for (const int64_t rows : {1, 4, 16, 64, 256}) AddReductions(rows);
    for (const int64_t rows : {4, 256}) AddOthers(rows);
    for (int round = 0; round < options_.rounds; ++round) {
      for (CommCase& c : cases_) Measure(c);
    }
  }

  void Print(std::ostream& out) const {
    out << world_.size() << " ranks, " << world_.local_size() << " on this host, "
        << (options_.shared_memory ? "shared memory" : "MPI messages") << "\n"
        << std::left << std::setw(36) << "verb" << std::right << std::setw(10) << "bytes"
        << std::setw(12) << "best us" << std::setw(12) << "median us"
        << "\n"
        << std::fixed << std::setprecision(2);
    for (const CommCase& c : cases_) {
      out << std::left << std::setw(36) << c.name << std::right << std::setw(10) << c.bytes
          << std::setw(12) << c.Best() * 1e6 << std::setw(12) << c.Median() * 1e6 << "\n";
    }
  }

  std::string Json() const {
    nlohmann::json json = {{"ranks", world_.size()},
                           {"local_ranks", world_.local_size()},
                           {"shared_memory", options_.shared_memory},
                           {"verbs", nlohmann::json::array()}};
    for (const CommCase& c : cases_) {
      json["verbs"].push_back({{"verb", c.name},
                               {"bytes", c.bytes},
                               {"best_seconds", c.Best()},
                               {"median_seconds", c.Median()}});
    }
    return json.dump(2) + "\n";
  }

 private:
  void Add(const std::string& name, size_t bytes, std::function<void()> run) {
    cases_.push_back({name, bytes, std::move(run), {}});
  }

  static void Write(Tensor x) { std::fill_n(x.f32(), x.size(), 1.0f); }

  void Reduce(Tensor y, bool write) {
    const Tensor parts = comm_->Parts(1, y.dim(0), y.dim(1));
    if (write) Write(parts);
    comm_->AllReduce(y, parts, sum_, nullptr);
  }

  void AddReductions(int64_t rows) {
    const Tensor x(x_.data(), DType::kF32, {rows, kHidden});
    const Tensor y(y_.data(), DType::kF32, {rows, kHidden});
    const Tensor y_bf16(y_.data(), DType::kBF16, {rows, kHidden});
    Add("write alone", x.bytes(), [=] { Write(x); });
    Add("AllReduce", x.bytes(), [=, this] { Reduce(y, true); });
    Add("AllReduce to bf16", x.bytes(), [=, this] { Reduce(y_bf16, true); });
    Add("AllReduce, same data", x.bytes(), [=, this] { Reduce(y, false); });
    if (!MpiIsRunning()) return;
    const size_t n = static_cast<size_t>(x.size());
    Add("MPI_Allreduce", x.bytes(), [=] {
      Write(x);
      MpiAllReduce(x.f32(), y.f32(), n);
    });
    Add("MPI_Allreduce, same data", x.bytes(), [=] { MpiAllReduce(x.f32(), y.f32(), n); });
  }

  void AddOthers(int64_t rows) {
    const int n = world_.size();
    const Tensor all(y_.data(), DType::kF32, {rows / n * n, kHidden});
    const Tensor mine(x_.data(), DType::kF32, {rows / n, kHidden});
    if (mine.size() == 0 || n == 1) return;
    Add("ReduceScatter", all.bytes(), [=, this] {
      const Tensor parts = comm_->Parts(1, all.dim(0), kHidden);
      Write(parts);
      comm_->ReduceScatter(mine, parts, sum_, nullptr);
    });
    Add("AllGather", all.bytes(), [=, this] {
      Write(mine);
      comm_->AllGather(all, mine);
    });
    Add("Send + Recv, there and back", all.bytes(), [=, this] {
      if (comm_->rank() == 0) {
        Write(all);
        comm_->Send(all, 1);
        comm_->Recv(all, 1);
      } else if (comm_->rank() == 1) {
        comm_->Recv(all, 0);
        comm_->Send(all, 0);
      }
    });
  }

  void Measure(CommCase& c) {
    const int n_calls = c.Calls();
    Meet();
    for (int i = 0; i < 2; ++i) c.run();
    Meet();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < n_calls; ++i) c.run();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    c.seconds.push_back(seconds.count() / n_calls);
  }

  // Returns when all ranks are here.
  void Meet() {
    float y = 0;
    const Tensor parts = comm_->Parts(1, 1, 1);
    *parts.f32() = 0;
    comm_->AllReduce(Tensor(&y, DType::kF32, {1, 1}), parts, sum_, nullptr);
  }

  World& world_;
  const CommBenchOptions& options_;
  Buffer x_;
  Buffer y_;
  std::unique_ptr<Communicator> comm_;
  GroupSum sum_;
  std::vector<CommCase> cases_;
};

}  // namespace

absl::Status RunCommBench(World& world, Ops& ops, const CommBenchOptions& options,
                          std::ostream& out) {
  CommBench bench(world, ops, options);
  bench.Run();
  if (world.rank() != 0) return absl::OkStatus();
  bench.Print(out);
  return options.json.empty() ? absl::OkStatus() : WriteFile(options.json, bench.Json());
}

}  // namespace trireme
