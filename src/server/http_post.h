// One POST of an HTTP client. (Boost.Beast underneath, in http_post.cc alone.)
#pragma once

#include <chrono>
#include <string>

#include "base/status.h"

namespace trireme {

struct HttpUrl {
  std::string host, port, path;
};

// http://HOST[:PORT][/PATH]. INVALID_ARGUMENT.
absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url);

// The status of the answer to `json`. UNAVAILABLE naming host and port if there is none within
// `timeout` for each step: to connect, to send, to be answered.
absl::StatusOr<int> HttpPostJson(const HttpUrl& url, const std::string& json,
                                 std::chrono::milliseconds timeout);

}  // namespace trireme
