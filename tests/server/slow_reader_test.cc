// A client of gRPC that does not read, over real sockets.
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "server/controller_service.h"
#include "server/replica_client.h"
#include "tests/server/fake_replica.h"
#include "tests/server/health_client.h"
#include "trireme/v1/control.grpc.pb.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {
namespace {

using test::FakeReplica;
using test::Info;

// A client that does not read at first. Its prompt comes back in the first event, which is larger
// than what gRPC's windows take unread.
class SlowReaderTest : public testing::Test {
 protected:
  void Start(Duration write_timeout, int steps) {
    service_ = *ControllerService::Start({.write_timeout = write_timeout});
    ReplicaInfo info = Info();
    info.context_length = 1 << 20;
    info.kv_tokens = 1 << 21;
    replica_.emplace(info, steps);
    link_ = std::make_unique<ReplicaClient>(
        *replica_, ReplicaClient::Options{.controllers = {service_->address()}});
    link_->Start();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // the windows stay small
    auto channel = grpc::CreateCustomChannel(service_->address(),
                                             grpc::InsecureChannelCredentials(), arguments);
    test::HealthWatch(channel, "").WaitFor(test::kServing);
    control_ = v1::Control::NewStub(channel);
    inference_ = v1::Inference::NewStub(channel);
    for (int i = 0; i < 1 << 18; ++i) *request_.mutable_text() += "a ";
    request_.set_echo(true);
    request_.set_ignore_eos(true);
    stream_ = inference_->Generate(&context_, request_);
    replica_->WaitSubmitted(1);
  }

  v1::RequestStats Requests() {
    grpc::ClientContext context;
    v1::GetStatsResponse response;
    EXPECT_TRUE(control_->GetStats(&context, {}, &response).ok());
    return response.requests();
  }

  std::unique_ptr<ControllerService> service_;
  std::optional<FakeReplica> replica_;
  std::unique_ptr<ReplicaClient> link_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  v1::GenerateRequest request_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> stream_;
};

TEST_F(SlowReaderTest, IsGivenUpAfterTheWriteTimeout) {
  request_.set_max_tokens(50);
  Start(std::chrono::milliseconds(100), /*steps=*/2);
  replica_->WaitCancelled(1);
  v1::GenerateEvent event;
  while (stream_->Read(&event)) {
  }
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Requests().cancelled(), 1);
}

TEST_F(SlowReaderTest, GetsInOneEventWhatCameMeanwhile) {
  request_.set_max_tokens(200);
  Start(std::chrono::minutes(10), FakeReplica::kAny);
  while (Requests().finished() == 0) std::this_thread::yield();
  v1::GenerateEvent accepted, delta, finished, none;
  EXPECT_TRUE(stream_->Read(&accepted));
  EXPECT_TRUE(stream_->Read(&delta));
  EXPECT_TRUE(stream_->Read(&finished));
  EXPECT_FALSE(stream_->Read(&none));
  EXPECT_TRUE(stream_->Finish().ok());
  EXPECT_EQ(delta.delta().ids_size(), 200);
  EXPECT_TRUE(finished.has_finished());
}

}  // namespace
}  // namespace trireme
