@0xd3c0de0100000005;
# Between the supervisor and the VMM. Order: hello, machine, memory, (grant…, attach) for each device, start.

using Imc = import "imc.capnp";
using Host = import "host.capnp";
using Lane = import "lane.capnp";
using Manifest = import "manifest.capnp";

struct Machine $Imc.message(0x20) {
  # Call. Descriptors: /dev/kvm if `kvm`, kernel or firmware if present, initrd if present.
  cpus @0 :UInt8;
  memoryBytes @1 :UInt64;
  deadlineMs @2 :UInt32;            # of a lane operation
  inProcess @3 :Bool;               # devices are linked into the VMM
  spin @4 :Bool;                    # hosts and vcpus may wait by polling
  boot :union {
    invalid @5 :Void;
    none @6 :Void;                  # no vcpu runs: accesses come by `drive`
    kernel @7 :Kernel;
    flat @8 :Flat;                  # a micro guest
    firmware @12 :Firmware;         # from the reset vector
    driven @13 :Clock;              # no vcpu runs: what happens comes by `play`, and switches are told of
  }
  kvm @9 :Imc.Handle;               # absent: no KVM
  level @10 :Host.Level;            # how strictly the VMM seals itself
  restarts @11 :Bool;               # a host that dies, is late or breaks the rules is started anew: who waits for it waits on
  rom @14 :Imc.Handle;              # of a machine that is driven: firmware's read-only memory, as of `firmware`; absent: none
}
struct Kernel {
  kernel @0 :Imc.Handle;
  initrd @1 :Imc.Handle;            # absent: none
  cmdline @2 :Text;
}
struct Flat {
  # 64-bit code loaded and entered at `base`, with flat segments and the first 4 GiB mapped one to one.
  image @0 :Imc.Handle;
  base @1 :UInt64;
}
struct Firmware {
  # Read-only memory that ends at 4 GiB, whole pages; its last 128 KiB are also below 1 MiB.
  rom @0 :Imc.Handle;
}

struct Memory $Imc.message(0x21) {
  # Call: guest memory in ascending order, at most eight a message. The reply is empty.
  regions @0 :List(GuestRegion);
}
struct GuestRegion { base @0 :UInt64; handle @1 :Imc.Handle; }

struct AttachDevice $Imc.message(0x22) {
  # Call, after the grants of this device (`Host.Grants`, whose `device` is `id`).
  id @0 :UInt8;
  host @1 :UInt8;
  manifest @2 :Manifest.Manifest;
  options @3 :List(Host.Setting);
  carrier @4 :Lane.Carrier;   # what its lane runs over
  slot @5 :UInt8;             # of the PCI bus, for a function that has one of its own; 0: the next that is free
}

struct Start $Imc.message(0x23) {
  # Call: build tables, seal, run. The reply is sent once vcpus may run.
}

struct Retire $Imc.message(0x24) {
  # Event: this host is gone; its devices read as ones.
  host @0 :UInt8;
  why @1 :Text;
}
struct Button $Imc.message(0x25) {}    # Event: press the power button.

enum Reason { invalid @0; poweredOff @1; reset @2; panicked @3; exit @4; failed @5; }
struct Stopped $Imc.message(0x26) {
  # VMM to supervisor.
  reason @0 :Reason;
  code @1 :UInt32;     # for `exit`: the value the guest wrote
  text @2 :Text;       # what happened, for people
}
struct Late $Imc.message(0x27) {
  # VMM to supervisor: a host missed its deadline or broke the lane's rules.
  host @0 :UInt8;
  violation @1 :Bool;
  text @2 :Text;
  device @3 :UInt8;    # of a violation: whose lane it was
  issued @4 :UInt32;   # of a violation: the last operation of that lane; it begins anew after it
  gaveUp @5 :Bool;     # the VMM waits for this host no more: its devices read as ones
}

struct Counters $Imc.message(0x28) {}   # Call. The reply is `Counted`.
struct Counted $Imc.message(0x29) { devices @0 :List(DeviceCounters); exits @1 :UInt64; }
struct DeviceCounters {
  id @0 :UInt8;
  shadow @1 :UInt64;
  posted @2 :UInt64;
  lane @3 :UInt64;
  doorbell @4 :UInt64;     # as the host counts them
  ones @5 :UInt64;         # accesses answered for a dead device
  interrupts @6 :UInt64;   # level changes applied
  carrier @7 :Lane.Carrier;   # what its lane runs over
}

struct Drive $Imc.message(0x2a) {
  # Call: one access made by the supervisor, through the bus, as a vcpu would. The reply is `Driven`.
  write @0 :Bool;
  port @1 :Bool;
  address @2 :UInt64;
  width @3 :UInt8;
  value @4 :UInt64;
}
struct Driven $Imc.message(0x2b) { value @0 :UInt64; }

struct Refresh $Imc.message(0x2d) {}   # Event: somebody wants to see what displays show.

struct Renew $Imc.message(0x2c) {
  # Call: of this host nothing is left running, and what its violations left in shared memory is wiped. Their lanes begin
  # anew. The reply is empty.
  host @0 :UInt8;
}

enum Clock {
  # Whose time the machine's is.
  invalid @0;
  real @1;       # the outside's
  virtual @2;    # nobody's: it passes by `play` alone
}

struct Play $Imc.message(0x34) {
  # Event, to a machine that is driven: steps made one after the other, as a vcpu, the wires and time would make them. It is
  # answered by `Played`, and not before that may the next one come.
  steps @0 :List(Step);
}
struct Step {
  union {
    invalid @0 :Void;
    access @1 :Drive;
    read @2 :Read;              # memory
    write @3 :Write;            # memory
    fill @4 :Fill;              # memory
    pass @5 :UInt64;            # until then, in nanoseconds of the guest clock, with each alarm on the way at its own
    wire @6 :Input;             # an interrupt input is driven from outside
  }
}
struct Read { address @0 :UInt64; count @1 :UInt16; }
struct Write { address @0 :UInt64; bytes @1 :Data; }
struct Fill { address @0 :UInt64; count @1 :UInt16; byte @2 :UInt8; }
struct Input { input @0 :UInt8; level @1 :Bool; }
struct Played $Imc.message(0x35) {
  # VMM to supervisor: what came of the steps.
  steps @0 :List(Outcome);      # of the first; when no more fit they are fewer, and the last may be a `pass` that fell short
  now @1 :UInt64;               # guest clock after the last
  deadline @2 :UInt64;          # when the next alarm is due; all ones: none
}
struct Outcome {
  value @0 :UInt64;             # what was loaded
  bytes @1 :Data;               # what was read
  changes @2 :List(Change);     # of interrupt inputs, in their order
}
struct Change {
  input @0 :UInt8;
  level @1 :Bool;
  device @2 :UInt8;             # who drives it; 255: the outside
  hidden @3 :Bool;              # another one holds the input high, so that nothing is seen of it there
}
struct Changes $Imc.message(0x36) {
  # VMM to supervisor, of a machine that is driven: interrupt inputs changed of a host's own accord.
  changes @0 :List(Change);
}
struct Turned $Imc.message(0x37) {
  # VMM to supervisor, of a machine that is driven: a device turned a switch, and the machine goes on.
  device @0 :UInt8;
  switch @1 :Manifest.Switch;
  value @2 :UInt64;
}
