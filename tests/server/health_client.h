// Clients of grpc.health.v1 and of server reflection, whose protos Debian does not install.
// Messages are compatible on the wire if their fields are: HealthCheckRequest is a string in field
// 1, HealthCheckResponse an enum in field 1.
#pragma once

#include <memory>
#include <string>

#include "google/protobuf/empty.pb.h"
#include "google/protobuf/unknown_field_set.h"
#include "google/protobuf/wrappers.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/impl/client_unary_call.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/sync_stream.h"
#include "gtest/gtest.h"

namespace trireme::test {

using HealthRequest = google::protobuf::StringValue;
using HealthResponse = google::protobuf::Int32Value;
inline constexpr int kServing = 1;
inline constexpr int kNotServing = 2;

inline grpc::Status HealthOf(const std::shared_ptr<grpc::Channel>& channel,
                             const std::string& service) {
  grpc::ClientContext context;
  HealthRequest request;
  request.set_value(service);
  HealthResponse response;
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC, channel);
  return grpc::internal::BlockingUnaryCall(channel.get(), method, &context, request, &response);
}

class HealthWatch {
 public:
  HealthWatch(std::shared_ptr<grpc::Channel> channel, const std::string& service)
      : channel_(std::move(channel)) {
    HealthRequest request;
    request.set_value(service);
    context_.set_wait_for_ready(true);
    const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Watch",
                                           grpc::internal::RpcMethod::SERVER_STREAMING, channel_);
    reader_.reset(grpc::internal::ClientReaderFactory<HealthResponse>::Create(
        channel_.get(), method, &context_, request));
  }
  ~HealthWatch() {
    context_.TryCancel();
    HealthResponse response;
    while (reader_->Read(&response)) {
    }
    reader_->Finish();
  }

  void WaitFor(int status) {
    HealthResponse response;
    do {
      ASSERT_TRUE(reader_->Read(&response));
    } while (response.value() != status);
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<HealthResponse>> reader_;
};

// The names of the services, somewhere in the returned bytes.
inline std::string ListServices(const std::shared_ptr<grpc::Channel>& channel) {
  using google::protobuf::Empty;
  grpc::ClientContext context;
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  std::unique_ptr<grpc::ClientReaderWriter<Empty, Empty>> stream(
      grpc::internal::ClientReaderWriterFactory<Empty, Empty>::Create(channel.get(), method,
                                                                      &context));
  Empty request, response;
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(7, "*");
  stream->Write(request);
  stream->WritesDone();
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
  return response.SerializeAsString();
}

}  // namespace trireme::test
