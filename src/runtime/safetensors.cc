#include "runtime/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <unordered_set>

#include "base/check.h"
#include "runtime/json.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr uint64_t kPrefix = 8;
constexpr std::string_view kMetadata = "__metadata__";

// Bits per element; 0 for a name that is not in the format (yet).
uint64_t BitsOf(std::string_view dtype) {
  struct Entry {
    std::string_view name;
    uint64_t bits;
  };
  static constexpr Entry kEntries[] = {
      {"F32", 32},    {"BF16", 16},   {"F16", 16},        {"BOOL", 8},        {"U8", 8},
      {"I8", 8},      {"I16", 16},    {"U16", 16},        {"I32", 32},        {"U32", 32},
      {"F64", 64},    {"I64", 64},    {"U64", 64},        {"C64", 64},        {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},
      {"F6_E2M3", 6}, {"F6_E3M2", 6},
  };
  for (const Entry& entry : kEntries) {
    if (entry.name == dtype) return entry.bits;
  }
  return 0;
}

// Takes the header's JSON event by event: the schema is fixed, and a header of 100 MB would be
// gigabytes as a tree. Returning false stops the parser.
class HeaderHandler final : public json::json_sax_t {
 public:
  absl::Status status;
  std::vector<SafetensorsTensor> tensors;  // offsets still relative to the data

  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  bool number_integer(json::number_integer_t value) override { return Unexpected(StrCat(value)); }
  bool number_float(json::number_float_t, const std::string& text) override {
    return Unexpected(text);
  }
  bool binary(json::binary_t&) override { return Unexpected("binary data"); }

  bool number_unsigned(json::number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > INT64_MAX) return Fail(StrCat("dimension ", value, " is too large"));
      tensors.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (n_offsets_ == 2) return Fail("data_offsets: expected 2 numbers, found more");
      (n_offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = value;
      return true;
    }
    return Unexpected(StrCat(value));
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ == Place::kTensor && field_ == "dtype") {
      tensors.back().dtype = value;
      return true;
    }
    return Unexpected(Quoted(value));
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kOutside:
        place_ = Place::kHeader;
        return true;
      case Place::kHeader:
        place_ = name_ == kMetadata ? Place::kMetadata : Place::kTensor;
        if (place_ == Place::kTensor) {
          tensors.emplace_back();
          tensors.back().name = name_;
          has_dtype_ = has_shape_ = has_offsets_ = false;
          n_offsets_ = 0;
        }
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(std::string& key) override {
    switch (place_) {
      case Place::kHeader:
        name_ = key;
        return names_.insert(key).second || Fail("is there twice");
      case Place::kMetadata:
        field_ = key;
        return metadata_.insert(key).second || Fail(StrCat(Quoted(key), " is there twice"));
      default:
        field_ = key;
        return FirstTime(key);
    }
  }

  bool end_object() override {
    if (place_ == Place::kHeader) {
      place_ = Place::kOutside;
      return true;
    }
    if (place_ == Place::kTensor) {
      if (!has_dtype_) return Fail("dtype is missing");
      if (!has_shape_) return Fail("shape is missing");
      if (!has_offsets_) return Fail("data_offsets is missing");
    }
    place_ = Place::kHeader;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kTensor && field_ == "shape") {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kTensor && field_ == "data_offsets") {
      place_ = Place::kOffsets;
      return true;
    }
    return Unexpected("a list");
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && n_offsets_ != 2) {
      return Fail(StrCat("data_offsets: expected 2 numbers, found ", n_offsets_));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    status = InvalidArgument("the header is not valid JSON at byte ", kPrefix + position);
    return false;
  }

 private:
  enum class Place { kOutside, kHeader, kMetadata, kTensor, kShape, kOffsets };

  bool FirstTime(std::string_view field) {
    bool* seen = field == "dtype"          ? &has_dtype_
                 : field == "shape"        ? &has_shape_
                 : field == "data_offsets" ? &has_offsets_
                                           : nullptr;
    if (seen == nullptr) {
      return Fail(StrCat("expected dtype, shape and data_offsets, found ", Quoted(field)));
    }
    if (*seen) return Fail(StrCat(field, " is there twice"));
    return *seen = true;
  }

  bool Unexpected(std::string_view found) {
    switch (place_) {
      case Place::kOutside:
        status = InvalidArgument("expected the header to be an object, found ", found);
        return false;
      case Place::kHeader:
        return Fail(StrCat("expected an object, found ", found));
      case Place::kMetadata:
        return Fail(StrCat(Quoted(field_), ": expected a string, found ", found));
      case Place::kShape:
        return Fail(StrCat("shape: expected whole numbers from 0, found ", found));
      case Place::kOffsets:
        return Fail(StrCat("data_offsets: expected whole numbers from 0, found ", found));
      case Place::kTensor:
        break;
    }
    const std::string_view expected = field_ == "dtype" ? "a string" : "a list of numbers";
    return Fail(StrCat(field_, ": expected ", expected, ", found ", found));
  }

  bool Fail(std::string_view problem) {
    status = InvalidArgument(name_ == kMetadata ? "" : "tensor ", Quoted(name_), ": ", problem);
    return false;
  }

  Place place_ = Place::kOutside;
  std::string name_;   // key of the header that is being read
  std::string field_;  // key of its object
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  int n_offsets_ = 0;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> metadata_;
};

// Bytes that the shape and dtype ask for; nothing where the product overflows.
std::optional<uint64_t> BytesOf(const SafetensorsTensor& tensor, uint64_t bits) {
  for (int64_t dim : tensor.shape) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(dim), &bits)) return std::nullopt;
  }
  return bits / 8 + (bits % 8 != 0);
}

absl::Status CheckTensor(const SafetensorsTensor& tensor, uint64_t data_size) {
  const std::string where = StrCat("tensor ", Quoted(tensor.name), ": ");
  if (tensor.begin > tensor.end) {
    return InvalidArgument(where, "data_offsets [", tensor.begin, ",", tensor.end,
                           "] end before they begin");
  }
  if (tensor.end > data_size) {
    return DataLoss(where, "its data ends at byte ", tensor.end, ", but the file holds only ",
                    data_size, " bytes of data: it is truncated or corrupt");
  }
  const uint64_t bits = BitsOf(tensor.dtype);
  if (bits == 0) return absl::OkStatus();  // refused if it is asked for
  const std::optional<uint64_t> bytes = BytesOf(tensor, bits);
  if (!bytes.has_value()) {
    return InvalidArgument(where, "shape ", ShapeText(tensor.shape), " is too large");
  }
  if (*bytes != tensor.end - tensor.begin) {
    return InvalidArgument(where, tensor.dtype, " ", ShapeText(tensor.shape), " takes ", *bytes,
                           " bytes, but data_offsets hold ", tensor.end - tensor.begin);
  }
  return absl::OkStatus();
}

// One after the other from the first byte of the data to the last.
absl::Status CheckLayout(const std::vector<SafetensorsTensor>& tensors, uint64_t data_size) {
  uint64_t end = 0;
  const SafetensorsTensor* previous = nullptr;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.begin < end) {
      return InvalidArgument("tensor ", Quoted(tensor.name), " begins at byte ", tensor.begin,
                             ", inside tensor ", Quoted(previous->name), ", which ends at ", end);
    }
    if (tensor.begin > end) {
      return InvalidArgument("tensor ", Quoted(tensor.name), " begins at byte ", tensor.begin,
                             ", but the data before it ends at ", end, ": no holes are allowed");
    }
    end = tensor.end;
    previous = &tensor;
  }
  if (end != data_size) {
    return InvalidArgument("the tensors end at byte ", end, " of the data, but the file holds ",
                           data_size, ": ", data_size - end, " bytes belong to none");
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<DType> UsableDType(std::string_view safetensors_dtype) {
  if (safetensors_dtype == "F32") return DType::kF32;
  if (safetensors_dtype == "F16") return DType::kF16;
  if (safetensors_dtype == "BF16") return DType::kBF16;
  return std::nullopt;
}

absl::StatusOr<uint64_t> SafetensorsDataBegin(std::span<const std::byte> prefix,
                                              uint64_t file_size) {
  if (file_size < kPrefix || prefix.size() < kPrefix) {
    return DataLoss("a safetensors file has at least 8 bytes, found ", file_size,
                    ": it is truncated or empty");
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(prefix[i]);
  if (std::memcmp(prefix.data(), "version ", kPrefix) == 0) {
    return InvalidArgument("this is a Git LFS pointer, not the weights: fetch them (git lfs pull)");
  }
  if (length > kMaxSafetensorsHeader) {
    return InvalidArgument("header length ", length, " is beyond ", kMaxSafetensorsHeader,
                           ": not a safetensors file");
  }
  if (length > file_size - kPrefix) {
    return DataLoss("header length ", length, " is beyond the end of the file of ", file_size,
                    " bytes: it is truncated or corrupt");
  }
  return kPrefix + length;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                         uint64_t file_size) {
  ASSIGN_OR_RETURN(const uint64_t data_begin, SafetensorsDataBegin(prefix, file_size));
  CHECK_GE(prefix.size(), data_begin);
  const char* const begin = reinterpret_cast<const char*>(prefix.data()) + kPrefix;
  const char* const end = reinterpret_cast<const char*>(prefix.data()) + data_begin;
  if (begin == end || *begin != '{') return InvalidArgument("the header does not begin with '{'");

  HeaderHandler handler;
  if (!json::sax_parse(begin, end, &handler)) return handler.status;

  const uint64_t data_size = file_size - data_begin;
  for (const SafetensorsTensor& tensor : handler.tensors) {
    RETURN_IF_ERROR(CheckTensor(tensor, data_size));
  }
  SafetensorsHeader header{std::move(handler.tensors)};
  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  RETURN_IF_ERROR(CheckLayout(header.tensors, data_size));
  for (SafetensorsTensor& tensor : header.tensors) {
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  return header;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file) {
  std::vector<std::byte> bytes(std::min<uint64_t>(file.size(), kPrefix));
  RETURN_IF_ERROR(file.Read(0, bytes));
  absl::StatusOr<uint64_t> data_begin = SafetensorsDataBegin(bytes, file.size());
  if (!data_begin.ok()) return Annotate(data_begin.status(), file.path());
  bytes.resize(*data_begin);
  RETURN_IF_ERROR(file.Read(kPrefix, std::span(bytes).subspan(kPrefix)));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(bytes, file.size());
  if (!header.ok()) return Annotate(header.status(), file.path());
  return header;
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text) {
  ASSIGN_OR_RETURN(const json root, ParseJsonObject(text));
  const auto map = root.find("weight_map");
  if (map == root.end()) return InvalidArgument("weight_map is missing");
  if (!map->is_object()) {
    return InvalidArgument("weight_map: expected an object, found ", Describe(*map));
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, value] : map->items()) {
    const std::string where = StrCat("weight_map: tensor ", Quoted(name), ": ");
    if (!value.is_string()) {
      return InvalidArgument(where, "expected a file name, found ", Describe(value));
    }
    const std::string& file = value.get_ref<const std::string&>();
    const std::vector<std::string> parts = SplitString(file, '/');
    if (file.empty() || file.front() == '/' || file.find('\0') != std::string::npos ||
        std::find(parts.begin(), parts.end(), "..") != parts.end()) {
      return InvalidArgument(where, "expected a file in this directory, found ", Quoted(file));
    }
    files.emplace(name, file);
  }
  if (files.empty()) return InvalidArgument("weight_map names no tensor");
  return files;
}

}  // namespace trireme
