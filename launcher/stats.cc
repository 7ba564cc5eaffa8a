// trireme stats: Control.GetStats of a server, as JSON.
#include <cstdio>

#include "base/check.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/validators.h"
#include "nlohmann/json.hpp"
#include "server/grpc_util.h"
#include "trireme/v1/control.grpc.pb.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

Json ToJson(const Message& message);

// Protobuf's own JSON writes 64-bit numbers as strings; here they are numbers.
template <typename Get>
Json Values(const Message& message, const FieldDescriptor* field, Get get) {
  if (!field->is_repeated()) return get(-1);
  Json array = Json::array();
  for (int i = 0; i < message.GetReflection()->FieldSize(message, field); i++)
    array.push_back(get(i));
  return array;
}

Json ToJson(const Message& message, const FieldDescriptor* field) {
  const auto* fields = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return fields->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return fields->GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return Values(message, field, [&](int i) {
        return i < 0 ? fields->GetInt64(message, field)
                     : fields->GetRepeatedInt64(message, field, i);
      });
    case FieldDescriptor::CPPTYPE_BOOL:
      return fields->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      return Values(message, field, [&](int i) {
        return i < 0 ? fields->GetString(message, field)
                     : fields->GetRepeatedString(message, field, i);
      });
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return Values(message, field, [&](int i) {
        return ToJson(i < 0 ? fields->GetMessage(message, field)
                            : fields->GetRepeatedMessage(message, field, i));
      });
    default:
      CHECK(false) << "no JSON for " << field->full_name();
      return {};
  }
}

Json ToJson(const Message& message) {
  Json json;
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); i++) {
    json[descriptor->field(i)->name()] = ToJson(message, descriptor->field(i));
  }
  return json;
}

class StatsCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--server", server_, "the server to ask")
        ->required()
        ->transform(DialledAddress())
        ->type_name("HOST:PORT");
    AddApiKey(app, &api_key_);
  }

  absl::Status Run() override {
    RouteGrpcLog();
    const auto stub = v1::Control::NewStub(
        grpc::CreateCustomChannel(server_, grpc::InsecureChannelCredentials(), ClientArguments()));
    grpc::ClientContext context;
    trireme::AddApiKey(api_key_, context);
    v1::GetStatsResponse response;
    const absl::Status status = FromGrpc(stub->GetStats(&context, {}, &response));
    if (!status.ok()) {
      return Annotate(status, StrCat(server_, ": ", absl::StatusCodeToString(status.code())));
    }
    std::printf("%s\n", ToJson(response).dump(2).c_str());
    return absl::OkStatus();
  }

 private:
  std::string server_;
  std::string api_key_;
};

}  // namespace

std::unique_ptr<Command> MakeStats() { return std::make_unique<StatsCommand>(); }

}  // namespace trireme
