#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "runtime/json.h"
#include "runtime/safetensors.h"
#include "runtime/stable_hash.h"
#include "runtime/tensor_store.h"

namespace trireme {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

// Fingerprint: pieces spread evenly over the tensors' bytes in the order of their names; 1% of a
// small checkpoint, but not fewer than 8.
constexpr int64_t kPieceBytes = 1024;
constexpr int64_t kMinPieces = 8;
constexpr int64_t kMaxPieces = 64;

using FilePtr = std::shared_ptr<const RandomAccessFile>;

struct Entry {
  FilePtr file;
  SafetensorsTensor tensor;
  int64_t bytes() const { return static_cast<int64_t>(tensor.end - tensor.begin); }
};

absl::Status UnusableDType(const Entry& entry) {
  return Unimplemented(entry.file->path(), ": tensor ", Quoted(entry.tensor.name), " is ",
                       Quoted(entry.tensor.dtype), ", expected F32, F16 or BF16");
}

// A rectangle of a stored matrix. Whole rows lie together: one read for all of them.
class FileMatrix final : public MatrixSource {
 public:
  FileMatrix(const Entry& entry, DType dtype, Range rows, Range cols)
      : file_(entry.file),
        name_(entry.tensor.name),
        dtype_(dtype),
        begin_(entry.tensor.begin),
        stride_(static_cast<uint64_t>(entry.tensor.shape[1])),
        rows_(rows),
        cols_(cols) {}

  int64_t rows() const override { return rows_.size(); }
  int64_t cols() const override { return cols_.size(); }
  DType dtype() const override { return dtype_; }

  absl::Status Read(int64_t row, int64_t n_rows, std::byte* out) const override {
    CHECK(row >= 0 && n_rows >= 0 && row + n_rows <= rows()) << row << " + " << n_rows;
    const size_t row_bytes = static_cast<size_t>(cols()) * SizeOf(dtype_);
    const bool whole = static_cast<uint64_t>(cols()) == stride_;
    const int64_t n_reads = whole ? std::min<int64_t>(n_rows, 1) : n_rows;
    const size_t bytes = whole ? static_cast<size_t>(n_rows) * row_bytes : row_bytes;
    for (int64_t i = 0; i < n_reads; ++i) {
      const uint64_t first = static_cast<uint64_t>(rows_.begin + row + i) * stride_ +
                             static_cast<uint64_t>(cols_.begin);
      const absl::Status status =
          file_->Read(begin_ + first * SizeOf(dtype_), std::span(out + i * row_bytes, bytes));
      if (!status.ok()) return Annotate(status, StrCat("tensor ", Quoted(name_)));
    }
    return absl::OkStatus();
  }

 private:
  FilePtr file_;
  std::string name_;
  DType dtype_;
  uint64_t begin_;   // of the stored matrix, bytes
  uint64_t stride_;  // its columns
  Range rows_;
  Range cols_;
};

class Checkpoint final : public TensorStore {
 public:
  explicit Checkpoint(std::string directory) : directory_(std::move(directory)) {}

  // INVALID_ARGUMENT if a tensor of this name is there already.
  absl::Status Add(FilePtr file, SafetensorsTensor tensor) {
    const std::string name = tensor.name;
    const auto [it, added] = entries_.try_emplace(name, Entry{file, std::move(tensor)});
    if (!added) {
      return InvalidArgument(file->path(), ": tensor ", Quoted(name), " is also in ",
                             it->second.file->path());
    }
    bytes_ += it->second.bytes();
    return absl::OkStatus();
  }

  const std::map<std::string, Entry>& entries() const { return entries_; }

  // Reads the sampled pieces. Once, after the last Add().
  absl::Status TakeFingerprint() {
    StableHash hash;
    for (const auto& [name, entry] : entries_) {
      hash.Add(name);
      hash.Add(entry.tensor.dtype);
      hash.Add(static_cast<uint64_t>(entry.tensor.shape.size()));
      for (int64_t dim : entry.tensor.shape) hash.Add(static_cast<uint64_t>(dim));
    }
    const int64_t n = std::clamp(bytes_ / (100 * kPieceBytes), kMinPieces, kMaxPieces);
    const int64_t piece = std::min(kPieceBytes, bytes_ / n + 1);
    const int64_t last = std::max<int64_t>(bytes_ - piece, 0);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t begin = last / (n - 1) * i + last % (n - 1) * i / (n - 1);
      RETURN_IF_ERROR(AddPiece({begin, std::min(begin + piece, bytes_)}, &hash));
    }
    fingerprint_ = hash.Hex();
    return absl::OkStatus();
  }

  absl::Status Expect(const std::vector<TensorSpec>& tensors) const override {
    std::map<std::string, std::vector<int64_t>> found;
    for (const auto& [name, entry] : entries_) found.emplace(name, entry.tensor.shape);
    const absl::Status status = CompareTensors(tensors, found);
    if (!status.ok()) return Annotate(status, directory_);
    for (const TensorSpec& spec : tensors) {
      const Entry& entry = entries_.at(spec.name);
      if (!UsableDType(entry.tensor.dtype)) return UnusableDType(entry);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<MatrixSource>> Matrix(const std::string& name, Range rows,
                                                       Range cols) const override {
    ASSIGN_OR_RETURN(const Entry* entry, Find(name));
    const absl::Status inside = CheckRectangle(name, entry->tensor.shape, rows, cols);
    if (!inside.ok()) return Annotate(inside, entry->file->path());
    return std::make_unique<FileMatrix>(*entry, *UsableDType(entry->tensor.dtype), rows, cols);
  }

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, Range range) const override {
    ASSIGN_OR_RETURN(const Entry* entry, Find(name));
    const absl::Status inside = CheckVectorRange(name, entry->tensor.shape, range);
    if (!inside.ok()) return Annotate(inside, entry->file->path());
    const DType dtype = *UsableDType(entry->tensor.dtype);
    std::vector<std::byte> stored(static_cast<size_t>(range.size()) * SizeOf(dtype));
    const uint64_t first = static_cast<uint64_t>(range.begin) * SizeOf(dtype);
    const absl::Status read = entry->file->Read(entry->tensor.begin + first, stored);
    if (!read.ok()) return Annotate(read, StrCat("tensor ", Quoted(name)));
    std::vector<float> values(static_cast<size_t>(range.size()));
    WidenToF32(stored.data(), dtype, range.size(), values.data());
    return values;
  }

  std::string Fingerprint() const override { return fingerprint_; }
  int64_t bytes() const override { return bytes_; }

 private:
  absl::StatusOr<const Entry*> Find(const std::string& name) const {
    const auto it = entries_.find(name);
    if (it == entries_.end()) return NotFound(directory_, ": no tensor ", Quoted(name));
    if (!UsableDType(it->second.tensor.dtype)) return UnusableDType(it->second);
    return &it->second;
  }

  // Hashes bytes `piece` of the tensors' bytes laid end to end in the order of their names.
  absl::Status AddPiece(Range piece, StableHash* hash) const {
    std::vector<std::byte> buffer(static_cast<size_t>(piece.size()));
    int64_t first = 0;  // of this tensor
    for (const auto& [name, entry] : entries_) {
      const int64_t begin = std::max(piece.begin, first);
      const int64_t end = std::min(piece.end, first + entry.bytes());
      if (begin < end) {
        const std::span<std::byte> out = std::span(buffer).subspan(
            static_cast<size_t>(begin - piece.begin), static_cast<size_t>(end - begin));
        const absl::Status status =
            entry.file->Read(entry.tensor.begin + static_cast<uint64_t>(begin - first), out);
        if (!status.ok()) return Annotate(status, StrCat("tensor ", Quoted(name)));
      }
      first += entry.bytes();
      if (first >= piece.end) break;
    }
    hash->Add(std::span<const std::byte>(buffer));
    return absl::OkStatus();
  }

  std::string directory_;
  std::map<std::string, Entry> entries_;
  std::string fingerprint_;
  int64_t bytes_ = 0;
};

absl::Status CheckDirectory(const std::string& directory) {
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0) {
    const std::string reason = std::strerror(errno);
    if (errno == EACCES) {
      return absl::PermissionDeniedError(StrCat(directory, ": cannot open: ", reason));
    }
    return NotFound(directory, ": cannot open: ", reason);
  }
  if (!S_ISDIR(info.st_mode)) {
    return InvalidArgument(directory, ": expected a model's directory (config.json, ", kSingleFile,
                           ", tokenizer.json), found a file");
  }
  if (::faccessat(AT_FDCWD, directory.c_str(), R_OK | X_OK, AT_EACCESS) != 0) {
    return absl::PermissionDeniedError(StrCat(directory, ": cannot open: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// Neither weights file is there: say what is.
absl::Status NoWeights(const std::string& directory) {
  std::error_code error;
  std::filesystem::directory_iterator files(directory, error);
  if (error) return Internal(directory, ": cannot list: ", error.message());
  int n_safetensors = 0;
  std::string other;
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::string name = files->path().filename().string();
    n_safetensors += name.ends_with(".safetensors");
    const bool weights = (name.starts_with("pytorch_model") && name.ends_with(".bin")) ||
                         name.ends_with(".pth") || name.ends_with(".gguf");
    if (weights && (other.empty() || name < other)) other = name;
  }
  if (n_safetensors > 0) {
    return NotFound(directory, ": found ", n_safetensors, " *.safetensors, but neither ",
                    kSingleFile, " nor ", kIndexFile);
  }
  if (!other.empty()) {
    return FailedPrecondition(directory, ": the weights are in ", Quoted(other),
                              "; convert them to safetensors (save_pretrained of transformers)");
  }
  return NotFound(directory, ": no weights: expected ", kSingleFile, " or ", kIndexFile);
}

absl::StatusOr<std::pair<FilePtr, SafetensorsHeader>> OpenFile(const std::string& path) {
  ASSIGN_OR_RETURN(FilePtr file, RandomAccessFile::Open(path));
  ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(*file));
  return std::make_pair(std::move(file), std::move(header));
}

absl::Status AddSingleFile(const std::string& path, Checkpoint* checkpoint) {
  ASSIGN_OR_RETURN(auto opened, OpenFile(path));
  auto& [file, header] = opened;
  if (header.tensors.empty()) return InvalidArgument(path, ": the file holds no tensors");
  for (SafetensorsTensor& tensor : header.tensors) {
    RETURN_IF_ERROR(checkpoint->Add(file, std::move(tensor)));
  }
  return absl::OkStatus();
}

// The index and the shards must name the same tensors in the same files.
absl::Status AddShards(const std::string& directory, Checkpoint* checkpoint) {
  const std::string index_path = StrCat(directory, "/", kIndexFile);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(index_path));
  const auto index = ParseSafetensorsIndex(text);
  if (!index.ok()) return Annotate(index.status(), index_path);
  std::set<std::string> shards;
  for (const auto& [name, shard] : *index) shards.insert(shard);

  for (const std::string& shard : shards) {
    const std::string path = StrCat(directory, "/", shard);
    if (!FileExists(path))
      return NotFound(path, ": this shard is missing; ", kIndexFile, " names it");
    ASSIGN_OR_RETURN(auto opened, OpenFile(path));
    auto& [file, header] = opened;
    for (SafetensorsTensor& tensor : header.tensors) {
      const auto it = index->find(tensor.name);
      if (it == index->end() || it->second != shard) {
        return InvalidArgument(
            path, ": tensor ", Quoted(tensor.name), " is here, but ", kIndexFile,
            it == index->end() ? " does not name it" : StrCat(" says ", Quoted(it->second)));
      }
      RETURN_IF_ERROR(checkpoint->Add(file, std::move(tensor)));
    }
  }
  for (const auto& [name, shard] : *index) {
    if (!checkpoint->entries().contains(name)) {
      return InvalidArgument(directory, "/", shard, ": tensor ", Quoted(name), " is missing; ",
                             kIndexFile, " names it");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorStore>> OpenCheckpoint(const std::string& directory) {
  RETURN_IF_ERROR(CheckDirectory(directory));
  auto checkpoint = std::make_unique<Checkpoint>(directory);
  const std::string single = StrCat(directory, "/", kSingleFile);
  if (FileExists(single)) {
    RETURN_IF_ERROR(AddSingleFile(single, checkpoint.get()));
  } else if (FileExists(StrCat(directory, "/", kIndexFile))) {
    RETURN_IF_ERROR(AddShards(directory, checkpoint.get()));
  } else {
    return NoWeights(directory);
  }
  RETURN_IF_ERROR(checkpoint->TakeFingerprint());
  return checkpoint;
}

}  // namespace trireme
