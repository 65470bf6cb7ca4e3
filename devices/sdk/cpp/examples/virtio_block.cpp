// Virtio block device: a disk that may only be read, which a stock Linux driver binds to.
#include <cofferdam/device.hpp>

#include "virtio_block.hpp"

int main() { return cofferdam::run<cofferdam::virtio::Virtio<example::Block>>(); }
