#include "server/refusal.h"

#include <string>

#include "absl/strings/cord.h"

namespace trireme {
namespace {

constexpr char kPayload[] = "trireme.refusal";

}  // namespace

absl::Status Because(std::string_view reason, absl::Status status) {
  status.SetPayload(kPayload, absl::Cord(std::string(reason)));
  return status;
}

std::string_view RefusalReason(const absl::Status& status) {
  if (const auto said = status.GetPayload(kPayload)) {
    for (std::string_view reason : kRefusals) {
      if (std::string(*said) == reason) return reason;
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kUnauthenticated;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kDataLoss:
      return kInvalid;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnavailable:
      return kUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return kBusy;
    case absl::StatusCode::kCancelled:
      return kCancelled;
    default:
      return kOther;
  }
}

}  // namespace trireme
