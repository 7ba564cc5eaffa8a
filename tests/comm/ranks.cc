#include "tests/comm/ranks.h"

#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "comm/launch.h"
#include "comm/staged_communicator.h"
#include "kernels/dtype.h"
#include "kernels/sum_tree.h"
#include "tests/comm/forwarding_world.h"

namespace trireme {
namespace {

World* mpi_world = nullptr;

class SumOps : public Ops {
 public:
  Buffer Allocate(size_t bytes) override {
    return Buffer(std::calloc(bytes + 1, 1), bytes, [](void* data, size_t) { std::free(data); });
  }
  void SumParts(Tensor y, std::span<const float* const> parts, std::span<const uint8_t> merges,
                const float* bias) override {
    const int64_t H = y.dim(1);
    for (int64_t i = 0; i < y.size(); ++i) {
      float stack[kMaxSumDepth];
      int depth = 0;
      for (size_t p = 0; p < parts.size(); ++p) {
        stack[depth++] = parts[p][i];
        for (int m = 0; m < merges[p]; ++m) {
          --depth;
          stack[depth - 1] += stack[depth];
        }
      }
      CHECK_EQ(depth, 1);
      const float sum = bias != nullptr ? stack[0] + bias[i % H] : stack[0];
      if (y.dtype() == DType::kF32) {
        y.f32()[i] = sum;
      } else {
        y.data<uint16_t>()[i] = Bf16FromFloat(sum);
      }
    }
  }

  void Synchronize() override {}
  void Upload(Tensor to, const void* from) override { std::memcpy(to.raw(), from, to.bytes()); }
  void Download(void* to, Tensor from) override { std::memcpy(to, from.raw(), from.bytes()); }
  void EditLogits(Tensor, std::span<const LogitEdit>, int64_t) override { CHECK(false); }
  std::unique_ptr<Readback> MakeReadback(size_t) override { return nullptr; }
  absl::StatusOr<std::unique_ptr<Weight>> Pack(const MatrixSource&, const WeightSpec&) override {
    return Unimplemented("Pack");
  }
  void Linear(Tensor, Tensor, const Weight&) override { CHECK(false); }
  void Embed(Tensor, Tensor, const Weight&, int64_t) override { CHECK(false); }
  void RmsNorm(Tensor, Tensor, Tensor, float) override { CHECK(false); }
  void AddRmsNorm(Tensor, Tensor, Tensor, Tensor, float) override { CHECK(false); }
  void Add(Tensor, Tensor) override { CHECK(false); }
  void Dropout(Tensor, std::span<const DropoutRow>, int32_t) override { CHECK(false); }
  void RopeStoreKv(Tensor, KvLayer, Tensor, Tensor, Tensor, Tensor, const HeadMap&) override {
    CHECK(false);
  }
  void Attention(Tensor, Tensor, KvLayer, const AttentionPlan&, float, const HeadMap&) override {
    CHECK(false);
  }
  void GatedAct(Tensor, Tensor, Activation) override { CHECK(false); }
  void Act(Tensor, Tensor, Activation) override { CHECK(false); }
  void LayerNorm(Tensor, Tensor, Tensor, Tensor, float) override { CHECK(false); }
  void AddLayerNorm(Tensor, Tensor, Tensor, Tensor, Tensor, float) override { CHECK(false); }
  void GatherRows(Tensor, Tensor, Tensor) override { CHECK(false); }
  void FindCutoffs(Tensor, Tensor, std::span<const int64_t>, std::span<const Filter>) override {
    CHECK(false);
  }
  void DrawBest(Tensor, Tensor, std::span<const Draw>, Tensor, int64_t) override { CHECK(false); }
  void PickWinners(Tensor, Tensor) override { CHECK(false); }
  void Logprobs(Tensor, Tensor, std::span<const int64_t>, Tensor,
                std::span<const LogprobRow>) override {
    CHECK(false);
  }
  void Feed(Tensor, Tensor) override { CHECK(false); }
};

// A world whose groups exchange by way of host memory.
class StagedWorld : public ForwardingWorld {
 public:
  explicit StagedWorld(World& world) : ForwardingWorld(world), host_(MakeSumOps()) {}

  std::unique_ptr<Communicator> Group(std::span<const int> ranks, Ops& ops) override {
    return MakeStagedCommunicator(world_.Group(ranks, *host_), ops, *host_, world_.options());
  }

 private:
  std::unique_ptr<Ops> host_;
};

}  // namespace

std::vector<Ranks> AllRanks(int at_least) {
  if (LaunchedByMpi()) return {{LaunchedRanks(), true}, {LaunchedRanks(), true, true}};
  std::vector<Ranks> all = {{3, false, true}};
  for (const int n : {1, 2, 3, 4, 8}) {
    if (n >= at_least) all.push_back({n});
  }
  return all;
}

WorldOptions TestOptions() {
  WorldOptions options;
  options.max_parts_bytes = size_t{4} << 20;
  options.max_tensor_bytes = size_t{1} << 20;
  options.shared_memory = std::getenv("TRIREME_TEST_NO_SHARED_MEMORY") == nullptr;
  return options;
}

void RunOnRanks(const Ranks& ranks, const std::function<void(World&)>& body) {
  if (ranks.staged) {
    return RunOnRanks({ranks.n, ranks.mpi}, [&](World& world) {
      StagedWorld staged(world);
      body(staged);
    });
  }
  if (ranks.mpi) return body(MpiTestWorld());
  if (ranks.n == 1) {
    auto world = MakeSingleWorld();
    world->Reserve(TestOptions());
    return body(*world);
  }
  auto worlds = MakeThreadWorlds(ranks.n);
  std::vector<std::thread> threads;
  for (auto& world : worlds) {
    threads.emplace_back([&] {
      world->Reserve(TestOptions());
      body(*world);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::unique_ptr<Ops> MakeSumOps() { return std::make_unique<SumOps>(); }

World& MpiTestWorld() {
  CHECK(mpi_world != nullptr);
  return *mpi_world;
}
void SetMpiTestWorld(World* world) { mpi_world = world; }

}  // namespace trireme
