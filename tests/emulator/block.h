// What device code runs in: the threads of one block as fibers, in random order between the points
// where they must meet (barriers and warp-wide operations): mixed, or one warp after the other,
// each as far ahead of the others as it can get.
//
// What it notices, ending the process with one line that names kernel, block and threads: threads
// that can never go on (a barrier or warp operation that not all of its threads reach), a warp
// operation whose lanes disagree on what it is. What it does not model: memory that other threads
// see late (a store is seen at once), registers, time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace trireme::emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

// The calling device thread's place. Changes at every switch of threads.
struct Place {
  Dim3 thread_index, block_index, block_size, grid_size;
  unsigned lane = 0;
};
extern thread_local Place place;

// The block's shared memory: poisoned at its start, as large as the launch said to the byte.
std::byte* SharedMemory();

// All threads of the block that have not ended meet here.
void SyncThreads();

constexpr int kWarpSize = 32;
constexpr size_t kLaneBytes = 64;  // what a lane brings to a warp operation, or takes from it
using LaneBytes = std::array<std::byte, kLaneBytes>;

// Meets the lanes of `mask`; the last to come runs complete(context, in, out), which fills out[l]
// for each lane l of the mask. `what` names the operation; lanes must agree on it.
using Complete = void (*)(const void* context, const LaneBytes* in, LaneBytes* out);
void MeetLanes(unsigned mask, const char* what, const void* in, size_t in_bytes, void* out,
               size_t out_bytes, Complete complete, const void* context);

// The same with types: f(lane, ins) is the Out of a lane, ins[l] the In of lane l.
template <typename Out, typename In, typename F>
Out Exchange(unsigned mask, const char* what, const In& in, const F& f) {
  static_assert(sizeof(In) <= kLaneBytes && sizeof(Out) <= kLaneBytes);
  static_assert(std::is_trivially_copyable_v<In> && std::is_trivially_copyable_v<Out>);
  struct Context {
    unsigned mask;
    const F* f;
  } context = {mask, &f};
  Out out;
  MeetLanes(
      mask, what, &in, sizeof in, &out, sizeof out,
      [](const void* c, const LaneBytes* in_bytes, LaneBytes* out_bytes) {
        const auto& given = *static_cast<const Context*>(c);
        std::array<In, kWarpSize> ins;
        for (int lane = 0; lane < kWarpSize; ++lane) {
          std::memcpy(&ins[lane], in_bytes[lane].data(), sizeof(In));
        }
        for (int lane = 0; lane < kWarpSize; ++lane) {
          if ((given.mask >> lane & 1u) == 0) continue;
          const Out result = (*given.f)(lane, ins);
          std::memcpy(out_bytes[lane].data(), &result, sizeof(Out));
        }
      },
      &context);
  return out;
}

// Copies that this thread began and that land when it waits for them, not before.
void CopyLater(void* to, const void* from, size_t bytes);  // from null: zeros
void CommitCopies();                                       // the copies since the last are a group
void WaitForCopies(int n_groups_left);

// Runs all blocks of a kernel, in random order. `body` is one thread.
void RunGrid(const char* kernel, Dim3 grid, Dim3 block, size_t shared_bytes,
             const std::function<void()>& body);

// Seeds the order of threads and blocks.
void SetSeed(uint64_t seed);

[[noreturn]] void Fail(const std::string& what);  // one line with kernel, block and thread

}  // namespace trireme::emulator
