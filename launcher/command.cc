#include "launcher/command.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "base/log.h"
#include "comm/launch.h"
#include "launcher/version.h"

namespace trireme {
namespace {

constexpr int kError = 1;
constexpr int kUsageError = 2;
constexpr int kInterrupted = 130;  // as a shell tells of SIGINT

// A config file of which one command sees its own section and what stands above all sections, and
// nothing that the environment sets.
class ConfigFile : public CLI::ConfigBase {
 public:
  explicit ConfigFile(std::string command) : command_(std::move(command)) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> items;
    for (CLI::ConfigItem& item : CLI::ConfigBase::from_config(input)) {
      const bool section_mark = item.name == "++" || item.name == "--";
      const bool mine =
          item.parents.empty() || (item.parents.size() == 1 && item.parents.front() == command_);
      if (section_mark || !mine || getenv(EnvironmentName(item.name).c_str())) continue;
      item.parents.clear();
      items.push_back(std::move(item));
    }
    return items;
  }

 private:
  std::string command_;
};

// `--flag TYPE=default   what it does`; what all flags share stands in the footer.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    std::string name = CLI::Formatter::make_option_name(option, is_positional);
    const size_t brace = name.find('{');  // --flag{value}: a value may follow, but need not
    return brace == std::string::npos ? name : name.substr(0, brace) + "[=WHEN]";
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (option->get_type_size() != 0 && option->get_expected_max() > 0) {
      if (!option->get_type_name().empty()) text += " " + option->get_type_name();
      const std::string value = option->get_default_str();
      if (!value.empty() && value != "[]") text += "=" + value;
      if (option->get_required()) text += " (required)";
    }
    return text;
  }
};

// Most errors are every rank's, and rank 0 tells of them. mpirun ends the job at the first rank
// that exits with an error, so the others leave rank 0 this long to speak; still alive, they speak
// up.
constexpr std::chrono::seconds kRankZeroFirst{2};

// Prints one line; returns the exit code.
int Fail(int code, const std::string& who, std::string message, const std::string& hint = "") {
  if (const int rank = LaunchedRank(); rank > 0) {
    std::this_thread::sleep_for(kRankZeroFirst);
    message = StrCat("rank ", rank, ": ", message);
  }
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s%s\n", who.c_str(), message.c_str(), hint.c_str());
  return code;
}

// `first`: of commands of two words, those that begin with it; else all.
void PrintHelp(const std::string& first = "") {
  std::printf(
      "trireme serves large language models over MPI ranks.\n\n"
      "usage: trireme COMMAND [flags]      trireme COMMAND --help\n\n");
  for (const CommandEntry& entry : Commands()) {
    if (std::string(entry.name).rfind(first, 0) != 0) continue;
    std::printf("  %-16s%s\n", entry.name, entry.summary);
  }
}

}  // namespace

std::string EnvironmentName(const std::string& flag) {
  std::string name = "TRIREME_" + flag;
  for (char& c : name)
    c = c == '-' ? '_' : static_cast<char>(toupper(static_cast<unsigned char>(c)));
  return name;
}

std::unique_ptr<CLI::App> MakeParser(const CommandEntry& entry, Command& command) {
  auto app = std::make_unique<CLI::App>(entry.summary, StrCat("trireme ", entry.name));
  app->option_defaults()->always_capture_default();
  app->formatter(std::make_shared<HelpFormatter>());
  app->get_formatter()->column_width(34);
  app->footer(
      StrCat("Every flag is also TRIREME_<FLAG> in the environment and a line of --config.\n\n",
             "Examples:\n", entry.examples));
  command.AddFlags(*app);
  for (CLI::Option* option : app->get_options()) {
    if (option->get_lnames().empty() || option->get_lnames().front() == "help") continue;
    option->envname(EnvironmentName(option->get_lnames().front()));
  }
  app->config_formatter(std::make_shared<ConfigFile>(entry.name));
  app->set_config("--config", "", "a file of `flag = value` lines, sections [command]")
      ->type_name("FILE");
  app->allow_config_extras(CLI::config_extras_mode::error);
  return app;
}

int Main(int argc, char** argv) {
  std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    PrintHelp();
    return 0;
  }
  if (name == "--version") {
    std::printf("%s\n", VersionLine().c_str());
    return 0;
  }
  const auto& commands = Commands();
  const bool two_words = std::ranges::any_of(
      commands, [&](const CommandEntry& e) { return std::string(e.name).starts_with(name + " "); });
  if (two_words && argc > 2) {
    const std::string second = argv[2];
    if (second == "--help" || second == "-h") {
      PrintHelp(name);
      return 0;
    }
    name += " " + second;
    argv++;
    argc--;
  }
  const auto entry = std::find_if(commands.begin(), commands.end(),
                                  [&](const CommandEntry& e) { return e.name == name; });
  if (entry == commands.end()) {
    return Fail(kUsageError, "trireme",
                name.empty() ? "expected a command" : "unknown command " + name,
                " (see trireme --help)");
  }
  const std::string who = "trireme " + name;
  const std::string hint = " (see " + who + " --help)";
  std::unique_ptr<Command> command = entry->make();
  std::unique_ptr<CLI::App> parser = MakeParser(*entry, *command);
  try {
    parser->parse(argc - 1, argv + 1);
  } catch (const CLI::Success& help) {
    return parser->exit(help);
  } catch (const CLI::Error& error) {
    return Fail(kUsageError, who, error.what(), hint);
  }
  if (absl::Status status = command->Check(); !status.ok()) {
    return Fail(kUsageError, who, Message(status), hint);
  }
  absl::Status status = command->Run();
  if (absl::IsCancelled(status)) return kInterrupted;
  if (status.ok()) return 0;
  if (LogIsJson() && name != "worker") {  // a worker's last words are read by its supervisor
    spdlog::critical("{}", Message(status));
    return kError;
  }
  return Fail(kError, "trireme", Message(status));
}

}  // namespace trireme
