@0xd3c0de0100000003;
# What a device declares of itself. The VMM knows a device by nothing else.

enum Class { invalid @0; block @1; net @2; char @3; timer @4; display @5; entropy @6; system @7; }

struct Manifest {
  name @0 :Text;
  summary @1 :Text;
  class @2 :Class;
  ranges @3 :List(Range);
  registers @4 :List(Register);     # those that are not plain synchronous registers
  lines @5 :List(Line);
  vectors @6 :UInt16;               # MSI-X vectors
  doorbells @7 :List(Doorbell);
  wishes @8 :List(Wish);
  stateBytes @9 :UInt32;            # hot state, one copy
  bulkBytes @10 :UInt32;            # bulk state beside the copies
  pci @11 :Pci;                     # absent: not a PCI function
  acpi @12 :Acpi;                   # absent: not described to the guest's ACPI
  with @13 :List(Text);             # devices that must share its host
  options @14 :List(OptionSpec);
  remembered @15 :UInt32;           # bit n: of posted writes of kind n nothing is noticed before an operation that waits
}

struct Range {
  name @0 :Text;
  length @1 :UInt64;
  space :union {
    invalid @2 :Void;
    port @3 :UInt16;                # first port
    memory @4 :UInt64;              # first guest address
    bar @5 :UInt8;                  # PCI base address register; memory, 32 bit
    portBar @6 :UInt8;              # PCI base address register; ports
  }
}

struct Register {
  range @0 :UInt8;
  offset @1 :UInt64;
  width @2 :UInt8;
  kind :union {
    invalid @3 :Void;
    posted @4 :UInt8;               # bit in the committed `postable` mask
    shadow @5 :Shadow;
    area @6 :PostedArea;            # from `offset` on; `width` is the greatest
    strings @7 :Void;               # a port: loads of one string instruction may be asked for at once
    postedValue @8 :PostedValue;    # posted for some values only
  }
}

struct PostedArea {
  # Memory behind registers: each write within it may be posted, of any width up to the register's.
  posted @0 :UInt8;                 # bit in the committed `postable` mask
  length @1 :UInt64;                # bytes
}

struct PostedValue {
  # A write may be posted whose value has these bits as they are here.
  posted @0 :UInt8;                 # bit in the committed `postable` mask
  mask @1 :UInt64;
  value @2 :UInt64;
}

struct Shadow {
  slot @0 :UInt8;                   # index of the committed shadow value
  tolerates @1 :List(Tolerance);
}

struct Tolerance {
  # The shadow stays true while at most `count` posted writes of this kind are outstanding.
  posted @0 :UInt8;
  count @1 :UInt16;
}

struct Line {
  union {
    invalid @0 :Void;
    isa @1 :UInt8;                  # ISA interrupt number
    pin @2 :UInt8;                  # PCI pin: 1 is INTA
  }
}

struct Doorbell {
  # A write that means only "look at memory".
  range @0 :UInt8;
  offset @1 :UInt64;
  width @2 :UInt8;                  # 0: any width
}

enum Power {
  invalid @0; stream @1; memory @2; lowMemory @3; fileRead @4; fileWrite @5; switch @6; direct @7; entropy @8; scanout @9;
  frames @10;
}
enum Switch { invalid @0; reset @1; powerOff @2; panicked @3; exit @4; crashLoaded @5; }

struct Wish {
  power @0 :Power;
  name @1 :Text;                    # which one, where a device has several
  switch @2 :Switch;                # for power `switch`
  bytes @3 :UInt64;                 # for power `direct`
  range @4 :UInt8;                  # for power `direct`: the range it backs
  because @5 :Text;
}

struct Pci {
  vendor @0 :UInt16;
  device @1 :UInt16;
  subsystemVendor @2 :UInt16;
  subsystem @3 :UInt16;
  class @4 :UInt32;                 # 24 bits: base, sub, interface
  revision @5 :UInt8;
  capabilities @6 :List(Data);      # each from its identifier byte on, without the next pointer's value
  vectorBar @7 :UInt8;              # where the VMM puts the MSI-X table
  registers @8 :List(PciRegister);
  bridgeFunction @9 :UInt8;         # 1 to 7: this function of the slot whose function 0 is the ISA bridge; 0: a slot of its own
}

struct PciRegister {
  # Bytes of configuration space that are the function's own. The VMM keeps them; the device does not see them.
  offset @0 :UInt8;
  value @1 :Data;                   # after a reset
  writable @2 :Data;                # as many bytes: bits that a store changes
}

struct Acpi {
  name @0 :Text;                    # four characters; empty: no DSDT node
  hid @1 :Text;
  uid @2 :UInt32;
  bootArch @3 :UInt16;              # bits for the FADT's IAPC_BOOT_ARCH
  century @4 :UInt8;                # CMOS index for the FADT; 0: none
  fixed @5 :Fixed;                  # absent: not the fixed-hardware power block
  also @6 :List(AcpiNode);          # at most four
}

struct AcpiNode {
  # A second device of the guest's, at the same registers.
  name @0 :Text;
  hid @1 :Text;
  line @2 :UInt8;                   # which line of the manifest is its
}

struct Fixed {
  # ACPI fixed hardware in range 0: byte offsets.
  event @0 :UInt8;
  control @1 :UInt8;
  timer @2 :UInt8;
  sci @3 :UInt8;                    # interrupt number
  sleepType @4 :UInt8;              # SLP_TYP value that means S5
}

enum OptionKind { invalid @0; number @1; text @2; flag @3; }

struct OptionSpec {
  name @0 :Text;
  kind @1 :OptionKind;
  default @2 :Text;
  summary @3 :Text;
}
