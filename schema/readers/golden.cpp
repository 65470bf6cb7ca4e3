// Reads each golden message with Cap'n Proto's own library, compares it with what it means, and writes it again.
//
//     golden FOLDER_OF_THE_SCHEMA

#include <capnp/compat/json.h>
#include <capnp/dynamic.h>
#include <capnp/message.h>
#include <capnp/schema-loader.h>
#include <capnp/schema.capnp.h>
#include <capnp/serialize.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return text.str();
}

/// Words of a file or a text, at an address that Cap'n Proto can read from.
kj::Array<capnp::word> words(const std::string& bytes) {
  auto copy = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
  memcpy(copy.begin(), bytes.data(), copy.asBytes().size());
  return copy;
}

struct Golden {
  uint64_t type;
  kj::Array<capnp::word> segment;
};

Golden golden(const fs::path& path) {
  std::istringstream lines(content(path));
  std::string heading, bytes, byte;
  std::getline(lines, heading);
  while (lines >> byte) bytes.push_back(static_cast<char>(std::stoi(byte, nullptr, 16)));
  return {std::stoull(heading.substr(heading.find("type ") + 5), nullptr, 16), words(bytes)};
}

capnp::ReaderOptions limits() {
  capnp::ReaderOptions limits;
  limits.traversalLimitInWords = 1 << 12;
  limits.nestingLimit = 8;
  return limits;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "golden FOLDER_OF_THE_SCHEMA\n";
    return 2;
  }
  const fs::path folder = arguments[1];

  const auto compiled = words(content(folder / "compiled/schema.cgr"));
  capnp::FlatArrayMessageReader request(compiled);
  capnp::SchemaLoader loader;
  for (auto node : request.getRoot<capnp::schema::CodeGeneratorRequest>().getNodes()) loader.load(node);

  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder / "golden"))
    if (entry.path().extension() == ".hex") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());

  int wrong = 0;
  for (const auto& path : paths) {
    try {
      const auto [type, segment] = golden(path);
      const auto schema = loader.get(type).asStruct();
      const kj::ArrayPtr<const capnp::word> segments[] = {segment};
      capnp::SegmentArrayMessageReader message(kj::arrayPtr(segments, 1), limits());
      const auto found = message.getRoot<capnp::DynamicStruct>(schema);

      // What it should mean, as a message: the numbers and names of the JSON go through the schema once more.
      const auto text = content(fs::path(path).replace_extension(".json"));
      capnp::MallocMessageBuilder wanted;
      const auto built = wanted.initRoot<capnp::DynamicStruct>(schema);
      capnp::JsonCodec codec;
      codec.setRejectUnknownFields(true);
      codec.decode(kj::StringPtr(text.c_str(), text.size()), built);

      capnp::MallocMessageBuilder copy;
      copy.setRoot(found);
      const auto written = capnp::messageToFlatArray(copy);
      capnp::FlatArrayMessageReader again(written, limits());

      // Equal as values: two encodings of one may order their objects differently.
      const capnp::AnyStruct::Reader value = wanted.getRoot<capnp::AnyStruct>();
      if (message.getRoot<capnp::AnyStruct>() != value) {
        std::cout << path.filename() << ", read: means " << codec.encode(found).cStr() << ", not " << text;
        ++wrong;
      } else if (again.getRoot<capnp::AnyStruct>() != value) {
        std::cout << path.filename() << ", written and read again: is another value\n";
        ++wrong;
      }
    } catch (const kj::Exception& trouble) {
      std::cout << path.filename() << ": " << kj::str(trouble).cStr() << "\n";
      ++wrong;
    }
  }
  std::cout << paths.size() << " golden messages, " << wrong << " wrong\n";
  return wrong != 0 || paths.empty();
}
