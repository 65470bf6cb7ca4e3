@0xd3c0de0100000008;
# What the processes of the message layer's tutorial and tests say to each other. No process of a VM speaks it.

using Imc = import "imc.capnp";

struct Share $Imc.message(0x70) {
  # Call: keep these. The reply is `Shared`.
  memory @0 :Imc.Handle;
  bell @1 :Imc.Handle;
}
struct Shared $Imc.message(0x71) {
  region @0 :UInt64;    # the receiver's key of the memory, for leases
}

struct Add $Imc.message(0x72) {
  # Call: add up these bytes. The reply is `Sum`.
  bytes @0 :Imc.Lease;
}
struct Sum $Imc.message(0x73) { sum @0 :UInt64; }

struct Door $Imc.message(0x74) {
  # Event: this is how to reach the server.
  connect @0 :Imc.Handle;
}
