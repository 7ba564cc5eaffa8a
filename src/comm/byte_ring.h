// ByteRing: a stream of messages in shared memory, from one writer to every one of its readers.
// A message may be longer than the ring: it then moves in pieces as the readers take them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "comm/wait.h"

namespace trireme {

// In shared memory: a header, one tail per reader, `capacity` bytes. Zeroed memory is an empty
// ring.
class ByteRing {
 public:
  static size_t MemoryBytes(size_t capacity, int n_readers);
  ByteRing(std::byte* memory, size_t capacity, int n_readers);

  Bell& written() const { return header_->written; }
  Bell& drained() const { return header_->drained; }

 private:
  friend class RingWriter;
  friend class RingReader;
  struct alignas(64) Header {
    std::atomic<uint64_t> head;  // bytes ever written
    Bell written;
    Bell drained;
  };
  struct alignas(64) Tail {
    std::atomic<uint64_t> bytes;  // ever read by this reader
  };

  Header* header_;
  Tail* tails_;
  std::byte* data_;
  size_t capacity_;
  int n_readers_;
};

class RingWriter {
 public:
  explicit RingWriter(ByteRing ring) : ring_(ring) {}

  // Waits while the ring is full, calling `meanwhile` now and then. `what` names the call for the
  // line that ends the job when a reader takes nothing for the waiter's timeout.
  void Write(std::span<const std::byte> message, Waiter& waiter, const char* what,
             const std::function<void()>& meanwhile = nullptr);

 private:
  size_t Free() const;
  void Put(std::span<const std::byte> bytes, Waiter& waiter, const char* what,
           const std::function<void()>& meanwhile);

  ByteRing ring_;
};

class RingReader {
 public:
  RingReader(ByteRing ring, int reader) : ring_(ring), reader_(reader) {}

  Bell& written() const { return ring_.written(); }

  // True if PollMessage() would find bytes.
  bool HasBytes() const;

  // Takes what is there; true when a message is complete and in `message`.
  bool PollMessage(std::vector<std::byte>* message);

 private:
  size_t Take(std::byte* to, size_t bytes);

  ByteRing ring_;
  int reader_;
  uint64_t length_ = 0;      // of the message being read, once its 8 bytes are there
  size_t length_bytes_ = 0;  // how many of those have come
  std::vector<std::byte> partial_;
  size_t filled_ = 0;
};

}  // namespace trireme
