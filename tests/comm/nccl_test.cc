// NCCL's collectives on emulated devices, by ranks of mpirun, each with a device of its own: exact
// sums have the bits of the tree, others are near it.
#include <cuda_runtime.h>

#include "gmock/gmock.h"
#include "kernels/cuda/device_wait.h"
#include "kernels/cuda/fault.h"
#include "tests/comm/nccl_ranks.h"
#include "tests/comm/values.h"

namespace trireme {
namespace {

using cuda::Check;

class NcclTest : public testing::TestWithParam<bool> {  // exact
 protected:
  World& world() { return MpiTestWorld(); }
  bool exact() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Ranks, NcclTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Exact" : "Fast"; });

// A tensor on the device, and the same on the host.
class Mirrored {
 public:
  Mirrored(NcclRank& rank, DType dtype, std::initializer_list<int64_t> shape)
      : rank_(rank),
        host_(dtype, shape),
        memory_(rank.ops().Allocate(host_.get().bytes() + 1)),
        device_(host_.get().At(memory_.data())) {}

  Tensor host() { return host_.get(); }
  Tensor device() const { return device_; }
  Tensor Uploaded() {
    rank_.ops().Upload(device_, host().raw());
    return device_;
  }
  Tensor Downloaded() {
    rank_.ops().Download(host().raw(), device_);
    rank_.ops().Synchronize();
    return host();
  }

 private:
  NcclRank& rank_;
  Owned host_;
  Buffer memory_;
  Tensor device_;
};

// How far from the exact sum an element may be: each of n additions rounds once, to y's type.
float Tolerance(uint64_t seed, const GroupSum& sum, int64_t n, int64_t i, DType dtype,
                float bias = 0) {
  float magnitude = std::fabs(bias);
  int n_parts = 1;
  for (size_t r = 0; r < sum.n_parts.size(); ++r) {
    for (int p = 0; p < sum.n_parts[r]; ++p, ++n_parts)
      magnitude += std::fabs(Value(seed, static_cast<int>(r), p * n + i));
  }
  return static_cast<float>(n_parts) * magnitude * (dtype == DType::kF32 ? 0x1p-23f : 0x1p-8f);
}

void RunReduction(NcclRank& rank, bool exact, const ReductionCase& r, uint64_t seed) {
  Communicator& comm = rank.comm();
  const GroupSum sum = SumOver(r.n_chunks, comm.size());
  const int n_parts = sum.n_parts[static_cast<size_t>(comm.rank())];
  Mirrored elsewhere(rank, DType::kF32, {n_parts, r.T, r.H});
  Fill(elsewhere.host(), seed, comm.rank());
  const Tensor parts = r.in_place ? comm.Parts(n_parts, r.T, r.H) : elsewhere.device();
  if (parts.bytes() > 0) rank.ops().Upload(parts, elsewhere.host().raw());
  Mirrored bias(rank, DType::kF32, {r.H});
  Fill(bias.host(), seed, -1);
  const float* bias_data = r.bias ? bias.Uploaded().f32() : nullptr;

  const int64_t n_rows = r.scatter ? r.T / comm.size() : r.T;
  const int64_t first_row = r.scatter ? comm.rank() * n_rows : 0;
  Mirrored y(rank, r.dtype, {n_rows, r.H});
  if (r.scatter) {
    comm.ReduceScatter(y.device(), parts, sum, bias_data);
  } else {
    comm.AllReduce(y.device(), parts, sum, bias_data);
  }
  const Tensor found = y.Downloaded();
  int64_t n_wrong = 0;
  for (int64_t i = 0; i < found.size(); ++i) {
    const int64_t at = first_row * r.H + i;
    const float last = r.bias ? bias.host().f32()[i % r.H] : 0;
    const float sum_of_parts = ExpectedSum(seed, sum, r.T * r.H, at);
    const float expected = r.bias ? sum_of_parts + last : sum_of_parts;
    const float tolerance = exact ? 0 : Tolerance(seed, sum, r.T * r.H, at, r.dtype, last);
    if (!(std::fabs(At(found, i) - Rounded(expected, r.dtype)) <= tolerance)) ++n_wrong;
  }
  EXPECT_EQ(n_wrong, 0) << "T " << r.T << " H " << r.H << " chunks " << r.n_chunks << " of "
                        << found.size() << " elements, scatter " << r.scatter;
}

TEST_P(NcclTest, AllReduce) {
  NcclRank rank(world(), exact());
  EXPECT_EQ(rank.comm().rank(), world().rank());
  EXPECT_EQ(rank.comm().size(), world().size());
  uint64_t seed = 0;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool bias : {false, true}) {
      RunReduction(rank, exact(), {1, 1, 8, dtype, bias}, ++seed);
      RunReduction(rank, exact(), {3, 40, 8, dtype, bias}, ++seed);
      RunReduction(rank, exact(), {130, 256, 32, dtype, bias}, ++seed);  // sliced, several parts
      RunReduction(rank, exact(), {2, 40000, 8, dtype, bias},
                   ++seed);  // sliced, fewer rows than ranks
      RunReduction(rank, exact(), {5, 24, 2, dtype, bias}, ++seed);  // some ranks have no part
      RunReduction(rank, exact(), {511, 256, 2, dtype, bias}, ++seed);
      RunReduction(rank, exact(), {17, 64, 32, dtype, bias, false}, ++seed);
      RunReduction(rank, exact(), {0, 64, 8, dtype, bias}, ++seed);
    }
  }
}

TEST_P(NcclTest, ReduceScatter) {
  NcclRank rank(world(), exact());
  uint64_t seed = 100;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t n_rows : {0, 1, 7, 50}) {
      const int64_t T = n_rows * world().size();
      RunReduction(rank, exact(), {T, 96, 8, dtype, true, true, true}, ++seed);
      RunReduction(rank, exact(), {T, 96, 32, dtype, false, false, true}, ++seed);
      RunReduction(rank, exact(), {T, 96, 2, dtype, true, true, true},
                   ++seed);  // some have no part
    }
  }
}

TEST_P(NcclTest, AllGather) {
  NcclRank rank(world(), exact());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t n_rows : {0, 1, 3, 30}) {
      Mirrored x(rank, dtype, {n_rows, 100}), y(rank, dtype, {n_rows * world().size(), 100});
      Fill(x.host(), 200, world().rank());
      if (n_rows > 0) x.Uploaded();
      rank.comm().AllGather(y.device(), x.device());
      const Tensor found = y.Downloaded();
      int64_t n_wrong = 0;
      for (int64_t i = 0; i < found.size(); ++i) {
        const int64_t n = n_rows * 100;
        n_wrong += At(found, i) != Rounded(Value(200, static_cast<int>(i / n), i % n), dtype);
      }
      EXPECT_EQ(n_wrong, 0) << n_rows << " rows";
    }
  }
}

TEST_P(NcclTest, SendAndRecvKeepTheirOrder) {
  NcclRank rank(world(), exact());
  const int n = world().size(), me = world().rank();
  Mirrored first(rank, DType::kF32, {1, 300}), second(rank, DType::kBF16, {7, 30000});
  for (int from = 0; from < n; ++from) {
    const int to = (from + 1) % n;
    if (me == from) {
      Fill(first.host(), 300, from);
      Fill(second.host(), 301, from);
      rank.comm().Send(first.Uploaded(), to);
      rank.comm().Send(second.Uploaded(), to);
    } else if (me == to) {
      rank.comm().Recv(first.device(), from);
      rank.comm().Recv(second.device(), from);
      EXPECT_EQ(At(first.Downloaded(), 299), Value(300, from, 299));
      EXPECT_EQ(At(second.Downloaded(), 209999), Rounded(Value(301, from, 209999), DType::kBF16));
    }
  }
}

// The host goes on: rank 0 enqueues before the others even begin.
TEST_P(NcclTest, CallsDoNotWaitForPeers) {
  NcclRank rank(world(), exact());
  EXPECT_TRUE(rank.comm().on_stream());
  EXPECT_FALSE(rank.host().on_stream());
  if (world().rank() != 0) world().Exchange("");
  RunReduction(rank, exact(), {0, 1}, 1);
  const GroupSum sum = SumOver(8, world().size());
  const Tensor parts = rank.comm().Parts(sum.n_parts[static_cast<size_t>(world().rank())], 4, 8);
  Mirrored y(rank, DType::kF32, {4, 8});
  rank.comm().AllReduce(y.device(), parts, sum, nullptr);
  if (world().rank() == 0) world().Exchange("");
  rank.ops().Synchronize();
}

TEST_P(NcclTest, AGraphReplaysThemOnNewInputs) {
  NcclRank rank(world(), exact());
  Communicator& comm = rank.comm();
  const int n = comm.size(), me = comm.rank();
  const GroupSum sum = SumOver(32, n);
  const int n_parts = sum.n_parts[static_cast<size_t>(me)];
  const int64_t T = 2 * n, H = 40;
  Mirrored parts(rank, DType::kF32, {n_parts, T, H}), y(rank, DType::kF32, {T, H}),
      slice(rank, DType::kF32, {T / n, H}), gathered(rank, DType::kF32, {T, H});
  cudaStream_t stream = cuda::DeviceWaitOf(rank.ops()).stream();
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin");
  comm.AllReduce(y.device(), parts.device(), sum, nullptr);
  comm.ReduceScatter(slice.device(), parts.device(), sum, nullptr);
  comm.AllGather(gathered.device(), slice.device());
  cudaGraph_t graph = nullptr;
  Check(cudaStreamEndCapture(stream, &graph), "end");
  cudaGraphExec_t exec = nullptr;
  Check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  for (uint64_t seed = 400; seed < 403; ++seed) {
    Fill(parts.host(), seed, me);
    parts.Uploaded();
    Check(cudaGraphLaunch(exec, stream), "launch");
    for (Mirrored* result : {&y, &gathered}) {
      const Tensor found = result->Downloaded();
      int64_t n_wrong = 0;
      for (int64_t i = 0; i < found.size(); ++i) {
        const float tolerance = exact() ? 0 : Tolerance(seed, sum, T * H, i, DType::kF32);
        n_wrong += !(std::fabs(At(found, i) - ExpectedSum(seed, sum, T * H, i)) <= tolerance);
      }
      EXPECT_EQ(n_wrong, 0) << "replay " << seed - 400;
    }
  }
  Check(cudaGraphExecDestroy(exec), "destroy");
  Check(cudaGraphDestroy(graph), "destroy");
}

TEST_P(NcclTest, TrafficFollowsTheFormulas) {
  NcclRank rank(world(), exact());
  const int64_t n = world().size(), H = 64;
  const GroupSum sum = SumOver(8, static_cast<int>(n));
  const int64_t n_parts = sum.n_parts[static_cast<size_t>(world().rank())];
  const auto reduce_bytes = [&] { return rank.comm().traffic().reduce_bytes; };

  RunReduction(rank, exact(), {2, H}, 1);
  int64_t expected = exact() ? (n - 1) * n_parts * 2 * H * 4 : 2 * (n - 1) * 2 * H * 4 / n;
  EXPECT_EQ(reduce_bytes(), expected);

  const int64_t T = 5000;  // sliced
  RunReduction(rank, exact(), {T, H, 8, DType::kBF16}, 2);
  const int64_t slice = (world().rank() + 1) * T / n - world().rank() * T / n;
  expected += exact() ? n_parts * (T - slice) * H * 4 + (n - 1) * slice * H * 2
                      : 2 * (n - 1) * T * H * 2 / n;
  EXPECT_EQ(reduce_bytes(), expected);

  RunReduction(rank, exact(), {6 * n, H, 8, DType::kBF16, false, true, true}, 3);
  expected += exact() ? n_parts * 6 * (n - 1) * H * 4 : (n - 1) * 6 * H * 2;
  EXPECT_EQ(reduce_bytes(), expected);
}

TEST_P(NcclTest, IsFoundWhereEachRankHasADevice) {
  Check(cudaSetDevice(world().local_rank()), "cudaSetDevice");
  const auto found = FindNccl(world());
  ASSERT_TRUE(found.ok()) << Message(found.status());
  EXPECT_THAT(*found, testing::StartsWith("NCCL 2."));

  Check(cudaSetDevice(std::max(0, world().local_rank() - 1)), "cudaSetDevice");
  const auto shared = FindNccl(world());
  EXPECT_EQ(Message(shared.status()),
            "ranks 0 and 1 share device 0000:00:00.0 of " + world().host());
}

}  // namespace
}  // namespace trireme
