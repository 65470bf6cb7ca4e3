// Virtio block device: a disk that may only be read.
// Source: virtio 1.2, section 5.2. The registers and the queue are the library's.
#pragma once

#include <cofferdam/virtio.hpp>

#include <cstring>

namespace example {

using namespace cofferdam;

/// Features (5.2.3).
constexpr unsigned F_SIZE_MAX = 1, F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9;
/// Types of requests, and what becomes of them (5.2.6).
constexpr uint32_t T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8;
constexpr uint8_t S_OK = 0, S_IOERR = 1, S_UNSUPP = 2;
/// The unit of offsets and lengths (5.2.4), and the block size told to the driver.
constexpr uint64_t SECTOR = 512;
/// Largest buffer, and most buffers of data: together they bound how long one request can keep the device from its registers.
constexpr uint32_t SIZE_MAX_BYTES = 64 << 10, SEG_MAX = 254;
/// The configuration as of virtio 1.2, to and including the secure-erase fields (5.2.4). Drivers copy all of it.
constexpr std::size_t CONFIG_BYTES = 60;

struct Block : virtio::Backend {
  static constexpr std::array<uint16_t, 1> QUEUES = {256};

  static virtio::Function function(const Options&) {
    // PCI class: mass storage of no defined kind.
    return {"virtio-block", "Virtio disk that may only be read, in C++", Class::Block, 2, 0x01'80'00, CONFIG_BYTES,
            "the guest puts its queue and its sectors wherever it likes in memory",
            {{Power::FileRead, "image", "the sectors that the guest reads"}}};
  }

  void attach(const Options&, Powers& powers) override { image = powers.file("image"); }

  uint64_t features() const override {
    return 1 << F_SIZE_MAX | 1 << F_SEG_MAX | 1 << F_RO | 1 << F_BLK_SIZE | 1 << F_FLUSH;
  }

  std::vector<uint8_t> config() const override {
    std::vector<uint8_t> config(CONFIG_BYTES);
    const uint64_t capacity = image->size() / SECTOR;
    const uint32_t block = SECTOR;
    std::memcpy(&config[0], &capacity, sizeof capacity);
    std::memcpy(&config[8], &SIZE_MAX_BYTES, sizeof SIZE_MAX_BYTES);
    std::memcpy(&config[12], &SEG_MAX, sizeof SEG_MAX);
    std::memcpy(&config[20], &block, sizeof block);
    return config;
  }

  virtio::Served serve(const virtio::Request& request) override {
    // Type, a word that is not used, and the sector; then data; then a byte for the outcome.
    struct {
      uint32_t type, unused;
      uint64_t sector;
    } header;
    const virtio::Buffers& writable = request.chain.writable;
    if (request.chain.readable.read(&header, sizeof header) != sizeof header || writable.bytes() == 0) {
      throw virtio::Broken::Short;
    }
    const auto [data, outcome] = writable.split_at(writable.bytes() - 1);
    uint8_t status = S_UNSUPP;
    uint64_t written = 0;
    if (header.type == T_IN) {
      status = read(header.sector, data) ? S_OK : S_IOERR;
      written = status == S_OK ? data.bytes() : 0;
    } else if (header.type == T_OUT) {
      status = S_IOERR;
    } else if (header.type == T_FLUSH) {
      // Nothing was ever written.
      status = S_OK;
    } else if (header.type == T_GET_ID) {
      const uint8_t none[20] = {};
      written = data.write(none, sizeof none);
      status = S_OK;
    }
    outcome.write(&status, 1);
    // The status is the last byte; it counts only if there is no gap before it.
    if (written == data.bytes()) ++written;
    return {static_cast<uint32_t>(written), writable.bytes() + request.chain.readable.bytes()};
  }

 private:
  /// Whole sectors, if all of them are on the disk.
  bool read(uint64_t sector, const virtio::Buffers& data) const {
    const uint64_t bytes = data.bytes(), sectors = image->size() / SECTOR;
    const bool fits = sector <= sectors && bytes / SECTOR <= sectors - sector;
    if (bytes % SECTOR != 0 || bytes > uint64_t{SIZE_MAX_BYTES} * SEG_MAX || !fits) return false;
    uint64_t at = sector * SECTOR;
    return data.each([&](uint8_t* piece, std::size_t length) {
      const bool done = image->read(at, piece, length);
      at += length;
      return done;
    });
  }

  std::optional<File> image;
};

}  // namespace example
