#include "comm/byte_ring.h"

#include <random>
#include <thread>

#include "comm/lazy_memory.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

std::vector<std::byte> Random(std::mt19937& random, size_t bytes) {
  std::vector<std::byte> message(bytes);
  for (std::byte& byte : message) byte = static_cast<std::byte>(random());
  return message;
}

// A ring far smaller than what passes through, of a size that splits lengths and contents anywhere.
TEST(ByteRingTest, EveryReaderGetsEveryMessage) {
  constexpr size_t kCapacity = 61;
  constexpr int kReaders = 3;
  constexpr int kMessages = 3000;
  LazyMemory memory(ByteRing::MemoryBytes(kCapacity, kReaders));
  const ByteRing ring(memory.data(), kCapacity, kReaders);

  std::vector<std::thread> readers;
  for (int r = 0; r < kReaders; ++r) {
    readers.emplace_back([&, r] {
      Waiter waiter(r + 1, "host", r == 0);
      RingReader reader(ring, r);
      std::mt19937 random(7);
      std::vector<std::byte> message;
      for (int i = 0; i < kMessages; ++i) {
        waiter.Until(
            reader.written(), [&] { return reader.PollMessage(&message); }, kNoDeadline);
        const size_t bytes = random() % 150;
        ASSERT_EQ(message, Random(random, bytes)) << i;
      }
      EXPECT_FALSE(reader.HasBytes());
    });
  }
  Waiter waiter(0, "host", false);
  RingWriter writer(ring);
  std::mt19937 random(7);
  for (int i = 0; i < kMessages; ++i) {
    const size_t bytes = random() % 150;
    writer.Write(Random(random, bytes), waiter, "Write");
  }
  for (std::thread& reader : readers) reader.join();
}

TEST(ByteRingTest, WithoutReadersNothingWaits) {
  LazyMemory memory(ByteRing::MemoryBytes(16, 0));
  RingWriter writer(ByteRing(memory.data(), 16, 0));
  Waiter waiter(0, "host", false);
  writer.Write(std::vector<std::byte>(1000), waiter, "Write");
}

}  // namespace
}  // namespace trireme
