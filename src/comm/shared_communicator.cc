#include "comm/shared_communicator.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/str.h"
#include "comm/all_reduce.h"
#include "kernels/device.h"

namespace trireme {
namespace {

// What slices must save to be worth one more exchange of bells: 0.2 us, or about 2 KiB from a
// neighbour's cache, on two cores of an EPYC; more here, as every exchange waits for the slowest.
constexpr int64_t kExchangeBytes = 8 << 10;

constexpr uint32_t kSlots = 4;                        // messages in flight from one rank to another
constexpr size_t kSmallSlotBytes = size_t{64} << 10;  // to a rank that is not the next one

}  // namespace

struct SharedCommunicator::Channel {
  Bell sent;   // pieces, rung by the sender
  Bell taken;  // pieces, rung by the receiver
};

// A segment: bell | channel to each rank | parts, twice | tensors, twice | slots to each rank
struct SharedCommunicator::Layout {
  size_t parts_bytes;
  size_t tensor_bytes;
  size_t slot_bytes;
  size_t small_slot_bytes;
  size_t parts_at;
  size_t tensors_at;
  size_t slots_at;
  size_t end;

  Layout(const WorldOptions& options, int size) {
    const size_t n = static_cast<size_t>(size);
    parts_bytes = Arena::Aligned(options.max_parts_bytes);
    tensor_bytes = Arena::Aligned(TensorBytes(options, size));
    slot_bytes = Arena::Aligned(std::max<size_t>(options.max_tensor_bytes, 1));
    small_slot_bytes = std::min(slot_bytes, kSmallSlotBytes);
    parts_at = sizeof(Bell) + n * sizeof(Channel);
    tensors_at = parts_at + 2 * parts_bytes;
    slots_at = tensors_at + 2 * tensor_bytes;
    end = slots_at + kSlots * (slot_bytes + (n - 1) * small_slot_bytes);
  }

  static bool IsNext(int from, int to, int size) { return to == (from + 1) % size; }
  size_t SlotBytes(int from, int to, int size) const {
    return IsNext(from, to, size) ? slot_bytes : small_slot_bytes;
  }
  size_t SlotAt(int from, int to, int size, uint32_t piece) const {
    const size_t slot = piece % kSlots;
    if (IsNext(from, to, size)) return slots_at + slot * slot_bytes;
    const size_t small_at = slots_at + kSlots * slot_bytes;
    return small_at +
           (static_cast<size_t>(to < from ? to : to - 1) * kSlots + slot) * small_slot_bytes;
  }
};

size_t SharedCommunicator::SegmentBytes(const WorldOptions& options, int size) {
  return Layout(options, size).end;
}

SharedCommunicator::SharedCommunicator(std::vector<int> ranks, std::vector<std::byte*> segments,
                                       const WorldOptions& options, Ops& ops, Waiter& waiter)
    : ranks_(std::move(ranks)),
      segments_(std::move(segments)),
      options_(options),
      ops_(ops),
      waiter_(waiter),
      layout_(std::make_unique<Layout>(options, size())) {
  CHECK_EQ(ranks_.size(), segments_.size());
  const auto self = std::find(ranks_.begin(), ranks_.end(), waiter.rank());
  CHECK(self != ranks_.end());
  rank_ = static_cast<int>(self - ranks_.begin());
}

SharedCommunicator::~SharedCommunicator() = default;

Bell& SharedCommunicator::bell(int rank) const {
  return *reinterpret_cast<Bell*>(segments_[static_cast<size_t>(rank)]);
}

SharedCommunicator::Channel& SharedCommunicator::channel(int from, int to) const {
  std::byte* channels = segments_[static_cast<size_t>(from)] + sizeof(Bell);
  return reinterpret_cast<Channel*>(channels)[to];
}

float* SharedCommunicator::parts_of(int rank) const {
  const size_t at = layout_->parts_at + (reductions_ & 1) * layout_->parts_bytes;
  return reinterpret_cast<float*>(segments_[static_cast<size_t>(rank)] + at);
}

std::byte* SharedCommunicator::tensor_of(int rank) const {
  const size_t at = layout_->tensors_at + (gathers_ & 1) * layout_->tensor_bytes;
  return segments_[static_cast<size_t>(rank)] + at;
}

void SharedCommunicator::Post() {
  ++posts_;
  bell(rank_).Ring();
}

void SharedCommunicator::AwaitPost(int peer, const char* verb) {
  Bell& awaited = bell(peer);
  const auto describe = [&] {
    return StrCat(verb, " of ranks ", Join(ranks_, ","), ": rank ",
                  ranks_[static_cast<size_t>(peer)], " did not come");
  };
  waiter_.Await(
      awaited, [&] { return awaited.Rung(posts_); }, waiter_.timeout(), describe);
}

Tensor SharedCommunicator::Parts(int64_t n_parts, int64_t T, int64_t H) {
  const Tensor parts(parts_of(rank_), DType::kF32, {n_parts, T, H});
  CHECK_LE(parts.bytes(), options_.max_parts_bytes) << "beyond WorldOptions::max_parts_bytes";
  return parts;
}

void SharedCommunicator::PlaceParts(Tensor parts) {
  const Tensor place = Parts(parts.dim(0), parts.dim(1), parts.dim(2));
  if (parts.raw() != place.raw() && !parts.empty()) {
    std::memmove(place.raw(), parts.raw(), parts.bytes());
  }
}

// y = rows of the sum.   y: [rows,H]
void SharedCommunicator::SumRows(Tensor y, RowRange rows, int64_t T, const GroupSum& sum,
                                 const float* bias) {
  const int64_t H = y.dim(1);
  pointers_.clear();
  for (int q = 0; q < size(); ++q) {
    const float* parts = parts_of(q) + rows.begin * H;
    for (int i = 0; i < sum.n_parts[static_cast<size_t>(q)]; ++i) {
      pointers_.push_back(parts + i * T * H);
    }
  }
  if (rows.size() > 0) ops_.SumParts(y, pointers_, sum.merges, bias);
}

void SharedCommunicator::AllReduce(Tensor y, Tensor parts, const GroupSum& sum, const float* bias) {
  const int64_t T = y.dim(0);
  CheckReduce(y, parts, sum, rank_, size(), T);
  if (y.size() == 0) return;
  PlaceParts(parts);
  Post();
  for (int peer = 0; peer < size(); ++peer) AwaitPost(peer, "AllReduce");
  if (UseSlices(y, TotalParts(sum), size(), kExchangeBytes)) {
    ReduceInSlices(y, parts.dim(0), sum, bias);
  } else {
    SumRows(y, {0, T}, T, sum, bias);
    traffic_.reduce_bytes += (size() - 1) * static_cast<int64_t>(parts.bytes());
  }
  ++reductions_;
}

// Each rank finishes its slice of the rows and takes the others' slices.
void SharedCommunicator::ReduceInSlices(Tensor y, int64_t n_parts, const GroupSum& sum,
                                        const float* bias) {
  const int64_t T = y.dim(0);
  const int64_t H = y.dim(1);
  const RowRange mine = RowSlice(T, rank_, size());
  const Tensor slice(tensor_of(rank_), y.dtype(), {mine.size(), H});
  CHECK_LE(slice.bytes(), layout_->tensor_bytes);
  SumRows(slice, mine, T, sum, bias);
  Post();
  for (int i = 0; i < size(); ++i) {
    const int q = (rank_ + i) % size();
    AwaitPost(q, "AllReduce");
    const RowRange rows = RowSlice(T, q, size());
    const Tensor to = y.Rows(rows.begin, rows.end);
    std::memcpy(to.raw(), tensor_of(q), to.bytes());
  }
  ++gathers_;
  traffic_.reduce_bytes += n_parts * (T - mine.size()) * H * static_cast<int64_t>(sizeof(float)) +
                           (size() - 1) * static_cast<int64_t>(slice.bytes());
}

void SharedCommunicator::ReduceScatter(Tensor y, Tensor parts, const GroupSum& sum,
                                       const float* bias) {
  const int64_t T = y.dim(0) * size();
  CheckReduce(y, parts, sum, rank_, size(), T);
  if (y.size() == 0) return;
  PlaceParts(parts);
  Post();
  for (int peer = 0; peer < size(); ++peer) AwaitPost(peer, "ReduceScatter");
  SumRows(y, {rank_ * y.dim(0), (rank_ + 1) * y.dim(0)}, T, sum, bias);
  ++reductions_;
  traffic_.reduce_bytes += static_cast<int64_t>(parts.bytes()) / size() * (size() - 1);
}

void SharedCommunicator::AllGather(Tensor y, Tensor x) {
  CHECK_EQ(y.bytes(), x.bytes() * ranks_.size());
  CHECK_LE(y.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  if (x.empty()) return;
  std::memcpy(tensor_of(rank_), x.raw(), x.bytes());
  Post();
  for (int i = 0; i < size(); ++i) {
    const int q = (rank_ + i) % size();
    AwaitPost(q, "AllGather");
    std::memcpy(static_cast<std::byte*>(y.raw()) + static_cast<size_t>(q) * x.bytes(), tensor_of(q),
                x.bytes());
  }
  ++gathers_;
  traffic_.gather_bytes += (size() - 1) * static_cast<int64_t>(x.bytes());
}

void SharedCommunicator::Send(Tensor x, int to) {
  CHECK(0 <= to && to < size() && to != rank_) << to;
  CHECK_LE(x.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  Channel& channel = this->channel(rank_, to);
  const size_t slot_bytes = layout_->SlotBytes(rank_, to, size());
  const auto* from = static_cast<const std::byte*>(x.raw());
  const auto describe = [&] {
    return StrCat("Send: rank ", ranks_[static_cast<size_t>(to)], " takes nothing");
  };
  for (size_t at = 0; at < x.bytes(); at += slot_bytes) {
    const uint32_t piece = channel.sent.rings.load(std::memory_order_relaxed);
    waiter_.Await(
        channel.taken, [&] { return channel.taken.Rung(piece + 1 - kSlots); },
        options_.stage_timeout, describe);
    std::memcpy(segments_[static_cast<size_t>(rank_)] + layout_->SlotAt(rank_, to, size(), piece),
                from + at, std::min(slot_bytes, x.bytes() - at));
    channel.sent.Ring();
  }
  traffic_.point_to_point_bytes += static_cast<int64_t>(x.bytes());
}

void SharedCommunicator::Recv(Tensor x, int from) {
  CHECK(0 <= from && from < size() && from != rank_) << from;
  CHECK_LE(x.bytes(), options_.max_tensor_bytes) << "beyond WorldOptions::max_tensor_bytes";
  Channel& channel = this->channel(from, rank_);
  const size_t slot_bytes = layout_->SlotBytes(from, rank_, size());
  auto* to = static_cast<std::byte*>(x.raw());
  const auto describe = [&] {
    return StrCat("Recv: nothing from rank ", ranks_[static_cast<size_t>(from)]);
  };
  for (size_t at = 0; at < x.bytes(); at += slot_bytes) {
    const uint32_t piece = channel.taken.rings.load(std::memory_order_relaxed);
    waiter_.Await(
        channel.sent, [&] { return channel.sent.Rung(piece + 1); }, options_.stage_timeout,
        describe);
    std::memcpy(to + at,
                segments_[static_cast<size_t>(from)] + layout_->SlotAt(from, rank_, size(), piece),
                std::min(slot_bytes, x.bytes() - at));
    channel.taken.Ring();
  }
}

}  // namespace trireme
