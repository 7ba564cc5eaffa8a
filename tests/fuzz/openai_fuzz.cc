// Any bytes as the body of a completion or a chat: refused in one line with a field that an answer
// can name, or requests that admission judges, whose events become JSON.
// Input: one byte, modulo 3 for a completion, a chat, or a text to tokenize; the body.
#include <cstdint>
#include <string>

#include "base/check.h"
#include "server/admission.h"
#include "server/openai.h"
#include "server/openai_answer.h"
#include "server/openai_error.h"
#include "text/utf8.h"

namespace trireme {
namespace {

void CheckError(const absl::Status& status, const std::string& param) {
  CHECK(Message(status).find('\n') == std::string::npos) << Message(status);
  const OpenAiError error = ToOpenAiError(status, param);
  CHECK(text::FindInvalidUtf8(error.body) == std::string::npos) << error.body;
  CHECK(nlohmann::json::accept(error.body)) << error.body;
  CHECK(error.http_status >= 400 && error.http_status < 600) << error.http_status;
}

// Every JSON of an answer, whole or behind `data: `.
void CheckAnswer(const std::string& text, bool stream) {
  if (!stream) {
    CHECK(nlohmann::json::accept(text)) << text;
    return;
  }
  for (const std::string& line : SplitString(text, '\n')) {
    if (line.empty() || line == "data: [DONE]") continue;
    CHECK(line.starts_with("data: ")) << line;
    CHECK(nlohmann::json::accept(line.substr(6))) << line;
  }
}

void Answer(const CompletionCall& call) {
  CompletionAnswer answer(call, "id", 0, call.model, /*tokenizer=*/nullptr);
  std::string text;
  for (size_t i = 0; i < call.requests.size(); ++i) {
    text += answer.Add(i, Accepted{.id = "id", .prompt_text = "a"});
    const int32_t n = call.requests[i].n.value_or(1);
    for (int32_t choice = 0; choice < n; ++choice) {
      const auto c = static_cast<uint32_t>(choice);
      text += answer.Add(i, Delta{.choice = c, .ids = {1}, .text = "\"\n\xC3\xA9"});
      text += answer.Add(i, Finished{.choice = c, .last = choice == n - 1});
    }
  }
  CHECK(answer.ended());
  CheckAnswer(call.stream ? text : answer.Whole(), call.stream);
}

}  // namespace
}  // namespace trireme

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  if (size == 0) return 0;
  static const ServedModel model = {
      .name = "m", .vocab_size = 100, .context_length = 64, .eos_ids = {1}};
  const std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string param;
  if (data[0] % 3 == 2) {
    const auto call = ParseTokenize(body, &param);
    if (!call.ok()) CheckError(call.status(), param);
    return 0;
  }
  const auto call = data[0] % 3 == 0 ? ParseCompletion(body, &param) : ParseChat(body, &param);
  if (!call.ok()) {
    CheckError(call.status(), param);
    return 0;
  }
  CHECK(!call->requests.empty() && call->requests.size() <= kMaxPrompts);
  bool admitted = true;
  for (const GenerateRequest& request : call->requests) {
    GenerateRequest with_ids = request;
    if (with_ids.ids.empty()) with_ids.ids = {2, 3};
    const auto sequence = MakeSequence(with_ids, model, model.context_length, /*seed=*/7);
    if (!sequence.ok()) CheckError(sequence.status(), call->ParamOf(sequence.status()));
    admitted &= sequence.ok();
  }
  if (admitted) Answer(*call);
  return 0;
}
