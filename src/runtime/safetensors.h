// The safetensors format (huggingface.co/docs/safetensors, "Format"): 8 bytes header length, little
// endian; a JSON object {name: {dtype, shape, data_offsets}}; the data, row-major, without holes.
// Checked in full before any weight is read. Errors name the tensor, what was found and what was
// expected: INVALID_ARGUMENT where the file contradicts the format, DATA_LOSS where it is shorter
// than its header says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "kernels/dtype.h"

namespace trireme {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;           // as the file says: "F32", "BF16", "I64", …
  std::vector<int64_t> shape;  // {} for a scalar
  uint64_t begin = 0;          // first byte and end of the data, from the start of the file
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsTensor> tensors;  // in the order of their data
};

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // as the reference reader

// F32, F16 and BF16; nothing for the dtypes that no verb takes.
std::optional<DType> UsableDType(std::string_view safetensors_dtype);

// Where the data begins, from the first bytes of a file (8, or all of a shorter file).
absl::StatusOr<uint64_t> SafetensorsDataBegin(std::span<const std::byte> prefix,
                                              uint64_t file_size);

// `prefix`: the file's bytes up to the data at least.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                         uint64_t file_size);

// Reads the header, and nothing past it; errors name the file.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file);

// model.safetensors.index.json: tensor name -> file, relative to the index. INVALID_ARGUMENT for a
// file that would leave the directory.
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view json);

}  // namespace trireme
