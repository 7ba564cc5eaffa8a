// trireme ctl: a server's Control service.
#include <cstdio>
#include <optional>
#include <string>

#include "base/check.h"
#include "grpcpp/client_context.h"
#include "launcher/commands.h"
#include "launcher/flags.h"
#include "launcher/validators.h"
#include "nlohmann/json.hpp"
#include "server/grpc_tls.h"
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

// What the commands share: a server, and one call of its Control service.
class ControlCommand : public Command {
 public:
  void AddFlags(CLI::App& app) override {
    app.add_option("--server", server_, "the server to ask")
        ->required()
        ->transform(DialledAddress())
        ->type_name("HOST:PORT");
    AddApiKey(app, &api_key_);
    AddClientTls(app, &tls_);
  }

 protected:
  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::Control::Stub::*method)(grpc::ClientContext*, const Request&,
                                                              Response*),
                    const Request& request, Response* response) const {
    RouteGrpcLog(GrpcSide::kClient);
    ASSIGN_OR_RETURN(const auto channel, Dial(server_, tls_));
    const auto stub = v1::Control::NewStub(channel);
    grpc::ClientContext context;
    trireme::AddApiKey(api_key_, context);
    const absl::Status status =
        Explain(FromGrpc((stub.get()->*method)(&context, request, response)), tls_);
    return Annotate(status, StrCat(server_, ": ", absl::StatusCodeToString(status.code())));
  }

 private:
  std::string server_;
  std::string api_key_;
  ClientTls tls_;
};

class StatsCommand : public ControlCommand {
 public:
  absl::Status Run() override {
    v1::GetStatsResponse response;
    RETURN_IF_ERROR(Call(&v1::Control::Stub::GetStats, v1::GetStatsRequest(), &response));
    std::printf("%s\n", ToJson(response).dump(2).c_str());
    return absl::OkStatus();
  }
};

class ModelsCommand : public ControlCommand {
 public:
  absl::Status Run() override {
    v1::ListModelsResponse response;
    RETURN_IF_ERROR(Call(&v1::Control::Stub::ListModels, v1::ListModelsRequest(), &response));
    for (const std::string& model : response.models()) std::printf("%s\n", model.c_str());
    return absl::OkStatus();
  }
};

class DrainCommand : public ControlCommand {
 public:
  void AddFlags(CLI::App& app) override {
    ControlCommand::AddFlags(app);
    app.add_option("--link", link_, "the replica's, as `trireme ctl stats` tells it")
        ->required()
        ->transform(Whole<uint64_t>())
        ->type_name("N");
  }

  absl::Status Run() override {
    v1::DrainRequest request;
    request.set_link(link_);
    v1::DrainResponse response;
    return Call(&v1::Control::Stub::Drain, request, &response);
  }

 private:
  uint64_t link_ = 0;
};

class AbortCommand : public ControlCommand {
 public:
  void AddFlags(CLI::App& app) override {
    ControlCommand::AddFlags(app);
    app.add_option("--request-id", request_id_, "the request's, as logs and Accepted tell it")
        ->required()
        ->type_name("ID");
    app.add_option("--tenant", tenant_, "whose request it is; default: whoever has one")
        ->type_name("NAME");
  }

  absl::Status Run() override {
    v1::AbortRequest request;
    request.set_request_id(request_id_);
    if (tenant_.has_value()) request.set_tenant(*tenant_);
    v1::AbortResponse response;
    return Call(&v1::Control::Stub::Abort, request, &response);
  }

 private:
  std::string request_id_;
  std::optional<std::string> tenant_;
};

}  // namespace

std::unique_ptr<Command> MakeCtlAbort() { return std::make_unique<AbortCommand>(); }
std::unique_ptr<Command> MakeCtlDrain() { return std::make_unique<DrainCommand>(); }
std::unique_ptr<Command> MakeCtlModels() { return std::make_unique<ModelsCommand>(); }
std::unique_ptr<Command> MakeCtlStats() { return std::make_unique<StatsCommand>(); }

}  // namespace trireme
