// The example: a disk that may only be read.
#include "../examples/virtio_block.hpp"

#include <cofferdam/virtio/guest.hpp>

#include <sys/mman.h>

#include "test.hpp"

using namespace cofferdam;
using namespace cofferdam::virtio::guest;
using testing::test;

namespace {

constexpr uint64_t HEADER = 0x8'0000, STATUS = 0x8'1000, DATA = 0x9'0000;
constexpr uint64_t SECTORS = 8;

using Disk = Guest<example::Block>;

/// A disk whose sector n is full of n + 1.
std::unique_ptr<Disk> disk() {
  const int file = ::memfd_create("disk", MFD_CLOEXEC);
  for (uint64_t sector = 0; sector < SECTORS; ++sector) {
    const std::vector<uint8_t> bytes(example::SECTOR, static_cast<uint8_t>(sector + 1));
    HOLDS(::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(sector * example::SECTOR)) == 512);
  }
  auto guest = std::make_unique<Disk>(
      [file](Powers& powers) { powers.files.emplace("image", File(file, SECTORS * example::SECTOR)); });
  guest->start();
  return guest;
}

/// Asks for something; gives the status byte and the bytes that count as written.
std::pair<int, uint32_t> ask(Disk& guest, uint32_t type, uint64_t sector, std::vector<Buffer> data) {
  const struct {
    uint32_t type, unused;
    uint64_t sector;
  } header{type, 0, sector};
  const uint8_t none = 0xee;
  guest.memory.write(HEADER, &header, sizeof header);
  guest.memory.write(STATUS, &none, 1);
  data.insert(data.begin(), {HEADER, sizeof header, false});
  data.push_back({STATUS, 1, true});
  guest.submit(0, data);
  guest.notify();
  return {guest.bytes(STATUS, 1)[0], guest.used().back().second};
}

}  // namespace

int main() {
  test("a request that has no header or no place for its status needs a reset", [] {
    const std::vector<Buffer> requests[] = {
        {{HEADER, 15, false}, {STATUS, 1, true}}, {{HEADER, 16, false}}, {{STATUS, 1, true}}};
    for (const auto& request : requests) {
      const auto guest = disk();
      guest->submit(0, request);
      guest->ring();
      HOLDS(guest->device->broken() == virtio::Broken::Short);
    }
  });
  test("what is not whole sectors of the disk is an error", [] {
    const auto guest = disk();
    const std::tuple<uint64_t, uint32_t> bad[] = {{SECTORS, 512}, {SECTORS - 1, 1024}, {0, 100}, {UINT64_MAX, 512},
                                                  {UINT64_MAX / 512 + 1, 512}, {0, 0x10'0000}};
    for (const auto& [sector, bytes] : bad) {
      SAME(ask(*guest, example::T_IN, sector, {{DATA, bytes, true}}).first, example::S_IOERR);
    }
    SAME(guest->bytes(DATA, 1)[0], 0);
  });
  test("it cannot be written, and what does not exist is unsupported", [] {
    const auto guest = disk();
    SAME(ask(*guest, example::T_OUT, 0, {{DATA, 512, false}}).first, example::S_IOERR);
    SAME(ask(*guest, 99, 0, {{DATA, 512, true}}).first, example::S_UNSUPP);
    SAME(ask(*guest, example::T_FLUSH, 0, {}).first, example::S_OK);
  });
  test("sectors are read into buffers of any size, whenever the process dies", [] {
    for (const Deaths deaths : ALL_DEATHS) {
      const auto guest = disk();
      guest->deaths = deaths;
      const auto [status, written] =
          ask(*guest, example::T_IN, 2, {{DATA, 700, true}, {DATA + 0x1000, 4, true}, {DATA + 0x2000, 320, true}});
      SAME(status, example::S_OK);
      SAME(written, 1025u);
      const auto bytes = guest->bytes(DATA, 701);
      SAME(bytes[0], 3), SAME(bytes[511], 3), SAME(bytes[512], 4), SAME(bytes[699], 4), SAME(bytes[700], 0);
      SAME(guest->bytes(DATA + 0x2000, 320)[319], 4);
    }
  });
  test("the driver is told how large it is and that it may only read", [] {
    const auto guest = disk();
    SAME(guest->load(0x2000, 8), SECTORS);
    SAME(guest->load(0x2014, 4), 512u);
    guest->store(0x00, 4, 0);
    SAME(guest->load(0x04, 4) >> 5 & 1, 1u);
  });
  return testing::report();
}
