// HTTP requests as metrics count them: by path and status.
#pragma once

#include <memory>
#include <string_view>

#include "server/http_server.h"
#include "server/metrics.h"

namespace trireme {

// The answer to a request of that path, which `metrics`, as long as it is not given, outlive.
std::shared_ptr<HttpReply> CountedReply(Metrics& metrics, std::string_view path,
                                        std::shared_ptr<HttpReply> reply);

}  // namespace trireme
