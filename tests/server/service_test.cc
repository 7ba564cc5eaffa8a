// The controller's gRPC server with real sockets: clients on one side, scripted replicas behind
// ReplicaClients on the other.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "server/controller_service.h"
#include "server/convert.h"
#include "server/generate_client.h"
#include "server/replica_client.h"
#include "tests/server/collector.h"
#include "tests/server/fake_replica.h"
#include "tests/server/health_client.h"
#include "trireme/replica/v1/replica.grpc.pb.h"
#include "trireme/v1/control.grpc.pb.h"
#include "trireme/v1/inference.grpc.pb.h"

namespace trireme {
namespace {

using test::Collector;
using test::FakeReplica;
using test::Ids;
using test::Info;
using testing::AllOf;
using testing::HasSubstr;

GenerateRequest Request(const std::string& text, int32_t max_tokens, uint64_t seed = 3) {
  GenerateRequest request;
  request.text = text;
  request.max_tokens = max_tokens;
  request.seed = seed;
  request.ignore_eos = true;
  return request;
}

std::vector<int32_t> Expected(const GenerateRequest& request) {
  SequenceRequest sequence;
  sequence.prompt_ids = Ids(*request.text);
  sequence.sampling.seed = *request.seed;
  sequence.max_tokens = *request.max_tokens;
  return test::Undisturbed(sequence);
}

// A connection on which nothing is said; -1: there is no file descriptor for it.
int DialRaw(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return fd;
  sockaddr_in to = {.sin_family = AF_INET};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int port = 0;
  EXPECT_TRUE(ParseNumber(address.substr(address.rfind(':') + 1), &port));
  to.sin_port = htons(static_cast<uint16_t>(port));
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return fd;
}

// A scripted replica and its link.
struct LinkedReplica {
  LinkedReplica(const std::string& controller, ReplicaInfo info = Info(),
                int steps = FakeReplica::kAny)
      : replica(std::move(info), steps), client(replica, {.controllers = {controller}}) {
    client.Start();
  }
  FakeReplica replica;
  ReplicaClient client;
};

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = ControllerService::Start({.version = "test"});
    ASSERT_TRUE(started.ok()) << started.status();
    service_ = *std::move(started);
    channel_ = grpc::CreateChannel(service_->address(), grpc::InsecureChannelCredentials());
    inference_ = v1::Inference::NewStub(channel_);
    control_ = v1::Control::NewStub(channel_);
    client_ = std::make_unique<GenerateClient>(GenerateClient::Options{.channel = channel_});
  }

  const std::string& address() const { return service_->address(); }

  void WaitServing() { test::HealthWatch(channel_, "").WaitFor(test::kServing); }

  v1::GetStatsResponse Stats() {
    grpc::ClientContext context;
    v1::GetStatsResponse response;
    EXPECT_TRUE(control_->GetStats(&context, {}, &response).ok());
    return response;
  }

  // Ends the only stream that `request` opens, with its status.
  grpc::Status StatusOf(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, request);
    v1::GenerateEvent event;
    while (stream->Read(&event)) {
    }
    return stream->Finish();
  }

  std::unique_ptr<ControllerService> service_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<GenerateClient> client_;
};

TEST_F(ServiceTest, Generates) {
  LinkedReplica replica(address());
  WaitServing();
  auto request = Request("once upon", 20);
  request.request_id = "mine";
  request.echo = true;
  Collector client;
  client_->Generate(request, client.callback());
  const auto log = client.WaitEnd();
  ASSERT_TRUE(log.finished.has_value()) << *log.error;
  EXPECT_EQ(log.ids, Expected(request));
  EXPECT_EQ(log.accepted->id, "mine");
  EXPECT_EQ(log.accepted->seed, 3u);
  EXPECT_EQ(log.accepted->prompt_text, "once upon");
  EXPECT_EQ(log.finished->reason, FinishReason::kLength);
  EXPECT_EQ(log.finished->usage.prompt_tokens, 9);
  EXPECT_GT(log.finished->timings.total_s, 0);
}

TEST_F(ServiceTest, MakesThePromptOfAChatByTheModelsTemplate) {
  ReplicaInfo info = Info();
  info.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}{{ name }}";
  LinkedReplica replica(address(), info);
  WaitServing();
  auto as_text = Request("once upon time", 20);
  auto chat = std::make_shared<Chat>();
  chat->messages = {{{"role", "user"}, {"content", "once"}}, {{"role", "x"}, {"content", "upon"}}};
  chat->variables = {{"name", "time"}};
  auto request = as_text;
  request.text.reset();
  request.chat = chat;
  Collector client;
  client_->Generate(request, client.callback());
  const auto log = client.WaitEnd();
  ASSERT_TRUE(log.finished.has_value()) << *log.error;
  EXPECT_EQ(log.ids, Expected(as_text));
}

TEST_F(ServiceTest, RefusesAChatForAModelWithoutATemplate) {
  LinkedReplica replica(address());
  WaitServing();
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("once");
  const grpc::Status status = StatusOf(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("no chat template"));
}

// They are written down beside the loop; short ones that come after them take their turn.
TEST_F(ServiceTest, LongPromptsReachTheirReplica) {
  ReplicaInfo info = Info();
  info.context_length = 1 << 16;
  info.kv_tokens = 1 << 20;
  info.credits.sequences = 125;
  LinkedReplica replica(address(), info);
  WaitServing();
  std::vector<GenerateRequest> requests;
  for (size_t n_ids : {40'000, 3, 20'000, 30'000, 4}) {
    auto& request = requests.emplace_back(Request("", 20, n_ids));
    request.text.reset();
    for (size_t i = 0; i < n_ids; ++i) request.ids.push_back(static_cast<int32_t>(i * i % 26));
  }
  std::vector<Collector> clients(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    client_->Generate(requests[i], clients[i].callback());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    SequenceRequest sequence;
    sequence.prompt_ids = requests[i].ids;
    sequence.sampling.seed = *requests[i].seed;
    sequence.max_tokens = 20;
    EXPECT_EQ(clients[i].WaitEnd().ids, test::Undisturbed(sequence)) << i;
  }
}

TEST_F(ServiceTest, TellsTheCallerOfItsTrace) {
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  auto stream = inference_->Generate(&context, v1::GenerateRequest());
  v1::GenerateEvent event;
  while (stream->Read(&event)) {
  }
  stream->Finish();
  const auto& metadata = context.GetServerInitialMetadata();
  ASSERT_EQ(metadata.count("traceparent"), 1u);
  const auto header = metadata.find("traceparent")->second;
  EXPECT_THAT(std::string(header.data(), header.size()),
              testing::StartsWith("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
}

TEST_F(ServiceTest, ManyStreamsOverTwoReplicas) {
  LinkedReplica a(address()), b(address());
  a.replica.LetSteps(0);  // until both have some
  b.replica.LetSteps(0);
  WaitServing();
  constexpr int kStreams = 64;
  std::vector<Collector> clients(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    client_->Generate(Request("abc", 1 + i % 30, i), clients[i].callback());
  }
  a.replica.WaitSubmitted(5);
  b.replica.WaitSubmitted(5);
  a.replica.LetSteps(FakeReplica::kAny);
  b.replica.LetSteps(FakeReplica::kAny);
  for (int i = 0; i < kStreams; ++i) {
    const auto log = clients[i].WaitEnd();
    EXPECT_EQ(log.ids, Expected(Request("abc", 1 + i % 30, i)));
  }
  const auto stats = Stats();
  EXPECT_EQ(stats.requests().finished(), kStreams);
  EXPECT_EQ(stats.requests().running(), 0);
}

TEST_F(ServiceTest, AReplicaThatGoesLosesNothing) {
  auto a = std::make_unique<LinkedReplica>(address(), Info(), /*steps=*/0);
  WaitServing();
  std::vector<Collector> clients(5);
  for (int i = 0; i < 5; ++i) {
    client_->Generate(Request("abc", 30, i), clients[i].callback());
  }
  a->replica.WaitSubmitted(5);
  a->replica.LetSteps(5);
  for (auto& client : clients) client.WaitIds(5);
  a.reset();  // its link breaks in the middle of every stream
  for (auto& client : clients) EXPECT_THAT(client.WaitWaiting().last_waiting, HasSubstr("lost"));
  LinkedReplica b(address());
  for (int i = 0; i < 5; ++i) {
    const auto log = clients[i].WaitEnd();
    EXPECT_EQ(log.ids, Expected(Request("abc", 30, i)));
  }
  EXPECT_EQ(Stats().requests().replayed(), 5);
}

TEST_F(ServiceTest, CancellingTheCallCancelsTheSequence) {
  LinkedReplica replica(address(), Info(), /*steps=*/2);
  WaitServing();
  Collector client;
  const uint64_t key = client_->Generate(Request("abc", 50), client.callback());
  client.WaitIds(2);
  client_->Cancel(key);
  EXPECT_EQ(client.WaitEnd().error->code(), absl::StatusCode::kCancelled);
  replica.replica.WaitCancelled(1);
  replica.replica.WaitIdle();
}

TEST_F(ServiceTest, AClientThatGoesAwayCancelsItsSequences) {
  LinkedReplica replica(address(), Info(), /*steps=*/2);
  WaitServing();
  Collector client;
  client_->Generate(Request("abc", 50), client.callback());
  client.WaitIds(2);
  client_.reset();
  replica.replica.WaitCancelled(1);
}

TEST_F(ServiceTest, RefusesWithTheRightCodes) {
  using grpc::StatusCode;
  v1::GenerateRequest request;
  request.set_text("abc");
  EXPECT_EQ(StatusOf(request).error_code(), StatusCode::UNAVAILABLE);  // no replica yet
  LinkedReplica replica(address());
  WaitServing();
  EXPECT_EQ(StatusOf(request).error_code(), StatusCode::OK);

  const auto refuses = [&](const std::string& message, StatusCode code, const auto& change) {
    v1::GenerateRequest changed = request;
    change(changed);
    const grpc::Status status = StatusOf(changed);
    EXPECT_EQ(status.error_code(), code) << message;
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  };
  refuses("no model is named \"other\"", StatusCode::NOT_FOUND,
          [](auto& r) { r.set_model("other"); });
  const auto invalid = [&](const std::string& message, const auto& change) {
    refuses(message, StatusCode::INVALID_ARGUMENT, change);
  };
  invalid("temperature is -1", [](auto& r) { r.set_temperature(-1); });
  invalid("temperature is nan", [](auto& r) { r.set_temperature(NAN); });
  invalid("the prompt is empty", [](auto& r) { r.set_text(""); });
  invalid("the prompt is empty", [](auto& r) { r.mutable_ids(); });
  invalid("the context of 64", [](auto& r) { r.set_text(std::string(100, 'a')); });
  invalid("bytes; at most", [](auto& r) { r.set_text(std::string((16 << 20) + 1, 'a')); });
  invalid("ids[0] is -5", [](auto& r) { r.mutable_ids()->add_ids(-5); });
  invalid("input is missing", [](auto& r) { r.clear_input(); });
  invalid("field 4242 of trireme.v1.GenerateRequest", [](auto& r) {
    r.GetReflection()->MutableUnknownFields(&r)->AddLengthDelimited(4242, "?");
  });
}

TEST_F(ServiceTest, TellsWhoIsRefusedWhenToAskAgain) {
  service_ = *ControllerService::Start({.core = {.max_requests = 1}});
  auto channel = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  inference_ = v1::Inference::NewStub(channel);
  v1::GenerateRequest request;
  request.set_text("abc");
  const auto pushback = [&](grpc::StatusCode code) {
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, request);
    v1::GenerateEvent event;
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), code);
    const auto& metadata = context.GetServerTrailingMetadata();
    const auto found = metadata.find("grpc-retry-pushback-ms");
    return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
  };
  EXPECT_EQ(pushback(grpc::StatusCode::UNAVAILABLE), "1000");  // no replica yet
  LinkedReplica replica(address());
  test::HealthWatch(channel, "").WaitFor(test::kServing);
  request.set_n(2);
  EXPECT_EQ(pushback(grpc::StatusCode::RESOURCE_EXHAUSTED), "1000");
  request.set_n(1);
  EXPECT_EQ(pushback(grpc::StatusCode::OK), "");
  request.set_temperature(-1);
  EXPECT_EQ(pushback(grpc::StatusCode::INVALID_ARGUMENT), "");
}

TEST_F(ServiceTest, ListensOnAfterAWantOfFileDescriptors) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  close(next);
  const rlimit few{static_cast<rlim_t>(next) + 30, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<int> fds;
  for (int fd = 0; fd >= 0;) {  // until none is left for either side
    fd = DialRaw(address());
    if (fd >= 0) fds.push_back(fd);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // some attempts to accept one
  for (int fd : fds) close(fd);
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_GT(fds.size(), 5u);

  auto channel = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  EXPECT_TRUE(
      channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(60)));
}

// One whose host is gone looks like that.
TEST_F(ServiceTest, AClientThatAnswersNoPingIsGone) {
  service_ = *ControllerService::Start({.keepalive = std::chrono::milliseconds(300)});
  LinkedReplica replica(address());
  auto channel = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  test::HealthWatch(channel, "").WaitFor(test::kServing);
  control_ = v1::Control::NewStub(channel);
  const uint64_t link = Stats().replicas(0).link();

  const int fd = DialRaw(address());
  ASSERT_GE(fd, 0);
  const std::string settings = std::string("\0\0\0\4\0\0\0\0\0", 9);  // none
  const std::string start = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings;
  ASSERT_EQ(send(fd, start.data(), start.size(), 0), static_cast<ssize_t>(start.size()));
  char bytes[1000];
  while (recv(fd, bytes, sizeof bytes, 0) > 0) {  // to its end
  }
  close(fd);
  EXPECT_EQ(Stats().replicas(0).link(), link);  // a replica answers
}

// A field that a newer client knows is refused by every method, not ignored.
TEST_F(ServiceTest, RefusesUnknownFieldsOfEveryMethod) {
  LinkedReplica replica(address());
  WaitServing();
  const auto refused = [](auto& stub, auto method, auto request, auto response) {
    request.GetReflection()->MutableUnknownFields(&request)->AddVarint(77, 1);
    grpc::ClientContext context;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("field 77 of " + request.GetTypeName()));
  };
  using Inference = v1::Inference::Stub;
  using Control = v1::Control::Stub;
  refused(*inference_, &Inference::Tokenize, v1::TokenizeRequest(), v1::TokenizeResponse());
  refused(*inference_, &Inference::Detokenize, v1::DetokenizeRequest(), v1::DetokenizeResponse());
  refused(*control_, &Control::GetModelInfo, v1::GetModelInfoRequest(), v1::GetModelInfoResponse());
  refused(*control_, &Control::GetStats, v1::GetStatsRequest(), v1::GetStatsResponse());
}

TEST_F(ServiceTest, TokenizesAndDetokenizes) {
  LinkedReplica replica(address());
  WaitServing();
  grpc::ClientContext c1, c2, c3;
  v1::TokenizeRequest text;
  text.set_text("to be");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(inference_->Tokenize(&c1, text, &ids).ok());
  EXPECT_EQ(std::vector<int32_t>(ids.ids().begin(), ids.ids().end()), Ids("to be"));

  v1::DetokenizeRequest request;
  *request.mutable_ids() = ids.ids();
  v1::DetokenizeResponse response;
  ASSERT_TRUE(inference_->Detokenize(&c2, request, &response).ok());
  EXPECT_EQ(response.text(), "to be");

  request.add_ids(test::kVocab);
  const auto status = inference_->Detokenize(&c3, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("id 30"));
}

TEST_F(ServiceTest, DescribesModelsAndReplicas) {
  LinkedReplica replica(address());
  WaitServing();
  grpc::ClientContext context;
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(control_->GetModelInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.model(), "tiny");
  EXPECT_EQ(info.vocab_size(), test::kVocab);
  EXPECT_EQ(info.context_length(), 64);
  EXPECT_EQ(info.replicas_ready(), 1);
  EXPECT_TRUE(info.has_tokenizer());
  EXPECT_EQ(info.server_version(), "test");

  const auto stats = Stats();
  ASSERT_EQ(stats.replicas_size(), 1);
  EXPECT_EQ(stats.replicas(0).fingerprint(), "f1");
  EXPECT_EQ(stats.replicas(0).rank_pids(0), 1);
}

TEST_F(ServiceTest, HealthFollowsTheReplicas) {
  for (const char* name : {"", "trireme.v1.Inference"}) {
    test::HealthWatch watch(channel_, name);
    watch.WaitFor(test::kNotServing);
    {
      LinkedReplica replica(address());
      watch.WaitFor(test::kServing);
    }
    watch.WaitFor(test::kNotServing);
  }
  EXPECT_EQ(test::HealthOf(channel_, "no such service").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, ReflectionListsTheServices) {
  EXPECT_THAT(test::ListServices(channel_),
              AllOf(HasSubstr("trireme.v1.Inference"), HasSubstr("trireme.v1.Control"),
                    HasSubstr("trireme.replica.v1.ReplicaService")));
}

TEST_F(ServiceTest, APortInUseIsOneClearLine) {
  auto second = ControllerService::Start({.address = address()});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Message(second.status()),
            StrCat("cannot listen on ", address(), ": Address already in use"));
}

// ---- Links.

TEST_F(ServiceTest, RefusesAnotherProtocolRevisionByName) {
  FakeReplica replica;
  ReplicaClient client(replica,
                       {.controllers = {address()}, .revisions = {.oldest = 98, .newest = 99}});
  client.Start();
  const auto status = client.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("protocol revision 98 to 99"));
  replica.WaitStopped();
}

TEST_F(ServiceTest, TheNewestRevisionInCommonIsSpoken) {
  auto stub = replica::v1::ReplicaService::NewStub(channel_);
  grpc::ClientContext context;
  auto stream = stub->Connect(&context);
  replica::v1::FromReplica hello;
  hello.mutable_registration()->set_revision(99);
  hello.mutable_registration()->set_oldest_revision(1);
  *hello.mutable_registration()->mutable_info() = ToProto(Info());
  stream->Write(hello);
  replica::v1::ToReplica message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.registered().revision(), RevisionRange().newest);
  context.TryCancel();
  stream->Finish();
}

// Two controllers and the replica that both have.
class SharedReplicaTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    other_ = *ControllerService::Start({});
    other_address_ = other_->address();
    client_of_other_ = std::make_unique<GenerateClient>(GenerateClient::Options{
        .channel = grpc::CreateChannel(other_address_, grpc::InsecureChannelCredentials())});
    links_ = std::make_unique<ReplicaClient>(
        replica_, ReplicaClient::Options{.controllers = {address(), other_address_}});
    links_->Start();
    WaitServing();
    WaitOtherServing();
  }
  void WaitOtherServing() {
    test::HealthWatch(grpc::CreateChannel(other_address_, grpc::InsecureChannelCredentials()), "")
        .WaitFor(test::kServing);
  }

  FakeReplica replica_{Info(), /*steps=*/2};
  std::unique_ptr<ControllerService> other_;
  std::string other_address_;
  std::unique_ptr<GenerateClient> client_of_other_;
  std::unique_ptr<ReplicaClient> links_;
};

TEST_F(SharedReplicaTest, ServesBothAndGoesOnWithOne) {
  Collector mine, others, after;
  client_->Generate(Request("abc", 50), mine.callback());
  mine.WaitIds(2);
  client_of_other_->Generate(Request("abd", 50), others.callback());
  replica_.WaitSubmitted(2);
  other_->Stop(/*stop_replicas=*/false);
  EXPECT_EQ(others.WaitEnd().error->code(), absl::StatusCode::kUnavailable);
  replica_.LetSteps(FakeReplica::kAny);
  EXPECT_EQ(mine.WaitEnd().ids, Expected(Request("abc", 50)));

  auto again = ControllerService::Start({.address = other_address_});
  ASSERT_TRUE(again.ok()) << again.status();
  WaitOtherServing();
  client_of_other_->Generate(Request("abd", 10), after.callback());
  EXPECT_EQ(after.WaitEnd().ids, Expected(Request("abd", 10)));
}

TEST_F(SharedReplicaTest, SentHomeByOneItLeavesBothOnceItHasFinished) {
  Collector others;
  client_of_other_->Generate(Request("abd", 50), others.callback());
  others.WaitIds(2);
  service_->Stop(/*stop_replicas=*/true);
  replica_.LetSteps(FakeReplica::kAny);
  EXPECT_EQ(others.WaitEnd().ids, Expected(Request("abd", 50)));
  EXPECT_TRUE(links_->Wait().ok());
  replica_.WaitStopped();
}

TEST_F(SharedReplicaTest, IsNotKeptFromLeavingByOneThatIsGone) {
  other_->Stop(/*stop_replicas=*/false);
  service_->Stop(/*stop_replicas=*/true);
  EXPECT_TRUE(links_->Wait().ok());
  replica_.WaitStopped();
}

TEST_F(ServiceTest, RefusedByOneControllerAReplicaServesTheOther) {
  auto strict = *ControllerService::Start({.replica_secret = "a secret"});
  FakeReplica replica;
  ReplicaClient client(replica, {.controllers = {strict->address(), address()}});
  client.Start();
  WaitServing();
  service_->Stop(/*stop_replicas=*/true);
  EXPECT_TRUE(client.Wait().ok());
}

TEST_F(ServiceTest, RefusesAReplicaThatItCannotUse) {
  auto info = Info();
  info.tokenizer_json = "{}";
  FakeReplica replica(info);
  ReplicaClient client(replica, {.controllers = {address()}});
  client.Start();
  EXPECT_THAT(Message(client.Wait()), HasSubstr("tokenizer.json of tiny"));
}

TEST_F(ServiceTest, SendsReplicasHome) {
  LinkedReplica replica(address());
  WaitServing();
  service_->Stop(/*stop_replicas=*/true);
  EXPECT_TRUE(replica.client.Wait().ok());
  replica.replica.WaitStopped();
}

TEST_F(ServiceTest, AReplicaDialsALostControllerAgain) {
  LinkedReplica replica(address(), Info(), /*steps=*/2);
  WaitServing();
  Collector before, after;
  client_->Generate(Request("abc", 50), before.callback());
  before.WaitIds(2);
  const std::string same = address();
  service_->Stop(/*stop_replicas=*/false);
  EXPECT_EQ(before.WaitEnd().error->code(), absl::StatusCode::kUnavailable);
  replica.replica.WaitIdle();  // it has dropped the sequence

  auto again = ControllerService::Start({.address = same});
  ASSERT_TRUE(again.ok()) << again.status();
  replica.replica.LetSteps(FakeReplica::kAny);
  WaitServing();
  client_->Generate(Request("abc", 10), after.callback());
  EXPECT_EQ(after.WaitEnd().ids, Expected(Request("abc", 10)));
}

TEST(ReplicaClientTest, GivesUpOnceEachOfItsControllersIsNotThere) {
  FakeReplica replica;
  ReplicaClient client(replica, {.controllers = {"127.0.0.1:1", "127.0.0.1:2"},
                                 .controller_timeout = std::chrono::milliseconds(300)});
  client.Start();
  EXPECT_EQ(client.Wait().code(), absl::StatusCode::kUnavailable);
  replica.WaitStopped();
}

TEST(ReplicaClientTest, GivesUpOnAControllerThatIsNotThere) {
  FakeReplica replica;
  ReplicaClient client(replica, {.controllers = {"127.0.0.1:1"},
                                 .controller_timeout = std::chrono::milliseconds(300)});
  client.Start();
  const auto status = client.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("no controller at 127.0.0.1:1 for 0.3 s"));
  replica.WaitStopped();
}

TEST(ReplicaLinkTest, ASilentReplicaIsDropped) {
  ControllerService::Options options;
  options.core.heartbeat_interval = std::chrono::milliseconds(20);
  options.core.replica_timeout = std::chrono::milliseconds(200);
  auto service = ControllerService::Start(options);
  auto channel = grpc::CreateChannel((*service)->address(), grpc::InsecureChannelCredentials());
  auto stub = replica::v1::ReplicaService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->Connect(&context);
  replica::v1::FromReplica hello;
  hello.mutable_registration()->set_revision(RevisionRange().newest);
  *hello.mutable_registration()->mutable_info() = ToProto(Info());
  stream->Write(hello);
  replica::v1::ToReplica message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.registered().timeout_s(), 0.2);
  while (stream->Read(&message)) EXPECT_TRUE(message.has_heartbeat());
  EXPECT_THAT(stream->Finish().error_message(), HasSubstr("nothing heard for 0.2 s"));
}

TEST(ReplicaLinkTest, AMessageOutOfTurnEndsTheLink) {
  auto service = ControllerService::Start({});
  auto channel = grpc::CreateChannel((*service)->address(), grpc::InsecureChannelCredentials());
  auto stub = replica::v1::ReplicaService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->Connect(&context);
  replica::v1::FromReplica early;
  early.mutable_heartbeat();
  stream->Write(early);
  replica::v1::ToReplica message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_THAT(message.reject().reason(), HasSubstr("out of turn"));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

}  // namespace
}  // namespace trireme
