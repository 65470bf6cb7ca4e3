@0xd3c0de0100000006;
# Between an operator's command and the supervisor of a running VM, over its socket in the runtime folder.

using Imc = import "imc.capnp";
using Display = import "display.capnp";

enum Order { invalid @0; powerdown @1; stop @2; reset @3; }
struct Command $Imc.message(0x40) { order @0 :Order; }            # Call; the reply is empty.

struct Status $Imc.message(0x41) { audit @0 :Bool; first @1 :UInt32; }   # Call. The reply is `StatusReport`.
struct StatusReport $Imc.message(0x42) {
  name @0 :Text;
  total @1 :UInt32;
  hosts @2 :List(HostStatus);
}
struct HostStatus {
  name @0 :Text;              # device, or the class of a group, or "vmm"
  class @1 :Text;
  pid @2 :UInt32;
  level @3 :Text;
  seccompMode @4 :UInt8;
  noNewPrivs @5 :Bool;
  syscallsAllowed @6 :UInt32;
  descriptors @7 :List(Text);
  guestMemoryBytes @8 :UInt64;
  pssBytes @9 :UInt64;
  restarts @10 :UInt32;
  state @11 :Text;            # running, backing off: why, retired: why
  differences @12 :List(Text);
  notes @13 :List(Text);      # layers that this kernel lacks
  shadow @14 :UInt64;
  posted @15 :UInt64;
  lane @16 :UInt64;
  doorbell @17 :UInt64;
  carriers @18 :List(Text);   # of its devices' lanes, each once
  missing @19 :List(Text);    # layers of its sandbox that it lacks
  required @20 :List(Text);   # layers that the operator requires
  allowedMissing @21 :List(Text);   # layers that the operator lets be missing
  label @22 :Text;            # of SELinux or AppArmor, as the kernel shows it; empty: none
}

struct Logs $Imc.message(0x43) { after @0 :UInt64; }              # Call. The reply is `LogLines`.
struct LogLines $Imc.message(0x44) { next @0 :UInt64; lines @1 :List(Text); }

struct Console $Imc.message(0x45) { input @0 :Data; }             # Call: bytes typed. The reply is `ConsoleOutput`.
struct ConsoleOutput $Imc.message(0x46) { output @0 :Data; }

struct Screenshot $Imc.message(0x47) {}                           # Call: what does the display show? The reply is `Picture`.
struct Picture $Imc.message(0x48) {
  scanout @0 :Imc.Handle;     # to read: `Display.Scanout`, then pixels
  after @1 :UInt64;           # the generation of an older picture: the one that was asked for has another
}

struct Exchange $Imc.message(0x4a) {                              # Call: have another medium in a drive. The reply is empty.
  drive @0 :Text;             # as the machine calls it
  image @1 :Text;             # a path; empty: take the medium out
  readonly @2 :Bool;
  forced @3 :Bool;            # though the guest may hold the medium that is there
}

struct Press $Imc.message(0x49) { inputs @0 :List(Display.Input); }   # Call: at most 64. The reply is empty.
