// Files for the tests: temporary directories, safetensors made by hand, statuses to expect.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "base/status.h"
#include "gmock/gmock.h"

namespace trireme {

// A fresh directory, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string pattern = StrCat(::testing::TempDir(), "trireme-XXXXXX");
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return StrCat(path_, "/", name); }
  void Write(const std::string& name, const std::string& contents) const {
    const absl::Status status = WriteFile(*this / name, contents);
    CHECK(status.ok()) << Message(status);
  }

 private:
  std::string path_;
};

// Header length, header, data.
inline std::string RawSafetensors(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(length.data(), &n, sizeof(n));
  return length + header + data;
}

struct FileTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

inline std::string Safetensors(const std::vector<FileTensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const FileTensor& tensor : tensors) {
    header += StrCat(",\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                     Join(tensor.shape, ","), "],\"data_offsets\":[", data.size(), ",",
                     data.size() + tensor.data.size(), "]}");
    data += tensor.data;
  }
  return RawSafetensors(header + "}", data);
}

// The bytes of some values.
template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A status of this code whose message is (or matches) `message`.
MATCHER_P2(IsError, code, message, "") {
  const absl::Status& status = arg;
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::Value(Message(status), ::testing::Matcher<std::string>(message));
}

inline constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
inline constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
inline constexpr auto kNotFound = absl::StatusCode::kNotFound;
inline constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
inline constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
inline constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

}  // namespace trireme
