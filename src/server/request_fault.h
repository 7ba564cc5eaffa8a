// What of a request is refused, beside the status's words: for transports whose errors name it.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/cord.h"
#include "base/status.h"

namespace trireme {

inline constexpr std::string_view kContextLengthExceeded = "context_length_exceeded";
inline constexpr std::string_view kMethodNotAllowed = "method_not_allowed";

// The field at fault, by its name in inference.proto; the prompt, however it came, is "prompt".
inline constexpr std::string_view kFieldPayload = "trireme/field";
// A word of OpenAI's API for why, where the status's code does not say it.
inline constexpr std::string_view kReasonPayload = "trireme/reason";

inline absl::Status WithPayload(absl::Status status, std::string_view name, std::string_view text) {
  status.SetPayload({name.data(), name.size()}, absl::Cord({text.data(), text.size()}));
  return status;
}
inline absl::Status WithField(absl::Status status, std::string_view field) {
  return WithPayload(std::move(status), kFieldPayload, field);
}
inline absl::Status WithReason(absl::Status status, std::string_view reason) {
  return WithPayload(std::move(status), kReasonPayload, reason);
}

// Empty where there is none.
inline std::string PayloadOf(const absl::Status& status, std::string_view name) {
  const auto payload = status.GetPayload({name.data(), name.size()});
  return payload.has_value() ? std::string(*payload) : "";
}
inline std::string FieldOf(const absl::Status& status) { return PayloadOf(status, kFieldPayload); }
inline std::string ReasonOf(const absl::Status& status) {
  return PayloadOf(status, kReasonPayload);
}

}  // namespace trireme
