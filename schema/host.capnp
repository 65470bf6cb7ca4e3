@0xd3c0de0100000004;
# Between the supervisor and a device host. Order: hello, assign, grant…, attach, seal; then only `log`.

using Imc = import "imc.capnp";
using Lane = import "lane.capnp";
using Manifest = import "manifest.capnp";

enum Level { invalid @0; off @1; process @2; seccomp @3; strict @4; }

struct Hello $Imc.message(0x10) {
  # Host to supervisor, the first message: it is confined and may be looked at.
  protocol @0 :UInt16;
}

struct Assign $Imc.message(0x11) {
  # Call. The reply is `Manifests`.
  level @0 :Level;
  devices @1 :List(Assignment);
  threaded @2 :Bool;          # a helper, where level `strict` needs one, is a thread of the host and not a process
}
struct Assignment {
  device @0 :Text;
  options @1 :List(Setting);
  carrier @2 :Lane.Carrier;   # what its lane runs over
  poisoned @3 :Bool;   # its next operation ended two incarnations: reset the device, and answer that one as ones
  exchanged @4 :Exchanged;   # absent: nothing was, since its state was left
}
struct Exchanged {
  # A medium, while nobody served the device.
  bay @0 :UInt8;       # its number among the device's bays
  forced @1 :Bool;     # though the guest may hold what was there
}
struct Setting { name @0 :Text; value @1 :Text; }

struct Manifests $Imc.message(0x12) { manifests @0 :List(Manifest.Manifest); }

enum Purpose {
  invalid @0;
  wake @1;        # host-wide: the one eventfd a host sleeps on
  irq @2;         # host-wide: "my irq levels changed"
  request @3;     # request region of a lane
  state @4;       # state region of a device
  reply @5;       # eventfd of the lane's waiter
  vector @6;      # `number`: MSI-X vector
  memory @7;      # guest memory; `base`: guest address
  file @8;
  stream @9;      # the pair of rings; `number`: which wish
  bell @10;       # eventfd of the relay for stream or frames `number`
  switch @11;     # `number`: value of Manifest.Switch
  direct @12;     # memory of a direct range; `number`: which wish
  packets @13;    # a lane's end, on the `socket` carrier
  asked @14;      # the pipe by which entries come, on the `pipe` carrier
  answers @15;    # the pipe by which answers go, on the `pipe` carrier
  answerRegion @16;  # what a host writes, on the `virtio` carrier; what the VMM writes is its request region
  helperRegion @17;  # host-wide, also to the helper: what it is asked, what it answers, and the bytes
  helperWake @18;    # host-wide, also to the helper: the eventfd that the helper sleeps on
  scanout @19;       # where a display draws what it shows, `Display.Scanout` first; `number`: which wish
  frames @20;        # the pair of frame rings, also to the net relay; `number`: which wish
  network @21;       # to the net relay alone: the tap or socket that frames go to and come from
  screen @22;        # to the display relay alone: what a display has drawn, to read
  listener @23;      # to the display relay alone: where viewers connect
  wanted @24;        # to the display relay alone: the eventfd by which it asks for a picture
  password @25;      # to the display relay alone: what viewers are to know; 8 bytes, zeros at the end
}

struct Grant {
  device @0 :UInt8;         # index in Assign; 255 for host-wide purposes
  purpose @1 :Purpose;
  number @2 :UInt32;
  base @3 :UInt64;
  handle @4 :Imc.Handle;
}

struct Grants $Imc.message(0x13) {
  # Call. At most eight, one descriptor each. The reply is empty.
  grants @0 :List(Grant);
}

struct Attach $Imc.message(0x14) {
  # Call: everything is granted; map, allocate, construct. The reply is empty, or an error that says why.
}

struct Seal $Imc.message(0x15) {
  # Call: install the filter. The reply is sent by the sealed process.
}

enum Severity { invalid @0; error @1; warning @2; info @3; debug @4; }

struct Log $Imc.message(0x16) {
  # Host to supervisor, also VMM to supervisor.
  severity @0 :Severity;
  text @1 :Text;
}
