// Field names, numbers and types of the protos are contracts: compared with tests/golden/proto.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/str.h"
#include "gtest/gtest.h"
#include "trireme/ledger/v1/ledger.pb.h"
#include "trireme/replica/v1/replica.pb.h"
#include "trireme/v1/control.pb.h"
#include "trireme/v1/inference.pb.h"

namespace trireme {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::ServiceDescriptor;

std::string TypeName(const FieldDescriptor& field) {
  if (field.message_type() != nullptr) return field.message_type()->full_name();
  if (field.enum_type() != nullptr) return field.enum_type()->full_name();
  return field.type_name();
}

void Dump(const Descriptor& message, std::ostream& out) {
  out << "message " << message.full_name() << "\n";
  std::vector<const FieldDescriptor*> fields;
  for (int i = 0; i < message.field_count(); ++i) fields.push_back(message.field(i));
  std::ranges::sort(fields, {}, &FieldDescriptor::number);
  for (const FieldDescriptor* field : fields) {
    out << "  " << field->number() << " " << field->name() << ": ";
    if (field->is_repeated()) out << "repeated ";
    if (field->has_optional_keyword()) out << "optional ";
    out << TypeName(*field);
    if (const auto* oneof = field->real_containing_oneof()) out << " in " << oneof->name();
    out << "\n";
  }
  for (int i = 0; i < message.nested_type_count(); ++i) Dump(*message.nested_type(i), out);
}

void Dump(const EnumDescriptor& type, std::ostream& out) {
  out << "enum " << type.full_name() << "\n";
  for (int i = 0; i < type.value_count(); ++i) {
    out << "  " << type.value(i)->number() << " " << type.value(i)->name() << "\n";
  }
}

void Dump(const ServiceDescriptor& service, std::ostream& out) {
  out << "service " << service.full_name() << "\n";
  for (int i = 0; i < service.method_count(); ++i) {
    const auto& method = *service.method(i);
    out << "  " << method.name() << "(" << (method.client_streaming() ? "stream " : "")
        << method.input_type()->full_name() << "): " << (method.server_streaming() ? "stream " : "")
        << method.output_type()->full_name() << "\n";
  }
}

std::string Dump(const std::vector<const FileDescriptor*>& files) {
  std::ostringstream out;
  for (const FileDescriptor* file : files) {
    for (int i = 0; i < file->service_count(); ++i) Dump(*file->service(i), out);
    for (int i = 0; i < file->message_type_count(); ++i) Dump(*file->message_type(i), out);
    for (int i = 0; i < file->enum_type_count(); ++i) Dump(*file->enum_type(i), out);
  }
  return out.str();
}

// The lines of a dump, each behind the message, enum or service that it belongs to.
std::vector<std::string> QualifiedLines(const std::string& dump) {
  std::vector<std::string> lines;
  std::string owner;
  for (const std::string& line : SplitString(dump, '\n')) {
    if (!line.starts_with("  ")) owner = line;
    lines.push_back(line == owner ? line : StrCat(owner, line));
  }
  return lines;
}

// The lines of `a` that `b` lacks, each behind `mark`.
std::string Missing(const std::string& a, const std::string& b, const char* mark) {
  const auto in_b = QualifiedLines(b);
  std::string lines;
  for (const std::string& line : QualifiedLines(a)) {
    if (std::ranges::find(in_b, line) == in_b.end()) lines += StrCat(mark, line, "\n");
  }
  return lines;
}

void ExpectGolden(const std::string& name, const std::string& now) {
  const std::string path = StrCat(TRIREME_SOURCE_DIR, "/tests/golden/proto/", name, ".txt");
  if (std::getenv("TRIREME_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFile(path, now).ok());
    return;
  }
  const auto golden = ReadFile(path);
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_TRUE(*golden == now)
      << "The contract in proto/ is not that of " << path << ":\n"
      << Missing(*golden, now, "- ") << Missing(now, *golden, "+ ")
      << "A field that clients know may not change its name, number or type; a removed one's "
         "number "
         "is never used again.\nIf the change is meant, run the test again with "
         "TRIREME_UPDATE_GOLDEN=1 and commit the file.";
}

TEST(GoldenTest, PublicContract) {
  ExpectGolden("v1", Dump({v1::GenerateRequest::descriptor()->file(),
                           v1::GetStatsRequest::descriptor()->file()}));
}

TEST(GoldenTest, ReplicaContract) {
  ExpectGolden("replica_v1", Dump({replica::v1::Register::descriptor()->file()}));
}

TEST(GoldenTest, LedgerFormat) {
  ExpectGolden("ledger_v1", Dump({ledger::v1::Record::descriptor()->file()}));
}

}  // namespace
}  // namespace trireme
