//! Virtio over PCI, as a library inside the device host.
