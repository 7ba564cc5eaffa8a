// trireme tokenize: what a model's tokenizer makes of a text.
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/file.h"
#include "launcher/commands.h"
#include "nlohmann/json.hpp"
#include "text/tokenizer.h"

namespace trireme {
namespace {

class TokenizeCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--model", model_dir_, "directory that holds tokenizer.json")
        ->required()
        ->type_name("DIR");
    app.add_flag("--ids", ids_only_, "only the ids, as --prompt-ids of generate takes them");
    app.add_option("text", text_, "the text; without it, stdin as it is")->type_name("TEXT");
  }

  absl::Status Run() override {
    const std::string path = model_dir_ + "/tokenizer.json";
    ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
    auto tokenizer = Tokenizer::FromJson(json);
    if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
    if (!text_) text_ = std::string(std::istreambuf_iterator<char>(std::cin), {});
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, (*tokenizer)->Encode(*text_, true));
    if (ids_only_) {
      std::printf("%s\n", Join(ids, ",").c_str());
      return absl::OkStatus();
    }
    for (int32_t id : ids) {
      const nlohmann::json token = (*tokenizer)->IdToToken(id);
      std::printf("%d\t%s\n", id,
                  token.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    }
    return absl::OkStatus();
  }

 private:
  std::string model_dir_;
  bool ids_only_ = false;
  std::optional<std::string> text_;
};

}  // namespace

std::unique_ptr<Command> MakeTokenize() { return std::make_unique<TokenizeCommand>(); }

}  // namespace trireme
