#include "server/openai_fields.h"

#include <string_view>

namespace trireme {

using Json = nlohmann::ordered_json;

// The names are those of OpenAI's API reference and of vLLM's CompletionRequest and
// ChatCompletionRequest, older ones included. Fields of theirs that stand neither here nor among
// what is parsed change no token: user, metadata, store, service_tier, parallel_tool_calls, …
const std::vector<UnsupportedField>& UnsupportedFields() {
  constexpr unsigned kBoth = kCompletions | kChats;
  static const std::vector<UnsupportedField> fields = {
      // What may be generated.
      {"response_format", kBoth, {Json{{"type", "text"}}}},
      {"structured_outputs", kBoth, {Json::object()}},
      {"guided_json", kBoth},
      {"guided_regex", kBoth},
      {"guided_choice", kBoth},
      {"guided_grammar", kBoth},
      {"structural_tag", kBoth},
      {"allowed_token_ids", kBoth, {Json::array()}},
      {"bad_words", kBoth, {Json::array()}},
      {"logits_processors", kBoth, {Json::array()}},
      {"vllm_xargs", kBoth, {Json::object()}},
      {"watermarking", kBoth, {false}},
      // How it is searched for, and when it ends.
      {"use_beam_search", kBoth, {false}},
      {"length_penalty", kBoth, {1}},
      {"early_stopping", kBoth, {false}},
      {"repetition_detection", kBoth},
      {"thinking_token_budget", kBoth},
      {"reasoning", kBoth, {Json::object(), Json{{"effort", "none"}}, Json{{"enabled", false}}}},
      {"reasoning_effort", kCompletions, {"none"}},  // of chats it is the template's
      {"verbosity", kBoth, {"medium"}},
      // What the model reads.
      {"suffix", kCompletions, {""}},
      {"prompt_embeds", kCompletions},
      {"truncate_prompt_tokens", kBoth | kTokenize},
      {"tools", kChats | kTokenize, {Json::array()}},
      {"tool_choice", kChats, {"none", "auto"}},
      {"functions", kChats | kTokenize, {Json::array()}},
      {"function_call", kChats, {"none", "auto"}},
      {"chat_template", kChats | kTokenize},
      {"documents", kChats | kTokenize, {Json::array()}},
      {"continue_final_message", kChats | kTokenize, {false}},
      {"web_search_options", kChats},
      // What is told of it.
      {"skip_special_tokens", kBoth, {true}},
      {"return_token_ids", kBoth, {false}},
      {"return_tokens_as_token_ids", kBoth, {false}},
      {"return_prompt_text", kBoth, {false}},
      {"logprob_token_ids", kBoth, {Json::array()}},
      {"prompt_logprobs", kChats},
      {"echo", kChats, {false}},
      {"audio", kChats},
      {"modalities", kChats, {Json::array({"text"})}},
      // gRPC's alone.
      {"resume", kBoth},
  };
  return fields;
}

namespace {

// Whether the client says itself that the model is to have none of them.
bool Waived(const JsonBody& body, std::string_view field) {
  const Json* choice = nullptr;
  if (field == "tools") choice = body.Find("tool_choice");
  if (field == "functions") choice = body.Find("function_call");
  return choice != nullptr && *choice == "none";
}

}  // namespace

void RefuseUnsupported(JsonBody& body, Endpoint endpoint) {
  for (const UnsupportedField& field : UnsupportedFields()) {
    if ((field.endpoints & endpoint) == 0 || Waived(body, field.name)) continue;
    body.RefuseUnless(field.name, field.harmless);
  }
}

}  // namespace trireme
