#include "server/convert.h"

#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace trireme {
namespace {

using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

// Fields that hold a JSON object.
bool IsJson(const FieldDescriptor& f) {
  return f.name() == "template_kwargs" || f.name() == "arguments" || f.name() == "extra";
}

// Sets every field of a message, at every depth, to something that is not its default; of a oneof
// the `pick`-th member.
void Fill(ProtoMessage& message, int pick, int more = 1) {
  const auto* descriptor = message.GetDescriptor();
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* f = descriptor->field(i);
    const auto* oneof = f->real_containing_oneof();
    if (oneof != nullptr && oneof->field(pick % oneof->field_count()) != f) continue;
    if (f->is_repeated()) {
      for (int n = 1; n <= (f->is_map() ? 1 : 2); ++n) {
        switch (f->cpp_type()) {
          case FieldDescriptor::CPPTYPE_INT32:
            reflection->AddInt32(&message, f, n);
            break;
          case FieldDescriptor::CPPTYPE_INT64:
            reflection->AddInt64(&message, f, n);
            break;
          case FieldDescriptor::CPPTYPE_FLOAT:
            reflection->AddFloat(&message, f, static_cast<float>(n));
            break;
          case FieldDescriptor::CPPTYPE_STRING:
            reflection->AddString(&message, f, "s");
            break;
          default:
            Fill(*reflection->AddMessage(&message, f), pick, n);
        }
      }
      continue;
    }
    const int value = f->number() + more;
    switch (f->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        reflection->SetInt32(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        reflection->SetInt64(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        reflection->SetFloat(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(&message, f, value);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->SetBool(&message, f, true);
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        reflection->SetEnumValue(&message, f, 1);
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        reflection->SetString(&message, f, IsJson(*f) ? R"({"s":[1]})" : StrCat("s", value));
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Fill(*reflection->MutableMessage(&message, f), pick);
        break;
    }
  }
}

// Nothing is lost on the way into our structs and back, whatever the field.
template <typename Proto, typename There>
void ExpectRoundTrip(There&& there, int n_picks = 1) {
  for (int pick = 0; pick < n_picks; ++pick) {
    Proto proto;
    Fill(proto, pick);
    Proto again = ToProto(there(Proto(proto)));
    EXPECT_TRUE(MessageDifferencer::Equals(proto, again)) << proto.DebugString() << "became\n"
                                                          << again.DebugString();
  }
}

TEST(ConvertTest, GenerateRequestKeepsEveryField) {
  ExpectRoundTrip<v1::GenerateRequest>([](auto proto) { return *FromProto(proto); }, 3);
}

TEST(ConvertTest, EventsKeepEveryField) {
  ExpectRoundTrip<v1::GenerateEvent>([](auto proto) { return FromProto(std::move(proto)); }, 4);
}

TEST(ConvertTest, ReplicaMessagesKeepEveryField) {
  ExpectRoundTrip<replica::v1::ReplicaInfo>([](auto p) { return FromProto(std::move(p)); });
  ExpectRoundTrip<replica::v1::Submit>([](auto p) { return FromProto(p); });
  ExpectRoundTrip<replica::v1::Report>([](auto p) { return FromProto(p); });
}

TEST(ConvertTest, RefusesUnknownFieldsAtAnyDepth) {
  v1::GenerateRequest proto;
  proto.set_text("x");
  EXPECT_TRUE(FromProto(proto).ok());
  proto.GetReflection()->MutableUnknownFields(&proto)->AddVarint(99, 1);
  EXPECT_EQ(FromProto(proto).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(FromProto(proto).status()),
              HasSubstr("field 99 of trireme.v1.GenerateRequest is not known"));

  v1::GenerateRequest nested;
  auto* ids = nested.mutable_ids();
  ids->GetReflection()->MutableUnknownFields(ids)->AddVarint(7, 1);
  EXPECT_THAT(Message(FromProto(nested).status()), HasSubstr("field 7 of trireme.v1.TokenIds"));
}

TEST(ConvertTest, AChatIsWhatItsTemplateSees) {
  v1::Chat proto;
  v1::ChatMessage* message = proto.add_messages();
  message->set_role("assistant");
  message->set_extra(R"({"reasoning_content": "hm"})");
  v1::ToolCall* call = message->add_tool_calls();
  call->set_id("c1");
  call->set_name("add");
  call->set_arguments(R"({"b": 1, "a": 2.5})");
  message = proto.add_messages();
  message->set_role("tool");
  message->set_content("");
  message->set_tool_call_id("c1");
  message->set_name("add");
  const Chat chat = *FromProto(proto);
  EXPECT_TRUE(chat.add_generation_prompt);
  EXPECT_EQ(chat.variables.dump(), "{}");
  EXPECT_EQ(chat.messages.dump(),
            R"([{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",)"
            R"("function":{"name":"add","arguments":{"b":1,"a":2.5}}}],"reasoning_content":"hm"},)"
            R"({"role":"tool","content":"","tool_call_id":"c1","name":"add"}])");
}

TEST(ConvertTest, RefusesChatsThatNoTemplateCouldRead) {
  const auto why = [](const v1::Chat& chat) {
    v1::GenerateRequest request;
    *request.mutable_chat() = chat;
    const absl::Status status = FromProto(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return Message(status);
  };
  v1::Chat chat;
  EXPECT_THAT(why(chat), HasSubstr("chat.messages: expected at least one"));
  chat.add_messages()->set_role("user");
  v1::ChatMessage* second = chat.add_messages();
  EXPECT_THAT(why(chat), HasSubstr("chat.messages[1].role is empty"));
  second->set_role("assistant");
  second->set_extra("[]");
  EXPECT_THAT(why(chat), HasSubstr("chat.messages[1].extra: expected a JSON object"));
  second->set_extra(R"({"content": "x"})");
  EXPECT_THAT(why(chat), HasSubstr("chat.messages[1].extra: content has its own field"));
  second->clear_extra();
  second->add_tool_calls()->set_arguments("nonsense");
  EXPECT_THAT(why(chat),
              HasSubstr("chat.messages[1].tool_calls[0].arguments: expected a JSON object"));
  second->clear_tool_calls();
  chat.set_template_kwargs("{\"x\":" + std::string(100, '[') + std::string(100, ']') + "}");
  EXPECT_THAT(why(chat), HasSubstr("chat.template_kwargs: expected a JSON object"));
}

TEST(ConvertTest, RefusesARequestWithoutInput) {
  EXPECT_THAT(Message(FromProto(v1::GenerateRequest()).status()), HasSubstr("input is missing"));
}

}  // namespace
}  // namespace trireme
