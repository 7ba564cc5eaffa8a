// Files: read whole, or at positions.
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

// Lets this process have as many files and sockets open as the system lets it; how many these are.
size_t RaiseOpenFileLimit();

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
  RandomAccessFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
  size_t size_ = 0;
};

}  // namespace trireme
