// The safetensors header: what is accepted, and how each way to be wrong is refused.
#include "runtime/safetensors.h"

#include "gtest/gtest.h"
#include "runtime/json.h"
#include "tests/checkpoint/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::StatusOr<SafetensorsHeader> Parse(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size());
}

// The header's JSON, with so many bytes of data behind it.
absl::Status ParseJson(const std::string& json, size_t data_bytes) {
  return Parse(RawSafetensors(json, std::string(data_bytes, 'x'))).status();
}

TEST(SafetensorsHeader, GivesTensorsInTheOrderOfTheirData) {
  const std::string json = R"({"b":{"shape":[2,3],"dtype":"F32","data_offsets":[6,30]},)"
                           R"("__metadata__":{"format":"pt"},)"
                           R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}     )";
  const std::string file = RawSafetensors(json, std::string(30, 'x'));
  const auto header = Parse(file);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors.size(), 2);
  const SafetensorsTensor& a = header->tensors[0];
  const SafetensorsTensor& b = header->tensors[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, "BF16");
  EXPECT_THAT(a.shape, ElementsAre(3));
  EXPECT_EQ(a.begin, 8 + json.size());
  EXPECT_EQ(a.end, 8 + json.size() + 6);
  EXPECT_EQ(b.name, "b");
  EXPECT_THAT(b.shape, ElementsAre(2, 3));
  EXPECT_EQ(b.begin, a.end);
  EXPECT_EQ(b.end, file.size());
}

TEST(SafetensorsHeader, TakesScalarsEmptyTensorsAndOtherDtypes) {
  const auto header = Parse(Safetensors({
      {"scalar", "F32", {}, "abcd"},
      {"empty", "F16", {4, 0, 2}, ""},
      {"ids", "I64", {2}, std::string(16, 'x')},
      {"half bytes", "F4", {3}, "ab"},
      {"from the future", "F7", {3}, "a"},
  }));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 5);
  EXPECT_THAT(header->tensors[0].shape, IsEmpty());
  EXPECT_TRUE(Parse(RawSafetensors("{}", "")).ok());
}

TEST(SafetensorsHeader, OnlyFloatsAreUsable) {
  EXPECT_EQ(UsableDType("F32"), DType::kF32);
  EXPECT_EQ(UsableDType("F16"), DType::kF16);
  EXPECT_EQ(UsableDType("BF16"), DType::kBF16);
  EXPECT_EQ(UsableDType("I32"), std::nullopt);
  EXPECT_EQ(UsableDType("F8_E4M3"), std::nullopt);
}

TEST(SafetensorsHeader, RefusesABadHeaderLength) {
  EXPECT_THAT(Parse("").status(), IsError(kDataLoss,
                                          "a safetensors file has at least 8 bytes, found 0: it is "
                                          "truncated or empty"));
  EXPECT_THAT(Parse("1234567").status(),
              IsError(kDataLoss,
                      "a safetensors file has at least 8 bytes, found 7: it is "
                      "truncated or empty"));
  EXPECT_THAT(Parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)).status(),
              IsError(kDataLoss,
                      "header length 3 is beyond the end of the file of 10 bytes: it is "
                      "truncated or corrupt"));
  EXPECT_THAT(Parse("version https://git-lfs.github.com/spec/v1").status(),
              IsError(kInvalid,
                      "this is a Git LFS pointer, not the weights: fetch them (git lfs "
                      "pull)"));
  EXPECT_THAT(Parse(std::string(8, '\xff')).status(),
              IsError(kInvalid,
                      "header length 18446744073709551615 is beyond 100000000: not a "
                      "safetensors file"));
}

TEST(SafetensorsHeader, RefusesWhatIsNotJson) {
  EXPECT_THAT(ParseJson("", 0), IsError(kInvalid, "the header does not begin with '{'"));
  EXPECT_THAT(ParseJson(" {}", 0), IsError(kInvalid, "the header does not begin with '{'"));
  EXPECT_THAT(ParseJson("[]", 0), IsError(kInvalid, "the header does not begin with '{'"));
  EXPECT_THAT(ParseJson("{", 0), IsError(kInvalid, "the header is not valid JSON at byte 10"));
  EXPECT_THAT(ParseJson("{} {}", 0), IsError(kInvalid, "the header is not valid JSON at byte 12"));
  EXPECT_THAT(ParseJson("{\"a\xff\":1}", 0),
              IsError(kInvalid, "the header is not valid JSON at byte 12"));
  EXPECT_THAT(ParseJson(R"({"a":{"shape":[1e999]}})", 0),
              IsError(kInvalid, "the header is not valid JSON at byte 28"));
}

TEST(SafetensorsHeader, RefusesAnotherSchema) {
  const auto with = [](const std::string& entry) { return ParseJson("{" + entry + "}", 4); };
  EXPECT_THAT(with(R"("a":3)"), IsError(kInvalid, "tensor \"a\": expected an object, found 3"));
  EXPECT_THAT(with(R"("a":{"shape":[1],"data_offsets":[0,4]})"),
              IsError(kInvalid, "tensor \"a\": dtype is missing"));
  EXPECT_THAT(with(R"("a":{"dtype":"F32","data_offsets":[0,4]})"),
              IsError(kInvalid, "tensor \"a\": shape is missing"));
  EXPECT_THAT(with(R"("a":{"dtype":"F32","shape":[1]})"),
              IsError(kInvalid, "tensor \"a\": data_offsets is missing"));
  EXPECT_THAT(with(R"("a":{"dtype":7})"),
              IsError(kInvalid, "tensor \"a\": dtype: expected a string, found 7"));
  EXPECT_THAT(with(R"("a":{"shape":"x"})"),
              IsError(kInvalid, "tensor \"a\": shape: expected a list of numbers, found \"x\""));
  EXPECT_THAT(with(R"("a":{"shape":[-1]})"),
              IsError(kInvalid, "tensor \"a\": shape: expected whole numbers from 0, found -1"));
  EXPECT_THAT(with(R"("a":{"shape":[2.5]})"),
              IsError(kInvalid, "tensor \"a\": shape: expected whole numbers from 0, found 2.5"));
  EXPECT_THAT(
      with(R"("a":{"shape":[[1]]})"),
      IsError(kInvalid, "tensor \"a\": shape: expected whole numbers from 0, found a list"));
  EXPECT_THAT(with(R"("a":{"data_offsets":[0]})"),
              IsError(kInvalid, "tensor \"a\": data_offsets: expected 2 numbers, found 1"));
  EXPECT_THAT(with(R"("a":{"data_offsets":[0,4,8]})"),
              IsError(kInvalid, "tensor \"a\": data_offsets: expected 2 numbers, found more"));
  EXPECT_THAT(
      with(R"("a":{"data_offsets":[null,4]})"),
      IsError(kInvalid, "tensor \"a\": data_offsets: expected whole numbers from 0, found null"));
  EXPECT_THAT(
      with(R"("a":{"offset":1})"),
      IsError(kInvalid, "tensor \"a\": expected dtype, shape and data_offsets, found \"offset\""));
  EXPECT_THAT(with(R"("__metadata__":{"n":1})"),
              IsError(kInvalid, "\"__metadata__\": \"n\": expected a string, found 1"));
  EXPECT_THAT(with(R"("__metadata__":[])"),
              IsError(kInvalid, "\"__metadata__\": expected an object, found a list"));
}

TEST(SafetensorsHeader, RefusesDuplicates) {
  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(ParseJson("{\"a\":" + tensor + ",\"a\":" + tensor + "}", 4),
              IsError(kInvalid, "tensor \"a\": is there twice"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"F32","dtype":"F16"}})", 4),
              IsError(kInvalid, "tensor \"a\": dtype is there twice"));
  EXPECT_THAT(ParseJson(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
              IsError(kInvalid, "\"__metadata__\": \"k\" is there twice"));
  EXPECT_THAT(ParseJson(R"({"__metadata__":{},"__metadata__":{}})", 0),
              IsError(kInvalid, "\"__metadata__\": is there twice"));
}

TEST(SafetensorsHeader, RefusesOffsetsThatDoNotFit) {
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
              IsError(kInvalid, "tensor \"a\": data_offsets [4,0] end before they begin"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7),
              IsError(kDataLoss,
                      "tensor \"a\": its data ends at byte 8, but the file holds only 7 "
                      "bytes of data: it is truncated or corrupt"));
  EXPECT_THAT(
      ParseJson(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}})", 1),
      IsError(kDataLoss,
              "tensor \"a\": its data ends at byte 18446744073709551615, but the file "
              "holds only 1 bytes of data: it is truncated or corrupt"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
              IsError(kInvalid, "tensor \"a\": F32 [2] takes 8 bytes, but data_offsets hold 4"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}})", 8),
              IsError(kInvalid, "tensor \"a\": BF16 [2] takes 4 bytes, but data_offsets hold 8"));
}

TEST(SafetensorsHeader, RefusesProductsThatOverflow) {
  const std::string huge = "4611686018427387904";  // 2^62: 2^64 bytes as F32
  EXPECT_THAT(
      ParseJson(R"({"a":{"dtype":"F32","shape":[)" + huge + R"(],"data_offsets":[0,0]}})", 0),
      IsError(kInvalid, "tensor \"a\": shape [" + huge + "] is too large"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],)"
                        R"("data_offsets":[0,0]}})",
                        0),
              IsError(kInvalid, "tensor \"a\": shape [4294967296,4294967296] is too large"));
  EXPECT_THAT(ParseJson(R"({"a":{"dtype":"U8","shape":[18446744073709551615]}})", 0),
              IsError(kInvalid, "tensor \"a\": dimension 18446744073709551615 is too large"));
}

TEST(SafetensorsHeader, RefusesOverlapsHolesAndLeftoverBytes) {
  const auto two = [](const std::string& first, const std::string& second, size_t bytes) {
    return ParseJson(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                         R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                     bytes);
  };
  EXPECT_TRUE(two("[0,4]", "[4,8]", 8).ok());
  EXPECT_TRUE(two("[4,8]", "[0,4]", 8).ok());
  EXPECT_THAT(two("[0,4]", "[3,7]", 7),
              IsError(kInvalid,
                      "tensor \"b\" begins at byte 3, inside tensor \"a\", which ends at "
                      "4"));
  EXPECT_THAT(two("[0,4]", "[0,4]", 4),
              IsError(kInvalid,
                      "tensor \"b\" begins at byte 0, inside tensor \"a\", which ends at "
                      "4"));
  EXPECT_THAT(two("[0,4]", "[5,9]", 9),
              IsError(kInvalid,
                      "tensor \"b\" begins at byte 5, but the data before it ends at 4: "
                      "no holes are allowed"));
  EXPECT_THAT(two("[1,5]", "[5,9]", 9),
              IsError(kInvalid,
                      "tensor \"a\" begins at byte 1, but the data before it ends at 0: "
                      "no holes are allowed"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 10),
              IsError(kInvalid,
                      "the tensors end at byte 8 of the data, but the file holds 10: 2 "
                      "bytes belong to none"));
}

TEST(SafetensorsHeader, MessagesStayOnOneShortLine) {
  const std::string name = "line\\n\\u0007" + std::string(500, 'n');
  const absl::Status status = ParseJson("{\"" + name + "\":1}", 0);
  EXPECT_EQ(Message(status).find('\n'), std::string::npos);
  EXPECT_EQ(Message(status).find('\a'), std::string::npos);
  EXPECT_LT(Message(status).size(), 200);
  EXPECT_THAT(Message(status), ::testing::StartsWith("tensor \"line\\x0a\\x07nnn"));
}

TEST(SafetensorsHeader, ReadingNamesTheFile) {
  const TempDir dir;
  dir.Write("short.safetensors", "1234");
  dir.Write("corrupt.safetensors", RawSafetensors("{\"a\"}", ""));
  const auto read = [&](const std::string& name) {
    return ReadSafetensorsHeader(**RandomAccessFile::Open(dir / name)).status();
  };
  EXPECT_THAT(read("short.safetensors"),
              IsError(kDataLoss, (dir / "short.safetensors") +
                                     ": a safetensors file has at least 8 bytes, found 4: it is "
                                     "truncated or empty"));
  EXPECT_THAT(read("corrupt.safetensors"),
              IsError(kInvalid,
                      (dir / "corrupt.safetensors") + ": the header is not valid JSON at byte 13"));
}

TEST(SafetensorsIndex, GivesTheFileOfEachTensor) {
  const auto index = ParseSafetensorsIndex(
      R"({"metadata":{"total_size":8},"weight_map":{"a":"m1.safetensors","b":"m2.safetensors"}})");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(*index,
              ElementsAre(std::pair("a", "m1.safetensors"), std::pair("b", "m2.safetensors")));
}

TEST(SafetensorsIndex, RefusesWhatIsMalformed) {
  const auto parse = [](const std::string& json) { return ParseSafetensorsIndex(json).status(); };
  EXPECT_THAT(parse("{"), IsError(kInvalid, "not valid JSON at byte 2"));
  EXPECT_THAT(parse("[]"), IsError(kInvalid, "expected a JSON object, found a list"));
  EXPECT_THAT(parse("{}"), IsError(kInvalid, "weight_map is missing"));
  EXPECT_THAT(parse(R"({"weight_map":3})"),
              IsError(kInvalid, "weight_map: expected an object, found 3"));
  EXPECT_THAT(parse(R"({"weight_map":{}})"), IsError(kInvalid, "weight_map names no tensor"));
  EXPECT_THAT(parse(R"({"weight_map":{"a":1}})"),
              IsError(kInvalid, "weight_map: tensor \"a\": expected a file name, found 1"));
  EXPECT_THAT(parse(R"({"weight_map":{"a":"x","a":"y"}})"),
              IsError(kInvalid, "the key \"a\" is there twice in one object"));
}

TEST(SafetensorsIndex, RefusesFilesOutsideTheDirectory) {
  for (const std::string file :
       {"", "/etc/passwd", "..", "../x.safetensors", "a/../../x.safetensors", "a/.."}) {
    EXPECT_THAT(ParseSafetensorsIndex(R"({"weight_map":{"a":")" + file + R"("}})").status(),
                IsError(kInvalid,
                        "weight_map: tensor \"a\": expected a file in this directory, "
                        "found \"" +
                            file + "\""));
  }
  EXPECT_THAT(ParseSafetensorsIndex(R"({"weight_map":{"a":"x\u0000y"}})").status(),
              IsError(kInvalid,
                      "weight_map: tensor \"a\": expected a file in this directory, "
                      "found \"x\\x00y\""));
  EXPECT_TRUE(ParseSafetensorsIndex(R"({"weight_map":{"a":"x..y.safetensors"}})").ok());
}

}  // namespace
}  // namespace trireme
