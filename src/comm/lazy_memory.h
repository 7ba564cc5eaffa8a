// LazyMemory: zeroed memory whose pages are taken when first touched, so that room for the largest
// tensor costs nothing until such a tensor moves.
#pragma once

#include <cstddef>

namespace trireme {

class LazyMemory {
 public:
  explicit LazyMemory(size_t bytes);  // ends the job with one line if there is no room
  ~LazyMemory();
  LazyMemory(const LazyMemory&) = delete;
  LazyMemory& operator=(const LazyMemory&) = delete;
  std::byte* data() const { return data_; }  // aligned to a page

 private:
  std::byte* data_;
  size_t bytes_;
};

}  // namespace trireme
