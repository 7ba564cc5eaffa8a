// Layouts on the emulated device, with --exact; what the fast path promises instead; and the CPU's
// logits beside them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "layouts.h"

namespace trireme {

// On a device heads have 8 elements or more.
std::vector<Case> LayoutCases() {
  return {{"heads_6_2_sharded", DType::kF32}, {"biases", DType::kBF16}, {"mistral", DType::kF32}};
}

namespace {

// Of first tokens: later ones may have been drawn apart.
void ExpectNearFirstLogits(const Case& c, const Outcome& got, const Outcome& expected,
                           const std::string& what) {
  const float tolerance = c.activations == DType::kF32 ? 1e-4f : 0.1f;
  for (uint64_t id = 1; id <= 9; ++id) {
    const std::vector<float>& a = got.logits.at({1000 + id - 1, 0});
    const std::vector<float>& b = expected.logits.at({1000 + id - 1, 0});
    for (size_t v = 0; v < b.size(); ++v) {
      if (std::isinf(a[v]) || std::isinf(b[v])) continue;  // masked by a filter
      ASSERT_NEAR(a[v], b[v], tolerance * (1 + std::fabs(b[v]))) << c.model << " " << what;
    }
  }
}

TEST(FastPath, LogitsAreNearWhateverTheLayout) {
  for (const Case& c : LayoutCases()) {
    for (const int tp : {1, 3}) {
      ReplicaOptions options = Base(c);
      options.exact = false;
      options.layout.tp = tp;
      ExpectNearFirstLogits(c, RunOnThreads(options, Requests()), Reference(c), StrCat("tp ", tp));
    }
  }
}

TEST(ExactPath, LogitsAreNearTheCpus) {
  for (const Case& c : LayoutCases()) {
    ReplicaOptions options = Base(c);
    options.device = DeviceKind::kCpu;
    ExpectNearFirstLogits(c, Reference(c), RunOnThreads(options, Requests()), "beside the CPU");
  }
}

TEST(HeadSizes, WithoutKernelsAreRefused) {
  ReplicaOptions options = Base({"heads_12_3", DType::kF32});  // heads of 4
  options.device = DeviceKind::kCuda;
  auto world = MakeSingleWorld();
  const absl::Status status = ReplicaRank::Load(options, *world).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Message(status),
            "the model has a head_dim of 4; on CUDA devices it has to be even and from 8 to 256; "
            "use --device cpu");
  for (const int64_t size : {8, 10, 256}) EXPECT_TRUE(HasCudaHead(size)) << size;
  for (const int64_t size : {2, 6, 9, 257, 258}) EXPECT_FALSE(HasCudaHead(size)) << size;
}

TEST(Activations, AreTheWeightsWhereThoseHave16Bits) {
  struct Kind {
    const char* model;
    std::optional<DType> weights, activations;
    const char* expected;
  };
  for (const Kind& kind : {Kind{"mha_f16", {}, {}, "f16"}, Kind{"biases", {}, {}, "bf16"},
                           Kind{"gqa_f32", {}, {}, "f32"}, Kind{"gqa_f32", DType::kF16, {}, "f16"},
                           Kind{"biases", {}, DType::kF32, "f32"}}) {
    ReplicaOptions options = Base({kind.model, DType::kF32});
    options.dtype = kind.weights;
    options.activations = kind.activations;
    auto world = MakeSingleWorld();
    auto rank = ReplicaRank::Load(options, *world);
    ASSERT_TRUE(rank.ok()) << rank.status();
    EXPECT_EQ((*rank)->replica().info().activations, kind.expected) << kind.model;
  }
}

TEST(FastPath, RanksMustAgreeOnTheArithmetic) {
  auto worlds = MakeThreadWorlds(2);
  ReplicaOptions options = Base(LayoutCases()[0]);
  options.layout.tp = 2;
  absl::Status statuses[2];
  const auto load = [&](int r) {
    ReplicaOptions mine = options;
    mine.exact = r == 0;
    statuses[r] = ReplicaRank::Load(mine, *worlds[static_cast<size_t>(r)]).status();
  };
  std::thread other(load, 1);
  load(0);
  other.join();
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(Message(status), testing::HasSubstr("has device=cuda-exact-1, rank 1 on "));
    EXPECT_THAT(Message(status), testing::HasSubstr("has device=cuda-1"));
  }
}

}  // namespace
}  // namespace trireme
