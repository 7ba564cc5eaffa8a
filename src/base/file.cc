#include "base/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace trireme {
namespace {

absl::Status Errno(const std::string& path, std::string_view what, int error) {
  std::string message = StrCat(path, ": cannot ", what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  ASSIGN_OR_RETURN(auto file, RandomAccessFile::Open(path));
  std::string contents(file->size(), '\0');
  RETURN_IF_ERROR(file->Read(0, std::as_writable_bytes(std::span(contents))));
  return contents;
}

absl::Status WriteFile(const std::string& path, std::string_view contents) {
  const std::string temporary = StrCat(path, ".", ::getpid(), ".tmp");
  FILE* file = std::fopen(temporary.c_str(), "wbe");
  if (file == nullptr) return Errno(temporary, "create", errno);
  const bool written = std::fwrite(contents.data(), 1, contents.size(), file) == contents.size();
  if (std::fclose(file) != 0 || !written) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return Errno(temporary, "write", error);
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return Errno(path, "replace", errno);
  return absl::OkStatus();
}

bool FileExists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

size_t RaiseOpenFileLimit() {
  rlimit limit{};
  CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : before;
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> RandomAccessFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Errno(path, "open", errno);
  std::unique_ptr<RandomAccessFile> file(new RandomAccessFile(path, fd));
  struct stat info;
  if (::fstat(fd, &info) != 0) return Errno(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) return InvalidArgument(path, ": expected a regular file");
  file->size_ = static_cast<size_t>(info.st_size);
  return file;
}

RandomAccessFile::~RandomAccessFile() { ::close(fd_); }

absl::Status RandomAccessFile::Read(size_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(path_, "read", errno);
    if (n == 0) {
      return DataLoss(path_, ": the file ends at byte ", offset, ", expected ", out.size(),
                      " more: it is truncated or was changed while being read");
    }
    offset += static_cast<size_t>(n);
    out = out.subspan(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace trireme
