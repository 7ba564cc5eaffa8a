// Files: read whole, or mapped.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace trireme {

// The whole file. NOT_FOUND, PERMISSION_DENIED or INTERNAL with the path and the system's reason.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces `path` with `contents` in one rename.
absl::Status WriteFile(const std::string& path, std::string_view contents);

bool FileExists(const std::string& path);

// An open file for positioned reads; closed when destroyed. Thread-safe.
class RandomAccessFile {
 public:
  static absl::StatusOr<std::unique_ptr<RandomAccessFile>> Open(const std::string& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

  // Fills `out` from `offset`; DATA_LOSS if the file ends before.
  absl::Status Read(size_t offset, std::span<std::byte> out) const;

 private:
  RandomAccessFile(std::string path, int fd, size_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_;
  size_t size_;
};

// A read-only private mapping of a whole file.
class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace trireme
