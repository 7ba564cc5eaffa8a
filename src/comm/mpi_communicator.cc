#include "comm/mpi_communicator.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace trireme {
namespace {

// Bytes that a connection between hosts moves in the time of one more exchange.
constexpr int64_t kExchangeBytes = 64 << 10;

// A tensor is sent in pieces small enough that MPI hands them to the network at once, without
// asking the receiver (Open MPI's eager limit for TCP is 64 KiB): they travel while this rank
// computes.
constexpr size_t kPieceBytes = size_t{32} << 10;
constexpr size_t kTensorsInFlight = 4;  // to one receiver

}  // namespace

MpiCommunicator::MpiCommunicator(std::vector<int> ranks, int group, const WorldOptions& options,
                                 Ops& ops, MpiPort& port)
    : ranks_(std::move(ranks)),
      collective_tag_(MpiTag::Collective(group)),
      point_to_point_tag_(MpiTag::PointToPoint(group)),
      options_(options),
      ops_(ops),
      port_(port),
      parts_{Outgoing(options.max_parts_bytes), Outgoing(options.max_parts_bytes)},
      tensors_{Outgoing(TensorBytes(options, size())), Outgoing(TensorBytes(options, size()))},
      received_(Arena::Aligned(options.max_parts_bytes) * ranks_.size()),
      sent_(ranks_.size()),
      rows_(ranks_.size()) {
  const auto self = std::find(ranks_.begin(), ranks_.end(), port.rank());
  CHECK(self != ranks_.end());
  rank_ = static_cast<int>(self - ranks_.begin());

  std::vector<int> others = ranks_;
  others.erase(others.begin() + rank_);
  port_.Connect(others, collective_tag_);
}

MpiCommunicator::~MpiCommunicator() {
  for (const Outgoing* outgoing : {&parts_[0], &parts_[1], &tensors_[0], &tensors_[1]}) {
    port_.AwaitSent(outgoing->last_send, "end of a group", options_.timeout);
  }
}

float* MpiCommunicator::received(int from) const {
  return reinterpret_cast<float*>(received_.data() + static_cast<size_t>(from) *
                                                         Arena::Aligned(options_.max_parts_bytes));
}

Tensor MpiCommunicator::Parts(int64_t n_parts, int64_t T, int64_t H) {
  const Outgoing& place = parts_[reductions_ & 1];
  port_.AwaitSent(place.last_send, "Parts", options_.timeout);
  const Tensor parts(place.memory.data(), DType::kF32, {n_parts, T, H});
  CHECK_LE(parts.bytes(), options_.max_parts_bytes) << "beyond WorldOptions::max_parts_bytes";
  return parts;
}

Tensor MpiCommunicator::PlaceParts(Tensor parts) {
  const Tensor place = Parts(parts.dim(0), parts.dim(1), parts.dim(2));
  if (parts.raw() != place.raw() && !parts.empty()) {
    std::memmove(place.raw(), parts.raw(), parts.bytes());
  }
  return place;
}

MpiCommunicator::Outgoing& MpiCommunicator::NextTensor(const char* verb) {
  Outgoing& tensor = tensors_[gathers_++ & 1];
  port_.AwaitSent(tensor.last_send, verb, options_.timeout);
  return tensor;
}

// Sends to each rank, and receives from each, the parts of the rows that the receiver finishes.
void MpiCommunicator::ExchangeRows(Tensor parts, const GroupSum& sum, const char* verb) {
  const int64_t T = parts.dim(1);
  const int64_t H = parts.dim(2);
  const RowRange mine = rows(rank_);
  const auto bytes = [&](int64_t n_rows) {
    return static_cast<size_t>(n_rows * H) * sizeof(float);
  };
  for (int q = 0; q < size(); ++q) {
    if (q == rank_ || mine.size() == 0) continue;
    for (int i = 0; i < sum.n_parts[static_cast<size_t>(q)]; ++i) {
      port_.Receive(received(q) + i * mine.size() * H, bytes(mine.size()), world_rank(q),
                    collective_tag_);
    }
  }
  for (int k = 1; k < size(); ++k) {
    const int q = (rank_ + k) % size();
    if (rows(q).size() == 0) continue;
    for (int64_t i = 0; i < parts.dim(0); ++i) {
      parts_[reductions_ & 1].last_send =
          port_.Send(parts.f32() + (i * T + rows(q).begin) * H, bytes(rows(q).size()),
                     world_rank(q), collective_tag_);
      traffic_.reduce_bytes += static_cast<int64_t>(bytes(rows(q).size()));
    }
  }
  port_.AwaitReceived(verb, options_.timeout);
}

// y = this rank's rows of the sum.   y: [rows,H]
void MpiCommunicator::SumRows(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
  const int64_t T = parts.dim(1);
  const int64_t H = parts.dim(2);
  const RowRange mine = rows(rank_);
  pointers_.clear();
  for (int q = 0; q < size(); ++q) {
    const float* first = q == rank_ ? parts.f32() + mine.begin * H : received(q);
    const int64_t stride = (q == rank_ ? T : mine.size()) * H;
    for (int i = 0; i < sum.n_parts[static_cast<size_t>(q)]; ++i) {
      pointers_.push_back(first + i * stride);
    }
  }
  if (mine.size() > 0) ops_.SumParts(y, pointers_, sum.merges, bias);
}

// y's rows of each rank from that rank; this rank's come from NextTensor()'s memory.
void MpiCommunicator::GatherRows(Tensor y, const char* verb) {
  Outgoing& tensor = tensors_[(gathers_ - 1) & 1];
  for (int q = 0; q < size(); ++q) {
    const Tensor to = y.Rows(rows(q).begin, rows(q).end);
    if (to.empty()) continue;
    if (q == rank_) {
      std::memcpy(to.raw(), tensor.memory.data(), to.bytes());
    } else {
      port_.Receive(to.raw(), to.bytes(), world_rank(q), collective_tag_);
    }
  }
  const size_t bytes = y.Rows(rows(rank_).begin, rows(rank_).end).bytes();
  for (int k = 1; k < size() && bytes > 0; ++k) {
    tensor.last_send =
        port_.Send(tensor.memory.data(), bytes, world_rank((rank_ + k) % size()), collective_tag_);
  }
  port_.AwaitReceived(verb, options_.timeout);
}

void MpiCommunicator::AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
  const int64_t T = y.dim(0);
  CheckReduce(y, parts, sum, rank_, size(), T);
  if (y.size() == 0) return;
  parts = PlaceParts(parts);
  const bool slices = UseSlices(y, TotalParts(sum), size(), kExchangeBytes);
  for (int q = 0; q < size(); ++q) rows(q) = slices ? RowSlice(T, q, size()) : RowRange{0, T};
  ExchangeRows(parts, sum, "AllReduce");
  if (slices) {
    Outgoing& tensor = NextTensor("AllReduce");
    const Tensor slice(tensor.memory.data(), y.dtype(), {rows(rank_).size(), y.dim(1)});
    SumRows(slice, parts, sum, bias);
    GatherRows(y, "AllReduce");
    traffic_.reduce_bytes += (size() - 1) * static_cast<int64_t>(slice.bytes());
  } else {
    SumRows(y, parts, sum, bias);
  }
  ++reductions_;
}

void MpiCommunicator::ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum,
                                    const float* bias) {
  const int64_t n_rows = y.dim(0);
  CheckReduce(y, parts, sum, rank_, size(), n_rows * size());
  if (y.size() == 0) return;
  parts = PlaceParts(parts);
  for (int q = 0; q < size(); ++q) rows(q) = {q * n_rows, (q + 1) * n_rows};
  ExchangeRows(parts, sum, "ReduceScatter");
  SumRows(y, parts, sum, bias);
  ++reductions_;
}

void MpiCommunicator::AllGather(Tensor y, Tensor x) {
  CHECK_EQ(y.bytes(), x.bytes() * ranks_.size());
  CHECK_LE(y.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  if (x.empty()) return;
  std::memcpy(NextTensor("AllGather").memory.data(), x.raw(), x.bytes());
  const int64_t n_rows = x.dim(0);
  for (int q = 0; q < size(); ++q) rows(q) = {q * n_rows, (q + 1) * n_rows};
  GatherRows(y, "AllGather");
  traffic_.gather_bytes += (size() - 1) * static_cast<int64_t>(x.bytes());
}

void MpiCommunicator::Send(Tensor x, int to) {
  CHECK(0 <= to && to < size() && to != rank_) << to;
  CHECK_LE(x.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  if (x.empty()) return;
  std::deque<uint64_t>& under_way = sent_[static_cast<size_t>(to)];
  if (under_way.size() == kTensorsInFlight) {
    port_.AwaitSent(under_way.front(), "Send", options_.stage_timeout);
    under_way.pop_front();
  }
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(x.raw()), x.bytes());
  uint64_t last = 0;
  for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    last = port_.SendCopy(bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at)),
                          world_rank(to), point_to_point_tag_);
  }
  under_way.push_back(last);
  traffic_.point_to_point_bytes += static_cast<int64_t>(bytes.size());
}

void MpiCommunicator::Recv(Tensor x, int from) {
  CHECK(0 <= from && from < size() && from != rank_) << from;
  CHECK_LE(x.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  if (x.empty()) return;
  auto* to = static_cast<std::byte*>(x.raw());
  for (size_t at = 0; at < x.bytes(); at += kPieceBytes) {
    port_.Receive(to + at, std::min(kPieceBytes, x.bytes() - at), world_rank(from),
                  point_to_point_tag_);
  }
  port_.AwaitReceived("Recv", options_.stage_timeout);
}

}  // namespace trireme
