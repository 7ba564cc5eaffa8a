// Why a request was refused: a few words that metrics count by.
#pragma once

#include <array>
#include <string_view>

#include "absl/status/status.h"

namespace trireme {

inline constexpr std::string_view kQueueFull = "queue_full";      // --max-requests
inline constexpr std::string_view kTenantLimit = "tenant_limit";  // max-requests of its key
inline constexpr std::string_view kLedgerFull = "ledger_full";    // --max-ledger-bytes
inline constexpr std::string_view kDiskFull = "disk_full";        // of the ledger
inline constexpr std::string_view kBusy = "busy";                 // too much is to be tokenized
inline constexpr std::string_view kUnauthenticated = "unauthenticated";
inline constexpr std::string_view kInvalid = "invalid";
inline constexpr std::string_view kNotFound = "not_found";
inline constexpr std::string_view kUnavailable = "unavailable";
inline constexpr std::string_view kCancelled = "cancelled";  // before it was accepted
inline constexpr std::string_view kOther = "other";
inline constexpr std::array kRefusals = {kQueueFull,   kTenantLimit,     kLedgerFull, kDiskFull,
                                         kBusy,        kUnauthenticated, kInvalid,    kNotFound,
                                         kUnavailable, kCancelled,       kOther};

// The status, which RefusalReason then says is for that reason: one of kRefusals.
absl::Status Because(std::string_view reason, absl::Status status);

// What Because said, else by the status's code.
std::string_view RefusalReason(const absl::Status& status);

}  // namespace trireme
