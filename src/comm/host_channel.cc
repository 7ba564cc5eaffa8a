#include "comm/host_channel.h"

#include "base/check.h"
#include "kernels/device.h"

namespace trireme {
namespace {

constexpr size_t kPlanRingBytes = size_t{4} << 20;    // several plans of many long prompts
constexpr size_t kReportRingBytes = size_t{1} << 20;  // per rank

size_t PlanBytes(int local_size) {
  return Arena::Aligned(ByteRing::MemoryBytes(kPlanRingBytes, local_size - 1));
}
size_t ReportBytes() { return Arena::Aligned(ByteRing::MemoryBytes(kReportRingBytes, 1)); }

}  // namespace

size_t HostChannel::MemoryBytes(int local_size) {
  return sizeof(Bell) + PlanBytes(local_size) + static_cast<size_t>(local_size - 1) * ReportBytes();
}

HostChannel::HostChannel(std::byte* memory, int local_rank, int local_size, Waiter& waiter)
    : waiter_(waiter), doorbell_(reinterpret_cast<Bell*>(memory)) {
  memory += sizeof(Bell);
  const ByteRing plans(memory, kPlanRingBytes, local_size - 1);
  memory += PlanBytes(local_size);
  const auto reports = [&](int from) {
    return ByteRing(memory + static_cast<size_t>(from - 1) * ReportBytes(), kReportRingBytes, 1);
  };
  if (local_rank == 0) {
    plans_out_.emplace(plans);
    for (int from = 1; from < local_size; ++from) reports_in_.emplace_back(reports(from), 0);
  } else {
    plans_in_.emplace(plans, local_rank - 1);
    reports_out_.emplace(reports(local_rank));
  }
}

void HostChannel::SendPlan(std::span<const std::byte> message) {
  // A follower that waits for room for its report would never read on: so take reports meanwhile.
  plans_out_->Write(message, waiter_, "Publish", [this] { TakeReports(); });
}

void HostChannel::TakeReports() {
  std::vector<std::byte> message;
  for (RingReader& reader : reports_in_) {
    while (reader.PollMessage(&message)) reports_.push_back(std::move(message));
  }
}

bool HostChannel::HasReport() {
  TakeReports();
  return !reports_.empty();
}

std::optional<std::vector<std::byte>> HostChannel::PollReport() {
  if (!HasReport()) return std::nullopt;
  std::vector<std::byte> message = std::move(reports_.front());
  reports_.pop_front();
  return message;
}

void HostChannel::SendReport(std::span<const std::byte> message) {
  // Rung in every wait too: the first rank may sleep with this ring full.
  reports_out_->Write(message, waiter_, "Report", [this] { doorbell_->Ring(); });
  doorbell_->Ring();
}

}  // namespace trireme
