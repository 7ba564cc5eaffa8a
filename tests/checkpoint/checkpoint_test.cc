// Checkpoint directories: opening, slices, what is expected of them, fingerprints, and bad ones.
#include <fcntl.h>
#include <sys/stat.h>

#include <numeric>
#include <set>

#include "gtest/gtest.h"
#include "runtime/tensor_store.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kRows = 6;
constexpr int64_t kCols = 5;

// Element (r,c) is 100*r + c.
std::string MatrixData() {
  std::vector<float> values;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) values.push_back(static_cast<float>(100 * r + c));
  }
  return Bytes(values);
}

const FileTensor kMatrix = {"m", "F32", {kRows, kCols}, MatrixData()};
const FileTensor kVector = {"v", "BF16", {3}, Bytes<uint16_t>({0x3f80, 0xc000, 0x3e80})};
const FileTensor kHalves = {"h", "F16", {4}, Bytes<uint16_t>({0x3c00, 0xc100, 0x0001, 0x7bff})};

std::unique_ptr<TensorStore> Open(const std::string& directory) {
  auto store = OpenCheckpoint(directory);
  CHECK(store.ok()) << Message(store.status());
  return std::move(*store);
}

std::unique_ptr<TensorStore> Open(const TempDir& dir, const std::vector<FileTensor>& tensors) {
  dir.Write("model.safetensors", Safetensors(tensors));
  return Open(dir.path());
}

void WriteShards(const TempDir& dir, const std::string& weight_map,
                 const std::vector<std::vector<FileTensor>>& shards) {
  dir.Write("model.safetensors.index.json", "{\"weight_map\":{" + weight_map + "}}");
  for (size_t i = 0; i < shards.size(); ++i) {
    dir.Write(StrCat(i + 1, ".safetensors"), Safetensors(shards[i]));
  }
}

std::vector<float> ReadF32(const MatrixSource& source, int64_t row, int64_t n_rows) {
  std::vector<float> out(static_cast<size_t>(n_rows * source.cols()));
  const absl::Status status = source.Read(row, n_rows, reinterpret_cast<std::byte*>(out.data()));
  CHECK(status.ok()) << Message(status);
  return out;
}

TEST(Checkpoint, EveryRectangleIsReadable) {
  const TempDir dir;
  const auto store = Open(dir, {kVector, kMatrix});
  for (int64_t r0 = 0; r0 <= kRows; ++r0) {
    for (int64_t r1 = r0; r1 <= kRows; ++r1) {
      for (int64_t c0 = 0; c0 <= kCols; ++c0) {
        for (int64_t c1 = c0; c1 <= kCols; ++c1) {
          const auto source = store->Matrix("m", {r0, r1}, {c0, c1});
          ASSERT_TRUE(source.ok()) << source.status();
          ASSERT_EQ((*source)->rows(), r1 - r0);
          ASSERT_EQ((*source)->cols(), c1 - c0);
          ASSERT_EQ((*source)->dtype(), DType::kF32);
          const std::vector<float> got = ReadF32(**source, 0, r1 - r0);
          for (int64_t r = r0, i = 0; r < r1; ++r) {
            for (int64_t c = c0; c < c1; ++c) ASSERT_EQ(got[i++], 100 * r + c);
          }
        }
      }
    }
  }
}

TEST(Checkpoint, ReadsSomeRowsOfASlice) {
  const TempDir dir;
  const auto store = Open(dir, {kMatrix});
  const auto source = store->Matrix("m", {1, 6}, {2, 4});
  ASSERT_TRUE(source.ok());
  EXPECT_THAT(ReadF32(**source, 2, 2), ElementsAre(302, 303, 402, 403));
  const auto whole = store->Matrix("m", {1, 6}, {0, kCols});
  EXPECT_THAT(ReadF32(**whole, 4, 1), ElementsAre(500, 501, 502, 503, 504));
}

TEST(Checkpoint, VectorsAreWidenedToF32) {
  const TempDir dir;
  const auto store = Open(dir, {kVector, kHalves, {"f", "F32", {2}, Bytes<float>({1.5f, -2.25f})}});
  EXPECT_THAT(store->Vector("v", {0, 3}).value(), ElementsAre(1.0f, -2.0f, 0.25f));
  EXPECT_THAT(store->Vector("v", {1, 2}).value(), ElementsAre(-2.0f));
  EXPECT_THAT(store->Vector("h", {0, 4}).value(), ElementsAre(1.0f, -2.5f, 0x1p-24f, 65504.0f));
  EXPECT_THAT(store->Vector("f", {1, 2}).value(), ElementsAre(-2.25f));
  EXPECT_THAT(store->Vector("f", {2, 2}).value(), ElementsAre());
  EXPECT_EQ(store->bytes(), 6 + 8 + 8);
}

TEST(Checkpoint, SourcesOutliveTheStore) {
  const TempDir dir;
  auto store = Open(dir, {kMatrix});
  const auto source = std::move(store->Matrix("m", {2, 3}, {0, 2}).value());
  store.reset();
  EXPECT_THAT(ReadF32(*source, 0, 1), ElementsAre(200, 201));
}

TEST(Checkpoint, RefusesSlicesThatAreNotThere) {
  const TempDir dir;
  const auto store = Open(dir, {kMatrix, kVector, {"ids", "I64", {1, 1}, "12345678"}});
  const std::string file = dir / "model.safetensors: ";
  EXPECT_THAT(store->Matrix("x", {0, 1}, {0, 1}).status(),
              IsError(kNotFound, dir.path() + ": no tensor \"x\""));
  EXPECT_THAT(store->Matrix("v", {0, 1}, {0, 1}).status(),
              IsError(kInvalid, file + "tensor \"v\" is [3], expected a matrix"));
  EXPECT_THAT(store->Vector("m", {0, 1}).status(),
              IsError(kInvalid, file + "tensor \"m\" is [6,5], expected a vector"));
  EXPECT_THAT(store->Matrix("m", {0, 7}, {0, 5}).status(),
              IsError(kInvalid, file + "tensor \"m\" has 6 rows, asked for 0 to 7"));
  EXPECT_THAT(store->Matrix("m", {3, 2}, {0, 5}).status(),
              IsError(kInvalid, file + "tensor \"m\" has 6 rows, asked for 3 to 2"));
  EXPECT_THAT(store->Matrix("m", {0, 6}, {-1, 5}).status(),
              IsError(kInvalid, file + "tensor \"m\" has 5 columns, asked for -1 to 5"));
  EXPECT_THAT(store->Vector("v", {0, 4}).status(),
              IsError(kInvalid, file + "tensor \"v\" has 3 elements, asked for 0 to 4"));
  EXPECT_THAT(
      store->Matrix("ids", {0, 1}, {0, 1}).status(),
      IsError(kUnimplemented, file + "tensor \"ids\" is \"I64\", expected F32, F16 or BF16"));
}

TEST(Checkpoint, FileTruncatedWhileInUseIsDataLoss) {
  const TempDir dir;
  const auto store = Open(dir, {kVector, kMatrix});
  const auto source = store->Matrix("m", {0, kRows}, {0, kCols});
  const auto size = std::filesystem::file_size(dir / "model.safetensors");
  ASSERT_EQ(::truncate((dir / "model.safetensors").c_str(), static_cast<off_t>(size - 10)), 0);
  std::vector<std::byte> out(kRows * kCols * 4);
  EXPECT_TRUE((*source)->Read(0, kRows - 1, out.data()).ok());
  EXPECT_THAT(
      (*source)->Read(0, kRows, out.data()),
      IsError(kDataLoss, AllOf(StartsWith("tensor \"m\": " + dir.path()),
                               HasSubstr("the file ends at byte"), HasSubstr("truncated"))));
  ASSERT_EQ(::truncate((dir / "model.safetensors").c_str(), 8), 0);
  EXPECT_THAT(store->Vector("v", {0, 3}).status(),
              IsError(kDataLoss, StartsWith("tensor \"v\": " + dir.path())));
}

// ---- Expect ----

absl::Status Expect(const std::vector<FileTensor>& there, const std::vector<TensorSpec>& expected) {
  const TempDir dir;
  const absl::Status status = Open(dir, there)->Expect(expected);
  if (status.ok()) return status;
  const std::string message = Message(status);
  CHECK(message.starts_with(dir.path())) << message;
  return absl::Status(status.code(), message.substr(dir.path().size()));
}

FileTensor Small(const std::string& name) { return {name, "F32", {1}, "abcd"}; }

TEST(CheckpointExpect, AcceptsExactlyTheTensors) {
  EXPECT_TRUE(Expect({kMatrix, kVector}, {{"v", {3}}, {"m", {6, 5}}}).ok());
  EXPECT_TRUE(Expect({kVector, Small("model.layers.0.self_attn.rotary_emb.inv_freq"),
                      Small("lm_head.weight")},
                     {{"v", {3}}})
                  .ok());
}

TEST(CheckpointExpect, NamesWhatDiffers) {
  const std::string fit = ": the weights do not fit config.json: ";
  EXPECT_THAT(Expect({kMatrix}, {{"m", {6, 5}}, {"v", {3}}}),
              IsError(kInvalid, fit + "1 tensor missing: \"v\""));
  EXPECT_THAT(Expect({kMatrix, kVector}, {{"m", {6, 5}}}),
              IsError(kInvalid, fit + "1 tensor that the model does not have: \"v\""));
  EXPECT_THAT(Expect({kMatrix, kVector}, {{"m", {5, 6}}, {"v", {3}}}),
              IsError(kInvalid, fit + "1 tensor of another shape: \"m\" is [6,5], expected [5,6]"));
  EXPECT_THAT(
      Expect({kMatrix, Small("y"), Small("z")},
             {{"a", {1}}, {"b", {1}}, {"c", {1}}, {"d", {1}}, {"m", {6}}}),
      IsError(kInvalid, fit + "4 tensors missing: \"a\", \"b\", \"c\", …; 2 tensors that the model "
                              "does not have: \"y\", \"z\"; 1 tensor of another shape: \"m\" is "
                              "[6,5], expected [6]"));
}

TEST(CheckpointExpect, RefusesADtypeOnlyWhereItIsExpected) {
  const FileTensor ids = {"ids", "I32", {1}, "abcd"};
  EXPECT_THAT(Expect({ids}, {{"ids", {1}}}),
              IsError(kUnimplemented,
                      "/model.safetensors: tensor \"ids\" is \"I32\", expected F32, F16 or BF16"));
  EXPECT_TRUE(Expect({kVector, {"x.rotary_emb.inv_freq", "I32", {1}, "abcd"}}, {{"v", {3}}}).ok());
}

// ---- Fingerprint ----

std::string Fingerprint(const std::vector<FileTensor>& tensors) {
  const TempDir dir;
  return Open(dir, tensors)->Fingerprint();
}

TEST(CheckpointFingerprint, DependsOnTheWeightsAlone) {
  const std::string expected = Fingerprint({kMatrix, kVector, kHalves});
  EXPECT_EQ(expected.size(), 32);
  EXPECT_EQ(Fingerprint({kHalves, kMatrix, kVector}), expected);
  const TempDir dir;
  WriteShards(dir, R"("m":"2.safetensors","v":"1.safetensors","h":"2.safetensors")",
              {{kVector}, {kMatrix, kHalves}});
  EXPECT_EQ(Open(dir.path())->Fingerprint(), expected);
}

TEST(CheckpointFingerprint, IsTheSameInEveryProcess) {
  EXPECT_EQ(Fingerprint({kMatrix, kVector, kHalves}), "86b8727b96ba8dc9a50d204e0b824bcc");
}

TEST(CheckpointFingerprint, SeesEveryByteOfASmallCheckpoint) {
  std::set<std::string> seen = {Fingerprint({kMatrix, kVector})};
  for (size_t i = 0; i < kMatrix.data.size() + kVector.data.size(); ++i) {
    FileTensor matrix = kMatrix;
    FileTensor vector = kVector;
    char& byte = i < matrix.data.size() ? matrix.data[i] : vector.data[i - matrix.data.size()];
    byte = static_cast<char>(byte ^ 1);
    EXPECT_TRUE(seen.insert(Fingerprint({matrix, vector})).second) << "byte " << i;
  }
}

TEST(CheckpointFingerprint, SeesSampledBytesOfALargeOne) {
  const FileTensor large = {"l", "F32", {512, 1024}, std::string(512 * 1024 * 4, 'x')};
  std::set<std::string> seen = {Fingerprint({large})};
  for (size_t i : {size_t{0}, size_t{1023}, large.data.size() - 1024, large.data.size() - 1}) {
    FileTensor changed = large;
    changed.data[i] = 'y';
    EXPECT_TRUE(seen.insert(Fingerprint({changed})).second) << "byte " << i;
  }
}

TEST(CheckpointFingerprint, SeesNamesShapesAndDtypes) {
  const std::string data(24, 'x');
  const std::set<std::string> all = {
      Fingerprint({{"a", "F32", {2, 3}, data}}), Fingerprint({{"b", "F32", {2, 3}, data}}),
      Fingerprint({{"a", "F32", {3, 2}, data}}), Fingerprint({{"a", "F32", {6}, data}}),
      Fingerprint({{"a", "I32", {2, 3}, data}}), Fingerprint({{"a", "F16", {4, 3}, data}}),
  };
  EXPECT_EQ(all.size(), 6);
}

// ---- directories ----

TEST(CheckpointDirectory, ShardsReadAsOneFile) {
  const TempDir dir;
  WriteShards(dir, R"("m":"2.safetensors","v":"1.safetensors")", {{kVector}, {kMatrix}});
  const auto store = Open(dir.path());
  EXPECT_TRUE(store->Expect({{"v", {3}}, {"m", {6, 5}}}).ok());
  EXPECT_THAT(ReadF32(**store->Matrix("m", {3, 4}, {0, 2}), 0, 1), ElementsAre(300, 301));
  EXPECT_THAT(store->Vector("v", {0, 1}).value(), ElementsAre(1.0f));
}

TEST(CheckpointDirectory, IndexAndShardsMustAgree) {
  const std::string both = R"("m":"2.safetensors","v":"1.safetensors")";
  const auto open = [](const std::string& map, const std::vector<std::vector<FileTensor>>& shards) {
    const TempDir dir;
    WriteShards(dir, map, shards);
    const absl::Status status = OpenCheckpoint(dir.path()).status();
    CHECK(Message(status).starts_with(dir.path())) << Message(status);
    return absl::Status(status.code(), Message(status).substr(dir.path().size()));
  };
  EXPECT_THAT(open(both, {{kVector}}), IsError(kNotFound,
                                               "/2.safetensors: this shard is missing; "
                                               "model.safetensors.index.json names it"));
  EXPECT_THAT(open(both, {{kVector}, {kHalves, kMatrix}}),
              IsError(kInvalid,
                      "/2.safetensors: tensor \"h\" is here, but "
                      "model.safetensors.index.json does not name it"));
  EXPECT_THAT(open(both, {{kVector, kMatrix}, {kMatrix}}),
              IsError(kInvalid,
                      "/1.safetensors: tensor \"m\" is here, but "
                      "model.safetensors.index.json says \"2.safetensors\""));
  EXPECT_THAT(open(both + R"(,"h":"1.safetensors")", {{kVector}, {kMatrix}}),
              IsError(kInvalid,
                      "/1.safetensors: tensor \"h\" is missing; "
                      "model.safetensors.index.json names it"));
  EXPECT_THAT(open(R"("m":"../2.safetensors")", {}),
              IsError(kInvalid,
                      "/model.safetensors.index.json: weight_map: tensor \"m\": expected a "
                      "file in this directory, found \"../2.safetensors\""));
  const TempDir dir;
  WriteShards(dir, both, {{kVector}, {kMatrix}});
  ASSERT_EQ(::truncate((dir / "2.safetensors").c_str(), 150), 0);
  EXPECT_THAT(OpenCheckpoint(dir.path()).status(),
              IsError(kDataLoss, StartsWith((dir / "2.safetensors") + ": tensor \"m\": its data")));
}

TEST(CheckpointDirectory, SaysWhatIsWrongWithIt) {
  const TempDir dir;
  const std::string& path = dir.path();
  EXPECT_THAT(OpenCheckpoint(path + "/none").status(),
              IsError(kNotFound, path + "/none: cannot open: No such file or directory"));
  EXPECT_THAT(OpenCheckpoint(path).status(),
              IsError(kNotFound, path + ": no weights: expected model.safetensors or "
                                        "model.safetensors.index.json"));
  dir.Write("pytorch_model-00001-of-00002.bin", "");
  dir.Write("pytorch_model.bin.index.json", "{}");
  EXPECT_THAT(OpenCheckpoint(path).status(),
              IsError(kFailedPrecondition,
                      path + ": the weights are in \"pytorch_model-00001-of-00002.bin\"; convert "
                             "them to safetensors (save_pretrained of transformers)"));
  dir.Write("model-00001-of-00002.safetensors", "");
  EXPECT_THAT(
      OpenCheckpoint(path).status(),
      IsError(kNotFound, path + ": found 1 *.safetensors, but neither model.safetensors nor "
                                "model.safetensors.index.json"));
  dir.Write("model.safetensors", "");
  EXPECT_THAT(OpenCheckpoint(path).status(),
              IsError(kDataLoss, path + "/model.safetensors: a safetensors file has at least 8 "
                                        "bytes, found 0: it is truncated or empty"));
  dir.Write("model.safetensors", Safetensors({}));
  EXPECT_THAT(OpenCheckpoint(path).status(),
              IsError(kInvalid, path + "/model.safetensors: the file holds no tensors"));
  EXPECT_THAT(OpenCheckpoint(dir / "model.safetensors").status(),
              IsError(kInvalid, path + "/model.safetensors: expected a model's directory "
                                       "(config.json, model.safetensors, tokenizer.json), found a "
                                       "file"));
  std::filesystem::remove(dir / "model.safetensors");
  std::filesystem::create_directory(dir / "model.safetensors");
  EXPECT_THAT(OpenCheckpoint(path).status(),
              IsError(kInvalid, path + "/model.safetensors: expected a regular file"));
}

// root may read everything: steps down to nobody meanwhile.
class WithoutPrivileges {
 public:
  WithoutPrivileges() : user_(::geteuid()) { CHECK(user_ != 0 || ::seteuid(65534) == 0); }
  ~WithoutPrivileges() { CHECK(::seteuid(user_) == 0); }

 private:
  uid_t user_;
};

TEST(CheckpointDirectory, UnreadableIsPermissionDenied) {
  const TempDir dir;
  dir.Write("model.safetensors", Safetensors({kVector}));
  const std::string file = dir / "model.safetensors";
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(file.c_str(), 0), 0);
  {
    const WithoutPrivileges nobody;
    EXPECT_THAT(OpenCheckpoint(dir.path()).status(),
                IsError(kDenied, file + ": cannot open: Permission denied"));
  }
  ASSERT_EQ(::chmod(dir.path().c_str(), 0), 0);
  {
    const WithoutPrivileges nobody;
    EXPECT_THAT(OpenCheckpoint(dir.path()).status(),
                IsError(kDenied, dir.path() + ": cannot open: Permission denied"));
  }
  ASSERT_EQ(::chmod(dir.path().c_str(), 0700), 0);
}

}  // namespace
}  // namespace trireme
