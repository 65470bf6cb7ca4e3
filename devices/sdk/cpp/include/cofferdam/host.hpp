// A plugin from its first message to its last: confined, hello, assign, grants, attach, seal, serve.
//
// It was confined before its first instruction, and is sealed from outside. What is left to do here is to close what is not
// needed.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <capnp/message.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// What `capnp compile -oc++` makes of the schema, for the libcapnp of this machine.
#include "host.capnp.h"

#include "engine.hpp"
#include "model.hpp"
#include "powers.hpp"

namespace cofferdam {

/// For log lines.
enum class Severity : uint16_t { Error = 1, Warning, Info, Debug };

namespace detail {

inline constexpr int CHANNEL = 3;
inline constexpr uint16_t PROTOCOL = 1;
inline constexpr uint8_t HOST_WIDE = 255;
inline constexpr int DESCRIPTORS_MAX = 1024;
inline constexpr std::size_t BODY_MAX = 16 << 10, SENTENCE_MAX = 400;
inline constexpr std::size_t HANDLES_MAX = 8;

enum Type : uint8_t { Call = 1, Reply, Error, Event };
enum Ordinal : uint16_t {
  REFUSAL = 0x01, EMPTY = 0x02, HELLO = 0x10, ASSIGN = 0x11, MANIFESTS = 0x12, GRANTS = 0x13, ATTACH = 0x14, SEAL = 0x15,
  LOG = 0x16,
};

/// The 32 bytes at the start of each datagram.
struct Header {
  char magic[4];
  uint16_t version, ordinal;
  uint64_t call;
  uint8_t type, handles;
  uint16_t flags;
  uint32_t body_bytes;
  uint64_t schema;
};
static_assert(sizeof(Header) == 32);

/// Sends one message by a plain write(2).
template <class M, class Fill>
void send(Type type, uint64_t call, Ordinal ordinal, Fill&& fill) {
  capnp::MallocMessageBuilder message(BODY_MAX / 8);
  fill(message.initRoot<M>());
  const auto segments = message.getSegmentsForOutput();
  if (segments.size() != 1) throw std::runtime_error("a message of this size is not one segment");
  const auto body = segments[0].asBytes();
  const Header header{{'I', 'M', 'C', '1'}, 1, ordinal, call, type, 0, 0, static_cast<uint32_t>(body.size()),
                      capnp::typeId<M>()};
  std::vector<uint8_t> datagram(sizeof header + body.size());
  std::memcpy(datagram.data(), &header, sizeof header);
  std::memcpy(datagram.data() + sizeof header, body.begin(), body.size());
  // Nobody is left to be told that nobody listens.
  [[maybe_unused]] const ssize_t written = ::write(CHANNEL, datagram.data(), datagram.size());
}

/// A call that was received.
struct Packet {
  Header header;
  /// Words of the message, aligned as it wants them.
  std::vector<uint64_t> body;
  std::vector<int> descriptors;

  template <class M, class F>
  auto read(F&& use) const {
    if (header.schema != capnp::typeId<M>()) throw std::runtime_error("the supervisor speaks another schema");
    const kj::ArrayPtr<const capnp::word> segment(reinterpret_cast<const capnp::word*>(body.data()), body.size());
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1));
    return use(reader.getRoot<M>());
  }
};

inline Packet receive() {
  Packet packet;
  std::vector<uint8_t> bytes(sizeof(Header) + BODY_MAX + 8);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * HANDLES_MAX)];
  iovec vector{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(CHANNEL, &message, MSG_CMSG_CLOEXEC);
  if (length == 0) ::_exit(0);
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); length > 0 && each; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    packet.descriptors.resize(count);
    std::memcpy(packet.descriptors.data(), CMSG_DATA(each), count * sizeof(int));
  }
  if (length < static_cast<ssize_t>(sizeof(Header))) throw std::runtime_error("the supervisor sent a message that is none");
  std::memcpy(&packet.header, bytes.data(), sizeof(Header));
  const std::size_t body = static_cast<std::size_t>(length) - sizeof(Header);
  if (packet.header.body_bytes != body || body % 8 != 0 || packet.header.type != Call) {
    throw std::runtime_error("the supervisor sent a message that is no call");
  }
  packet.body.resize(body / 8);
  std::memcpy(packet.body.data(), bytes.data() + sizeof(Header), body);
  return packet;
}

/// What was granted, by purpose and number (of guest memory: its address).
class Grants {
 public:
  void add(const wire::Grants::Reader& grants, const std::vector<int>& descriptors) {
    for (const auto grant : grants.getGrants()) {
      const std::size_t slot = grant.getHandle().getSlot();
      if (slot >= descriptors.size()) throw Refusal("a grant names no descriptor of its own");
      const uint64_t number = grant.getPurpose() == wire::Purpose::MEMORY ? grant.getBase() : grant.getNumber();
      const auto key = std::pair{static_cast<uint16_t>(grant.getPurpose()), number};
      if (!granted_.emplace(key, descriptors[slot]).second) throw Refusal("something was granted twice");
    }
  }
  int take(wire::Purpose purpose, uint64_t number, const char* what) {
    const auto found = granted_.find({static_cast<uint16_t>(purpose), number});
    if (found == granted_.end()) throw Refusal(std::string("`") + what + "` was not granted");
    const int descriptor = found->second;
    granted_.erase(found);
    held.push_back(descriptor);
    return descriptor;
  }
  Words map(wire::Purpose purpose, uint64_t number, bool writable, const char* what) {
    const int descriptor = take(purpose, number, what);
    held.pop_back();
    struct stat found;
    if (::fstat(descriptor, &found) < 0) throw Refusal(std::string("`") + what + "` cannot be looked at");
    const auto length = static_cast<std::size_t>(found.st_size);
    void* start = ::mmap(nullptr, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, descriptor, 0);
    if (start == MAP_FAILED) throw Refusal(std::string("`") + what + "` cannot be mapped");
    ::close(descriptor);
    return Words(static_cast<uint8_t*>(start), length);
  }
  std::vector<uint64_t> all_of(wire::Purpose purpose) const {
    std::vector<uint64_t> numbers;
    for (const auto& [key, descriptor] : granted_) {
      if (key.first == static_cast<uint16_t>(purpose)) numbers.push_back(key.second);
    }
    return numbers;
  }
  std::vector<int> held = {CHANNEL};

 private:
  std::map<std::pair<uint16_t, uint64_t>, int> granted_;
};

inline void close_all_but(std::vector<int> held) {
  std::sort(held.begin(), held.end());
  for (int number = 0; number < DESCRIPTORS_MAX; ++number) {
    if (!std::binary_search(held.begin(), held.end(), number)) ::close(number);
  }
}

/// A register that is not a plain synchronous one: where it is, and what else it is.
struct Special {
  uint8_t range;
  uint64_t offset;
  uint8_t width;
  std::optional<uint8_t> posted, shadow;
};

inline void fill(wire::Manifest::Builder to, const Manifest& from, const std::vector<Special>& specials,
                 const std::vector<Option>& specs, uint32_t state_bytes) {
  to.setName(from.name);
  to.setSummary(from.summary);
  to.setClass(static_cast<wire::Class>(from.kind));
  const auto list = [](std::size_t size) { return static_cast<unsigned>(size); };
  auto ranges = to.initRanges(list(from.ranges.size()));
  for (unsigned at = 0; at < from.ranges.size(); ++at) {
    const Range& range = from.ranges[at];
    ranges[at].setName(range.name);
    ranges[at].setLength(range.length);
    auto space = ranges[at].initSpace();
    switch (range.space) {
      case Space::Port: space.setPort(static_cast<uint16_t>(range.first)); break;
      case Space::Memory: space.setMemory(range.first); break;
      case Space::Bar: space.setBar(static_cast<uint8_t>(range.first)); break;
      case Space::PortBar: space.setPortBar(static_cast<uint8_t>(range.first)); break;
    }
  }
  auto registers = to.initRegisters(list(specials.size()));
  for (unsigned at = 0; at < specials.size(); ++at) {
    registers[at].setRange(specials[at].range);
    registers[at].setOffset(specials[at].offset);
    registers[at].setWidth(specials[at].width);
    if (specials[at].shadow) {
      registers[at].initKind().initShadow().setSlot(*specials[at].shadow);
    } else {
      registers[at].initKind().setPosted(*specials[at].posted);
    }
  }
  auto lines = to.initLines(list(from.lines.size()));
  for (unsigned at = 0; at < from.lines.size(); ++at) {
    if (from.lines[at].is_pin) {
      lines[at].setPin(from.lines[at].number);
    } else {
      lines[at].setIsa(from.lines[at].number);
    }
  }
  to.setVectors(from.vectors);
  auto doorbells = to.initDoorbells(list(from.doorbells.size()));
  for (unsigned at = 0; at < from.doorbells.size(); ++at) {
    doorbells[at].setRange(from.doorbells[at].range);
    doorbells[at].setOffset(from.doorbells[at].offset);
    doorbells[at].setWidth(from.doorbells[at].width);
  }
  auto wishes = to.initWishes(list(from.wishes.size()));
  for (unsigned at = 0; at < from.wishes.size(); ++at) {
    wishes[at].setPower(static_cast<wire::Power>(from.wishes[at].power));
    wishes[at].setName(from.wishes[at].name);
    wishes[at].setBecause(from.wishes[at].because);
    wishes[at].setSwitch(static_cast<wire::Switch>(from.wishes[at].what));
    const Wish& wish = from.wishes[at];
    if (wish.power == Power::Direct && wish.range < from.ranges.size()) {
      wishes[at].setRange(wish.range);
      wishes[at].setBytes(from.ranges[wish.range].length);
    }
  }
  to.setStateBytes(state_bytes);
  if (from.pci) {
    auto pci = to.initPci();
    pci.setVendor(from.pci->vendor);
    pci.setDevice(from.pci->device);
    pci.setSubsystemVendor(from.pci->subsystem_vendor);
    pci.setSubsystem(from.pci->subsystem);
    pci.setClass(from.pci->class_code);
    pci.setRevision(from.pci->revision);
    auto capabilities = pci.initCapabilities(list(from.pci->capabilities.size()));
    for (unsigned at = 0; at < from.pci->capabilities.size(); ++at) {
      const auto& bytes = from.pci->capabilities[at];
      capabilities.set(at, kj::arrayPtr(bytes.data(), bytes.size()));
    }
    pci.setVectorBar(from.pci->vector_bar);
  }
  auto options = to.initOptions(list(specs.size()));
  for (unsigned at = 0; at < specs.size(); ++at) {
    options[at].setName(specs[at].name);
    options[at].setKind(static_cast<wire::OptionKind>(specs[at].kind));
    options[at].setDefault(specs[at].fallback);
    options[at].setSummary(specs[at].summary);
  }
}

/// Reads the assignment; answers with the manifest.
struct Assigned {
  Options options;
  wire::Carrier carrier;
  bool poisoned;
  Manifest manifest;
};

template <class D>
Assigned assigned(const Packet& packet) {
  try {
    return packet.read<wire::Assign>([](const wire::Assign::Reader& assign) {
      if (assign.getDevices().size() != 1) throw Refusal("a plugin is one device");
      const auto assignment = assign.getDevices()[0];
      if (assignment.hasExchanged()) throw Refusal("a medium was exchanged, and a plugin has no drives");
      Options::Settings set;
      for (const auto setting : assignment.getOptions()) {
        set.emplace_back(setting.getName().cStr(), setting.getValue().cStr());
      }
      const Options options = Options::parse(D::options(), set);
      Assigned what{options, assignment.getCarrier(), assignment.getPoisoned(), D::manifest(options)};
      what.manifest.check();
      return what;
    });
  } catch (const std::exception& error) {
    send<wire::Refusal>(Error, packet.header.call, REFUSAL, [&](wire::Refusal::Builder to) { to.setReason(error.what()); });
    ::_exit(1);
  }
}

inline void empty(uint64_t call) {
  send<wire::Empty>(Reply, call, EMPTY, [](wire::Empty::Builder) {});
}

/// Sleeps until what `wake` stands for is rung.
inline void sleep(int wake) {
  uint64_t count;
  [[maybe_unused]] const ssize_t length = ::read(wake, &count, sizeof count);
}

template <class D>
std::vector<Special> specials() {
  std::vector<Special> found;
  for (const auto& each : D().registers()) {
    const auto& [range, offset, width, posted, shadow] = each.place();
    if (posted) found.push_back({range, offset, width, posted, {}});
    if (shadow) found.push_back({range, offset, width, {}, shadow});
  }
  return found;
}

template <class D>
std::unique_ptr<Engine<D>> attach(const Assigned& what, Grants& grants, int wake) {
  const int irq = grants.take(wire::Purpose::IRQ, 0, "irq");
  const auto ring = [irq] {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(irq, &one, sizeof one);
  };
  StateRegion state(grants.map(wire::Purpose::STATE, 0, true, "state"), STATE_BYTES<typename D::State>);
  std::unique_ptr<Lane> lane;
  switch (what.carrier) {
    case wire::Carrier::MEMORY: {
      const Words request = grants.map(wire::Purpose::REQUEST, 0, false, "request");
      lane = std::make_unique<MemoryLane>(request, grants.take(wire::Purpose::REPLY, 0, "reply"), state.sequence());
      break;
    }
    case wire::Carrier::SOCKET:
      // Whoever takes answers makes room, and rings.
      lane = std::make_unique<SocketLane>(grants.take(wire::Purpose::PACKETS, 0, "packets"), state.sequence(), [ring, wake] {
        ring();
        sleep(wake);
      });
      break;
    default:
      throw Refusal("a device in C++ is reached over `memory` or `socket`");
  }
  Powers powers;
  powers.doorbell = [state] { state.count_doorbell(); };
  for (uint64_t at = 0; at < what.manifest.wishes.size(); ++at) {
    const Wish& wish = what.manifest.wishes[at];
    if (wish.power == Power::Switch) {
      powers.switches.emplace(wish.name, Bell(grants.take(wire::Purpose::SWITCH, at, "switch")));
    } else if (wish.power == Power::FileRead || wish.power == Power::FileWrite) {
      const int descriptor = grants.take(wire::Purpose::FILE, at, "file");
      struct stat found;
      if (::fstat(descriptor, &found) < 0) throw Refusal("`file` cannot be looked at");
      powers.files.emplace(wish.name, File(descriptor, static_cast<uint64_t>(found.st_size)));
    } else if (wish.power == Power::Entropy) {
      powers.random = Random();
    } else if (wish.power == Power::Direct) {
      const Words region = grants.map(wire::Purpose::DIRECT, at, true, "direct");
      powers.directs[wish.name].add(0, region.bytes(0), region.length());
    } else if (wish.power == Power::Scanout) {
      const Words region = grants.map(wire::Purpose::SCANOUT, at, true, "scanout");
      if (region.length() < Scanout::BYTES) throw Refusal("the region of a scanout is too small");
      powers.scanouts.emplace(wish.name, Scanout(region.bytes(0)));
    } else if (wish.power == Power::Stream) {
      const Words rings = grants.map(wire::Purpose::STREAM, at, true, "stream");
      if (rings.length() < Stream::BYTES) throw Refusal("the region of a stream is too small");
      powers.streams.emplace(wish.name, Stream(rings.bytes(0), Bell(grants.take(wire::Purpose::BELL, at, "bell"))));
    }
  }
  for (const uint64_t number : grants.all_of(wire::Purpose::VECTOR)) {
    powers.vectors.push_back(Bell(grants.take(wire::Purpose::VECTOR, number, "vector")));
  }
  for (const uint64_t base : grants.all_of(wire::Purpose::MEMORY)) {
    const Words window = grants.map(wire::Purpose::MEMORY, base, true, "memory");
    powers.memory.add(base, window.bytes(0), window.length());
  }
  auto device = std::make_unique<D>();
  device->attach(what.options, powers);
  std::vector<uint64_t> lengths;
  for (const Range& range : what.manifest.ranges) lengths.push_back(range.length);
  return std::make_unique<Engine<D>>(std::move(device), lengths, state, std::move(lane), ring, what.poisoned);
}

template <class D>
void until_told_to_leave(Engine<D>& engine, int wake) {
  Patience patience;
  for (;;) {
    while (engine.work()) {
    }
    if (engine.left()) return;
    const uint32_t most = engine.lane().spin(), looks = patience.looks(most);
    uint32_t look = 0;
    while (look < looks && !engine.lane().has_next()) {
      __builtin_ia32_pause();
      ++look;
    }
    if (look < looks) {
      patience.came(look, most);
      continue;
    }
    patience.missed(looks);
    engine.state().fall_asleep();
    // From here on who publishes rings. What was published before is seen by this look.
    while (!engine.work()) sleep(wake);
    engine.state().wake_up();
  }
}

template <class D>
void serve() {
  // Nobody of the same user is to look at this process.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  close_all_but({0, 1, 2, CHANNEL});
  send<wire::Hello>(Event, 0, HELLO, [](wire::Hello::Builder to) { to.setProtocol(PROTOCOL); });
  Packet packet = receive();
  if (packet.header.ordinal != ASSIGN) throw std::runtime_error("a call came where the assignment should");
  const Assigned what = assigned<D>(packet);
  send<wire::Manifests>(Reply, packet.header.call, MANIFESTS, [&](wire::Manifests::Builder to) {
    fill(to.initManifests(1)[0], what.manifest, specials<D>(), D::options(), STATE_BYTES<typename D::State>);
  });
  Grants grants;
  std::unique_ptr<Engine<D>> engine;
  int wake = -1;
  while (!engine) {
    packet = receive();
    try {
      if (packet.header.ordinal == ATTACH) {
        wake = grants.take(wire::Purpose::WAKE, 0, "wake");
        engine = attach<D>(what, grants, wake);
      } else if (packet.header.ordinal == GRANTS) {
        packet.read<wire::Grants>([&](const wire::Grants::Reader& granted) { grants.add(granted, packet.descriptors); });
      } else {
        throw Refusal("a call came where a grant should");
      }
    } catch (const std::exception& error) {
      send<wire::Refusal>(Error, packet.header.call, REFUSAL, [&](wire::Refusal::Builder to) { to.setReason(error.what()); });
      ::_exit(1);
    }
    empty(packet.header.call);
  }
  packet = receive();
  if (packet.header.ordinal != SEAL) throw std::runtime_error("a call came where the seal should");
  close_all_but(grants.held);
  engine->start();
  empty(packet.header.call);
  until_told_to_leave(*engine, wake);
}

}  // namespace detail

/// One line for the people who run the machine.
inline void log(const std::string& text, Severity severity = Severity::Info) {
  detail::send<wire::Log>(detail::Event, 0, detail::LOG, [&](wire::Log::Builder to) {
    to.setSeverity(static_cast<wire::Severity>(severity));
    to.setText(text.substr(0, detail::SENTENCE_MAX));
  });
}

namespace detail {

/// Says what this process dies of, and ends it.
[[noreturn]] inline void die_of(const std::exception_ptr& what) {
  try {
    if (what) std::rethrow_exception(what);
    log("the program was terminated", Severity::Error);
  } catch (const std::exception& error) {
    log(error.what(), Severity::Error);
  } catch (...) {
    log("the device threw something that is no exception", Severity::Error);
  }
  ::_exit(1);
}

}  // namespace detail

/// Serves the device until it is told to leave. The value is for `main` to return: it comes back where a person has started the
/// program, who is told how it is meant.
template <class D>
int run() {
  struct stat channel {};
  if (::fstat(detail::CHANNEL, &channel) != 0 || !S_ISSOCK(channel.st_mode)) {
    std::fputs(
        "this program is a device of a virtual machine: `cofferdam device check` tries it, `cofferdam run --device` has it in a machine\n",
        stderr);
    return 2;
  }
  // Where nobody may catch: a sentence, and not the C library's way to abort, which a sealed process has no calls for.
  std::set_terminate([] { detail::die_of(std::current_exception()); });
  try {
    detail::serve<D>();
  } catch (...) {
    detail::die_of(std::current_exception());
  }
  ::_exit(0);
}

}  // namespace cofferdam
