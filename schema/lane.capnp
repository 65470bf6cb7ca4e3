@0xd3c0de0100000002;
# The access plane. On the `memory` carrier an entry is the 64 bytes of `Access`'s data section, in this layout. Carriers
# that send messages send one segment each, without a table before it: its length says which of the two it is.

using Imc = import "imc.capnp";

enum Operation {
  invalid @0;
  read @1;
  write @2;
  post @3;       # a write whose writer does not wait
  alarm @4;      # the device's committed deadline has passed
  reset @5;      # back to the state after power on
  quiesce @6;    # finish what is under way, start nothing
  shutdown @7;   # leave
  button @8;     # the operator pressed the power button
  refresh @9;    # somebody wants to see what a display shows: draw it
  readString @10; # loads that one string instruction makes of a register; the low 16 bits of the reply are how many bytes they gave
}

struct Access $Imc.message(0x60) {
  sequence @0 :UInt32;      # of this lane, one more each time; stored last
  operation @1 :Operation;
  range @2 :UInt8;          # index into the manifest's ranges
  width @3 :UInt8;          # bytes: 1, 2, 4 or 8
  offset @4 :UInt64;        # from the start of the range
  value @5 :UInt64;         # what is written; bytes wanted for `readString`; zero for reads
  now @6 :UInt64;           # guest clock in nanoseconds since power on
  reserved0 @7 :UInt64;
  reserved1 @8 :UInt64;
  reserved2 @9 :UInt64;
  reserved3 @10 :UInt64;
}

struct Answer $Imc.message(0x61) {
  # What a host tells after a commit, on carriers that send messages. Up to `now` it has the layout of the header that a
  # `memory` host commits in place. Of fixed size, without pointers, as `Access` is.
  value @0 :UInt64;         # reply to operation `sequence`
  sequence @1 :UInt32;      # the last operation that has taken effect
  levels @2 :UInt32;        # bit n: level of line n
  deadline @3 :UInt64;      # guest clock; all ones: none
  postable @4 :UInt32;      # bit n: writes of posted kind n may be posted
  valid @5 :UInt32;         # bit n: shadow value n is valid
  shadow0 @6 :UInt64;
  shadow1 @7 :UInt64;
  shadow2 @8 :UInt64;
  shadow3 @9 :UInt64;
  shadow4 @10 :UInt64;
  shadow5 @11 :UInt64;
  shadow6 @12 :UInt64;
  shadow7 @13 :UInt64;
  now @14 :UInt64;          # guest clock at the commit
  doorbells @15 :UInt64;    # doorbells answered so far
  unknown @16 :UInt64;      # accesses that hit no register so far
  started @17 :Bool;        # a new incarnation: what lies beyond `sequence` is to be sent again
  reserved0 @18 :UInt64;
  reserved1 @19 :UInt64;
  reserved2 @20 :UInt64;
  reserved3 @21 :UInt64;
  bytes @22 :UInt16;        # of a string load, which follow the message
}

enum Carrier {
  # What a lane runs over.
  invalid @0;
  memory @1;      # entries and commits in shared memory
  socket @2;      # one SEQPACKET packet for each message
  pipe @3;        # a pipe each way, one record for each message
  virtio @4;      # a split virtqueue each way, in shared memory
  inProcess @5;   # a function call
}
