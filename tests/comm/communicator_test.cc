// One suite for every kind of communicator: one rank alone, ranks as threads, ranks of mpirun
// through shared memory and through MPI.
#include "comm/communicator.h"

#include <random>

#include "comm/all_reduce.h"
#include "gtest/gtest.h"
#include "tests/comm/ranks.h"
#include "tests/comm/values.h"

namespace trireme {
namespace {

class CommunicatorTest : public testing::TestWithParam<Ranks> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CommunicatorTest, testing::ValuesIn(AllRanks()),
                         [](const auto& info) { return RanksName(info.param); });

class PeersTest : public testing::TestWithParam<Ranks> {};
INSTANTIATE_TEST_SUITE_P(Ranks, PeersTest, testing::ValuesIn(AllRanks(2)),
                         [](const auto& info) { return RanksName(info.param); });

void RunReduction(Communicator& comm, const ReductionCase& r, uint64_t seed) {
  const GroupSum sum = SumOver(r.n_chunks, comm.size());
  const int n_parts = sum.n_parts[static_cast<size_t>(comm.rank())];
  Owned elsewhere(DType::kF32, {n_parts, r.T, r.H});
  const Tensor parts = r.in_place ? comm.Parts(n_parts, r.T, r.H) : elsewhere.get();
  Fill(parts, seed, comm.rank());
  std::vector<float> bias(static_cast<size_t>(r.H));
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = Value(seed, -1, static_cast<int64_t>(i));
  const float* bias_data = r.bias ? bias.data() : nullptr;

  const int64_t n_rows = r.scatter ? r.T / comm.size() : r.T;
  const int64_t first_row = r.scatter ? comm.rank() * n_rows : 0;
  Owned y(r.dtype, {n_rows, r.H});
  if (r.scatter) {
    comm.ReduceScatter(y.get(), parts, sum, bias_data);
  } else {
    comm.AllReduce(y.get(), parts, sum, bias_data);
  }
  int64_t n_wrong = 0;
  for (int64_t i = 0; i < y.get().size(); ++i) {
    float expected = ExpectedSum(seed, sum, r.T * r.H, first_row * r.H + i);
    if (r.bias) expected += bias[static_cast<size_t>(i % r.H)];
    if (At(y.get(), i) != Rounded(expected, r.dtype)) ++n_wrong;
  }
  EXPECT_EQ(n_wrong, 0) << "T " << r.T << " H " << r.H << " chunks " << r.n_chunks << " of "
                        << y.get().size() << " elements, scatter " << r.scatter;
}

void RunGather(Communicator& comm, int64_t n_rows, int64_t H, DType dtype, uint64_t seed) {
  Owned x(dtype, {n_rows, H});
  Owned y(dtype, {n_rows * comm.size(), H});
  Fill(x.get(), seed, comm.rank());
  comm.AllGather(y.get(), x.get());
  int64_t n_wrong = 0;
  for (int64_t i = 0; i < y.get().size(); ++i) {
    const int from = static_cast<int>(i / (n_rows * H));
    if (At(y.get(), i) != Rounded(Value(seed, from, i % (n_rows * H)), dtype)) ++n_wrong;
  }
  EXPECT_EQ(n_wrong, 0) << n_rows << " rows of " << H;
}

void SendFilled(Communicator& comm, int to, int64_t n, uint64_t seed) {
  Owned x(DType::kF32, {1, n});
  Fill(x.get(), seed, comm.rank());
  comm.Send(x.get(), to);
}
void RecvFilled(Communicator& comm, int from, int64_t n, uint64_t seed) {
  Owned x(DType::kF32, {1, n});
  comm.Recv(x.get(), from);
  int64_t n_wrong = 0;
  for (int64_t i = 0; i < n; ++i) n_wrong += At(x.get(), i) != Value(seed, from, i);
  EXPECT_EQ(n_wrong, 0) << n << " floats from " << from;
}

std::vector<int> UpTo(int n) {
  std::vector<int> ranks(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) ranks[static_cast<size_t>(i)] = i;
  return ranks;
}

TEST_P(CommunicatorTest, AllReduceAddsInTheOrderOfTheTree) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    EXPECT_EQ(comm->rank(), world.rank());
    EXPECT_EQ(comm->size(), world.size());
    uint64_t seed = 0;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const bool bias : {false, true}) {
        RunReduction(*comm, {1, 1, 8, dtype, bias}, ++seed);
        RunReduction(*comm, {3, 40, 8, dtype, bias}, ++seed);
        RunReduction(*comm, {9, 2048, 8, dtype, bias}, ++seed);    // beyond the crossover
        RunReduction(*comm, {130, 256, 32, dtype, bias}, ++seed);  // likewise, several parts
        RunReduction(*comm, {5, 24, 2, dtype, bias}, ++seed);      // some ranks have no part
        RunReduction(*comm, {130, 256, 2, dtype, bias}, ++seed);
        RunReduction(*comm, {17, 64, 32, dtype, bias, false}, ++seed);
        RunReduction(*comm, {0, 64, 8, dtype, bias}, ++seed);
      }
    }
  });
}

TEST_P(CommunicatorTest, ReduceScatterGivesEachRankItsRows) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    uint64_t seed = 100;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t n_rows : {0, 1, 7, 50}) {
        const int64_t T = n_rows * comm->size();
        RunReduction(*comm, {T, 96, 8, dtype, true, true, true}, ++seed);
        RunReduction(*comm, {T, 96, 32, dtype, false, false, true}, ++seed);
      }
    }
  });
}

TEST_P(CommunicatorTest, AllGatherPutsTheRanksOneAfterTheOther) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    uint64_t seed = 200;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t n_rows : {0, 1, 3, 30}) RunGather(*comm, n_rows, 1000, dtype, ++seed);
    }
  });
}

TEST_P(PeersTest, MessagesKeepTheirOrderAndFourNeedNoReceiver) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    const int n = comm->size();
    const int next = (comm->rank() + 1) % n;
    const int previous = (comm->rank() + n - 1) % n;
    // All ranks send before any receives: to the next rank tensors of any size, to others small
    // ones.
    const int64_t largest = static_cast<int64_t>(TestOptions().max_tensor_bytes / sizeof(float));
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 4; ++i) SendFilled(*comm, next, largest - i, 300 + i);
      for (int i = 0; i < 4; ++i) RecvFilled(*comm, previous, largest - i, 300 + i);
      for (int i = 0; i < 4; ++i) SendFilled(*comm, previous, 16000 + i, 310 + i);
      for (int i = 0; i < 4; ++i) RecvFilled(*comm, next, 16000 + i, 310 + i);
    }
  });
}

TEST_P(PeersTest, LargeTensorsReachAnyRank) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    const int64_t largest = static_cast<int64_t>(TestOptions().max_tensor_bytes / sizeof(float));
    for (int from = 0; from < comm->size(); ++from) {
      for (int to = 0; to < comm->size(); ++to) {
        if (from == to) continue;
        if (comm->rank() == from) SendFilled(*comm, to, largest, 320);
        if (comm->rank() == to) RecvFilled(*comm, from, largest, 320);
      }
    }
  });
}

// A tp x pp mesh: collectives inside the stages, tensors down the pipeline, all at random, each
// stage at its own pace.
void RunMesh(World& world, int tp, uint64_t seed) {
  const auto ops = MakeSumOps();
  const int pp = world.size() / tp;
  const int stage = world.rank() / tp;
  const int lane = world.rank() % tp;
  std::vector<int> stage_ranks;
  std::vector<int> lane_ranks;
  for (int i = 0; i < tp; ++i) stage_ranks.push_back(stage * tp + i);
  for (int i = 0; i < pp; ++i) lane_ranks.push_back(i * tp + lane);
  const auto comm = world.Group(stage_ranks, *ops);
  const auto pipeline = world.Group(lane_ranks, *ops);

  std::mt19937_64 shared(seed);                                  // drawn alike by all ranks
  std::mt19937_64 own(seed + 1 + static_cast<uint64_t>(stage));  // drawn alike by a stage
  for (int step = 0; step < 60; ++step) {
    const int64_t n_sent = static_cast<int64_t>(shared() % (step % 7 == 0 ? 200000 : 3000));
    const uint64_t id = shared() % 1000;
    if (stage > 0) RecvFilled(*pipeline, stage - 1, n_sent, id);
    for (uint64_t i = 0, n = own() % 6; i < n; ++i) {
      const int64_t T = static_cast<int64_t>(1 + own() % (own() % 8 == 0 ? 150 : 5));
      const int64_t H = static_cast<int64_t>(1 + own() % 300);
      const DType dtype = own() % 2 == 0 ? DType::kF32 : DType::kBF16;
      const int n_chunks = 1 << own() % 6;
      switch (own() % 3) {
        case 0:
          RunReduction(*comm, {T, H, n_chunks, dtype, own() % 2 == 0, own() % 4 != 0}, own() % 999);
          break;
        case 1:
          RunReduction(*comm, {T * tp, H, n_chunks, dtype, false, own() % 4 != 0, true},
                       own() % 999);
          break;
        default:
          RunGather(*comm, T, H, dtype, own() % 999);
      }
    }
    if (stage + 1 < pp) SendFilled(*pipeline, stage + 1, n_sent, id);
    if (stage == pp - 1 && pp > 1) SendFilled(*pipeline, 0, 16, id);  // the sampled ids
    if (stage == 0 && pp > 1) RecvFilled(*pipeline, pp - 1, 16, id);
  }
}

TEST_P(CommunicatorTest, MeshesOfGroupsWorkAtOnce) {
  RunOnRanks(GetParam(), [](World& world) {
    for (int tp = 1; tp <= world.size(); ++tp) {
      if (world.size() % tp == 0) RunMesh(world, tp, 1000 + static_cast<uint64_t>(tp));
    }
  });
}

TEST_P(CommunicatorTest, TrafficFollowsTheFormulas) {
  RunOnRanks(GetParam(), [](World& world) {
    const auto ops = MakeSumOps();
    const auto comm = world.Group(UpTo(world.size()), *ops);
    const int64_t n = comm->size();
    const int64_t H = 64;
    const GroupSum sum = SumOver(8, comm->size());
    const int64_t n_parts = sum.n_parts[static_cast<size_t>(comm->rank())];

    RunReduction(*comm, {2, H}, 1);  // too small to be sliced
    int64_t expected = (n - 1) * n_parts * 2 * H * 4;
    EXPECT_EQ(comm->traffic().reduce_bytes, expected);

    const int64_t T = 1000;  // bf16: sliced wherever there is more than one rank
    RunReduction(*comm, {T, H, 8, DType::kBF16}, 2);
    const int64_t slice = (comm->rank() + 1) * T / n - comm->rank() * T / n;
    if (n > 1) expected += n_parts * (T - slice) * H * 4 + (n - 1) * slice * H * 2;
    EXPECT_EQ(comm->traffic().reduce_bytes, expected);

    RunReduction(*comm, {6 * n, H, 8, DType::kBF16, false, true, true}, 3);
    expected += n_parts * 6 * (n - 1) * H * 4;
    EXPECT_EQ(comm->traffic().reduce_bytes, expected);

    RunGather(*comm, 6, H, DType::kBF16, 4);
    EXPECT_EQ(comm->traffic().gather_bytes, (n - 1) * 6 * H * 2);

    EXPECT_EQ(comm->traffic().point_to_point_bytes, 0);
    if (n > 1 && comm->rank() == 0) SendFilled(*comm, 1, 100, 5);
    if (comm->rank() == 1) RecvFilled(*comm, 0, 100, 5);
    EXPECT_EQ(comm->traffic().point_to_point_bytes, n > 1 && comm->rank() == 0 ? 400 : 0);
  });
}

}  // namespace
}  // namespace trireme
