#include "emulator/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>

#include "emulator/fiber.h"

namespace trireme::emulator {
namespace {

constexpr uint64_t kMostThreads = 1024;
constexpr uint64_t kMostWarps = kMostThreads / kWarpSize;

// What cp.async has begun.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Thread {
  Fiber fiber;
  Place place;
  const char* waits_for = nullptr;  // null: may run
  LaneBytes taken;                  // of the last warp operation
  std::vector<Copy> copies;         // not yet committed
  std::deque<std::vector<Copy>> groups;
};

// A warp operation that some of its lanes have reached.
struct Meeting {
  unsigned mask = 0, arrived = 0;
  const char* what = nullptr;
  std::array<LaneBytes, kWarpSize> in;
};

class Block {
 public:
  void Run(const char* kernel, Dim3 grid, Dim3 size, size_t shared_bytes,
           const std::function<void()>& body);

  void SyncThreads();
  void MeetLanes(unsigned mask, const char* what, const void* in, size_t in_bytes, void* out,
                 size_t out_bytes, Complete complete, const void* context);
  [[noreturn]] void Fail(const std::string& what) const;

  uint64_t Random(uint64_t n) {  // xorshift64*, Vigna 2016
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return (random_ * 0x2545F4914F6CDD1Du >> 32) % n;
  }
  void Seed(uint64_t seed) { random_ = seed * 0x9E3779B97F4A7C15u | 1u; }
  Thread& running() { return threads_[running_]; }
  std::byte* shared() { return shared_.get(); }

 private:
  void RunBlock(Dim3 index);
  void ShuffleWarps();
  size_t TakeReady();
  void Wait(const char* what);
  void Release(size_t thread);
  void ReleaseBarrier();
  [[noreturn]] void Stuck() const;

  const char* kernel_ = "";
  const std::function<void()>* body_ = nullptr;
  Dim3 grid_, size_, index_;
  std::unique_ptr<std::byte[]> shared_;
  size_t shared_bytes_ = 0;
  std::vector<Thread> threads_;  // a pool: the first size_.count() are the block's
  size_t n_threads_ = 0;
  size_t n_ended_ = 0;
  size_t running_ = 0;
  bool inside_ = false;
  size_t n_at_barrier_ = 0;
  // Until the next barrier either the ready warp of the lowest rank runs, as far as it can, or any.
  std::array<std::vector<size_t>, kMostWarps> ready_;  // threads by the rank of their warp
  std::array<size_t, kMostWarps> rank_;                // of each warp
  uint32_t ready_ranks_ = 0;                           // bit r: ready_[r] has threads
  bool in_turn_ = false;
  std::vector<std::vector<Meeting>> meetings_;  // of each warp
  uint64_t random_ = 0x9E3779B97F4A7C15u;
};

thread_local Block block;

constexpr char kBarrier[] = "__syncthreads";

std::string Text(Dim3 d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

void Block::Run(const char* kernel, Dim3 grid, Dim3 size, size_t shared_bytes,
                const std::function<void()>& body) {
  kernel_ = kernel;
  body_ = &body;
  grid_ = grid;
  size_ = size;
  index_ = {0, 0, 0};
  if (size.count() == 0 || size.count() > kMostThreads || grid.count() == 0) {
    Fail("launched with grid " + Text(grid) + ", block " + Text(size));
  }
  n_threads_ = size.count();
  if (threads_.size() < n_threads_) threads_.resize(n_threads_);
  meetings_.resize((n_threads_ + kWarpSize - 1) / kWarpSize);
  shared_ = std::make_unique<std::byte[]>(shared_bytes);
  shared_bytes_ = shared_bytes;
  std::vector<uint64_t> order(grid.count());
  for (uint64_t i = 0; i < order.size(); ++i) order[i] = i;
  for (uint64_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[Random(i)]);
  for (const uint64_t i : order) {
    RunBlock({static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
              static_cast<unsigned>(i / grid.x / grid.y)});
  }
}

void Block::RunBlock(Dim3 index) {
  index_ = index;
  std::fill_n(shared_.get(), shared_bytes_, std::byte{0xFF});  // NaN
  n_ended_ = n_at_barrier_ = 0;
  ShuffleWarps();
  for (size_t i = 0; i < n_threads_; ++i) {
    Thread& thread = threads_[i];
    const auto t = static_cast<unsigned>(i);
    thread.place = {{t % size_.x, t / size_.x % size_.y, t / size_.x / size_.y},
                    index,
                    size_,
                    grid_,
                    t % kWarpSize};
    thread.fiber.Start([](void* body) { (*static_cast<const std::function<void()>*>(body))(); },
                       const_cast<std::function<void()>*>(body_));
    Release(i);
  }
  inside_ = true;
  while (n_ended_ < n_threads_) {
    if (ready_ranks_ == 0) {
      if (n_at_barrier_ + n_ended_ < n_threads_) Stuck();
      ReleaseBarrier();
    }
    running_ = TakeReady();
    Thread& thread = running();
    place = thread.place;
    thread.fiber.Resume();
    if (thread.waits_for != nullptr) continue;
    if (!thread.copies.empty() || !thread.groups.empty())
      Fail("ended with copies it had not awaited");
    ++n_ended_;
  }
  inside_ = false;
}

void Block::ShuffleWarps() {
  const size_t n = meetings_.size();
  for (size_t i = 0; i < n; ++i) rank_[i] = i;
  for (size_t i = n; i > 1; --i) std::swap(rank_[i - 1], rank_[Random(i)]);
  in_turn_ = Random(2) == 0;
}

size_t Block::TakeReady() {
  uint32_t ranks = ready_ranks_;
  if (!in_turn_) {
    for (uint64_t n = Random(static_cast<uint64_t>(std::popcount(ranks))); n > 0; --n)
      ranks &= ranks - 1;
  }
  const auto rank = static_cast<size_t>(std::countr_zero(ranks));
  std::vector<size_t>& ready = ready_[rank];
  std::swap(ready[Random(ready.size())], ready.back());
  const size_t thread = ready.back();
  ready.pop_back();
  if (ready.empty()) ready_ranks_ &= ~(1u << rank);
  return thread;
}

void Block::Wait(const char* what) {
  running().waits_for = what;
  Fiber::Yield();
}

void Block::Release(size_t thread) {
  const size_t rank = rank_[thread / kWarpSize];
  threads_[thread].waits_for = nullptr;
  ready_[rank].push_back(thread);
  ready_ranks_ |= 1u << rank;
}

void Block::SyncThreads() {
  ++n_at_barrier_;
  Wait(kBarrier);
}

void Block::ReleaseBarrier() {
  n_at_barrier_ = 0;
  ShuffleWarps();
  for (size_t i = 0; i < n_threads_; ++i) {
    if (threads_[i].waits_for == kBarrier) Release(i);
  }
}

void Block::MeetLanes(unsigned mask, const char* what, const void* in, size_t in_bytes, void* out,
                      size_t out_bytes, Complete complete, const void* context) {
  const unsigned bit = 1u << place.lane;
  if ((mask & bit) == 0) Fail(std::string(what) + ": the mask lacks the lane that calls it");
  const size_t warp = running_ / kWarpSize;
  std::vector<Meeting>& meetings = meetings_[warp];
  auto meeting = std::find_if(meetings.begin(), meetings.end(),
                              [&](const Meeting& m) { return (m.mask & mask) != 0; });
  if (meeting == meetings.end()) {
    meeting = meetings.insert(meetings.end(), Meeting{.mask = mask, .what = what, .in = {}});
  }
  if (meeting->mask != mask || std::strcmp(meeting->what, what) != 0) {
    Fail(std::string(what) + " meets " + meeting->what + " in another lane of the warp");
  }
  std::memcpy(meeting->in[place.lane].data(), in, in_bytes);
  meeting->arrived |= bit;
  if (meeting->arrived != mask) {
    Wait(what);
  } else {
    std::array<LaneBytes, kWarpSize> outs;
    complete(context, meeting->in.data(), outs.data());
    meetings.erase(meeting);
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if ((mask >> lane & 1u) == 0) continue;
      const size_t thread = warp * kWarpSize + lane;
      threads_[thread].taken = outs[lane];
      if (thread != running_) Release(thread);
    }
  }
  std::memcpy(out, running().taken.data(), out_bytes);
}

void Block::Stuck() const {
  std::string waiting;
  for (size_t i = 0; i < n_threads_; ++i) {
    if (threads_[i].waits_for == nullptr) continue;
    waiting += " " + std::to_string(i) + ":" + threads_[i].waits_for;
    if (waiting.size() > 200) break;
  }
  std::fprintf(stderr, "emulator: %s, block %s: threads wait for others that never come:%s\n",
               kernel_, Text(index_).c_str(), waiting.c_str());
  std::abort();
}

void Block::Fail(const std::string& what) const {
  std::fprintf(stderr, "emulator: %s, block %s%s: %s\n", kernel_, Text(index_).c_str(),
               inside_ ? (", thread " + Text(place.thread_index)).c_str() : "", what.c_str());
  std::abort();
}

}  // namespace

thread_local Place place;

std::byte* SharedMemory() { return block.shared(); }
void SyncThreads() { block.SyncThreads(); }

void MeetLanes(unsigned mask, const char* what, const void* in, size_t in_bytes, void* out,
               size_t out_bytes, Complete complete, const void* context) {
  block.MeetLanes(mask, what, in, in_bytes, out, out_bytes, complete, context);
}

void CopyLater(void* to, const void* from, size_t bytes) {
  block.running().copies.push_back({to, from, bytes});
}

void CommitCopies() {
  Thread& thread = block.running();
  thread.groups.push_back(std::move(thread.copies));
  thread.copies.clear();
}

void WaitForCopies(int n_groups_left) {
  std::deque<std::vector<Copy>>& groups = block.running().groups;
  for (; groups.size() > static_cast<size_t>(n_groups_left); groups.pop_front()) {
    for (const Copy& copy : groups.front()) {
      if (copy.from != nullptr) {
        std::memcpy(copy.to, copy.from, copy.bytes);
      } else {
        std::memset(copy.to, 0, copy.bytes);
      }
    }
  }
}

void RunGrid(const char* kernel, Dim3 grid, Dim3 size, size_t shared_bytes,
             const std::function<void()>& body) {
  block.Run(kernel, grid, size, shared_bytes, body);
}

void SetSeed(uint64_t seed) { block.Seed(seed); }
void Fail(const std::string& what) { block.Fail(what); }

}  // namespace trireme::emulator
