// Ranks as threads of one process, and the one rank that needs nobody.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>

#include "base/check.h"
#include "comm/lazy_memory.h"
#include "comm/local_world.h"
#include "comm/self_communicator.h"
#include "comm/shared_communicator.h"

namespace trireme {
namespace {

// What the threads share.
class ThreadJob {
 public:
  explicit ThreadJob(int n)
      : channel_(HostChannel::MemoryBytes(n)), texts_(static_cast<size_t>(n)) {}

  std::byte* channel() const { return channel_.data(); }

  // All ranks' texts, once all are here.
  std::vector<std::string> Exchange(int rank, const std::string& mine) {
    std::unique_lock lock(mutex_);
    // The last exchange's texts stand until every rank has read them.
    changed_.wait(lock, [&] { return n_left_ == 0; });
    texts_[static_cast<size_t>(rank)] = mine;
    const int64_t round = round_;
    if (++n_come_ == static_cast<int>(texts_.size())) {
      n_left_ = n_come_;
      n_come_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ != round; });
    std::vector<std::string> all = texts_;
    if (--n_left_ == 0) changed_.notify_all();
    return all;
  }

  // One segment per rank of the group that the `call`-th Group() makes; the same for all of them.
  std::vector<std::byte*> Segments(int call, std::span<const int> ranks, size_t bytes) {
    std::lock_guard lock(mutex_);
    auto& segments = segments_[{call, ranks.front()}];
    while (segments.size() < ranks.size()) segments.push_back(std::make_unique<LazyMemory>(bytes));
    std::vector<std::byte*> data;
    for (const auto& segment : segments) data.push_back(segment->data());
    return data;
  }

 private:
  LazyMemory channel_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<std::string> texts_;
  int n_come_ = 0;
  int n_left_ = 0;  // ranks that have yet to read the texts
  int64_t round_ = 0;
  std::map<std::pair<int, int>, std::vector<std::unique_ptr<LazyMemory>>> segments_;
};

class ThreadWorld : public LocalWorld {
 public:
  ThreadWorld(int rank, int size, std::shared_ptr<ThreadJob> job)
      : LocalWorld(rank, HostName(), rank, size, AvailableCpus()), job_(std::move(job)) {
    OpenChannel(job_->channel());
  }

  int size() const override { return local_size(); }

  std::vector<std::string> Exchange(const std::string& mine) override {
    return job_->Exchange(rank(), mine);
  }

  std::unique_ptr<Communicator> Group(std::span<const int> ranks, Ops& ops) override {
    CheckGroup(ranks);
    const int call = n_groups_++;
    if (ranks.size() == 1) return std::make_unique<SelfCommunicator>(ops, options_);
    const size_t bytes = SharedCommunicator::SegmentBytes(options_, static_cast<int>(ranks.size()));
    return std::make_unique<SharedCommunicator>(std::vector(ranks.begin(), ranks.end()),
                                                job_->Segments(call, ranks, bytes), options_, ops,
                                                waiter_);
  }

 private:
  std::shared_ptr<ThreadJob> job_;
  int n_groups_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<World>> MakeThreadWorlds(int n) {
  CHECK_GT(n, 0);
  auto job = std::make_shared<ThreadJob>(n);
  std::vector<std::unique_ptr<World>> worlds;
  for (int rank = 0; rank < n; ++rank)
    worlds.push_back(std::make_unique<ThreadWorld>(rank, n, job));
  return worlds;
}

std::unique_ptr<World> MakeSingleWorld() { return std::move(MakeThreadWorlds(1).front()); }

}  // namespace trireme
