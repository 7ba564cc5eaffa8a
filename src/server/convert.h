// Structs to and from the messages of proto/.
#pragma once

#include "google/protobuf/message.h"
#include "server/api.h"
#include "server/chat.h"
#include "server/controller.h"
#include "trireme/replica/v1/replica.pb.h"
#include "trireme/v1/control.pb.h"
#include "trireme/v1/inference.pb.h"

namespace trireme {

// INVALID_ARGUMENT naming the first field, at any depth, that this program's protos do not have.
absl::Status CheckNoUnknownFields(const google::protobuf::Message& message);

// FromProto refuses unknown fields and a request without input; ranges are the controller's matter.
absl::StatusOr<GenerateRequest> FromProto(const v1::GenerateRequest& proto);
v1::GenerateRequest ToProto(const GenerateRequest& request);

// Messages as templates see them. INVALID_ARGUMENT naming the field that is no JSON object, or a
// message without a role.
absl::StatusOr<Chat> FromProto(const v1::Chat& proto);
v1::Chat ToProto(const Chat& chat);

// Of everything in it but its name and `resume`: requests of equal digests ask for the same.
std::string DigestOf(const v1::GenerateRequest& request);

// A status event has no message: it is the call's status. An empty or unknown message is an
// INTERNAL status.
v1::GenerateEvent ToProto(Event&& event);
Event FromProto(v1::GenerateEvent&& proto);

v1::GetStatsResponse StatsToProto(const Controller& controller);

// Revisions of proto/trireme/replica/v1. Any change of it makes a new one; an old one can be spoken
// for as long as what it lacks can be done without.
struct RevisionRange {
  int32_t oldest = 4;
  int32_t newest = 4;
};
// 0: there is none.
int32_t NewestInCommon(RevisionRange a, RevisionRange b);

replica::v1::ReplicaInfo ToProto(const ReplicaInfo& info);
ReplicaInfo FromProto(replica::v1::ReplicaInfo&& proto);
replica::v1::Submit ToProto(const SequenceRequest& sequence);
SequenceRequest FromProto(const replica::v1::Submit& proto);
replica::v1::Report ToProto(const StepReport& report);
StepReport FromProto(const replica::v1::Report& proto);

}  // namespace trireme
