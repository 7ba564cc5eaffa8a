// Chat templates against what jinja2 renders (tests/golden/make_chat_templates.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "golden_strings.h"
#include "text/chat_template.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMessages = 5;  // failures that are shown

std::string GoldenDirectory() { return StrCat(TRIREME_SOURCE_DIR, "/tests/golden/chat/"); }

// 2026-03-09 14:05:06, a Monday: the clock of the goldens.
std::tm GoldenTime() {
  return {.tm_sec = 6,
          .tm_min = 5,
          .tm_hour = 14,
          .tm_mday = 9,
          .tm_mon = 2,
          .tm_year = 126,
          .tm_wday = 1,
          .tm_yday = 67};
}

// What the golden's line says of a result.
std::string Line(const absl::StatusOr<std::string>& text) {
  if (!text.ok()) return "error";
  char line[40];
  std::snprintf(line, sizeof(line), "%08x %zu", CrcOfFile(*text), text->size());
  return line;
}

// --- real templates

// A template and the folder with its golden.
struct Case {
  std::string directory;
  std::string name;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> CasesIn(const std::string& directory) {
  std::vector<Case> cases;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".jinja") cases.push_back({directory, entry.path().stem()});
  }
  std::sort(cases.begin(), cases.end(),
            [](const Case& a, const Case& b) { return a.name < b.name; });
  return cases;
}

// Templates that are not ours to give away: make_chat_templates.py --templates DIR --out DIR.
std::vector<Case> CasesFromElsewhere() {
  const char* directory = std::getenv("TRIREME_CHAT_GOLDENS");
  return directory == nullptr ? std::vector<Case>() : CasesIn(StrCat(directory, "/"));
}

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

ChatInput InputOf(const Json& conversation) {
  ChatInput input;
  input.messages = conversation["messages"];
  input.tools = conversation["tools"];
  input.add_generation_prompt = conversation["add_generation_prompt"];
  input.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}};
  for (const auto& [name, value] : conversation["variables"].items()) {
    input.variables[name] = value;
  }
  input.now = GoldenTime();
  return input;
}

class TemplateTest : public testing::TestWithParam<Case> {};

TEST_P(TemplateTest, RendersAsJinja2Does) {
  const auto& [directory, name] = GetParam();
  const Json conversations = Json::parse(*ReadFile(directory + "conversations.json"));
  const absl::StatusOr<std::string> source = ReadFile(directory + name + ".jinja");
  const absl::StatusOr<std::string> golden = ReadFile(directory + name + ".golden");
  ASSERT_TRUE(source.ok() && golden.ok());
  const std::vector<std::string> lines = SplitString(*golden, '\n');
  ASSERT_EQ(lines.size(), conversations.size() + 1);
  const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(*source);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  int failures = 0;
  for (size_t i = 0; i < conversations.size(); ++i) {
    const absl::StatusOr<std::string> text = chat_template->Render(InputOf(conversations[i]));
    if (Line(text) == lines[i] || failures++ >= kMessages) continue;
    ADD_FAILURE() << "make_chat_templates.py --show " << name << " " << i << " gives " << lines[i]
                  << ", here " << Line(text) << ": "
                  << (text.ok() ? *text : Message(text.status()));
  }
  EXPECT_EQ(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(Chat, TemplateTest, testing::ValuesIn(CasesIn(GoldenDirectory())), NameOf);
INSTANTIATE_TEST_SUITE_P(Elsewhere, TemplateTest, testing::ValuesIn(CasesFromElsewhere()), NameOf);

// --- snippets

// The snippets see their variables by name, and neither messages nor tools.
TEST(Jinja, RendersSnippetsAsJinja2Does) {
  const Json golden = Json::parse(*ReadFile(GoldenDirectory() + "snippets.json"));
  ChatInput input;
  input.variables = golden["variables"];
  input.now = GoldenTime();
  int failures = 0;
  for (const Json& snippet : golden["snippets"]) {
    const std::string source = snippet[0];
    const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(source);
    const absl::StatusOr<std::string> text =
        chat_template.ok() ? chat_template->Render(input) : chat_template.status();
    const Json found = text.ok() ? Json(*text) : Json();
    if (found == snippet[1] || failures++ >= kMessages * 4) continue;
    ADD_FAILURE() << Json(source) << "\n  jinja2: " << snippet[1] << "\n  here:   " << found << " "
                  << text.status();
  }
  EXPECT_EQ(failures, 0);
}

// A megabyte of conversation is far from the limits.
TEST(ChatTemplate, TakesALongConversation) {
  const auto chat_template = ChatTemplate::Parse(*ReadFile(GoldenDirectory() + "qwen2.5.jinja"));
  ChatInput input;
  for (int i = 0; i < 2000; ++i) {
    input.messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"},
                              {"content", std::string(1000, static_cast<char>('a' + i % 26))}});
  }
  const absl::StatusOr<std::string> text = chat_template->Render(input);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_GT(text->size(), 2'000'000u);
}

}  // namespace
}  // namespace trireme
