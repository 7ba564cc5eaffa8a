// What chat templates promise by themselves: errors, limits, the files of a model's directory.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

using Json = nlohmann::ordered_json;

void CheckOneLine(const absl::Status& status) {
  EXPECT_THAT(Message(status), StartsWith("chat template: "));
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status;
  EXPECT_LT(status.message().size(), 2000u);
}

// --- errors: code and line

struct Refused {
  const char* source;
  absl::StatusCode code;
  const char* message;  // behind "chat template: "
};

absl::StatusOr<std::string> RenderSource(const std::string& source, const ChatInput& input = {},
                                         const jinja::Limits& limits = {}) {
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(source);
  if (!chat_template.ok()) return chat_template.status();
  return chat_template->Render(input, limits);
}

TEST(ChatTemplate, NamesTheLineAndWhatIsWrong) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  const Refused cases[] = {
      {"a\n{{ x.y }}", kInvalid, "line 2: \"x\" is undefined"},
      {"{% set x = {} %}\n\n{{ x.y.z }}", kInvalid, "line 3: a dict has no \"y\""},
      {"{{ 1 }}\n{{ 'a'|nope }}", kInvalid, "line 2: there is no filter \"nope\""},
      {"\n{{ 1 is nope }}", kInvalid, "line 2: there is no test \"nope\""},
      {"{% if true %}\n{{ 1|nope }}{% endif %}", kInvalid, "line 2: there is no filter \"nope\""},
      {"{{ raise_exception('no\nsystem') }}", kInvalid, "line 1: no system"},
      {"{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}\n{{ m() }}", kInvalid,
       "line 2: division by zero"},
      {"{{ [].append(1) }}", kInvalid,
       "line 1: a template cannot use list.append: values do not change"},
      {"\n{% for x in y recursive %}{% endfor %}", kUnimplemented,
       "line 2: recursive loops are not supported"},
      {"{% include 'x' %}", kUnimplemented, "line 1: {% include %} is not supported"},
      {"{{ 'a'.casefold() }}", kUnimplemented, "line 1: str.casefold is not supported"},
      {"{% for x in [] %}\n", kInvalid, "line 1: the template ends before {% else %}"},
      {"{% if a %}{% endfor %}", kInvalid, "line 1: unexpected tag \"endfor\""},
      {"{{ 1 +\n}}", kInvalid, "line 2: expected an expression, found '}}'"},
      {"{{ $ }}", kInvalid, "line 1: unexpected character \"$\""},
      {"\xff", kInvalid, "the template is not valid UTF-8"},
      {"{{ 99999999999999999999999999999999999999999999 }}", kInvalid,
       "line 1: an integer has more than 127 bits"},
  };
  for (const auto& [source, code, message] : cases) {
    const absl::Status status = RenderSource(source).status();
    EXPECT_EQ(status.code(), code) << source;
    EXPECT_EQ(Message(status), StrCat("chat template: ", message)) << source;
  }
}

TEST(ChatTemplate, CutsAnErrorThatQuotesTheConversation) {
  ChatInput input;
  input.messages.push_back({{"content", std::string(100'000, 'x') + "\n"}});
  const absl::Status status =
      RenderSource("{{ raise_exception(messages[0].content) }}", input).status();
  CheckOneLine(status);
  EXPECT_LT(status.message().size(), 500u);
}

// --- limits

// Each ends in time and space, with the limit named.
TEST(ChatTemplate, BoundsWhatARenderingTakes) {
  const std::string deep_list =
      "{% set ns = namespace(x=[]) %}{% for i in range(5000) %}"
      "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}";
  const std::pair<std::string, const char*> cases[] = {
      {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"},
      {"{{ range(100001) }}", "a range has more than 100000 items"},
      {"{{ range(0, 10 ** 37) }}", "a range has more than 100000 items"},
      {"{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor "
       "%}",
       "bytes"},
      {"{{ 'x' * 10 ** 18 }}", "bytes"},
      {"{{ [1] * 10 ** 18 }}", "bytes"},
      {"{{ 'ab' * 2 ** 64 }}", "bytes"},
      {"{{ ('x' * 100000)|replace('x', 'y' * 100000) }}", "bytes"},
      {"{{ ('x' * 100000).join(range(9000)|map('string')) }}", "bytes"},
      {"{{ 'a\nb'|indent(10 ** 12) }}", "indent is too large"},
      {"{{ 'x'.center(2 ** 31) }}", "bytes"},
      {"{{ [[1]]|tojson(indent=' ' * 99999999) }}{{ 1 }}", "bytes"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested more than 400 deep"},
      {deep_list, "nested more than 100 deep"},
      {"{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}", "nested too deep to print"},
      {"{{ " + std::string(1000, '(') + "1", "nested more than 60 deep"},
      {"{{ " + std::string(1000, '[') + "1", "nested more than 60 deep"},
      {"{{ " + std::string(5000, '-') + "1 }}", "nested more than 60 deep"},
      {"{% set x = 1" + std::string(1000, '+') + "1 %}", "nested more than 60 deep"},
      {"{{ 1" +
           [] {
             std::string s;
             for (int i = 0; i < 500; ++i) s += " + 1";
             return s;
           }() +
           " }}",
       "nested more than 150 deep"},
      {[] {
         std::string s;
         for (int i = 0; i < 500; ++i) s += "{% if 1 %}";
         return s;
       }(),
       "nested more than 60 deep"},
  };
  for (const auto& [source, message] : cases) {
    const jinja::Limits limits = {.steps = 200'000, .bytes = 16 << 20};
    const absl::Status status = RenderSource(source, {}, limits).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted)
        << source.substr(0, 80) << status;
    EXPECT_THAT(Message(status), HasSubstr(message)) << source.substr(0, 80);
  }
}

TEST(ChatTemplate, BoundsTheResult) {
  const std::string source(1000, 'x');
  EXPECT_EQ(*RenderSource(source, {}, {.bytes = 2000}), source);
  EXPECT_EQ(RenderSource(source, {}, {.bytes = 999}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ChatTemplate, RefusesJsonThatIsNestedTooDeep) {
  ChatInput input;
  Json json = 1;
  for (int i = 0; i < 200; ++i) json = Json::array({std::move(json)});
  input.messages = std::move(json);
  const absl::Status status = RenderSource("x", input).status();
  EXPECT_EQ(Message(status), "chat template: \"messages\": JSON is nested more than 100 deep");
}

// --- what a model's directory says

TEST(ReadChatTemplate, ReadsAStringAndSpecialTokens) {
  const auto files = ReadChatTemplate(
      R"({"chat_template":"{{ bos_token }}","bos_token":{"content":"<s>","lstrip":false},
          "eos_token":"</s>","pad_token":null,"add_bos_token":true,"model_max_length":1e30})",
      std::nullopt);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_NE(files->Choose(true), nullptr);
  EXPECT_EQ(*files->Choose(true), "{{ bos_token }}");
  EXPECT_EQ(files->special_tokens, Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
}

TEST(ReadChatTemplate, ChoosesByNameWhetherThereAreTools) {
  const auto files = ReadChatTemplate(
      R"({"chat_template":[{"name":"default","template":"d"},{"name":"tool_use","template":"t"}]})",
      std::nullopt);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*files->Choose(false), "d");
  EXPECT_EQ(*files->Choose(true), "t");
}

TEST(ReadChatTemplate, PrefersTheFileOfItsOwn) {
  EXPECT_EQ(*ReadChatTemplate(R"({"chat_template":"a"})", "b")->Choose(false), "b");
  EXPECT_EQ(*ReadChatTemplate("", "b")->Choose(false), "b");
  EXPECT_EQ(ReadChatTemplate("{}", std::nullopt)->Choose(false), nullptr);
}

TEST(ReadChatTemplate, NamesTheKeyThatIsMalformed) {
  const std::pair<const char*, const char*> cases[] = {
      {"[", "not valid JSON, or no object"},
      {"[]", "not valid JSON, or no object"},
      {R"({"chat_template":1})", "\"chat_template\" must be a string or a list"},
      {R"({"chat_template":["x"]})",
       "\"chat_template\" must list objects with a \"name\" and a \"template\""},
      {R"({"bos_token":{"id":1}})",
       "\"bos_token\" must be a string or have a \"content\" that is one"},
  };
  for (const auto& [config, message] : cases) {
    const absl::Status status = ReadChatTemplate(config, std::nullopt).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << config;
    EXPECT_EQ(Message(status), StrCat("tokenizer_config.json: ", message)) << config;
  }
}

// Keys of tools and of arguments come in the client's order.
TEST(ChatTemplate, KeepsTheOrderOfKeys) {
  ChatInput input;
  input.tools = Json::parse(R"([{"z":1,"a":{"y":2,"b":3}}])");
  EXPECT_EQ(*RenderSource("{{ tools|tojson }}", input), R"([{"z": 1, "a": {"y": 2, "b": 3}}])");
}

}  // namespace
}  // namespace trireme
