#include "comm/local_world.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "comm/end_job.h"

namespace trireme {

void LocalWorld::Reserve(const WorldOptions& options) {
  CHECK(!reserved_) << "Reserve is called once";
  reserved_ = true;
  options_ = options;
  waiter_.set_timeout(options.timeout);
  waiter_.set_may_spin(local_size_ * options.n_threads <= host_cpus_);
}

void LocalWorld::CheckGroup(std::span<const int> ranks) const {
  CHECK(reserved_) << "Reserve comes before Group";
  CHECK(std::is_sorted(ranks.begin(), ranks.end()));
  CHECK(std::adjacent_find(ranks.begin(), ranks.end()) == ranks.end());
  CHECK(std::find(ranks.begin(), ranks.end(), rank()) != ranks.end()) << "rank " << rank();
}

void LocalWorld::Publish(std::span<const std::byte> message) {
  CHECK_EQ(rank(), 0);
  SendPlanToHosts(message);  // the longer way first
  channel_->SendPlan(message);
}

std::vector<std::byte> LocalWorld::NextPublished(std::chrono::milliseconds patience) {
  const bool for_ever = patience == std::chrono::milliseconds::max();
  const Deadline deadline = for_ever ? kNoDeadline : std::chrono::steady_clock::now() + patience;
  std::vector<std::byte> message;
  bool came;
  const auto ready = [&] { return TakePlan(&message); };
  if (local_rank_ == 0) {
    came = waiter_.Until(channel_->doorbell(), ready, deadline, Waiter::kIdlePoll);
  } else {
    came = waiter_.Until(channel_->plan_bell(), ready, deadline);
  }
  if (!came) EndJobAs(rank(), host(), StrCat("no plan from rank 0 for ", patience.count(), " ms"));
  return message;
}

std::optional<std::vector<std::byte>> LocalWorld::PollPublished() {
  std::vector<std::byte> message;
  if (!TakePlan(&message)) return std::nullopt;
  return message;
}

// The first rank of another host hands each plan on to its host as soon as it is here.
bool LocalWorld::TakePlan(std::vector<std::byte>* message) {
  CHECK_NE(rank(), 0);
  if (local_rank_ != 0) return channel_->PollPlan(message);
  for (std::vector<std::byte> plan; PollPlanFromHost(&plan);) {
    channel_->SendPlan(plan);
    plans_.push_back(std::move(plan));
  }
  if (plans_.empty()) return false;
  *message = std::move(plans_.front());
  plans_.pop_front();
  return true;
}

void LocalWorld::Report(std::span<const std::byte> message) {
  if (rank() == 0) {
    reports_.emplace_back(message.begin(), message.end());
  } else if (on_host_of_rank_0()) {
    channel_->SendReport(message);
  } else {
    SendReportToHost(message);
  }
}

bool LocalWorld::HasReport(bool poll_hosts) {
  std::vector<std::byte> message;
  while (poll_hosts && PollReportFromHosts(&message)) reports_.push_back(std::move(message));
  return !reports_.empty() || channel_->HasReport();
}

std::optional<std::vector<std::byte>> LocalWorld::PollReport() {
  CHECK_EQ(rank(), 0);
  if (!HasReport(has_other_hosts())) return std::nullopt;
  if (reports_.empty()) return channel_->PollReport();
  std::vector<std::byte> message = std::move(reports_.front());
  reports_.pop_front();
  return message;
}

void LocalWorld::Wait(Deadline deadline, bool expect_report) {
  CHECK_EQ(rank(), 0);
  const bool poll_hosts = expect_report && has_other_hosts();
  const auto ready = [&] {
    return woken_.load(std::memory_order_acquire) || HasReport(poll_hosts);
  };
  waiter_.Until(channel_->doorbell(), ready, deadline,
                poll_hosts ? Waiter::kBusyPoll : Waiter::kForever);
  woken_.exchange(false, std::memory_order_acq_rel);  // the caller looks for its work after this
}

void LocalWorld::Wake() {
  woken_.store(true, std::memory_order_release);
  channel_->doorbell().Ring();
}

}  // namespace trireme
