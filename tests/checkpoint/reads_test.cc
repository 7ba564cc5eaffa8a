// What is really read of a checkpoint.
#include "gtest/gtest.h"
#include "runtime/tensor_store.h"
#include "tests/checkpoint/read_counter.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

constexpr int64_t kRows = 2048;
constexpr int64_t kCols = 2000;
constexpr int64_t kBytes = kRows * kCols * 2;

class ReadsTest : public ::testing::Test {
 protected:
  ReadsTest() {
    const std::string data(kBytes, 'x');
    file_ =
        Safetensors({{"a", "BF16", {kRows, kCols}, data}, {"b", "F16", {8}, data.substr(0, 16)}});
    dir_.Write("model.safetensors", file_);
  }

  std::unique_ptr<TensorStore> Open() const { return std::move(*OpenCheckpoint(dir_.path())); }

  TempDir dir_;
  std::string file_;
};

TEST_F(ReadsTest, CountsExactly) {
  const auto file = std::move(*RandomAccessFile::Open(dir_ / "model.safetensors"));
  std::vector<std::byte> out(12345);
  ReadCounter counter;
  ASSERT_TRUE(file->Read(7, out).ok());
  EXPECT_EQ(counter.Take(), (Reads{12345, 1}));
}

TEST_F(ReadsTest, OpeningReadsTheHeaderAndThePiecesOfTheFingerprint) {
  const int64_t header = static_cast<int64_t>(file_.size()) - kBytes - 16;
  ReadCounter counter;
  const auto store = Open();
  const Reads reads = counter.Take();
  EXPECT_GT(reads.bytes, header);
  EXPECT_LE(reads.bytes, header + 64 * 1024);
  EXPECT_LT(reads.bytes, kBytes / 100 + header);
}

TEST_F(ReadsTest, TwoRanksReadEachByteOnceByRows) {
  const auto store = Open();
  for (const Range rows : {Range{0, kRows / 2}, Range{kRows / 2, kRows}}) {
    std::vector<std::byte> out(kBytes / 2);
    ReadCounter counter;
    const auto source = store->Matrix("a", rows, {0, kCols});
    EXPECT_EQ(counter.Take(), (Reads{0, 0}));
    ReadCounter reading;
    ASSERT_TRUE((*source)->Read(0, rows.size(), out.data()).ok());
    EXPECT_EQ(reading.Take(), (Reads{kBytes / 2, 1}));
  }
}

TEST_F(ReadsTest, TwoRanksReadEachByteOnceByColumns) {
  const auto store = Open();
  for (const Range cols : {Range{0, kCols / 2}, Range{kCols / 2, kCols}}) {
    std::vector<std::byte> out(kBytes / 2);
    const auto source = store->Matrix("a", {0, kRows}, cols);
    ReadCounter counter;
    for (int64_t row = 0; row < kRows; row += 64) {
      ASSERT_TRUE((*source)->Read(row, 64, out.data()).ok());
    }
    EXPECT_EQ(counter.Take(), (Reads{kBytes / 2, kRows}));
  }
}

TEST_F(ReadsTest, VectorsReadTheirRange) {
  const auto store = Open();
  ReadCounter counter;
  ASSERT_TRUE(store->Vector("b", {2, 7}).ok());
  EXPECT_EQ(counter.Take(), (Reads{10, 1}));
}

}  // namespace
}  // namespace trireme
