// One call of completions or chats over HTTP.
#pragma once

#include <memory>

#include "server/controller_loop.h"
#include "server/http_server.h"
#include "server/model.h"
#include "server/openai.h"
#include "server/trace_context.h"

namespace trireme {

// Runs the call's requests and answers with what comes of them, as fast as the client takes it. The
// answer's id is the call's request_id. The loop is to be stopped before it is destroyed.
void AnswerCompletion(ControllerLoop& loop, const ServedModel& model, CompletionCall call,
                      TraceContext trace, std::shared_ptr<HttpReply> reply);

}  // namespace trireme
