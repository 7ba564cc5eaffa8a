#include "comm/byte_ring.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace trireme {

size_t ByteRing::MemoryBytes(size_t capacity, int n_readers) {
  return sizeof(Header) + static_cast<size_t>(n_readers) * sizeof(Tail) + capacity;
}

ByteRing::ByteRing(std::byte* memory, size_t capacity, int n_readers)
    : header_(reinterpret_cast<Header*>(memory)),
      tails_(reinterpret_cast<Tail*>(memory + sizeof(Header))),
      data_(memory + sizeof(Header) + static_cast<size_t>(n_readers) * sizeof(Tail)),
      capacity_(capacity),
      n_readers_(n_readers) {
  CHECK_EQ(reinterpret_cast<uintptr_t>(memory) % alignof(Header), 0u);
}

size_t RingWriter::Free() const {
  const uint64_t head = ring_.header_->head.load(std::memory_order_relaxed);
  uint64_t slowest = head;
  for (int i = 0; i < ring_.n_readers_; ++i) {
    slowest = std::min(slowest, ring_.tails_[i].bytes.load(std::memory_order_acquire));
  }
  return ring_.capacity_ - static_cast<size_t>(head - slowest);
}

void RingWriter::Put(std::span<const std::byte> bytes, Waiter& waiter, const char* what,
                     const std::function<void()>& meanwhile) {
  while (!bytes.empty()) {
    size_t room = Free();
    if (room == 0) {
      ring_.written().Ring();
      const auto ready = [&] {
        if (meanwhile) meanwhile();
        return (room = Free()) > 0;
      };
      const auto describe = [&] { return StrCat(what, ": a rank of this host reads nothing"); };
      waiter.Await(ring_.drained(), ready, waiter.timeout(), describe,
                   meanwhile ? Waiter::kBusyPoll : Waiter::kForever);
    }
    const uint64_t head = ring_.header_->head.load(std::memory_order_relaxed);
    const size_t at = static_cast<size_t>(head % ring_.capacity_);
    const size_t n = std::min({bytes.size(), room, ring_.capacity_ - at});
    std::memcpy(ring_.data_ + at, bytes.data(), n);
    ring_.header_->head.store(head + n, std::memory_order_release);
    bytes = bytes.subspan(n);
  }
}

void RingWriter::Write(std::span<const std::byte> message, Waiter& waiter, const char* what,
                       const std::function<void()>& meanwhile) {
  if (ring_.n_readers_ == 0) return;
  const uint64_t length = message.size();
  Put(std::as_bytes(std::span(&length, 1)), waiter, what, meanwhile);
  Put(message, waiter, what, meanwhile);
  ring_.written().Ring();
}

bool RingReader::HasBytes() const {
  return ring_.header_->head.load(std::memory_order_acquire) !=
         ring_.tails_[reader_].bytes.load(std::memory_order_relaxed);
}

size_t RingReader::Take(std::byte* to, size_t bytes) {
  std::atomic<uint64_t>& tail = ring_.tails_[reader_].bytes;
  const uint64_t from = tail.load(std::memory_order_relaxed);
  const uint64_t there = ring_.header_->head.load(std::memory_order_acquire) - from;
  const size_t n = static_cast<size_t>(std::min<uint64_t>(bytes, there));
  const size_t at = static_cast<size_t>(from % ring_.capacity_);
  const size_t before_end = std::min(n, ring_.capacity_ - at);
  if (n == 0) return 0;
  std::memcpy(to, ring_.data_ + at, before_end);
  std::memcpy(to + before_end, ring_.data_, n - before_end);
  tail.store(from + n, std::memory_order_release);
  return n;
}

bool RingReader::PollMessage(std::vector<std::byte>* message) {
  if (!HasBytes()) return false;
  if (length_bytes_ < sizeof(length_)) {
    length_bytes_ += Take(reinterpret_cast<std::byte*>(&length_) + length_bytes_,
                          sizeof(length_) - length_bytes_);
    if (length_bytes_ == sizeof(length_)) {
      partial_.resize(static_cast<size_t>(length_));
      filled_ = 0;
    }
  }
  if (length_bytes_ == sizeof(length_)) {
    filled_ += Take(partial_.data() + filled_, partial_.size() - filled_);
  }
  ring_.drained().Ring();
  if (length_bytes_ < sizeof(length_) || filled_ < partial_.size()) return false;
  *message = std::move(partial_);
  partial_.clear();
  length_bytes_ = 0;
  return true;
}

}  // namespace trireme
