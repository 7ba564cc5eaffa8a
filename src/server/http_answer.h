// How HttpService answers: JSON, OpenAI's errors, and the name of the request beside them.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "nlohmann/json.hpp"
#include "server/http_server.h"

namespace trireme {

void SendJson(HttpReply& reply, const nlohmann::ordered_json& json);

// `param`: the field at fault, if it is not the one that the status names.
void SendError(HttpReply& reply, const absl::Status& status, const std::string& param = "");

// 405, for a method that is none of the path's.
void RefuseMethod(HttpReply& reply, const HttpRequest& request, const char* allowed);

// ---- The name of a request, which its client reads in the header x-request-id.

// What the client calls it in that header; empty: nothing, or what is too long or no printable
// ASCII. Whoever passes requests on may give one to several, of one user: it is no request_id.
std::string ClientsName(const HttpRequest& request);

// A new request_id, as well for logs as for the answer's `id`: the prefix, the client's name for
// the request, random digits.
std::string NewRequestId(const std::string& prefix, const HttpRequest& request);

// Answers by `reply`, with that header, unless there is one already.
std::shared_ptr<HttpReply> NamedReply(std::shared_ptr<HttpReply> reply, std::string name);

}  // namespace trireme
